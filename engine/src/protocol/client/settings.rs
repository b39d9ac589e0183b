//! What a client asks for in its CONNECT, and what the server grants in its CONNACK.

use crate::codec::{ConnAck, Connect, PACKET_SIZE_MAX, Properties, ProtocolVersion, QoS, UserProperties, Will};

/// Who acknowledges the messages that the server delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// The client, while it hands them over.
    #[default]
    Automatically,
    /// The caller, with [`super::Client::acknowledge`], when it is done with them.
    Manually,
}

/// A will (MQTT 5 §3.1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WillSettings {
    /// A valid topic name.
    pub topic: String,
    /// The message.
    pub payload: Vec<u8>,
    /// How hard it is delivered.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds between the loss of the connection and the will; version 5.
    pub delay_s: u32,
}

/// What a client says of itself. Strings are valid MQTT strings of at most 65,535 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// The version to speak.
    pub version: ProtocolVersion,
    /// May be empty, when the server shall choose one.
    pub client_id: String,
    /// Clean Start, or Clean Session before version 5.
    pub clean_start: bool,
    /// Seconds; 0 for none.
    pub keep_alive_s: u16,
    /// Version 5: seconds that the session outlives a connection; `u32::MAX` for ever.
    pub session_expiry_s: u32,
    /// The user name.
    pub username: Option<String>,
    /// The password; before version 5 sent with a user name only.
    pub password: Option<Vec<u8>>,
    /// The message for the case that the connection is lost.
    pub will: Option<WillSettings>,
    /// Whether to say that a bridge connects; 3.1 and 3.1.1.
    pub bridge: bool,
    /// Messages of `QoS` 1 and 2 from the server that may be unacknowledged, not 0; version 5 tells the server.
    pub receive_maximum: u16,
    /// Messages of `QoS` 1 and 2 to the server that may be unacknowledged, not 0; a smaller Receive Maximum of the server wins.
    pub send_window: u16,
    /// Bytes of the largest packet to accept; version 5 tells the server.
    pub packet_size_max: u32,
    /// Who acknowledges.
    pub acknowledge: Acknowledge,
    /// Version 5: user properties of the CONNECT.
    pub user_properties: &'static [(&'static str, &'static str)],
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            version: ProtocolVersion::V5,
            client_id: String::new(),
            clean_start: true,
            keep_alive_s: 60,
            session_expiry_s: 0,
            username: None,
            password: None,
            will: None,
            bridge: false,
            receive_maximum: u16::MAX,
            send_window: 100,
            packet_size_max: PACKET_SIZE_MAX as u32,
            acknowledge: Acknowledge::Automatically,
            user_properties: &[],
        }
    }
}

impl ClientSettings {
    /// The CONNECT that says this.
    pub(super) fn connect(&self) -> Connect<'_> {
        let mut properties = Properties::new();
        if self.version == ProtocolVersion::V5 {
            // What equals the default of the specification is not said.
            if self.session_expiry_s != 0 {
                properties.session_expiry = Some(self.session_expiry_s);
            }
            if self.receive_maximum != u16::MAX {
                properties.receive_maximum = Some(self.receive_maximum);
            }
            if (self.packet_size_max as usize) < PACKET_SIZE_MAX {
                properties.maximum_packet_size = Some(self.packet_size_max);
            }
            if !self.user_properties.is_empty() {
                properties.user_properties = UserProperties::Pairs(self.user_properties);
            }
        }
        Connect {
            version: self.version,
            bridge: self.bridge,
            clean_start: self.clean_start,
            keep_alive: self.keep_alive_s,
            client_id: &self.client_id,
            will: self.will.as_ref().map(|will| will.encoded(self.version)),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            properties,
        }
    }
}

impl WillSettings {
    fn encoded(&self, version: ProtocolVersion) -> Will<'_> {
        let mut properties = Properties::new();
        if version == ProtocolVersion::V5 && self.delay_s != 0 {
            properties.will_delay = Some(self.delay_s);
        }
        Will { qos: self.qos, retain: self.retain, topic: &self.topic, payload: &self.payload, properties }
    }
}

/// What the server accepts (MQTT 5 §3.2.2.3). Before version 5 it does not say, and everything is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Messages of `QoS` 1 and 2 that may be unacknowledged: the smaller of what both sides want.
    pub window: u16,
    /// Bytes of the largest packet.
    pub packet_size_max: u32,
    /// The highest `QoS`.
    pub qos_max: QoS,
    /// Whether messages may be retained.
    pub retain: bool,
    /// The largest topic alias; 0 for none.
    pub topic_alias_max: u16,
    /// Whether subscriptions may have identifiers.
    pub subscription_identifiers: bool,
    /// Seconds of keep alive that hold ([MQTT-3.1.2-21]).
    pub keep_alive_s: u16,
}

impl ServerLimits {
    /// What holds before a CONNACK says otherwise.
    pub(super) fn of(settings: &ClientSettings) -> Self {
        Self {
            window: settings.send_window.max(1),
            packet_size_max: PACKET_SIZE_MAX as u32,
            qos_max: QoS::ExactlyOnce,
            retain: true,
            topic_alias_max: 0,
            subscription_identifiers: settings.version == ProtocolVersion::V5,
            keep_alive_s: settings.keep_alive_s,
        }
    }

    /// What holds after this CONNACK.
    pub(super) fn granted(settings: &ClientSettings, connack: &ConnAck<'_>) -> Self {
        let asked = Self::of(settings);
        let said = &connack.properties;
        Self {
            window: said.receive_maximum.unwrap_or(u16::MAX).min(asked.window),
            packet_size_max: said.maximum_packet_size.unwrap_or(asked.packet_size_max),
            qos_max: said.maximum_qos.unwrap_or(asked.qos_max),
            retain: said.retain_available.unwrap_or(asked.retain),
            topic_alias_max: said.topic_alias_maximum.unwrap_or(asked.topic_alias_max),
            subscription_identifiers: said.subscription_identifiers_available.unwrap_or(asked.subscription_identifiers),
            keep_alive_s: said.server_keep_alive.unwrap_or(asked.keep_alive_s),
        }
    }
}
