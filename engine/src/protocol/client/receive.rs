//! What each packet from the server does to a client, and what the caller hears of it.

use super::connection::Client;
use super::error::ClientError;
use super::incoming::Arrival;
use super::settings::{Acknowledge, ServerLimits};
use super::state::State;
use super::window::{Kept, Stage};
use crate::codec::{
    Acknowledgement, AcknowledgementKind, ConnAck, Disconnect, FrameStep, Packet, PacketType, ProtocolVersion, Publish,
    QoS, ReasonCode, SubAck, UnsubAck, decode, encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel, next_frame,
};

/// What the start of the input was.
#[derive(Debug)]
pub enum Received<'a, K> {
    /// A whole packet.
    Packet {
        /// Bytes to drop from the input.
        size: usize,
        /// What it means.
        event: Event<'a, K>,
    },
    /// Less than a packet.
    Incomplete {
        /// Bytes that the input must have for the packet to be whole, once its header tells.
        needed: Option<usize>,
    },
}

/// What the caller hears of a packet.
#[derive(Debug)]
pub enum Event<'a, K> {
    /// The server accepted the client. `session_present` in it tells whether it still had the session.
    Connected(Box<ConnAck<'a>>),
    /// The server refused the client.
    Refused(Box<ConnAck<'a>>),
    /// A message. With [`Acknowledge::Manually`] and `QoS` above 0 it waits for [`Client::acknowledge`].
    Delivery(Publish<'a>),
    /// A message of `QoS` 2 that was delivered before came again and was dropped.
    Repeated(u16),
    /// A published message arrived (PUBACK, PUBCOMP), or the server refused it (a reason of 0x80 and above).
    Acknowledged {
        /// Its identifier.
        packet_id: u16,
        /// What the server says.
        reason: ReasonCode,
        /// What was kept of it.
        kept: K,
    },
    /// The answer to [`Client::subscribe`], of the identifier that call returned. A server may send more or fewer reasons
    /// than there were filters.
    Subscribed(SubAck<'a>),
    /// The answer to [`Client::unsubscribe`]. Before version 5 it has no reasons.
    Unsubscribed(UnsubAck<'a>),
    /// The server ends the connection; version 5.
    Disconnected(Box<Disconnect<'a>>),
    /// The answer to a PINGREQ.
    Pong,
    /// A packet that concerns nobody but the client: a step of `QoS` 2, an acknowledgement that nobody awaits.
    Handled,
}

impl<K: Kept> Client<K> {
    /// Takes one packet off the start of `input`; answers are appended to `out`.
    ///
    /// After an error the connection has to be closed; version 5 servers are told by a DISCONNECT in `out`
    /// ([MQTT-4.13.1-1]).
    #[inline]
    pub fn receive<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Result<Received<'a, K>, ClientError> {
        match self.receive_packet(input, out) {
            Ok(received) => Ok(received),
            Err(error) => {
                self.fail(&error, out);
                Err(error)
            }
        }
    }

    #[inline]
    fn receive_packet<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Result<Received<'a, K>, ClientError> {
        let version = self.settings.version;
        // The first byte is enough to know what does not belong here: no need to wait for the rest. Type 0, the only one
        // without a name, is left to the decoder to refuse.
        if let Some(packet) = input.first().and_then(|first_byte| PacketType::from_first_byte(*first_byte))
            && !self.state.may_receive(packet, version)
        {
            return Err(ClientError::OutOfPlace(packet, self.state));
        }
        let frame = match next_frame(input, self.settings.packet_size_max as usize)? {
            FrameStep::Frame(frame) => frame,
            FrameStep::Incomplete { needed } => return Ok(Received::Incomplete { needed }),
        };
        let size = frame.size;
        let event = match decode(version, frame)? {
            Packet::Publish(publish) => self.on_publish(publish, out)?,
            Packet::PubAck(answer) => self.on_end(Stage::Puback, &answer, out),
            Packet::PubRec(answer) => self.on_pubrec(&answer, out),
            Packet::PubComp(answer) => self.on_end(Stage::Pubcomp, &answer, out),
            Packet::PubRel(release) => self.on_pubrel(release.packet_id, out),
            Packet::SubAck(answer) => match self.window.finish(answer.packet_id, Stage::Suback) {
                Some(_) => Event::Subscribed(answer),
                None => Event::Handled,
            },
            Packet::UnsubAck(answer) => match self.window.finish(answer.packet_id, Stage::Unsuback) {
                Some(_) => Event::Unsubscribed(answer),
                None => Event::Handled,
            },
            Packet::PingResp => {
                self.on_pong();
                Event::Pong
            }
            Packet::ConnAck(connack) => self.on_connack(connack, out),
            Packet::Disconnect(disconnect) => {
                self.state = State::Closed;
                Event::Disconnected(Box::new(disconnect))
            }
            other => return Err(ClientError::OutOfPlace(other.packet_type(), self.state)),
        };
        Ok(Received::Packet { size, event })
    }

    #[cold]
    fn on_connack<'a>(&mut self, connack: Box<ConnAck<'a>>, out: &mut Vec<u8>) -> Event<'a, K> {
        if connack.reason != ReasonCode::SUCCESS {
            self.state = State::Closed;
            return Event::Refused(connack);
        }
        self.state = State::Online;
        self.limits = ServerLimits::granted(&self.settings, &connack);
        // 3.1 has no such flag: a session that was not asked to be clean is taken to be there.
        let present =
            connack.session_present || (self.settings.version == ProtocolVersion::V3_1 && !self.settings.clean_start);
        self.is_present = present;
        if present && !std::mem::replace(&mut self.is_begun, true) {
            self.window.resume();
        }
        if present {
            self.send_again(out);
        } else {
            // [MQTT-3.2.2-5]
            self.is_begun = true;
            self.forget();
        }
        Event::Connected(connack)
    }

    #[inline]
    fn on_publish<'a>(&mut self, publish: Publish<'a>, out: &mut Vec<u8>) -> Result<Event<'a, K>, ClientError> {
        // This client never says that it accepts aliases.
        if let Some(alias) = publish.properties.topic_alias {
            return Err(ClientError::TopicAlias(alias));
        }
        let id = publish.packet_id;
        let arrival = match (publish.qos, self.settings.acknowledge) {
            (QoS::AtMostOnce, _) => return Ok(Event::Delivery(publish)),
            (QoS::AtLeastOnce, Acknowledge::Automatically) => {
                encode_puback(id, out);
                return Ok(Event::Delivery(publish));
            }
            (QoS::ExactlyOnce, Acknowledge::Automatically) => {
                encode_pubrec(id, out);
                self.incoming.accept(id)
            }
            (qos, Acknowledge::Manually) => self.incoming.hold(id, qos),
        };
        match arrival {
            Arrival::New => {
                self.check_receive_maximum()?;
                return Ok(Event::Delivery(publish));
            }
            Arrival::Held => {}
            Arrival::Accepted if self.settings.acknowledge == Acknowledge::Automatically => {}
            Arrival::Accepted => encode_pubrec(id, out),
        }
        Ok(Event::Repeated(id))
    }

    /// Only version 5 has told the server a limit.
    #[inline]
    fn check_receive_maximum(&self) -> Result<(), ClientError> {
        let limit = self.settings.receive_maximum;
        if self.incoming.under_way() > usize::from(limit) && self.settings.version == ProtocolVersion::V5 {
            return Err(ClientError::ReceiveMaximumExceeded(limit));
        }
        Ok(())
    }

    /// PUBACK and PUBCOMP end a delivery ([MQTT-4.3.2-3], [MQTT-4.3.3-6]). One that nobody awaits is left alone.
    #[inline]
    fn on_end<'a>(&mut self, awaited: Stage, answer: &Acknowledgement<'_>, out: &mut Vec<u8>) -> Event<'a, K> {
        let Some(Some(kept)) = self.window.finish(answer.packet_id, awaited) else {
            return Event::Handled;
        };
        self.send_again(out);
        Event::Acknowledged { packet_id: answer.packet_id, reason: answer.reason, kept }
    }

    /// PUBREC is answered with PUBREL, or ends the delivery if it says that it failed ([MQTT-4.3.3-4]).
    #[inline]
    fn on_pubrec<'a>(&mut self, answer: &Acknowledgement<'_>, out: &mut Vec<u8>) -> Event<'a, K> {
        if answer.reason.is_error() {
            return self.on_end(Stage::Pubrec, answer, out);
        }
        if self.window.received(answer.packet_id) || self.settings.version != ProtocolVersion::V5 {
            encode_pubrel(answer.packet_id, out);
        } else {
            let unknown = Acknowledgement::with_reason(answer.packet_id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
            unknown.encode(AcknowledgementKind::PubRel, self.settings.version, out);
        }
        Event::Handled
    }

    /// PUBREL is always answered with PUBCOMP ([MQTT-4.3.3-11]).
    #[inline]
    fn on_pubrel<'a>(&mut self, packet_id: u16, out: &mut Vec<u8>) -> Event<'a, K> {
        if self.incoming.release(packet_id) || self.settings.version != ProtocolVersion::V5 {
            encode_pubcomp(packet_id, out);
        } else {
            let unknown = Acknowledgement::with_reason(packet_id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
            unknown.encode(AcknowledgementKind::PubComp, self.settings.version, out);
        }
        Event::Handled
    }
}
