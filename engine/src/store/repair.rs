//! Checking a store that nobody has open, and repairing it: what can be read is kept, what cannot is put aside.
//!
//! A repair puts records that say "lost" where there are bytes that are none, so everything sound stays at its place.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::disk::Disk;
use super::record;
use super::recovery::{NONSENSE, Walk, is_in_place, salt_of, walk};
use super::replay::Replay;
use super::report::{Damage, Report};
use super::scan::{self, Found, PUT_ASIDE, SegmentReader, failed};
use super::segment::{HEADER, Header, file_name};
use super::types::{OpenError, SegmentNo};
use crate::routing::RetainedTrie;

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// A part of a segment that holds no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    start: u64,
    end: u64,
}

impl Gap {
    /// Whether there may be no room in it for the first record of a segment and another.
    fn is_small(self) -> bool {
        self.end - self.start < (record::MARK_MAX + record::HEAD) as u64
    }
}

/// Makes one of the last two gaps where nothing lies between them.
fn join_adjacent(gaps: &mut Vec<Gap>) {
    if let [.., before, last] = gaps[..]
        && before.end == last.start
    {
        gaps.truncate(gaps.len() - 2);
        gaps.push(Gap { start: before.start, end: last.end });
    }
}

/// What is wrong with one segment.
struct Wound {
    number: SegmentNo,
    /// Its file, if there is one.
    found: Option<Found>,
    size: u64,
    gaps: Vec<Gap>,
    is_header_bad: bool,
    /// Where the segment before ends.
    previous_end: u64,
}

/// Scans a store that nobody has open, and lists all damages. With `repair` it then makes the store one that can be opened:
/// damaged files get `.damaged` behind their names, and sound copies of what they held take their place.
pub fn check(disk: &Arc<dyn Disk>, repair: bool) -> Result<Report, OpenError> {
    let disk = &**disk;
    let mut listing = scan::list(disk)?;
    let salt = salt_of(&listing).unwrap_or_default();
    let read_error = || failed("cannot read the store");
    scan::take_superfluous(&mut listing, salt).map_err(read_error())?;
    let mut report = Report { segments: listing.segments.len(), ..Report::default() };
    report.damages.clone_from(&listing.foreign);
    let mut replay = Replay::new(0);
    let seen = walk(&listing.segments, salt, &mut replay).map_err(read_error())?;
    (report.records, report.bytes) = (seen.records, seen.bytes);
    let mut wounds = Vec::new();
    if seen.damage.is_some() {
        wounds = examine(&listing.segments, salt, &mut report).map_err(read_error())?;
    } else {
        report.cut = describe_cut(&listing.segments, &seen).map_err(read_error())?;
        let replayed = replay.finish();
        report.missing = replayed.missing;
        report.file_bytes = listing.segments.iter().map(|found| found.file_size).sum();
        report.live_bytes = replayed.live_bytes();
        report.sessions = replayed.sessions.len();
        report.messages = replayed.messages();
        report.retained = replayed.retained.values().map(RetainedTrie::len).sum();
        report.metadata_keys = replayed.metadata_keys();
    }
    if repair {
        for wound in &wounds {
            heal(disk, wound, salt, &mut report)?;
        }
        for foreign in &listing.foreign {
            put_aside(disk, &foreign.file, &mut report)?;
        }
        disk.sync_directory().map_err(failed("cannot sync the store's directory"))?;
    }
    Ok(report)
}

/// What an opening would cut off.
fn describe_cut(segments: &[Found], seen: &Walk) -> io::Result<Option<String>> {
    let mut used = seen.read.last().map_or(Ok(0), |(found, _, end)| scan::used_bytes(found, *end))?;
    for found in &segments[seen.read.len()..] {
        used += scan::used_bytes(found, HEADER)?;
    }
    Ok((used > 0).then(|| format!("{used} bytes from {} at byte {} on", file_name(seen.stop.0), seen.stop.1)))
}

/// Goes through all segments and notes everything that is wrong.
fn examine(segments: &[Found], salt: u32, report: &mut Report) -> io::Result<Vec<Wound>> {
    (report.records, report.bytes) = (0, 0);
    let mut wounds = Vec::new();
    let mut ends = BTreeMap::new();
    let mut replay = Replay::new(0);
    let first = segments.first().map_or(1, |found| found.number);
    let mut expected = scan::oldest_needed(segments, salt)?.min(first);
    let size_usual = segments.iter().map(|found| found.file_size).max().unwrap_or_default();
    for (index, found) in segments.iter().enumerate() {
        let end = scan::previous_end(found, salt)?;
        while expected < found.number && (end.is_some() || index == 0) {
            report.damages.push(Damage {
                file: file_name(expected),
                offset: 0,
                what: "this segment is missing".into(),
            });
            let size = size_usual;
            let (gaps, previous_end) = (Vec::new(), 0);
            wounds.push(Wound { number: expected, found: None, size, gaps, is_header_bad: true, previous_end });
            expected += 1;
        }
        expected = found.number + 1;
        let next = segments.get(index + 1).map_or(Ok(None), |next| scan::previous_end(next, salt))?;
        let next = next.filter(|_| segments[index + 1].number == expected);
        let (wound, end) = examine_segment(found, salt, next, &mut replay, report)?;
        wounds.extend(wound);
        ends.insert(found.number, end);
    }
    fit_missing(&mut wounds, segments, salt)?;
    for wound in &mut wounds {
        wound.previous_end = ends.get(&(wound.number.wrapping_sub(1))).copied().unwrap_or(0);
        if wound.found.is_none() {
            ends.insert(wound.number, wound.gaps[0].end);
        }
    }
    Ok(wounds)
}

/// Makes segments that are missing as long as the segment behind them says they were.
fn fit_missing(wounds: &mut [Wound], segments: &[Found], salt: u32) -> io::Result<()> {
    for wound in wounds.iter_mut().filter(|wound| wound.found.is_none()) {
        let next = segments.iter().find(|found| found.number == wound.number + 1);
        let end = next.map_or(Ok(None), |next| scan::previous_end(next, salt))?;
        wound.size = wound.size.max(end.unwrap_or(0));
        wound.gaps = vec![Gap { start: HEADER, end: end.unwrap_or(2 * HEADER) }];
    }
    Ok(())
}

/// Notes everything that is wrong in a segment which ends at `end`, as far as that is known, and says where it ends.
fn examine_segment(
    found: &Found,
    salt: u32,
    end: Option<u64>,
    replay: &mut Replay,
    report: &mut Report,
) -> io::Result<(Option<Wound>, u64)> {
    let is_header_bad = found.header.is_err();
    if is_header_bad {
        let what = "the header of the segment cannot be read".into();
        report.damages.push(Damage { file: found.name.clone(), offset: 0, what });
    }
    let mut gaps: Vec<Gap> = Vec::new();
    let mut reader = SegmentReader::new(found, salt, HEADER);
    let mut last = HEADER;
    while end != Some(reader.offset()) {
        if let Ok((offset, raw)) = reader.next()? {
            let size = raw.len() as u64;
            // What takes the place of the first record has to fit.
            let is_needed = gaps.last().is_some_and(|gap| gap.start == HEADER && gap.end == offset && gap.is_small());
            if !is_needed && is_in_place(raw.kind, offset) && replay.apply(raw, found.number, offset).is_ok() {
                report.records += 1;
                report.bytes += size;
            } else {
                report.damages.push(Damage { file: found.name.clone(), offset, what: NONSENSE.into() });
                gaps.push(Gap { start: offset, end: offset + size });
                join_adjacent(&mut gaps);
            }
            continue;
        }
        let start = reader.offset();
        let next = reader.resync(start, false)?.or(end.filter(|&end| end > start));
        last = start;
        let Some(next) = next else { break };
        let is_beyond = end.is_some_and(|end| next >= end);
        let next = if is_beyond { end.unwrap_or(next) } else { next };
        let what = format!("{} bytes cannot be read", next - start);
        report.damages.push(Damage { file: found.name.clone(), offset: start, what });
        gaps.push(Gap { start, end: next });
        join_adjacent(&mut gaps);
        if is_beyond {
            break;
        }
    }
    let end = end.unwrap_or(last);
    if gaps.is_empty() && !is_header_bad {
        return Ok((None, end));
    }
    let (number, size) = (found.number, found.file_size);
    let wound = Wound { number, found: Some(found.clone()), size, gaps, is_header_bad, previous_end: 0 };
    Ok((Some(wound), end))
}

/// Puts a sound segment in the place of a wounded one.
fn heal(disk: &dyn Disk, wound: &Wound, salt: u32, report: &mut Report) -> Result<(), OpenError> {
    let name = file_name(wound.number);
    let new_name = format!(".{name}");
    // What an interrupted repair left.
    let _ = disk.remove(&new_name);
    write_healed(disk, &new_name, wound, salt).map_err(failed(format!("cannot write {new_name}")))?;
    if wound.found.is_some() {
        put_aside(disk, &name, report)?;
    }
    disk.rename(&new_name, &name).map_err(failed(format!("cannot rename {new_name}")))
}

fn put_aside(disk: &dyn Disk, name: &str, report: &mut Report) -> Result<(), OpenError> {
    let aside = format!("{name}{PUT_ASIDE}");
    disk.rename(name, &aside).map_err(failed(format!("cannot rename {name}")))?;
    report.put_aside.push(aside);
    Ok(())
}

fn write_healed(disk: &dyn Disk, new_name: &str, wound: &Wound, salt: u32) -> io::Result<()> {
    // A file that was cut short gets its size again.
    let size = wound.gaps.iter().map(|gap| gap.end).fold(wound.size.max(2 * HEADER), u64::max);
    let new = disk.create(new_name, size)?;
    if let Some(found) = &wound.found {
        let mut bytes = vec![0; PIECE];
        let mut at = 0;
        while at < found.file_size {
            let size = (found.file_size - at).min(PIECE as u64) as usize;
            found.file.read_at(&mut bytes[..size], at)?;
            new.write_at(&bytes[..size], at)?;
            at += size as u64;
        }
    }
    if wound.is_header_bad {
        new.write_at(&Header { number: wound.number, size, salt }.encode(), 0)?;
    }
    for gap in &wound.gaps {
        new.write_at(&filling(*gap, wound, salt), gap.start)?;
    }
    new.sync()
}

/// Records for a gap. One at the start of a segment begins with the record that stands there in every segment.
fn filling(gap: Gap, wound: &Wound, salt: u32) -> Vec<u8> {
    let size = (gap.end - gap.start) as usize;
    let mut bytes = Vec::new();
    if gap.start == HEADER {
        record::put_started(&mut bytes, wound.previous_end, wound.number, salt);
    }
    let left = size.saturating_sub(bytes.len());
    if left >= record::HEAD {
        bytes.extend_from_slice(&record::lost(left, salt));
    }
    bytes
}
