//! A connection of a link that is open: frames in and out, and its heartbeats.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::bytes::Malformed;
use super::forwarded::Messages;
use super::frame::{Frame, FrameFault, FrameReader, put_goodbye, put_ping, put_pong};
use super::identity::PeerId;
use super::inbox::Arrival;
use super::lane::{Lane, Side};
use super::link::PeerLink;
use super::overflow::Impossible;
use super::pulse::{Micros, Pulse};
use super::roster::Standing;
use super::status::count;
use super::wire::Wire;
use super::writer::FrameWriter;

/// Reads of one connection before the others of its link have their turn.
const READS_A_TURN: usize = 16;
/// Bytes of heartbeats and their answers that may wait. Beyond that the peer reads nothing, and is not answered either.
const URGENT_MAX: usize = 16 * 1_024;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("the peer has closed the connection")]
    Closed,
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameFault),
    #[error("the peer says: {0}")]
    Goodbye(String),
    #[error("no heartbeat has come back within {0:?} (cluster.link_timeout)")]
    Silent(Duration),
    #[error("this node could not take a message, so the peer will send it again")]
    NotTaken,
    #[error("the peer sent something that does not belong on the {0} lane")]
    Misplaced(&'static str),
    #[error("the peer sent a malformed message of a client")]
    Batch(#[from] Malformed),
    #[error("{0}")]
    Impossible(#[from] Impossible),
    #[error("a newer connection takes its place")]
    Replaced,
    #[error("the peer's process has ended; a new one answers")]
    Restarted,
    #[error("{0}")]
    Stopped(String),
    #[error("a bug in this node: see its standard error")]
    Bug,
}

impl Ending {
    /// Whether the peer is to be told: it cannot know by itself.
    fn is_told(&self) -> bool {
        !matches!(self, Self::Closed | Self::Socket(_) | Self::Goodbye(_))
    }
}

/// An open connection.
pub(super) struct Open {
    pub wire: Arc<Wire>,
    pub side: Side,
    pub lane: Lane,
    pub reader: FrameReader,
    pub writer: FrameWriter,
    pub pulse: Pulse,
    pub peer: Arc<PeerId>,
    pub standing: Standing,
    pub opened_at: Micros,
    /// There may be something to read.
    pub is_readable: bool,
    /// The socket took nothing more.
    pub is_blocked: bool,
}

impl Open {
    pub fn new(
        link: &PeerLink,
        wire: Arc<Wire>,
        (side, lane): (Side, Lane),
        (peer, standing): (Arc<PeerId>, Standing),
        now: Micros,
    ) -> Self {
        let options = link.shared.options.load();
        Self {
            wire,
            side,
            lane,
            reader: FrameReader::new(options.incoming_buffer_size),
            writer: FrameWriter::default(),
            pulse: Pulse::new(now, options.link_timeout.as_micros() as Micros),
            peer,
            standing,
            opened_at: now,
            is_readable: true,
            is_blocked: false,
        }
    }

    /// Whether it is written through the outbox.
    fn is_outbox(&self) -> bool {
        self.side == Side::Dialled && self.lane == Lane::Data
    }

    /// Has a heartbeat, or the answer to one, sent before all else.
    fn put_urgent(&mut self, link: &PeerLink, put: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_outbox() {
            if self.writer.len() < URGENT_MAX || !self.is_blocked {
                self.writer.put_urgent(put);
            }
            return;
        }
        let mut data = link.data.lock();
        if data.outbox.urgent_len() < URGENT_MAX {
            data.outbox.put_urgent(put);
        }
    }

    /// Sends a heartbeat if one is due.
    pub fn beat(&mut self, link: &PeerLink, now: Micros) -> Result<(), Ending> {
        if self.pulse.is_lost(now) {
            count(&link.counters.silences, 1);
            return Err(Ending::Silent(link.shared.options.load().link_timeout));
        }
        if let Some(sent_at) = self.pulse.ping(now) {
            self.put_urgent(link, |buffer| put_ping(buffer, sent_at));
            self.write(link)?;
        }
        Ok(())
    }

    /// Writes as much as the socket takes.
    pub fn write(&mut self, link: &PeerLink) -> Result<(), Ending> {
        if self.is_outbox() {
            let mut data = link.data.lock();
            data.write(&link.counters);
            return match data.fault.take() {
                Some(fault) => Err(Ending::Socket(io::Error::other(fault))),
                None => Ok(()),
            };
        }
        while !self.is_blocked {
            let bytes = self.writer.next();
            if bytes.is_empty() {
                self.is_blocked = !self.wire.flush()?;
                break;
            }
            let written = self.wire.write(bytes)?;
            if written == 0 {
                self.is_blocked = true;
            }
            self.writer.wrote(written);
            count(&link.counters.bytes_sent, written as u64);
        }
        Ok(())
    }

    /// Reads what has come, within reason, and acts on it.
    pub fn read(&mut self, link: &Arc<PeerLink>, now: Micros) -> Result<(), Ending> {
        for _ in 0..READS_A_TURN {
            self.take_frames(link, now)?;
            match self.wire.read(self.reader.room())? {
                None => {
                    self.is_readable = false;
                    break;
                }
                Some(0) => return Err(Ending::Closed),
                Some(count_read) => {
                    self.reader.filled(count_read);
                    count(&link.counters.bytes_received, count_read as u64);
                }
            }
        }
        self.take_frames(link, now)?;
        // Answers to what was read.
        self.write(link)
    }

    fn take_frames(&mut self, link: &Arc<PeerLink>, now: Micros) -> Result<(), Ending> {
        loop {
            let is_outbox = self.is_outbox();
            let Self { reader, writer, pulse, peer, lane, side, is_blocked, .. } = self;
            let Some(frame) = reader.next()? else { return Ok(()) };
            match (frame, *side, *lane) {
                (Frame::Ping(sent_at), ..) if is_outbox => {
                    let mut data = link.data.lock();
                    if data.outbox.urgent_len() < URGENT_MAX {
                        data.outbox.put_urgent(|buffer| put_pong(buffer, sent_at));
                    }
                }
                (Frame::Ping(sent_at), ..) => {
                    if writer.len() < URGENT_MAX || !*is_blocked {
                        writer.put_urgent(|buffer| put_pong(buffer, sent_at));
                    }
                }
                (Frame::Pong(sent_at), ..) => {
                    pulse.pong(now, sent_at);
                }
                (Frame::Goodbye(reason), ..) => return Err(Ending::Goodbye(reason.to_owned())),
                (Frame::Message(data), _, Lane::Control) | (Frame::Message(data), Side::Accepted, Lane::Metadata) => {
                    count(&link.counters.control_received, 1);
                    link.shared.upper.message(peer, *lane, data);
                }
                (Frame::Batch { seq, messages, size }, Side::Accepted, Lane::Data) => {
                    take_batch(link, peer, seq, messages, size)?;
                }
                (Frame::Ack { kept, credit }, Side::Dialled, Lane::Data) => {
                    take_acknowledgement(link, kept, credit)?;
                }
                _ => return Err(Ending::Misplaced(lane.name())),
            }
        }
    }

    /// Ends it, telling the peer why if it cannot know.
    pub fn close(&mut self, link: &PeerLink, ending: &Ending) {
        if ending.is_told() {
            let reason = ending.to_string();
            // What waits goes first, as far as the socket takes it. All of it is a courtesy: where it does not get through,
            // heartbeats tell, and what must not be lost is sent again.
            if self.is_outbox() {
                link.data.lock().outbox.close();
                let _ = self.write(link);
                link.data.lock().outbox.put_urgent(|buffer| put_goodbye(buffer, &reason));
            } else {
                let _ = self.write(link);
                self.writer.put_urgent(|buffer| put_goodbye(buffer, &reason));
            }
            let _ = self.write(link);
        }
        self.wire.close();
    }
}

fn take_batch(link: &Arc<PeerLink>, peer: &Arc<PeerId>, seq: u64, messages: &[u8], size: u64) -> Result<(), Ending> {
    let upper = &link.shared.upper;
    let messages = Messages::check(messages, upper.now())?;
    // It is waited for before the upper layer has it, which may say that it is kept before it returns.
    if link.inbox.lock().arrive(seq, size) == Arrival::Duplicate {
        return Ok(());
    }
    count(&link.counters.messages_received, messages.len() as u64);
    let taken = upper.batch(link, peer, seq, messages);
    if link.inbox.lock().settle(seq, taken) { Ok(()) } else { Err(Ending::NotTaken) }
}

fn take_acknowledgement(link: &Arc<PeerLink>, kept: u64, credit: u64) -> Result<(), Ending> {
    let is_more = link.data.lock().outbox.acknowledge(kept, credit)?;
    if is_more {
        link.tell_kept(kept);
    }
    Ok(())
}
