//! Allowed filters, compiled: an exact table for those without wildcards, a tree for the others.
//!
//! Every node of the tree is reached by one path only, so a look-up visits no node twice, whatever the topic.

use std::collections::{HashMap, HashSet};

use crate::hooks::Identity;

const NOWHERE: u32 = 0;
const ROOT: usize = 0;

/// Who asks, as far as `%m`, `%c` and `%u` can stand for it.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// `%m`.
    pub mountpoint: &'a str,
    /// `%c`.
    pub client_id: &'a str,
    /// `%u`.
    pub username: Option<&'a str>,
}

impl<'a> From<&'a Identity> for Asker<'a> {
    fn from(identity: &'a Identity) -> Self {
        Self {
            mountpoint: &identity.mountpoint,
            client_id: &identity.client_id,
            username: identity.username.as_deref(),
        }
    }
}

/// Children of a node are addressed by 32 bits, 0 for none, since the root is nobody's child.
#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, u32, ahash::RandomState>,
    plus: u32,
    mountpoint: u32,
    client_id: u32,
    username: u32,
    /// A rule ends here.
    ends: bool,
    /// A rule ends here with `#`.
    has_rest: bool,
}

/// A set of filters that somebody may use.
#[derive(Debug)]
pub struct Rules {
    exact: HashSet<Box<str>, ahash::RandomState>,
    nodes: Vec<Node>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { exact: HashSet::default(), nodes: vec![Node::default()] }
    }
}

impl Rules {
    /// Adds a valid filter. `is_pattern`: whole levels `%m`, `%c` and `%u` stand for the one who asks.
    pub fn add(&mut self, filter: &str, is_pattern: bool) {
        let is_plain = |level: &str| level != "+" && level != "#" && !(is_pattern && is_placeholder(level));
        if filter.split('/').all(is_plain) {
            self.exact.insert(filter.into());
            return;
        }
        let mut at = ROOT;
        for level in filter.split('/') {
            if level == "#" {
                self.nodes[at].has_rest = true;
                return;
            }
            at = self.child_for(at, level, is_pattern);
        }
        self.nodes[at].ends = true;
    }

    fn child_for(&mut self, at: usize, level: &str, is_pattern: bool) -> usize {
        let fresh = self.nodes.len() as u32;
        let node = &mut self.nodes[at];
        let child = match level {
            "+" => &mut node.plus,
            "%m" if is_pattern => &mut node.mountpoint,
            "%c" if is_pattern => &mut node.client_id,
            "%u" if is_pattern => &mut node.username,
            _ => node.literal.entry(level.into()).or_insert(NOWHERE),
        };
        if *child != NOWHERE {
            return *child as usize;
        }
        *child = fresh;
        self.nodes.push(Node::default());
        fresh as usize
    }

    /// Whether some filter matches a topic.
    pub fn match_topic(&self, who: &Asker<'_>, topic: &str) -> bool {
        self.exact.contains(topic) || self.matches_from(ROOT, who, Some(topic))
    }

    /// `rest`: the levels that are left, `None` when the topic has ended.
    fn matches_from(&self, at: usize, who: &Asker<'_>, rest: Option<&str>) -> bool {
        let node = &self.nodes[at];
        // `a/#` matches `a` as well.
        if node.has_rest {
            return true;
        }
        let Some(rest) = rest else { return node.ends };
        let (level, rest) = split(rest);
        next(node, who, level).any(|child| self.matches_from(child, who, rest))
    }

    /// Whether some filter covers another one: matches every topic that the other matches.
    pub fn cover_filter(&self, who: &Asker<'_>, filter: &str) -> bool {
        self.exact.contains(filter) || self.covers_from(ROOT, who, Some(filter))
    }

    fn covers_from(&self, at: usize, who: &Asker<'_>, rest: Option<&str>) -> bool {
        let node = &self.nodes[at];
        if node.has_rest {
            return true;
        }
        let Some(rest) = rest else { return node.ends };
        let (level, rest) = split(rest);
        match level {
            "#" => false,
            "+" => node.plus != NOWHERE && self.covers_from(node.plus as usize, who, rest),
            _ => next(node, who, level).any(|child| self.covers_from(child, who, rest)),
        }
    }
}

/// The children that a literal level leads to.
fn next(node: &Node, who: &Asker<'_>, level: &str) -> impl Iterator<Item = usize> + use<> {
    let if_same = |child: u32, name: Option<&str>| if name == Some(level) { child } else { NOWHERE };
    let children = [
        node.literal.get(level).copied().unwrap_or(NOWHERE),
        node.plus,
        if_same(node.mountpoint, Some(who.mountpoint)),
        if_same(node.client_id, Some(who.client_id)),
        if_same(node.username, who.username),
    ];
    children.into_iter().filter(|child| *child != NOWHERE).map(|child| child as usize)
}

fn is_placeholder(level: &str) -> bool {
    matches!(level, "%m" | "%c" | "%u")
}

fn split(levels: &str) -> (&str, Option<&str>) {
    match levels.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (levels, None),
    }
}
