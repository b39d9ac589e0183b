//! All clients of a run on one event loop: connecting, reading, writing, leaving. What the messages are is a [`Scenario`]'s.
//!
//! One read may bring hundreds of packets, and what they are answered with and what is published meanwhile leaves with one
//! write for each connection and turn. Nothing is allocated for a message.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::clock::{self, MILLISECOND, Nanos, SECOND};
use super::control::Control;
use super::histogram::Histogram;
use super::layers::layers;
use super::link::{Link, Phase, ReadStep, SentAt};
use super::options::Options;
use super::target::Target;
use crate::codec::{Publish, QoS, ReasonCode, SubscribeOptions};
use crate::protocol::client::{Client, Event, Received};
use crate::transport::outgoing::Layers;

/// Why a run ends before its work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// The broker cannot be reached or does not accept what the run needs; a sentence for people.
    Failed(String),
    /// The owner stopped the run.
    Stopped,
    /// `max_time` is over.
    MaxTime,
}

/// What a run makes of its messages.
pub trait Scenario {
    /// A message has come. With `hand` the same client can publish.
    fn on_delivery(&mut self, link: usize, at: Nanos, delivery: &Publish<'_>, hand: Hand<'_>);

    /// A published message of `QoS` 1 or 2 has arrived, or was refused.
    fn on_acknowledged(&mut self, _link: usize, _at: Nanos, _sent_at: Nanos, _reason: ReasonCode) {}

    /// The broker has read everything before a PINGREQ.
    fn on_pong(&mut self, _link: usize) {}
}

/// The client that a message came to.
#[derive(Debug)]
pub struct Hand<'a> {
    /// Its session.
    pub client: &'a mut Client<SentAt>,
    /// What it writes.
    pub output: &'a mut Vec<u8>,
}

/// How a fleet deals with clients that cannot connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// One is too many.
    None,
    /// They are counted.
    Counting,
}

/// What happened to connections.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Connected and subscribed now.
    pub ready: u64,
    /// Could not connect or subscribe.
    pub failed: u64,
    /// Ended although nobody wanted it.
    pub lost: u64,
    /// Why the first one failed.
    pub first_failure: Option<String>,
    /// Why the first one was lost.
    pub first_loss: Option<String>,
    /// Reads that brought something.
    pub reads: u64,
    /// Bytes that they brought.
    pub read_bytes: u64,
    /// How long it took from the socket to the CONNACK (and SUBACK).
    pub connect_times: Histogram,
}

/// Bytes of the read buffer, unless a larger packet needs more.
const BUFFER_SIZE: usize = 128 << 10;
/// How long clients may make no progress at all while they connect.
const CONNECT_PATIENCE: Nanos = 10 * SECOND;
/// How long the broker may take to close connections that were ended in good order.
const LEAVE_PATIENCE: Nanos = 2 * SECOND;
/// Waits longer than this may be rounded to milliseconds.
const COARSE: Nanos = 20 * MILLISECOND;
/// How often the keep alive of all clients is looked at.
const KEEP_ALIVE_EVERY: Nanos = SECOND;

/// All clients of a run.
#[derive(Debug)]
pub struct Fleet {
    /// The clients.
    pub links: Vec<Link>,
    /// What happened to them.
    pub tally: Tally,
    /// What the owner sees.
    pub control: Arc<Control>,
    target: Target,
    layers: Layers,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    dirty: Vec<usize>,
    readable: Vec<usize>,
    opening: usize,
    concurrency: usize,
    qos: QoS,
    deadline: Nanos,
    keep_alive_at: Nanos,
}

impl Fleet {
    /// A fleet whose links are not connected.
    pub fn new(options: &Options, links: Vec<Link>, control: Arc<Control>) -> Result<Self, Cut> {
        let place = |error: io::Error| Cut::Failed(format!("{}:{}: {error}", options.host, options.port));
        let target = Target::resolve(&options.host, options.port, links.len()).map_err(place)?;
        let layers = layers(options).map_err(Cut::Failed)?;
        let poll = Poll::new().map_err(|error| Cut::Failed(format!("cannot watch sockets: {error}")))?;
        let deadline = control.started_at() + options.max_time;
        Ok(Self {
            links,
            tally: Tally::default(),
            control,
            target,
            layers,
            poll,
            events: Events::with_capacity(1_024),
            buffer: vec![0; BUFFER_SIZE],
            dirty: Vec::new(),
            readable: Vec::new(),
            opening: 0,
            concurrency: options.concurrency as usize,
            qos: options.qos,
            deadline,
            keep_alive_at: 0,
        })
    }

    /// The broker's address.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Ends the run when it is to end.
    pub fn check(&self) -> Result<(), Cut> {
        if self.control.is_stopping() {
            return Err(Cut::Stopped);
        }
        if clock::now() >= self.deadline {
            return Err(Cut::MaxTime);
        }
        Ok(())
    }

    // -- connecting ------------------------------------------------------------------------------------------------

    /// Connects (and subscribes) these links, and returns when each is ready or has failed.
    pub fn open(&mut self, which: Range<usize>, patience: Patience, scenario: &mut impl Scenario) -> Result<(), Cut> {
        let mut next = which.start;
        let failed_before = self.tally.failed;
        let mut progress = (0, clock::now());
        while next < which.end || self.opening > 0 {
            while next < which.end && self.opening < self.concurrency {
                self.begin(next);
                next += 1;
            }
            self.turn(100 * MILLISECOND, scenario)?;
            self.check()?;
            self.control.show(self.tally.ready, 0, 0);
            if patience == Patience::None && self.tally.failed > failed_before {
                return Err(self.failure());
            }
            let settled = self.tally.ready + self.tally.failed + next as u64;
            if settled != progress.0 {
                progress = (settled, clock::now());
            } else if clock::now() > progress.1 + CONNECT_PATIENCE {
                let address = self.target.address();
                let (waiting, seconds) = (self.opening, CONNECT_PATIENCE / SECOND);
                return Err(Cut::Failed(format!("{address} did not answer {waiting} clients within {seconds} s")));
            }
        }
        if self.tally.ready == 0 && self.tally.failed > failed_before {
            return Err(self.failure());
        }
        Ok(())
    }

    fn failure(&self) -> Cut {
        Cut::Failed(self.tally.first_failure.clone().unwrap_or_else(|| "the connection failed".into()))
    }

    fn begin(&mut self, index: usize) {
        let at = clock::now();
        let Some(link) = self.links.get_mut(index) else { return };
        self.opening += 1;
        if let Err(error) = link.open((&self.target, &self.layers), index, self.poll.registry(), at) {
            // So that it counts as one that was under way.
            link.phase = Phase::Opening;
            self.drop_link(index, || error.to_string());
        }
    }

    /// A link that connects has a socket that is writable.
    fn greet(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else { return };
        match link.is_connected() {
            Ok(None) => {}
            Ok(Some(())) => {
                link.phase = Phase::Greeting;
                link.client.connect(&mut link.output);
                self.mark_dirty(index);
            }
            Err(error) => self.drop_link(index, || error.to_string()),
        }
    }

    fn become_ready(&mut self, index: usize, at: Nanos) {
        let Some(link) = self.links.get_mut(index) else { return };
        link.phase = Phase::Ready;
        self.tally.connect_times.add(at.saturating_sub(link.opened_at));
        self.tally.ready += 1;
        self.opening -= 1;
    }

    /// A connection has ended: by our wish, before it was ready, or lost.
    #[cold]
    fn drop_link(&mut self, index: usize, reason: impl FnOnce() -> String) {
        let Some(link) = self.links.get_mut(index) else { return };
        let phase = link.phase;
        link.close();
        let address = self.target.address();
        let client_id =
            || self.links.get(index).map(|link| link.client.settings().client_id.clone()).unwrap_or_default();
        match phase {
            Phase::Away | Phase::Leaving => {}
            Phase::Ready => {
                self.tally.ready -= 1;
                self.tally.lost += 1;
                if self.tally.first_loss.is_none() {
                    self.tally.first_loss = Some(format!("client '{}': {}", client_id(), reason()));
                }
            }
            Phase::Opening | Phase::Greeting | Phase::Subscribing => {
                self.opening -= 1;
                self.tally.failed += 1;
                if self.tally.first_failure.is_none() {
                    let step = if phase == Phase::Opening { "cannot connect to" } else { "not accepted by" };
                    let text = format!("client '{}' {step} {address}: {}", client_id(), reason());
                    self.tally.first_failure = Some(text);
                }
            }
        }
    }

    /// Ends these connections in good order and waits, not for ever, until the broker has closed them: it has then dealt with
    /// everything before.
    pub fn leave(&mut self, which: Range<usize>, scenario: &mut impl Scenario) -> Result<(), Cut> {
        for index in which.clone() {
            let Some(link) = self.links.get_mut(index) else { continue };
            if link.phase == Phase::Ready {
                link.client.disconnect(ReasonCode::NORMAL_DISCONNECTION, &mut link.output);
                link.phase = Phase::Leaving;
                self.tally.ready -= 1;
                self.mark_dirty(index);
            }
        }
        self.flush();
        for link in self.links.get_mut(which.clone()).unwrap_or_default() {
            if link.phase == Phase::Leaving && link.backlog() == 0 {
                link.shut();
            }
        }
        let until = clock::now() + LEAVE_PATIENCE;
        while clock::now() < until && self.is_leaving(which.clone()) {
            self.turn(20 * MILLISECOND, scenario)?;
            self.check()?;
        }
        for link in self.links.get_mut(which).unwrap_or_default() {
            link.close();
        }
        Ok(())
    }

    fn is_leaving(&self, which: Range<usize>) -> bool {
        self.links.get(which).unwrap_or_default().iter().any(|link| link.phase == Phase::Leaving)
    }

    // -- one turn --------------------------------------------------------------------------------------------------

    /// Writes what there is, waits at most `timeout` for something to happen, and deals with it.
    #[inline]
    pub fn turn(&mut self, timeout: Nanos, scenario: &mut impl Scenario) -> Result<(), Cut> {
        self.flush();
        self.wait(if self.readable.is_empty() { timeout } else { 0 })?;
        let ready = std::mem::take(&mut self.readable);
        for index in &ready {
            self.read(*index, scenario);
        }
        self.reuse(ready);
        self.keep_alive();
        self.flush();
        Ok(())
    }

    /// Keeps the memory of the list that was worked off, and what came onto the list meanwhile.
    fn reuse(&mut self, mut ready: Vec<usize>) {
        ready.clear();
        ready.append(&mut self.readable);
        self.readable = ready;
    }

    #[inline]
    fn wait(&mut self, timeout: Nanos) -> Result<(), Cut> {
        let mut timeout = timeout;
        if timeout > 0 && timeout < COARSE {
            // SAFETY: the descriptor is that of `self.poll`, which lives longer than this borrow.
            let poll = unsafe { BorrowedFd::borrow_raw(self.poll.as_raw_fd()) };
            clock::wait_readable(poll, timeout);
            timeout = 0;
        }
        match self.poll.poll(&mut self.events, Some(Duration::from_nanos(timeout))) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Cut::Failed(format!("cannot wait for sockets: {error}"))),
        }
        let mut opening = Vec::new();
        for event in &self.events {
            let Token(index) = event.token();
            let Some(link) = self.links.get_mut(index) else { continue };
            if event.is_writable() {
                link.unblock();
                if link.phase == Phase::Opening {
                    opening.push(index);
                } else if link.backlog() > 0 && !link.is_dirty {
                    link.is_dirty = true;
                    self.dirty.push(index);
                }
            }
            link.is_read_closed |= event.is_read_closed();
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.readable.push(index);
            }
        }
        for index in opening {
            self.greet(index);
        }
        Ok(())
    }

    #[inline]
    fn read(&mut self, index: usize, scenario: &mut impl Scenario) {
        let Some(link) = self.links.get_mut(index) else { return };
        if matches!(link.phase, Phase::Away | Phase::Opening) {
            return;
        }
        if link.is_stuck() {
            link.waits_for_room = true;
            return;
        }
        match link.read(&mut self.buffer) {
            Ok(ReadStep::Bytes { filled, new, more }) => {
                self.tally.reads += 1;
                self.tally.read_bytes += new as u64;
                // The end of a connection may be announced together with its last bytes, and is not announced again.
                if more || link.is_read_closed {
                    self.readable.push(index);
                }
                self.packets(index, filled, scenario);
            }
            Ok(ReadStep::Nothing) => {}
            Ok(ReadStep::Closed) => self.drop_link(index, || "the broker closed the connection".into()),
            Err(error) => self.drop_link(index, || error.to_string()),
        }
    }

    /// Takes the packets out of the first `filled` bytes of the buffer.
    #[inline]
    fn packets(&mut self, index: usize, filled: usize, scenario: &mut impl Scenario) {
        let at = clock::now();
        // The buffer is moved out so that packets in it can be looked at while the fleet changes.
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        let ended = loop {
            let (Some(link), Some(input)) = (self.links.get_mut(index), buffer.get(start..filled)) else { break None };
            match link.client.receive(input, &mut link.output) {
                Ok(Received::Packet { size, event }) => {
                    start += size;
                    if let Some(reason) = self.on_event(index, at, event, scenario) {
                        break Some(reason);
                    }
                }
                Ok(Received::Incomplete { needed }) => {
                    link.keep(input);
                    // The rest of a large packet has to fit; the client has refused what is larger than it accepts.
                    let needed = needed.unwrap_or(0) + BUFFER_SIZE / 2;
                    if needed > buffer.len() {
                        buffer.resize(needed, 0);
                    }
                    break None;
                }
                Err(error) => break Some(error.to_string()),
            }
        };
        self.buffer = buffer;
        match ended {
            Some(reason) => self.drop_link(index, || reason),
            None => self.mark_dirty(index),
        }
    }

    /// Returns why the connection has ended, if it has.
    #[inline]
    fn on_event(
        &mut self,
        index: usize,
        at: Nanos,
        event: Event<'_, SentAt>,
        scenario: &mut impl Scenario,
    ) -> Option<String> {
        match event {
            Event::Delivery(delivery) => {
                let link = self.links.get_mut(index)?;
                let hand = Hand { client: &mut link.client, output: &mut link.output };
                scenario.on_delivery(index, at, &delivery, hand);
            }
            Event::Acknowledged { reason, kept, .. } => scenario.on_acknowledged(index, at, kept.0, reason),
            Event::Pong => scenario.on_pong(index),
            Event::Connected(connack) => return self.on_connected(index, at, connack.session_present),
            Event::Subscribed(answer) => {
                if let Some(reason) = answer.reasons.iter().find(|reason| reason.is_error()) {
                    return Some(format!("the subscription is refused: {}", reason.description()));
                }
                self.become_ready(index, at);
            }
            Event::Refused(connack) => return Some(format!("refused: {}", connack.reason.description())),
            Event::Disconnected(disconnect) => {
                return Some(format!("the broker disconnected it: {}", disconnect.reason.description()));
            }
            Event::Repeated(_) | Event::Unsubscribed(_) | Event::Handled => {}
        }
        None
    }

    fn on_connected(&mut self, index: usize, at: Nanos, session_present: bool) -> Option<String> {
        let qos = self.qos;
        let link = self.links.get_mut(index)?;
        link.session_present = session_present;
        let Some(filter) = &link.filter else {
            self.become_ready(index, at);
            return None;
        };
        link.phase = Phase::Subscribing;
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        match link.client.subscribe(&[(filter.as_ref(), options)], None, &mut link.output) {
            Ok(_) => None,
            Err(refusal) => Some(refusal.to_string()),
        }
    }

    // -- writing ---------------------------------------------------------------------------------------------------

    /// Notes that a link may have output.
    #[inline]
    pub fn mark_dirty(&mut self, index: usize) {
        if let Some(link) = self.links.get_mut(index).filter(|link| !link.is_dirty && link.backlog() > 0) {
            link.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Writes what there is to write, as far as the sockets take it.
    #[inline]
    pub fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let Some(link) = self.links.get_mut(index) else { continue };
            link.is_dirty = false;
            if let Err(error) = link.flush() {
                self.drop_link(index, || error.to_string());
            } else if link.waits_for_room && !link.is_stuck() {
                link.waits_for_room = false;
                self.readable.push(index);
            }
        }
        self.dirty = dirty;
    }

    /// Clients that only wait still have to be heard of.
    fn keep_alive(&mut self) {
        let at = clock::now();
        if at < self.keep_alive_at {
            return;
        }
        self.keep_alive_at = at + KEEP_ALIVE_EVERY;
        for index in 0..self.links.len() {
            let Some(link) = self.links.get_mut(index) else { break };
            if link.phase != Phase::Ready {
                continue;
            }
            match link.client.keep_alive(at / MILLISECOND, &mut link.output) {
                Ok(_) => self.mark_dirty(index),
                Err(error) => self.drop_link(index, || error.to_string()),
            }
        }
    }
}
