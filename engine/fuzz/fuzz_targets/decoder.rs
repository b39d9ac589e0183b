//! Any bytes to the decoder, in each version: it never panics, and what it accepts it also writes.
//!
//! * Nothing is read beyond the packet, and a packet larger than the limit is refused before it is whole.
//! * A packet that was decoded encodes to bytes that decode to an equal packet.
//! * A message is the same after its properties were written for the next receiver.
#![no_main]

use _engine::codec::{
    Frame, FrameStep, PACKET_SIZE_MAX, Packet, ProtocolVersion, Publish, PublishHead, PublishProperties, decode,
    next_frame,
};
use libfuzzer_sys::fuzz_target;

const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5];
const SMALL_LIMIT: usize = 64;

fuzz_target!(|input: &[u8]| {
    check_limit(input);
    for version in VERSIONS {
        let mut rest = input;
        while let Ok(FrameStep::Frame(frame)) = next_frame(rest, PACKET_SIZE_MAX) {
            assert!(frame.size <= rest.len() && frame.body.len() < frame.size, "a frame lies within the input");
            check_packet(version, frame);
            rest = &rest[frame.size..];
        }
    }
});

fn check_limit(input: &[u8]) {
    match next_frame(input, SMALL_LIMIT) {
        Ok(FrameStep::Frame(frame)) => assert!(frame.size <= SMALL_LIMIT, "a larger packet is refused"),
        Ok(FrameStep::Incomplete { needed }) => {
            assert!(needed.is_none_or(|needed| needed > input.len() && needed <= SMALL_LIMIT), "needed {needed:?}");
        }
        Err(error) => assert!(error.reason.is_error() && !error.to_string().is_empty()),
    }
}

fn check_packet(version: ProtocolVersion, frame: Frame<'_>) {
    let packet = match decode(version, frame) {
        Ok(packet) => packet,
        Err(error) => {
            assert!(error.reason.is_error(), "{error} has the reason code 0x{:02x}", error.reason.0);
            return;
        }
    };
    let spoken = if let Packet::Connect(connect) = &packet { connect.version } else { version };
    let mut encoded = Vec::new();
    packet.encode(spoken, &mut encoded);
    let again = one_packet(spoken, &encoded);
    assert_eq!(again, packet, "a packet that is written and read again");
    if let Packet::Publish(publish) = &packet {
        check_forwarded(version, publish);
    }
}

fn one_packet(version: ProtocolVersion, bytes: &[u8]) -> Packet<'_> {
    match next_frame(bytes, PACKET_SIZE_MAX) {
        Ok(FrameStep::Frame(frame)) if frame.size == bytes.len() => {
            decode(version, frame).expect("what the encoder writes the decoder takes")
        }
        other => panic!("the encoder wrote {bytes:x?}, which reads as {other:?}"),
    }
}

/// A message on its way out: the same payload, the same properties but for those of the first hop.
fn check_forwarded(version: ProtocolVersion, publish: &Publish<'_>) {
    let mut properties = Vec::new();
    publish.properties.write_forwardable(&mut properties);
    let head = PublishHead {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        packet_id: publish.packet_id,
        topic: if publish.topic.is_empty() { "alias" } else { publish.topic },
        topic_alias: None,
        message_expiry: publish.properties.message_expiry,
        subscription_identifiers: &[],
        properties: &properties,
        payload_len: publish.payload.len(),
    };
    let mut bytes = Vec::new();
    head.encode(version, &mut bytes);
    bytes.extend_from_slice(publish.payload);
    assert_eq!(bytes.len(), head.encoded_size(version), "the size is known before");
    let Packet::Publish(forwarded) = one_packet(version, &bytes) else { panic!("a PUBLISH stays one") };
    assert_eq!(
        (forwarded.payload, forwarded.qos, forwarded.packet_id),
        (publish.payload, publish.qos, publish.packet_id)
    );
    let (then, now): (&PublishProperties<'_>, _) = (&publish.properties, &forwarded.properties);
    assert_eq!((now.content_type, now.response_topic), (then.content_type, then.response_topic));
    assert_eq!((now.correlation_data, now.payload_format), (then.correlation_data, then.payload_format));
    assert_eq!((now.message_expiry, now.topic_alias), (then.message_expiry, None));
    let pairs = |properties: &PublishProperties<'_>| {
        properties.user_properties().into_iter().map(|(name, value)| format!("{name:?} {value:?}")).collect::<Vec<_>>()
    };
    assert_eq!(pairs(now), pairs(then), "user properties keep their order [MQTT-3.3.2-18]");
}
