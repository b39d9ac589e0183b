//! What the workers of one engine share: sessions, subscriptions, retained messages, events for Python, other nodes.
//!
//! Locks and their order, which every path keeps:
//!
//! 1. a shard of the [`Registry`] (who has which client id),
//! 2. one session ([`SessionRef::lock`]), never two at a time,
//! 3. retained messages (the routing table may be locked under them), routing table, deadlines, event queue, tickets, internal subscribers, attached connections, sessions
//!    by their queues, mailboxes of workers, layers of a [`Transport`](crate::transport::Transport), links to other nodes, what
//!    has changed of the subscriptions of this one: leaves, nothing is locked under them but
//! 4. the [`Store`](crate::store::Store).
//!
//! Routes of other nodes are changed under a lock of their own ([`Remotes`]), which comes before that of the routing table and
//! under which no session is locked.
//!
//! One exception: a further connection of a shared client id (`allow_multiple_sessions`) may lock the session that it
//! belongs to, never the other way round.
//!
//! A publisher's own lock is given back before its messages are handed to other sessions, which is what [`Batch`] is for.

mod archive;
mod batch;
mod change_set;
mod choosing;
mod claims;
pub mod events;
mod flushing;
mod forwarding;
mod interest;
mod keeping;
mod link;
mod moving;
mod node;
#[cfg(test)]
mod node_tests;
mod parcel;
mod peer;
mod receiving;
mod registration;
mod registry;
mod remotes;
mod restoring;
mod retained;
#[cfg(test)]
mod retained_tests;
mod retaining;
mod router;
mod session_ref;
mod taken;
#[cfg(test)]
mod tests;
mod writing;

pub use batch::{Batch, Noted, Promise, Unwritten};
pub use change_set::CHANGES_MAX;
pub use claims::{Claim, Yielded};
pub use forwarding::Awaiting;
pub use interest::{Interest, LocalRoute, Members, RouteChanges, RouteKey, RoutesCursor};
pub use keeping::QueueFigures;
pub use link::{BufferPool, Crew, Flushed, Link, Owner};
pub use moving::{KeptSession, Moving, NotTaken, Packed};
pub use node::{Clock, Deadline, Node};
pub use peer::Peer;
pub use registration::name_of;
pub use registry::{Registry, SubscriberId};
pub use remotes::{Remotes, RouteOfPeer};
pub use retained::{Known, RetainedStore};
pub use retaining::{RetainedCursor, RetainedTopic};
pub use router::Router;
pub use session_ref::{Attached, KeptParts, Receiver, SessionRef, SessionState};
