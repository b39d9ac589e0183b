//! Acknowledgements, in both directions.

use crate::codec::{
    Acknowledgement, AcknowledgementKind, PacketType, Properties, ProtocolVersion, ReasonCode, encode_puback,
    encode_pubcomp, encode_pubrec, encode_pubrel,
};
use crate::metrics::{Reasoned, Versioned};
use crate::queue::InflightState;
use crate::store::Change;

use super::{Context, Session, Step};

impl Session {
    /// PUBACK or PUBREC. 3.x has no reason in them: a refused publish is acknowledged there [MQTT-3.3.5-2].
    pub(super) fn acknowledge(
        &mut self,
        cx: &mut Context,
        packet_id: u16,
        qos: u8,
        reason: ReasonCode,
        text: Option<&str>,
    ) {
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

    pub(super) fn on_puback(&mut self, cx: &mut Context, ack: &Acknowledgement<'_>) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_reasoned(Reasoned::PubackReceived, is_v5, ack.reason);
        if !self.finish(cx, ack.packet_id, InflightState::AwaitingPuback) {
            cx.tally.add_versioned(Versioned::PubackInvalidError, is_v5, 1);
        }
        self.after_acknowledgement(cx)
    }

    pub(super) fn on_pubrec(&mut self, cx: &mut Context, ack: &Acknowledgement<'_>) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_reasoned(Reasoned::PubrecReceived, is_v5, ack.reason);
        if ack.reason.is_error() {
            // Final: the message is neither sent again nor offered to anybody else [MQTT-4.4.0-2].
            if !self.finish(cx, ack.packet_id, InflightState::AwaitingPubrec) {
                cx.tally.add_versioned(Versioned::PubrecInvalidError, is_v5, 1);
            }
            return self.after_acknowledgement(cx);
        }
        let released = self.window.release(ack.packet_id);
        match released {
            Some(released) => {
                if let Some(slot) = released.place.body() {
                    cx.changes.push(Change::Released { slot, number: released.number });
                }
            }
            None => cx.tally.add_versioned(Versioned::PubrecInvalidError, is_v5, 1),
        }
        self.answer_step(cx, AcknowledgementKind::PubRel, ack.packet_id, released.is_some());
        Step::Continue
    }

    pub(super) fn on_pubrel(&mut self, cx: &mut Context, ack: &Acknowledgement<'_>) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_reasoned(Reasoned::PubrelReceived, is_v5, ack.reason);
        let known = self.received.remove(ack.packet_id);
        if known && self.is_kept() {
            cx.changes.push(Change::Forgotten(ack.packet_id));
        }
        self.answer_step(cx, AcknowledgementKind::PubComp, ack.packet_id, known);
        Step::Continue
    }

    pub(super) fn on_pubcomp(&mut self, cx: &mut Context, ack: &Acknowledgement<'_>) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_reasoned(Reasoned::PubcompReceived, is_v5, ack.reason);
        if !self.finish(cx, ack.packet_id, InflightState::AwaitingPubcomp) {
            cx.tally.add_versioned(Versioned::PubcompInvalidError, is_v5, 1);
        }
        self.after_acknowledgement(cx)
    }

    /// PUBREL or PUBCOMP. An identifier that is not known is answered too, so that the client can forget it; only 5.0 can
    /// say so.
    fn answer_step(&mut self, cx: &mut Context, kind: AcknowledgementKind, packet_id: u16, is_known: bool) {
        let Some(connection) = &mut self.connection else { return };
        let is_v5 = connection.is_v5();
        let reason = if is_known { ReasonCode::SUCCESS } else { ReasonCode::PACKET_IDENTIFIER_NOT_FOUND };
        let is_release = kind == AcknowledgementKind::PubRel;
        cx.tally.add_reasoned(if is_release { Reasoned::PubrelSent } else { Reasoned::PubcompSent }, is_v5, reason);
        let buffer = connection.output.buffer();
        match (is_known || !is_v5, is_release) {
            (true, true) => encode_pubrel(packet_id, buffer),
            (true, false) => encode_pubcomp(packet_id, buffer),
            (false, _) => {
                let answer = Acknowledgement::with_reason(packet_id, reason);
                answer.encode_within(kind, connection.version, connection.packet_size_max, buffer);
            }
        }
    }

    /// Ends a delivery. False: nothing of this kind was under way under the identifier.
    pub(super) fn finish(&mut self, cx: &mut Context, packet_id: u16, awaited: InflightState) -> bool {
        let Some(finished) = self.window.finish(packet_id, awaited) else { return false };
        cx.give_up(finished.place, finished.number);
        true
    }

    fn after_acknowledgement(&mut self, cx: &mut Context) -> Step {
        if self.has_waiting() {
            self.refill(cx);
        }
        Step::Continue
    }
}
