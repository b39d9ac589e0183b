//! The session state machine against a node in memory, driven as the first page of [`super`] says.
//!
//! * `node.rs`: the node, with the real tries behind it, and its clients
//! * `referee.rs`: what a client may expect of every packet it gets; a violation fails the test
//! * `shorthand.rs`: what the tests below say in one word
//! * `script.rs`: any bytes as a history of clients, which the fuzz target of this name shares
//! * the rest: one file a part of the protocol; `both_ends.rs` puts the project's own client on the other side
//!
//! What a client gets is compared as text: `PUBLISH a/b "x" q1 #1 dup`, `SUBACK #3 0x01 0x80`.

mod authentication;
mod both_ends;
mod connecting;
mod delivering;
mod ending;
mod histories;
mod limits;
mod netsplit;
mod node;
mod publishing;
mod referee;
mod resuming;
mod retaining;
mod rewriting;
mod script;
mod shorthand;
mod subscribing;
mod verdicts;

// The name under which the fuzz targets know this crate, so that they can share the files.
use crate as engine;
