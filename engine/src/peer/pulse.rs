//! Heartbeats of one connection. Pure: the clock is passed in, in microseconds.
//!
//! A ping carries the time at which it was sent and comes back as it is. The proof that both ways work is as old as that
//! time, so a link that goes silent right after a pong is not believed in for any longer than one that went silent before.

use std::time::Duration;

/// Microseconds on a monotonic clock.
pub type Micros = u64;

/// A time so much later.
pub(super) fn later(now: Micros, by: Duration) -> Micros {
    now.saturating_add(Micros::try_from(by.as_micros()).unwrap_or(Micros::MAX))
}

/// Pings in the time after which a silent connection is down.
const PINGS_A_TIMEOUT: u64 = 5;

/// The heartbeats of one connection.
#[derive(Clone, Debug)]
pub struct Pulse {
    timeout: Micros,
    opened_at: Micros,
    /// When the last ping was sent.
    pinged_at: Option<Micros>,
    /// When the newest ping was sent that came back.
    proved_at: Option<Micros>,
    round_trip: Option<Micros>,
}

impl Pulse {
    /// Of a connection that was opened now.
    pub fn new(now: Micros, timeout: Micros) -> Self {
        Self { timeout, opened_at: now, pinged_at: None, proved_at: None, round_trip: None }
    }

    /// Changes how long silence is put up with.
    pub fn set_timeout(&mut self, timeout: Micros) {
        self.timeout = timeout;
    }

    /// Whether a ping is due; it is to be sent with this time in it.
    pub fn ping(&mut self, now: Micros) -> Option<u64> {
        if self.pinged_at.is_some_and(|at| now < at.saturating_add(self.timeout / PINGS_A_TIMEOUT)) {
            return None;
        }
        self.pinged_at = Some(now);
        Some(now)
    }

    /// A ping came back with its time. False: none was sent at that time, or later ones came back before.
    pub fn pong(&mut self, now: Micros, sent_at: u64) -> bool {
        let is_ours = sent_at >= self.opened_at && self.pinged_at.is_some_and(|last| sent_at <= last);
        if !is_ours || self.proved_at.is_some_and(|at| sent_at < at) {
            return false;
        }
        self.proved_at = Some(sent_at);
        self.round_trip = Some(now.saturating_sub(sent_at));
        true
    }

    /// Whether a round trip has worked lately.
    pub fn is_alive(&self, now: Micros) -> bool {
        self.proved_at.is_some_and(|at| now < at.saturating_add(self.timeout))
    }

    /// Whether the connection has to be given up: it is alive no more, or never was in all the time it had.
    pub fn is_lost(&self, now: Micros) -> bool {
        now >= self.proved_at.unwrap_or(self.opened_at).saturating_add(self.timeout)
    }

    /// When something is due: a ping, or giving up.
    pub fn next_due(&self) -> Micros {
        let lost_at = self.proved_at.unwrap_or(self.opened_at).saturating_add(self.timeout);
        self.pinged_at.map_or(self.opened_at, |at| at.saturating_add(self.timeout / PINGS_A_TIMEOUT)).min(lost_at)
    }

    /// Microseconds of the last round trip.
    pub fn round_trip(&self) -> Option<Micros> {
        self.round_trip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Micros = 5_000;

    #[test]
    fn a_connection_is_alive_from_its_first_round_trip_on() {
        let mut pulse = Pulse::new(100, TIMEOUT);
        assert!(!pulse.is_alive(100) && !pulse.is_lost(100));
        assert_eq!(pulse.ping(100), Some(100));
        assert_eq!(pulse.ping(101), None);
        assert!(pulse.pong(130, 100));
        assert!(pulse.is_alive(130));
        assert_eq!(pulse.round_trip(), Some(30));
    }

    #[test]
    fn silence_counts_from_the_last_ping_that_came_back() {
        let mut pulse = Pulse::new(0, TIMEOUT);
        assert_eq!(pulse.ping(0), Some(0));
        assert!(pulse.pong(900, 0));
        assert_eq!(pulse.ping(1_000), Some(1_000));
        assert!(pulse.is_alive(4_999));
        assert!(!pulse.is_alive(5_000) && pulse.is_lost(5_000));
    }

    #[test]
    fn a_connection_that_never_answers_is_lost_after_the_timeout() {
        let mut pulse = Pulse::new(7, TIMEOUT);
        for now in (7..5_007).step_by(100) {
            pulse.ping(now);
            assert!(!pulse.is_lost(now) && !pulse.is_alive(now));
        }
        assert!(pulse.is_lost(5_007));
        assert_eq!(pulse.next_due(), 5_007);
    }

    #[test]
    fn slow_answers_keep_a_connection_alive_as_long_as_they_come() {
        // Each ping takes four fifths of the timeout to come back; they are under way at the same time.
        let mut pulse = Pulse::new(0, TIMEOUT);
        let mut under_way = std::collections::VecDeque::new();
        for now in (0..100_000).step_by(500) {
            if under_way.front().is_some_and(|sent_at| sent_at + 3_900 <= now) {
                let sent_at = under_way.pop_front().unwrap();
                assert!(pulse.pong(now, sent_at));
            }
            under_way.extend(pulse.ping(now));
            assert!(!pulse.is_lost(now), "lost at {now}");
        }
    }

    #[test]
    fn a_pong_that_nobody_asked_for_proves_nothing() {
        let mut pulse = Pulse::new(1_000, TIMEOUT);
        assert!(!pulse.pong(1_000, 1_000));
        pulse.ping(1_000);
        for invented in [0, 999, 1_001, u64::MAX] {
            assert!(!pulse.pong(1_500, invented));
        }
        assert!(!pulse.is_alive(1_500));
    }
}
