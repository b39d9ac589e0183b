//! Errors of TLS in sentences that help whoever reads the log.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// What went wrong, told of the client.
pub fn explain(error: &Error) -> String {
    match error {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::InvalidEmptyPayload,
        ) => "the client does not speak TLS".to_owned(),
        Error::InvalidMessage(fault) => format!("the client sent a malformed TLS message ({fault:?})"),
        Error::NoCertificatesPresented => "the client has no certificate, and the listener demands one".to_owned(),
        Error::PeerIncompatible(fault) => incompatible(fault),
        Error::InvalidCertificate(fault) => certificate(fault),
        Error::AlertReceived(alert) => told(*alert),
        Error::DecryptError => "a record of the client could not be decrypted".to_owned(),
        Error::PeerSentOversizedRecord => "the client sent a record that is larger than TLS allows".to_owned(),
        Error::PeerMisbehaved(fault) => format!("the client broke the rules of TLS ({fault:?})"),
        other => other.to_string(),
    }
}

fn incompatible(fault: &PeerIncompatible) -> String {
    match (not_in_common(fault), fault) {
        (Some((what, key)), _) => format!("the client offers no {what} that the listener takes ({key})"),
        (None, PeerIncompatible::NoSignatureSchemesInCommon) => {
            "the client knows no signature of the kind that the listener's certificate makes".to_owned()
        }
        (None, other) => format!("the client and the listener do not fit together ({other:?})"),
    }
}

/// What two ends have not in common, and the key that says what this end takes; `None` where there is no such key.
pub fn not_in_common(fault: &PeerIncompatible) -> Option<(&'static str, &'static str)> {
    Some(match fault {
        PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic => ("TLS version", "tls_version"),
        PeerIncompatible::NoCipherSuitesInCommon => ("cipher suite", "ciphers"),
        PeerIncompatible::NoKxGroupsInCommon => ("curve", "eccs"),
        _ => return None,
    })
}

fn certificate(fault: &CertificateError) -> String {
    let detail = match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "is not valid yet",
        CertificateError::Revoked => "is revoked",
        CertificateError::UnknownIssuer => "comes from an authority that the listener does not trust (cafile)",
        CertificateError::UnknownRevocationStatus => {
            "comes from an authority of which there is no revocation list (crlfile)"
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "cannot be checked: the revocation list is out of date (crlfile)"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not made for its purpose (extended key usage)"
        }
        CertificateError::BadSignature => "has a bad signature",
        CertificateError::BadEncoding => "is malformed, or not of X.509 version 3",
        CertificateError::Other(other) => return format!("the certificate is refused: {other}"),
        other => return format!("the certificate is refused ({other:?})"),
    };
    format!("the certificate {detail}")
}

fn told(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "the client does not trust the listener's certificate".to_owned()
        }
        AlertDescription::CertificateExpired => "the client finds the listener's certificate expired".to_owned(),
        other => format!("the client gave up ({other:?})"),
    }
}
