//! Retained messages of a cluster: what other nodes have to know of those that change here, and what this node gets of theirs.
//!
//! A change goes to every node that can be reached at once, as the message that it is. Beside that the control planes tell each
//! other which change of a topic is the latest, so a node that missed one learns of it and asks for the message; it comes
//! over the data lane like any other, and is handed to nobody. Each node keeps the later of two messages of a topic, and
//! remembers deletions for a while, so that all have the same in whatever order they learn of it.

use std::sync::Arc;

use crate::message::{Head, Message, MessageId, Millis, NEVER, Publication, Retained};
use crate::peer::{Forwarded, Overflow};
use crate::store::Change;

use super::Node;
use super::change_set::Named;
use super::events::{Event, Level};
use super::retained::{Known, RetainedStore};

/// A topic that has, or had, a retained message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RetainedTopic {
    /// Name space.
    pub mountpoint: Arc<str>,
    /// The topic.
    pub topic: Box<str>,
}

impl Named for RetainedTopic {
    fn name_len(&self) -> usize {
        self.mountpoint.len() + self.topic.len()
    }
}

/// Where a walk over all retained messages goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedCursor {
    /// Name space.
    pub mountpoint: Arc<str>,
    /// Place in its trie.
    pub position: u32,
}

impl Node {
    /// What is known of a topic.
    pub fn known_retained(&self, mountpoint: &str, topic: &str) -> Option<Known> {
        self.retained.read().known(mountpoint, topic)
    }

    /// A page of all retained messages, and where the next begins. The first begins at `None`.
    pub fn retained_page(
        &self,
        cursor: Option<RetainedCursor>,
        limit: usize,
    ) -> (Vec<(RetainedTopic, Known)>, Option<RetainedCursor>) {
        let retained = self.retained.read();
        let begin = || retained.mountpoint_after(None).map(|mountpoint| RetainedCursor { mountpoint, position: 0 });
        let Some(RetainedCursor { mountpoint, position }) = cursor.or_else(begin) else { return (Vec::new(), None) };
        let mut found = Vec::new();
        let next = retained.page(&mountpoint, position, limit, &mut |topic, message| {
            let Retained { message_id, expires_at, .. } = *message;
            let topic = RetainedTopic { mountpoint: mountpoint.clone(), topic: topic.into() };
            found.push((topic, Known { message_id, is_deleted: false, expires_at }));
        });
        let cursor = match next {
            Some(position) => Some(RetainedCursor { mountpoint, position }),
            None => retained
                .mountpoint_after(Some(&mountpoint))
                .map(|mountpoint| RetainedCursor { mountpoint, position: 0 }),
        };
        (found, cursor)
    }

    /// Takes out at most `limit` topics that were changed here, and whether more were than could be noted.
    pub fn retained_changes(&self, limit: usize) -> (Vec<RetainedTopic>, bool) {
        self.retained_topics.take(limit)
    }

    /// Forgets the retained message of a topic, on all nodes. False: there was none.
    pub fn delete_retained(&self, mountpoint: &str, topic: &str) -> bool {
        let now = self.clock.now();
        let mut retained = self.retained.write();
        let Some(known) = retained.known(mountpoint, topic).filter(|known| !known.is_deleted) else { return false };
        let message_id = self.name_later_than(now, known.message_id);
        self.forget_retained(&mut retained, mountpoint, topic);
        let mountpoint: Arc<str> = mountpoint.into();
        self.remember_deletion(&mut retained, (&mountpoint, topic), message_id, now);
        self.note_retained_change(&mountpoint, topic, message_id);
        true
    }

    /// The message of a topic was deleted on another node: forgets it here, unless there is a later one. Whether there was one.
    pub fn forget_retained_of(&self, mountpoint: &str, topic: &str, message_id: MessageId) -> bool {
        let mut retained = self.retained.write();
        let known = retained.known(mountpoint, topic);
        if known.is_some_and(|known| known.message_id.is_later_than(message_id)) {
            return false;
        }
        let mountpoint: Arc<str> = mountpoint.into();
        let was_there = self.forget_retained(&mut retained, &mountpoint, topic);
        self.remember_deletion(&mut retained, (&mountpoint, topic), message_id, self.clock.now());
        was_there
    }

    /// Sends retained messages to another node as what they are: handed to nobody there. How many topics were passed, those
    /// without a message included; the others have no room on the link now. `None`: it is no peer.
    pub fn send_retained(&self, peer: &str, topics: Vec<(String, String)>) -> Option<usize> {
        let port = self.remotes.port(peer)?;
        let link = port.peer_link()?;
        let now = self.clock.now();
        let mut passed = 0;
        for (mountpoint, topic) in topics {
            if let Some((retained, message)) = self.retained_message(&mountpoint, &topic, now) {
                let publication = message.publication();
                let head =
                    Head { retain: true, qos: retained.qos, expires_at: retained.expires_at, ..publication.head };
                let publication = Publication { head, span: publication.span };
                let forwarded = Forwarded {
                    is_retained_update: true,
                    retained_as: Some(retained.message_id),
                    ..Forwarded::routed(&mountpoint, publication, retained.message_id.stamp)
                };
                let mut outcome = Ok(None);
                link.append_all([forwarded], now, |result| outcome = result);
                match outcome {
                    Ok(_) => {}
                    Err(Overflow::TooLarge) => {
                        let message = "a retained message is too large for another node".to_owned();
                        let fields = vec![("node", peer.to_owned()), ("topic", topic.clone())];
                        self.tell_operator(Event::Log { level: Level::Warning, message, fields });
                    }
                    Err(_) => break,
                }
            }
            passed += 1;
        }
        link.flush();
        Some(passed)
    }

    /// The retained message of a topic, unless it has expired or cannot be read.
    fn retained_message(&self, mountpoint: &str, topic: &str, now: Millis) -> Option<(Retained, Message)> {
        let retained = {
            let all = self.retained.read();
            let retained = all.get(mountpoint, topic).filter(|retained| !retained.is_expired(now)).cloned()?;
            if let Some(store) = self.store().filter(|_| retained.slot != 0) {
                // Under the lock, so that its slot is not given to another message meanwhile.
                store.pin(std::iter::once(retained.slot));
            }
            retained
        };
        let message = self.load_retained(&retained);
        if let Some(store) = self.store().filter(|_| retained.slot != 0) {
            store.append_changes(0, &[Change::Done { slot: retained.slot, number: 0 }]);
        }
        Some((retained, message?))
    }

    /// The message itself, from the store where need be. The caller has its place in the store held.
    pub(super) fn load_retained(&self, retained: &Retained) -> Option<Message> {
        retained.message.clone().or_else(|| self.archive.get()?.load(retained.slot))
    }

    /// A name for something that happens here now, later than another.
    pub(super) fn name_later_than(&self, now: Millis, other: MessageId) -> MessageId {
        let stamp = self.remotes.stamp(self.clock.wall_ms(now));
        if stamp > other.stamp {
            return self.remotes.own_message_id(stamp);
        }
        // Another node's clock is ahead of this one's.
        self.remotes.observe(other.stamp);
        self.remotes.own_message_id(self.remotes.stamp(self.clock.wall_ms(now)))
    }

    /// Other nodes may have something older on its way here. Alone there is nobody.
    pub(super) fn remember_deletion(
        &self,
        retained: &mut RetainedStore,
        (mountpoint, topic): (&Arc<str>, &str),
        message_id: MessageId,
        now: Millis,
    ) {
        if self.remotes.has_any() {
            retained.note_deleted(mountpoint, topic, message_id, now);
        }
    }

    /// The control plane is to tell other nodes of a change, if it was made here.
    pub(super) fn note_retained_change(&self, mountpoint: &Arc<str>, topic: &str, message_id: MessageId) {
        if self.retained_topics.is_watched() && message_id.origin == self.remotes.own_origin() {
            self.retained_topics.note(RetainedTopic { mountpoint: mountpoint.clone(), topic: topic.into() });
        }
    }

    /// When something expires as Unix time in ms; `None`: never.
    pub fn expiry_unix_ms(&self, expires_at: Millis) -> Option<u64> {
        (expires_at != NEVER).then(|| self.clock.wall_ms(expires_at))
    }
}
