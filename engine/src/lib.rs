//! The data plane of Strogoff: listeners, protocol, sessions, queues, routing.
//!
//! This file only names the parts; `ARCHITECTURE.md` draws the map. Python sees [`python`], everything else is plain Rust.

pub mod bench;
pub mod bridge;
pub mod broker;
pub mod codec;
pub mod hooks;
pub mod message;
pub mod metrics;
pub mod net;
pub mod peer;
pub mod policy;
pub mod protocol;
#[cfg(feature = "python")]
pub mod python;
pub mod queue;
pub mod routing;
pub mod settings;
pub mod store;
pub mod transport;
