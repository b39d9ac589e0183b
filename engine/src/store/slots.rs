//! Slots: where each stored body is, how many refer to it, and the cache of bodies.

use std::collections::VecDeque;

use super::types::{SegmentNo, Slot};
use crate::message::Message;

/// A stored body.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    /// Its identity in the log, 0 for a slot that is free.
    pub seq: u64,
    /// The body itself, while it is in the cache.
    pub message: Option<Message>,
    /// Where its record is.
    pub segment: SegmentNo,
    /// Where in the segment.
    pub offset: u32,
    /// Bytes of the record, 0 while recovery has not seen it.
    pub len: u32,
    /// Entries of queues and retained messages that refer to it.
    pub refs: u32,
    /// What [`Message::size`] says of it.
    pub size: u32,
    /// When it was stored, in seconds since the Unix epoch.
    pub stored_at: u32,
    /// Whether it is the retained message of its topic.
    pub is_retained: bool,
    /// For recovery: only a copy was seen, so more may refer to it than is known yet.
    pub is_copy: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Slots {
    /// A slot's number is one more than its index.
    bodies: Vec<Body>,
    free: Vec<Slot>,
    refs: u64,
    /// What is in the cache, in order of arrival, with some that have left it since.
    arrivals: VecDeque<(Slot, u64)>,
    cached: usize,
    cached_bytes: usize,
    cache_limit: usize,
}

/// Stale arrivals that are tolerated before they are swept.
const STALE_ARRIVALS: usize = 1_024;

impl Slots {
    /// Nothing, with a cache of so many bytes.
    pub fn new(cache_limit: usize) -> Self {
        Self { cache_limit, ..Self::default() }
    }

    /// Bodies stored.
    pub fn len(&self) -> usize {
        self.bodies.len() - self.free.len()
    }

    /// References to them.
    pub fn refs(&self) -> u64 {
        self.refs
    }

    /// Bodies and bytes in the cache.
    pub fn cached(&self) -> (usize, usize) {
        (self.cached, self.cached_bytes)
    }

    /// Adds a body, which has a `seq`.
    #[inline]
    pub fn add(&mut self, body: Body) -> Slot {
        self.refs += u64::from(body.refs);
        if let Some(slot) = self.free.pop() {
            self.bodies[slot as usize - 1] = body;
            return slot;
        }
        self.bodies.push(body);
        self.bodies.len() as Slot
    }

    /// The body in a slot that is not free.
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&Body> {
        self.bodies.get((slot as usize).wrapping_sub(1)).filter(|body| body.seq != 0)
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Body> {
        self.bodies.get_mut((slot as usize).wrapping_sub(1)).filter(|body| body.seq != 0)
    }

    /// Its identity, 0 for a slot that is free.
    #[inline]
    pub fn seq(&self, slot: Slot) -> u64 {
        self.get(slot).map_or(0, |body| body.seq)
    }

    /// One more refers to it.
    #[inline]
    pub fn refer(&mut self, slot: Slot) {
        if let Some(body) = self.get_mut(slot) {
            body.refs += 1;
            self.refs += 1;
        }
    }

    /// One less refers to it. Says where it was if that was the last one and the slot is free now.
    #[inline]
    pub fn release(&mut self, slot: Slot) -> Option<(SegmentNo, u32)> {
        let body = self.get_mut(slot)?;
        debug_assert!(body.refs > 0, "slot {slot} is released once more than it was referred to");
        let was_referred = body.refs > 0;
        body.refs = body.refs.saturating_sub(1);
        let refs = body.refs;
        self.refs -= u64::from(was_referred);
        if refs == 0 { self.free(slot) } else { None }
    }

    /// One less refers to it, and it stays even if that was the last one. For recovery.
    pub fn unrefer(&mut self, slot: Slot) {
        if let Some(body) = self.get_mut(slot)
            && body.refs > 0
        {
            body.refs -= 1;
            self.refs -= 1;
        }
    }

    /// Frees a slot and says where its body was.
    pub fn free(&mut self, slot: Slot) -> Option<(SegmentNo, u32)> {
        let body = std::mem::take(self.get_mut(slot)?);
        self.refs -= u64::from(body.refs);
        if body.message.is_some() {
            self.cached -= 1;
            self.cached_bytes -= body.size as usize;
        }
        self.free.push(slot);
        Some((body.segment, body.len))
    }

    /// All slots that are not free.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Body)> {
        self.bodies.iter().enumerate().filter(|(_, body)| body.seq != 0).map(|(index, body)| (index as Slot + 1, body))
    }

    /// The body, if it is in the cache.
    pub fn cached_message(&self, slot: Slot) -> Option<Message> {
        self.get(slot)?.message.clone()
    }

    /// Takes a body into the cache, and what came first out of it until the rest fits.
    pub fn offer(&mut self, slot: Slot, message: &Message) {
        let limit = self.cache_limit;
        let Some(body) = self.get_mut(slot) else { return };
        if body.message.is_some() || body.size as usize > limit {
            return;
        }
        body.message = Some(message.clone());
        let (size, seq) = (body.size as usize, body.seq);
        self.cached += 1;
        self.cached_bytes += size;
        self.arrivals.push_back((slot, seq));
        self.evict();
        if self.arrivals.len() > 2 * self.cached + STALE_ARRIVALS {
            let bodies = &self.bodies;
            self.arrivals.retain(|&(slot, seq)| {
                let body = &bodies[slot as usize - 1];
                body.seq == seq && body.message.is_some()
            });
        }
    }

    /// Changes the limit of the cache in bytes.
    pub fn limit_cache(&mut self, limit: usize) {
        self.cache_limit = limit;
        self.evict();
    }

    fn evict(&mut self) {
        while self.cached_bytes > self.cache_limit {
            let Some((slot, seq)) = self.arrivals.pop_front() else { return };
            let Some(body) = self.get_mut(slot).filter(|body| body.seq == seq) else { continue };
            let size = body.size as usize;
            if body.message.take().is_some() {
                self.cached -= 1;
                self.cached_bytes -= size;
            }
        }
    }
}
