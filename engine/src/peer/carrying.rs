//! What a link's thread brings to its connections: messages that wait, and word of what is kept.

use std::sync::Arc;

use super::connection::Open;
use super::driver::Driver;
use super::frame::{put_ack, put_message};
use super::lane::{Lane, Side};
use super::roster::Standing;
use super::status::count;

/// Bytes of messages that wait in a connection before further ones stay in their queue.
const WRITER_MAX: usize = 256 * 1_024;

impl Driver {
    /// The connection that carries a lane to the peer.
    fn carrier(&mut self, place: usize) -> Option<&mut Open> {
        if self.dials[place].open().is_some() {
            return self.dials[place].open_mut();
        }
        // Who has come as a guest may not be dialled yet, and is answered where it has asked.
        let accepted = self.accepted[place].as_deref_mut();
        accepted.filter(|open| place == Lane::Control.place() && open.standing == Standing::Guest)
    }

    pub(super) fn open_queues(&mut self) {
        for place in [Lane::Control.place(), Lane::Metadata.place()] {
            let is_open = self.carrier(place).is_some();
            self.link.queues[place].lock().set_open(is_open);
        }
    }

    /// Brings what waits to the connections, and tells the peer what is kept.
    pub(super) fn pump(&mut self) {
        for place in [Lane::Control.place(), Lane::Metadata.place()] {
            let link = Arc::clone(&self.link);
            let Some(open) = self.carrier(place) else { continue };
            let mut outcome = Ok(());
            while outcome.is_ok() && open.writer.len() < WRITER_MAX {
                let Some(message) = link.queues[place].lock().pop() else { break };
                open.writer.put(|buffer| put_message(buffer, &message));
                count(&link.counters.control_sent, 1);
            }
            if open.writer.len() > 0 {
                outcome = open.write(&link);
            }
            let side = open.side;
            match (outcome, side) {
                (Ok(()), _) => {}
                (Err(ending), Side::Dialled) => self.end_dialled(place, &ending),
                (Err(ending), Side::Accepted) => self.end_accepted(place, &ending),
            }
        }
        let place = Lane::Data.place();
        let Some(open) = &mut self.accepted[place] else { return };
        let acknowledgement = self.link.inbox.lock().acknowledgement();
        if let Some((kept, credit)) = acknowledgement {
            open.writer.put_urgent(|buffer| put_ack(buffer, kept, credit));
            if let Err(ending) = open.write(&self.link) {
                self.end_accepted(place, &ending);
            }
        }
    }
}
