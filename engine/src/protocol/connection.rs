//! What was agreed for one network connection, and what ends with it.

use std::sync::Arc;

use crate::codec::{ProtocolVersion, ReasonCode};
use crate::message::{Message, Millis};
use crate::policy::{AccessCell, Decisions};
use crate::settings::Settings;
use crate::store::Lsn;

use super::Output;
use super::connect::Registration;

/// A packet that waits for Python's verdict. Nothing further is read from the connection until it is answered.
#[derive(Debug)]
pub enum Waiting {
    /// A PUBLISH.
    Publish {
        /// The message as it came.
        message: Message,
        /// Its packet identifier, 0 for QoS 0.
        packet_id: u16,
    },
    /// A SUBSCRIBE.
    Subscribe {
        /// Its packet identifier.
        packet_id: u16,
        /// Its subscription identifier, 0 for none.
        identifier: u32,
        /// Filters and their options.
        filters: Vec<(String, crate::codec::SubscribeOptions)>,
    },
    /// An UNSUBSCRIBE.
    Unsubscribe {
        /// Its packet identifier.
        packet_id: u16,
        /// Filters.
        filters: Vec<String>,
    },
    /// An AUTH.
    Auth,
}

/// The protocol side of one connection.
#[derive(Debug)]
pub struct Connection {
    /// MQTT version.
    pub version: ProtocolVersion,
    /// It is the bridge of another broker, in 3.1 or 3.1.1.
    pub is_bridge: bool,
    /// What waits to be written.
    pub output: Output,
    /// Seconds, 0: none. What the broker enforces, which is Server Keep Alive where it announced one.
    pub keep_alive: u16,
    /// Unacknowledged messages that may be under way to the client.
    pub window_limit: usize,
    /// Largest packet the client takes; `u32::MAX` for no limit.
    pub packet_size_max: u32,
    /// Unfinished publishes that the client may have, as announced.
    pub receive_maximum: u16,
    /// Reason strings and user properties may be sent with any packet [MQTT-3.1.2-29].
    pub wants_problem_information: bool,
    /// Authentication method of the CONNECT.
    pub authentication_method: Option<Box<str>>,
    /// The client was asked for another AUTH of a re-authentication.
    pub is_authenticating: bool,
    /// A packet that waits for a verdict.
    pub waiting: Option<Waiting>,
    /// Who decides about what the client does.
    pub access: Arc<AccessCell>,
    /// What the access list said lately.
    pub(super) decisions: Decisions,
    /// Session expiry interval was 0 in CONNECT, so DISCONNECT must not raise it.
    pub has_zero_expiry: bool,
    /// Topic aliases of the client; index is alias - 1.
    pub(super) client_aliases: Vec<Option<Box<str>>>,
    /// Topic aliases that the client may use.
    pub(super) client_alias_max: u16,
    /// Topics that have an alias towards the client; alias is index + 1.
    pub(super) broker_aliases: Vec<Box<[u8]>>,
    /// Topic aliases that the broker may use.
    pub(super) broker_alias_max: u16,
    /// Bucket of `max_message_rate`, in thousandths of a message.
    rate_tokens: i64,
    rate_filled_at: Millis,
    /// What the store must have kept before the output may go out; 0: nothing, [`UNKNOWN_LSN`]: what is about to be handed
    /// over.
    pub waits_for: Lsn,
    /// Bytes read from the client.
    pub bytes_received: u64,
    /// Bytes written to the client.
    pub bytes_sent: u64,
}

/// Later than everything: what is to be waited for is not written down yet. Whoever sets it writes it down and sets the real one.
pub const UNKNOWN_LSN: Lsn = Lsn::MAX;

/// Topic aliases of one connection are looked up by walking them: more than this are not used even if the client allows it.
const BROKER_ALIASES_MAX: u16 = 64;

impl Connection {
    /// A connection as registered.
    pub fn new(registration: &Registration, settings: &Settings, now: Millis) -> Self {
        let settings = &*registration.settings(settings);
        let is_v5 = registration.version == ProtocolVersion::V5;
        let window_limit = if is_v5 {
            usize::from(registration.receive_maximum).min(usize::from(settings.receive_max_client))
        } else if settings.max_inflight_messages == 0 {
            usize::from(u16::MAX)
        } else {
            settings.max_inflight_messages
        };
        Self {
            version: registration.version,
            is_bridge: registration.is_bridge,
            output: Output::default(),
            keep_alive: registration.enforced_keep_alive,
            window_limit,
            packet_size_max: registration.packet_size_max,
            receive_maximum: if is_v5 { settings.receive_max_broker } else { u16::MAX },
            wants_problem_information: registration.wants_problem_information,
            authentication_method: registration.authentication_method.as_deref().map(Into::into),
            is_authenticating: false,
            waiting: None,
            access: registration.access.clone(),
            decisions: Decisions::default(),
            has_zero_expiry: is_v5 && registration.session_expiry == Some(0),
            client_aliases: Vec::new(),
            client_alias_max: if is_v5 { settings.topic_alias_max_client } else { 0 },
            broker_aliases: Vec::new(),
            broker_alias_max: registration
                .topic_alias_maximum
                .min(settings.topic_alias_max_broker)
                .min(BROKER_ALIASES_MAX),
            rate_tokens: bucket(settings.max_message_rate),
            rate_filled_at: now,
            waits_for: 0,
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    /// The output tells of something that the store must have kept first.
    #[inline]
    pub fn wait_for(&mut self, lsn: Lsn) {
        self.waits_for = self.waits_for.max(lsn);
    }

    /// What was about to be handed over is written down, or nothing was: `lsn` takes the place of [`UNKNOWN_LSN`].
    #[inline]
    pub fn waits_no_longer_than(&mut self, lsn: Lsn) {
        if self.waits_for == UNKNOWN_LSN || lsn > self.waits_for {
            self.waits_for = lsn;
        }
    }

    /// Whether this is MQTT 5.
    #[inline]
    pub fn is_v5(&self) -> bool {
        self.version == ProtocolVersion::V5
    }

    /// Milliseconds of silence after which the client counts as gone: 1.5 times the keep alive [MQTT-3.1.2-22].
    pub fn silence_max_ms(&self) -> Option<Millis> {
        (self.keep_alive > 0).then(|| Millis::from(self.keep_alive) * 1_500)
    }

    /// Whether more may be put into the output, which is what bounds the memory a slow reader costs.
    #[inline]
    pub fn has_output_room(&self, settings: &Settings) -> bool {
        self.output.len() < settings.max_connection_buffer
    }

    /// The topic behind an alias, after taking note of a new one. `Err`: a reason to disconnect.
    pub(super) fn resolve_alias(&mut self, alias: u16, topic: &str) -> Result<&str, ReasonCode> {
        if alias == 0 || alias > self.client_alias_max {
            return Err(ReasonCode::TOPIC_ALIAS_INVALID);
        }
        let index = usize::from(alias) - 1;
        if !topic.is_empty() {
            if self.client_aliases.len() <= index {
                self.client_aliases.resize(index + 1, None);
            }
            self.client_aliases[index] = Some(topic.into());
        }
        // An alias that was never set is a protocol error (MQTT 5, 3.3.2.3.4).
        self.client_aliases.get(index).and_then(Option::as_deref).ok_or(ReasonCode::PROTOCOL_ERROR)
    }

    /// The alias for a topic towards the client: `(alias, is new)`. First come, first served; none once all are given away.
    pub(super) fn broker_alias(&mut self, topic: &[u8]) -> Option<(u16, bool)> {
        if self.broker_alias_max == 0 {
            return None;
        }
        if let Some(index) = self.broker_aliases.iter().position(|known| &**known == topic) {
            return Some((index as u16 + 1, false));
        }
        if self.broker_aliases.len() >= usize::from(self.broker_alias_max) {
            return None;
        }
        self.broker_aliases.push(topic.into());
        Some((self.broker_aliases.len() as u16, true))
    }

    /// Takes one publish out of the bucket of `max_message_rate`; milliseconds to wait when that was too fast.
    pub(super) fn throttle_ms(&mut self, rate: u64, now: Millis) -> Option<Millis> {
        if rate == 0 {
            return None;
        }
        let elapsed = now.saturating_sub(self.rate_filled_at);
        self.rate_filled_at = now;
        let refill = i64::try_from(elapsed.saturating_mul(rate)).unwrap_or(i64::MAX);
        self.rate_tokens = self.rate_tokens.saturating_add(refill).min(bucket(rate)) - TOKENS_A_MESSAGE;
        self.debt_ms(rate)
    }

    /// Milliseconds to wait for publishes that were too fast and have not been waited for.
    pub(super) fn debt_ms(&self, rate: u64) -> Option<Millis> {
        (rate > 0 && self.rate_tokens < 0).then(|| self.rate_tokens.unsigned_abs().div_ceil(rate).max(1))
    }
}

/// One message in the bucket of `max_message_rate`: so many tokens flow in each millisecond as messages are allowed a second.
const TOKENS_A_MESSAGE: i64 = 1_000;

/// A full bucket: what may be sent at once after a pause is what is allowed in one second.
fn bucket(rate: u64) -> i64 {
    i64::try_from(rate).unwrap_or(i64::MAX).saturating_mul(TOKENS_A_MESSAGE)
}
