//! A transport with a real client at the other end of a socket pair.

use std::io::{IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::tls::{IdentityPem, Offers, TlsConfig, TlsOptions};
use super::{Fault, Received, Transport};

const DEADLINE: Duration = Duration::from_secs(10);

/// Both ends of a connection; the server's does not block.
fn pair(buffer: Option<usize>) -> (TcpStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    if let Some(size) = buffer {
        socket2::SockRef::from(&ours).set_send_buffer_size(size).unwrap();
    }
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(DEADLINE)).unwrap();
    (TcpStream::from_std(OwnedFd::from(ours).into()), theirs)
}

fn config() -> TlsConfig {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = IdentityPem {
        certificates: made.cert.pem().into_bytes(),
        key: made.signing_key.serialize_pem().into_bytes(),
        names: Vec::new(),
    };
    TlsConfig::new(&TlsOptions {
        identities: vec![identity],
        client_ca: None,
        is_certificate_required: false,
        revocations: None,
        depth: 1,
        offers: Offers::default(),
    })
    .unwrap()
}

/// Trusts everybody: what is tested here is the other end.
#[derive(Debug)]
struct Trusting(CryptoProvider);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn client(socket: UnixStream) -> StreamOwned<ClientConnection, UnixStream> {
    let provider = aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

/// Calls `step` until it says that it is done.
fn until(mut step: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !step() {
        assert!(Instant::now() < end, "it takes too long");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn shake_hands(transport: &Transport, scratch: &mut [u8]) {
    until(|| transport.shake_hands(scratch).unwrap().0.is_some());
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 % 251) as u8).collect()
}

#[test]
fn bytes_come_through_tls_into_room_of_any_size() {
    let config = config();
    for room in [1, 7, 4_095, 16_384, 65_536] {
        let (ours, theirs) = pair(None);
        let sent = bytes(if room == 1 { 3_000 } else { 200_000 });
        let expected = sent.clone();
        let peer = std::thread::spawn(move || {
            let mut client = client(theirs);
            client.write_all(&sent).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
        });
        let transport = Transport::layered(ours, Some(&config)).unwrap();
        let (mut scratch, mut into, mut got) = (vec![0; 65_536], vec![0; room], Vec::new());
        shake_hands(&transport, &mut scratch);
        until(|| {
            let received = transport.read(&mut into, &mut scratch).unwrap();
            got.extend_from_slice(&into[..received.count]);
            received.is_over
        });
        assert!(got == expected, "room {room}");
        peer.join().unwrap();
    }
}

#[test]
fn an_event_of_the_socket_is_enough_to_get_everything_that_came() {
    let (ours, theirs) = pair(None);
    let transport = Transport::layered(ours, Some(&config())).unwrap();
    let mut scratch = vec![0; 65_536];
    let peer = std::thread::spawn(move || {
        let mut client = client(theirs);
        client.write_all(&bytes(50_000)).unwrap();
        client
    });
    shake_hands(&transport, &mut scratch);
    let client = peer.join().unwrap();
    // All is in the socket now. As long as there may be more, no event is waited for; then there must be nothing left.
    let (mut into, mut count) = (vec![0; 1_000], 0);
    loop {
        let received = transport.read(&mut into, &mut scratch).unwrap();
        count += received.count;
        if !received.has_more {
            break;
        }
    }
    assert_eq!(count, 50_000);
    drop(client);
}

#[test]
fn a_writer_is_blocked_until_what_tls_holds_is_out_and_nothing_is_lost_at_the_end() {
    let (ours, theirs) = pair(Some(4_096));
    let transport = Transport::layered(ours, Some(&config())).unwrap();
    let (go, wait) = std::sync::mpsc::channel();
    let peer = std::thread::spawn(move || {
        let mut client = client(theirs);
        client.flush().unwrap();
        wait.recv().unwrap();
        let mut got = Vec::new();
        // Ends without an error only after a close_notify.
        client.read_to_end(&mut got).unwrap();
        got
    });
    let mut scratch = vec![0; 65_536];
    shake_hands(&transport, &mut scratch);
    let sent = bytes(300_000);
    let (front, back) = sent.split_at(1_000);
    let mut written = 0;
    loop {
        let slices = [IoSlice::new(&front[written.min(1_000)..]), IoSlice::new(&back[written.saturating_sub(1_000)..])];
        match transport.write(&slices) {
            Ok(count) => written += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(written > 0 && written < sent.len());
    assert!(!transport.flush().unwrap());
    assert!(!transport.finish().unwrap());
    go.send(()).unwrap();
    until(|| transport.finish().unwrap());
    let got = peer.join().unwrap();
    assert!(got == sent[..written]);
}

#[test]
fn websocket_over_tls_carries_both_ways() {
    let (ours, theirs) = pair(Some(4_096));
    let transport = Transport::layered(ours, Some(&config())).unwrap();
    let peer = std::thread::spawn(move || {
        let mut client = client(theirs);
        // A ping, then "hello" in two masked frames.
        client.write_all(&[0x89, 0x81, 0, 0, 0, 0, b'?']).unwrap();
        client.write_all(&[0x02, 0x83, 1, 1, 1, 1, b'h' ^ 1, b'e' ^ 1, b'l' ^ 1]).unwrap();
        client.write_all(&[0x80, 0x82, 2, 2, 2, 2, b'l' ^ 2, b'o' ^ 2]).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        got
    });
    let (mut scratch, mut into, mut got) = (vec![0; 65_536], vec![0; 100], Vec::new());
    shake_hands(&transport, &mut scratch);
    transport.start_websocket(0, &[]);
    until(|| {
        let received = transport.read(&mut into, &mut scratch).unwrap();
        got.extend_from_slice(&into[..received.count]);
        got.len() == 5
    });
    assert_eq!(got, b"hello");
    let sent = bytes(100_000);
    let mut written = 0;
    until(|| match transport.write(&[IoSlice::new(&sent[written..])]) {
        Ok(count) => {
            written += count;
            written == sent.len()
        }
        Err(_) => false,
    });
    until(|| transport.finish().unwrap());
    let answered = peer.join().unwrap();
    assert_eq!(answered[..3], [0x8A, 1, b'?']);
    assert_eq!(answered[3..13], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x86, 0xA0]);
    assert!(answered[13..100_013] == sent);
    assert_eq!(answered[100_013..], [0x88, 2, 0x03, 0xE8]);
}

#[test]
fn what_is_no_tls_is_a_fault_with_an_alert() {
    let (ours, mut theirs) = pair(None);
    let transport = Transport::layered(ours, Some(&config())).unwrap();
    theirs.write_all(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab").unwrap();
    let mut scratch = vec![0; 65_536];
    let fault = transport.shake_hands(&mut scratch).unwrap_err();
    assert!(matches!(&fault, Fault::Tls(detail) if detail.contains("does not speak TLS")), "{fault}");
    let mut alert = [0; 7];
    theirs.read_exact(&mut alert).unwrap();
    assert_eq!(alert[0], 21);
}

#[test]
fn a_plain_connection_is_the_socket_itself() {
    let (ours, mut theirs) = pair(None);
    let transport = Transport::plain(ours);
    let mut into = [0; 4];
    let dry = Received { is_dry: true, ..Received::default() };
    assert_eq!(transport.read(&mut into, &mut []).unwrap(), dry);
    theirs.write_all(b"12345").unwrap();
    assert_eq!(
        transport.read(&mut into, &mut []).unwrap(),
        Received { count: 4, has_more: true, ..Received::default() }
    );
    assert_eq!(transport.read(&mut into, &mut []).unwrap(), Received { count: 1, ..Received::default() });
    assert_eq!(transport.write(&[IoSlice::new(b"a"), IoSlice::new(b"b")]).unwrap(), 2);
    assert!(transport.flush().unwrap() && transport.finish().unwrap());
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"ab");
    drop(theirs);
    assert!(transport.read(&mut into, &mut []).unwrap().is_over);
}
