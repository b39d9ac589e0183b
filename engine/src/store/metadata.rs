//! Metadata: keys in memory, values in the log.

use std::ops::Bound;
use std::sync::atomic::Ordering;

use super::Store;
use super::bodies::{RecordPlace, damaged};
use super::log::{Log, ValuePlace};
use super::record::{self, HEAD, Kind};
use super::types::{KeyValue, LoadError, Lsn, Refusal};

/// What a value counts beside its key and itself.
const VALUE_OVERHEAD: usize = 16;

/// What a key and its value count in the live bytes of a segment.
pub(super) fn live_bytes(key: &[u8], value_len: usize) -> u32 {
    (key.len() + value_len + VALUE_OVERHEAD) as u32
}

impl Store {
    /// Puts (`Some`) and deletes (`None`) values: all of them or, after a crash, none. Deletes alone are never refused.
    pub fn write_metadata(&self, changes: &[(&[u8], Option<&[u8]>)]) -> Result<Lsn, Refusal> {
        let bound = HEAD + changes.iter().map(|(key, value)| record::metadata_bound(key, *value)).sum::<usize>();
        let mut log = self.log.lock();
        if changes.iter().any(|(_, value)| value.is_some())
            && let Err(refusal) = self.admit(&log, bound)
        {
            drop(log);
            self.counters.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(refusal);
        }
        self.append_metadata(&mut log, changes, bound);
        Ok(log.end())
    }

    /// Appends one record of metadata of up to `bound` bytes.
    pub(super) fn append_metadata(&self, log: &mut Log, changes: &[(&[u8], Option<&[u8]>)], bound: usize) {
        self.make_room(log, bound);
        let start = record::begin(&mut log.buffer, Kind::Metadata);
        let mut value_offsets = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            record::put_metadata(&mut log.buffer, key, *value);
            value_offsets.push(log.buffer.len() - start - HEAD - value.map_or(0, <[u8]>::len));
        }
        let (offset, len) = log.finish(start);
        let offset = offset as u32;
        let segment = log.active_ref().segment.number;
        for ((key, value), value_offset) in changes.iter().zip(value_offsets) {
            log.forget_value(key);
            let Some(value) = value else { continue };
            let (value_offset, value_len) = (value_offset as u32, value.len() as u32);
            let live = live_bytes(key, value.len());
            let place = ValuePlace { segment, offset, len, value_offset, value_len, live };
            log.metadata.insert((*key).into(), place);
            log.active().live += u64::from(live);
        }
        if changes.iter().any(|(_, value)| value.is_some()) {
            log.active().metadata.push(offset);
        }
    }

    /// The value of a key.
    pub fn get_metadata(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LoadError> {
        let found = {
            let mut log = self.log.lock();
            let place = log.metadata.get(key).copied();
            place.and_then(|place| Some((place, log.value_record(&place)?)))
        };
        let Some((place, record)) = found else { return Ok(None) };
        let bytes = self.fetch(&record)?;
        value_of(&bytes, &place).map(Some).ok_or_else(|| damaged(&record))
    }

    /// Up to `limit` keys that begin with `prefix` and come behind `after`, in order, with their values.
    pub fn scan_metadata(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KeyValue>, LoadError> {
        let found: Vec<_> = {
            let mut guard = self.log.lock();
            let log = &mut *guard;
            let start = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                _ => Bound::Included(prefix),
            };
            let keys = log.metadata.range::<[u8], _>((start, Bound::Unbounded));
            let keys = keys.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
            let found: Vec<_> = keys.map(|(key, place)| (key.to_vec(), *place)).collect();
            found.into_iter().filter_map(|(key, place)| Some((key, place, log.value_record(&place)?))).collect()
        };
        // Keys that were written together are in one record, which is read once.
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_unstable_by_key(|&index| (found[index].2.segment.number, found[index].2.offset));
        let mut values = vec![Vec::new(); found.len()];
        let mut bytes = Vec::new();
        let mut read = None;
        for index in order {
            let (_, place, record) = &found[index];
            let here = (record.segment.number, record.offset);
            if read != Some(here) {
                bytes = self.fetch(record)?;
                read = Some(here);
            }
            values[index] = value_of(&bytes, place).ok_or_else(|| damaged(record))?;
        }
        Ok(found.into_iter().zip(values).map(|((key, ..), value)| (key, value)).collect())
    }
}

fn value_of(record: &[u8], place: &ValuePlace) -> Option<Vec<u8>> {
    let start = HEAD + place.value_offset as usize;
    record.get(start..start + place.value_len as usize).map(<[u8]>::to_vec)
}

impl Log {
    /// Removes a key, if it is there.
    pub fn forget_value(&mut self, key: &[u8]) {
        if let Some(place) = self.metadata.remove(key)
            && let Some(segment) = self.segment(place.segment)
        {
            segment.live -= u64::from(place.live);
        }
    }

    fn value_record(&mut self, place: &ValuePlace) -> Option<RecordPlace> {
        let entry = self.segment(place.segment)?;
        let end = entry.lsn(u64::from(place.offset) + u64::from(place.len));
        Some(RecordPlace { segment: entry.segment.clone(), offset: place.offset, len: place.len, end })
    }
}
