//! Any bytes as a PROXY header: it never panics, claims no more than there is, and says the same however the bytes come.
#![no_main]

use _engine::transport::proxy::{HEADER_MAX, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    let mut first = None;
    for length in 0..=input.len().min(HEADER_MAX + 1) {
        match parse(&input[..length]) {
            Ok(None) => assert!(length < HEADER_MAX, "a header ends somewhere"),
            decided => {
                if let Ok(Some(header)) = &decided {
                    assert!(header.size <= length, "a header lies within the input");
                }
                first = Some(decided);
                break;
            }
        }
    }
    if let Some(first) = first {
        assert_eq!(first, whole, "what comes later changes nothing");
    }
});
