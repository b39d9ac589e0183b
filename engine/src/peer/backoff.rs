//! When a lane is dialled again. Pure: randomness is passed in.

use std::time::Duration;

/// The first pause.
pub const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause. It bounds how long after its return a peer waits for us, so it is no longer than a failover may take.
pub const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Pauses that double, without end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause. `random`: any number; it spreads the nodes of a cluster that all lost the same peer.
    pub fn next(&mut self, random: u32) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        // Between a half and the whole of it.
        pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// A connection has proved good.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_000, 3_000, 3_000]);
        backoff.reset();
        assert_eq!(backoff.next(0), PAUSE_MIN / 2);
    }

    #[test]
    fn no_number_of_failures_makes_a_pause_overflow() {
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.next(u32::MAX), PAUSE_MAX);
        assert!(backoff.next(0) >= PAUSE_MAX / 2);
    }
}
