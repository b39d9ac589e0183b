//! The MQTT protocol as a pure state machine: packets and verdicts in, packets and calls to a [`Host`] out.
//!
//! Nothing here knows sockets, threads or locks, and the only clock is [`Context::now`], so everything can be driven by a test,
//! a fuzzer, the broker's workers, the bridge and the load generator alike.
//!
//! How to drive the server side, in the order of a connection's life:
//!
//! 1. [`connect::admit`] checks a decoded CONNECT against the listener and the settings and makes a [`connect::Registration`].
//! 2. The node finds or makes the [`Session`] and calls [`Session::attach`], which writes CONNACK and, for a resumed
//!    session, what must be sent again.
//! 3. Each further packet goes to [`Session::receive`]; the [`Step`] that comes back says whether to go on, to pause until
//!    [`Session::answer`], to leave the socket alone for a while, or to close.
//! 4. Messages for the client go in with [`Session::deliver`]; [`Session::refill`] sends what waited once there is room.
//! 5. What has to be written stands in [`Connection::output`].
//! 6. Where Python may change what a client gets, messages go out through [`Session::take_for_rewriting`] and come back with
//!    [`Session::rewritten`].
//! 7. [`Session::detach`] ends the connection and says what remains: a will, a session with an expiry.
//!
//! The client side is [`client`].

mod acknowledge;
mod auth;
pub mod client;
pub mod connect;
mod connection;
mod context;
mod deliver;
mod disconnect;
mod ending;
mod limits;
mod output;
mod publish;
mod receive;
mod rewriting;
mod session;
mod subscribe;
mod wire;

#[cfg(test)]
mod tests;

pub use connection::{Connection, UNKNOWN_LSN, Waiting};
pub use context::{Archive, Context, Decision, Host, Notice, Question, Rewriting, Routed, Unreleased, Verdict};
pub use deliver::{Delivered, Outgoing};
pub use ending::{Cause, Ending, Step};
pub use limits::SessionLimits;
pub use output::{Output, SHARE_FROM, SLICES_MAX};
pub use session::{Detached, Expiry, Session, Subscriptions, Will};
pub use wire::FrameCache;
