//! redb: a copy-on-write B-tree in Rust.
//!
//! redb has two durabilities: on disk when a commit returns, or in this process's memory until a later commit that is on disk.
//! What the broker wants lies between, so here a storage backend passes writes to the kernel and drops the calls to sync.
//! That survives the end of the process. After a power loss, the file would have pages written in any order, which a
//! B-tree without a log does not repair.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend, Table as Open, TableDefinition, WriteTransaction};

use super::CACHE_BYTES;
use crate::keyvalue::{Batch, KeyValue, TABLES, Table};
use crate::store::{Durability, Result};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
const DEFINITIONS: [Definition; 3] =
    [TableDefinition::new(TABLES[0]), TableDefinition::new(TABLES[1]), TableDefinition::new(TABLES[2])];

/// A file that is never synced.
#[derive(Debug)]
struct Unsynced(FileBackend);

impl StorageBackend for Unsynced {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

/// A database with three tables.
pub struct Redb(Database);

/// A transaction, with those tables open that it has used.
struct Writes<'t> {
    transaction: &'t WriteTransaction,
    open: [Option<Open<'t, &'static [u8], &'static [u8]>>; 3],
}

impl<'t> Writes<'t> {
    fn table(&mut self, table: Table) -> Result<&mut Open<'t, &'static [u8], &'static [u8]>> {
        let slot = &mut self.open[table as usize];
        if slot.is_none() {
            *slot = Some(self.transaction.open_table(DEFINITIONS[table as usize])?);
        }
        slot.as_mut().ok_or_else(|| "no table".into())
    }
}

impl Batch for Writes<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.table(table)?.insert(key, value)?;
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.table(table)?.remove(key)?;
        Ok(())
    }
}

impl KeyValue for Redb {
    fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let file: File =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(directory.join("redb"))?;
        let backend = FileBackend::new(file)?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let database = match durability {
            Durability::Kernel => builder.create_with_backend(Unsynced(backend))?,
            Durability::Disk => builder.create_with_backend(backend)?,
        };
        let transaction = database.begin_write()?;
        for definition in DEFINITIONS {
            transaction.open_table(definition)?;
        }
        transaction.commit()?;
        Ok(Self(database))
    }

    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Batch) -> Result<()>) -> Result<()> {
        let transaction = self.0.begin_write()?;
        let mut writes = Writes { transaction: &transaction, open: [None, None, None] };
        fill(&mut writes)?;
        drop(writes);
        Ok(transaction.commit()?)
    }

    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let table = self.0.begin_read()?.open_table(DEFINITIONS[table as usize])?;
        let value = redb::ReadableTable::get(&table, key)?;
        if let Some(value) = &value {
            visit(value.value());
        }
        Ok(value.is_some())
    }

    fn range(&self, table: Table, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let table = self.0.begin_read()?.open_table(DEFINITIONS[table as usize])?;
        for entry in redb::ReadableTable::range::<&[u8]>(&table, from..)? {
            let (key, value) = entry?;
            if !visit(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}
