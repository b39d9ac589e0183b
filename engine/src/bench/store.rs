//! Filling a broker with messages on many topics, each exactly once: what `offline` and `retained` begin with.

use std::ops::Range;

use super::clock::{self, MILLISECOND, Nanos, SECOND};
use super::fleet::{Cut, Fleet, Scenario};
use super::link::{Phase, SentAt};
use super::publisher::MessageShape;
use super::stamp::Stamp;
use crate::codec::QoS;

/// Messages of one publisher and turn.
const CHUNK: usize = 256;
/// How long nothing may happen before the broker is given up.
const PATIENCE: Nanos = 10 * SECOND;

/// What a publisher stores: the `n`th message of a publisher, its topic written to the string; `None` after the last.
pub type Item<'a> = &'a dyn Fn(usize, u64, &mut String) -> Option<Stamp>;

/// What is stored and by whom.
pub struct Store<'a> {
    /// Links of the publishers.
    pub publishers: Range<usize>,
    /// How the messages look; a size of 0 makes them empty.
    pub shape: MessageShape,
    /// What they are.
    pub item: Item<'a>,
}

impl Store<'_> {
    /// Publishes everything and waits until the broker has all of it. Returns how many messages that were.
    pub fn fill<S: Scenario>(&self, fleet: &mut Fleet, scenario: &mut S, pongs: fn(&S) -> u64) -> Result<u64, Cut> {
        let mut next = vec![0_u64; self.publishers.len()];
        let mut is_done = vec![false; self.publishers.len()];
        let (mut topic, mut payload) = (String::new(), vec![b'.'; self.shape.size]);
        let pongs_before = pongs(scenario);
        let mut is_pinged = false;
        let mut moved = (0, clock::now());
        loop {
            let mut is_busy = false;
            for (offset, index) in self.publishers.clone().enumerate() {
                let (Some(next), Some(is_done)) = (next.get_mut(offset), is_done.get_mut(offset)) else { continue };
                if !*is_done {
                    *is_done = self.chunk(fleet, index, offset, next, &mut topic, &mut payload);
                    is_busy |= !*is_done && self.room(fleet, index) > 0;
                }
            }
            if !is_pinged && is_done.iter().all(|done| *done) {
                self.ping(fleet);
                is_pinged = true;
            }
            fleet.turn(if is_busy { 0 } else { 10 * MILLISECOND }, scenario)?;
            fleet.check()?;
            let sent: u64 = next.iter().sum();
            fleet.control.show(fleet.tally.ready, sent, 0);
            if is_pinged
                && pongs(scenario) - pongs_before >= self.publishers.len() as u64
                && self.is_acknowledged(fleet)
            {
                return Ok(sent);
            }
            let at = clock::now();
            let progress = sent + fleet.tally.read_bytes;
            if progress != moved.0 {
                moved = (progress, at);
            } else if at > moved.1 + PATIENCE || fleet.tally.lost > 0 {
                let reason = fleet.tally.first_loss.clone().unwrap_or_else(|| "it stopped acknowledging".into());
                return Err(Cut::Failed(format!("the broker did not take the messages to store: {reason}")));
            }
        }
    }

    fn room(&self, fleet: &Fleet, index: usize) -> usize {
        let Some(link) = fleet.links.get(index).filter(|link| link.phase == Phase::Ready && link.takes_more()) else {
            return 0;
        };
        if self.shape.qos == QoS::AtMostOnce { CHUNK } else { link.client.room().min(CHUNK) }
    }

    /// Publishes the next messages of one publisher. True when there are no more.
    fn chunk(
        &self,
        fleet: &mut Fleet,
        index: usize,
        publisher: usize,
        next: &mut u64,
        topic: &mut String,
        payload: &mut [u8],
    ) -> bool {
        let at = clock::now();
        for _ in 0..self.room(fleet, index) {
            topic.clear();
            let Some(stamp) = (self.item)(publisher, *next, topic) else { return true };
            if let Some(bytes) = payload.first_chunk_mut() {
                *bytes = Stamp { sent_at: at, ..stamp }.to_bytes();
            }
            let Some(link) = fleet.links.get_mut(index) else { return true };
            if link.client.publish(self.shape.head(topic), payload, SentAt(at), &mut link.output).is_err() {
                break;
            }
            *next += 1;
        }
        fleet.mark_dirty(index);
        false
    }

    /// The answers say that everything before was read, which `QoS` 0 does not.
    fn ping(&self, fleet: &mut Fleet) {
        for index in self.publishers.clone() {
            if let Some(link) = fleet.links.get_mut(index) {
                // A lost connection is seen elsewhere.
                let _ = link.client.ping(clock::now() / MILLISECOND, &mut link.output);
            }
            fleet.mark_dirty(index);
        }
    }

    fn is_acknowledged(&self, fleet: &Fleet) -> bool {
        let links = fleet.links.get(self.publishers.clone()).unwrap_or_default();
        links.iter().all(|link| link.client.unacknowledged() == 0)
    }
}

/// Turns until `count` says that everything has come, or until nothing has come for `patience`.
pub fn receive<S: Scenario>(
    fleet: &mut Fleet,
    scenario: &mut S,
    wanted: u64,
    patience: Nanos,
    count: fn(&S) -> u64,
) -> Result<(), Cut> {
    let mut moved = (count(scenario), clock::now());
    while count(scenario) < wanted {
        fleet.turn(20 * MILLISECOND, scenario)?;
        fleet.check()?;
        let (received, at) = (count(scenario), clock::now());
        fleet.control.show(fleet.tally.ready, wanted, received);
        if received != moved.0 {
            moved = (received, at);
        } else if at > moved.1 + patience {
            break;
        }
    }
    Ok(())
}
