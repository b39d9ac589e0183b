//! Both ends of the data lane over a line that is cut at any byte, and a receiver that is restarted.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::{identity, message, span};
use crate::peer::inbox::LINK_SPACING;
use crate::peer::{
    Arrival, FRAME_LEN_MAX, Frame, FrameReader, Inbox, Messages, Outbox, OutboxLimits, Overflow, PeerId, Taken,
};

const HELD_MAX: usize = 300_000;
const WINDOW: u64 = 100_000;
const MESSAGE_LEN_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
enum Step {
    /// The sender takes a message.
    Append { qos: u8, size: usize },
    /// It sends what it has taken.
    Flush,
    /// A heartbeat is due.
    Beat,
    /// The line takes bytes of the sender.
    Write(usize),
    /// It brings bytes to the receiver.
    Bring(usize),
    /// The receiver has stored all it had but so many batches.
    Keep(usize),
    /// What the receiver has to say comes through.
    Acknowledge,
    /// The line is cut; what is on it is lost.
    Cut,
    /// A new line.
    Connect,
    /// The receiver's process is killed and started again; what it had not stored is forgotten.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u8, prop_oneof![8 => 0..300_usize, 1 => 20_000..40_000_usize, 1 => 60_000..150_000_usize])
            .prop_map(|(qos, size)| Step::Append { qos, size }),
        3 => Just(Step::Flush),
        1 => Just(Step::Beat),
        4 => prop_oneof![1..500_usize, 1_000..200_000_usize].prop_map(Step::Write),
        4 => prop_oneof![1..500_usize, 1_000..200_000_usize].prop_map(Step::Bring),
        2 => (0..4_usize).prop_map(Step::Keep),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::Cut),
        2 => Just(Step::Connect),
        1 => Just(Step::Restart),
    ]
}

/// What a message says: its place in what was sent.
fn payload(number: u32, size: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(4 + size, b'x');
    payload
}

struct Line {
    bytes: VecDeque<u8>,
    reader: FrameReader,
}

struct World {
    outbox: Outbox,
    inbox: Inbox,
    from: Arc<PeerId>,
    line: Option<Line>,
    /// Takes batches at once, or later.
    is_storing_at_once: bool,
    next_number: u32,
    beats: u64,
    beats_arrived: u64,
    /// What was promised: numbers of QoS 1 and 2.
    promised: Vec<u32>,
    /// What the receiver has of QoS 1 and 2, with the sequence number of its batch.
    have: Vec<(u64, u32)>,
    /// What it has got of QoS 0.
    have_qos0: Vec<u32>,
    sent_qos0: usize,
    stored: u64,
    /// Batches that wait to be stored.
    waiting: VecDeque<u64>,
}

impl World {
    fn new(batch_len: usize, is_storing_at_once: bool) -> Self {
        Self {
            outbox: Outbox::new(OutboxLimits { held_max: HELD_MAX, batch_len }, 0),
            inbox: Inbox::new(WINDOW),
            from: Arc::new(identity("a@h", 1).node),
            line: None,
            is_storing_at_once,
            next_number: 0,
            beats: 0,
            beats_arrived: 0,
            promised: Vec::new(),
            have: Vec::new(),
            have_qos0: Vec::new(),
            sent_qos0: 0,
            stored: 0,
            waiting: VecDeque::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append { qos, size } => self.append(qos, size),
            Step::Flush => self.outbox.close(),
            Step::Beat => {
                let beat = self.beats;
                if self.outbox.put_urgent(|buffer| crate::peer::frame::put_ping(buffer, beat)) {
                    self.beats += 1;
                }
            }
            Step::Write(count) => self.write(count),
            Step::Bring(count) => self.bring(count),
            Step::Keep(but) => self.keep(but),
            Step::Acknowledge => self.acknowledge(),
            Step::Cut => self.cut(),
            Step::Connect => self.connect(),
            Step::Restart => self.restart(),
        }
        assert!(self.outbox.held() <= HELD_MAX);
        assert!(self.outbox.unwritten() <= self.outbox.held());
    }

    fn append(&mut self, qos: u8, size: usize) {
        let number = self.next_number;
        let bytes = span(&payload(number, size), qos);
        let before = self.outbox.dropped();
        match self.outbox.append(&message(&bytes), 1) {
            Ok(seq) => {
                assert_eq!(seq.is_some(), qos > 0);
                if qos > 0 {
                    assert_eq!(seq, Some(self.outbox.last_seq()));
                    self.promised.push(number);
                } else {
                    self.sent_qos0 += 1;
                }
            }
            Err(overflow) => {
                let dropped = self.outbox.dropped();
                let place = usize::from(qos);
                assert_eq!(dropped.messages[place], before.messages[place] + 1, "{overflow} is counted");
                assert!(qos == 0 || overflow == Overflow::Full);
            }
        }
        self.next_number += 1;
    }

    fn write(&mut self, mut count: usize) {
        let Some(line) = &mut self.line else { return };
        while count > 0 {
            let bytes = self.outbox.next();
            if bytes.is_empty() {
                return;
            }
            let written = bytes.len().min(count);
            line.bytes.extend(&bytes[..written]);
            self.outbox.wrote(written);
            count -= written;
        }
    }

    fn bring(&mut self, mut count: usize) {
        let Some(line) = &mut self.line else { return };
        while count > 0 && !line.bytes.is_empty() {
            let room = line.reader.room();
            let part = room.len().min(count).min(line.bytes.len());
            for (place, byte) in room.iter_mut().zip(line.bytes.drain(..part)) {
                *place = byte;
            }
            line.reader.filled(part);
            count -= part;
            while let Some(frame) = line.reader.next().expect("the sender's frames are good") {
                match frame {
                    Frame::Batch { seq, messages, size } => {
                        let messages = Messages::check(messages, 1).expect("the sender's messages are good");
                        if self.inbox.arrive(seq, size) == Arrival::Duplicate {
                            continue;
                        }
                        for message in messages {
                            let publication = message.publication;
                            let number = publication.payload().first_chunk().map(|number| u32::from_be_bytes(*number));
                            let number = number.expect("every payload has a number");
                            if publication.head.qos > 0 {
                                self.have.push((seq, number));
                            } else {
                                self.have_qos0.push(number);
                            }
                        }
                        let taken = if self.is_storing_at_once { Taken::Now } else { Taken::Later };
                        assert!(self.inbox.settle(seq, taken));
                        if seq > 0 && self.is_storing_at_once {
                            self.stored = seq;
                        } else if seq > 0 {
                            self.waiting.push_back(seq);
                        }
                    }
                    Frame::Ping(_) => self.beats_arrived += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn keep(&mut self, but: usize) {
        let count = self.waiting.len().saturating_sub(but);
        if let Some(seq) = self.waiting.drain(..count).next_back() {
            self.stored = seq;
            assert!(self.inbox.keep(&self.from, seq));
        }
    }

    fn acknowledge(&mut self) {
        if self.line.is_some()
            && let Some((kept, credit)) = self.inbox.acknowledgement()
        {
            self.outbox.acknowledge(kept, credit).expect("the receiver tells the truth");
        }
    }

    fn cut(&mut self) {
        if self.line.take().is_some() {
            self.outbox.disconnect();
        }
    }

    fn connect(&mut self) {
        self.cut();
        let stored = self.stored;
        let resume = self.inbox.begin(&self.from, || stored);
        self.outbox
            .connect(resume.kept, resume.received, resume.credit, MESSAGE_LEN_MAX)
            .expect("the receiver tells the truth");
        self.line = Some(Line { bytes: VecDeque::new(), reader: FrameReader::new(MESSAGE_LEN_MAX) });
    }

    fn restart(&mut self) {
        self.cut();
        self.inbox = Inbox::new(WINDOW);
        self.waiting.clear();
        let stored = self.stored;
        self.have.retain(|(seq, _)| *seq <= stored);
    }

    /// Lets everything come to its end over a good line.
    fn settle(&mut self) {
        self.connect();
        for _ in 0..10_000 {
            self.outbox.close();
            self.write(usize::MAX);
            self.bring(usize::MAX);
            self.keep(0);
            self.acknowledge();
            if self.outbox.kept() == self.outbox.last_seq() && self.outbox.unwritten() == 0 {
                break;
            }
        }
        assert_eq!(self.outbox.kept(), self.outbox.last_seq(), "everything is acknowledged in the end");
        assert_eq!(self.outbox.held(), 0, "and nothing is held any more");
        let have: Vec<u32> = self.have.iter().map(|(_, number)| *number).collect();
        assert_eq!(have, self.promised, "nothing of QoS 1 or 2 is lost, doubled or out of order");
        let mut once = self.have_qos0.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), self.have_qos0.len(), "nothing of QoS 0 is doubled");
        assert!(self.have_qos0.len() <= self.sent_qos0);
        assert_eq!(self.inbox.oddities().1, 0, "no gap");
        assert!(self.beats_arrived <= self.beats);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_flapping_line_loses_doubles_and_swaps_nothing(
        steps in proptest::collection::vec(step(), 1..120),
        batch_len in prop_oneof![Just(1_usize), Just(400), Just(FRAME_LEN_MAX)],
        is_storing_at_once in any::<bool>(),
    ) {
        let mut world = World::new(batch_len, is_storing_at_once);
        for step in &steps {
            world.take(step);
        }
        world.settle();
    }

    #[test]
    fn messages_of_all_kinds_arrive_in_one_order_while_nothing_restarts(
        messages in proptest::collection::vec((0..3_u8, 0..2_000_usize), 1..60), batch_len in 1..5_000_usize,
    ) {
        let mut world = World::new(batch_len, true);
        world.connect();
        for (qos, size) in messages {
            world.take(&Step::Append { qos, size });
            world.take(&Step::Flush);
            world.take(&Step::Write(1_000));
        }
        world.write(usize::MAX);
        world.bring(usize::MAX);
        let mut all: Vec<u32> = world.have.iter().map(|(_, number)| *number).chain(world.have_qos0.iter().copied()).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..world.next_number).collect::<Vec<_>>());
    }
}

fn filled(world: &mut World, qos: u8) -> u32 {
    let mut count = 0;
    loop {
        let before = world.outbox.dropped();
        world.append(qos, 1_000);
        if world.outbox.dropped() != before {
            return count;
        }
        count += 1;
    }
}

#[test]
fn a_peer_that_is_away_gets_what_there_is_room_for_and_the_rest_is_counted_by_qos() {
    let mut world = World::new(FRAME_LEN_MAX, true);
    let count = filled(&mut world, 1);
    assert!((280..300).contains(&count), "{count}");
    world.append(2, 1_000);
    world.append(0, 1_000);
    assert_eq!(world.outbox.dropped().messages, [1, 1, 1]);
    world.settle();
    assert_eq!(world.have.len(), count as usize);
}

#[test]
fn a_peer_without_credit_gets_no_more_and_loses_only_what_may_be_lost() {
    let mut world = World::new(FRAME_LEN_MAX, false);
    world.connect();
    let count = filled(&mut world, 0);
    assert!(u64::from(count) * 1_000 < WINDOW && count > 90, "{count}");
    for _ in 0..150 {
        world.append(1, 1_000);
    }
    world.outbox.close();
    world.write(usize::MAX);
    let on_the_line = world.line.as_ref().unwrap().bytes.len() as u64;
    assert!(on_the_line >= WINDOW && on_the_line < WINDOW + 2 * FRAME_LEN_MAX as u64, "{on_the_line}");
    world.settle();
    assert_eq!(world.have.len(), 150);
}

#[test]
fn a_message_larger_than_the_credit_goes_when_nothing_else_is_under_way() {
    for qos in [0, 1] {
        let mut world = World::new(FRAME_LEN_MAX, true);
        world.connect();
        world.append(qos, 2 * WINDOW as usize);
        world.write(usize::MAX);
        world.bring(usize::MAX);
        assert_eq!(world.have.len() + world.have_qos0.len(), 1);
    }
}

#[test]
fn a_peer_with_another_data_directory_gets_what_the_earlier_one_has_not_kept() {
    let mut world = World::new(1, true);
    world.connect();
    for _ in 0..3 {
        world.append(1, 10);
    }
    world.outbox.close();
    world.write(usize::MAX);
    world.bring(usize::MAX);
    world.acknowledge();
    world.append(1, 10);
    // The disk is lost, and with it all memory of what had come.
    world.cut();
    world.inbox = Inbox::new(WINDOW);
    world.stored = 0;
    world.have.clear();
    world.connect();
    world.outbox.close();
    world.write(usize::MAX);
    world.bring(usize::MAX);
    assert_eq!(world.have, [(4, 3)]);
    assert_eq!(world.inbox.oddities(), (0, 1), "what is missing is told");
}

#[test]
fn a_link_that_is_made_anew_is_no_gap_and_repeats_no_number() {
    let mut world = World::new(1, true);
    world.append(1, 10);
    world.settle();
    world.cut();
    world.outbox.append(&message(&span(b"1234", 1)), 1).unwrap();
    world.outbox.discard();
    assert_eq!(world.outbox.append(&message(&span(b"1234", 1)), 1), Err(Overflow::Gone));
    assert_eq!((world.outbox.dropped().messages[1], world.outbox.held()), (2, 0));
    let limits = OutboxLimits { held_max: HELD_MAX, batch_len: 1 };
    world.outbox = Outbox::new(limits, LINK_SPACING);
    world.append(1, 10);
    world.settle();
    assert_eq!(world.have, [(1, 0), (LINK_SPACING + 1, 1)]);
}

#[test]
fn a_peer_that_remembers_what_never_was_is_not_believed() {
    let mut outbox = Outbox::new(OutboxLimits { held_max: HELD_MAX, batch_len: 1 }, 0);
    assert!(outbox.connect(1, 1, WINDOW, MESSAGE_LEN_MAX).is_err());
    outbox.connect(0, 0, WINDOW, MESSAGE_LEN_MAX).unwrap();
    assert!(outbox.acknowledge(5, WINDOW).is_err());
}

#[test]
fn what_the_peer_would_refuse_is_not_sent_to_it() {
    let mut world = World::new(FRAME_LEN_MAX, true);
    world.append(1, 200_000);
    world.outbox.connect(0, 0, WINDOW, 100_000).unwrap();
    assert_eq!(world.outbox.dropped().messages, [0, 1, 0]);
    let bytes = span(&payload(0, 200_000), 2);
    assert_eq!(world.outbox.append(&message(&bytes), 1), Err(Overflow::TooLarge));
    assert_eq!(world.outbox.held(), 0);
}

#[test]
fn a_run_of_the_peer_that_is_new_begins_with_what_was_stored_of_it() {
    let mut inbox = Inbox::new(WINDOW);
    let first = Arc::new(identity("a@h", 1).node);
    let second = Arc::new(identity("a@h", 2).node);
    assert_eq!(inbox.begin(&first, || 5).received, 5);
    inbox.arrive(6, 10);
    inbox.settle(6, Taken::Later);
    // The same run comes again: what is here already is not asked of the store.
    let resume = inbox.begin(&first, || unreachable!("it is known"));
    assert_eq!((resume.kept, resume.received, resume.credit), (5, 6, WINDOW - 10));
    assert_eq!(inbox.begin(&second, || 0).received, 0);
    assert!(!inbox.keep(&first, 6), "what belongs to another run is not mixed up");
}

#[test]
fn a_batch_that_is_safe_waits_for_those_before_it() {
    let mut inbox = Inbox::new(WINDOW);
    let from = Arc::new(identity("a@h", 1).node);
    inbox.begin(&from, || 0);
    for (seq, taken) in [(1, Taken::Later), (2, Taken::Now), (3, Taken::Later)] {
        inbox.arrive(seq, 10);
        assert!(inbox.settle(seq, taken));
    }
    assert_eq!(inbox.kept(), 0);
    assert!(inbox.keep(&from, 1));
    assert_eq!((inbox.kept(), inbox.pending_bytes()), (2, 10));
    // What cannot be taken comes again.
    inbox.arrive(4, 10);
    assert!(!inbox.settle(4, Taken::Not));
    assert_eq!((inbox.received(), inbox.arrive(4, 10)), (3, Arrival::New));
}
