//! What the state machine is given beside the packets: time, settings, counters, and the node behind a [`Host`].

use std::sync::Arc;

use crate::codec::ReasonCode;
use crate::hooks::{Hooks, Identity};
use crate::message::{Message, Millis, Place, Publication, Retained};
use crate::metrics::Tally;
use crate::policy::{AccessCell, Decider, Policy, Subject};
use crate::routing::SubscriptionOptions;
use crate::settings::Settings;
use crate::store::{Change, Lsn, QueueId, SegmentNo};

use super::SessionLimits;

/// The surroundings of one call; a worker keeps one and brings it up to date each turn.
#[derive(Debug)]
pub struct Context {
    /// The engine's clock.
    pub now: Millis,
    /// Settings in force.
    pub settings: Arc<Settings>,
    /// Counters of this thread.
    pub tally: Tally,
    /// Hooks that somebody listens to.
    pub hooks: Hooks,
    /// Who decides where a listener says nothing.
    pub access: Arc<AccessCell>,
    /// What is decided without asking anybody.
    pub policy: Arc<Policy>,
    /// Why the cluster is not ready, for people; none while it is.
    pub netsplit: Option<Arc<String>>,
    /// What happened to messages and somebody listens to; the caller knows whose session it was and takes them out.
    pub notices: Vec<Notice>,
    /// What the store has to know of the session in hand; the caller takes it out before another one is in hand.
    pub changes: Vec<Change>,
    /// The store, if there is one.
    pub archive: Option<Arc<dyn Archive>>,
    /// Reused for messages whose bytes must be put together anew.
    pub scratch: Vec<u8>,
}

impl Context {
    /// A context at time 0 without hooks.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            now: 0,
            settings,
            tally: Tally::default(),
            hooks: Hooks::empty(),
            access: Arc::default(),
            policy: Arc::default(),
            netsplit: None,
            notices: Vec::new(),
            changes: Vec::new(),
            archive: None,
            scratch: Vec::new(),
        }
    }

    /// Who decides about something that a client does. `own`: what its listener says.
    #[inline]
    pub fn decider(&self, subject: Subject, own: &AccessCell) -> Decider {
        match own.get(subject) {
            Decider::Inherit => {}
            decider => return decider,
        }
        match (self.access.get(subject), subject) {
            (Decider::Inherit, Subject::Register) if self.hooks.contains(Hooks::AUTH_ON_REGISTER) => Decider::Hook,
            (Decider::Inherit, Subject::Publish) if self.hooks.contains(Hooks::AUTH_ON_PUBLISH) => Decider::Hook,
            (Decider::Inherit, Subject::Subscribe) if self.hooks.contains(Hooks::AUTH_ON_SUBSCRIBE) => Decider::Hook,
            (Decider::Inherit, Subject::Register) => Decider::Closed,
            (Decider::Inherit, Subject::Publish | Subject::Subscribe) => Decider::Open,
            (decider, _) => decider,
        }
    }

    /// Why something that clients do is refused: the cluster is not ready, and the setting for it is off.
    #[inline]
    pub fn barred(&self, is_allowed: impl FnOnce(&Settings) -> bool) -> Option<Arc<String>> {
        self.netsplit.as_ref().filter(|_| !is_allowed(&self.settings)).map(Arc::clone)
    }

    /// Gives up a place: its message was acknowledged as number `number` of the window, or dropped while it waited (0).
    #[inline]
    pub fn give_up(&mut self, place: Place, number: u64) {
        if let Some(slot) = place.body() {
            self.changes.push(Change::Done { slot, number });
        } else if place.is_stored() {
            self.changes.push(Change::Completed { number });
        }
    }

    /// Reads a message that is only in the store. `None`: it cannot be read, which the store has told the operator.
    pub fn load(&self, place: Place) -> Option<Message> {
        self.archive.as_ref()?.load(place.body()?)
    }

    /// Whether the store has kept its promise about all that precedes `lsn`, after having it written if need be.
    #[inline]
    pub fn is_kept(&self, lsn: Lsn) -> bool {
        self.archive.as_ref().is_none_or(|archive| archive.commit(lsn))
    }

    /// Notes what happened to a message if somebody listens to that.
    pub fn notice(
        &mut self,
        hook: Hooks,
        message: impl FnOnce() -> Message,
        qos: u8,
        retain: bool,
        reason: &'static str,
    ) {
        if self.hooks.contains(hook) {
            self.notices.push(Notice { hook, message: message(), qos, retain, reason });
        }
    }
}

impl std::fmt::Debug for dyn Archive {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Archive")
    }
}

/// What the state machine needs of the store.
pub trait Archive: Send + Sync {
    /// Reads a message. `None`: it cannot be read.
    fn load(&self, slot: u32) -> Option<Message>;

    /// A message will only be in the store from now on; it may be remembered for a while.
    fn offer(&self, slot: u32, message: &Message);

    /// Has everything written that precedes `lsn`. False: the promise of `store.sync` does not hold yet.
    fn commit(&self, lsn: Lsn) -> bool;

    /// The segment that the log has come to.
    fn segment(&self) -> SegmentNo;
}

/// Something that happened to a message of the session in hand.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Which hook.
    pub hook: Hooks,
    /// The message.
    pub message: Message,
    /// QoS of the delivery.
    pub qos: u8,
    /// RETAIN of the delivery.
    pub retain: bool,
    /// Why it was dropped.
    pub reason: &'static str,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// It is on its way; whether anybody subscribes to it.
    Accepted {
        /// Somebody gets it.
        has_subscribers: bool,
    },
    /// It was refused.
    Refused(ReasonCode),
}

/// A QoS 2 message that its publisher, whose session is kept, has not released yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreleased {
    /// The publisher's queue.
    pub queue: QueueId,
    /// The packet identifier that it came with.
    pub packet_id: u16,
    /// It came before, and who is to get it on this node has it: it is for other nodes, which know it by this stamp.
    pub repeats: Option<u64>,
}

/// What the state machine needs of the node.
pub trait Host {
    /// Routes a message. It may be delivered after the call, but before the publisher's output is flushed.
    fn publish(
        &mut self,
        cx: &mut Context,
        publisher: &Identity,
        publication: Publication<'_>,
        unreleased: Option<Unreleased>,
    ) -> Routed;

    /// Puts a subscription of the session in hand into the routing table. `group`: of a shared subscription.
    fn subscribe(&mut self, filter: &str, group: Option<&str>, options: SubscriptionOptions);

    /// Takes a subscription of the session in hand out of the routing table.
    fn unsubscribe(&mut self, filter: &str, group: Option<&str>);

    /// The retained messages that match a filter. Who gets one with a place in the store holds it from then on.
    fn retained(&mut self, now: Millis, filter: &str) -> Vec<Retained>;

    /// How many retained messages there are at most for one subscription.
    fn retained_count(&mut self) -> usize;

    /// Tells whoever listens to `hook` that subscriptions changed.
    fn notify(&mut self, cx: &mut Context, hook: Hooks, identity: &Identity, filters: Vec<(String, u8)>);

    /// Asks Python with what the connection has [`super::Waiting`] for. False: too many questions wait already.
    fn ask(&mut self, cx: &mut Context, identity: &Identity, question: Question<'_>) -> bool;
}

/// A question to Python, properties encoded as on the wire; the session that it is about waits.
#[derive(Debug)]
pub enum Question<'a> {
    /// May this message be published?
    Publish(&'a Message),
    /// May these subscriptions be made?
    Subscribe {
        /// Filters with the requested QoS.
        filters: Vec<(String, u8)>,
        /// Properties of the packet.
        properties: Vec<u8>,
    },
    /// What is to be unsubscribed?
    Unsubscribe {
        /// Filters.
        filters: Vec<String>,
        /// Properties of the packet.
        properties: Vec<u8>,
    },
    /// The next step of an enhanced authentication.
    Auth {
        /// Method.
        method: &'a str,
        /// Data.
        data: Option<&'a [u8]>,
        /// 0x18 or 0x19.
        reason_code: u8,
        /// Properties of the packet.
        properties: Vec<u8>,
    },
}

/// Python's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Refuse.
    Deny(ReasonCode),
    /// Another round of enhanced authentication.
    Continue,
}

/// What a verdict changes in one message on its way to one client; `None` leaves a part as it is.
#[derive(Clone, Debug, Default)]
pub struct Rewriting {
    /// Topic.
    pub topic: Option<String>,
    /// Payload.
    pub payload: Option<Vec<u8>>,
    /// Properties, encoded.
    pub properties: Option<Vec<u8>>,
}

/// A decision and what it changes.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Go on or not.
    pub decision: Decision,
    /// Why not, for the client.
    pub reason_string: Option<String>,
    /// Where the client should go instead.
    pub server_reference: Option<String>,
    /// User properties for the answer, encoded.
    pub user_properties: Option<Vec<u8>>,
    /// What response topics are made from, for CONNACK.
    pub response_information: Option<String>,
    /// Another Clean Start (CONNECT).
    pub clean_start: Option<bool>,
    /// Another Session Expiry Interval in seconds (CONNECT).
    pub session_expiry: Option<u32>,
    /// Another limit for the life of the connection in seconds, 0 for none (CONNECT).
    pub connection_lifetime_s: Option<u32>,
    /// Limits in place of the settings (CONNECT).
    pub limits: Option<Box<SessionLimits>>,
    /// Milliseconds in which the client is not read afterwards (PUBLISH).
    pub throttle_ms: Option<Millis>,
    /// Changes of messages on their way to a client, one for each.
    pub rewritings: Option<Vec<Option<Rewriting>>>,
    /// Another client id (CONNECT).
    pub client_id: Option<String>,
    /// Another mountpoint (CONNECT).
    pub mountpoint: Option<String>,
    /// Another user name (CONNECT).
    pub username: Option<String>,
    /// Another topic (PUBLISH).
    pub topic: Option<String>,
    /// Another payload (PUBLISH).
    pub payload: Option<Vec<u8>>,
    /// Another QoS (PUBLISH).
    pub qos: Option<u8>,
    /// Another RETAIN (PUBLISH).
    pub retain: Option<bool>,
    /// Other properties, encoded (PUBLISH).
    pub properties: Option<Vec<u8>>,
    /// Filters with the granted QoS or a reason code (SUBSCRIBE), or with 0 (UNSUBSCRIBE).
    pub filters: Option<Vec<(String, u8)>>,
    /// Authentication data (AUTH).
    pub data: Option<Vec<u8>>,
}

impl Verdict {
    /// A verdict without changes.
    pub fn new(decision: Decision) -> Self {
        Self {
            decision,
            reason_string: None,
            server_reference: None,
            user_properties: None,
            response_information: None,
            clean_start: None,
            session_expiry: None,
            connection_lifetime_s: None,
            limits: None,
            throttle_ms: None,
            rewritings: None,
            client_id: None,
            mountpoint: None,
            username: None,
            topic: None,
            payload: None,
            qos: None,
            retain: None,
            properties: None,
            filters: None,
            data: None,
        }
    }

    /// A refusal.
    pub fn deny(reason: ReasonCode) -> Self {
        Self::new(Decision::Deny(reason))
    }
}
