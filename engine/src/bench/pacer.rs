//! When and by whom the next messages are published: at a fixed rate, or as fast as the broker gives them back.

use super::books::Books;
use super::clock::{self, Nanos, SECOND};
use super::fleet::Fleet;
use super::histogram::Histogram;
use super::link::Phase;
use super::options::{Options, Workload};
use super::publisher::Publisher;
use super::stamp::Stamp;

/// Messages that a publisher sends at once when it may: few packets a write would measure system calls.
const CHUNK: u64 = 64;
/// Messages of one turn, so that reading gets its turn too.
const TURN_MAX: u64 = 8_192;
/// Without a delivery for this long, what is under way in a closed loop is given up so that the loop goes on.
const STALLED: Nanos = SECOND;

/// All publishers of a run.
#[derive(Debug)]
pub struct Pacer {
    /// The publishers; publisher i is link i.
    pub publishers: Vec<Publisher>,
    /// Messages published.
    pub sent: u64,
    /// How much later than due messages were published, at a fixed rate.
    pub lag: Histogram,
    /// How often the closed loop had to give up.
    pub stalls: u64,
    /// Deliveries that each message causes.
    fan: u64,
    rate: f64,
    count: u64,
    outstanding: u64,
    /// Messages under way of one publisher; 0: not limited.
    each: u32,
    started_at: Nanos,
    /// Whose turn it is.
    next: usize,
    given_up: u64,
    moved_at: Nanos,
    received_then: u64,
}

/// What a round of publishing says about the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// There is more to publish at once.
    AtOnce,
    /// The next message is due in so long.
    In(Nanos),
    /// Something has to come back first.
    Blocked,
    /// Everything is published.
    Done,
}

impl Pacer {
    /// Publishers that begin now.
    pub fn new(options: &Options, publishers: Vec<Publisher>, fan: u64) -> Self {
        // No pair may use up what others leave, else one subscriber's queue takes what is meant for all.
        let closed_pairs = matches!(options.workload, Workload::Rr | Workload::P2p) && options.outstanding > 0;
        let each = if closed_pairs { options.outstanding.div_ceil(u64::from(options.publishers.max(1))) } else { 0 };
        let now = clock::now();
        Self {
            publishers,
            sent: 0,
            lag: Histogram::default(),
            stalls: 0,
            fan,
            rate: options.rate,
            count: options.count,
            outstanding: options.outstanding,
            each: u32::try_from(each).unwrap_or(u32::MAX),
            started_at: now,
            next: 0,
            given_up: 0,
            moved_at: now,
            received_then: 0,
        }
    }

    /// The clock of a fixed rate begins.
    pub fn start(&mut self, at: Nanos) {
        self.started_at = at;
        self.moved_at = at;
    }

    /// Deliveries that should have come by now, all publishers together.
    pub fn expected(&self) -> u64 {
        self.sent * self.fan
    }

    /// Publishes what may be published now.
    #[inline]
    pub fn publish(&mut self, fleet: &mut Fleet, books: &mut Books, at: Nanos) -> Pace {
        let left = if self.count == 0 { u64::MAX } else { self.count.saturating_sub(self.sent) };
        if left == 0 {
            return Pace::Done;
        }
        let credit = self.credit(books, at);
        if self.rate > 0.0 {
            return self.publish_due(fleet, books, at, left.min(credit));
        }
        let quota = left.min(credit).min(TURN_MAX);
        let sent = self.spread(fleet, books, at, quota);
        if sent == TURN_MAX || (sent < quota && self.is_flushed(fleet)) { Pace::AtOnce } else { Pace::Blocked }
    }

    /// Whether publishers that had to wait for their output to be written can go on once it is.
    fn is_flushed(&self, fleet: &mut Fleet) -> bool {
        fleet.flush();
        let mut pairs = self.publishers.iter().zip(&fleet.links);
        self.each == 0 && pairs.any(|(publisher, link)| link.phase == Phase::Ready && publisher.room(link) > 0)
    }

    /// How many messages the closed loop lets out now.
    #[inline]
    fn credit(&mut self, books: &mut Books, at: Nanos) -> u64 {
        if self.outstanding == 0 {
            return u64::MAX;
        }
        let received = books.counts.received;
        if received != self.received_then {
            (self.received_then, self.moved_at) = (received, at);
        }
        let mut under_way = self.expected().saturating_sub(received + self.given_up);
        if under_way == 0 {
            self.moved_at = at;
        } else if at > self.moved_at + STALLED && under_way + self.fan > self.outstanding {
            self.stalls += 1;
            self.given_up += under_way;
            books.under_way.fill(0);
            self.moved_at = at;
            under_way = 0;
        }
        self.outstanding.saturating_sub(under_way).div_ceil(self.fan.max(1))
    }

    /// Hands `quota` messages out in chunks, each publisher in turn. Returns how many went.
    #[inline]
    fn spread(&mut self, fleet: &mut Fleet, books: &mut Books, at: Nanos, quota: u64) -> u64 {
        let mut left = quota;
        let mut idle = 0;
        while left > 0 && idle < self.publishers.len() {
            let index = self.next;
            self.next = (index + 1) % self.publishers.len();
            let sent = self.chunk(fleet, books, index, at, left.min(CHUNK));
            idle = if sent == 0 { idle + 1 } else { 0 };
            left -= sent;
        }
        quota - left
    }

    #[inline]
    fn chunk(&mut self, fleet: &mut Fleet, books: &mut Books, index: usize, at: Nanos, limit: u64) -> u64 {
        let (Some(publisher), Some(link)) = (self.publishers.get_mut(index), fleet.links.get_mut(index)) else {
            return 0;
        };
        if link.phase != Phase::Ready {
            return 0;
        }
        let mut limit = limit.min(publisher.room(link) as u64);
        let under_way = books.under_way.get_mut(index).filter(|_| self.each > 0);
        if let Some(under_way) = &under_way {
            limit = limit.min(u64::from(self.each.saturating_sub(**under_way)));
        }
        let stamp = Stamp { run: books.run, publisher: index as u32, sequence: 0, sent_at: at };
        let mut sent = 0;
        while sent < limit && link.takes_more() && publisher.publish(link, stamp, at) {
            sent += 1;
        }
        if let Some(under_way) = under_way {
            *under_way += sent as u32;
        }
        self.sent += sent;
        if sent > 0 {
            fleet.mark_dirty(index);
        }
        sent
    }

    /// Publishes what is due at a fixed rate. Stamps say when it was due, so falling behind is latency.
    #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss)] // below 2^53
    fn publish_due(&mut self, fleet: &mut Fleet, books: &Books, at: Nanos, limit: u64) -> Pace {
        let due = (clock::to_seconds(at.saturating_sub(self.started_at)) * self.rate) as u64 + 1;
        let quota = due.saturating_sub(self.sent).min(limit).min(TURN_MAX);
        for _ in 0..quota {
            let due_at = self.due_at(self.sent);
            if !self.publish_one(fleet, books, due_at, at) {
                return Pace::Blocked;
            }
            self.lag.add(at.saturating_sub(due_at));
        }
        if quota == TURN_MAX {
            return Pace::AtOnce;
        }
        if quota == limit && self.sent < due {
            return Pace::Blocked;
        }
        Pace::In(self.due_at(self.sent).saturating_sub(at))
    }

    #[allow(clippy::cast_precision_loss)]
    fn due_at(&self, number: u64) -> Nanos {
        self.started_at + clock::from_seconds(number as f64 / self.rate)
    }

    /// Whoever is next and able to publishes the next message. False: nobody is.
    fn publish_one(&mut self, fleet: &mut Fleet, books: &Books, due_at: Nanos, at: Nanos) -> bool {
        for _ in 0..self.publishers.len() {
            let index = self.next;
            self.next = (index + 1) % self.publishers.len();
            let (Some(publisher), Some(link)) = (self.publishers.get_mut(index), fleet.links.get_mut(index)) else {
                continue;
            };
            let stamp = Stamp { run: books.run, publisher: index as u32, sequence: 0, sent_at: due_at };
            if link.phase == Phase::Ready && publisher.room(link) > 0 && publisher.publish(link, stamp, at) {
                self.sent += 1;
                fleet.mark_dirty(index);
                return true;
            }
        }
        false
    }
}
