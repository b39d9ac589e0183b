//! Packets from a connected client: which goes where. Each has a file of its own.

use crate::codec::{self, Frame, Packet, ProtocolVersion, ReasonCode, encode_pingresp};
use crate::metrics::Versioned;

use super::auth::answer_auth;
use super::context::{Host, Verdict};
use super::ending::broken;
use super::{Context, Ending, Session, Step, Waiting};

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
            Some(Waiting::Unsubscribe { packet_id, filters }) => {
                self.answer_unsubscribe(cx, host, verdict, packet_id, filters)
            }
            Some(Waiting::Auth) => answer_auth(cx, connection, verdict),
        }
    }

    pub(super) fn is_v5(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_v5())
    }
}
