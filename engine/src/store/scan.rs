//! Reading segments from the start, and finding records again behind bytes that are none.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, File};
use super::queue_record;
use super::record::{self, Bad, HEAD, Kind, Raw};
use super::report::Damage;
use super::segment::{BadHeader, HEADER, Header, number_of};
use super::types::{OpenError, SegmentNo};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// What a file is called that a repair put aside.
pub(super) const PUT_ASIDE: &str = ".damaged";

/// A segment's file as it was found.
#[derive(Clone)]
pub(super) struct Found {
    pub number: SegmentNo,
    pub name: String,
    pub file: Arc<dyn File>,
    pub file_size: u64,
    pub header: Result<Header, BadHeader>,
}

/// All files of a store.
pub(super) struct Listing {
    /// Segments by number.
    pub segments: Vec<Found>,
    /// Files that do not belong there.
    pub foreign: Vec<Damage>,
    /// Files that do not count: a repair put them aside or did not finish them.
    pub ignored: Vec<String>,
}

/// An error of the system, with what was tried.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let what = what.into();
    move |error| OpenError::Io { what, error }
}

/// Lists the files of a store and opens its segments.
pub(super) fn list(disk: &dyn Disk) -> Result<Listing, OpenError> {
    let mut listing = Listing { segments: Vec::new(), foreign: Vec::new(), ignored: Vec::new() };
    for name in disk.list().map_err(failed("cannot list the store's directory"))? {
        let Some(number) = number_of(&name) else {
            if name.starts_with('.') || name.ends_with(PUT_ASIDE) {
                listing.ignored.push(name);
            } else {
                let what = "this file does not belong into a store's directory".into();
                listing.foreign.push(Damage { file: name, offset: 0, what });
            }
            continue;
        };
        let cannot = || format!("cannot read {name}");
        let file = disk.open(&name).map_err(failed(cannot()))?;
        let file_size = file.size().map_err(failed(cannot()))?;
        let mut header = Header::read(&*file).map_err(failed(cannot()))?;
        if let Err(BadHeader::Newer(found)) = header {
            return Err(OpenError::Newer { file: name, found });
        }
        if header.is_ok_and(|header| header.number != number) {
            header = Err(BadHeader::Wrong);
        }
        listing.segments.push(Found { number, name, file, file_size, header });
    }
    listing.segments.sort_by_key(|found| found.number);
    listing.foreign.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(listing)
}

/// Takes out of the list what the log says is superfluous, if that stands before a gap: a loss of power may keep some of
/// the files that were deleted together, and not those between them.
pub(super) fn take_superfluous(listing: &mut Listing, salt: u32) -> io::Result<Vec<Found>> {
    let segments = &listing.segments;
    if segments.windows(2).all(|pair| pair[1].number == pair[0].number + 1) {
        return Ok(Vec::new());
    }
    let oldest = oldest_needed(segments, salt)?;
    let (superfluous, needed) = segments.iter().cloned().partition(|found| found.number < oldest);
    listing.segments = needed;
    Ok(superfluous)
}

/// Reads the records of a segment one after another.
pub(super) struct SegmentReader {
    file: Arc<dyn File>,
    salt: u32,
    size: u64,
    bytes: Vec<u8>,
    /// Where `bytes` begins in the file.
    start: u64,
    at: usize,
}

impl SegmentReader {
    /// A reader that begins at an offset.
    pub fn new(found: &Found, salt: u32, offset: u64) -> Self {
        Self { file: found.file.clone(), salt, size: found.file_size, bytes: Vec::new(), start: offset, at: 0 }
    }

    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// The next record and its offset, or why there is none. Then the reader stays where it is.
    pub fn next(&mut self) -> io::Result<Result<(u64, Raw<'_>), Bad>> {
        let mut needed = HEAD;
        loop {
            match record::read(&self.bytes[self.at..], self.salt) {
                Ok(_) => break,
                Err(Bad::Short(size)) if self.offset() + size as u64 <= self.size => {
                    if size <= needed && self.bytes.len() - self.at >= size {
                        return Ok(Err(Bad::Wrong));
                    }
                    needed = size;
                    self.fill(needed)?;
                }
                Err(Bad::Short(HEAD)) => {
                    // Fewer bytes than a head are left.
                    self.fill(self.size.saturating_sub(self.offset()) as usize)?;
                    let is_end = self.bytes[self.at..].iter().all(|&byte| byte == 0);
                    return Ok(Err(if is_end { Bad::End } else { Bad::Wrong }));
                }
                Err(Bad::Short(_)) => return Ok(Err(Bad::Wrong)),
                Err(bad) => return Ok(Err(bad)),
            }
        }
        let offset = self.offset();
        let at = self.at;
        // Its crc is computed twice only in the rare case that it crossed the end of a piece.
        match record::read(&self.bytes[at..], self.salt) {
            Ok(raw) => {
                self.at += raw.len();
                Ok(Ok((offset, raw)))
            }
            Err(bad) => Ok(Err(bad)),
        }
    }

    /// Goes on at an offset.
    pub fn seek(&mut self, offset: u64) {
        let end = self.start + self.bytes.len() as u64;
        if (self.start..=end).contains(&offset) {
            self.at = (offset - self.start) as usize;
        } else {
            (self.start, self.at) = (offset, 0);
            self.bytes.clear();
        }
    }

    /// Makes sure that so many bytes are there, if the file has them.
    fn fill(&mut self, needed: usize) -> io::Result<()> {
        self.bytes.drain(..self.at.min(self.bytes.len()));
        self.start += self.at as u64;
        self.at = 0;
        let have = self.bytes.len();
        let left = self.size.saturating_sub(self.start);
        let want = left.min(needed.max(PIECE) as u64) as usize;
        if want > have {
            self.bytes.resize(want, 0);
            self.file.read_at(&mut self.bytes[have..], self.start + have as u64)?;
        }
        Ok(())
    }

    /// Looks for the next record behind an offset at which there is none, and goes on there. `None`: there are no more.
    ///
    /// Every offset is tried. That the payload makes sense is looked at first, as that is cheap, then the crc. With
    /// `marks_only` only records of syncs count: they are short, so whatever somebody published takes no long time.
    pub fn resync(&mut self, after: u64, marks_only: bool) -> io::Result<Option<u64>> {
        self.seek(after);
        loop {
            self.at += 1;
            if self.offset() + HEAD as u64 >= self.size {
                return Ok(None);
            }
            if self.bytes.len() < self.at + HEAD {
                self.fill(HEAD)?;
                if self.bytes.len() < HEAD {
                    return Ok(None);
                }
            }
            // The last byte of a head is the kind, which is never 0: zeros are passed over at once.
            let kinds = &self.bytes[self.at + HEAD - 1..];
            let Some(zeros) = kinds.iter().position(|&byte| byte != 0) else {
                self.at = self.bytes.len() - HEAD;
                continue;
            };
            self.at += zeros;
            let head = &self.bytes[self.at..self.at + HEAD];
            let Some(kind) = Kind::from_byte(head[8]) else { continue };
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let is_mark = kind == Kind::Synced && HEAD + length <= record::MARK_MAX;
            if length == 0 || (marks_only && !is_mark) || self.offset() + (HEAD + length) as u64 > self.size {
                continue;
            }
            if self.bytes.len() < self.at + HEAD + length {
                self.fill(HEAD + length)?;
            }
            let Some(payload) = self.bytes.get(self.at + HEAD..self.at + HEAD + length) else { continue };
            if makes_sense(kind, payload) && record::read(&self.bytes[self.at..], self.salt).is_ok() {
                return Ok(Some(self.offset()));
            }
        }
    }
}

/// Whether a payload can be one of that kind.
fn makes_sense(kind: Kind, payload: &[u8]) -> bool {
    match kind {
        Kind::Message => record::read_message(payload).is_ok(),
        Kind::Entries => queue_record::read_entries(payload).is_ok(),
        Kind::Changes => {
            queue_record::read_changes(payload).is_ok_and(|(_, mut changes)| changes.all(|change| change.is_ok()))
        }
        Kind::Session => super::session_record::read_session(payload).is_ok(),
        Kind::Ended => record::read_ended(payload).is_ok(),
        Kind::Unretained => record::read_unretained(payload).is_ok(),
        Kind::Metadata => record::read_metadata(payload).all(|change| change.is_ok()),
        Kind::Synced => record::read_synced(payload).is_ok(),
        Kind::Started => record::read_started(payload).is_ok(),
        Kind::Oldest => record::read_oldest(payload).is_ok(),
        Kind::Lost => payload.iter().all(|&byte| byte == 0),
    }
}

/// Where the segment before a segment ends, which is what its first record says. `None`: it has no first record.
pub(super) fn previous_end(found: &Found, salt: u32) -> io::Result<Option<u64>> {
    let mut reader = SegmentReader::new(found, salt, HEADER);
    Ok(match reader.next()? {
        Ok((_, raw)) if raw.kind == Kind::Started => record::read_started(raw.payload).ok().map(|(end, _)| end),
        _ => None,
    })
}

/// The oldest segment that the store needs, as far as its sound records tell; 1 where none does.
pub(super) fn oldest_needed(segments: &[Found], salt: u32) -> io::Result<SegmentNo> {
    let mut oldest = 1;
    for found in segments {
        let mut reader = SegmentReader::new(found, salt, HEADER);
        while let Ok((_, raw)) = reader.next()? {
            oldest = oldest.max(told_oldest(raw));
        }
    }
    Ok(oldest)
}

/// What a record tells of the oldest segment that the store needs; 1: nothing.
pub(super) fn told_oldest(raw: Raw<'_>) -> SegmentNo {
    match raw.kind {
        Kind::Started => record::read_started(raw.payload).map_or(1, |(_, oldest)| oldest),
        Kind::Oldest => record::read_oldest(raw.payload).unwrap_or(1),
        _ => 1,
    }
}

/// Whether a file has anything but zeros from an offset on, and how many bytes that are up to the last that is none.
pub(super) fn used_bytes(found: &Found, offset: u64) -> io::Result<u64> {
    let mut used = 0;
    let mut bytes = vec![0; PIECE];
    let mut at = offset;
    while at < found.file_size {
        let size = (found.file_size - at).min(PIECE as u64) as usize;
        found.file.read_at(&mut bytes[..size], at)?;
        if let Some(last) = bytes[..size].iter().rposition(|&byte| byte != 0) {
            used = at + last as u64 + 1 - offset;
        }
        at += size as u64;
    }
    Ok(used)
}

/// Whether any record behind a position says that more than what is before it was synced.
pub(super) fn is_synced_beyond(segments: &[Found], salt: u32, position: (SegmentNo, u64)) -> io::Result<bool> {
    for found in segments.iter().filter(|found| found.number >= position.0) {
        let from = if found.number == position.0 { position.1.max(HEADER) } else { HEADER };
        let mut reader = SegmentReader::new(found, salt, from);
        let mut at = from;
        while let Some(found) = reader.resync(at, true)? {
            at = found;
            if let Ok((_, raw)) = reader.next()?
                && record::read_synced(raw.payload).is_ok_and(|synced| synced > position)
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
