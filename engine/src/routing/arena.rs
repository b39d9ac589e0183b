//! Slots addressed by a 32-bit id, used again after they are freed.

use std::ops::{Index, IndexMut};

/// Items of one kind side by side; an id stays valid until its item is taken.
pub(super) struct Arena<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T: Default> Arena<T> {
    pub(super) const fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    /// Stores an item, in the slot freed last where there is one.
    pub(super) fn add(&mut self, item: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self[id] = item;
            return id;
        }
        // Four thousand million nodes are more than any machine has memory for.
        assert!(self.items.len() < u32::MAX as usize, "the arena has no id left");
        self.items.push(item);
        (self.items.len() - 1) as u32
    }

    /// Takes an item out, and frees its slot.
    pub(super) fn take(&mut self, id: u32) -> T {
        let item = std::mem::take(&mut self[id]);
        self.free.push(id);
        if self.free.len() == self.items.len() {
            *self = Self::new();
        }
        item
    }

    /// Gives memory back when nothing is left but the item with id 0, the root of a trie.
    pub(super) fn release_if_only_root(&mut self) {
        if self.len() == 1 && self.items.len() > 1 {
            self.items.truncate(1);
            self.items.shrink_to_fit();
            self.free = Vec::new();
        }
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// All slots with their ids; a free one holds the default.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.items)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.items.capacity() * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }
}

// Ids are made here and never come from a peer, so a bad one is a defect of this program and may panic.
impl<T> Index<u32> for Arena<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: u32) -> &T {
        &self.items[id as usize]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut T {
        &mut self.items[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_is_used_again() {
        let mut arena = Arena::new();
        let ids: Vec<u32> = (0..4).map(|n| arena.add(n)).collect();
        assert_eq!(arena.take(ids[2]), 2);
        assert_eq!(arena.len(), 3);
        assert_eq!(arena.add(9), ids[2]);
        assert_eq!(arena[ids[2]], 9);
        assert_eq!(arena.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [0, 1, 9, 3]);
    }

    #[test]
    fn an_emptied_arena_gives_its_memory_back() {
        let mut arena = Arena::new();
        let ids: Vec<u32> = (0..1000).map(|n: u64| arena.add(n)).collect();
        for id in ids {
            assert_eq!(arena.take(id), u64::from(id));
        }
        assert_eq!((arena.len(), arena.memory_bytes()), (0, 0));

        let ids: Vec<u32> = (0..1000).map(|n: u64| arena.add(n)).collect();
        for &id in &ids[1..] {
            assert_eq!(arena.take(id), u64::from(id));
        }
        arena.release_if_only_root();
        assert_eq!((arena.len(), arena.memory_bytes()), (1, 8));
    }
}
