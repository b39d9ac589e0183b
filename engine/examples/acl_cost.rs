//! What an access list of 10,000 rules costs a publish: `cargo run --release --no-default-features --example acl_cost`.

use std::hint::black_box;
use std::time::Instant;

use _engine::hooks::Identity;
use _engine::policy::{AccessList, Decisions};

const RULES: usize = 10_000;
const ROUNDS: u32 = 2_000_000;

fn main() {
    let text = (0..RULES).fold(String::new(), |text, number| match number % 4 {
        0 => text + &format!("topic write plant/{number}/state\n"),
        1 => text + &format!("topic write plant/{number}/+/state\n"),
        2 => text + &format!("pattern write line/{number}/%c/#\n"),
        _ => text + &format!("topic read plant/{number}/#\n"),
    });
    let started = Instant::now();
    let (list, remarks) = AccessList::parse(text.as_bytes(), 10);
    assert!(remarks.is_empty(), "{remarks:?}");
    println!("{} rules compiled in {:.1} ms", list.rules(), started.elapsed().as_secs_f64() * 1e3);

    let who = Identity {
        mountpoint: "".into(),
        client_id: "meter-7".into(),
        username: Some("ann".into()),
        protocol_version: 5,
        listener: "default".into(),
    };
    for (what, topic) in [
        ("exact rule", "plant/8000/state"),
        ("rule with +", "plant/8001/7/state"),
        ("pattern with %c", "line/8002/meter-7/a/b"),
        ("no rule", "plant/8003/a/b/c/d"),
    ] {
        let looked_up = per_call(|| list.may_publish(&who, black_box(topic)));
        let mut decisions = Decisions::default();
        let remembered = per_call(|| decisions.may_publish(&list, &who, black_box(topic)));
        println!("{what}: looked up {looked_up:.1} ns, remembered {remembered:.1} ns");
    }
}

/// Nanoseconds for one call.
fn per_call(mut decide: impl FnMut() -> bool) -> f64 {
    let started = Instant::now();
    for _ in 0..ROUNDS {
        black_box(decide());
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
}
