//! What a listener says about TLS: read from PEM, checked, and ready for handshakes.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::{NoClientAuth, ServerConfig};

use super::clients;
use super::identities::{Identities, IdentityPem};
use super::offers::Offers;

/// Session tickets that a client gets after a full handshake; it uses one when it comes back.
const TICKETS: usize = 1;

/// A sentence that says which part is bad and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsConfigError(pub String);

/// Terms of a TLS listener.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Certificates with their keys; the first is for clients that ask for no name, or for an unknown one.
    pub identities: Vec<IdentityPem>,
    /// Authorities of client certificates, PEM. A client is asked for one when this is given.
    pub client_ca: Option<Vec<u8>>,
    /// No client without a certificate.
    pub is_certificate_required: bool,
    /// Revoked client certificates, PEM.
    pub revocations: Option<Vec<u8>>,
    /// Intermediates that a client may present.
    pub depth: usize,
    /// What is agreed to.
    pub offers: Offers,
}

/// TLS as a listener does it. Cheap to clone.
#[derive(Clone)]
pub struct TlsConfig(pub(super) Arc<ServerConfig>);

impl fmt::Debug for TlsConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TlsConfig")
    }
}

impl TlsConfig {
    /// Reads and checks everything.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsConfigError> {
        let provider = options.offers.provider()?;
        let identities = Identities::read(&provider, &options.identities)?;
        let verifier = match &options.client_ca {
            Some(authorities) => clients::verifier(
                &provider,
                authorities,
                options.revocations.as_deref(),
                options.is_certificate_required,
                options.depth,
            )?,
            None if options.is_certificate_required => {
                return Err(TlsConfigError(
                    "a client certificate is required, but no CA says which ones are good".into(),
                ));
            }
            None if options.revocations.is_some() => {
                return Err(TlsConfigError("crl: it needs the CA whose certificates it revokes".into()));
            }
            None => Arc::new(NoClientAuth),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&options.offers.versions()?)
            .map_err(|error| TlsConfigError(format!("versions and ciphers: {error}")))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(identities));
        // A ticket lets a client come back without the costly part. Each configuration has keys of its own: after a change
        // of certificates or revocations everybody goes through a full handshake again.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| TlsConfigError(error.to_string()))?;
        config.send_tls13_tickets = TICKETS;
        Ok(Self(Arc::new(config)))
    }
}
