//! The tries against naive models: what both kinds of tests stand on.

mod histories;
mod nodes;
mod rules;

use super::*;
use std::cell::Cell;
use std::rc::Rc;

/// A session for tests; whether it is online can change under the trie, as it does in the broker.
#[derive(Clone)]
pub(super) struct Session(pub(super) Rc<(u64, Cell<bool>)>);

impl Session {
    pub(super) fn new(id: u64) -> Self {
        Self(Rc::new((id, Cell::new(true))))
    }

    pub(super) fn offline(id: u64) -> Self {
        let session = Self::new(id);
        session.0.1.set(false);
        session
    }
}

impl Subscriber for Session {
    fn id(&self) -> u64 {
        self.0.0
    }

    fn is_online(&self) -> bool {
        self.0.1.get()
    }
}

pub(super) fn qos(qos: u8) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

/// Whether a filter matches a topic, written down as the specification says it ([MQTT-4.7]).
pub(super) fn naive_match(filter: &str, topic: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let many = filter.last() == Some(&"#");
    let fixed = filter.len() - usize::from(many);
    let length_fits = if many { topic.len() >= fixed } else { topic.len() == fixed };
    let reserved = topic[0].starts_with('$') && (filter[0] == "+" || (filter[0] == "#" && many && fixed == 0));
    length_fits && !reserved && filter[..fixed].iter().zip(&topic).all(|(f, t)| *f == "+" || f == t)
}

/// Bytes that a hash table keeps when everything is gone from it.
pub(super) const TABLE_MIN: usize = 16 * 8;

/// Topics that a filter finds among the retained ones.
pub(super) fn found(trie: &RetainedTrie<u32>, filter: &str) -> Vec<String> {
    let mut topics = Vec::new();
    trie.matching(filter, &mut |topic, _| {
        topics.push(topic.to_owned());
        true
    });
    topics
}
