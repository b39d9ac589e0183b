//! Any bytes as a `vmq.acl`, the last line as a filter: what may be subscribed lets in nothing that no rule matches.
#![no_main]

use _engine as engine;
use engine::codec::text::validate_topic_filter;
use engine::policy::{AccessList, Asker};
use libfuzzer_sys::fuzz_target;

const REMARKS_MAX: usize = 21;

fuzz_target!(|input: &[u8]| {
    let (list, remarks) = AccessList::parse(input, 16);
    assert!(remarks.len() <= REMARKS_MAX);
    let hostile = Asker { mountpoint: "", client_id: "#", username: Some("+") };
    let nobody = Asker { mountpoint: "m", client_id: "", username: None };
    let last = input.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(filter) = std::str::from_utf8(last) else { return };
    if validate_topic_filter(filter).is_err() || filter.starts_with("$share/") {
        return;
    }
    // A topic that the filter matches: every wildcard filled with a level that no rule is likely to name.
    let topic: Vec<&str> =
        filter.split('/').map(|level| if matches!(level, "+" | "#") { "\u{1}" } else { level }).collect();
    let topic = topic.join("/");
    // Without the words read and write a rule is for both.
    let both: Vec<u8> =
        input.split_inclusive(|byte| *byte == b'\n').filter(|line| is_for_both(line)).flatten().copied().collect();
    let (both, _) = AccessList::parse(&both, 16);
    for who in [hostile, nobody] {
        if both.may_subscribe(who, filter) {
            assert!(both.may_publish(who, &topic), "{filter:?} lets in {topic:?}");
        }
        list.may_publish(who, &topic);
    }
});

fn is_for_both(line: &[u8]) -> bool {
    !line.windows(4).any(|word| word == b"read" || word == b"writ")
}
