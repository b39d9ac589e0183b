//! Reason codes: how MQTT 5 says that something worked or why it did not (§2.4), and their names and older forms.

use super::PacketType;

/// One byte that tells the result of an operation. Codes below 0x80 are success, the others failure (MQTT 5 §2.4).
///
/// Any byte is a value; [`ReasonCode::is_allowed_in`] tells which packet may carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct ReasonCode(pub u8);

macro_rules! reason_codes {
    ($($constant:ident = $code:literal, $name:literal, $description:literal;)+) => {
        impl ReasonCode {
            $(
                #[doc = concat!($description, ".")]
                pub const $constant: Self = Self($code);
            )+

            /// Every code that the specification defines, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self($code)),+];

            /// The label of this code in metrics and logs, `unknown` for a code that is not defined.
            ///
            /// A DISCONNECT gives 0x00 another meaning: see [`ReasonCode::disconnect_name`].
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => $name,)+
                    _ => "unknown",
                }
            }

            /// What this code means, as a sentence for people.
            pub const fn description(self) -> &'static str {
                match self.0 {
                    $($code => $description,)+
                    _ => "a reason code that MQTT does not define",
                }
            }
        }
    };
}

reason_codes! {
    SUCCESS = 0x00, "success", "the operation succeeded";
    GRANTED_QOS_1 = 0x01, "granted_qos1", "the subscription is accepted with QoS 1 at most";
    GRANTED_QOS_2 = 0x02, "granted_qos2", "the subscription is accepted with QoS 2 at most";
    DISCONNECT_WITH_WILL_MESSAGE = 0x04, "disconnect_with_will_msg",
        "the client disconnects and wants its will message published";
    NO_MATCHING_SUBSCRIBERS = 0x10, "no_matching_subscribers", "the message is accepted but nobody subscribes to it";
    NO_SUBSCRIPTION_EXISTED = 0x11, "no_subscription_existed", "there was no such subscription to remove";
    CONTINUE_AUTHENTICATION = 0x18, "continue_authentication", "the authentication goes on with another step";
    REAUTHENTICATE = 0x19, "reauthenticate", "the client authenticates again";
    UNSPECIFIED_ERROR = 0x80, "unspecified_error", "the operation failed and no other code fits the cause";
    MALFORMED_PACKET = 0x81, "malformed_packet", "the packet cannot be parsed according to the specification";
    PROTOCOL_ERROR = 0x82, "protocol_error", "the packet is out of place or says what the protocol does not allow";
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83, "impl_specific_error",
        "the packet is valid but this receiver does not accept it";
    UNSUPPORTED_PROTOCOL_VERSION = 0x84, "unsupported_protocol_version",
        "the server does not support this version of the protocol";
    CLIENT_IDENTIFIER_NOT_VALID = 0x85, "client_identifier_not_valid",
        "the server does not allow this client identifier";
    BAD_USER_NAME_OR_PASSWORD = 0x86, "bad_username_or_password",
        "the server does not accept the user name or password";
    NOT_AUTHORIZED = 0x87, "not_authorized", "the client is not authorised to do this";
    SERVER_UNAVAILABLE = 0x88, "server_unavailable", "the server is not available";
    SERVER_BUSY = 0x89, "server_busy", "the server is busy: try again later";
    BANNED = 0x8A, "banned", "this client has been banned by an administrator";
    SERVER_SHUTTING_DOWN = 0x8B, "server_shutting_down", "the server is shutting down";
    BAD_AUTHENTICATION_METHOD = 0x8C, "bad_authentication_method",
        "the authentication method is not supported or not the one in use";
    KEEP_ALIVE_TIMEOUT = 0x8D, "keep_alive_timeout", "no packet arrived for one and a half keep alive intervals";
    SESSION_TAKEN_OVER = 0x8E, "session_taken_over", "another connection with the same client identifier took over";
    TOPIC_FILTER_INVALID = 0x8F, "topic_filter_invalid", "the topic filter is not accepted";
    TOPIC_NAME_INVALID = 0x90, "topic_name_invalid", "the topic name is not accepted";
    PACKET_IDENTIFIER_IN_USE = 0x91, "packet_id_in_use", "the packet identifier is already in use";
    PACKET_IDENTIFIER_NOT_FOUND = 0x92, "packet_id_not_found", "no message in flight has this packet identifier";
    RECEIVE_MAXIMUM_EXCEEDED = 0x93, "receive_max_exceeded",
        "more messages are unacknowledged than the receive maximum allows";
    TOPIC_ALIAS_INVALID = 0x94, "topic_alias_invalid", "the topic alias is zero, too large or unknown";
    PACKET_TOO_LARGE = 0x95, "packet_too_large", "the packet is larger than the receiver accepts";
    MESSAGE_RATE_TOO_HIGH = 0x96, "message_rate_too_high", "messages arrive faster than allowed";
    QUOTA_EXCEEDED = 0x97, "quota_exceeded", "a limit of the implementation or an administrator is reached";
    ADMINISTRATIVE_ACTION = 0x98, "administrative_action", "an administrator closed the connection";
    PAYLOAD_FORMAT_INVALID = 0x99, "payload_format_invalid",
        "the payload does not have the format that its indicator promises";
    RETAIN_NOT_SUPPORTED = 0x9A, "retain_not_supported", "the server does not support retained messages";
    QOS_NOT_SUPPORTED = 0x9B, "qos_not_supported", "the server does not support this QoS";
    USE_ANOTHER_SERVER = 0x9C, "use_another_server", "the client should use another server for the time being";
    SERVER_MOVED = 0x9D, "server_moved", "the client should use another server from now on";
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E, "shared_subs_not_supported",
        "the server does not support shared subscriptions";
    CONNECTION_RATE_EXCEEDED = 0x9F, "connection_rate_exceeded", "connections arrive faster than allowed";
    MAXIMUM_CONNECT_TIME = 0xA0, "max_connect_time", "the longest time allowed for this connection is over";
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1, "subscription_ids_not_supported",
        "the server does not support subscription identifiers";
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2, "wildcard_subs_not_supported",
        "the server does not support wildcard subscriptions";
}

impl ReasonCode {
    /// 0x00 as a SUBACK says it.
    pub const GRANTED_QOS_0: Self = Self::SUCCESS;
    /// 0x00 as a DISCONNECT says it.
    pub const NORMAL_DISCONNECTION: Self = Self::SUCCESS;

    /// Whether the operation failed.
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// [`ReasonCode::name`] with the label that 0x00 has in a DISCONNECT.
    pub const fn disconnect_name(self) -> &'static str {
        if self.0 == 0 { "normal_disconnect" } else { self.name() }
    }

    /// The return code of a 3.1 or 3.1.1 CONNACK that says this, or `None` when none fits and the connection has to
    /// be closed without a CONNACK ([MQTT-3.2.2-6] of 3.1.1).
    pub const fn connack_return_code_v3(self) -> Option<u8> {
        match self {
            Self::SUCCESS => Some(0),
            Self::UNSUPPORTED_PROTOCOL_VERSION => Some(1),
            Self::CLIENT_IDENTIFIER_NOT_VALID => Some(2),
            Self::SERVER_UNAVAILABLE
            | Self::SERVER_BUSY
            | Self::SERVER_SHUTTING_DOWN
            | Self::QUOTA_EXCEEDED
            | Self::USE_ANOTHER_SERVER
            | Self::SERVER_MOVED
            | Self::CONNECTION_RATE_EXCEEDED => Some(3),
            Self::BAD_USER_NAME_OR_PASSWORD => Some(4),
            Self::NOT_AUTHORIZED | Self::BANNED | Self::BAD_AUTHENTICATION_METHOD => Some(5),
            _ => None,
        }
    }

    /// What a 3.1 or 3.1.1 CONNACK return code means in reason codes; `None` for the reserved ones (6 and above).
    pub const fn from_connack_return_code_v3(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::SUCCESS),
            1 => Some(Self::UNSUPPORTED_PROTOCOL_VERSION),
            2 => Some(Self::CLIENT_IDENTIFIER_NOT_VALID),
            3 => Some(Self::SERVER_UNAVAILABLE),
            4 => Some(Self::BAD_USER_NAME_OR_PASSWORD),
            5 => Some(Self::NOT_AUTHORIZED),
            _ => None,
        }
    }

    /// Whether a version 5 packet of this kind may carry this code (the tables of MQTT 5 §3.2.2.2 to §3.15.2.1).
    ///
    /// 0x8C is let through in a DISCONNECT: §2.4 lists it there although §3.14.2.1 does not.
    pub const fn is_allowed_in(self, packet: PacketType) -> bool {
        match packet {
            PacketType::ConnAck => {
                matches!(self.0, 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
            }
            PacketType::PubAck | PacketType::PubRec => {
                matches!(self.0, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            PacketType::PubRel | PacketType::PubComp => matches!(self.0, 0x00 | 0x92),
            PacketType::SubAck => {
                matches!(self.0, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
            }
            PacketType::UnsubAck => matches!(self.0, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
            PacketType::Disconnect => {
                matches!(self.0, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2)
            }
            PacketType::Auth => matches!(self.0, 0x00 | 0x18 | 0x19),
            _ => false,
        }
    }

    /// This code, or 0x80 where a packet of this kind may not carry it: a plugin may refuse with any code it likes.
    #[must_use]
    pub const fn fit_for(self, packet: PacketType) -> Self {
        if self.is_allowed_in(packet) { self } else { Self::UNSPECIFIED_ERROR }
    }

    /// Bytes seen as reason codes, without a copy.
    pub(super) fn from_bytes(bytes: &[u8]) -> &[Self] {
        // SAFETY: `ReasonCode` is `repr(transparent)` over `u8`, so a slice of either has the same layout, alignment
        // and length, and every `u8` is a valid `ReasonCode`. The lifetime of the result is that of `bytes`.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<Self>(), bytes.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_the_metric_labels_are_kept() {
        let mut names: Vec<_> = ReasonCode::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ReasonCode::ALL.len());
        assert_eq!(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED.name(), "receive_max_exceeded");
        assert_eq!(ReasonCode::SUCCESS.disconnect_name(), "normal_disconnect");
        assert_eq!(ReasonCode::KEEP_ALIVE_TIMEOUT.disconnect_name(), "keep_alive_timeout");
        assert_eq!(ReasonCode(0x55).name(), "unknown");
    }

    #[test]
    fn every_defined_code_belongs_to_some_packet() {
        use PacketType::{Auth, ConnAck, Disconnect, PubAck, PubRel, SubAck, UnsubAck};
        for code in 0..=u8::MAX {
            let reason = ReasonCode(code);
            let allowed = [ConnAck, PubAck, PubRel, SubAck, UnsubAck, Disconnect, Auth]
                .iter()
                .any(|packet| reason.is_allowed_in(*packet));
            assert_eq!(allowed, ReasonCode::ALL.contains(&reason), "{code:#04x}");
            assert_eq!(reason.name() == "unknown", !allowed, "{code:#04x}");
        }
    }

    #[test]
    fn a_code_that_does_not_belong_in_a_packet_becomes_the_unspecified_error() {
        use PacketType::{ConnAck, Disconnect, PubAck, PubRec, SubAck};
        for packet in [ConnAck, Disconnect, PubAck, PubRec, SubAck] {
            for code in 0..=u8::MAX {
                let fit = ReasonCode(code).fit_for(packet);
                assert!(fit.is_allowed_in(packet), "{code:#04x} in {packet:?}");
                assert_eq!(
                    fit == ReasonCode(code),
                    ReasonCode(code).is_allowed_in(packet),
                    "{code:#04x} in {packet:?}"
                );
            }
        }
    }

    // [MQTT-3.2.2-6] of 3.1.1: a reason without a return code closes the connection without a CONNACK.
    #[test]
    fn older_return_codes_survive_the_way_there_and_back() {
        for code in 0..=5 {
            let reason = ReasonCode::from_connack_return_code_v3(code).expect("0 to 5 are defined");
            assert_eq!(reason.connack_return_code_v3(), Some(code));
        }
        assert_eq!(ReasonCode::from_connack_return_code_v3(6), None);
        assert_eq!(ReasonCode::MALFORMED_PACKET.connack_return_code_v3(), None);
    }

    #[test]
    fn bytes_are_reason_codes() {
        let bytes: Vec<u8> = (0..=255).collect();
        let reasons = ReasonCode::from_bytes(&bytes);
        assert_eq!(reasons.len(), bytes.len());
        assert!(reasons.iter().zip(&bytes).all(|(reason, byte)| reason.0 == *byte));
        assert!(ReasonCode::from_bytes(&[]).is_empty());
    }
}
