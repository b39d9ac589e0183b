//! What a link's thread tells of it: its status, and the changes of it that the upper layer hears of.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::connection::Open;
use super::dialled::Dial;
use super::driver::Driver;
use super::lane::{Lane, Side};
use super::pulse::Micros;
use super::refusal::RefusalCode;
use super::roster::Standing;
use super::status::{Condition, LaneState, count};
use super::upper::Change;

/// States of the connections, those that were dialled first, with the microseconds of a round trip.
type LaneStates = [(LaneState, Option<u64>); 6];

/// What the upper layer was told last.
#[derive(Default)]
pub(super) struct Told {
    condition: Condition,
    refusal: Option<RefusalCode>,
    has_error: bool,
}

impl Driver {
    pub(super) fn note_error(&mut self, side: Side, place: usize, fault: &str) {
        let text = format!("{} lane, {}: {fault}", Lane::ALL[place].name(), side.name());
        self.link.status.lock().error = text;
    }

    pub(super) fn forget_error(&mut self) {
        let mut status = self.link.status.lock();
        status.error.clear();
        (status.refusal, status.answering) = (None, None);
    }

    fn lane_states(&self, now: Micros) -> LaneStates {
        let of_open = |open: &Open| {
            let state = if open.pulse.is_alive(now) { LaneState::Alive } else { LaneState::Open };
            (state, open.pulse.round_trip())
        };
        let mut states = [(LaneState::Off, None); 6];
        for place in 0..Lane::ALL.len() {
            states[place] = match &self.dials[place] {
                Dial::Off => (LaneState::Off, None),
                Dial::Pause(_) => (LaneState::Pause, None),
                Dial::Resolving | Dial::Opening(_) => (LaneState::Opening, None),
                Dial::Open(open) => of_open(open),
            };
            if let Some(open) = &self.accepted[place] {
                states[Lane::ALL.len() + place] = of_open(open);
            }
        }
        states
    }

    fn condition(&self, states: &LaneStates) -> Condition {
        let is_alive = |place: usize| states[place].0 == LaneState::Alive;
        let opens =
            || self.dials.iter().filter_map(Dial::open).chain(self.accepted.iter().flatten().map(|open| &**open));
        let is_member = opens().all(|open| open.standing == Standing::Member);
        if is_member && (0..states.len()).all(is_alive) {
            return Condition::Reachable;
        }
        let control = Lane::Control.place();
        let dialled = self.dials[control].open();
        let accepted = self.accepted[control].as_deref();
        let is_guest =
            |open: Option<&Open>, place| open.is_some_and(|open| open.standing == Standing::Guest) && is_alive(place);
        if is_guest(dialled, control) || is_guest(accepted, Lane::ALL.len() + control) {
            return Condition::Guest;
        }
        Condition::Down
    }

    /// Brings the status up to date, and tells the upper layer what has changed.
    pub(super) fn tell(&mut self) {
        let now = self.link.shared.now();
        let lanes = self.lane_states(now);
        let condition = self.condition(&lanes);
        let is_reachable = condition == Condition::Reachable;
        let change = {
            let mut status = self.link.status.lock();
            for (lane, (state, round_trip)) in status.lanes.iter_mut().zip(lanes) {
                if lane.state != state {
                    (lane.state, lane.since) = (state, Instant::now());
                }
                lane.round_trip_us = round_trip;
            }
            let is_news = condition != self.told.condition
                || status.refusal != self.told.refusal
                || (condition == Condition::Down && !self.told.has_error && !status.error.is_empty());
            if condition != status.condition {
                (status.condition, status.since) = (condition, Instant::now());
            }
            is_news.then(|| Change {
                peer: status.peer.clone(),
                condition,
                reason: if is_reachable { String::new() } else { status.error.clone() },
                refusal: status.refusal,
            })
        };
        let Some(change) = change else { return };
        if (condition == Condition::Reachable) != (self.told.condition == Condition::Reachable) {
            let counters = &self.link.counters;
            count(if is_reachable { &counters.ups } else { &counters.downs }, 1);
        }
        self.told = Told {
            condition,
            refusal: change.refusal,
            has_error: condition == Condition::Down && !change.reason.is_empty(),
        };
        self.link.is_reachable.store(is_reachable, Ordering::Release);
        self.link.shared.upper.changed(&self.link, &change);
    }
}
