//! What goes over a connection after the handshake: frames, short enough that a heartbeat never waits long behind one.
//!
//! ```text
//! frame    length of what follows (u32), kind (u8), body
//! piece    part of a frame that is too long for one: its kind and body, cut; the last part has a kind of its own
//! ```
//!
//! Kinds below 128 must be known to whoever gets them, those from 128 on may be skipped: a later version can say more to an
//! earlier one without asking first.

use super::bytes::{Malformed, Reader};

/// Bytes of kind and body of a frame, at most.
pub const FRAME_LEN_MAX: usize = 64 * 1_024;
/// Bytes before the kind.
pub const LENGTH_LEN: usize = 4;
/// Bytes of an assembled frame whose memory is kept for the next one.
const ASSEMBLED_KEPT_MAX: usize = 1 << 20;
/// Room for reading: a whole frame always fits behind a part of another.
const BUFFER_LEN: usize = 2 * (FRAME_LEN_MAX + LENGTH_LEN);
/// Bytes of the text of a goodbye, at most.
const GOODBYE_LEN_MAX: usize = 1_024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Asks for a pong.
    Ping = 1,
    /// A ping, sent back.
    Pong = 2,
    /// A message of a control plane.
    Message = 3,
    /// Messages of clients.
    Batch = 4,
    /// What was kept of them, and how many bytes more may come.
    Ack = 5,
    /// A part of a long frame.
    Piece = 6,
    /// The last part.
    LastPiece = 7,
    /// Why the connection ends.
    Goodbye = 8,
}

impl Kind {
    fn by_code(code: u8) -> Option<Self> {
        const ALL: [Kind; 8] = [
            Kind::Ping,
            Kind::Pong,
            Kind::Message,
            Kind::Batch,
            Kind::Ack,
            Kind::Piece,
            Kind::LastPiece,
            Kind::Goodbye,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// Kinds from here on may be skipped.
const SKIPPABLE: u8 = 128;

/// A frame that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The time in it goes back.
    Ping(u64),
    /// The time of our ping.
    Pong(u64),
    /// Bytes for the control plane.
    Message(&'a [u8]),
    /// Messages of clients.
    Batch {
        /// Place in the sender's sequence; 0: it has none, since nothing in it is sent again.
        seq: u64,
        /// See [`super::forwarded`].
        messages: &'a [u8],
        /// Bytes that the frame took on the connection, which count against the credit.
        size: u64,
    },
    /// An acknowledgement.
    Ack {
        /// Everything up to this sequence number is kept.
        kept: u64,
        /// So many bytes of batches may be sent on this connection, counted from its begin.
        credit: u64,
    },
    /// The peer ends the connection.
    Goodbye(&'a str),
}

/// Why a connection cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// A frame is longer than frames are.
    #[error("a frame of {0} bytes came, the longest has {FRAME_LEN_MAX}")]
    Long(usize),
    /// A frame in pieces is larger than this node takes.
    #[error("a message of more than {0} bytes came (incoming_clustering_buffer_size)")]
    Large(usize),
    /// A kind that must be known is not.
    #[error("a frame of the unknown kind {0} came")]
    Kind(u8),
    /// A frame of a known kind has another form.
    #[error("a malformed frame of the kind {0:?} came")]
    Form(Kind),
    /// Something came between the pieces of a frame that has to wait until it is whole.
    #[error("a frame came in pieces that do not belong together")]
    Pieces,
}

/// Appends a short frame.
fn put(buffer: &mut Vec<u8>, kind: Kind, parts: &[&[u8]]) {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(length <= FRAME_LEN_MAX, "a longer frame is cut into pieces");
    buffer.extend_from_slice(&(length as u32).to_be_bytes());
    buffer.push(kind as u8);
    for part in parts {
        buffer.extend_from_slice(part);
    }
}

/// Appends a ping with the time at which it is sent.
pub fn put_ping(buffer: &mut Vec<u8>, sent_at: u64) {
    put(buffer, Kind::Ping, &[&sent_at.to_be_bytes()]);
}

/// Appends the answer to a ping.
pub fn put_pong(buffer: &mut Vec<u8>, sent_at: u64) {
    put(buffer, Kind::Pong, &[&sent_at.to_be_bytes()]);
}

/// Appends an acknowledgement.
pub fn put_ack(buffer: &mut Vec<u8>, kept: u64, credit: u64) {
    put(buffer, Kind::Ack, &[&kept.to_be_bytes(), &credit.to_be_bytes()]);
}

/// Appends the reason for an end; a long one is cut.
pub fn put_goodbye(buffer: &mut Vec<u8>, reason: &str) {
    let mut length = reason.len().min(GOODBYE_LEN_MAX);
    while !reason.is_char_boundary(length) {
        length -= 1;
    }
    put(buffer, Kind::Goodbye, &[&reason.as_bytes()[..length]]);
}

/// Appends a message of the control plane, in pieces if it is long.
pub fn put_message(buffer: &mut Vec<u8>, data: &[u8]) {
    if data.len() < FRAME_LEN_MAX {
        put(buffer, Kind::Message, &[data]);
    } else {
        put_pieces(buffer, &[&[Kind::Message as u8], data]);
    }
}

/// Appends a frame, given as kind and body, in pieces.
pub fn put_pieces(buffer: &mut Vec<u8>, content: &[&[u8]]) {
    let mut left = content.iter().map(|part| part.len()).sum::<usize>();
    let mut parts = content.iter().copied();
    let mut part: &[u8] = &[];
    while left > 0 {
        let length = left.min(FRAME_LEN_MAX - 1);
        left -= length;
        let kind = if left == 0 { Kind::LastPiece } else { Kind::Piece };
        buffer.extend_from_slice(&(length as u32 + 1).to_be_bytes());
        buffer.push(kind as u8);
        let mut wanted = length;
        while wanted > 0 {
            if part.is_empty() {
                // The lengths of the parts add up to what is left, so there is another one.
                part = parts.next().unwrap_or_default();
            }
            let (head, rest) = part.split_at(wanted.min(part.len()));
            buffer.extend_from_slice(head);
            wanted -= head.len();
            part = rest;
        }
    }
}

/// The bytes of the frame at the front, its length field included, and its kind. For frames that this node wrote.
pub(super) fn own_frame(bytes: &[u8]) -> (usize, u8) {
    let length = bytes.first_chunk::<LENGTH_LEN>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    (LENGTH_LEN + length, bytes.get(LENGTH_LEN).copied().unwrap_or_default())
}

/// Cuts what comes over a connection into frames. Its memory is one buffer of fixed size, and a frame in pieces as far as it
/// has come.
pub struct FrameReader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    assembled: Vec<u8>,
    /// The assembled frame was handed out.
    is_assembled_done: bool,
    /// Bytes that the pieces took on the connection.
    assembled_size: usize,
    assembled_len_max: usize,
}

impl FrameReader {
    /// `assembled_len_max`: bytes of a frame in pieces.
    pub fn new(assembled_len_max: usize) -> Self {
        Self {
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            start: 0,
            end: 0,
            assembled: Vec::new(),
            is_assembled_done: false,
            assembled_size: 0,
            assembled_len_max,
        }
    }

    /// Where the next bytes are to be put; never empty once [`FrameReader::next`] has said that it needs more.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.buffer.len() - self.end < FRAME_LEN_MAX {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were put there.
    pub fn filled(&mut self, count: usize) {
        debug_assert!(count <= self.buffer.len() - self.end, "no more than there was room for");
        self.end += count;
    }

    /// The next frame; `None`: more bytes are needed.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FrameFault> {
        self.forget_assembled();
        loop {
            let available = &self.buffer[self.start..self.end];
            let Some(length) = available.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
            let length = u32::from_be_bytes(*length) as usize;
            if length == 0 || length > FRAME_LEN_MAX {
                return Err(FrameFault::Long(length));
            }
            if available.len() < LENGTH_LEN + length {
                return Ok(None);
            }
            let content = self.start + LENGTH_LEN..self.start + LENGTH_LEN + length;
            self.start = content.end;
            let code = self.buffer[content.start];
            match Kind::by_code(code) {
                Some(kind @ (Kind::Piece | Kind::LastPiece)) => {
                    let piece = &self.buffer[content.start + 1..content.end];
                    if self.assembled.len() + piece.len() > self.assembled_len_max {
                        return Err(FrameFault::Large(self.assembled_len_max));
                    }
                    self.assembled.extend_from_slice(piece);
                    self.assembled_size += LENGTH_LEN + length;
                    if kind == Kind::LastPiece {
                        self.is_assembled_done = true;
                        let size = self.assembled_size;
                        return parse_assembled(&self.assembled, size).map(Some);
                    }
                }
                Some(kind @ (Kind::Message | Kind::Batch)) if !self.assembled.is_empty() => {
                    debug_assert!(matches!(kind, Kind::Message | Kind::Batch));
                    return Err(FrameFault::Pieces);
                }
                Some(kind) => {
                    let body = &self.buffer[content.start + 1..content.end];
                    return parse(kind, body, LENGTH_LEN + length)
                        .map(Some)
                        .map_err(|Malformed| FrameFault::Form(kind));
                }
                None if code >= SKIPPABLE => {}
                None => return Err(FrameFault::Kind(code)),
            }
        }
    }

    fn forget_assembled(&mut self) {
        if std::mem::take(&mut self.is_assembled_done) {
            self.assembled_size = 0;
            self.assembled.clear();
            if self.assembled.capacity() > ASSEMBLED_KEPT_MAX {
                self.assembled = Vec::new();
            }
        }
    }
}

/// A frame that came in pieces. Only what may be long is sent so.
fn parse_assembled(content: &[u8], size: usize) -> Result<Frame<'_>, FrameFault> {
    let (&code, body) = content.split_first().ok_or(FrameFault::Pieces)?;
    match Kind::by_code(code) {
        Some(kind @ (Kind::Message | Kind::Batch)) => {
            parse(kind, body, size).map_err(|Malformed| FrameFault::Form(kind))
        }
        Some(_) => Err(FrameFault::Pieces),
        None => Err(FrameFault::Kind(code)),
    }
}

fn parse(kind: Kind, body: &[u8], size: usize) -> Result<Frame<'_>, Malformed> {
    let mut reader = Reader(body);
    let frame = match kind {
        Kind::Ping => Frame::Ping(reader.u64()?),
        Kind::Pong => Frame::Pong(reader.u64()?),
        Kind::Message => return Ok(Frame::Message(body)),
        Kind::Batch => return Ok(Frame::Batch { seq: reader.u64()?, messages: reader.0, size: size as u64 }),
        Kind::Ack => Frame::Ack { kept: reader.u64()?, credit: reader.u64()? },
        Kind::Goodbye => return std::str::from_utf8(body).map(Frame::Goodbye).map_err(|_| Malformed),
        Kind::Piece | Kind::LastPiece => return Err(Malformed),
    };
    if reader.0.is_empty() { Ok(frame) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8], step: usize, limit: usize) -> Result<Vec<String>, FrameFault> {
        let mut reader = FrameReader::new(limit);
        let mut frames = Vec::new();
        for part in bytes.chunks(step.max(1)) {
            let mut part = part;
            while !part.is_empty() {
                let room = reader.room();
                let count = room.len().min(part.len());
                room[..count].copy_from_slice(&part[..count]);
                reader.filled(count);
                part = &part[count..];
                while let Some(frame) = reader.next()? {
                    frames.push(format!("{frame:?}"));
                }
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut bytes = Vec::new();
        put_ping(&mut bytes, 7);
        put_message(&mut bytes, b"join");
        put_ack(&mut bytes, 3, u64::MAX);
        put_goodbye(&mut bytes, "the node stops");
        put_pong(&mut bytes, 8);
        let whole = read_all(&bytes, bytes.len(), 0).unwrap();
        assert_eq!(whole.len(), 5);
        assert!(whole[1].contains("Message") && whole[3].contains("the node stops"));
        for step in 1..bytes.len() {
            assert_eq!(read_all(&bytes, step, 0).unwrap(), whole);
        }
    }

    #[test]
    fn a_long_message_travels_in_pieces_and_heartbeats_pass_between_them() {
        let data: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let mut pieces = Vec::new();
        put_message(&mut pieces, &data);
        let (first, _) = own_frame(&pieces);
        let mut bytes = pieces[..first].to_vec();
        put_ping(&mut bytes, 1);
        bytes.extend_from_slice(&pieces[first..]);
        put_message(&mut bytes, b"next");
        let frames = read_all(&bytes, 1_000, 1 << 20).unwrap();
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0], "Ping(1)");
        assert_eq!(frames[1], format!("{:?}", Frame::Message(&data)));
    }

    #[test]
    fn a_message_between_the_pieces_of_another_is_refused() {
        let mut pieces = Vec::new();
        put_message(&mut pieces, &vec![1; 100_000]);
        let (first, _) = own_frame(&pieces);
        let mut bytes = pieces[..first].to_vec();
        put_message(&mut bytes, b"impatient");
        assert_eq!(read_all(&bytes, 4_096, 1 << 20), Err(FrameFault::Pieces));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_there() {
        let mut bytes = ((FRAME_LEN_MAX + 1) as u32).to_be_bytes().to_vec();
        assert_eq!(read_all(&bytes, 4, 1 << 20), Err(FrameFault::Long(FRAME_LEN_MAX + 1)));
        bytes.clear();
        put_message(&mut bytes, &vec![1; 200_000]);
        assert_eq!(read_all(&bytes, 1_000, 100_000), Err(FrameFault::Large(100_000)));
    }

    #[test]
    fn an_unknown_kind_is_refused_unless_it_may_be_skipped() {
        assert_eq!(read_all(&[0, 0, 0, 2, 99, 0], 6, 0), Err(FrameFault::Kind(99)));
        let mut bytes = vec![0, 0, 0, 2, 200, 0];
        put_ping(&mut bytes, 5);
        assert_eq!(read_all(&bytes, 6, 0).unwrap(), ["Ping(5)"]);
    }

    #[test]
    fn a_goodbye_is_cut_between_characters() {
        let mut bytes = Vec::new();
        put_goodbye(&mut bytes, &"ü".repeat(1_000));
        assert_eq!(read_all(&bytes, 4_096, 0).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_the_same_however_they_are_cut(
            bytes in proptest::collection::vec(prop_oneof![0..9_u8, any::<u8>()], 0..300), step in 1..300_usize
        ) {
            prop_assert_eq!(read_all(&bytes, step, 100), read_all(&bytes, bytes.len(), 100));
        }

        #[test]
        fn a_message_of_any_length_arrives(length in prop_oneof![0..10_usize, 65_530..65_545_usize, 131_060..131_080_usize]) {
            let mut bytes = Vec::new();
            put_message(&mut bytes, &vec![7; length]);
            let frames = read_all(&bytes, 60_000, 1 << 20).unwrap();
            prop_assert_eq!(frames, [format!("{:?}", Frame::Message(&vec![7; length]))]);
        }
    }
}
