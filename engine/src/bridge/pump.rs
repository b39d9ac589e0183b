//! A bridge without sockets: bytes of both sides in, bytes to both sides out.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::echoes::Echoes;
use super::mapping::{Forward, Mapping, Subscription, Way};
use super::marks::{CLUSTER, MARK_SIZE_MAX, VIA, is_marked, user_property};
use super::passing::{Passing, Source, left_of};
use super::status::{self, Status, count};
use crate::codec::{
    ConnAck, ProtocolVersion, Publish, PublishHead, QoS, ReasonCode, RetainHandling, SubAck, SubscribeOptions,
};
use crate::protocol::client::{Client, ClientError, ClientSettings, Event, Received, Refusal, State};

/// Output above which nothing more is taken from the other side.
const OUTPUT_FULL: usize = 256 << 10;
/// Bytes that wait for a side above which nothing more is taken from the other one.
const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// What a side may have us hold that sends more than it waits for acknowledgements of.
const HELD_BYTES_MAX: usize = 64 << 20;
const HELD_MAX: usize = 70_000;
/// Answers that the other broker does not read above which nothing more is read from it.
const UNREAD_MAX: usize = 16 << 20;

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This node.
    Local,
    /// The other broker.
    Remote,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Local, Self::Remote];

    pub fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// What a bridge does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From this node to the other broker.
    pub out: Mapping,
    /// From the other broker to this node.
    pub incoming: Mapping,
    /// Whether it subscribes on this node. One that does not brings away what its session there has left.
    pub subscribes: bool,
    /// Filters that the session on this node has from an earlier time and should not have any more.
    pub stale: Vec<String>,
    /// The mark of this broker.
    pub own_mark: Box<str>,
    /// The mark of the other broker, unless it says another one.
    pub remote_mark: Box<str>,
    /// Messages that may be under way to the other broker without an acknowledgement.
    pub window: u16,
}

/// Why a connection has to end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("refused: {}{}", .0.name(), .1)]
    Refused(ReasonCode, String),
    #[error("the other broker ended the connection: {}{}", .0.name(), .1)]
    Disconnected(ReasonCode, String),
    #[error("this node does not take messages now: {}", .0.name())]
    NotTaken(ReasonCode),
    #[error("the other broker sends more messages without waiting for acknowledgements than can be held")]
    TooMuch,
}

/// One side.
struct End {
    client: Client<Passing>,
    out: Vec<u8>,
    written: usize,
    /// What cannot be sent yet.
    backlog: VecDeque<Passing>,
    backlog_bytes: usize,
    /// Which connection it is.
    epoch: u32,
    /// Deliveries with `QoS` 2 that are not acknowledged: they may come again over the next connection.
    in_doubt: HashMap<u16, Rc<Source>, ahash::RandomState>,
    /// SUBSCRIBE packets without an answer, and which subscription each is about.
    asked: Vec<(u16, usize)>,
}

impl End {
    fn new(settings: ClientSettings) -> Self {
        Self {
            client: Client::new(settings),
            out: Vec::new(),
            written: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            epoch: 0,
            in_doubt: HashMap::default(),
            asked: Vec::new(),
        }
    }

    fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    fn takes_more(&self, window: u16) -> bool {
        self.backlog.len() <= usize::from(window)
            && self.backlog_bytes < BACKLOG_BYTES_MAX
            && self.unwritten() < OUTPUT_FULL
    }

    /// Whether there is more than what was taken while there was room comes to.
    fn is_overfull(&self, window: u16) -> bool {
        self.backlog.len() > 2 * usize::from(window) + 100 || self.backlog_bytes > 2 * BACKLOG_BYTES_MAX
    }

    fn push_back(&mut self, passing: Passing) {
        self.backlog_bytes += passing.size();
        self.backlog.push_back(passing);
    }

    fn acknowledge(&mut self, source: &Source) {
        if source.epoch.get() == self.epoch
            && self.client.acknowledge(source.packet_id, ReasonCode::SUCCESS, &mut self.out)
        {
            self.in_doubt.remove(&source.packet_id);
        }
    }
}

/// What became of an attempt to send.
enum Sent {
    Yes,
    /// There is no connection, or no room.
    NotNow,
    /// The receiver takes no packets so large.
    Never,
}

/// Both sides.
pub(super) struct Pump {
    plan: Plan,
    local: End,
    remote: End,
    status: Arc<Status>,
    via_own: Vec<u8>,
    remote_mark: Box<str>,
    via_remote: Vec<u8>,
    /// Of what is sent to a broker that sends it back.
    echoes: Option<Echoes>,
    clock: Rc<Cell<u64>>,
    /// What the other broker or this node refused, for the log.
    pub complaints: Vec<String>,
}

impl Pump {
    pub fn new(plan: Plan, local: ClientSettings, status: Arc<Status>) -> Self {
        let via_own = user_property(VIA, &plan.own_mark);
        let via_remote = user_property(VIA, &plan.remote_mark);
        let remote_mark = plan.remote_mark.clone();
        let remote = End::new(ClientSettings { send_window: plan.window, ..ClientSettings::default() });
        Self {
            plan,
            local: End::new(local),
            remote,
            status,
            via_own,
            remote_mark,
            via_remote,
            echoes: None,
            clock: Rc::default(),
            complaints: Vec::new(),
        }
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Local => &mut self.local,
            Side::Remote => &mut self.remote,
        }
    }

    /// How the other broker is spoken to from the next connection on.
    pub fn set_remote(&mut self, settings: ClientSettings) {
        *self.remote.client.settings_mut() = settings;
    }

    /// Another window towards this node.
    #[cfg(test)]
    pub fn set_local_window(&mut self, window: u16) {
        self.local.client.settings_mut().send_window = window;
    }

    /// A network connection stands.
    pub fn connect(&mut self, side: Side) {
        let end = self.end(side);
        (end.out, end.written) = (Vec::new(), 0);
        end.epoch += 1;
        end.asked.clear();
        end.client.connect(&mut end.out);
    }

    /// A network connection is gone.
    pub fn detach(&mut self, side: Side) {
        let end = self.end(side);
        (end.out, end.written) = (Vec::new(), 0);
        end.client.detach();
        self.note_held();
    }

    /// Ends a connection in good order.
    pub fn disconnect(&mut self, side: Side) {
        let end = self.end(side);
        end.client.disconnect(ReasonCode::SUCCESS, &mut end.out);
    }

    /// Bytes for a side.
    pub fn output(&mut self, side: Side) -> &[u8] {
        let end = self.end(side);
        &end.out[end.written..]
    }

    /// So many of them are written.
    pub fn advance(&mut self, side: Side, count: usize) {
        let end = self.end(side);
        end.written += count;
        if end.written == end.out.len() {
            end.out.clear();
            end.written = 0;
        } else if end.written >= OUTPUT_FULL {
            end.out.drain(..end.written);
            end.written = 0;
        }
    }

    /// Whether what comes from a side can be taken now: the other side has room for it. Where a side has no room itself, what it
    /// says is read all the same, since nothing else makes room there.
    pub fn takes_from(&self, side: Side) -> bool {
        let window = self.plan.window;
        let (own, other) = match side {
            Side::Local => (&self.local, &self.remote),
            Side::Remote => (&self.remote, &self.local),
        };
        if side == Side::Remote && own.unwritten() > UNREAD_MAX {
            return false;
        }
        own.client.state() != State::Online || other.takes_more(window) || !own.takes_more(window)
    }

    /// Whether there are bytes for a side, or messages that could be sent there now.
    pub fn has_work(&mut self, side: Side, now_ms: u64) -> bool {
        if self.end(side).unwritten() == 0 && !self.end(side).backlog.is_empty() {
            self.send_backlog(side, now_ms);
        }
        self.end(side).unwritten() > 0
    }

    /// Bytes for the other broker are on their way: the time for its answer to a ping begins anew.
    pub fn put_off_ping(&mut self, now_ms: u64) {
        self.remote.client.put_off_ping(now_ms);
    }

    /// Sends a PINGREQ when one is due; when to call again.
    pub fn keep_alive(&mut self, now_ms: u64) -> Result<Option<u64>, Cut> {
        Ok(self.remote.client.keep_alive(now_ms, &mut self.remote.out)?)
    }

    /// Takes packets off the start of `input`: how many bytes of it, and how many a packet needs of which there is only a part.
    pub fn receive(&mut self, side: Side, input: &[u8], now_ms: u64) -> Result<(usize, usize), Cut> {
        let mut taken = 0;
        self.clock.set(now_ms);
        while self.takes_from(side) {
            let end = self.end(side);
            match end.client.receive(&input[taken..], &mut end.out)? {
                Received::Packet { size, event } => {
                    taken += size;
                    self.handle(side, event, now_ms)?;
                }
                Received::Incomplete { needed } => return Ok((taken, needed.unwrap_or(0))),
            }
        }
        Ok((taken, 0))
    }

    fn handle(&mut self, side: Side, event: Event<'_, Passing>, now_ms: u64) -> Result<(), Cut> {
        match event {
            Event::Delivery(publish) => self.deliver(side, &publish, now_ms)?,
            Event::Acknowledged { reason, kept, .. } => {
                if reason.is_error() {
                    self.refused(side, reason, &kept)?;
                }
                if let Some(source) = &kept.source {
                    self.arrived(side.other(), source);
                }
                self.take_back(side);
                self.send_backlog(side, now_ms);
            }
            Event::Connected(connack) => self.connected(side, &connack, now_ms),
            Event::Refused(connack) => {
                return Err(Cut::Refused(connack.reason, said(connack.properties.reason_string)));
            }
            Event::Subscribed(answer) => self.subscribed(side, &answer),
            Event::Disconnected(disconnect) => {
                return Err(Cut::Disconnected(disconnect.reason, said(disconnect.properties.reason_string)));
            }
            Event::Repeated(packet_id) => {
                self.came_before(side, packet_id);
            }
            Event::Unsubscribed(_) | Event::Pong | Event::Handled => {}
        }
        Ok(())
    }

    // -- connections ---------------------------------------------------------------------------------------------------

    fn connected(&mut self, side: Side, connack: &ConnAck<'_>, now_ms: u64) {
        let end = self.end(side);
        let is_present = end.client.is_session_present();
        if !is_present {
            end.in_doubt.clear();
        }
        for passing in end.client.take_arrived() {
            if let Some(source) = &passing.source {
                self.arrived(side.other(), source);
            }
        }
        self.take_back(side);
        if side == Side::Remote {
            self.status.set_state(status::State::Connected);
            let told = connack.properties.user_properties.into_iter().find(|(name, _)| *name == CLUSTER);
            let told = told.map(|(_, mark)| mark).filter(|mark| mark.len() <= MARK_SIZE_MAX);
            self.remote_mark = told.map_or_else(|| self.plan.remote_mark.clone(), Into::into);
            self.via_remote = user_property(VIA, &self.remote_mark);
            let settings = self.remote.client.settings();
            let sends_back = settings.version != ProtocolVersion::V5 && !settings.bridge;
            if !sends_back {
                self.echoes = None;
            } else if let Some(echoes) = self.echoes.as_mut().filter(|_| !is_present) {
                echoes.clear();
            } else {
                self.echoes.get_or_insert_default();
            }
        }
        self.subscribe(side, is_present);
        self.send_backlog(side, now_ms);
    }

    /// What the client has given up goes again, before everything else: a new session does not know it.
    fn take_back(&mut self, side: Side) {
        let end = self.end(side);
        let mut again = end.client.take_abandoned();
        while let Some(passing) = again.pop() {
            end.backlog_bytes += passing.size();
            end.backlog.push_front(passing);
        }
    }

    fn subscribe(&mut self, side: Side, is_present: bool) {
        let Self { plan, local, remote, complaints, .. } = self;
        let (end, mapping) = match side {
            Side::Local => (local, &plan.out),
            Side::Remote => (remote, &plan.incoming),
        };
        if side == Side::Local && !plan.stale.is_empty() {
            let stale: Vec<&str> = plan.stale.iter().map(String::as_str).collect();
            if let Err(refusal) = end.client.unsubscribe(&stale, &mut end.out) {
                complaints.push(format!("cannot unsubscribe what is no longer bridged: {refusal}"));
            }
        }
        if side == Side::Local && !plan.subscribes {
            return;
        }
        let is_v5 = end.client.settings().version == ProtocolVersion::V5;
        let has_identifiers = end.client.limits().subscription_identifiers;
        for (index, subscription) in mapping.subscriptions.iter().enumerate() {
            let options = options_of(subscription, is_v5, is_present);
            let identifier = has_identifiers.then_some(subscription.identifier);
            match end.client.subscribe(&[(&subscription.wire_filter, options)], identifier, &mut end.out) {
                Ok(id) => end.asked.push((id, index)),
                Err(refusal) => complaints.push(format!("cannot subscribe to {}: {refusal}", subscription.wire_filter)),
            }
        }
    }

    fn subscribed(&mut self, side: Side, answer: &SubAck<'_>) {
        let end = self.end(side);
        let Some(position) = end.asked.iter().position(|(id, _)| *id == answer.packet_id) else { return };
        let (_, index) = end.asked.swap_remove(position);
        let mapping = if side == Side::Local { &self.plan.out } else { &self.plan.incoming };
        let Some(subscription) = mapping.subscriptions.get(index) else { return };
        let reason = answer.reasons.first().copied().unwrap_or(ReasonCode::UNSPECIFIED_ERROR);
        if reason.is_error() {
            let who = if side == Side::Local { "this node" } else { "the other broker" };
            let complaint =
                format!("{who} refused the subscription to {}: {}", subscription.wire_filter, reason.name());
            self.complaints.push(complaint);
        }
    }

    // -- messages ------------------------------------------------------------------------------------------------------

    fn deliver(&mut self, from: Side, publish: &Publish<'_>, now_ms: u64) -> Result<(), Cut> {
        if publish.qos == QoS::ExactlyOnce && self.came_before(from, publish.packet_id) {
            return Ok(());
        }
        let held = self.end(from.other());
        if held.backlog.len() > HELD_MAX || held.backlog_bytes > HELD_BYTES_MAX {
            return Err(Cut::TooMuch);
        }
        let (mapping, marks) = match from {
            Side::Local => (&self.plan.out, &[&*self.plan.own_mark, &*self.remote_mark][..]),
            Side::Remote => (&self.plan.incoming, &[&*self.plan.own_mark][..]),
        };
        let properties = &publish.properties;
        let echoes = self.echoes.as_mut().filter(|_| from == Side::Remote);
        let is_echo = echoes.is_some_and(|echoes| echoes.is_echo(publish.topic, publish.payload));
        let forwards = if is_echo || is_marked(properties.raw, marks) {
            count(&self.status.looped);
            Vec::new()
        } else {
            mapping.forwards(publish.topic, publish.qos as u8, publish.retain, &properties.subscription_identifiers)
        };
        let source = (publish.packet_id != 0).then(|| {
            let left = Cell::new(forwards.len());
            let epoch = Cell::new(self.end(from).epoch);
            Rc::new(Source { packet_id: publish.packet_id, epoch, left })
        });
        if let Some(source) = &source {
            let end = self.end(from);
            if publish.qos == QoS::ExactlyOnce {
                end.in_doubt.insert(publish.packet_id, Rc::clone(source));
            }
            if forwards.is_empty() {
                end.acknowledge(source);
            }
        }
        if forwards.is_empty() {
            return Ok(());
        }
        let mut passed_on = Vec::with_capacity(properties.raw.len() + self.via_own.len());
        properties.write_forwardable(&mut passed_on);
        passed_on.extend_from_slice(if from == Side::Local { &self.via_own } else { &self.via_remote });
        let expires_at = properties.message_expiry.map(|seconds| now_ms + u64::from(seconds) * 1_000);
        for forward in forwards {
            self.forward(from.other(), forward, &passed_on, publish.payload, expires_at, source.as_ref(), now_ms);
        }
        Ok(())
    }

    /// Whether a `QoS` 2 message that comes again is on its way already; it is acknowledged once it has arrived.
    fn came_before(&mut self, from: Side, packet_id: u16) -> bool {
        let end = self.end(from);
        let Some(source) = end.in_doubt.get(&packet_id).cloned() else { return false };
        source.epoch.set(end.epoch);
        if source.left.get() == 0 {
            end.acknowledge(&source);
        }
        true
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    fn forward(
        &mut self,
        to: Side,
        forward: Forward,
        properties: &[u8],
        payload: &[u8],
        expires_at: Option<u64>,
        source: Option<&Rc<Source>>,
        now_ms: u64,
    ) {
        if to == Side::Remote
            && let Some(echoes) = &mut self.echoes
            && !self.plan.incoming.forwards(&forward.topic, 0, false, &[]).is_empty()
        {
            echoes.sent(&forward.topic, payload, now_ms);
        }
        let qos = QoS::from_u8(forward.qos).unwrap_or(QoS::AtMostOnce);
        let end = self.end(to);
        if qos == QoS::AtMostOnce && end.backlog.is_empty() && end.unwritten() < OUTPUT_FULL {
            // By far the most: written from where it is read, without a copy in between.
            let head = PublishHead {
                dup: false,
                qos,
                retain: forward.retain && end.client.limits().retain,
                packet_id: 0,
                topic: &forward.topic,
                topic_alias: None,
                message_expiry: left_of(expires_at, now_ms).unwrap_or(Some(0)),
                subscription_identifiers: &[],
                properties,
                payload_len: payload.len(),
            };
            let version = end.client.settings().version;
            match end.client.check(qos, head.retain, head.encoded_size(version)) {
                Ok(()) => {
                    head.encode(version, &mut end.out);
                    end.out.extend_from_slice(payload);
                    self.count_sent(to, qos);
                    if let Some(source) = source {
                        self.arrived(to.other(), source);
                    }
                    return;
                }
                Err(Refusal::TooLarge { .. }) => {
                    self.given_up(to, source, &forward.topic);
                    return;
                }
                Err(_) => {}
            }
        }
        let window = self.plan.window;
        if qos == QoS::AtMostOnce && source.is_none() && self.end(to).is_overfull(window) {
            // It was read only for what comes behind it.
            count(&self.status.overflowed);
            return;
        }
        let mut passing = Passing {
            source: source.cloned(),
            topic: forward.topic.into_boxed_str(),
            properties: properties.into(),
            payload: payload.into(),
            qos,
            retain: forward.retain,
            expires_at,
            expiry_s: None,
            clock: Rc::clone(&self.clock),
        };
        if self.end(to).backlog.is_empty() {
            match self.send(to, passing, now_ms) {
                Some(back) => passing = back,
                None => return,
            }
        }
        self.end(to).push_back(passing);
        self.note_held();
    }

    /// Sends a message, if it can be sent now; else it comes back.
    fn send(&mut self, to: Side, mut passing: Passing, now_ms: u64) -> Option<Passing> {
        match self.try_send(to, &mut passing, now_ms) {
            Ok(Sent::NotNow) => return Some(passing),
            Ok(Sent::Yes) => {
                let qos = passing.qos;
                self.count_sent(to, qos);
                if qos > QoS::AtMostOnce {
                    // There was room for it, and nothing has come in between.
                    self.keep_sent(to, passing);
                } else if let Some(source) = &passing.source {
                    self.arrived(to.other(), source);
                }
            }
            Ok(Sent::Never) => {
                let source = passing.source.take();
                self.given_up(to, source.as_ref(), &passing.topic);
            }
            Err(()) => {
                count(&self.status.expired);
                if let Some(source) = &passing.source {
                    self.arrived(to.other(), source);
                }
            }
        }
        None
    }

    /// `Err`: its time is over. A message above `QoS` 0 for which there is room is written by [`Pump::keep_sent`].
    fn try_send(&mut self, to: Side, passing: &mut Passing, now_ms: u64) -> Result<Sent, ()> {
        passing.expiry_s = left_of(passing.expires_at, now_ms)?;
        let end = self.end(to);
        let limits = *end.client.limits();
        passing.qos = passing.qos.min(limits.qos_max);
        passing.retain &= limits.retain;
        let version = end.client.settings().version;
        match end.client.check(passing.qos, passing.retain, passing.head().encoded_size(version)) {
            Ok(()) => {}
            Err(Refusal::TooLarge { .. }) => return Ok(Sent::Never),
            Err(_) => return Ok(Sent::NotNow),
        }
        if end.unwritten() >= OUTPUT_FULL || (passing.qos > QoS::AtMostOnce && end.client.room() == 0) {
            return Ok(Sent::NotNow);
        }
        if passing.qos == QoS::AtMostOnce {
            passing.head().encode(version, &mut end.out);
            end.out.extend_from_slice(&passing.payload);
        }
        Ok(Sent::Yes)
    }

    fn keep_sent(&mut self, to: Side, passing: Passing) {
        let end = self.end(to);
        let version = end.client.settings().version;
        if passing.qos == QoS::ExactlyOnce {
            end.client.release_next(&mut end.out);
        }
        let start = end.out.len();
        let at = start + passing.head().packet_id_offset(version);
        passing.head().encode(version, &mut end.out);
        end.out.extend_from_slice(&passing.payload);
        match end.client.begin(passing.qos, passing) {
            Ok(id) => end.out[at..at + 2].copy_from_slice(&id.to_be_bytes()),
            Err(refusal) => {
                debug_assert!(false, "there was room: {refusal}");
                end.out.truncate(start);
            }
        }
    }

    fn send_backlog(&mut self, to: Side, now_ms: u64) {
        while let Some(passing) = self.end(to).backlog.pop_front() {
            let size = passing.size();
            if let Some(back) = self.send(to, passing, now_ms) {
                self.end(to).backlog.push_front(back);
                break;
            }
            let end = self.end(to);
            end.backlog_bytes = end.backlog_bytes.saturating_sub(size);
        }
        self.note_held();
    }

    /// Sends what waited for the socket to take more.
    pub fn go_on(&mut self, now_ms: u64) {
        for side in Side::BOTH {
            if !self.end(side).backlog.is_empty() {
                self.send_backlog(side, now_ms);
            }
        }
    }

    /// One of the messages made of a delivery has arrived; `side`: where the delivery came from.
    fn arrived(&mut self, side: Side, source: &Source) {
        source.left.set(source.left.get().saturating_sub(1));
        if source.left.get() == 0 {
            self.end(side).acknowledge(source);
        }
    }

    fn given_up(&mut self, to: Side, source: Option<&Rc<Source>>, topic: &str) {
        count(&self.status.too_large);
        self.complaints.push(format!("a message for {topic} is too large for the receiver, and is not passed on"));
        if let Some(source) = source {
            self.arrived(to.other(), source);
        }
    }

    /// The side that a message was for has not taken it.
    fn refused(&mut self, side: Side, reason: ReasonCode, passing: &Passing) -> Result<(), Cut> {
        let is_final = matches!(
            reason,
            ReasonCode::NOT_AUTHORIZED
                | ReasonCode::TOPIC_NAME_INVALID
                | ReasonCode::PACKET_TOO_LARGE
                | ReasonCode::PAYLOAD_FORMAT_INVALID
        );
        if side == Side::Local && !is_final {
            // It is not acknowledged, so it comes again over the next connection.
            return Err(Cut::NotTaken(reason));
        }
        count(&self.status.refused);
        let who = if side == Side::Local { "this node" } else { "the other broker" };
        self.complaints.push(format!("{who} refused a message for {}: {}", passing.topic, reason.name()));
        Ok(())
    }

    fn count_sent(&self, to: Side, qos: QoS) {
        let counters = if to == Side::Remote { &self.status.published_out } else { &self.status.published_in };
        count(&counters[qos as usize]);
    }

    fn note_held(&self) {
        let held = self.remote.backlog.len() + self.remote.client.unacknowledged();
        self.status.held.store(held, Ordering::Relaxed);
    }
}

fn said(reason_string: Option<&str>) -> String {
    reason_string.map(|text| format!(" ({text})")).unwrap_or_default()
}

fn options_of(subscription: &Subscription, is_v5: bool, is_present: bool) -> SubscribeOptions {
    let qos = QoS::from_u8(subscription.qos).unwrap_or(QoS::AtMostOnce);
    if !is_v5 {
        return SubscribeOptions { qos, ..SubscribeOptions::default() };
    }
    SubscribeOptions {
        qos,
        // [MQTT-3.8.3-4]
        no_local: !subscription.is_shared,
        retain_as_published: subscription.keeps_retain,
        // A session that is there has had what is retained.
        retain_handling: if is_present { RetainHandling::IfNew } else { RetainHandling::Always },
    }
}

impl Mapping {
    /// No subscriptions.
    pub fn none(way: Way) -> Self {
        Self { way, subscriptions: Vec::new() }
    }
}
