//! What is compared.

pub mod fjall;
pub mod lmdb;
pub mod log;
pub mod memory;
pub mod redb;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
pub mod sqlite;

/// Memory for a candidate's own cache, where that can be set: what the broker gives by default.
pub const CACHE_BYTES: usize = 32 << 20;

/// One of the stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// None: what the benchmark itself costs.
    Memory,
    /// Our own log.
    Log,
    /// fjall.
    Fjall,
    /// redb.
    Redb,
    /// LMDB through heed.
    Lmdb,
    /// `SQLite` through rusqlite.
    Sqlite,
    /// `RocksDB`.
    #[cfg(feature = "rocksdb")]
    RocksDb,
}

/// All that this build has.
pub const ALL: &[Candidate] = &[
    Candidate::Memory,
    Candidate::Log,
    Candidate::Fjall,
    Candidate::Redb,
    Candidate::Lmdb,
    Candidate::Sqlite,
    #[cfg(feature = "rocksdb")]
    Candidate::RocksDb,
];

impl Candidate {
    /// Its name in options and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "none",
            Self::Log => "log",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::Lmdb => "lmdb",
            Self::Sqlite => "sqlite",
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => "rocksdb",
        }
    }

    /// The packages that it consists of, as the lock file names them.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Memory => &[],
            Self::Log => &["strogoff-engine"],
            Self::Fjall => &["fjall", "lsm-tree"],
            Self::Redb => &["redb"],
            Self::Lmdb => &["heed", "lmdb-master-sys"],
            Self::Sqlite => &["rusqlite", "libsqlite3-sys"],
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => &["rocksdb", "librocksdb-sys"],
        }
    }

    /// Finds it by its name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().copied().find(|candidate| candidate.name() == name)
    }
}

/// Calls a function that is generic over the store with the type of a candidate.
#[macro_export]
macro_rules! with_store {
    ($candidate:expr, $($function:ident)::+ ( $($argument:expr),* )) => {{
        use $crate::candidates::*;
        use $crate::keyvalue::Queues;
        match $candidate {
            Candidate::Memory => $($function)::+::<memory::Memory>($($argument),*),
            Candidate::Log => $($function)::+::<log::Log>($($argument),*),
            Candidate::Fjall => $($function)::+::<Queues<fjall::Fjall>>($($argument),*),
            Candidate::Redb => $($function)::+::<Queues<redb::Redb>>($($argument),*),
            Candidate::Lmdb => $($function)::+::<Queues<lmdb::Lmdb>>($($argument),*),
            Candidate::Sqlite => $($function)::+::<Queues<sqlite::Sqlite>>($($argument),*),
            #[cfg(feature = "rocksdb")]
            Candidate::RocksDb => $($function)::+::<Queues<rocksdb::RocksDb>>($($argument),*),
        }
    }};
}
