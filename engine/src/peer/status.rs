//! What is told of a peer: the state of its link, and what was counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::message::Millis;

use super::identity::{Incarnation, PeerId};
use super::lane::{Lane, Side};
use super::overflow::Dropped;
use super::refusal::RefusalCode;

/// How a link is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Something of it does not work.
    #[default]
    Down,
    /// The control lane works, and one of both nodes has not joined yet.
    Guest,
    /// A round trip has worked lately on every lane, in both directions.
    Reachable,
}

impl Condition {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Guest => "guest",
            Self::Reachable => "reachable",
        }
    }
}

/// How one connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneState {
    /// There is none.
    #[default]
    Off,
    /// It is dialled again after a pause.
    Pause,
    /// It is being opened.
    Opening,
    /// It is open, and no round trip has worked lately.
    Open,
    /// Round trips work.
    Alive,
}

impl LaneState {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Pause => "pause",
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Alive => "alive",
        }
    }
}

/// One connection of a link.
#[derive(Clone, Copy, Debug)]
pub struct LaneStatus {
    /// Which lane.
    pub lane: Lane,
    /// In which direction.
    pub side: Side,
    /// How it is.
    pub state: LaneState,
    /// Since when.
    pub since: Instant,
    /// Microseconds of the last round trip.
    pub round_trip_us: Option<u64>,
}

/// A link as its thread tells of it.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub condition: Condition,
    pub since: Instant,
    pub lanes: [LaneStatus; 6],
    pub peer: Option<Arc<PeerId>>,
    pub answering: Option<Arc<str>>,
    pub error: String,
    pub refusal: Option<RefusalCode>,
}

impl Status {
    pub fn new() -> Self {
        let since = Instant::now();
        let lane = |side, lane| LaneStatus { lane, side, state: LaneState::Off, since, round_trip_us: None };
        let [control, metadata, data] = Lane::ALL;
        let (dialled, accepted) = (Side::Dialled, Side::Accepted);
        Self {
            condition: Condition::Down,
            since,
            lanes: [
                lane(dialled, control),
                lane(dialled, metadata),
                lane(dialled, data),
                lane(accepted, control),
                lane(accepted, metadata),
                lane(accepted, data),
            ],
            peer: None,
            answering: None,
            error: String::new(),
            refusal: None,
        }
    }
}

/// Everything that is known of a peer's link.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Name of the node.
    pub name: Arc<str>,
    /// Its data directory, as it told when it was last connected.
    pub incarnation: Option<Incarnation>,
    /// How the link is.
    pub condition: Condition,
    /// Since when.
    pub since: Instant,
    /// All connections, those that were dialled first.
    pub lanes: [LaneStatus; 6],
    /// The node that answers at the address, where it is another one than expected.
    pub answering: Option<Arc<str>>,
    /// What went wrong last, "" for nothing yet.
    pub error: String,
    /// Why the peer refuses this node, while it does.
    pub refusal: Option<RefusalCode>,
    /// Bytes of clients' messages that are not written.
    pub queued_bytes: usize,
    /// Bytes of clients' messages that are held, written or not.
    pub held_bytes: usize,
    /// Milliseconds since the oldest batch of clients' messages was begun that the peer has not kept; 0: there is none.
    pub oldest_age_ms: Millis,
    /// Clients' messages that were turned away.
    pub dropped: Dropped,
    /// Batches that came a second time.
    pub duplicates: u64,
    /// Times that batches were missing.
    pub gaps: u64,
    /// Control and metadata messages that were turned away.
    pub messages_turned_away: u64,
    /// Those that were lost with a connection.
    pub messages_lost: u64,
    /// What was counted.
    pub counts: Counts,
}

/// Declares counters with their snapshot.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one link.
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub $name: AtomicU64,)* }

        /// What was counted on a link.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// Adds those of another link.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Bytes of all lanes.
    bytes_sent,
    /// Bytes of all lanes.
    bytes_received,
    /// Clients' messages that were appended.
    messages_sent,
    /// Clients' messages that came.
    messages_received,
    /// Times that the peer became reachable.
    ups,
    /// Times that it was so no more.
    downs,
    /// Connections that were dialled.
    dials,
    /// Those that failed before they were ready.
    dial_failures,
    /// Connections that were lost because of silence.
    silences,
    /// Control and metadata messages that were sent.
    control_sent,
    /// Control and metadata messages that came.
    control_received,
}

pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
