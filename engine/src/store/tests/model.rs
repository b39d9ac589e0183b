//! What the store should hold, kept in plain collections by a broker that is as simple as can be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::super::simulated::Random;
use super::super::*;
use super::{head, session, span};
use crate::message::{MessageId, NEVER, Publication};
use crate::routing::SubscriptionOptions;

/// An entry of a queue: what a test can tell of it after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryImage {
    pub content: u64,
    pub qos: u8,
    pub retain: bool,
    pub identifiers: SmallVec<[u32; 1]>,
    pub state: EntryState,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub image: EntryImage,
    pub slot: Slot,
    pub segment: SegmentNo,
}

#[derive(Clone, Debug)]
pub struct Queue {
    pub session: SessionRecord,
    pub session_segment: SegmentNo,
    pub subscriptions: BTreeMap<Box<str>, SubscriptionOptions>,
    /// Packet identifiers, each with the stamp of its message.
    pub received: BTreeMap<u16, u64>,
    /// In order of publication.
    pub entries: Vec<Entry>,
    pub next_number: u64,
}

/// What can be seen of a queue.
type QueueImage = (SessionRecord, BTreeMap<Box<str>, SubscriptionOptions>, BTreeMap<u16, u64>, Vec<EntryImage>);

/// All that can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Image {
    pub queues: BTreeMap<QueueId, QueueImage>,
    pub retained: BTreeMap<(String, String), u64>,
    pub metadata: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The broker.
#[derive(Default, Debug)]
pub struct Model {
    pub queues: BTreeMap<QueueId, Queue>,
    pub retained: BTreeMap<(String, String), (u64, Slot)>,
    pub metadata: BTreeMap<Vec<u8>, Vec<u8>>,
    pub next_content: u64,
}

impl Model {
    pub fn image(&self) -> Image {
        let queues = self.queues.iter().map(|(&id, queue)| {
            let mut entries: Vec<EntryImage> = queue.entries.iter().map(|entry| entry.image.clone()).collect();
            entries.sort_by_key(order);
            (id, (queue.session.clone(), queue.subscriptions.clone(), queue.received.clone(), entries))
        });
        Image {
            queues: queues.collect(),
            retained: self.retained.iter().map(|(key, &(content, _))| (key.clone(), content)).collect(),
            metadata: self.metadata.clone(),
        }
    }

    /// Bodies and references that the store should have.
    pub fn bodies(&self) -> (usize, u64) {
        let entries = self.queues.values().flat_map(|queue| queue.entries.iter().map(|entry| entry.slot));
        let slots: Vec<Slot> =
            entries.chain(self.retained.values().map(|&(_, slot)| slot)).filter(|&slot| slot != 0).collect();
        (slots.iter().collect::<BTreeSet<_>>().len(), slots.len() as u64)
    }

    /// The sessions that came back, without a look at the bodies.
    pub fn recovered_loosely(recovered: Recovered) -> Self {
        let mut model = Self::default();
        model.take_sessions(recovered.sessions, |_, _| 0);
        model
    }

    /// What came back. Every body is read.
    pub fn recovered(store: &Store, recovered: Recovered, next_content: u64) -> Self {
        let mut model = Self { next_content, ..Self::default() };
        model.take_sessions(recovered.sessions, |slot, size| content(store, slot, size));
        for (mountpoint, trie) in &recovered.retained {
            trie.matching("#", &mut |topic, retained| {
                let content = content(store, retained.slot, 0);
                model.retained.insert((mountpoint.to_string(), topic.into()), (content, retained.slot));
                true
            });
        }
        model.metadata = store.scan_metadata(b"", None, usize::MAX).unwrap().into_iter().collect();
        assert_eq!(recovered.report.missing, 0, "every entry has its message");
        model
    }

    fn take_sessions(&mut self, sessions: Vec<RecoveredSession>, content: impl Fn(Slot, u32) -> u64) {
        for session in sessions {
            let mut entries = Vec::new();
            let mut next_number = 1;
            for entry in session.waiting.into_iter().chain(session.window) {
                let content = if entry.place.slot == 0 { 0 } else { content(entry.place.slot, entry.size) };
                if let EntryState::Sent(number) | EntryState::Released(number) = entry.state {
                    next_number = next_number.max(number + 1);
                }
                let RecoveredEntry { qos, retain, identifiers, state, .. } = entry;
                let image = EntryImage { content, qos, retain, identifiers, state };
                entries.push(Entry { image, slot: entry.place.slot, segment: entry.place.segment });
            }
            // In order of publication again, whatever is in the window.
            entries.sort_by_key(|entry| entry.image.content);
            let queue = Queue {
                session: session.session,
                session_segment: session.segment,
                subscriptions: session.subscriptions.into_iter().collect(),
                received: session.received.into_iter().map(|id| (id.packet_id, id.stamp)).collect(),
                entries,
                next_number: next_number + 1_000_000,
            };
            assert!(self.queues.insert(session.queue, queue).is_none());
        }
    }

    /// Takes over a queue that holds one message, if the place has a slot.
    pub fn adopt(&mut self, id: QueueId, session: SessionRecord, place: Place) {
        let session_segment = place.segment;
        let (subscriptions, received, entries) = Default::default();
        let queue = Queue { session, session_segment, subscriptions, received, entries, next_number: 1 };
        self.queues.insert(id, queue);
        if place.slot != 0 {
            self.adopt_entry(id, place);
        }
    }

    /// Takes over an entry that waits.
    pub fn adopt_entry(&mut self, id: QueueId, place: Place) {
        let (identifiers, state) = (SmallVec::new(), EntryState::Waiting);
        let image = EntryImage { content: 0, qos: 1, retain: false, identifiers, state };
        let entry = Entry { image, slot: place.slot, segment: place.segment };
        self.queues.get_mut(&id).unwrap().entries.push(entry);
    }

    /// Publishes a message of its own to random queues.
    pub fn publish(&mut self, store: &Store, random: &mut Random) -> Result<(), Refusal> {
        self.next_content += 1;
        let content = self.next_content;
        let topic = format!("t/{}", random.below(6));
        let mountpoint: Arc<str> = if random.below(4) == 0 { "m".into() } else { "".into() };
        let (bytes, layout) = span(&topic, &content_payload(content, random.below(3_000)));
        let mut publication = Publication { head: head(layout), span: &bytes };
        if random.below(3) == 0 {
            publication.head.expires_at = 1_000_000 + content;
        }
        let ids: Vec<QueueId> = self.queues.keys().copied().collect();
        let count = if ids.is_empty() { 0 } else { random.below(4) };
        let chosen: Vec<QueueId> = (0..count).map(|_| ids[random.below(ids.len())]).collect();
        let identifiers = [7, content as u32];
        let targets: Vec<Target<'_>> = chosen
            .iter()
            .enumerate()
            .map(|(index, &queue)| Target {
                queue,
                qos: 1 + (index % 2) as u8,
                retain: index == 2,
                identifiers: &identifiers[..random.below(3)],
            })
            .collect();
        let is_retained = random.below(4) == 0;
        let received = (!ids.is_empty() && random.below(4) == 0)
            .then(|| (ids[random.below(ids.len())], 1 + random.below(20) as u16));
        let message_id = MessageId { origin: 1, stamp: random.below(3) as u64 };
        let mut batch = [NewMessage {
            publication,
            message_id,
            retained_in: is_retained.then_some(&mountpoint),
            received,
            targets: &targets,
            place: Place::default(),
        }];
        store.append_messages(&mut batch)?;
        let Place { slot, segment } = batch[0].place;
        for target in &targets {
            let image = EntryImage {
                content,
                qos: target.qos,
                retain: target.retain,
                identifiers: target.identifiers.into(),
                state: EntryState::Waiting,
            };
            self.queues.get_mut(&target.queue).unwrap().entries.push(Entry { image, slot, segment });
        }
        if let Some((queue, id)) = received {
            self.queues.get_mut(&queue).unwrap().received.insert(id, message_id.stamp);
        }
        if is_retained {
            let replaced = self.retained.insert((mountpoint.to_string(), topic), (content, slot));
            if let Some((_, slot)) = replaced {
                store.drop_retained(slot);
            }
        }
        if random.below(2) == 0 && slot != 0 {
            store.offer(slot, &crate::message::Message::keep(&batch[0].publication));
        }
        Ok(())
    }

    /// Lets something happen to a random queue.
    pub fn change_queue(&mut self, store: &Store, random: &mut Random) {
        let ids: Vec<QueueId> = self.queues.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[random.below(ids.len())];
        let retained: Vec<(u64, Slot)> = self.retained.values().copied().collect();
        let queue = self.queues.get_mut(&id).unwrap();
        let mut changes = Vec::new();
        let mut queued = None;
        match random.below(9) {
            0..=1 => changes.extend(queue.send()),
            2..=3 => changes.extend(queue.progress(random)),
            4 => changes.extend(queue.drop_waiting()),
            5 => {
                let filter: Box<str> = format!("f/{}", random.below(5)).into();
                if random.below(3) == 0 {
                    queue.subscriptions.remove(&filter);
                    changes.push(Change::Unsubscribed { filter });
                } else {
                    let options = SubscriptionOptions {
                        qos: random.below(3) as u8,
                        no_local: random.below(2) == 0,
                        retain_as_published: random.below(2) == 0,
                        identifier: random.below(300) as u32,
                    };
                    queue.subscriptions.insert(filter.clone(), options);
                    changes.push(Change::Subscribed { filter, options });
                }
            }
            6 => {
                let number = 1 + random.below(20) as u16;
                if queue.received.remove(&number).is_some() {
                    changes.push(Change::Forgotten(number));
                } else {
                    let id = ReceivedId { packet_id: number, stamp: random.below(3) as u64 };
                    queue.received.insert(number, id.stamp);
                    changes.push(Change::Received(id));
                }
            }
            7 if !retained.is_empty() => {
                let (content, slot) = retained[random.below(retained.len())];
                // As `Change::Queued` demands.
                if !queue.entries.iter().any(|entry| entry.slot == slot) {
                    let identifiers: SmallVec<[u32; 1]> = SmallVec::from_slice(&[9]);
                    let state = EntryState::Waiting;
                    let image = EntryImage { content, qos: 2, retain: true, identifiers, state };
                    store.pin(std::iter::once(slot));
                    changes.push(Change::Queued { slot, qos: 2, retain: true, identifiers: image.identifiers.clone() });
                    queued = Some((image, slot));
                }
            }
            _ => {
                queue.session.expires_at = random.draw();
                queue.session.is_online = !queue.session.is_online;
                queue.session_segment = queue.session_segment.min(store.append_session(id, &queue.session).segment);
                return;
            }
        }
        let appended = store.append_changes(id, &changes);
        if let Some((image, slot)) = queued {
            queue.entries.push(Entry { image, slot, segment: appended.segment });
        }
    }

    pub fn begin_session(&mut self, store: &Store) {
        let id = store.new_queue();
        let session = session(&format!("client {id}"));
        let session_segment = store.append_session(id, &session).segment;
        let (subscriptions, received, entries) = Default::default();
        let queue = Queue { session, session_segment, subscriptions, received, entries, next_number: 1 };
        assert!(self.queues.insert(id, queue).is_none());
    }

    pub fn end_session(&mut self, store: &Store, random: &mut Random) {
        let ids: Vec<QueueId> = self.queues.keys().copied().collect();
        if ids.len() > 2 {
            let id = ids[random.below(ids.len())];
            let queue = self.queues.remove(&id).unwrap();
            store.end_queue(id, &mut queue.entries.iter().map(|entry| entry.slot).filter(|&slot| slot != 0));
        }
    }

    pub fn unretain(&mut self, store: &Store) {
        if let Some(((mountpoint, topic), (_, slot))) = self.retained.pop_first() {
            store.unretain(&mountpoint, &topic, slot);
        }
    }

    pub fn change_metadata(&mut self, store: &Store, random: &mut Random) -> Result<(), Refusal> {
        let keys: Vec<Vec<u8>> = (0..=random.below(4)).map(|_| vec![b'k', random.below(20) as u8]).collect();
        let values: Vec<Option<Vec<u8>>> =
            keys.iter().map(|_| (random.below(3) > 0).then(|| vec![random.draw() as u8; random.below(300)])).collect();
        let changes: Vec<(&[u8], Option<&[u8]>)> =
            keys.iter().zip(&values).map(|(key, value)| (&key[..], value.as_deref())).collect();
        store.write_metadata(&changes)?;
        for (key, value) in keys.into_iter().zip(values) {
            match value {
                Some(value) => _ = self.metadata.insert(key, value),
                None => _ = self.metadata.remove(&key),
            }
        }
        Ok(())
    }
}

impl Queue {
    fn send(&mut self) -> Option<Change> {
        let number = self.next_number;
        let entry = self.entries.iter_mut().find(|entry| entry.image.state == EntryState::Waiting)?;
        self.next_number += 1;
        entry.image.state = EntryState::Sent(number);
        Some(Change::Sent { slot: entry.slot, number })
    }

    fn progress(&mut self, random: &mut Random) -> Option<Change> {
        let index = self.entries.iter().position(|entry| entry.image.state != EntryState::Waiting)?;
        let entry = &mut self.entries[index];
        match entry.image.state {
            EntryState::Sent(number) if random.below(2) == 0 => {
                let slot = std::mem::take(&mut entry.slot);
                entry.image.state = EntryState::Released(number);
                entry.image.content = 0;
                Some(Change::Released { slot, number })
            }
            EntryState::Sent(number) => {
                let slot = self.entries.remove(index).slot;
                Some(Change::Done { slot, number })
            }
            EntryState::Released(number) => {
                self.entries.remove(index);
                Some(Change::Completed { number })
            }
            EntryState::Waiting => None,
        }
    }

    fn drop_waiting(&mut self) -> Option<Change> {
        let index = self.entries.iter().position(|entry| entry.image.state == EntryState::Waiting)?;
        let slot = self.entries.remove(index).slot;
        Some(Change::Done { slot, number: 0 })
    }

    /// Appends all that is in old segments again, as [`Owner::rewrite`] demands.
    fn rewrite(&mut self, store: &Store, id: QueueId, up_to: SegmentNo) -> SegmentNo {
        let mut lowest = SegmentNo::MAX;
        let old: BTreeSet<Slot> =
            self.entries.iter().filter(|entry| entry.segment <= up_to).map(|entry| entry.slot).collect();
        let is_named = |entry: &Entry| entry.segment <= up_to || (entry.slot != 0 && old.contains(&entry.slot));
        let named: Vec<&Entry> = self.entries.iter().filter(|entry| is_named(entry)).collect();
        let snapshots: Vec<EntrySnapshot<'_>> = named
            .iter()
            .map(|entry| EntrySnapshot {
                slot: entry.slot,
                qos: entry.image.qos,
                retain: entry.image.retain,
                identifiers: &entry.image.identifiers,
                state: entry.image.state,
            })
            .collect();
        if !snapshots.is_empty() {
            let segment = store.append_entries(id, &snapshots).segment;
            for entry in &mut self.entries {
                if is_named(entry) {
                    entry.segment = segment;
                }
            }
        }
        // Simple as it is, it does not know in which segments these are.
        let received: Vec<ReceivedId> =
            self.received.iter().map(|(&packet_id, &stamp)| ReceivedId { packet_id, stamp }).collect();
        if !received.is_empty() {
            lowest = lowest.min(store.append_received(id, &received).segment);
        }
        let mut subscriptions = self.subscriptions.iter().map(|(filter, options)| (&**filter, options));
        lowest = lowest.min(store.append_subscriptions(id, &mut subscriptions).segment);
        self.session_segment = store.append_session(id, &self.session).segment;
        let entries = self.entries.iter().map(|entry| entry.segment).min().unwrap_or(SegmentNo::MAX);
        lowest.min(self.session_segment).min(entries)
    }
}

impl Owner for Mutex<Model> {
    fn settle(&self) {
        drop(self.lock());
    }

    fn rewrite(&self, store: &Store, queue: QueueId, up_to: SegmentNo) -> Option<SegmentNo> {
        Some(self.lock().queues.get_mut(&queue)?.rewrite(store, queue, up_to))
    }
}

/// The order in which images list entries: what waits, then the window.
fn order(entry: &EntryImage) -> (u64, u64) {
    match entry.state {
        EntryState::Waiting => (0, entry.content),
        EntryState::Sent(number) | EntryState::Released(number) => (1, number),
    }
}

fn content_payload(content: u64, size: usize) -> Vec<u8> {
    let mut payload = vec![content as u8; 8 + size];
    payload[..8].copy_from_slice(&content.to_le_bytes());
    payload
}

/// Which message is in a slot. All of its bytes are looked at.
fn content(store: &Store, slot: Slot, size: u32) -> u64 {
    let message = store.load(slot).unwrap_or_else(|error| panic!("slot {slot}: {error}"));
    let payload = message.publication().payload();
    let content = u64::from_le_bytes(payload[..8].try_into().unwrap());
    assert_eq!(payload, content_payload(content, payload.len() - 8));
    assert!(size == 0 || size as usize == message.size(), "the size that was told is that of the message");
    let expires_at = message.publication().head.expires_at;
    assert!(expires_at == NEVER || expires_at == 1_000_000 + content, "expiry is on the same clock as before");
    content
}
