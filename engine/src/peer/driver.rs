//! The thread of one peer: it dials, reads, writes what others could not, sends heartbeats and judges them. Nothing of
//! it depends on another peer.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Poll};

use super::backoff::Backoff;
use super::connection::{Ending, Open};
use super::dialled::Dial;
use super::lane::Lane;
use super::link::{Mail, PeerConfig, PeerLink};
use super::pulse::Micros;
use super::resolve::Target;
use super::roster::Standing;
use super::telling::Told;

/// The token of a link's waker; those of its connections follow.
pub(super) const WAKER: usize = 0;
pub(super) const DIALLED: usize = 1;
pub(super) const ACCEPTED: usize = DIALLED + Lane::ALL.len();
const EVENTS: usize = 32;
/// The thread looks at everything at least so often.
const TURN_MAX: Duration = Duration::from_secs(1);

/// Starts the thread of a link.
pub(super) fn start(link: Arc<PeerLink>, poll: Poll) -> io::Result<JoinHandle<()>> {
    let name = format!("strogoff-peer-{}", link.name());
    std::thread::Builder::new().name(name).spawn(move || Driver::new(link, poll).run())
}

/// What the thread of a link knows. Its connections are in `dialled` and `accepted`, what it brings them in `carrying`, what
/// it tells of them in `telling`.
pub(super) struct Driver {
    pub(super) link: Arc<PeerLink>,
    pub(super) poll: Poll,
    pub(super) config: Option<PeerConfig>,
    pub(super) dials: [Dial; 3],
    pub(super) accepted: [Option<Box<Open>>; 3],
    pub(super) backoffs: [Backoff; 3],
    pub(super) targets: Vec<Target>,
    pub(super) is_looking_up: bool,
    /// Which of the targets comes next.
    pub(super) attempt: usize,
    pub(super) told: Told,
    pub(super) is_stopped: bool,
}

impl Driver {
    fn new(link: Arc<PeerLink>, poll: Poll) -> Self {
        Self {
            link,
            poll,
            config: None,
            dials: [Dial::Off, Dial::Off, Dial::Off],
            accepted: [None, None, None],
            backoffs: [Backoff::default(); 3],
            targets: Vec::new(),
            is_looking_up: false,
            attempt: 0,
            told: Told::default(),
            is_stopped: false,
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_stopped {
            if let Err(error) = self.poll.poll(&mut events, Some(self.timeout()))
                && error.kind() != io::ErrorKind::Interrupted
            {
                // Without events nothing works; the loop goes on, slowly, since it may pass.
                std::thread::sleep(Duration::from_millis(10));
            }
            self.link.is_awake();
            let ready = events.iter().map(|event| event.token().0);
            let mut is_ready = [false; ACCEPTED + Lane::ALL.len()];
            for token in ready {
                if let Some(is_ready) = is_ready.get_mut(token) {
                    *is_ready = true;
                }
            }
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(&is_ready)));
            if turn.is_err() {
                self.end_all(&Ending::Bug);
            }
        }
    }

    fn turn(&mut self, is_ready: &[bool]) {
        self.take_mail();
        for place in 0..Lane::ALL.len() {
            if is_ready[DIALLED + place] {
                self.wake_dialled(place);
            }
            if is_ready[ACCEPTED + place]
                && let Some(open) = &mut self.accepted[place]
            {
                (open.is_readable, open.is_blocked) = (true, false);
            }
        }
        self.read_all();
        self.pump();
        self.tick();
        self.tell();
        if self.config.is_none() && self.accepted.iter().all(Option::is_none) && self.link.shared.retire(&self.link) {
            self.is_stopped = true;
        }
    }

    // -- mail ---------------------------------------------------------------------------------------------------

    fn take_mail(&mut self) {
        for mail in self.link.take_mail() {
            match mail {
                Mail::Arrived(arrived) => self.arrive(*arrived),
                Mail::Configure(config) => self.configure(config),
                Mail::Resolved(found) => self.resolved(found),
                Mail::Reintroduce => self.end_guests(),
                Mail::Options => self.take_options(),
                // The write that failed has left word of it.
                Mail::Broken => self.wake_dialled(Lane::Data.place()),
                Mail::Stop(reason) => {
                    self.is_stopped = true;
                    self.end_all(&Ending::Stopped(reason));
                    self.link.data.lock().outbox.discard();
                    self.tell();
                }
            }
        }
    }

    fn take_options(&mut self) {
        let options = *self.link.shared.options.load_full();
        let timeout = options.link_timeout.as_micros() as Micros;
        let dialled = self.dials.iter_mut().filter_map(Dial::open_mut);
        for open in dialled.chain(self.accepted.iter_mut().flatten().map(|open| &mut **open)) {
            open.pulse.set_timeout(timeout);
        }
        self.link.data.lock().outbox.set_limits(options.outbox());
        self.link.inbox.lock().set_window(options.credit as u64);
    }

    fn end_guests(&mut self) {
        for place in 0..Lane::ALL.len() {
            let stopped = || Ending::Stopped("the node has joined a cluster, or left one".to_owned());
            if self.dials[place].open().is_some_and(|open| open.standing == Standing::Guest) {
                self.end_dialled(place, &stopped());
            }
            if self.accepted[place].as_ref().is_some_and(|open| open.standing == Standing::Guest) {
                self.end_accepted(place, &stopped());
            }
        }
        self.dial_soon();
    }

    fn end_all(&mut self, ending: &Ending) {
        for place in 0..Lane::ALL.len() {
            self.end_dialled(place, ending);
            self.end_accepted(place, ending);
        }
    }

    // -- what a turn does ---------------------------------------------------------------------------------------

    fn read_all(&mut self) {
        let now = self.link.shared.now();
        for place in 0..Lane::ALL.len() {
            if let Some(open) = self.dials[place].open_mut()
                && open.is_readable
                && let Err(ending) = open.read(&self.link, now)
            {
                self.end_dialled(place, &ending);
            }
            if let Some(open) = &mut self.accepted[place]
                && open.is_readable
                && let Err(ending) = open.read(&self.link, now)
            {
                self.end_accepted(place, &ending);
            }
        }
    }

    fn tick(&mut self) {
        let now = self.link.shared.now();
        for place in 0..Lane::ALL.len() {
            match &mut self.dials[place] {
                Dial::Open(open) => {
                    if let Err(ending) = open.beat(&self.link, now) {
                        self.end_dialled(place, &ending);
                    }
                }
                Dial::Opening(opening) => {
                    if let Some(late) = opening.patience.lateness(now) {
                        self.fail_opening(place, &late.into());
                    }
                }
                Dial::Pause(until) if now >= *until => {
                    if place == Lane::Control.place() || self.is_dialled_member() {
                        self.begin(place, now);
                    } else {
                        self.dials[place] = Dial::Off;
                    }
                }
                Dial::Off | Dial::Pause(_) | Dial::Resolving => {}
            }
            if let Some(open) = &mut self.accepted[place]
                && let Err(ending) = open.beat(&self.link, now)
            {
                self.end_accepted(place, &ending);
            }
        }
    }

    fn timeout(&self) -> Duration {
        let now = self.link.shared.now();
        let mut due = now + TURN_MAX.as_micros() as Micros;
        for dial in &self.dials {
            due = due.min(match dial {
                Dial::Open(open) if open.is_readable => now,
                Dial::Open(open) => open.pulse.next_due(),
                Dial::Opening(opening) => opening.patience.due(),
                Dial::Pause(until) => *until,
                Dial::Off | Dial::Resolving => due,
            });
        }
        for open in self.accepted.iter().flatten() {
            due = due.min(if open.is_readable { now } else { open.pulse.next_due() });
        }
        Duration::from_micros(due.saturating_sub(now))
    }
}
