//! The connections of a link that this node dials: begun, opened, ended, and begun again.

use std::sync::Arc;

use mio::Token;

use super::backoff::PAUSE_MAX;
use super::connection::{Ending, Open};
use super::dialling::{DialFailure, Opening};
use super::driver::{DIALLED, Driver};
use super::handshake::Welcome;
use super::hello::Terms;
use super::inbox::Resume;
use super::lane::{Lane, Side};
use super::link::PeerConfig;
use super::pulse::Micros;
use super::refusal::RefusalCode;
use super::resolve::{self, Target};
use super::roster::Standing;
use super::status::count;
use super::wire::Wire;

/// One lane that this node dials.
pub(super) enum Dial {
    /// Not now: it waits for the control lane, or there is nobody to dial.
    Off,
    /// Until a time.
    Pause(Micros),
    /// For addresses.
    Resolving,
    Opening(Box<Opening>),
    Open(Box<Open>),
}

impl Dial {
    pub fn open(&self) -> Option<&Open> {
        if let Self::Open(open) = self { Some(open) } else { None }
    }

    pub fn open_mut(&mut self) -> Option<&mut Open> {
        if let Self::Open(open) = self { Some(open) } else { None }
    }
}

impl Driver {
    pub(super) fn configure(&mut self, config: PeerConfig) {
        if self.config.as_ref() == Some(&config) {
            return;
        }
        let wanted = config.incarnation;
        self.config = Some(config);
        self.targets.clear();
        self.forget_error();
        for place in 0..Lane::ALL.len() {
            // What is open to the right node stays; what is not is dialled at the new addresses.
            let is_right = |open: &Open| wanted.is_none_or(|wanted| wanted == open.peer.incarnation);
            match &self.dials[place] {
                Dial::Open(open) if is_right(open) => {}
                _ => self.end_dialled(place, &Ending::Stopped("the peer is configured anew".to_owned())),
            }
        }
        self.dial_soon();
    }

    /// Dials what waits for no reason of its own.
    pub(super) fn dial_soon(&mut self) {
        let now = self.link.shared.now();
        if self.config.is_none() {
            return;
        }
        let is_member = self.is_dialled_member();
        for (place, dial) in self.dials.iter_mut().enumerate() {
            let is_wanted = place == Lane::Control.place() || is_member;
            if is_wanted && matches!(dial, Dial::Off | Dial::Pause(_)) {
                *dial = Dial::Pause(now);
            }
        }
    }

    pub(super) fn is_dialled_member(&self) -> bool {
        self.dials[Lane::Control.place()].open().is_some_and(|open| open.standing == Standing::Member)
    }

    pub(super) fn resolved(&mut self, found: Result<Vec<Target>, String>) {
        self.is_looking_up = false;
        let now = self.link.shared.now();
        match found {
            Ok(targets) => {
                self.targets = targets;
                for place in 0..Lane::ALL.len() {
                    if matches!(self.dials[place], Dial::Resolving) {
                        self.begin(place, now);
                    }
                }
            }
            Err(fault) => {
                for place in 0..Lane::ALL.len() {
                    if matches!(self.dials[place], Dial::Resolving) {
                        self.fail(place, &fault, None);
                    }
                }
            }
        }
    }

    /// Something happened to the socket of a lane that is dialled.
    pub(super) fn wake_dialled(&mut self, place: usize) {
        match &mut self.dials[place] {
            Dial::Open(open) => {
                (open.is_readable, open.is_blocked) = (true, false);
                if place == Lane::Data.place() {
                    self.link.data.lock().is_blocked = false;
                }
                if let Err(ending) = open.write(&self.link) {
                    self.end_dialled(place, &ending);
                }
            }
            Dial::Opening(_) => self.advance(place),
            Dial::Off | Dial::Pause(_) | Dial::Resolving => {}
        }
    }

    /// Begins to dial a lane: at once where the addresses are known, else once they are.
    pub(super) fn begin(&mut self, place: usize, now: Micros) {
        let Some(config) = self.config.clone() else { return };
        if let Some(targets) = resolve::literal(&config.addresses) {
            self.targets = targets;
        } else if self.targets.is_empty() {
            self.dials[place] = Dial::Resolving;
            if !std::mem::replace(&mut self.is_looking_up, true) {
                resolve::look_up(&self.link, config.addresses);
            }
            return;
        }
        let Some(target) = self.targets.get(self.attempt % self.targets.len().max(1)).cloned() else {
            return self.fail(place, "the peer has no address", None);
        };
        count(&self.link.counters.dials, 1);
        let deadline = now + self.link.shared.options.load().handshake_timeout.as_micros() as Micros;
        let address = target.address;
        let lane = Lane::ALL[place];
        let opening = Opening::begin(&self.link, &config, lane, target, deadline).and_then(|opening| {
            opening.wire.register(self.poll.registry(), Token(DIALLED + place))?;
            Ok(opening)
        });
        match opening {
            Ok(opening) => {
                self.dials[place] = Dial::Opening(Box::new(opening));
                self.advance(place);
            }
            Err(failure) => self.fail(place, &format!("{address}: {failure}"), failure.refusal()),
        }
    }

    fn advance(&mut self, place: usize) {
        let Dial::Opening(opening) = &mut self.dials[place] else { return };
        match opening.advance(&self.link) {
            Ok(None) => {}
            Ok(Some(welcome)) => self.opened(place, welcome),
            Err(failure) => self.fail_opening(place, &failure),
        }
    }

    pub(super) fn fail_opening(&mut self, place: usize, failure: &DialFailure) {
        let Dial::Opening(opening) = std::mem::replace(&mut self.dials[place], Dial::Off) else { return };
        opening.wire.deregister(self.poll.registry());
        opening.wire.close();
        if let Some(answering) = opening.answering() {
            self.link.status.lock().answering = Some(Arc::clone(&answering.name));
        }
        self.fail(place, &format!("{}: {failure}", opening.target.address), failure.refusal());
    }

    /// A lane could not be opened; it is dialled again later, at the next address.
    pub(super) fn fail(&mut self, place: usize, fault: &str, refusal: Option<RefusalCode>) {
        count(&self.link.counters.dial_failures, 1);
        self.attempt = self.attempt.wrapping_add(1);
        // A name is looked up anew each time.
        self.targets.clear();
        self.note_error(Side::Dialled, place, fault);
        if place == Lane::Control.place() || refusal.is_some() {
            self.link.status.lock().refusal = refusal;
        }
        self.pause(place);
    }

    pub(super) fn pause(&mut self, place: usize) {
        // Without randomness all nodes pause alike, which is no harm.
        let pause = self.backoffs[place].next(getrandom::u32().unwrap_or(0)).as_micros() as Micros;
        let until = self.link.shared.now() + pause;
        self.dials[place] = if self.config.is_some() { Dial::Pause(until) } else { Dial::Off };
    }

    fn opened(&mut self, place: usize, welcome: Welcome) {
        let Dial::Opening(opening) = std::mem::replace(&mut self.dials[place], Dial::Off) else { return };
        let Welcome { peer, terms, .. } = welcome;
        if terms.standing == Standing::Guest && opening.told_cluster() != self.link.shared.identity.load().cluster {
            // It has joined, or left, while it was being let in.
            self.dials[place] = Dial::Opening(opening);
            return self.end_dialled(place, &Ending::Stopped("the node has changed its cluster".to_owned()));
        }
        self.end_other_runs(&peer);
        let lane = Lane::ALL[place];
        let now = self.link.shared.now();
        let wire = Arc::clone(&opening.wire);
        let mut open = Open::new(&self.link, wire, (Side::Dialled, lane), (Arc::clone(&peer), terms.standing), now);
        let rest = opening.rest();
        open.reader.room()[..rest.len()].copy_from_slice(rest);
        open.reader.filled(rest.len());
        {
            let mut status = self.link.status.lock();
            status.peer = Some(peer);
            status.answering = None;
            if place == Lane::Control.place() {
                status.refusal = None;
            }
        }
        if lane == Lane::Data
            && let Err(ending) = self.resume(&opening.wire, &terms)
        {
            self.dials[place] = Dial::Open(Box::new(open));
            return self.end_dialled(place, &ending);
        }
        self.dials[place] = Dial::Open(Box::new(open));
        self.open_queues();
        if terms.standing == Standing::Member {
            self.dial_soon();
        } else {
            for other in [Lane::Metadata, Lane::Data] {
                self.end_dialled(other.place(), &Ending::Stopped("the node is a guest".to_owned()));
                self.dials[other.place()] = Dial::Off;
            }
        }
    }

    /// The data lane goes on where the peer says that it was.
    fn resume(&self, wire: &Arc<Wire>, terms: &Terms) -> Result<(), Ending> {
        let mut data = self.link.data.lock();
        let Resume { kept, received, credit } = terms.resume;
        let message_len_max = usize::try_from(terms.message_len_max).unwrap_or(usize::MAX);
        let before = data.outbox.kept();
        data.outbox.set_limits(self.link.shared.options.load().outbox());
        data.outbox.connect(kept, received, credit, message_len_max)?;
        data.wire = Some(Arc::clone(wire));
        (data.is_blocked, data.fault) = (false, None);
        let now_kept = data.outbox.kept();
        data.write(&self.link.counters);
        drop(data);
        if now_kept > before {
            self.link.tell_kept(now_kept);
        }
        Ok(())
    }

    pub(super) fn end_dialled(&mut self, place: usize, ending: &Ending) {
        match std::mem::replace(&mut self.dials[place], Dial::Off) {
            Dial::Open(mut open) => {
                open.wire.deregister(self.poll.registry());
                open.close(&self.link, ending);
                if place == Lane::Data.place() {
                    let mut data = self.link.data.lock();
                    data.outbox.disconnect();
                    data.wire = None;
                    (data.is_blocked, data.fault) = (false, None);
                }
                let lived = self.link.shared.now().saturating_sub(open.opened_at);
                if open.pulse.round_trip().is_some() && lived >= PAUSE_MAX.as_micros() as Micros {
                    self.backoffs[place].reset();
                }
            }
            Dial::Opening(opening) => {
                opening.wire.deregister(self.poll.registry());
                opening.wire.close();
            }
            Dial::Off => return,
            Dial::Pause(_) | Dial::Resolving => {}
        }
        self.targets.clear();
        self.note_error(Side::Dialled, place, &ending.to_string());
        self.pause(place);
        self.open_queues();
    }
}
