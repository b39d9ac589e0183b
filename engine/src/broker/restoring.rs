//! A node as the store has it: sessions with their subscriptions and queues, retained messages.

use std::collections::VecDeque;

use crate::codec::text::parse_shared_filter;
use crate::hooks::Identity;
use crate::message::{Head, Message, MessageId, Millis, NEVER, Place, Publication};
use crate::metrics::Counter;
use crate::protocol::{Context, Expiry, Session, SessionLimits, Will};
use crate::queue::{Inflight, InflightState, Pending, Queued, Slot};
use crate::settings::QueueType;
use crate::store::{
    EntryState, NO_SEGMENT, Recovered, RecoveredEntry, RecoveredSession, SegmentNo, SessionRecord, WillRecord,
};

use super::taken::TakenMessages;
use super::{KeptParts, Node, Receiver, RetainedStore, SessionRef, SubscriberId};

impl Node {
    /// Takes over what the store has kept. Nobody is connected yet.
    ///
    /// Clients that were connected when the broker ended without telling them are away from now on: their wills and the
    /// ends of their sessions come when they are due.
    pub fn restore(&self, cx: &mut Context, recovered: Recovered) {
        *self.retained.write() = RetainedStore::restore(recovered.retained);
        *self.remotes.taken.lock() = TakenMessages::restore(recovered.stamps);
        for session in &recovered.sessions {
            self.restore_session(cx, session);
        }
        self.retained.write().sweep(cx.now, |swept| self.let_retained_go(swept));
    }

    fn restore_session(&self, cx: &mut Context, recovered: &RecoveredSession) {
        let record = &recovered.session;
        let mut session = self.session_of(cx, record);
        let id = SubscriberId::of(&session.identity);
        session.queue = recovered.queue;
        session.subscriptions = recovered.subscriptions.iter().cloned().collect();
        for id in &recovered.received {
            session.received.restore(id.packet_id, id.stamp);
        }
        let has_messages = !recovered.waiting.is_empty() || !recovered.window.is_empty();
        if let Some(window) = Inflight::restore(recovered.window.iter().filter_map(delivery)) {
            session.window = window;
        }
        session.pending = waiting(&recovered.waiting, session.queue_type(cx));
        cx.tally.add(Counter::QueueSetup, 1);
        cx.tally.add(Counter::QueueInitializedFromStorage, u64::from(has_messages));
        let some = |segment: SegmentNo| if segment == NO_SEGMENT { 0 } else { segment };
        let kept = KeptParts {
            session: some(recovered.meta_segment),
            subscriptions: some(recovered.subscriptions_segment),
            received: some(recovered.received_segment),
        };
        let session = SessionRef::new(session, id.clone(), Receiver::Client, None);
        self.remember_queue(&session);
        let replaced = self.registry.shard(&id).insert(id, session.clone());
        self.route(&session, recovered);
        self.go_on(cx, &session, recovered, kept);
        if let Some(older) = replaced {
            // The broker ended while a clean start took the place of a session; the newer one counts.
            older.lock().is_ended = true;
            self.forget(cx, &older);
        }
    }

    /// A session without subscriptions and messages, as its record has it.
    pub(super) fn session_of(&self, cx: &Context, record: &SessionRecord) -> Session {
        let identity = Identity {
            mountpoint: record.mountpoint.clone(),
            client_id: record.client_id.clone(),
            username: record.username.clone(),
            protocol_version: record.protocol_version,
            listener: record.listener.clone(),
        };
        let mut session = Session::new(self.new_session_id(), identity);
        session.expiry = Expiry::from_interval(record.expiry_s);
        session.started_at = super::node::at_unix_ms(record.started_at);
        let mut limits = SessionLimits::default();
        for (name, value) in &record.limits {
            // A limit that a newer or older version knows and this one does not is left out.
            let _ = limits.set(name, value.clone());
        }
        session.limit(&limits, &cx.settings);
        session
    }

    fn route(&self, session: &SessionRef, recovered: &RecoveredSession) {
        let mountpoint = &recovered.session.mountpoint;
        let mut router = self.router.write();
        for (filter, options) in &recovered.subscriptions {
            match parse_shared_filter(filter) {
                Ok(Some((group, topic_filter))) => {
                    router.subscribe(mountpoint, topic_filter, Some(group), session.clone(), *options);
                }
                _ => router.subscribe(mountpoint, filter, None, session.clone(), *options),
            }
        }
    }

    /// Sets the deadlines of a session whose client is away.
    fn go_on(&self, cx: &Context, session: &SessionRef, recovered: &RecoveredSession, kept: KeptParts) {
        let record = &recovered.session;
        let mut state = session.lock();
        state.kept = kept;
        let expiry = state.session.expiry;
        state.expires_at = match (record.is_online, expiry) {
            (_, Expiry::Never) => None,
            (true, Expiry::WithConnection) => Some(cx.now),
            (true, Expiry::After(seconds)) => Some(cx.now + Millis::from(seconds) * 1_000),
            (false, _) => Some(self.clock.millis(record.expires_at)),
        };
        if let Some(will) = &record.will {
            let due = if record.is_online {
                cx.now + Millis::from(will.delay_s) * 1_000
            } else {
                self.clock.millis(will.due_at)
            };
            state.pending_will = Some(restored_will(will, session));
            state.will_at = Some(due);
        }
        if record.is_online {
            // From now on the store knows when its time is up, however often the broker ends meanwhile.
            self.record_session(&mut state);
        }
        self.schedule(&mut state, session);
    }
}

pub(super) fn restored_will(record: &WillRecord, session: &SessionRef) -> Will {
    use crate::routing::Subscriber;
    let head =
        Head { layout: record.layout, qos: record.qos, retain: record.retain, expires_at: NEVER, origin: session.id() };
    Will {
        message: Message::keep(&Publication { head, span: &record.span }),
        delay_s: record.delay_s,
        message_expiry_s: record.message_expiry_s,
    }
}

fn delivery(entry: &RecoveredEntry) -> Option<(u64, Slot)> {
    let (number, state) = match entry.state {
        EntryState::Waiting => return None,
        EntryState::Sent(number) if entry.qos == 1 => (number, InflightState::AwaitingPuback),
        EntryState::Sent(number) => (number, InflightState::AwaitingPubrec),
        EntryState::Released(number) => (number, InflightState::AwaitingPubcomp),
    };
    let place = if state == InflightState::AwaitingPubcomp {
        Place { slot: 1, ..entry.place }.without_body()
    } else {
        entry.place
    };
    let identifiers = entry.identifiers.clone();
    Some((number, Slot { state, retain: entry.retain, message: None, place, is_changed: false, identifiers }))
}

fn waiting(entries: &[RecoveredEntry], queue_type: QueueType) -> Pending {
    let queued = entries.iter().map(|entry| Queued {
        message: None,
        place: entry.place,
        size: entry.size,
        qos: entry.qos,
        retain: entry.retain,
        is_changed: false,
        identifiers: entry.identifiers.clone(),
        message_id: MessageId::NONE,
    });
    let messages: VecDeque<Queued> = match queue_type {
        QueueType::Fifo => queued.collect(),
        QueueType::Lifo => queued.rev().collect(),
    };
    Pending::restore(messages)
}
