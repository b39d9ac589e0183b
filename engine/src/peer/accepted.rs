//! The connections of a link that its peer has dialled.

use std::sync::Arc;

use mio::Token;

use super::connection::{Ending, Open};
use super::driver::{ACCEPTED, Driver};
use super::hello::Terms;
use super::identity::PeerId;
use super::inbox::Resume;
use super::lane::{Lane, Side};
use super::link::Arrived;

impl Driver {
    pub(super) fn arrive(&mut self, arrived: Arrived) {
        let Arrived { wire, greeter, lane, peer, standing } = arrived;
        let place = lane.place();
        self.end_accepted(place, &Ending::Replaced);
        self.end_other_runs(&peer);
        let options = *self.link.shared.options.load_full();
        let resume = if lane == Lane::Data {
            let upper = &self.link.shared.upper;
            let mut inbox = self.link.inbox.lock();
            inbox.set_window(options.credit as u64);
            inbox.begin(&peer, || upper.last_applied(&peer))
        } else {
            Resume { kept: 0, received: 0, credit: 0 }
        };
        let terms = Terms { standing, resume, message_len_max: options.incoming_buffer_size as u64 };
        let welcome = greeter.welcome(&terms);
        let now = self.link.shared.now();
        let mut open = Open::new(&self.link, wire, (Side::Accepted, lane), (peer, standing), now);
        let registered = open.wire.register(self.poll.registry(), Token(ACCEPTED + place));
        if let Err(error) = registered {
            open.close(&self.link, &Ending::Socket(error));
            return;
        }
        // The welcome goes before all frames.
        open.writer.put_urgent(|buffer| buffer.extend_from_slice(&welcome));
        let outcome = open.write(&self.link);
        self.link.status.lock().peer = Some(Arc::clone(&open.peer));
        self.accepted[place] = Some(Box::new(open));
        if let Err(ending) = outcome {
            self.end_accepted(place, &ending);
        }
        self.open_queues();
        // Whoever comes is there to be dialled.
        self.dial_soon();
    }

    /// Ends what is connected to another run of the peer's process, which has ended.
    pub(super) fn end_other_runs(&mut self, peer: &PeerId) {
        for place in 0..Lane::ALL.len() {
            if self.dials[place].open().is_some_and(|open| *open.peer != *peer) {
                self.end_dialled(place, &Ending::Restarted);
            }
            if self.accepted[place].as_ref().is_some_and(|open| *open.peer != *peer) {
                self.end_accepted(place, &Ending::Restarted);
            }
        }
    }

    pub(super) fn end_accepted(&mut self, place: usize, ending: &Ending) {
        let Some(mut open) = self.accepted[place].take() else { return };
        open.wire.deregister(self.poll.registry());
        open.close(&self.link, ending);
        self.note_error(Side::Accepted, place, &ending.to_string());
        self.open_queues();
    }
}
