//! From readable sockets to packets.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codec::{FrameStep, ReasonCode, next_frame};
use crate::message::Millis;
use crate::metrics::Counter;
use crate::protocol::{Context, Ending, Step, UNKNOWN_LSN, Verdict};
use crate::transport::Fault;

use super::desk::{Desk, refused_because};
use super::slot::{Opening, Slot, Stage};
use super::worker::{READ_BYTES, Worker};
use crate::broker::events::Level;
use crate::broker::{SessionRef, SessionState, Unwritten};

/// Packet types that must not overtake the publishes before them.
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const DISCONNECT: u8 = 14;

/// What came of the bytes that were read.
pub(super) struct Progress {
    /// Bytes that are used up.
    pub consumed: usize,
    /// What to do now.
    pub step: Step,
    /// Size of the packet that begins behind `consumed`, 0 if unknown.
    pub needed: usize,
    /// The output is full.
    pub is_output_full: bool,
    /// What is left is the begin of a packet.
    pub is_incomplete: bool,
}

impl Progress {
    pub(super) fn at(consumed: usize, step: Step) -> Self {
        Self { consumed, step, needed: 0, is_output_full: false, is_incomplete: false }
    }
}

impl Worker {
    /// Reads once from a connection, if that makes sense now, and processes what came.
    #[inline]
    pub(super) fn read(&mut self, key: usize) {
        let Some(slot) = self.slots.get(key) else { return };
        if !slot.transport.is_layered() && slot.opening == Opening::Done {
            return self.read_once(key);
        }
        // Layers interpret bytes of strangers: a bug that these bring to light ends this connection and no other.
        if catch_unwind(AssertUnwindSafe(|| self.read_once(key))).is_err() {
            if self.read_buffer.is_empty() {
                self.read_buffer = vec![0; READ_BYTES];
            }
            self.on_bug(key);
        }
    }

    fn read_once(&mut self, key: usize) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if !slot.may_read(self.cx.now) {
            return;
        }
        if slot.has_backlog {
            return self.resume(key);
        }
        if !slot.is_readable {
            return;
        }
        if matches!(slot.stage, Stage::Draining) {
            return self.read_and_forget(key);
        }
        if slot.opening != Opening::Done {
            return self.open_up(key);
        }
        if slot.needed > READ_BYTES {
            return self.read_large(key);
        }
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let kept = slot.unread.len().min(READ_BYTES);
        buffer[..kept].copy_from_slice(&slot.unread[..kept]);
        slot.unread.clear();
        match read_some(slot, &mut buffer[kept..], &mut self.scratch) {
            Ok(Some(0)) => {
                self.read_buffer = buffer;
                self.close(key, Ending::Lost);
                return;
            }
            Ok(Some(count)) => {
                self.received(key, count);
                self.process(key, &buffer[..kept + count]);
            }
            Ok(None) => slot.unread.extend_from_slice(&buffer[..kept]),
            Err(fault) => {
                self.read_buffer = buffer;
                return self.on_fault(key, &fault);
            }
        }
        self.read_buffer = buffer;
        self.read_again(key);
    }

    /// Collects a packet that is larger than the read buffer; memory grows with what has come, not with what was announced.
    fn read_large(&mut self, key: usize) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let mut packet = std::mem::take(&mut slot.unread);
        let have = packet.len();
        let want = (slot.needed - have).min(have.max(READ_BYTES));
        packet.resize(have + want, 0);
        match read_some(slot, &mut packet[have..], &mut self.scratch) {
            Ok(Some(0)) => return self.close(key, Ending::Lost),
            Ok(Some(count)) => {
                packet.truncate(have + count);
                let is_whole = packet.len() >= slot.needed;
                self.received(key, count);
                if is_whole {
                    self.process(key, &packet);
                } else if let Some(slot) = self.slots.get_mut(key) {
                    slot.unread = packet;
                }
            }
            Ok(None) => {
                packet.truncate(have);
                slot.unread = packet;
            }
            Err(fault) => return self.on_fault(key, &fault),
        }
        self.read_again(key);
    }

    /// What a layer could make of it does not matter any more.
    fn read_and_forget(&mut self, key: usize) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        match crate::transport::read_socket(slot.transport.socket(), &mut self.scratch) {
            Ok(Some(count)) if count > 0 => self.read_again(key),
            Ok(None) => slot.is_readable = false,
            _ => self.remove(key),
        }
    }

    /// Ends a connection that cannot be read any further.
    fn on_fault(&mut self, key: usize, fault: &Fault) {
        match fault {
            Fault::Socket(_) => {
                self.cx.tally.add(Counter::SocketError, 1);
                self.close(key, Ending::Lost);
            }
            Fault::Tls(detail) => {
                self.cx.tally.add(Counter::TlsError, 1);
                if let Some(slot) = self.slots.get(key) {
                    let listener = slot.listener.options.name.to_string();
                    let fields = vec![("peer", slot.peer.to_string()), ("listener", listener)];
                    self.node.log(&mut self.cx, Level::Warning, format!("connection closed: {detail}"), fields);
                }
                self.close(key, Ending::Lost);
            }
            Fault::WebSocket(detail) => {
                self.cx.tally.add(Counter::WebSocketError, 1);
                self.close(key, Ending::broken(ReasonCode::PROTOCOL_ERROR, detail));
            }
        }
    }

    /// Has a connection read again after the others had their turn, if there may be more to do.
    pub(super) fn read_again(&mut self, key: usize) {
        self.watch_if_needed(key);
        if let Some(slot) = self.slots.get_mut(key)
            && !slot.is_queued
            && (slot.is_readable || slot.has_backlog)
            && slot.may_read(self.cx.now)
        {
            slot.is_queued = true;
            self.ready.push(key);
        }
    }

    fn received(&mut self, key: usize, count: usize) {
        self.cx.tally.add(Counter::BytesReceived, count as u64);
        if let Some(slot) = self.slots.get_mut(key) {
            slot.last_received = self.cx.now;
        }
    }

    /// Processes bytes of a connection; a bug that they bring to light ends that connection and no other.
    pub(super) fn process(&mut self, key: usize, input: &[u8]) {
        if catch_unwind(AssertUnwindSafe(|| self.process_bytes(key, input))).is_err() {
            self.on_bug(key);
        }
    }

    fn on_bug(&mut self, key: usize) {
        // What is half done belongs to this connection alone; locks are released by unwinding.
        self.batch.abandon();
        self.cx.notices.clear();
        self.cx.tally.add(Counter::Panic, 1);
        let message = "a bug in the broker was met while a packet was processed; please report it";
        self.node.log(&mut self.cx, Level::Error, message, Vec::new());
        self.close(key, Ending::broken(ReasonCode::UNSPECIFIED_ERROR, "an internal error"));
    }

    /// Processes bytes of a connection and keeps what could not be used yet.
    fn process_bytes(&mut self, key: usize, input: &[u8]) {
        let mut consumed = 0;
        while consumed < input.len() {
            let rest = &input[consumed..];
            let Some(slot) = self.slots.get(key) else { return };
            let progress = match &slot.stage {
                Stage::Connecting | Stage::Deciding(_) => self.handshake(key, rest),
                Stage::Serving(session) => {
                    let session = session.clone();
                    self.serve(key, &session, rest)
                }
                Stage::Draining => return,
            };
            consumed += progress.consumed;
            let Some(slot) = self.slots.get_mut(key) else { return };
            slot.needed = progress.needed;
            slot.is_output_full = progress.is_output_full;
            match progress.step {
                // A handshake that ended well leaves the packets behind CONNECT to the session.
                Step::Continue if progress.consumed > 0 && !progress.is_incomplete && !progress.is_output_full => {}
                Step::Continue | Step::Pause => {
                    slot.has_backlog = !progress.is_incomplete;
                    break;
                }
                Step::Throttle(ms) => {
                    self.throttle(key, ms);
                    break;
                }
                Step::Close(ending) => return self.close(key, ending),
            }
        }
        if let Some(slot) = self.slots.get_mut(key) {
            keep_unread(slot, &input[consumed..]);
        }
    }

    /// Processes packets of a connected client until something has to be waited for.
    fn serve(&mut self, key: usize, session: &SessionRef, input: &[u8]) -> Progress {
        let Some(connection_id) = self.slots.get(key).map(|slot| slot.connection_id) else {
            return Progress::at(0, Step::Continue);
        };
        let mut guard = session.lock();
        let state = &mut *guard;
        if state.link.as_ref().is_none_or(|link| link.connection_id != connection_id) {
            return Progress::at(0, Step::Close(Ending::TakenOver { keeps_will: true }));
        }
        if let Some(connection) = &mut state.session.connection {
            self.batch.pool.lend(connection);
        }
        let size_max = state.session.packet_size_max(&self.cx);
        let mut progress = Progress::at(0, Step::Continue);
        let mut desk = Desk {
            node: &self.node,
            batch: &mut self.batch,
            session,
            input,
            tickets: &mut self.tickets,
            slot: key,
            asked: None,
        };
        loop {
            match next_frame(&input[progress.consumed..], size_max) {
                Ok(FrameStep::Frame(frame)) => {
                    let is_ordered = matches!(frame.first_byte >> 4, SUBSCRIBE | UNSUBSCRIBE | DISCONNECT);
                    if is_ordered && !desk.batch.is_empty() {
                        break;
                    }
                    let size = frame.size;
                    progress.step = state.session.receive(&mut self.cx, &mut desk, frame);
                    progress.consumed += size;
                    if progress.step != Step::Continue {
                        break;
                    }
                    let connection = state.session.connection.as_ref();
                    if connection.is_some_and(|connection| !connection.has_output_room(&self.cx.settings)) {
                        progress.is_output_full = true;
                        break;
                    }
                }
                Ok(FrameStep::Incomplete { needed }) => {
                    progress.needed = needed.unwrap_or(0);
                    progress.is_incomplete = true;
                    break;
                }
                Err(error) => {
                    progress.step = Step::Close(error.into());
                    break;
                }
            }
        }
        let asked = desk.asked;
        if let Some(connection) = &mut state.session.connection {
            connection.bytes_received += progress.consumed as u64;
        }
        self.node.tell(&mut self.cx, state, session);
        if self.batch.is_binding()
            && let Some(connection) = &mut state.session.connection
        {
            // What acknowledges the messages of this batch must not go out before they are written down and on their way.
            connection.wait_for(UNKNOWN_LSN);
        }
        if progress.is_output_full {
            self.batch.flush(&mut self.cx, state, session);
            progress.is_output_full = is_stuck(state, &self.cx);
            if progress.is_output_full {
                self.cx.tally.add(Counter::ReadPaused, 1);
            }
        }
        self.node.tell(&mut self.cx, state, session);
        drop(guard);
        // Receivers first: what the publisher gets are acknowledgements, which vouch for what was handed over.
        if let Some(ending) = self.hand_over(connection_id, session, input) {
            progress.step = Step::Close(ending);
        }
        if progress.step == Step::Pause
            && let Some(ticket) = asked
        {
            self.await_verdict(key, ticket);
        }
        progress
    }

    /// Hands the messages of a publisher over, then lets out what it is told of them. Some: they could not be written down, so
    /// the connection ends without acknowledging them.
    fn hand_over(&mut self, connection_id: u64, session: &SessionRef, input: &[u8]) -> Option<Ending> {
        // Until the session knows where its receipts are, the store must not clean them away.
        let _handing_over = self.batch.is_binding().then(|| self.node.hand_over_begins());
        let unwritten = self.batch.dispatch(&self.node, &mut self.cx, input, true);
        let mut state = session.lock();
        for (id, segment) in self.batch.take_received(session.queue()) {
            state.note_received(id, segment);
        }
        let is_ours = state.link.as_ref().is_some_and(|link| link.connection_id == connection_id);
        if let Some(Unwritten { refusal, packet_ids }) = unwritten {
            self.cx.tally.add(Counter::StorePublishRefused, 1);
            for packet_id in packet_ids {
                state.session.received.remove(packet_id);
            }
            // What is in the output stays there: it may acknowledge them.
            let cause = "the store cannot take a message that has to be kept; it is not acknowledged";
            return is_ours.then(|| Ending::broken(refused_because(refusal), cause));
        }
        if let Some(connection) = &mut state.session.connection
            && is_ours
            && connection.waits_for == UNKNOWN_LSN
        {
            connection.waits_for = self.node.store().map_or(0, |store| store.appended());
        }
        let awaited = self.batch.take_awaited();
        if let Some(link) = &mut state.link
            && is_ours
        {
            link.wait_for_nodes(awaited);
        }
        self.batch.flush_later(&mut state, session);
        None
    }

    /// Notes that a connection waits for a verdict.
    pub(super) fn await_verdict(&mut self, key: usize, ticket: u64) {
        self.await_answer(key, ticket, self.cx.settings.hook_timeout);
    }

    /// Notes that a connection waits so long for an answer.
    pub(super) fn await_answer(&mut self, key: usize, ticket: u64, timeout: Millis) {
        let deadline = self.cx.now + timeout;
        if let Some(slot) = self.slots.get_mut(key) {
            slot.ticket = Some((ticket, deadline));
        }
        self.arm(key, deadline);
    }

    /// Goes on with a connection whose verdict has come.
    pub(super) fn on_verdict(&mut self, ticket: u64, verdict: &Verdict) {
        let Some(key) = self.tickets.take(ticket) else { return };
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.ticket.is_none_or(|(waiting, _)| waiting != ticket) {
            return;
        }
        slot.ticket = None;
        let step = match &slot.stage {
            Stage::Deciding(_) => self.on_connect_verdict(key, verdict),
            Stage::Serving(session) => {
                let session = session.clone();
                self.answer(key, &session, verdict)
            }
            Stage::Connecting | Stage::Draining => return,
        };
        match step {
            Step::Close(ending) => self.close(key, ending),
            Step::Pause => {}
            Step::Throttle(ms) => self.throttle(key, ms),
            Step::Continue => self.resume(key),
        }
    }

    /// Leaves a connection unread for a while.
    fn throttle(&mut self, key: usize, ms: Millis) {
        let until = self.cx.now + ms;
        if let Some(slot) = self.slots.get_mut(key) {
            slot.throttled_until = until;
            slot.has_backlog = true;
        }
        self.arm(key, until);
    }

    fn answer(&mut self, key: usize, session: &SessionRef, verdict: &Verdict) -> Step {
        let Some(connection_id) = self.slots.get(key).map(|slot| slot.connection_id) else { return Step::Pause };
        let mut state = session.lock();
        if state.link.as_ref().is_none_or(|link| link.connection_id != connection_id) {
            return Step::Close(Ending::TakenOver { keeps_will: true });
        }
        if let Some(connection) = &mut state.session.connection {
            self.batch.pool.lend(connection);
        }
        let mut desk = Desk {
            node: &self.node,
            batch: &mut self.batch,
            session,
            input: &[],
            tickets: &mut self.tickets,
            slot: key,
            asked: None,
        };
        let step = state.session.answer(&mut self.cx, &mut desk, verdict);
        let asked = desk.asked;
        self.node.tell(&mut self.cx, &mut state, session);
        if self.batch.is_binding()
            && let Some(connection) = &mut state.session.connection
        {
            connection.wait_for(UNKNOWN_LSN);
        }
        drop(state);
        if let Some(ending) = self.hand_over(connection_id, session, &[]) {
            return Step::Close(ending);
        }
        if step == Step::Pause
            && let Some(ticket) = asked
        {
            self.await_verdict(key, ticket);
        }
        step
    }

    /// Processes what waited while a connection was not read, then reads on.
    pub(super) fn resume(&mut self, key: usize) {
        let now = self.cx.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.throttled_until = 0;
        if !slot.may_read(now) {
            return;
        }
        slot.has_backlog = false;
        // Time that the broker made the client wait is not the client's silence.
        slot.last_received = now;
        let unread = std::mem::take(&mut slot.unread);
        if !unread.is_empty() {
            self.process(key, &unread);
        }
        self.check(key);
        self.read_again(key);
    }
}

/// Whether nothing more may be read from a client now: its output is full, and the kernel, the store or another node
/// holds it back.
pub(super) fn is_stuck(state: &mut SessionState, cx: &Context) -> bool {
    let (Some(link), Some(connection)) = (&mut state.link, &state.session.connection) else { return false };
    let is_full = !connection.has_output_room(&cx.settings);
    link.is_paused = is_full && (connection.waits_for > 0 || link.awaiting.is_some());
    is_full && (link.is_blocked || link.is_paused)
}

/// Reads once: `Some(0)` at the end, `None` when nothing has come for the reader.
pub(super) fn read_some(slot: &mut Slot, buffer: &mut [u8], scratch: &mut [u8]) -> Result<Option<usize>, Fault> {
    let received = slot.transport.read(buffer, scratch)?;
    // An empty socket announces the next bytes by a new event. Where the peer has closed there is no new event, so the end
    // has to be read.
    slot.is_readable = received.has_more || (slot.is_read_closed && !received.is_dry);
    slot.wants_write |= received.wants_write;
    Ok(match received.count {
        0 if received.is_over => Some(0),
        0 => None,
        count => Some(count),
    })
}

fn keep_unread(slot: &mut Slot, rest: &[u8]) {
    if rest.is_empty() {
        slot.unread = Vec::new();
    } else {
        slot.unread = rest.to_vec();
    }
}
