//! What hangs on one filter: its direct subscribers and its shared groups.

use super::roster::Roster;
use super::shared::SharedGroup;
use super::subscription::{Member, RemoteMembers, Subscriber, SubscriptionOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Estimated bytes of a group beside its members: the map's entry, the shared block and the two names' headers.
const GROUP_OVERHEAD: usize = 128;

/// One subscriber is by far the most common and takes no memory beyond the leaf itself.
#[derive(Default)]
pub(super) enum Leaf<S> {
    #[default]
    Empty,
    One(Member<S>),
    Many(Box<Many<S>>),
}

/// Several subscribers, or groups.
pub(super) struct Many<S> {
    roster: Roster<S>,
    groups: BTreeMap<Arc<str>, Arc<SharedGroup<S>>>,
}

impl<S: Subscriber> Leaf<S> {
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The direct subscribers.
    pub(super) fn members(&self) -> &[Member<S>] {
        match self {
            Self::Empty => &[],
            Self::One(member) => std::slice::from_ref(member),
            Self::Many(many) => many.roster.members(),
        }
    }

    /// The shared groups, by name.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<SharedGroup<S>>> {
        let groups = if let Self::Many(many) = self { Some(many.groups.values()) } else { None };
        groups.into_iter().flatten()
    }

    pub(super) fn subscribe(&mut self, member: Member<S>) -> Option<SubscriptionOptions> {
        match self {
            Self::Empty => {
                *self = Self::One(member);
                None
            }
            Self::One(present) if present.subscriber.id() == member.subscriber.id() => {
                Some(std::mem::replace(present, member).options)
            }
            _ => self.make_many().roster.join(member),
        }
    }

    pub(super) fn unsubscribe(&mut self, id: u64) -> Option<SubscriptionOptions> {
        match self {
            Self::Empty => None,
            Self::One(present) => {
                let options = (present.subscriber.id() == id).then_some(present.options)?;
                *self = Self::Empty;
                Some(options)
            }
            Self::Many(many) => {
                let gone = many.roster.leave(id)?;
                self.simplify();
                Some(gone.options)
            }
        }
    }

    pub(super) fn subscribe_shared(
        &mut self,
        name: &str,
        filter: &str,
        member: Member<S>,
    ) -> Option<SubscriptionOptions> {
        let groups = &mut self.make_many().groups;
        if let Some(group) = groups.get_mut(name) {
            return Arc::make_mut(group).join(member);
        }
        let name: Arc<str> = name.into();
        let mut group = SharedGroup::new(name.clone(), filter.into());
        group.join(member);
        groups.insert(name, Arc::new(group));
        None
    }

    pub(super) fn unsubscribe_shared(&mut self, name: &str, id: u64) -> Option<SubscriptionOptions> {
        let Self::Many(many) = self else { return None };
        let group = many.groups.get_mut(name)?;
        // Looked up first, so that a session that is no member does not cause a copy.
        group.options_of(id)?;
        let options = Arc::make_mut(group).leave(id)?;
        self.end_group_if_empty(name);
        Some(options)
    }

    /// Says what members a group has on another node; true: it had none there before.
    pub(super) fn share_remotely(&mut self, name: &str, filter: &str, remote: RemoteMembers<S>) -> bool {
        let groups = &mut self.make_many().groups;
        if let Some(group) = groups.get_mut(name) {
            return Arc::make_mut(group).join_remotely(remote);
        }
        let name: Arc<str> = name.into();
        let mut group = SharedGroup::new(name.clone(), filter.into());
        group.join_remotely(remote);
        groups.insert(name, Arc::new(group));
        true
    }

    pub(super) fn unshare_remotely(&mut self, name: &str, id: u64) -> bool {
        let Self::Many(many) = self else { return false };
        let Some(group) = many.groups.get_mut(name) else { return false };
        let is_known = group.remotes().iter().any(|remote| remote.node.id() == id);
        let has_left = is_known && Arc::make_mut(group).leave_remotely(id);
        self.end_group_if_empty(name);
        has_left
    }

    fn end_group_if_empty(&mut self, name: &str) {
        let Self::Many(many) = self else { return };
        if many.groups.get(name).is_some_and(|group| group.is_empty()) {
            many.groups.remove(name);
            self.simplify();
        }
    }

    /// Estimated bytes on the heap of the direct subscribers and of one group, which are what an operation changes.
    pub(super) fn memory_bytes(&self, group: Option<&str>) -> usize {
        let Self::Many(many) = self else { return 0 };
        let group = group.and_then(|name| Some((name, many.groups.get(name)?)));
        let group =
            group.map_or(0, |(name, group)| GROUP_OVERHEAD + name.len() + group.filter().len() + group.memory_bytes());
        size_of::<Many<S>>() + many.roster.memory_bytes() + group
    }

    fn make_many(&mut self) -> &mut Many<S> {
        if !matches!(self, Self::Many(_)) {
            let mut roster = Roster::new();
            if let Self::One(member) = std::mem::take(self) {
                roster.join(member);
            }
            *self = Self::Many(Box::new(Many { roster, groups: BTreeMap::new() }));
        }
        let Self::Many(many) = self else { unreachable!("just made") };
        many
    }

    /// Returns to the small forms once nothing needs the large one.
    fn simplify(&mut self) {
        let Self::Many(many) = self else { return };
        if !many.groups.is_empty() || many.roster.members().len() > 1 {
            return;
        }
        *self = many.roster.pop_only().map_or(Self::Empty, Self::One);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_of_a_pointer_takes_sixteen_bytes() {
        assert_eq!(size_of::<Leaf<Arc<u64>>>(), 16);
    }
}
