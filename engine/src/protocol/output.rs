//! What waits to be written to one connection: small packets copied together, large payloads shared.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::message::Message;

/// A payload of at least this many bytes is not copied into the buffer but written from the message itself.
pub const SHARE_FROM: usize = 4_096;

/// Slices that one write takes at most; more wait for the next.
pub const SLICES_MAX: usize = 64;

/// Bytes that have to be written before it is worth moving the rest.
const COMPACT_FROM: usize = 16 * 1_024;

/// A message whose payload is written from where it is.
#[derive(Debug)]
struct Shared {
    /// Position in `buffer` behind which the payload goes.
    after: usize,
    message: Message,
}

impl Shared {
    fn payload(&self) -> &[u8] {
        self.message.publication().payload()
    }
}

/// The output of one connection. Idle it holds no memory.
#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are written.
    written: usize,
    shared: VecDeque<Shared>,
    /// Bytes of the first shared payload that are written.
    shared_written: usize,
    /// Bytes of all shared payloads that are not written.
    shared_waiting: usize,
}

impl Output {
    /// Bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len() - self.written + self.shared_waiting
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where packets are encoded to.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends the payload of a message without copying it. Its header has just been encoded into the buffer.
    pub fn push_shared_payload(&mut self, message: Message) {
        self.shared_waiting += message.publication().payload().len();
        self.shared.push_back(Shared { after: self.buffer.len(), message });
    }

    /// Fills `slices` with what to write next and tells how many it used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut used = 0;
        let mut position = self.written;
        let mut skip = self.shared_written;
        for shared in &self.shared {
            if used + 2 > SLICES_MAX {
                return used;
            }
            if position < shared.after {
                slices[used] = IoSlice::new(&self.buffer[position..shared.after]);
                used += 1;
                position = shared.after;
            }
            slices[used] = IoSlice::new(&shared.payload()[skip..]);
            used += 1;
            skip = 0;
        }
        if position < self.buffer.len() && used < SLICES_MAX {
            slices[used] = IoSlice::new(&self.buffer[position..]);
            used += 1;
        }
        used
    }

    /// The bytes that wait when no payload is shared, which is the common case.
    #[inline]
    pub fn single_slice(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.buffer[self.written..])
    }

    /// Forgets the first `count` bytes that waited: they are written.
    pub fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.len());
        while let Some(shared) = self.shared.front() {
            let before = shared.after - self.written;
            if count < before {
                break;
            }
            count -= before;
            self.written += before;
            let left = shared.payload().len() - self.shared_written;
            let taken = count.min(left);
            self.shared_written += taken;
            self.shared_waiting -= taken;
            count -= taken;
            if taken < left {
                break;
            }
            self.shared.pop_front();
            self.shared_written = 0;
        }
        self.written += count;
        self.compact();
    }

    /// Gives back the place of what is written, so that the buffer stays within twice what waits.
    fn compact(&mut self) {
        if self.written == self.buffer.len() {
            self.buffer.clear();
        } else if self.written >= COMPACT_FROM && self.written >= self.buffer.len() / 2 {
            self.buffer.drain(..self.written);
        } else {
            return;
        }
        for shared in &mut self.shared {
            shared.after -= self.written;
        }
        self.written = 0;
    }

    /// Gives the empty buffer away, so that an idle connection holds no memory and the next writer finds a warm one.
    pub fn take_idle_buffer(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.buffer.capacity() > 0).then(|| {
            self.written = 0;
            std::mem::take(&mut self.buffer)
        })
    }

    /// Takes an empty buffer into use where there is none.
    pub fn adopt_buffer(&mut self, buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty());
        if self.buffer.capacity() == 0 {
            self.buffer = buffer;
        }
    }

    /// Whether it has memory to write to.
    #[inline]
    pub fn has_buffer(&self) -> bool {
        self.buffer.capacity() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Head, NEVER, Publication};
    use proptest::prelude::*;

    fn message(payload: &[u8]) -> Message {
        let mut arena = Vec::new();
        let layout = Publication::compose(&mut arena, b"t", b"", payload);
        let head = Head { layout, qos: 0, retain: false, expires_at: NEVER, origin: 0 };
        Message::keep(&Publication { head, span: &arena })
    }

    fn write_all(output: &mut Output, steps: &[usize]) -> Vec<u8> {
        let mut written = Vec::new();
        let mut steps = steps.iter().cycle();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = output.slices(&mut slices);
            let ready: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            let count = ready.len().min(*steps.next().unwrap_or(&1));
            written.extend_from_slice(&ready[..count]);
            output.advance(count);
        }
        written
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order_however_they_are_written(
            parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..200),
            steps in prop::collection::vec(1_usize..64, 1..8),
        ) {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for (is_shared, bytes) in &parts {
                expected.extend_from_slice(bytes);
                if *is_shared {
                    output.push_shared_payload(message(bytes));
                } else {
                    output.buffer().extend_from_slice(bytes);
                }
            }
            prop_assert_eq!(output.len(), expected.len());
            prop_assert_eq!(write_all(&mut output, &steps), expected);
        }
    }
}
