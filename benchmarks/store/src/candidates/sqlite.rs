//! `SQLite`: a B-tree in C with a write-ahead log, under SQL.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::CACHE_BYTES;
use crate::keyvalue::{Batch, KeyValue, TABLES, Table};
use crate::store::{Durability, Result};

const PUT: [&str; 3] = [
    "INSERT OR REPLACE INTO entries VALUES (?1, ?2)",
    "INSERT OR REPLACE INTO shared VALUES (?1, ?2)",
    "INSERT OR REPLACE INTO metadata VALUES (?1, ?2)",
];
const DELETE: [&str; 3] =
    ["DELETE FROM entries WHERE k = ?1", "DELETE FROM shared WHERE k = ?1", "DELETE FROM metadata WHERE k = ?1"];
const GET: [&str; 3] =
    ["SELECT v FROM entries WHERE k = ?1", "SELECT v FROM shared WHERE k = ?1", "SELECT v FROM metadata WHERE k = ?1"];
const RANGE: [&str; 3] = [
    "SELECT k, v FROM entries WHERE k >= ?1 ORDER BY k",
    "SELECT k, v FROM shared WHERE k >= ?1 ORDER BY k",
    "SELECT k, v FROM metadata WHERE k >= ?1 ORDER BY k",
];

/// One connection.
pub struct Sqlite(Connection);

struct Writes<'a>(&'a Connection);

impl Batch for Writes<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.prepare_cached(PUT[table as usize])?.execute((key, value))?;
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.0.prepare_cached(DELETE[table as usize])?.execute((key,))?;
        Ok(())
    }
}

impl KeyValue for Sqlite {
    fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let connection = Connection::open(directory.join("sqlite"))?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // NORMAL syncs at checkpoints only, which keeps a power loss from damaging the database.
        let synchronous = if durability == Durability::Disk { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "cache_size", -i64::try_from(CACHE_BYTES >> 10)?)?;
        connection.set_prepared_statement_cache_capacity(16);
        for table in TABLES {
            let create = format!("CREATE TABLE IF NOT EXISTS {table} (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
            connection.execute(&create, ())?;
        }
        Ok(Self(connection))
    }

    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Batch) -> Result<()>) -> Result<()> {
        self.0.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        fill(&mut Writes(&self.0))?;
        self.0.prepare_cached("COMMIT")?.execute(())?;
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let mut statement = self.0.prepare_cached(GET[table as usize])?;
        let found = statement
            .query_row((key,), |row| {
                visit(row.get_ref(0)?.as_blob()?);
                Ok(())
            })
            .optional()?;
        Ok(found.is_some())
    }

    fn range(&self, table: Table, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let mut statement = self.0.prepare_cached(RANGE[table as usize])?;
        let mut rows = statement.query((from,))?;
        while let Some(row) = rows.next()? {
            if !visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?) {
                break;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.0.close().map_err(|(_, error)| error.into())
    }
}
