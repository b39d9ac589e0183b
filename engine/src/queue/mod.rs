//! What a session still owes its client, and what its client still owes the broker.
//!
//! * [`Pending`]: messages that wait because the window is full, the client reads slowly or is offline.
//! * [`Inflight`]: the outgoing window, QoS 1 and 2 messages under way with their packet identifiers.
//! * [`ReceivedIds`]: packet identifiers of QoS 2 messages that were accepted and not yet released.
//!
//! None of them knows sockets, packets or time.

mod inflight;
mod pending;
mod received;

pub use inflight::{Acknowledged, Inflight, InflightState, Slot, packet_id};
pub use pending::{Full, Pending, Queued};
pub use received::ReceivedIds;
