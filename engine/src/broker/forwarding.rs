//! Messages on their way to other nodes, and what a publisher waits for of them.
//!
//! A message goes to a node once, with the shared groups for which one of its members was chosen there. What is retained goes to
//! every node that can be reached, whether or not anybody subscribes there, and in the order in which it is retained here as far
//! as one publisher is concerned; so whoever subscribes there finds it.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::metrics::Counter;
use crate::peer::{Forwarded, Groups, Overflow, PeerLink};
use crate::protocol::Context;
use crate::routing::{Route, Subscriber};
use crate::settings::PublishAck;

use super::choosing::Chosen;
use super::events::{Event, Level};
use super::writing::Letter;
use super::{Node, SessionRef};

/// Another node has to have taken something first.
#[derive(Debug)]
struct Awaited {
    link: Arc<PeerLink>,
    seq: u64,
}

/// Other nodes that have to have taken something first.
#[derive(Debug, Default)]
pub struct Awaiting(Vec<Awaited>);

impl Awaiting {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all have taken it, or cannot be reached. If not, the workers are told to look again.
    pub fn is_over(&mut self) -> bool {
        self.0.retain(|awaited| !awaited.link.is_settled(awaited.seq));
        self.0.is_empty()
    }

    /// Waits for more.
    pub fn add(&mut self, more: Self) {
        for new in more.0 {
            self.note(&new.link, new.seq);
        }
    }

    fn note(&mut self, link: &Arc<PeerLink>, seq: u64) {
        match self.0.iter_mut().find(|known| Arc::ptr_eq(&known.link, link)) {
            Some(known) => known.seq = known.seq.max(seq),
            None => self.0.push(Awaited { link: Arc::clone(link), seq }),
        }
    }
}

/// What a batch has for other nodes.
#[derive(Default)]
pub(super) struct Outward {
    /// Links that have something to send.
    due: Vec<Arc<PeerLink>>,
    /// What the publisher of the batch in hand waits for.
    awaited: Awaiting,
}

impl Outward {
    /// Begins a batch.
    pub fn begin(&mut self) {
        self.awaited.0.clear();
    }

    /// Takes out what the publisher of the batch waits for.
    pub fn take_awaited(&mut self) -> Awaiting {
        std::mem::take(&mut self.awaited)
    }

    /// Whether a link has something to send.
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Sends what was appended, as far as the sockets take it.
    pub fn flush(&mut self) {
        for link in self.due.drain(..) {
            link.flush();
        }
    }

    /// Hands messages of one route to the links of those nodes that get them. `chosen`: for each group of the route, who
    /// gets the message; then it is one.
    pub fn forward(
        &mut self,
        node: &Node,
        cx: &mut Context,
        mountpoint: &str,
        route: &Route<SessionRef>,
        chosen: &[Option<Chosen>],
        run: &mut [Letter<'_>],
    ) {
        let is_for_all = run.iter().any(|letter| letter.outgoing.publication.head.retain);
        let direct: SmallVec<[u64; 8]> = route
            .targets
            .iter()
            .map(|target| &target.subscriber)
            .filter(|s| s.peer_link().is_some())
            .map(Subscriber::id)
            .collect();
        let is_for_some =
            !direct.is_empty() || chosen.iter().flatten().any(|chosen| chosen.subscriber.peer_link().is_some());
        if !is_for_all && !is_for_some {
            return;
        }
        let mut stamp = node.remotes.stamps(node.clock.wall_ms(cx.now), run.len() as u64);
        let stamps: SmallVec<[u64; 8]> = run
            .iter_mut()
            .map(|letter| {
                // One that is retained or repeated has its name already, and one that may be repeated.
                if !letter.message_id.is_some() {
                    letter.message_id = node.remotes.own_message_id(stamp);
                    stamp += 1;
                }
                letter.message_id.stamp
            })
            .collect();
        for port in node.remotes.ports().iter() {
            let Some(link) = port.peer_link() else { continue };
            let groups: SmallVec<[(&str, &str); 2]> = route
                .groups
                .iter()
                .zip(chosen)
                .filter(|(_, chosen)| chosen.as_ref().is_some_and(|chosen| chosen.subscriber.id() == port.id()))
                .map(|(group, _)| (group.name(), group.filter()))
                .collect();
            let is_wanted = direct.contains(&port.id()) || !groups.is_empty();
            let is_due = is_wanted || (is_for_all && link.is_reachable());
            if !is_due {
                continue;
            }
            let messages = run.iter().zip(&stamps).filter_map(|(letter, stamp)| {
                let publication = letter.outgoing.publication;
                let is_retained_update = publication.head.retain;
                (is_wanted || is_retained_update).then_some(Forwarded {
                    groups: Groups::Listed(&groups),
                    is_retained_update,
                    // With another QoS, which a hook has given it, it may come twice.
                    is_repeat: letter.is_repeat && publication.head.qos == 2,
                    ..Forwarded::routed(mountpoint, publication, *stamp)
                })
            });
            self.append(node, cx, port, link, messages);
        }
    }

    fn append<'m>(
        &mut self,
        node: &Node,
        cx: &mut Context,
        port: &SessionRef,
        link: &Arc<PeerLink>,
        messages: impl Iterator<Item = Forwarded<'m>>,
    ) {
        let (mut last, mut matches, mut turned_away) = (0, 0, 0);
        let mut is_awaited = false;
        let counted = messages.inspect(|message| {
            matches += 1;
            is_awaited |= message.publication.head.qos > 0;
        });
        link.append_all(counted, cx.now, |outcome| match outcome {
            Ok(seq) => last = last.max(seq.unwrap_or_default()),
            // The link counts it; that QoS 0 goes nowhere while a node is away is as it should be.
            Err(Overflow::Disconnected | Overflow::NoCredit | Overflow::Gone) => {}
            Err(Overflow::Full | Overflow::TooLarge) => turned_away += 1,
        });
        cx.tally.add(Counter::RouterMatchesRemote, matches);
        if !self.due.iter().any(|due| Arc::ptr_eq(due, link)) {
            self.due.push(Arc::clone(link));
        }
        if last > 0 && is_awaited && cx.settings.publish_ack == PublishAck::Peers && link.is_reachable() {
            self.awaited.note(link, last);
        }
        if turned_away > 0
            && let Some(dropped) = node.remotes.note_overflow(port.id(), turned_away, cx.now)
        {
            let message = "messages for another node are dropped: they are too large for it, or too many wait for it \
                           (outgoing_clustering_buffer_size)";
            let fields = vec![("node", link.name().to_string()), ("messages", dropped.to_string())];
            node.tell_operator(Event::Log { level: Level::Warning, message: message.to_owned(), fields });
        }
    }
}
