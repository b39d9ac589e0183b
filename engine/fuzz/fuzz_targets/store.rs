//! A store whose records hold any bytes behind sound checksums, as a bug or an attacker with the disk could leave it: opening
//! never panics and never asks for more memory than there is data; what is damaged can be repaired, and then it opens.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use _engine::store::{Disk, File, OpenError, Options, Store, SyncMode, check};
use libfuzzer_sys::fuzz_target;

const SALT: u32 = 7;
const SEGMENT: usize = 64 * 1024;
const STARTED: u8 = 9;

/// Files in memory.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Arc<Content>>>);

struct Content(Mutex<Vec<u8>>);

impl Memory {
    fn find(&self, name: &str) -> io::Result<Arc<Content>> {
        self.0.lock().unwrap().get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn put(&self, name: &str, bytes: Vec<u8>) -> Arc<Content> {
        let content = Arc::new(Content(Mutex::new(bytes)));
        self.0.lock().unwrap().insert(name.into(), content.clone());
        content
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn File>> {
        if self.find(name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(self.put(name, vec![0; size as usize]))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.find(name)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.into(), content);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl File for Content {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.lock().unwrap();
        let place = content.get_mut(offset as usize..offset as usize + bytes.len());
        place.ok_or(io::ErrorKind::FileTooLarge)?.copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.0.lock().unwrap();
        let place = content.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(place.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }
}

fn header(number: u32, size: usize) -> Vec<u8> {
    let mut bytes = b"STROGOFF".to_vec();
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend((size as u64).to_le_bytes());
    bytes.extend(SALT.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn put_record(bytes: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let mut rest = (payload.len() as u32).to_le_bytes().to_vec();
    rest.push(kind);
    rest.extend(payload);
    let mut hasher = crc32fast::Hasher::new_with_initial(SALT);
    hasher.update(&rest);
    bytes.extend(hasher.finalize().to_le_bytes());
    bytes.extend(rest);
}

/// Segments with records: the input is kinds, lengths and payloads; kind 0 goes on in another segment.
fn segments(mut input: &[u8]) -> Vec<Vec<u8>> {
    let begin = |number: u32, previous_end: u8| {
        let mut bytes = header(number, SEGMENT);
        put_record(&mut bytes, STARTED, &[previous_end, 1]);
        bytes
    };
    let mut segments = vec![begin(1, 0)];
    while let [kind, length, rest @ ..] = input {
        let (payload, others) = rest.split_at(usize::from(*length).min(rest.len()));
        input = others;
        let number = segments.len() as u32 + 1;
        let last = segments.last_mut().unwrap();
        if *kind == 0 && number < 4 && last.len() < 128 {
            let end = last.len() as u8;
            segments.push(begin(number, end));
        } else if last.len() + payload.len() + 16 < SEGMENT {
            put_record(last, kind % 12, payload);
        }
    }
    segments
}

fn open(disk: &Arc<Memory>) -> Result<(), OpenError> {
    let options = Options {
        segment_bytes: SEGMENT as u64,
        max_bytes: 0,
        sync: SyncMode::Never,
        sync_interval_ms: 1_000,
        cache_bytes: 0,
        wall_base_ms: 1_700_000_000_000,
    };
    let (store, recovered) = Store::open(disk.clone(), options)?;
    for session in &recovered.sessions {
        for entry in &session.waiting {
            // It may be missing or damaged; reading says so.
            let _ = store.load(entry.place.slot);
        }
    }
    let _ = store.scan_metadata(b"", None, 1_000);
    store.stop();
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let disk = Arc::new(Memory::default());
    for (index, mut bytes) in segments(input).into_iter().enumerate() {
        bytes.resize(SEGMENT, 0);
        disk.put(&format!("{:010}.log", index + 1), bytes);
    }
    if open(&disk).is_err() {
        let shared: Arc<dyn Disk> = disk.clone();
        let report = check(&shared, true).expect("a disk that does not fail can be checked");
        assert!(!report.damages.is_empty(), "a store that does not open has something wrong");
        open(&disk).expect("a store that was repaired opens");
    }
});
