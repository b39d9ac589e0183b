//! The store as sessions see it.

use std::sync::{Arc, Weak};

use crate::message::Message;
use crate::protocol::Archive;
use crate::store::{Lsn, SegmentNo, Store};

use super::Node;
use super::events::{Event, Level};

/// Reads bodies, and tells the operator of those that cannot be read.
pub(super) struct NodeArchive {
    pub store: Arc<Store>,
    pub node: Weak<Node>,
}

impl Archive for NodeArchive {
    fn load(&self, slot: u32) -> Option<Message> {
        match self.store.load(slot) {
            Ok(message) => Some(message),
            Err(error) => {
                if let Some(node) = self.node.upgrade() {
                    let message = format!("a message is lost, since it cannot be read from the store: {error}");
                    node.tell_operator(Event::Log { level: Level::Error, message, fields: Vec::new() });
                }
                None
            }
        }
    }

    fn offer(&self, slot: u32, message: &Message) {
        self.store.offer(slot, message);
    }

    fn commit(&self, lsn: Lsn) -> bool {
        self.store.is_kept(lsn) || self.store.commit(lsn)
    }

    fn segment(&self) -> SegmentNo {
        self.store.current_segment()
    }
}
