//! Passwords checked by the engine itself: quick hashes on the worker, slow ones on threads of their own.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::broker::Node;
use crate::codec::ReasonCode;
use crate::metrics::Counter;
use crate::policy::Credential;
use crate::protocol::connect::{Registration, Told};
use crate::protocol::{Decision, Step, Verdict};

use super::handshake::refusal_of;
use super::slot::{Deciding, Pending, Stage};
use super::worker::Worker;
use super::{Mail, Mailbox};

/// One slow check.
struct Job {
    ticket: u64,
    credential: Arc<Credential>,
    password: Vec<u8>,
    mailbox: Arc<Mailbox>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

/// The threads that check passwords whose hashes are slow on purpose, and what waits for them.
#[derive(Default)]
pub(super) struct PasswordChecks {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl PasswordChecks {
    /// Starts `count` threads.
    pub fn start(self: &Arc<Self>, node: &Arc<Node>, count: usize) -> io::Result<Vec<JoinHandle<()>>> {
        let start = |number| {
            let (checks, node) = (Arc::clone(self), Arc::clone(node));
            let thread = std::thread::Builder::new().name(format!("strogoff-password-{number}"));
            thread.spawn(move || checks.work(&node))
        };
        (0..count).map(start).collect()
    }

    /// Ends the threads; what waits is not checked any more.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        queue.jobs.clear();
        self.filled.notify_all();
    }

    /// Puts a check in. False: `limit` wait already.
    fn submit(&self, job: Job, limit: usize) -> bool {
        let mut queue = self.queue.lock();
        if queue.is_closed || queue.jobs.len() >= limit {
            return false;
        }
        queue.jobs.push_back(job);
        self.filled.notify_one();
        true
    }

    fn take(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            self.filled.wait(&mut queue);
        }
    }

    fn work(&self, node: &Node) {
        while let Some(Job { ticket, credential, password, mailbox }) = self.take() {
            if !node.is_ticket_open(ticket) {
                // The client has gone, or its time is up: others wait.
                continue;
            }
            let is_right = credential.verify(&password);
            if is_right {
                let limit = node.settings.load().password_cache_size;
                node.verified.remember(&credential, &password, limit);
            }
            if node.close_ticket(ticket) {
                mailbox.send(Mail::Verdicts(vec![(ticket, Arc::new(verdict(is_right)))]));
            }
        }
    }
}

fn verdict(is_right: bool) -> Verdict {
    if is_right { Verdict::new(Decision::Allow) } else { Verdict::deny(ReasonCode::BAD_USER_NAME_OR_PASSWORD) }
}

impl Worker {
    /// Lets the password table decide on a CONNECT.
    pub(super) fn check_password(&mut self, key: usize, registration: Registration) -> Step {
        let policy = Arc::clone(&self.cx.policy);
        let username = registration.identity.username.clone();
        let known = username.as_deref().zip(policy.passwords.as_ref()).and_then(|(name, table)| table.credential(name));
        let (Some(credential), Some(password)) = (known, registration.password.clone()) else {
            let detail = "no password is known for the client, and anonymous clients are not allowed (allow_anonymous)";
            return self.refuse(key, &refusal_of(&registration, ReasonCode::NOT_AUTHORIZED, detail), Told::default());
        };
        let is_right = if credential.is_slow() {
            if !self.node.verified.contains(credential, &password) {
                return self.check_slowly(key, registration, Arc::clone(credential), password);
            }
            true
        } else {
            credential.verify(&password)
        };
        if is_right {
            return self.authorise_will(key, registration);
        }
        let detail = "the password is wrong";
        let refusal = refusal_of(&registration, ReasonCode::BAD_USER_NAME_OR_PASSWORD, detail);
        self.refuse(key, &refusal, Told::default())
    }

    fn check_slowly(
        &mut self,
        key: usize,
        registration: Registration,
        credential: Arc<Credential>,
        password: Vec<u8>,
    ) -> Step {
        let busy = refusal_of(&registration, ReasonCode::SERVER_BUSY, "too many passwords wait to be checked");
        let Some(ticket) = self.tickets.open(&self.node, &mut self.cx, key) else {
            return self.refuse(key, &busy, Told::default());
        };
        let job = Job { ticket, credential, password, mailbox: Arc::clone(&self.mailbox) };
        if !self.checks.submit(job, self.cx.settings.max_pending_password_checks) {
            self.cx.tally.add(Counter::PasswordOverload, 1);
            self.node.close_ticket(ticket);
            self.tickets.take(ticket);
            return self.refuse(key, &busy, Told::default());
        }
        let Some(slot) = self.slots.get_mut(key) else { return Step::Continue };
        slot.stage = Stage::Deciding(Box::new(Deciding { registration, pending: Pending::Register }));
        self.await_verdict(key, ticket);
        Step::Pause
    }
}
