//! TLS between nodes: both ends show a certificate of the cluster's authority, and which host it is for is checked here, since a
//! peer goes by two names: the address that was dialled and the host in its node name.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
};

pub use crate::transport::tls::TlsConfigError;

/// What TLS between nodes is made of; all of it PEM.
#[derive(Clone, Debug)]
pub struct LinkTlsOptions {
    /// This node's certificate and those that lead to the authority. It serves both ends.
    pub certificates: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// Authorities of the certificates of the cluster.
    pub authorities: Vec<u8>,
    /// Revoked certificates.
    pub revocations: Option<Vec<u8>>,
    /// A certificate must be for the host of the node that shows it.
    pub are_names_checked: bool,
}

/// TLS between nodes. Cheap to clone.
#[derive(Clone)]
pub struct LinkTls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    are_names_checked: bool,
}

impl fmt::Debug for LinkTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LinkTls")
    }
}

fn bad(part: &str, fault: impl fmt::Display) -> TlsConfigError {
    TlsConfigError(format!("{part}: {fault}"))
}

impl LinkTls {
    /// Reads and checks everything.
    pub fn new(options: &LinkTlsOptions) -> Result<Self, TlsConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = read_certificates(&options.certificates, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&options.key)
            .map_err(|error| bad("private key", format!("an unencrypted one is needed: {error}")))?;
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(&options.authorities, "CA")? {
            roots.add(certificate).map_err(|error| bad("CA", error))?;
        }
        let roots = Arc::new(roots);
        let lists = options.revocations.as_deref().map_or(Ok(Vec::new()), read_revocations)?;
        let has_lists = !lists.is_empty();
        let mut clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let mut servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        if has_lists {
            clients = clients
                .with_crls(lists.iter().cloned())
                .only_check_end_entity_revocation()
                .enforce_revocation_expiration();
            servers = servers.with_crls(lists).only_check_end_entity_revocation().enforce_revocation_expiration();
        }
        let clients = clients.build().map_err(|error| bad("CA or crl", error))?;
        let servers = Arc::new(AnyName(servers.build().map_err(|error| bad("CA or crl", error))?));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("versions", error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(|error| bad("certificate and private key", explain(&error)))?;
        // Links are few and long, and one that comes back is to be judged by the certificates of the day.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("versions", error))?
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_auth_cert(certificates, key)
            .map_err(|error| bad("certificate and private key", explain(&error)))?;
        client.resumption = Resumption::disabled();
        Ok(Self { client: Arc::new(client), server: Arc::new(server), are_names_checked: options.are_names_checked })
    }

    /// The end that dials a host.
    pub(super) fn dial(&self, host: &str) -> Result<Connection, String> {
        // A host that cannot be a server name, as one with an underscore, is not asked for by name.
        let unnamed = || ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let name = ServerName::try_from(host.to_owned()).unwrap_or_else(|_| unnamed());
        let connection = ClientConnection::new(Arc::clone(&self.client), name);
        connection.map(Connection::Client).map_err(|error| explain(&error))
    }

    /// The end that accepts.
    pub(super) fn accept(&self) -> Result<Connection, String> {
        let connection = ServerConnection::new(Arc::clone(&self.server));
        connection.map(Connection::Server).map_err(|error| explain(&error))
    }

    /// Whether a certificate is for one of these hosts, or is not asked for that.
    pub(super) fn is_for(&self, certificate: Option<&CertificateDer<'_>>, hosts: &[&str]) -> bool {
        if !self.are_names_checked {
            return true;
        }
        let Some(parsed) = certificate.and_then(|certificate| webpki::EndEntityCert::try_from(certificate).ok()) else {
            return false;
        };
        let names = hosts.iter().filter_map(|host| ServerName::try_from(*host).ok());
        names.into_iter().any(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok())
    }
}

/// The host of a node name, which is all of it where there is no `@`.
pub(super) fn host_of(node_name: &str) -> &str {
    node_name.rsplit_once('@').map_or(node_name, |(_, host)| host)
}

fn read_certificates(text: &[u8], part: &str) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certificates =
        CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(|error| bad(part, error))?;
    if certificates.is_empty() {
        return Err(bad(part, "there is no \"BEGIN CERTIFICATE\" in it"));
    }
    Ok(certificates)
}

fn read_revocations(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsConfigError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad("crl", error))?;
    if lists.is_empty() {
        return Err(bad("crl", "there is no \"BEGIN X509 CRL\" in it"));
    }
    Ok(lists)
}

/// Checks all of a server's certificate but its names.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // Names come last, so everything else was found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What went wrong, told of the peer.
pub(super) fn explain(error: &Error) -> String {
    match error {
        Error::InvalidMessage(_) => "the peer does not speak TLS there, or something else than TLS came".to_owned(),
        Error::NoCertificatesPresented => "the peer shows no certificate".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the peer's certificate comes from an authority that this node does not trust (cafile)".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the peer's certificate has expired".to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the peer's certificate is not valid yet: are the clocks right?".to_owned()
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            "the peer's certificate is not signed by the authority that it names (cafile)".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Revoked) => "the peer's certificate is revoked".to_owned(),
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "the peer's certificate is not for both ends of TLS (extended key usage: serverAuth and clientAuth)"
            .to_owned(),
        Error::InvalidCertificate(fault) => format!("the peer's certificate is refused ({fault:?})"),
        Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::DecryptError,
        ) => "the peer does not trust this node's certificate: is it of the cluster's authority?".to_owned(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the peer wants a certificate of this node".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the peer finds this node's certificate expired".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRevoked) => {
            "the peer finds this node's certificate revoked".to_owned()
        }
        Error::AlertReceived(alert) => format!("the peer gave up ({alert:?})"),
        other => other.to_string(),
    }
}
