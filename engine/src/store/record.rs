//! Records: what the log is made of, as bytes and back.
//!
//! A record is a head of nine bytes (crc32, length of the payload, kind) and a payload. The crc starts from the *salt* of
//! its segment, a random number that nobody outside knows, so that a client cannot publish bytes that look like a record
//! to whoever searches a damaged file. Encoding appends to a buffer; decoding borrows from one, and takes any bytes
//! without panicking.

use super::bytes::{Malformed, Reader, VARINT_32_MAX, VARINT_64_MAX, put_bytes, put_varint};
use super::queue_record::{Delivery, HAS_IDENTIFIERS, put_delivery, read_delivery};
use super::types::{NewMessage, QueueId, SegmentNo};
use crate::message::{Head, Layout, MessageId, NEVER, Publication};

/// No message has this number or a higher one: they are counted from 1.
const SEQ_END: u64 = 1 << 62;

/// Bytes before the payload.
pub(super) const HEAD: usize = 9;

/// What a record says. The number is what stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Message = 1,
    Entries = 2,
    Changes = 3,
    Session = 4,
    Ended = 5,
    Unretained = 6,
    Metadata = 7,
    Synced = 8,
    Started = 9,
    /// What a repair put where records were lost.
    Lost = 10,
    /// Segments before one are superfluous: they may be gone.
    Oldest = 11,
}

impl Kind {
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Message,
            2 => Self::Entries,
            3 => Self::Changes,
            4 => Self::Session,
            5 => Self::Ended,
            6 => Self::Unretained,
            7 => Self::Metadata,
            8 => Self::Synced,
            9 => Self::Started,
            10 => Self::Lost,
            11 => Self::Oldest,
            _ => return None,
        })
    }
}

/// The most bytes that a [`Kind::Synced`], [`Kind::Started`] or [`Kind::Oldest`] record takes.
pub(super) const MARK_MAX: usize = HEAD + VARINT_32_MAX + VARINT_64_MAX;

/// Begins a record and says where. [`finish`] ends it.
#[inline]
pub(super) fn begin(buffer: &mut Vec<u8>, kind: Kind) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, kind as u8]);
    start
}

/// Fills in the head of the record that began at `start` and ends with the buffer.
#[inline]
pub(super) fn finish(buffer: &mut [u8], start: usize, salt: u32) {
    let record = &mut buffer[start..];
    let length = (record.len() - HEAD) as u32;
    record[4..8].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&record[4..], salt);
    record[..4].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(bytes: &[u8], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// A record as it stands in a file, not looked into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    pub kind: Kind,
    pub payload: &'a [u8],
}

impl Raw<'_> {
    /// Bytes in the file.
    pub fn len(&self) -> usize {
        HEAD + self.payload.len()
    }
}

/// Why there is no record at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Zeros, which nothing was written over.
    End,
    /// The record would reach beyond the bytes at hand: so many are needed.
    Short(usize),
    /// No such kind, or the crc does not hold.
    Wrong,
}

/// The record at the start of some bytes.
#[inline]
pub(super) fn read(bytes: &[u8], salt: u32) -> Result<Raw<'_>, Bad> {
    let Some((head, _)) = bytes.split_first_chunk::<HEAD>() else {
        return Err(Bad::Short(HEAD));
    };
    if *head == [0; HEAD] {
        return Err(Bad::End);
    }
    let [c0, c1, c2, c3, l0, l1, l2, l3, kind] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let kind = Kind::from_byte(kind).ok_or(Bad::Wrong)?;
    let record = bytes.get(..HEAD + length).ok_or(Bad::Short(HEAD + length))?;
    if checksum(&record[4..], salt) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(Bad::Wrong);
    }
    Ok(Raw { kind, payload: &record[HEAD..] })
}

/// Begins a [`Kind::Synced`] record, with its payload.
pub(super) fn begin_synced(buffer: &mut Vec<u8>, segment: SegmentNo, offset: u64) -> usize {
    let start = begin(buffer, Kind::Synced);
    put_varint(buffer, segment.into());
    put_varint(buffer, offset);
    start
}

/// Everything before the position that comes out was synced.
pub(super) fn read_synced(payload: &[u8]) -> Result<(SegmentNo, u64), Malformed> {
    let mut reader = Reader(payload);
    let position = (reader.varint_u32()?, reader.varint()?);
    if reader.is_empty() { Ok(position) } else { Err(Malformed) }
}

/// Appends a whole [`Kind::Started`] record: the segment before this one ends at `previous_end`, and no segment from
/// `oldest` on is superfluous.
pub(super) fn put_started(buffer: &mut Vec<u8>, previous_end: u64, oldest: SegmentNo, salt: u32) {
    let start = begin(buffer, Kind::Started);
    put_varint(buffer, previous_end);
    put_varint(buffer, oldest.into());
    finish(buffer, start, salt);
}

/// Appends a whole [`Kind::Oldest`] record: the segments before `oldest` are superfluous.
pub(super) fn put_oldest(buffer: &mut Vec<u8>, oldest: SegmentNo, salt: u32) {
    let start = begin(buffer, Kind::Oldest);
    put_varint(buffer, oldest.into());
    finish(buffer, start, salt);
}

/// Which segment is the oldest that is not superfluous.
pub(super) fn read_oldest(payload: &[u8]) -> Result<SegmentNo, Malformed> {
    let mut reader = Reader(payload);
    let oldest = reader.varint_u32()?;
    if reader.is_empty() { Ok(oldest) } else { Err(Malformed) }
}

/// A whole [`Kind::Lost`] record of `size` bytes.
pub(super) fn lost(size: usize, salt: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    begin(&mut bytes, Kind::Lost);
    bytes.resize(size, 0);
    finish(&mut bytes, 0, salt);
    bytes
}

/// Where the segment before ends, and which segment is the oldest that is not superfluous.
pub(super) fn read_started(payload: &[u8]) -> Result<(u64, SegmentNo), Malformed> {
    let mut reader = Reader(payload);
    let started = (reader.varint()?, reader.varint_u32()?);
    if reader.is_empty() { Ok(started) } else { Err(Malformed) }
}

pub(super) const QOS: u8 = 0b11;
pub(super) const RETAIN: u8 = 1 << 2;

const IS_RETAINED: u8 = 1 << 3;
const EXPIRES: u8 = 1 << 4;
const RECEIVED: u8 = 1 << 5;
const IS_COPY: u8 = 1 << 6;
/// What it is called on all nodes stands behind the mountpoint in which it is retained, or where that would stand.
const IS_NAMED: u8 = 1 << 7;

/// A message as its record has it.
#[derive(Clone, Debug)]
pub(super) struct MessageRecord<'a> {
    pub seq: u64,
    /// Seconds since the Unix epoch.
    pub stored_at: u32,
    /// `expires_at` is Unix time in ms here.
    pub publication: Publication<'a>,
    /// Written by cleaning: not all who refer to it have to be found behind it.
    pub is_copy: bool,
    pub received: Option<(QueueId, u16)>,
    /// The mountpoint in which it is the retained message of its topic.
    pub retained_in: Option<&'a str>,
    /// What it is called on all nodes, if that was written down.
    pub message_id: MessageId,
    pub targets: Targets<'a>,
}

/// The targets of a message, to be iterated.
#[derive(Clone, Debug)]
pub(super) struct Targets<'a> {
    count: u64,
    reader: Reader<'a>,
}

/// The most bytes that the record of a message takes.
#[inline]
pub(super) fn message_bound(message: &NewMessage<'_>) -> usize {
    let mut bound = HEAD + 1 + 8 + 4 + 4 * VARINT_32_MAX + 8 + VARINT_32_MAX + 2 + VARINT_32_MAX;
    bound += message.retained_in.map_or(0, |mountpoint| VARINT_32_MAX + mountpoint.len()) + 4 + 8;
    for target in message.targets {
        bound += VARINT_32_MAX + 1 + VARINT_32_MAX * (1 + target.identifiers.len());
    }
    bound + message.publication.span.len()
}

/// Appends the payload of a message. `expires_at` is Unix time in ms, `stored_at` in seconds.
#[inline]
pub(super) fn put_message(buffer: &mut Vec<u8>, message: &NewMessage<'_>, seq: u64, stored_at: u32, expires_at: u64) {
    let received = message.received;
    let mut flags = message.publication.head.qos & QOS;
    flags |= if received.is_some() { RECEIVED } else { 0 };
    flags |= if message.retained_in.is_some() { IS_RETAINED } else { 0 };
    flags |= if message.message_id.is_some() { IS_NAMED } else { 0 };
    put_message_start(buffer, &message.publication, flags, (seq, stored_at), expires_at);
    if let Some((queue, id)) = received {
        put_varint(buffer, queue.into());
        buffer.extend_from_slice(&id.to_le_bytes());
    }
    if let Some(mountpoint) = message.retained_in {
        put_bytes(buffer, mountpoint.as_bytes());
    }
    put_message_id(buffer, message.message_id);
    put_varint(buffer, message.targets.len() as u64);
    for target in message.targets {
        put_varint(buffer, target.queue.into());
        put_delivery(buffer, target.qos, target.retain, target.identifiers, 0);
    }
    buffer.extend_from_slice(message.publication.span);
}

/// Appends the payload of a message that cleaning copies: without those who get it, and its name only where it is retained.
pub(super) fn put_copy(buffer: &mut Vec<u8>, record: &MessageRecord<'_>, is_retained: bool) {
    let head = record.publication.head;
    let mut flags = (head.qos & QOS) | IS_COPY;
    let retained_in = record.retained_in.filter(|_| is_retained);
    let message_id = if retained_in.is_some() { record.message_id } else { MessageId::NONE };
    flags |= if retained_in.is_some() { IS_RETAINED } else { 0 };
    flags |= if message_id.is_some() { IS_NAMED } else { 0 };
    put_message_start(buffer, &record.publication, flags, (record.seq, record.stored_at), head.expires_at);
    if let Some(mountpoint) = retained_in {
        put_bytes(buffer, mountpoint.as_bytes());
    }
    put_message_id(buffer, message_id);
    put_varint(buffer, 0);
    buffer.extend_from_slice(record.publication.span);
}

#[inline]
fn put_message_start(
    buffer: &mut Vec<u8>,
    publication: &Publication<'_>,
    mut flags: u8,
    (seq, stored_at): (u64, u32),
    expires_at: u64,
) {
    let head = publication.head;
    flags |= if head.retain { RETAIN } else { 0 };
    flags |= if expires_at == NEVER { 0 } else { EXPIRES };
    buffer.push(flags);
    buffer.extend_from_slice(&seq.to_le_bytes());
    buffer.extend_from_slice(&stored_at.to_le_bytes());
    put_layout(buffer, head.layout);
    if expires_at != NEVER {
        buffer.extend_from_slice(&expires_at.to_le_bytes());
    }
}

#[inline]
fn put_message_id(buffer: &mut Vec<u8>, message_id: MessageId) {
    if message_id.is_some() {
        buffer.extend_from_slice(&message_id.origin.to_le_bytes());
        buffer.extend_from_slice(&message_id.stamp.to_le_bytes());
    }
}

/// Decodes a message.
pub(super) fn read_message(payload: &[u8]) -> Result<MessageRecord<'_>, Malformed> {
    let mut reader = Reader(payload);
    let flags = reader.u8()?;
    let seq = reader.u64()?;
    if seq >= SEQ_END {
        return Err(Malformed);
    }
    let stored_at = reader.u32()?;
    let layout = read_layout(&mut reader)?;
    let expires_at = if flags & EXPIRES == 0 { NEVER } else { reader.u64()? };
    let received = if flags & RECEIVED == 0 { None } else { Some((reader.varint_u32()?, reader.u16()?)) };
    let retained_in = if flags & IS_RETAINED == 0 { None } else { Some(reader.text()?) };
    let message_id =
        if flags & IS_NAMED == 0 { MessageId::NONE } else { MessageId { origin: reader.u32()?, stamp: reader.u64()? } };
    let count = reader.varint()?;
    let targets = Targets { count, reader };
    // To find the span the targets have to be passed over.
    for _ in 0..count {
        reader.varint_u32()?;
        if reader.u8()? & HAS_IDENTIFIERS != 0 {
            for _ in 0..reader.varint()? {
                reader.varint_u32()?;
            }
        }
    }
    let span = reader.0;
    if !fits(layout, span.len()) {
        return Err(Malformed);
    }
    let head = Head { layout, qos: flags & QOS, retain: flags & RETAIN != 0, expires_at, origin: 0 };
    let publication = Publication { head, span };
    let is_copy = flags & IS_COPY != 0;
    Ok(MessageRecord { seq, stored_at, publication, is_copy, received, retained_in, message_id, targets })
}

/// Appends a layout.
#[inline]
pub(crate) fn put_layout(buffer: &mut Vec<u8>, layout: Layout) {
    let Layout { topic_len, properties_start, properties_len, payload_start } = layout;
    for number in [topic_len, properties_start, properties_len, payload_start] {
        put_varint(buffer, number.into());
    }
}

/// Decodes a layout. Whether it lies within the bytes that it is about, [`fits`] says.
#[inline]
pub(crate) fn read_layout(reader: &mut Reader<'_>) -> Result<Layout, Malformed> {
    Ok(Layout {
        topic_len: reader.varint_u32()?,
        properties_start: reader.varint_u32()?,
        properties_len: reader.varint_u32()?,
        payload_start: reader.varint_u32()?,
    })
}

/// Whether a layout lies within so many bytes.
pub(crate) fn fits(layout: Layout, size: usize) -> bool {
    let size = size as u64;
    u64::from(layout.topic_len) <= size
        && u64::from(layout.properties_start) + u64::from(layout.properties_len) <= size
        && u64::from(layout.payload_start) <= size
}

impl Iterator for Targets<'_> {
    type Item = Result<(QueueId, Delivery), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut read = || Ok((self.reader.varint_u32()?, read_delivery(&mut self.reader)?.0));
        Some(read())
    }
}

/// Decodes a [`Kind::Unretained`] record: mountpoint and topic.
pub(super) fn read_unretained(payload: &[u8]) -> Result<(&str, &str), Malformed> {
    let mut reader = Reader(payload);
    let names = (reader.text()?, reader.text()?);
    if reader.is_empty() { Ok(names) } else { Err(Malformed) }
}

/// Decodes a [`Kind::Ended`] record.
pub(super) fn read_ended(payload: &[u8]) -> Result<QueueId, Malformed> {
    let mut reader = Reader(payload);
    let queue = reader.varint_u32()?;
    if reader.is_empty() { Ok(queue) } else { Err(Malformed) }
}

/// The puts and deletes of a [`Kind::Metadata`] record, to be iterated: key, and value with its place in the payload.
pub(super) struct MetadataChanges<'a> {
    payload_len: usize,
    reader: Reader<'a>,
}

/// A put or delete: the value, `None` for a delete, and where it starts in the payload.
pub(super) type MetadataChange<'a> = (&'a [u8], Option<(&'a [u8], usize)>);

/// Decodes a [`Kind::Metadata`] record.
pub(super) fn read_metadata(payload: &[u8]) -> MetadataChanges<'_> {
    MetadataChanges { payload_len: payload.len(), reader: Reader(payload) }
}

/// Appends a put or a delete to a [`Kind::Metadata`] record.
pub(super) fn put_metadata(buffer: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    buffer.push(u8::from(value.is_some()));
    put_bytes(buffer, key);
    if let Some(value) = value {
        put_bytes(buffer, value);
    }
}

/// The most bytes that a put or a delete takes.
pub(super) fn metadata_bound(key: &[u8], value: Option<&[u8]>) -> usize {
    1 + 2 * VARINT_32_MAX + key.len() + value.map_or(0, <[u8]>::len)
}

impl<'a> MetadataChanges<'a> {
    fn read(&mut self) -> Result<MetadataChange<'a>, Malformed> {
        let has_value = match self.reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed),
        };
        let key = self.reader.bytes()?;
        if !has_value {
            return Ok((key, None));
        }
        let value = self.reader.bytes()?;
        Ok((key, Some((value, self.payload_len - self.reader.0.len() - value.len()))))
    }
}

impl<'a> Iterator for MetadataChanges<'a> {
    type Item = Result<MetadataChange<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let change = self.read();
        if change.is_err() {
            self.reader = Reader(&[]);
        }
        Some(change)
    }
}
