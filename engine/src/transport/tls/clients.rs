//! Client certificates: who vouches for them, how long their chain may be, and whose they are.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::config::TlsConfigError;
use super::depth::check_depth;
use super::identities::{pem_fault, read_certificates};

/// Checks client certificates with webpki, and the number of intermediates beside.
#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    depth: usize,
}

/// A verifier for clients with certificates that `authorities` vouch for.
pub fn verifier(
    provider: &Arc<CryptoProvider>,
    authorities: &[u8],
    revocations: Option<&[u8]>,
    is_required: bool,
    depth: usize,
) -> Result<Arc<dyn ClientCertVerifier>, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(authorities, "CA")? {
        let fault = |error: Error| format!("CA: a certificate cannot be used: {}", super::faults::explain(&error));
        roots.add(certificate).map_err(|error| TlsConfigError(fault(error)))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(text) = revocations {
        let lists = CertificateRevocationListDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsConfigError(format!("crl: {}", pem_fault(&error))))?;
        if lists.is_empty() {
            return Err(TlsConfigError("crl: there is no \"BEGIN X509 CRL\" in it".to_owned()));
        }
        // Of the client's own certificate it must be known that it is not revoked, by a list that is not out of date.
        builder = builder.with_crls(lists).only_check_end_entity_revocation().enforce_revocation_expiration();
    }
    if !is_required {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|error| TlsConfigError(format!("crl: {error}")))?;
    Ok(Arc::new(Clients { inner, depth }))
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_depth(intermediates, self.depth)?;
        self.inner.verify_client_cert(end_entity, intermediates, now)
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

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0C;
const PRINTABLE_STRING: u8 = 0x13;
/// 2.5.4.3, `id-at-commonName`.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The common name (CN) in the subject of a certificate, if it has one as `UTF8String` or `PrintableString` (RFC 5280, 4.1.2.6).
/// Where there are several the most specific counts, which is the last.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut rest = parsed.subject();
    if let Some((SEQUENCE, inner, [])) = element(rest) {
        rest = inner;
    }
    let mut found = None;
    while let Some((SET, mut attributes, after)) = element(rest) {
        while let Some((SEQUENCE, attribute, next)) = element(attributes) {
            if let Some((OBJECT_IDENTIFIER, kind, value)) = element(attribute)
                && kind == COMMON_NAME
                && let Some((UTF8_STRING | PRINTABLE_STRING, text, _)) = element(value)
                && let Ok(text) = std::str::from_utf8(text)
                && !text.is_empty()
            {
                found = Some(text.to_owned());
            }
            attributes = next;
        }
        rest = after;
    }
    found
}

/// Tag and content of the first DER element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}
