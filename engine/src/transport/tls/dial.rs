//! TLS of a connection that this program opens to a broker that it does not know as a node.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::config::TlsConfigError;
use super::depth::check_depth;
use super::identities::{pem_fault, read_certificates};
use super::offers::Offers;

/// What such a connection is made of; certificates and keys are PEM.
#[derive(Clone, Debug)]
pub struct DialTlsOptions {
    /// Authorities of the broker's certificate. None: any certificate is taken, which protects from nobody who can step in between.
    pub authorities: Option<Vec<u8>>,
    /// A certificate of its own with those that lead to the authority, and its key, for a broker that asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Intermediates that the broker may present.
    pub depth: usize,
    /// What is agreed to.
    pub offers: Offers,
}

/// TLS of connections that this program opens. Cheap to clone.
#[derive(Clone)]
pub struct DialTls(pub Arc<ClientConfig>);

impl fmt::Debug for DialTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DialTls")
    }
}

impl DialTls {
    /// Reads and checks everything.
    pub fn new(options: &DialTlsOptions) -> Result<Self, TlsConfigError> {
        let provider = options.offers.provider()?;
        let inner = match &options.authorities {
            None => None,
            Some(text) => {
                let mut roots = RootCertStore::empty();
                for certificate in read_certificates(text, "cafile")? {
                    // One of the many in a system's list may be of a kind that is not known here.
                    let _ = roots.add(certificate);
                }
                let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                Some(builder.build().map_err(|error| TlsConfigError(format!("cafile: {error}")))?)
            }
        };
        let verifier = Arc::new(Broker { inner, provider: Arc::clone(&provider), depth: options.depth });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&options.offers.versions()?)
            .map_err(|error| TlsConfigError(format!("tls_version: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| TlsConfigError(format!("keyfile: {}", pem_fault(&error))))?;
                builder
                    .with_client_auth_cert(read_certificates(certificates, "certfile")?, key)
                    .map_err(|error| TlsConfigError(format!("certfile and keyfile: {error}")))?
            }
        };
        Ok(Self(Arc::new(config)))
    }
}

/// Checks the broker's certificate, and the number of intermediates beside.
#[derive(Debug)]
struct Broker {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    depth: usize,
}

impl ServerCertVerifier for Broker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        check_depth(intermediates, self.depth)?;
        inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
