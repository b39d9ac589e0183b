//! What an outbox turns away.

/// Why a message is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overflow {
    /// As much is held for the peer as may be.
    #[error("the buffer for the peer is full (outgoing_clustering_buffer_size)")]
    Full,
    /// QoS 0, and there is no connection.
    #[error("the peer cannot be reached")]
    Disconnected,
    /// QoS 0, and the peer takes no more for the moment.
    #[error("the peer is busy")]
    NoCredit,
    /// It is no peer any more.
    #[error("the node is no peer any more")]
    Gone,
    /// The peer takes no message so large.
    #[error("the message is larger than the peer takes (incoming_clustering_buffer_size)")]
    TooLarge,
}

/// A peer remembers something that never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer tells of the sequence number {told}, of which {sent} is the last that was sent")]
pub struct Impossible {
    /// What it told.
    pub told: u64,
    /// What can be.
    pub sent: u64,
}

/// Messages that were turned away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// By QoS.
    pub messages: [u64; 3],
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Dropped {
    pub(super) fn add(&mut self, qos: u8, size: usize) {
        self.messages[usize::from(qos.min(2))] += 1;
        self.bytes += size as u64;
    }
}
