//! Links over TLS, with certificates of authorities of their own.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::identity;
use super::nodes::*;
use crate::peer::{LinkOptions, LinkTls, LinkTlsOptions, PeerConfig, RefusalCode};
use crate::transport::tls::Offers;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn options(&self, host: &str) -> LinkTlsOptions {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        LinkTlsOptions {
            certificates: params.signed_by(&key, &self.0).unwrap().pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            authorities: self.0.pem().into_bytes(),
            revocations: None,
            are_names_checked: true,
            depth: 1,
            offers: Offers::default(),
            handshake_timeout: None,
        }
    }

    fn tls(&self, host: &str) -> LinkTls {
        LinkTls::new(&self.options(host)).unwrap()
    }
}

fn start(name: &str, boot: u8, tls: Option<LinkTls>) -> Node {
    Node::start_as(identity(name, boot), options(), Arc::default(), tls)
}

fn config(node: &Node) -> PeerConfig {
    PeerConfig { is_tls: true, ..node.config() }
}

fn meet(a: &Node, b: &Node) {
    a.peers.set_peers(vec![config(b)], false).unwrap();
    b.peers.set_peers(vec![config(a)], false).unwrap();
}

#[test]
fn nodes_with_certificates_of_one_authority_are_linked() {
    let authority = Authority::new("the cluster");
    let a = start("a@127.0.0.1", 1, Some(authority.tls("127.0.0.1")));
    let b = start("b@127.0.0.1", 2, Some(authority.tls("127.0.0.1")));
    meet(&a, &b);
    eventually("they meet", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
    a.publish(&b.name, 0..500, 1, 1_000).unwrap();
    a.publish(&b.name, 500..510, 2, 300_000).unwrap();
    eventually("all came", || b.numbers().len() == 510);
    assert_eq!(b.numbers(), (0..510).collect::<Vec<_>>());
    eventually("all is acknowledged", || a.link(&b.name).info().held_bytes == 0);
}

#[test]
fn a_certificate_of_another_authority_is_refused_and_told_at_both_ends() {
    let a = start("a@127.0.0.1", 1, Some(Authority::new("one").tls("127.0.0.1")));
    let b = start("b@127.0.0.1", 2, Some(Authority::new("two").tls("127.0.0.1")));
    meet(&a, &b);
    eventually("the dialler knows", || {
        a.link(&b.name).info().error.contains("authority that this node does not trust")
    });
    eventually("the acceptor knows", || {
        b.notes.turned_away.lock().iter().any(|visitor| visitor.reason.contains("trust this node's certificate"))
    });
}

#[test]
fn an_authority_that_only_has_the_right_name_is_told() {
    let a = start("a@127.0.0.1", 1, Some(Authority::new("the cluster").tls("127.0.0.1")));
    let b = start("b@127.0.0.1", 2, Some(Authority::new("the cluster").tls("127.0.0.1")));
    a.peers.set_peers(vec![config(&b)], false).unwrap();
    eventually("the dialler knows", || a.link(&b.name).info().error.contains("not signed by the authority"));
    eventually("the acceptor knows", || {
        b.notes.turned_away.lock().iter().any(|visitor| visitor.reason.contains("authority"))
    });
}

#[test]
fn a_certificate_of_another_host_is_refused_by_whoever_sees_it() {
    let authority = Authority::new("the cluster");
    let a = start("a@127.0.0.1", 1, Some(authority.tls("127.0.0.1")));
    let b = start("b@127.0.0.1", 2, Some(authority.tls("elsewhere.example")));
    meet(&a, &b);
    eventually("the one that dials it knows", || {
        a.link(&b.name).info().error.contains("neither for 127.0.0.1 nor for 127.0.0.1")
    });
    eventually("it is told when it dials", || b.link(&a.name).info().refusal == Some(RefusalCode::Certificate));
    assert!(b.link(&a.name).info().error.contains("not for 127.0.0.1"));
}

#[test]
fn a_certificate_may_be_for_the_host_in_the_name_of_the_node() {
    let authority = Authority::new("the cluster");
    let a = start("a@one.example", 1, Some(authority.tls("one.example")));
    let b = start("b@two.example", 2, Some(authority.tls("two.example")));
    meet(&a, &b);
    eventually("they meet", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
}

#[test]
fn names_need_not_be_checked() {
    let authority = Authority::new("the cluster");
    let shared = LinkTls::new(&LinkTlsOptions { are_names_checked: false, ..authority.options("cluster") }).unwrap();
    let a = start("a@127.0.0.1", 1, Some(shared.clone()));
    let b = start("b@127.0.0.1", 2, Some(shared));
    meet(&a, &b);
    eventually("they meet", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
}

#[test]
fn new_certificates_are_used_without_a_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let a = start("a@127.0.0.1", 1, Some(new.tls("127.0.0.1")));
    let b = start("b@127.0.0.1", 2, Some(old.tls("127.0.0.1")));
    meet(&a, &b);
    eventually("they do not trust each other", || a.link(&b.name).info().error.contains("trust"));
    assert_eq!(b.peers.set_listener_tls("default", new.tls("127.0.0.1")), Some(true));
    assert_eq!(b.peers.set_listener_tls("other", new.tls("127.0.0.1")), None);
    b.peers.set_tls(Some(new.tls("127.0.0.1")));
    eventually("they meet", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
}

#[test]
fn an_end_without_tls_is_told_what_is_missing() {
    let authority = Authority::new("the cluster");
    let secured = start("a@127.0.0.1", 1, Some(authority.tls("127.0.0.1")));
    let plain = start("b@127.0.0.1", 2, None);
    secured.peers.set_peers(vec![config(&plain)], false).unwrap();
    plain.peers.set_peers(vec![secured.config()], false).unwrap();
    eventually("the plain one is heard of", || {
        secured.notes.turned_away.lock().iter().any(|visitor| visitor.reason.contains("does not speak TLS"))
    });
    eventually("the secured one fails", || secured.link(&plain.name).info().counts.dial_failures > 0);
    plain.peers.set_peers(vec![config(&secured)], false).unwrap();
    eventually("it is told", || plain.link(&secured.name).info().error.contains("no certificate for links"));
    assert_eq!(plain.peers.set_listener_tls("default", authority.tls("127.0.0.1")), Some(false));
}

/// What both ends tell when one dials the other with these offers: the dialler, then the acceptor.
fn told_of_offers(dialling: Offers, accepting: Offers) -> (String, String) {
    let authority = Authority::new("the cluster");
    let tls = |offers| LinkTls::new(&LinkTlsOptions { offers, ..authority.options("127.0.0.1") }).unwrap();
    let a = start("a@127.0.0.1", 1, Some(tls(dialling)));
    let b = start("b@127.0.0.1", 2, Some(tls(accepting)));
    a.peers.set_peers(vec![config(&b)], false).unwrap();
    eventually("the acceptor has turned it away", || !b.notes.turned_away.lock().is_empty());
    eventually("the dialler knows", || !a.link(&b.name).info().error.is_empty());
    (a.link(&b.name).info().error, b.notes.turned_away.lock()[0].reason.clone())
}

fn offers(version: &str, ciphers: &[&str], curves: &[&str]) -> Offers {
    let words = |given: &[&str]| given.iter().map(|word| (*word).to_owned()).collect();
    Offers { versions: vec![version.to_owned()], ciphers: words(ciphers), curves: words(curves) }
}

#[test]
fn ends_without_a_common_version_tell_the_key() {
    for (one, other) in [("tlsv1.2", "tlsv1.3"), ("tlsv1.3", "tlsv1.2")] {
        let (dialler, acceptor) = told_of_offers(offers(one, &[], &[]), offers(other, &[], &[]));
        assert!(dialler.contains("(tls_version)") && acceptor.contains("(tls_version)"), "{dialler}; {acceptor}");
    }
}

#[test]
fn ends_without_a_common_cipher_suite_or_curve_tell_the_keys() {
    let one = offers("tlsv1.2", &["ECDHE-ECDSA-AES128-GCM-SHA256"], &[]);
    let other = offers("tlsv1.2", &["ECDHE-ECDSA-AES256-GCM-SHA384"], &[]);
    let (dialler, acceptor) = told_of_offers(one, other);
    assert!(dialler.contains("ciphers") && acceptor.contains("(ciphers)"), "{dialler}; {acceptor}");
    let (one, other) = (offers("tlsv1.3", &[], &["X25519"]), offers("tlsv1.3", &[], &["P-384"]));
    let (dialler, acceptor) = told_of_offers(one, other);
    assert!(dialler.contains("eccs") && acceptor.contains("(eccs)"), "{dialler}; {acceptor}");
}

#[test]
fn ends_with_one_thing_in_common_are_linked() {
    let authority = Authority::new("the cluster");
    let tls = |versions: &[&str]| {
        let versions = versions.iter().map(|version| (*version).to_owned()).collect();
        let offers = Offers { versions, ..Offers::default() };
        LinkTls::new(&LinkTlsOptions { offers, ..authority.options("127.0.0.1") }).unwrap()
    };
    let a = start("a@127.0.0.1", 1, Some(tls(&["tlsv1.2"])));
    let b = start("b@127.0.0.1", 2, Some(tls(&["tlsv1.2", "tlsv1.3"])));
    meet(&a, &b);
    eventually("they meet", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
}

#[test]
fn a_handshake_of_tls_has_a_time_of_its_own_at_both_ends() {
    let authority = Authority::new("the cluster");
    let impatient =
        LinkTlsOptions { handshake_timeout: Some(Duration::from_millis(50)), ..authority.options("127.0.0.1") };
    let limits = LinkOptions { handshake_timeout: Duration::from_secs(3_600), ..options() };
    let tls = LinkTls::new(&impatient).unwrap();
    let node = Node::start_as(identity("a@127.0.0.1", 1), limits, Arc::default(), Some(tls));
    let mut silent = TcpStream::connect(node.address).unwrap();
    silent.read_to_end(&mut Vec::new()).unwrap();
    eventually("the acceptor says why", || {
        node.notes.turned_away.lock().iter().any(|visitor| visitor.reason.contains("(tls_handshake_timeout)"))
    });
    // A listener that nobody accepts at takes connections all the same.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = PeerConfig { is_tls: true, ..peer("b@127.0.0.1", deaf.local_addr().unwrap()) };
    node.peers.set_peers(vec![peer], false).unwrap();
    eventually("the dialler says why", || node.link("b@127.0.0.1").info().error.contains("(tls_handshake_timeout)"));
}

#[test]
fn bad_files_are_told_by_the_part_that_is_bad() {
    let authority = Authority::new("the cluster");
    let good = authority.options("h");
    let key = authority.options("h").key;
    let cases = [
        (LinkTlsOptions { certificates: b"x".to_vec(), ..good.clone() }, "certificate"),
        (LinkTlsOptions { key: b"x".to_vec(), ..good.clone() }, "private key"),
        (LinkTlsOptions { key, ..good.clone() }, "private key"),
        (LinkTlsOptions { authorities: Vec::new(), ..good.clone() }, "CA"),
        (LinkTlsOptions { revocations: Some(Vec::new()), ..good.clone() }, "crl"),
        (LinkTlsOptions { offers: offers("tlsv1.1", &[], &[]), ..good.clone() }, "versions"),
        (LinkTlsOptions { offers: offers("tlsv1.2", &["RC4-MD5"], &[]), ..good.clone() }, "ciphers"),
        (LinkTlsOptions { offers: offers("tlsv1.2", &[], &["sect571r1"]), ..good }, "curves"),
    ];
    for (options, part) in cases {
        let fault = LinkTls::new(&options).unwrap_err().to_string();
        assert!(fault.contains(part), "{fault}");
    }
}
