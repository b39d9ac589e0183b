//! The messages of one batch on their way from a publisher to all who get them.
//!
//! While a publisher's packets are decoded its session is locked, so messages are only routed and noted here. Then they
//! are handed over, run by run: consecutive messages with the same receivers cost one lock a receiver. What was written
//! for a connection is flushed once, at the end of the worker's turn.

use std::sync::Arc;

use crate::broker::events::Event;
use crate::hooks::Identity;
use crate::message::{Head, Message, MessageId, Place, Publication};
use crate::metrics::Counter;
use crate::protocol::{Context, FrameCache, Outgoing, Unreleased};
use crate::routing::{Delivery, Own, Route, SharedGroup, Subscriber, Target};
use crate::settings::{DeliverMode, PublishAck};
use crate::store::{QueueId, ReceivedId, Refusal, SegmentNo};

use super::choosing::Chosen;
use super::forwarding::{Awaiting, Outward};
use super::writing::{Beside, Letter, Ways, planned_qos};
use super::{BufferPool, Node, Receiver, SessionRef};

/// A connection with this much to write is flushed at once, while its bytes are still in the processor's cache.
const FLUSH_FROM: usize = 48 * 1_024;
/// What the record of a message takes beside its bytes, and beside its targets: no less than the store reckons with.
const RECORD_BYTES: usize = 96;
/// What a target takes, with a subscription identifier.
const TARGET_BYTES: usize = 20;
/// Memory of the frame cache that is kept from one batch to the next.
const CACHE_KEPT_MAX: usize = 4 * 1_024 * 1_024;

#[derive(Debug)]
struct Item {
    head: Head,
    start: usize,
    len: usize,
    /// The span lies in the arena, not in the worker's read buffer.
    is_in_arena: bool,
    route: usize,
    message: Option<Message>,
    /// The queue and packet identifier of a QoS 2 message whose publisher's session is kept.
    received: Option<(QueueId, u16)>,
    /// It was handed to receivers on this node before, and is for other nodes alone.
    is_repeat: bool,
    /// Of a message from another node: how many of its batch that count have come with it.
    ordinal: u32,
    /// Of a message from another node, and of a repeat: which it is.
    message_id: MessageId,
}

/// What hangs on a message being kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promise {
    /// Somebody waits for an acknowledgement: what cannot be kept is refused. Otherwise it goes on in memory.
    pub is_awaited: bool,
    /// It is of QoS 2, and its publisher's session is kept.
    pub unreleased: Option<Unreleased>,
}

/// What became of a message that was routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is noted; whether somebody gets it.
    Taken {
        /// Somebody gets it.
        has_subscribers: bool,
    },
    /// It would have to be kept, and the store takes nothing.
    Refused(Refusal),
}

/// Messages that could not be written down, so nobody got them and they must not be acknowledged.
#[derive(Debug)]
pub struct Unwritten {
    /// Why.
    pub refusal: Refusal,
    /// The identifiers of QoS 2 messages among them, which were not received after all.
    pub packet_ids: Vec<u16>,
}

/// Messages that are routed and not yet handed over, and connections that wait for their flush.
#[derive(Default)]
pub struct Batch {
    items: Vec<Item>,
    routes: Vec<Route<SessionRef>>,
    /// Where the topics of the routes are, each at the place of its route.
    mountpoints: Vec<Arc<str>>,
    /// How many other nodes each route leads to; those behind its end, none.
    nodes: Vec<u32>,
    routes_used: usize,
    /// Subscriptions that had been made when the first of the routes was found.
    routed_at: u64,
    /// The mountpoint of what is being handed over.
    mountpoint: Option<Arc<str>>,
    /// Members of shared groups that get the message which is being handed over; `None`: nobody can take it.
    pub(super) chosen: Vec<Option<Chosen>>,
    arena: Vec<u8>,
    cache: FrameCache,
    /// Buffers for whoever writes on this worker.
    pub pool: BufferPool,
    pub(super) flush_due: Vec<SessionRef>,
    /// Connections whose output tells of something that the store has not kept yet.
    pub(super) held: Vec<SessionRef>,
    /// What is written down beside messages.
    pub(super) beside: Beside,
    /// Messages that count of the batch of another node, so far.
    pub(super) ordinal: u32,
    /// Which message of another node it is that is noted next.
    pub(super) message_id: MessageId,
    /// Some message that is noted has to be written down or retained before anybody learns of it.
    needs_store: bool,
    /// About what that takes.
    bytes_to_write: usize,
    /// What goes to other nodes.
    pub(super) outward: Outward,
    /// Some message that is noted goes to another node, which must have it before the publisher is answered.
    needs_nodes: bool,
    /// The messages come from another node: they are for subscribers of this one, and for the groups that it has chosen.
    pub(super) is_from_peer: bool,
    pub(super) wanted_groups: Vec<(Box<str>, Box<str>)>,
    /// The messages are retained on another node: nobody is handed them.
    pub(super) is_for_nobody: bool,
    pub(super) random: u64,
}

impl Batch {
    /// Gives up what is noted and not handed over.
    pub(super) fn forget_noted(&mut self) {
        self.items.clear();
        for route in &mut self.routes[..self.routes_used] {
            route.clear();
        }
        self.routes_used = 0;
        self.arena.clear();
        self.wanted_groups.clear();
        (self.needs_store, self.needs_nodes, self.bytes_to_write) = (false, false, 0);
    }

    /// Takes out the identifiers of QoS 2 messages of a queue that were written down, each with its segment.
    pub fn take_received(&mut self, queue: QueueId) -> impl Iterator<Item = (ReceivedId, SegmentNo)> {
        self.beside.received.drain(..).filter(move |place| place.queue == queue).map(|place| (place.id, place.segment))
    }

    /// Whether no message waits to be handed over.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Gives up all that is half done, after a bug was met. Connections that wait for their flush still get it.
    pub fn abandon(&mut self) {
        let flush_due = std::mem::take(&mut self.flush_due);
        let held = std::mem::take(&mut self.held);
        let outward = std::mem::take(&mut self.outward);
        *self = Self { flush_due, held, outward, is_from_peer: self.is_from_peer, ..Self::default() };
    }

    /// Messages that wait to be handed over.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Subscriptions matched by the messages from `position` on.
    pub fn matches_since(&self, position: usize) -> usize {
        let routes = self.items[position..].iter().map(|item| &self.routes[item.route]);
        routes.map(|route| route.targets.len() + route.groups.len()).sum()
    }

    /// Whether what the publisher is told must wait until [`Batch::dispatch`] has written down what was noted, and handed it to
    /// other nodes.
    #[inline]
    pub fn is_binding(&self) -> bool {
        self.needs_store || self.needs_nodes
    }

    /// Takes out which nodes the publisher has to wait for, of what was handed over last.
    pub fn take_awaited(&mut self) -> Awaiting {
        self.outward.take_awaited()
    }

    /// Routes a message and notes it. `input`: the buffer that the span may lie in.
    pub fn add(
        &mut self,
        node: &Node,
        cx: &mut Context,
        input: &[u8],
        mountpoint: &Arc<str>,
        mut outgoing: Outgoing<'_>,
        promise: Promise,
    ) -> Noted {
        let publication = outgoing.publication;
        let repeats = promise.unreleased.and_then(|unreleased| unreleased.repeats);
        let is_repeat = repeats.is_some();
        let route = self.route(node, input, mountpoint, &publication, is_repeat);
        let found = &self.routes[route];
        let matches = found.targets.len() + found.groups.len();
        let nodes = self.nodes.get(route).map_or(0, |nodes| *nodes as usize);
        let head = publication.head;
        let unreleased = promise.unreleased.filter(|_| !is_repeat);
        let received = unreleased.map(|unreleased| (unreleased.queue, unreleased.packet_id));
        let is_written = !is_repeat && (received.is_some() || head.retain || is_kept_for(found, &head, cx));
        if is_written {
            let bytes = publication.span.len() + RECORD_BYTES + TARGET_BYTES * matches;
            if head.qos > 0
                && promise.is_awaited
                && let Some(refusal) = node.store().and_then(|store| store.refusal_of(self.bytes_to_write + bytes))
                && !(head.retain && publication.payload().is_empty() && matches == 0)
            {
                return Noted::Refused(refusal);
            }
            self.bytes_to_write += bytes;
            self.needs_store = true;
        }
        if matches == 0 && !is_written && !(is_repeat && head.retain) {
            return Noted::Taken { has_subscribers: is_repeat };
        }
        self.routes_used = self.routes_used.max(route + 1);
        let offset = (publication.span.as_ptr() as usize).wrapping_sub(input.as_ptr() as usize);
        let is_in_input = offset < input.len() && offset + publication.span.len() <= input.len();
        let start = if is_in_input {
            offset
        } else {
            self.arena.extend_from_slice(publication.span);
            self.arena.len() - publication.span.len()
        };
        self.items.push(Item {
            head,
            start,
            len: publication.span.len(),
            is_in_arena: !is_in_input,
            route,
            message: outgoing.message.take(),
            received,
            is_repeat,
            ordinal: self.ordinal,
            message_id: repeats.map_or(self.message_id, |stamp| node.remotes.own_message_id(stamp)),
        });
        cx.tally.add(Counter::RouterMatchesLocal, (matches - nodes) as u64);
        self.needs_nodes |= head.qos > 0
            && (nodes > 0 || !self.routes[route].groups.is_empty() || head.retain)
            && !self.is_from_peer
            && node.remotes.has_any()
            && cx.settings.publish_ack == PublishAck::Peers;
        Noted::Taken { has_subscribers: matches > 0 || is_repeat }
    }

    /// The route of a message: the one of the message before it when the topics agree. A repeat goes to other nodes alone.
    fn route(
        &mut self,
        node: &Node,
        input: &[u8],
        mountpoint: &Arc<str>,
        publication: &Publication<'_>,
        is_repeat: bool,
    ) -> usize {
        if let Some(last) = self.items.last()
            && last.is_repeat == is_repeat
        {
            let span = if last.is_in_arena { &self.arena[last.start..] } else { &input[last.start..] };
            let is_same_topic = &span[..last.head.layout.topic_len as usize] == publication.topic();
            if is_same_topic && *self.mountpoints[last.route] == **mountpoint {
                return last.route;
            }
        }
        let place = self.routes_used;
        if place == self.routes.len() {
            self.routes.push(Route::new());
            self.mountpoints.push(mountpoint.clone());
        } else if !Arc::ptr_eq(&self.mountpoints[place], mountpoint) {
            self.mountpoints[place] = mountpoint.clone();
        }
        let route = &mut self.routes[place];
        if self.is_for_nobody {
            route.clear();
            return place;
        }
        {
            let router = node.router.read();
            if self.items.is_empty() {
                self.routed_at = router.made();
            }
            router.route(mountpoint, publication.topic_text(), route);
        }
        if self.is_from_peer {
            route.targets.retain(|target| target.subscriber.is_announced());
            let is_wanted = |group: &SharedGroup<SessionRef>| {
                self.wanted_groups.iter().any(|(name, filter)| **name == *group.name() && **filter == *group.filter())
            };
            route.groups.retain(|group| is_wanted(group));
        } else if node.remotes.has_any() || is_repeat {
            if is_repeat {
                route.targets.retain(|target| target.subscriber.peer_link().is_some());
            }
            let nodes = route.targets.iter().filter(|target| target.subscriber.peer_link().is_some()).count();
            self.nodes.resize(self.routes.len(), 0);
            self.nodes[place] = nodes as u32;
        } else {
            self.nodes.clear();
        }
        place
    }

    /// Hands all noted messages over, after writing down those that have to be kept. No session may be locked by the caller.
    ///
    /// `must_write`: what cannot be written down is handed to nobody, and comes back. Otherwise it goes on in memory.
    pub fn dispatch(&mut self, node: &Node, cx: &mut Context, input: &[u8], must_write: bool) -> Option<Unwritten> {
        self.outward.begin();
        if self.items.is_empty() {
            return None;
        }
        let mut items = std::mem::take(&mut self.items);
        let mut routes = std::mem::take(&mut self.routes);
        let mountpoints = std::mem::take(&mut self.mountpoints);
        let arena = std::mem::take(&mut self.arena);
        let mut letters: Vec<Letter<'_>> = items
            .drain(..)
            .map(|item| {
                let source = if item.is_in_arena { &arena[..] } else { input };
                let span = &source[item.start..item.start + item.len];
                let publication = Publication { head: item.head, span };
                let outgoing = Outgoing { publication, message: item.message, place: Place::NONE };
                let Item { route, received, is_repeat, ordinal, message_id, .. } = item;
                Letter { outgoing, route, received, is_repeat, ordinal, message_id }
            })
            .collect();
        let mut unwritten: Option<Unwritten> = None;
        let mut start = 0;
        let mut written = 0;
        while start < letters.len() {
            let route = letters[start].route;
            let has_groups = !routes[route].groups.is_empty();
            // Members of shared groups are chosen message by message, each after the one before it was handed over.
            if has_groups {
                self.choose_members(cx, &routes[route], &letters[start]);
            }
            if written <= start && self.needs_store {
                written = start + written_at_once(&letters[start..], &routes).max(1);
                let chosen = self.chosen.iter().flatten().map(|chosen| (&chosen.subscriber, chosen.options));
                let batch = &mut letters[start..written];
                let ways = Ways {
                    routes: &mut routes[..],
                    mountpoints: &mountpoints[..],
                    nodes: &self.nodes,
                    routed_at: self.routed_at,
                    is_from_peer: self.is_from_peer,
                    is_for_nobody: self.is_for_nobody,
                };
                let outcome = node.write_down(cx, ways, chosen, batch, &mut self.beside, !must_write);
                if let Err(refusal) = outcome {
                    let failed = unwritten.get_or_insert(Unwritten { refusal, packet_ids: Vec::new() });
                    failed.packet_ids.extend(batch.iter().filter_map(|letter| letter.received.map(|(_, id)| id)));
                    if must_write {
                        start = written;
                        self.chosen.clear();
                        continue;
                    }
                }
            }
            let end = if has_groups {
                start + 1
            } else if written > start {
                written
            } else {
                letters.len()
            };
            let length = letters[start..end].iter().take_while(|other| other.route == route).count();
            self.mountpoint = Some(mountpoints[route].clone());
            self.dispatch_run(node, cx, &routes[route], &mut letters[start..start + length]);
            start += length;
        }
        drop(letters);
        for route in &mut routes[..self.routes_used] {
            route.clear();
        }
        self.routes_used = 0;
        self.needs_store = false;
        self.needs_nodes = false;
        self.bytes_to_write = 0;
        self.items = items;
        self.routes = routes;
        self.mountpoints = mountpoints;
        self.arena = arena;
        self.arena.clear();
        if self.arena.capacity() > CACHE_KEPT_MAX {
            self.arena = Vec::new();
        }
        if self.cache.capacity() > CACHE_KEPT_MAX {
            self.cache = FrameCache::default();
        }
        unwritten
    }

    fn dispatch_run(&mut self, node: &Node, cx: &mut Context, route: &Route<SessionRef>, run: &mut [Letter<'_>]) {
        if !self.is_from_peer && node.remotes.has_any() {
            let mountpoint = self.mountpoint.as_deref().unwrap_or_default();
            self.outward.forward(node, cx, mountpoint, route, &self.chosen, run);
        }
        let mut cache = std::mem::take(&mut self.cache);
        let is_fan_out = route.targets.len() > 1;
        if is_fan_out {
            cache.begin(run.len());
        }
        for target in &route.targets {
            let shared_frames = is_fan_out.then_some(&mut cache);
            self.hand_over(node, cx, &target.subscriber, |head| delivery_for(target, head), run, shared_frames);
        }
        self.cache = cache;
        for chosen in std::mem::take(&mut self.chosen) {
            match chosen {
                Some(Chosen { subscriber, options }) => {
                    let delivery = Delivery::of(options);
                    self.hand_over(node, cx, &subscriber, |_| Some(&delivery), run, None);
                }
                // The member that it was for is on this node, and has it.
                None if run.first().is_some_and(|letter| letter.is_repeat) => {}
                None => cx.tally.add(Counter::QueueMessageDrop, 1),
            }
        }
    }

    fn hand_over<'d>(
        &mut self,
        node: &Node,
        cx: &mut Context,
        session: &SessionRef,
        choose: impl Fn(&Head) -> Option<&'d Delivery>,
        run: &mut [Letter<'_>],
        cache: Option<&mut FrameCache>,
    ) {
        match session.receiver() {
            Receiver::Internal { name, .. } => {
                let mountpoint = self.mountpoint.clone().unwrap_or_default();
                for letter in run {
                    if let Some(delivery) = choose(&letter.outgoing.publication.head) {
                        deliver_inside(node, cx, name, mountpoint.clone(), &mut letter.outgoing, delivery);
                    }
                }
            }
            // It has got its copy before.
            Receiver::Peer(_) => {}
            Receiver::Client if session.attached().count() > 0 => {
                self.hand_to_attached(node, cx, session, choose, run);
            }
            Receiver::Client => self.hand_to_client(node, cx, session, choose, run, cache),
        }
    }

    /// Several connections share one client id: all get the message, or one of them in turn.
    fn hand_to_attached<'d>(
        &mut self,
        node: &Node,
        cx: &mut Context,
        session: &SessionRef,
        choose: impl Fn(&Head) -> Option<&'d Delivery>,
        run: &mut [Letter<'_>],
    ) {
        let mut receivers = session.attached().all();
        if session.has_client() {
            receivers.push(session.clone());
        }
        if receivers.is_empty() {
            receivers.push(session.clone());
        }
        for letter in run {
            let turn = session.attached().next_turn() % receivers.len();
            let chosen = match cx.settings.queue_deliver_mode {
                DeliverMode::Fanout => &receivers[..],
                DeliverMode::Balance => &receivers[turn..=turn],
            };
            for receiver in chosen {
                self.hand_to_client(node, cx, receiver, &choose, std::slice::from_mut(letter), None);
            }
            if chosen.iter().all(|receiver| receiver.id() != session.id()) {
                node.give_up_planned(cx, session, &choose, std::slice::from_ref(letter));
            }
        }
    }

    fn hand_to_client<'d>(
        &mut self,
        node: &Node,
        cx: &mut Context,
        session_ref: &SessionRef,
        choose: impl Fn(&Head) -> Option<&'d Delivery>,
        run: &mut [Letter<'_>],
        mut cache: Option<&mut FrameCache>,
    ) {
        let mut state = session_ref.lock();
        if state.is_ended {
            drop(state);
            node.give_up_planned(cx, session_ref, &choose, run);
            return;
        }
        if let Some(connection) = &mut state.session.connection {
            self.pool.lend(connection);
        }
        let is_kept = session_ref.queue() != 0;
        for (index, letter) in run.iter_mut().enumerate() {
            let outgoing = &mut letter.outgoing;
            let head = outgoing.publication.head;
            let Some(delivery) = choose(&head) else { continue };
            let forms = cache.as_deref_mut().map(|cache| (cache, index));
            let is_written = is_kept && planned_qos(&head, delivery, cx) > 0;
            let place = if is_written { outgoing.place } else { Place::NONE };
            let waiting = state.session.pending.len();
            state.session.deliver(cx, outgoing, delivery, place, forms);
            if letter.message_id.is_some() && state.session.pending.len() > waiting {
                let policy = state.session.queue_type(cx);
                state.session.pending.name_last(letter.message_id, policy);
            }
            if let Some(connection) = &state.session.connection
                && connection.output.len() >= FLUSH_FROM
            {
                node.tell(cx, &mut state, session_ref);
                self.flush(cx, &mut state, session_ref);
            }
        }
        node.tell(cx, &mut state, session_ref);
        self.flush_later(&mut state, session_ref);
    }
}

/// How many messages from the first on are written down at once: all without a choice, up to one that deletes a retained
/// message.
fn written_at_once(letters: &[Letter<'_>], routes: &[Route<SessionRef>]) -> usize {
    let mut count = 0;
    for letter in letters.iter().take_while(|letter| routes[letter.route].groups.is_empty()) {
        count += 1;
        if letter.is_deletion() {
            break;
        }
    }
    count
}

/// Whether a message of this route has to be written down for some receiver.
fn is_kept_for(route: &Route<SessionRef>, head: &Head, cx: &Context) -> bool {
    let is_target = |target: &Target<SessionRef>| {
        target.subscriber.queue() != 0
            && delivery_for(target, head).is_some_and(|delivery| planned_qos(head, delivery, cx) > 0)
    };
    (head.qos > 0 || cx.settings.upgrade_outgoing_qos)
        && (route.targets.iter().any(is_target) || (!route.groups.is_empty() && cx.archive.is_some()))
}

/// How a subscriber gets a message; `None`: it is its own and not wanted back.
pub(super) fn delivery_for<'r>(target: &'r Target<SessionRef>, head: &Head) -> Option<&'r Delivery> {
    match &target.own {
        _ if head.origin != target.subscriber.id() => Some(&target.delivery),
        Own::Same => Some(&target.delivery),
        Own::Nothing => None,
        Own::Other(delivery) => Some(&**delivery),
    }
}

/// A delivery to a part of the broker: an event, which is delivered once Python has taken it.
fn deliver_inside(
    node: &Node,
    cx: &mut Context,
    name: &Arc<str>,
    mountpoint: Arc<str>,
    outgoing: &mut Outgoing<'_>,
    delivery: &Delivery,
) {
    let head = outgoing.publication.head;
    let event = Event::Message {
        hook: None,
        subscriber: name.clone(),
        identity: Identity { mountpoint, ..node.nobody() },
        message: outgoing.keep(),
        qos: head.qos.min(delivery.qos),
        retain: head.retain && delivery.retain_as_published,
        reason: "",
    };
    cx.tally.add(Counter::QueueMessageIn, 1);
    let counter = if node.emit(cx, event) { Counter::QueueMessageOut } else { Counter::QueueMessageDrop };
    cx.tally.add(counter, 1);
}
