//! Limits of the links, by the configuration keys that they come from.

use std::time::Duration;

use super::frame::{FRAME_LEN_MAX, LENGTH_LEN};
use super::outbox::OutboxLimits;

/// Limits of all links of a node. A change holds for what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// `cluster.link_timeout`: silence after which a connection counts as down.
    pub link_timeout: Duration,
    /// `outgoing_cluster_handshake_ack_timeout`: for everything until a connection is ready, at both ends.
    pub handshake_timeout: Duration,
    /// `outgoing_clustering_buffer_size`: bytes of messages that are held for one peer.
    pub outgoing_buffer_size: usize,
    /// `outgoing_clustering_flush_threshold`: bytes from which on a batch takes no further message.
    pub flush_threshold: usize,
    /// `incoming_clustering_buffer_size`: bytes of one message from a peer.
    pub incoming_buffer_size: usize,
    /// `cluster.credit`: bytes of messages that a peer may have on their way here, or waiting to be kept.
    pub credit: usize,
    /// `cluster.max_queued_bytes`: bytes of control or metadata messages that wait for one peer.
    pub queued_bytes: usize,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            link_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            outgoing_buffer_size: 64 << 20,
            flush_threshold: 64 << 10,
            incoming_buffer_size: 64 << 20,
            credit: 8 << 20,
            queued_bytes: 64 << 20,
        }
    }
}

/// The shortest time after which a connection may count as down: a loaded machine needs that long to answer.
pub const LINK_TIMEOUT_MIN: Duration = Duration::from_millis(50);
/// The longest.
pub const LINK_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// The least that any buffer holds.
pub const BUFFER_MIN: usize = 4_096;

impl LinkOptions {
    /// What is out of range, if anything.
    pub fn fault(&self) -> Option<String> {
        let times = [
            ("cluster.link_timeout", self.link_timeout),
            ("outgoing_cluster_handshake_ack_timeout", self.handshake_timeout),
        ];
        if let Some((name, time)) =
            times.into_iter().find(|(_, time)| !(LINK_TIMEOUT_MIN..=LINK_TIMEOUT_MAX).contains(time))
        {
            let (low, high) = (LINK_TIMEOUT_MIN.as_millis(), LINK_TIMEOUT_MAX.as_millis());
            return Some(format!("{name}: expected {low} to {high} ms, got {}", time.as_millis()));
        }
        let sizes = [
            ("outgoing_clustering_buffer_size", self.outgoing_buffer_size),
            ("incoming_clustering_buffer_size", self.incoming_buffer_size),
            ("cluster.credit", self.credit),
            ("cluster.max_queued_bytes", self.queued_bytes),
        ];
        let (name, size) = sizes.into_iter().find(|(_, size)| !(BUFFER_MIN..=u32::MAX as usize).contains(size))?;
        Some(format!("{name}: expected {BUFFER_MIN} to {} bytes, got {size}", u32::MAX))
    }

    pub(super) fn outbox(&self) -> OutboxLimits {
        let batch_len = self.flush_threshold.clamp(1, LENGTH_LEN + FRAME_LEN_MAX);
        OutboxLimits { held_max: self.outgoing_buffer_size, batch_len }
    }
}
