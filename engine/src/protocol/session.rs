//! A session: what belongs to one client id, with or without a connection.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use crate::codec::ReasonCode;
use crate::hooks::Identity;
use crate::message::Message;
use crate::metrics::Counter;
use crate::queue::{Inflight, InflightState, Pending, Queued, ReceivedIds};
use crate::routing::SubscriptionOptions;
use crate::settings::Settings;

use super::connect::Registration;
use super::deliver::count_drop;
use super::limits::in_force;
use super::rewriting::Rewritings;
use super::{Connection, Context, Ending, Waiting};

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
    /// When the session began.
    pub started_at: SystemTime,
    /// When the connection began.
    pub connected_at: Option<SystemTime>,
    pub(super) resend: Resend,
    /// Messages that Python may change or has changed.
    pub(super) rewritings: Option<Box<Rewritings>>,
    /// The settings of a client whose verdict put limits in their places.
    pub(super) own_settings: Option<Arc<Settings>>,
}

impl Session {
    /// An empty session without a connection.
    pub fn new(id: u64, identity: Identity) -> Self {
        Self {
            id,
            identity,
            expiry: Expiry::WithConnection,
            subscriptions: HashMap::default(),
            window: Inflight::default(),
            pending: Pending::default(),
            received: ReceivedIds::default(),
            connection: None,
            will: None,
            started_at: SystemTime::now(),
            connected_at: None,
            resend: Resend::default(),
            rewritings: None,
            own_settings: None,
        }
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
        self.own_settings = match registration.settings(&cx.settings) {
            Cow::Borrowed(_) => None,
            Cow::Owned(own) => Some(Arc::new(own)),
        };
        self.expiry = registration.expiry(&cx.settings);
        self.will.clone_from(&registration.will);
        self.connected_at = Some(SystemTime::now());
        self.connection = Some(connection);
        self.resend.0 = self.window.iter().map(|(packet_id, _)| packet_id).collect();
        let limit = in_force(self.own_settings.as_ref(), cx).queue_limit(true);
        if !cx.settings.override_max_online_messages && self.pending.len() > limit {
            for dropped in self.pending.truncate(limit) {
                count_drop(cx, &dropped.message, dropped.qos, dropped.retain, "queue_full");
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
        self.give_up_rewriting();
        let unhandled = self.pending.drop_unless(|queued| queued.qos > 0);
        cx.tally.add(Counter::QueueMessageUnhandled, unhandled as u64);
        let limit = in_force(self.own_settings.as_ref(), cx).queue_limit(false);
        if self.expiry != Expiry::WithConnection && self.pending.len() > limit {
            for dropped in self.pending.truncate(limit) {
                count_drop(cx, &dropped.message, dropped.qos, dropped.retain, "queue_full");
            }
        }
        Detached { will: will.filter(|_| !ending.cancels_will()), expiry: self.expiry }
    }

    /// Takes out all QoS 1 and 2 messages that the client has not acknowledged, in order, for another session to deliver. A
    /// QoS 2 message whose PUBREC came is not among them: the client has it.
    pub fn take_unfinished(&mut self) -> Vec<Queued> {
        let window = std::mem::take(&mut self.window);
        let under_way = window.iter().filter_map(|(_, slot)| {
            let qos = if slot.state == InflightState::AwaitingPuback { 1 } else { 2 };
            let message = slot.message.clone()?;
            Some(Queued { message, qos, retain: slot.retain, identifiers: slot.identifiers.clone() })
        });
        let mut unfinished: Vec<Queued> = under_way.collect();
        self.give_up_rewriting();
        unfinished.extend(self.take_rewritten());
        unfinished.extend(std::iter::from_fn(|| self.pending.pop()).filter(|queued| queued.qos > 0));
        unfinished
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
