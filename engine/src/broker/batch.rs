//! The messages of one batch on their way from a publisher to all who get them.
//!
//! While a publisher's packets are decoded its session is locked, so messages are only routed and noted here. Then they
//! are handed over, run by run: consecutive messages with the same receivers cost one lock a receiver. What was written
//! for a connection is flushed once, at the end of the worker's turn.

use std::sync::Arc;

use crate::broker::events::Event;
use crate::hooks::Identity;
use crate::message::{Head, Message, Publication};
use crate::metrics::Counter;
use crate::protocol::{Context, FrameCache, Outgoing};
use crate::routing::{Delivery, Own, Route, SharedGroup, Subscriber};
use crate::settings::DeliverMode;

use super::{BufferPool, Flushed, Node, Receiver, SessionRef, SessionState};

/// A connection with this much to write is flushed at once, while its bytes are still in the processor's cache.
const FLUSH_FROM: usize = 48 * 1_024;
/// Rounds of refilling and flushing one connection before the others get their turn.
const FLUSH_ROUNDS_MAX: usize = 16;
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
}

/// Messages that are routed and not yet handed over, and connections that wait for their flush.
#[derive(Default)]
pub struct Batch {
    items: Vec<Item>,
    routes: Vec<Route<SessionRef>>,
    /// Where the topics of the routes are, each at the place of its route.
    mountpoints: Vec<Arc<str>>,
    routes_used: usize,
    /// The route that is being handed over.
    run_at: usize,
    arena: Vec<u8>,
    cache: FrameCache,
    /// Buffers for whoever writes on this worker.
    pub pool: BufferPool,
    flush_due: Vec<SessionRef>,
    random: u64,
}

impl Batch {
    /// Whether no message waits to be handed over.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Gives up all that is half done, after a bug was met. Connections that wait for their flush still get it.
    pub fn abandon(&mut self) {
        let flush_due = std::mem::take(&mut self.flush_due);
        *self = Self { flush_due, ..Self::default() };
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

    /// Routes a message and notes it. True when somebody gets it. `input`: the buffer that the span may lie in.
    pub fn add(
        &mut self,
        node: &Node,
        cx: &mut Context,
        input: &[u8],
        mountpoint: &Arc<str>,
        mut outgoing: Outgoing<'_>,
    ) -> bool {
        let publication = outgoing.publication;
        let route = self.route(node, input, mountpoint, &publication);
        let found = &self.routes[route];
        let matches = found.targets.len() + found.groups.len();
        if matches == 0 {
            return false;
        }
        let offset = (publication.span.as_ptr() as usize).wrapping_sub(input.as_ptr() as usize);
        let is_in_input = offset < input.len() && offset + publication.span.len() <= input.len();
        let start = if is_in_input {
            offset
        } else {
            self.arena.extend_from_slice(publication.span);
            self.arena.len() - publication.span.len()
        };
        self.items.push(Item {
            head: publication.head,
            start,
            len: publication.span.len(),
            is_in_arena: !is_in_input,
            route,
            message: outgoing.message.take(),
        });
        cx.tally.add(Counter::RouterMatchesLocal, matches as u64);
        true
    }

    /// The route of a message: the one of the message before it when the topics agree.
    fn route(&mut self, node: &Node, input: &[u8], mountpoint: &Arc<str>, publication: &Publication<'_>) -> usize {
        if let Some(last) = self.items.last() {
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
        node.router.read().route(mountpoint, publication.topic_text(), &mut self.routes[place]);
        if !self.routes[place].targets.is_empty() || !self.routes[place].groups.is_empty() {
            self.routes_used += 1;
        }
        place
    }

    /// Hands all noted messages over. No session may be locked by the caller.
    pub fn dispatch(&mut self, node: &Node, cx: &mut Context, input: &[u8]) {
        if self.items.is_empty() {
            return;
        }
        let mut items = std::mem::take(&mut self.items);
        let mut routes = std::mem::take(&mut self.routes);
        let arena = std::mem::take(&mut self.arena);
        let route_of: Vec<usize> = items.iter().map(|item| item.route).collect();
        let mut outgoing: Vec<Outgoing<'_>> = items
            .drain(..)
            .map(|item| {
                let source = if item.is_in_arena { &arena[..] } else { input };
                let span = &source[item.start..item.start + item.len];
                Outgoing { publication: Publication { head: item.head, span }, message: item.message }
            })
            .collect();
        let mut start = 0;
        while start < outgoing.len() {
            let route = route_of[start];
            let length = route_of[start..].iter().take_while(|other| **other == route).count();
            self.run_at = route;
            self.dispatch_run(node, cx, &routes[route], &mut outgoing[start..start + length]);
            start += length;
        }
        drop(outgoing);
        for route in &mut routes[..self.routes_used] {
            route.clear();
        }
        self.routes_used = 0;
        self.items = items;
        self.routes = routes;
        self.arena = arena;
        self.arena.clear();
        if self.arena.capacity() > CACHE_KEPT_MAX {
            self.arena = Vec::new();
        }
        if self.cache.capacity() > CACHE_KEPT_MAX {
            self.cache = FrameCache::default();
        }
    }

    fn dispatch_run(&mut self, node: &Node, cx: &mut Context, route: &Route<SessionRef>, run: &mut [Outgoing<'_>]) {
        let mut cache = std::mem::take(&mut self.cache);
        let is_fan_out = route.targets.len() > 1;
        if is_fan_out {
            cache.begin(run.len());
        }
        for target in &route.targets {
            let shared_frames = is_fan_out.then_some(&mut cache);
            let id = target.subscriber.id();
            let choose = |head: &Head| match &target.own {
                _ if head.origin != id => Some(&target.delivery),
                Own::Same => Some(&target.delivery),
                Own::Nothing => None,
                Own::Other(delivery) => Some(&**delivery),
            };
            self.hand_over(node, cx, &target.subscriber, choose, run, shared_frames);
        }
        self.cache = cache;
        for group in &route.groups {
            for outgoing in run.iter_mut() {
                self.hand_to_member(node, cx, group, outgoing);
            }
        }
    }

    fn hand_to_member(
        &mut self,
        node: &Node,
        cx: &mut Context,
        group: &SharedGroup<SessionRef>,
        outgoing: &mut Outgoing<'_>,
    ) {
        // xorshift: even enough to pick a member.
        self.random ^= cx.now | 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let policy = cx.settings.shared_subscription_policy;
        let origin = outgoing.publication.head.origin;
        let Some(member) = group.select(policy, self.random, origin, |session| session.can_take(cx)) else {
            cx.tally.add(Counter::QueueMessageDrop, 1);
            return;
        };
        let delivery = Delivery::of(member.options);
        self.hand_over(node, cx, &member.subscriber, |_| Some(&delivery), std::slice::from_mut(outgoing), None);
    }

    fn hand_over<'d>(
        &mut self,
        node: &Node,
        cx: &mut Context,
        session: &SessionRef,
        choose: impl Fn(&Head) -> Option<&'d Delivery>,
        run: &mut [Outgoing<'_>],
        cache: Option<&mut FrameCache>,
    ) {
        if let Receiver::Internal(name) = session.receiver() {
            for outgoing in run {
                if let Some(delivery) = choose(&outgoing.publication.head) {
                    let mountpoint = self.mountpoints[self.run_at].clone();
                    deliver_inside(node, cx, name, mountpoint, outgoing, delivery);
                }
            }
        } else if session.attached().count() > 0 {
            self.hand_to_attached(node, cx, session, choose, run);
        } else {
            self.hand_to_client(node, cx, session, choose, run, cache);
        }
    }

    /// Several connections share one client id: all get the message, or one of them in turn.
    fn hand_to_attached<'d>(
        &mut self,
        node: &Node,
        cx: &mut Context,
        session: &SessionRef,
        choose: impl Fn(&Head) -> Option<&'d Delivery>,
        run: &mut [Outgoing<'_>],
    ) {
        let mut receivers = session.attached().all();
        if session.has_client() {
            receivers.push(session.clone());
        }
        if receivers.is_empty() {
            receivers.push(session.clone());
        }
        for outgoing in run {
            let one = std::slice::from_mut(outgoing);
            match cx.settings.queue_deliver_mode {
                DeliverMode::Fanout => {
                    for receiver in &receivers {
                        self.hand_to_client(node, cx, receiver, &choose, one, None);
                    }
                }
                DeliverMode::Balance => {
                    let turn = session.attached().next_turn() % receivers.len();
                    self.hand_to_client(node, cx, &receivers[turn], &choose, one, None);
                }
            }
        }
    }

    fn hand_to_client<'d>(
        &mut self,
        node: &Node,
        cx: &mut Context,
        session_ref: &SessionRef,
        choose: impl Fn(&Head) -> Option<&'d Delivery>,
        run: &mut [Outgoing<'_>],
        mut cache: Option<&mut FrameCache>,
    ) {
        let mut state = session_ref.lock();
        if state.is_ended {
            return;
        }
        if let Some(connection) = &mut state.session.connection {
            self.pool.lend(connection);
        }
        for (index, outgoing) in run.iter_mut().enumerate() {
            let Some(delivery) = choose(&outgoing.publication.head) else { continue };
            let forms = cache.as_deref_mut().map(|cache| (cache, index));
            state.session.deliver(cx, outgoing, delivery, forms);
            if let Some(connection) = &state.session.connection
                && connection.output.len() >= FLUSH_FROM
            {
                self.flush(cx, &mut state);
            }
        }
        node.tell(cx, &mut state, session_ref);
        self.flush_later(&mut state, session_ref);
    }

    /// Notes that a connection has something to write.
    #[inline]
    pub fn flush_later(&mut self, state: &mut SessionState, session: &SessionRef) {
        let (Some(link), Some(connection)) = (&mut state.link, &mut state.session.connection) else { return };
        if connection.output.is_empty() {
            self.pool.take_back(connection);
        } else if !link.is_flush_due && !link.is_blocked {
            link.is_flush_due = true;
            self.flush_due.push(session.clone());
        }
    }

    /// Whether a connection waits for its flush.
    pub fn has_flush_due(&self) -> bool {
        !self.flush_due.is_empty()
    }

    /// Flushes every connection that was noted, once.
    pub fn flush_all(&mut self, node: &Node, cx: &mut Context) {
        let mut due = std::mem::take(&mut self.flush_due);
        for session in due.drain(..) {
            let mut state = session.lock();
            if let Some(link) = &mut state.link {
                link.is_flush_due = false;
            }
            let is_done = self.flush(cx, &mut state);
            node.tell(cx, &mut state, &session);
            if !is_done {
                self.flush_later(&mut state, &session);
            }
        }
        if self.flush_due.is_empty() {
            self.flush_due = due;
        }
    }

    /// Writes what waits and sends on what was queued behind it. False: there is more and the socket would take it.
    pub fn flush(&mut self, cx: &mut Context, state: &mut SessionState) -> bool {
        let SessionState { session, link: Some(link), .. } = state else { return true };
        if link.is_blocked {
            return true;
        }
        for _ in 0..FLUSH_ROUNDS_MAX {
            let Some(connection) = &mut session.connection else { return true };
            if link.flush(cx, connection) != Flushed::All {
                return true;
            }
            if !session.has_waiting() {
                if let Some(connection) = &mut session.connection {
                    self.pool.take_back(connection);
                }
                return true;
            }
            session.refill(cx);
            if session.connection.as_ref().is_none_or(|connection| connection.output.is_empty()) {
                return true;
            }
        }
        false
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
