//! One client of the generator: its session, its socket and what waits to be written.

use std::io;
use std::net::Shutdown;

use mio::{Interest, Registry, Token};

use super::clock::Nanos;
use super::target::Target;
use crate::codec::{ProtocolVersion, QoS};
use crate::protocol::client::{Client, ClientSettings, Kept};
use crate::transport::outgoing::{Layers, Wire};

/// What is kept of a message that is not acknowledged: when it was sent.
#[derive(Debug, Clone, Copy)]
pub struct SentAt(pub Nanos);

/// A lost connection is something to report here, not to repair.
impl Kept for SentAt {
    fn encode_again(&self, _: ProtocolVersion, _: u16, _: QoS, _: &mut Vec<u8>) -> bool {
        false
    }
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not connected.
    Away,
    /// The socket connects.
    Opening,
    /// CONNECT is sent.
    Greeting,
    /// SUBSCRIBE is sent.
    Subscribing,
    /// In use.
    Ready,
    /// DISCONNECT is sent, the broker closes.
    Leaving,
}

/// Output that the broker does not take, above which nothing more is read from it either: what is read has to be answered.
const OUTPUT_MAX: usize = 1 << 20;
/// Output above which a publisher waits.
const OUTPUT_FULL: usize = 128 << 10;

/// One client.
#[derive(Debug)]
pub struct Link {
    /// Its session.
    pub client: Client<SentAt>,
    /// The topic filter it subscribes to when it has connected.
    pub filter: Option<Box<str>>,
    /// How far it is.
    pub phase: Phase,
    /// What the last CONNACK said.
    pub session_present: bool,
    /// When it began to connect.
    pub opened_at: Nanos,
    /// What has to be written.
    pub output: Vec<u8>,
    /// Whether it is on the list of links with output.
    pub is_dirty: bool,
    /// The broker has closed its side: what is left to read ends with that.
    pub is_read_closed: bool,
    /// Whether reading has to wait until the broker takes some of the output.
    pub waits_for_room: bool,
    written: usize,
    /// The beginning of a packet whose rest has not come.
    leftover: Vec<u8>,
    is_blocked: bool,
    wire: Option<Wire>,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadStep {
    /// So many bytes are in the buffer; `more` may wait in the socket.
    Bytes {
        /// Bytes in the buffer, those kept from before included.
        filled: usize,
        /// Bytes that are new.
        new: usize,
        /// Whether to read again.
        more: bool,
    },
    /// Nothing for now.
    Nothing,
    /// The broker has closed.
    Closed,
}

impl Link {
    /// A client that has not connected.
    pub fn new(settings: ClientSettings, filter: Option<Box<str>>) -> Self {
        Self {
            client: Client::new(settings),
            filter,
            phase: Phase::Away,
            session_present: false,
            opened_at: 0,
            output: Vec::new(),
            is_dirty: false,
            is_read_closed: false,
            waits_for_room: false,
            written: 0,
            leftover: Vec::new(),
            is_blocked: false,
            wire: None,
        }
    }

    /// Begins to connect.
    pub fn open(
        &mut self,
        (target, layers): (&Target, &Layers),
        index: usize,
        registry: &Registry,
        at: Nanos,
    ) -> io::Result<()> {
        let mut stream = target.connect(index)?;
        registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        self.wire = Some(Wire::new(stream, layers)?);
        self.phase = Phase::Opening;
        self.opened_at = at;
        self.is_read_closed = false;
        self.output.clear();
        self.leftover.clear();
        (self.written, self.is_blocked, self.session_present, self.waits_for_room) = (0, false, false, false);
        Ok(())
    }

    /// The socket is writable for the first time: whether it stands. `None`: not yet.
    pub fn is_connected(&self) -> io::Result<Option<()>> {
        let Some(stream) = self.wire.as_ref().map(Wire::socket) else { return Ok(None) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(Some(())),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes that wait to be written.
    #[inline]
    pub fn backlog(&self) -> usize {
        self.output.len() - self.written
    }

    /// Whether a publisher may go on.
    #[inline]
    pub fn takes_more(&self) -> bool {
        self.backlog() < OUTPUT_FULL
    }

    /// Whether the broker reads so little that nothing more should be read from it.
    #[inline]
    pub fn is_stuck(&self) -> bool {
        self.backlog() > OUTPUT_MAX
    }

    /// The socket takes bytes again.
    pub fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Reads what fits into `buffer`, after the beginning of a packet that was kept.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<ReadStep> {
        let Some(wire) = &mut self.wire else { return Ok(ReadStep::Nothing) };
        let kept = self.leftover.len();
        let Some((head, space)) = buffer.split_at_mut_checked(kept) else {
            return Err(io::Error::other("a packet is larger than the read buffer"));
        };
        let (new, more) = loop {
            match wire.read(space) {
                Ok((0, _)) => return Ok(ReadStep::Closed),
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadStep::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        head.copy_from_slice(&self.leftover);
        self.leftover.clear();
        Ok(ReadStep::Bytes { filled: kept + new, new, more })
    }

    /// Keeps the beginning of a packet for the next read.
    #[inline]
    pub fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.leftover.extend_from_slice(rest);
        }
    }

    /// Writes what the socket takes.
    #[inline]
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        while !self.is_blocked {
            let rest = self.output.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.output.clear();
                self.written = 0;
                return match wire.flush() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.is_blocked = true;
                        Ok(())
                    }
                    outcome => outcome,
                };
            }
            match wire.write(rest) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.written >= OUTPUT_FULL {
            self.output.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// No more will be written: the broker sees the end after what was written.
    pub fn shut(&mut self) {
        if let Some(wire) = &self.wire {
            // A connection that is gone already needs no shutting.
            drop(wire.socket().shutdown(Shutdown::Write));
        }
    }

    /// Gives the socket up.
    pub fn close(&mut self) {
        self.wire = None;
        self.phase = Phase::Away;
        self.client.detach();
        self.output = Vec::new();
        self.leftover = Vec::new();
        self.written = 0;
    }
}
