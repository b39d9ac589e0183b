//! CONNECT: checked against the listener and the settings, and what was agreed in CONNACK.

use std::borrow::Cow;
use std::sync::Arc;

use crate::bridge;
use crate::codec::{ConnAck, Connect, PacketType, Properties, ProtocolVersion, ReasonCode, UserProperties};
use crate::hooks::{INTERNAL_CLIENT_ID, INTERNAL_LISTENER, Identity};
use crate::message::{Head, Message, NEVER, Publication};
use crate::metrics::Reasoned;
use crate::policy::AccessCell;
use crate::settings::Settings;

use super::publish::check_topic;
use super::{Cause, Context, Expiry, SessionLimits, Verdict, Will};

/// What a listener says about those who connect through it.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Name space of its clients.
    pub mountpoint: Arc<str>,
    /// Protocol levels that it takes; bridges of mosquitto add 128 to theirs.
    pub protocol_versions: Vec<u8>,
    /// Overrides `allow_anonymous`.
    pub allow_anonymous: Option<bool>,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Who decides about its clients.
    pub access: Arc<AccessCell>,
    /// What its clients have in place of the settings.
    pub limits: SessionLimits,
}

impl Admission {
    /// Whether those who connect are parts of the broker.
    fn is_internal(&self) -> bool {
        &*self.listener == INTERNAL_LISTENER
    }
}

/// A CONNECT that cannot be accepted, and the CONNACK to answer it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In which form CONNACK goes out; `None`: close without an answer.
    pub version: Option<ProtocolVersion>,
    /// Why.
    pub reason: ReasonCode,
    /// Why, for people.
    pub cause: Cause,
    /// Client's Maximum Packet Size; `u32::MAX` for none.
    pub packet_size_max: u32,
}

/// A valid CONNECT in a form that outlives its bytes.
#[derive(Clone, Debug)]
pub struct Registration {
    /// MQTT version.
    pub version: ProtocolVersion,
    /// Who connects.
    pub identity: Identity,
    /// The broker made up the client id.
    pub is_assigned: bool,
    /// It says that it is the bridge of another broker (levels 131 and 132): it wants nothing back, and RETAIN as published.
    pub is_bridge: bool,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// Begin with an empty session.
    pub clean_start: bool,
    /// Seconds, as the client asked.
    pub keep_alive: u16,
    /// Seconds that the broker enforces; differs from `keep_alive` when `max_keep_alive` caps it.
    pub enforced_keep_alive: u16,
    /// Seconds; `None` for 3.x sessions that are not clean: `persistent_client_expiration` decides.
    pub session_expiry: Option<u32>,
    /// Client's Receive Maximum.
    pub receive_maximum: u16,
    /// Client's Maximum Packet Size; `u32::MAX` for none.
    pub packet_size_max: u32,
    /// Client's Topic Alias Maximum.
    pub topic_alias_maximum: u16,
    /// Request Problem Information.
    pub wants_problem_information: bool,
    /// Authentication method.
    pub authentication_method: Option<String>,
    /// Authentication data.
    pub authentication_data: Option<Vec<u8>>,
    /// The last word of the authentication method, for CONNACK.
    pub authentication_answer: Option<Vec<u8>>,
    /// Properties of the packet, encoded.
    pub properties: Vec<u8>,
    /// The will.
    pub will: Option<Box<Will>>,
    /// Who decides about what the client does.
    pub access: Arc<AccessCell>,
    /// What a verdict put in place of the settings.
    pub limits: SessionLimits,
    /// What a verdict adds to CONNACK.
    pub additions: Additions,
    /// When it claimed its client id, in hybrid logical time: of two connections the later one has it.
    pub stamp: u64,
}

/// What a verdict adds to the CONNACK of success.
#[derive(Clone, Debug, Default)]
pub struct Additions {
    /// The Session Expiry Interval is not the one that the client asked for.
    pub tells_session_expiry: bool,
    /// User properties, encoded.
    pub user_properties: Vec<u8>,
    /// What response topics are made from.
    pub response_information: Option<String>,
}

/// Checks a CONNECT. `make_client_id` gives a client id that nobody uses to a client without one.
pub fn admit(
    connect: &Connect<'_>,
    admission: &Admission,
    settings: &Settings,
    make_client_id: impl FnOnce() -> String,
) -> Result<Registration, Refusal> {
    let version = connect.version;
    let packet_size_max = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
    let refuse =
        |reason, detail| Refusal { version: Some(version), reason, cause: Cause::Text(detail), packet_size_max };
    let level = version as u8 | if connect.bridge { 0x80 } else { 0 };
    if !admission.protocol_versions.contains(&level) {
        return Err(refuse(
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            "the listener does not take this protocol version",
        ));
    }
    let is_assigned = connect.client_id.is_empty();
    if is_assigned && !may_be_anonymous(connect) {
        let detail = "an empty client id needs MQTT 5, or 3.1.1 with a clean session";
        return Err(refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, detail));
    }
    if !admission.is_internal() && connect.client_id.starts_with(INTERNAL_CLIENT_ID) {
        return Err(refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, "a client id that only parts of the broker have"));
    }
    if connect.client_id.len() > settings.max_client_id_size && !admission.is_internal() {
        return Err(refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, "a client id longer than max_client_id_size"));
    }
    // A mosquitto that bridges announces its state under $SYS, where only this broker publishes. That is no reason to refuse it.
    let will = connect.will.as_ref().filter(|will| !(connect.bridge && will.topic.starts_with("$SYS/")));
    let will = will.map(|will| keep_will(will, settings, version)).transpose().map_err(|reason| {
        refuse(reason, "a will topic that begins with $, or has more levels or bytes than allowed")
    })?;
    let is_v5 = version == ProtocolVersion::V5;
    let properties = &connect.properties;
    let client_id = if is_assigned { make_client_id() } else { connect.client_id.to_owned() };
    Ok(Registration {
        version,
        identity: Identity {
            mountpoint: admission.mountpoint.clone(),
            client_id: client_id.into(),
            username: connect.username.map(Into::into),
            protocol_version: version as u8,
            listener: admission.listener.clone(),
        },
        is_assigned,
        is_bridge: connect.bridge,
        password: connect.password.map(<[u8]>::to_vec),
        clean_start: connect.clean_start,
        keep_alive: connect.keep_alive,
        enforced_keep_alive: enforced_keep_alive(connect.keep_alive, is_v5, settings),
        session_expiry: match (is_v5, connect.clean_start) {
            (true, _) => Some(properties.session_expiry.unwrap_or(0)),
            (false, true) => Some(0),
            (false, false) => None,
        },
        receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
        packet_size_max,
        topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
        wants_problem_information: properties.request_problem_information.unwrap_or(true),
        authentication_method: properties.authentication_method.map(str::to_owned),
        authentication_data: properties.authentication_data.map(<[u8]>::to_vec),
        authentication_answer: None,
        properties: properties.encoded(),
        will,
        access: admission.access.clone(),
        limits: admission.limits.clone(),
        additions: additions_for(connect, settings),
        stamp: 0,
    })
}

/// A bridge hears the mark of this broker, so that messages do not go round in circles.
fn additions_for(connect: &Connect<'_>, settings: &Settings) -> Additions {
    let mut additions = Additions::default();
    let is_asked = connect.properties.user_properties.into_iter().any(|(name, _)| name == bridge::CLUSTER);
    if is_asked && !settings.bridge_mark.is_empty() {
        additions.user_properties = bridge::user_property(bridge::CLUSTER, &settings.bridge_mark);
    }
    additions
}

/// [MQTT-3.1.3-6] of both versions; 3.1 wants a client id of at least one character.
fn may_be_anonymous(connect: &Connect<'_>) -> bool {
    match connect.version {
        ProtocolVersion::V3_1 => false,
        ProtocolVersion::V3_1_1 => connect.clean_start,
        ProtocolVersion::V5 => true,
    }
}

/// Only MQTT 5 can tell the client of another keep alive than it asked for [MQTT-3.1.2-21].
fn enforced_keep_alive(asked: u16, is_v5: bool, settings: &Settings) -> u16 {
    let cap = settings.max_keep_alive;
    if is_v5 && cap > 0 && (asked == 0 || asked > cap) { cap } else { asked }
}

fn keep_will(
    will: &crate::codec::Will<'_>,
    settings: &Settings,
    version: ProtocolVersion,
) -> Result<Box<Will>, ReasonCode> {
    check_topic(settings, will.topic)?;
    if will.topic.starts_with('$') {
        return Err(ReasonCode::TOPIC_NAME_INVALID);
    }
    let mut properties = Vec::new();
    if version == ProtocolVersion::V5 {
        will.properties.write_forwardable(&mut properties);
    }
    let mut span = Vec::new();
    let layout = Publication::compose(&mut span, will.topic.as_bytes(), &properties, will.payload);
    let head = Head { layout, qos: will.qos as u8, retain: will.retain, expires_at: NEVER, origin: 0 };
    let asked = will.properties.will_delay.unwrap_or(0);
    let cap = settings.max_last_will_delay.unwrap_or(u32::MAX);
    Ok(Box::new(Will {
        message: Message::keep(&Publication { head, span: &span }),
        delay_s: asked.min(cap),
        message_expiry_s: will.properties.message_expiry,
    }))
}

impl Registration {
    /// Changes what a verdict on the CONNECT changes: who it is, its session, its limits.
    pub fn change(&mut self, verdict: &Verdict) {
        if let Some(client_id) = &verdict.client_id {
            self.identity.client_id = client_id.as_str().into();
        }
        if let Some(mountpoint) = &verdict.mountpoint {
            self.identity.mountpoint = mountpoint.as_str().into();
        }
        if let Some(username) = &verdict.username {
            self.identity.username = Some(username.as_str().into());
        }
        let is_v5 = self.version == ProtocolVersion::V5;
        if let Some(clean_start) = verdict.clean_start {
            self.clean_start = clean_start;
            if !is_v5 {
                // 3.x has one flag for both ends of a session.
                self.session_expiry = clean_start.then_some(0);
            }
        }
        if let Some(seconds) = verdict.session_expiry {
            self.session_expiry = Some(seconds);
            self.additions.tells_session_expiry = true;
        }
        if let Some(limits) = &verdict.limits {
            self.limits = (**limits).clone();
        }
        if let Some(encoded) = &verdict.user_properties {
            self.additions.user_properties.extend_from_slice(encoded);
        }
        self.additions.response_information.clone_from(&verdict.response_information);
    }

    /// The settings that hold for the client.
    pub fn settings<'a>(&self, settings: &'a Settings) -> Cow<'a, Settings> {
        self.limits.over(settings)
    }

    /// How long the session outlives its connection.
    pub fn expiry(&self, settings: &Settings) -> Expiry {
        match (self.session_expiry, settings.persistent_client_expiration) {
            (Some(interval), _) => Expiry::from_interval(interval),
            (None, None) => Expiry::Never,
            // A configured 0 would end a session that the client asked to keep [MQTT-3.1.2-4].
            (None, Some(seconds)) => Expiry::After(seconds.max(1)),
        }
    }

    /// Whether the CONNACK of success stays within the client's Maximum Packet Size.
    pub fn takes_connack(&self, settings: &Settings) -> bool {
        self.packet_size_max == u32::MAX
            || self.connack(&self.settings(settings), false).encode_within(
                self.version,
                self.packet_size_max,
                &mut Vec::new(),
            )
    }

    fn connack(&self, settings: &Settings, session_present: bool) -> ConnAck<'_> {
        let mut properties = Properties::default();
        if self.version == ProtocolVersion::V5 {
            properties.receive_maximum = (settings.receive_max_broker != 65_535).then_some(settings.receive_max_broker);
            properties.maximum_packet_size =
                (settings.max_message_size > 0).then_some(settings.max_message_size as u32);
            properties.assigned_client_id = self.is_assigned.then_some(&*self.identity.client_id);
            let aliases = settings.topic_alias_max_client;
            properties.topic_alias_maximum = (aliases > 0).then_some(aliases);
            let keep_alive = self.enforced_keep_alive;
            properties.server_keep_alive = (keep_alive != self.keep_alive).then_some(keep_alive);
            properties.authentication_method = self.authentication_method.as_deref();
            properties.authentication_data = self.authentication_answer.as_deref();
            if self.additions.tells_session_expiry {
                properties.session_expiry = self.session_expiry;
            }
            if !self.additions.user_properties.is_empty() {
                properties.user_properties = UserProperties::Encoded(&self.additions.user_properties);
            }
            if let Some(information) = &self.additions.response_information {
                properties.response_information = Some(information);
            }
        }
        ConnAck { session_present, reason: ReasonCode::SUCCESS, properties }
    }

    /// Writes the CONNACK of success. False, and nothing written: the client takes no packet of that size.
    pub fn write_connack(&self, cx: &mut Context, session_present: bool, out: &mut Vec<u8>) -> bool {
        let is_v5 = self.version == ProtocolVersion::V5;
        let settings = self.settings(&cx.settings);
        let connack = self.connack(&settings, session_present);
        let is_written = connack.encode_within(self.version, self.packet_size_max, out);
        if is_written {
            cx.tally.add_reasoned(Reasoned::ConnackSent, is_v5, ReasonCode::SUCCESS);
        }
        is_written
    }
}

/// What a client is told beside the reason code.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// Why, for people.
    pub reason_string: Option<&'a str>,
    /// Where to go instead.
    pub server_reference: Option<&'a str>,
    /// User properties, encoded.
    pub user_properties: Option<&'a [u8]>,
}

impl<'a> Told<'a> {
    /// What a verdict says.
    pub fn by(verdict: &'a Verdict) -> Self {
        Self {
            reason_string: verdict.reason_string.as_deref(),
            server_reference: verdict.server_reference.as_deref(),
            user_properties: verdict.user_properties.as_deref(),
        }
    }
}

impl Refusal {
    /// Writes the CONNACK of a refusal; nothing where 3.x has no return code for the reason [MQTT-3.2.2-6].
    pub fn write_connack(&self, cx: &mut Context, told: Told<'_>, out: &mut Vec<u8>) {
        let Some(version) = self.version else { return };
        let is_v5 = version == ProtocolVersion::V5;
        let mut properties = Properties::default();
        if is_v5 {
            properties.reason_string = told.reason_string;
            properties.server_reference = told.server_reference;
            if let Some(encoded) = told.user_properties {
                properties.user_properties = UserProperties::Encoded(encoded);
            }
        } else if self.reason.connack_return_code_v3().is_none() {
            return;
        }
        let reason = if is_v5 { self.reason.fit_for(PacketType::ConnAck) } else { self.reason };
        let connack = ConnAck { session_present: false, reason, properties };
        if connack.encode_within(version, self.packet_size_max, out) {
            cx.tally.add_reasoned(Reasoned::ConnackSent, is_v5, reason);
        }
    }
}
