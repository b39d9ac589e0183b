//! Which QoS 2 messages of other nodes came here, so that one that is repeated after a crash of its node is not taken twice.
//!
//! A node writes the packet identifier of such a message down before other nodes have it. If it ends between the two, its client
//! sends the message again, and the node sends it on again, under the stamp that it had. Within a run of a node the sequence
//! numbers of batches see to it that nothing comes twice; this is about what came from runs before.

use std::collections::{HashMap, VecDeque};

use crate::message::MessageId;
use crate::peer::PeerId;
use crate::store::STAMPS_KEPT_MAX;

/// Incarnation and boot.
pub(super) const RUN_LEN: usize = 16 + 8;
/// Runs of a node of which the last messages are remembered, beside the run that goes on.
const RUNS_KEPT_MAX: usize = 4;

/// Which run of a node it is.
pub(super) fn run_of(from: &PeerId) -> [u8; RUN_LEN] {
    let mut run = [0; RUN_LEN];
    run[..16].copy_from_slice(&from.incarnation.0);
    run[16..].copy_from_slice(&from.boot.0);
    run
}

/// The last QoS 2 messages of each node, by origin.
#[derive(Default)]
pub(super) struct TakenMessages(HashMap<u32, Taken>);

/// The last QoS 2 messages of one node.
#[derive(Default)]
struct Taken {
    /// The run that goes on; `None`: not heard of since this node started.
    run: Option<[u8; RUN_LEN]>,
    /// Stamps of its messages in the order in which they came.
    stamps: VecDeque<u64>,
    /// Stamps of messages of earlier runs, sorted, the latest run at the end.
    earlier: VecDeque<Box<[u64]>>,
}

impl TakenMessages {
    /// What the store has of them.
    pub fn restore(stamps: HashMap<u32, VecDeque<u64>>) -> Self {
        let taken = |stamps| Taken { stamps, ..Taken::default() };
        Self(stamps.into_iter().map(|(origin, stamps)| (origin, taken(stamps))).collect())
    }

    /// Notes a message of a node. False: it is a repeat of one that came before.
    pub fn note(&mut self, from: &PeerId, stamp: u64, is_repeat: bool) -> bool {
        let taken = self.0.entry(MessageId::origin_of(&from.name)).or_default();
        let run = run_of(from);
        if taken.run != Some(run) {
            taken.begin(run);
        }
        if is_repeat && taken.has(stamp) {
            return false;
        }
        if taken.stamps.len() >= STAMPS_KEPT_MAX {
            taken.stamps.pop_front();
        }
        taken.stamps.push_back(stamp);
        true
    }

    /// A node is none of the others any more.
    pub fn forget(&mut self, name: &str) {
        self.0.remove(&MessageId::origin_of(name));
    }
}

impl Taken {
    fn begin(&mut self, run: [u8; RUN_LEN]) {
        self.run = Some(run);
        let mut stamps: Box<[u64]> = std::mem::take(&mut self.stamps).into_iter().collect();
        if stamps.is_empty() {
            return;
        }
        stamps.sort_unstable();
        if self.earlier.len() >= RUNS_KEPT_MAX {
            self.earlier.pop_front();
        }
        self.earlier.push_back(stamps);
    }

    fn has(&self, stamp: u64) -> bool {
        self.earlier.iter().any(|stamps| stamps.binary_search(&stamp).is_ok()) || self.stamps.contains(&stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Boot, Incarnation};

    fn peer(name: &str, boot: u8) -> PeerId {
        PeerId { name: name.into(), incarnation: Incarnation([1; 16]), boot: Boot([boot; 8]) }
    }

    #[test]
    fn a_repeat_is_known_by_its_stamp_over_restarts_of_either_node() {
        let stamps = HashMap::from([(MessageId::origin_of("a"), VecDeque::from([9, 3]))]);
        let mut taken = TakenMessages::restore(stamps);
        assert!(taken.note(&peer("a", 1), 20, false));
        for stamp in [9, 3, 20] {
            assert!(!taken.note(&peer("a", 2), stamp, true));
        }
        assert!(taken.note(&peer("b", 1), 9, true), "of another node");
        assert!(taken.note(&peer("a", 2), 10, true));
        assert!(!taken.note(&peer("a", 3), 10, true), "repeated again");
        taken.forget("a");
        assert!(taken.note(&peer("a", 3), 10, true));
    }

    #[test]
    fn memory_is_bounded() {
        let mut taken = TakenMessages::default();
        for run in 0..10 {
            for stamp in 0..STAMPS_KEPT_MAX as u64 + 10 {
                taken.note(&peer("a", run), stamp, false);
            }
        }
        let of_node = &taken.0[&MessageId::origin_of("a")];
        assert_eq!((of_node.stamps.len(), of_node.earlier.len()), (STAMPS_KEPT_MAX, RUNS_KEPT_MAX));
    }
}
