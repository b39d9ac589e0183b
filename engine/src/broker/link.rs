//! The write side of a connection: whoever put something into a session's output may flush it, on any worker.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::forwarding::Awaiting;
use super::{Peer, SessionRef};
use crate::metrics::Counter;
use crate::protocol::{Connection, Context, SLICES_MAX, UNKNOWN_LSN};
use crate::transport::Transport;

/// Empty output buffers of one worker, so that idle connections hold none and busy ones find a warm one.
#[derive(Debug, Default)]
pub struct BufferPool {
    buffers: Vec<Vec<u8>>,
}

const POOLED_BUFFERS_MAX: usize = 32;
const POOLED_BYTES_MAX: usize = 64 * 1_024;
const FRESH_BYTES: usize = 2 * 1_024;

impl BufferPool {
    /// Gives the connection a buffer where it has none.
    #[inline]
    pub fn lend(&mut self, connection: &mut Connection) {
        if !connection.output.has_buffer() {
            connection.output.adopt_buffer(self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES)));
        }
    }

    /// Takes the buffer back from a connection that has nothing to write.
    #[inline]
    pub fn take_back(&mut self, connection: &mut Connection) {
        if let Some(buffer) = connection.output.take_idle_buffer()
            && self.buffers.len() < POOLED_BUFFERS_MAX
            && buffer.capacity() <= POOLED_BYTES_MAX
        {
            self.buffers.push(buffer);
        }
    }
}

/// What came of an attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is written.
    All,
    /// The socket takes no more now; its owner goes on when it does.
    Blocked,
    /// The store, or another node, has not kept yet what the output tells of.
    Held,
    /// The connection is broken, which its owner has been told.
    Broken,
}

/// The worker that reads a connection, as those see it who end the connection from outside.
pub trait Owner: Send + Sync + fmt::Debug {
    /// The connection is over and its last packet is written: wait for the peer to close, then forget it.
    fn drain(&self, slot: usize, connection_id: u64);

    /// A write has found the socket full: tell when it takes more, now and from then on.
    fn watch_writable(&self, transport: &Transport, slot: usize) -> io::Result<()>;

    /// A write has found the connection broken: end it as lost.
    fn lost(&self, slot: usize, connection_id: u64);

    /// What the store held back is written: a connection that was not read on because its output was full may be read.
    fn go_on(&self, slot: usize, connection_id: u64);
}

/// The workers, as those see them who are none.
pub trait Crew: Send + Sync + fmt::Debug {
    /// Connections whose output was held back are looked at again.
    fn look_at_held(&self);

    /// These have something to write that is held back.
    fn hold(&self, sessions: Vec<SessionRef>);

    /// A deadline has become the earliest.
    fn look_at_deadlines(&self);
}

/// A connection as a session sees it.
#[derive(Debug)]
pub struct Link {
    /// Where it is written to, shared with the worker that reads it.
    pub transport: Arc<Transport>,
    /// Unique in the engine.
    pub connection_id: u64,
    /// Worker that owns it.
    pub owner: Arc<dyn Owner>,
    /// Place in the worker.
    pub slot: usize,
    /// Address of the client.
    pub peer: Peer,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Some worker has noted that it must be flushed this turn.
    pub is_flush_due: bool,
    /// Some worker has noted that it must be flushed once the store has kept what its output tells of.
    pub is_held: bool,
    /// Other nodes that have to have taken something before the output may go out.
    pub awaiting: Option<Box<Awaiting>>,
    /// The socket was full at the last write.
    pub is_blocked: bool,
    /// The owner reads nothing more until the output, which the store holds back, is written.
    pub is_paused: bool,
    /// When it claimed its client id, in hybrid logical time.
    pub claimed_at: u64,
    /// It has begun with a new session.
    pub is_clean: bool,
    /// The owner is told when the socket takes more. Most connections never need that, and each event costs.
    pub is_watched: bool,
}

impl Link {
    /// Writes as much of the output as the socket takes. A broken connection counts as blocked from then on.
    pub fn flush(&mut self, cx: &mut Context, connection: &mut Connection) -> Flushed {
        if connection.waits_for > 0 && !connection.output.is_empty() {
            if connection.waits_for == UNKNOWN_LSN || !cx.is_kept(connection.waits_for) {
                return Flushed::Held;
            }
            connection.waits_for = 0;
        }
        if let Some(awaiting) = &mut self.awaiting
            && !connection.output.is_empty()
        {
            if !awaiting.is_over() {
                return Flushed::Held;
            }
            self.awaiting = None;
        }
        let mut outcome = self.write(cx, connection);
        if outcome == Flushed::Blocked && !self.is_watched {
            self.is_watched = self.owner.watch_writable(&self.transport, self.slot).is_ok();
            if !self.is_watched {
                outcome = Flushed::Broken;
            }
        }
        self.is_blocked = outcome != Flushed::All;
        if std::mem::take(&mut self.is_paused) && outcome == Flushed::All {
            self.owner.go_on(self.slot, self.connection_id);
        }
        if outcome == Flushed::Broken {
            self.owner.lost(self.slot, self.connection_id);
        }
        outcome
    }

    fn write(&self, cx: &mut Context, connection: &mut Connection) -> Flushed {
        loop {
            if self.transport.is_layered() {
                // What a layer has taken counts as written, but while it cannot get rid of it the connection is blocked.
                match self.transport.flush() {
                    Ok(true) => {}
                    Ok(false) => return Flushed::Blocked,
                    Err(_) => return Flushed::Broken,
                }
            }
            if connection.output.is_empty() {
                return Flushed::All;
            }
            let written = if let Some(bytes) = connection.output.single_slice() {
                self.transport.write(&[IoSlice::new(bytes)])
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let used = connection.output.slices(&mut slices);
                self.transport.write(&slices[..used])
            };
            match written {
                Ok(0) => return Flushed::Broken,
                Ok(count) => {
                    connection.output.advance(count);
                    connection.bytes_sent += count as u64;
                    cx.tally.add(Counter::BytesSent, count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Broken,
            }
        }
    }

    /// The output tells of something that other nodes must have taken first.
    pub fn wait_for_nodes(&mut self, more: Awaiting) {
        if !more.is_empty() {
            self.awaiting.get_or_insert_default().add(more);
        }
    }

    /// Closes our side; the owner waits until the peer has read the last packet and closes too.
    pub fn shut(&self) {
        // What does not go out at once is seen to by the owner; it fails only where the peer was faster.
        let _ = self.transport.finish();
        self.owner.drain(self.slot, self.connection_id);
    }
}
