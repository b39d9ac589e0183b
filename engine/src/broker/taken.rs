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

    /// Notes a message that this run of a node has sent on. False: it is a repeat of one that came before.
    pub fn note(&mut self, run: &[u8; RUN_LEN], message_id: MessageId, is_repeat: bool) -> bool {
        let taken = self.0.entry(message_id.origin).or_default();
        if taken.run.as_ref() != Some(run) {
            taken.begin(*run);
        }
        if is_repeat && taken.has(message_id.stamp) {
            return false;
        }
        if taken.stamps.len() >= STAMPS_KEPT_MAX {
            taken.stamps.pop_front();
        }
        taken.stamps.push_back(message_id.stamp);
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
    use crate::broker::Promise;
    use crate::broker::node_tests::{Broker, pair, publication};
    use crate::message::Place;
    use crate::peer::{Boot, Incarnation};
    use crate::protocol::{Outgoing, Unreleased};

    fn note(taken: &mut TakenMessages, node: &str, boot: u8, stamp: u64, is_repeat: bool) -> bool {
        let from = PeerId { name: node.into(), incarnation: Incarnation([1; 16]), boot: Boot([boot; 8]) };
        taken.note(&run_of(&from), MessageId { origin: MessageId::origin_of(node), stamp }, is_repeat)
    }

    #[test]
    fn a_repeat_is_known_by_its_stamp_over_restarts_of_either_node() {
        let stamps = HashMap::from([(MessageId::origin_of("a"), VecDeque::from([9, 3]))]);
        let mut taken = TakenMessages::restore(stamps);
        assert!(note(&mut taken, "a", 1, 20, false));
        for stamp in [9, 3, 20] {
            assert!(!note(&mut taken, "a", 2, stamp, true));
        }
        assert!(note(&mut taken, "b", 1, 9, true), "of another node");
        assert!(note(&mut taken, "a", 2, 10, true));
        assert!(!note(&mut taken, "a", 3, 10, true), "repeated again");
        taken.forget("a");
        assert!(note(&mut taken, "a", 3, 10, true));
    }

    fn repeat(broker: &mut Broker, payload: &str, qos: u8, stamp: u64) {
        let mut span = Vec::new();
        let publication = publication("t", payload, qos, false, &mut span);
        let outgoing = Outgoing { publication, message: None, place: Place::NONE };
        let unreleased = Some(Unreleased { queue: 1, packet_id: 1, repeats: Some(stamp) });
        let Broker { node, cx, batch, .. } = broker;
        batch.add(node, cx, &[], &"".into(), outgoing, Promise { is_awaited: true, unreleased });
        batch.dispatch(node, cx, &[], true);
        batch.flush_all(node, cx);
    }

    #[test]
    fn a_repeat_goes_to_other_nodes_alone_and_once_where_it_is_of_qos_2() {
        let (mut a, b) = pair();
        a.subscribe("here", "t", None, false);
        b.subscribe("there", "t", None, false);
        a.route(&b, "t");
        repeat(&mut a, "once", 2, 7);
        repeat(&mut a, "once", 2, 7);
        // A hook has changed the QoS.
        repeat(&mut a, "at least once", 1, 8);
        repeat(&mut a, "at least once", 1, 8);
        b.expect(&[("there", "once"), ("there", "at least once"), ("there", "at least once")]);
        assert!(a.delivered().is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut taken = TakenMessages::default();
        for run in 0..10 {
            for stamp in 0..STAMPS_KEPT_MAX as u64 + 10 {
                note(&mut taken, "a", run, stamp, false);
            }
        }
        let of_node = &taken.0[&MessageId::origin_of("a")];
        assert_eq!((of_node.stamps.len(), of_node.earlier.len()), (STAMPS_KEPT_MAX, RUNS_KEPT_MAX));
    }
}
