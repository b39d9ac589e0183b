//! The result of routing one topic: every subscriber once, its overlapping subscriptions merged, and the groups.

use super::leaf::Leaf;
use super::shared::SharedGroup;
use super::subscription::{Member, Subscriber, SubscriptionOptions};
use ahash::RandomState;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// Up to this many targets an overlap is looked for one by one.
const UNINDEXED_MAX: usize = 16;

/// Who gets a message published to one topic. Made once a worker and filled again for each message: it keeps its
/// memory, as much as the topic with the most targets needed.
pub struct Route<S> {
    /// The direct subscribers, each session once.
    pub targets: Vec<Target<S>>,
    /// The shared groups, each of which is to choose one member.
    pub groups: Vec<Arc<SharedGroup<S>>>,
    /// Targets by session, the first `indexed` of them; only used when there are many.
    positions: HashMap<u64, u32, RandomState>,
    indexed: usize,
    pub(super) walk: Walk,
}

/// What the trie notes down while it walks.
#[derive(Default)]
pub(super) struct Walk {
    /// The nodes that match the topic so far.
    pub(super) frontier: Vec<u32>,
    /// The nodes that match one level more.
    pub(super) next: Vec<u32>,
    /// The filters that match.
    pub(super) found: Vec<Place>,
}

/// Where the subscriptions of one filter are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The filter has no wildcard: the entry with this id.
    Exact(u32),
    /// The filter ends at this node.
    Here(u32),
    /// The filter goes on from this node with a last `#`.
    Below(u32),
}

/// One subscriber and what it gets.
pub struct Target<S> {
    /// Who receives.
    pub subscriber: S,
    /// What it gets unless it is the publisher.
    pub delivery: Delivery,
    /// What it gets when it is the publisher.
    pub own: Own,
}

/// One copy of a message for one subscriber, from all its subscriptions that match ([MQTT-3.3.4-2]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The highest maximum quality of service of the subscriptions; the message may have a lower one.
    pub qos: u8,
    /// Whether one of the subscriptions asked for Retain As Published.
    pub retain_as_published: bool,
    /// The identifiers of all the subscriptions that have one, equal ones included ([MQTT-3.3.4-4]).
    pub identifiers: SmallVec<[u32; 1]>,
}

/// What a subscriber gets when it is itself the publisher, as No Local asks ([MQTT-3.8.3-3]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// What it gets from others: no subscription has No Local.
    Same,
    /// Nothing: every subscription has No Local.
    Nothing,
    /// What the subscriptions without No Local give.
    Other(Box<Delivery>),
}

impl<S: Subscriber> Route<S> {
    /// An empty route.
    pub fn new() -> Self {
        Self {
            targets: Vec::new(),
            groups: Vec::new(),
            positions: HashMap::default(),
            indexed: 0,
            walk: Walk::default(),
        }
    }

    /// Lets go of all subscribers and groups, and keeps the memory.
    pub fn clear(&mut self) {
        self.targets.clear();
        self.groups.clear();
        self.positions.clear();
        self.indexed = 0;
        self.walk.frontier.clear();
        self.walk.next.clear();
        self.walk.found.clear();
    }

    /// Adds the subscribers and groups of one matching filter.
    #[inline]
    pub(super) fn add(&mut self, leaf: &Leaf<S>) {
        let members = leaf.members();
        if self.targets.is_empty() {
            // Sessions of one filter are distinct, so most messages never look for an overlap.
            self.targets.extend(members.iter().map(Target::new));
        } else {
            for member in members {
                self.merge(member);
            }
        }
        self.groups.extend(leaf.groups().cloned());
    }

    fn merge(&mut self, member: &Member<S>) {
        match self.position(member.subscriber.id()) {
            Some(target) => target.merge(member.options),
            None => self.targets.push(Target::new(member)),
        }
    }

    fn position(&mut self, id: u64) -> Option<&mut Target<S>> {
        if self.targets.len() <= UNINDEXED_MAX {
            return self.targets.iter_mut().find(|target| target.subscriber.id() == id);
        }
        for (at, target) in self.targets.iter().enumerate().skip(self.indexed) {
            self.positions.insert(target.subscriber.id(), at as u32);
        }
        self.indexed = self.targets.len();
        let at = *self.positions.get(&id)?;
        self.targets.get_mut(at as usize)
    }
}

impl<S: Subscriber> Default for Route<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Subscriber> Target<S> {
    #[inline]
    fn new(member: &Member<S>) -> Self {
        Self {
            subscriber: member.subscriber.clone(),
            delivery: Delivery::of(member.options),
            own: if member.options.no_local { Own::Nothing } else { Own::Same },
        }
    }

    fn merge(&mut self, options: SubscriptionOptions) {
        match &mut self.own {
            Own::Same if options.no_local => self.own = Own::Other(Box::new(self.delivery.clone())),
            Own::Nothing if !options.no_local => self.own = Own::Other(Box::new(Delivery::of(options))),
            Own::Other(own) if !options.no_local => own.merge(options),
            _ => {}
        }
        self.delivery.merge(options);
    }
}

impl Delivery {
    /// What one subscription gives.
    #[inline]
    pub fn of(options: SubscriptionOptions) -> Self {
        let mut delivery = Self::default();
        delivery.merge(options);
        delivery
    }

    #[inline]
    fn merge(&mut self, options: SubscriptionOptions) {
        self.qos = self.qos.max(options.qos);
        self.retain_as_published |= options.retain_as_published;
        if options.identifier != 0 {
            self.identifiers.push(options.identifier);
        }
    }
}
