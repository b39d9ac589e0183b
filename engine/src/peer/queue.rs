//! Messages of the control plane that wait for a lane. Pure.

use std::collections::VecDeque;

/// Messages at most, however short they are.
const MESSAGES_MAX: usize = 100_000;

/// A bounded queue of whole messages.
#[derive(Debug, Default)]
pub struct MessageQueue {
    messages: VecDeque<Box<[u8]>>,
    bytes: usize,
    is_open: bool,
    turned_away: u64,
    lost: u64,
}

impl MessageQueue {
    /// A connection of the lane is there, or is gone; then what waits is lost with it.
    pub fn set_open(&mut self, is_open: bool) {
        if !is_open {
            self.lost += self.messages.len() as u64;
            self.messages.clear();
            self.bytes = 0;
        }
        self.is_open = is_open;
    }

    /// Takes a message unless there is no connection, or `bytes_max` would be exceeded. An empty queue takes any message.
    pub fn push(&mut self, data: &[u8], bytes_max: usize) -> bool {
        let has_room =
            self.messages.is_empty() || (self.bytes + data.len() <= bytes_max && self.messages.len() < MESSAGES_MAX);
        if !self.is_open || !has_room {
            self.turned_away += 1;
            return false;
        }
        self.bytes += data.len();
        self.messages.push_back(data.into());
        true
    }

    /// The oldest message.
    pub fn pop(&mut self) -> Option<Box<[u8]>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    /// Messages that were turned away, and that were lost with a connection.
    pub fn turned_away(&self) -> (u64, u64) {
        (self.turned_away, self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_takes_messages_while_there_is_a_connection_and_room() {
        let mut queue = MessageQueue::default();
        assert!(!queue.push(b"early", 100));
        queue.set_open(true);
        assert!(queue.push(&[0; 200], 100), "an empty queue takes any message");
        assert!(!queue.push(b"x", 100));
        assert_eq!(queue.pop().map(|message| message.len()), Some(200));
        assert!(queue.push(b"x", 100) && queue.push(b"y", 100));
        queue.set_open(false);
        assert_eq!((queue.pop(), queue.bytes), (None, 0));
        assert_eq!(queue.turned_away(), (2, 2));
    }
}
