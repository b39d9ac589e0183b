//! The states of a client's connection, and which packets the server may send in each.

use crate::codec::{PacketType, ProtocolVersion};

/// Where a connection stands.
///
/// ```text
/// Detached ──connect──▶ Connecting ──CONNACK 0──▶ Online ──disconnect, DISCONNECT, error──▶ Closed
///     ▲                     └───────refusal, error──────────────────────────────────────────▲ │
///     └──────────────────────────────────────── detach ───────────────────────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no network connection.
    Detached,
    /// CONNECT is sent, CONNACK is awaited.
    Connecting,
    /// The server has accepted the client.
    Online,
    /// The protocol has ended; the network connection is to be closed once the output is written.
    Closed,
}

impl State {
    /// Whether the server may send such a packet now.
    ///
    /// The CONNACK is first and comes once ([MQTT-3.2.0-1], [MQTT-3.2.0-2]); a DISCONNECT comes after it and in version 5
    /// only ([MQTT-3.14.0-1]). AUTH belongs to an authentication method, which this client never names ([MQTT-4.12.0-6]).
    #[inline]
    pub(super) const fn may_receive(self, packet: PacketType, version: ProtocolVersion) -> bool {
        match self {
            Self::Detached | Self::Closed => false,
            Self::Connecting => matches!(packet, PacketType::ConnAck),
            Self::Online => match packet {
                PacketType::Publish
                | PacketType::PubAck
                | PacketType::PubRec
                | PacketType::PubRel
                | PacketType::PubComp
                | PacketType::SubAck
                | PacketType::UnsubAck
                | PacketType::PingResp => true,
                PacketType::Disconnect => matches!(version, ProtocolVersion::V5),
                _ => false,
            },
        }
    }

    /// The state in a sentence: "a PUBLISH while ...".
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Detached => "there is no connection",
            Self::Connecting => "the CONNACK is awaited",
            Self::Online => "the client is connected",
            Self::Closed => "the connection is closed",
        }
    }
}
