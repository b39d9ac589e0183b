//! Any bytes as a client of WebSocket: the request, then frames, cut anywhere. The first two bytes choose the cuts.
#![no_main]

use _engine::transport::websocket::frames::{CONTROL_MAX, Control, Decoder, FrameError};
use _engine::transport::websocket::upgrade::{UpgradeLimits, parse};
use libfuzzer_sys::fuzz_target;

const FRAME_SIZE_MAX: u64 = 300;

fuzz_target!(|input: &[u8]| {
    let [first, second, input @ ..] = input else { return };
    let step = usize::from(*first).max(1);
    request(input, step);
    let cut = frames(input, step);
    assert_eq!(cut, frames(input, usize::from(*second).max(1)), "cuts change nothing");
});

fn request(input: &[u8], step: usize) {
    let limits = UpgradeLimits { request_line: 200, header_value: 100 };
    let mut seen = 0;
    while seen < input.len() {
        let end = (seen + step).min(input.len());
        match parse(&input[..end], seen, &limits, Some("x-name")) {
            Ok(None) => assert!(end < 200 + 8 * 100, "a request ends somewhere"),
            Ok(Some(upgrade)) => {
                assert!(upgrade.size <= end, "a request lies within the input");
                return;
            }
            Err(refusal) => {
                assert!(refusal.answer().is_empty() == (refusal.status == 0));
                return;
            }
        }
        seen = end;
    }
}

fn frames(input: &[u8], step: usize) -> (Vec<u8>, Vec<Control>, Option<FrameError>) {
    let mut decoder = Decoder::new(FRAME_SIZE_MAX);
    let (mut data, mut controls) = (Vec::new(), Vec::new());
    for piece in input.chunks(step) {
        let mut piece = piece.to_vec();
        let (kept, error) = decoder.decode(&mut piece, |control| controls.push(control));
        data.extend_from_slice(&piece[..kept]);
        if error.is_some() {
            return (data, controls, error);
        }
    }
    for control in &controls {
        assert!(!matches!(control, Control::Ping(payload) if payload.len() > CONTROL_MAX));
    }
    assert!(data.len() < input.len().max(1), "a frame has a head");
    (data, controls, None)
}
