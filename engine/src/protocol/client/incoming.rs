//! Messages of `QoS` 1 and 2 that the server has delivered and whose delivery is not over.

use std::collections::HashMap;

use crate::codec::QoS;

/// How far the delivery of a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// `QoS` 1: the caller has it and will acknowledge it.
    Held,
    /// `QoS` 2: the caller has it and will acknowledge it.
    HeldOnce,
    /// `QoS` 2: PUBREC is sent, PUBREL awaited.
    Accepted,
}

/// What the arrival of a message under an identifier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is new.
    New,
    /// The caller has it and has not acknowledged it yet.
    Held,
    /// It is acknowledged: PUBREC was sent and has to be sent again.
    Accepted,
}

/// What has to be sent for an acknowledgement of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Puback,
    Pubrec,
}

/// The identifiers that the server has in use. At most 65,535 fit by nature.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    steps: HashMap<u16, Step, ahash::RandomState>,
    /// Those that an earlier connection left behind; the Receive Maximum does not count them (MQTT 5 §4.9).
    carried: usize,
}

impl Incoming {
    /// A message of `QoS` 2 that the client acknowledges by itself.
    #[inline]
    pub fn accept(&mut self, id: u16) -> Arrival {
        match self.steps.insert(id, Step::Accepted) {
            None => Arrival::New,
            Some(_) => Arrival::Accepted,
        }
    }

    /// A message that the caller will acknowledge.
    pub fn hold(&mut self, id: u16, qos: QoS) -> Arrival {
        let step = if qos == QoS::ExactlyOnce { Step::HeldOnce } else { Step::Held };
        match self.steps.insert(id, step) {
            // A QoS 1 message that comes again may be another one: the caller gets it (MQTT 5 §4.3.2).
            None | Some(Step::Held) => Arrival::New,
            Some(Step::HeldOnce) => Arrival::Held,
            Some(Step::Accepted) => {
                self.steps.insert(id, Step::Accepted);
                Arrival::Accepted
            }
        }
    }

    /// The caller acknowledges. `None`: nothing is held under this identifier, or not any more.
    pub fn acknowledge(&mut self, id: u16, is_error: bool) -> Option<Answer> {
        match self.steps.get_mut(&id)? {
            Step::Held => {
                self.remove(id);
                Some(Answer::Puback)
            }
            // A PUBREC with an error ends the delivery ([MQTT-4.3.3-9]).
            Step::HeldOnce if is_error => {
                self.remove(id);
                Some(Answer::Pubrec)
            }
            step @ Step::HeldOnce => {
                *step = Step::Accepted;
                Some(Answer::Pubrec)
            }
            Step::Accepted => None,
        }
    }

    /// PUBREL came. False: nothing was accepted under this identifier.
    #[inline]
    pub fn release(&mut self, id: u16) -> bool {
        match self.steps.get(&id) {
            Some(Step::Accepted) => {
                self.remove(id);
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn remove(&mut self, id: u16) {
        self.steps.remove(&id);
        self.carried = self.carried.min(self.steps.len());
    }

    /// How many deliveries of this connection are not over.
    #[inline]
    pub fn under_way(&self) -> usize {
        self.steps.len() - self.carried
    }

    /// The connection is gone. What was held with `QoS` 1 will be delivered again, perhaps under another identifier.
    pub fn detach(&mut self) {
        self.steps.retain(|_, step| *step != Step::Held);
        self.carried = self.steps.len();
    }

    /// The session is gone.
    pub fn clear(&mut self) {
        self.steps.clear();
        self.carried = 0;
    }
}
