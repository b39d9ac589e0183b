//! The queue of a session: messages that cannot be sent yet, within a number and a size.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::message::{Message, MessageId, Place};
use crate::settings::QueueType;

/// A message that waits for a client.
#[derive(Clone, Debug)]
pub struct Queued {
    /// What to send; `None` while it is only in the store.
    pub message: Option<Message>,
    /// Where the store has it.
    pub place: Place,
    /// Memory that the message takes where it is in memory.
    pub size: u32,
    /// QoS of this delivery.
    pub qos: u8,
    /// RETAIN of this delivery.
    pub retain: bool,
    /// The message is another one than the store has: Python changed it for this client.
    pub is_changed: bool,
    /// Subscription identifiers of this delivery.
    pub identifiers: SmallVec<[u32; 1]>,
    /// What it is called on all nodes to which it went.
    pub message_id: MessageId,
}

impl Queued {
    /// A message in memory.
    pub fn new(message: Message, place: Place, qos: u8, retain: bool, identifiers: SmallVec<[u32; 1]>) -> Self {
        let size = message.size() as u32;
        Self {
            message: Some(message),
            place,
            size,
            qos,
            retain,
            is_changed: false,
            identifiers,
            message_id: MessageId::NONE,
        }
    }

    fn bytes(&self) -> usize {
        self.size as usize
    }
}

/// What a full queue did.
#[derive(Debug)]
pub enum Full {
    /// There was room.
    No,
    /// These were dropped: the new message (`fifo`) or as many of the oldest as it takes (`lifo`).
    Dropped(Vec<Queued>),
}

/// The queue.
#[derive(Debug, Default)]
pub struct Pending {
    messages: VecDeque<Queued>,
    bytes: usize,
}

impl Pending {
    /// Messages that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of the messages that wait; one that is shared with other queues counts in each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues a message within `limit` messages and `limit_bytes`, or drops one as the policy says.
    pub fn push(&mut self, queued: Queued, policy: QueueType, limit: usize, limit_bytes: usize) -> Full {
        let size = queued.bytes();
        let is_full = self.messages.len() >= limit || self.bytes.saturating_add(size) > limit_bytes;
        if is_full {
            if policy == QueueType::Fifo || limit == 0 || size > limit_bytes {
                return Full::Dropped(vec![queued]);
            }
            let mut dropped = Vec::new();
            while self.messages.len() >= limit || self.bytes.saturating_add(size) > limit_bytes {
                let Some(oldest) = self.messages.pop_back() else { break };
                self.bytes -= oldest.bytes();
                dropped.push(oldest);
            }
            self.bytes += size;
            self.messages.push_front(queued);
            return Full::Dropped(dropped);
        }
        self.bytes += size;
        match policy {
            QueueType::Fifo => self.messages.push_back(queued),
            QueueType::Lifo => self.messages.push_front(queued),
        }
        Full::No
    }

    /// Puts a message that was taken back to the front, whatever the limits: it was within them before.
    pub fn put_back(&mut self, queued: Queued) {
        self.bytes += queued.bytes();
        self.messages.push_front(queued);
    }

    /// Says which message it is that was queued last.
    pub fn name_last(&mut self, message_id: MessageId, policy: QueueType) {
        let last = match policy {
            QueueType::Fifo => self.messages.back_mut(),
            QueueType::Lifo => self.messages.front_mut(),
        };
        if let Some(last) = last {
            last.message_id = message_id;
        }
    }

    /// The message that is next.
    pub fn front(&self) -> Option<&Queued> {
        self.messages.front()
    }

    /// Takes the message that is next.
    pub fn pop(&mut self) -> Option<Queued> {
        let queued = self.messages.pop_front()?;
        self.bytes -= queued.bytes();
        if self.messages.is_empty() && self.messages.capacity() > SHRINK_ABOVE {
            self.messages = VecDeque::new();
        }
        Some(queued)
    }

    /// Drops what exceeds `limit` messages: the newest (`fifo`) or the oldest (`lifo`), both at the far end.
    pub fn truncate(&mut self, limit: usize) -> Vec<Queued> {
        let dropped: Vec<_> = self.messages.drain(limit.min(self.messages.len())..).collect();
        self.bytes -= dropped.iter().map(Queued::bytes).sum::<usize>();
        dropped
    }

    /// Takes out all that `keep` says no to, and hands it to `dropped`.
    pub fn drop_unless(&mut self, keep: impl Fn(&Queued) -> bool, mut dropped: impl FnMut(&Queued)) -> usize {
        let before = self.messages.len();
        self.messages.retain(|queued| {
            let stays = keep(queued);
            if !stays {
                dropped(queued);
            }
            stays
        });
        self.bytes = self.messages.iter().map(Queued::bytes).sum();
        before - self.messages.len()
    }

    /// A queue with these messages, whatever its limits are: they were kept for its client before.
    pub fn restore(messages: VecDeque<Queued>) -> Self {
        let bytes = messages.iter().map(Queued::bytes).sum();
        Self { messages, bytes }
    }

    /// All messages, the next one first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Queued> {
        self.messages.iter()
    }

    /// All messages, the next one first, to be changed but for their sizes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.messages.iter_mut()
    }
}

/// An empty queue that once held more messages than this gives its memory back.
const SHRINK_ABOVE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Head, NEVER, Publication};

    fn queued(payload: &[u8]) -> Queued {
        let mut arena = Vec::new();
        let layout = Publication::compose(&mut arena, b"t", b"", payload);
        let head = Head { layout, qos: 1, retain: false, expires_at: NEVER, origin: 0 };
        let message = Message::keep(&Publication { head, span: &arena });
        Queued::new(message, Place::NONE, 1, false, SmallVec::new())
    }

    fn payloads(mut queue: Pending) -> Vec<Vec<u8>> {
        let messages = std::iter::from_fn(|| queue.pop()).filter_map(|queued| queued.message);
        messages.map(|message| message.publication().payload().to_vec()).collect()
    }

    fn filled(policy: QueueType, count: u8, limit: usize) -> (Pending, usize) {
        let mut queue = Pending::default();
        let mut dropped = 0;
        for number in 0..count {
            dropped +=
                usize::from(matches!(queue.push(queued(&[number]), policy, limit, usize::MAX), Full::Dropped(_)));
        }
        (queue, dropped)
    }

    #[test]
    fn a_full_fifo_queue_refuses_the_new_message() {
        let (queue, dropped) = filled(QueueType::Fifo, 5, 3);
        assert_eq!((payloads(queue), dropped), (vec![vec![0], vec![1], vec![2]], 2));
    }

    #[test]
    fn a_full_lifo_queue_drops_the_oldest_and_delivers_the_newest_first() {
        let (queue, dropped) = filled(QueueType::Lifo, 5, 3);
        assert_eq!((payloads(queue), dropped), (vec![vec![4], vec![3], vec![2]], 2));
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_through() {
        for policy in [QueueType::Fifo, QueueType::Lifo] {
            let (queue, dropped) = filled(policy, 2, 0);
            assert_eq!((queue.len(), dropped), (0, 2));
        }
    }

    #[test]
    fn bytes_are_limited_and_counted_down_again() {
        let mut queue = Pending::default();
        let size = queued(b"x").bytes();
        assert!(matches!(queue.push(queued(b"x"), QueueType::Fifo, 10, size), Full::No));
        assert!(matches!(queue.push(queued(b"y"), QueueType::Fifo, 10, size), Full::Dropped(_)));
        assert_eq!(queue.bytes(), size);
        queue.pop();
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_large_message_takes_the_place_of_as_many_small_ones_as_it_needs() {
        let mut queue = Pending::default();
        let small = queued(b"x").bytes();
        for _ in 0..4 {
            queue.push(queued(b"x"), QueueType::Lifo, 10, 4 * small);
        }
        let Full::Dropped(dropped) = queue.push(queued(&[0; 9]), QueueType::Lifo, 10, 4 * small) else {
            panic!("the queue was full");
        };
        assert_eq!(dropped.len(), 2);
        assert!(queue.bytes() <= 4 * small);
        assert!(matches!(queue.push(queued(&[0; 4_096]), QueueType::Lifo, 10, 4 * small), Full::Dropped(_)));
        assert_eq!(queue.len(), 3);
    }
}
