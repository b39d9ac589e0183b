//! The thread of a bridge: its sockets, its timers, and what it is told to do.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use super::pump::{Cut, Plan, Pump, Side};
use super::status::{Counts, State, Status};
use crate::broker::Node;
use crate::broker::events::{BridgeNews, Event, Level};
use crate::protocol::client::ClientSettings;
use crate::transport::outgoing::{Layers, Wire};

const LOCAL: Token = Token(0);
const REMOTE: Token = Token(1);
const WAKE: Token = Token(2);
const EVENTS_MAX: usize = 16;
/// Bytes that are read at once, and the room for a packet to begin with.
const INPUT: usize = 64 << 10;
/// Reads of one side before commands and timers get their turn.
const READS_A_TURN_MAX: usize = 64;
/// Rounds of reading and writing before commands and timers get their turn.
const ROUNDS_MAX: usize = 64;
/// How often it is looked whether bytes still go out, while there are some.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long the end of a bridge may take.
const CLOSE: Duration = Duration::from_secs(1);

/// How a bridge is opened.
#[derive(Debug)]
pub struct Opening {
    /// Its name.
    pub name: String,
    /// What it does.
    pub plan: Plan,
    /// How it introduces itself to this node.
    pub local: ClientSettings,
}

/// The other broker, for one attempt.
#[derive(Debug)]
pub struct Remote {
    /// Its address.
    pub address: SocketAddr,
    /// What lies between.
    pub layers: Layers,
    /// How the bridge introduces itself there.
    pub client: ClientSettings,
    /// How long it may take until the other broker has accepted the connection.
    pub timeout: Duration,
}

enum Command {
    Connect(Box<Remote>),
    Disconnect,
    Close,
}

/// A bridge that runs.
#[derive(Debug)]
pub struct Bridge {
    commands: Arc<Mutex<Vec<Command>>>,
    waker: Arc<Waker>,
    status: Arc<Status>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Connect(_) => "Connect",
            Self::Disconnect => "Disconnect",
            Self::Close => "Close",
        })
    }
}

impl Bridge {
    /// Starts the thread; the bridge is not connected to the other broker. The second socket is for a worker, which takes it
    /// for a client's connection.
    pub fn open(node: Arc<Node>, opening: Opening) -> io::Result<(Self, TcpStream)> {
        let (own, for_worker) = UnixStream::pair()?;
        let [own, for_worker] = [own, for_worker].map(|socket| {
            // Both kinds of socket are read and written by the same calls.
            let socket = std::net::TcpStream::from(OwnedFd::from(socket));
            socket.set_nonblocking(true).map(|()| TcpStream::from_std(socket))
        });
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (commands, status) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Status::default()));
        let local = Wire::new(own?, &Layers::default())?;
        let name = format!("strogoff-bridge-{}", opening.name);
        let (thread_commands, thread_status) = (Arc::clone(&commands), Arc::clone(&status));
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let (panicked_name, panicked_node) = (opening.name.clone(), Arc::clone(&node));
            let pump = Pump::new(opening.plan, opening.local, Arc::clone(&thread_status));
            let driver = Driver {
                name: opening.name,
                node,
                poll,
                pump,
                commands: thread_commands,
                status: thread_status,
                local: Connection::new(local),
                remote: None,
                deadline: None,
                started: Instant::now(),
                is_local_known: false,
                has_progressed: false,
            };
            if catch_unwind(AssertUnwindSafe(|| driver.run())).is_err() {
                let news = BridgeNews::Failed("an internal error, which standard error tells of".to_owned());
                panicked_node.events.push(Event::Bridge { name: panicked_name, news }, usize::MAX, usize::MAX);
            }
        })?;
        Ok((Self { commands, waker, status, thread: Mutex::new(Some(thread)) }, for_worker?))
    }

    fn tell(&self, command: Command) {
        self.commands.lock().push(command);
        // It fails only when the thread is gone, and then nobody needs the command.
        let _ = self.waker.wake();
    }

    /// Makes one attempt to connect to the other broker, after ending what connection there is.
    pub fn connect(&self, remote: Remote) {
        self.tell(Command::Connect(Box::new(remote)));
    }

    /// Ends the connection to the other broker in good order.
    pub fn disconnect(&self) {
        self.tell(Command::Disconnect);
    }

    /// Ends both connections in good order, and the thread.
    pub fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.tell(Command::Close);
        // A panic was told where it happened.
        let _ = thread.join();
        self.status.set_state(State::Away);
    }

    /// How far the connection is.
    pub fn state(&self) -> State {
        self.status.state()
    }

    /// What is counted.
    pub fn counts(&self) -> Counts {
        self.status.counts()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.close();
    }
}

/// A socket and what was read from it.
struct Connection {
    wire: Wire,
    input: Vec<u8>,
    start: usize,
    end: usize,
    is_readable: bool,
    is_blocked: bool,
    is_open: bool,
    /// It was not read since the other side takes no more.
    is_paused: bool,
    /// Bytes that the packet which begins the input needs.
    needed: usize,
}

impl Connection {
    fn new(wire: Wire) -> Self {
        Self {
            wire,
            input: vec![0; INPUT],
            start: 0,
            end: 0,
            is_readable: false,
            is_blocked: false,
            is_open: false,
            is_paused: false,
            needed: 0,
        }
    }

    /// Makes room behind what is there. A packet gets the room that it needs as it comes, not when it says so.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.input.len() {
            let size = (2 * self.input.len()).min(self.needed.max(INPUT));
            self.input.resize(size.max(self.end + INPUT), 0);
        }
    }

    fn forget_what_is_used(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.input.len() > 16 * INPUT {
                self.input = vec![0; INPUT];
            }
        }
    }
}

struct Driver {
    name: String,
    node: Arc<Node>,
    poll: Poll,
    pump: Pump,
    commands: Arc<Mutex<Vec<Command>>>,
    status: Arc<Status>,
    local: Connection,
    remote: Option<Connection>,
    /// Until when the other broker has to have accepted the connection.
    deadline: Option<(Instant, Duration)>,
    started: Instant,
    /// The end of the connection to this node was told.
    is_local_known: bool,
    /// Bytes have gone to the other broker since the clock was looked at.
    has_progressed: bool,
}

impl Driver {
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn run(mut self) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.local.wire.register(self.poll.registry(), LOCAL, interest) {
            return self.local_is_over(&error.to_string());
        }
        self.local.is_open = true;
        self.pump.connect(Side::Local);
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            if self.obey() {
                return self.end(&mut events);
            }
            let mut next = self.look_at_clock();
            if (0..ROUNDS_MAX).all(|_| self.work()) {
                next = Some(Duration::ZERO);
            }
            self.complain();
            if let Err(error) = self.poll.poll(&mut events, next)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return self.local_is_over(&error.to_string());
            }
            self.note(&events);
        }
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            let connection = match event.token() {
                LOCAL => Some(&mut self.local),
                REMOTE => self.remote.as_mut(),
                _ => None,
            };
            if let Some(connection) = connection {
                connection.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                connection.is_blocked &= !event.is_writable();
            }
        }
    }

    /// Does what was asked; true: end.
    fn obey(&mut self) -> bool {
        let commands = std::mem::take(&mut *self.commands.lock());
        for command in commands {
            match command {
                Command::Connect(_) if !self.local.is_open => {
                    self.tell(BridgeNews::Failed("it has ended before".to_owned()));
                }
                Command::Connect(remote) => {
                    self.drop_remote();
                    if let Err(error) = self.dial(*remote) {
                        self.remote_is_over(error.to_string());
                    }
                }
                Command::Disconnect => {
                    self.say_goodbye();
                    self.drop_remote();
                }
                Command::Close => return true,
            }
        }
        false
    }

    fn dial(&mut self, remote: Remote) -> io::Result<()> {
        let socket = Socket::new(
            Domain::for_address(remote.address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&remote.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let mut wire = Wire::new(TcpStream::from_std(socket.into()), &remote.layers)?;
        wire.register(self.poll.registry(), REMOTE, Interest::READABLE | Interest::WRITABLE)?;
        self.pump.set_remote(remote.client);
        self.remote = Some(Connection { is_blocked: true, ..Connection::new(wire) });
        self.deadline = Some((Instant::now() + remote.timeout, remote.timeout));
        self.status.set_state(State::Connecting);
        Ok(())
    }

    /// How long to wait for the sockets.
    fn look_at_clock(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.status.state() == State::Connected {
            self.deadline = None;
        }
        if let Some((deadline, timeout)) = self.deadline {
            if now >= deadline {
                self.remote_is_over(format!("the other broker has not answered within {} ms", timeout.as_millis()));
                return None;
            }
            return Some(deadline - now);
        }
        let now_ms = self.now_ms();
        if std::mem::take(&mut self.has_progressed) && !self.pump.output(Side::Remote).is_empty() {
            // A ping would wait behind what is on its way, which may be much, on a slow line.
            self.pump.put_off_ping(now_ms);
            return Some(PROGRESS);
        }
        match self.pump.keep_alive(now_ms) {
            Ok(next) => next.map(|at| Duration::from_millis(at.saturating_sub(now_ms).max(1))),
            Err(cut) => {
                self.remote_is_over(cut.to_string());
                None
            }
        }
    }

    /// Reads and writes; whether there is more to do at once.
    fn work(&mut self) -> bool {
        let mut has_more = false;
        for side in Side::BOTH {
            match self.open_up(side).and_then(|()| self.read(side)) {
                Ok(more) => has_more |= more,
                Err(reason) => self.is_over(side, reason),
            }
        }
        let now_ms = self.now_ms();
        self.pump.go_on(now_ms);
        for side in Side::BOTH {
            if let Err(reason) = self.write(side) {
                self.is_over(side, reason);
            }
        }
        // Whatever made room, nobody else tells of it.
        for side in Side::BOTH {
            let is_open = self.connection(side).is_some_and(|connection| connection.is_open && !connection.is_blocked);
            has_more |= is_open && self.pump.has_work(side, now_ms);
            let takes_more = self.pump.takes_from(side);
            if let Some(connection) = self.connection(side).filter(|connection| connection.is_paused && takes_more) {
                connection.is_paused = false;
                has_more = true;
            }
        }
        has_more && self.commands.lock().is_empty()
    }

    fn connection(&mut self, side: Side) -> Option<&mut Connection> {
        match side {
            Side::Local => self.local.is_open.then_some(&mut self.local),
            Side::Remote => self.remote.as_mut(),
        }
    }

    /// The socket to the other broker stands, or does not.
    fn open_up(&mut self, side: Side) -> Result<(), String> {
        let Some(connection) = self.connection(side).filter(|connection| !connection.is_open) else { return Ok(()) };
        if connection.is_blocked {
            return Ok(());
        }
        let socket = connection.wire.socket();
        if let Some(error) = socket.take_error().map_err(|error| error.to_string())? {
            return Err(error.to_string());
        }
        match socket.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                connection.is_blocked = true;
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        }
        connection.is_open = true;
        self.pump.connect(side);
        Ok(())
    }

    fn read(&mut self, side: Side) -> Result<bool, String> {
        for _ in 0..READS_A_TURN_MAX {
            let now_ms = self.now_ms();
            let is_taken = self.pump.takes_from(side);
            let Some(connection) = self.connection(side).filter(|connection| connection.is_open) else {
                return Ok(false);
            };
            if !is_taken {
                connection.is_paused = true;
                return Ok(false);
            }
            if !(connection.is_readable || connection.end > connection.start) {
                return Ok(false);
            }
            let before = connection.end - connection.start;
            if connection.is_readable && (before == 0 || before < connection.needed || connection.needed == 0) {
                if connection.input.len() - connection.end < INPUT / 2 {
                    connection.make_room();
                }
                match connection.wire.read(&mut connection.input[connection.end..]) {
                    Ok((0, _)) => return Err("the connection was closed".to_owned()),
                    Ok((count, more)) => {
                        connection.end += count;
                        connection.is_readable = more;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.is_readable = false,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            let Some(connection) = (match side {
                Side::Local => Some(&mut self.local),
                Side::Remote => self.remote.as_mut(),
            }) else {
                return Ok(false);
            };
            let input = &connection.input[connection.start..connection.end];
            let (taken, needed) = self.pump.receive(side, input, now_ms).map_err(|cut: Cut| cut.to_string())?;
            connection.start += taken;
            connection.needed = needed;
            connection.forget_what_is_used();
            if side == Side::Remote && self.deadline.is_some() && self.status.state() == State::Connected {
                self.deadline = None;
                self.tell(BridgeNews::Connected);
            }
            let is_taken = self.pump.takes_from(side);
            let Some(connection) = self.connection(side) else { return Ok(false) };
            if is_taken && !connection.is_readable && taken == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write(&mut self, side: Side) -> Result<(), String> {
        let connection = match side {
            Side::Local => self.local.is_open.then_some(&mut self.local),
            Side::Remote => self.remote.as_mut(),
        };
        let Some(connection) = connection.filter(|connection| connection.is_open) else { return Ok(()) };
        while !connection.is_blocked {
            let bytes = self.pump.output(side);
            if bytes.is_empty() {
                match connection.wire.flush() {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.is_blocked = true,
                    Err(error) => return Err(error.to_string()),
                }
                break;
            }
            match connection.wire.write(bytes) {
                Ok(0) => return Err("the connection was closed".to_owned()),
                Ok(count) => {
                    self.pump.advance(side, count);
                    self.has_progressed |= side == Side::Remote;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.is_blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    // -- ends ----------------------------------------------------------------------------------------------------------

    fn is_over(&mut self, side: Side, reason: String) {
        match side {
            Side::Local => self.local_is_over(&reason),
            Side::Remote => self.remote_is_over(reason),
        }
    }

    fn remote_is_over(&mut self, reason: String) {
        // Version 5 is told why, if it still listens.
        if self.write(Side::Remote).is_err() {
            // It is gone already.
        }
        self.drop_remote();
        self.tell(BridgeNews::Ended(reason));
    }

    fn drop_remote(&mut self) {
        self.deadline = None;
        self.status.set_state(State::Away);
        if self.remote.take().is_some() {
            self.pump.detach(Side::Remote);
        }
    }

    /// This node has ended the connection, which only an operator or a defect makes it do.
    fn local_is_over(&mut self, reason: &str) {
        self.local.is_open = false;
        self.pump.detach(Side::Local);
        if !std::mem::replace(&mut self.is_local_known, true) {
            self.tell(BridgeNews::Failed(reason.to_owned()));
        }
    }

    fn say_goodbye(&mut self) {
        self.pump.disconnect(Side::Remote);
        // Whether it still arrives is the other broker's affair.
        let _ = self.write(Side::Remote);
        if let Some(connection) = &self.remote {
            let _ = connection.wire.socket().shutdown(Shutdown::Write);
        }
    }

    fn end(mut self, events: &mut Events) {
        self.say_goodbye();
        self.drop_remote();
        self.pump.disconnect(Side::Local);
        let deadline = Instant::now() + CLOSE;
        while self.local.is_open && !self.pump.output(Side::Local).is_empty() && Instant::now() < deadline {
            if self.write(Side::Local).is_err() {
                return;
            }
            if self.poll.poll(events, Some(Duration::from_millis(20))).is_err() {
                return;
            }
            self.note(events);
        }
    }

    // -- telling -------------------------------------------------------------------------------------------------------

    fn complain(&mut self) {
        let complaints = std::mem::take(&mut self.pump.complaints);
        let count = complaints.len();
        if let Some(last) = complaints.into_iter().next_back() {
            let mut fields = vec![("bridge", self.name.clone())];
            if count > 1 {
                fields.push(("and_others", (count - 1).to_string()));
            }
            let settings = self.node.settings.load();
            let event = Event::Log { level: Level::Warning, message: last, fields };
            self.node.events.push(event, settings.event_queue_limit, settings.event_queue_bytes);
        }
    }

    fn tell(&self, news: BridgeNews) {
        // There are at most a few of them for each attempt, and the control plane waits for them: they always have room.
        self.node.events.push(Event::Bridge { name: self.name.clone(), news }, usize::MAX, usize::MAX);
    }
}
