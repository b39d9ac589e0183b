//! Who of a shared group gets a message: a member on this node, or another node one of whose members does.

use crate::protocol::Context;
use crate::routing::{Choice, Route, SharedGroup, SubscriptionOptions};

use super::writing::Letter;
use super::{Batch, SessionRef};

/// A member of a shared group that gets a message, or a node one of whose members does.
pub(super) struct Chosen {
    pub subscriber: SessionRef,
    pub options: SubscriptionOptions,
}

impl Batch {
    /// Chooses a member of each shared group for one message.
    pub(super) fn choose_members(&mut self, cx: &Context, route: &Route<SessionRef>, letter: &Letter<'_>) {
        for group in &route.groups {
            let chosen = self.choose_member(cx, group, letter);
            self.chosen.push(chosen);
        }
    }

    fn choose_member(&mut self, cx: &Context, group: &SharedGroup<SessionRef>, letter: &Letter<'_>) -> Option<Chosen> {
        let origin = letter.outgoing.publication.head.origin;
        // xorshift: even enough to pick a member.
        self.random ^= cx.now | 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let policy = cx.settings.shared_subscription_policy;
        let can_take = |session: &SessionRef| !letter.is_repeat && session.can_take(cx);
        let chosen = if self.is_from_peer {
            group.select(policy, self.random, origin, can_take).map(Choice::Member)
        } else {
            group.choose(policy, self.random, origin, can_take)
        };
        Some(match chosen? {
            Choice::Member(member) => Chosen { subscriber: member.subscriber.clone(), options: member.options },
            Choice::Node(node) => Chosen { subscriber: node.clone(), options: SubscriptionOptions::default() },
        })
    }
}
