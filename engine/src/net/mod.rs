//! Sockets and threads: listeners, and the workers that own the connections which come in through them.
//!
//! Each worker is one thread with one event loop. A connection is read, and its timers are watched, by the worker that
//! accepted it. One worker accepts at a time: the one with the fewest connections, and of TLS handshakes, more or less. It is
//! written by whoever has something for it, under its session's lock; where its socket is full, its own
//! worker goes on when the kernel says so.

mod accepting;
mod acceptor;
mod closing;
mod descriptors;
mod desk;
mod handshake;
mod listener;
mod opening;
mod passwords;
mod rate;
mod reading;
mod slot;
mod worker;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, Waker};
use parking_lot::Mutex;

pub use acceptor::{Acceptor, Address, Doorstop, SocketOptions, bind};
pub use listener::{Forwarded, Kind, ListenerOptions, ListenerState};
use passwords::PasswordChecks;

use crate::broker::{Crew, Node, Owner, SessionRef};
use crate::protocol::Verdict;
use crate::transport::Transport;

/// A message to a worker.
#[derive(Debug)]
pub enum Mail {
    /// Accept connections from here.
    Listen {
        /// The listener.
        state: Arc<ListenerState>,
        /// Its socket.
        socket: Acceptor,
        /// Of which time of the listener it is.
        generation: u64,
    },
    /// Take this socket for an accepted connection: a part of the broker is at its other end.
    Adopt {
        /// The listener that it counts for.
        state: Arc<ListenerState>,
        /// The socket.
        socket: mio::net::TcpStream,
    },
    /// Accept no more; end the connections too if asked.
    Unlisten {
        /// The listener.
        listener_id: u64,
        /// End what came in through it.
        kill_sessions: bool,
    },
    /// What was decided, by the tickets of the requests.
    Verdicts(Vec<(u64, Arc<Verdict>)>),
    /// Let go of this, which tells somebody that the turn before is over.
    TurnOver(mpsc::SyncSender<()>),
    /// A connection was ended from outside.
    Drain {
        /// Its place.
        slot: usize,
        /// Which one, since the place may have another by now.
        connection_id: u64,
    },
    /// A connection whose output was full may be read again.
    GoOn {
        /// Its place.
        slot: usize,
        /// Which one, since the place may have another by now.
        connection_id: u64,
    },
    /// A write has found that a connection is broken.
    Lost {
        /// Its place.
        slot: usize,
        /// Which one, since the place may have another by now.
        connection_id: u64,
    },
    /// These wait for the store, or for other nodes.
    Hold(Vec<SessionRef>),
    /// The store or another node has kept more: look at those who wait for that.
    Kept,
    /// Look at the clock: a deadline was set.
    LookAtDeadlines,
    /// Close everything and end.
    Stop,
}

/// How others reach a worker.
#[derive(Debug)]
pub struct Mailbox {
    mail: Mutex<Vec<Mail>>,
    waker: Waker,
    /// The worker's event loop, for those who ask it to watch something.
    registry: Registry,
    /// Connections that the worker owns.
    connections: AtomicUsize,
    /// Those among them that speak WebSocket.
    websockets: AtomicUsize,
    /// Those among them whose TLS handshake is not over: each is work of a third of a millisecond that is still to come.
    handshakes: AtomicUsize,
}

impl Mailbox {
    /// Puts a message in and wakes the worker.
    pub fn send(&self, mail: Mail) {
        self.mail.lock().push(mail);
        // It fails only when the worker is gone, and then nobody needs the message.
        let _ = self.waker.wake();
    }

    fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut self.mail.lock())
    }
}

impl Owner for Mailbox {
    fn drain(&self, slot: usize, connection_id: u64) {
        self.send(Mail::Drain { slot, connection_id });
    }

    fn watch_writable(&self, transport: &Transport, slot: usize) -> io::Result<()> {
        // The token of a connection is its place; the socket is open since the link holds it.
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.reregister(&mut SourceFd(&transport.socket().as_raw_fd()), Token(slot), interest)
    }

    fn go_on(&self, slot: usize, connection_id: u64) {
        self.send(Mail::GoOn { slot, connection_id });
    }

    fn lost(&self, slot: usize, connection_id: u64) {
        self.send(Mail::Lost { slot, connection_id });
    }
}

/// All workers.
#[derive(Debug)]
struct Colleagues(Vec<Arc<Mailbox>>);

impl Crew for Colleagues {
    fn look_at_held(&self) {
        for mailbox in &self.0 {
            mailbox.send(Mail::Kept);
        }
    }

    fn hold(&self, sessions: Vec<SessionRef>) {
        self.0[0].send(Mail::Hold(sessions));
    }

    fn look_at_deadlines(&self) {
        self.0[0].send(Mail::LookAtDeadlines);
    }
}

/// Position of the worker in a ticket.
const TICKET_WORKER_SHIFT: u32 = 48;

/// The workers of one engine.
pub struct Workers {
    mailboxes: Vec<Arc<Mailbox>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    checks: Arc<PasswordChecks>,
    are_stopped: AtomicBool,
}

impl Workers {
    /// Starts `count` threads.
    pub fn start(node: &Arc<Node>, count: usize) -> io::Result<Self> {
        descriptors::make_room(&node.events)?;
        let checks = Arc::new(PasswordChecks::default());
        let mut workers = Vec::with_capacity(count);
        let mut mailboxes = Vec::with_capacity(count);
        for index in 0..count {
            let (worker, mailbox) = worker::Worker::new(index, Arc::clone(node), Arc::clone(&checks))?;
            workers.push(worker);
            mailboxes.push(mailbox);
        }
        // Whoever comes first: an engine starts its workers once.
        let _ = node.crew.set(Arc::new(Colleagues(mailboxes.clone())));
        let mut threads = Vec::with_capacity(count);
        for (index, mut worker) in workers.into_iter().enumerate() {
            worker.set_colleagues(mailboxes.clone());
            let thread = std::thread::Builder::new().name(format!("strogoff-worker-{index}"));
            threads.push(thread.spawn(move || worker.run())?);
        }
        threads.extend(checks.start(node, node.settings.load().password_check_threads)?);
        Ok(Self { mailboxes, threads: Mutex::new(threads), checks, are_stopped: AtomicBool::new(false) })
    }

    /// Accepts from a socket. The workers pass it on among themselves, to whoever has the fewest connections.
    pub fn listen(&self, state: &Arc<ListenerState>, socket: Acceptor) {
        let generation = state.generation.load(Ordering::Acquire);
        self.mailboxes[0].send(Mail::Listen { state: Arc::clone(state), socket, generation });
    }

    /// Has the worker with the fewest connections take a socket for an accepted connection.
    pub fn adopt(&self, state: Arc<ListenerState>, socket: mio::net::TcpStream) {
        let fewest = self.mailboxes.iter().min_by_key(|mailbox| mailbox.connections.load(Ordering::Relaxed));
        if let Some(mailbox) = fewest {
            mailbox.send(Mail::Adopt { state, socket });
        }
    }

    /// Stops accepting.
    pub fn unlisten(&self, listener_id: u64, kill_sessions: bool) {
        for mailbox in &self.mailboxes {
            mailbox.send(Mail::Unlisten { listener_id, kill_sessions });
        }
    }

    /// Hands verdicts to the workers that asked, waking each once.
    pub fn resolve(&self, verdicts: impl IntoIterator<Item = (u64, Arc<Verdict>)>) {
        let mut sorted: Vec<Vec<_>> = vec![Vec::new(); self.mailboxes.len()];
        for (ticket, verdict) in verdicts {
            if let Some(own) = sorted.get_mut((ticket >> TICKET_WORKER_SHIFT) as usize) {
                own.push((ticket, verdict));
            }
        }
        for (mailbox, own) in self.mailboxes.iter().zip(sorted) {
            if !own.is_empty() {
                mailbox.send(Mail::Verdicts(own));
            }
        }
    }

    /// Makes the worker that watches deadlines look again.
    pub fn look_at_deadlines(&self) {
        self.mailboxes[0].send(Mail::LookAtDeadlines);
    }

    /// Has connections flushed once the store has kept what their output tells of.
    pub fn hold(&self, sessions: Vec<SessionRef>) {
        self.mailboxes[0].send(Mail::Hold(sessions));
    }

    /// How the store tells the workers that it has kept more.
    pub fn notifier(&self) -> impl Fn() + Send + Sync + 'static {
        let mailboxes = self.mailboxes.clone();
        move || {
            for mailbox in &mailboxes {
                mailbox.send(Mail::Kept);
            }
        }
    }

    /// Waits until each worker has begun another turn: what it had routed before is handed over. False: not all within
    /// `timeout`.
    pub fn wait_for_turns(&self, timeout: Duration) -> bool {
        let (sender, receiver) = mpsc::sync_channel(0);
        for mailbox in &self.mailboxes {
            mailbox.send(Mail::TurnOver(sender.clone()));
        }
        drop(sender);
        receiver.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    /// Connections of all workers.
    pub fn connections(&self) -> usize {
        self.mailboxes.iter().map(|mailbox| mailbox.connections.load(Ordering::Relaxed)).sum()
    }

    /// Those among them that speak WebSocket.
    pub fn websockets(&self) -> usize {
        self.mailboxes.iter().map(|mailbox| mailbox.websockets.load(Ordering::Relaxed)).sum()
    }

    /// Whether [`Workers::stop`] was called.
    pub fn are_stopped(&self) -> bool {
        self.are_stopped.load(Ordering::Acquire)
    }

    /// Ends all workers; those that take longer than `timeout` are left alone. True: all have ended.
    pub fn stop(&self, timeout: Duration) -> bool {
        self.are_stopped.store(true, Ordering::Release);
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return true;
        }
        self.checks.close();
        for mailbox in &self.mailboxes {
            mailbox.send(Mail::Stop);
        }
        let end = Instant::now() + timeout;
        let mut are_all_done = true;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                are_all_done &= thread.join().is_ok();
            } else {
                are_all_done = false;
            }
        }
        are_all_done
    }
}
