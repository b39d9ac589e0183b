//! One worker: its event loop, accepting, timers, mail.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use crate::broker::events::Level;
use crate::broker::{Batch, Node};
use crate::codec::ReasonCode;
use crate::message::{Millis, NEVER};
use crate::metrics::Counter;
use crate::protocol::{Context, Ending, Verdict};

use super::accepting::LocalListener;
use super::desk::Tickets;
use super::passwords::PasswordChecks;
use super::reading::is_stuck;
use super::slot::{Opening, Slot, Stage};
use super::{Mail, Mailbox};

const WAKE: Token = Token(usize::MAX - 1);
pub(super) const FIRST_LISTENER: usize = usize::MAX / 2;
const EVENTS_MAX: usize = 1_024;
/// One read takes at most this much; so do the packets of one batch.
pub(super) const READ_BYTES: usize = 64 * 1_024;
/// The worker that watches the node's deadlines.
const KEEPER: usize = 0;

/// One thread with its connections.
pub struct Worker {
    pub(super) index: usize,
    pub(super) node: Arc<Node>,
    pub(super) poll: Poll,
    pub(super) mailbox: Arc<Mailbox>,
    /// The mailboxes of all workers, by index.
    pub(super) colleagues: Vec<Arc<Mailbox>>,
    /// Boxed, so that a growing table moves pointers and not connections.
    pub(super) slots: Slab<Box<Slot>>,
    pub(super) listeners: Vec<Option<LocalListener>>,
    pub(super) batch: Batch,
    pub(super) cx: Context,
    pub(super) read_buffer: Vec<u8>,
    /// Where layers put what is not yet for the reader.
    pub(super) scratch: Vec<u8>,
    pub(super) tickets: Tickets,
    pub(super) checks: Arc<PasswordChecks>,
    /// Connections that have more to read.
    pub(super) ready: Vec<usize>,
    timers: BTreeSet<(Millis, usize)>,
    pub(super) accept_retry_at: Millis,
    next_sweep: Millis,
    pub(super) is_stopping: bool,
}

impl Worker {
    /// A worker that does not run yet.
    pub(super) fn new(index: usize, node: Arc<Node>, checks: Arc<PasswordChecks>) -> io::Result<(Self, Arc<Mailbox>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let registry = poll.registry().try_clone()?;
        let mailbox = Arc::new(Mailbox {
            mail: parking_lot::Mutex::default(),
            waker,
            registry,
            connections: AtomicUsize::new(0),
            websockets: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
        });
        let cx = node.context();
        let worker = Self {
            index,
            node,
            poll,
            mailbox: Arc::clone(&mailbox),
            colleagues: Vec::new(),
            slots: Slab::new(),
            listeners: Vec::new(),
            batch: Batch::default(),
            cx,
            read_buffer: vec![0; READ_BYTES],
            scratch: vec![0; READ_BYTES],
            tickets: Tickets::new(index),
            checks,
            ready: Vec::new(),
            timers: BTreeSet::new(),
            accept_retry_at: NEVER,
            next_sweep: NEVER,
            is_stopping: false,
        };
        Ok((worker, mailbox))
    }

    /// Tells the worker how to reach all workers, itself included.
    pub fn set_colleagues(&mut self, colleagues: Vec<Arc<Mailbox>>) {
        self.colleagues = colleagues;
    }

    /// Runs until it is told to stop.
    pub fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !(self.is_stopping && self.slots.is_empty()) {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let fields = vec![("error", error.to_string())];
                    self.node.log(&mut self.cx, Level::Error, "a worker cannot wait for its sockets and ends", fields);
                    return;
                }
            }
            self.node.refresh(&mut self.cx);
            if catch_unwind(AssertUnwindSafe(|| self.turn(&events))).is_err() {
                // Its connections would hang for ever and nobody would know: a restart is the lesser evil.
                eprintln!(
                    "strogoff: a worker met a bug and cannot go on; the process ends. Please report the panic above."
                );
                std::process::abort();
            }
        }
        self.node.metrics.absorb(&mut self.cx.tally);
    }

    fn turn(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKE => self.read_mail(),
                Token(token) if token >= FIRST_LISTENER => self.accept(token - FIRST_LISTENER),
                Token(key) => self.on_socket(key, event),
            }
        }
        let ready = std::mem::take(&mut self.ready);
        for key in ready {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.is_queued = false;
            }
            self.read(key);
        }
        self.run_timers();
        self.batch.flush_all(&self.node, &mut self.cx);
        if self.node.take_deadline_moved() {
            self.wake_keeper();
        }
        self.node.metrics.absorb(&mut self.cx.tally);
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || self.batch.has_flush_due() {
            return Some(Duration::ZERO);
        }
        let mut next = self.timers.first().map_or(NEVER, |(at, _)| *at).min(self.accept_retry_at);
        if self.index == KEEPER {
            next = next.min(self.node.next_deadline()).min(self.next_sweep);
        }
        if next == NEVER {
            return None;
        }
        Some(Duration::from_millis(next.saturating_sub(self.node.clock.now())))
    }

    fn on_socket(&mut self, key: usize, event: &mio::event::Event) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            slot.is_readable = true;
        }
        slot.is_read_closed |= event.is_read_closed() || event.is_error();
        if event.is_writable() {
            self.on_writable(key);
        }
        self.read(key);
    }

    fn on_writable(&mut self, key: usize) {
        self.flush_layers(key);
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Stage::Serving(session) = &slot.stage else { return };
        let session = session.clone();
        let mut state = session.lock();
        let Some(link) = state.link.as_mut().filter(|link| link.connection_id == slot.connection_id) else { return };
        if link.is_blocked {
            link.is_blocked = false;
            let is_done = self.batch.flush(&mut self.cx, &mut state, &session);
            self.node.tell(&mut self.cx, &mut state, &session);
            if !is_done {
                self.batch.flush_later(&mut state, &session);
            }
        }
        slot.is_output_full = is_stuck(&mut state, &self.cx);
    }

    /// What the store held back is written, so a connection whose output was full is read again.
    fn go_on(&mut self, key: usize, connection_id: u64) {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.connection_id == connection_id) else { return };
        slot.is_output_full = false;
        if slot.throttled_until == 0 {
            self.resume(key);
        }
    }

    // -- timers ----------------------------------------------------------------------------------------------------

    /// Makes sure that a connection is looked at no later than `at`.
    pub(super) fn arm(&mut self, key: usize, at: Millis) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if at < slot.next_check {
            self.timers.remove(&(slot.next_check, key));
            slot.next_check = at;
            self.timers.insert((at, key));
        }
    }

    /// Looks at a connection at `at` and not before.
    pub(super) fn rearm(&mut self, key: usize, at: Millis) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        self.timers.remove(&(slot.next_check, key));
        slot.next_check = NEVER;
        if at != NEVER {
            self.arm(key, at);
        }
    }

    /// Takes a connection off the timers.
    pub(super) fn disarm(&mut self, key: usize, next_check: Millis) {
        self.timers.remove(&(next_check, key));
    }

    fn run_timers(&mut self) {
        let now = self.cx.now;
        while let Some(&(at, key)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(slot) = self.slots.get_mut(key) {
                slot.next_check = NEVER;
                self.check(key);
            }
        }
        if self.accept_retry_at <= now {
            self.accept_retry_at = NEVER;
            for index in 0..self.listeners.len() {
                if self.listeners[index].as_ref().is_some_and(|listener| listener.is_pending) {
                    self.accept_pending(index);
                }
            }
        }
        if self.index == KEEPER {
            self.keep_house(now);
        }
    }

    fn keep_house(&mut self, now: Millis) {
        if self.node.next_deadline() <= now {
            self.node.run_deadlines(&mut self.cx, &mut self.batch);
        }
        let interval = self.cx.settings.expire_retain_cache * 1_000;
        if interval == 0 {
            self.next_sweep = NEVER;
        } else if self.next_sweep == NEVER {
            self.next_sweep = now + interval;
        } else if self.next_sweep <= now {
            self.node.sweep_retained(now);
            self.next_sweep = now + interval;
        }
    }

    /// Looks whether a connection has waited too long for something.
    pub(super) fn check(&mut self, key: usize) {
        let now = self.cx.now;
        let Some(slot) = self.slots.get(key) else { return };
        let mut next = NEVER;
        if let Some((ticket, deadline)) = slot.ticket {
            if deadline <= now {
                self.give_up_ticket(ticket);
                return;
            }
            next = next.min(deadline);
        }
        let lifetime = slot.lifetime_ms;
        if lifetime > 0 && !matches!(slot.stage, Stage::Draining) {
            if slot.opened_at + lifetime <= now {
                self.cx.tally.add(Counter::ConnectionLifetime, 1);
                let reason = ReasonCode::MAXIMUM_CONNECT_TIME;
                return self.close(key, Ending::broken(reason, "max_connection_lifetime is over"));
            }
            next = next.min(slot.opened_at + lifetime);
        }
        if slot.throttled_until > 0 {
            if slot.throttled_until <= now {
                return self.resume(key);
            }
            next = next.min(slot.throttled_until);
        }
        match &slot.stage {
            Stage::Connecting | Stage::Deciding(_) if slot.ticket.is_none() => {
                // Bytes that trickle in do not buy time, a finished step does.
                let limit = slot.opening.time_limit(&slot.listener.options, &self.cx.settings);
                let deadline = slot.step_since.saturating_add(limit);
                if deadline <= now {
                    self.cx.tally.add(Counter::SocketCloseTimeout, 1);
                    if slot.opening != Opening::Done {
                        return self.give_up_opening(key);
                    }
                    return self.close(
                        key,
                        Ending::broken(ReasonCode::KEEP_ALIVE_TIMEOUT, "no CONNECT within mqtt_connect_timeout"),
                    );
                }
                next = next.min(deadline);
            }
            Stage::Serving(_) if slot.silence_max != NEVER => {
                let deadline = slot.last_received + slot.silence_max;
                if deadline <= now && slot.ticket.is_none() && slot.throttled_until <= now {
                    return self.close(key, Ending::broken(ReasonCode::KEEP_ALIVE_TIMEOUT, "keep alive timeout"));
                }
                next = next.min(deadline.max(now + 1));
            }
            Stage::Draining => {
                if slot.drain_until <= now {
                    return self.remove(key);
                }
                next = next.min(slot.drain_until);
            }
            Stage::Connecting | Stage::Deciding(_) | Stage::Serving(_) => {}
        }
        if next != NEVER {
            self.arm(key, next);
        }
    }

    fn give_up_ticket(&mut self, ticket: u64) {
        if self.node.close_ticket(ticket) {
            self.cx.tally.add(Counter::HookTimeout, 1);
            self.on_verdict(ticket, &Verdict::deny(ReasonCode::NOT_AUTHORIZED));
        }
    }

    // -- mail ------------------------------------------------------------------------------------------------------

    fn read_mail(&mut self) {
        for mail in self.mailbox.take() {
            match mail {
                Mail::Adopt { state, socket } => self.adopt(state, socket),
                Mail::Listen { state, socket, generation } => self.listen(state, socket, generation),
                Mail::Unlisten { listener_id, kill_sessions } => self.unlisten(listener_id, kill_sessions),
                Mail::Verdicts(verdicts) => {
                    for (ticket, verdict) in verdicts {
                        self.on_verdict(ticket, &verdict);
                    }
                }
                Mail::TurnOver(sender) => drop(sender),
                Mail::Drain { slot, connection_id } => {
                    self.close_if(slot, connection_id, Ending::TakenOver { keeps_will: true });
                }
                Mail::GoOn { slot, connection_id } => self.go_on(slot, connection_id),
                Mail::Lost { slot, connection_id } => self.close_if(slot, connection_id, Ending::Lost),
                Mail::Hold(sessions) => self.batch.try_held(sessions),
                Mail::Kept => self.batch.release_held(),
                // Waking up was the message: the time to sleep is worked out anew.
                Mail::LookAtDeadlines => {}
                Mail::Stop => self.stop(),
            }
        }
    }

    fn stop(&mut self) {
        self.listeners.clear();
        self.is_stopping = true;
        let reason = ReasonCode::SERVER_SHUTTING_DOWN;
        self.close_all(&Ending::Administrative { reason }, |slot| !matches!(slot.stage, Stage::Draining));
    }

    /// Closes what is in a place if it is still the connection that was meant.
    fn close_if(&mut self, key: usize, connection_id: u64, ending: Ending) {
        if self.slots.get(key).is_some_and(|slot| slot.connection_id == connection_id) {
            self.close(key, ending);
        }
    }

    pub(super) fn close_all(&mut self, ending: &Ending, is_meant: impl Fn(&Slot) -> bool) {
        let keys: Vec<usize> = self.slots.iter().filter(|(_, slot)| is_meant(slot)).map(|(key, _)| key).collect();
        for key in keys {
            self.close(key, *ending);
        }
    }

    /// Wakes the worker that watches the node's deadlines.
    pub(super) fn wake_keeper(&self) {
        if self.index != KEEPER
            && let Some(keeper) = self.colleagues.get(KEEPER)
        {
            keeper.send(Mail::LookAtDeadlines);
        }
    }
}
