//! Which messages of one publisher a subscriber has had: whether they come in order, and whether they come twice.

/// How many of the newest sequence numbers are remembered one by one.
const REMEMBERED: u32 = 256;

/// What the arrival of a sequence number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is the highest so far.
    InOrder,
    /// A higher one came before it: the order is broken.
    Late,
    /// It came before.
    Duplicate,
}

/// The memory of one publisher's sequence numbers, which begin at 1.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    highest: u32,
    /// One bit for each of the newest numbers, at its remainder.
    seen: [u64; REMEMBERED as usize / 64],
}

impl Tracker {
    /// Notes that a number has come. One so old that it is not remembered counts as late, not as a duplicate.
    #[inline]
    pub fn observe(&mut self, sequence: u32) -> Arrival {
        if sequence > self.highest {
            self.forget_between(sequence);
            self.highest = sequence;
            *self.word(sequence) |= bit(sequence);
            return Arrival::InOrder;
        }
        if self.highest - sequence >= REMEMBERED {
            return Arrival::Late;
        }
        let word = self.word(sequence);
        if *word & bit(sequence) != 0 {
            return Arrival::Duplicate;
        }
        *word |= bit(sequence);
        Arrival::Late
    }

    /// The numbers between the highest so far and a new one have not come.
    #[inline]
    fn forget_between(&mut self, sequence: u32) {
        if sequence - self.highest > REMEMBERED {
            self.seen = [0; REMEMBERED as usize / 64];
            return;
        }
        for skipped in self.highest + 1..sequence {
            *self.word(skipped) &= !bit(skipped);
        }
    }

    #[inline]
    fn word(&mut self, sequence: u32) -> &mut u64 {
        // The remainder is below the length, so the compiler sees that this cannot fail.
        &mut self.seen[(sequence / 64) as usize % (REMEMBERED as usize / 64)]
    }
}

#[inline]
fn bit(sequence: u32) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gap_that_is_filled_later_is_out_of_order() {
        use Arrival::{Duplicate, InOrder, Late};
        let mut tracker = Tracker::default();
        let arrivals = [1, 2, 5, 3, 5, 3, 6].map(|n| tracker.observe(n));
        assert_eq!(arrivals, [InOrder, InOrder, InOrder, Late, Duplicate, Duplicate, InOrder]);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_all_numbers(steps in proptest::collection::vec(-40_i64..60, 1..400)) {
            let (mut tracker, mut all, mut highest) = (Tracker::default(), HashSet::new(), 0_u32);
            let mut at = 1_i64;
            for step in steps {
                at = (at + step).max(1);
                let number = u32::try_from(at).unwrap();
                let expected = if number > highest {
                    Arrival::InOrder
                } else if highest - number < REMEMBERED && all.contains(&number) {
                    Arrival::Duplicate
                } else {
                    Arrival::Late
                };
                prop_assert_eq!(tracker.observe(number), expected);
                all.insert(number);
                highest = highest.max(number);
            }
        }
    }
}
