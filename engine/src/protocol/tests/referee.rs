//! What one client may expect of the packets it gets, whatever it did itself; a violation panics.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::engine::codec::{
    Acknowledgement, FrameStep, PACKET_SIZE_MAX, Packet, PacketType, Properties, ProtocolVersion, Publish, QoS,
    ReasonCode, decode, next_frame,
};

/// A packet that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its kind.
    pub kind: PacketType,
    /// Its packet identifier, 0 where it has none.
    pub packet_id: u16,
    /// QoS of a PUBLISH, else 0.
    pub qos: u8,
    /// All of it, for people.
    pub text: String,
}

/// Judges what the broker writes to one connection.
#[derive(Debug)]
pub struct Referee {
    version: ProtocolVersion,
    window_max: usize,
    packet_size_max: usize,
    alias_max: u16,
    aliases: HashMap<u16, String>,
    /// Identifiers of QoS 1 and 2 messages that the client has not finished.
    unfinished: HashSet<u16>,
    /// The client acknowledged only what it got.
    is_honest: bool,
    is_accepted: bool,
    unread: Vec<u8>,
}

impl Referee {
    /// For a connection whose client announced these limits.
    pub fn new(version: ProtocolVersion, window_max: usize, packet_size_max: u32, alias_max: u16) -> Self {
        Self {
            version,
            window_max,
            packet_size_max: packet_size_max as usize,
            alias_max,
            aliases: HashMap::new(),
            unfinished: HashSet::new(),
            is_honest: true,
            is_accepted: false,
            unread: Vec::new(),
        }
    }

    /// The client ends the delivery of a message with this packet.
    pub fn finished(&mut self, packet_id: u16) {
        self.is_honest &= self.unfinished.remove(&packet_id);
    }

    /// The client goes on with the delivery of a message.
    pub fn acknowledged(&mut self, packet_id: u16) {
        self.is_honest &= self.unfinished.contains(&packet_id);
    }

    /// The client may have acknowledged what it did not get: from now on the window is its own affair.
    pub fn mistrust(&mut self) {
        self.is_honest = false;
    }

    /// Takes bytes as the broker wrote them, cut anywhere.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut at = 0;
        let mut heard = Vec::new();
        while let FrameStep::Frame(frame) =
            next_frame(&unread[at..], PACKET_SIZE_MAX).expect("the broker writes whole headers")
        {
            at += frame.size;
            let packet = decode(self.version, frame).expect("the broker writes valid packets");
            heard.push(self.judge(&packet, frame.size));
        }
        self.unread = unread[at..].to_vec();
        heard
    }

    fn judge(&mut self, packet: &Packet<'_>, size: usize) -> Heard {
        let kind = packet.packet_type();
        assert_eq!(kind == PacketType::ConnAck, !self.is_accepted, "CONNACK comes first and once [MQTT-3.2.0-1]");
        self.is_accepted = true;
        // One that lists a code for each filter cannot be made smaller.
        if !matches!(kind, PacketType::SubAck | PacketType::UnsubAck | PacketType::ConnAck) {
            assert!(size <= self.packet_size_max, "{size} bytes are beyond Maximum Packet Size [MQTT-3.1.2-24]");
        }
        let (packet_id, qos) = match packet {
            Packet::Publish(publish) => {
                self.judge_publish(publish);
                (publish.packet_id, publish.qos as u8)
            }
            Packet::PubRel(release) => {
                if self.is_honest && !release.reason.is_error() {
                    self.unfinished.insert(release.packet_id);
                    self.check_window();
                }
                (release.packet_id, 0)
            }
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => (ack.packet_id, 0),
            Packet::SubAck(suback) => (suback.packet_id, 0),
            Packet::UnsubAck(unsuback) => (unsuback.packet_id, 0),
            Packet::ConnAck(_) | Packet::PingResp | Packet::Disconnect(_) | Packet::Auth(_) => (0, 0),
            other => panic!("a server does not send {other:?}"),
        };
        Heard { kind, packet_id, qos, text: describe(packet) }
    }

    fn judge_publish(&mut self, publish: &Publish<'_>) {
        if let Some(alias) = publish.properties.topic_alias {
            assert!((1..=self.alias_max).contains(&alias), "alias {alias} is out of range [MQTT-3.3.2-9]");
            if publish.topic.is_empty() {
                assert!(self.aliases.contains_key(&alias), "alias {alias} was never set [MQTT-3.3.2-12]");
            } else {
                self.aliases.insert(alias, publish.topic.to_owned());
            }
        } else {
            assert!(!publish.topic.is_empty(), "a PUBLISH has a topic [MQTT-3.3.2-1]");
        }
        if publish.qos == QoS::AtMostOnce {
            return;
        }
        let is_unused = self.unfinished.insert(publish.packet_id);
        assert!(is_unused, "identifier {} is in use [MQTT-2.2.1-4]", publish.packet_id);
        self.check_window();
    }

    fn check_window(&self) {
        if self.is_honest {
            assert!(self.unfinished.len() <= self.window_max, "more than Receive Maximum is under way [MQTT-3.3.4-9]");
        }
    }
}

fn describe(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(connack) => {
            let present = if connack.session_present { " present" } else { "" };
            format!("CONNACK {}{present}", code(connack.reason))
        }
        Packet::Publish(publish) => describe_publish(publish),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            describe_ack(packet.packet_type(), ack)
        }
        Packet::SubAck(suback) => format!("SUBACK #{}{}", suback.packet_id, codes(suback.reasons)),
        Packet::UnsubAck(unsuback) => format!("UNSUBACK #{}{}", unsuback.packet_id, codes(unsuback.reasons)),
        Packet::Disconnect(disconnect) => {
            format!("DISCONNECT {}{}", code(disconnect.reason), why(&disconnect.properties))
        }
        Packet::Auth(auth) => {
            let data = String::from_utf8_lossy(auth.properties.authentication_data.unwrap_or_default());
            format!("AUTH {} {:?}", code(auth.reason), data)
        }
        other => other.packet_type().name().to_owned(),
    }
}

fn describe_publish(publish: &Publish<'_>) -> String {
    let mut text = format!("PUBLISH {} {:?} q{}", publish.topic, Text(publish.payload), publish.qos as u8);
    if publish.packet_id != 0 {
        let _ = write!(text, " #{}", publish.packet_id);
    }
    if publish.dup {
        text.push_str(" dup");
    }
    if publish.retain {
        text.push_str(" retain");
    }
    if let Some(alias) = publish.properties.topic_alias {
        let _ = write!(text, " alias {alias}");
    }
    if let Some(seconds) = publish.properties.message_expiry {
        let _ = write!(text, " expiry {seconds}");
    }
    for identifier in &publish.properties.subscription_identifiers {
        let _ = write!(text, " id {identifier}");
    }
    if let Some(content_type) = publish.properties.content_type {
        let _ = write!(text, " type {content_type}");
    }
    for (name, value) in publish.properties.user_properties() {
        let _ = write!(text, " {name}={value}");
    }
    text
}

/// A payload as text, or how long it is.
struct Text<'a>(&'a [u8]);

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok(text) if text.len() <= 40 => write!(formatter, "{text:?}"),
            _ => write!(formatter, "{} bytes", self.0.len()),
        }
    }
}

fn describe_ack(kind: PacketType, ack: &Acknowledgement<'_>) -> String {
    let reason = if ack.reason == ReasonCode::SUCCESS { String::new() } else { format!(" {}", code(ack.reason)) };
    format!("{} #{}{reason}{}", kind.name(), ack.packet_id, why(&ack.properties))
}

fn why(properties: &Properties<'_>) -> String {
    properties.reason_string.map_or_else(String::new, |reason| format!(" {reason:?}"))
}

fn codes(reasons: &[ReasonCode]) -> String {
    reasons.iter().fold(String::new(), |text, reason| text + " " + &code(*reason))
}

fn code(reason: ReasonCode) -> String {
    format!("0x{:02x}", reason.0)
}
