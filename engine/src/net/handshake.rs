//! CONNECT: from the first bytes to a session, with whatever Python has to say in between.

use std::io::IoSlice;

use crate::broker::events::{Event, RegisterRequest};
use crate::broker::{Link, SubscriberId};
use crate::codec::{self, Auth, Connect, FrameStep, Packet, Properties, ProtocolVersion, ReasonCode, next_frame};
use crate::hooks::{Hooks, INTERNAL_CLIENT_ID};
use crate::message::{Message, Millis, NEVER, Publication};
use crate::metrics::{Counter, Reasoned, Versioned};
use crate::policy::{Decider, Subject};
use crate::protocol::connect::{Refusal, Registration, Told, admit};
use crate::protocol::{Cause, Connection, Decision, Ending, Step, Verdict};

use super::reading::Progress;
use super::slot::{Deciding, Pending, Stage};
use super::worker::Worker;

/// How long a claim may take at the most. The control plane gives up on silent nodes before that.
const CLAIM_TIMEOUT_MS: Millis = 60_000;

impl Worker {
    /// Processes the first packet of a connection, or AUTH while an enhanced authentication goes on.
    pub(super) fn handshake(&mut self, key: usize, input: &[u8]) -> Progress {
        let Some(slot) = self.slots.get(key) else { return Progress::at(0, Step::Continue) };
        let is_deciding = matches!(slot.stage, Stage::Deciding(_));
        let settings = &self.cx.settings;
        let size_max = settings.packet_size_max().min(settings.max_connect_packet_size);
        let frame = match next_frame(input, size_max) {
            Ok(FrameStep::Frame(frame)) => frame,
            Ok(FrameStep::Incomplete { needed }) => {
                let is_connect = is_deciding || input.first().is_none_or(|first| first >> 4 == 1);
                let step = if is_connect { Step::Continue } else { not_connect() };
                return Progress { needed: needed.unwrap_or(0), is_incomplete: true, ..Progress::at(0, step) };
            }
            Err(error) => {
                return Progress::at(0, Step::Close(error.into()));
            }
        };
        let size = frame.size;
        if is_deciding {
            return Progress::at(size, self.on_early_packet(key, frame));
        }
        if frame.first_byte >> 4 != 1 {
            return Progress::at(0, not_connect());
        }
        let step = match codec::decode(ProtocolVersion::V5, frame) {
            Ok(Packet::Connect(connect)) => self.on_connect(key, &connect),
            Ok(_) => not_connect(),
            Err(error) => {
                let version = error.connect_version;
                let refusal =
                    Refusal { version, reason: error.reason, cause: Cause::Decode(error), packet_size_max: u32::MAX };
                self.refuse(key, &refusal, Told::default())
            }
        };
        Progress::at(size, step)
    }

    fn on_connect(&mut self, key: usize, connect: &Connect<'_>) -> Step {
        let Some(slot) = self.slots.get(key) else { return Step::Continue };
        self.cx.tally.add_versioned(Versioned::ConnectReceived, connect.version == ProtocolVersion::V5, 1);
        let number = (slot.connection_id, self.cx.now);
        let admission = &slot.listener.options.admission;
        let registration = match admit(connect, admission, &self.cx.settings, || make_client_id(number)) {
            Ok(mut registration) => {
                if let Some(username) = slot.introduction.as_ref().and_then(|known| known.username.as_deref()) {
                    registration.identity.username = Some(username.into());
                }
                registration
            }
            Err(refusal) => return self.refuse(key, &refusal, Told::default()),
        };
        if let Some(why) = self.cx.barred(|settings| settings.allow_register_during_netsplit)
            && !registration.identity.is_internal()
        {
            self.cx.tally.add(Counter::NetsplitConnectRefused, 1);
            let refusal = refusal_of(&registration, ReasonCode::SERVER_UNAVAILABLE, "the cluster is not ready");
            return self.refuse(key, &refusal, Told { reason_string: Some(&why), ..Told::default() });
        }
        let is_anonymous_allowed = admission.allow_anonymous.unwrap_or(self.cx.settings.allow_anonymous);
        if registration.authentication_method.is_some() {
            if !self.cx.hooks.contains(Hooks::ON_AUTH) {
                let detail = "an authentication method that nobody handles";
                return self.refuse(
                    key,
                    &refusal_of(&registration, ReasonCode::BAD_AUTHENTICATION_METHOD, detail),
                    Told::default(),
                );
            }
            return self.ask_auth(key, registration, 0, None);
        }
        if is_anonymous_allowed {
            return self.authorise_will(key, registration);
        }
        match self.cx.decider(Subject::Register, &registration.access) {
            Decider::Hook => {}
            Decider::Open => return self.authorise_will(key, registration),
            Decider::Policy => return self.check_password(key, registration),
            Decider::Inherit | Decider::Closed => {
                let detail = "anonymous clients are not allowed (allow_anonymous) and no plugin authenticates";
                return self.refuse(
                    key,
                    &refusal_of(&registration, ReasonCode::NOT_AUTHORIZED, detail),
                    Told::default(),
                );
            }
        }
        self.ask(key, registration, Pending::Register, |ticket, slot, registration| {
            Event::Register(Box::new(RegisterRequest {
                ticket,
                peer: slot.peer,
                listener_kind: slot.listener.options.kind.name(),
                listener_address: slot.listener.address.pair(),
                client_certificate: slot.introduction.as_ref().and_then(|known| known.certificate.clone()),
                identity: registration.identity.clone(),
                password: registration.password.clone(),
                clean_start: registration.clean_start,
                keep_alive: registration.keep_alive,
                properties: registration.properties.clone(),
            }))
        })
    }

    /// AUTH of a client whose CONNECT is not decided; anything else has come too early [MQTT-3.1.2-30].
    fn on_early_packet(&mut self, key: usize, frame: codec::Frame<'_>) -> Step {
        let Some(slot) = self.slots.get_mut(key) else { return Step::Continue };
        let Stage::Deciding(deciding) = &slot.stage else { return Step::Continue };
        let detail = "a packet other than AUTH before the authentication was over";
        let early = Step::Close(Ending::broken(ReasonCode::PROTOCOL_ERROR, detail));
        if deciding.pending != Pending::ClientAuth {
            return early;
        }
        let auth = match codec::decode(deciding.registration.version, frame) {
            Ok(Packet::Auth(auth)) => auth,
            Ok(Packet::Disconnect(_)) => return Step::Close(Ending::Lost),
            Ok(_) => return early,
            Err(error) => return Step::Close(error.into()),
        };
        self.cx.tally.add_reasoned(Reasoned::AuthReceived, true, auth.reason);
        let mut registration = deciding.registration.clone();
        if auth.properties.authentication_method != registration.authentication_method.as_deref()
            || auth.reason != ReasonCode::CONTINUE_AUTHENTICATION
        {
            let detail = "AUTH with another method or reason code than the authentication that goes on";
            return self.refuse(key, &refusal_of(&registration, ReasonCode::PROTOCOL_ERROR, detail), Told::default());
        }
        registration.authentication_data = auth.properties.authentication_data.map(<[u8]>::to_vec);
        self.ask_auth(key, registration, auth.reason.0, Some(auth.properties.encoded()))
    }

    fn ask_auth(
        &mut self,
        key: usize,
        registration: Registration,
        reason_code: u8,
        properties: Option<Vec<u8>>,
    ) -> Step {
        self.ask(key, registration, Pending::Auth, |ticket, _, registration| Event::Auth {
            ticket,
            identity: registration.identity.clone(),
            method: registration.authentication_method.clone().unwrap_or_default(),
            data: registration.authentication_data.clone(),
            reason_code,
            properties: properties.unwrap_or_else(|| registration.properties.clone()),
        })
    }

    /// Sends a request to Python and puts the CONNECT by until the verdict comes.
    fn ask(
        &mut self,
        key: usize,
        registration: Registration,
        pending: Pending,
        event: impl FnOnce(u64, &super::slot::Slot, &Registration) -> Event,
    ) -> Step {
        let busy = refusal_of(&registration, ReasonCode::SERVER_BUSY, "too many requests wait for a verdict");
        let Some(ticket) = self.tickets.open(&self.node, &mut self.cx, key) else {
            return self.refuse(key, &busy, Told::default());
        };
        let Some(slot) = self.slots.get_mut(key) else { return Step::Continue };
        let event = event(ticket, slot, &registration);
        if !self.tickets.send(&self.node, &mut self.cx, ticket, event) {
            return self.refuse(key, &busy, Told::default());
        }
        slot.stage = Stage::Deciding(Box::new(Deciding { registration, pending }));
        let timeout = if pending == Pending::Claim { CLAIM_TIMEOUT_MS } else { self.cx.settings.hook_timeout };
        self.await_answer(key, ticket, timeout);
        Step::Pause
    }

    /// Goes on with a CONNECT whose verdict has come.
    pub(super) fn on_connect_verdict(&mut self, key: usize, verdict: &Verdict) -> Step {
        let Some(slot) = self.slots.get_mut(key) else { return Step::Continue };
        let Stage::Deciding(deciding) = &mut slot.stage else { return Step::Continue };
        let pending = deciding.pending;
        let mut registration = deciding.registration.clone();
        match verdict.decision {
            Decision::Deny(reason) => {
                let reason = match reason {
                    // It was authorised before: nobody has answered in time.
                    ReasonCode::NOT_AUTHORIZED if pending == Pending::Claim => ReasonCode::SERVER_UNAVAILABLE,
                    reason if reason.is_error() => reason,
                    _ => ReasonCode::NOT_AUTHORIZED,
                };
                let detail = match pending {
                    Pending::Will => "the will was not authorised",
                    Pending::Claim => "the cluster did not give it the client id",
                    Pending::Register | Pending::Auth | Pending::ClientAuth => "the client was not authorised",
                };
                let refusal = refusal_of(&registration, reason, detail);
                return self.refuse(key, &refusal, Told::by(verdict));
            }
            Decision::Continue if pending == Pending::Auth => {
                deciding.pending = Pending::ClientAuth;
                slot.step_since = self.cx.now;
                self.write_auth(key, &registration, verdict.data.as_deref());
                return Step::Continue;
            }
            Decision::Allow | Decision::Continue => {}
        }
        if pending == Pending::Claim {
            return self.take_claimed(key, &registration);
        }
        if pending == Pending::Will {
            // Who the client is was decided before; this verdict is about the will.
            change_will(&mut registration, verdict);
            return self.accept_client(key, registration);
        }
        registration.change(verdict);
        if let Some(seconds) = verdict.connection_lifetime_s {
            slot.lifetime_ms = Millis::from(seconds) * 1_000;
        }
        if pending == Pending::Auth {
            registration.authentication_answer.clone_from(&verdict.data);
        }
        self.authorise_will(key, registration)
    }

    fn write_auth(&mut self, key: usize, registration: &Registration, data: Option<&[u8]>) {
        let mut properties = Properties::default();
        properties.authentication_method = registration.authentication_method.as_deref();
        properties.authentication_data = data;
        let mut packet = Vec::new();
        let auth = Auth { reason: ReasonCode::CONTINUE_AUTHENTICATION, properties };
        auth.encode_within(ProtocolVersion::V5, registration.packet_size_max, &mut packet);
        self.cx.tally.add_reasoned(Reasoned::AuthSent, true, ReasonCode::CONTINUE_AUTHENTICATION);
        self.write_directly(key, &packet);
    }

    pub(super) fn authorise_will(&mut self, key: usize, registration: Registration) -> Step {
        let Some(will) = &registration.will else { return self.accept_client(key, registration) };
        let is_allowed = match self.cx.decider(Subject::Publish, &registration.access) {
            Decider::Inherit | Decider::Open => true,
            Decider::Closed => false,
            Decider::Policy => {
                self.cx.policy.may_publish(&registration.identity, will.message.publication().topic_text())
            }
            Decider::Hook => {
                let message = will.message.clone();
                return self.ask(key, registration, Pending::Will, |ticket, _, registration| Event::Publish {
                    ticket,
                    identity: registration.identity.clone(),
                    message,
                    is_will: true,
                });
            }
        };
        if is_allowed {
            return self.accept_client(key, registration);
        }
        let detail = "the client may not publish its will";
        self.refuse(key, &refusal_of(&registration, ReasonCode::NOT_AUTHORIZED, detail), Told::default())
    }

    /// The client may connect. In a cluster the other nodes have to hear of it first, one of which may have its session.
    fn accept_client(&mut self, key: usize, mut registration: Registration) -> Step {
        if !registration.takes_connack(&self.cx.settings) {
            // Not even a bare CONNACK may go out to such a client [MQTT-3.1.2-24].
            let detail = "the client's Maximum Packet Size is too small for a CONNACK";
            return Step::Close(Ending::broken(ReasonCode::PACKET_TOO_LARGE, detail));
        }
        let is_internal = registration.identity.is_internal();
        if !is_internal && registration.identity.client_id.starts_with(INTERNAL_CLIENT_ID) {
            let detail = "a plugin gave it a client id that only parts of the broker have";
            let refusal = refusal_of(&registration, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, detail);
            return self.refuse(key, &refusal, Told::default());
        }
        registration.stamp = self.node.stamp(self.cx.now);
        if is_internal || !self.node.are_claims_asked() || self.cx.settings.allow_multiple_sessions {
            return self.let_in(key, &registration);
        }
        let (id, stamp) = (SubscriberId::of(&registration.identity), registration.stamp);
        // Before other nodes hear of it, as they may claim the client id themselves.
        self.node.begin_claim(&id, stamp);
        let step = self.ask(key, registration, Pending::Claim, |ticket, _, registration| Event::Claim {
            ticket,
            identity: registration.identity.clone(),
            stamp,
            clean_start: registration.clean_start,
        });
        if step != Step::Pause {
            self.node.end_claim(&id, stamp);
        }
        step
    }

    /// Goes on with a CONNECT of which the other nodes have heard. One of them may have claimed the client id since.
    fn take_claimed(&mut self, key: usize, registration: &Registration) -> Step {
        let id = SubscriberId::of(&registration.identity);
        let overtaken = "another connection has claimed the client id since, on another node";
        if !self.node.does_claim_stand(&id, registration.stamp) {
            let refusal = refusal_of(registration, ReasonCode::SERVER_UNAVAILABLE, overtaken);
            return self.refuse(key, &refusal, Told::default());
        }
        let step = self.let_in(key, registration);
        if self.node.end_claim(&id, registration.stamp) {
            return step;
        }
        Step::Close(Ending::broken(ReasonCode::SESSION_TAKEN_OVER, overtaken))
    }

    /// Gives the client its session.
    fn let_in(&mut self, key: usize, registration: &Registration) -> Step {
        let Some(slot) = self.slots.get(key) else { return Step::Continue };
        let link = Link {
            transport: slot.transport.clone(),
            connection_id: slot.connection_id,
            owner: self.mailbox.clone(),
            slot: key,
            peer: slot.peer,
            listener: slot.listener.options.name.clone(),
            is_flush_due: false,
            is_held: false,
            awaiting: None,
            is_blocked: false,
            is_paused: false,
            is_watched: false,
            claimed_at: registration.stamp,
            is_clean: registration.clean_start,
        };
        let connection = Box::new(Connection::new(registration, &self.cx.settings, self.cx.now));
        let silence_max = connection.silence_max_ms();
        let session = self.node.register(&mut self.cx, &mut self.batch, registration, link, connection);
        let now = self.cx.now;
        let Some(slot) = self.slots.get_mut(key) else { return Step::Continue };
        slot.stage = Stage::Serving(session);
        slot.last_received = now;
        slot.silence_max = silence_max.unwrap_or(NEVER);
        let lifetime = slot.lifetime_ms;
        let lifetime_end = if lifetime > 0 { slot.opened_at + lifetime } else { NEVER };
        self.rearm(key, now.saturating_add(silence_max.unwrap_or(NEVER)).min(lifetime_end));
        Step::Continue
    }

    /// Answers with the CONNACK of a refusal, logs it, and closes.
    pub(super) fn refuse(&mut self, key: usize, refusal: &Refusal, told: Told<'_>) -> Step {
        let mut packet = Vec::new();
        // A stranger learns what was wrong with its packet, not how the broker decides.
        let cause = refusal.cause.to_string();
        let is_told = !matches!(refusal.reason, ReasonCode::NOT_AUTHORIZED | ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        let told = Told { reason_string: told.reason_string.or(is_told.then_some(&cause)), ..told };
        refusal.write_connack(&mut self.cx, told, &mut packet);
        self.write_directly(key, &packet);
        Step::Close(Ending::Broken { reason: refusal.reason, cause: refusal.cause })
    }

    /// Writes a small packet to a connection without a session. A socket that cannot take it is not worth waiting for.
    fn write_directly(&mut self, key: usize, packet: &[u8]) {
        if let Some(slot) = self.slots.get(key)
            && let Ok(count) = slot.transport.write(&[IoSlice::new(packet)])
        {
            self.cx.tally.add(crate::metrics::Counter::BytesSent, count as u64);
        }
    }
}

/// Changes the will of a CONNECT as a verdict says.
fn change_will(registration: &mut Registration, verdict: &Verdict) {
    let Some(will) = &mut registration.will else { return };
    let kept = will.message.publication();
    let mut head = kept.head;
    head.qos = verdict.qos.unwrap_or(head.qos).min(2);
    head.retain = verdict.retain.unwrap_or(head.retain);
    let topic = verdict.topic.as_deref().map_or(kept.topic(), str::as_bytes);
    let properties = verdict.properties.as_deref().unwrap_or(kept.properties());
    let payload = verdict.payload.as_deref().unwrap_or(kept.payload());
    let mut span = Vec::new();
    head.layout = Publication::compose(&mut span, topic, properties, payload);
    will.message = Message::keep(&Publication { head, span: &span });
}

fn not_connect() -> Step {
    Step::Close(Ending::broken(ReasonCode::PROTOCOL_ERROR, "the first packet is not CONNECT"))
}

pub(super) fn refusal_of(registration: &Registration, reason: ReasonCode, detail: &'static str) -> Refusal {
    Refusal {
        version: Some(registration.version),
        reason,
        cause: Cause::Text(detail),
        packet_size_max: registration.packet_size_max,
    }
}

/// A client id that nobody can guess or already has: 128 random bits behind the connection's number.
fn make_client_id((connection_id, now): (u64, u64)) -> String {
    let random = ahash::RandomState::new();
    format!("anon-{:016x}{:016x}", random.hash_one((connection_id, now)), random.hash_one(connection_id))
}
