//! Bytes of nobody in particular, to both ends of the handshake.

use std::sync::Arc;

use proptest::prelude::*;

use super::identity;
use crate::peer::{Dialler, GreetStep, Greeter, Lane, VERSIONS, Wanted, message_len};

fn almost(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = good.len();
    (0..length, any::<u8>(), 0..=length).prop_map(move |(position, byte, end)| {
        let mut bytes = good.clone();
        bytes[position] = byte;
        bytes.truncate(end);
        bytes
    })
}

fn hello() -> Vec<u8> {
    let wanted = Wanted { name: "b@h".into(), incarnation: None };
    Dialler::begin(&Arc::new(identity("a@h", 1)), Lane::Data, wanted, VERSIONS, &[1; 32], &[]).1
}

fn challenge() -> Vec<u8> {
    let mut greeter = Greeter::new(&Arc::new(identity("b@h", 2)), VERSIONS, [2; 32], &[]);
    match greeter.advance(&hello()) {
        GreetStep::Send(challenge) => challenge,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn nothing_makes_an_end_of_the_handshake_panic(
        bytes in prop_oneof![almost(hello()), almost(challenge()), proptest::collection::vec(any::<u8>(), 0..100)]
    ) {
        let _ = message_len(&bytes);
        let mut greeter = Greeter::new(&Arc::new(identity("b@h", 2)), VERSIONS, [2; 32], &[]);
        prop_assert!(!matches!(greeter.advance(&bytes), GreetStep::Proven));
        prop_assert!(!matches!(greeter.advance(&bytes), GreetStep::Proven));
        let wanted = Wanted { name: "b@h".into(), incarnation: None };
        let identity = Arc::new(identity("a@h", 1));
        let (mut dialler, _) = Dialler::begin(&identity, Lane::Control, wanted, VERSIONS, &[1; 32], &[]);
        let _ = dialler.advance(&bytes);
        prop_assert!(dialler.advance(&bytes).is_err());
        prop_assert!(dialler.answering().is_none());
    }
}
