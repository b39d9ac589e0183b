//! Messages that can be made again from their number, and do not compress.

/// Bytes of a topic name in front of each payload.
pub const TOPIC: &[u8; 16] = b"bench/telemetry/";
/// Bytes of a message with a payload of 100 bytes.
pub const SMALL: usize = TOPIC.len() + 100;
/// Bytes of a message with a payload of 1,000 bytes.
pub const LARGE: usize = TOPIC.len() + 1_000;

const NOISE_BYTES: usize = 1 << 16;

/// A small generator of numbers, the same on each run (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % limit
    }
}

/// Makes messages.
#[derive(Debug)]
pub struct Bodies {
    noise: Vec<u8>,
}

impl Default for Bodies {
    fn default() -> Self {
        let mut random = Random::new(7);
        Self { noise: (0..NOISE_BYTES).map(|_| random.below(256) as u8).collect() }
    }
}

impl Bodies {
    /// Fills `body` with message `number`: topic, number, noise.
    pub fn fill(&self, number: u64, body: &mut [u8]) {
        let head = TOPIC.len() + size_of::<u64>();
        body[..TOPIC.len()].copy_from_slice(TOPIC);
        body[TOPIC.len()..head].copy_from_slice(&number.to_le_bytes());
        let rest = body.len() - head;
        let start = (number.wrapping_mul(61) % (NOISE_BYTES - rest) as u64) as usize;
        body[head..].copy_from_slice(&self.noise[start..start + rest]);
    }

    /// Whether `body` is what [`Self::fill`] makes of the number in it.
    pub fn is_whole(&self, body: &[u8]) -> bool {
        if body.len() != SMALL && body.len() != LARGE {
            return false;
        }
        let mut expected = vec![0; body.len()];
        self.fill(number_of(body), &mut expected);
        expected == body
    }
}

/// The number of a message.
pub fn number_of(body: &[u8]) -> u64 {
    body.get(TOPIC.len()..TOPIC.len() + size_of::<u64>())
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(u64::MAX, u64::from_le_bytes)
}
