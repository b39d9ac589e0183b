//! Which certificate a client gets: by the server name that it asks for (SNI).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureScheme};

use super::config::TlsConfigError;

/// A certificate with its key, as in the files.
#[derive(Clone, Debug)]
pub struct IdentityPem {
    /// The certificate, then those that lead to the authority.
    pub certificates: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
    /// Server names that it is for, `*.x` for all directly below `x`; none: those in the certificate.
    pub names: Vec<String>,
}

/// The certificates of a listener.
#[derive(Debug)]
pub(super) struct Identities {
    /// For clients that ask for no name, or for an unknown one.
    default: Arc<CertifiedKey>,
    /// By name in lower case; one name may have several, for clients that know different signatures.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Identities {
    /// Reads and checks certificates and keys.
    pub fn read(provider: &CryptoProvider, given: &[IdentityPem]) -> Result<Self, TlsConfigError> {
        let mut named: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        let mut first = None;
        for identity in given {
            let certified = Arc::new(read_identity(provider, identity)?);
            first.get_or_insert_with(|| Arc::clone(&certified));
            let server_names = if identity.names.is_empty() { names_in(&certified) } else { identity.names.clone() };
            for name in server_names {
                named.entry(name.to_ascii_lowercase()).or_default().push(Arc::clone(&certified));
            }
        }
        let default = first.ok_or_else(|| TlsConfigError("a certificate with its key is needed".to_owned()))?;
        Ok(Self { default, named })
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            self.named.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.named.get(&format!("*.{parent}"))
            })
        });
        let Some(candidates) = found else { return Arc::clone(&self.default) };
        let suits = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(schemes).is_some();
        Arc::clone(candidates.iter().find(suits).unwrap_or(&candidates[0]))
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name(), hello.signature_schemes()))
    }
}

/// Reads all certificates of a PEM text. `what` names it in errors.
pub(super) fn read_certificates(text: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsConfigError(format!("{what}: {}", pem_fault(&error))))?;
    if certificates.is_empty() {
        return Err(TlsConfigError(format!("{what}: there is no \"BEGIN CERTIFICATE\" in it")));
    }
    Ok(certificates)
}

fn read_identity(provider: &CryptoProvider, identity: &IdentityPem) -> Result<CertifiedKey, TlsConfigError> {
    let certificates = read_certificates(&identity.certificates, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|error| {
        let fault = match error {
            pem::Error::NoItemsFound => "there is no unencrypted private key in it".to_owned(),
            other => pem_fault(&other),
        };
        TlsConfigError(format!("private key: {fault}"))
    })?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| TlsConfigError("private key: expected RSA (2048 to 8192 bits), ECDSA or Ed25519".to_owned()))?;
    let certified = CertifiedKey::new(certificates, key);
    match certified.keys_match() {
        // A key that does not tell its public half is taken at its word.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            Err(TlsConfigError("the private key does not belong to the certificate".to_owned()))
        }
        Err(error) => {
            Err(TlsConfigError(format!("certificate: it cannot be used: {}", super::faults::explain(&error))))
        }
    }
}

fn names_in(certified: &CertifiedKey) -> Vec<String> {
    let Some(certificate) = certified.cert.first() else { return Vec::new() };
    webpki::EndEntityCert::try_from(certificate)
        .map(|parsed| parsed.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}

pub(super) fn pem_fault(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "there is nothing of the kind in it".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "a BEGIN line has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is not well-formed".to_owned(),
        other => format!("it is not valid PEM: {other}"),
    }
}
