//! Shared subscriptions: a group of sessions of which one gets each message (MQTT 5.0 §4.8.2).

use super::roster::Roster;
use super::subscription::{Member, Subscriber, SubscriptionOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many members are tried at random before they are asked in turn.
const RANDOM_TRIES: u64 = 8;

/// How one member is chosen (`shared_subscription_policy`).
///
/// All members of a [`SharedGroup`] are on this node, so the policies differ here only in [`SharedPolicy::Random`];
/// whether members on other nodes are considered, and when, is for the caller to decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SharedPolicy {
    /// Members on this node before those on others.
    #[default]
    PreferLocal,
    /// Any member, with equal chances.
    Random,
    /// Members on this node and no others.
    LocalOnly,
    /// Online members on any node before offline ones on this.
    PreferOnlineBeforeLocal,
}

/// The members on this node of one group on one filter.
///
/// A group is shared with every [`Route`](super::Route) that found it, so that a member can be chosen after the trie's
/// lock is gone. A change of membership copies the group while a route holds it and is made in place otherwise, hence
/// a route should be cleared as soon as its message is delivered.
pub struct SharedGroup<S> {
    name: Arc<str>,
    filter: Arc<str>,
    roster: Roster<S>,
    /// Whose turn it is; taken modulo the number of members.
    turn: AtomicUsize,
}

impl<S: Subscriber> SharedGroup<S> {
    pub(super) const fn new(name: Arc<str>, filter: Arc<str>) -> Self {
        Self { name, filter, roster: Roster::new(), turn: AtomicUsize::new(0) }
    }

    /// The name of the group, without `$share/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic filter its members subscribed to, without `$share/` and the name.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// All members; never empty in a group that a route found.
    pub fn members(&self) -> &[Member<S>] {
        self.roster.members()
    }

    /// Chooses who gets a message.
    ///
    /// Online members come first and share the messages evenly: in turn, or by `random` (a number fresh for each
    /// message) under [`SharedPolicy::Random`]. An offline member is chosen only when no online one can take the
    /// message, again in turn. A member that asked for No Local is passed over when it is `publisher_id`. `can_take`
    /// is asked last, and says whether the session has room; it may be asked about the same session more than once.
    ///
    /// `None` means that nobody here can take the message. Costs one step when everybody can, and at most two for
    /// each member when most are offline or refuse.
    pub fn select(
        &self,
        policy: SharedPolicy,
        random: u64,
        publisher_id: u64,
        mut can_take: impl FnMut(&S) -> bool,
    ) -> Option<&Member<S>> {
        let members = self.members();
        let mut accepts = |member: &Member<S>, online: bool| {
            member.subscriber.is_online() == online
                && !(member.options.no_local && member.subscriber.id() == publisher_id)
                && can_take(&member.subscriber)
        };
        if policy == SharedPolicy::Random {
            let mut tries = (0..RANDOM_TRIES).filter_map(|attempt| members.get(draw(random, attempt, members.len())));
            if let Some(member) = tries.find(|member| accepts(member, true)) {
                return Some(member);
            }
        }
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % members.len().max(1);
        let chosen = [true, false].into_iter().find_map(|online| {
            let mut in_turn = (start..members.len()).chain(0..start);
            in_turn.find(|&at| members.get(at).is_some_and(|member| accepts(member, online)))
        })?;
        if chosen != start {
            // The next turn follows the member chosen, or else those behind a run of offline ones would get its share.
            self.turn.store(chosen + 1, Ordering::Relaxed);
        }
        members.get(chosen)
    }

    pub(super) fn join(&mut self, member: Member<S>) -> Option<SubscriptionOptions> {
        self.roster.join(member)
    }

    pub(super) fn leave(&mut self, id: u64) -> Option<SubscriptionOptions> {
        self.roster.leave(id).map(|member| member.options)
    }

    pub(super) fn options_of(&self, id: u64) -> Option<SubscriptionOptions> {
        self.roster.options_of(id)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.roster.memory_bytes()
    }
}

impl<S: Subscriber> Clone for SharedGroup<S> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            filter: self.filter.clone(),
            roster: self.roster.clone(),
            turn: AtomicUsize::new(self.turn.load(Ordering::Relaxed)),
        }
    }
}

/// The `attempt`-th number below `len` that `random` gives. The numbers are mixed and not only spaced evenly: if a try
/// depended on where the one before it failed, the members at that distance from offline ones would get more.
fn draw(random: u64, attempt: u64, len: usize) -> usize {
    let mut mixed = random.wrapping_add(attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    ((u128::from(mixed) * len as u128) >> 64) as usize
}
