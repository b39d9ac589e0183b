//! The shared state of an engine and what runs on it: publishing, deadlines, talking to Python.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, RwLock};

use crate::message::{Message, Millis, NEVER, Place, Publication, Retained};
use crate::metrics::{Counter, Metrics};
use crate::policy::{AccessCell, Policy, Verified};
use crate::protocol::{Archive, Context, Decision, Outgoing, Verdict, Will};
use crate::routing::Subscriber;
use crate::settings::Settings;
use crate::store::{Change, QueueId, Store};

use super::change_set::ChangeSet;
use super::claims::Claims;
use super::events::{Event, EventQueue, Level};
use super::interest::Interest;
use super::link::Crew;
use super::remotes::Remotes;
use super::retaining::RetainedTopic;
use super::{Batch, Noted, Peer, Promise, Registry, RetainedStore, Router, SessionRef, SessionState, SubscriberId};
use crate::hooks::{Hooks, Identity};

/// The engine's clock: milliseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: SystemTime,
}

impl Clock {
    /// A clock that shows 1 now: 0 is never a time, so that it can mean "none".
    pub fn start() -> Self {
        Self { started: Instant::now(), started_at: SystemTime::now() }
    }

    /// Milliseconds.
    pub fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis + 1
    }

    /// Milliseconds since the Unix epoch for a time on this clock.
    pub fn wall_ms(&self, at: Millis) -> u64 {
        unix_ms(self.started_at).saturating_add(at)
    }

    /// The time on this clock for milliseconds since the Unix epoch; 1 for what was before the start.
    pub fn millis(&self, wall_ms: u64) -> Millis {
        wall_ms.saturating_sub(unix_ms(self.started_at)).max(1)
    }

    /// Seconds since the Unix epoch for a time on this clock.
    pub fn wall(&self, at: Millis) -> f64 {
        let start = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        start + std::time::Duration::from_millis(at).as_secs_f64()
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// The time so many milliseconds after the Unix epoch.
pub(super) fn at_unix_ms(wall_ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(std::time::Duration::from_millis(wall_ms)).unwrap_or(UNIX_EPOCH)
}

/// Deadlines that are dealt with in one turn of the worker that watches them.
const DEADLINES_A_TURN_MAX: usize = 1_000;
/// Tickets from here on are about messages of a session; those below belong to workers.
const REWRITING_TICKET: u64 = 1 << 63;

/// When something is due for a session: its end, its will, the verdict on its messages.
pub type Deadline = (Millis, u64);

/// The shared state.
pub struct Node {
    /// Settings in force.
    pub settings: ArcSwap<Settings>,
    /// Who has which client id.
    pub registry: Registry,
    /// Who gets which topics.
    pub router: RwLock<Router>,
    /// Where subscriptions have changed, for those who tell other nodes.
    pub interest: Interest,
    /// Where sessions that last have changed.
    pub kept_sessions: ChangeSet<SubscriberId>,
    /// Topics whose retained message was changed by what was published here.
    pub retained_topics: ChangeSet<RetainedTopic>,
    /// Other nodes as receivers.
    pub remotes: Remotes,
    /// Who has a client id that several nodes have clients of.
    pub(super) claims: Claims,
    /// The workers.
    pub crew: OnceLock<Arc<dyn Crew>>,
    /// Retained messages.
    pub retained: RwLock<RetainedStore>,
    /// What survives the process.
    pub(super) store: OnceLock<Arc<Store>>,
    pub(super) archive: OnceLock<Arc<dyn Archive>>,
    /// Sessions that are kept in the store, by their queues.
    pub(super) queues: RwLock<HashMap<QueueId, SessionRef, ahash::RandomState>>,
    /// Held shared while messages that the store has are handed over, see [`Node::hand_over_begins`].
    pub(super) handing_over: RwLock<()>,
    /// Internal subscribers by name.
    pub insiders: Mutex<HashMap<String, SessionRef>>,
    /// Events for Python.
    pub events: EventQueue,
    /// Counters.
    pub metrics: Metrics,
    /// The clock.
    pub clock: Clock,
    /// Who decides where a listener says nothing.
    pub access: Arc<AccessCell>,
    /// Who decides about the clients of a listener, by its name, whether it is open or not.
    listener_access: Mutex<HashMap<String, Arc<AccessCell>>>,
    /// What is decided without asking Python.
    pub policy: ArcSwap<Policy>,
    /// Why the cluster is not ready, for people; none while it is.
    pub netsplit: ArcSwapOption<String>,
    /// Passwords that were right lately.
    pub verified: Verified,
    hooks: AtomicU32,
    /// Requests that wait for a verdict.
    tickets: Mutex<HashSet<u64, ahash::RandomState>>,
    /// Sessions whose messages Python is asked about, by ticket.
    rewritings: Mutex<HashMap<u64, SessionRef, ahash::RandomState>>,
    next_rewriting: AtomicU64,
    deadlines: Mutex<BTreeMap<Deadline, SessionRef>>,
    /// When the earliest deadline is due.
    next_deadline: AtomicU64,
    /// A deadline has become the earliest, which the worker that watches them may not know.
    has_deadline_moved: AtomicBool,
    next_session_id: AtomicU64,
    next_connection_id: AtomicU64,
    nobody: Identity,
}

impl Node {
    /// An empty node.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let empty: Arc<str> = "".into();
        Ok(Self {
            settings: ArcSwap::from_pointee(settings),
            registry: Registry::default(),
            router: RwLock::default(),
            interest: Interest::default(),
            kept_sessions: ChangeSet::default(),
            retained_topics: ChangeSet::default(),
            remotes: Remotes::default(),
            claims: Claims::default(),
            crew: OnceLock::new(),
            retained: RwLock::default(),
            store: OnceLock::new(),
            archive: OnceLock::new(),
            queues: RwLock::default(),
            handing_over: RwLock::default(),
            insiders: Mutex::default(),
            events: EventQueue::new()?,
            metrics: Metrics::default(),
            clock: Clock::start(),
            access: Arc::default(),
            listener_access: Mutex::default(),
            policy: ArcSwap::default(),
            netsplit: ArcSwapOption::empty(),
            verified: Verified::new()?,
            hooks: AtomicU32::new(0),
            tickets: Mutex::default(),
            rewritings: Mutex::default(),
            next_rewriting: AtomicU64::new(REWRITING_TICKET),
            deadlines: Mutex::default(),
            next_deadline: AtomicU64::new(NEVER),
            has_deadline_moved: AtomicBool::new(false),
            next_session_id: AtomicU64::new(1),
            next_connection_id: AtomicU64::new(1),
            nobody: Identity {
                mountpoint: empty.clone(),
                client_id: empty.clone(),
                username: None,
                protocol_version: 0,
                listener: empty,
            },
        })
    }

    /// A context for a thread that works on this node.
    pub fn context(&self) -> Context {
        let mut cx = Context::new(self.settings.load_full());
        cx.access = Arc::clone(&self.access);
        self.refresh(&mut cx);
        cx
    }

    /// Brings a context up to date at the begin of a turn.
    pub fn refresh(&self, cx: &mut Context) {
        cx.now = self.clock.now();
        cx.hooks = self.hooks();
        if cx.archive.is_none() {
            cx.archive = self.archive.get().cloned();
        }
        let settings = self.settings.load();
        if !Arc::ptr_eq(&settings, &cx.settings) {
            cx.settings = Arc::clone(&settings);
        }
        let policy = self.policy.load();
        if !Arc::ptr_eq(&policy, &cx.policy) {
            cx.policy = Arc::clone(&policy);
        }
        cx.netsplit = self.netsplit.load_full();
    }

    /// Hooks that Python listens to.
    pub fn hooks(&self) -> Hooks {
        Hooks::from_bits_retain(self.hooks.load(Ordering::Relaxed))
    }

    /// Says which hooks Python listens to.
    pub fn set_hooks(&self, hooks: Hooks) {
        self.hooks.store(hooks.bits(), Ordering::Relaxed);
    }

    /// Who decides about the clients of a listener.
    pub fn listener_access(&self, name: &str) -> Arc<AccessCell> {
        Arc::clone(self.listener_access.lock().entry(name.to_owned()).or_default())
    }

    /// The identity of the broker itself.
    pub fn nobody(&self) -> Identity {
        self.nobody.clone()
    }

    /// An unused session id.
    pub fn new_session_id(&self) -> u64 {
        self.next_session_id.fetch_add(1, Ordering::Relaxed)
    }

    /// An unused connection id.
    pub fn new_connection_id(&self) -> u64 {
        self.next_connection_id.fetch_add(1, Ordering::Relaxed)
    }

    // -- events ------------------------------------------------------------------------------------------------

    /// Queues an event. False, and counted: the queue is full.
    pub fn emit(&self, cx: &mut Context, event: Event) -> bool {
        let is_queued = self.events.push(event, cx.settings.event_queue_limit, cx.settings.event_queue_bytes);
        if !is_queued {
            cx.tally.add(Counter::EventsDropped, 1);
        }
        is_queued
    }

    /// Tells the store and Python what happened to messages of a session, and asks about those that Python may change.
    #[inline]
    pub fn tell(&self, cx: &mut Context, state: &mut SessionState, session: &SessionRef) {
        if cx.hooks.contains(Hooks::ON_DELIVER) && !state.session.pending.is_empty() {
            self.ask_about_messages(cx, state, session);
        }
        if !cx.changes.is_empty() {
            self.record(cx, state);
        }
        if !cx.notices.is_empty() {
            self.emit_notices(cx, &state.session.identity);
        }
    }

    /// Queues an event that nobody counts as lost if the queue is full: a line of the log.
    pub fn tell_operator(&self, event: Event) {
        let settings = self.settings.load();
        self.events.push(event, settings.event_queue_limit, settings.event_queue_bytes);
    }

    /// Queues what happened to messages of a session.
    pub fn emit_notices(&self, cx: &mut Context, identity: &Identity) {
        let notices = std::mem::take(&mut cx.notices);
        if identity.is_internal() {
            return;
        }
        for notice in notices {
            let event = Event::Message {
                hook: Some(notice.hook),
                subscriber: self.nobody.client_id.clone(),
                identity: identity.clone(),
                message: notice.message,
                qos: notice.qos,
                retain: notice.retain,
                reason: notice.reason,
            };
            self.emit(cx, event);
        }
    }

    /// Queues an event about a session if somebody listens.
    pub fn emit_session(
        &self,
        cx: &mut Context,
        hook: Hooks,
        identity: &Identity,
        peer: Option<Peer>,
        reason: &dyn std::fmt::Display,
    ) {
        if cx.hooks.contains(hook) && !identity.is_internal() {
            self.emit(cx, Event::Session { hook, identity: identity.clone(), peer, reason: reason.to_string() });
        }
    }

    /// Tells the operator something.
    pub fn log(&self, cx: &mut Context, level: Level, message: impl Into<String>, fields: Vec<(&'static str, String)>) {
        self.emit(cx, Event::Log { level, message: message.into(), fields });
    }

    // -- tickets -----------------------------------------------------------------------------------------------

    /// Notes that a request waits for a verdict. False: too many wait.
    pub fn open_ticket(&self, ticket: u64, limit: usize) -> bool {
        let mut tickets = self.tickets.lock();
        if tickets.len() >= limit {
            return false;
        }
        tickets.insert(ticket)
    }

    /// Notes that a request is answered or given up. False: it was before.
    pub fn close_ticket(&self, ticket: u64) -> bool {
        self.tickets.lock().remove(&ticket)
    }

    /// Whether somebody still waits for a verdict.
    pub fn is_ticket_open(&self, ticket: u64) -> bool {
        self.tickets.lock().contains(&ticket)
    }

    /// Requests that wait for a verdict.
    pub fn open_tickets(&self) -> usize {
        self.tickets.lock().len()
    }

    // -- messages that Python may change -------------------------------------------------------------------------

    fn ask_about_messages(&self, cx: &mut Context, state: &mut SessionState, session: &SessionRef) {
        loop {
            let ticket = self.next_rewriting.load(Ordering::Relaxed);
            let Some(messages) = state.session.take_for_rewriting(cx, ticket) else { return };
            self.next_rewriting.fetch_add(1, Ordering::Relaxed);
            let is_open = self.open_ticket(ticket, cx.settings.max_pending_hooks);
            let event = Event::Deliver { ticket, identity: state.session.identity.clone(), messages };
            if is_open && self.emit(cx, event) {
                self.rewritings.lock().insert(ticket, session.clone());
                state.rewriting_until = Some(cx.now + cx.settings.hook_timeout);
                self.schedule(state, session);
                return;
            }
            // Nobody can be asked: they go out as they are.
            if is_open {
                self.close_ticket(ticket);
            }
            cx.tally.add(Counter::HookOverload, 1);
            state.session.rewritten(cx, ticket, &Verdict::new(Decision::Allow));
            if !state.session.has_waiting() || state.link.as_ref().is_none_or(|link| link.is_blocked) {
                return;
            }
        }
    }

    /// Goes on with messages that Python was asked about.
    pub fn answer_about_messages(&self, cx: &mut Context, batch: &mut Batch, ticket: u64, verdict: &Verdict) {
        let Some(session) = self.rewritings.lock().remove(&ticket) else { return };
        let mut state = session.lock();
        if let Some(connection) = &mut state.session.connection {
            batch.pool.lend(connection);
        }
        if state.session.rewritten(cx, ticket, verdict) {
            state.rewriting_until = None;
            self.schedule(&mut state, &session);
        }
        self.tell(cx, &mut state, &session);
        batch.flush_later(&mut state, &session);
    }

    /// Whether a ticket is about messages of a session rather than a connection.
    pub fn is_about_messages(ticket: u64) -> bool {
        ticket >= REWRITING_TICKET
    }

    // -- messages ----------------------------------------------------------------------------------------------

    /// Routes a message, notes it for its receivers, and tells Python.
    pub fn publish(
        &self,
        cx: &mut Context,
        batch: &mut Batch,
        input: &[u8],
        publisher: &Identity,
        publication: Publication<'_>,
        promise: Promise,
    ) -> Noted {
        let mut outgoing = Outgoing { publication, message: None, place: Place::NONE };
        let told = (cx.hooks.contains(Hooks::ON_PUBLISH) && !publisher.is_internal()).then(|| outgoing.keep());
        let noted = batch.add(self, cx, input, &publisher.mountpoint, outgoing, promise);
        if let Noted::Taken { .. } = noted
            && let Some(message) = told
        {
            let event = Event::Message {
                hook: Some(Hooks::ON_PUBLISH),
                subscriber: self.nobody.client_id.clone(),
                identity: publisher.clone(),
                message,
                qos: publication.head.qos,
                retain: publication.head.retain,
                reason: "",
            };
            self.emit(cx, event);
        }
        noted
    }

    /// The retained messages that match a filter, `limit` at most. Each is held in the store until its place is given up.
    pub fn retained_matching(&self, mountpoint: &str, filter: &str, now: Millis, limit: usize) -> Vec<Retained> {
        let retained = self.retained.read();
        let found = retained.matching(mountpoint, filter, now, limit);
        if let Some(store) = self.store() {
            // Under the lock, so that none of them is replaced and its slot given to another message meanwhile.
            store.pin(found.iter().map(|retained| retained.slot).filter(|slot| *slot != 0));
        }
        found
    }

    /// The retained messages that match a filter, read from the store where need be.
    pub fn retained_messages(&self, mountpoint: &str, filter: &str, now: Millis, limit: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut unpinned = Vec::new();
        for retained in self.retained_matching(mountpoint, filter, now, limit) {
            messages.extend(self.load_retained(&retained));
            if retained.slot != 0 {
                unpinned.push(Change::Done { slot: retained.slot, number: 0 });
            }
        }
        if let Some(store) = self.store()
            && !unpinned.is_empty()
        {
            store.append_changes(0, &unpinned);
        }
        messages
    }

    /// Forgets retained messages that have expired and tells how many.
    pub fn sweep_retained(&self, now: Millis) -> usize {
        self.retained.write().sweep(now, |swept| self.let_retained_go(swept))
    }

    /// Publishes a will and hands it over. No session may be locked by the caller.
    pub fn publish_will(&self, cx: &mut Context, batch: &mut Batch, identity: &Identity, will: &Will) {
        let kept = will.message.publication();
        let mut head = kept.head;
        head.expires_at = will.message_expiry_s.map_or(NEVER, |seconds| cx.now + Millis::from(seconds) * 1_000);
        let publication = Publication { head, span: kept.span };
        // Nobody waits for an answer, so what the store cannot take goes on in memory.
        let _handing_over = self.hand_over_begins();
        self.publish(cx, batch, &[], identity, publication, Promise::default());
        batch.dispatch(self, cx, &[], false);
    }

    /// Publishes messages from inside; how many subscriptions matched each.
    pub fn publish_inside(&self, cx: &mut Context, batch: &mut Batch, messages: &[(Arc<str>, Message)]) -> Vec<usize> {
        let mut publisher = self.nobody();
        let mut matched = Vec::with_capacity(messages.len());
        let handing_over = self.hand_over_begins();
        for (mountpoint, message) in messages {
            publisher.mountpoint.clone_from(mountpoint);
            let before = batch.len();
            self.publish(cx, batch, &[], &publisher, message.publication(), Promise::default());
            matched.push(batch.matches_since(before));
            batch.dispatch(self, cx, &[], false);
        }
        drop(handing_over);
        batch.flush_all(self, cx);
        matched
    }

    // -- deadlines -----------------------------------------------------------------------------------------------

    /// When [`Node::run_deadlines`] has something to do.
    pub fn next_deadline(&self) -> Millis {
        self.next_deadline.load(Ordering::Acquire)
    }

    /// Whether a deadline has become the earliest since this was asked last: then the worker that watches them has to wake.
    pub fn take_deadline_moved(&self) -> bool {
        self.has_deadline_moved.load(Ordering::Acquire) && self.has_deadline_moved.swap(false, Ordering::AcqRel)
    }

    /// Puts the earlier of a session's end and its will among the deadlines.
    pub fn schedule(&self, state: &mut SessionState, session: &SessionRef) {
        let due = [state.expires_at, state.will_at, state.rewriting_until].into_iter().flatten().min();
        if due == state.deadline {
            return;
        }
        let mut deadlines = self.deadlines.lock();
        if let Some(old) = state.deadline {
            deadlines.remove(&(old, session.id()));
        }
        if let Some(at) = due {
            deadlines.insert((at, session.id()), session.clone());
        }
        state.deadline = due;
        let next = deadlines.first_key_value().map_or(NEVER, |((at, _), _)| *at);
        if self.next_deadline.swap(next, Ordering::AcqRel) > next {
            self.has_deadline_moved.store(true, Ordering::Release);
        }
    }

    /// Publishes wills and ends sessions whose time has come, so many that others get their turn.
    pub fn run_deadlines(&self, cx: &mut Context, batch: &mut Batch) {
        for _ in 0..DEADLINES_A_TURN_MAX {
            let Some(session) = self.take_due(cx.now) else { return };
            self.give_up_rewriting(cx, batch, &session);
            self.run_deadline(cx, batch, &session);
        }
    }

    fn take_due(&self, now: Millis) -> Option<SessionRef> {
        let mut deadlines = self.deadlines.lock();
        let is_due = deadlines.first_key_value().is_some_and(|((at, _), _)| *at <= now);
        let due = if is_due { deadlines.pop_first().map(|(_, session)| session) } else { None };
        let next = deadlines.first_key_value().map_or(NEVER, |((at, _), _)| *at);
        self.next_deadline.store(next, Ordering::Release);
        due
    }

    /// Sends messages as they are whose verdict has not come in time.
    fn give_up_rewriting(&self, cx: &mut Context, batch: &mut Batch, session: &SessionRef) {
        let mut state = session.lock();
        if state.rewriting_until.is_none_or(|until| until > cx.now) {
            return;
        }
        state.rewriting_until = None;
        let Some(ticket) = state.session.rewriting_ticket() else { return };
        drop(state);
        if self.close_ticket(ticket) {
            cx.tally.add(Counter::HookTimeout, 1);
        }
        self.answer_about_messages(cx, batch, ticket, &Verdict::new(Decision::Allow));
    }

    fn run_deadline(&self, cx: &mut Context, batch: &mut Batch, session: &SessionRef) {
        let mut state = session.lock();
        state.deadline = None;
        if state.is_ended {
            return;
        }
        let is_over = state.expires_at.is_some_and(|at| at <= cx.now);
        let is_will_due = is_over || state.will_at.is_some_and(|at| at <= cx.now);
        let will = if is_will_due { state.pending_will.take() } else { None };
        if is_will_due {
            state.will_at = None;
        }
        if is_over {
            state.expires_at = None;
            state.is_ended = true;
        } else {
            self.schedule(&mut state, session);
        }
        let identity = state.session.identity.clone();
        drop(state);
        if let Some(will) = will {
            self.publish_will(cx, batch, &identity, &will);
            let mut state = session.lock();
            if !is_over && !state.is_ended {
                self.record_session(&mut state);
            }
        }
        if is_over {
            cx.tally.add(Counter::ClientExpired, 1);
            self.emit_session(cx, Hooks::ON_SESSION_EXPIRED, &identity, None, &"session expired");
            self.forget(cx, session);
        }
    }
}
