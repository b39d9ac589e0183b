//! What the links have to tell the control plane: a bounded queue of its own with a descriptor, so that what clients cause
//! never stands in the way of what peers say.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

use super::identity::PeerId;
use super::lane::Lane;
use super::upper::{Change, TurnedAway};

/// Something for the control plane.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A message of a peer's control plane.
    Message {
        /// Who sent it.
        from: Arc<PeerId>,
        /// On which lane.
        lane: Lane,
        /// The message.
        data: Box<[u8]>,
    },
    /// A link has changed.
    Changed {
        /// Whose it is.
        name: Arc<str>,
        /// How.
        change: Change,
    },
    /// Somebody was not let in.
    TurnedAway(TurnedAway),
    /// What this node subscribes to has changed.
    RoutesChanged,
    /// Sessions that last have changed.
    SessionsChanged,
    /// Retained messages were changed here.
    RetainedChanged,
}

impl Notice {
    fn size(&self) -> usize {
        if let Self::Message { data, .. } = self { data.len() } else { 0 }
    }

    /// The part of the room that notices of its kind may fill, as a divisor: strangers cannot keep messages out, and messages
    /// cannot keep out that a link has changed.
    fn share(&self) -> usize {
        match self {
            Self::Changed { .. } | Self::RoutesChanged | Self::SessionsChanged | Self::RetainedChanged => 1,
            Self::Message { .. } => 2,
            Self::TurnedAway(_) => 16,
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    notices: VecDeque<Notice>,
    bytes: usize,
    dropped: u64,
    /// Routes have changed: it takes no room, so it is never dropped.
    have_routes_changed: bool,
    /// The same for sessions.
    have_sessions_changed: bool,
    have_retained_changed: bool,
    /// The descriptor is readable.
    is_signalled: bool,
}

impl Waiting {
    fn signal(&mut self, mut writer: &UnixStream) {
        if !self.is_signalled {
            self.is_signalled = true;
            // One byte in an empty socket pair always fits; the write cannot fail but by a bug.
            let written = writer.write(&[1]);
            debug_assert!(matches!(written, Ok(1)));
        }
    }
}

/// Notices that wait for the control plane.
#[derive(Debug)]
pub struct Notices {
    waiting: Mutex<Waiting>,
    reader: UnixStream,
    writer: UnixStream,
}

impl Notices {
    /// An empty queue with its descriptor.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { waiting: Mutex::default(), reader, writer })
    }

    /// The descriptor that is readable while something waits.
    pub fn descriptor(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Adds a notice, or says no and counts it when too many notices, or bytes of messages, wait.
    pub fn push(&self, notice: Notice, limit: usize, limit_bytes: usize) -> bool {
        let size = notice.size();
        let mut waiting = self.waiting.lock();
        let is_full = waiting.notices.len() >= limit.div_ceil(notice.share());
        // One message is taken however large it is: links bound it.
        let is_heavy = size > 0 && waiting.bytes > 0 && waiting.bytes + size > limit_bytes;
        if is_full || is_heavy {
            waiting.dropped += 1;
            return false;
        }
        waiting.bytes += size;
        waiting.notices.push_back(notice);
        waiting.signal(&self.writer);
        true
    }

    /// Adds [`Notice::RoutesChanged`], once.
    pub fn routes_changed(&self) {
        let mut waiting = self.waiting.lock();
        waiting.have_routes_changed = true;
        waiting.signal(&self.writer);
    }

    /// Adds [`Notice::SessionsChanged`], once.
    pub fn sessions_changed(&self) {
        let mut waiting = self.waiting.lock();
        waiting.have_sessions_changed = true;
        waiting.signal(&self.writer);
    }

    /// Adds [`Notice::RetainedChanged`], once.
    pub fn retained_changed(&self) {
        let mut waiting = self.waiting.lock();
        waiting.have_retained_changed = true;
        waiting.signal(&self.writer);
    }

    /// Takes at most `limit` notices, oldest first; the descriptor is quiet when none is left.
    pub fn drain(&self, limit: usize) -> Vec<Notice> {
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        if limit > 0 && std::mem::take(&mut waiting.have_routes_changed) {
            taken.push(Notice::RoutesChanged);
        }
        if limit > taken.len() && std::mem::take(&mut waiting.have_sessions_changed) {
            taken.push(Notice::SessionsChanged);
        }
        if limit > taken.len() && std::mem::take(&mut waiting.have_retained_changed) {
            taken.push(Notice::RetainedChanged);
        }
        let count = (limit - taken.len()).min(waiting.notices.len());
        taken.extend(waiting.notices.drain(..count));
        waiting.bytes -= taken.iter().map(Notice::size).sum::<usize>();
        let is_quiet = !waiting.have_routes_changed && !waiting.have_sessions_changed && !waiting.have_retained_changed;
        if waiting.notices.is_empty() && is_quiet && waiting.is_signalled {
            waiting.is_signalled = false;
            let read = (&self.reader).read(&mut [0; 8]);
            debug_assert!(matches!(read, Ok(1)));
        }
        taken
    }

    /// Notices that wait, and those that were dropped.
    pub fn counts(&self) -> (usize, u64) {
        let waiting = self.waiting.lock();
        (waiting.notices.len(), waiting.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::{Boot, Incarnation};
    use super::super::status::Condition;
    use super::*;

    fn from() -> Arc<PeerId> {
        Arc::new(PeerId { name: "a@h".into(), incarnation: Incarnation([0; 16]), boot: Boot([0; 8]) })
    }

    fn message(data: &[u8]) -> Notice {
        Notice::Message { from: from(), lane: Lane::Control, data: data.into() }
    }

    fn changed() -> Notice {
        let change = Change { peer: None, condition: Condition::Down, reason: String::new(), refusal: None };
        Notice::Changed { name: "a@h".into(), change }
    }

    #[test]
    fn notices_are_bounded_in_number_and_bytes_and_keep_their_order() {
        let notices = Notices::new().unwrap();
        assert!(notices.push(message(&[0; 100]), 10, 50), "an empty queue takes any message");
        assert!(!notices.push(message(b"x"), 10, 50));
        assert!(notices.push(changed(), 10, 50));
        let taken = notices.drain(10);
        assert!(matches!(taken[..], [Notice::Message { .. }, Notice::Changed { .. }]));
        assert_eq!(notices.counts(), (0, 1));
    }

    #[test]
    fn messages_leave_room_for_changes_of_links() {
        let notices = Notices::new().unwrap();
        while notices.push(message(b"x"), 10, 1_000) {}
        assert_eq!(notices.counts().0, 5);
        assert!(notices.push(changed(), 10, 1_000));
    }

    #[test]
    fn that_routes_have_changed_is_told_once_and_however_full_the_queue_is() {
        let notices = Notices::new().unwrap();
        while notices.push(changed(), 10, 10) {}
        notices.routes_changed();
        notices.routes_changed();
        let taken = notices.drain(3);
        assert!(matches!(taken[..], [Notice::RoutesChanged, Notice::Changed { .. }, Notice::Changed { .. }]));
        assert!(notices.drain(100).iter().all(|notice| matches!(notice, Notice::Changed { .. })));
        assert!(!notices.waiting.lock().is_signalled);
    }

    #[test]
    fn the_descriptor_is_readable_while_something_waits() {
        let notices = Notices::new().unwrap();
        let is_readable = || notices.waiting.lock().is_signalled;
        notices.push(changed(), 10, 10);
        notices.push(changed(), 10, 10);
        assert_eq!(notices.drain(1).len(), 1);
        assert!(is_readable());
        assert_eq!(notices.drain(1).len(), 1);
        assert!(!is_readable());
    }
}
