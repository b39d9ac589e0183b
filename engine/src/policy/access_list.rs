//! A compiled `vmq.acl`: who may publish and subscribe what.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::codec::text::parse_shared_filter;

use super::rules::{Asker, Rules};
use super::{Remarks, access_file};

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allows {
    Publish,
    Subscribe,
    Both,
}

#[derive(Debug, Default)]
pub(super) struct RuleSet {
    publish: Rules,
    subscribe: Rules,
}

impl RuleSet {
    pub(super) fn add(&mut self, allows: Allows, filter: &str, is_pattern: bool) {
        if allows != Allows::Subscribe {
            self.publish.add(filter, is_pattern);
        }
        if allows != Allows::Publish {
            self.subscribe.add(filter, is_pattern);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Compiled {
    pub(super) everybody: RuleSet,
    pub(super) users: HashMap<Box<str>, RuleSet, ahash::RandomState>,
    pub(super) count: usize,
}

static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);

/// Rules that only allow: a request that no rule matches is not allowed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessList {
    compiled: Arc<Compiled>,
    generation: u64,
}

impl AccessList {
    /// Reads a `vmq.acl`. Lines that cannot be used are skipped and told. `topic_max_depth`: 0 for no limit.
    pub fn parse(text: &[u8], topic_max_depth: usize) -> (Self, Vec<String>) {
        let mut remarks = Remarks::default();
        let compiled = access_file::compile(text, topic_max_depth, &mut remarks);
        let generation = NEXT_GENERATION.fetch_add(1, Ordering::Relaxed);
        (Self { compiled: Arc::new(compiled), generation }, remarks.into_sentences())
    }

    /// How many rules it has.
    pub fn rules(&self) -> usize {
        self.compiled.count
    }

    /// A number that no other list has, for those who remember its decisions.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a client may publish to a topic.
    pub fn may_publish<'a>(&self, who: impl Into<Asker<'a>>, topic: &str) -> bool {
        let who = who.into();
        let Compiled { everybody, users, .. } = &*self.compiled;
        let own = who.username.and_then(|username| users.get(username));
        everybody.publish.match_topic(&who, topic) || own.is_some_and(|own| own.publish.match_topic(&who, topic))
    }

    /// Whether a client may subscribe to a filter. A shared subscription is judged by the filter behind its group; a rule
    /// that names the whole text, group and all, counts as well.
    pub fn may_subscribe<'a>(&self, who: impl Into<Asker<'a>>, filter: &str) -> bool {
        let who = who.into();
        match parse_shared_filter(filter) {
            Ok(Some((_, shared))) => self.covers(&who, shared) || self.covers(&who, filter),
            Ok(None) => self.covers(&who, filter),
            Err(_) => false,
        }
    }

    fn covers(&self, who: &Asker<'_>, filter: &str) -> bool {
        let Compiled { everybody, users, .. } = &*self.compiled;
        let own = who.username.and_then(|username| users.get(username));
        everybody.subscribe.cover_filter(who, filter) || own.is_some_and(|own| own.subscribe.cover_filter(who, filter))
    }
}
