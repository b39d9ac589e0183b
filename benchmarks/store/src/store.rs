//! What the broker asks of a store, as one trait that every candidate implements.

use std::path::Path;
use std::time::Duration;

/// Anything that can go wrong; a benchmark only has to say it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// A result with such an error.
pub type Result<T> = std::result::Result<T, Error>;

/// What has to hold when a call that writes comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The kernel has it: it survives the end of the process, however that comes.
    Kernel,
    /// The disk has it: it survives the end of the machine too.
    Disk,
}

/// Where the sessions are whose queues these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Away: bodies will be read from the store.
    Away,
    /// Connected: the broker delivers from memory, and the store is for what a crash would take.
    Connected,
}

/// One message for one or many queues.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Topic and payload; kept once, whatever the number of queues.
    pub body: &'a [u8],
    /// The queues that get it.
    pub queues: &'a [u32],
}

/// What `open` found, and how long it took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opened {
    /// Until the candidate itself was open.
    pub open: Duration,
    /// After that, until each entry of each queue had been seen once, which the broker needs for the lengths of its
    /// queues and the references of shared bodies.
    pub load: Duration,
    /// Processor time of both.
    pub cpu: Duration,
    /// Entries found.
    pub entries: u64,
}

/// A store of queues and metadata. A call that writes is atomic, and comes back when the durability that was asked for holds.
pub trait Store: Sized {
    /// Opens what is in `directory`, which exists and is empty at first.
    fn open(directory: &Path, durability: Durability) -> Result<(Self, Opened)>;

    /// Makes the queues 0 to `count` known, and says what is going to happen with them. Costs nothing where a queue is no
    /// more than a part of a key.
    fn prepare(&mut self, count: u32, sessions: Sessions) -> Result<()>;

    /// Appends each message to each of its queues. `positions` gets one position a message: its name in all its queues.
    /// Positions of a queue grow.
    fn enqueue(&mut self, batch: &[Publish<'_>], positions: &mut Vec<u64>) -> Result<()>;

    /// Visits the next `count` entries of a queue behind the position `after` (0: from its start), in order.
    fn read(&mut self, queue: u32, after: u64, count: usize, visit: &mut dyn FnMut(u64, &[u8])) -> Result<()>;

    /// Ends entries, given as queue and position. A body goes with its last entry.
    fn acknowledge(&mut self, batch: &[(u32, u64)]) -> Result<()>;

    /// Writes metadata.
    fn put(&mut self, batch: &[(&[u8], &[u8])]) -> Result<()>;

    /// Reads one value; whether there is one.
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// Visits all keys that start with `prefix`, in order.
    fn scan(&mut self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()>;

    /// Ends orderly.
    fn close(self) -> Result<()>;
}
