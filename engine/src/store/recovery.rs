//! Opening: the log is read from its start, and what a crash left unfinished at its end is cut off.
//!
//! Where reading ends too early, a record further on that says "everything before here is synced" tells damage, which no
//! crash can cause and a person has to decide about, from the end that a loss of power left.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::disk::Disk;
use super::log::LogSegment;
use super::record::{self, Bad, Kind};
use super::replay::Replay;
use super::report::{Damage, Report};
use super::room::{Spare, segment_size};
use super::scan::{self, Found, Listing, SegmentReader, failed};
use super::segment::{BadHeader, HEADER, Header, Segment, random_salt};
use super::types::{OpenError, Options, Recovered, Recovery, SegmentNo, SyncMode};
use super::{Store, repair};

/// Bytes that are zeroed at once.
const PIECE: usize = 1 << 20;

/// What is wrong with a record that only a bug can have written.
pub(super) const NONSENSE: &str = "this record has a sound checksum and makes no sense";

/// How far the log can be read.
pub(super) struct Walk {
    /// Segments that were read, and where their records end.
    pub read: Vec<(Found, Header, u64)>,
    /// Where reading ended in the last of them, or at the start of a segment that is not among them.
    pub stop: (SegmentNo, u64),
    /// Everything before this position was synced, as the log says.
    synced: (SegmentNo, u64),
    pub records: u64,
    pub bytes: u64,
    /// The oldest segment that is needed.
    pub oldest: SegmentNo,
    /// Why the rest cannot be, if it is certain that something is wrong.
    pub damage: Option<Damage>,
}

impl Store {
    /// Opens a store, which is new if there are no files, and returns it with what is in it.
    ///
    /// A store that was synced up to a place beyond the first bytes that cannot be read is refused as damaged. Without such
    /// a place they are the unfinished end of a crash, and are cut off.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Arc<Self>, Recovered), OpenError> {
        let began = Instant::now();
        let mut listing = scan::list(&*disk)?;
        if !listing.foreign.is_empty() {
            return Err(damaged(&disk, listing.foreign));
        }
        let salt = salt_of(&listing).unwrap_or_else(random_salt);
        let superfluous = scan::take_superfluous(&mut listing, salt).map_err(failed("cannot read the store"))?;
        let mut replay = Replay::new(options.wall_base_ms);
        let walk = walk(&listing.segments, salt, &mut replay).map_err(failed("cannot read the store"))?;
        if let Some(damage) = walk.damage {
            return Err(damaged(&disk, vec![damage]));
        }
        for found in superfluous {
            disk.remove(&found.name).map_err(failed(format!("cannot delete {}", found.name)))?;
        }
        let cut = cut(&*disk, &listing.segments, &walk)?;
        let mut replayed = replay.finish();
        let mut report = Recovery {
            records: walk.records,
            bytes: walk.bytes,
            segments: walk.read.len(),
            messages: replayed.messages(),
            metadata_keys: replayed.metadata_keys(),
            cut,
            missing: replayed.missing,
            took: began.elapsed(),
        };
        let (segments, bytes) = continue_log(&*disk, &options, walk, salt)?;
        let stamps = std::mem::take(&mut replayed.stamps);
        let (mut log, sessions, retained) = replayed.into_log(segments, options.cache_bytes);
        log.begin_behind_what_was_read();
        let size = segment_size(options.segment_bytes, options.max_bytes);
        let spare = Spare::new(&*disk, log.active_ref().segment.number, size);
        let spare = spare.map_err(failed("cannot read the store's reserve"))?;
        let store = Arc::new(Self::new(disk, &options, log, spare, bytes));
        store.begin_log();
        report.took = began.elapsed();
        Ok((store, Recovered { sessions, retained, stamps, report }))
    }

    /// Appends the first records of the active segment.
    fn begin_log(&self) {
        let mut log = self.log.lock();
        if log.offset() > HEADER {
            // It goes on in a segment that has begun.
            return;
        }
        let sealed = log.segments.len().checked_sub(2).map(|index| &log.segments[index]);
        let before = sealed.map(|entry| (entry.segment.number, entry.end));
        log.begin_segment(before.map_or(0, |(_, end)| end));
        if let Some((number, end)) = before {
            // All of it was synced when it was opened.
            log.note(0, number, end);
        }
    }
}

/// The error for a store with damages: all there are, not only the first.
fn damaged(disk: &Arc<dyn Disk>, found: Vec<Damage>) -> OpenError {
    match repair::check(disk, false) {
        Ok(Report { damages, .. }) if !damages.is_empty() => OpenError::Damaged { damages },
        _ => OpenError::Damaged { damages: found },
    }
}

/// The salt of a store, from the first header that can be read.
pub(super) fn salt_of(listing: &Listing) -> Option<u32> {
    listing.segments.iter().find_map(|found| found.header.ok()).map(|header| header.salt)
}

/// Reads the log up to its end, or up to what cannot be read.
pub(super) fn walk(segments: &[Found], salt: u32, replay: &mut Replay) -> io::Result<Walk> {
    let mut walk = walk_segments(segments, salt, replay)?;
    if walk.damage.is_none() && segments.first().is_some_and(|first| first.number > walk.oldest) {
        let file = super::segment::file_name(walk.oldest);
        walk.damage = Some(Damage { file, offset: 0, what: "this segment is missing".into() });
    }
    Ok(walk)
}

fn walk_segments(segments: &[Found], salt: u32, replay: &mut Replay) -> io::Result<Walk> {
    let first = segments.first().map_or(1, |found| found.number);
    let mut walk =
        Walk { read: Vec::new(), stop: (first, 0), synced: (0, 0), records: 0, bytes: 0, oldest: 1, damage: None };
    for (index, found) in segments.iter().enumerate() {
        let rest = &segments[index..];
        let expected = first + index as SegmentNo;
        if found.number != expected {
            walk.damage = missing(rest, salt, expected)?;
            return Ok(walk);
        }
        let header = match found.header {
            Ok(header) => header,
            Err(BadHeader::Zeros) => {
                walk.stop = (found.number, 0);
                walk.damage = judge(rest, salt, &walk, found, "the header of the segment is missing")?;
                return Ok(walk);
            }
            Err(_) => {
                let what = "this is not the header of a segment";
                walk.stop = (found.number, 0);
                // The header is written before everything else, so with no record behind it it was still being written.
                walk.damage = if scan::previous_end(found, salt)?.is_none() {
                    judge(rest, salt, &walk, found, what)?
                } else {
                    Some(Damage { file: found.name.clone(), offset: 0, what: what.into() })
                };
                return Ok(walk);
            }
        };
        let next = segments.get(index + 1).filter(|next| next.number == expected + 1);
        let next = next.filter(|next| next.header.is_ok());
        let end = next.map_or(Ok(None), |next| scan::previous_end(next, salt))?;
        let is_whole = read_segment(found, salt, end, &mut walk, replay)?;
        // One without any record is a spare, or has lost all: it does not go on from there.
        if is_whole || walk.stop.1 > HEADER {
            walk.read.push((found.clone(), header, walk.stop.1));
        }
        if walk.damage.is_some() {
            return Ok(walk);
        }
        if !is_whole {
            let what = "no record can be read here, though more was synced";
            walk.damage = judge(rest, salt, &walk, found, what)?;
            return Ok(walk);
        }
    }
    Ok(walk)
}

/// Whether a record of this kind may be there: each segment begins with one that says so, and has no other.
pub(super) fn is_in_place(kind: Kind, offset: u64) -> bool {
    (offset == HEADER) == (kind == Kind::Started)
}

/// Reads one segment, up to `end` if that is known. False: that was not all of it, or nobody knows.
fn read_segment(found: &Found, salt: u32, end: Option<u64>, walk: &mut Walk, replay: &mut Replay) -> io::Result<bool> {
    let mut reader = SegmentReader::new(found, salt, HEADER);
    walk.stop = (found.number, HEADER);
    while end != Some(reader.offset()) {
        let (offset, raw) = match reader.next()? {
            Ok(record) => record,
            Err(Bad::End | Bad::Short(_) | Bad::Wrong) => return Ok(false),
        };
        if !is_in_place(raw.kind, offset) || replay.apply(raw, found.number, offset).is_err() {
            walk.damage = Some(Damage { file: found.name.clone(), offset, what: NONSENSE.into() });
            return Ok(false);
        }
        if raw.kind == Kind::Synced
            && let Ok(synced) = record::read_synced(raw.payload)
        {
            walk.synced = walk.synced.max(synced);
        }
        walk.records += 1;
        walk.oldest = walk.oldest.max(scan::told_oldest(raw));
        walk.bytes += raw.len() as u64;
        walk.stop.1 = offset + raw.len() as u64;
    }
    Ok(true)
}

/// Damage, if it is certain that what comes at the stop had been synced.
fn judge(rest: &[Found], salt: u32, walk: &Walk, found: &Found, what: &str) -> io::Result<Option<Damage>> {
    let is_damage = scan::is_synced_beyond(rest, salt, walk.stop)?;
    Ok(is_damage.then(|| Damage { file: found.name.clone(), offset: walk.stop.1, what: what.into() }))
}

/// The damage of a segment that is missing before others. Without anything in those they are spares that do not count.
fn missing(rest: &[Found], salt: u32, expected: SegmentNo) -> io::Result<Option<Damage>> {
    for found in rest {
        if scan::previous_end(found, salt)?.is_some() {
            let file = super::segment::file_name(expected);
            return Ok(Some(Damage { file, offset: 0, what: "this segment is missing".into() }));
        }
    }
    Ok(None)
}

/// Cuts off what comes behind the place where reading ended, and says what that was, if it was anything.
fn cut(disk: &dyn Disk, segments: &[Found], walk: &Walk) -> Result<Option<String>, OpenError> {
    let mut parts = Vec::new();
    if let Some((found, _, end)) = walk.read.last() {
        let cannot = || format!("cannot cut {}", found.name);
        let used = scan::used_bytes(found, *end).map_err(failed(cannot()))?;
        if used > 0 {
            zero(found, *end).map_err(failed(cannot()))?;
            parts.push(format!("{used} bytes of {} from {end} on", found.name));
        }
    }
    // From the last on, so that what is left has no gap if this is interrupted.
    for found in segments[walk.read.len()..].iter().rev() {
        let cannot = || format!("cannot delete {}", found.name);
        let used = scan::used_bytes(found, HEADER).map_err(failed(cannot()))?;
        disk.remove(&found.name).map_err(failed(cannot()))?;
        if used > 0 {
            parts.push(format!("{used} bytes of {}, which is deleted", found.name));
        }
    }
    disk.sync_directory().map_err(failed("cannot sync the store's directory"))?;
    Ok(if parts.is_empty() { None } else { Some(parts.join("; ")) })
}

/// Writes zeros over all that is not zero from an offset on.
fn zero(found: &Found, offset: u64) -> io::Result<()> {
    let mut bytes = vec![0; PIECE];
    let zeros = vec![0; PIECE];
    let mut at = offset;
    while at < found.file_size {
        let size = (found.file_size - at).min(PIECE as u64) as usize;
        found.file.read_at(&mut bytes[..size], at)?;
        if bytes[..size].iter().any(|&byte| byte != 0) {
            found.file.write_at(&zeros[..size], at)?;
        }
        at += size as u64;
    }
    found.file.sync()
}

/// Writes again what the log does not say is synced. If a sync failed and then the process ended, the system takes it for
/// synced, and nobody knows any more that it is not.
fn write_again(found: &Found, from: u64, end: u64) -> io::Result<()> {
    let mut bytes = vec![0; PIECE];
    let mut at = from;
    while at < end {
        let size = (end - at).min(PIECE as u64) as usize;
        found.file.read_at(&mut bytes[..size], at)?;
        found.file.write_at(&bytes[..size], at)?;
        at += size as u64;
    }
    Ok(())
}

/// The segments that were read, synced, and a new one behind them; and the bytes of their files.
fn continue_log(
    disk: &dyn Disk,
    options: &Options,
    walk: Walk,
    salt: u32,
) -> Result<(VecDeque<LogSegment>, u64), OpenError> {
    let mut segments = VecDeque::new();
    let mut bytes = 0;
    for (found, header, end) in walk.read {
        let cannot = || format!("cannot sync {}", found.name);
        if options.sync != SyncMode::Never && (found.number, end) > walk.synced {
            let from = if found.number == walk.synced.0 { walk.synced.1 } else { 0 };
            write_again(&found, from, end).map_err(failed(cannot()))?;
        }
        // After the end of a process, what it wrote may still be on its way to the disk.
        found.file.sync().map_err(failed(cannot()))?;
        let segment = Arc::new(Segment::found(&header, found.file, end));
        bytes += segment.size;
        segments.push_back(LogSegment { end, ..LogSegment::new(segment, None) });
    }
    let is_new = segments.is_empty();
    let number = segments.back().map_or(1, |last| last.segment.number + 1);
    let size = segment_size(options.segment_bytes, options.max_bytes);
    let segment = Arc::new(Segment::new(number, size, salt));
    match segment.create_file(disk) {
        Ok(_) => bytes += size,
        Err(error) if is_new => return Err(failed(format!("cannot create {}", segment.name()))(error)),
        // A full disk is no reason not to open what is there. It goes on in what is left of the last segment, and then in
        // the reserve.
        Err(_) => {
            if let Some(last) = segments.back_mut() {
                last.base = Some(0);
            }
            return Ok((segments, bytes));
        }
    }
    segments.push_back(LogSegment::new(segment, Some(0)));
    Ok((segments, bytes))
}
