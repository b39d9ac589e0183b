//! What comes in during a traffic run: counted, checked for order and repeats, and timed.

use super::clock::{MILLISECOND, Nanos};
use super::fleet::{Hand, Scenario};
use super::histogram::Histogram;
use super::link::SentAt;
use super::publisher::MessageShape;
use super::stamp::Stamp;
use super::tracker::{Arrival, Tracker};
use crate::codec::{Publish, ReasonCode};

/// Whose messages a link is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Nobody's: a publisher.
    Nothing,
    /// Anybody's, also those of other programs: not checked, only counted and timed.
    Anything,
    /// Those of `count` publishers from `first` on; their trackers begin at `trackers`.
    Publishers {
        /// The first publisher.
        first: u32,
        /// How many.
        count: u32,
        /// The place of the first tracker.
        trackers: usize,
    },
    /// Requests, which it answers on the reply topic of this number.
    Requests(usize),
}

/// Counts that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages received, each once.
    pub received: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// Messages that came after a later one of the same publisher.
    pub late: u64,
    /// Messages that are not of this run or not for this client.
    pub foreign: u64,
    /// Messages with the DUP flag.
    pub dup_flags: u64,
    /// Messages that the broker acknowledged.
    pub acknowledged: u64,
    /// Messages that the broker acknowledged with a failure.
    pub refused: u64,
    /// Requests that could not be answered because the window was full.
    pub unanswered: u64,
}

/// The books of a run.
#[derive(Debug)]
pub struct Books {
    /// The mark of this run.
    pub run: u32,
    /// What each link is to have.
    pub listeners: Vec<Listener>,
    /// The topics of the answers to requests.
    pub reply_topics: Vec<Box<str>>,
    /// How answers look.
    pub shape: MessageShape,
    /// One for each pair of subscriber and publisher.
    pub trackers: Vec<Tracker>,
    /// Messages of each publisher that are under way. Of use where each has one subscriber.
    pub under_way: Vec<u32>,
    /// The counts.
    pub counts: Counts,
    /// From stamp to arrival.
    pub latency: Histogram,
    /// From publishing to the acknowledgement.
    pub acknowledgement: Histogram,
    /// When the last message came.
    pub received_at: Nanos,
    /// When the last acknowledgement came.
    pub acknowledged_at: Nanos,
    /// PINGRESPs.
    pub pongs: u64,
    /// Whether stamps were made on this machine, so that they can be compared with its clock.
    pub has_clock: bool,
}

/// A stamp of another program on this machine is believed when it is at most this far in the past.
const PLAUSIBLE: Nanos = 600_000 * MILLISECOND;

impl Scenario for Books {
    #[inline]
    fn on_delivery(&mut self, link: usize, at: Nanos, delivery: &Publish<'_>, hand: Hand<'_>) {
        self.counts.dup_flags += u64::from(delivery.dup);
        let stamp = Stamp::read(delivery.payload);
        match (self.listeners.get(link), stamp) {
            (Some(Listener::Publishers { first, count, trackers }), Some(stamp)) if stamp.run == self.run => {
                let offset = stamp.publisher.wrapping_sub(*first);
                let place = *trackers + offset as usize;
                if offset < *count { self.book(place, &stamp, at) } else { self.counts.foreign += 1 }
            }
            (Some(Listener::Anything), stamp) => {
                self.counts.received += 1;
                self.received_at = at;
                if let Some(stamp) = stamp.filter(|stamp| self.has_clock && at.wrapping_sub(stamp.sent_at) < PLAUSIBLE)
                {
                    self.latency.add(at - stamp.sent_at);
                }
            }
            (Some(Listener::Requests(number)), Some(stamp)) if stamp.run == self.run => {
                let topic = self.reply_topics.get(*number).map_or("", AsRef::as_ref);
                let head = self.shape.head(topic);
                if hand.client.publish(head, delivery.payload, SentAt(at), hand.output).is_err() {
                    self.counts.unanswered += 1;
                }
            }
            _ => self.counts.foreign += 1,
        }
    }

    #[inline]
    fn on_acknowledged(&mut self, _link: usize, at: Nanos, sent_at: Nanos, reason: ReasonCode) {
        self.counts.acknowledged += 1;
        self.counts.refused += u64::from(reason.is_error());
        self.acknowledgement.add(at.saturating_sub(sent_at));
        self.acknowledged_at = at;
    }

    fn on_pong(&mut self, _link: usize) {
        self.pongs += 1;
    }
}

impl Books {
    #[inline]
    fn book(&mut self, place: usize, stamp: &Stamp, at: Nanos) {
        let Some(tracker) = self.trackers.get_mut(place) else {
            self.counts.foreign += 1;
            return;
        };
        self.received_at = at;
        match tracker.observe(stamp.sequence) {
            Arrival::InOrder => {}
            Arrival::Late => self.counts.late += 1,
            Arrival::Duplicate => {
                self.counts.duplicates += 1;
                return;
            }
        }
        self.counts.received += 1;
        self.latency.add(at.saturating_sub(stamp.sent_at));
        if let Some(under_way) = self.under_way.get_mut(stamp.publisher as usize) {
            *under_way = under_way.saturating_sub(1);
        }
    }
}
