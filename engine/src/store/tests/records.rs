//! Every record comes back as it was written, and no bytes make decoding panic.

use proptest::collection::vec;
use proptest::prelude::*;
use smallvec::SmallVec;

use super::super::queue_record::{self, ChangeRecord, Delivery, EntryRecord};
use super::super::record::{self, Bad, HEAD, Kind, Raw};
use super::super::replay::Replay;
use super::super::session_record::{put_session, read_session};
use super::super::*;
use super::{head, session, span};
use crate::message::{Head, MessageId, Publication};
use crate::routing::SubscriptionOptions;
use crate::settings::Value;

const SALT: u32 = 0xfeed;

fn whole(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let start = record::begin(&mut bytes, kind);
    bytes.extend_from_slice(payload);
    record::finish(&mut bytes, start, SALT);
    bytes
}

fn any_kind() -> impl Strategy<Value = Kind> {
    (1_u8..=10).prop_map(|byte| Kind::from_byte(byte).unwrap())
}

fn identifiers() -> impl Strategy<Value = Vec<u32>> {
    vec(any::<u32>(), 0..4)
}

/// The value of a proptest `(qos, retain, identifiers)` as a delivery.
fn delivery((qos, retain, identifiers): &(u8, bool, Vec<u32>)) -> Delivery {
    Delivery { qos: *qos, retain: *retain, identifiers: SmallVec::from_slice(identifiers) }
}

proptest! {
    #[test]
    fn a_message_comes_back(
        seq in 1..1_u64 << 62,
        topic in "[a-z/]{1,20}",
        payload in vec(any::<u8>(), 0..200),
        (qos, retain, expires_at) in (0_u8..3, any::<bool>(), any::<u64>()),
        received in proptest::option::of((any::<u32>(), any::<u16>())),
        (mountpoint, origin, stamp) in (proptest::option::of("[a-z]{0,10}"), any::<u32>(), 0..u64::MAX),
        targets in vec((any::<u32>(), (0_u8..3, any::<bool>(), identifiers())), 0..5),
    ) {
        let (bytes, layout) = span(&topic, &payload);
        let mut head = head(layout);
        (head.qos, head.retain) = (qos, retain);
        let mountpoint: Option<Arc<str>> = mountpoint.map(Arc::from);
        let message_id = if stamp == 0 { MessageId::NONE } else { MessageId { origin, stamp } };
        let retained_in = mountpoint.as_ref();
        let borrowed: Vec<Target<'_>> = targets
            .iter()
            .map(|(queue, (qos, retain, identifiers))| Target { queue: *queue, qos: *qos, retain: *retain, identifiers })
            .collect();
        let publication = Publication { head, span: &bytes };
        let place = Place::default();
        let message =
            NewMessage { publication, message_id, retained_in, received, targets: &borrowed, place };
        let mut buffer = Vec::new();
        let start = record::begin(&mut buffer, Kind::Message);
        record::put_message(&mut buffer, &message, seq, 7, expires_at);
        record::finish(&mut buffer, start, SALT);
        prop_assert!(buffer.len() <= record::message_bound(&message));

        let raw = record::read(&buffer, SALT).unwrap();
        prop_assert_eq!((raw.kind, raw.len()), (Kind::Message, buffer.len()));
        let read = record::read_message(raw.payload).unwrap();
        prop_assert_eq!((read.seq, read.received, read.is_copy), (seq, received, false));
        prop_assert_eq!(read.publication.head, Head { expires_at, ..head });
        prop_assert_eq!(read.publication.span, &bytes[..]);
        prop_assert_eq!((read.retained_in, read.message_id), (mountpoint.as_deref(), message_id));
        let found: Vec<_> = read.targets.clone().map(Result::unwrap).collect();
        let wanted: Vec<_> = targets.iter().map(|(queue, given)| (*queue, delivery(given))).collect();
        prop_assert_eq!(found, wanted);

        let mut copy = Vec::new();
        record::put_copy(&mut copy, &read, true);
        prop_assert!(copy.len() <= raw.payload.len(), "cleaning relies on it");
        let copied = record::read_message(&copy).unwrap();
        prop_assert_eq!((copied.seq, copied.is_copy, copied.retained_in), (seq, true, read.retained_in));
        prop_assert_eq!(copied.publication.span, &bytes[..]);
        prop_assert_eq!((copied.received, copied.targets.count()), (None, 0));
        prop_assert_eq!(copied.message_id, if mountpoint.is_some() { message_id } else { MessageId::NONE });
    }

    #[test]
    fn entries_come_back(
        queue: u32,
        given in vec((any::<u64>(), (0_u8..3, any::<bool>(), identifiers()), 0..3_usize, any::<u64>()), 0..6),
    ) {
        let entries: Vec<EntryRecord> = given
            .iter()
            .map(|(seq, given, state, number)| EntryRecord {
                seq: *seq,
                delivery: delivery(given),
                state: [EntryState::Waiting, EntryState::Sent(*number), EntryState::Released(*number)][*state],
            })
            .collect();
        let mut payload = Vec::new();
        super::super::bytes::put_varint(&mut payload, queue.into());
        for entry in &entries {
            let Delivery { qos, retain, identifiers } = &entry.delivery;
            let before = payload.len();
            queue_record::put_entry(&mut payload, entry.seq, (*qos, *retain, identifiers), entry.state);
            prop_assert!(payload.len() - before <= queue_record::entry_bound(identifiers.len()));
        }
        prop_assert_eq!(queue_record::read_entries(&payload).unwrap(), (queue, entries));
    }

    #[test]
    fn changes_come_back(
        queue: u32,
        seq: u64,
        given in (0_u8..3, any::<bool>(), identifiers()),
        number in 1_u64..,
        id: u16,
        filter in "[a-z/#+]{1,20}",
        (no_local, retain_as_published, identifier) in any::<(bool, bool, u32)>(),
    ) {
        let options = SubscriptionOptions { qos: given.0, no_local, retain_as_published, identifier };
        let Delivery { qos, retain, identifiers } = delivery(&given);
        let boxed: Box<str> = filter.as_str().into();
        let received = ReceivedId { packet_id: id, stamp: 0 };
        let stamped = ReceivedId { stamp: number, ..received };
        let changes = [
            (Change::Queued { slot: 1, qos, retain, identifiers }, ChangeRecord::Queued { seq, delivery: delivery(&given) }),
            (Change::Sent { slot: 1, number }, ChangeRecord::Sent { seq, number }),
            (Change::Released { slot: 1, number }, ChangeRecord::Released { number }),
            (Change::Done { slot: 1, number }, ChangeRecord::Done { seq, number }),
            (Change::Completed { number }, ChangeRecord::Completed { number }),
            (Change::Received(received), ChangeRecord::Received(received)),
            (Change::Received(stamped), ChangeRecord::Received(stamped)),
            (Change::Forgotten(id), ChangeRecord::Forgotten(id)),
            (Change::Subscribed { filter: boxed.clone(), options }, ChangeRecord::Subscribed { filter: &filter, options }),
            (Change::Unsubscribed { filter: boxed }, ChangeRecord::Unsubscribed { filter: &filter }),
        ];
        let mut payload = Vec::new();
        super::super::bytes::put_varint(&mut payload, queue.into());
        for (change, _) in &changes {
            let before = payload.len();
            queue_record::put_change(&mut payload, change, seq);
            prop_assert!(payload.len() - before <= queue_record::change_bound(change));
        }
        let (found_queue, found) = queue_record::read_changes(&payload).unwrap();
        let found: Vec<_> = found.map(Result::unwrap).collect();
        prop_assert_eq!(found_queue, queue);
        prop_assert_eq!(found, changes.into_iter().map(|(_, wanted)| wanted).collect::<Vec<_>>());
    }

    #[test]
    fn a_session_comes_back(
        queue: u32,
        names in any::<(String, String, Option<String>, String)>(),
        numbers in any::<(u8, u32, bool, u64, u64)>(),
        will in proptest::option::of((any::<Vec<u8>>(), 0_u8..3, any::<(bool, u32, Option<u32>, u64)>())),
        limits in vec((any::<String>(), 0..4, any::<i64>()), 0..4),
    ) {
        let (mountpoint, client_id, username, listener) = names;
        let (protocol_version, expiry_s, is_online, expires_at, started_at) = numbers;
        let will = will.map(|(payload, qos, (retain, delay_s, message_expiry_s, due_at))| {
            let (span, layout) = span("will", &payload);
            WillRecord { span, layout, qos, retain, delay_s, message_expiry_s, due_at }
        });
        let value = |kind: i32, number: i64| match kind {
            0 => Value::None,
            1 => Value::Bool(number > 0),
            2 => Value::Int(number),
            _ => Value::Text(number.to_string()),
        };
        let record = SessionRecord {
            mountpoint: mountpoint.into(),
            client_id: client_id.into(),
            username: username.map(Into::into),
            protocol_version,
            listener: listener.into(),
            expiry_s,
            is_online,
            expires_at,
            started_at,
            will,
            limits: limits.into_iter().map(|(name, kind, number)| (name, value(kind, number))).collect(),
        };
        let mut payload = Vec::new();
        put_session(&mut payload, queue, &record);
        prop_assert_eq!(read_session(&payload), Ok((queue, record)));
    }

    #[test]
    fn metadata_comes_back(changes in vec((any::<Vec<u8>>(), proptest::option::of(any::<Vec<u8>>())), 0..5)) {
        let mut payload = Vec::new();
        for (key, value) in &changes {
            let before = payload.len();
            record::put_metadata(&mut payload, key, value.as_deref());
            prop_assert!(payload.len() - before <= record::metadata_bound(key, value.as_deref()));
        }
        let mut found = Vec::new();
        for change in record::read_metadata(&payload) {
            let (key, value) = change.unwrap();
            if let Some((value, offset)) = value {
                prop_assert_eq!(&payload[offset..offset + value.len()], value);
            }
            found.push((key.to_vec(), value.map(|(value, _)| value.to_vec())));
        }
        prop_assert_eq!(found, changes);
    }

    #[test]
    fn hostile_payloads_never_panic(kind in any_kind(), payload in vec(any::<u8>(), 0..200), offset: u32) {
        let mut replay = Replay::new(0);
        let _ = replay.apply(Raw { kind, payload: &payload }, 1, offset.into());
        let _ = replay.finish();
    }

    #[test]
    fn damaged_payloads_never_panic(seq: u64, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let (bytes, layout) = span("some/topic", b"payload");
        let publication = Publication { head: head(layout), span: &bytes };
        let mountpoint = Arc::from("mountpoint");
        let targets = [Target { queue: 300, qos: 1, retain: true, identifiers: &[1, 2_000_000] }; 2];
        let message_id = MessageId { origin: 1, stamp: 2 };
        let (retained_in, received, place) = (Some(&mountpoint), Some((1, 2)), Place::default());
        let message = NewMessage { publication, message_id, retained_in, received, targets: &targets, place };
        let mut payload = Vec::new();
        record::put_message(&mut payload, &message, seq, 7, 5);
        let index = at.index(payload.len());
        payload[index] = byte;
        payload.truncate(1 + cut.index(payload.len()));
        let mut replay = Replay::new(0);
        let _ = replay.apply(Raw { kind: Kind::Message, payload: &payload }, 1, 32);
        let replayed = replay.finish();
        for trie in replayed.retained.values() {
            trie.matching("#", &mut |_, _| true);
        }
    }

    #[test]
    fn hostile_bytes_are_no_records(bytes in vec(any::<u8>(), 0..100)) {
        if let Ok(raw) = record::read(&bytes, SALT) {
            prop_assert!(raw.len() <= bytes.len());
        }
    }

    #[test]
    fn a_changed_bit_is_noticed(kind in any_kind(), payload in vec(any::<u8>(), 1..100), bit: prop::sample::Index) {
        let mut bytes = whole(kind, &payload);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(record::read(&bytes, SALT).is_err());
    }
}

#[test]
fn a_record_of_another_store_is_none() {
    let bytes = whole(Kind::Ended, b"\x01");
    assert!(record::read(&bytes, SALT).is_ok());
    assert_eq!(record::read(&bytes, SALT + 1).unwrap_err(), Bad::Wrong);
}

#[test]
fn the_end_of_data_and_the_end_of_bytes_are_told_apart() {
    assert_eq!(record::read(&[0; HEAD], SALT).unwrap_err(), Bad::End);
    assert_eq!(record::read(&[0; HEAD - 1], SALT).unwrap_err(), Bad::Short(HEAD));
    let bytes = whole(Kind::Ended, b"\x01");
    assert_eq!(record::read(&bytes[..bytes.len() - 1], SALT).unwrap_err(), Bad::Short(bytes.len()));
}

#[test]
fn a_session_cut_short_is_malformed() {
    let mut payload = Vec::new();
    put_session(&mut payload, 7, &session("client"));
    for end in 0..payload.len() {
        assert!(read_session(&payload[..end]).is_err(), "{end}");
    }
}
