//! Who decides about clients: nobody, Python, the compiled rules.

use std::sync::atomic::{AtomicU32, Ordering};

/// Who decides about one thing that clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Decider {
    /// Whoever decides for the node.
    #[default]
    Inherit,
    /// Nobody: it is allowed.
    Open,
    /// Python.
    Hook,
    /// The compiled rules.
    Policy,
    /// Nobody: it is refused.
    Closed,
}

impl Decider {
    /// The words by which Python names them.
    pub const WORDS: [&'static str; 5] = ["inherit", "open", "hook", "policy", "closed"];
    const ALL: [Self; 5] = [Self::Inherit, Self::Open, Self::Hook, Self::Policy, Self::Closed];

    /// The decider of a word.
    pub fn named(word: &str) -> Option<Self> {
        Self::WORDS.iter().position(|known| *known == word).map(|position| Self::ALL[position])
    }
}

/// What is decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// CONNECT.
    Register,
    /// PUBLISH and wills.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
}

const BITS: u32 = 8;

/// The deciders of a node or of a listener. Changes act at once on all connections that share the cell.
#[derive(Debug, Default)]
pub struct AccessCell(AtomicU32);

impl AccessCell {
    /// Says who decides about connecting, publishing and subscribing.
    pub fn set(&self, deciders: [Decider; 3]) {
        let packed = deciders.iter().rev().fold(0, |packed, decider| packed << BITS | *decider as u32);
        self.0.store(packed, Ordering::Relaxed);
    }

    /// Who decides about something.
    #[inline]
    pub fn get(&self, subject: Subject) -> Decider {
        let place = self.0.load(Ordering::Relaxed) >> (subject as u32 * BITS) & 0xFF;
        Decider::ALL.get(place as usize).copied().unwrap_or(Decider::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_its_own_decider() {
        let cell = AccessCell::default();
        assert_eq!(cell.get(Subject::Publish), Decider::Inherit);
        cell.set([Decider::Closed, Decider::Policy, Decider::Hook]);
        let found = [Subject::Register, Subject::Publish, Subject::Subscribe].map(|subject| cell.get(subject));
        assert_eq!(found, [Decider::Closed, Decider::Policy, Decider::Hook]);
    }

    #[test]
    fn deciders_are_found_by_their_words() {
        for word in Decider::WORDS {
            assert_eq!(Decider::WORDS[Decider::named(word).unwrap() as usize], word);
        }
        assert_eq!(Decider::named("perhaps"), None);
    }
}
