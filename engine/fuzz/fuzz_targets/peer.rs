//! Any bytes over a link between nodes: the frames after the handshake, the messages in a batch, the handshake itself.
//!
//! * Nothing panics, and what a reader makes of the bytes does not depend on how they are cut.
//! * A frame in pieces stays within its limit.
//! * Whoever does not know the secret proves nothing at either end.
#![no_main]

use std::sync::Arc;

use _engine::peer::{
    Boot, ClusterId, DialStep, Dialler, Frame, FrameReader, GreetStep, Greeter, Identity, Incarnation, Lane, Messages,
    PeerId, VERSIONS, Wanted, message_len,
};
use libfuzzer_sys::fuzz_target;

/// Small, so that inputs of a few thousand bytes go beyond it.
const ASSEMBLED_LEN_MAX: usize = 512;

fuzz_target!(|input: &[u8]| {
    let Some((&step, input)) = input.split_first() else { return };
    let whole = read_frames(input, input.len().max(1));
    assert_eq!(read_frames(input, usize::from(step) + 1), whole, "cuts change nothing");
    check_messages(input);
    check_handshake(input);
});

/// What the bytes are as frames, the fault at the end included.
fn read_frames(input: &[u8], step: usize) -> Vec<String> {
    let mut reader = FrameReader::new(ASSEMBLED_LEN_MAX);
    let mut seen = Vec::new();
    for mut part in input.chunks(step) {
        while !part.is_empty() {
            let room = reader.room();
            let count = room.len().min(part.len());
            assert!(count > 0, "a reader that needs more has room for it");
            room[..count].copy_from_slice(&part[..count]);
            reader.filled(count);
            part = &part[count..];
            loop {
                match reader.next() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Frame::Batch { messages, .. } = frame {
                            check_messages(messages);
                        }
                        seen.push(format!("{frame:?}"));
                    }
                    Err(fault) => {
                        assert!(!fault.to_string().is_empty());
                        seen.push(format!("{fault:?}"));
                        return seen;
                    }
                }
            }
        }
    }
    seen
}

fn check_messages(bytes: &[u8]) {
    let Ok(messages) = Messages::check(bytes, 1_000) else { return };
    let mut size = 0;
    for message in messages {
        let publication = message.publication;
        assert!(!publication.topic().is_empty() && publication.head.qos <= 2);
        assert!(!publication.is_expired(999), "an expiry lies ahead");
        let parts = publication.topic().len() + publication.properties().len() + publication.payload().len();
        assert_eq!(parts, publication.span.len(), "nothing lies between the parts");
        assert!(message.groups.iter().count() <= usize::from(u16::MAX));
        let mut again = Vec::new();
        message.encode(1_000, &mut again);
        assert_eq!(again.len(), message.encoded_size());
        let back = Messages::check(&again, 1_000).expect("what is written can be read").next();
        assert_eq!(back.map(|back| format!("{back:?}")), Some(format!("{message:?}")));
        size += again.len();
    }
    assert!(size <= bytes.len(), "a message is never larger than it came");
}

fn node(name: &str, boot: u8) -> Arc<Identity> {
    Arc::new(Identity {
        node: PeerId { name: name.into(), incarnation: Incarnation([boot; 16]), boot: Boot([boot; 8]) },
        cluster: Some(ClusterId([7; 16])),
        agreed: vec![("a setting".to_owned(), "a value".to_owned())],
        secret: b"nobody guesses this".to_vec(),
    })
}

fn check_handshake(input: &[u8]) {
    let mut greeter = Greeter::new(&node("b@h", 2), VERSIONS, [2; 32], &[]);
    let wanted = Wanted { name: "b@h".into(), incarnation: None };
    let (mut dialler, hello) = Dialler::begin(&node("a@h", 1), Lane::Data, wanted, VERSIONS, &[1; 32], &[]);
    // The rest of a good handshake may come before: what follows it is hostile.
    if input.first().is_some_and(|byte| byte & 1 == 0)
        && let GreetStep::Send(challenge) = greeter.advance(&hello)
    {
        assert!(matches!(dialler.advance(&challenge), Ok(DialStep::Send(_))));
    }
    let mut rest = input;
    while let Ok(Some(length)) = message_len(rest) {
        let (message, after) = rest.split_at(length);
        assert!(!matches!(greeter.advance(message), GreetStep::Proven), "without the secret nothing is proved");
        assert!(!matches!(dialler.advance(message), Ok(DialStep::Done(_))), "without the secret nobody is believed");
        rest = after;
    }
    assert!(dialler.answering().is_none());
}
