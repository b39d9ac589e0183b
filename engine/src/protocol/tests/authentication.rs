//! AUTH on a connection that stands: re-authentication (MQTT 5 §4.12.1).

use super::engine::codec::{Auth, Packet, Properties, ProtocolVersion, ReasonCode};
use super::engine::hooks::Hooks;
use super::engine::protocol::{Decision, Ending, Step, Verdict};
use super::engine::settings::Settings;
use super::node::Node;

fn node() -> Node {
    let mut node = Node::new(Settings::default(), 1);
    node.connected(0, ProtocolVersion::V5, |connect| connect.properties.authentication_method = Some("M"));
    node.listen(Hooks::ON_AUTH);
    node
}

fn auth(node: &mut Node, reason: ReasonCode, method: &str, data: &[u8]) -> Step {
    let mut properties = Properties::new();
    properties.authentication_method = Some(method);
    properties.authentication_data = Some(data);
    node.send(0, &Packet::Auth(Auth { reason, properties }))
}

fn reason_of(step: Step) -> u8 {
    match step {
        Step::Close(Ending::Broken { reason, .. }) => reason.0,
        other => panic!("expected the end of the connection, got {other:?}"),
    }
}

// [MQTT-4.12.1-1]
#[test]
fn a_client_authenticates_anew_in_several_rounds() {
    let mut node = node();
    assert_eq!(auth(&mut node, ReasonCode::REAUTHENTICATE, "M", b"1"), Step::Pause);
    node.answer(0, &Verdict { data: Some(b"2".to_vec()), ..Verdict::new(Decision::Continue) });
    assert_eq!(node.said(0), [r#"AUTH 0x18 "2""#]);
    assert_eq!(auth(&mut node, ReasonCode::CONTINUE_AUTHENTICATION, "M", b"3"), Step::Pause);
    node.answer(0, &Verdict { data: Some(b"4".to_vec()), ..Verdict::new(Decision::Allow) });
    assert_eq!(node.said(0), [r#"AUTH 0x00 "4""#]);
    assert_eq!(node.asked(), [r#"c0 auth M "1" 0x19"#, r#"c0 auth M "3" 0x18"#]);
}

// [MQTT-4.12.1-2]
#[test]
fn a_failed_authentication_ends_the_connection() {
    let mut node = node();
    auth(&mut node, ReasonCode::REAUTHENTICATE, "M", b"");
    assert_eq!(reason_of(node.answer(0, &Verdict::deny(ReasonCode::NOT_AUTHORIZED))), 0x87);
}

// [MQTT-4.12.0-5]
#[test]
fn another_method_than_that_of_connect_ends_the_connection() {
    assert_eq!(reason_of(auth(&mut node(), ReasonCode::REAUTHENTICATE, "N", b"")), 0x82);
    let mut plain = Node::new(Settings::default(), 1);
    plain.connected(0, ProtocolVersion::V5, |_| {});
    assert_eq!(reason_of(auth(&mut plain, ReasonCode::REAUTHENTICATE, "M", b"")), 0x82);
}

#[test]
fn a_method_that_nobody_handles_any_more_ends_the_connection() {
    let mut node = node();
    node.listen(Hooks::empty());
    assert_eq!(reason_of(auth(&mut node, ReasonCode::REAUTHENTICATE, "M", b"")), 0x8c);
}

#[test]
fn too_many_questions_end_the_connection() {
    let mut node = node();
    node.refuse_questions();
    assert_eq!(reason_of(auth(&mut node, ReasonCode::REAUTHENTICATE, "M", b"")), 0x89);
}
