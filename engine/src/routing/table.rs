//! A hash table from a 32-bit hash to an id, eight bytes a slot, and the keyed hashes that go into it.
//!
//! The table knows nothing of keys: whoever looks something up says whether an id is the one meant. A whole filter,
//! and the step from a trie node to a child, are each one probe, which is about one cache line.

use ahash::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Marks a slot that holds nothing; no arena hands this id out.
const VACANT: u32 = u32::MAX;
/// Smallest number of slots of a table that is not empty.
const SLOTS_MIN: usize = 16;

#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    id: u32,
}

const EMPTY_SLOT: Slot = Slot { tag: 0, id: VACANT };

/// Open addressing with linear probing; at most 5/8 full, so that a failed search ends within one cache line or two.
#[derive(Default)]
pub(super) struct IdTable {
    // A power of two, or none at all.
    slots: Box<[Slot]>,
    len: usize,
}

impl IdTable {
    /// The id under `tag` for which `is_meant` says so.
    #[inline]
    pub(super) fn find(&self, tag: u32, mut is_meant: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = tag as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.id == VACANT {
                return None;
            }
            if slot.tag == tag && is_meant(slot.id) {
                return Some(slot.id);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds an id that is not in the table.
    pub(super) fn insert(&mut self, tag: u32, id: u32) {
        debug_assert_ne!(id, VACANT);
        if (self.len + 1) * 8 > self.slots.len() * 5 {
            self.resize((self.slots.len() * 2).max(SLOTS_MIN));
        }
        self.place(Slot { tag, id });
        self.len += 1;
    }

    /// Removes an id that is in the table.
    pub(super) fn remove(&mut self, tag: u32, id: u32) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = tag as usize & mask;
        while let Some(slot) = self.slots.get(at) {
            if slot.id == id {
                self.close_gap(at);
                self.len -= 1;
                if self.slots.len() > SLOTS_MIN && self.len * 8 < self.slots.len() {
                    self.resize(self.slots.len() / 2);
                }
                return;
            }
            debug_assert_ne!(slot.id, VACANT, "the id to remove is in the table");
            at = (at + 1) & mask;
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Empties a slot and moves back those after it that were only there because it was taken, which needs no
    /// tombstones and so cannot be worn out by churn.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot.id == VACANT {
                break;
            }
            let displaced_by = at.wrapping_sub(slot.tag as usize) & mask;
            if displaced_by >= (at.wrapping_sub(gap) & mask) {
                self.slots[gap] = slot;
                gap = at;
            }
        }
        self.slots[gap] = EMPTY_SLOT;
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY_SLOT; slots].into_boxed_slice());
        for slot in old {
            if slot.id != VACANT {
                self.place(slot);
            }
        }
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = slot.tag as usize & mask;
        while self.slots[at].id != VACANT {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }
}

/// Hashes that a peer cannot predict, although it chooses the topics.
pub(super) struct TopicHasher {
    keys: RandomState,
    /// Which bits of a hash count: all of them, but in tests that want hashes to collide.
    mask: u32,
}

impl Default for TopicHasher {
    fn default() -> Self {
        Self { keys: RandomState::new(), mask: u32::MAX }
    }
}

impl TopicHasher {
    /// Of a whole topic or filter.
    #[inline]
    pub(super) fn name(&self, name: &str) -> u32 {
        (self.level(name) >> 32) as u32 & self.mask
    }

    /// Of one level, to be combined with its parent by [`TopicHasher::edge`].
    #[inline]
    pub(super) fn level(&self, level: &str) -> u64 {
        let mut hasher = self.keys.build_hasher();
        hasher.write(level.as_bytes());
        hasher.finish()
    }

    /// Of the step from a node to its child: a level is hashed once, however many nodes are asked for it.
    #[inline]
    pub(super) fn edge(&self, parent: u32, level: u64) -> u32 {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let spread = level ^ u64::from(parent).wrapping_mul(MULTIPLIER);
        let product = u128::from(spread) * u128::from(MULTIPLIER);
        ((product >> 64) as u64 ^ product as u64) as u32 & self.mask
    }

    /// One whose hashes are all 0 or 1.
    #[cfg(test)]
    pub(super) fn weak() -> Self {
        Self { mask: 1, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_table_finds_nothing() {
        assert_eq!(IdTable::default().find(7, |_| true), None);
    }

    #[test]
    fn a_table_gives_its_memory_back() {
        let mut table = IdTable::default();
        (0..100_000).for_each(|id: u32| table.insert(id.wrapping_mul(0x9e37_79b9), id));
        let full = table.memory_bytes();
        (0..100_000).for_each(|id: u32| table.remove(id.wrapping_mul(0x9e37_79b9), id));
        assert_eq!(full, 262_144 * 8);
        assert_eq!(table.memory_bytes(), SLOTS_MIN * 8);
    }

    proptest! {
        // Few tags and many ids: everything collides, runs wrap around the end, removals close gaps within them.
        #[test]
        fn a_table_holds_what_a_list_holds(steps in prop::collection::vec((any::<bool>(), 0_u32..40, 0_u32..60), 0..400)) {
            let mut table = IdTable::default();
            let mut list: Vec<(u32, u32)> = Vec::new();
            for (insert, tag, id) in steps {
                let known = list.iter().position(|entry| entry.1 == id);
                match known {
                    None if insert => {
                        table.insert(tag * 3, id);
                        list.push((tag * 3, id));
                    }
                    Some(at) if !insert => {
                        let (tag, id) = list.swap_remove(at);
                        table.remove(tag, id);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len, list.len());
                for &(tag, id) in &list {
                    prop_assert_eq!(table.find(tag, |found| found == id), Some(id));
                    prop_assert_eq!(table.find(tag + 1, |found| found == id), None);
                }
            }
        }
    }
}
