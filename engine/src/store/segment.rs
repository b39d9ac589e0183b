//! Segments: the files that the log is cut into, their names and their headers.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::disk::{Disk, File};
use super::types::SegmentNo;

/// The format that this version writes, and the highest it reads.
pub const VERSION: u32 = 1;

/// Bytes of the header.
pub(super) const HEADER: u64 = 32;
const HEADER_SIZE: usize = HEADER as usize;
const MAGIC: &[u8; 8] = b"STROGOFF";

/// The name of a segment's file.
pub(super) fn file_name(number: SegmentNo) -> String {
    format!("{number:010}.log")
}

/// The number of the segment that a file holds by its name.
pub(super) fn number_of(name: &str) -> Option<SegmentNo> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A segment of the log.
pub(super) struct Segment {
    pub number: SegmentNo,
    pub size: u64,
    /// What the crcs of its records start from, the same in all segments of a store.
    pub salt: u32,
    /// Its file, once there is room on the disk for it.
    file: OnceLock<Arc<dyn File>>,
    /// Behind the last byte that was written.
    pub written: AtomicU64,
    /// Behind the last byte that was synced.
    pub synced: AtomicU64,
    /// A sync failed: what was written since the last good one has to be written again before the next.
    pub is_doubtful: AtomicBool,
}

impl Segment {
    /// A segment that has no file yet.
    pub fn new(number: SegmentNo, size: u64, salt: u32) -> Self {
        Self {
            number,
            size,
            salt,
            file: OnceLock::new(),
            written: AtomicU64::new(HEADER),
            synced: AtomicU64::new(HEADER),
            is_doubtful: AtomicBool::new(false),
        }
    }

    /// A segment that was found on the disk and whose records end at `end`.
    pub fn found(header: &Header, file: Arc<dyn File>, end: u64) -> Self {
        let segment = Self::new(header.number, header.size, header.salt);
        segment.written.store(end, Ordering::Relaxed);
        segment.synced.store(end, Ordering::Relaxed);
        let _ = segment.file.set(file);
        segment
    }

    /// Its file, if it has one.
    pub fn file(&self) -> Option<&Arc<dyn File>> {
        self.file.get()
    }

    /// Its name.
    pub fn name(&self) -> String {
        file_name(self.number)
    }

    /// Creates its file. Only one thread may try at a time. False: it had one.
    pub fn create_file(&self, disk: &dyn Disk) -> io::Result<bool> {
        if self.file.get().is_some() {
            return Ok(false);
        }
        let name = self.name();
        let file = match disk.create(&name, self.size) {
            // Nobody has begun this segment, so the file is what an earlier failure left behind.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&name)?;
                disk.create(&name, self.size)?
            }
            created => created?,
        };
        if let Err(error) = self.take_file(file) {
            // Best effort: the reason that counts is the one above.
            let _ = disk.remove(&name);
            return Err(error);
        }
        Ok(true)
    }

    /// Takes a file of its size, which nobody has written to, for its own.
    pub fn take_file(&self, file: Arc<dyn File>) -> io::Result<()> {
        let header = Header { number: self.number, size: self.size, salt: self.salt };
        file.write_at(&header.encode(), 0)?;
        let _ = self.file.set(file);
        Ok(())
    }

    /// Whether something in it is not synced.
    pub fn is_dirty(&self) -> bool {
        self.written.load(Ordering::Acquire) > self.synced.load(Ordering::Acquire)
    }
}

/// Whether a file has no header, which is what is written to it first.
pub(super) fn is_unused(file: &dyn File) -> io::Result<bool> {
    Ok(Header::read(file)? == Err(BadHeader::Zeros))
}

/// What the crcs of a new store start from.
pub(super) fn random_salt() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the log works all the same; only guessing a record's crc is easier.
    let _ = getrandom::fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub number: SegmentNo,
    pub size: u64,
    pub salt: u32,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// A later version wrote it.
    Newer(u32),
    /// Nothing was written there.
    Zeros,
    /// It is not one.
    Wrong,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Self, BadHeader> {
        if *bytes == [0; HEADER_SIZE] {
            return Err(BadHeader::Zeros);
        }
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        // All versions have magic, version and crc in these places: a version counts only where the crc bears it out, as a
        // loss of power may leave anything in a header that was being written.
        if bytes[..8] != *MAGIC || crc32fast::hash(&bytes[..28]) != u32_at(28) {
            return Err(BadHeader::Wrong);
        }
        let version = u32_at(8);
        if version > VERSION {
            return Err(BadHeader::Newer(version));
        }
        if version != VERSION {
            return Err(BadHeader::Wrong);
        }
        let size = u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32;
        Ok(Self { number: u32_at(12), size, salt: u32_at(24) })
    }

    /// Reads the header of a file.
    pub fn read(file: &dyn File) -> io::Result<Result<Self, BadHeader>> {
        let size = file.size()?;
        if size < HEADER {
            // A crash came between creating it and giving it a size.
            return Ok(Err(if size == 0 { BadHeader::Zeros } else { BadHeader::Wrong }));
        }
        let mut bytes = [0; HEADER_SIZE];
        file.read_at(&mut bytes, 0)?;
        Ok(Self::decode(&bytes))
    }
}
