//! fjall: a log-structured merge tree in Rust.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch as WriteBatch, PersistMode};

use super::CACHE_BYTES;
use crate::keyvalue::{Batch, KeyValue, TABLES, Table};
use crate::store::{Durability, Result};

/// A database with three keyspaces.
pub struct Fjall {
    database: Database,
    keyspaces: [Keyspace; 3],
    persist: PersistMode,
}

struct Writes<'a> {
    batch: WriteBatch,
    keyspaces: &'a [Keyspace; 3],
}

impl Batch for Writes<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.insert(&self.keyspaces[table as usize], key, value);
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.batch.remove(&self.keyspaces[table as usize], key);
        Ok(())
    }
}

impl KeyValue for Fjall {
    fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let database = Database::builder(directory).cache_size(CACHE_BYTES as u64).open()?;
        let open = |name| database.keyspace(name, KeyspaceCreateOptions::default);
        let keyspaces = [open(TABLES[0])?, open(TABLES[1])?, open(TABLES[2])?];
        let persist = match durability {
            Durability::Kernel => PersistMode::Buffer,
            Durability::Disk => PersistMode::SyncData,
        };
        Ok(Self { database, keyspaces, persist })
    }

    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Batch) -> Result<()>) -> Result<()> {
        let batch = self.database.batch().durability(Some(self.persist));
        let mut writes = Writes { batch, keyspaces: &self.keyspaces };
        fill(&mut writes)?;
        Ok(writes.batch.commit()?)
    }

    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.keyspaces[table as usize].get(key)?;
        if let Some(value) = &value {
            visit(value);
        }
        Ok(value.is_some())
    }

    fn range(&self, table: Table, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for entry in self.keyspaces[table as usize].range(from..) {
            let (key, value) = entry.into_inner()?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
