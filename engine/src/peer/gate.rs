//! The thread that accepts: it takes connections of peers, finds out who they are, and hands them to their links.
//!
//! Whoever has not proved to know the secret costs a bounded time, a bounded number of bytes and one of a bounded number of
//! places; where these are all taken the one that has waited longest goes, so a crowd of strangers cannot keep peers out for
//! longer than it takes them to shake hands.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use slab::Slab;

use crate::broker::Peer;
use crate::net::{Acceptor, Address, SocketOptions, bind};

use super::listener::{ClusterListener, Seat};
use super::pulse::Micros;
use super::refusal::RefusalCode;
use super::shared::Shared;
use super::status::count;
use super::tls::LinkTls;
use super::upper::TurnedAway;
use super::visitor::{Outcome, Visitor, check_certificate};
use super::wire::Wire;

/// Connections that may be in their handshake.
pub const HANDSHAKES_MAX: usize = 64;
/// Connections that are accepted before those that are there have their turn.
const ACCEPTED_A_TURN: usize = 64;
/// How long accepting pauses when the system has no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TURN_MAX: Duration = Duration::from_secs(1);
const WAKER: usize = 0;
const EVENTS: usize = 128;

enum GateMail {
    Open(Arc<ClusterListener>, Acceptor),
    Close(Arc<str>),
    /// A listener of this name that was full has room again.
    Room(Arc<str>),
    Stop,
}

struct Mailbox {
    mail: Mutex<Vec<GateMail>>,
    waker: Waker,
}

impl Mailbox {
    fn post(&self, mail: GateMail) {
        self.mail.lock().push(mail);
        // It fails only when the thread is gone.
        let _ = self.waker.wake();
    }
}

/// The listeners of a node for its peers.
pub(super) struct Gate {
    mailbox: Arc<Mailbox>,
    listeners: Mutex<Vec<Arc<ClusterListener>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Gate {
    pub fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Token(WAKER))?;
        let mailbox = Arc::new(Mailbox { mail: Mutex::default(), waker });
        let keeper = Keeper {
            shared: Arc::clone(shared),
            mailbox: Arc::clone(&mailbox),
            poll,
            places: Slab::new(),
            accept_at: None,
        };
        let thread = std::thread::Builder::new().name("strogoff-gate".to_owned()).spawn(move || keeper.run())?;
        Ok(Self { mailbox, listeners: Mutex::default(), thread: Mutex::new(Some(thread)) })
    }

    /// Listens. `None` where the name is taken.
    pub fn open(
        &self,
        name: &str,
        address: SocketAddr,
        tls: Option<LinkTls>,
        connections_max: Option<usize>,
    ) -> io::Result<Option<Arc<ClusterListener>>> {
        let mut listeners = self.listeners.lock();
        if listeners.iter().any(|listener| &*listener.name == name) {
            return Ok(None);
        }
        let (acceptor, doorstop, bound) = bind(&Address::Inet(address), &SocketOptions::default())?;
        let address = if let Address::Inet(bound) = bound { bound } else { address };
        let listener = Arc::new(ClusterListener::new(name, address, connections_max, tls, doorstop));
        listeners.push(Arc::clone(&listener));
        self.mailbox.post(GateMail::Open(Arc::clone(&listener), acceptor));
        Ok(Some(listener))
    }

    /// Listens no more; links that are there stay. False: no such name.
    pub fn close(&self, name: &str) -> bool {
        let mut listeners = self.listeners.lock();
        let Some(position) = listeners.iter().position(|listener| &*listener.name == name) else { return false };
        let listener = listeners.remove(position);
        drop(listener.doorstop.lock().take());
        self.mailbox.post(GateMail::Close(Arc::clone(&listener.name)));
        true
    }

    /// Exchanges the certificates of a listener for new connections. `None`: no such name; false: it has no TLS.
    pub fn set_tls(&self, name: &str, tls: LinkTls) -> Option<bool> {
        let listeners = self.listeners.lock();
        let listener = listeners.iter().find(|listener| &*listener.name == name)?;
        let is_tls = listener.is_tls();
        if is_tls {
            listener.tls.store(Some(Arc::new(tls)));
        }
        Some(is_tls)
    }

    pub fn listeners(&self) -> Vec<Arc<ClusterListener>> {
        self.listeners.lock().clone()
    }

    /// Closes all listeners and ends the thread.
    pub fn stop(&self) -> Option<JoinHandle<()>> {
        for listener in self.listeners.lock().drain(..) {
            drop(listener.doorstop.lock().take());
        }
        self.mailbox.post(GateMail::Stop);
        self.thread.lock().take()
    }
}

/// What the thread watches.
enum Place {
    Listener(Arc<ClusterListener>, Acceptor),
    Visitor(Box<Visitor>),
}

struct Keeper {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    poll: Poll,
    places: Slab<Place>,
    /// When accepting goes on that the system had no room for.
    accept_at: Option<Micros>,
}

impl Keeper {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            if let Err(error) = self.poll.poll(&mut events, Some(self.timeout()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                std::thread::sleep(ACCEPT_PAUSE);
            }
            let mail = std::mem::take(&mut *self.mailbox.mail.lock());
            for mail in mail {
                match mail {
                    GateMail::Open(listener, acceptor) => self.open(listener, acceptor),
                    GateMail::Close(name) => self.close(&name),
                    GateMail::Room(name) => self.accept_at_all(|listener| listener.name == name),
                    GateMail::Stop => return,
                }
            }
            let tokens: Vec<usize> = events.iter().map(|event| event.token().0).collect();
            for key in tokens.into_iter().filter_map(|token| token.checked_sub(WAKER + 1)) {
                match self.places.get(key) {
                    Some(Place::Listener(..)) => self.accept(key),
                    Some(Place::Visitor(_)) => self.advance(key),
                    None => {}
                }
            }
            self.look_at_clock();
        }
    }

    fn open(&mut self, listener: Arc<ClusterListener>, mut acceptor: Acceptor) {
        let entry = self.places.vacant_entry();
        let token = Token(WAKER + 1 + entry.key());
        // It fails only without memory; then the listener stays deaf, which its peers will tell.
        if self.poll.registry().register(&mut acceptor, token, Interest::READABLE).is_ok() {
            let key = entry.key();
            entry.insert(Place::Listener(listener, acceptor));
            self.accept(key);
        }
    }

    fn close(&mut self, name: &str) {
        let is_it = |place: &Place| matches!(place, Place::Listener(listener, _) if &*listener.name == name);
        let keys: Vec<usize> = self.places.iter().filter(|(_, place)| is_it(place)).map(|(key, _)| key).collect();
        for key in keys {
            self.places.remove(key);
        }
    }

    fn accept(&mut self, key: usize) {
        for number in 0..ACCEPTED_A_TURN {
            let Some(Place::Listener(listener, acceptor)) = self.places.get_mut(key) else { return };
            if !listener.has_room() {
                if number == 0 {
                    count(&self.shared.gate.held_back, 1);
                } else {
                    // Tells anew if there are more than those that this turn has let in.
                    let _ = self.poll.registry().reregister(acceptor, Token(WAKER + 1 + key), Interest::READABLE);
                }
                return;
            }
            match acceptor.accept() {
                Ok((socket, from)) => {
                    let listener = Arc::clone(listener);
                    count(&self.shared.gate.accepted, 1);
                    count(&listener.accepted, 1);
                    let address = if let Peer::Inet(address) = from { address } else { listener.address };
                    if let Err(error) = self.admit(&listener, socket, address) {
                        self.failed(&listener, address, None, None, error.to_string());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The peer was faster, or the system has no descriptor or memory: the others are asked for a little later.
                Err(_) => break,
            }
        }
        // More may wait, of which the kernel has told already.
        let pause = ACCEPT_PAUSE.as_micros() as Micros;
        self.accept_at = Some(self.shared.now() + pause);
    }

    fn admit(&mut self, listener: &Arc<ClusterListener>, socket: TcpStream, address: SocketAddr) -> io::Result<()> {
        self.make_room();
        let tls = listener.tls.load_full();
        let layer = tls.as_ref().map(|tls| tls.accept()).transpose().map_err(io::Error::other)?;
        let (mailbox, name) = (Arc::clone(&self.mailbox), Arc::clone(&listener.name));
        let seat = Seat::take(listener, move || mailbox.post(GateMail::Room(Arc::clone(&name))));
        let wire = Arc::new(Wire::new(socket, layer)?.seated(seat));
        let now = self.shared.now();
        let entry = self.places.vacant_entry();
        let key = entry.key();
        wire.register(self.poll.registry(), Token(WAKER + 1 + key))?;
        let limit = self.shared.options.load().handshake_timeout;
        let visitor = Visitor::new(wire, Arc::clone(listener), address, tls, now, limit);
        entry.insert(Place::Visitor(Box::new(visitor)));
        self.advance(key);
        Ok(())
    }

    /// Lets go of whoever has waited longest where all places are taken.
    fn make_room(&mut self) {
        let visitors = self.places.iter().filter_map(|(key, place)| match place {
            Place::Visitor(visitor) => Some((visitor.came_at, key)),
            Place::Listener(..) => None,
        });
        let (number, oldest) = visitors.fold((0, None::<(Micros, usize)>), |(number, oldest), visitor| {
            (number + 1, Some(oldest.map_or(visitor, |oldest| oldest.min(visitor))))
        });
        if number >= HANDSHAKES_MAX
            && let Some((_, key)) = oldest
        {
            count(&self.shared.gate.crowded_out, 1);
            self.dismiss(
                key,
                None,
                "it had to make room for newer connections before it had said who it is".to_owned(),
            );
        }
    }

    fn dismiss(&mut self, key: usize, code: Option<RefusalCode>, reason: String) {
        if let Some(Place::Visitor(visitor)) = self.places.try_remove(key) {
            visitor.wire.deregister(self.poll.registry());
            visitor.wire.close();
            self.failed(&visitor.listener, visitor.address, visitor.name(), code, reason);
        }
    }

    fn failed(
        &self,
        listener: &ClusterListener,
        address: SocketAddr,
        name: Option<Arc<str>>,
        code: Option<RefusalCode>,
        reason: String,
    ) {
        count(&self.shared.gate.refused, 1);
        count(&listener.failed, 1);
        let listener = Arc::clone(&listener.name);
        self.shared.upper.turned_away(&TurnedAway { listener, address, name, code, reason });
    }

    fn advance(&mut self, key: usize) {
        let Some(Place::Visitor(visitor)) = self.places.get_mut(key) else { return };
        match visitor.advance(&self.shared) {
            Ok(Outcome::Wait) => {}
            Ok(Outcome::Refused(refusal)) => self.dismiss(key, Some(refusal.code), refusal.text),
            Err(error) => self.dismiss(key, None, error.to_string()),
            Ok(Outcome::Proven) => {
                if let Some(Place::Visitor(visitor)) = self.places.try_remove(key) {
                    visitor.wire.deregister(self.poll.registry());
                    self.judge(*visitor);
                }
            }
        }
    }

    /// Lets in whoever has proved to know the secret, or says why not.
    fn judge(&self, visitor: Visitor) {
        let name = visitor.name();
        let Visitor { wire, listener, address, tls, greeter, .. } = visitor;
        let Some(greeter) = greeter else { return };
        let Some(hello) = greeter.hello().cloned() else { return };
        let refused = match check_certificate(tls.as_deref(), &wire, &hello.node.name) {
            Ok(()) => match self.shared.attach(wire, greeter, &hello) {
                Ok(()) => return,
                Err(refused) => *refused,
            },
            Err(refusal) => (wire, greeter, refusal),
        };
        let (wire, greeter, refusal) = refused;
        // A socket that has taken a few hundred bytes so far takes the refusal.
        let _ = wire.write(&greeter.refuse(&refusal));
        wire.close();
        self.failed(&listener, address, name, Some(refusal.code), refusal.text);
    }

    fn look_at_clock(&mut self) {
        let now = self.shared.now();
        let reason_of = |place: &Place| match place {
            Place::Visitor(visitor) => visitor.lateness(now),
            Place::Listener(..) => None,
        };
        let late: Vec<_> = self.places.iter().filter_map(|(key, place)| Some((key, reason_of(place)?))).collect();
        for (key, reason) in late {
            self.dismiss(key, None, reason.to_owned());
        }
        if self.accept_at.is_some_and(|at| now >= at) {
            self.accept_at = None;
            self.accept_at_all(|_| true);
        }
    }

    fn accept_at_all(&mut self, is_meant: impl Fn(&ClusterListener) -> bool) {
        let is_it = |place: &Place| matches!(place, Place::Listener(listener, _) if is_meant(listener));
        let keys: Vec<usize> = self.places.iter().filter(|(_, place)| is_it(place)).map(|(key, _)| key).collect();
        for key in keys {
            self.accept(key);
        }
    }

    fn timeout(&self) -> Duration {
        let now = self.shared.now();
        let mut due = self.accept_at.unwrap_or(Micros::MAX).min(now + TURN_MAX.as_micros() as Micros);
        for (_, place) in &self.places {
            if let Place::Visitor(visitor) = place {
                due = due.min(visitor.patience.due());
            }
        }
        Duration::from_micros(due.saturating_sub(now))
    }
}
