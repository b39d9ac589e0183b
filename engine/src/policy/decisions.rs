//! What a connection may publish, remembered: most clients publish to few topics, again and again.

use crate::hooks::Identity;

use super::AccessList;

/// Topics that are remembered for one connection.
const REMEMBERED_MAX: usize = 8;
/// Longer topics are judged each time.
const TOPIC_BYTES_MAX: usize = 256;

/// The last decisions of a list about one client. Idle it holds no memory.
#[derive(Debug, Default)]
pub struct Decisions {
    /// The list that decided.
    generation: u64,
    remembered: Vec<(Box<[u8]>, bool)>,
    /// The place that is used next.
    oldest: usize,
}

impl Decisions {
    /// Whether the client may publish to a topic.
    #[inline]
    pub fn may_publish(&mut self, list: &AccessList, who: &Identity, topic: &str) -> bool {
        if self.generation == list.generation()
            && let Some((_, is_allowed)) = self.remembered.iter().find(|(known, _)| **known == *topic.as_bytes())
        {
            return *is_allowed;
        }
        self.decide(list, who, topic)
    }

    #[cold]
    fn decide(&mut self, list: &AccessList, who: &Identity, topic: &str) -> bool {
        if self.generation != list.generation() {
            *self = Self { generation: list.generation(), ..Self::default() };
        }
        let is_allowed = list.may_publish(who, topic);
        if topic.len() <= TOPIC_BYTES_MAX {
            let decision = (topic.as_bytes().into(), is_allowed);
            if self.remembered.len() < REMEMBERED_MAX {
                self.remembered.push(decision);
            } else {
                self.remembered[self.oldest] = decision;
                self.oldest = (self.oldest + 1) % REMEMBERED_MAX;
            }
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            mountpoint: "".into(),
            client_id: "c".into(),
            username: None,
            protocol_version: 4,
            listener: "".into(),
        }
    }

    #[test]
    fn a_new_list_is_asked_anew() {
        let (first, _) = AccessList::parse(b"topic write a", 0);
        let (second, _) = AccessList::parse(b"topic write b", 0);
        let mut decisions = Decisions::default();
        for _ in 0..2 {
            assert!(decisions.may_publish(&first, &identity(), "a"));
            assert!(!decisions.may_publish(&first, &identity(), "b"));
        }
        assert!(!decisions.may_publish(&second, &identity(), "a"));
        assert!(decisions.may_publish(&second, &identity(), "b"));
    }

    #[test]
    fn memory_is_bounded_by_the_last_topics() {
        let (list, _) = AccessList::parse(b"topic write t/+", 0);
        let mut decisions = Decisions::default();
        for round in 0..3 {
            for number in 0..100 {
                assert!(decisions.may_publish(&list, &identity(), &format!("t/{number}")), "{round}");
            }
        }
        assert!(decisions.may_publish(&list, &identity(), &format!("t/{}", "x".repeat(1_000))));
        assert_eq!(decisions.remembered.len(), REMEMBERED_MAX);
    }
}
