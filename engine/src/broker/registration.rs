//! Clients come and go: who gets which session, takeover, and the end of connections and sessions.

use parking_lot::MutexGuard;

use crate::codec::ReasonCode;
use crate::codec::text::parse_shared_filter;
use crate::message::Millis;
use crate::metrics::Counter;
use crate::protocol::connect::Registration;
use crate::protocol::{Connection, Context, Ending, Expiry, Session, Subscriptions, Will};
use crate::queue::Queued;
use crate::routing::Subscriber;
use crate::settings::DeliverMode;
use crate::store::{Change, Lsn};

use super::events::Event;
use super::{Batch, Link, Node, Receiver, SessionRef, SessionState, SubscriberId};
use crate::hooks::{Hooks, Identity};

/// Subscriptions that leave the routing table under one lock.
const UNROUTED_AT_ONCE: usize = 256;

/// What has to be done about an old session once no lock is held.
#[derive(Default)]
struct Aftermath {
    wills: Vec<(Identity, Will)>,
    ended: Option<SessionRef>,
    /// Where the log says that it ended. The new client is told nothing before that is kept: the old session must not
    /// come back.
    ended_at: Lsn,
}

impl Node {
    /// Gives an accepted client its session: the stored one, or a new one, after ending whoever had the client id.
    pub fn register(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        registration: &Registration,
        link: Link,
        connection: Box<Connection>,
    ) -> SessionRef {
        let id = SubscriberId::of(&registration.identity);
        let mut aftermath = Aftermath::default();
        let peer = link.peer;
        let mut shard = self.registry.shard(&id);
        let existing = shard.get(&id).cloned();
        let (mut session, mut is_new) =
            self.choose_session(cx, batch, registration, &id, existing.as_ref(), &mut aftermath);
        let is_present = !is_new && session.main().is_none() && !registration.clean_start;
        let ended_at = aftermath.ended_at;
        let joined = self.join(cx, batch, &session, (link, connection), |cx, session, connection| {
            session.attach(cx, registration, connection, is_present);
            if let Some(connection) = &mut session.connection {
                connection.wait_for(ended_at);
            }
        });
        if let Err(parts) = joined {
            // It ended between the choice and now: its time was up, or an operator removed it.
            (session, is_new) = (self.new_session(cx, registration, &id, None), true);
            let joined = self.join(cx, batch, &session, parts, |cx, session, connection| {
                session.attach(cx, registration, connection, false);
            });
            debug_assert!(joined.is_ok(), "nobody else knows the new session");
        }
        if is_new && session.main().is_none() {
            shard.insert(id, session.clone());
        }
        drop(shard);
        self.settle(cx, batch, aftermath);
        self.emit_session(cx, Hooks::ON_REGISTER, &registration.identity, Some(peer), &"");
        self.emit_session(cx, Hooks::ON_CLIENT_WAKEUP, &registration.identity, Some(peer), &"");
        session
    }

    /// The session for a client and whether it is new.
    fn choose_session(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        registration: &Registration,
        id: &SubscriberId,
        existing: Option<&SessionRef>,
        aftermath: &mut Aftermath,
    ) -> (SessionRef, bool) {
        let Some(old) = existing else { return (self.new_session(cx, registration, id, None), true) };
        let mut state = old.lock();
        if state.is_ended {
            drop(state);
            return (self.new_session(cx, registration, id, None), true);
        }
        if cx.settings.allow_multiple_sessions && (state.link.is_some() || old.attached().count() > 0) {
            if state.link.is_none() {
                return (old.clone(), false);
            }
            let session = self.new_session(cx, registration, id, Some(old.clone()));
            // Under the lock, so that the session cannot end before it knows of its further connection.
            old.attached().add(session.clone());
            return (session, true);
        }
        // A session that ends with its connection ends with this one: nobody goes on with it [MQTT-3.1.2-6].
        let ends = state.link.is_some() && state.session.expiry == Expiry::WithConnection;
        let is_clean = registration.clean_start || ends;
        if state.link.is_some() {
            take_over(cx, batch, old, &mut state, is_clean, aftermath);
        }
        if !is_clean {
            // The client is back in time: its will is not sent [MQTT-3.1.3-9].
            state.pending_will = None;
            return (old.clone(), false);
        }
        state.is_ended = true;
        let identity = state.session.identity.clone();
        aftermath.wills.extend(state.pending_will.take().map(|will| (identity, will)));
        let discarded = state.session.pending.len() + state.session.window.len();
        cx.tally.add(Counter::QueueMessageUnhandled, discarded as u64);
        aftermath.ended_at = self.end_queue(cx, &mut state);
        drop(state);
        aftermath.ended = Some(old.clone());
        (self.new_session(cx, registration, id, None), true)
    }

    fn new_session(
        &self,
        cx: &mut Context,
        registration: &Registration,
        id: &SubscriberId,
        main: Option<SessionRef>,
    ) -> SessionRef {
        cx.tally.add(Counter::QueueSetup, 1);
        let mut session = Session::new(self.new_session_id(), registration.identity.clone());
        let outlives = registration.expiry(&cx.settings) != Expiry::WithConnection;
        if let Some(store) = self.store().filter(|_| outlives && main.is_none()) {
            session.queue = self.new_queue(store);
        }
        let session = SessionRef::new(session, id.clone(), Receiver::Client, main);
        self.remember_queue(&session);
        session
    }

    /// Joins a session and a connection; `attach` does so on the protocol's side. Gives them back when the session is over.
    fn join(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        session: &SessionRef,
        (link, mut connection): (Link, Box<Connection>),
        attach: impl FnOnce(&mut Context, &mut Session, Box<Connection>),
    ) -> Result<(), (Link, Box<Connection>)> {
        let mut state = session.lock();
        if state.is_ended {
            return Err((link, connection));
        }
        batch.pool.lend(&mut connection);
        state.link = Some(link);
        state.expires_at = None;
        state.will_at = None;
        self.schedule(&mut state, session);
        attach(cx, &mut state.session, connection);
        session.set_online(true);
        self.note_presence(session, &state);
        self.record_session(&mut state);
        self.tell(cx, &mut state, session);
        batch.flush_later(&mut state, session);
        Ok(())
    }

    /// A connection of a client is over. Does nothing when the session has another connection by now.
    pub fn connection_ended(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        session: &SessionRef,
        connection_id: u64,
        ending: &Ending,
    ) {
        let state = session.lock();
        if state.link.as_ref().is_some_and(|link| link.connection_id == connection_id) {
            self.end_connection(cx, batch, session, state, ending);
        }
    }

    /// Ends a session's connection, and the session where it lasts no longer.
    pub(super) fn end_connection(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        session: &SessionRef,
        mut state: MutexGuard<'_, SessionState>,
        ending: &Ending,
    ) {
        let link = state.link.take();
        session.set_online(false);
        self.note_presence(session, &state);
        if session.main().is_some() {
            // A further connection shares a client id for as long as it lasts, whatever it asked for.
            state.session.expiry = Expiry::WithConnection;
        }
        let detached = state.session.detach(cx, ending);
        let identity = state.session.identity.clone();
        state.rewriting_until = None;
        self.tell(cx, &mut state, session);
        let is_over = detached.expiry == Expiry::WithConnection && session.attached().count() == 0;
        let will_now = keep_will(cx, &mut state, detached.will, is_over);
        state.is_ended |= is_over;
        if let Expiry::After(seconds) = detached.expiry {
            state.expires_at = Some(cx.now + Millis::from(seconds) * 1_000);
        }
        if !is_over {
            self.schedule(&mut state, session);
            self.record_session(&mut state);
        }
        // With `fanout` the other connections have their own copies.
        let is_sole_receiver = session.main().is_some() && cx.settings.queue_deliver_mode == DeliverMode::Balance;
        let unfinished = if is_sole_receiver { state.session.take_unfinished(cx) } else { Vec::new() };
        drop(state);
        if let Some(main) = session.main()
            && !unfinished.is_empty()
        {
            self.hand_back(cx, batch, main, session.id(), unfinished);
        }
        if let Some(will) = will_now {
            self.publish_will(cx, batch, &identity, &will);
        }
        let hook = if is_over { Hooks::ON_CLIENT_GONE } else { Hooks::ON_CLIENT_OFFLINE };
        self.emit_session(cx, hook, &identity, link.map(|link| link.peer), ending);
        if is_over {
            self.forget(cx, session);
        }
    }

    /// Gives what a further connection of a client id has not finished to another one, or to the session that they share.
    fn hand_back(&self, cx: &mut Context, batch: &mut Batch, main: &SessionRef, from: u64, unfinished: Vec<Queued>) {
        let others = main.attached().all().into_iter().find(|other| other.id() != from && !main.has_client());
        let receiver = others.as_ref().unwrap_or(main);
        let mut state = receiver.lock();
        state.session.adopt(cx, unfinished);
        self.tell(cx, &mut state, receiver);
        batch.flush_later(&mut state, receiver);
    }

    /// Publishes wills and clears away sessions, with no lock held.
    fn settle(&self, cx: &mut Context, batch: &mut Batch, aftermath: Aftermath) {
        for (identity, will) in aftermath.wills {
            self.publish_will(cx, batch, &identity, &will);
        }
        if let Some(session) = aftermath.ended {
            let identity = session.lock().session.identity.clone();
            self.emit_session(cx, Hooks::ON_CLIENT_GONE, &identity, None, &"the session was discarded");
            self.forget(cx, &session);
        }
    }

    /// Removes an ended session and its subscriptions.
    pub(super) fn forget(&self, cx: &mut Context, session: &SessionRef) {
        cx.tally.add(Counter::QueueTeardown, 1);
        let mut state = session.lock();
        debug_assert!(state.is_ended);
        self.schedule_nothing(&mut state, session);
        let subscriptions = std::mem::take(&mut state.session.subscriptions);
        self.end_queue(cx, &mut state);
        let identity = state.session.identity.clone();
        drop(state);
        if let Some(main) = session.main() {
            self.leave_main(cx, main, session.id(), subscriptions);
            return;
        }
        let id = session.subscriber_id();
        self.unroute(session, &subscriptions);
        if cx.hooks.contains(Hooks::ON_TOPIC_UNSUBSCRIBED) && !subscriptions.is_empty() {
            let filters = subscriptions.into_iter().map(|(filter, options)| (filter.into(), options.qos)).collect();
            self.emit(cx, Event::Subscription { hook: Hooks::ON_TOPIC_UNSUBSCRIBED, identity, filters });
        }
        let mut shard = self.registry.shard(id);
        if shard.get(id).is_some_and(|current| current.id() == session.id()) {
            shard.remove(id);
        }
    }

    /// Takes a session's subscriptions out of the routing table, in slices so that publishers get their turn.
    pub(super) fn unroute(&self, session: &SessionRef, subscriptions: &Subscriptions) {
        let mountpoint = &session.subscriber_id().mountpoint;
        let filters: Vec<&str> = subscriptions.keys().map(|filter| &**filter).collect();
        for slice in filters.chunks(UNROUTED_AT_ONCE) {
            let parts = slice.iter().map(|filter| match parse_shared_filter(filter) {
                Ok(Some((group, topic_filter))) => (topic_filter, Some(group)),
                _ => (*filter, None),
            });
            self.unsubscribe_all(mountpoint, parts, session);
        }
    }

    /// A further connection of a client id is gone. What it subscribed to belongs to the client id; the session of that
    /// ends with its last connection if it is clean.
    fn leave_main(&self, cx: &mut Context, main: &SessionRef, id: u64, subscriptions: Subscriptions) {
        main.attached().remove(id);
        let mut state = main.lock();
        state.session.subscriptions.extend(subscriptions);
        self.note_presence(main, &state);
        let is_over = state.link.is_none()
            && main.attached().count() == 0
            && state.session.expiry == Expiry::WithConnection
            && !state.is_ended;
        state.is_ended |= is_over;
        drop(state);
        if is_over {
            self.forget(cx, main);
        }
    }

    /// Removes one subscription of a client from outside. False: it has none with this filter.
    pub fn unsubscribe(&self, cx: &mut Context, session: &SessionRef, filter: &str) -> bool {
        let mut state = session.lock();
        let Some(options) = state.session.subscriptions.remove(filter) else { return false };
        let identity = state.session.identity.clone();
        if state.session.is_kept() {
            cx.changes.push(Change::Unsubscribed { filter: filter.into() });
            self.record(cx, &mut state);
        }
        // Under the lock, so that a SUBSCRIBE of the client is before or after this and not in between.
        let removed = std::iter::once((Box::from(filter), options)).collect();
        self.unroute(session, &removed);
        drop(state);
        if cx.hooks.contains(Hooks::ON_TOPIC_UNSUBSCRIBED) {
            let filters = vec![(filter.to_owned(), 0)];
            self.emit(cx, Event::Subscription { hook: Hooks::ON_TOPIC_UNSUBSCRIBED, identity, filters });
        }
        true
    }

    fn schedule_nothing(&self, state: &mut SessionState, session: &SessionRef) {
        state.expires_at = None;
        state.will_at = None;
        state.rewriting_until = None;
        self.schedule(state, session);
    }

    /// Ends a client's connection from outside; with `cleanup` its session too. False: no such session.
    pub fn disconnect(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        id: &SubscriberId,
        reason: ReasonCode,
        cleanup: bool,
    ) -> bool {
        let Some(session) = self.registry.get(id) else { return false };
        for attached in session.attached().all() {
            self.disconnect_session(cx, batch, &attached, reason, cleanup);
        }
        self.disconnect_session(cx, batch, &session, reason, cleanup)
    }

    /// Ends a session's connection from outside; with `cleanup` the session too.
    pub fn disconnect_session(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        session: &SessionRef,
        reason: ReasonCode,
        cleanup: bool,
    ) -> bool {
        let mut state = session.lock();
        if state.is_ended {
            return false;
        }
        if cleanup {
            state.session.expiry = Expiry::WithConnection;
        }
        if state.link.is_some() {
            say_goodbye(cx, batch, &mut state, reason);
            self.end_connection(cx, batch, session, state, &Ending::Administrative { reason });
            return true;
        }
        if cleanup {
            state.is_ended = true;
            let identity = state.session.identity.clone();
            let will = state.pending_will.take();
            drop(state);
            let wills = will.map(|will| (identity, will)).into_iter().collect();
            self.settle(cx, batch, Aftermath { wills, ended: Some(session.clone()), ended_at: 0 });
        }
        true
    }
}

/// Ends the connection of a session for another one with the same client id [MQTT-3.1.4-3].
fn take_over(
    cx: &mut Context,
    batch: &mut Batch,
    session: &SessionRef,
    state: &mut SessionState,
    clean_start: bool,
    aftermath: &mut Aftermath,
) {
    say_goodbye(cx, batch, state, ReasonCode::SESSION_TAKEN_OVER);
    state.link = None;
    session.set_online(false);
    let has_delay = state.session.will.as_ref().is_some_and(|will| will.delay_s > 0);
    let keeps_will = cx.settings.suppress_lwt_on_session_takeover || (has_delay && !clean_start);
    let identity = state.session.identity.clone();
    let detached = state.session.detach(cx, &Ending::TakenOver { keeps_will });
    aftermath.wills.extend(detached.will.map(|will| (identity, will)));
}

/// Writes DISCONNECT, gives it one chance to go out, and closes the socket under its owner.
pub(super) fn say_goodbye(cx: &mut Context, batch: &mut Batch, state: &mut SessionState, reason: ReasonCode) {
    state.session.write_disconnect(cx, reason, None);
    let SessionState { session, link: Some(link), .. } = state else { return };
    if let Some(connection) = &mut session.connection {
        link.flush(cx, connection);
        batch.pool.take_back(connection);
    }
    link.shut();
}

/// Name of a client in logs.
pub fn name_of(identity: &Identity) -> Vec<(&'static str, String)> {
    let mut fields = vec![("client_id", identity.client_id.to_string())];
    if !identity.mountpoint.is_empty() {
        fields.push(("mountpoint", identity.mountpoint.to_string()));
    }
    if let Some(username) = &identity.username {
        fields.push(("username", username.to_string()));
    }
    fields
}

/// A will that has to go out now; one with a delay is put by, unless the session ends [MQTT-3.1.2-8].
fn keep_will(cx: &Context, state: &mut SessionState, will: Option<Will>, is_over: bool) -> Option<Will> {
    let will = will?;
    if is_over || will.delay_s == 0 {
        return Some(will);
    }
    state.will_at = Some(cx.now + Millis::from(will.delay_s) * 1_000);
    state.pending_will = Some(will);
    None
}
