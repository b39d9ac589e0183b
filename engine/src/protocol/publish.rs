//! PUBLISH from a connected client.

use crate::bridge::is_marked;
use crate::codec::text::topic_levels;
use crate::codec::{ProtocolVersion, Publish, ReasonCode};
use crate::hooks::Identity;
use crate::message::{Head, Layout, Message, Millis, NEVER, Publication};
use crate::metrics::{Counter, Versioned};
use crate::policy::{Decider, Subject};
use crate::settings::Settings;

use super::context::{Decision, Host, Question, Routed, Unreleased, Verdict};
use super::ending::broken;
use super::limits::in_force;
use super::{Context, Ending, Session, Step, Waiting};

impl Session {
    pub(super) fn on_publish<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        publish: &Publish<'_>,
        body: &[u8],
    ) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_versioned(Versioned::PublishReceived, connection.is_v5(), 1);
        let rate = in_force(self.own_settings.as_ref(), cx).max_message_rate;
        let throttle = connection.throttle_ms(rate, cx.now);
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
        if qos == 2 && !self.received.insert(publish.packet_id) && self.received.in_doubt(publish.packet_id).is_none() {
            // A repeat: the message went on when it first came [MQTT-4.3.3-10].
            self.acknowledge(cx, publish.packet_id, qos, ReasonCode::SUCCESS, None);
            return throttle.map_or(Step::Continue, |ms| throttled(cx, ms));
        }
        let mark = &cx.settings.bridge_mark;
        if !mark.is_empty() && !self.identity.is_internal() && is_marked(publish.properties.raw, &[mark]) {
            // It was here before: a bridge has brought it back.
            cx.tally.add(Counter::BridgeLoop, 1);
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

    /// Milliseconds that the client has to wait because it published too fast.
    fn debt_ms(&self, cx: &Context) -> Option<Millis> {
        let rate = in_force(self.own_settings.as_ref(), cx).max_message_rate;
        self.connection.as_ref().and_then(|connection| connection.debt_ms(rate))
    }

    /// Routes, refuses or asks Python, as whoever decides about the client's publishes wants it.
    fn submit<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        publication: Publication<'_>,
        packet_id: u16,
        throttle: Option<Millis>,
    ) -> Step {
        let qos = publication.head.qos;
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        let is_allowed =
            match cx.decider(Subject::Publish, &connection.access) {
                Decider::Inherit | Decider::Open => true,
                Decider::Closed => false,
                Decider::Policy => cx.policy.access_list.as_ref().is_some_and(|list| {
                    connection.decisions.may_publish(list, &self.identity, publication.topic_text())
                }),
                Decider::Hook => {
                    let message = Message::keep(&publication);
                    if !host.ask(cx, &self.identity, Question::Publish(&message)) {
                        return self.deny_publish(cx, packet_id, qos, ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, None);
                    }
                    connection.waiting = Some(Waiting::Publish { message, packet_id });
                    return Step::Pause;
                }
            };
        if !is_allowed {
            return self.deny_publish(cx, packet_id, qos, ReasonCode::NOT_AUTHORIZED, None);
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
        if let Some(why) = cx.barred(|settings| settings.allow_publish_during_netsplit)
            && !self.identity.is_internal()
        {
            return self.bar_publish(cx, packet_id, qos, &why, throttle);
        }
        let unreleased = (qos == 2 && self.is_kept()).then(|| {
            let repeats = self.received.in_doubt(packet_id);
            Unreleased { queue: self.queue, packet_id, repeats }
        });
        match host.publish(cx, publisher.unwrap_or(&self.identity), publication, unreleased) {
            Routed::Accepted { has_subscribers } => {
                if unreleased.is_some_and(|unreleased| unreleased.repeats.is_some()) {
                    self.received.settle(packet_id);
                }
                if qos > 0 {
                    let reason =
                        if has_subscribers { ReasonCode::SUCCESS } else { ReasonCode::NO_MATCHING_SUBSCRIBERS };
                    self.acknowledge(cx, packet_id, qos, reason, None);
                }
                throttle.map_or(Step::Continue, |ms| throttled(cx, ms))
            }
            // Without a reason in PUBACK only the end of the connection says that the message was not taken.
            Routed::Refused(reason) if qos > 0 && !self.is_v5() => {
                self.received.remove(packet_id);
                broken(reason, "the store cannot take a message that has to be kept; it is not acknowledged")
            }
            Routed::Refused(reason) => self.refuse_publish(cx, packet_id, qos, reason, None, throttle),
        }
    }

    /// Refuses a publish because the cluster is not ready. 3.x has no reason in its answers, so the connection ends there.
    fn bar_publish(&mut self, cx: &mut Context, packet_id: u16, qos: u8, why: &str, throttle: Option<Millis>) -> Step {
        cx.tally.add(Counter::NetsplitPublishRefused, 1);
        if qos > 0 {
            self.received.remove(packet_id);
            let reason = ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR;
            if !self.is_v5() {
                return broken(reason, "the cluster is not ready: a publish is not acknowledged");
            }
            self.acknowledge(cx, packet_id, qos, reason, Some(why));
        }
        throttle.map_or(Step::Continue, |ms| throttled(cx, ms))
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

    pub(super) fn answer_publish<H: Host>(
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
        let throttle = self.debt_ms(cx).max(verdict.throttle_ms);
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
        let throttle = self.debt_ms(cx);
        self.refuse_publish(cx, packet_id, qos, reason, text, throttle)
    }
}

/// Limits on topics and filters that the operator sets.
pub(super) fn check_topic(settings: &Settings, topic: &str) -> Result<(), ReasonCode> {
    let depth_max = settings.topic_max_depth;
    let is_too_deep = depth_max > 0 && topic_levels(topic) > depth_max;
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
