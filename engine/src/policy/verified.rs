//! Passwords that were right a while ago, so that a crowd of clients that comes back does not pay for argon2id again.
//!
//! What is kept is a keyed hash over credential and password; the key is random and never leaves the process. A line of
//! the file that changes is another credential, so nothing has to be taken out.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest, Sha512};

use super::Credential;

type Print = [u8; 32];

#[derive(Debug, Default)]
struct Kept {
    prints: HashSet<Print, ahash::RandomState>,
    order: VecDeque<Print>,
}

/// The right ones, the oldest first to be forgotten.
#[derive(Debug)]
pub struct Verified {
    key: [u8; 64],
    kept: Mutex<Kept>,
}

impl Verified {
    /// An empty memory. `Err`: the system gives no random numbers.
    pub fn new() -> std::io::Result<Self> {
        let mut key = [0; 64];
        getrandom::fill(&mut key).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self { key, kept: Mutex::default() })
    }

    /// Whether this password was right for this credential before.
    pub fn contains(&self, credential: &Credential, password: &[u8]) -> bool {
        let print = self.print(credential, password);
        self.kept.lock().prints.contains(&print)
    }

    /// Remembers a right password, at most `limit` of them.
    pub fn remember(&self, credential: &Credential, password: &[u8], limit: usize) {
        let print = self.print(credential, password);
        let mut kept = self.kept.lock();
        if limit > 0 && kept.prints.insert(print) {
            kept.order.push_back(print);
        }
        while kept.order.len() > limit {
            if let Some(oldest) = kept.order.pop_front() {
                kept.prints.remove(&oldest);
            }
        }
    }

    /// SHA-512 cut to half of its length cannot be extended, so a key in front makes it a keyed hash.
    fn print(&self, credential: &Credential, password: &[u8]) -> Print {
        let fingerprint = credential.fingerprint();
        let digest = Sha512::new()
            .chain_update(self.key)
            .chain_update((fingerprint.len() as u64).to_be_bytes())
            .chain_update(fingerprint)
            .chain_update(password)
            .finalize();
        let mut print = Print::default();
        print.copy_from_slice(&digest[..32]);
        print
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_password_of_the_same_credential_is_known() {
        let verified = Verified::new().unwrap();
        let one = Credential::Argon2("one".into());
        verified.remember(&one, b"secret", 10);
        assert!(verified.contains(&one, b"secret"));
        assert!(!verified.contains(&one, b"Secret"));
        assert!(!verified.contains(&Credential::Argon2("ones".into()), b"ecret"));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let verified = Verified::new().unwrap();
        let one = Credential::Argon2("one".into());
        for password in [b"a", b"b", b"c"] {
            verified.remember(&one, password, 2);
        }
        assert_eq!([b"a", b"b", b"c"].map(|password| verified.contains(&one, password)), [false, true, true]);
    }
}
