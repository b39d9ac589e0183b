//! SUBSCRIBE and UNSUBSCRIBE from a connected client.

use smallvec::SmallVec;

use crate::codec::{
    PacketType, Properties, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe,
    text::parse_shared_filter, text::validate_topic_filter,
};
use crate::hooks::Hooks;
use crate::message::Message;
use crate::metrics::Versioned;
use crate::routing::SubscriptionOptions;

use super::context::{Decision, Host, Question, Verdict};
use super::ending::broken;
use super::publish::check_topic;
use super::{Context, Ending, Session, Step, Waiting};

/// What a requested subscription came to.
struct Granted {
    /// Granted QoS or an error.
    code: ReasonCode,
    /// Retained messages are due [MQTT-3.3.1-9, MQTT-3.3.1-10, MQTT-3.3.1-11].
    wants_retained: bool,
}

impl Granted {
    fn refused(code: ReasonCode) -> Self {
        Self { code, wants_retained: false }
    }
}

impl Session {
    pub(super) fn on_subscribe<H: Host>(&mut self, cx: &mut Context, host: &mut H, subscribe: &Subscribe<'_>) -> Step {
        cx.tally.add_versioned(Versioned::SubscribeReceived, self.is_v5(), 1);
        let identifier = subscribe.properties.subscription_identifier.unwrap_or(0);
        if !cx.hooks.contains(Hooks::AUTH_ON_SUBSCRIBE) {
            let filters = subscribe.filters().map(|(filter, options)| (filter, options, options.qos as u8));
            return self.subscribe_all(cx, host, subscribe.packet_id, identifier, filters);
        }
        let question = Question::Subscribe {
            filters: subscribe.filters().map(|(filter, options)| (filter.to_owned(), options.qos as u8)).collect(),
            properties: subscribe.properties.encoded(),
        };
        if !host.ask(cx, &self.identity, question) {
            let filters = subscribe
                .filters()
                .map(|(filter, options)| (filter, options, ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR.0));
            return self.subscribe_all(cx, host, subscribe.packet_id, identifier, filters);
        }
        let filters = subscribe.filters().map(|(filter, options)| (filter.to_owned(), options)).collect();
        if let Some(connection) = &mut self.connection {
            connection.waiting = Some(Waiting::Subscribe { packet_id: subscribe.packet_id, identifier, filters });
        }
        Step::Pause
    }

    pub(super) fn answer_subscribe<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        verdict: &Verdict,
        packet_id: u16,
        identifier: u32,
        filters: &[(String, SubscribeOptions)],
    ) -> Step {
        let requested = filters.iter();
        match (&verdict.decision, &verdict.filters) {
            (Decision::Deny(reason), _) => {
                let code = if reason.is_error() { reason.0 } else { ReasonCode::NOT_AUTHORIZED.0 };
                let all = requested.map(|(filter, options)| (filter.as_str(), *options, code));
                self.subscribe_all(cx, host, packet_id, identifier, all)
            }
            (_, Some(changed)) if changed.len() != filters.len() => {
                // An answer to another question grants nothing.
                let code = ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR.0;
                let all = requested.map(|(filter, options)| (filter.as_str(), *options, code));
                self.subscribe_all(cx, host, packet_id, identifier, all)
            }
            (_, Some(changed)) => {
                let all =
                    requested.zip(changed).map(|((_, options), (filter, code))| (filter.as_str(), *options, *code));
                self.subscribe_all(cx, host, packet_id, identifier, all)
            }
            (_, None) => {
                let all = requested.map(|(filter, options)| (filter.as_str(), *options, options.qos as u8));
                self.subscribe_all(cx, host, packet_id, identifier, all)
            }
        }
    }

    /// Makes the subscriptions one after the other, answers with one SUBACK, then sends what is retained
    /// [MQTT-3.8.4-5]. Each filter comes with its options and the QoS to grant, or the code to refuse it with.
    fn subscribe_all<'a, H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        packet_id: u16,
        identifier: u32,
        filters: impl Iterator<Item = (&'a str, SubscribeOptions, u8)> + Clone,
    ) -> Step {
        let is_v5 = self.is_v5();
        let granted: Vec<Granted> = filters
            .clone()
            .map(|(filter, options, code)| self.subscribe_one(cx, host, filter, options, code, identifier))
            .collect();
        if !self.write_suback(cx, packet_id, is_v5, &granted) {
            return unanswerable();
        }
        if cx.hooks.contains(Hooks::ON_SUBSCRIBE) {
            let made = filters.clone().zip(&granted).map(|((filter, ..), granted)| (filter.to_owned(), granted.code.0));
            host.notify(cx, Hooks::ON_SUBSCRIBE, &self.identity, made.collect());
        }
        for ((filter, ..), granted) in filters.zip(&granted) {
            if granted.wants_retained {
                self.send_retained(cx, host, filter, granted.code.0, identifier);
            }
        }
        Step::Continue
    }

    fn subscribe_one<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        filter: &str,
        options: SubscribeOptions,
        code: u8,
        identifier: u32,
    ) -> Granted {
        if code > 2 {
            cx.tally.add_versioned(Versioned::SubscribeAuthError, self.is_v5(), 1);
            return Granted::refused(ReasonCode(code.max(0x80)).fit_for(PacketType::SubAck));
        }
        let (group, topic_filter) = match parse_shared_filter(filter) {
            Ok(None) if validate_topic_filter(filter).is_ok() => (None, filter),
            Ok(Some((group, topic_filter))) => (Some(group), topic_filter),
            _ => return Granted::refused(ReasonCode::TOPIC_FILTER_INVALID),
        };
        if check_topic(&cx.settings, topic_filter).is_err() {
            return Granted::refused(ReasonCode::TOPIC_FILTER_INVALID);
        }
        let limit = cx.settings.max_subscriptions_per_client;
        let is_new = !self.subscriptions.contains_key(filter);
        if is_new && limit > 0 && self.subscriptions.len() >= limit {
            return Granted::refused(ReasonCode::QUOTA_EXCEEDED);
        }
        let granted = SubscriptionOptions {
            qos: code,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            identifier,
        };
        self.subscriptions.insert(filter.into(), granted);
        host.subscribe(topic_filter, group, granted);
        let wants_retained = group.is_none()
            && match options.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => is_new,
                RetainHandling::Never => false,
            };
        Granted { code: ReasonCode(code), wants_retained }
    }

    fn write_suback(&mut self, cx: &mut Context, packet_id: u16, is_v5: bool, granted: &[Granted]) -> bool {
        let Some(connection) = &mut self.connection else { return true };
        cx.tally.add_versioned(Versioned::SubackSent, is_v5, 1);
        let codes: Vec<ReasonCode> = granted
            .iter()
            .map(|granted| if is_v5 || granted.code.0 <= 2 { granted.code } else { ReasonCode::UNSPECIFIED_ERROR })
            .collect();
        let suback = SubAck { packet_id, reasons: &codes, properties: Properties::default() };
        suback.encode_within(connection.version, connection.packet_size_max, connection.output.buffer())
    }

    fn send_retained<H: Host>(&mut self, cx: &mut Context, host: &mut H, filter: &str, qos: u8, identifier: u32) {
        let identifiers: SmallVec<[u32; 1]> =
            if identifier == 0 { SmallVec::new() } else { SmallVec::from_slice(&[identifier]) };
        let now = cx.now;
        // They may exceed the queue's limit once, not once more with each repeated SUBSCRIBE.
        let limit = host.retained_count().saturating_add(cx.settings.queue_limit(true));
        host.retained(now, filter, &mut |message: &Message| {
            self.deliver_retained(cx, message, qos, identifiers.clone(), limit)
        });
    }

    pub(super) fn on_unsubscribe<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Step {
        let is_v5 = self.is_v5();
        cx.tally.add_versioned(Versioned::UnsubscribeReceived, is_v5, 1);
        let codes: Vec<ReasonCode> = unsubscribe.filters().map(|filter| self.unsubscribe_one(host, filter)).collect();
        for hook in [Hooks::ON_UNSUBSCRIBE, Hooks::ON_TOPIC_UNSUBSCRIBED] {
            if cx.hooks.contains(hook) {
                let filters = unsubscribe.filters().map(|filter| (filter.to_owned(), 0)).collect();
                host.notify(cx, hook, &self.identity, filters);
            }
        }
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_versioned(Versioned::UnsubackSent, is_v5, 1);
        let unsuback =
            UnsubAck { packet_id: unsubscribe.packet_id, reasons: &codes, properties: Properties::default() };
        if unsuback.encode_within(connection.version, connection.packet_size_max, connection.output.buffer()) {
            Step::Continue
        } else {
            unanswerable()
        }
    }

    /// Removes one subscription; the filter is compared letter for letter [MQTT-3.10.4-1].
    pub fn unsubscribe_one<H: Host>(&mut self, host: &mut H, filter: &str) -> ReasonCode {
        if self.subscriptions.remove(filter).is_none() {
            return ReasonCode::NO_SUBSCRIPTION_EXISTED;
        }
        match parse_shared_filter(filter) {
            Ok(Some((group, topic_filter))) => host.unsubscribe(topic_filter, Some(group)),
            _ => host.unsubscribe(filter, None),
        }
        ReasonCode::SUCCESS
    }
}

/// A request for more filters than the answer may have codes: every request must be answered, and this one cannot be.
fn unanswerable() -> Step {
    broken(ReasonCode::PACKET_TOO_LARGE, "a request whose answer exceeds the client's own Maximum Packet Size")
}
