//! What the engine counts, under VerneMQ's names.
//!
//! Every thread counts into a [`Tally`] of its own, plain integers without any synchronisation, and adds it to the shared
//! [`Metrics`] once a turn. A snapshot reads the shared numbers only.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::codec::ReasonCode;

/// Declares an enumeration of series together with their names and descriptions.
macro_rules! series {
    ($(#[$doc:meta])* $kind:ident: $($variant:ident $name:literal $description:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $kind { $(#[doc = $description] $variant,)* }

        impl $kind {
            const ALL: &'static [(&'static str, &'static str)] = &[$(($name, $description),)*];
        }
    };
}

series! {
    /// Counters with one series.
    Counter:
    SocketOpen "socket_open" "MQTT connections opened.";
    SocketClose "socket_close" "MQTT connections closed.";
    SocketCloseTimeout "socket_close_timeout" "Connections closed because no CONNECT came in time (`mqtt_connect_timeout`).";
    SocketError "socket_error" "Connections that ended with a socket error.";
    BytesReceived "bytes_received" "Bytes received from MQTT clients.";
    BytesSent "bytes_sent" "Bytes sent to MQTT clients.";
    QueueSetup "queue_setup" "Queues (sessions) started.";
    QueueInitializedFromStorage "queue_initialized_from_storage" "Queues started with messages from the store.";
    QueueTeardown "queue_teardown" "Queues (sessions) ended.";
    QueueMessageDrop "queue_message_drop" "Messages dropped because a queue was full.";
    QueueMessageExpired "queue_message_expired" "Messages dropped because they expired before delivery.";
    QueueMessageUnhandled "queue_message_unhandled"
        "Messages discarded with a session, or of QoS 0 for a session that is offline.";
    QueueMessageIn "queue_message_in" "Messages handed to sessions.";
    QueueMessageOut "queue_message_out" "Messages sent to clients from sessions.";
    ClientExpired "client_expired" "Sessions that ended because they stayed offline too long.";
    RouterMatchesLocal "router_matches_local" "Subscriptions matched on this node.";
    RouterMatchesRemote "router_matches_remote" "Subscriptions matched on other nodes.";
    ProtocolError "mqtt_protocol_error" "Connections ended because the client broke the protocol.";
    PacketTooLargeDrop "max_packet_size_drop" "Messages not sent because they exceed the client's Maximum Packet Size.";
    RateLimited "message_rate_throttled" "Times a connection was not read because of `max_message_rate`.";
    ReadPaused "read_paused" "Times a connection was not read because its client did not read its answers.";
    HookTimeout "hook_timeout" "Requests to Python that were refused because no verdict came in time.";
    HookOverload "hook_overload" "Requests to Python that were refused because too many waited already.";
    PasswordOverload "password_check_overload" "Clients refused because too many slow password checks waited already.";
    EventsDropped "events_dropped" "Notifications for Python that were dropped because the event queue was full.";
    RetainedRefused "retain_refused" "Retained messages not stored because `max_retained_messages` was reached.";
    StorePublishRefused "store_publish_refused" "Publishes refused because the store could not take them (full disk, quota, failing disk).";
    NetsplitConnectRefused "netsplit_connect_refused" "Clients refused because the cluster was not ready.";
    NetsplitPublishRefused "netsplit_publish_refused" "Publishes refused or dropped because the cluster was not ready.";
    NetsplitSubscribeRefused "netsplit_subscribe_refused" "SUBSCRIBE packets refused because the cluster was not ready.";
    NetsplitUnsubscribeRefused "netsplit_unsubscribe_refused" "UNSUBSCRIBE packets refused because the cluster was not ready.";
    BridgeLoop "bridge_loop_prevented" "Messages dropped because a bridge brought them back to where they had been.";
    ConnectionLifetime "connection_lifetime_expired" "Connections closed because of `max_connection_lifetime`.";
    Panic "internal_error" "Connections closed because of a bug in the broker.";
    ConnectionRateLimited "connection_rate_limited" "Connections that had to wait because of `max_connection_rate`.";
    TlsHandshakeError "tls_handshake_error" "Connections whose TLS handshake failed or took too long.";
    TlsError "tls_error" "Connections that ended because the client broke the rules of TLS after the handshake.";
    WebSocketError "websocket_error"
        "Connections whose WebSocket upgrade was refused, or that ended because the client broke the rules of WebSocket.";
    ProxyProtocolError "proxy_protocol_error" "Connections without a good PROXY header where one is expected.";
    AcceptError "accept_error" "Connections that could not be accepted (file descriptors, memory).";
}

series! {
    /// Counters with one series a protocol generation: `mqtt_version` 4 (3.1 and 3.1.1) and 5.
    Versioned:
    ConnectReceived "mqtt_connect_received" "CONNECT packets received.";
    PublishReceived "mqtt_publish_received" "PUBLISH packets received.";
    PublishSent "mqtt_publish_sent" "PUBLISH packets sent.";
    SubscribeReceived "mqtt_subscribe_received" "SUBSCRIBE packets received.";
    UnsubscribeReceived "mqtt_unsubscribe_received" "UNSUBSCRIBE packets received.";
    PingreqReceived "mqtt_pingreq_received" "PINGREQ packets received.";
    SubackSent "mqtt_suback_sent" "SUBACK packets sent.";
    UnsubackSent "mqtt_unsuback_sent" "UNSUBACK packets sent.";
    PingrespSent "mqtt_pingresp_sent" "PINGRESP packets sent.";
    PublishAuthError "mqtt_publish_auth_error" "Publishes refused by authorisation.";
    SubscribeAuthError "mqtt_subscribe_auth_error" "Subscriptions refused by authorisation.";
    InvalidMsgSizeError "mqtt_invalid_msg_size_error" "Packets larger than allowed.";
    PubackInvalidError "mqtt_puback_invalid_error" "PUBACKs for which nothing was outstanding.";
    PubrecInvalidError "mqtt_pubrec_invalid_error" "PUBRECs for which nothing was outstanding.";
    PubcompInvalidError "mqtt_pubcomp_invalid_error" "PUBCOMPs for which nothing was outstanding.";
    PublishError "mqtt_publish_error" "Publishes refused because the cluster was not consistent.";
    SubscribeError "mqtt_subscribe_error" "Subscriptions refused because the cluster was not consistent.";
    UnsubscribeError "mqtt_unsubscribe_error" "Unsubscriptions refused because the cluster was not consistent.";
    KeepaliveExpired "client_keepalive_expired" "Connections closed because the keep alive time passed in silence.";
}

/// Counters of packets with one series for MQTT 3 (`mqtt_version` 4) and one a reason code for MQTT 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reasoned {
    /// CONNACK packets sent; MQTT 3 has one series a return code.
    ConnackSent,
    /// DISCONNECT packets received.
    DisconnectReceived,
    /// DISCONNECT packets sent (MQTT 5 only).
    DisconnectSent,
    /// PUBACK packets sent.
    PubackSent,
    /// PUBACK packets received.
    PubackReceived,
    /// PUBREC packets sent.
    PubrecSent,
    /// PUBREC packets received.
    PubrecReceived,
    /// PUBREL packets sent.
    PubrelSent,
    /// PUBREL packets received.
    PubrelReceived,
    /// PUBCOMP packets sent.
    PubcompSent,
    /// PUBCOMP packets received.
    PubcompReceived,
    /// AUTH packets sent (MQTT 5 only).
    AuthSent,
    /// AUTH packets received (MQTT 5 only).
    AuthReceived,
}

struct ReasonedSpec {
    name: &'static str,
    description: &'static str,
    codes: &'static [u8],
    /// Has a series for MQTT 3 sessions as well.
    with_v3: bool,
}

const CONNACK_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B,
    0x9C, 0x9D, 0x9F,
];
const DISCONNECT_RECEIVED_CODES: &[u8] =
    &[0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
const DISCONNECT_SENT_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
const PUBACK_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL_CODES: &[u8] = &[0x00, 0x92];
const AUTH_CODES: &[u8] = &[0x00, 0x18, 0x19];

const REASONED: &[ReasonedSpec] = &[
    ReasonedSpec {
        name: "mqtt_connack_sent",
        description: "CONNACK packets sent.",
        codes: CONNACK_CODES,
        with_v3: false,
    },
    ReasonedSpec {
        name: "mqtt_disconnect_received",
        description: "DISCONNECT packets received.",
        codes: DISCONNECT_RECEIVED_CODES,
        with_v3: true,
    },
    ReasonedSpec {
        name: "mqtt_disconnect_sent",
        description: "DISCONNECT packets sent.",
        codes: DISCONNECT_SENT_CODES,
        with_v3: false,
    },
    ReasonedSpec { name: "mqtt_puback_sent", description: "PUBACK packets sent.", codes: PUBACK_CODES, with_v3: true },
    ReasonedSpec {
        name: "mqtt_puback_received",
        description: "PUBACK packets received.",
        codes: PUBACK_CODES,
        with_v3: true,
    },
    ReasonedSpec { name: "mqtt_pubrec_sent", description: "PUBREC packets sent.", codes: PUBACK_CODES, with_v3: true },
    ReasonedSpec {
        name: "mqtt_pubrec_received",
        description: "PUBREC packets received.",
        codes: PUBACK_CODES,
        with_v3: true,
    },
    ReasonedSpec { name: "mqtt_pubrel_sent", description: "PUBREL packets sent.", codes: PUBREL_CODES, with_v3: true },
    ReasonedSpec {
        name: "mqtt_pubrel_received",
        description: "PUBREL packets received.",
        codes: PUBREL_CODES,
        with_v3: true,
    },
    ReasonedSpec {
        name: "mqtt_pubcomp_sent",
        description: "PUBCOMP packets sent.",
        codes: PUBREL_CODES,
        with_v3: true,
    },
    ReasonedSpec {
        name: "mqtt_pubcomp_received",
        description: "PUBCOMP packets received.",
        codes: PUBREL_CODES,
        with_v3: true,
    },
    ReasonedSpec { name: "mqtt_auth_sent", description: "AUTH packets sent.", codes: AUTH_CODES, with_v3: false },
    ReasonedSpec {
        name: "mqtt_auth_received",
        description: "AUTH packets received.",
        codes: AUTH_CODES,
        with_v3: false,
    },
];

const VERSIONED_START: usize = Counter::ALL.len();
const CONNACK_V3_START: usize = VERSIONED_START + 2 * Versioned::ALL.len();
const CONNACK_V3_CODES: usize = 6;
const REASONED_START: usize = CONNACK_V3_START + CONNACK_V3_CODES;

/// First series of each entry of `REASONED`: one for MQTT 3, one a code, one for all other codes.
const REASONED_OFFSETS: [usize; REASONED.len() + 1] = {
    let mut offsets = [REASONED_START; REASONED.len() + 1];
    let mut index = 0;
    while index < REASONED.len() {
        offsets[index + 1] = offsets[index] + REASONED[index].codes.len() + 2;
        index += 1;
    }
    offsets
};

/// Number of series that the engine counts.
pub const SERIES: usize = REASONED_OFFSETS[REASONED.len()];
const WORDS: usize = SERIES.div_ceil(64);

/// The counters of one thread since it last added them to the shared ones.
#[derive(Clone, Debug)]
pub struct Tally {
    values: [u64; SERIES],
    touched: [u64; WORDS],
}

impl Default for Tally {
    fn default() -> Self {
        Self { values: [0; SERIES], touched: [0; WORDS] }
    }
}

impl Tally {
    #[inline]
    fn bump(&mut self, index: usize, by: u64) {
        self.values[index] += by;
        self.touched[index / 64] |= 1 << (index % 64);
    }

    /// Adds to a plain counter.
    #[inline]
    pub fn add(&mut self, counter: Counter, by: u64) {
        self.bump(counter as usize, by);
    }

    /// Adds to a counter with a series a protocol generation.
    #[inline]
    pub fn add_versioned(&mut self, counter: Versioned, is_v5: bool, by: u64) {
        self.bump(VERSIONED_START + 2 * counter as usize + usize::from(is_v5), by);
    }

    /// Counts one packet with its reason code.
    #[inline]
    pub fn add_reasoned(&mut self, counter: Reasoned, is_v5: bool, reason: ReasonCode) {
        let start = REASONED_OFFSETS[counter as usize];
        if !is_v5 {
            if counter == Reasoned::ConnackSent {
                let code = usize::from(reason.connack_return_code_v3().unwrap_or(5)).min(CONNACK_V3_CODES - 1);
                self.bump(CONNACK_V3_START + code, 1);
            } else {
                self.bump(start, 1);
            }
            return;
        }
        let codes = REASONED[counter as usize].codes;
        let position = if reason.0 == codes[0] {
            0
        } else {
            codes.iter().position(|code| *code == reason.0).unwrap_or(codes.len())
        };
        self.bump(start + 1 + position, 1);
    }
}

/// The shared counters of an engine.
#[derive(Debug)]
pub struct Metrics {
    values: Box<[AtomicU64]>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { values: (0..SERIES).map(|_| AtomicU64::new(0)).collect() }
    }
}

/// One counter series with its value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// VerneMQ's name.
    pub name: &'static str,
    /// Labels in VerneMQ's order.
    pub labels: Vec<(&'static str, &'static str)>,
    /// One sentence.
    pub description: &'static str,
    /// The count.
    pub value: u64,
}

impl Metrics {
    /// Adds what a thread counted and sets its tally back to 0.
    pub fn absorb(&self, tally: &mut Tally) {
        for word in 0..WORDS {
            let mut bits = std::mem::take(&mut tally.touched[word]);
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                self.values[index].fetch_add(std::mem::take(&mut tally.values[index]), Relaxed);
            }
        }
    }

    /// Sets all counters to 0.
    pub fn reset(&self) {
        for value in &self.values {
            value.store(0, Relaxed);
        }
    }

    /// The value of a plain counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Relaxed)
    }

    /// All series with their values.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(SERIES);
        let value = |index: usize| self.values[index].load(Relaxed);
        for (index, (name, description)) in Counter::ALL.iter().enumerate() {
            samples.push(Sample { name, labels: Vec::new(), description, value: value(index) });
        }
        for (index, (name, description)) in Versioned::ALL.iter().enumerate() {
            for (offset, version) in ["4", "5"].into_iter().enumerate() {
                let value = value(VERSIONED_START + 2 * index + offset);
                samples.push(Sample { name, labels: vec![("mqtt_version", version)], description, value });
            }
        }
        for (code, return_code) in CONNACK_V3_NAMES.into_iter().enumerate() {
            let labels = vec![("mqtt_version", "4"), ("return_code", return_code)];
            let (name, description) = (REASONED[0].name, REASONED[0].description);
            samples.push(Sample { name, labels, description, value: value(CONNACK_V3_START + code) });
        }
        for (spec, start) in REASONED.iter().zip(REASONED_OFFSETS) {
            let mut push = |labels, value| {
                samples.push(Sample { name: spec.name, labels, description: spec.description, value });
            };
            if spec.with_v3 {
                push(vec![("mqtt_version", "4")], value(start));
            }
            for (offset, code) in spec.codes.iter().enumerate() {
                // 0x00 is "normal disconnection" in DISCONNECT and "success" everywhere else (MQTT 5, 2.4).
                let name = match (*code, spec.name.starts_with("mqtt_disconnect")) {
                    (0x00, true) => "normal_disconnect",
                    (code, _) => ReasonCode(code).name(),
                };
                push(vec![("mqtt_version", "5"), ("reason_code", name)], value(start + 1 + offset));
            }
            let other = value(start + 1 + spec.codes.len());
            if other > 0 {
                push(vec![("mqtt_version", "5"), ("reason_code", "other")], other);
            }
        }
        samples
    }
}

const CONNACK_V3_NAMES: [&str; CONNACK_V3_CODES] = [
    "success",
    "unsupported_protocol_version",
    "client_identifier_not_valid",
    "server_unavailable",
    "bad_username_or_password",
    "not_authorized",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_added_once_and_empty_afterwards() {
        let metrics = Metrics::default();
        let mut tally = Tally::default();
        tally.add(Counter::SocketOpen, 2);
        tally.add_reasoned(Reasoned::PubackSent, true, ReasonCode(0x10));
        metrics.absorb(&mut tally);
        metrics.absorb(&mut tally);
        assert_eq!(metrics.get(Counter::SocketOpen), 2);
        let samples = metrics.samples();
        let puback = samples.iter().find(|sample| {
            sample.name == "mqtt_puback_sent" && sample.labels.contains(&("reason_code", "no_matching_subscribers"))
        });
        assert_eq!(puback.map(|sample| sample.value), Some(1));
    }

    #[test]
    fn every_series_has_a_place_of_its_own() {
        let samples = Metrics::default().samples();
        let mut keys: Vec<_> = samples.iter().map(|sample| (sample.name, sample.labels.clone())).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
