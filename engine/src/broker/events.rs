//! What the engine tells Python: a bounded queue with a descriptor that is readable while something waits.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Peer;
use crate::hooks::{Hooks, Identity};
use crate::message::Message;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks for something.
    Debug,
    /// Normal course of things.
    Info,
    /// A peer did something wrong or a limit was hit.
    Warning,
    /// The broker cannot do what it should.
    Error,
}

impl Level {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What happened to a bridge.
#[derive(Clone, Debug)]
pub enum BridgeNews {
    /// The other broker has accepted the connection.
    Connected,
    /// The connection to the other broker, or the attempt to make one, is over; a sentence why.
    Ended(String),
    /// This node has ended the connection that the bridge has with it; a sentence why.
    Failed(String),
}

/// A request or a notification for Python. Properties are encoded for MQTT 5 as on the wire.
#[derive(Clone, Debug)]
pub enum Event {
    /// A CONNECT waits for a verdict.
    Register(Box<RegisterRequest>),
    /// A PUBLISH or a will waits for a verdict.
    Publish {
        /// To be given back with the verdict.
        ticket: u64,
        /// Publisher.
        identity: Identity,
        /// The message.
        message: Message,
        /// It is the will of a CONNECT.
        is_will: bool,
    },
    /// A SUBSCRIBE waits for a verdict.
    Subscribe {
        /// To be given back with the verdict.
        ticket: u64,
        /// Subscriber.
        identity: Identity,
        /// Filters with the requested QoS.
        filters: Vec<(String, u8)>,
        /// Properties of the packet.
        properties: Vec<u8>,
    },
    /// An UNSUBSCRIBE waits for a verdict.
    Unsubscribe {
        /// To be given back with the verdict.
        ticket: u64,
        /// Subscriber.
        identity: Identity,
        /// Filters.
        filters: Vec<String>,
        /// Properties of the packet.
        properties: Vec<u8>,
    },
    /// Messages on their way to a client wait for a verdict.
    Deliver {
        /// To be given back with the verdict.
        ticket: u64,
        /// Receiver.
        identity: Identity,
        /// The messages in order, with the QoS and RETAIN of this delivery.
        messages: Vec<(Message, u8, bool)>,
    },
    /// An AUTH step waits for a verdict.
    Auth {
        /// To be given back with the verdict.
        ticket: u64,
        /// Client.
        identity: Identity,
        /// Authentication method.
        method: String,
        /// Authentication data.
        data: Option<Vec<u8>>,
        /// 0x00 in CONNECT, 0x18 or 0x19 in AUTH.
        reason_code: u8,
        /// Properties of the packet.
        properties: Vec<u8>,
    },
    /// A CONNECT waits until the other nodes have heard that its client id is claimed.
    Claim {
        /// To be given back with the verdict.
        ticket: u64,
        /// Client.
        identity: Identity,
        /// Hybrid logical time of the claim.
        stamp: u64,
        /// Whatever session there is ends.
        clean_start: bool,
    },
    /// Something happened to a session.
    Session {
        /// Which hook.
        hook: Hooks,
        /// Client.
        identity: Identity,
        /// Address of the client.
        peer: Option<Peer>,
        /// Why a connection ended.
        reason: String,
    },
    /// Subscriptions changed.
    Subscription {
        /// Which hook.
        hook: Hooks,
        /// Client.
        identity: Identity,
        /// Filters with the granted QoS.
        filters: Vec<(String, u8)>,
    },
    /// Something happened to a message.
    Message {
        /// Which hook; none for a delivery to an internal subscriber.
        hook: Option<Hooks>,
        /// Internal subscriber, else empty.
        subscriber: Arc<str>,
        /// Publisher or receiver.
        identity: Identity,
        /// The message.
        message: Message,
        /// QoS in this event.
        qos: u8,
        /// RETAIN in this event.
        retain: bool,
        /// Why it was dropped.
        reason: &'static str,
    },
    /// Something happened to a bridge.
    Bridge {
        /// Its name.
        name: String,
        /// What.
        news: BridgeNews,
    },
    /// For the operator.
    Log {
        /// How bad.
        level: Level,
        /// One sentence.
        message: String,
        /// Facts.
        fields: Vec<(&'static str, String)>,
    },
}

impl Event {
    /// Whether somebody waits for it, or it is a delivery.
    fn is_acted_upon(&self) -> bool {
        match self {
            Self::Register(_)
            | Self::Publish { .. }
            | Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::Deliver { .. }
            | Self::Auth { .. }
            | Self::Claim { .. }
            | Self::Bridge { .. } => true,
            Self::Message { hook, .. } => hook.is_none(),
            Self::Session { .. } | Self::Subscription { .. } | Self::Log { .. } => false,
        }
    }

    /// Bytes of the message in it.
    fn message_size(&self) -> usize {
        match self {
            Self::Publish { message, .. } | Self::Message { message, .. } => message.size(),
            Self::Deliver { messages, .. } => messages.iter().map(|(message, ..)| message.size()).sum(),
            _ => 0,
        }
    }
}

/// What Python needs to decide on a CONNECT.
#[derive(Clone, Debug)]
pub struct RegisterRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Address of the client.
    pub peer: Peer,
    /// Family of the listener.
    pub listener_kind: &'static str,
    /// Where the listener listens.
    pub listener_address: (String, u16),
    /// Certificate of the client, DER.
    pub client_certificate: Option<Arc<[u8]>>,
    /// Client.
    pub identity: Identity,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// Clean start (5.0) or clean session (3.x).
    pub clean_start: bool,
    /// Seconds.
    pub keep_alive: u16,
    /// Properties of the CONNECT.
    pub properties: Vec<u8>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Bytes of the messages in them.
    bytes: usize,
    /// The descriptor is readable.
    is_signalled: bool,
}

/// The queue from the engine's threads to Python.
#[derive(Debug)]
pub struct EventQueue {
    waiting: Mutex<Waiting>,
    reader: UnixStream,
    writer: UnixStream,
}

impl EventQueue {
    /// A queue with its descriptor.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { waiting: Mutex::new(Waiting::default()), reader, writer })
    }

    /// The descriptor that is readable while events wait.
    pub fn descriptor(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Adds an event, or says no when `limit` events or `limit_bytes` of messages wait. What nobody acts upon may take
    /// half of the room only, so that a flood of it does not keep questions and deliveries out.
    pub fn push(&self, event: Event, limit: usize, limit_bytes: usize) -> bool {
        let share = if event.is_acted_upon() { 1 } else { 2 };
        let size = event.message_size();
        let mut waiting = self.waiting.lock();
        if waiting.events.len() >= limit.div_ceil(share) || waiting.bytes + size > limit_bytes / share {
            return false;
        }
        waiting.bytes += size;
        waiting.events.push_back(event);
        if !waiting.is_signalled {
            waiting.is_signalled = true;
            // One byte in an empty socket pair always fits; the write cannot fail but by a bug.
            let written = (&self.writer).write(&[1]);
            debug_assert!(matches!(written, Ok(1)));
        }
        true
    }

    /// Takes at most `limit` events; the descriptor is quiet when none is left.
    pub fn drain(&self, limit: usize) -> Vec<Event> {
        let mut waiting = self.waiting.lock();
        let count = limit.min(waiting.events.len());
        let taken: Vec<Event> = waiting.events.drain(..count).collect();
        waiting.bytes -= taken.iter().map(Event::message_size).sum::<usize>();
        if waiting.events.is_empty() && waiting.is_signalled {
            waiting.is_signalled = false;
            let read = (&self.reader).read(&mut [0; 8]);
            debug_assert!(matches!(read, Ok(1)));
        }
        taken
    }

    /// Events that wait.
    pub fn len(&self) -> usize {
        self.waiting.lock().events.len()
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl AsFd for EventQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(number: usize) -> Event {
        Event::Log { level: Level::Info, message: number.to_string(), fields: Vec::new() }
    }

    fn is_readable(queue: &EventQueue) -> bool {
        matches!((&queue.reader).read(&mut [0; 1]), Ok(1))
    }

    #[test]
    fn the_queue_is_bounded_and_keeps_its_order() {
        let queue = EventQueue::new().unwrap();
        assert!((0..3).all(|number| queue.push(log(number), 6, usize::MAX)));
        assert!(!queue.push(log(3), 6, usize::MAX));
        let texts: Vec<_> = queue
            .drain(10)
            .into_iter()
            .map(|event| match event {
                Event::Log { message, .. } => message,
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(texts, ["0", "1", "2"]);
    }

    #[test]
    fn a_flood_of_logs_leaves_room_for_questions() {
        let queue = EventQueue::new().unwrap();
        while queue.push(log(0), 10, usize::MAX) {}
        assert_eq!(queue.len(), 5);
        let identity = Identity {
            mountpoint: "".into(),
            client_id: "c".into(),
            username: None,
            protocol_version: 5,
            listener: "".into(),
        };
        let question = Event::Subscribe { ticket: 1, identity, filters: Vec::new(), properties: Vec::new() };
        assert!(queue.push(question, 10, usize::MAX));
    }

    #[test]
    fn the_descriptor_is_quiet_after_everything_was_drained() {
        let queue = EventQueue::new().unwrap();
        queue.push(log(0), 10, usize::MAX);
        queue.push(log(1), 10, usize::MAX);
        assert_eq!(queue.drain(1).len(), 1);
        assert!(queue.waiting.lock().is_signalled);
        assert_eq!(queue.drain(1).len(), 1);
        assert!(!is_readable(&queue));
    }
}
