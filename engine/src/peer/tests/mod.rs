//! Tests of the links as a whole: both ends of the data lane over a bad line, the handshake against forgers, real sockets.

mod flapping;
mod handshakes;
mod hostile;
mod line;
mod nodes;
mod secured;
mod sockets;
mod timing;

use super::*;
use crate::message::{Head, Layout, NEVER, Publication};

/// A node of a cluster.
fn identity(name: &str, boot: u8) -> Identity {
    Identity {
        node: PeerId { name: name.into(), incarnation: incarnation(name), boot: Boot([boot; 8]) },
        cluster: Some(ClusterId([7; 16])),
        agreed: Vec::new(),
        secret: b"a secret of the cluster".to_vec(),
    }
}

/// The data directory that a node of a name has in these tests.
fn incarnation(name: &str) -> Incarnation {
    let mut bytes = [0; 16];
    for (byte, letter) in bytes.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    Incarnation(bytes)
}

/// A span with the topic `t` and a payload, and its head.
fn span(payload: &[u8], qos: u8) -> (Vec<u8>, Head) {
    let mut bytes = b"t".to_vec();
    bytes.extend_from_slice(payload);
    let layout = Layout { topic_len: 1, properties_start: 1, properties_len: 0, payload_start: 1 };
    (bytes, Head { layout, qos, retain: false, expires_at: NEVER, origin: 0 })
}

/// A message for the data lane.
fn message((bytes, head): &(Vec<u8>, Head)) -> Forwarded<'_> {
    Forwarded::routed("", Publication { head: *head, span: bytes }, 1)
}
