//! Since when the oldest batch waits that the peer has not kept. Pure.
//!
//! Batches that were begun shortly one after the other share a mark with the time of the first of them, so that an outage of days
//! costs some thousand marks, whatever goes on meanwhile. An age is thus too high by [`SPACING`], or one [`FRACTION`]th of the
//! longest wait there was, at most.

use std::collections::VecDeque;

use crate::message::Millis;

/// Batches that were begun within this time share a mark.
const SPACING: Millis = 50;
/// So do those within this fraction of the time that the oldest has waited.
const FRACTION: Millis = 128;

/// Batches up to a sequence number, the first of which was begun at a time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    last_seq: u64,
    first_at: Millis,
}

/// When the batches were begun that the peer has not kept.
#[derive(Debug, Default)]
pub(super) struct Ages {
    marks: VecDeque<Mark>,
}

impl Ages {
    /// A batch is begun.
    pub fn begin(&mut self, seq: u64, now: Millis) {
        let spacing = SPACING.max(self.oldest(now) / FRACTION);
        match self.marks.back_mut() {
            Some(mark) if now.saturating_sub(mark.first_at) < spacing => mark.last_seq = seq,
            _ => self.marks.push_back(Mark { last_seq: seq, first_at: now }),
        }
    }

    /// The peer has kept everything up to a sequence number.
    pub fn keep(&mut self, seq: u64) {
        while self.marks.front().is_some_and(|mark| mark.last_seq <= seq) {
            self.marks.pop_front();
        }
    }

    /// Milliseconds since the oldest of them was begun; 0: there is none.
    pub fn oldest(&self, now: Millis) -> Millis {
        self.marks.front().map_or(0, |mark| now.saturating_sub(mark.first_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_batch_that_is_not_kept() {
        let mut ages = Ages::default();
        assert_eq!(ages.oldest(1_000), 0);
        ages.begin(1, 1_000);
        ages.begin(2, 1_000 + SPACING);
        assert_eq!(ages.oldest(3_000), 2_000);
        ages.keep(1);
        assert_eq!(ages.oldest(3_000), 2_000 - SPACING);
        ages.keep(2);
        assert_eq!(ages.oldest(3_000), 0);
    }

    #[test]
    fn batches_that_share_a_mark_are_as_old_as_the_first_of_them_until_all_are_kept() {
        let mut ages = Ages::default();
        for seq in 1..=10 {
            ages.begin(seq, 1_000 + seq);
        }
        assert_eq!(ages.marks.len(), 1);
        ages.keep(9);
        assert_eq!(ages.oldest(2_001), 1_000);
        ages.keep(10);
        assert_eq!(ages.oldest(2_001), 0);
    }

    #[test]
    fn an_outage_of_a_day_costs_few_marks() {
        let mut ages = Ages::default();
        let (day, step) = (86_400_000, 10);
        for number in 1..=day / step {
            ages.begin(number, number * step);
        }
        assert!(ages.marks.len() < 4_096, "{} marks", ages.marks.len());
        assert_eq!(ages.oldest(day), day - step);
        // Whatever is kept of it, the age is right to a fraction of it.
        let half = day / step / 2;
        ages.keep(half);
        let (told, right) = (ages.oldest(day), day - (half + 1) * step);
        assert!(told >= right && told - right <= day / FRACTION, "{told} {right}");
    }

    #[test]
    fn a_clock_that_stands_still_is_no_age() {
        let mut ages = Ages::default();
        ages.begin(1, 1_000);
        assert_eq!(ages.oldest(1_000), 0);
        assert_eq!(ages.oldest(999), 0);
    }
}
