//! Shared subscriptions: a group of sessions of which one gets each message (MQTT 5.0 §4.8.2).

use super::roster::Roster;
use super::subscription::{Member, RemoteMembers, Subscriber, SubscriptionOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many members are tried at random before they are asked in turn.
const RANDOM_TRIES: u64 = 8;
/// The draws between nodes and among them; the tries come before them.
const DRAW_SIDE: u64 = RANDOM_TRIES;
const DRAW_NODE: u64 = RANDOM_TRIES + 1;

/// How one member is chosen (`shared_subscription_policy`). Whatever it says, a member that is offline gets a message only
/// where no online one of those that come into question can take it.
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

/// Who gets a message that goes to a group.
#[derive(Debug)]
pub enum Choice<'g, S> {
    /// A member on this node.
    Member(&'g Member<S>),
    /// Some member on this other node.
    Node(&'g S),
}

/// One group on one filter: its members on this node, and how many there are on others.
///
/// A group is shared with every [`Route`](super::Route) that found it, so that a member can be chosen after the trie's
/// lock is gone. A change of membership copies the group while a route holds it and is made in place otherwise, hence
/// a route should be cleared as soon as its message is delivered.
pub struct SharedGroup<S> {
    name: Arc<str>,
    filter: Arc<str>,
    roster: Roster<S>,
    remotes: Vec<RemoteMembers<S>>,
    /// Whose turn it is; taken modulo the number of members.
    turn: AtomicUsize,
}

impl<S: Subscriber> SharedGroup<S> {
    pub(super) const fn new(name: Arc<str>, filter: Arc<str>) -> Self {
        Self { name, filter, roster: Roster::new(), remotes: Vec::new(), turn: AtomicUsize::new(0) }
    }

    /// The name of the group, without `$share/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic filter its members subscribed to, without `$share/` and the name.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// The members on this node.
    pub fn members(&self) -> &[Member<S>] {
        self.roster.members()
    }

    /// The members on other nodes. A group that a route found has members here or there.
    pub fn remotes(&self) -> &[RemoteMembers<S>] {
        &self.remotes
    }

    /// Chooses who gets a message: a member on this node as [`SharedGroup::select`] does, or another node, by weight. A node
    /// that cannot be reached is the last resort: the message waits for it.
    pub fn choose(
        &self,
        policy: SharedPolicy,
        random: u64,
        publisher_id: u64,
        mut can_take: impl FnMut(&S) -> bool,
    ) -> Option<Choice<'_, S>> {
        if self.remotes.is_empty() || policy == SharedPolicy::LocalOnly {
            return self.select(policy, random, publisher_id, can_take).map(Choice::Member);
        }
        let mut here =
            |passes: &[bool]| self.select_in(passes, policy, random, publisher_id, &mut can_take).map(Choice::Member);
        let online_there = || self.node(random, |node| node.has_online && node.node.is_online()).map(Choice::Node);
        let anywhere_else = || {
            let reachable = self.node(random, |node| node.node.is_online());
            reachable.or_else(|| self.node(random, |_| true)).map(Choice::Node)
        };
        match policy {
            SharedPolicy::PreferLocal | SharedPolicy::LocalOnly => here(&[true, false]).or_else(online_there),
            SharedPolicy::PreferOnlineBeforeLocal => here(&[true]).or_else(online_there).or_else(|| here(&[false])),
            SharedPolicy::Random => {
                let members = self.members().len();
                let all = members + self.remotes.iter().map(|node| node.count as usize).sum::<usize>();
                let first = if draw(random, DRAW_SIDE, all) < members { here(&[true]) } else { online_there() };
                first.or_else(|| here(&[true])).or_else(online_there).or_else(|| here(&[false]))
            }
        }
        .or_else(anywhere_else)
    }

    /// One of the other nodes that come into question, each with the chances of its members.
    fn node(&self, random: u64, is_possible: impl Fn(&RemoteMembers<S>) -> bool) -> Option<&S> {
        let possible = || self.remotes.iter().filter(|node| node.count > 0 && is_possible(node));
        let all = possible().map(|node| node.count as usize).sum();
        let mut drawn = draw(random, DRAW_NODE, all);
        for node in possible() {
            if drawn < node.count as usize {
                return Some(&node.node);
            }
            drawn -= node.count as usize;
        }
        None
    }

    /// Chooses who on this node gets a message.
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
        self.select_in(&[true, false], policy, random, publisher_id, &mut can_take)
    }

    /// `passes`: whether online members are asked, offline ones, or first these and then those.
    fn select_in(
        &self,
        passes: &[bool],
        policy: SharedPolicy,
        random: u64,
        publisher_id: u64,
        can_take: &mut impl FnMut(&S) -> bool,
    ) -> Option<&Member<S>> {
        let members = self.members();
        let mut accepts = |member: &Member<S>, online: bool| {
            member.subscriber.is_online() == online
                && !(member.options.no_local && member.subscriber.id() == publisher_id)
                && can_take(&member.subscriber)
        };
        if policy == SharedPolicy::Random && passes.contains(&true) {
            let mut tries = (0..RANDOM_TRIES).filter_map(|attempt| members.get(draw(random, attempt, members.len())));
            if let Some(member) = tries.find(|member| accepts(member, true)) {
                return Some(member);
            }
        }
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % members.len().max(1);
        let chosen = passes.iter().find_map(|&online| {
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

    /// Says what another node has; true: it had none before.
    pub(super) fn join_remotely(&mut self, remote: RemoteMembers<S>) -> bool {
        let id = remote.node.id();
        let known = self.remotes.iter_mut().find(|known| known.node.id() == id);
        let is_new = known.is_none();
        match known {
            Some(known) => *known = remote,
            None => self.remotes.push(remote),
        }
        is_new
    }

    /// Another node has no members any more. False: it had none.
    pub(super) fn leave_remotely(&mut self, id: u64) -> bool {
        let Some(at) = self.remotes.iter().position(|known| known.node.id() == id) else { return false };
        self.remotes.swap_remove(at);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members().is_empty() && self.remotes.is_empty()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.roster.memory_bytes() + self.remotes.capacity() * size_of::<RemoteMembers<S>>()
    }
}

impl<S: Subscriber> Clone for SharedGroup<S> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            filter: self.filter.clone(),
            roster: self.roster.clone(),
            remotes: self.remotes.clone(),
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
