//! A session as everybody in the engine holds it: shared, with its lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::hooks::INTERNAL_CLIENT_ID;
use crate::message::Millis;
use crate::peer::PeerLink;
use crate::protocol::{Context, Session, Will};
use crate::routing::Subscriber;
use crate::store::{QueueId, ReceivedId, SegmentNo};

use super::moving::Moving;
use super::{Link, SubscriberId};

/// Who stands behind a session.
#[derive(Clone, Debug)]
pub enum Receiver {
    /// A client, connected or not.
    Client,
    /// A part of the broker that gets messages as events.
    Internal {
        /// Its name.
        name: Arc<str>,
        /// It gets what is published on this node, and no other node is told of it.
        is_node_local: bool,
    },
    /// Another node.
    Peer(Arc<PeerLink>),
}

/// Further connections of the same client id (`allow_multiple_sessions`).
#[derive(Debug, Default)]
pub struct Attached {
    sessions: Mutex<Vec<SessionRef>>,
    count: AtomicUsize,
    /// Whose turn it is (`queue_deliver_mode = balance`).
    turn: AtomicUsize,
}

impl Attached {
    /// Adds a session.
    pub fn add(&self, session: SessionRef) {
        let mut sessions = self.sessions.lock();
        sessions.push(session);
        self.count.store(sessions.len(), Ordering::Release);
    }

    /// Removes a session.
    pub fn remove(&self, id: u64) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|session| session.id() != id);
        self.count.store(sessions.len(), Ordering::Release);
    }

    /// How many there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// All of them.
    pub fn all(&self) -> Vec<SessionRef> {
        self.sessions.lock().clone()
    }

    /// A number that goes round.
    pub fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// What the lock of a session guards.
#[derive(Debug)]
pub struct SessionState {
    /// The protocol side.
    pub session: Session,
    /// The socket side, there while a client is connected.
    pub link: Option<Link>,
    /// A will whose delay runs.
    pub pending_will: Option<Will>,
    /// When the session ends, while it is offline.
    pub expires_at: Option<Millis>,
    /// When the pending will is published.
    pub will_at: Option<Millis>,
    /// When messages that Python is asked about go out as they are.
    pub rewriting_until: Option<Millis>,
    /// The entry of this session among the node's deadlines.
    pub deadline: Option<Millis>,
    /// The session is over: it takes no messages and no connection any more.
    pub is_ended: bool,
    /// Where the store has what it knows of the session.
    pub kept: KeptParts,
    /// The session is on its way to another node, or from one.
    pub moving: Option<Box<Moving>>,
}

/// The lowest segments of the log with something about a session, part by part; what is written anew moves up. 0: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptParts {
    /// The session itself.
    pub session: SegmentNo,
    /// Its subscriptions.
    pub subscriptions: SegmentNo,
    /// The QoS 2 identifiers of its client.
    pub received: SegmentNo,
}

impl SessionState {
    /// The store has an identifier of a QoS 2 message of this session's client.
    pub fn note_received(&mut self, id: ReceivedId, segment: SegmentNo) {
        if self.session.received.note_kept(id.packet_id, id.stamp) {
            lower(&mut self.kept.received, segment);
        }
    }
}

/// Makes a segment the lowest, if it is lower; 0 stands for none.
pub(super) fn lower(lowest: &mut SegmentNo, segment: SegmentNo) {
    if *lowest == 0 || segment < *lowest {
        *lowest = segment;
    }
}

#[derive(Debug)]
struct Inner {
    id: u64,
    queue: QueueId,
    subscriber_id: SubscriberId,
    receiver: Receiver,
    is_online: AtomicBool,
    attached: Attached,
    /// The session that this one is attached to.
    main: Option<SessionRef>,
    state: Mutex<SessionState>,
}

/// A shared session.
#[derive(Clone, Debug)]
pub struct SessionRef(Arc<Inner>);

impl Subscriber for SessionRef {
    #[inline]
    fn id(&self) -> u64 {
        self.0.id
    }

    fn is_online(&self) -> bool {
        self.0.is_online.load(Ordering::Relaxed)
            || self.0.attached.count() > 0
            || matches!(&self.0.receiver, Receiver::Peer(link) if link.is_reachable())
    }

    #[inline]
    fn is_announced(&self) -> bool {
        match self.0.receiver {
            Receiver::Client => true,
            Receiver::Internal { is_node_local, .. } => !is_node_local,
            Receiver::Peer(_) => false,
        }
    }
}

impl SessionRef {
    /// Shares a session.
    pub fn new(session: Session, subscriber_id: SubscriberId, receiver: Receiver, main: Option<Self>) -> Self {
        let is_online = matches!(receiver, Receiver::Internal { .. });
        Self(Arc::new(Inner {
            id: session.id,
            queue: session.queue,
            subscriber_id,
            receiver,
            is_online: AtomicBool::new(is_online),
            attached: Attached::default(),
            main,
            state: Mutex::new(SessionState {
                session,
                link: None,
                pending_will: None,
                expires_at: None,
                will_at: None,
                rewriting_until: None,
                deadline: None,
                is_ended: false,
                kept: KeptParts::default(),
                moving: None,
            }),
        }))
    }

    /// Locks the session.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, SessionState> {
        self.0.state.lock()
    }

    /// Its name in the store, for as long as it lives; 0: it is not kept there.
    #[inline]
    pub fn queue(&self) -> QueueId {
        self.0.queue
    }

    /// Who stands behind it.
    #[inline]
    pub fn receiver(&self) -> &Receiver {
        &self.0.receiver
    }

    /// The link to the node that it stands for.
    #[inline]
    pub fn peer_link(&self) -> Option<&Arc<PeerLink>> {
        if let Receiver::Peer(link) = &self.0.receiver { Some(link) } else { None }
    }

    /// Mountpoint and client id.
    pub fn subscriber_id(&self) -> &SubscriberId {
        &self.0.subscriber_id
    }

    /// Further connections of the same client id.
    #[inline]
    pub fn attached(&self) -> &Attached {
        &self.0.attached
    }

    /// The session that has the subscriptions, where this one only shares them.
    pub fn main(&self) -> Option<&Self> {
        self.0.main.as_ref()
    }

    /// Whether a part of the broker is its client, which is no concern of those who ask for clients.
    pub fn is_internal(&self) -> bool {
        self.0.subscriber_id.client_id.starts_with(INTERNAL_CLIENT_ID)
    }

    /// Whether a shared group may choose this session: its queue is not full.
    pub fn can_take(&self, cx: &Context) -> bool {
        if matches!(self.0.receiver, Receiver::Internal { .. }) || self.0.attached.count() > 0 {
            return true;
        }
        let state = self.0.state.lock();
        let limit = state.session.queue_limit(cx, state.link.is_some());
        !state.is_ended && state.session.pending.len() < limit
    }

    /// Says whether a client is connected, for those who ask without the lock.
    pub fn set_online(&self, is_online: bool) {
        self.0.is_online.store(is_online, Ordering::Relaxed);
    }

    /// Whether this very session has a client, without the lock.
    pub fn has_client(&self) -> bool {
        self.0.is_online.load(Ordering::Relaxed)
    }
}
