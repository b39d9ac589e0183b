//! What goes into the store and what comes out of it: the types of its interface, without behaviour.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use thiserror::Error;

use super::report::Damage;
use crate::message::{Layout, Publication};
pub use crate::message::{MessageId, Place, Retained};
use crate::routing::{RetainedTrie, SubscriptionOptions};
use crate::settings::Value;

/// A queue, which is a persistent session on this node. Never 0.
pub type QueueId = u32;
/// A stored body in memory. 0: none.
pub type Slot = u32;
/// A segment of the log. They grow by one and are never used again.
pub type SegmentNo = u32;
/// A position in the log: bytes appended since the store was opened.
pub type Lsn = u64;

/// A key of the metadata and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// The segment of something that is in none: greater than every real one, so it never has to be cleaned.
pub const NO_SEGMENT: SegmentNo = SegmentNo::MAX;

/// How a store is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of a segment in bytes.
    pub segment_bytes: u64,
    /// Size that all files together keep to, 0 for no limit.
    pub max_bytes: u64,
    /// When the disk is asked to sync.
    pub sync: SyncMode,
    /// Time between two syncs with [`SyncMode::Interval`].
    pub sync_interval_ms: u64,
    /// Bytes of bodies that are kept in memory.
    pub cache_bytes: usize,
    /// Unix time in ms at which the engine's clock is 0.
    pub wall_base_ms: u64,
}

/// When the disk is asked to sync, which decides what a loss of power can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before anything counts as kept: nothing is lost.
    Always,
    /// At an interval: that long is lost at most.
    Interval,
    /// Never but before files are deleted: what the system has not written by itself is lost.
    Never,
}

/// One queue that gets a message.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Which.
    pub queue: QueueId,
    /// `QoS` of the delivery.
    pub qos: u8,
    /// RETAIN of the delivery.
    pub retain: bool,
    /// Subscription identifiers of the delivery.
    pub identifiers: &'a [u32],
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct NewMessage<'a> {
    /// What was published.
    pub publication: Publication<'a>,
    /// What it is called on all nodes, where that has to be known after a restart.
    pub message_id: MessageId,
    /// The mountpoint in which it becomes the retained message of its topic.
    pub retained_in: Option<&'a Arc<str>>,
    /// The `QoS` 2 packet identifier it came with, and the queue of the client.
    pub received: Option<(QueueId, u16)>,
    /// Who gets it.
    pub targets: &'a [Target<'a>],
    /// Out: where it is.
    pub place: Place,
}

/// Where something was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// The position behind it, for [`super::Store::commit`].
    pub lsn: Lsn,
    /// Segment of the first record.
    pub segment: SegmentNo,
}

impl Appended {
    /// This, and what was appended behind it.
    #[must_use]
    pub fn and(self, behind: Self) -> Self {
        Self { lsn: behind.lsn, segment: self.segment }
    }
}

/// So many stamps of an origin's messages are remembered.
pub const STAMPS_KEPT_MAX: usize = 65_536;

/// A packet identifier that a client has in use for a `QoS` 2 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceivedId {
    /// The identifier.
    pub packet_id: u16,
    /// The stamp of the message where it goes to other nodes, see [`MessageId::stamp`]; 0 where it goes to none.
    pub stamp: u64,
}

/// A change of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One more entry, for a body that was pinned for it with [`super::Store::pin`].
    ///
    /// The log names entries that wait by their body: where a queue has several of one body, whichever goes first is taken for
    /// the oldest.
    Queued {
        /// The body.
        slot: Slot,
        /// `QoS` of the delivery.
        qos: u8,
        /// RETAIN of the delivery.
        retain: bool,
        /// Subscription identifiers of the delivery.
        identifiers: SmallVec<[u32; 1]>,
    },
    /// An entry that waited is in the outgoing window.
    Sent {
        /// Its body.
        slot: Slot,
        /// Its number in the window, which is never used again by this queue.
        number: u64,
    },
    /// The client has it (PUBREC): the entry stays, its body is not needed any more.
    Released {
        /// The body it had.
        slot: Slot,
        /// Its number in the window.
        number: u64,
    },
    /// An entry is over.
    Done {
        /// Its body.
        slot: Slot,
        /// Its number in the window, 0 for one that waits.
        number: u64,
    },
    /// A released entry is over (PUBCOMP).
    Completed {
        /// Its number in the window.
        number: u64,
    },
    /// The client used a packet identifier for a `QoS` 2 message.
    Received(ReceivedId),
    /// The client released this packet identifier.
    Forgotten(u16),
    /// The client subscribed, or changed the options of a subscription.
    Subscribed {
        /// To what.
        filter: Box<str>,
        /// How.
        options: SubscriptionOptions,
    },
    /// The client unsubscribed.
    Unsubscribed {
        /// From what.
        filter: Box<str>,
    },
}

/// Where an entry of a queue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// It waits.
    Waiting,
    /// It is in the outgoing window under this number.
    Sent(u64),
    /// Its number in the window waits for PUBCOMP.
    Released(u64),
}

/// An entry as cleaning writes it again.
#[derive(Clone, Copy, Debug)]
pub struct EntrySnapshot<'a> {
    /// Its body, 0 for a released one.
    pub slot: Slot,
    /// `QoS` of the delivery.
    pub qos: u8,
    /// RETAIN of the delivery.
    pub retain: bool,
    /// Subscription identifiers of the delivery.
    pub identifiers: &'a [u32],
    /// Where it stands.
    pub state: EntryState,
}

/// Why publishes cannot be stored now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The disk is full.
    Full,
    /// `max_bytes` is reached.
    Quota,
    /// Writing or syncing fails.
    Failing,
}

/// What the keeper tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Publishes are refused from now on, with an explanation.
    Refusing(Refusal, String),
    /// Publishes are taken again.
    Accepting,
    /// More is kept than before: whoever holds output back looks again.
    Kept,
    /// Something failed: what, and what happens now.
    Failure(String),
    /// Something that an operator may want to know.
    Notice(String),
}

/// What the store has to know of a session to bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its mountpoint.
    pub mountpoint: Arc<str>,
    /// Its client id.
    pub client_id: Arc<str>,
    /// The user name of its last connection.
    pub username: Option<Arc<str>>,
    /// Protocol level of its last connection.
    pub protocol_version: u8,
    /// The listener of its last connection.
    pub listener: Arc<str>,
    /// Session expiry interval: 0 ends with the connection, `u32::MAX` never.
    pub expiry_s: u32,
    /// Whether a connection was up.
    pub is_online: bool,
    /// Unix time in ms at which it expires, 0 for none.
    pub expires_at: u64,
    /// Unix time in ms at which it began.
    pub started_at: u64,
    /// The will of the connection, or one that is still to be published.
    pub will: Option<WillRecord>,
    /// Settings of this session alone, by their keys.
    pub limits: Vec<(String, Value)>,
}

/// A will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord {
    /// Its bytes, as in [`Publication`].
    pub span: Vec<u8>,
    /// Where its parts are.
    pub layout: Layout,
    /// `QoS` to publish with.
    pub qos: u8,
    /// RETAIN to publish with.
    pub retain: bool,
    /// Will delay interval.
    pub delay_s: u32,
    /// Message expiry interval.
    pub message_expiry_s: Option<u32>,
    /// Unix time in ms at which it is to be published, 0 while the connection lives.
    pub due_at: u64,
}

/// What was in the store when it was opened.
pub struct Recovered {
    /// All sessions.
    pub sessions: Vec<RecoveredSession>,
    /// All retained messages by mountpoint.
    pub retained: HashMap<Arc<str>, RetainedTrie<Retained>, ahash::RandomState>,
    /// Stamps of the last QoS 2 messages that came from other nodes, by their origin, see [`MessageId`].
    pub stamps: HashMap<u32, VecDeque<u64>>,
    /// How it went.
    pub report: Recovery,
}

/// How a recovery went.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Segments read.
    pub segments: usize,
    /// Messages found alive.
    pub messages: usize,
    /// Keys of metadata.
    pub metadata_keys: usize,
    /// What was cut off as the unfinished end of a crash.
    pub cut: Option<String>,
    /// Entries of queues that were dropped because their message is not in the log. Never but for damage.
    pub missing: u64,
    /// How long it took.
    pub took: Duration,
}

/// A session as it was.
#[derive(Clone, Debug)]
pub struct RecoveredSession {
    /// Its queue.
    pub queue: QueueId,
    /// The session itself.
    pub session: SessionRecord,
    /// Its subscriptions.
    pub subscriptions: Vec<(Box<str>, SubscriptionOptions)>,
    /// The `QoS` 2 packet identifiers that its client has in use.
    pub received: Vec<ReceivedId>,
    /// What waits, in order of publication.
    pub waiting: Vec<RecoveredEntry>,
    /// The outgoing window by number.
    pub window: Vec<RecoveredEntry>,
    /// Lowest segment that has anything of it.
    pub segment: SegmentNo,
    /// Segment of the session record.
    pub meta_segment: SegmentNo,
    /// Lowest segment of its subscriptions, [`NO_SEGMENT`] without any.
    pub subscriptions_segment: SegmentNo,
    /// Lowest segment of its packet identifiers, [`NO_SEGMENT`] without any.
    pub received_segment: SegmentNo,
}

/// An entry of a queue as it was.
#[derive(Clone, Debug)]
pub struct RecoveredEntry {
    /// Its body (slot 0 for a released one) and the segment of the record that it stems from.
    pub place: Place,
    /// What [`Message::size`] will say of it, 0 for a released one.
    pub size: u32,
    /// `QoS` of the delivery.
    pub qos: u8,
    /// RETAIN of the delivery.
    pub retain: bool,
    /// Subscription identifiers of the delivery.
    pub identifiers: SmallVec<[u32; 1]>,
    /// Where it stands.
    pub state: EntryState,
}

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The files cannot be read or written.
    #[error("{what}: {error}")]
    Io {
        /// What was tried, with the name of the file.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// A later version wrote these files.
    #[error(
        "{file}: written by a newer version of Strogoff (format {found}); this one reads up to {}",
        super::segment::VERSION
    )]
    Newer {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
    /// What had been synced cannot be read any more.
    #[error("{}", super::report::explain(.damages))]
    Damaged {
        /// All damages found.
        damages: Vec<Damage>,
    },
}

/// Why a body or a value cannot be had.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The slot holds nothing.
    #[error("slot {0} holds no message")]
    Empty(Slot),
    /// The file cannot be read.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        error: io::Error,
    },
    /// The bytes are not what was written.
    #[error("{0}")]
    Damaged(Damage),
}

/// Counters and sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of messages and metadata that are needed.
    pub live_bytes: u64,
    /// Files.
    pub segments: usize,
    /// Messages stored.
    pub messages: usize,
    /// Entries of queues and retained messages that refer to them.
    pub entries: u64,
    /// Bodies in the cache.
    pub cached: usize,
    /// Bytes of bodies in the cache.
    pub cached_bytes: usize,
    /// Bodies read from files.
    pub reads: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Bodies found in the cache.
    pub cache_hits: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Time spent in syncs.
    pub sync_us: u64,
    /// The longest sync.
    pub sync_us_max: u64,
    /// Syncs that failed.
    pub sync_failures: u64,
    /// Writes that failed.
    pub write_failures: u64,
    /// Segments cleaned and deleted.
    pub cleaned_segments: u64,
    /// Bytes that cleaning wrote again.
    pub cleaned_bytes: u64,
    /// Messages refused.
    pub refusals: u64,
    /// Age of the oldest bytes that are not synced.
    pub unsynced_age_ms: u64,
    /// Bytes that wait in memory to be written.
    pub buffered_bytes: u64,
}
