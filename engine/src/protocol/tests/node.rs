//! A node in memory: real tries, clients that take seats, and a clock that the test moves.
//!
//! It does for sessions what the broker does, without locks, sockets and threads: messages of a packet are routed while it is
//! processed and handed over behind it, sessions that outlive their connection stay until their time is over.

use std::io::IoSlice;
use std::sync::Arc;

use super::engine::codec::{
    Connect, FrameStep, Packet, PacketType, Properties, ProtocolVersion, PublishHead, QoS, ReasonCode, Subscribe,
    SubscribeOptions, Unsubscribe, next_frame, text::parse_shared_filter,
};
use super::engine::hooks::{Hooks, Identity};
use super::engine::message::{Head, Message, MessageId, Millis, NEVER, Place, Publication, Retained};
use super::engine::protocol::connect::{Admission, Refusal, Registration, admit};
use super::engine::protocol::{
    Connection, Context, Ending, Expiry, FrameCache, Host, Outgoing, Question, Routed, SLICES_MAX, Session,
    SessionLimits, Step, Unreleased, Verdict, Will,
};
use super::engine::routing::{Delivery, Own, RetainedTrie, Route, Subscriber, SubscriptionOptions, SubscriptionTrie};
use super::engine::settings::Settings;
use super::referee::{Heard, Referee};

/// A session as the trie knows it.
#[derive(Clone, Copy, Debug)]
struct Seated {
    id: u64,
    seat: usize,
}

impl Subscriber for Seated {
    fn id(&self) -> u64 {
        self.id
    }

    fn is_online(&self) -> bool {
        true
    }
}

/// One client id, `c0`, `c1` ...
#[derive(Default)]
struct Seat {
    session: Option<Session>,
    referee: Option<Referee>,
    ends_at: Option<Millis>,
    will: Option<(Millis, Will)>,
}

/// What the sessions share.
#[derive(Default)]
struct Shared {
    trie: SubscriptionTrie<Seated>,
    retained: RetainedTrie<Message>,
    asked: Vec<String>,
    told: Vec<String>,
    refuses_questions: bool,
    refuses_messages: Option<ReasonCode>,
}

/// The node as the session in hand sees it.
struct Desk<'a> {
    shared: &'a mut Shared,
    seated: Seated,
    /// Messages to be handed over, with whether they have any receiver.
    published: &'a mut Vec<Message>,
}

impl Host for Desk<'_> {
    fn publish(
        &mut self,
        _: &mut Context,
        _: &Identity,
        publication: Publication<'_>,
        _: Option<Unreleased>,
    ) -> Routed {
        if let Some(reason) = self.shared.refuses_messages {
            return Routed::Refused(reason);
        }
        let message = Message::keep(&publication);
        self.shared.retain(&message);
        let mut route = Route::new();
        self.shared.trie.route(publication.topic_text(), &mut route);
        self.published.push(message);
        Routed::Accepted { has_subscribers: !route.targets.is_empty() || !route.groups.is_empty() }
    }

    fn subscribe(&mut self, filter: &str, group: Option<&str>, options: SubscriptionOptions) {
        match group {
            Some(group) => self.shared.trie.subscribe_shared(group, filter, self.seated, options),
            None => self.shared.trie.subscribe(filter, self.seated, options),
        };
    }

    fn unsubscribe(&mut self, filter: &str, group: Option<&str>) {
        self.shared.unsubscribe(filter, group, self.seated.id);
    }

    fn retained(&mut self, now: Millis, filter: &str) -> Vec<Retained> {
        let mut found = Vec::new();
        self.shared.retained.matching(filter, &mut |_, message| {
            found.push(Retained::new(message.clone(), MessageId::NONE));
            true
        });
        found.retain(|retained| !retained.is_expired(now));
        found
    }

    fn retained_count(&mut self) -> usize {
        self.shared.retained.len()
    }

    fn notify(&mut self, _: &mut Context, hook: Hooks, identity: &Identity, filters: Vec<(String, u8)>) {
        self.shared.told.push(format!("{} {} {filters:?}", hook.name(), identity.client_id));
    }

    fn ask(&mut self, _: &mut Context, identity: &Identity, question: Question<'_>) -> bool {
        if self.shared.refuses_questions {
            return false;
        }
        let client_id = &identity.client_id;
        self.shared.asked.push(match question {
            Question::Publish(message) => format!("{client_id} publish {}", message.publication().topic_text()),
            Question::Subscribe { filters, .. } => format!("{client_id} subscribe {filters:?}"),
            Question::Unsubscribe { filters, .. } => format!("{client_id} unsubscribe {filters:?}"),
            Question::Auth { method, data, reason_code, .. } => {
                let data = String::from_utf8_lossy(data.unwrap_or_default()).into_owned();
                format!("{client_id} auth {method} {data:?} 0x{reason_code:02x}")
            }
        });
        true
    }
}

impl Shared {
    fn retain(&mut self, message: &Message) {
        let publication = message.publication();
        if !publication.head.retain {
            return;
        }
        if publication.payload().is_empty() {
            self.retained.remove(publication.topic_text());
        } else {
            self.retained.set(publication.topic_text(), message.clone());
        }
    }

    fn unsubscribe(&mut self, filter: &str, group: Option<&str>, id: u64) {
        match group {
            Some(group) => self.trie.unsubscribe_shared(group, filter, id),
            None => self.trie.unsubscribe(filter, id),
        };
    }
}

/// The node.
pub struct Node {
    /// Clock, settings, hooks and counters; a test changes what it likes.
    pub cx: Context,
    /// Who may connect.
    pub admission: Admission,
    shared: Shared,
    seats: Vec<Seat>,
    cache: FrameCache,
    next_session: u64,
}

impl Node {
    /// A node with these settings and room for clients `0..seats`.
    pub fn new(settings: Settings, seats: usize) -> Self {
        let mut cx = Context::new(Arc::new(settings));
        cx.now = 1;
        let admission = Admission {
            mountpoint: "".into(),
            protocol_versions: vec![3, 4, 5, 131],
            allow_anonymous: Some(true),
            listener: "tcp.test".into(),
            access: Arc::default(),
            limits: SessionLimits::default(),
        };
        let mut places = Vec::new();
        places.resize_with(seats, Seat::default);
        Self { cx, admission, shared: Shared::default(), seats: places, cache: FrameCache::default(), next_session: 1 }
    }

    // -- clients ---------------------------------------------------------------------------------------------------

    /// Connects a client, clean and without properties but for what `change` makes of the CONNECT.
    pub fn connect(
        &mut self,
        seat: usize,
        version: ProtocolVersion,
        change: impl FnOnce(&mut Connect<'_>),
    ) -> Result<(), Refusal> {
        let client_id = format!("c{seat}");
        let mut connect = Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id: &client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::new(),
        };
        change(&mut connect);
        let registration = admit(&connect, &self.admission, &self.cx.settings, || "made-up".to_owned())?;
        if self.is_online(seat) {
            self.end(seat, &Ending::TakenOver { keeps_will: false });
        }
        self.attach(seat, &registration);
        Ok(())
    }

    /// Connects a client as [`Node::connect`] does and forgets the CONNACK.
    pub fn connected(&mut self, seat: usize, version: ProtocolVersion, change: impl FnOnce(&mut Connect<'_>)) {
        self.connect(seat, version, change).expect("the CONNECT is fine");
        let heard = self.said(seat);
        assert!(heard.first().is_some_and(|first| first.starts_with("CONNACK 0x00")), "{heard:?}");
    }

    fn attach(&mut self, seat: usize, registration: &Registration) {
        if registration.clean_start {
            self.forget(seat);
        }
        let place = &mut self.seats[seat];
        place.ends_at = None;
        place.will = None;
        let is_present = place.session.is_some();
        let connection = Box::new(Connection::new(registration, &self.cx.settings, self.cx.now));
        let alias_max = registration.topic_alias_maximum;
        place.referee =
            Some(Referee::new(registration.version, connection.window_limit, connection.packet_size_max, alias_max));
        let next = self.next_session;
        self.next_session += 1;
        let session = place.session.get_or_insert_with(|| Session::new(next, registration.identity.clone()));
        session.attach(&mut self.cx, registration, connection, is_present);
        self.note(seat);
    }

    /// Whether a client sits there.
    pub fn is_online(&self, seat: usize) -> bool {
        self.seats[seat].session.as_ref().is_some_and(Session::is_online)
    }

    /// The session of a client that has one.
    pub fn session(&mut self, seat: usize) -> &mut Session {
        self.seats[seat].session.as_mut().expect("the client has a session")
    }

    /// Whether the node has a session for the client.
    pub fn has_session(&self, seat: usize) -> bool {
        self.seats[seat].session.is_some()
    }

    /// Sends one packet of a client.
    pub fn send(&mut self, seat: usize, packet: &Packet<'_>) -> Step {
        let mut bytes = Vec::new();
        let version = self.session(seat).connection.as_ref().expect("the client is connected").version;
        packet.encode(version, &mut bytes);
        self.send_bytes(seat, &bytes)
    }

    /// Sends bytes that begin with one whole packet. What is no packet ends as the broker would end it.
    pub fn send_bytes(&mut self, seat: usize, bytes: &[u8]) -> Step {
        let frame = match next_frame(bytes, self.cx.settings.packet_size_max()) {
            Ok(FrameStep::Frame(frame)) => frame,
            Ok(FrameStep::Incomplete { .. }) => return Step::Continue,
            Err(error) => return Step::Close(error.into()),
        };
        self.with_session(seat, |session, cx, desk| session.receive(cx, desk, frame))
    }

    /// Answers what a session asked.
    pub fn answer(&mut self, seat: usize, verdict: &Verdict) -> Step {
        self.with_session(seat, |session, cx, desk| session.answer(cx, desk, verdict))
    }

    fn with_session(
        &mut self,
        seat: usize,
        work: impl FnOnce(&mut Session, &mut Context, &mut Desk<'_>) -> Step,
    ) -> Step {
        let mut session = self.seats[seat].session.take().expect("the client has a session");
        let mut published = Vec::new();
        let seated = Seated { id: session.id, seat };
        let mut desk = Desk { shared: &mut self.shared, seated, published: &mut published };
        let step = work(&mut session, &mut self.cx, &mut desk);
        self.seats[seat].session = Some(session);
        self.note(seat);
        for message in published {
            self.hand_over(&message);
        }
        step
    }

    /// Publishes from nowhere, as the broker itself does.
    pub fn inside(&mut self, topic: &str, payload: &[u8], qos: u8, change: impl FnOnce(&mut Head)) {
        let mut span = Vec::new();
        let layout = Publication::compose(&mut span, topic.as_bytes(), &[], payload);
        let mut head = Head { layout, qos, retain: false, expires_at: NEVER, origin: 0 };
        change(&mut head);
        let message = Message::keep(&Publication { head, span: &span });
        self.shared.retain(&message);
        self.hand_over(&message);
    }

    fn hand_over(&mut self, message: &Message) {
        let publication = message.publication();
        let mut route = Route::new();
        self.shared.trie.route(publication.topic_text(), &mut route);
        self.cache.begin(1);
        let is_fan_out = route.targets.len() > 1;
        let mut outgoing = Outgoing { publication, message: Some(message.clone()), place: Place::NONE };
        for target in &route.targets {
            let delivery = match &target.own {
                Own::Nothing if target.subscriber.id == publication.head.origin => continue,
                Own::Other(own) if target.subscriber.id == publication.head.origin => own,
                _ => &target.delivery,
            };
            let seat = target.subscriber.seat;
            if let Some(session) = &mut self.seats[seat].session {
                let cache = is_fan_out.then_some((&mut self.cache, 0));
                session.deliver(&mut self.cx, &mut outgoing, delivery, Place::NONE, cache);
            }
            self.note(seat);
        }
        for group in &route.groups {
            let policy = self.cx.settings.shared_subscription_policy;
            let Some(member) = group.select(policy, self.cx.now, publication.head.origin, |_| true) else { continue };
            let seat = member.subscriber.seat;
            if let Some(session) = &mut self.seats[seat].session {
                session.deliver(&mut self.cx, &mut outgoing, &Delivery::of(member.options), Place::NONE, None);
            }
            self.note(seat);
        }
    }

    /// Keeps what happened to messages of a client for [`Node::told`].
    fn note(&mut self, seat: usize) {
        for notice in std::mem::take(&mut self.cx.notices) {
            let topic = notice.message.publication().topic_text().to_owned();
            let reason = if notice.reason.is_empty() { String::new() } else { format!(" {}", notice.reason) };
            self.shared.told.push(format!("{} c{seat} {topic}{reason}", notice.hook.name()));
        }
    }

    // -- what clients get ---------------------------------------------------------------------------------------------

    /// All that waits for a client is written; the packets as text.
    pub fn said(&mut self, seat: usize) -> Vec<String> {
        self.heard(seat, usize::MAX).into_iter().map(|heard| heard.text).collect()
    }

    /// At most `count` bytes are written to a client; the packets that are whole with them.
    pub fn heard(&mut self, seat: usize, count: usize) -> Vec<Heard> {
        let bytes = self.written(seat, count);
        let referee = self.seats[seat].referee.as_mut().expect("the client was connected once");
        referee.hear(&bytes)
    }

    /// At most `count` bytes are taken from the output of a client; what waits moves up.
    pub fn written(&mut self, seat: usize, mut count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Self { cx, seats, .. } = self;
        let Some(session) = seats[seat].session.as_mut() else { return bytes };
        while count > 0 {
            session.refill(cx);
            let Some(connection) = &mut session.connection else { break };
            if connection.output.is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = connection.output.slices(&mut slices);
            let ready: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).take(count).collect();
            connection.output.advance(ready.len());
            count -= ready.len();
            bytes.extend(ready);
        }
        self.note(seat);
        bytes
    }

    /// The referee of a client, which wants to hear what the client acknowledges.
    pub fn referee(&mut self, seat: usize) -> &mut Referee {
        self.seats[seat].referee.as_mut().expect("the client was connected once")
    }

    /// The questions to Python since the last call.
    pub fn asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked)
    }

    /// What Python was told since the last call.
    pub fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.shared.told)
    }

    // -- ends ------------------------------------------------------------------------------------------------------------

    /// The connection of a client ends, if it has one.
    pub fn end(&mut self, seat: usize, ending: &Ending) {
        if !self.is_online(seat) {
            return;
        }
        let now = self.cx.now;
        let place = &mut self.seats[seat];
        let Some(session) = place.session.as_mut() else { return };
        let detached = session.detach(&mut self.cx, ending);
        let is_over = detached.expiry == Expiry::WithConnection;
        place.ends_at = detached.expiry.seconds().map(|seconds| now + Millis::from(seconds) * 1_000);
        let will_at = |will: &Will| if is_over { now } else { now + Millis::from(will.delay_s) * 1_000 };
        place.will = detached.will.map(|will| (will_at(&will), will));
        self.note(seat);
        self.run_deadlines();
    }

    /// The connection of a client is lost, and with it what waits to be written.
    pub fn lose(&mut self, seat: usize) {
        self.end(seat, &Ending::Lost);
    }

    /// Time passes.
    pub fn later(&mut self, ms: Millis) {
        self.cx.now += ms;
        self.run_deadlines();
    }

    fn run_deadlines(&mut self) {
        for seat in 0..self.seats.len() {
            let now = self.cx.now;
            if self.is_online(seat) {
                continue;
            }
            let is_over = self.seats[seat].ends_at.is_some_and(|at| at <= now);
            let will = self.seats[seat].will.take_if(|(at, _)| is_over || *at <= now);
            if is_over {
                self.forget(seat);
            }
            if let Some((_, will)) = will {
                self.publish_will(&will);
            }
        }
    }

    fn publish_will(&mut self, will: &Will) {
        let kept = will.message.publication();
        let mut head = kept.head;
        head.expires_at = will.message_expiry_s.map_or(NEVER, |seconds| self.cx.now + Millis::from(seconds) * 1_000);
        let message = Message::keep(&Publication { head, span: kept.span });
        self.shared.retain(&message);
        self.hand_over(&message);
    }

    fn forget(&mut self, seat: usize) {
        self.seats[seat].ends_at = None;
        let Some(session) = self.seats[seat].session.take() else { return };
        for filter in session.subscriptions.keys() {
            match parse_shared_filter(filter) {
                Ok(Some((group, topic_filter))) => self.shared.unsubscribe(topic_filter, Some(group), session.id),
                _ => self.shared.unsubscribe(filter, None, session.id),
            }
        }
    }

    // -- the world ---------------------------------------------------------------------------------------------------------

    /// Says which hooks have a listener.
    pub fn listen(&mut self, hooks: Hooks) {
        self.cx.hooks = hooks;
    }

    /// Changes settings that hold for what happens next.
    pub fn configure(&mut self, change: impl FnOnce(&mut Settings)) {
        change(Arc::make_mut(&mut self.cx.settings));
    }

    /// From now on no question is taken, as when too many wait.
    pub fn refuse_questions(&mut self) {
        self.shared.refuses_questions = true;
    }

    /// From now on every message is refused with this reason.
    pub fn refuse_messages(&mut self, reason: ReasonCode) {
        self.shared.refuses_messages = Some(reason);
    }

    /// Subscriptions in the routing table.
    pub fn subscriptions(&self) -> usize {
        self.shared.trie.len()
    }
}

type Ack = super::engine::codec::Acknowledgement<'static>;

impl Node {
    /// A client subscribes with an identifier, 0 for none.
    pub fn subscribe_as(&mut self, seat: usize, filter: &str, options: SubscribeOptions, identifier: u32) -> Step {
        let mut properties = Properties::new();
        if identifier > 0 {
            properties.subscription_identifier = Some(identifier);
        }
        self.send(seat, &Packet::Subscribe(Subscribe::new(100, properties, &[(filter, options)])))
    }

    /// A client answers a packet as it should.
    pub fn finish(&mut self, seat: usize, heard: &Heard) -> Step {
        match (heard.kind, heard.qos) {
            (PacketType::Publish, 1) => self.ack(seat, Packet::PubAck, heard.packet_id),
            (PacketType::Publish, 2) => self.ack(seat, Packet::PubRec, heard.packet_id),
            (PacketType::PubRel, _) => self.ack(seat, Packet::PubComp, heard.packet_id),
            _ => Step::Continue,
        }
    }

    /// A client unsubscribes with packet identifier 101.
    pub fn unsubscribe(&mut self, seat: usize, filters: &[&str]) -> Step {
        self.send(seat, &Packet::Unsubscribe(Unsubscribe::new(101, Properties::new(), filters)))
    }

    /// A client acknowledges with success.
    pub fn ack(&mut self, seat: usize, kind: fn(Ack) -> Packet<'static>, packet_id: u16) -> Step {
        let packet = kind(Ack::success(packet_id));
        match packet {
            Packet::PubAck(_) | Packet::PubComp(_) => self.referee(seat).finished(packet_id),
            _ => {}
        }
        self.send(seat, &packet)
    }
}

/// A PUBLISH as a test writes it.
pub fn publish_bytes(version: ProtocolVersion, head: PublishHead<'_>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PublishHead { payload_len: payload.len(), ..head }.encode(version, &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a PUBLISH without anything special; `packet_id` is not used with QoS 0.
pub fn head(topic: &str, qos: u8, packet_id: u16) -> PublishHead<'_> {
    PublishHead {
        dup: false,
        qos: QoS::from_u8(qos).expect("0, 1 or 2"),
        retain: false,
        packet_id,
        topic,
        topic_alias: None,
        message_expiry: None,
        subscription_identifiers: &[],
        properties: &[],
        payload_len: 0,
    }
}
