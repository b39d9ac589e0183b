//! SUBSCRIBE and UNSUBSCRIBE from a connected client.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::codec::{
    PacketType, Properties, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe,
    UserProperties, text::parse_shared_filter, text::validate_topic_filter,
};
use crate::hooks::Hooks;
use crate::metrics::{Counter, Versioned};
use crate::policy::{Decider, Subject};
use crate::routing::SubscriptionOptions;
use crate::store::Change;

use super::connect::Told;
use super::context::{Decision, Host, Question, Verdict};
use super::ending::broken;
use super::limits::in_force;
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
        if let Some(why) = cx.barred(|settings| settings.allow_subscribe_during_netsplit)
            && !self.identity.is_internal()
        {
            cx.tally.add(Counter::NetsplitSubscribeRefused, 1);
            let told = Told { reason_string: Some(&why), ..Told::default() };
            let refused = |_| Granted::refused(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR);
            let granted: Vec<Granted> = subscribe.filters().map(refused).collect();
            let is_written = self.write_suback(cx, subscribe.packet_id, &told, &granted);
            return if is_written { Step::Continue } else { unanswerable() };
        }
        let identifier = subscribe.properties.subscription_identifier.unwrap_or(0);
        let decider = self.connection.as_ref().map(|connection| cx.decider(Subject::Subscribe, &connection.access));
        match decider.unwrap_or(Decider::Closed) {
            Decider::Inherit | Decider::Open => {
                let filters = subscribe.filters().map(|(filter, options)| (filter, options, options.qos as u8));
                return self.subscribe_all(cx, host, subscribe.packet_id, identifier, &Told::default(), filters);
            }
            Decider::Closed => {
                let code = ReasonCode::NOT_AUTHORIZED.0;
                let filters = subscribe.filters().map(|(filter, options)| (filter, options, code));
                return self.subscribe_all(cx, host, subscribe.packet_id, identifier, &Told::default(), filters);
            }
            Decider::Policy => {
                let policy = Arc::clone(&cx.policy);
                let identity = self.identity.clone();
                let code = |filter: &str, options: SubscribeOptions| {
                    let is_allowed = policy.may_subscribe(&identity, filter);
                    if is_allowed { options.qos as u8 } else { ReasonCode::NOT_AUTHORIZED.0 }
                };
                // Decided once, although the filters are gone through several times.
                let codes: Vec<u8> = subscribe.filters().map(|(filter, options)| code(filter, options)).collect();
                let filters = subscribe.filters().zip(&codes).map(|((filter, options), code)| (filter, options, *code));
                return self.subscribe_all(cx, host, subscribe.packet_id, identifier, &Told::default(), filters);
            }
            Decider::Hook => {}
        }
        let question = Question::Subscribe {
            filters: subscribe.filters().map(|(filter, options)| (filter.to_owned(), options.qos as u8)).collect(),
            properties: subscribe.properties.encoded(),
        };
        if !host.ask(cx, &self.identity, question) {
            let filters = subscribe
                .filters()
                .map(|(filter, options)| (filter, options, ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR.0));
            return self.subscribe_all(cx, host, subscribe.packet_id, identifier, &Told::default(), filters);
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
        let told = &Told::by(verdict);
        match (&verdict.decision, &verdict.filters) {
            (Decision::Deny(reason), _) => {
                let code = if reason.is_error() { reason.0 } else { ReasonCode::NOT_AUTHORIZED.0 };
                let all = requested.map(|(filter, options)| (filter.as_str(), *options, code));
                self.subscribe_all(cx, host, packet_id, identifier, told, all)
            }
            (_, Some(changed)) if changed.len() != filters.len() => {
                // An answer to another question grants nothing.
                let code = ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR.0;
                let all = requested.map(|(filter, options)| (filter.as_str(), *options, code));
                self.subscribe_all(cx, host, packet_id, identifier, told, all)
            }
            (_, Some(changed)) => {
                let all =
                    requested.zip(changed).map(|((_, options), (filter, code))| (filter.as_str(), *options, *code));
                self.subscribe_all(cx, host, packet_id, identifier, told, all)
            }
            (_, None) => {
                let all = requested.map(|(filter, options)| (filter.as_str(), *options, options.qos as u8));
                self.subscribe_all(cx, host, packet_id, identifier, told, all)
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
        told: &Told<'_>,
        filters: impl Iterator<Item = (&'a str, SubscribeOptions, u8)> + Clone,
    ) -> Step {
        let granted: Vec<Granted> = filters
            .clone()
            .map(|(filter, options, code)| self.subscribe_one(cx, host, filter, options, code, identifier))
            .collect();
        if !self.write_suback(cx, packet_id, told, &granted) {
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
        let limit = in_force(self.own_settings.as_ref(), cx).max_subscriptions_per_client;
        let is_new = !self.subscriptions.contains_key(filter);
        if is_new && limit > 0 && self.subscriptions.len() >= limit {
            return Granted::refused(ReasonCode::QUOTA_EXCEEDED);
        }
        // 3.x cannot say what a bridge needs; brokers agree on this.
        let is_bridge = group.is_none() && self.connection.as_ref().is_some_and(|connection| connection.is_bridge);
        let granted = SubscriptionOptions {
            qos: code,
            no_local: options.no_local || is_bridge,
            retain_as_published: options.retain_as_published || is_bridge,
            identifier,
        };
        self.subscriptions.insert(filter.into(), granted);
        if self.is_kept() {
            cx.changes.push(Change::Subscribed { filter: filter.into(), options: granted });
        }
        host.subscribe(topic_filter, group, granted);
        let wants_retained = group.is_none()
            && match options.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => is_new,
                RetainHandling::Never => false,
            };
        Granted { code: ReasonCode(code), wants_retained }
    }

    fn write_suback(&mut self, cx: &mut Context, packet_id: u16, told: &Told<'_>, granted: &[Granted]) -> bool {
        let Some(connection) = &mut self.connection else { return true };
        let is_v5 = connection.is_v5();
        cx.tally.add_versioned(Versioned::SubackSent, is_v5, 1);
        let codes: Vec<ReasonCode> = granted
            .iter()
            .map(|granted| if is_v5 || granted.code.0 <= 2 { granted.code } else { ReasonCode::UNSPECIFIED_ERROR })
            .collect();
        let mut properties = Properties::default();
        if is_v5
            && connection.wants_problem_information
            && (told.reason_string.is_some() || told.user_properties.is_some())
        {
            properties.reason_string = told.reason_string;
            properties.user_properties = UserProperties::Encoded(told.user_properties.unwrap_or_default());
        }
        let suback = SubAck { packet_id, reasons: &codes, properties };
        suback.encode_within(connection.version, connection.packet_size_max, connection.output.buffer())
    }

    fn send_retained<H: Host>(&mut self, cx: &mut Context, host: &mut H, filter: &str, qos: u8, identifier: u32) {
        let identifiers: SmallVec<[u32; 1]> =
            if identifier == 0 { SmallVec::new() } else { SmallVec::from_slice(&[identifier]) };
        // They may exceed the queue's limit once, not once more with each repeated SUBSCRIBE.
        let limit = host.retained_count().saturating_add(self.queue_limit(cx, true));
        for retained in host.retained(cx.now, filter) {
            self.deliver_retained(cx, retained, qos, identifiers.clone(), limit);
        }
    }

    pub(super) fn on_unsubscribe<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Step {
        cx.tally.add_versioned(Versioned::UnsubscribeReceived, self.is_v5(), 1);
        if let Some(why) = cx.barred(|settings| settings.allow_unsubscribe_during_netsplit)
            && !self.identity.is_internal()
        {
            cx.tally.add(Counter::NetsplitUnsubscribeRefused, 1);
            let reason = ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR;
            if !self.is_v5() {
                // UNSUBACK has no code there, so it would say that the subscriptions are gone.
                return broken(reason, "the cluster is not ready: an UNSUBSCRIBE is not acknowledged");
            }
            let codes: Vec<ReasonCode> = unsubscribe.filters().map(|_| reason).collect();
            return self.write_unsuback(cx, unsubscribe.packet_id, Some(&why), &codes);
        }
        let filters: Vec<String> = unsubscribe.filters().map(str::to_owned).collect();
        if !cx.hooks.contains(Hooks::ON_UNSUBSCRIBE) {
            return self.unsubscribe_all(cx, host, unsubscribe.packet_id, filters);
        }
        let question = Question::Unsubscribe { filters: filters.clone(), properties: unsubscribe.properties.encoded() };
        if !host.ask(cx, &self.identity, question) {
            // Nobody can be asked what to unsubscribe instead, and nobody may refuse.
            return self.unsubscribe_all(cx, host, unsubscribe.packet_id, filters);
        }
        if let Some(connection) = &mut self.connection {
            connection.waiting = Some(Waiting::Unsubscribe { packet_id: unsubscribe.packet_id, filters });
        }
        Step::Pause
    }

    /// Other filters take the places of those in the packet; a refusal or another number of filters changes nothing.
    pub(super) fn answer_unsubscribe<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        verdict: &Verdict,
        packet_id: u16,
        filters: Vec<String>,
    ) -> Step {
        let changed = verdict
            .filters
            .as_ref()
            .filter(|changed| verdict.decision == Decision::Allow && changed.len() == filters.len());
        let filters = match changed {
            Some(changed) => changed.iter().map(|(filter, _)| filter.clone()).collect(),
            None => filters,
        };
        self.unsubscribe_all(cx, host, packet_id, filters)
    }

    fn unsubscribe_all<H: Host>(
        &mut self,
        cx: &mut Context,
        host: &mut H,
        packet_id: u16,
        filters: Vec<String>,
    ) -> Step {
        let codes: Vec<ReasonCode> = filters.iter().map(|filter| self.unsubscribe_one(cx, host, filter)).collect();
        if cx.hooks.contains(Hooks::ON_TOPIC_UNSUBSCRIBED) {
            let removed = filters.into_iter().zip(&codes).filter(|(_, code)| **code == ReasonCode::SUCCESS);
            let removed: Vec<(String, u8)> = removed.map(|(filter, _)| (filter, 0)).collect();
            if !removed.is_empty() {
                host.notify(cx, Hooks::ON_TOPIC_UNSUBSCRIBED, &self.identity, removed);
            }
        }
        self.write_unsuback(cx, packet_id, None, &codes)
    }

    fn write_unsuback(
        &mut self,
        cx: &mut Context,
        packet_id: u16,
        reason_string: Option<&str>,
        codes: &[ReasonCode],
    ) -> Step {
        let Some(connection) = &mut self.connection else { return Step::Close(Ending::Lost) };
        cx.tally.add_versioned(Versioned::UnsubackSent, connection.is_v5(), 1);
        let mut properties = Properties::default();
        properties.reason_string = reason_string.filter(|_| connection.wants_problem_information);
        let unsuback = UnsubAck { packet_id, reasons: codes, properties };
        if unsuback.encode_within(connection.version, connection.packet_size_max, connection.output.buffer()) {
            Step::Continue
        } else {
            unanswerable()
        }
    }

    /// Removes one subscription; the filter is compared letter for letter [MQTT-3.10.4-1].
    pub fn unsubscribe_one<H: Host>(&mut self, cx: &mut Context, host: &mut H, filter: &str) -> ReasonCode {
        if self.subscriptions.remove(filter).is_none() {
            return ReasonCode::NO_SUBSCRIPTION_EXISTED;
        }
        if self.is_kept() {
            cx.changes.push(Change::Unsubscribed { filter: filter.into() });
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
