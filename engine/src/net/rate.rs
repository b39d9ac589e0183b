//! How many connections a second a listener takes: a token bucket.

use crate::message::Millis;

/// A bucket holds a tenth of a second's worth, at least one: what comes in a crowd is spread over the second.
const SHARE: u32 = 10;
/// Tokens are counted in thousandths, so that a millisecond's worth is a whole number.
const TOKEN: u64 = 1_000;

/// A token bucket.
#[derive(Debug)]
pub struct Rate {
    per_second: u64,
    held: u64,
    at: Millis,
}

impl Rate {
    /// A full bucket; `per_second` is at least 1.
    pub fn new(per_second: u32) -> Self {
        let full = u64::from((per_second / SHARE).max(1)) * TOKEN;
        Self { per_second: u64::from(per_second.max(1)), held: full, at: 0 }
    }

    fn full(&self) -> u64 {
        (self.per_second / u64::from(SHARE)).max(1) * TOKEN
    }

    /// When there is a token: now, or then.
    pub fn ready_at(&mut self, now: Millis) -> Millis {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.held = self.full().min(self.held.saturating_add(passed.saturating_mul(self.per_second)));
        now + TOKEN.saturating_sub(self.held).div_ceil(self.per_second)
    }

    /// Takes a token.
    pub fn take(&mut self) {
        self.held = self.held.saturating_sub(TOKEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_in(rate: &mut Rate, from: Millis, to: Millis) -> usize {
        let mut taken = 0;
        for now in from..to {
            while rate.ready_at(now) <= now {
                rate.take();
                taken += 1;
            }
        }
        taken
    }

    #[test]
    fn a_crowd_comes_in_at_the_rate_and_no_faster() {
        for per_second in [1, 7, 100, 5_000] {
            let mut rate = Rate::new(per_second);
            let burst = (per_second / SHARE).max(1) as usize;
            let taken = taken_in(&mut rate, 1, 10_001);
            let expected = per_second as usize * 10;
            assert!((expected..=expected + burst).contains(&taken), "{per_second}: {taken}");
        }
    }

    #[test]
    fn it_says_when_the_next_may_come() {
        let mut rate = Rate::new(4);
        assert_eq!(rate.ready_at(1), 1);
        rate.take();
        assert_eq!(rate.ready_at(1), 251);
        assert_eq!(rate.ready_at(200), 251);
        assert_eq!(rate.ready_at(251), 251);
    }

    #[test]
    fn quiet_times_are_not_saved_up() {
        let mut rate = Rate::new(20);
        assert_eq!(taken_in(&mut rate, 1_000_000, 1_000_001), 2);
    }
}
