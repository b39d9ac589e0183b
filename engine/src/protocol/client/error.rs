//! Why a connection to a server has to end, and why a packet cannot be sent to it.

use super::state::State;
use crate::codec::{DecodeError, PacketType, ReasonCode};

/// The server did what ends a connection. Displays as a sentence for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// What it sent is not MQTT.
    #[error("the server sent bytes that are not MQTT: {0}")]
    Malformed(#[from] DecodeError),
    /// What it sent does not belong here.
    #[error("the server sent a {} while {}", .0.name(), .1.name())]
    OutOfPlace(PacketType, State),
    /// More unacknowledged messages than the client's Receive Maximum allows ([MQTT-3.3.4-9]).
    #[error("the server has more than {0} unacknowledged messages under way, which is the receive maximum")]
    ReceiveMaximumExceeded(u16),
    /// A topic alias, although the client accepts none ([MQTT-3.3.2-9]).
    #[error("the server used topic alias {0}, but this client accepts none")]
    TopicAlias(u16),
    /// No PINGRESP came in time (MQTT 5 §3.12).
    #[error("the server did not answer a PINGREQ within {0} ms")]
    KeepAlive(u64),
}

impl ClientError {
    /// What a DISCONNECT tells the server.
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::Malformed(error) => error.reason,
            Self::OutOfPlace(..) => ReasonCode::PROTOCOL_ERROR,
            Self::ReceiveMaximumExceeded(_) => ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
            Self::TopicAlias(_) => ReasonCode::TOPIC_ALIAS_INVALID,
            Self::KeepAlive(_) => ReasonCode::UNSPECIFIED_ERROR,
        }
    }
}

/// Why a packet was not written. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no connection, or not any more.
    #[error("the client is not connected")]
    NotConnected,
    /// The window is full: wait for an acknowledgement.
    #[error("as many messages are unacknowledged as the server allows")]
    WindowFull,
    /// All packet identifiers are in use.
    #[error("all packet identifiers are in use")]
    NoPacketIdentifier,
    /// The packet has more bytes than the server accepts ([MQTT-3.2.2-15]).
    #[error("the packet has {size} bytes, the server accepts {limit}")]
    TooLarge {
        /// Bytes of the packet.
        size: usize,
        /// The server's Maximum Packet Size.
        limit: usize,
    },
    /// The server supports no such `QoS` ([MQTT-3.2.2-11]).
    #[error("the server does not support this QoS")]
    QoS,
    /// The server keeps no retained messages ([MQTT-3.2.2-14]).
    #[error("the server does not support retained messages")]
    Retain,
}
