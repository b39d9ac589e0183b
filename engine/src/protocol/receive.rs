//! Packets from a connected client, one function a packet.

use std::fmt;

use crate::codec::{
    self, Acknowledgement, AcknowledgementKind, Auth, DecodeError, Disconnect, Frame, Packet, PacketType, Properties,
    ProtocolVersion, Publish, ReasonCode, encode_pingresp, encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel,
};
use crate::hooks::{Hooks, Identity};
use crate::message::{Head, Layout, Message, Millis, NEVER, Publication};
use crate::metrics::{Counter, Reasoned, Versioned};
use crate::queue::{Acknowledged, InflightState};

use super::context::{Decision, Host, Question, Routed, Verdict};
use super::{Connection, Context, Expiry, Session, Waiting};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// DISCONNECT from the client; the will goes with it unless the client asked for it.
    Client {
        /// Reason code of the DISCONNECT, 0 for 3.x.
        reason: ReasonCode,
    },
    /// The broker ended it because of what the client did or did not do.
    Broken {
        /// For DISCONNECT and the log.
        reason: ReasonCode,
        /// What was wrong, for people.
        cause: Cause,
    },
    /// The socket closed or failed.
    Lost,
    /// Another connection has the client id now.
    TakenOver {
        /// Publish no will (`suppress_lwt_on_session_takeover`, or a will with a delay whose session goes on).
        keeps_will: bool,
    },
    /// An operator or the end of the broker.
    Administrative {
        /// For DISCONNECT.
        reason: ReasonCode,
    },
}

impl Ending {
    /// Whether the will is not published [MQTT-3.14.4-3].
    pub fn cancels_will(&self) -> bool {
        match self {
            Self::Client { reason } => *reason == ReasonCode::SUCCESS,
            Self::TakenOver { keeps_will } => *keeps_will,
            _ => false,
        }
    }

    /// An end because of what the client did, or did not do.
    pub fn broken(reason: ReasonCode, cause: &'static str) -> Self {
        Self::Broken { reason, cause: Cause::Text(cause) }
    }
}

impl fmt::Display for Ending {
    /// A few words for logs and events.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { .. } => formatter.write_str("client disconnected"),
            Self::Broken { cause, .. } => cause.fmt(formatter),
            Self::Lost => formatter.write_str("connection lost"),
            Self::TakenOver { .. } => formatter.write_str("session taken over"),
            Self::Administrative { .. } => formatter.write_str("closed by the broker"),
        }
    }
}

impl From<DecodeError> for Ending {
    fn from(error: DecodeError) -> Self {
        Self::Broken { reason: error.reason, cause: Cause::Decode(error) }
    }
}

/// What a client did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// In words.
    Text(&'static str),
    /// It sent bytes that are not MQTT.
    Decode(DecodeError),
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Decode(error) => error.fmt(formatter),
        }
    }
}

/// What to do after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Next packet.
    Continue,
    /// Read nothing until [`Session::answer`].
    Pause,
    /// Read nothing for so many milliseconds.
    Throttle(Millis),
    /// Write what is in the output, then close.
    Close(Ending),
}

pub(super) fn broken(reason: ReasonCode, detail: &'static str) -> Step {
    Step::Close(Ending::broken(reason, detail))
}

/// Writes DISCONNECT to an MQTT 5 client, without what does not fit its Maximum Packet Size [MQTT-3.14.2-3].
pub(super) fn write_disconnect(
    cx: &mut Context,
    connection: &mut Connection,
    reason: ReasonCode,
    detail: Option<&str>,
) {
    if !connection.is_v5() {
        return;
    }
    let reason = reason.fit_for(PacketType::Disconnect);
    let mut properties = Properties::default();
    if connection.wants_problem_information && detail.is_some() {
        properties.reason_string = detail;
    }
    let disconnect = Disconnect { reason, properties };
    disconnect.encode_within(ProtocolVersion::V5, connection.packet_size_max, connection.output.buffer());
    cx.tally.add_reasoned(Reasoned::DisconnectSent, true, reason);
}

impl Session {
    /// Takes one packet of the connected client.
    ///
    /// The caller has made sure that there is a connection and that nothing waits for a verdict.
    pub fn receive<H: Host>(&mut self, cx: &mut Context, host: &mut H, frame: Frame<'_>) -> Step {
        let Some(version) = self.connection.as_ref().map(|connection| connection.version) else {
            return Step::Close(Ending::Lost);
        };
        let body = frame.body;
        let packet = match codec::decode(version, frame) {
            Ok(packet) => packet,
            Err(error) => return Step::Close(error.into()),
        };
        let is_v5 = version == ProtocolVersion::V5;
        match packet {
            Packet::Publish(publish) => self.on_publish(cx, host, &publish, body),
            Packet::PubAck(ack) => self.on_puback(cx, &ack),
            Packet::PubRec(ack) => self.on_pubrec(cx, &ack),
            Packet::PubRel(ack) => self.on_pubrel(cx, &ack),
            Packet::PubComp(ack) => self.on_pubcomp(cx, &ack),
            Packet::Subscribe(subscribe) => self.on_subscribe(cx, host, &subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(cx, host, &unsubscribe),
            Packet::PingReq => {
                cx.tally.add_versioned(Versioned::PingreqReceived, is_v5, 1);
                cx.tally.add_versioned(Versioned::PingrespSent, is_v5, 1);
                if let Some(connection) = &mut self.connection {
                    encode_pingresp(connection.output.buffer());
                }
                Step::Continue
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(cx, &disconnect),
            Packet::Auth(auth) => self.on_auth(cx, host, &auth),
            Packet::Connect(_) => broken(ReasonCode::PROTOCOL_ERROR, "a second CONNECT on one connection"),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                broken(ReasonCode::PROTOCOL_ERROR, "a packet that only servers send")
            }
        }
    }

    fn on_publish<H: Host>(&mut self, cx: &mut Context, host: &mut H, publish: &Publish<'_>, body: &[u8]) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_versioned(Versioned::PublishReceived, connection.is_v5(), 1);
        let throttle = connection.throttle_ms(cx.settings.max_message_rate, cx.now);
        let qos = publish.qos as u8;
        // A repeat of one that is not released is no more than was under way before.
        let is_new = qos == 2 && !self.received.contains(publish.packet_id);
        if is_new && self.received.len() >= usize::from(connection.receive_maximum) {
            return broken(
                ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
                "more unfinished publishes than the Receive Maximum allows",
            );
        }
        if !publish.properties.subscription_identifiers.is_empty() {
            return broken(ReasonCode::PROTOCOL_ERROR, "a PUBLISH of a client with a subscription identifier");
        }
        let alias = match publish.properties.topic_alias {
            Some(alias) => match connection.resolve_alias(alias, publish.topic) {
                Ok(topic) => Some(topic),
                Err(reason) => return broken(reason, "a topic alias that is out of range or was never set"),
            },
            None => None,
        };
        let topic = alias.unwrap_or(publish.topic);
        if let Err(refused) = check_topic(&cx.settings, topic) {
            if !connection.is_v5() {
                return broken(
                    refused,
                    "a topic with more levels or bytes than topic_max_depth or max_topic_length allow",
                );
            }
            return self.refuse_publish(cx, publish.packet_id, qos, refused, None, throttle);
        }
        if qos == 2 && !self.received.insert(publish.packet_id) {
            // A repeat: the message went on when it first came [MQTT-4.3.3-10].
            self.acknowledge(cx, publish.packet_id, qos, ReasonCode::SUCCESS, None);
            return throttle.map_or(Step::Continue, |ms| throttled(cx, ms));
        }
        if topic.starts_with('$') {
            return self.refuse_publish(cx, publish.packet_id, qos, ReasonCode::NOT_AUTHORIZED, None, throttle);
        }
        let expires_at =
            publish.properties.message_expiry.map_or(NEVER, |seconds| cx.now + Millis::from(seconds) * 1_000);
        let mut scratch = std::mem::take(&mut cx.scratch);
        scratch.clear();
        let is_in_place = alias.is_none() && publish.properties.forwardable_is_raw();
        let (layout, span) = if is_in_place {
            in_place(publish, body)
        } else {
            let mut properties = Vec::new();
            publish.properties.write_forwardable(&mut properties);
            let layout = Publication::compose(&mut scratch, topic.as_bytes(), &properties, publish.payload);
            (layout, &scratch[..])
        };
        let head = Head { layout, qos, retain: publish.retain, expires_at, origin: self.id };
        let step = self.submit(cx, host, Publication { head, span }, publish.packet_id, throttle);
        cx.scratch = scratch;
        step
    }

    /// Asks Python or routes at once.
    fn submit<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        publication: Publication<'_>,
        packet_id: u16,
        throttle: Option<Millis>,
    ) -> Step {
        let qos = publication.head.qos;
        if cx.hooks.contains(Hooks::AUTH_ON_PUBLISH) {
            let message = Message::keep(&publication);
            if !host.ask(cx, &self.identity, Question::Publish(&message)) {
                return self.deny_publish(cx, packet_id, qos, ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, None);
            }
            if let Some(connection) = &mut self.connection {
                connection.waiting = Some(Waiting::Publish { message, packet_id });
            }
            return Step::Pause;
        }
        self.route(cx, host, None, publication, (packet_id, qos), throttle)
    }

    /// Routes a message and answers the packet that brought it, whose QoS a verdict may have changed for the message.
    /// `publisher`: where a verdict has changed who counts as that.
    fn route<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        publisher: Option<&Identity>,
        publication: Publication<'_>,
        (packet_id, qos): (u16, u8),
        throttle: Option<Millis>,
    ) -> Step {
        match host.publish(cx, publisher.unwrap_or(&self.identity), publication) {
            Routed::Accepted { has_subscribers } => {
                if qos > 0 {
                    let reason =
                        if has_subscribers { ReasonCode::SUCCESS } else { ReasonCode::NO_MATCHING_SUBSCRIBERS };
                    self.acknowledge(cx, packet_id, qos, reason, None);
                }
                throttle.map_or(Step::Continue, |ms| throttled(cx, ms))
            }
            Routed::Refused(reason) => self.refuse_publish(cx, packet_id, qos, reason, None, throttle),
        }
    }

    /// Answers a publish that is not passed on.
    fn refuse_publish(
        &mut self,
        cx: &mut Context,
        packet_id: u16,
        qos: u8,
        reason: ReasonCode,
        reason_string: Option<&str>,
        throttle: Option<Millis>,
    ) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_versioned(Versioned::PublishAuthError, connection.is_v5(), 1);
        if packet_id != 0 {
            let is_v5 = connection.is_v5();
            if is_v5 {
                // The identifier is free again after a PUBREC with an error [MQTT-4.3.3-9].
                self.received.remove(packet_id);
            }
            self.acknowledge(cx, packet_id, qos, reason, reason_string);
        }
        throttle.map_or(Step::Continue, |ms| throttled(cx, ms))
    }

    /// PUBACK or PUBREC. 3.x has no reason in them: a refused publish is acknowledged there [MQTT-3.3.5-2].
    fn acknowledge(&mut self, cx: &mut Context, packet_id: u16, qos: u8, reason: ReasonCode, text: Option<&str>) {
        let Some(connection) = &mut self.connection else { return };
        if packet_id == 0 {
            return;
        }
        let is_v5 = connection.is_v5();
        let counter = if qos == 1 { Reasoned::PubackSent } else { Reasoned::PubrecSent };
        let reason = reason.fit_for(PacketType::PubAck);
        cx.tally.add_reasoned(counter, is_v5, reason);
        let size_max = connection.packet_size_max;
        let text = text.filter(|_| connection.wants_problem_information);
        let buffer = connection.output.buffer();
        if !is_v5 || (reason == ReasonCode::SUCCESS && text.is_none()) {
            match qos {
                1 => encode_puback(packet_id, buffer),
                _ => encode_pubrec(packet_id, buffer),
            }
            return;
        }
        let mut properties = Properties::default();
        if text.is_some() {
            properties.reason_string = text;
        }
        let ack = Acknowledgement { packet_id, reason, properties };
        let kind = if qos == 1 { AcknowledgementKind::PubAck } else { AcknowledgementKind::PubRec };
        ack.encode_within(kind, ProtocolVersion::V5, size_max, buffer);
    }

    fn on_puback(&mut self, cx: &mut Context, ack: &Acknowledgement<'_>) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_reasoned(Reasoned::PubackReceived, is_v5, ack.reason);
        if self.window.finish(ack.packet_id, InflightState::AwaitingPuback) == Acknowledged::Unknown {
            cx.tally.add_versioned(Versioned::PubackInvalidError, is_v5, 1);
        }
        self.after_acknowledgement(cx)
    }

    fn on_pubrec(&mut self, cx: &mut Context, ack: &Acknowledgement<'_>) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_reasoned(Reasoned::PubrecReceived, is_v5, ack.reason);
        if ack.reason.is_error() {
            // Final: the message is neither sent again nor offered to anybody else [MQTT-4.4.0-2].
            if self.window.finish(ack.packet_id, InflightState::AwaitingPubrec) == Acknowledged::Unknown {
                cx.tally.add_versioned(Versioned::PubrecInvalidError, is_v5, 1);
            }
            return self.after_acknowledgement(cx);
        }
        let known = self.window.release(ack.packet_id) == Acknowledged::Expected;
        if !known {
            cx.tally.add_versioned(Versioned::PubrecInvalidError, is_v5, 1);
        }
        let reason = if known { ReasonCode::SUCCESS } else { ReasonCode::PACKET_IDENTIFIER_NOT_FOUND };
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_reasoned(Reasoned::PubrelSent, is_v5, reason);
        if known || !is_v5 {
            encode_pubrel(ack.packet_id, connection.output.buffer());
        } else {
            let answer = Acknowledgement { packet_id: ack.packet_id, reason, properties: Properties::default() };
            answer.encode_within(
                AcknowledgementKind::PubRel,
                connection.version,
                connection.packet_size_max,
                connection.output.buffer(),
            );
        }
        Step::Continue
    }

    fn on_pubrel(&mut self, cx: &mut Context, ack: &Acknowledgement<'_>) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_reasoned(Reasoned::PubrelReceived, is_v5, ack.reason);
        let known = self.received.remove(ack.packet_id);
        let reason = if known { ReasonCode::SUCCESS } else { ReasonCode::PACKET_IDENTIFIER_NOT_FOUND };
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_reasoned(Reasoned::PubcompSent, is_v5, reason);
        if known || !is_v5 {
            encode_pubcomp(ack.packet_id, connection.output.buffer());
        } else {
            let answer = Acknowledgement { packet_id: ack.packet_id, reason, properties: Properties::default() };
            answer.encode_within(
                AcknowledgementKind::PubComp,
                connection.version,
                connection.packet_size_max,
                connection.output.buffer(),
            );
        }
        Step::Continue
    }

    fn on_pubcomp(&mut self, cx: &mut Context, ack: &Acknowledgement<'_>) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_reasoned(Reasoned::PubcompReceived, is_v5, ack.reason);
        if self.window.finish(ack.packet_id, InflightState::AwaitingPubcomp) == Acknowledged::Unknown {
            cx.tally.add_versioned(Versioned::PubcompInvalidError, is_v5, 1);
        }
        self.after_acknowledgement(cx)
    }

    fn after_acknowledgement(&mut self, cx: &mut Context) -> Step {
        if !self.pending.is_empty() || !self.resend.0.is_empty() {
            self.refill(cx);
        }
        Step::Continue
    }

    fn on_disconnect(&mut self, cx: &mut Context, disconnect: &Disconnect<'_>) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_reasoned(Reasoned::DisconnectReceived, connection.is_v5(), disconnect.reason);
        if let Some(interval) = disconnect.properties.session_expiry {
            if connection.has_zero_expiry && interval != 0 {
                return broken(
                    ReasonCode::PROTOCOL_ERROR,
                    "DISCONNECT with a session expiry interval although CONNECT had none",
                );
            }
            self.expiry = Expiry::from_interval(interval);
        }
        Step::Close(Ending::Client { reason: disconnect.reason })
    }

    fn on_auth<H: Host>(&mut self, cx: &mut Context, host: &mut H, auth: &Auth<'_>) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_reasoned(Reasoned::AuthReceived, true, auth.reason);
        let method = auth.properties.authentication_method;
        if connection.authentication_method.is_none() || method != connection.authentication_method.as_deref() {
            return broken(ReasonCode::PROTOCOL_ERROR, "AUTH with another method than CONNECT");
        }
        let expected =
            if connection.is_authenticating { ReasonCode::CONTINUE_AUTHENTICATION } else { ReasonCode::REAUTHENTICATE };
        if auth.reason != expected {
            return broken(
                ReasonCode::PROTOCOL_ERROR,
                "an AUTH that answers nothing, or one that begins anew too early",
            );
        }
        if !cx.hooks.contains(Hooks::ON_AUTH) {
            return broken(ReasonCode::BAD_AUTHENTICATION_METHOD, "nobody handles this authentication method any more");
        }
        let question = Question::Auth {
            method: method.unwrap_or_default(),
            data: auth.properties.authentication_data,
            reason_code: auth.reason.0,
            properties: auth.properties.encoded(),
        };
        if !host.ask(cx, &self.identity, question) {
            return broken(ReasonCode::SERVER_BUSY, "too many authentications wait");
        }
        connection.waiting = Some(Waiting::Auth);
        Step::Pause
    }

    /// Goes on with what waited for a verdict.
    pub fn answer<H: Host>(&mut self, cx: &mut Context, host: &mut H, verdict: &Verdict) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        match connection.waiting.take() {
            None => Step::Continue,
            Some(Waiting::Publish { message, packet_id }) => {
                self.answer_publish(cx, host, verdict, &message, packet_id)
            }
            Some(Waiting::Subscribe { packet_id, identifier, filters }) => {
                self.answer_subscribe(cx, host, verdict, packet_id, identifier, &filters)
            }
            Some(Waiting::Auth) => answer_auth(cx, connection, verdict),
        }
    }

    fn answer_publish<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        verdict: &Verdict,
        message: &Message,
        packet_id: u16,
    ) -> Step {
        let original = message.publication();
        if let Decision::Deny(reason) = verdict.decision {
            return self.deny_publish(cx, packet_id, original.head.qos, reason, verdict.reason_string.as_deref());
        }
        let packet = (packet_id, original.head.qos);
        let throttle = self.connection.as_ref().and_then(|connection| connection.debt_ms(cx.settings.max_message_rate));
        let elsewhere = |mountpoint: &str| Identity { mountpoint: mountpoint.into(), ..self.identity.clone() };
        let publisher = verdict.mountpoint.as_deref().map(elsewhere);
        let is_unchanged = verdict.topic.is_none() && verdict.payload.is_none() && verdict.properties.is_none();
        let mut head = original.head;
        head.qos = verdict.qos.unwrap_or(head.qos).min(2);
        head.retain = verdict.retain.unwrap_or(head.retain);
        if is_unchanged {
            return self.route(
                cx,
                host,
                publisher.as_ref(),
                Publication { head, span: original.span },
                packet,
                throttle,
            );
        }
        let topic = verdict.topic.as_deref().map_or(original.topic(), str::as_bytes);
        let properties = verdict.properties.as_deref().unwrap_or(original.properties());
        let payload = verdict.payload.as_deref().unwrap_or(original.payload());
        let mut span = Vec::new();
        head.layout = Publication::compose(&mut span, topic, properties, payload);
        self.route(cx, host, publisher.as_ref(), Publication { head, span: &span }, packet, throttle)
    }

    /// What a refused publish costs depends on the protocol: nothing but a code in 5.0, the connection in 3.1.1
    /// [MQTT-3.3.5-2], nothing in 3.1 unless `disconnect_on_unauthorized_publish_v3`.
    fn deny_publish(
        &mut self,
        cx: &mut Context,
        packet_id: u16,
        qos: u8,
        reason: ReasonCode,
        text: Option<&str>,
    ) -> Step {
        let version = self.connection.as_ref().map(|connection| connection.version);
        let disconnects = match version {
            Some(ProtocolVersion::V3_1_1) => true,
            Some(ProtocolVersion::V3_1) => cx.settings.disconnect_on_unauthorized_publish_v3,
            _ => false,
        };
        if disconnects {
            cx.tally.add_versioned(Versioned::PublishAuthError, false, 1);
            // Not acknowledged, so the client may try again after it reconnected.
            self.received.remove(packet_id);
            return broken(reason, "a publish that was not authorised");
        }
        let throttle = self.connection.as_ref().and_then(|connection| connection.debt_ms(cx.settings.max_message_rate));
        self.refuse_publish(cx, packet_id, qos, reason, text, throttle)
    }

    pub(super) fn is_v5(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_v5())
    }
}

fn answer_auth(cx: &mut Context, connection: &mut Connection, verdict: &Verdict) -> Step {
    let reason = match verdict.decision {
        Decision::Allow => ReasonCode::SUCCESS,
        Decision::Continue => ReasonCode::CONTINUE_AUTHENTICATION,
        Decision::Deny(reason) => return broken(reason, "re-authentication failed"),
    };
    connection.is_authenticating = reason == ReasonCode::CONTINUE_AUTHENTICATION;
    let mut properties = Properties::default();
    properties.authentication_method = connection.authentication_method.as_deref();
    properties.authentication_data = verdict.data.as_deref();
    let auth = Auth { reason, properties };
    auth.encode_within(ProtocolVersion::V5, connection.packet_size_max, connection.output.buffer());
    cx.tally.add_reasoned(Reasoned::AuthSent, true, reason);
    Step::Continue
}

/// Limits on topics and filters that the operator sets.
pub(super) fn check_topic(settings: &crate::settings::Settings, topic: &str) -> Result<(), ReasonCode> {
    let depth_max = settings.topic_max_depth;
    let is_too_deep = depth_max > 0 && codec::text::topic_levels(topic) > depth_max;
    if is_too_deep || topic.len() > settings.max_topic_length {
        return Err(ReasonCode::TOPIC_NAME_INVALID);
    }
    Ok(())
}

/// A PUBLISH body is a span already: the topic begins at 2, properties and payload follow.
fn in_place<'a>(publish: &Publish<'_>, body: &'a [u8]) -> (Layout, &'a [u8]) {
    let span = body.get(2..).unwrap_or_default();
    let properties = publish.properties.raw;
    let properties_start =
        if properties.is_empty() { 0 } else { (properties.as_ptr() as usize).saturating_sub(span.as_ptr() as usize) };
    let layout = Layout {
        topic_len: publish.topic.len() as u32,
        properties_start: properties_start as u32,
        properties_len: properties.len() as u32,
        payload_start: (span.len() - publish.payload.len()) as u32,
    };
    (layout, span)
}

fn throttled(cx: &mut Context, ms: Millis) -> Step {
    cx.tally.add(Counter::RateLimited, 1);
    Step::Throttle(ms)
}
