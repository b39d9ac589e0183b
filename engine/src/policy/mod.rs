//! What clients may do, decided without Python: compiled access lists and password tables.
//!
//! Everything here is pure: texts in, decisions out. Who is asked at all is said by [`access`]; a slow password check is
//! run elsewhere ([`crate::net`]).

mod access;
mod access_file;
mod access_list;
mod decisions;
mod password_file;
mod passwords;
mod rules;
mod verified;

pub use access::{AccessCell, Decider, Subject};
pub use access_list::AccessList;
pub use decisions::Decisions;
pub use passwords::{Credential, HashParameters, PasswordTable, hash_password};
pub use rules::Asker;
pub use verified::Verified;

use crate::hooks::Identity;

/// Lines of a file that were skipped, told one by one up to a limit.
#[derive(Debug, Default)]
pub struct Remarks {
    told: Vec<String>,
    more: usize,
}

/// Remarks on one file that are told; the rest is counted.
const REMARKS_MAX: usize = 20;

impl Remarks {
    fn add(&mut self, line: usize, text: &str) {
        if self.told.len() < REMARKS_MAX {
            self.told.push(format!("line {line}: {text}"));
        } else {
            self.more += 1;
        }
    }

    /// The sentences, the last of which counts what is not told.
    pub fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.told.push(format!("and {} more", self.more));
        }
        self.told
    }
}

/// The rules in force on a node.
#[derive(Debug, Default)]
pub struct Policy {
    /// What may be published and subscribed; without one, nothing.
    pub access_list: Option<AccessList>,
    /// Who may connect; without one, nobody.
    pub passwords: Option<PasswordTable>,
}

impl Policy {
    /// Whether a client may publish to a topic.
    pub fn may_publish(&self, who: &Identity, topic: &str) -> bool {
        self.access_list.as_ref().is_some_and(|list| list.may_publish(who, topic))
    }

    /// Whether a client may subscribe to a filter, shared or not.
    pub fn may_subscribe(&self, who: &Identity, filter: &str) -> bool {
        self.access_list.as_ref().is_some_and(|list| list.may_subscribe(who, filter))
    }
}

#[cfg(test)]
mod tests;
