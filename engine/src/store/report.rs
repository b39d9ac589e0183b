//! What is wrong with a store, in words for the person who has to decide how to go on.

use std::fmt::{self, Write};

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Name of the file in the store's directory.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.what)
    }
}

/// What a check found, and what a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments looked at.
    pub segments: usize,
    /// Sound records.
    pub records: u64,
    /// Bytes of sound records.
    pub bytes: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Bytes of messages and metadata that are needed.
    pub live_bytes: u64,
    /// Sessions.
    pub sessions: usize,
    /// Messages that are needed.
    pub messages: usize,
    /// Retained messages.
    pub retained: usize,
    /// Keys of metadata.
    pub metadata_keys: usize,
    /// Entries of queues whose message a repair could not keep. They are passed over.
    pub missing: u64,
    /// Everything that is wrong.
    pub damages: Vec<Damage>,
    /// What an opening would cut off as the unfinished end of a crash.
    pub cut: Option<String>,
    /// Files that a repair put aside, by their new names.
    pub put_aside: Vec<String>,
}

/// Damages listed in an error at most; the check lists them all.
const LISTED_MAX: usize = 8;

/// The text of an error for damages.
pub(super) fn explain(damages: &[Damage]) -> String {
    let mut text = String::from("the store is damaged: ");
    for (index, damage) in damages.iter().take(LISTED_MAX).enumerate() {
        let separator = if index > 0 { "; " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{damage}");
    }
    if damages.len() > LISTED_MAX {
        let _ = write!(text, "; and {} more", damages.len() - LISTED_MAX);
    }
    text.push_str(
        ". Restore a backup with `strogoff store restore`, or keep what can be read with \
         `strogoff store check --repair DIR`, which puts the damaged files aside",
    );
    text
}
