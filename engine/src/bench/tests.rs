//! Whole runs against servers that misbehave. Runs against a broker are in the end-to-end tests.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::*;
use crate::codec::{ProtocolVersion, QoS};

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const DEADLINE: Duration = Duration::from_mins(1);

/// A server for one client at a time, each of which `serve` deals with; it ends when `clients` have been served.
fn server(clients: usize, serve: fn(TcpStream)) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || (0..clients).for_each(|_| serve(listener.accept().unwrap().0)));
    (port, thread)
}

fn run_against(port: u16, workload: &str, given: &[(&str, i64)]) -> Vec<(&'static str, Value)> {
    let mut options: Vec<_> = given.iter().map(|(name, value)| ((*name).to_owned(), Given::Integer(*value))).collect();
    options.push(("port".to_owned(), Given::Integer(port.into())));
    let run = Run::start(Options::new(workload, &options).unwrap()).unwrap();
    assert!(run.handle().wait(DEADLINE), "the run did not end");
    let Some(Value::Map(report)) = run.report() else { panic!("there is no report") };
    report
}

fn found<'a>(report: &'a [(&'static str, Value)], name: &str) -> &'a Value {
    &report.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name} in {report:?}")).1
}

/// Reads the CONNECT, whatever it says, and accepts.
fn accept(stream: &mut TcpStream) {
    let mut connect = [0; 512];
    assert!(stream.read(&mut connect).unwrap() > 0);
    stream.write_all(&CONNACK).unwrap();
}

#[test]
fn a_connection_that_the_server_closes_is_lost_and_said_so() {
    let (port, server) = server(1, |mut stream| {
        accept(&mut stream);
        // Bytes that nobody has read would turn the close into a reset.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let report = run_against(port, "pub", &[("rate", 10), ("duration", 5)]);
    server.join().unwrap();
    assert_eq!(found(&report, "connections_lost"), &Value::Integer(1));
    assert_eq!(found(&report, "ok"), &Value::Flag(false));
    let Value::List(problems) = found(&report, "problems") else { panic!("problems are a list") };
    assert!(problems.iter().any(|problem| format!("{problem:?}").contains("closed the connection")), "{problems:?}");
}

#[test]
fn bytes_that_are_no_answer_end_the_run_with_a_reason() {
    let (port, server) = server(1, |mut stream| {
        let mut connect = [0; 512];
        assert!(stream.read(&mut connect).unwrap() > 0);
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").unwrap();
    });
    let report = run_against(port, "conn", &[("connections", 1)]);
    server.join().unwrap();
    let Value::Text(error) = found(&report, "error") else { panic!("an error is text") };
    assert!(error.contains("not accepted by 127.0.0.1:"), "{error}");
}

/// Sends messages of `QoS` 1 as fast as it can and takes none of the acknowledgements, until the client is gone.
fn flood(mut stream: TcpStream) {
    accept(&mut stream);
    let mut subscribe = [0; 512];
    assert!(stream.read(&mut subscribe).unwrap() > 4);
    // Fixed header and packet identifier of the first SUBSCRIBE of a client: 0x82, length, 0, 1.
    stream.write_all(&[0x90, 3, 0, 1, 1]).unwrap();
    let message = [0x32, 5, 0, 1, b't', 0, 9];
    let messages = message.repeat(10_000);
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut sent = 0;
    loop {
        match stream.write(&messages[sent % message.len()..]) {
            Ok(written) => sent += written,
            // The client has stopped reading, which is what this is about.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("the client closed first: {error}"),
        }
    }
    // Once its acknowledgements are taken it goes on.
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut acknowledgements = vec![0; 1 << 16];
    while stream.read(&mut acknowledgements).is_ok_and(|taken| taken > 0) {}
    stream.write_all(&messages[sent % message.len()..]).unwrap();
}

#[test]
fn a_server_that_floods_and_does_not_read_is_not_read_from_until_it_does() {
    let (port, server) = server(1, flood);
    let report = run_against(port, "sub", &[("qos", 1), ("duration", 3)]);
    server.join().unwrap();
    let Value::Integer(received) = found(&report, "received") else { panic!("a count is a number") };
    // It read until a mebibyte of acknowledgements, four bytes each, waited to be written.
    assert!(*received > (1 << 20) / 4, "{received}");
}

#[test]
fn a_run_that_is_stopped_while_it_connects_ends() {
    // Nobody accepts, so nobody answers either.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Given::Integer(listener.local_addr().unwrap().port().into());
    let run = Run::start(Options::new("conn", &[("port".to_owned(), port)]).unwrap()).unwrap();
    run.stop();
    assert!(run.handle().wait(Duration::from_secs(9)), "it waited for the broker all the same");
    let Some(Value::Map(report)) = run.report() else { panic!("there is no report") };
    assert_eq!(found(&report, "ended"), &Value::Text("stopped".into()));
}

#[test]
fn what_was_asked_for_stands_in_front_of_every_report() {
    let options = Options::new("p2p", &[("qos".to_owned(), Given::Integer(2))]).unwrap();
    assert_eq!((options.qos, options.version), (QoS::ExactlyOnce, ProtocolVersion::V3_1_1));
    let Value::Map(entries) = failure(&options, "no") else { panic!("a report is a map") };
    let names: Vec<_> = entries.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["workload", "version", "qos", "size", "publishers", "subscribers", "ok", "error"]);
}
