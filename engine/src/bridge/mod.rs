//! Bridges: what this node subscribes to for another broker, and what it gets from there.
//!
//! A bridge is one thread between two clients of the same kind ([`crate::protocol::client`]). One is connected to the other broker,
//! one, over a pair of sockets, to this node, where it has a session like any other client's: what waits for the other broker
//! waits in that session's queue, within its limits, and in the store if the session lasts. A message from one side is
//! published on the other, and acknowledged where it came from once it was acknowledged where it went.
//!
//! When to connect, and to what, is the control plane's affair; a bridge makes one attempt at a time and says how it ended.
//!
//! * `mapping.rs`: which topics a message goes to
//! * `echoes.rs`: what a broker sends back that does not know bridges
//! * `marks.rs`: how a message says through which brokers it came
//! * `passing.rs`: a message on its way
//! * `pump.rs`: both clients, without sockets
//! * `status.rs`: what is counted and told
//! * `driver.rs`: the thread and the sockets

mod driver;
mod echoes;
mod mapping;
mod marks;
mod passing;
mod pump;
mod status;

#[cfg(test)]
mod tests;

pub use driver::{Bridge, Opening, Remote};
pub use mapping::{Forward, Mapping, Rule, Subscription, Way};
pub use marks::{CLUSTER, MARK_SIZE_MAX, VIA, is_marked, user_property};
pub use pump::Plan;
pub use status::{Counts, State, Status};
