//! What stands above the links: whoever routes messages and answers the control plane.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::message::Millis;

use super::forwarded::Messages;
use super::identity::PeerId;
use super::inbox::Taken;
use super::lane::Lane;
use super::link::PeerLink;
use super::refusal::RefusalCode;
use super::status::Condition;

/// A link has changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// The peer, as it told when it was last connected; none: it never was.
    pub peer: Option<Arc<PeerId>>,
    /// How the link is now.
    pub condition: Condition,
    /// Why it is not reachable, "" where it is.
    pub reason: String,
    /// Why the peer refuses this node, while it does.
    pub refusal: Option<RefusalCode>,
}

/// Somebody was not let in.
#[derive(Clone, Debug)]
pub struct TurnedAway {
    /// The listener.
    pub listener: Arc<str>,
    /// Where it came from.
    pub address: SocketAddr,
    /// As whom, as far as it came; not proved unless the refusal is about more than that.
    pub name: Option<Arc<str>>,
    /// Why, if there was a refusal.
    pub code: Option<RefusalCode>,
    /// The same in words.
    pub reason: String,
}

/// What the links call. It is called on the thread of the peer in question, which judges its heartbeats as well, so nothing of
/// it may wait for anything but short locks. It may call the [`PeerLink`] that it is given, and any other.
pub trait Upper: Send + Sync {
    /// The clock on which messages expire.
    fn now(&self) -> Millis;

    /// The last sequence number of this run of a peer up to which everything is safe here, as it was stored; 0 for none.
    /// Asked when the peer connects and this process has heard nothing of it yet.
    fn last_applied(&self, from: &PeerId) -> u64;

    /// A batch of clients' messages, in the order in which the peer took them; never twice. `seq` is 0 for one that holds
    /// messages of QoS 0 only. With [`Taken::Later`] the link is to be told by [`PeerLink::kept`].
    fn batch(&self, link: &Arc<PeerLink>, from: &Arc<PeerId>, seq: u64, messages: Messages<'_>) -> Taken;

    /// The peer has kept everything up to `seq`.
    fn acknowledged(&self, link: &Arc<PeerLink>, seq: u64);

    /// A message on the control or the metadata lane.
    fn message(&self, from: &Arc<PeerId>, lane: Lane, data: &[u8]);

    /// The link has become reachable or is so no more, or another reason keeps it down.
    fn changed(&self, link: &Arc<PeerLink>, change: &Change);

    /// A connection that came in did not get through the handshake. On the thread of the listeners; strangers can make it
    /// happen as often as they like.
    fn turned_away(&self, visitor: &TurnedAway);
}
