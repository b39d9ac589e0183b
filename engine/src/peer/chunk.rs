//! Batches in the form in which they are sent, and what is read off them again. Pure.

use super::forwarded::own_message;
use super::frame::{FRAME_LEN_MAX, Kind, LENGTH_LEN, own_frame};
use super::overflow::Dropped;

/// Bytes of a batch before its messages: length, kind, sequence number.
pub(super) const BATCH_HEAD_LEN: usize = LENGTH_LEN + 1 + SEQ_LEN;
pub(super) const SEQ_LEN: usize = 8;
/// The same without the length.
pub(super) const CONTENT_HEAD_LEN: usize = BATCH_HEAD_LEN - LENGTH_LEN;
/// Bytes of a chunk; a message that is too long for one has a chunk of its own.
pub(super) const CHUNK_LEN: usize = LENGTH_LEN + FRAME_LEN_MAX;

/// Batches one behind the other, as they are sent.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub bytes: Vec<u8>,
    /// The highest sequence number in it; 0: there is none.
    pub last_seq: u64,
    /// There is something in it that is not sent twice.
    pub has_unreliable: bool,
    /// Bytes of kind, sequence number and message where it has one message that takes several frames; 0: it has not.
    pub large_len: usize,
}

impl Chunk {
    pub fn is_large(&self) -> bool {
        self.large_len > 0
    }
}

/// Bytes of the batch at the front, which are several frames if it is in pieces.
pub(super) fn batch_len(bytes: &[u8]) -> usize {
    let mut length = 0;
    loop {
        let (frame_len, kind) = own_frame(&bytes[length..]);
        length += frame_len;
        if kind != Kind::Piece as u8 || length >= bytes.len() {
            return length;
        }
    }
}

/// Sequence number of the batch at the front.
pub(super) fn batch_seq(bytes: &[u8]) -> u64 {
    // In pieces the kind of the batch stands behind the kind of the piece.
    let is_whole = bytes.get(LENGTH_LEN) == Some(&(Kind::Batch as u8));
    let start = LENGTH_LEN + 1 + usize::from(!is_whole);
    bytes.get(start..).and_then(|rest| rest.first_chunk()).map_or(0, |seq| u64::from_be_bytes(*seq))
}

pub(super) fn count_messages(batch: &[u8], is_large: bool, dropped: &mut Dropped) {
    if is_large {
        let (qos, ..) = own_message(batch.get(BATCH_HEAD_LEN + 1..).unwrap_or_default());
        dropped.add(qos, batch.len());
        return;
    }
    let mut rest = &batch[BATCH_HEAD_LEN..];
    while !rest.is_empty() {
        let (qos, _, length) = own_message(rest);
        dropped.add(qos, length);
        rest = &rest[length..];
    }
}

/// The chunk without its messages that are not reliable. `written`: how much of it had gone out.
pub(super) fn strip(chunk: &Chunk, written: usize, dropped: &mut Dropped) -> Chunk {
    let mut bytes = Vec::new();
    if !chunk.is_large() {
        bytes.reserve_exact(CHUNK_LEN);
    }
    let mut offset = 0;
    while offset < chunk.bytes.len() {
        let end = offset + batch_len(&chunk.bytes[offset..]);
        let batch = &chunk.bytes[offset..end];
        let is_written = end <= written;
        offset = end;
        if chunk.is_large() {
            if !is_written {
                count_messages(batch, true, dropped);
            }
            continue;
        }
        let seq = batch_seq(batch);
        let start = bytes.len();
        if seq > 0 {
            bytes.extend_from_slice(&batch[..BATCH_HEAD_LEN]);
        }
        let mut rest = &batch[BATCH_HEAD_LEN..];
        while !rest.is_empty() {
            let (qos, is_reliable, length) = own_message(rest);
            if is_reliable {
                bytes.extend_from_slice(&rest[..length]);
            } else if !is_written {
                dropped.add(qos, length);
            }
            rest = &rest[length..];
        }
        if seq > 0 {
            let length = (bytes.len() - start - LENGTH_LEN) as u32;
            bytes[start..start + LENGTH_LEN].copy_from_slice(&length.to_be_bytes());
        }
    }
    Chunk { bytes, last_seq: chunk.last_seq, has_unreliable: false, large_len: 0 }
}
