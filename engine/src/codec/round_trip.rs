//! Properties of the whole codec: every packet survives the way there and back in every version, and no bytes,
//! however hostile, make it panic or allocate more than they are.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    Acknowledgement, Auth, ConnAck, Connect, DecodeError, Disconnect, FrameStep, Packet, PacketType, Properties,
    ProtocolVersion, Publish, PublishHead, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeOptions,
    UnsubAck, Unsubscribe, UserProperties, Will, decode, next_frame,
};

const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// Decodes bytes that are exactly one packet.
pub(super) fn decode_one(version: ProtocolVersion, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    match next_frame(bytes, usize::MAX)? {
        FrameStep::Frame(frame) => {
            assert_eq!(frame.size, bytes.len(), "the test's bytes are one packet");
            decode(version, frame)
        }
        FrameStep::Incomplete { needed } => panic!("the test's bytes are not a whole packet: {needed:?}"),
    }
}

/// The error that bytes which are exactly one packet are refused with.
pub(super) fn decode_error(version: ProtocolVersion, bytes: &[u8]) -> DecodeError {
    match decode_one(version, bytes) {
        Ok(packet) => panic!("accepted as {packet:?}"),
        Err(error) => error,
    }
}

/// Owned values that the packets of one test case borrow from.
#[derive(Debug, Clone)]
struct Pool {
    topics: Vec<String>,
    texts: Vec<String>,
    data: Vec<Vec<u8>>,
    numbers: Vec<u32>,
    packet_id: u16,
    flags: u32,
    version: ProtocolVersion,
}

fn pool() -> impl Strategy<Value = Pool> {
    let topic = "[a-zA-Z0-9/é$ ]{1,40}";
    let text = "[^\u{0}]{0,30}";
    (
        vec(topic, 4),
        vec(text, 6),
        vec(vec(any::<u8>(), 0..300), 3),
        vec(1..=u32::MAX, 6),
        1..=u16::MAX,
        any::<u32>(),
        proptest::sample::select(&VERSIONS[..]),
    )
        .prop_map(|(topics, texts, data, numbers, packet_id, flags, version)| Pool {
            // A filter that begins like this would be a shared one, with rules of its own.
            topics: topics.into_iter().map(|topic| topic.replace("$share", "share")).collect(),
            texts,
            data,
            numbers,
            packet_id,
            flags,
            version,
        })
}

impl Pool {
    fn flag(&self, bit: u32) -> bool {
        self.flags >> bit & 1 == 1
    }

    fn qos(&self) -> QoS {
        QoS::from_u8((self.flags % 3) as u8).expect("below 3")
    }

    fn text(&self, index: usize) -> Option<&str> {
        self.flag(index as u32 + 8).then(|| self.texts[index].as_str())
    }

    fn number(&self, index: usize) -> Option<u32> {
        self.flag(index as u32 + 16).then(|| self.numbers[index])
    }

    /// A number that a two-byte property may have, which is not 0.
    fn small(&self, index: usize) -> Option<u16> {
        self.number(index).map(|number| (number % 65_535) as u16 + 1)
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        let count = (self.flags >> 24) as usize % 4;
        self.texts.windows(2).take(count).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect()
    }

    fn is_v5(&self) -> bool {
        self.version == ProtocolVersion::V5
    }

    /// The properties that a packet of this kind may carry (MQTT 5 table 2-4), `None` standing for the will.
    fn properties<'a>(&'a self, owner: Option<PacketType>, pairs: &'a [(&'a str, &'a str)]) -> Properties<'a> {
        let mut set = Properties::new();
        if !self.is_v5() {
            return set;
        }
        set.user_properties = UserProperties::Pairs(pairs);
        match owner {
            None => {
                set.will_delay = self.number(0);
                set.payload_format = self.flag(3).then_some(1);
                set.message_expiry = self.number(1);
                set.content_type = self.text(0);
                set.response_topic = self.flag(4).then_some(&self.topics[3]);
                set.correlation_data = self.flag(5).then_some(&self.data[2]);
            }
            Some(PacketType::Connect) => {
                set.session_expiry = self.number(0);
                set.receive_maximum = self.small(1);
                set.maximum_packet_size = self.number(2);
                set.topic_alias_maximum = self.small(3);
                set.request_response_information = Some(self.flag(3));
                set.request_problem_information = Some(self.flag(4));
                set.authentication_method = Some(&self.texts[1]);
                set.authentication_data = self.flag(5).then_some(&self.data[1]);
            }
            Some(PacketType::ConnAck) => {
                set.session_expiry = self.number(0);
                set.receive_maximum = self.small(1);
                set.maximum_packet_size = self.number(2);
                set.topic_alias_maximum = self.small(3);
                set.maximum_qos = self.flag(3).then_some(QoS::AtLeastOnce);
                set.retain_available = Some(self.flag(4));
                set.assigned_client_id = self.text(0);
                set.reason_string = self.text(1);
                set.wildcard_subscription_available = Some(self.flag(5));
                set.subscription_identifiers_available = Some(self.flag(6));
                set.shared_subscription_available = Some(self.flag(7));
                set.server_keep_alive = self.small(4);
                set.response_information = self.text(2);
                set.server_reference = self.text(3);
                set.authentication_method = self.text(4);
                set.authentication_data = self.flag(5).then_some(&self.data[1]);
            }
            Some(PacketType::Subscribe) => set.subscription_identifier = self.number(0).map(|n| n % 268_435_455 + 1),
            Some(PacketType::Unsubscribe) => {}
            Some(PacketType::Disconnect) => {
                set.session_expiry = self.number(0);
                set.server_reference = self.text(0);
                set.reason_string = self.text(1);
            }
            Some(PacketType::Auth) => {
                set.authentication_method = Some(&self.texts[1]);
                set.authentication_data = self.flag(5).then_some(&self.data[1]);
                set.reason_string = self.text(2);
            }
            Some(_) => set.reason_string = self.text(1),
        }
        set
    }

    fn reason(&self, packet: PacketType) -> ReasonCode {
        if !self.is_v5() {
            return ReasonCode::SUCCESS;
        }
        let allowed: Vec<_> = ReasonCode::ALL.iter().filter(|reason| reason.is_allowed_in(packet)).collect();
        *allowed[self.flags as usize % allowed.len()]
    }

    fn reasons(&self, packet: PacketType) -> Vec<ReasonCode> {
        let all = ReasonCode::ALL.iter().copied();
        let is_v5 = self.is_v5();
        all.filter(|reason| reason.is_allowed_in(packet) && (is_v5 || reason.0 <= 0x80)).collect()
    }

    fn filters(&self) -> Vec<(&str, SubscribeOptions)> {
        let plain = SubscribeOptions { qos: self.qos(), ..SubscribeOptions::default() };
        let full = SubscribeOptions {
            no_local: self.flag(3),
            retain_as_published: self.flag(4),
            retain_handling: if self.flag(5) { RetainHandling::IfNew } else { RetainHandling::Never },
            ..plain
        };
        let options = if self.is_v5() { full } else { plain };
        self.topics.iter().map(|topic| (topic.as_str(), options)).collect()
    }

    /// A packet of every kind that the version has, handed to `check` one by one.
    fn each_packet(&self, mut check: impl FnMut(&Packet<'_>)) {
        let pairs = self.pairs();
        let properties = |packet| self.properties(Some(packet), &pairs);
        check(&Packet::Connect(Box::new(self.connect(&pairs))));
        let reason = self.reason(PacketType::ConnAck);
        let session_present = self.version != ProtocolVersion::V3_1 && reason == ReasonCode::SUCCESS && self.flag(3);
        let connack = ConnAck { session_present, reason, properties: properties(PacketType::ConnAck) };
        check(&Packet::ConnAck(Box::new(connack)));
        let acknowledgement = |packet| Acknowledgement {
            packet_id: self.packet_id,
            reason: self.reason(packet),
            properties: properties(packet),
        };
        check(&Packet::PubAck(acknowledgement(PacketType::PubAck)));
        check(&Packet::PubRec(acknowledgement(PacketType::PubRec)));
        check(&Packet::PubRel(acknowledgement(PacketType::PubRel)));
        check(&Packet::PubComp(acknowledgement(PacketType::PubComp)));
        let filters = self.filters();
        check(&Packet::Subscribe(Subscribe::new(self.packet_id, properties(PacketType::Subscribe), &filters)));
        let names: Vec<_> = self.topics.iter().map(String::as_str).collect();
        check(&Packet::Unsubscribe(Unsubscribe::new(self.packet_id, properties(PacketType::Unsubscribe), &names)));
        let reasons = self.reasons(PacketType::SubAck);
        let properties_of_suback = properties(PacketType::SubAck);
        check(&Packet::SubAck(SubAck {
            packet_id: self.packet_id,
            properties: properties_of_suback,
            reasons: &reasons,
        }));
        let reasons = if self.is_v5() { self.reasons(PacketType::UnsubAck) } else { Vec::new() };
        let properties_of_unsuback = properties(PacketType::UnsubAck);
        check(&Packet::UnsubAck(UnsubAck {
            packet_id: self.packet_id,
            properties: properties_of_unsuback,
            reasons: &reasons,
        }));
        check(&Packet::PingReq);
        check(&Packet::PingResp);
        let reason = self.reason(PacketType::Disconnect);
        check(&Packet::Disconnect(Disconnect { reason, properties: properties(PacketType::Disconnect) }));
        if self.is_v5() {
            let reason = self.reason(PacketType::Auth);
            check(&Packet::Auth(Auth { reason, properties: properties(PacketType::Auth) }));
        }
    }

    fn connect<'a>(&'a self, pairs: &'a [(&'a str, &'a str)]) -> Connect<'a> {
        let will = Will {
            qos: self.qos(),
            retain: self.flag(5),
            topic: &self.topics[0],
            payload: &self.data[0],
            properties: self.properties(None, pairs),
        };
        let username = self.text(3);
        let may_have_password = username.is_some() || self.is_v5();
        Connect {
            version: self.version,
            bridge: self.flag(6) && !self.is_v5(),
            clean_start: self.flag(3),
            keep_alive: self.packet_id,
            client_id: &self.texts[2],
            will: self.flag(4).then_some(will),
            username,
            password: (may_have_password && self.flag(7)).then_some(&self.data[1]),
            properties: self.properties(Some(PacketType::Connect), pairs),
        }
    }
}

/// Whatever the bytes are, decoding ends, and what it accepts means the same after the way there and back.
fn decode_anything(bytes: &[u8]) {
    for version in VERSIONS {
        let mut input = bytes;
        while let Ok(FrameStep::Frame(frame)) = next_frame(input, 1 << 20) {
            assert!(frame.size > 0 && frame.size <= input.len());
            match decode(version, frame) {
                Ok(packet) => {
                    assert_allocation_is_bounded(&packet, frame.body.len());
                    let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
                    let mut out = Vec::new();
                    packet.encode(version, &mut out);
                    assert_eq!(decode_one(version, &out).as_ref(), Ok(&packet));
                }
                Err(error) => assert!(error.reason.is_error() && error.to_string().contains(' ')),
            }
            input = &input[frame.size..];
        }
    }
}

/// The only thing decoding makes that can grow with the input is a list of subscription identifiers, which take two
/// bytes or more each.
fn assert_allocation_is_bounded(packet: &Packet<'_>, body_size: usize) {
    if let Packet::Publish(Publish { properties, .. }) = packet {
        assert!(properties.subscription_identifiers.capacity() <= body_size.max(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_survives_the_way_there_and_back(pool in pool()) {
        pool.each_packet(|packet| {
            let mut bytes = Vec::new();
            packet.encode(pool.version, &mut bytes);
            assert_eq!(decode_one(pool.version, &bytes).as_ref(), Ok(packet));
        });
    }

    #[test]
    fn a_publish_survives_the_way_there_and_back(pool in pool()) {
        let pairs = pool.pairs();
        let mut properties = Vec::new();
        pool.properties(None, &pairs).write_forwardable(&mut properties);
        let identifiers: Vec<u32> = pool.numbers.iter().take(2).map(|number| number % 268_435_455 + 1).collect();
        let qos = pool.qos();
        let head = PublishHead {
            dup: pool.flag(3) && qos > QoS::AtMostOnce,
            qos,
            retain: pool.flag(4),
            packet_id: if qos == QoS::AtMostOnce { 0 } else { pool.packet_id },
            topic: &pool.topics[0],
            topic_alias: pool.small(2),
            message_expiry: pool.number(3),
            subscription_identifiers: if pool.flag(5) { &identifiers } else { &[] },
            properties: &properties,
            payload_len: pool.data[0].len(),
        };
        let mut bytes = Vec::new();
        head.encode(pool.version, &mut bytes);
        bytes.extend_from_slice(&pool.data[0]);
        prop_assert_eq!(bytes.len(), head.encoded_size(pool.version));
        let Ok(Packet::Publish(publish)) = decode_one(pool.version, &bytes) else { panic!("a PUBLISH") };
        prop_assert_eq!((publish.dup, publish.qos, publish.retain), (head.dup, head.qos, head.retain));
        prop_assert_eq!((publish.topic, publish.packet_id), (head.topic, head.packet_id));
        prop_assert_eq!(publish.payload, &pool.data[0][..]);
        if pool.is_v5() {
            prop_assert_eq!(publish.properties.topic_alias, head.topic_alias);
            prop_assert_eq!(publish.properties.message_expiry, head.message_expiry);
            prop_assert_eq!(&publish.properties.subscription_identifiers[..], head.subscription_identifiers);
            let mut forwarded = Vec::new();
            publish.properties.write_forwardable(&mut forwarded);
            prop_assert_eq!(&forwarded, &properties);
        }
        let mut again = Vec::new();
        publish.encode(pool.version, &mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        decode_anything(&bytes);
    }

    #[test]
    fn any_body_under_a_true_header_is_decoded_or_refused(kind in 0_u8..=255, body in vec(0_u8..0x30, 0..100)) {
        let mut bytes = vec![kind, body.len() as u8];
        bytes.extend(body);
        decode_anything(&bytes);
    }

    #[test]
    fn a_damaged_packet_is_decoded_or_refused(pool in pool(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        pool.each_packet(|packet| {
            let mut bytes = Vec::new();
            packet.encode(pool.version, &mut bytes);
            decode_anything(&bytes[..at.index(bytes.len())]);
            let damaged = at.index(bytes.len());
            bytes[damaged] = byte;
            decode_anything(&bytes);
        });
    }

    #[test]
    fn a_limit_on_size_is_kept_or_nothing_is_written(pool in pool(), limit in 0_u32..200) {
        let pairs = pool.pairs();
        let reason = pool.reason(PacketType::Disconnect);
        let packet = Disconnect { reason, properties: pool.properties(Some(PacketType::Disconnect), &pairs) };
        let mut out = Vec::new();
        let fits = packet.encode_within(pool.version, limit, &mut out);
        prop_assert!(out.len() <= limit as usize);
        prop_assert_eq!(fits, !out.is_empty());
        if fits {
            let Ok(Packet::Disconnect(said)) = decode_one(pool.version, &out) else { panic!("a DISCONNECT") };
            prop_assert_eq!(said.reason, packet.reason);
            prop_assert_eq!(said.properties.session_expiry, packet.properties.session_expiry);
        }
    }
}
