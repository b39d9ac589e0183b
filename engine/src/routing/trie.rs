//! The subscription trie: which local subscribers and shared groups a topic reaches.
//!
//! A filter without a wildcard, by far the most common, is one entry in a hash table of whole filters. The others form
//! a trie of one node a level. All steps from a node to a child with a literal level share one hash table; the child
//! `+` is a field, and the subscribers of a last `#` hang on the node above it. A node is one cache line with its
//! subscribers, and knows which kinds of children it has, so that a search takes no step that cannot succeed.

use super::arena::Arena;
use super::leaf::Leaf;
use super::level::{HASH, LevelText, Levels, PLUS, has_wildcard, is_reserved};
use super::route::{Place, Route, Walk};
use super::shared::SharedGroup;
use super::subscription::{Member, RemoteMembers, Subscriber, SubscriptionOptions};
use super::table::{IdTable, TopicHasher};
use std::sync::Arc;

/// The node above the first level. It is never a child, so the same number means "no child `+`".
const ROOT: u32 = 0;

/// Positions of a walk that are nodes; those below are filters without a wildcard.
const NODES_FROM: u64 = 1 << 32;

/// What there is on one filter.
pub struct OnFilter<'t, S>(&'t Leaf<S>);

impl<'t, S: Subscriber> OnFilter<'t, S> {
    /// The direct subscribers, other nodes among them.
    pub fn members(&self) -> &'t [Member<S>] {
        self.0.members()
    }

    /// The shared groups.
    pub fn groups(&self) -> impl Iterator<Item = &'t Arc<SharedGroup<S>>> {
        self.0.groups()
    }
}

/// The subscriptions of one mountpoint: those of this node, and what is known of others.
pub struct SubscriptionTrie<S> {
    hasher: TopicHasher,
    exact_ids: IdTable,
    exact: Arena<Exact<S>>,
    edges: IdTable,
    nodes: Arena<Node<S>>,
    /// Number of subscriptions, members of groups included.
    len: usize,
    /// Estimated bytes beyond the tables: texts, and subscribers that do not fit into their leaf.
    heap_bytes: usize,
}

/// A filter without a wildcard.
struct Exact<S> {
    filter: Box<str>,
    leaf: Leaf<S>,
}

/// A level of one or more filters with a wildcard.
#[repr(align(64))]
struct Node<S> {
    parent: u32,
    /// The child `+`, or `ROOT` for none.
    plus: u32,
    /// How many children the table of edges has; without any, it is not asked.
    literals: u32,
    level: LevelText,
    /// The subscriptions whose filter ends here.
    here: Leaf<S>,
    /// The subscriptions whose filter goes on with a last `#`.
    below: Leaf<S>,
}

impl<S: Subscriber> SubscriptionTrie<S> {
    /// A trie without subscriptions.
    pub fn new() -> Self {
        let mut nodes = Arena::new();
        nodes.add(Node::default());
        Self {
            hasher: TopicHasher::default(),
            exact_ids: IdTable::default(),
            exact: Arena::new(),
            edges: IdTable::default(),
            nodes,
            len: 0,
            heap_bytes: 0,
        }
    }

    /// Number of subscriptions; each member of a shared group counts.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subscription.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Estimated memory of the trie in bytes, without the subscribers themselves. Constant time.
    pub fn memory_bytes(&self) -> usize {
        let tables = self.exact_ids.memory_bytes() + self.edges.memory_bytes();
        tables + self.exact.memory_bytes() + self.nodes.memory_bytes() + self.heap_bytes
    }

    /// Subscribes a session to a filter, and returns the options it was subscribed with before
    /// ([MQTT-3.8.4-3]: the new subscription replaces the old one).
    pub fn subscribe(
        &mut self,
        filter: &str,
        subscriber: S,
        options: SubscriptionOptions,
    ) -> Option<SubscriptionOptions> {
        let place = self.make_place(filter);
        let replaced = self.change(place, None, |leaf| leaf.subscribe(Member { subscriber, options }));
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Ends the subscription of a session, and returns its options, `None` when there was none.
    pub fn unsubscribe(&mut self, filter: &str, id: u64) -> Option<SubscriptionOptions> {
        let place = self.find_place(filter)?;
        let ended = self.change(place, None, |leaf| leaf.unsubscribe(id))?;
        self.ended_at(place);
        Some(ended)
    }

    /// Makes a session a member of the group `group` on `filter` (`$share/group/filter`, [MQTT-4.8.2-1]), and returns
    /// the options it was a member with before.
    pub fn subscribe_shared(
        &mut self,
        group: &str,
        filter: &str,
        subscriber: S,
        options: SubscriptionOptions,
    ) -> Option<SubscriptionOptions> {
        let place = self.make_place(filter);
        let member = Member { subscriber, options };
        let replaced = self.change(place, Some(group), |leaf| leaf.subscribe_shared(group, filter, member));
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes a session out of a group, and returns its options, `None` when it was no member.
    pub fn unsubscribe_shared(&mut self, group: &str, filter: &str, id: u64) -> Option<SubscriptionOptions> {
        let place = self.find_place(filter)?;
        let ended = self.change(place, Some(group), |leaf| leaf.unsubscribe_shared(group, id))?;
        self.ended_at(place);
        Some(ended)
    }

    /// Says what members a group on `filter` has on another node, instead of what was said before.
    pub fn share_remotely(&mut self, group: &str, filter: &str, remote: RemoteMembers<S>) {
        let place = self.make_place(filter);
        let is_new = self.change(place, Some(group), |leaf| leaf.share_remotely(group, filter, remote));
        self.len += usize::from(is_new);
    }

    /// A group on `filter` has no members on another node any more. False: it had none.
    pub fn unshare_remotely(&mut self, group: &str, filter: &str, id: u64) -> bool {
        let Some(place) = self.find_place(filter) else { return false };
        let has_ended = self.change(place, Some(group), |leaf| leaf.unshare_remotely(group, id));
        if has_ended {
            self.ended_at(place);
        }
        has_ended
    }

    /// What there is on one filter.
    pub fn at(&self, filter: &str) -> Option<OnFilter<'_, S>> {
        self.find_place(filter).map(|place| OnFilter(self.leaf(place)))
    }

    /// Shows what there is on filters, some at a time: of `limit` places from `position` on, 0 at first. Where to go on, `None` at
    /// the end. What is there from begin to end of such a walk is shown once, whatever else comes and goes meanwhile.
    pub fn walk(&self, position: u64, limit: usize, mut visit: impl FnMut(&str, OnFilter<'_, S>)) -> Option<u64> {
        let mut left = limit;
        let mut at = position;
        if at < NODES_FROM {
            for (id, exact) in self.exact.iter().skip(at as usize).take(left) {
                if !exact.leaf.is_empty() {
                    visit(&exact.filter, OnFilter(&exact.leaf));
                }
                at = u64::from(id) + 1;
                left -= 1;
            }
            if left == 0 {
                return Some(at);
            }
            at = NODES_FROM;
        }
        for (id, node) in self.nodes.iter().skip((at - NODES_FROM) as usize).take(left) {
            for (leaf, place) in [(&node.here, Place::Here(id)), (&node.below, Place::Below(id))] {
                if !leaf.is_empty() {
                    visit(&self.filter_of(place), OnFilter(leaf));
                }
            }
            at = NODES_FROM + u64::from(id) + 1;
            left -= 1;
        }
        (left == 0).then_some(at)
    }

    /// Finds everybody who gets a message published to `topic`: empties the route and fills it.
    ///
    /// Allocates nothing once the route has grown to its size, except for a session with several subscriptions that
    /// match: for two or more identifiers, and for subscriptions with and without No Local.
    ///
    /// Time: the levels of the topic are walked together with the nodes that match them, each node at most once and
    /// at most 2ⁿ nodes at level n. So the bound is the length of the topic plus the number of nodes that match a
    /// beginning of it, whatever filters a peer makes up; then one step for each subscription that matches.
    pub fn route(&self, topic: &str, route: &mut Route<S>) {
        route.clear();
        // First all filters are found and only then subscribers cloned: the atomic increments would otherwise keep
        // the processor from fetching the next nodes meanwhile.
        if let Some(id) = self.find_exact(topic) {
            route.walk.found.push(Place::Exact(id));
        }
        if self.nodes.len() > 1 || !self.nodes[ROOT].is_vacant() {
            self.find_wildcards(topic, &mut route.walk);
        }
        for at in 0..route.walk.found.len() {
            if let Some(&place) = route.walk.found.get(at) {
                route.add(self.leaf(place));
            }
        }
    }

    /// Calls `visit(filter, group, subscriber, options)` for each subscription until it returns `false`, in an order
    /// that only subscribing and unsubscribing change. `group` is `None` for a direct subscription.
    pub fn for_each(&self, mut visit: impl FnMut(&str, Option<&str>, &S, &SubscriptionOptions) -> bool) {
        for (_, exact) in self.exact.iter() {
            if !visit_leaf(&exact.leaf, &mut visit, || exact.filter.to_string()) {
                return;
            }
        }
        for (id, node) in self.nodes.iter() {
            let goes_on = visit_leaf(&node.here, &mut visit, || self.filter_of(Place::Here(id)))
                && visit_leaf(&node.below, &mut visit, || self.filter_of(Place::Below(id)));
            if !goes_on {
                return;
            }
        }
    }

    fn find_exact(&self, filter: &str) -> Option<u32> {
        self.exact_ids.find(self.hasher.name(filter), |id| *self.exact[id].filter == *filter)
    }

    /// The child of a node with a literal level, whose hash is given.
    #[inline]
    fn find_child(&self, parent: u32, level: &str, level_hash: u64) -> Option<u32> {
        self.edges.find(self.hasher.edge(parent, level_hash), |id| {
            let node = &self.nodes[id];
            node.parent == parent && node.level.as_bytes() == level.as_bytes()
        })
    }

    /// Notes down the filters with a wildcard that match a topic, level by level from the root.
    fn find_wildcards(&self, topic: &str, walk: &mut Walk) {
        let reserved = is_reserved(topic);
        walk.frontier.push(ROOT);
        for level in Levels::of(topic) {
            let level_hash = self.hasher.level(level);
            for &id in &walk.frontier {
                let node = &self.nodes[id];
                let wildcards = !(reserved && id == ROOT);
                if wildcards && !node.below.is_empty() {
                    walk.found.push(Place::Below(id));
                }
                if wildcards && node.plus != ROOT {
                    walk.next.push(node.plus);
                }
                if node.literals > 0
                    && let Some(child) = self.find_child(id, level, level_hash)
                {
                    walk.next.push(child);
                }
            }
            std::mem::swap(&mut walk.frontier, &mut walk.next);
            walk.next.clear();
            if walk.frontier.is_empty() {
                return;
            }
        }
        for &id in &walk.frontier {
            let node = &self.nodes[id];
            if !node.here.is_empty() {
                walk.found.push(Place::Here(id));
            }
            if !node.below.is_empty() {
                walk.found.push(Place::Below(id));
            }
        }
    }

    fn leaf(&self, place: Place) -> &Leaf<S> {
        match place {
            Place::Exact(id) => &self.exact[id].leaf,
            Place::Here(id) => &self.nodes[id].here,
            Place::Below(id) => &self.nodes[id].below,
        }
    }

    /// Changes a leaf and keeps the estimate of memory.
    fn change<R>(&mut self, place: Place, group: Option<&str>, change: impl FnOnce(&mut Leaf<S>) -> R) -> R {
        let leaf = match place {
            Place::Exact(id) => &mut self.exact[id].leaf,
            Place::Here(id) => &mut self.nodes[id].here,
            Place::Below(id) => &mut self.nodes[id].below,
        };
        let before = leaf.memory_bytes(group);
        let result = change(leaf);
        self.heap_bytes = self.heap_bytes + leaf.memory_bytes(group) - before;
        result
    }

    /// A subscription is gone; if it was the last one of its filter, so is the filter.
    fn ended_at(&mut self, place: Place) {
        self.len -= 1;
        if !self.leaf(place).is_empty() {
            return;
        }
        match place {
            Place::Exact(id) => {
                let filter = self.exact.take(id).filter;
                self.exact_ids.remove(self.hasher.name(&filter), id);
                self.heap_bytes -= filter.len();
            }
            Place::Here(id) | Place::Below(id) => self.prune(id),
        }
    }

    /// Where the subscriptions of a filter are, `None` when it has none.
    fn find_place(&self, filter: &str) -> Option<Place> {
        if !has_wildcard(filter) {
            return self.find_exact(filter).map(Place::Exact);
        }
        let mut node = ROOT;
        let mut levels = Levels::of(filter);
        while let Some(level) = levels.next() {
            if level == HASH && levels.is_done() {
                return Some(Place::Below(node));
            }
            node = if level == PLUS {
                Some(self.nodes[node].plus).filter(|&plus| plus != ROOT)?
            } else {
                self.find_child(node, level, self.hasher.level(level))?
            };
        }
        Some(Place::Here(node))
    }

    /// Where the subscriptions of a filter are to be put.
    fn make_place(&mut self, filter: &str) -> Place {
        if !has_wildcard(filter) {
            return Place::Exact(self.find_exact(filter).unwrap_or_else(|| self.add_exact(filter)));
        }
        let mut node = ROOT;
        let mut levels = Levels::of(filter);
        while let Some(level) = levels.next() {
            if level == HASH && levels.is_done() {
                return Place::Below(node);
            }
            node = if level == PLUS { self.make_plus(node) } else { self.make_literal(node, level) };
        }
        Place::Here(node)
    }

    fn add_exact(&mut self, filter: &str) -> u32 {
        let id = self.exact.add(Exact { filter: filter.into(), leaf: Leaf::Empty });
        self.exact_ids.insert(self.hasher.name(filter), id);
        self.heap_bytes += filter.len();
        id
    }

    fn make_plus(&mut self, parent: u32) -> u32 {
        if self.nodes[parent].plus == ROOT {
            let plus = self.nodes.add(Node { parent, level: LevelText::new(PLUS), ..Node::default() });
            self.nodes[parent].plus = plus;
        }
        self.nodes[parent].plus
    }

    fn make_literal(&mut self, parent: u32, level: &str) -> u32 {
        let level_hash = self.hasher.level(level);
        if let Some(child) = self.find_child(parent, level, level_hash) {
            return child;
        }
        let text = LevelText::new(level);
        self.heap_bytes += text.heap_bytes();
        let child = self.nodes.add(Node { parent, level: text, ..Node::default() });
        self.edges.insert(self.hasher.edge(parent, level_hash), child);
        self.nodes[parent].literals += 1;
        child
    }

    /// Removes a node that carries nothing, then its parent if that was all it was for, and so on upwards.
    fn prune(&mut self, mut id: u32) {
        while id != ROOT && self.nodes[id].is_vacant() {
            let Node { parent, level, .. } = self.nodes.take(id);
            if self.nodes[parent].plus == id {
                self.nodes[parent].plus = ROOT;
            } else {
                let level_hash = self.hasher.level(level.as_str());
                self.edges.remove(self.hasher.edge(parent, level_hash), id);
                self.nodes[parent].literals -= 1;
                self.heap_bytes -= level.heap_bytes();
            }
            id = parent;
        }
        self.nodes.release_if_only_root();
    }

    /// Writes a filter with a wildcard out again.
    fn filter_of(&self, place: Place) -> String {
        let (mut id, last) = match place {
            Place::Exact(id) => return self.exact[id].filter.to_string(),
            Place::Here(id) => (id, None),
            Place::Below(id) => (id, Some(HASH)),
        };
        let mut levels: Vec<&str> = last.into_iter().collect();
        while id != ROOT {
            levels.push(self.nodes[id].level.as_str());
            id = self.nodes[id].parent;
        }
        levels.reverse();
        levels.join("/")
    }

    /// A trie in which nearly all hashes are equal, so that only comparing the text keeps filters apart.
    #[cfg(test)]
    pub(super) fn with_weak_hashes() -> Self {
        Self { hasher: TopicHasher::weak(), ..Self::new() }
    }

    /// Nodes other than the root, and filters without a wildcard: what pruning must bring back to nothing.
    #[cfg(test)]
    pub(super) fn entries(&self) -> (usize, usize) {
        (self.nodes.len() - 1, self.exact.len())
    }
}

impl<S: Subscriber> Default for SubscriptionTrie<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Subscriber> Node<S> {
    /// Whether nothing hangs on the node.
    const fn is_vacant(&self) -> bool {
        self.plus == ROOT && self.literals == 0 && self.here.is_empty() && self.below.is_empty()
    }
}

// Written out because a derived one would ask for `S: Default`.
impl<S> Default for Node<S> {
    fn default() -> Self {
        Self {
            parent: ROOT,
            plus: ROOT,
            literals: 0,
            level: LevelText::default(),
            here: Leaf::Empty,
            below: Leaf::Empty,
        }
    }
}

impl<S> Default for Exact<S> {
    fn default() -> Self {
        Self { filter: Box::default(), leaf: Leaf::Empty }
    }
}

/// Shows the subscriptions of one filter, whose text is only written when there are any.
fn visit_leaf<S: Subscriber>(
    leaf: &Leaf<S>,
    visit: &mut impl FnMut(&str, Option<&str>, &S, &SubscriptionOptions) -> bool,
    filter: impl FnOnce() -> String,
) -> bool {
    if leaf.is_empty() {
        return true;
    }
    let filter = filter();
    let mut shown = |group, member: &Member<S>| visit(&filter, group, &member.subscriber, &member.options);
    leaf.members().iter().all(|member| shown(None, member))
        && leaf.groups().all(|group| group.members().iter().all(|member| shown(Some(group.name()), member)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_node_is_one_cache_line() {
        assert_eq!(size_of::<Node<Arc<u64>>>(), 64);
    }
}
