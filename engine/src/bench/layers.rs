//! What lies between the clients of a run and their sockets, as the options of the generator ask.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::options::Options;
use crate::transport::outgoing::{Layers, WebSocketTarget};

/// The layers that the options ask for. `Err`: a sentence.
pub fn layers(options: &Options) -> Result<Layers, String> {
    let tls = if options.tls {
        let name = ServerName::try_from(options.host.clone())
            .map_err(|_| format!("host: {} is no name that a certificate can have", options.host))?;
        Some((Arc::new(client_config(options)?), name))
    } else {
        None
    };
    let websocket = options
        .websocket
        .then(|| WebSocketTarget { host: format!("{}:{}", options.host, options.port).into(), path: "/mqtt".into() });
    Ok(Layers { tls, websocket })
}

fn client_config(options: &Options) -> Result<ClientConfig, String> {
    let mut provider = aws_lc_rs::default_provider();
    // One key exchange for all brokers: which ones they prefer, post-quantum or not, is not what is compared.
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    if let Some(cipher) = &options.cipher {
        let wanted = cipher.to_uppercase().replace('-', "_");
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_") == wanted);
        if provider.cipher_suites.is_empty() {
            return Err(format!("cipher: there is no suite {cipher}"));
        }
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match options.tls_version.as_deref() {
        None => &[&rustls::version::TLS12, &rustls::version::TLS13],
        Some("1.2") => &[&rustls::version::TLS12],
        Some("1.3") => &[&rustls::version::TLS13],
        Some(other) => return Err(format!("tls_version: expected 1.2 or 1.3, not {other}")),
    };
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| format!("tls_version: {error}"))?;
    let mut config = if let Some(path) = &options.cafile {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| format!("cafile: {path}: {error}"))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| format!("cafile: {path}: {error}"))?;
            roots.add(certificate).map_err(|error| format!("cafile: {path}: {error}"))?;
        }
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let anybody = Arc::new(Anybody(provider));
        builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
    };
    if !options.resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(config)
}

/// Takes any certificate: a generator measures, it trusts nobody with anything. Whoever takes any certificate learns nothing
/// from its signature either; checking that would only take time from the broker, which has the same cores.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
