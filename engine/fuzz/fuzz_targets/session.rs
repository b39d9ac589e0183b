//! Any bytes as a history of three clients, Python and time, with what must hold checked after every step.
//!
//! The history, the node in memory and the referee are those of the engine's own tests.
#![no_main]

use _engine as engine;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the tests of the engine use the rest")]
#[path = "../../src/protocol/tests/node.rs"]
mod node;
#[path = "../../src/protocol/tests/referee.rs"]
mod referee;
#[path = "../../src/protocol/tests/script.rs"]
mod script;

fuzz_target!(|input: &[u8]| script::run(input));
