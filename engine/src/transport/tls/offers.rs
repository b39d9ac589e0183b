//! What may be negotiated: versions of TLS, cipher suites and curves, by the names that people write.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedProtocolVersion, version};

use super::config::TlsConfigError;
use super::names;

/// What one end of TLS agrees to.
#[derive(Clone, Debug)]
pub struct Offers {
    /// `tlsv1.2`, `tlsv1.3`.
    pub versions: Vec<String>,
    /// Cipher suites; none: all.
    pub ciphers: Vec<String>,
    /// Curves; none: all.
    pub curves: Vec<String>,
}

impl Default for Offers {
    fn default() -> Self {
        let versions = vec!["tlsv1.2".to_owned(), "tlsv1.3".to_owned()];
        Self { versions, ciphers: Vec::new(), curves: Vec::new() }
    }
}

impl Offers {
    /// The cryptography with these cipher suites and curves alone.
    pub fn provider(&self) -> Result<Arc<CryptoProvider>, TlsConfigError> {
        let mut provider = aws_lc_rs::default_provider();
        if !self.ciphers.is_empty() {
            names::limit_suites(&mut provider, &self.ciphers)?;
        }
        if !self.curves.is_empty() {
            names::limit_curves(&mut provider, &self.curves)?;
        }
        Ok(Arc::new(provider))
    }

    /// The versions.
    pub fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsConfigError> {
        let wanted: Vec<_> = self.versions.iter().map(|name| version_by_name(name)).collect::<Result<_, _>>()?;
        if wanted.is_empty() {
            return Err(TlsConfigError("versions: expected tlsv1.2, tlsv1.3 or both".to_owned()));
        }
        Ok(wanted)
    }
}

fn version_by_name(name: &str) -> Result<&'static SupportedProtocolVersion, TlsConfigError> {
    match name.to_ascii_lowercase().as_str() {
        "tlsv1.3" => Ok(&version::TLS13),
        "tlsv1.2" => Ok(&version::TLS12),
        "tlsv1" | "tlsv1.0" | "tlsv1.1" => {
            let message = format!("versions: {name} can be broken and is not offered; use tlsv1.2 or tlsv1.3");
            Err(TlsConfigError(message))
        }
        _ => Err(TlsConfigError(format!("versions: expected tlsv1.2 or tlsv1.3, got {name:?}"))),
    }
}
