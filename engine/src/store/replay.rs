//! Replay: the state that the log describes, record by record.
//!
//! Cleaning deletes the beginning of the log, so a replay may start in the middle of a queue's history. What it does not
//! know is written again further on, before the segment it was in went; so a change of something unknown is passed over,
//! and a body that only a copy gives is kept until the end, as an entry that refers to it may still come.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use super::append::{message_size, to_millis};
use super::bytes::Malformed;
use super::log::{Log, LogSegment, ValuePlace};
use super::metadata::live_bytes;
use super::queue_record::{self, ChangeRecord, Delivery, EntryRecord};
use super::record::{self, Kind, MessageRecord, Raw};
use super::session_record::read_session;
use super::slots::{Body, Slots};
use super::types::{
    EntryState, MessageId, NO_SEGMENT, Place, QueueId, ReceivedId, RecoveredEntry, RecoveredSession, Retained,
    STAMPS_KEPT_MAX, SegmentNo, SessionRecord, Slot,
};
use crate::routing::{RetainedTrie, SubscriptionOptions};

/// An entry of a queue and its place in the order: sequence number, and which of several with the same.
type EntryKey = (u64, u32);

type RetainedTries = HashMap<Arc<str>, RetainedTrie<Retained>, ahash::RandomState>;

struct Entry {
    slot: Slot,
    segment: SegmentNo,
    qos: u8,
    retain: bool,
    identifiers: SmallVec<[u32; 1]>,
    /// Number in the outgoing window, 0 for one that waits.
    number: u64,
}

#[derive(Default)]
struct Queue {
    session: Option<(SessionRecord, SegmentNo)>,
    subscriptions: BTreeMap<Box<str>, (SubscriptionOptions, SegmentNo)>,
    /// By packet identifier: the stamp of its message, and where it was written.
    received: BTreeMap<u16, (u64, SegmentNo)>,
    entries: BTreeMap<EntryKey, Entry>,
    numbers: HashMap<u64, EntryKey, ahash::RandomState>,
    released: BTreeMap<u64, Entry>,
}

/// The bodies, while the log is read.
#[derive(Default)]
struct Bodies {
    slots: Slots,
    by_seq: HashMap<u64, Slot, ahash::RandomState>,
}

/// The state so far.
pub(super) struct Replay {
    wall_base_ms: u64,
    bodies: Bodies,
    queues: HashMap<QueueId, Queue, ahash::RandomState>,
    retained: RetainedTries,
    stamps: HashMap<u32, VecDeque<u64>>,
    metadata: BTreeMap<Box<[u8]>, ValuePlace>,
    seq_max: u64,
    queue_max: QueueId,
}

/// What comes out.
pub(super) struct Replayed {
    pub sessions: Vec<RecoveredSession>,
    pub retained: RetainedTries,
    /// Of QoS 2 messages from other nodes, by the origin.
    pub stamps: HashMap<u32, VecDeque<u64>>,
    /// Entries without a body.
    pub missing: u64,
    slots: Slots,
    metadata: BTreeMap<Box<[u8]>, ValuePlace>,
    seq_max: u64,
    queue_max: QueueId,
}

impl Bodies {
    /// The slot of a body, which may be still to come.
    fn slot(&mut self, seq: u64) -> Slot {
        let slots = &mut self.slots;
        *self.by_seq.entry(seq).or_insert_with(|| slots.add(Body { seq, is_copy: true, ..Body::default() }))
    }

    fn release(&mut self, slot: Slot) {
        let Some(body) = self.slots.get(slot) else { return };
        let (seq, is_certain) = (body.seq, !body.is_copy || body.len == 0);
        if body.refs > 1 || is_certain {
            if self.slots.release(slot).is_some() {
                self.by_seq.remove(&seq);
            }
        } else {
            self.slots.unrefer(slot);
        }
    }

    /// Notes where the record of a body is.
    fn place(&mut self, message: &MessageRecord<'_>, segment: SegmentNo, offset: u32, len: u32) -> Slot {
        let size = message_size(message.publication.span.len());
        let seq = message.seq;
        if let Some(&slot) = self.by_seq.get(&seq)
            && let Some(body) = self.slots.get_mut(slot)
        {
            (body.segment, body.offset, body.len, body.size) = (segment, offset, len, size);
            body.stored_at = message.stored_at;
            return slot;
        }
        let is_copy = message.is_copy;
        let slot = self.slots.add(Body {
            seq,
            segment,
            offset,
            len,
            size,
            stored_at: message.stored_at,
            is_copy,
            ..Body::default()
        });
        self.by_seq.insert(seq, slot);
        slot
    }
}

impl Replay {
    /// Nothing, on a clock that is 0 at a Unix time.
    pub fn new(wall_base_ms: u64) -> Self {
        Self {
            wall_base_ms,
            bodies: Bodies::default(),
            queues: HashMap::default(),
            retained: HashMap::default(),
            stamps: HashMap::default(),
            metadata: BTreeMap::new(),
            seq_max: 0,
            queue_max: 0,
        }
    }

    /// Applies the next record.
    pub fn apply(&mut self, raw: Raw<'_>, segment: SegmentNo, offset: u64) -> Result<(), Malformed> {
        let (offset, len) = (u32::try_from(offset).map_err(|_| Malformed)?, raw.len() as u32);
        match raw.kind {
            Kind::Message => self.message(&record::read_message(raw.payload)?, segment, offset, len)?,
            Kind::Changes => {
                let (queue, changes) = queue_record::read_changes(raw.payload)?;
                let (queue, bodies) = self.queue(queue);
                for change in changes {
                    queue.change(bodies, change?, segment);
                }
            }
            Kind::Entries => {
                let (queue, entries) = queue_record::read_entries(raw.payload)?;
                let (queue, bodies) = self.queue(queue);
                queue.replace_entries(bodies, entries, segment);
            }
            Kind::Session => {
                let (queue, session) = read_session(raw.payload)?;
                self.queue(queue).0.session = Some((session, segment));
            }
            Kind::Ended => {
                let queue = record::read_ended(raw.payload)?;
                self.queue_max = self.queue_max.max(queue);
                if let Some(queue) = self.queues.remove(&queue) {
                    queue.release_all(&mut self.bodies);
                }
            }
            Kind::Unretained => {
                let (mountpoint, topic) = record::read_unretained(raw.payload)?;
                self.unretain(mountpoint, topic);
            }
            Kind::Metadata => self.change_metadata(raw.payload, segment, offset, len)?,
            Kind::Synced => _ = record::read_synced(raw.payload)?,
            Kind::Started => _ = record::read_started(raw.payload)?,
            Kind::Oldest => _ = record::read_oldest(raw.payload)?,
            Kind::Lost => {}
        }
        Ok(())
    }

    fn queue(&mut self, queue: QueueId) -> (&mut Queue, &mut Bodies) {
        self.queue_max = self.queue_max.max(queue);
        (self.queues.entry(queue).or_default(), &mut self.bodies)
    }

    fn message(
        &mut self,
        message: &MessageRecord<'_>,
        segment: SegmentNo,
        offset: u32,
        len: u32,
    ) -> Result<(), Malformed> {
        self.seq_max = self.seq_max.max(message.seq);
        let slot = self.bodies.place(message, segment, offset, len);
        // Held until all who refer to it have been added.
        self.bodies.slots.refer(slot);
        for target in message.targets.clone() {
            let (queue, delivery) = target?;
            let (queue, bodies) = self.queue(queue);
            queue.add(bodies, (message.seq, slot), delivery, 0, segment);
        }
        if let Some((queue, id)) = message.received {
            self.queue(queue).0.received.insert(id, (message.message_id.stamp, segment));
        } else if message.publication.head.qos == 2 {
            self.note_stamp(message.message_id);
        }
        if let Some(mountpoint) = message.retained_in {
            self.retain(mountpoint, message, slot);
        }
        self.bodies.release(slot);
        Ok(())
    }

    fn note_stamp(&mut self, message_id: MessageId) {
        if !message_id.is_some() {
            return;
        }
        let stamps = self.stamps.entry(message_id.origin).or_default();
        if stamps.len() >= STAMPS_KEPT_MAX {
            stamps.pop_front();
        }
        stamps.push_back(message_id.stamp);
    }

    fn retain(&mut self, mountpoint: &str, message: &MessageRecord<'_>, slot: Slot) {
        let message_id = message.message_id;
        let topic = message.publication.topic_text();
        let expires_at = to_millis(message.publication.head.expires_at, self.wall_base_ms);
        if !self.retained.contains_key(mountpoint) {
            self.retained.insert(mountpoint.into(), RetainedTrie::new());
        }
        let Some(trie) = self.retained.get_mut(mountpoint) else { return };
        // A copy of one that has been replaced may come behind what replaced it.
        if trie.get(topic).is_some_and(|there| self.bodies.slots.seq(there.slot) >= message.seq) {
            return;
        }
        let (qos, size) = (message.publication.head.qos, message_size(message.publication.span.len()));
        let replaced = trie.set(topic, Retained { message: None, expires_at, slot, size, qos, message_id });
        self.bodies.slots.refer(slot);
        self.set_retained(slot, true);
        if let Some(replaced) = replaced {
            self.set_retained(replaced.slot, false);
            self.bodies.release(replaced.slot);
        }
    }

    fn unretain(&mut self, mountpoint: &str, topic: &str) {
        let Some(trie) = self.retained.get_mut(mountpoint) else { return };
        let removed = trie.remove(topic);
        if trie.is_empty() {
            self.retained.remove(mountpoint);
        }
        if let Some(removed) = removed {
            self.set_retained(removed.slot, false);
            self.bodies.release(removed.slot);
        }
    }

    fn set_retained(&mut self, slot: Slot, is_retained: bool) {
        if let Some(body) = self.bodies.slots.get_mut(slot) {
            body.is_retained = is_retained;
        }
    }

    fn change_metadata(&mut self, payload: &[u8], segment: SegmentNo, offset: u32, len: u32) -> Result<(), Malformed> {
        for change in record::read_metadata(payload) {
            let (key, value) = change?;
            let Some((value, value_offset)) = value else {
                self.metadata.remove(key);
                continue;
            };
            let (value_offset, value_len) = (value_offset as u32, value.len() as u32);
            let live = live_bytes(key, value.len());
            self.metadata.insert(key.into(), ValuePlace { segment, offset, len, value_offset, value_len, live });
        }
        Ok(())
    }

    /// Ends it: what belongs to no session goes, and what has no body.
    pub fn finish(mut self) -> Replayed {
        let mut sessions = Vec::new();
        let mut missing = 0;
        for (id, mut queue) in std::mem::take(&mut self.queues) {
            let Some((session, meta_segment)) = queue.session.take() else {
                queue.release_all(&mut self.bodies);
                continue;
            };
            missing += queue.drop_bodiless(&mut self.bodies);
            sessions.push(queue.recovered(id, session, meta_segment, &self.bodies.slots));
        }
        sessions.sort_by_key(|session| session.queue);
        let mut slots = self.bodies.slots;
        let unused: Vec<Slot> = slots.iter().filter(|(_, body)| body.refs == 0).map(|(slot, _)| slot).collect();
        for slot in unused {
            slots.free(slot);
        }
        let Self { retained, stamps, metadata, seq_max, queue_max, .. } = self;
        Replayed { sessions, retained, stamps, missing, slots, metadata, seq_max, queue_max }
    }
}

impl Queue {
    fn add(
        &mut self,
        bodies: &mut Bodies,
        (seq, slot): (u64, Slot),
        delivery: Delivery,
        number: u64,
        segment: SegmentNo,
    ) {
        let last = self.entries.range((seq, 0)..=(seq, u32::MAX)).next_back();
        let key = (seq, last.map_or(0, |((_, index), _)| index + 1));
        bodies.slots.refer(slot);
        let Delivery { qos, retain, identifiers } = delivery;
        self.entries.insert(key, Entry { slot, segment, qos, retain, identifiers, number });
        if number != 0 {
            self.numbers.insert(number, key);
        }
    }

    /// The first entry of a body that waits.
    fn first_waiting(&self, seq: u64) -> Option<EntryKey> {
        let mut entries = self.entries.range((seq, 0)..=(seq, u32::MAX));
        entries.find(|(_, entry)| entry.number == 0).map(|(&key, _)| key)
    }

    fn change(&mut self, bodies: &mut Bodies, change: ChangeRecord<'_>, segment: SegmentNo) {
        match change {
            ChangeRecord::Queued { seq, delivery } => {
                let slot = bodies.slot(seq);
                self.add(bodies, (seq, slot), delivery, 0, segment);
            }
            ChangeRecord::Sent { seq, number } => {
                if let Some(key) = self.first_waiting(seq)
                    && let Some(entry) = self.entries.get_mut(&key)
                {
                    entry.number = number;
                    self.numbers.insert(number, key);
                }
            }
            ChangeRecord::Released { number } => {
                if let Some(mut entry) = self.take_numbered(number) {
                    bodies.release(entry.slot);
                    entry.slot = 0;
                    self.released.insert(number, entry);
                }
            }
            ChangeRecord::Done { seq, number: 0 } => {
                if let Some(entry) = self.first_waiting(seq).and_then(|key| self.entries.remove(&key)) {
                    bodies.release(entry.slot);
                }
            }
            ChangeRecord::Done { number, .. } => {
                if let Some(entry) = self.take_numbered(number) {
                    bodies.release(entry.slot);
                }
            }
            ChangeRecord::Completed { number } => _ = self.released.remove(&number),
            ChangeRecord::Received(id) => _ = self.received.insert(id.packet_id, (id.stamp, segment)),
            ChangeRecord::Forgotten(id) => _ = self.received.remove(&id),
            ChangeRecord::Subscribed { filter, options } => {
                self.subscriptions.insert(filter.into(), (options, segment));
            }
            ChangeRecord::Unsubscribed { filter } => _ = self.subscriptions.remove(filter),
        }
    }

    fn take_numbered(&mut self, number: u64) -> Option<Entry> {
        let key = self.numbers.remove(&number)?;
        self.entries.remove(&key)
    }

    fn replace_entries(&mut self, bodies: &mut Bodies, entries: Vec<EntryRecord>, segment: SegmentNo) {
        let mut replaced = Vec::new();
        for entry in &entries {
            if let EntryState::Released(number) = entry.state {
                replaced.extend(self.take_numbered(number));
            } else {
                while let Some((&key, _)) = self.entries.range((entry.seq, 0)..=(entry.seq, u32::MAX)).next() {
                    let Some(old) = self.entries.remove(&key) else { break };
                    self.numbers.remove(&old.number);
                    replaced.push(old);
                }
            }
        }
        for EntryRecord { seq, delivery, state } in entries {
            let number = match state {
                EntryState::Waiting => 0,
                EntryState::Sent(number) => number,
                EntryState::Released(number) => {
                    let Delivery { qos, retain, identifiers } = delivery;
                    self.released.insert(number, Entry { slot: 0, segment, qos, retain, identifiers, number });
                    continue;
                }
            };
            let slot = bodies.slot(seq);
            self.add(bodies, (seq, slot), delivery, number, segment);
        }
        for entry in replaced {
            bodies.release(entry.slot);
        }
    }

    fn release_all(self, bodies: &mut Bodies) {
        for entry in self.entries.into_values() {
            bodies.release(entry.slot);
        }
    }

    /// Drops entries whose body was never seen, and says how many.
    fn drop_bodiless(&mut self, bodies: &mut Bodies) -> u64 {
        let slots = &bodies.slots;
        let has_body = |entry: &Entry| slots.get(entry.slot).is_some_and(|body| body.len > 0);
        let bodiless: Vec<EntryKey> =
            self.entries.iter().filter(|(_, entry)| !has_body(entry)).map(|(&key, _)| key).collect();
        for key in &bodiless {
            if let Some(entry) = self.entries.remove(key) {
                bodies.release(entry.slot);
            }
        }
        bodiless.len() as u64
    }

    fn recovered(
        self,
        queue: QueueId,
        session: SessionRecord,
        meta_segment: SegmentNo,
        slots: &Slots,
    ) -> RecoveredSession {
        let subscriptions_segment =
            self.subscriptions.values().map(|&(_, segment)| segment).min().unwrap_or(NO_SEGMENT);
        let received_segment = self.received.values().map(|&(_, segment)| segment).min().unwrap_or(NO_SEGMENT);
        let mut segment = meta_segment.min(subscriptions_segment).min(received_segment);
        let (mut waiting, mut window) = (Vec::new(), Vec::new());
        let released = self.released.into_iter().map(|(number, entry)| (EntryState::Released(number), entry));
        let others = self.entries.into_values().map(|entry| {
            let state = if entry.number == 0 { EntryState::Waiting } else { EntryState::Sent(entry.number) };
            (state, entry)
        });
        for (state, entry) in others.chain(released) {
            segment = segment.min(entry.segment);
            let size = slots.get(entry.slot).map_or(0, |body| body.size);
            let place = Place { slot: entry.slot, segment: entry.segment };
            let Entry { qos, retain, identifiers, .. } = entry;
            let list = if state == EntryState::Waiting { &mut waiting } else { &mut window };
            list.push(RecoveredEntry { place, size, qos, retain, identifiers, state });
        }
        window.sort_by_key(|entry| match entry.state {
            EntryState::Waiting => 0,
            EntryState::Sent(number) | EntryState::Released(number) => number,
        });
        RecoveredSession {
            queue,
            session,
            subscriptions: self.subscriptions.into_iter().map(|(filter, (options, _))| (filter, options)).collect(),
            received: self
                .received
                .into_iter()
                .map(|(packet_id, (stamp, _))| ReceivedId { packet_id, stamp })
                .collect(),
            waiting,
            window,
            segment,
            meta_segment,
            subscriptions_segment,
            received_segment,
        }
    }
}

impl Replayed {
    /// How many bodies are alive.
    pub fn live_bytes(&self) -> u64 {
        let bodies: u64 = self.slots.iter().map(|(_, body)| u64::from(body.len)).sum();
        bodies + self.metadata.values().map(|place| u64::from(place.live)).sum::<u64>()
    }

    /// Keys of metadata.
    pub fn metadata_keys(&self) -> usize {
        self.metadata.len()
    }

    /// Messages that are needed.
    pub fn messages(&self) -> usize {
        self.slots.len()
    }

    /// The log that goes on from here in the last of `segments`, which is empty, and what is for the broker.
    pub fn into_log(
        self,
        segments: VecDeque<LogSegment>,
        cache_bytes: usize,
    ) -> (Log, Vec<RecoveredSession>, RetainedTries) {
        let mut log = Log::new(segments, cache_bytes);
        log.slots = self.slots;
        log.slots.limit_cache(cache_bytes);
        log.metadata = self.metadata;
        log.next_seq = self.seq_max + 1;
        log.next_queue = self.queue_max.wrapping_add(1).max(1);
        for session in &self.sessions {
            log.holders.entry(session.segment).or_default().push(session.queue);
        }
        log.index_bodies();
        log.index_metadata();
        (log, self.sessions, self.retained)
    }
}

impl Log {
    /// Fills in what each segment knows of its bodies.
    fn index_bodies(&mut self) {
        let first = self.segments[0].segment.number;
        let mut found: Vec<Vec<(u32, Slot)>> = vec![Vec::new(); self.segments.len()];
        for (slot, body) in self.slots.iter() {
            let index = (body.segment - first) as usize;
            self.segments[index].live += u64::from(body.len);
            found[index].push((body.offset, slot));
        }
        for (entry, mut bodies) in self.segments.iter_mut().zip(found) {
            bodies.sort_unstable();
            entry.slots = bodies.into_iter().map(|(_, slot)| slot).collect();
        }
    }

    /// Fills in what each segment knows of its metadata.
    fn index_metadata(&mut self) {
        let first = self.segments[0].segment.number;
        for place in self.metadata.values() {
            let entry = &mut self.segments[(place.segment - first) as usize];
            entry.live += u64::from(place.live);
            entry.metadata.push(place.offset);
        }
        for entry in &mut self.segments {
            entry.metadata.sort_unstable();
            entry.metadata.dedup();
        }
    }
}
