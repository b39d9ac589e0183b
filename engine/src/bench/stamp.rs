//! What the first bytes of a payload say: whose message it is, which one, and when it was sent.

use super::clock::Nanos;

/// Bytes that a stamp takes: the least size of a payload.
pub const STAMP_SIZE: usize = 24;

/// Tells payloads of this generator from others.
const MARK: [u8; 4] = *b"sgb1";

/// The stamp of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Chosen at random by each run, so that what an earlier run left behind is not taken for its own.
    pub run: u32,
    /// Number of the publisher, from 0.
    pub publisher: u32,
    /// Number of the message of this publisher, from 1.
    pub sequence: u32,
    /// When it was sent, or with a fixed rate when it was due, on [`super::clock::now`].
    pub sent_at: Nanos,
}

impl Stamp {
    /// The bytes of the stamp.
    #[inline]
    pub fn to_bytes(self) -> [u8; STAMP_SIZE] {
        let mut bytes = [0; STAMP_SIZE];
        let (mark, rest) = bytes.split_at_mut(4);
        mark.copy_from_slice(&MARK);
        let (run, rest) = rest.split_at_mut(4);
        run.copy_from_slice(&self.run.to_le_bytes());
        let (publisher, rest) = rest.split_at_mut(4);
        publisher.copy_from_slice(&self.publisher.to_le_bytes());
        let (sequence, sent_at) = rest.split_at_mut(4);
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        sent_at.copy_from_slice(&self.sent_at.to_le_bytes());
        bytes
    }

    /// The stamp at the start of a payload; `None` for a payload that this generator did not make.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (bytes, _) = payload.split_first_chunk::<STAMP_SIZE>()?;
        let [m0, m1, m2, m3, r0, r1, r2, r3, p0, p1, p2, p3, s0, s1, s2, s3, time @ ..] = *bytes;
        ([m0, m1, m2, m3] == MARK).then(|| Self {
            run: u32::from_le_bytes([r0, r1, r2, r3]),
            publisher: u32::from_le_bytes([p0, p1, p2, p3]),
            sequence: u32::from_le_bytes([s0, s1, s2, s3]),
            sent_at: Nanos::from_le_bytes(time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written_whatever_follows() {
        let stamp = Stamp { run: 0x0102_0304, publisher: 5, sequence: u32::MAX, sent_at: 1 << 60 };
        let payload = [&stamp.to_bytes()[..], b"more"].concat();
        assert_eq!(Stamp::read(&payload), Some(stamp));
    }

    #[test]
    fn other_payloads_have_no_stamp() {
        assert_eq!(Stamp::read(&[0; STAMP_SIZE]), None);
        assert_eq!(Stamp::read(&MARK), None);
        assert_eq!(Stamp::read(b""), None);
    }
}
