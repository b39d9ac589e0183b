//! The grammar of password files: VerneMQ's, mosquitto's, and argon2id.
//!
//! One user a line, `NAME:HASH`. `HASH` is `$6$SALT$HASH` (VerneMQ, mosquitto before 2.0), `$7$ROUNDS$SALT$HASH`
//! (mosquitto), or a PHC string `$argon2id$...`. Of two lines with one name the last one holds.

use std::collections::HashMap;
use std::sync::Arc;

use argon2::{Params, PasswordHash};

use super::Remarks;
use super::passwords::{Credential, decode};

/// So much may one check cost: a file must not be able to stop the broker.
const ROUNDS_MAX: u32 = 10_000_000;
const MEMORY_KIB_MAX: u32 = 1_024 * 1_024;
const PASSES_MAX: u32 = 100;
const LANES_MAX: u32 = 16;
const SHA512_BYTES: usize = 64;

/// Reads a file. Never fails: lines that cannot be used are skipped and told, without showing what is secret in them.
pub(super) fn read(text: &[u8], remarks: &mut Remarks) -> HashMap<Box<str>, Arc<Credential>, ahash::RandomState> {
    let mut users = HashMap::default();
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Ok(line) = std::str::from_utf8(line) else {
            remarks.add(index + 1, "not UTF-8, skipped");
            continue;
        };
        let line = line.trim_end_matches(['\r', ' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = line.split_once(':').ok_or("expected NAME:HASH, skipped").and_then(|(name, hash)| {
            if name.is_empty() { Err("a line without a name, skipped") } else { Ok((name, credential(hash)?)) }
        });
        match read {
            Ok((name, credential)) => {
                users.insert(name.into(), Arc::new(credential));
            }
            Err(reason) => remarks.add(index + 1, reason),
        }
    }
    users
}

fn credential(text: &str) -> Result<Credential, &'static str> {
    if let Some(parts) = text.strip_prefix("$6$") {
        let (salt, hash) = parts.split_once('$').ok_or("expected $6$SALT$HASH, skipped")?;
        return Ok(Credential::Sha512 { salt: bytes(salt)?, hash: sha512(hash)? });
    }
    if let Some(parts) = text.strip_prefix("$7$") {
        let mut parts = parts.splitn(3, '$');
        let (Some(rounds), Some(salt), Some(hash)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("expected $7$ROUNDS$SALT$HASH, skipped");
        };
        let rounds = rounds.parse().ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds));
        let rounds = rounds.ok_or("$7$: expected a number of rounds from 1 to 10000000, skipped")?;
        return Ok(Credential::Pbkdf2 { rounds, salt: bytes(salt)?, hash: sha512(hash)? });
    }
    if text.starts_with("$argon2id$") {
        return argon2id(text);
    }
    Err("a hash of an unknown kind (a plain password? vmq-passwd -U hashes them), skipped")
}

fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    decode(text).ok_or("the salt is not base64, skipped")
}

fn sha512(text: &str) -> Result<Vec<u8>, &'static str> {
    decode(text).filter(|hash| hash.len() == SHA512_BYTES).ok_or("the hash is not 64 bytes in base64, skipped")
}

fn argon2id(text: &str) -> Result<Credential, &'static str> {
    let invalid = "not a hash of argon2id, skipped";
    let hash = PasswordHash::new(text).map_err(|_| invalid)?;
    let params = Params::try_from(&hash).map_err(|_| invalid)?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(invalid);
    }
    if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX || params.p_cost() > LANES_MAX {
        return Err("argon2id with more than 1 GiB, 100 passes or 16 lanes, skipped");
    }
    Ok(Credential::Argon2(text.to_owned()))
}
