//! `RocksDB`: a log-structured merge tree in C++.

use std::path::Path;

use rocksdb::{ColumnFamily, DB, DBCompressionType, Options, ReadOptions, WriteBatch, WriteOptions};

use crate::keyvalue::{Batch, KeyValue, TABLES, Table};
use crate::store::{Durability, Result};

/// A database with three column families. Its cache has 32 MiB by default, its write buffers up to 64 MiB a table.
pub struct RocksDb {
    database: DB,
    options: WriteOptions,
}

struct Writes<'a> {
    batch: WriteBatch,
    families: [&'a ColumnFamily; 3],
}

impl Batch for Writes<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put_cf(self.families[table as usize], key, value);
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.batch.delete_cf(self.families[table as usize], key);
        Ok(())
    }
}

impl RocksDb {
    fn family(&self, table: Table) -> Result<&ColumnFamily> {
        self.database.cf_handle(TABLES[table as usize]).ok_or_else(|| "no such column family".into())
    }
}

impl KeyValue for RocksDb {
    fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_compression_type(DBCompressionType::Lz4);
        let families = TABLES.map(|name| (name, options.clone()));
        let database = DB::open_cf_with_opts(&options, directory, families)?;
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Disk);
        Ok(Self { database, options })
    }

    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Batch) -> Result<()>) -> Result<()> {
        let families = [self.family(Table::Entries)?, self.family(Table::Shared)?, self.family(Table::Metadata)?];
        let mut writes = Writes { batch: WriteBatch::default(), families };
        fill(&mut writes)?;
        Ok(self.database.write_opt(writes.batch, &self.options)?)
    }

    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.database.get_pinned_cf(self.family(table)?, key)?;
        if let Some(value) = &value {
            visit(value);
        }
        Ok(value.is_some())
    }

    fn range(&self, table: Table, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let mut iterator = self.database.raw_iterator_cf_opt(self.family(table)?, ReadOptions::default());
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            if !visit(key, value) {
                break;
            }
            iterator.next();
        }
        Ok(iterator.status()?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
