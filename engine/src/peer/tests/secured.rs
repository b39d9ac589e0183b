//! Links over TLS, with certificates of authorities of their own.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::identity;
use super::nodes::*;
use crate::peer::{LinkTls, LinkTlsOptions, PeerConfig, RefusalCode};

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
        (LinkTlsOptions { revocations: Some(Vec::new()), ..good }, "crl"),
    ];
    for (options, part) in cases {
        let fault = LinkTls::new(&options).unwrap_err().to_string();
        assert!(fault.contains(part), "{fault}");
    }
}
