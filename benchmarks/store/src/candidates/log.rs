//! Our own log: the engine's module `store`.
//!
//! It keeps bodies and the records about them, but no queues: those are the broker's, in memory, and the log tells them again
//! when it is opened. So this file has the queues as the broker has them, and writes them again when the log asks for
//! that to clean a segment.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use _engine::message::{Head, Layout, Message, NEVER, Publication};
use _engine::store::{
    Change, EntrySnapshot, EntryState, Lsn, NewMessage, Options, Owner, Place, QueueId, RealDisk, SegmentNo,
    SessionRecord, SyncMode, Target,
};

use super::CACHE_BYTES;
use crate::bodies::TOPIC;
use crate::measure::Stopwatch;
use crate::store::{Durability, Opened, Publish, Result, Sessions, Store};

/// As in the broker's settings.
const SEGMENT_BYTES: u64 = 32 << 20;
/// Longest wait for a sync.
const SYNC_WITHIN: Duration = Duration::from_secs(60);
/// Keys of a scan that are asked for at once.
const SCAN_AT_ONCE: usize = 1_000;

/// An entry: its position for the benchmark, its body, and where the log has it.
#[derive(Clone, Copy)]
struct Entry {
    position: u64,
    place: Place,
}

/// One queue, which is a session to the log.
struct Queue {
    id: QueueId,
    session_in: SegmentNo,
    entries: VecDeque<Entry>,
}

/// All queues, numbered from 0.
#[derive(Default)]
struct Queues(Mutex<Vec<Queue>>);

impl Queues {
    fn lock(&self) -> MutexGuard<'_, Vec<Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner for Queues {
    fn rewrite(&self, store: &_engine::store::Store, id: QueueId, up_to: SegmentNo) -> Option<SegmentNo> {
        let mut queues = self.lock();
        let number = queues.iter().position(|queue| queue.id == id)?;
        let queue = &mut queues[number];
        if queue.session_in <= up_to {
            queue.session_in = store.append_session(id, &session(number)).segment;
        }
        let old = queue.entries.iter().filter(|entry| entry.place.segment <= up_to);
        let snapshots: Vec<_> = old.map(|entry| snapshot(entry.place.slot)).collect();
        if !snapshots.is_empty() {
            let segment = store.append_entries(id, &snapshots).segment;
            for entry in queue.entries.iter_mut().filter(|entry| entry.place.segment <= up_to) {
                entry.place.segment = segment;
            }
        }
        queue.entries.iter().map(|entry| entry.place.segment).chain([queue.session_in]).min()
    }
}

fn snapshot(slot: u32) -> EntrySnapshot<'static> {
    EntrySnapshot { slot, qos: 1, retain: false, identifiers: &[], state: EntryState::Waiting }
}

fn session(number: usize) -> SessionRecord {
    SessionRecord {
        mountpoint: "".into(),
        client_id: number.to_string().into(),
        username: None,
        protocol_version: 5,
        listener: "tcp".into(),
        expiry_s: u32::MAX,
        is_online: false,
        expires_at: 0,
        started_at: 0,
        will: None,
        limits: Vec::new(),
    }
}

/// A body as a publication: its topic in front, the rest is payload.
fn publication(body: &[u8]) -> Publication<'_> {
    let topic_len = TOPIC.len() as u32;
    let layout = Layout { topic_len, properties_start: topic_len, properties_len: 0, payload_start: topic_len };
    Publication { head: Head { layout, qos: 1, retain: false, expires_at: NEVER, origin: 0 }, span: body }
}

/// The log and the queues.
pub struct Log {
    store: Arc<_engine::store::Store>,
    queues: Arc<Queues>,
    last: u64,
    sessions: Sessions,
    changes: Vec<Change>,
}

impl Log {
    /// Comes back when the durability that was asked for holds.
    fn keep(&self, lsn: Lsn) -> Result<()> {
        if self.store.commit(lsn) || self.store.wait_kept(lsn, SYNC_WITHIN) {
            return Ok(());
        }
        Err("the log was not written in time".into())
    }

    fn add_queue(&self) {
        let mut queues = self.queues.lock();
        let id = self.store.new_queue();
        let session_in = self.store.append_session(id, &session(queues.len())).segment;
        queues.push(Queue { id, session_in, entries: VecDeque::new() });
    }
}

impl Store for Log {
    fn open(directory: &Path, durability: Durability) -> Result<(Self, Opened)> {
        let watch = Stopwatch::start();
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            max_bytes: 0,
            sync: if durability == Durability::Disk { SyncMode::Always } else { SyncMode::Never },
            sync_interval_ms: 1_000,
            cache_bytes: CACHE_BYTES,
            wall_base_ms: 0,
        };
        let (store, recovered) = _engine::store::Store::open(Arc::new(RealDisk::new(directory)?), options)?;
        let mut last = 0;
        let mut opened = Opened { open: watch.read().wall, ..Opened::default() };
        let mut queues: Vec<(usize, Queue)> = Vec::with_capacity(recovered.sessions.len());
        for session in recovered.sessions {
            let mut entries = VecDeque::with_capacity(session.waiting.len());
            for entry in session.waiting {
                last += 1;
                entries.push_back(Entry { position: last, place: entry.place });
            }
            opened.entries += entries.len() as u64;
            let queue = Queue { id: session.queue, session_in: session.meta_segment, entries };
            queues.push((session.session.client_id.parse()?, queue));
        }
        queues.sort_by_key(|(number, _)| *number);
        let queues = Arc::new(Queues(Mutex::new(queues.into_iter().map(|(_, queue)| queue).collect())));
        let owner: Weak<Queues> = Arc::downgrade(&queues);
        store.start(owner, Box::new(|_| {}));
        let spent = watch.read();
        (opened.load, opened.cpu) = (spent.wall.saturating_sub(opened.open), spent.cpu);
        Ok((Self { store, queues, last, sessions: Sessions::Away, changes: Vec::new() }, opened))
    }

    fn prepare(&mut self, count: u32, sessions: Sessions) -> Result<()> {
        self.sessions = sessions;
        let known = self.queues.lock().len();
        for _ in known..count as usize {
            self.add_queue();
        }
        self.keep(self.store.appended())
    }

    fn enqueue(&mut self, batch: &[Publish<'_>], positions: &mut Vec<u64>) -> Result<()> {
        let mut queues = self.queues.lock();
        let count = batch.iter().map(|publish| publish.queues.len()).sum();
        let mut targets = Vec::with_capacity(count);
        for queue in batch.iter().flat_map(|publish| publish.queues) {
            let id = queues[*queue as usize].id;
            targets.push(Target { queue: id, qos: 1, retain: false, identifiers: &[] });
        }
        let mut messages = Vec::with_capacity(batch.len());
        let mut rest = &targets[..];
        for publish in batch {
            let (targets, others) = rest.split_at(publish.queues.len());
            rest = others;
            let (publication, place) = (publication(publish.body), Place::default());
            messages.push(NewMessage { publication, retained_in: None, received: None, targets, place });
        }
        let lsn = self.store.append_messages(&mut messages).map_err(|refusal| format!("refused: {refusal:?}"))?;
        for (publish, message) in batch.iter().zip(&messages) {
            self.last += 1;
            positions.push(self.last);
            // The broker has this message already, shared by all its queues. Here it has to be made.
            if self.sessions == Sessions::Away {
                self.store.offer(message.place.slot, &Message::keep(&message.publication));
            }
            for queue in publish.queues {
                let entry = Entry { position: self.last, place: message.place };
                queues[*queue as usize].entries.push_back(entry);
            }
        }
        drop(queues);
        self.keep(lsn)
    }

    fn read(&mut self, queue: u32, after: u64, count: usize, visit: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let queues = self.queues.lock();
        let entries = &queues[queue as usize].entries;
        let start = entries.partition_point(|entry| entry.position <= after);
        for entry in entries.iter().skip(start).take(count) {
            visit(entry.position, self.store.load(entry.place.slot)?.publication().span);
        }
        Ok(())
    }

    fn acknowledge(&mut self, batch: &[(u32, u64)]) -> Result<()> {
        let mut lsn = 0;
        let mut queues = self.queues.lock();
        // As the broker does it: what a queue has at once is one record.
        for acknowledged in batch.chunk_by(|(one, _), (other, _)| one == other) {
            let queue = &mut queues[acknowledged[0].0 as usize];
            self.changes.clear();
            for (_, position) in acknowledged {
                let place = queue.entries.binary_search_by_key(position, |entry| entry.position);
                let Some(entry) = place.ok().and_then(|place| queue.entries.remove(place)) else { continue };
                self.changes.push(Change::Done { slot: entry.place.slot, number: 0 });
            }
            lsn = self.store.append_changes(queue.id, &self.changes).lsn;
        }
        drop(queues);
        self.keep(lsn)
    }

    fn put(&mut self, batch: &[(&[u8], &[u8])]) -> Result<()> {
        let changes: Vec<_> = batch.iter().map(|(key, value)| (*key, Some(*value))).collect();
        let lsn = self.store.write_metadata(&changes).map_err(|refusal| format!("refused: {refusal:?}"))?;
        self.keep(lsn)
    }

    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.store.get_metadata(key)?;
        if let Some(value) = &value {
            visit(value);
        }
        Ok(value.is_some())
    }

    fn scan(&mut self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let found = self.store.scan_metadata(prefix, after.as_deref(), SCAN_AT_ONCE)?;
            for (key, value) in &found {
                visit(key, value);
            }
            match found.into_iter().next_back() {
                Some((key, _)) => after = Some(key),
                None => return Ok(()),
            }
        }
    }

    fn close(self) -> Result<()> {
        self.store.stop();
        Ok(())
    }
}
