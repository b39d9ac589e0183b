//! Tests of the store as a whole, on a disk that can lose power.

mod crashes;
mod failures;
mod model;
mod program;
mod records;
mod room;
mod timing;
mod use_cases;

use std::sync::Arc;

use super::simulated::SimulatedDisk;
use super::*;
use crate::message::{Head, Layout, NEVER, Publication};

/// Small segments, so that there are many.
const SEGMENT: u64 = 64 * 1024;

fn options(sync: SyncMode) -> Options {
    Options {
        segment_bytes: SEGMENT,
        max_bytes: 0,
        sync,
        sync_interval_ms: 1_000,
        cache_bytes: 16 * 1024,
        wall_base_ms: 1_700_000_000_000,
    }
}

fn open(disk: &Arc<SimulatedDisk>, sync: SyncMode) -> (Arc<Store>, Recovered) {
    Store::open(disk.clone(), options(sync)).unwrap()
}

/// A span and its layout.
fn span(topic: &str, payload: &[u8]) -> (Vec<u8>, Layout) {
    let mut bytes = Vec::new();
    let layout = Publication::compose(&mut bytes, topic.as_bytes(), b"\x01\x01", payload);
    (bytes, layout)
}

fn head(layout: Layout) -> Head {
    Head { layout, qos: 1, retain: false, expires_at: NEVER, origin: 0 }
}

fn target(queue: QueueId) -> Target<'static> {
    Target { queue, qos: 1, retain: false, identifiers: &[] }
}

fn session(client_id: &str) -> SessionRecord {
    SessionRecord {
        mountpoint: "".into(),
        client_id: client_id.into(),
        username: None,
        protocol_version: 5,
        listener: "tcp".into(),
        expiry_s: u32::MAX,
        is_online: false,
        expires_at: 0,
        started_at: 1_700_000_000_000,
        will: None,
        limits: Vec::new(),
    }
}

/// A queue with a session.
fn new_session(store: &Store, client_id: &str) -> QueueId {
    let queue = store.new_queue();
    store.append_session(queue, &session(client_id));
    queue
}

/// Publishes a message to some queues.
fn publish(store: &Store, payload: &[u8], queues: &[QueueId]) -> Result<Place, Refusal> {
    let (bytes, layout) = span("a/b", payload);
    let targets: Vec<Target<'_>> = queues.iter().map(|&queue| target(queue)).collect();
    let publication = Publication { head: head(layout), span: &bytes };
    let place = Place::default();
    let mut batch = [NewMessage {
        publication,
        message_id: MessageId::NONE,
        retained_in: None,
        received: None,
        targets: &targets,
        place,
    }];
    store.append_messages(&mut batch)?;
    Ok(batch[0].place)
}

fn payload_of(store: &Store, slot: Slot) -> Vec<u8> {
    store.load(slot).unwrap().publication().payload().to_vec()
}

/// The payloads that wait in a recovered queue.
fn waiting(store: &Store, recovered: &Recovered, queue: QueueId) -> Vec<Vec<u8>> {
    let session = recovered.sessions.iter().find(|session| session.queue == queue).unwrap();
    session.waiting.iter().map(|entry| payload_of(store, entry.place.slot)).collect()
}

/// Writes all that was appended.
fn flush(store: &Store) {
    assert!(store.write(store.end(), true));
}
