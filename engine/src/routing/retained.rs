//! The retained trie: one message a topic, found by the filters of those who subscribe later.
//!
//! A node a level, with the children of a node chained as siblings so that wildcards can walk them, and one hash table
//! for the steps from a node to a child, so that a topic is found whatever the number of its siblings. Beginnings of
//! topics are stored once, and a level of up to 14 bytes is stored inside its node.

use super::arena::Arena;
use super::level::{HASH, LevelText, Levels, PLUS, is_reserved};
use super::table::{IdTable, TopicHasher};

/// The node above the first level. It is nobody's child or sibling, so the same number means "none".
const ROOT: u32 = 0;

/// The retained messages of one mountpoint. `M` is best no larger than a pointer: every level has room for one.
pub struct RetainedTrie<M> {
    hasher: TopicHasher,
    edges: IdTable,
    nodes: Arena<Node<M>>,
    len: usize,
    /// Bytes of levels that do not fit into their nodes.
    text_bytes: usize,
}

struct Node<M> {
    parent: u32,
    first_child: u32,
    last_child: u32,
    next: u32,
    previous: u32,
    level: LevelText,
    message: Option<M>,
}

/// One step of a walk that is still to be made.
#[derive(Clone, Copy)]
struct Step {
    node: u32,
    /// How many levels of the filter the node's parent has used up.
    depth: usize,
    /// Length of the parent's topic.
    parent_len: usize,
    /// Whether the siblings after the node are to be walked too.
    siblings: bool,
}

impl<M> RetainedTrie<M> {
    /// A trie without messages.
    pub fn new() -> Self {
        let mut nodes = Arena::new();
        nodes.add(Node::default());
        Self { hasher: TopicHasher::default(), edges: IdTable::default(), nodes, len: 0, text_bytes: 0 }
    }

    /// Number of retained messages.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no retained message.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Estimated memory of the trie in bytes, without what an `M` points to. Constant time.
    pub fn memory_bytes(&self) -> usize {
        self.edges.memory_bytes() + self.nodes.memory_bytes() + self.text_bytes
    }

    /// The message retained for a topic.
    pub fn get(&self, topic: &str) -> Option<&M> {
        self.nodes[self.find(topic)?].message.as_ref()
    }

    /// Retains a message, and returns the one it replaces ([MQTT-3.3.1-5]).
    ///
    /// Every level of a topic may cost a node, so the depth of topics is to be limited by the caller.
    pub fn set(&mut self, topic: &str, message: M) -> Option<M> {
        let mut node = ROOT;
        for level in Levels::of(topic) {
            node = self.make_child(node, level);
        }
        let replaced = self.nodes[node].message.replace(message);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Removes and returns the message of a topic ([MQTT-3.3.1-6]).
    pub fn remove(&mut self, topic: &str) -> Option<M> {
        let node = self.find(topic)?;
        let removed = self.nodes[node].message.take()?;
        self.len -= 1;
        self.prune(node);
        Some(removed)
    }

    /// Calls `visit(topic, message)` for each topic that matches a filter until it returns `false`.
    ///
    /// A topic comes before those below it, and siblings come in the order in which their first message came; so the
    /// order stays the same as long as no message is removed. A filter without a wildcard is one lookup. With
    /// wildcards the time is that of walking the nodes that match a beginning of the filter, all of them for `#`; the
    /// memory is that of the longest topic.
    pub fn matching(&self, filter: &str, visit: &mut dyn FnMut(&str, &M) -> bool) {
        let levels: Vec<&str> = Levels::of(filter).collect();
        let mut topic = String::new();
        let mut steps = Vec::new();
        self.descend(ROOT, 0, 0, &levels, &mut steps);
        while let Some(step) = steps.pop() {
            let node = &self.nodes[step.node];
            if step.siblings && node.next != ROOT {
                steps.push(Step { node: node.next, ..step });
            }
            topic.truncate(step.parent_len);
            if node.parent == ROOT {
                if is_wildcard(&levels, 0) && is_reserved(node.level.as_str()) {
                    continue;
                }
            } else {
                topic.push('/');
            }
            topic.push_str(node.level.as_str());

            let below = is_hash(&levels, step.depth);
            let depth = step.depth + usize::from(!below);
            let matches = below || depth == levels.len() || is_hash(&levels, depth);
            if let Some(message) = node.message.as_ref().filter(|_| matches)
                && !visit(&topic, message)
            {
                return;
            }
            self.descend(step.node, depth, topic.len(), &levels, &mut steps);
        }
    }

    /// Calls `visit(topic, message)` for what lies in `limit` places from a position on, 0 for the first. Where the next
    /// page begins; `None`: that was all. What changes between two pages may be passed over or come twice.
    pub fn page(&self, position: u32, limit: usize, visit: &mut dyn FnMut(&str, &M)) -> Option<u32> {
        let mut at = position;
        for (id, node) in self.nodes.iter().skip(position as usize).take(limit) {
            if let Some(message) = &node.message {
                visit(&self.topic_of(id), message);
            }
            at = id + 1;
        }
        (at - position.min(at) == limit as u32).then_some(at)
    }

    fn topic_of(&self, mut node: u32) -> String {
        let mut levels = Vec::new();
        while node != ROOT {
            levels.push(self.nodes[node].level.as_str());
            node = self.nodes[node].parent;
        }
        levels.reverse();
        levels.join("/")
    }

    /// Keeps the messages for which `keep(topic, message)` says so, and removes the others. Visits all nodes.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut M) -> bool) {
        let mut topic = String::new();
        let mut node = self.nodes[ROOT].first_child;
        let mut parent_len = 0;
        // Down to the first child, else on to the next sibling, else up: the chains are the stack. A node is left
        // behind, and pruned if nothing hangs on it any more, only after its whole branch.
        while node != ROOT {
            topic.truncate(parent_len);
            if self.nodes[node].parent != ROOT {
                topic.push('/');
            }
            topic.push_str(self.nodes[node].level.as_str());
            if self.nodes[node].message.as_mut().is_some_and(|message| !keep(&topic, message)) {
                self.nodes[node].message = None;
                self.len -= 1;
            }
            let child = self.nodes[node].first_child;
            if child != ROOT {
                parent_len = topic.len();
                node = child;
                continue;
            }
            while node != ROOT {
                let Node { next, parent, .. } = self.nodes[node];
                topic.truncate(parent_len);
                self.prune_one(node);
                if next != ROOT {
                    node = next;
                    break;
                }
                parent_len = parent_len.saturating_sub(self.nodes[parent].level.as_bytes().len() + 1);
                node = parent;
            }
        }
        self.nodes.release_if_only_root();
    }

    /// Adds the step to the children of a node that may match level `depth` of the filter.
    fn descend(&self, node: u32, depth: usize, topic_len: usize, levels: &[&str], steps: &mut Vec<Step>) {
        let Some(&level) = levels.get(depth) else { return };
        let siblings = is_wildcard(levels, depth);
        let child = if siblings {
            Some(self.nodes[node].first_child).filter(|&child| child != ROOT)
        } else {
            self.find_child(node, level)
        };
        steps.extend(child.map(|node| Step { node, depth, parent_len: topic_len, siblings }));
    }

    fn find(&self, topic: &str) -> Option<u32> {
        Levels::of(topic).try_fold(ROOT, |node, level| self.find_child(node, level))
    }

    fn find_child(&self, parent: u32, level: &str) -> Option<u32> {
        if self.nodes[parent].first_child == ROOT {
            return None;
        }
        self.edges.find(self.edge(parent, level), |id| {
            let node = &self.nodes[id];
            node.parent == parent && node.level.as_bytes() == level.as_bytes()
        })
    }

    fn make_child(&mut self, parent: u32, level: &str) -> u32 {
        if let Some(child) = self.find_child(parent, level) {
            return child;
        }
        let text = LevelText::new(level);
        self.text_bytes += text.heap_bytes();
        let previous = self.nodes[parent].last_child;
        let child = self.nodes.add(Node { parent, previous, level: text, ..Node::default() });
        if previous == ROOT {
            self.nodes[parent].first_child = child;
        } else {
            self.nodes[previous].next = child;
        }
        self.nodes[parent].last_child = child;
        self.edges.insert(self.edge(parent, level), child);
        child
    }

    /// Removes a node that carries nothing, then its parent if that was all it was for, and so on upwards.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT {
            let parent = self.nodes[node].parent;
            if !self.prune_one(node) {
                break;
            }
            node = parent;
        }
        self.nodes.release_if_only_root();
    }

    /// Removes a node unless it carries something, and says whether it did.
    fn prune_one(&mut self, id: u32) -> bool {
        if self.nodes[id].message.is_some() || self.nodes[id].first_child != ROOT {
            return false;
        }
        let Node { parent, next, previous, level, .. } = self.nodes.take(id);
        match previous {
            ROOT => self.nodes[parent].first_child = next,
            _ => self.nodes[previous].next = next,
        }
        match next {
            ROOT => self.nodes[parent].last_child = previous,
            _ => self.nodes[next].previous = previous,
        }
        self.edges.remove(self.edge(parent, level.as_str()), id);
        self.text_bytes -= level.heap_bytes();
        true
    }

    fn edge(&self, parent: u32, level: &str) -> u32 {
        self.hasher.edge(parent, self.hasher.level(level))
    }

    /// A trie in which nearly all hashes are equal, so that only comparing the text keeps topics apart.
    #[cfg(test)]
    pub(super) fn with_weak_hashes() -> Self {
        Self { hasher: TopicHasher::weak(), ..Self::new() }
    }

    /// Nodes other than the root: what pruning must bring back to nothing.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.nodes.len() - 1
    }
}

impl<M> Default for RetainedTrie<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Default for Node<M> {
    fn default() -> Self {
        Self {
            parent: ROOT,
            first_child: ROOT,
            last_child: ROOT,
            next: ROOT,
            previous: ROOT,
            level: LevelText::default(),
            message: None,
        }
    }
}

/// Whether the level at `depth` is a `#`, which it is only in the last place.
fn is_hash(levels: &[&str], depth: usize) -> bool {
    depth + 1 == levels.len() && levels.get(depth) == Some(&HASH)
}

/// Whether the level at `depth` is a wildcard of either kind.
fn is_wildcard(levels: &[&str], depth: usize) -> bool {
    levels.get(depth) == Some(&PLUS) || is_hash(levels, depth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_node_takes_forty_eight_bytes() {
        assert_eq!(size_of::<Node<Arc<u64>>>(), 48);
    }
}
