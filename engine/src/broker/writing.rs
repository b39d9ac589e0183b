//! What a batch of messages leaves in the store before anybody learns of it.
//!
//! A message is one record, with all the queues that it goes to and, where its publisher's session is kept, the QoS 2
//! identifier that it came with. So after a crash it is in all of these queues or in none, and a publisher that did not get
//! its acknowledgement may send it again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::message::{Head, MessageId, Millis, Place, Retained};
use crate::metrics::Counter;
use crate::protocol::{Context, Outgoing};
use crate::routing::{Delivery, Route, Subscriber, SubscriptionOptions};
use crate::store::{Change, NewMessage, QueueId, ReceivedId, Refusal, SegmentNo, Target};

use super::batch::delivery_for;
use super::retained::RetainedStore;
use super::{Node, SessionRef};

/// A full retained store is searched for expired messages no more often than this.
const FULL_SWEEP_INTERVAL_MS: Millis = 60_000;

/// A message of a batch, on its way to the receivers of a route.
pub(super) struct Letter<'a> {
    /// The message.
    pub outgoing: Outgoing<'a>,
    /// Position of its route.
    pub route: usize,
    /// The queue and packet identifier of a QoS 2 message whose publisher's session is kept.
    pub received: Option<(QueueId, u16)>,
    /// It was handed to receivers on this node before, and is for other nodes alone.
    pub is_repeat: bool,
    /// Of a message from another node: how many of its batch that count have come with it.
    pub ordinal: u32,
    /// What it is called on all nodes that it goes to.
    pub message_id: MessageId,
}

impl Letter<'_> {
    /// Whether it deletes the retained message of its topic.
    pub fn is_deletion(&self) -> bool {
        let publication = self.outgoing.publication;
        publication.head.retain && publication.payload().is_empty()
    }
}

/// Where the letters of a batch go.
pub(super) struct Ways<'w> {
    /// The routes.
    pub routes: &'w mut [Route<SessionRef>],
    /// Where the topic of each is.
    pub mountpoints: &'w [Arc<str>],
    /// How many other nodes each leads to, a shared group aside; those behind its end, none.
    pub nodes: &'w [u32],
    /// Subscriptions that had been made when the first route was found, see [`super::Router::made`].
    pub routed_at: u64,
    /// They are for subscribers of this node only.
    pub is_from_peer: bool,
    /// They are only retained.
    pub is_for_nobody: bool,
}

/// An identifier of a QoS 2 message that was written down, and where.
pub(super) struct ReceivedPlace {
    pub queue: QueueId,
    pub id: ReceivedId,
    pub segment: SegmentNo,
}

/// How far a batch of another node is written down, as a row of metadata.
pub(super) struct Progress {
    pub key: Vec<u8>,
    /// The row, for so many messages of the batch.
    pub value: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    /// The row is there.
    pub is_written: bool,
}

/// What is written down beside messages.
#[derive(Default)]
pub(super) struct Beside {
    /// Identifiers of QoS 2 messages that were written down, until the publisher's session knows where.
    pub received: Vec<ReceivedPlace>,
    /// How far the batch in hand is, where it comes from another node.
    pub progress: Option<Progress>,
}

/// The QoS of a delivery as far as it is known without the session's lock: what is above 0 is written down.
#[inline]
pub(super) fn planned_qos(head: &Head, delivery: &Delivery, cx: &Context) -> u8 {
    if cx.settings.upgrade_outgoing_qos { delivery.qos } else { head.qos.min(delivery.qos) }
}

/// What is written down of one message: how many of the batch's targets come before its own and how many are its own.
struct Plan {
    letter: usize,
    targets: std::ops::Range<usize>,
    is_retained: bool,
}

impl Node {
    /// Writes down what has to be kept of a batch, and puts retained messages in their places. `chosen`: members of shared
    /// groups, when the batch is one message. A message that deletes a retained one is the last of its batch, since the
    /// store learns of that after it has learnt of all messages. `beside` gets the identifiers that were written down.
    ///
    /// An error leaves the store as it was, and nothing is retained unless `goes_on`: then in memory only.
    pub(super) fn write_down<'c>(
        &self,
        cx: &mut Context,
        mut ways: Ways<'_>,
        chosen: impl Iterator<Item = (&'c SessionRef, SubscriptionOptions)>,
        letters: &mut [Letter<'_>],
        beside: &mut Beside,
        goes_on: bool,
    ) -> Result<(), Refusal> {
        let mut has_chosen_node = false;
        let chosen: SmallVec<[(QueueId, Delivery); 2]> = chosen
            .inspect(|(session, _)| has_chosen_node |= session.peer_link().is_some())
            .map(|(session, options)| (session.queue(), Delivery::of(options)))
            .collect();
        // Held while both are changed, so that memory and store agree on who was last.
        let has_retained = letters.iter().any(|letter| letter.outgoing.publication.head.retain);
        let mut retained = has_retained.then(|| self.retained.write());
        let may_be_retained = match &mut retained {
            Some(retained) => {
                self.find_routes_again(&mut ways, letters);
                self.decide_retained(cx, retained, ways.mountpoints, letters)
            }
            None => Vec::new(),
        };
        if !ways.is_from_peer && self.remotes.has_any() {
            self.name_what_may_be_repeated(cx, ways.nodes, has_chosen_node, letters);
        }
        let Ways { routes, mountpoints, .. } = ways;
        let outcome = self.write_messages(cx, (routes, mountpoints), &chosen, letters, &may_be_retained, beside);
        if let Some(retained) = &mut retained
            && (outcome.is_ok() || goes_on)
        {
            for (letter, may_be) in letters.iter_mut().zip(may_be_retained) {
                if may_be {
                    self.retain(cx, retained, &mountpoints[letter.route], letter);
                }
            }
        }
        outcome
    }

    /// Whoever has subscribed since the routes of retained messages were found gets them too. Under the lock of the retained
    /// messages: who subscribes later than this finds them there.
    fn find_routes_again(&self, ways: &mut Ways<'_>, letters: &[Letter<'_>]) {
        if ways.is_for_nobody {
            return;
        }
        let router = self.router.read();
        if router.made() == ways.routed_at {
            return;
        }
        let mut found = Route::new();
        let mut last = None;
        for letter in letters.iter().filter(|letter| letter.outgoing.publication.head.retain && !letter.is_repeat) {
            if last.replace(letter.route) == Some(letter.route) {
                continue;
            }
            router.route(&ways.mountpoints[letter.route], letter.outgoing.publication.topic_text(), &mut found);
            if ways.is_from_peer {
                found.targets.retain(|target| target.subscriber.is_announced());
            }
            // Shared groups get nothing that is retained, so they have no claim to what came before they did.
            ways.routes[letter.route].targets = std::mem::take(&mut found.targets);
        }
    }

    /// For each letter, whether it becomes the retained message of its topic, or deletes that one; what is published here gets its
    /// name. What comes from another node does neither where something later is known.
    fn decide_retained(
        &self,
        cx: &mut Context,
        retained: &mut RetainedStore,
        mountpoints: &[Arc<str>],
        letters: &mut [Letter<'_>],
    ) -> Vec<bool> {
        let limit = cx.settings.max_retained_messages;
        let is_set = |letter: &Letter<'_>| letter.outgoing.publication.head.retain && !letter.is_deletion();
        let count = letters.iter().filter(|letter| is_set(letter)).count();
        if limit > 0 && retained.len() + count > limit {
            retained.sweep_if_due(cx.now, FULL_SWEEP_INTERVAL_MS, |swept| self.let_retained_go(swept));
        }
        let is_roomy = limit == 0 || retained.len() + count <= limit;
        let is_single = letters.len() == 1;
        let mut latest: HashMap<(&str, &str), MessageId> = HashMap::new();
        let mut new_topics: HashSet<(&str, &str)> = HashSet::new();
        let mut decisions = Vec::with_capacity(letters.len());
        for letter in letters {
            let publication = letter.outgoing.publication;
            if !publication.head.retain || letter.is_repeat {
                decisions.push(false);
                continue;
            }
            let topic = (&*mountpoints[letter.route], publication.topic_text());
            let in_store = || retained.known(topic.0, topic.1).map(|known| known.message_id);
            let known = latest.get(&topic).copied().or_else(in_store).unwrap_or_default();
            if !letter.message_id.is_some() {
                letter.message_id = self.name_later_than(cx.now, known);
            } else if !letter.message_id.is_later_than(known) {
                decisions.push(false);
                continue;
            }
            let mut may_be = true;
            if !is_roomy && is_set(letter) {
                let is_known = retained.has(topic.0, topic.1) || new_topics.contains(&topic);
                may_be = is_known || retained.len() + new_topics.len() < limit;
                if !may_be {
                    cx.tally.add(Counter::RetainedRefused, 1);
                } else if !is_known {
                    new_topics.insert(topic);
                }
            }
            if may_be && !is_single {
                latest.insert(topic, letter.message_id);
            }
            decisions.push(may_be);
        }
        decisions
    }

    /// A QoS 2 message that goes to other nodes gets its name before its packet identifier is written down: if this node ends
    /// before they have it, its publisher sends it again, and those that have it know it by that name.
    fn name_what_may_be_repeated(
        &self,
        cx: &Context,
        nodes: &[u32],
        has_chosen_node: bool,
        letters: &mut [Letter<'_>],
    ) {
        for letter in letters.iter_mut().filter(|letter| letter.received.is_some() && !letter.message_id.is_some()) {
            if has_chosen_node || nodes.get(letter.route).is_some_and(|nodes| *nodes > 0) {
                letter.message_id = self.remotes.own_message_id(self.remotes.stamp(self.clock.wall_ms(cx.now)));
            }
        }
    }

    fn write_messages(
        &self,
        cx: &Context,
        (routes, mountpoints): (&[Route<SessionRef>], &[Arc<str>]),
        chosen: &[(QueueId, Delivery)],
        letters: &mut [Letter<'_>],
        may_be_retained: &[bool],
        beside: &mut Beside,
    ) -> Result<(), Refusal> {
        let Some(store) = self.store() else { return Ok(()) };
        let is_refusing = store.refusal().is_some();
        let mut targets: Vec<Target<'_>> = Vec::new();
        let mut plans: Vec<Plan> = Vec::with_capacity(letters.len());
        let mut receipts: SmallVec<[(QueueId, ReceivedId); 8]> = SmallVec::new();
        for (index, letter) in letters.iter().enumerate() {
            let publication = letter.outgoing.publication;
            if is_refusing && publication.head.qos == 0 {
                continue;
            }
            let first = targets.len();
            collect_targets(cx, &routes[letter.route], chosen, &publication.head, &mut targets);
            let is_retained = may_be_retained.get(index).is_some_and(|may_be| *may_be) && !letter.is_deletion();
            if targets.len() > first || is_retained {
                plans.push(Plan { letter: index, targets: first..targets.len(), is_retained });
            } else {
                let id = |packet_id| ReceivedId { packet_id, stamp: letter.message_id.stamp };
                receipts.extend(letter.received.map(|(queue, packet_id)| (queue, id(packet_id))));
            }
        }
        let mut messages: Vec<NewMessage<'_>> = plans
            .iter()
            .map(|plan| {
                let letter = &letters[plan.letter];
                let publication = letter.outgoing.publication;
                // A hook may have given what came with QoS 2 another one.
                let is_named = plan.is_retained || letter.received.is_some() || publication.head.qos == 2;
                NewMessage {
                    publication,
                    message_id: if is_named { letter.message_id } else { MessageId::NONE },
                    retained_in: plan.is_retained.then(|| &mountpoints[letter.route]),
                    received: letter.received,
                    targets: &targets[plan.targets.clone()],
                    place: Place::NONE,
                }
            })
            .collect();
        if !messages.is_empty() {
            match &mut beside.progress {
                Some(progress) => {
                    let value = (progress.value)(letters.last().map_or(0, |letter| letter.ordinal));
                    store.append_messages_with(&mut messages, Some((&progress.key, &value)))?;
                    progress.is_written = true;
                }
                None => _ = store.append_messages(&mut messages)?,
            }
        }
        let received = &mut beside.received;
        for message in &messages {
            let segment = message.place.segment;
            let id = |packet_id| ReceivedId { packet_id, stamp: message.message_id.stamp };
            received.extend(message.received.map(|(queue, packet_id)| ReceivedPlace {
                queue,
                id: id(packet_id),
                segment,
            }));
        }
        for (queue, id) in receipts {
            let segment = store.append_changes(queue, &[Change::Received(id)]).segment;
            received.push(ReceivedPlace { queue, id, segment });
        }
        let places: Vec<Place> = messages.iter().map(|message| message.place).collect();
        drop(messages);
        for (plan, place) in plans.iter().zip(places) {
            letters[plan.letter].outgoing.place = place;
        }
        Ok(())
    }

    /// Makes a message the retained one of its topic, or forgets that one if the payload is empty.
    fn retain(&self, cx: &Context, retained: &mut RetainedStore, mountpoint: &Arc<str>, letter: &mut Letter<'_>) {
        let message_id = letter.message_id;
        let topic = letter.outgoing.publication.topic_text();
        self.note_retained_change(mountpoint, topic, message_id);
        if letter.is_deletion() {
            self.forget_retained(retained, mountpoint, topic);
            self.remember_deletion(retained, (mountpoint, topic), message_id, cx.now);
            return;
        }
        let mut kept = Retained::new(letter.outgoing.keep(), message_id);
        if let Some((store, slot)) = self.store().zip(letter.outgoing.place.body()) {
            kept.slot = slot;
            if let Some(message) = kept.message.take() {
                store.offer(slot, &message);
            }
        }
        let is_in_memory_only = kept.slot == 0;
        let Some(replaced) = retained.set(mountpoint, topic, kept) else { return };
        match self.store() {
            // What it replaces must not be there again after a restart.
            Some(store) if is_in_memory_only => _ = store.unretain(mountpoint, topic, replaced.slot),
            _ => self.let_retained_go(&replaced),
        }
    }

    /// Forgets the retained message of a topic, in memory and in the store. False: there was none.
    pub(super) fn forget_retained(&self, retained: &mut RetainedStore, mountpoint: &str, topic: &str) -> bool {
        let Some(removed) = retained.remove(mountpoint, topic) else { return false };
        if let Some(store) = self.store() {
            // Also of one that is in memory only: it may have replaced one that was kept.
            store.unretain(mountpoint, topic, removed.slot);
        }
        true
    }

    /// The store need not keep a retained message any more that expired or was replaced.
    pub(super) fn let_retained_go(&self, retained: &Retained) {
        if let Some(store) = self.store()
            && retained.slot != 0
        {
            store.drop_retained(retained.slot);
        }
    }

    /// Messages that were written down for a session are not handed to it.
    pub(super) fn give_up_planned<'d>(
        &self,
        cx: &Context,
        session: &SessionRef,
        choose: &impl Fn(&Head) -> Option<&'d Delivery>,
        run: &[Letter<'_>],
    ) {
        let Some(store) = self.store().filter(|_| session.queue() != 0) else { return };
        let is_planned = |letter: &&Letter<'_>| {
            let head = letter.outgoing.publication.head;
            choose(&head).is_some_and(|delivery| planned_qos(&head, delivery, cx) > 0)
        };
        let bodies = run.iter().filter(is_planned).filter_map(|letter| letter.outgoing.place.body());
        let changes: Vec<Change> = bodies.map(|slot| Change::Done { slot, number: 0 }).collect();
        if !changes.is_empty() {
            store.append_changes(session.queue(), &changes);
        }
    }
}

fn collect_targets<'a>(
    cx: &Context,
    route: &'a Route<SessionRef>,
    chosen: &'a [(QueueId, Delivery)],
    head: &Head,
    targets: &mut Vec<Target<'a>>,
) {
    let plain = route
        .targets
        .iter()
        .filter(|target| target.subscriber.queue() != 0)
        .filter_map(|target| Some((target.subscriber.queue(), delivery_for(target, head)?)));
    let members = chosen.iter().filter(|(queue, _)| *queue != 0).map(|(queue, delivery)| (*queue, delivery));
    for (queue, delivery) in plain.chain(members) {
        let qos = planned_qos(head, delivery, cx);
        if qos > 0 {
            let retain = head.retain && delivery.retain_as_published;
            targets.push(Target { queue, qos, retain, identifiers: &delivery.identifiers });
        }
    }
}
