//! `on_deliver`: messages on their way to a client that Python may change.
//!
//! While somebody listens to that hook nothing is sent at once. Messages wait in the queue; a batch of them is taken out and
//! asked about, one batch at a time, so that they stay in order; what comes back is sent as the window and the connection
//! have room. A message that was asked about is not asked about again: what was changed is what the session keeps.

use std::collections::VecDeque;

use crate::hooks::Hooks;
use crate::message::{Message, Publication};
use crate::metrics::Counter;
use crate::queue::Queued;

use super::{Context, Decision, Session, Verdict};

/// Messages that one question is about.
const BATCH_MAX: usize = 64;

/// What is between the queue and the client.
#[derive(Debug, Default)]
pub(super) struct Rewritings {
    /// The ticket of the question that is out, 0 for none.
    ticket: u64,
    /// The messages that it is about.
    asked: Vec<Queued>,
    /// Messages that were asked about and are not sent yet.
    pub(super) ready: VecDeque<Queued>,
}

impl Rewritings {
    /// All these messages, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.ready.iter().chain(&self.asked)
    }

    /// All these messages, in order, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.ready.iter_mut().chain(&mut self.asked)
    }
}

impl Session {
    /// Whether messages have to go through the queue, since Python may change them or those before them.
    #[inline]
    pub(super) fn is_rewritten(&self, cx: &Context) -> bool {
        self.rewritings.is_some() || (cx.hooks.contains(Hooks::ON_DELIVER) && !self.identity.is_internal())
    }

    /// Takes out messages to ask about, if it is time to: a client is there, none are asked about, and what was asked about
    /// before is sent. `ticket`: of the question that follows.
    pub fn take_for_rewriting(&mut self, cx: &mut Context, ticket: u64) -> Option<Vec<(Message, u8, bool)>> {
        let is_due = cx.hooks.contains(Hooks::ON_DELIVER)
            && !self.identity.is_internal()
            && !self.pending.is_empty()
            && self.connection.is_some()
            && self.resend.0.is_empty()
            && self.rewritings.as_ref().is_none_or(|rewritings| rewritings.ticket == 0 && rewritings.ready.is_empty());
        if !is_due {
            return None;
        }
        let mut asked = Vec::new();
        let mut messages = Vec::new();
        while asked.len() < BATCH_MAX
            && let Some(mut queued) = self.pending.pop()
        {
            let Some(message) = queued.message.take().or_else(|| cx.load(queued.place)) else {
                cx.tally.add(Counter::QueueMessageDrop, 1);
                cx.give_up(queued.place, 0);
                continue;
            };
            messages.push((message.clone(), queued.qos, queued.retain));
            queued.message = Some(message);
            asked.push(queued);
        }
        if asked.is_empty() {
            return None;
        }
        let rewritings = self.rewritings.get_or_insert_default();
        rewritings.ticket = ticket;
        rewritings.asked = asked;
        Some(messages)
    }

    /// The ticket of the question that is out.
    pub fn rewriting_ticket(&self) -> Option<u64> {
        self.rewritings.as_ref().map(|rewritings| rewritings.ticket).filter(|ticket| *ticket != 0)
    }

    /// Goes on with messages that were asked about. A refusal, or an answer to another number of messages, changes nothing.
    /// False: nothing was asked under this ticket.
    pub fn rewritten(&mut self, cx: &mut Context, ticket: u64, verdict: &Verdict) -> bool {
        let Some(rewritings) = &mut self.rewritings else { return false };
        if rewritings.ticket != ticket {
            return false;
        }
        rewritings.ticket = 0;
        let asked = std::mem::take(&mut rewritings.asked);
        let changes = verdict
            .rewritings
            .as_deref()
            .filter(|changes| matches!(verdict.decision, Decision::Allow) && changes.len() == asked.len());
        for (position, mut queued) in asked.into_iter().enumerate() {
            if let Some(Some(change)) = changes.map(|changes| &changes[position])
                && let Some(message) = &queued.message
            {
                let kept = message.publication();
                let topic = change.topic.as_deref().map_or(kept.topic(), str::as_bytes);
                let properties = change.properties.as_deref().unwrap_or(kept.properties());
                let payload = change.payload.as_deref().unwrap_or(kept.payload());
                let mut span = Vec::new();
                let mut head = kept.head;
                head.layout = Publication::compose(&mut span, topic, properties, payload);
                queued.message = Some(Message::keep(&Publication { head, span: &span }));
                queued.is_changed = true;
            }
            rewritings.ready.push_back(queued);
        }
        self.refill(cx);
        true
    }

    /// Sends what was asked about as far as there is room. True when nothing of it is left.
    pub(super) fn send_rewritten(&mut self, cx: &mut Context) -> bool {
        while let Some(rewritings) = &mut self.rewritings {
            let Some(next) = rewritings.ready.front() else {
                if rewritings.ticket != 0 {
                    return false;
                }
                self.rewritings = None;
                return true;
            };
            let qos = next.qos;
            if !self.has_room_for(cx, qos) {
                return false;
            }
            let next = self.rewritings.as_mut().and_then(|rewritings| rewritings.ready.pop_front());
            if let Some(queued) = next {
                self.send_queued(cx, queued);
            }
        }
        true
    }

    /// Takes back what is asked about and not answered: nobody waits for it any more. Messages of QoS 0 are of no use to a
    /// client that is away.
    pub(super) fn give_up_rewriting(&mut self, cx: &mut Context) {
        let Some(rewritings) = &mut self.rewritings else { return };
        rewritings.ticket = 0;
        let asked = std::mem::take(&mut rewritings.asked);
        for useless in asked.iter().chain(&rewritings.ready).filter(|queued| queued.qos == 0) {
            cx.give_up(useless.place, 0);
        }
        rewritings.ready.retain(|queued| queued.qos > 0);
        for queued in asked.into_iter().rev().filter(|queued| queued.qos > 0) {
            self.pending.put_back(queued);
        }
        if rewritings.ready.is_empty() {
            self.rewritings = None;
        }
    }

    /// Takes out what was asked about and is not sent.
    pub(super) fn take_rewritten(&mut self) -> VecDeque<Queued> {
        self.rewritings.take().map(|rewritings| rewritings.ready).unwrap_or_default()
    }
}
