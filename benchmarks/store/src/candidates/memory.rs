//! No store at all: queues in memory. Its figures are what the benchmark itself costs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::rc::Rc;

use crate::store::{Durability, Opened, Publish, Result, Sessions, Store};

/// A queue: position and shared body of each entry.
type Queue = VecDeque<(u64, Rc<[u8]>)>;

/// Queues and metadata in memory.
#[derive(Default)]
pub struct Memory {
    queues: HashMap<u32, Queue>,
    metadata: BTreeMap<Vec<u8>, Vec<u8>>,
    last: u64,
}

impl Store for Memory {
    fn open(_directory: &Path, _durability: Durability) -> Result<(Self, Opened)> {
        Ok((Self::default(), Opened::default()))
    }

    fn prepare(&mut self, count: u32, _sessions: Sessions) -> Result<()> {
        self.queues = (0..count).map(|queue| (queue, VecDeque::new())).collect();
        Ok(())
    }

    fn enqueue(&mut self, batch: &[Publish<'_>], positions: &mut Vec<u64>) -> Result<()> {
        for publish in batch {
            self.last += 1;
            positions.push(self.last);
            let body: Rc<[u8]> = publish.body.into();
            for queue in publish.queues {
                self.queues.entry(*queue).or_default().push_back((self.last, Rc::clone(&body)));
            }
        }
        Ok(())
    }

    fn read(&mut self, queue: u32, after: u64, count: usize, visit: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let entries = self.queues.entry(queue).or_default();
        let start = entries.partition_point(|(position, _)| *position <= after);
        for (position, body) in entries.iter().skip(start).take(count) {
            visit(*position, body);
        }
        Ok(())
    }

    fn acknowledge(&mut self, batch: &[(u32, u64)]) -> Result<()> {
        for (queue, position) in batch {
            let entries = self.queues.entry(*queue).or_default();
            if let Ok(place) = entries.binary_search_by_key(position, |(position, _)| *position) {
                entries.remove(place);
            }
        }
        Ok(())
    }

    fn put(&mut self, batch: &[(&[u8], &[u8])]) -> Result<()> {
        for (key, value) in batch {
            self.metadata.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.metadata.get(key);
        if let Some(value) = value {
            visit(value);
        }
        Ok(value.is_some())
    }

    fn scan(&mut self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        for (key, value) in self.metadata.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            visit(key, value);
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
