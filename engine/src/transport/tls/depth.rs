//! How long a chain of certificates may be.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError};

/// More intermediates than `depth` allows.
#[derive(Debug, thiserror::Error)]
#[error("{count} intermediate certificates came with it, and {depth} are allowed (depth)")]
struct TooDeep {
    count: usize,
    depth: usize,
}

/// Refuses a chain with more intermediates than `depth`.
pub fn check_depth(intermediates: &[CertificateDer<'_>], depth: usize) -> Result<(), Error> {
    let count = intermediates.iter().filter(|certificate| !is_self_issued(certificate)).count();
    if count <= depth {
        return Ok(());
    }
    Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(TooDeep { count, depth })))))
}

/// An authority's own certificate may come along without being a step on the way.
fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}
