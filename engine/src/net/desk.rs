//! The node as a session sees it while its packets are processed.

use std::collections::HashMap;

use crate::broker::events::Event;
use crate::broker::{Batch, Node, Noted, Promise, SessionRef};
use crate::codec::ReasonCode;
use crate::hooks::{Hooks, Identity};
use crate::message::{Millis, Publication, Retained};
use crate::metrics::Counter;
use crate::protocol::{Context, Host, Question, Routed, Unreleased};
use crate::routing::SubscriptionOptions;
use crate::store::Refusal;

use super::TICKET_WORKER_SHIFT;

/// Numbers the requests of one worker and knows whose they are.
#[derive(Debug)]
pub struct Tickets {
    worker: usize,
    next: u64,
    slots: HashMap<u64, usize, ahash::RandomState>,
}

impl Tickets {
    /// Tickets of a worker.
    pub fn new(worker: usize) -> Self {
        Self { worker, next: 0, slots: HashMap::default() }
    }

    /// A ticket for a connection, or `None` when too many requests wait.
    pub fn open(&mut self, node: &Node, cx: &mut Context, slot: usize) -> Option<u64> {
        self.next += 1;
        let ticket = (self.worker as u64) << TICKET_WORKER_SHIFT | self.next;
        if !node.open_ticket(ticket, cx.settings.max_pending_hooks) {
            cx.tally.add(Counter::HookOverload, 1);
            return None;
        }
        self.slots.insert(ticket, slot);
        Some(ticket)
    }

    /// The connection behind a ticket, which is used up.
    pub fn take(&mut self, ticket: u64) -> Option<usize> {
        self.slots.remove(&ticket)
    }

    /// Sends the event of a request; a full queue uses the ticket up.
    pub fn send(&mut self, node: &Node, cx: &mut Context, ticket: u64, event: Event) -> bool {
        let is_sent = node.emit(cx, event);
        if !is_sent {
            cx.tally.add(Counter::HookOverload, 1);
            node.close_ticket(ticket);
            self.slots.remove(&ticket);
        }
        is_sent
    }
}

/// What a publisher is told whose message the store does not take.
pub(super) fn refused_because(refusal: Refusal) -> ReasonCode {
    match refusal {
        Refusal::Full | Refusal::Quota => ReasonCode::QUOTA_EXCEEDED,
        Refusal::Failing => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
    }
}

/// What [`Host`] needs for one session in hand.
pub struct Desk<'a> {
    pub node: &'a Node,
    pub batch: &'a mut Batch,
    pub session: &'a SessionRef,
    /// The buffer that the packets lie in.
    pub input: &'a [u8],
    pub tickets: &'a mut Tickets,
    pub slot: usize,
    /// The ticket of the question that was asked last.
    pub asked: Option<u64>,
}

impl Desk<'_> {
    /// The session that the subscriptions belong to.
    fn subscriber(&self) -> &SessionRef {
        self.session.main().unwrap_or(self.session)
    }
}

impl Host for Desk<'_> {
    fn publish(
        &mut self,
        cx: &mut Context,
        publisher: &Identity,
        publication: Publication<'_>,
        unreleased: Option<Unreleased>,
    ) -> Routed {
        let promise = Promise { is_awaited: true, unreleased };
        match self.node.publish(cx, self.batch, self.input, publisher, publication, promise) {
            Noted::Taken { has_subscribers } => Routed::Accepted { has_subscribers },
            Noted::Refused(refusal) => {
                cx.tally.add(Counter::StorePublishRefused, 1);
                Routed::Refused(refused_because(refusal))
            }
        }
    }

    fn subscribe(&mut self, filter: &str, group: Option<&str>, options: SubscriptionOptions) {
        let subscriber = self.subscriber().clone();
        let mountpoint = &self.session.subscriber_id().mountpoint;
        self.node.subscribe(mountpoint, filter, group, subscriber, options);
    }

    fn unsubscribe(&mut self, filter: &str, group: Option<&str>) {
        let mountpoint = &self.session.subscriber_id().mountpoint;
        self.node.unsubscribe_all(mountpoint, [(filter, group)], self.subscriber());
    }

    fn retained(&mut self, now: Millis, filter: &str) -> Vec<Retained> {
        self.node.retained_matching(&self.session.subscriber_id().mountpoint, filter, now, usize::MAX)
    }

    fn retained_count(&mut self) -> usize {
        self.node.retained.read().len()
    }

    fn notify(&mut self, cx: &mut Context, hook: Hooks, identity: &Identity, filters: Vec<(String, u8)>) {
        self.node.emit(cx, Event::Subscription { hook, identity: identity.clone(), filters });
    }

    fn ask(&mut self, cx: &mut Context, identity: &Identity, question: Question<'_>) -> bool {
        let Some(ticket) = self.tickets.open(self.node, cx, self.slot) else { return false };
        let identity = identity.clone();
        let event = match question {
            Question::Publish(message) => Event::Publish { ticket, identity, message: message.clone(), is_will: false },
            Question::Subscribe { filters, properties } => Event::Subscribe { ticket, identity, filters, properties },
            Question::Unsubscribe { filters, properties } => {
                Event::Unsubscribe { ticket, identity, filters, properties }
            }
            Question::Auth { method, data, reason_code, properties } => Event::Auth {
                ticket,
                identity,
                method: method.to_owned(),
                data: data.map(<[u8]>::to_vec),
                reason_code,
                properties,
            },
        };
        let is_asked = self.tickets.send(self.node, cx, ticket, event);
        self.asked = is_asked.then_some(ticket);
        is_asked
    }
}
