//! Cipher suites and curves by the names that people write into configuration files.

use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};

use super::config::TlsConfigError;

/// A suite with OpenSSL's name and IANA's.
const SUITES: &[(CipherSuite, &str, &str)] = &[
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// A curve with the names it goes by, the usual one first.
const CURVES: &[(&dyn SupportedKxGroup, &[&str])] = &[
    (kx_group::X25519MLKEM768, &["X25519MLKEM768"]),
    (kx_group::X25519, &["X25519"]),
    (kx_group::SECP256R1, &["secp256r1", "P-256", "prime256v1"]),
    (kx_group::SECP384R1, &["secp384r1", "P-384"]),
];

/// IANA's name of a suite.
pub fn suite_name(suite: CipherSuite) -> String {
    let known = SUITES.iter().find(|(known, ..)| *known == suite);
    known.map_or_else(|| format!("{suite:?}"), |(_, _, iana)| (*iana).to_owned())
}

/// Leaves the named suites, in the order in which they are named. A list says nothing about a version of TLS that it names
/// no suite of, as with OpenSSL.
pub(super) fn limit_suites(provider: &mut CryptoProvider, names: &[String]) -> Result<(), TlsConfigError> {
    let mut wanted = Vec::new();
    for name in names {
        let found = SUITES
            .iter()
            .find(|(_, openssl, iana)| name.eq_ignore_ascii_case(openssl) || name.eq_ignore_ascii_case(iana))
            .and_then(|(suite, ..)| ALL_CIPHER_SUITES.iter().find(|known| known.suite() == *suite));
        let Some(suite) = found else {
            let known: Vec<_> = SUITES.iter().map(|(_, openssl, _)| *openssl).collect();
            return Err(TlsConfigError(format!("ciphers: there is no {name:?}; there are {}", known.join(", "))));
        };
        wanted.push(*suite);
    }
    let version = |suite: &SupportedCipherSuite| suite.version().version;
    for other in [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2] {
        if !wanted.iter().any(|suite| version(suite) == other) {
            wanted.extend(provider.cipher_suites.iter().filter(|suite| version(suite) == other));
        }
    }
    provider.cipher_suites = wanted;
    Ok(())
}

/// Leaves the named curves, in the order in which they are named.
pub(super) fn limit_curves(provider: &mut CryptoProvider, names: &[String]) -> Result<(), TlsConfigError> {
    let mut wanted: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for name in names {
        let found = CURVES.iter().find(|(_, known)| known.iter().any(|known| known.eq_ignore_ascii_case(name)));
        let Some((group, _)) = found else {
            let known: Vec<_> = CURVES.iter().map(|(_, names)| names[0]).collect();
            return Err(TlsConfigError(format!("curves: there is no {name:?}; there are {}", known.join(", "))));
        };
        wanted.push(*group);
    }
    provider.kx_groups = wanted;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs::default_provider;

    fn names(given: &[&str]) -> Vec<String> {
        given.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_suite_that_there_is_has_a_name() {
        for suite in ALL_CIPHER_SUITES {
            assert!(SUITES.iter().any(|(known, ..)| *known == suite.suite()), "{suite:?}");
        }
    }

    #[test]
    fn suites_are_known_by_both_their_names_and_leave_the_other_version_alone() {
        let mut provider = default_provider();
        let given = names(&["ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
        limit_suites(&mut provider, &given).unwrap();
        let left: Vec<_> = provider.cipher_suites.iter().map(SupportedCipherSuite::suite).collect();
        assert_eq!(left[0], CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
        assert_eq!(left[1], CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
        assert_eq!(left.len(), 2 + 3);
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_there_are() {
        let error = limit_suites(&mut default_provider(), &names(&["RC4-MD5"])).unwrap_err();
        assert!(error.0.contains("RC4-MD5") && error.0.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{error}");
        let error = limit_curves(&mut default_provider(), &names(&["sect571r1"])).unwrap_err();
        assert!(error.0.contains("sect571r1") && error.0.contains("secp256r1"), "{error}");
    }

    #[test]
    fn curves_are_known_by_all_their_names() {
        let mut provider = default_provider();
        limit_curves(&mut provider, &names(&["p-384", "prime256v1", "x25519"])).unwrap();
        assert_eq!(provider.kx_groups.len(), 3);
    }
}
