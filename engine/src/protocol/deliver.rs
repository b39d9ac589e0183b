//! Messages on their way to a client: sent at once where the window and the connection have room, queued elsewhere.

use smallvec::SmallVec;

use crate::codec::{QoS, encode_pubrel};
use crate::hooks::Hooks;
use crate::message::{Message, MessageId, Millis, Place, Publication, Retained};
use crate::metrics::{Counter, Reasoned, Tally, Versioned};
use crate::queue::{Full, InflightState, Queued, packet_id};
use crate::routing::Delivery;
use crate::store::Change;

use super::limits::in_force;
use super::wire::{FrameCache, publish_head};
use super::{Connection, Context, SHARE_FROM, Session};

/// A message on its way to one or many sessions.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The message, possibly still in the read buffer.
    pub publication: Publication<'a>,
    /// The message once somebody had to keep it.
    pub message: Option<Message>,
    /// Where the store has it, held for each session whose queue it was written down for.
    pub place: Place,
}

impl Outgoing<'_> {
    /// The message in a form that can be kept.
    #[inline]
    pub fn keep(&mut self) -> Message {
        self.message.get_or_insert_with(|| Message::keep(&self.publication)).clone()
    }
}

/// What became of a message for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It stands in the connection's output.
    Sent,
    /// It waits in the queue.
    Queued,
    /// It was dropped: the queue is full, it expired, it is too large for the client, or QoS 0 and nobody is there.
    Dropped,
}

/// Messages of a queue that stay in memory while its client is connected, where the store has them too.
const IN_MEMORY_MAX: usize = 1_000;

/// One packet to be written.
struct Packet<'a> {
    qos: u8,
    retain: bool,
    is_repeat: bool,
    id: u16,
    identifiers: &'a [u32],
}

impl Session {
    /// Hands a message to the session. `place`: where the store has it for this session. `cache` holds the forms that the
    /// message of this index was encoded in already.
    #[inline]
    pub fn deliver(
        &mut self,
        cx: &mut Context,
        outgoing: &mut Outgoing<'_>,
        delivery: &Delivery,
        place: Place,
        cache: Option<(&mut FrameCache, usize)>,
    ) -> Delivered {
        let head = outgoing.publication.head;
        let upgrades = in_force(self.own_settings.as_ref(), cx).upgrade_outgoing_qos;
        let qos = if upgrades { delivery.qos } else { head.qos.min(delivery.qos) };
        let retain = head.retain && delivery.retain_as_published;
        cx.tally.add(Counter::QueueMessageIn, 1);
        let can_send = self.pending.is_empty() && self.resend.0.is_empty() && !self.is_rewritten(cx);
        if let Some(connection) = &mut self.connection
            && can_send
            && connection.has_output_room(&cx.settings)
            && (qos == 0 || self.window.has_room(connection.window_limit))
        {
            if outgoing.publication.is_expired(cx.now) {
                cx.give_up(place, 0);
                return expired(cx, || outgoing.keep(), qos, retain);
            }
            if !fits(connection, &outgoing.publication, qos, retain, &delivery.identifiers, cx.now) {
                cx.give_up(place, 0);
                return too_large(cx, || outgoing.keep(), qos, retain);
            }
            let mut id = 0;
            if qos > 0 {
                let number = self.window.push(outgoing.keep(), place, qos, retain, delivery.identifiers.clone());
                id = packet_id(number);
                if let Some(slot) = place.body() {
                    cx.changes.push(Change::Sent { slot, number });
                }
            } else {
                cx.give_up(place, 0);
            }
            let packet = Packet { qos, retain, is_repeat: false, id, identifiers: &delivery.identifiers };
            send(connection, &mut cx.tally, cx.now, outgoing, &packet, cache);
            return Delivered::Sent;
        }
        let identifiers = delivery.identifiers.clone();
        let limit = self.queue_limit(cx, self.connection.is_some());
        let queued = Queued::new(outgoing.keep(), place, qos, retain, identifiers);
        self.enqueue(cx, queued, limit)
    }

    /// Hands over a retained message that a new subscription asks for, with RETAIN set. `limit`: messages that may wait.
    pub fn deliver_retained(
        &mut self,
        cx: &mut Context,
        retained: Retained,
        qos_max: u8,
        identifiers: SmallVec<[u32; 1]>,
        limit: usize,
    ) {
        let upgrades = in_force(self.own_settings.as_ref(), cx).upgrade_outgoing_qos;
        let qos = if upgrades { qos_max } else { retained.qos.min(qos_max) };
        cx.tally.add(Counter::QueueMessageIn, 1);
        let Retained { message, slot, size, .. } = retained;
        let segment = cx.archive.as_ref().map_or(0, |archive| archive.segment());
        let place = Place { slot, segment };
        if place.is_stored() && self.is_kept() && qos > 0 {
            cx.changes.push(Change::Queued { slot, qos, retain: true, identifiers: identifiers.clone() });
        }
        let message_id = MessageId::NONE;
        let queued = Queued { message, place, size, qos, retain: true, is_changed: false, identifiers, message_id };
        let can_send = self.pending.is_empty() && self.resend.0.is_empty() && !self.is_rewritten(cx);
        if can_send && self.has_room_for(cx, qos) {
            self.send_queued(cx, queued);
        } else {
            self.enqueue(cx, queued, limit);
        }
    }

    pub(super) fn has_room_for(&self, cx: &Context, qos: u8) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.has_output_room(&cx.settings) && (qos == 0 || self.window.has_room(connection.window_limit))
        })
    }

    pub(super) fn enqueue(&mut self, cx: &mut Context, mut queued: Queued, limit: usize) -> Delivered {
        let is_online = self.connection.is_some();
        if !is_online && queued.qos == 0 {
            cx.tally.add(Counter::QueueMessageUnhandled, 1);
            cx.give_up(queued.place, 0);
            return Delivered::Dropped;
        }
        if !is_online {
            let (qos, retain) = (queued.qos, queued.retain);
            if let Some(message) = &queued.message {
                cx.notice(Hooks::ON_OFFLINE_MESSAGE, || message.clone(), qos, retain, "");
            }
        }
        if !is_online || self.pending.len() >= IN_MEMORY_MAX {
            leave_to_store(cx, &mut queued);
        }
        let queue_type = in_force(self.own_settings.as_ref(), cx).queue_type;
        match self.pending.push(queued, queue_type, limit, cx.settings.queue_limit_bytes()) {
            Full::No => Delivered::Queued,
            Full::Dropped(dropped) => {
                self.dropped += dropped.len() as u64;
                for dropped in dropped {
                    drop_queued(cx, dropped, "queue_full");
                }
                Delivered::Dropped
            }
        }
    }

    /// Sends what waits while the window and the connection have room: first what a resumed session sends again.
    pub fn refill(&mut self, cx: &mut Context) {
        if !self.resend.0.is_empty() && !self.send_again(cx) {
            return;
        }
        if self.rewritings.is_some() && !self.send_rewritten(cx) {
            return;
        }
        if cx.hooks.contains(Hooks::ON_DELIVER) && !self.identity.is_internal() {
            // The rest has to be asked about first.
            return;
        }
        while let Some(queued) = self.pending.front() {
            let qos = queued.qos;
            if !self.has_room_for(cx, qos) {
                return;
            }
            if let Some(queued) = self.pending.pop() {
                self.send_queued(cx, queued);
            }
        }
    }

    /// Sends again what was under way when the last connection ended, with the same identifiers and in the same
    /// order [MQTT-4.4.0-1], within the client's Receive Maximum. True when nothing is left.
    fn send_again(&mut self, cx: &mut Context) -> bool {
        while let Some(&packet_id) = self.resend.0.front() {
            let Some(connection) = &mut self.connection else { return false };
            let under_way = self.window.len().saturating_sub(self.resend.0.len());
            if under_way >= connection.window_limit || !connection.has_output_room(&cx.settings) {
                return false;
            }
            self.resend.0.pop_front();
            let Some(slot) = self.window.slot(packet_id) else { continue };
            if slot.state == InflightState::AwaitingPubcomp {
                encode_pubrel(packet_id, connection.output.buffer());
                cx.tally.add_reasoned(Reasoned::PubrelSent, connection.is_v5(), crate::codec::ReasonCode::SUCCESS);
                continue;
            }
            let state = slot.state;
            let Some(message) = slot.message.clone().or_else(|| cx.load(slot.place)) else {
                // Nothing can be sent again: the delivery is given up.
                cx.tally.add(Counter::QueueMessageDrop, 1);
                self.finish(cx, packet_id, state);
                continue;
            };
            let qos = if state == InflightState::AwaitingPuback { 1 } else { 2 };
            let identifiers = slot.identifiers.clone();
            let packet = Packet { qos, retain: slot.retain, is_repeat: true, id: packet_id, identifiers: &identifiers };
            let publication = message.publication();
            if fits(connection, &publication, qos, packet.retain, packet.identifiers, cx.now) {
                let mut outgoing = Outgoing { publication, message: Some(message.clone()), place: Place::NONE };
                send(connection, &mut cx.tally, cx.now, &mut outgoing, &packet, None);
            } else {
                cx.tally.add(Counter::PacketTooLargeDrop, 1);
                self.finish(cx, packet_id, state);
            }
        }
        true
    }

    pub(super) fn send_queued(&mut self, cx: &mut Context, queued: Queued) {
        let Queued { message, place, qos, retain, is_changed, identifiers, .. } = queued;
        let Some(message) = message.or_else(|| cx.load(place)) else {
            cx.tally.add(Counter::QueueMessageDrop, 1);
            cx.give_up(place, 0);
            return;
        };
        let publication = message.publication();
        if publication.is_expired(cx.now) {
            cx.give_up(place, 0);
            expired(cx, || message.clone(), qos, retain);
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        if !fits(connection, &publication, qos, retain, &identifiers, cx.now) {
            cx.give_up(place, 0);
            too_large(cx, || message.clone(), qos, retain);
            return;
        }
        let mut id = 0;
        if qos > 0 {
            let number = self.window.push(message.clone(), place, qos, retain, identifiers.clone());
            id = packet_id(number);
            self.window.mark_changed(id, is_changed);
            if let Some(slot) = place.body() {
                cx.changes.push(Change::Sent { slot, number });
            }
        } else {
            cx.give_up(place, 0);
        }
        let packet = Packet { qos, retain, is_repeat: false, id, identifiers: &identifiers };
        let mut outgoing = Outgoing { publication, message: Some(message.clone()), place };
        send(connection, &mut cx.tally, cx.now, &mut outgoing, &packet, None);
    }
}

/// Drops a message that waited or was to wait.
pub(super) fn drop_queued(cx: &mut Context, queued: Queued, reason: &'static str) {
    cx.tally.add(Counter::QueueMessageDrop, 1);
    if cx.hooks.contains(Hooks::ON_MESSAGE_DROP)
        && let Some(message) = queued.message.or_else(|| cx.load(queued.place))
    {
        cx.notice(Hooks::ON_MESSAGE_DROP, || message, queued.qos, queued.retain, reason);
    }
    cx.give_up(queued.place, 0);
}

/// Gives the memory back of a message that the store has too.
pub(super) fn leave_to_store(cx: &Context, queued: &mut Queued) {
    if let Some(archive) = &cx.archive
        && let Some(slot) = queued.place.body()
        && !queued.is_changed
        && let Some(message) = queued.message.take()
    {
        archive.offer(slot, &message);
    }
}

/// Whether a message stays within the client's Maximum Packet Size [MQTT-3.1.2-24].
#[inline]
fn fits(
    connection: &Connection,
    publication: &Publication<'_>,
    qos: u8,
    retain: bool,
    identifiers: &[u32],
    now: Millis,
) -> bool {
    if connection.packet_size_max == u32::MAX {
        return true;
    }
    let mut head = publish_head(publication, connection.is_v5(), qos, retain, now);
    head.subscription_identifiers = identifiers;
    // A first use of a topic alias adds three bytes.
    let alias = if connection.broker_alias_max > 0 { 3 } else { 0 };
    head.encoded_size(connection.version) + alias <= connection.packet_size_max as usize
}

#[inline]
fn send(
    connection: &mut Connection,
    tally: &mut Tally,
    now: Millis,
    outgoing: &mut Outgoing<'_>,
    packet: &Packet<'_>,
    cache: Option<(&mut FrameCache, usize)>,
) {
    let is_v5 = connection.is_v5();
    tally.add(Counter::QueueMessageOut, 1);
    tally.add_versioned(Versioned::PublishSent, is_v5, 1);
    let payload_len = outgoing.publication.payload().len();
    let is_common = packet.identifiers.is_empty() && connection.broker_alias_max == 0 && payload_len < SHARE_FROM;
    if let Some((cache, index)) = cache
        && is_common
    {
        let encoded = cache.encoded(index, &outgoing.publication, connection.version, packet.qos, packet.retain, now);
        let buffer = connection.output.buffer();
        let start = buffer.len();
        buffer.extend_from_slice(encoded.bytes);
        if packet.qos > 0 {
            let at = start + encoded.packet_id_at;
            buffer[at..at + 2].copy_from_slice(&packet.id.to_be_bytes());
        }
        return;
    }
    let mut head = publish_head(&outgoing.publication, is_v5, packet.qos, packet.retain, now);
    head.dup = packet.is_repeat;
    head.qos = QoS::from_u8(packet.qos).unwrap_or(QoS::AtMostOnce);
    head.packet_id = packet.id;
    if is_v5 {
        head.subscription_identifiers = packet.identifiers;
        if let Some((alias, is_new)) = connection.broker_alias(outgoing.publication.topic()) {
            head.topic_alias = Some(alias);
            if !is_new {
                head.topic = "";
            }
        }
    }
    head.encode(connection.version, connection.output.buffer());
    if payload_len < SHARE_FROM {
        connection.output.buffer().extend_from_slice(outgoing.publication.payload());
    } else {
        connection.output.push_shared_payload(outgoing.keep());
    }
}

fn expired(cx: &mut Context, message: impl FnOnce() -> Message, qos: u8, retain: bool) -> Delivered {
    cx.tally.add(Counter::QueueMessageExpired, 1);
    cx.notice(Hooks::ON_MESSAGE_DROP, message, qos, retain, "expired");
    Delivered::Dropped
}

/// A packet beyond the client's Maximum Packet Size counts as delivered [MQTT-3.1.2-25].
fn too_large(cx: &mut Context, message: impl FnOnce() -> Message, qos: u8, retain: bool) -> Delivered {
    cx.tally.add(Counter::PacketTooLargeDrop, 1);
    cx.notice(Hooks::ON_MESSAGE_DROP, message, qos, retain, "max_packet_size_exceeded");
    Delivered::Dropped
}
