//! What goes to one peer on the data lane: the sender's half of the protocol. Pure: no socket, no clock, no lock.
//!
//! ```text
//! append         a message, into the batch that is open             from whoever publishes
//! close          the open batch, since it is to be sent
//! next, wrote    bytes for the connection, and how many it took
//! acknowledge    what the peer has kept, and its credit             from the peer
//! connect        a connection is there: what the peer has of it all
//! disconnect     it is gone
//! ```
//!
//! Batches lie one behind the other in chunks, in the form in which they are sent. One with a message of QoS 1 or 2, or one
//! that is retained, has a sequence number and stays until the peer has kept it, over any number of connections. One without has none, and is
//! gone when it is written; where both kinds of message are in one batch, those of QoS 0 are taken out before it is sent a
//! second time, so they are never doubled.
//!
//! Invariants: sequence numbers rise without a gap; what is held never exceeds the limit by a byte; a batch begins only
//! within the peer's credit, and then goes out whole; a heartbeat waits for the end of one frame at most.

use std::collections::VecDeque;

use crate::message::Millis;

use super::ages::Ages;
use super::chunk::{
    BATCH_HEAD_LEN, CHUNK_LEN, CONTENT_HEAD_LEN, Chunk, SEQ_LEN, batch_len, batch_seq, count_messages, strip,
};
use super::forwarded::Forwarded;
use super::frame::{FRAME_LEN_MAX, Kind, LENGTH_LEN, own_frame, put_pieces};
use super::overflow::{Dropped, Impossible, Overflow};

/// Empty chunks that are kept for later.
const SPARES_MAX: usize = 8;

/// Limits of an outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Bytes that are held.
    pub held_max: usize,
    /// Bytes from which on a batch takes no further message.
    pub batch_len: usize,
}

/// How far a connection is.
#[derive(Debug)]
struct Sending {
    /// The chunk that is being written.
    chunk: usize,
    /// How much of it is written.
    offset: usize,
    /// Where in it the frame begins that is being written.
    frame: usize,
    /// Up to where in it batches may be written.
    cleared: usize,
    /// Bytes of batches that were cleared on this connection.
    spent: u64,
    /// How many may be.
    credit: u64,
    /// How many could be at first.
    window: u64,
    /// Frames that go before the next batch.
    urgent: Vec<u8>,
    /// How much of them is written.
    urgent_written: usize,
    /// The bytes that were handed out last are urgent ones.
    is_urgent: bool,
    /// Bytes of a message that the peer takes.
    message_len_max: usize,
}

impl Sending {
    fn begin_chunk(&mut self, chunk: usize) {
        (self.chunk, self.offset, self.frame, self.cleared) = (chunk, 0, 0, 0);
    }
}

/// What goes to one peer.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    chunks: VecDeque<Chunk>,
    spares: Vec<Vec<u8>>,
    /// Where in the last chunk the batch begins that may still grow.
    open: Option<usize>,
    last_seq: u64,
    kept: u64,
    /// The peer is none any more.
    is_over: bool,
    /// Bytes in all chunks.
    held: usize,
    /// Bytes of batches that were not cleared yet.
    waiting: usize,
    sending: Option<Sending>,
    dropped: Dropped,
    ages: Ages,
}

impl Outbox {
    /// An empty one, whose sequence begins behind `before`: what another link of this process used is not used again.
    pub fn new(limits: OutboxLimits, before: u64) -> Self {
        Self {
            limits,
            chunks: VecDeque::new(),
            spares: Vec::new(),
            open: None,
            last_seq: before,
            kept: before,
            is_over: false,
            held: 0,
            waiting: 0,
            sending: None,
            dropped: Dropped::default(),
            ages: Ages::default(),
        }
    }

    /// Changes the limits for what comes next.
    pub fn set_limits(&mut self, limits: OutboxLimits) {
        self.limits = limits;
    }

    /// Takes a message. The sequence number of its batch, if it is one that is acknowledged.
    pub fn append(&mut self, message: &Forwarded<'_>, now: Millis) -> Result<Option<u64>, Overflow> {
        let qos = message.publication.head.qos;
        let size = message.encoded_size();
        if let Some(overflow) = self.refusal(message, size) {
            self.dropped.add(qos, size);
            return Err(overflow);
        }
        if BATCH_HEAD_LEN + size > CHUNK_LEN {
            Ok(self.append_large(message, now))
        } else {
            Ok(self.append_small(message, size, now))
        }
    }

    fn refusal(&self, message: &Forwarded<'_>, size: usize) -> Option<Overflow> {
        // A large message is cut into pieces, which have a head each.
        let cost = BATCH_HEAD_LEN + size + (size / (FRAME_LEN_MAX - 1)) * (LENGTH_LEN + 1) + LENGTH_LEN + 1;
        if self.is_over {
            return Some(Overflow::Gone);
        }
        if !message.is_encodable() {
            return Some(Overflow::TooLarge);
        }
        if !message.is_reliable() {
            let Some(sending) = &self.sending else { return Some(Overflow::Disconnected) };
            let waiting = sending.spent + self.waiting as u64;
            // What is larger than the whole window goes when nothing else is under way.
            let is_fitting = if cost as u64 > sending.window {
                waiting < sending.credit
            } else {
                waiting + cost as u64 <= sending.credit
            };
            if !is_fitting {
                return Some(Overflow::NoCredit);
            }
        }
        if self.sending.as_ref().is_some_and(|sending| CONTENT_HEAD_LEN + size > sending.message_len_max) {
            return Some(Overflow::TooLarge);
        }
        (self.held + cost > self.limits.held_max).then_some(Overflow::Full)
    }

    fn append_small(&mut self, message: &Forwarded<'_>, size: usize, now: Millis) -> Option<u64> {
        if let (Some(start), Some(chunk)) = (self.open, self.chunks.back()) {
            let length = chunk.bytes.len() + size;
            if length - start > self.limits.batch_len || length > CHUNK_LEN {
                self.open = None;
            }
        }
        let start = self.open.unwrap_or_else(|| self.open_batch(size));
        let Some(chunk) = self.chunks.back_mut() else { unreachable!("the open batch is in a chunk") };
        let before = chunk.bytes.len();
        message.encode(now, &mut chunk.bytes);
        debug_assert_eq!(chunk.bytes.len() - before, size);
        let length = chunk.bytes.len() - start - LENGTH_LEN;
        chunk.bytes[start..start + LENGTH_LEN].copy_from_slice(&(length as u32).to_be_bytes());
        self.held += size;
        self.waiting += size;
        if !message.is_reliable() {
            chunk.has_unreliable = true;
            return None;
        }
        // A batch without a number gets it with its first message that needs one.
        if batch_seq(&chunk.bytes[start..]) == 0 {
            self.last_seq += 1;
            self.ages.begin(self.last_seq, now);
            chunk.last_seq = self.last_seq;
            chunk.bytes[start + BATCH_HEAD_LEN - SEQ_LEN..start + BATCH_HEAD_LEN]
                .copy_from_slice(&self.last_seq.to_be_bytes());
        }
        Some(self.last_seq)
    }

    /// Begins a batch for a message of a size; where.
    fn open_batch(&mut self, size: usize) -> usize {
        let has_room = |chunk: &Chunk| !chunk.is_large() && chunk.bytes.len() + BATCH_HEAD_LEN + size <= CHUNK_LEN;
        if !self.chunks.back().is_some_and(has_room) {
            let bytes = self.spares.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_LEN));
            self.chunks.push_back(Chunk { bytes, ..Chunk::default() });
        }
        let Some(chunk) = self.chunks.back_mut() else { unreachable!("one was pushed") };
        let start = chunk.bytes.len();
        chunk.bytes.extend_from_slice(&[0; LENGTH_LEN]);
        chunk.bytes.push(Kind::Batch as u8);
        chunk.bytes.extend_from_slice(&[0; SEQ_LEN]);
        self.held += BATCH_HEAD_LEN;
        self.waiting += BATCH_HEAD_LEN;
        self.open = Some(start);
        start
    }

    fn append_large(&mut self, message: &Forwarded<'_>, now: Millis) -> Option<u64> {
        self.open = None;
        let is_kept = message.is_reliable();
        if is_kept {
            self.last_seq += 1;
            self.ages.begin(self.last_seq, now);
        }
        let seq = if is_kept { self.last_seq } else { 0 };
        let mut encoded = Vec::with_capacity(message.encoded_size());
        message.encode(now, &mut encoded);
        let large_len = CONTENT_HEAD_LEN + encoded.len();
        let mut bytes = Vec::new();
        put_pieces(&mut bytes, &[&[Kind::Batch as u8], &seq.to_be_bytes(), &encoded]);
        self.held += bytes.len();
        self.waiting += bytes.len();
        self.chunks.push_back(Chunk { bytes, last_seq: seq, has_unreliable: !is_kept, large_len });
        is_kept.then_some(seq)
    }

    /// The open batch takes nothing more.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// What is to be written next; empty: nothing, for now. Then [`Outbox::wrote`].
    #[expect(clippy::should_implement_trait, reason = "the bytes borrow from the outbox")]
    pub fn next(&mut self) -> &[u8] {
        let Self { chunks, open, waiting, held, spares, kept, sending, .. } = self;
        let Some(sending) = sending else { return &[] };
        sending.is_urgent = false;
        if sending.urgent_written == 0 {
            while let Some(chunk) = chunks.get(sending.chunk) {
                if !sending.urgent.is_empty() {
                    if sending.offset > sending.frame {
                        let end = sending.frame + own_frame(&chunk.bytes[sending.frame..]).0;
                        return &chunks[sending.chunk].bytes[sending.offset..end];
                    }
                    break;
                }
                if sending.offset < sending.cleared {
                    return &chunks[sending.chunk].bytes[sending.offset..sending.cleared];
                }
                let is_last = sending.chunk + 1 == chunks.len();
                let closed = if is_last { open.unwrap_or(chunk.bytes.len()) } else { chunk.bytes.len() };
                if sending.cleared < closed {
                    if sending.spent >= sending.credit {
                        break;
                    }
                    while sending.cleared < closed && sending.spent < sending.credit {
                        let length = batch_len(&chunk.bytes[sending.cleared..]);
                        sending.cleared += length;
                        sending.spent += length as u64;
                        *waiting -= length;
                    }
                    continue;
                }
                let is_done = chunk.last_seq <= *kept;
                if is_last {
                    if is_done && open.is_none() {
                        let chunk = chunks.remove(sending.chunk).unwrap_or_default();
                        recycle(chunk, held, spares);
                        sending.begin_chunk(sending.chunk);
                    }
                    break;
                }
                if is_done {
                    let chunk = chunks.remove(sending.chunk).unwrap_or_default();
                    recycle(chunk, held, spares);
                    sending.begin_chunk(sending.chunk);
                } else {
                    sending.begin_chunk(sending.chunk + 1);
                }
            }
        }
        sending.is_urgent = true;
        &sending.urgent[sending.urgent_written..]
    }

    /// So many of the bytes that [`Outbox::next`] told were written.
    pub fn wrote(&mut self, count: usize) {
        let Some(sending) = &mut self.sending else { return };
        if sending.is_urgent {
            sending.urgent_written += count;
            if sending.urgent_written >= sending.urgent.len() {
                sending.urgent.clear();
                sending.urgent_written = 0;
            }
            return;
        }
        let Some(chunk) = self.chunks.get(sending.chunk) else { return };
        sending.offset += count;
        debug_assert!(sending.offset <= sending.cleared);
        while sending.frame < sending.offset {
            let end = sending.frame + own_frame(&chunk.bytes[sending.frame..]).0;
            if end > sending.offset {
                break;
            }
            sending.frame = end;
        }
    }

    /// A frame that goes before all batches, such as a heartbeat. False: there is no connection.
    pub fn put_urgent(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(sending) = &mut self.sending else { return false };
        put(&mut sending.urgent);
        true
    }

    /// Bytes of urgent frames that wait.
    pub fn urgent_len(&self) -> usize {
        self.sending.as_ref().map_or(0, |sending| sending.urgent.len() - sending.urgent_written)
    }

    /// The peer has kept everything up to a sequence number and takes so many bytes on this connection, all in all. True: it
    /// has kept more than was known.
    pub fn acknowledge(&mut self, kept: u64, credit: u64) -> Result<bool, Impossible> {
        self.check(kept)?;
        let is_more = kept > self.kept;
        self.keep(kept);
        if let Some(sending) = &mut self.sending {
            sending.credit = sending.credit.max(credit);
            while sending.chunk > 0 && self.chunks.front().is_some_and(|chunk| chunk.last_seq <= self.kept) {
                let chunk = self.chunks.pop_front().unwrap_or_default();
                recycle(chunk, &mut self.held, &mut self.spares);
                sending.chunk -= 1;
            }
        }
        // What is written and kept to the end of the last chunk goes as well.
        self.next();
        Ok(is_more)
    }

    fn keep(&mut self, seq: u64) {
        self.kept = self.kept.max(seq);
        self.ages.keep(self.kept);
    }

    fn check(&self, told: u64) -> Result<(), Impossible> {
        if told > self.last_seq { Err(Impossible { told, sent: self.last_seq }) } else { Ok(()) }
    }

    /// A connection is there. The peer has `kept` everything up to one sequence number, has `received` everything up to
    /// another, takes `credit` bytes and messages up to a size.
    pub fn connect(&mut self, kept: u64, received: u64, credit: u64, message_len_max: usize) -> Result<(), Impossible> {
        self.check(kept.max(received))?;
        self.disconnect();
        self.keep(kept);
        let (mut index, mut first) = (0, None);
        self.waiting = 0;
        while index < self.chunks.len() {
            let chunk = &self.chunks[index];
            let is_too_large = chunk.large_len > message_len_max;
            if is_too_large || chunk.last_seq <= self.kept {
                let chunk = self.chunks.remove(index).unwrap_or_default();
                if is_too_large && chunk.last_seq > self.kept {
                    count_messages(&chunk.bytes, true, &mut self.dropped);
                }
                recycle(chunk, &mut self.held, &mut self.spares);
                continue;
            }
            if chunk.last_seq > received {
                first.get_or_insert(index);
            }
            index += 1;
        }
        let mut sending = Sending {
            chunk: 0,
            offset: 0,
            frame: 0,
            cleared: 0,
            spent: 0,
            credit,
            window: credit,
            urgent: Vec::new(),
            urgent_written: 0,
            is_urgent: false,
            message_len_max,
        };
        // The last chunk is where new batches go, so it is where to go on when the peer has received everything.
        let (start, from) = (first.unwrap_or(self.chunks.len().saturating_sub(1)), received.max(self.kept));
        sending.begin_chunk(start);
        if let Some(chunk) = self.chunks.get(start) {
            let mut offset = 0;
            while offset < chunk.bytes.len() && batch_seq(&chunk.bytes[offset..]) <= from {
                offset += batch_len(&chunk.bytes[offset..]);
            }
            (sending.offset, sending.frame, sending.cleared) = (offset, offset, offset);
            self.waiting = self.chunks.iter().skip(start).map(|chunk| chunk.bytes.len()).sum::<usize>() - offset;
        }
        self.sending = Some(sending);
        Ok(())
    }

    /// The connection is gone: what is not sent a second time is dropped, and counted unless it was written.
    pub fn disconnect(&mut self) {
        self.open = None;
        let Some(sending) = self.sending.take() else { return };
        let mut kept = VecDeque::with_capacity(self.chunks.len());
        for (index, chunk) in std::mem::take(&mut self.chunks).into_iter().enumerate() {
            // Up to where it was written, which is all of an earlier chunk and nothing of a later one.
            let written = match index.cmp(&sending.chunk) {
                std::cmp::Ordering::Less => usize::MAX,
                std::cmp::Ordering::Equal => sending.offset,
                std::cmp::Ordering::Greater => 0,
            };
            let chunk = if chunk.has_unreliable { strip(&chunk, written, &mut self.dropped) } else { chunk };
            if chunk.bytes.is_empty() {
                recycle(chunk, &mut 0, &mut self.spares);
            } else {
                kept.push_back(chunk);
            }
        }
        self.chunks = kept;
        self.held = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.waiting = self.held;
    }

    /// Everything that is held is given up, and counted, and nothing more is taken: nobody is there any more to get it.
    pub fn discard(&mut self) {
        self.is_over = true;
        self.disconnect();
        for chunk in std::mem::take(&mut self.chunks) {
            let mut rest = chunk.bytes.as_slice();
            while !rest.is_empty() {
                let (batch, after) = rest.split_at(batch_len(rest));
                if batch_seq(batch) > self.kept {
                    count_messages(batch, chunk.is_large(), &mut self.dropped);
                }
                rest = after;
            }
        }
        (self.held, self.waiting) = (0, 0);
        self.keep(self.last_seq);
    }

    /// Everything up to this sequence number is kept by the peer.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// The last sequence number that was given.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes among them that are not written on the present connection.
    pub fn unwritten(&self) -> usize {
        self.waiting + self.sending.as_ref().map_or(0, |sending| sending.cleared - sending.offset)
    }

    /// Milliseconds since the oldest batch was begun that the peer has not kept; 0: there is none.
    pub fn oldest_age(&self, now: Millis) -> Millis {
        self.ages.oldest(now)
    }

    /// What was turned away so far.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }
}

/// Takes a chunk's memory back.
fn recycle(chunk: Chunk, held: &mut usize, spares: &mut Vec<Vec<u8>>) {
    *held = held.saturating_sub(chunk.bytes.len());
    let is_large = chunk.is_large();
    let mut bytes = chunk.bytes;
    if !is_large && spares.len() < SPARES_MAX && bytes.capacity() >= CHUNK_LEN {
        bytes.clear();
        spares.push(bytes);
    }
}
