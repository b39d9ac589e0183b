//! The subscribers of one filter or group, at most one entry a session, constant time to join and to leave.

use super::subscription::{Member, Subscriber, SubscriptionOptions};
use ahash::RandomState;
use std::collections::HashMap;

/// Above this many members they are found through an index instead of one by one.
const UNINDEXED_MAX: usize = 16;
/// At this many members the index is dropped; lower than the other so that one session cannot make it flap.
const INDEX_DROPPED_AT: usize = 8;

/// Positions of members by the id of their session.
type Positions = HashMap<u64, u32, RandomState>;

/// Members in the order they joined, except that the last one takes the place of one that leaves.
#[derive(Clone)]
pub(super) struct Roster<S> {
    members: Vec<Member<S>>,
    positions: Option<Box<Positions>>,
}

impl<S: Subscriber> Roster<S> {
    pub(super) const fn new() -> Self {
        Self { members: Vec::new(), positions: None }
    }

    pub(super) fn members(&self) -> &[Member<S>] {
        &self.members
    }

    /// Adds a member or replaces the one with its id, and says with which options that one was subscribed.
    pub(super) fn join(&mut self, member: Member<S>) -> Option<SubscriptionOptions> {
        let id = member.subscriber.id();
        if let Some(at) = self.position(id) {
            return Some(std::mem::replace(&mut self.members[at], member).options);
        }
        self.members.push(member);
        if let Some(positions) = &mut self.positions {
            positions.insert(id, (self.members.len() - 1) as u32);
        } else if self.members.len() > UNINDEXED_MAX {
            let ids = self.members.iter().map(|member| member.subscriber.id());
            self.positions = Some(Box::new(ids.zip(0..).collect()));
        }
        None
    }

    /// Removes a member.
    pub(super) fn leave(&mut self, id: u64) -> Option<Member<S>> {
        let at = self.position(id)?;
        let gone = self.members.swap_remove(at);
        if let Some(positions) = &mut self.positions {
            positions.remove(&id);
            if let Some(moved) = self.members.get(at) {
                positions.insert(moved.subscriber.id(), at as u32);
            }
        }
        self.shrink();
        Some(gone)
    }

    /// The options a session is a member with.
    pub(super) fn options_of(&self, id: u64) -> Option<SubscriptionOptions> {
        self.position(id).map(|at| self.members[at].options)
    }

    /// The only member, when there is just one.
    pub(super) fn pop_only(&mut self) -> Option<Member<S>> {
        if self.members.len() == 1 { self.members.pop() } else { None }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        // A hash map keeps one byte beside each slot, and at least one slot in eight free.
        let positions = self.positions.as_ref().map_or(0, |positions| {
            size_of::<Positions>() + positions.capacity() * 8 / 7 * (size_of::<(u64, u32)>() + 1)
        });
        self.members.capacity() * size_of::<Member<S>>() + positions
    }

    fn position(&self, id: u64) -> Option<usize> {
        match &self.positions {
            Some(positions) => positions.get(&id).map(|&at| at as usize),
            None => self.members.iter().position(|member| member.subscriber.id() == id),
        }
    }

    fn shrink(&mut self) {
        let len = self.members.len();
        if len <= INDEX_DROPPED_AT {
            self.positions = None;
        }
        if len * 4 < self.members.capacity() {
            self.members.shrink_to(len * 2);
            if let Some(positions) = &mut self.positions {
                positions.shrink_to(len * 2);
            }
        }
    }
}
