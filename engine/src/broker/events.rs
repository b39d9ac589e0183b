//! What the engine tells Python: a bounded queue with a descriptor that is readable while something waits.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::message::Message;

bitflags::bitflags! {
    /// Hooks that Python listens to. What nobody listens to is not even built.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Hooks: u32 {
        /// Decide on a CONNECT.
        const AUTH_ON_REGISTER = 1;
        /// Decide on a PUBLISH.
        const AUTH_ON_PUBLISH = 1 << 1;
        /// Decide on a SUBSCRIBE.
        const AUTH_ON_SUBSCRIBE = 1 << 2;
        /// Enhanced authentication.
        const ON_AUTH = 1 << 3;
        /// A client was accepted.
        const ON_REGISTER = 1 << 4;
        /// A publish was accepted.
        const ON_PUBLISH = 1 << 5;
        /// A subscription was made.
        const ON_SUBSCRIBE = 1 << 6;
        /// A client asked to unsubscribe.
        const ON_UNSUBSCRIBE = 1 << 7;
        /// A message is sent to a client.
        const ON_DELIVER = 1 << 8;
        /// A message is stored for an offline client.
        const ON_OFFLINE_MESSAGE = 1 << 9;
        /// A session got its client.
        const ON_CLIENT_WAKEUP = 1 << 10;
        /// A persistent session lost its client.
        const ON_CLIENT_OFFLINE = 1 << 11;
        /// A session ended with its connection.
        const ON_CLIENT_GONE = 1 << 12;
        /// A session was offline for too long.
        const ON_SESSION_EXPIRED = 1 << 13;
        /// Subscriptions are gone.
        const ON_TOPIC_UNSUBSCRIBED = 1 << 14;
        /// A message was dropped.
        const ON_MESSAGE_DROP = 1 << 15;
    }
}

/// VerneMQ's names of the hooks, in the order of the bits.
pub const HOOK_NAMES: [&str; 16] = [
    "auth_on_register",
    "auth_on_publish",
    "auth_on_subscribe",
    "on_auth",
    "on_register",
    "on_publish",
    "on_subscribe",
    "on_unsubscribe",
    "on_deliver",
    "on_offline_message",
    "on_client_wakeup",
    "on_client_offline",
    "on_client_gone",
    "on_session_expired",
    "on_topic_unsubscribed",
    "on_message_drop",
];

impl Hooks {
    /// The hook of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        let position = HOOK_NAMES.iter().position(|known| *known == name)?;
        Some(Self::from_bits_retain(1 << position))
    }

    /// VerneMQ's name of a single hook.
    pub fn name(self) -> &'static str {
        HOOK_NAMES.get(self.bits().trailing_zeros() as usize).copied().unwrap_or("unknown")
    }
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name space of topics and client ids.
    pub mountpoint: Arc<str>,
    /// Client id.
    pub client_id: Arc<str>,
    /// User name.
    pub username: Option<Arc<str>>,
    /// 3, 4 or 5.
    pub protocol_version: u8,
}

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
    /// Something happened to a session.
    Session {
        /// Which hook.
        hook: Hooks,
        /// Client.
        identity: Identity,
        /// Address of the client.
        peer: Option<SocketAddr>,
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

/// What Python needs to decide on a CONNECT.
#[derive(Clone, Debug)]
pub struct RegisterRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Address of the client.
    pub peer: SocketAddr,
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

    /// Adds an event, or says no when `limit` events wait.
    pub fn push(&self, event: Event, limit: usize) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.events.len() >= limit {
            return false;
        }
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
        let taken = waiting.events.drain(..count).collect();
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
        assert!((0..3).all(|number| queue.push(log(number), 3)));
        assert!(!queue.push(log(3), 3));
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
    fn the_descriptor_is_quiet_after_everything_was_drained() {
        let queue = EventQueue::new().unwrap();
        queue.push(log(0), 10);
        queue.push(log(1), 10);
        assert_eq!(queue.drain(1).len(), 1);
        assert!(queue.waiting.lock().is_signalled);
        assert_eq!(queue.drain(1).len(), 1);
        assert!(!is_readable(&queue));
    }

    #[test]
    fn hooks_are_found_by_their_names() {
        for (position, name) in HOOK_NAMES.iter().enumerate() {
            let hook = Hooks::by_name(name).unwrap();
            assert_eq!((hook.bits(), hook.name()), (1 << position, *name));
        }
        assert_eq!(Hooks::by_name("on_nothing"), None);
    }
}
