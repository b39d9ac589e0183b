//! A client's session and its present connection: what the caller can ask of it.

use super::error::{ClientError, Refusal};
use super::incoming::{Answer, Incoming};
use super::settings::{ClientSettings, ServerLimits};
use super::state::State;
use super::window::{Again, Kept, Stage, Window};
use crate::codec::{
    Acknowledgement, AcknowledgementKind, Disconnect, Properties, ProtocolVersion, PublishHead, QoS, ReasonCode,
    Subscribe, SubscribeOptions, Unsubscribe, encode_pingreq, encode_pubrel,
};

/// One session of a client. See the [module](super) for how to drive it.
///
/// `K` is what is kept of a published message until it is acknowledged.
#[derive(Debug)]
pub struct Client<K> {
    pub(super) settings: ClientSettings,
    pub(super) state: State,
    pub(super) limits: ServerLimits,
    pub(super) window: Window<K>,
    pub(super) incoming: Incoming,
    pub(super) ping: Ping,
    abandoned: Vec<K>,
    arrived: Vec<K>,
    /// The server had the session when it accepted the present connection.
    pub(super) is_present: bool,
    /// A connection of the session has been accepted.
    pub(super) is_begun: bool,
}

/// The keep alive of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ping {
    /// None was sent since the connection stands.
    Never,
    /// Sent at this time and not answered.
    Awaited(u64),
    /// Sent at this time and answered.
    Answered(u64),
}

impl<K: Kept> Client<K> {
    /// A session that has never been connected.
    pub fn new(settings: ClientSettings) -> Self {
        let limits = ServerLimits::of(&settings);
        Self {
            settings,
            state: State::Detached,
            limits,
            window: Window::new(),
            incoming: Incoming::default(),
            ping: Ping::Never,
            abandoned: Vec::new(),
            arrived: Vec::new(),
            is_present: false,
            is_begun: false,
        }
    }

    /// Where the connection stands.
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// What the client was made with.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// Changes what the next CONNECT asks for, for example a clean start to get rid of the session.
    pub fn settings_mut(&mut self) -> &mut ClientSettings {
        &mut self.settings
    }

    /// What the server granted.
    pub fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    /// A network connection stands: appends the CONNECT ([MQTT-3.1.0-1]). What an earlier connection left is detached.
    pub fn connect(&mut self, out: &mut Vec<u8>) {
        self.detach();
        self.state = State::Connecting;
        self.settings.connect().encode(out);
    }

    /// The network connection is gone. The session stays for the next one.
    pub fn detach(&mut self) {
        self.state = State::Detached;
        self.limits = ServerLimits::of(&self.settings);
        self.ping = Ping::Never;
        self.window.detach();
        self.incoming.detach();
    }

    /// Ends the connection in good order: appends a DISCONNECT. Nothing may be sent after it ([MQTT-3.14.4-1]).
    pub fn disconnect(&mut self, reason: ReasonCode, out: &mut Vec<u8>) {
        if self.state == State::Online {
            Disconnect::with_reason(reason).encode(self.settings.version, out);
        }
        self.state = State::Closed;
    }

    /// Ends the connection because of an error. Only version 5 can be told why, and only after its CONNACK.
    #[cold]
    pub(super) fn fail(&mut self, error: &ClientError, out: &mut Vec<u8>) {
        if self.state == State::Online && self.settings.version == ProtocolVersion::V5 {
            Disconnect::with_reason(error.reason()).encode(ProtocolVersion::V5, out);
        }
        self.state = State::Closed;
    }

    // -- publishing ------------------------------------------------------------------------------------------------

    /// How many messages of `QoS` 1 or 2 may be published now.
    #[inline]
    pub fn room(&self) -> usize {
        if self.state == State::Online { self.window.room(self.limits.window) } else { 0 }
    }

    /// Messages of `QoS` 1 and 2 that are not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.window.messages()
    }

    /// Publishes a message: appends a PUBLISH. Returns its packet identifier, `None` with `QoS` 0.
    ///
    /// `head.packet_id` and `head.dup` are set here, `head.payload_len` is that of `payload`. `kept` stays with the client
    /// until the message is acknowledged; with `QoS` 0 it is dropped.
    pub fn publish(
        &mut self,
        head: PublishHead<'_>,
        payload: &[u8],
        kept: K,
        out: &mut Vec<u8>,
    ) -> Result<Option<u16>, Refusal> {
        let version = self.settings.version;
        let mut head = PublishHead { dup: false, packet_id: 1, payload_len: payload.len(), ..head };
        self.check(head.qos, head.retain, head.encoded_size(version))?;
        let packet_id = if head.qos == QoS::AtMostOnce { None } else { Some(self.begin(head.qos, kept)?) };
        head.packet_id = packet_id.unwrap_or(0);
        head.encode(version, out);
        out.extend_from_slice(payload);
        Ok(packet_id)
    }

    /// Whether the server takes such a message at all.
    pub fn check(&self, qos: QoS, retain: bool, packet_size: usize) -> Result<(), Refusal> {
        if self.state != State::Online {
            return Err(Refusal::NotConnected);
        }
        let limit = self.limits.packet_size_max as usize;
        if packet_size > limit {
            return Err(Refusal::TooLarge { size: packet_size, limit });
        }
        if qos > self.limits.qos_max {
            return Err(Refusal::QoS);
        }
        if retain && !self.limits.retain {
            return Err(Refusal::Retain);
        }
        Ok(())
    }

    /// Takes a message of `QoS` 1 or 2 into the window for a caller that writes the PUBLISH itself, right after this call and
    /// with this identifier. It has asked [`Client::check`].
    #[inline]
    pub fn begin(&mut self, qos: QoS, kept: K) -> Result<u16, Refusal> {
        debug_assert!(qos > QoS::AtMostOnce);
        if self.state != State::Online {
            return Err(Refusal::NotConnected);
        }
        if self.window.room(self.limits.window) == 0 {
            return Err(Refusal::WindowFull);
        }
        let stage = if qos == QoS::AtLeastOnce { Stage::Puback } else { Stage::Pubrec };
        self.window.push(stage, Some(kept)).ok_or(Refusal::NoPacketIdentifier)
    }

    /// Whether the server had the session when it accepted the present connection. 3.1 does not say: then one that was not to be
    /// clean counts as there.
    pub fn is_session_present(&self) -> bool {
        self.is_present
    }

    /// Frees the identifier that the next message gets, if the server may have it in use: of a session that goes on and was another
    /// client's before, as after a restart, it is not known which messages are not released. With `QoS` 2 the message would
    /// be taken for a repeat ([MQTT-4.3.3-10]). Call it before [`Client::begin`].
    pub fn release_next(&mut self, out: &mut Vec<u8>) {
        if let Some(id) = self.window.next_unproven() {
            encode_pubrel(id, out);
        }
    }

    /// What was sent has not all gone out yet: the time for the answer to a PINGREQ begins anew.
    pub fn put_off_ping(&mut self, now_ms: u64) {
        if let Ping::Awaited(sent_at) = &mut self.ping {
            *sent_at = now_ms;
        }
    }

    /// Messages whose delivery the end of a session cut off, oldest first. Whether they arrived is not known.
    pub fn take_abandoned(&mut self) -> Vec<K> {
        std::mem::take(&mut self.abandoned)
    }

    /// Sends again what the window allows ([MQTT-4.4.0-1]), in the order of the first time ([MQTT-4.6.0-1]).
    #[inline]
    pub(super) fn send_again(&mut self, out: &mut Vec<u8>) {
        if self.window.is_sent() {
            return;
        }
        let version = self.settings.version;
        while let Some(again) = self.window.next_again(self.limits.window) {
            match again {
                Again::Pubrel(id) => encode_pubrel(id, out),
                Again::Publish(id, qos, kept) => {
                    if !kept.encode_again(version, id, qos, out) {
                        self.abandoned.extend(self.window.give_up(id));
                    }
                }
            }
        }
    }

    /// Messages that have arrived, of which the end of a session cut off the last step only.
    pub fn take_arrived(&mut self) -> Vec<K> {
        std::mem::take(&mut self.arrived)
    }

    /// The server has no session of this client.
    pub(super) fn forget(&mut self) {
        let (abandoned, arrived) = self.window.forget();
        self.abandoned.extend(abandoned);
        self.arrived.extend(arrived);
        self.incoming.clear();
    }

    // -- receiving -------------------------------------------------------------------------------------------------

    /// The caller is done with a delivered message, or refuses it with a reason of 0x80 and above (version 5). Messages of
    /// one `QoS` and topic are to be acknowledged in the order in which they came ([MQTT-4.6.0-2], [MQTT-4.6.0-3]).
    ///
    /// False when it is not waited for: the connection it came over is gone, and it will come again.
    pub fn acknowledge(&mut self, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) -> bool {
        if self.state != State::Online {
            return false;
        }
        let kind = match self.incoming.acknowledge(packet_id, reason.is_error()) {
            Some(Answer::Puback) => AcknowledgementKind::PubAck,
            Some(Answer::Pubrec) => AcknowledgementKind::PubRec,
            None => return false,
        };
        Acknowledgement::with_reason(packet_id, reason).encode(kind, self.settings.version, out);
        true
    }

    // -- subscribing -----------------------------------------------------------------------------------------------

    /// Appends a SUBSCRIBE and returns its packet identifier. `filters` are valid and at least one; `identifier`: version 5,
    /// 1 to 268,435,455. The server answers with [`super::Event::Subscribed`].
    pub fn subscribe(
        &mut self,
        filters: &[(&str, SubscribeOptions)],
        identifier: Option<u32>,
        out: &mut Vec<u8>,
    ) -> Result<u16, Refusal> {
        let mut properties = Properties::new();
        if let Some(identifier) = identifier.filter(|_| self.settings.version == ProtocolVersion::V5) {
            properties.subscription_identifier = Some(identifier);
        }
        let id = self.request(Stage::Suback)?;
        let start = out.len();
        Subscribe::new(id, properties, filters).encode(self.settings.version, out);
        self.keep_within_limit(id, Stage::Suback, start, out)
    }

    /// Appends an UNSUBSCRIBE and returns its packet identifier. `filters` are valid and at least one. The server answers
    /// with [`super::Event::Unsubscribed`].
    pub fn unsubscribe(&mut self, filters: &[&str], out: &mut Vec<u8>) -> Result<u16, Refusal> {
        let id = self.request(Stage::Unsuback)?;
        let start = out.len();
        Unsubscribe::new(id, Properties::new(), filters).encode(self.settings.version, out);
        self.keep_within_limit(id, Stage::Unsuback, start, out)
    }

    fn request(&mut self, stage: Stage) -> Result<u16, Refusal> {
        if self.state != State::Online {
            return Err(Refusal::NotConnected);
        }
        self.window.push(stage, None).ok_or(Refusal::NoPacketIdentifier)
    }

    /// Takes a request back that the server would refuse for its size.
    fn keep_within_limit(&mut self, id: u16, stage: Stage, start: usize, out: &mut Vec<u8>) -> Result<u16, Refusal> {
        let (size, limit) = (out.len() - start, self.limits.packet_size_max as usize);
        if size > limit {
            out.truncate(start);
            self.window.finish(id, stage);
            return Err(Refusal::TooLarge { size, limit });
        }
        Ok(id)
    }

    // -- keep alive ------------------------------------------------------------------------------------------------

    /// Sends a PINGREQ when one is due and checks that the last one was answered. Returns when to call again, in
    /// milliseconds of the caller's clock; `None` when no keep alive was agreed or there is no connection.
    ///
    /// One is sent each three quarters of the keep alive whatever else is sent: it also shows that the server is there.
    pub fn keep_alive(&mut self, now_ms: u64, out: &mut Vec<u8>) -> Result<Option<u64>, ClientError> {
        if self.state != State::Online || self.limits.keep_alive_s == 0 {
            return Ok(None);
        }
        let interval = u64::from(self.limits.keep_alive_s) * 750;
        match self.ping {
            Ping::Awaited(sent_at) if now_ms >= sent_at + interval => {
                let error = ClientError::KeepAlive(interval);
                self.fail(&error, out);
                return Err(error);
            }
            Ping::Awaited(sent_at) => return Ok(Some(sent_at + interval)),
            Ping::Answered(sent_at) if now_ms < sent_at + interval => return Ok(Some(sent_at + interval)),
            // The first call comes right after the CONNACK and starts the clock as if a ping had been answered.
            Ping::Never => self.ping = Ping::Answered(now_ms),
            Ping::Answered(_) => {
                encode_pingreq(out);
                self.ping = Ping::Awaited(now_ms);
            }
        }
        Ok(Some(now_ms + interval))
    }

    /// Sends a PINGREQ now. The answer shows that the server has read everything before it.
    pub fn ping(&mut self, now_ms: u64, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.state != State::Online {
            return Err(Refusal::NotConnected);
        }
        encode_pingreq(out);
        self.ping = Ping::Awaited(now_ms);
        Ok(())
    }

    /// A PINGRESP came.
    pub(super) fn on_pong(&mut self) {
        if let Ping::Awaited(sent_at) = self.ping {
            self.ping = Ping::Answered(sent_at);
        }
    }
}
