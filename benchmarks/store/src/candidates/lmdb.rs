//! LMDB through heed: a copy-on-write B-tree in C, mapped into memory.
//!
//! With `NO_SYNC` a commit writes to the kernel and does not wait. LMDB's manual warns that then a power loss can damage the
//! whole database, since nothing orders the pages and the root.

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RwTxn, WithoutTls};

use crate::keyvalue::{Batch, KeyValue, TABLES, Table};
use crate::store::{Durability, Error, Result};

/// Address space for the database, which can never be larger.
const MAP_BYTES: usize = 16 << 30;

/// An environment with three databases.
pub struct Lmdb {
    env: Env<WithoutTls>,
    databases: [Database<'static, Bytes, Bytes>; 3],
}

struct Writes<'a, 'e> {
    transaction: RwTxn<'e>,
    databases: &'a [Database<'static, Bytes, Bytes>; 3],
}

impl Batch for Writes<'_, '_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.databases[table as usize].put(&mut self.transaction, key, value)?)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.databases[table as usize].delete(&mut self.transaction, key)?;
        Ok(())
    }
}

impl KeyValue for Lmdb {
    fn open(directory: &Path, durability: Durability) -> Result<Self> {
        // A body is looked up while the range of its queue is being read: two readers in one thread.
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(TABLES.len() as u32);
        if durability == Durability::Kernel {
            // SAFETY: the flag weakens what survives a power loss; it changes nothing about memory.
            unsafe { options.flags(EnvFlags::NO_SYNC) };
        }
        // SAFETY: this process opens the directory once, and no other one has it open.
        let env = unsafe { options.open(directory)? };
        let databases = env
            .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
                let mut create = |name| opener.create_database::<Bytes, Bytes>(transaction, Some(name));
                let databases = [create(TABLES[0])?, create(TABLES[1])?, create(TABLES[2])?];
                Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit(databases))
            })?
            .unwrap_commit();
        Ok(Self { env, databases })
    }

    fn write(&mut self, fill: &mut dyn FnMut(&mut dyn Batch) -> Result<()>) -> Result<()> {
        let mut writes = Writes { transaction: self.env.write_txn()?, databases: &self.databases };
        fill(&mut writes)?;
        Ok(writes.transaction.commit()?)
    }

    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let transaction = self.env.read_txn()?;
        let value = self.databases[table as usize].get(&transaction, key)?;
        if let Some(value) = value {
            visit(value);
        }
        Ok(value.is_some())
    }

    fn range(&self, table: Table, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let transaction = self.env.read_txn()?;
        // An empty bound is no key to LMDB.
        let from = if from.is_empty() { &[0] } else { from };
        let bounds = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        for entry in self.databases[table as usize].range(&transaction, &bounds)? {
            let (key, value) = entry?;
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}
