//! Any bytes as a password file: it is read without a panic, and what it asks of one check stays bounded.
#![no_main]

use _engine as engine;
use engine::policy::PasswordTable;
use libfuzzer_sys::fuzz_target;

const REMARKS_MAX: usize = 21;

fuzz_target!(|input: &[u8]| {
    let (table, remarks) = PasswordTable::parse(input);
    assert!(remarks.len() <= REMARKS_MAX);
    for line in input.split(|byte| *byte == b'\n') {
        let Some(name) = line.split(|byte| *byte == b':').next().and_then(|name| std::str::from_utf8(name).ok()) else {
            continue;
        };
        // A slow hash is slow on purpose; its limits have tests of their own.
        if let Some(credential) = table.credential(name).filter(|credential| !credential.is_slow()) {
            credential.verify(b"guess");
            assert!(!credential.fingerprint().is_empty());
        }
    }
});
