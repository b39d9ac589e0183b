//! The session record as bytes and back.

use std::sync::Arc;

use super::bytes::{Malformed, Reader, put_bytes, put_varint};
use super::record::{fits, put_layout, read_layout};
use super::types::{QueueId, SessionRecord, WillRecord};
use crate::settings::Value;

const HAS_USERNAME: u8 = 1;
const IS_ONLINE: u8 = 1 << 1;
const HAS_WILL: u8 = 1 << 2;

const WILL_QOS: u8 = 0b11;
const WILL_RETAIN: u8 = 1 << 2;
const WILL_EXPIRES: u8 = 1 << 3;

/// Appends the payload of a session record.
pub(crate) fn put_session(buffer: &mut Vec<u8>, queue: QueueId, record: &SessionRecord) {
    put_varint(buffer, queue.into());
    let mut flags = if record.username.is_some() { HAS_USERNAME } else { 0 };
    flags |= if record.is_online { IS_ONLINE } else { 0 };
    flags |= if record.will.is_some() { HAS_WILL } else { 0 };
    buffer.push(flags);
    put_bytes(buffer, record.mountpoint.as_bytes());
    put_bytes(buffer, record.client_id.as_bytes());
    if let Some(username) = &record.username {
        put_bytes(buffer, username.as_bytes());
    }
    buffer.push(record.protocol_version);
    put_bytes(buffer, record.listener.as_bytes());
    put_varint(buffer, record.expiry_s.into());
    put_varint(buffer, record.expires_at);
    put_varint(buffer, record.started_at);
    if let Some(will) = &record.will {
        put_will(buffer, will);
    }
    put_varint(buffer, record.limits.len() as u64);
    for (name, value) in &record.limits {
        put_bytes(buffer, name.as_bytes());
        put_value(buffer, value);
    }
}

fn put_will(buffer: &mut Vec<u8>, will: &WillRecord) {
    let mut flags = will.qos & WILL_QOS;
    flags |= if will.retain { WILL_RETAIN } else { 0 };
    flags |= if will.message_expiry_s.is_some() { WILL_EXPIRES } else { 0 };
    buffer.push(flags);
    put_layout(buffer, will.layout);
    put_varint(buffer, will.delay_s.into());
    if let Some(expiry) = will.message_expiry_s {
        put_varint(buffer, expiry.into());
    }
    put_varint(buffer, will.due_at);
    put_bytes(buffer, &will.span);
}

fn put_value(buffer: &mut Vec<u8>, value: &Value) {
    match value {
        Value::None => buffer.push(0),
        Value::Bool(value) => buffer.extend_from_slice(&[1, u8::from(*value)]),
        Value::Int(value) => {
            buffer.push(2);
            buffer.extend_from_slice(&value.to_le_bytes());
        }
        Value::Text(value) => {
            buffer.push(3);
            put_bytes(buffer, value.as_bytes());
        }
    }
}

/// Decodes a session record.
pub(crate) fn read_session(payload: &[u8]) -> Result<(QueueId, SessionRecord), Malformed> {
    let mut reader = Reader(payload);
    let queue = reader.varint_u32()?;
    let flags = reader.u8()?;
    let mountpoint = Arc::from(reader.text()?);
    let client_id = Arc::from(reader.text()?);
    let username = if flags & HAS_USERNAME == 0 { None } else { Some(Arc::from(reader.text()?)) };
    let protocol_version = reader.u8()?;
    let listener = Arc::from(reader.text()?);
    let expiry_s = reader.varint_u32()?;
    let expires_at = reader.varint()?;
    let started_at = reader.varint()?;
    let will = if flags & HAS_WILL == 0 { None } else { Some(read_will(&mut reader)?) };
    let mut limits = Vec::new();
    for _ in 0..reader.varint()? {
        limits.push((reader.text()?.to_owned(), read_value(&mut reader)?));
    }
    if !reader.is_empty() {
        return Err(Malformed);
    }
    let is_online = flags & IS_ONLINE != 0;
    let record = SessionRecord {
        mountpoint,
        client_id,
        username,
        protocol_version,
        listener,
        expiry_s,
        is_online,
        expires_at,
        started_at,
        will,
        limits,
    };
    Ok((queue, record))
}

fn read_will(reader: &mut Reader<'_>) -> Result<WillRecord, Malformed> {
    let flags = reader.u8()?;
    let layout = read_layout(reader)?;
    let delay_s = reader.varint_u32()?;
    let message_expiry_s = if flags & WILL_EXPIRES == 0 { None } else { Some(reader.varint_u32()?) };
    let due_at = reader.varint()?;
    let span = reader.bytes()?.to_vec();
    if !fits(layout, span.len()) {
        return Err(Malformed);
    }
    let (qos, retain) = (flags & WILL_QOS, flags & WILL_RETAIN != 0);
    Ok(WillRecord { span, layout, qos, retain, delay_s, message_expiry_s, due_at })
}

fn read_value(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match reader.u8()? {
        0 => Value::None,
        1 => Value::Bool(reader.u8()? != 0),
        2 => Value::Int(i64::from_le_bytes(reader.u64()?.to_le_bytes())),
        3 => Value::Text(reader.text()?.to_owned()),
        _ => return Err(Malformed),
    })
}
