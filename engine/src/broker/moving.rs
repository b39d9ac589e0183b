//! A session goes to another node: taken apart here, put together there.
//!
//! The control planes of the two nodes lead it through these steps, of which each node takes its own:
//!
//! ```text
//! old node                                      new node
//! begin_move: the session without messages  ->  take_session: from now on its subscriptions are here too
//!           all nodes learn of that, and what they sent to the old node alone has come there
//! pack_messages, page by page               ->  take_messages: kept aside
//! close_move: its subscriptions are gone
//! pack_messages: what has come meanwhile    ->  take_messages
//!                                               finish_move: the messages are in the queue, in order
//! end_move: the session is gone
//! ```
//!
//! In between a message may come to both; it has one name on all nodes, by which the new node knows it. Until the last step
//! the old node has all that it had, so what fails can begin anew.

use std::collections::{HashMap, HashSet, VecDeque};

use smallvec::SmallVec;

use crate::codec::text::parse_shared_filter;
use crate::message::{MessageId, Millis, Place};
use crate::metrics::Counter;
use crate::protocol::{Context, Expiry, Session, Subscriptions};
use crate::queue::{Inflight, InflightState, Pending, Queued, Slot};
use crate::routing::SubscriptionOptions;
use crate::settings::QueueType;
use crate::store::bytes::Malformed;
use crate::store::{Change, EntrySnapshot, EntryState, NewMessage, ReceivedId, Refusal, SessionRecord, Store, Target};

use super::parcel::{Entry, put_entry, put_luggage, put_record, read_entries, read_luggage};
use super::restoring::restored_will;
use super::{Batch, Node, Receiver, SessionRef, SessionState, SubscriberId};

/// Messages that are written to the store in one call.
const WRITTEN_AT_ONCE: usize = 256;

/// A session on its way.
#[derive(Debug, Default)]
pub struct Moving {
    /// Messages that have come from the other node, in their order.
    arrived: Vec<Entry>,
    /// Of nodes, by their numbers: what they published with a later stamp came here, whether or not it went to the old node.
    fences: HashMap<u32, u64>,
    /// What came here before these were known.
    early: HashSet<MessageId>,
}

impl Moving {
    /// Whether a message that comes from the old node came here too.
    fn is_known(&self, message_id: MessageId) -> bool {
        let is_behind_fence = || self.fences.get(&message_id.origin).is_some_and(|fence| message_id.stamp > *fence);
        message_id.is_some() && (self.early.contains(&message_id) || is_behind_fence())
    }
}

/// Why a session cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The bytes are none of a session.
    Malformed,
    /// There is no session of that name that is on its way.
    Unknown,
    /// The store takes nothing.
    Refused(Refusal),
}

impl From<Malformed> for NotTaken {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Some messages of a session as bytes.
pub struct Packed {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many messages are in them and before them.
    pub until: usize,
    /// That are all.
    pub is_all: bool,
}

// What the old node does.
impl Node {
    /// A session is about to go: what it is without its messages. `None`: there is none without a connection that lasts.
    pub fn begin_move(&self, id: &SubscriberId) -> Option<Vec<u8>> {
        let session = self.registry.get(id)?;
        let mut state = session.lock();
        if state.is_ended || state.link.is_some() || !state.session.is_kept() {
            return None;
        }
        state.moving.get_or_insert_default();
        let received: Vec<u16> = state.session.received.kept().map(|(packet_id, _)| packet_id).collect();
        let subscriptions = state.session.subscriptions.iter().map(|(filter, options)| (&**filter, *options));
        Some(put_luggage(&put_record(&self.session_record(&state)), subscriptions, &received))
    }

    /// Messages of a session that goes, behind the first `after`, of about so many bytes.
    pub fn pack_messages(&self, cx: &mut Context, id: &SubscriberId, after: usize, bytes_max: usize) -> Option<Packed> {
        let session = self.registry.get(id)?;
        let state = session.lock();
        if state.is_ended || state.moving.is_none() {
            return None;
        }
        let mut packed = Packed { bytes: Vec::new(), until: after, is_all: false };
        let under_way = state.session.window.iter().map(|(number, slot)| Named::Sent(number, slot));
        let waiting = oldest_first(&state.session, cx).map(Named::Waiting);
        for named in under_way.chain(waiting).skip(after) {
            if packed.bytes.len() >= bytes_max {
                return Some(packed);
            }
            // What cannot be read is lost here too, and the store has told the operator.
            if let Some(entry) = named.entry(cx) {
                put_entry(&mut packed.bytes, &self.clock, &entry);
            }
            packed.until += 1;
        }
        packed.is_all = true;
        Some(packed)
    }

    /// A session that goes gets no messages any more: the new node does.
    pub fn close_move(&self, id: &SubscriberId) {
        if let Some((session, subscriptions)) = self.moving_subscriptions(id) {
            self.unroute(&session, &subscriptions);
        }
    }

    /// The session has not gone after all.
    pub fn abandon_move(&self, id: &SubscriberId) {
        let Some((session, subscriptions)) = self.moving_subscriptions(id) else { return };
        self.route_again(&session, &subscriptions);
        session.lock().moving = None;
    }

    /// The session is on the other node, which has all of it.
    pub fn end_move(&self, cx: &mut Context, id: &SubscriberId) {
        let Some(session) = self.registry.get(id) else { return };
        let mut state = session.lock();
        if state.is_ended || state.moving.is_none() {
            return;
        }
        state.is_ended = true;
        state.pending_will = None;
        let subscriptions = std::mem::take(&mut state.session.subscriptions);
        drop(state);
        self.unroute(&session, &subscriptions);
        self.forget(cx, &session);
    }

    fn moving_subscriptions(&self, id: &SubscriberId) -> Option<(SessionRef, Subscriptions)> {
        let session = self.registry.get(id)?;
        let state = session.lock();
        let is_meant = !state.is_ended && state.moving.is_some();
        let subscriptions = is_meant.then(|| state.session.subscriptions.clone());
        drop(state);
        Some((session, subscriptions?))
    }

    fn route_again(&self, session: &SessionRef, subscriptions: &Subscriptions) {
        let mountpoint = &session.subscriber_id().mountpoint;
        for (filter, options) in subscriptions {
            let (group, filter) = match parse_shared_filter(filter) {
                Ok(Some((group, filter))) => (Some(group), filter),
                _ => (None, &**filter),
            };
            self.subscribe(mountpoint, filter, group, session.clone(), *options);
        }
    }
}

/// What other nodes have to know of a session, to make it when this one is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSession {
    /// The session without what changes each time that its client comes or goes.
    pub session: Vec<u8>,
    /// Its subscriptions, with their options as one byte and their identifiers.
    pub subscriptions: Vec<(String, u8, u32)>,
}

// For when the old node is down.
impl Node {
    /// What there is of a session that lasts. `None`: there is none.
    pub fn kept_session(&self, id: &SubscriberId) -> Option<KeptSession> {
        let session = self.registry.get(id)?;
        let state = session.lock();
        if state.is_ended || !state.session.is_kept() || state.session.expiry == Expiry::WithConnection {
            return None;
        }
        let record =
            SessionRecord { is_online: false, expires_at: 0, started_at: 0, will: None, ..self.session_record(&state) };
        let subscriptions = state.session.subscriptions.iter();
        let subscriptions =
            subscriptions.map(|(filter, options)| (filter.to_string(), options.to_byte(), options.identifier));
        Some(KeptSession { session: put_record(&record), subscriptions: subscriptions.collect() })
    }

    /// Makes a session from what is known of it, with an empty queue.
    pub fn make_session(&self, cx: &mut Context, known: &KeptSession) -> Result<(), NotTaken> {
        let subscriptions = known
            .subscriptions
            .iter()
            .map(|(filter, byte, identifier)| (&**filter, SubscriptionOptions::from_byte(*byte, *identifier)));
        let luggage = put_luggage(&known.session, subscriptions, &[]);
        self.add_session(cx, &luggage).map(|_| ())
    }

    /// A session that was made here gets all that these nodes, by their numbers, have published since, each after its stamp;
    /// its client comes only now. The home that it had before may have got some of that too.
    pub fn set_fences(&self, cx: &Context, id: &SubscriberId, fences: &HashMap<u32, u64>) {
        let Some(session) = self.registry.get(id) else { return };
        let mut state = session.lock();
        let early =
            oldest_first(&state.session, cx).map(|queued| queued.message_id).filter(|id| id.is_some()).collect();
        if let Some(moving) = &mut state.moving {
            moving.fences.clone_from(fences);
            moving.early = early;
        }
    }

    /// Takes out the names of at most `limit` sessions that last of which something has changed, and whether more has than could
    /// be noted.
    pub fn session_changes(&self, limit: usize) -> (Vec<SubscriberId>, bool) {
        self.kept_sessions.take(limit)
    }
}

// What the new node does.
impl Node {
    /// A session comes: makes it, or adds its subscriptions to the one that there is.
    pub fn take_session(&self, cx: &mut Context, bytes: &[u8]) -> Result<(), NotTaken> {
        self.add_session(cx, bytes).map(|_| ())
    }

    fn add_session(&self, cx: &mut Context, bytes: &[u8]) -> Result<SessionRef, NotTaken> {
        let luggage = read_luggage(bytes)?;
        let record = &luggage.record;
        let id = SubscriberId { mountpoint: record.mountpoint.clone(), client_id: record.client_id.clone() };
        let session = {
            let mut shard = self.registry.shard(&id);
            if let Some(session) = shard.get(&id).filter(|session| !session.lock().is_ended) {
                session.clone()
            } else {
                let session = self.arriving_session(cx, record, &id);
                shard.insert(id, session.clone());
                session
            }
        };
        let mut state = session.lock();
        state.moving.get_or_insert_default();
        let mut added = Subscriptions::default();
        for (filter, options) in luggage.subscriptions {
            if state.session.subscriptions.contains_key(&filter) {
                continue;
            }
            state.session.subscriptions.insert(filter.clone(), options);
            if state.session.is_kept() {
                cx.changes.push(Change::Subscribed { filter: filter.clone(), options });
            }
            added.insert(filter, options);
        }
        for packet_id in luggage.received {
            if state.session.received.insert(packet_id) && state.session.is_kept() {
                // It counts as passed on to whoever was to get it.
                state.session.received.note_kept(packet_id, 0);
                cx.changes.push(Change::Received(ReceivedId { packet_id, stamp: 0 }));
            }
        }
        self.record(cx, &mut state);
        drop(state);
        self.route_again(&session, &added);
        Ok(session)
    }

    fn arriving_session(&self, cx: &mut Context, record: &SessionRecord, id: &SubscriberId) -> SessionRef {
        let mut session = self.session_of(cx, record);
        if let Some(store) = self.store() {
            session.queue = self.new_queue(store);
        }
        cx.tally.add(Counter::QueueSetup, 1);
        let session = SessionRef::new(session, id.clone(), Receiver::Client, None);
        self.remember_queue(&session);
        let mut state = session.lock();
        state.expires_at = match state.session.expiry {
            Expiry::Never => None,
            // Made anew: since when its client is away is not known.
            Expiry::After(seconds) if record.expires_at == 0 => Some(cx.now + Millis::from(seconds) * 1_000),
            Expiry::After(_) | Expiry::WithConnection => Some(self.clock.millis(record.expires_at)),
        };
        if let Some(will) = record.will.as_ref().filter(|will| will.due_at > 0) {
            state.pending_will = Some(restored_will(will, &session));
            state.will_at = Some(self.clock.millis(will.due_at));
        }
        self.schedule(&mut state, &session);
        self.record_session(&mut state);
        drop(state);
        session
    }

    /// Messages of a session that comes.
    pub fn take_messages(&self, id: &SubscriberId, bytes: &[u8]) -> Result<(), NotTaken> {
        let entries = read_entries(bytes, &self.clock)?;
        let session = self.registry.get(id).ok_or(NotTaken::Unknown)?;
        let mut state = session.lock();
        let moving = state.moving.as_mut().ok_or(NotTaken::Unknown)?;
        moving.arrived.extend(entries);
        Ok(())
    }

    /// Nothing more comes: what has come is in the queue, before what was queued here meanwhile. Without `is_whole` what has
    /// come is given up, since the old node keeps it.
    pub fn finish_move(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        id: &SubscriberId,
        is_whole: bool,
    ) -> Result<(), NotTaken> {
        let session = self.registry.get(id).ok_or(NotTaken::Unknown)?;
        let mut state = session.lock();
        if state.is_ended {
            return Err(NotTaken::Unknown);
        }
        let moving = state.moving.as_mut().ok_or(NotTaken::Unknown)?;
        let mut arrived = std::mem::take(&mut moving.arrived);
        arrived.retain(|entry| !moving.is_known(entry.message_id));
        if !is_whole {
            // The names of messages are noted still, as the rest may come later.
            return Ok(());
        }
        let begins_anew = state.link.is_none() && state.session.window.is_empty();
        if !begins_anew {
            // What is under way to the client here has the numbers.
            arrived.retain(|entry| entry.message.is_some());
            for entry in &mut arrived {
                entry.state = EntryState::Waiting;
            }
        }
        let (known, known_places) = if begins_anew { known_messages(cx, &state, &arrived) } else { Default::default() };
        arrived.extend(known);
        if let Err(refusal) = self.put_in_queue(cx, &mut state, arrived, begins_anew) {
            return Err(NotTaken::Refused(refusal));
        }
        for place in known_places {
            cx.give_up(place, 0);
        }
        state.moving = None;
        state.session.refill(cx);
        self.tell(cx, &mut state, &session);
        batch.flush_later(&mut state, &session);
        Ok(())
    }

    /// Writes messages down and puts them into the queue: in place of all that is there, or behind it.
    fn put_in_queue(
        &self,
        cx: &mut Context,
        state: &mut SessionState,
        entries: Vec<Entry>,
        begins_anew: bool,
    ) -> Result<(), Refusal> {
        let queue = state.session.queue;
        let places = match self.store().filter(|_| queue != 0) {
            Some(store) => write_entries(store, queue, &entries)?,
            None => vec![Place::NONE; entries.len()],
        };
        let mut window = Vec::new();
        let mut waiting = VecDeque::new();
        for (entry, place) in entries.into_iter().zip(places) {
            match entry.state {
                EntryState::Waiting => waiting.extend(queued(entry, place)),
                EntryState::Sent(number) | EntryState::Released(number) => {
                    if let (EntryState::Sent(_), Some(slot)) = (entry.state, place.body()) {
                        cx.changes.push(Change::Sent { slot, number });
                    }
                    window.push((number, under_way(entry, place)));
                }
            }
        }
        if !begins_anew {
            for queued in waiting {
                state.session.pending.push(queued, QueueType::Fifo, usize::MAX, usize::MAX);
            }
            return Ok(());
        }
        if let Some(window) = Inflight::restore(window) {
            state.session.window = window;
        }
        if state.session.queue_type(cx) == QueueType::Lifo {
            waiting = waiting.into_iter().rev().collect();
        }
        state.session.pending = Pending::restore(waiting);
        Ok(())
    }
}

/// A message of a queue and where it stands.
enum Named<'a> {
    Sent(u64, &'a Slot),
    Waiting(&'a Queued),
}

impl Named<'_> {
    /// `None`: the store cannot read it.
    fn entry(&self, cx: &Context) -> Option<Entry> {
        Some(match self {
            Self::Waiting(queued) => Entry {
                state: EntryState::Waiting,
                qos: queued.qos,
                retain: queued.retain,
                message_id: queued.message_id,
                identifiers: queued.identifiers.clone(),
                message: Some(queued.message.clone().or_else(|| cx.load(queued.place))?),
            },
            Self::Sent(number, slot) if slot.state == InflightState::AwaitingPubcomp => Entry {
                state: EntryState::Released(*number),
                qos: 2,
                retain: slot.retain,
                message_id: MessageId::NONE,
                identifiers: SmallVec::new(),
                message: None,
            },
            Self::Sent(number, slot) => Entry {
                state: EntryState::Sent(*number),
                qos: if slot.state == InflightState::AwaitingPuback { 1 } else { 2 },
                retain: slot.retain,
                message_id: MessageId::NONE,
                identifiers: slot.identifiers.clone(),
                message: Some(slot.message.clone().or_else(|| cx.load(slot.place))?),
            },
        })
    }
}

/// What was queued here meanwhile and did not come from the old node as well, to be written down anew behind that; and the
/// places where all of it is now.
fn known_messages(cx: &Context, state: &SessionState, arrived: &[Entry]) -> (Vec<Entry>, Vec<Place>) {
    let names: HashSet<MessageId> = arrived.iter().map(|entry| entry.message_id).filter(|id| id.is_some()).collect();
    let mut known = Vec::new();
    let mut places = Vec::new();
    for queued in oldest_first(&state.session, cx) {
        places.push(queued.place);
        if !names.contains(&queued.message_id) {
            known.extend(Named::Waiting(queued).entry(cx));
        }
    }
    (known, places)
}

/// What waits, in the order in which it came.
fn oldest_first<'a>(session: &'a Session, cx: &Context) -> Box<dyn Iterator<Item = &'a Queued> + 'a> {
    match session.queue_type(cx) {
        QueueType::Fifo => Box::new(session.pending.iter()),
        QueueType::Lifo => Box::new(session.pending.iter().rev()),
    }
}

fn queued(entry: Entry, place: Place) -> Option<Queued> {
    let mut queued = Queued::new(entry.message?, place, entry.qos, entry.retain, entry.identifiers);
    if place.body().is_some() {
        queued.message = None;
    }
    Some(queued)
}

fn under_way(entry: Entry, place: Place) -> Slot {
    let state = match (entry.state, entry.qos) {
        (EntryState::Released(_), _) => InflightState::AwaitingPubcomp,
        (_, 1) => InflightState::AwaitingPuback,
        _ => InflightState::AwaitingPubrec,
    };
    let message = entry.message.filter(|_| place.body().is_none());
    Slot { state, retain: entry.retain, message, place, is_changed: false, identifiers: entry.identifiers }
}

/// Writes messages for one queue down, in order; where each is.
fn write_entries(store: &Store, queue: u32, entries: &[Entry]) -> Result<Vec<Place>, Refusal> {
    let mut places = vec![Place::NONE; entries.len()];
    for (begin, slice) in (0..).step_by(WRITTEN_AT_ONCE).zip(entries.chunks(WRITTEN_AT_ONCE)) {
        let targets: Vec<[Target<'_>; 1]> = slice
            .iter()
            .map(|entry| [Target { queue, qos: entry.qos, retain: entry.retain, identifiers: &entry.identifiers }])
            .collect();
        let mut positions = Vec::with_capacity(slice.len());
        let mut messages = Vec::with_capacity(slice.len());
        for (position, entry) in slice.iter().enumerate() {
            let Some(message) = &entry.message else { continue };
            positions.push(begin + position);
            let publication = message.publication();
            let targets = &targets[position][..];
            messages.push(NewMessage {
                publication,
                message_id: MessageId::NONE,
                retained_in: None,
                received: None,
                targets,
                place: Place::NONE,
            });
        }
        if !messages.is_empty() {
            store.append_messages(&mut messages)?;
        }
        for (position, message) in positions.into_iter().zip(&messages) {
            places[position] = message.place;
        }
    }
    let released: Vec<(usize, EntrySnapshot<'_>)> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.message.is_none())
        .map(|(position, entry)| {
            let state = entry.state;
            (position, EntrySnapshot { slot: 0, qos: 2, retain: entry.retain, identifiers: &[], state })
        })
        .collect();
    if !released.is_empty() {
        let snapshots: Vec<EntrySnapshot<'_>> = released.iter().map(|(_, snapshot)| *snapshot).collect();
        let segment = store.append_entries(queue, &snapshots).segment;
        for (position, _) in released {
            places[position] = Place { slot: 1, segment }.without_body();
        }
    }
    Ok(places)
}
