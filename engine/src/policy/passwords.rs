//! Password files, compiled: who is known, and whether a password is right.
//!
//! Whether a user is known shows in the time an answer takes. User names are no secret here: whoever may ask the broker
//! for anything learns more from its answers.

use std::collections::HashMap;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordVerifier, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use super::{Remarks, password_file};

/// Rounds of PBKDF2 that a worker may do itself: a few tenths of a millisecond.
const QUICK_ROUNDS_MAX: u32 = 500;

/// What a line of a password file knows of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `$6$`: one SHA-512 over password and salt.
    Sha512 {
        /// Appended to the password.
        salt: Vec<u8>,
        /// 64 bytes.
        hash: Vec<u8>,
    },
    /// `$7$`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        /// Iterations.
        rounds: u32,
        /// Salt.
        salt: Vec<u8>,
        /// 64 bytes.
        hash: Vec<u8>,
    },
    /// `$argon2id$`, as the PHC string that it is written as.
    Argon2(String),
}

impl Credential {
    /// Whether a check takes so long that it must not be done where others wait.
    pub fn is_slow(&self) -> bool {
        match self {
            Self::Sha512 { .. } => false,
            Self::Pbkdf2 { rounds, .. } => *rounds > QUICK_ROUNDS_MAX,
            Self::Argon2(_) => true,
        }
    }

    /// Whether the password is right. Takes the same time whatever is wrong with it.
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha512 { salt, hash } => {
                let found = Sha512::new().chain_update(password).chain_update(salt).finalize();
                found.ct_eq(hash).into()
            }
            Self::Pbkdf2 { rounds, salt, hash } => {
                let mut found = [0; 64];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *rounds, &mut found);
                found.ct_eq(hash).into()
            }
            Self::Argon2(phc) => {
                PasswordHash::new(phc).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
            }
        }
    }

    /// The text behind which nobody can tell two credentials apart.
    pub fn fingerprint(&self) -> Vec<u8> {
        match self {
            Self::Sha512 { salt, hash } => [b"6", &salt[..], hash].concat(),
            Self::Pbkdf2 { rounds, salt, hash } => [b"7", &rounds.to_be_bytes()[..], salt, hash].concat(),
            Self::Argon2(phc) => phc.clone().into_bytes(),
        }
    }
}

/// What a new password costs to check. The defaults are those that OWASP gives for argon2id.
#[derive(Clone, Copy, Debug)]
pub struct HashParameters {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for HashParameters {
    fn default() -> Self {
        Self { memory_kib: 19 * 1_024, passes: 2, lanes: 1 }
    }
}

/// The hash of a new password as a PHC string, argon2id with a random salt. `Err`: a sentence.
pub fn hash_password(password: &[u8], parameters: HashParameters) -> Result<String, String> {
    let HashParameters { memory_kib, passes, lanes } = parameters;
    let params = Params::new(memory_kib, passes, lanes, None).map_err(|error| format!("argon2id: {error}"))?;
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    let mut hash = [0; 32];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password, &salt, &mut hash).map_err(|error| format!("argon2id: {error}"))?;
    let [salt, hash] = [&salt[..], &hash[..]].map(|bytes| STANDARD_NO_PAD.encode(bytes));
    Ok(format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}"))
}

/// The users of a password file. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PasswordTable(Arc<HashMap<Box<str>, Arc<Credential>, ahash::RandomState>>);

impl PasswordTable {
    /// Reads a password file. Lines that cannot be used are skipped and told.
    pub fn parse(text: &[u8]) -> (Self, Vec<String>) {
        let mut remarks = Remarks::default();
        let users = password_file::read(text, &mut remarks);
        (Self(Arc::new(users)), remarks.into_sentences())
    }

    /// How many users it has.
    pub fn users(&self) -> usize {
        self.0.len()
    }

    /// What is known of a user's password.
    pub fn credential(&self, username: &str) -> Option<&Arc<Credential>> {
        self.0.get(username)
    }
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()
}
