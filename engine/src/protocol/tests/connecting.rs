//! CONNECT and CONNACK: who is let in, and what the broker says of its limits.

use super::engine::codec::{Connect, FrameStep, Packet, ProtocolVersion, QoS, Will, decode, next_frame};
use super::engine::settings::Settings;
use super::node::Node;

const V3: ProtocolVersion = ProtocolVersion::V3_1;
const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// The reason with which a CONNECT is refused.
fn refused(settings: Settings, version: ProtocolVersion, change: impl FnOnce(&mut Connect<'_>)) -> u8 {
    let refusal = Node::new(settings, 1).connect(0, version, change).expect_err("the CONNECT is refused");
    assert!(!refusal.cause.to_string().is_empty());
    refusal.reason.0
}

fn will(topic: &str) -> Will<'_> {
    Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        payload: b"",
        properties: super::engine::codec::Properties::new(),
    }
}

// [MQTT-3.1.3-8], [MQTT-3.1.3-6]
#[test]
fn an_empty_client_id_needs_a_clean_session_before_version_5() {
    let anonymous = |clean: bool| {
        move |connect: &mut Connect<'_>| {
            connect.client_id = "";
            connect.clean_start = clean;
        }
    };
    assert_eq!(refused(Settings::default(), V3, anonymous(true)), 0x85);
    assert_eq!(refused(Settings::default(), V4, anonymous(false)), 0x85);
    for (version, clean) in [(V4, true), (V5, true), (V5, false)] {
        let mut node = Node::new(Settings::default(), 1);
        node.connected(0, version, anonymous(clean));
        assert_eq!(&*node.session(0).identity.client_id, "made-up");
    }
}

#[test]
fn limits_of_the_operator_hold_for_client_ids_and_wills() {
    let settings = Settings { max_client_id_size: 3, topic_max_depth: 2, ..Settings::default() };
    assert_eq!(refused(settings.clone(), V4, |connect| connect.client_id = "four"), 0x85);
    assert_eq!(refused(settings.clone(), V4, |connect| connect.will = Some(will("a/b/c"))), 0x90);
    assert_eq!(refused(settings, V5, |connect| connect.will = Some(will("$SYS/x"))), 0x90);
}

#[test]
fn a_listener_takes_the_versions_it_lists() {
    let mut node = Node::new(Settings::default(), 1);
    node.admission.protocol_versions = vec![4, 131];
    assert!(node.connect(0, V4, |_| {}).is_ok());
    assert!(node.connect(0, V3, |connect| connect.bridge = true).is_ok());
    for (version, bridge) in [(V3, false), (V4, true), (V5, false)] {
        let refusal = node.connect(0, version, |connect| connect.bridge = bridge).expect_err("it is not listed");
        assert_eq!((refusal.reason.0, refusal.version), (0x84, Some(version)));
    }
}

// MQTT 5 §3.2.2.3
#[test]
fn connack_tells_the_limits_that_are_not_the_defaults() {
    let settings = Settings {
        receive_max_broker: 7,
        max_message_size: 1_000,
        topic_alias_max_client: 3,
        max_keep_alive: 30,
        ..Settings::default()
    };
    let mut node = Node::new(settings, 1);
    node.connect(0, V5, |connect| connect.keep_alive = 60).expect("the client is welcome");
    let bytes = node.written(0, usize::MAX);
    let Ok(FrameStep::Frame(frame)) = next_frame(&bytes, usize::MAX) else { panic!("a CONNACK") };
    let Ok(Packet::ConnAck(connack)) = decode(V5, frame) else { panic!("a CONNACK") };
    let said = &connack.properties;
    assert_eq!((said.receive_maximum, said.maximum_packet_size), (Some(7), Some(1_000)));
    assert_eq!((said.topic_alias_maximum, said.server_keep_alive), (Some(3), Some(30)));
    assert_eq!(said.assigned_client_id, None);
}

// [MQTT-3.1.2-21], [MQTT-3.1.2-22]
#[test]
fn silence_is_counted_by_the_keep_alive_that_holds() {
    for (version, asked, cap, silence_ms) in [
        (V4, 10, 5, Some(15_000)),
        (V5, 10, 5, Some(7_500)),
        (V5, 0, 5, Some(7_500)),
        (V5, 3, 5, Some(4_500)),
        (V4, 0, 5, None),
    ] {
        let mut node = Node::new(Settings { max_keep_alive: cap, ..Settings::default() }, 1);
        node.connected(0, version, |connect| connect.keep_alive = asked);
        let connection = node.session(0).connection.as_ref().expect("the client is connected");
        assert_eq!(connection.silence_max_ms(), silence_ms, "{version:?} {asked}");
    }
}

#[test]
fn windows_are_what_the_client_and_the_operator_allow() {
    let settings = Settings { max_inflight_messages: 9, receive_max_client: 5, ..Settings::default() };
    for (version, asked, window) in [(V4, None, 9), (V5, None, 5), (V5, Some(3), 3), (V5, Some(8), 5)] {
        let mut node = Node::new(settings.clone(), 1);
        node.connected(0, version, |connect| {
            if let Some(asked) = asked {
                connect.properties.receive_maximum = Some(asked);
            }
        });
        let connection = node.session(0).connection.as_ref().expect("the client is connected");
        assert_eq!(connection.window_limit, window);
    }
}
