//! A session: what belongs to one client id, with or without a connection.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use crate::codec::ReasonCode;
use crate::hooks::Identity;
use crate::message::{Message, Place};
use crate::metrics::Counter;
use crate::queue::{Inflight, InflightState, Pending, Queued, ReceivedIds, packet_id};
use crate::routing::SubscriptionOptions;
use crate::settings::{QueueType, Settings};
use crate::store::QueueId;

use super::connect::Registration;
use super::deliver::{drop_queued, leave_to_store};
use super::limits::in_force;
use super::rewriting::Rewritings;
use super::{Connection, Context, Ending, SessionLimits, Waiting};

/// How long a session outlives its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It ends with the connection.
    WithConnection,
    /// Seconds after the end of the connection.
    After(u32),
    /// It stays.
    Never,
}

impl Expiry {
    /// From a Session Expiry Interval [MQTT-3.1.2-23].
    pub fn from_interval(interval: u32) -> Self {
        match interval {
            0 => Self::WithConnection,
            u32::MAX => Self::Never,
            seconds => Self::After(seconds),
        }
    }

    /// Seconds, `None` for a session that stays.
    pub fn seconds(self) -> Option<u32> {
        match self {
            Self::WithConnection => Some(0),
            Self::After(seconds) => Some(seconds),
            Self::Never => None,
        }
    }
}

/// A message to be published when the connection ends.
#[derive(Clone, Debug)]
pub struct Will {
    /// The message; its expiry is set when it is published.
    pub message: Message,
    /// Seconds between the end of the connection and the publish, 0 for at once.
    pub delay_s: u32,
    /// Message Expiry Interval.
    pub message_expiry_s: Option<u32>,
}

/// Packets that a session sends again after its client came back, oldest first.
#[derive(Debug, Default)]
pub(super) struct Resend(pub(super) VecDeque<u16>);

/// What remains of a connection that ended.
#[derive(Debug)]
pub struct Detached {
    /// The will, unless the client cancelled it.
    pub will: Option<Will>,
    /// How long the session goes on.
    pub expiry: Expiry,
}

/// Subscriptions by filter as the client wrote it.
pub type Subscriptions = HashMap<Box<str>, SubscriptionOptions, ahash::RandomState>;

/// The state of one session.
#[derive(Debug)]
pub struct Session {
    /// Unique in the engine, never 0.
    pub id: u64,
    /// Its name in the store; 0: it is not kept there.
    pub queue: QueueId,
    /// Whose it is.
    pub identity: Identity,
    /// How long it outlives the connection.
    pub expiry: Expiry,
    /// Subscriptions by filter as the client wrote it (with `$share/GROUP/`).
    pub subscriptions: Subscriptions,
    /// Messages under way to the client.
    pub window: Inflight,
    /// Messages that wait.
    pub pending: Pending,
    /// QoS 2 messages of the client that are not released.
    pub received: ReceivedIds,
    /// The connection, if there is one.
    pub connection: Option<Box<Connection>>,
    /// The will of the connection.
    pub will: Option<Box<Will>>,
    /// Messages that a full queue had no room for.
    pub dropped: u64,
    /// When the session began.
    pub started_at: SystemTime,
    /// When the connection began.
    pub connected_at: Option<SystemTime>,
    pub(super) resend: Resend,
    /// Messages that Python may change or has changed.
    pub(super) rewritings: Option<Box<Rewritings>>,
    /// The limits that a verdict gave its client.
    pub limits: SessionLimits,
    /// The settings with these limits in their places, if there are any.
    pub(super) own_settings: Option<Arc<Settings>>,
}

impl Session {
    /// An empty session without a connection.
    pub fn new(id: u64, identity: Identity) -> Self {
        Self {
            id,
            queue: 0,
            identity,
            expiry: Expiry::WithConnection,
            subscriptions: HashMap::default(),
            window: Inflight::default(),
            pending: Pending::default(),
            received: ReceivedIds::default(),
            connection: None,
            will: None,
            dropped: 0,
            started_at: SystemTime::now(),
            connected_at: None,
            resend: Resend::default(),
            rewritings: None,
            limits: SessionLimits::default(),
            own_settings: None,
        }
    }

    /// Whether the store has to know of what happens to it.
    #[inline]
    pub fn is_kept(&self) -> bool {
        self.queue != 0
    }

    /// Puts limits in the places of the settings.
    pub fn limit(&mut self, limits: &SessionLimits, settings: &Settings) {
        self.own_settings = match limits.over(settings) {
            Cow::Borrowed(_) => None,
            Cow::Owned(own) => Some(Arc::new(own)),
        };
        self.limits = limits.clone();
    }

    /// Gives the session a connection: writes CONNACK, then whatever a resumed session has to send again.
    pub fn attach(
        &mut self,
        cx: &mut Context,
        registration: &Registration,
        mut connection: Box<Connection>,
        is_present: bool,
    ) {
        debug_assert!(self.connection.is_none());
        let is_acknowledged = registration.write_connack(cx, is_present, connection.output.buffer());
        debug_assert!(is_acknowledged, "the caller has made sure that the CONNACK fits");
        self.identity = registration.identity.clone();
        self.limit(&registration.limits, &cx.settings);
        self.expiry = registration.expiry(&cx.settings);
        self.will.clone_from(&registration.will);
        self.connected_at = Some(SystemTime::now());
        self.connection = Some(connection);
        self.resend.0 = self.window.iter().map(|(number, _)| packet_id(number)).collect();
        let limit = in_force(self.own_settings.as_ref(), cx).queue_limit(true);
        if !cx.settings.override_max_online_messages && self.pending.len() > limit {
            for dropped in self.pending.truncate(limit) {
                drop_queued(cx, dropped, "queue_full");
            }
        }
        self.refill(cx);
    }

    /// Ends the connection. Messages that wait and are of no use offline are dropped.
    pub fn detach(&mut self, cx: &mut Context, ending: &Ending) -> Detached {
        let connection = self.connection.take();
        debug_assert!(connection.is_some());
        if let Some(Waiting::Publish { message, packet_id }) = connection.and_then(|connection| connection.waiting)
            && message.publication().head.qos == 2
        {
            // It was not passed on, so it must be when it comes again.
            self.received.remove(packet_id);
        }
        self.resend.0.clear();
        self.connected_at = None;
        let will = self.will.take().map(|will| *will);
        self.give_up_rewriting(cx);
        let unhandled = self.pending.drop_unless(|queued| queued.qos > 0, |queued| cx.give_up(queued.place, 0));
        cx.tally.add(Counter::QueueMessageUnhandled, unhandled as u64);
        let limit = in_force(self.own_settings.as_ref(), cx).queue_limit(false);
        if self.expiry != Expiry::WithConnection && self.pending.len() > limit {
            for dropped in self.pending.truncate(limit) {
                drop_queued(cx, dropped, "queue_full");
            }
        }
        self.leave_to_store(cx);
        Detached { will: will.filter(|_| !ending.cancels_will()), expiry: self.expiry }
    }

    /// Gives the memory back of messages that the store has too: nobody is there to get them.
    fn leave_to_store(&mut self, cx: &Context) {
        let Some(archive) = &cx.archive else { return };
        for (_, slot) in self.window.iter_mut().filter(|(_, slot)| !slot.is_changed) {
            if let Some(body) = slot.place.body()
                && let Some(message) = slot.message.take()
            {
                archive.offer(body, &message);
            }
        }
        for queued in self.pending.iter_mut() {
            leave_to_store(cx, queued);
        }
    }

    /// Takes out all QoS 1 and 2 messages that the client has not acknowledged, in order, for another session to deliver. A
    /// QoS 2 message whose PUBREC came is not among them: the client has it. For sessions that are not kept in the store.
    pub fn take_unfinished(&mut self, cx: &mut Context) -> Vec<Queued> {
        debug_assert!(!self.is_kept());
        let window = std::mem::take(&mut self.window);
        let under_way = window.iter().filter_map(|(_, slot)| {
            let qos = if slot.state == InflightState::AwaitingPuback { 1 } else { 2 };
            let message = slot.message.clone()?;
            Some(Queued::new(message, slot.place, qos, slot.retain, slot.identifiers.clone()))
        });
        let mut unfinished: Vec<Queued> = under_way.collect();
        self.give_up_rewriting(cx);
        unfinished.extend(self.take_rewritten());
        unfinished.extend(std::iter::from_fn(|| self.pending.pop()).filter(|queued| queued.qos > 0));
        unfinished
    }

    /// The places of all messages that it still has, which end with it.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.window.iter().map(|(_, slot)| slot.place).chain(self.waiting().map(|queued| queued.place))
    }

    /// Messages that are not under way yet: those that Python is asked about, then those that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &Queued> {
        self.rewritings.iter().flat_map(|rewritings| rewritings.iter()).chain(self.pending.iter())
    }

    /// The same, to be changed but for their sizes.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.rewritings.iter_mut().flat_map(|rewritings| rewritings.iter_mut()).chain(self.pending.iter_mut())
    }

    /// In which order its queue delivers and what it drops.
    pub fn queue_type(&self, cx: &Context) -> QueueType {
        in_force(self.own_settings.as_ref(), cx).queue_type
    }

    /// Takes over messages of another session of the same client id.
    pub fn adopt(&mut self, cx: &mut Context, messages: Vec<Queued>) {
        let limit = in_force(self.own_settings.as_ref(), cx).queue_limit(self.is_online());
        for queued in messages {
            self.enqueue(cx, queued, limit);
        }
        self.refill(cx);
    }

    /// Whether messages wait for room in the window or the output.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        !self.pending.is_empty() || !self.resend.0.is_empty() || self.rewritings.is_some()
    }

    /// How many messages the queue may have.
    pub fn queue_limit(&self, cx: &Context, is_online: bool) -> usize {
        in_force(self.own_settings.as_ref(), cx).queue_limit(is_online)
    }

    /// The largest packet that the client may send.
    pub fn packet_size_max(&self, cx: &Context) -> usize {
        in_force(self.own_settings.as_ref(), cx).packet_size_max()
    }

    /// Whether a client is connected.
    pub fn is_online(&self) -> bool {
        self.connection.is_some()
    }

    /// Writes DISCONNECT with a reason to an MQTT 5 client; 3.x clients have no such packet.
    pub fn write_disconnect(&mut self, cx: &mut Context, reason: ReasonCode, detail: Option<&str>) {
        if let Some(connection) = &mut self.connection {
            super::disconnect::write_disconnect(cx, connection, reason, detail);
        }
    }
}
