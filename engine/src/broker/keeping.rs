//! What the store is told about sessions, and what is written there anew when it cleans up.

use std::collections::HashSet;
use std::sync::Arc;

use crate::message::{Millis, Place};
use crate::protocol::{Context, Will};
use crate::queue::{Inflight, InflightState, Pending, Queued};
use crate::store::{
    Change, EntrySnapshot, EntryState, Lsn, Owner, QueueId, ReceivedId, SegmentNo, SessionRecord, Store, WillRecord,
};
use parking_lot::RwLockReadGuard;

use super::archive::NodeArchive;
use super::session_ref::lower;
use super::{Node, SessionRef, SessionState, SubscriberId};

impl Node {
    /// The store, if there is one.
    #[inline]
    pub fn store(&self) -> Option<&Arc<Store>> {
        self.store.get()
    }

    /// Keeps what has to be kept in a store from now on. Nobody may be connected yet. False: there is a store already.
    pub fn use_store(self: &Arc<Self>, store: Arc<Store>) -> bool {
        let archive = Arc::new(NodeArchive { store: Arc::clone(&store), node: Arc::downgrade(self) });
        self.archive.set(archive).is_ok() && self.store.set(store).is_ok()
    }

    /// Writes down what happened to the session in hand. What its client is told of that waits until it is kept.
    pub(super) fn record(&self, cx: &mut Context, state: &mut SessionState) {
        let Some(store) = self.store() else {
            cx.changes.clear();
            return;
        };
        let appended = store.append_changes(state.session.queue, &cx.changes);
        let is_about_subscriptions =
            |change: &Change| matches!(change, Change::Subscribed { .. } | Change::Unsubscribed { .. });
        if self.kept_sessions.is_watched() && cx.changes.iter().any(is_about_subscriptions) {
            self.note_kept_session(state);
        }
        let mut is_promise = false;
        for change in cx.changes.drain(..) {
            is_promise |= !matches!(change, Change::Done { .. } | Change::Completed { .. });
            if let Change::Subscribed { .. } = change {
                lower(&mut state.kept.subscriptions, appended.segment);
            }
        }
        if is_promise
            && state.session.is_kept()
            && let Some(connection) = &mut state.session.connection
        {
            connection.wait_for(appended.lsn);
        }
    }

    /// Writes down the session itself, after its client came or went.
    pub(super) fn record_session(&self, state: &mut SessionState) {
        let Some(store) = self.store().filter(|_| state.session.is_kept()) else { return };
        self.note_kept_session(state);
        let appended = store.append_session(state.session.queue, &self.session_record(state));
        state.kept.session = appended.segment;
        if let Some(connection) = &mut state.session.connection {
            connection.wait_for(appended.lsn);
        }
    }

    /// A session that lasts has come, has changed, or has ended.
    fn note_kept_session(&self, state: &SessionState) {
        if self.kept_sessions.is_watched() && !state.session.identity.is_internal() {
            self.kept_sessions.note(SubscriberId::of(&state.session.identity));
        }
    }

    /// A message is being handed over while this lives: cleaning waits before it takes for certain that sessions know of all
    /// that the store has for them.
    pub fn hand_over_begins(&self) -> RwLockReadGuard<'_, ()> {
        self.handing_over.read()
    }

    /// The store forgets a session that is over, with all its messages. The position in the log behind that; 0 where nothing
    /// was written.
    pub(super) fn end_queue(&self, cx: &mut Context, state: &mut SessionState) -> Lsn {
        let Some(store) = self.store() else { return 0 };
        let slots: Vec<u32> = state.session.places().filter_map(Place::body).collect();
        state.session.window = Inflight::default();
        state.session.pending = Pending::default();
        if state.session.is_kept() {
            self.note_kept_session(state);
            let queue = std::mem::take(&mut state.session.queue);
            self.queues.write().remove(&queue);
            return store.end_queue(queue, &mut slots.into_iter());
        }
        if !slots.is_empty() {
            cx.changes.extend(slots.into_iter().map(|slot| Change::Done { slot, number: 0 }));
            self.record(cx, state);
        }
        0
    }

    /// A name in the store that no session has. They begin again once four thousand million were given.
    pub(super) fn new_queue(&self, store: &Store) -> QueueId {
        loop {
            let queue = store.new_queue();
            if !self.queues.read().contains_key(&queue) {
                return queue;
            }
            store.end_queue(queue, &mut std::iter::empty());
        }
    }

    /// Gives a new session its name in the store.
    pub(super) fn remember_queue(&self, session: &SessionRef) {
        if session.queue() != 0 {
            self.queues.write().insert(session.queue(), session.clone());
        }
    }

    pub(super) fn session_record(&self, state: &SessionState) -> SessionRecord {
        let session = &state.session;
        let identity = &session.identity;
        let unix_ms = |at: Option<Millis>| at.map_or(0, |at| self.clock.wall_ms(at));
        let pending = state.pending_will.as_ref().map(|will| will_record(will, unix_ms(state.will_at)));
        let will = pending.or_else(|| session.will.as_ref().map(|will| will_record(will, 0)));
        SessionRecord {
            mountpoint: identity.mountpoint.clone(),
            client_id: identity.client_id.clone(),
            username: identity.username.clone(),
            protocol_version: identity.protocol_version,
            listener: identity.listener.clone(),
            expiry_s: session.expiry.seconds().unwrap_or(u32::MAX),
            is_online: session.is_online(),
            expires_at: unix_ms(state.expires_at),
            started_at: super::node::unix_ms(session.started_at),
            will,
            limits: session.limits.entries().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        }
    }
}

/// What there is to say of all queues together.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueFigures {
    /// Messages in them, those under way included.
    pub messages: usize,
    /// Seconds that the oldest of them has waited; of messages in memory alone nothing is known.
    pub oldest_age_s: usize,
}

impl Node {
    /// Looks at all queues.
    pub fn queue_figures(&self) -> QueueFigures {
        let mut figures = QueueFigures::default();
        let mut oldest = u64::MAX;
        for session in self.registry.all() {
            let state = session.lock();
            figures.messages += state.session.window.len() + state.session.waiting().count();
            let first = state.session.window.iter().map(|(_, slot)| slot.place).next();
            let places = first.into_iter().chain(state.session.waiting().map(|queued| queued.place).next());
            for slot in places.filter_map(Place::body) {
                oldest = oldest.min(self.store().and_then(|store| store.stored_at(slot)).unwrap_or(u64::MAX));
            }
        }
        let now = self.clock.wall_ms(self.clock.now()) / 1_000;
        figures.oldest_age_s = if oldest == u64::MAX { 0 } else { now.saturating_sub(oldest) as usize };
        figures
    }
}

impl Owner for Node {
    fn settle(&self) {
        drop(self.handing_over.write());
    }

    fn rewrite(&self, store: &Store, queue: QueueId, up_to: SegmentNo) -> Option<SegmentNo> {
        let session = self.queues.read().get(&queue).cloned()?;
        let mut state = session.lock();
        if state.is_ended {
            return None;
        }
        let is_old = |segment: SegmentNo| segment != 0 && segment <= up_to;
        if is_old(state.kept.session) {
            state.kept.session = store.append_session(queue, &self.session_record(&state)).segment;
        }
        if is_old(state.kept.subscriptions) {
            let subscriptions = &state.session.subscriptions;
            let mut pairs = subscriptions.iter().map(|(filter, options)| (&**filter, options));
            let appended = (!subscriptions.is_empty()).then(|| store.append_subscriptions(queue, &mut pairs));
            state.kept.subscriptions = appended.map_or(0, |appended| appended.segment);
        }
        if is_old(state.kept.received) {
            let kept = state.session.received.kept();
            let ids: Vec<ReceivedId> = kept.map(|(packet_id, stamp)| ReceivedId { packet_id, stamp }).collect();
            let appended = (!ids.is_empty()).then(|| store.append_received(queue, &ids));
            state.kept.received = appended.map_or(0, |appended| appended.segment);
        }
        let entries = rewrite_entries(store, queue, &mut state, up_to);
        let kept = state.kept;
        [kept.session, kept.subscriptions, kept.received, entries].into_iter().filter(|segment| *segment != 0).min()
    }
}

/// What an entry takes in a record, with an identifier.
const ENTRY_BYTES: usize = 32;

/// Writes the entries anew that are in old segments; the lowest segment with an entry afterwards, 0 if there is none.
///
/// A message may be in a queue more than once: then all its entries are written, see [`Store::append_entries`].
fn rewrite_entries(store: &Store, queue: QueueId, state: &mut SessionState, up_to: SegmentNo) -> SegmentNo {
    let is_old = |place: Place| place.is_stored() && place.segment <= up_to;
    let named: HashSet<u32, ahash::RandomState> =
        state.session.places().filter(|&place| is_old(place)).filter_map(Place::body).collect();
    let is_named = |place: Place| is_old(place) || place.body().is_some_and(|slot| named.contains(&slot));
    let under_way = state.session.window.iter().filter(|(_, slot)| is_named(slot.place)).map(|(number, slot)| {
        let state = if slot.state == InflightState::AwaitingPubcomp {
            EntryState::Released(number)
        } else {
            EntryState::Sent(number)
        };
        let qos = if slot.state == InflightState::AwaitingPuback { 1 } else { 2 };
        let slot_of_body = slot.place.body().unwrap_or(0);
        EntrySnapshot { slot: slot_of_body, qos, retain: slot.retain, identifiers: &slot.identifiers, state }
    });
    let waiting =
        state.session.waiting().filter(|queued| is_named(queued.place)).map(|queued: &Queued| EntrySnapshot {
            slot: queued.place.body().unwrap_or(0),
            qos: queued.qos,
            retain: queued.retain,
            identifiers: &queued.identifiers,
            state: EntryState::Waiting,
        });
    let mut entries: Vec<EntrySnapshot<'_>> = under_way.chain(waiting).collect();
    entries.sort_by_key(|entry| entry.slot);
    let mut lowest = 0;
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let (some, others) = rest.split_at(end_of_part(rest, store.part_bytes() / ENTRY_BYTES));
        let appended = store.append_entries(queue, some);
        lower(&mut lowest, appended.segment);
        rest = others;
    }
    drop(entries);
    let rewritten = lowest;
    let mut visit = |place: &mut Place| {
        if place.is_stored() {
            if is_named(*place) {
                place.segment = rewritten;
            }
            lower(&mut lowest, place.segment);
        }
    };
    for (_, slot) in state.session.window.iter_mut() {
        visit(&mut slot.place);
    }
    for queued in state.session.waiting_mut() {
        visit(&mut queued.place);
    }
    lowest
}

/// How many entries go into the next record: about so many, and all of a body.
fn end_of_part(entries: &[EntrySnapshot<'_>], wanted: usize) -> usize {
    let mut end = entries.len().min(wanted);
    while end < entries.len() && entries[end].slot != 0 && entries[end].slot == entries[end - 1].slot {
        end += 1;
    }
    end
}

fn will_record(will: &Will, due_at: u64) -> WillRecord {
    let publication = will.message.publication();
    WillRecord {
        span: publication.span.to_vec(),
        layout: publication.head.layout,
        qos: publication.head.qos,
        retain: publication.head.retain,
        delay_s: will.delay_s,
        message_expiry_s: will.message_expiry_s,
        due_at,
    }
}
