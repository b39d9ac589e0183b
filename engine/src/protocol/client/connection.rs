//! A client's session and its present connection: what the caller can ask of it.

use super::error::{ClientError, Refusal};
use super::settings::{ClientSettings, ServerLimits};
use super::state::State;
use super::window::{Again, Kept, Stage, Window};
use crate::codec::{
    Acknowledgement, AcknowledgementKind, Disconnect, Properties, ProtocolVersion, PublishHead, QoS, ReasonCode, Subscribe,
    SubscribeOptions, Unsubscribe, encode_pingreq, encode_pubrel,
};
use crate::queue::ReceivedIds;

/// Packet identifiers that the server has in use towards this client.
#[derive(Debug, Default)]
pub(super) struct Identifiers {
    ids: ReceivedIds,
}

impl Identifiers {
    /// False: it was there.
    pub fn insert(&mut self, id: u16) -> bool {
        self.ids.insert(id)
    }

    /// False: it was not there.
    pub fn remove(&mut self, id: u16) -> bool {
        self.ids.remove(id)
    }
}

/// One session of a client. See the [module](super) for how to drive it.
///
/// `K` is what is kept of a published message until it is acknowledged.
#[derive(Debug)]
pub struct Client<K> {
    pub(super) settings: ClientSettings,
    pub(super) state: State,
    pub(super) limits: ServerLimits,
    pub(super) window: Window<K>,
    abandoned: Vec<K>,
}
