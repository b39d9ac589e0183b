//! Queues on top of a key-value store, in the layout that suits it best as far as we know.
//!
//! An entry's key is its queue and its position, big-endian, so that a queue is a range of keys. A message for one queue has
//! its body in the entry. One for several has it in a table of its own, and how many entries still refer to it is counted
//! in memory: a counter on disk would be read and written with each acknowledgement. The price is that all entries are
//! read once when the store is opened.

use std::collections::HashMap;
use std::path::Path;

use crate::measure::Stopwatch;
use crate::store::{Durability, Opened, Publish, Result, Sessions, Store};

/// The three ordered maps that a store consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Queue and position to the body, or to the fact that it is shared.
    Entries,
    /// Position to body.
    Shared,
    /// The broker's metadata.
    Metadata,
}

/// Names of the tables, in the order of [`Table`].
pub const TABLES: [&str; 3] = ["entries", "shared", "metadata"];

/// Writes that become visible, and survive, together or not at all.
pub trait Batch {
    /// Sets a key.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()>;
    /// Removes a key that is there.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()>;
}

/// A key-value store with atomic batches and ordered reads.
pub trait KeyValue: Sized {
    /// Opens or creates the store.
    fn open(directory: &Path, durability: Durability) -> Result<Self>;
    /// Commits what `fill` writes.
    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Batch) -> Result<()>) -> Result<()>;
    /// Visits the value of a key; whether there is one.
    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool>;
    /// Visits keys from `from` on, in order, while `visit` says so.
    fn range(&self, table: Table, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>;
    /// Ends orderly.
    fn close(self) -> Result<()>;
}

const INLINE: u8 = 0;
const SHARED: u8 = 1;

/// Queues in a key-value store.
pub struct Queues<K> {
    tables: K,
    /// Position of the next message.
    next: u64,
    /// Entries that still refer to a shared body.
    references: HashMap<u64, u32>,
    /// Room for a value.
    value: Vec<u8>,
}

fn entry_key(queue: u32, position: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&queue.to_be_bytes());
    key[4..].copy_from_slice(&position.to_be_bytes());
    key
}

/// The position in an entry's key, 0 for a key that is none. A damaged store may have anything.
fn position_of(key: &[u8]) -> u64 {
    key.get(4..).and_then(|position| position.try_into().ok()).map_or(0, u64::from_be_bytes)
}

impl<K: KeyValue> Store for Queues<K> {
    fn open(directory: &Path, durability: Durability) -> Result<(Self, Opened)> {
        let watch = Stopwatch::start();
        let tables = K::open(directory, durability)?;
        let mut opened = Opened { open: watch.read().wall, ..Opened::default() };
        let mut last = 0;
        let mut references = HashMap::new();
        tables.range(Table::Entries, &[], &mut |key, value| {
            let position = position_of(key);
            opened.entries += 1;
            last = last.max(position);
            if value.first() == Some(&SHARED) {
                *references.entry(position).or_default() += 1;
            }
            true
        })?;
        let spent = watch.read();
        (opened.load, opened.cpu) = (spent.wall.saturating_sub(opened.open), spent.cpu);
        Ok((Self { tables, next: last + 1, references, value: Vec::new() }, opened))
    }

    fn prepare(&mut self, _count: u32, _sessions: Sessions) -> Result<()> {
        Ok(())
    }

    fn enqueue(&mut self, batch: &[Publish<'_>], positions: &mut Vec<u64>) -> Result<()> {
        let Self { tables, next, references, value } = self;
        tables.write(&mut |write| {
            for publish in batch {
                let position = *next;
                *next += 1;
                positions.push(position);
                if let [queue] = publish.queues {
                    value.clear();
                    value.push(INLINE);
                    value.extend_from_slice(publish.body);
                    write.put(Table::Entries, &entry_key(*queue, position), value)?;
                } else {
                    write.put(Table::Shared, &position.to_be_bytes(), publish.body)?;
                    for queue in publish.queues {
                        write.put(Table::Entries, &entry_key(*queue, position), &[SHARED])?;
                    }
                    references.insert(position, publish.queues.len() as u32);
                }
            }
            Ok(())
        })
    }

    fn read(&mut self, queue: u32, after: u64, count: usize, visit: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let mut left = count;
        let mut shared = Vec::new();
        let mut failure = None;
        self.tables.range(Table::Entries, &entry_key(queue, after + 1), &mut |key, value| {
            if !key.starts_with(&queue.to_be_bytes()) || left == 0 {
                return false;
            }
            left -= 1;
            let position = position_of(key);
            if let Some((&INLINE, body)) = value.split_first() {
                visit(position, body);
                return left > 0;
            }
            let body = self.tables.get(Table::Shared, &position.to_be_bytes(), &mut |body| {
                shared.clear();
                shared.extend_from_slice(body);
            });
            match body {
                Ok(true) => visit(position, &shared),
                Ok(false) => failure = Some(Err(format!("the body of {position} is missing").into())),
                Err(error) => failure = Some(Err(error)),
            }
            left > 0 && failure.is_none()
        })?;
        failure.unwrap_or(Ok(()))
    }

    fn acknowledge(&mut self, batch: &[(u32, u64)]) -> Result<()> {
        let Self { tables, references, .. } = self;
        tables.write(&mut |write| {
            for &(queue, position) in batch {
                write.delete(Table::Entries, &entry_key(queue, position))?;
                if references.is_empty() {
                    continue;
                }
                if let Some(left) = references.get_mut(&position) {
                    *left -= 1;
                    if *left == 0 {
                        references.remove(&position);
                        write.delete(Table::Shared, &position.to_be_bytes())?;
                    }
                }
            }
            Ok(())
        })
    }

    fn put(&mut self, batch: &[(&[u8], &[u8])]) -> Result<()> {
        self.tables.write(&mut |write| {
            for (key, value) in batch {
                write.put(Table::Metadata, key, value)?;
            }
            Ok(())
        })
    }

    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.tables.get(Table::Metadata, key, visit)
    }

    fn scan(&mut self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        self.tables.range(Table::Metadata, prefix, &mut |key, value| {
            let is_inside = key.starts_with(prefix);
            if is_inside {
                visit(key, value);
            }
            is_inside
        })
    }

    fn close(self) -> Result<()> {
        self.tables.close()
    }
}
