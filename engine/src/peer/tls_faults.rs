//! Errors of TLS between nodes, in sentences that say at which end something has to change.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::transport::tls::not_in_common;

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
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("the peer's certificate is refused: {other}")
        }
        Error::InvalidCertificate(fault) => format!("the peer's certificate is refused ({fault:?})"),
        Error::PeerIncompatible(fault) => incompatible(fault),
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
        Error::AlertReceived(AlertDescription::CertificateUnknown) => {
            "the peer refuses this node's certificate: its log says why".to_owned()
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the peer takes none of the TLS versions that this node offers (tls_version)".to_owned()
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the peer takes no cipher suite or no curve that this node offers (ciphers, eccs)".to_owned()
        }
        Error::AlertReceived(alert) => format!("the peer gave up ({alert:?})"),
        other => other.to_string(),
    }
}

fn incompatible(fault: &PeerIncompatible) -> String {
    match not_in_common(fault) {
        Some((what, key)) => format!("the peer has no {what} that this node takes ({key})"),
        None => format!("the peer and this node do not fit together ({fault:?})"),
    }
}
