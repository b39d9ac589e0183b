//! A message on its way from one side to the other, and where it has to be acknowledged.

use std::cell::Cell;
use std::rc::Rc;

use crate::codec::{ProtocolVersion, PublishHead, QoS};
use crate::protocol::client::Kept;

/// A delivery that waits for what was made of it to arrive.
#[derive(Debug)]
pub(super) struct Source {
    /// Under which packet identifier it came.
    pub packet_id: u16,
    /// Over which connection it has to be acknowledged.
    pub epoch: Cell<u32>,
    /// Messages that have not arrived.
    pub left: Cell<usize>,
}

/// A message that was made of a delivery.
#[derive(Debug)]
pub(super) struct Passing {
    /// What to acknowledge then; none: it came with `QoS` 0.
    pub source: Option<Rc<Source>>,
    pub topic: Box<str>,
    /// Encoded, without a message expiry.
    pub properties: Box<[u8]>,
    pub payload: Rc<[u8]>,
    pub qos: QoS,
    pub retain: bool,
    /// When it is of no use any more, in milliseconds of the bridge's clock.
    pub expires_at: Option<u64>,
    /// Seconds that were left to it when it was sent.
    pub expiry_s: Option<u32>,
    /// The bridge's clock.
    pub clock: Rc<Cell<u64>>,
}

impl Passing {
    /// Everything up to the payload.
    pub fn head(&self) -> PublishHead<'_> {
        PublishHead {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            packet_id: 0,
            topic: &self.topic,
            topic_alias: None,
            message_expiry: self.expiry_s,
            subscription_identifiers: &[],
            properties: &self.properties,
            payload_len: self.payload.len(),
        }
    }

    /// Memory that it takes while it waits.
    pub fn size(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.len() + size_of::<Self>()
    }
}

impl Kept for Passing {
    fn encode_again(&self, version: ProtocolVersion, packet_id: u16, qos: QoS, out: &mut Vec<u8>) -> bool {
        let Ok(message_expiry) = left_of(self.expires_at, self.clock.get()) else { return false };
        PublishHead { dup: true, qos, packet_id, message_expiry, ..self.head() }.encode(version, out);
        out.extend_from_slice(&self.payload);
        true
    }
}

/// Seconds that are left to a message; `Err`: none are.
pub(super) fn left_of(expires_at: Option<u64>, now_ms: u64) -> Result<Option<u32>, ()> {
    match expires_at {
        None => Ok(None),
        Some(at) if at <= now_ms => Err(()),
        Some(at) => Ok(Some(u32::try_from((at - now_ms).div_ceil(1_000)).unwrap_or(u32::MAX))),
    }
}
