//! TLS between nodes: both ends show a certificate of the cluster's authority, and which host it is for is checked here, since a
//! peer goes by two names: the address that was dialled and the host in its node name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme,
};

pub use crate::transport::tls::TlsConfigError;
use crate::transport::tls::{Offers, check_depth, client_verifier};

use super::pulse::{Micros, later};
pub(super) use super::tls_faults::explain;

/// What TLS between nodes is made of. It serves both ends. Certificates, keys and lists are PEM.
#[derive(Clone, Debug)]
pub struct LinkTlsOptions {
    /// This node's certificate and those that lead to the authority.
    pub certificates: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// Authorities of the certificates of the cluster.
    pub authorities: Vec<u8>,
    /// Revoked certificates.
    pub revocations: Option<Vec<u8>>,
    /// A certificate must be for the host of the node that shows it.
    pub are_names_checked: bool,
    /// Intermediates that a peer may present.
    pub depth: usize,
    /// What is agreed to.
    pub offers: Offers,
    /// How long a handshake may take; none: as long as everything until a link is ready.
    pub handshake_timeout: Option<Duration>,
}

/// TLS between nodes. Cheap to clone.
#[derive(Clone)]
pub struct LinkTls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    are_names_checked: bool,
    handshake_timeout: Option<Duration>,
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
        let provider = options.offers.provider()?;
        let versions = options.offers.versions()?;
        let certificates = read_certificates(&options.certificates, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&options.key)
            .map_err(|error| bad("private key", format!("an unencrypted one is needed: {error}")))?;
        let (authorities, revocations) = (&options.authorities, options.revocations.as_deref());
        let clients = client_verifier(&provider, authorities, revocations, true, options.depth)?;
        let servers = Arc::new(AnyName { inner: server_verifier(&provider, options)?, depth: options.depth });
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| bad("versions and ciphers", error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(|error| bad("certificate and private key", explain(&error)))?;
        // Links are few and long, and one that comes back is to be judged by the certificates of the day.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| bad("versions and ciphers", error))?
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_auth_cert(certificates, key)
            .map_err(|error| bad("certificate and private key", explain(&error)))?;
        client.resumption = Resumption::disabled();
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
            are_names_checked: options.are_names_checked,
            handshake_timeout: options.handshake_timeout,
        })
    }

    /// Until when a handshake that begins now has to be done, if it has a limit of its own.
    pub(super) fn deadline(&self, now: Micros) -> Option<Micros> {
        self.handshake_timeout.map(|timeout| later(now, timeout))
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

/// Checks certificates of servers, but for the number of intermediates and what [`AnyName`] does.
fn server_verifier(
    provider: &Arc<CryptoProvider>,
    options: &LinkTlsOptions,
) -> Result<Arc<WebPkiServerVerifier>, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(&options.authorities, "CA")? {
        roots.add(certificate).map_err(|error| bad("CA", error))?;
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(text) = options.revocations.as_deref() {
        builder = builder
            .with_crls(read_revocations(text)?)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    builder.build().map_err(|error| bad("CA or crl", error))
}

/// Checks all of a server's certificate but its names.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
    depth: usize,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_depth(intermediates, self.depth)?;
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
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
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
