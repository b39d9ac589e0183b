//! The embedded store.

mod disk;
mod report;
mod segment;
mod types;

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::message::Message;
use crate::routing::SubscriptionOptions;

pub use disk::{Disk, File, RealDisk};
pub use report::{Damage, Report};
pub use types::*;

/// The store.
pub struct Store {}

/// Those whose queues are stored.
pub trait Owner: Send + Sync {
    /// Appends anew what this queue has in segments up to `up_to`: session record, subscriptions, received packet
    /// identifiers, entries. Returns the lowest segment in which it has something now, `None` when it is over.
    fn rewrite(&self, store: &Store, queue: QueueId, up_to: SegmentNo) -> Option<SegmentNo>;
}

/// Scans a store without opening it for writing, and repairs it if asked to.
#[expect(unused_variables, clippy::todo)]
pub fn check(disk: &Arc<dyn Disk>, repair: bool) -> Result<Report, OpenError> {
    todo!()
}

#[expect(unused_variables, clippy::todo)]
impl Store {
    /// Opens.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Arc<Self>, Recovered), OpenError> {
        todo!()
    }
    /// Starts the keeper.
    pub fn start(self: &Arc<Self>, owner: Weak<dyn Owner>, on_event: Box<dyn Fn(Event) + Send + Sync>) {
        todo!()
    }
    /// Changes options.
    pub fn reconfigure(&self, sync: SyncMode, sync_interval_ms: u64, max_bytes: u64, cache_bytes: usize) {
        todo!()
    }
    /// Syncs everything and ends the keeper.
    pub fn stop(&self) {
        todo!()
    }
    /// Why publishes are refused now.
    pub fn refusal(&self) -> Option<Refusal> {
        todo!()
    }
    /// Appends messages, all or none.
    pub fn append_messages(&self, batch: &mut [NewMessage<'_>]) -> Result<Lsn, Refusal> {
        todo!()
    }
    /// Appends changes of a queue.
    pub fn append_changes(&self, queue: QueueId, changes: &[Change]) -> Appended {
        todo!()
    }
    /// Appends entries again, for cleaning.
    pub fn append_entries(&self, queue: QueueId, entries: &[EntrySnapshot<'_>]) -> Appended {
        todo!()
    }
    /// Appends a session.
    pub fn append_session(&self, queue: QueueId, record: &SessionRecord) -> Appended {
        todo!()
    }
    /// Appends received identifiers again, for cleaning.
    pub fn append_received(&self, queue: QueueId, ids: &[u16]) -> Appended {
        todo!()
    }
    /// Appends subscriptions again, for cleaning.
    pub fn append_subscriptions<'a>(
        &self,
        queue: QueueId,
        subscriptions: &mut dyn Iterator<Item = (&'a str, &'a SubscriptionOptions)>,
    ) -> Appended {
        todo!()
    }
    /// A queue nobody had.
    pub fn new_queue(&self) -> QueueId {
        todo!()
    }
    /// Ends a queue.
    pub fn end_queue(&self, queue: QueueId, slots: &mut dyn Iterator<Item = Slot>) -> Lsn {
        todo!()
    }
    /// A topic has no retained message any more.
    pub fn unretain(&self, mountpoint: &str, topic: &str, slot: Slot) -> Lsn {
        todo!()
    }
    /// A retained message was replaced or has expired.
    pub fn drop_retained(&self, slot: Slot) {
        todo!()
    }
    /// Whether everything up to here is kept.
    pub fn is_kept(&self, lsn: Lsn) -> bool {
        todo!()
    }
    /// Writes up to here.
    pub fn commit(&self, lsn: Lsn) -> bool {
        todo!()
    }
    /// Waits until everything up to here is kept.
    pub fn wait_kept(&self, lsn: Lsn, timeout: Duration) -> bool {
        todo!()
    }
    /// The end of the log.
    pub fn appended(&self) -> Lsn {
        todo!()
    }
    /// Keeps a body in memory.
    pub fn offer(&self, slot: Slot, message: &Message) {
        todo!()
    }
    /// Gets a body.
    pub fn load(&self, slot: Slot) -> Result<Message, LoadError> {
        todo!()
    }
    /// Writes metadata.
    pub fn write_metadata(&self, changes: &[(&[u8], Option<&[u8]>)]) -> Result<Lsn, Refusal> {
        todo!()
    }
    /// Reads metadata.
    pub fn get_metadata(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LoadError> {
        todo!()
    }
    /// Reads metadata in order of the keys.
    pub fn scan_metadata(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LoadError> {
        todo!()
    }
    /// Cleans everything.
    pub fn compact(&self) -> io::Result<(u64, u64)> {
        todo!()
    }
    /// Begins a backup.
    pub fn begin_backup(&self) -> io::Result<Vec<String>> {
        todo!()
    }
    /// Ends a backup.
    pub fn end_backup(&self) {
        todo!()
    }
    /// Figures.
    pub fn figures(&self) -> Figures {
        todo!()
    }
}
