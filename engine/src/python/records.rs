//! Answers to queries as Python objects.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::broker::{Node, SessionRef};
use crate::message::{Message, NEVER};
use crate::net::ListenerState;
use crate::routing::SubscriptionOptions;
use crate::settings::DeliverMode;

use super::events::records;
use super::properties;

records! {
    /// A listener.
    ListenerInfo {
        name: String,
        kind: String,
        address: String,
        port: u16,
        status: String,
        mountpoint: String,
        max_connections: Option<usize>,
        active_connections: usize,
        all_connections: u64,
        failed_connections: u64,
        allowed_protocol_versions: Vec<u32>,
        allow_anonymous: Option<bool>,
    }
    /// A session.
    SessionInfo {
        mountpoint: String,
        client_id: String,
        username: Option<String>,
        is_online: bool,
        peer_host: Option<String>,
        peer_port: Option<u16>,
        listener: Option<String>,
        protocol: u8,
        clean_session: bool,
        session_expiry_interval: Option<u32>,
        keep_alive: u16,
        online_messages: usize,
        offline_messages: usize,
        waiting_acks: usize,
        subscriptions: usize,
        deliver_mode: String,
        num_sessions: usize,
        queue_started_at: f64,
        session_started_at: Option<f64>,
        bytes_received: u64,
        bytes_sent: u64,
    }
    /// A subscription.
    SubscriptionInfo {
        topic: String,
        qos: u8,
        no_local: bool,
        retain_as_published: bool,
        identifier: Option<u32>,
    }
    /// A retained message.
    RetainedMessage {
        topic: String,
        payload: Py<PyBytes>,
        qos: u8,
        mountpoint: String,
        properties: Py<PyList>,
        expires_at: Option<f64>,
    }
    /// One series of a metric.
    Metric {
        name: String,
        kind: String,
        labels: HashMap<String, String>,
        value: u64,
        description: String,
    }
}

fn wall(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl ListenerInfo {
    /// What there is to say of a listener.
    pub fn of(state: &ListenerState) -> Self {
        let options = &state.options;
        let (address, port) = state.address.pair();
        Self {
            name: options.name.to_string(),
            kind: options.kind.name().to_owned(),
            address,
            port,
            status: if state.is_open.load(Ordering::Relaxed) { "running" } else { "suspended" }.to_owned(),
            mountpoint: options.admission.mountpoint.to_string(),
            max_connections: options.connections_max,
            active_connections: state.active.load(Ordering::Relaxed),
            all_connections: state.total.load(Ordering::Relaxed),
            failed_connections: state.failed.load(Ordering::Relaxed),
            allowed_protocol_versions: options
                .admission
                .protocol_versions
                .iter()
                .map(|level| u32::from(*level))
                .collect(),
            allow_anonymous: options.admission.allow_anonymous,
        }
    }
}

impl SessionInfo {
    /// What there is to say of a session.
    pub fn of(session_ref: &SessionRef, mode: DeliverMode) -> Self {
        let state = session_ref.lock();
        let session = &state.session;
        let connection = session.connection.as_ref();
        let link = state.link.as_ref();
        let waiting = session.pending.len();
        Self {
            mountpoint: session.identity.mountpoint.to_string(),
            client_id: session.identity.client_id.to_string(),
            username: session.identity.username.as_deref().map(str::to_owned),
            is_online: link.is_some(),
            peer_host: link.map(|link| link.peer.pair().0),
            peer_port: link.map(|link| link.peer.pair().1),
            listener: link.map(|link| link.listener.to_string()),
            protocol: session.identity.protocol_version,
            clean_session: session.expiry == crate::protocol::Expiry::WithConnection,
            session_expiry_interval: session.expiry.seconds(),
            keep_alive: connection.map_or(0, |connection| connection.keep_alive),
            online_messages: if link.is_some() { waiting } else { 0 },
            offline_messages: if link.is_some() { 0 } else { waiting + session.window.len() },
            waiting_acks: session.window.len(),
            subscriptions: session.subscriptions.len(),
            deliver_mode: if mode == DeliverMode::Fanout { "fanout" } else { "balance" }.to_owned(),
            num_sessions: usize::from(link.is_some()) + session_ref.attached().count(),
            queue_started_at: wall(session.started_at),
            session_started_at: session.connected_at.map(wall),
            bytes_received: connection.map_or(0, |connection| connection.bytes_received),
            bytes_sent: connection.map_or(0, |connection| connection.bytes_sent),
        }
    }
}

impl SubscriptionInfo {
    /// What there is to say of a subscription.
    pub fn of(filter: Box<str>, options: SubscriptionOptions) -> Self {
        Self {
            topic: filter.into(),
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            identifier: (options.identifier != 0).then_some(options.identifier),
        }
    }
}

impl RetainedMessage {
    /// What there is to say of a retained message.
    pub fn of(py: Python<'_>, node: &Node, mountpoint: &str, message: &Message) -> PyResult<Self> {
        let publication = message.publication();
        let expires_at = publication.head.expires_at;
        Ok(Self {
            topic: publication.topic_text().to_owned(),
            payload: PyBytes::new(py, publication.payload()).unbind(),
            qos: publication.head.qos,
            mountpoint: mountpoint.to_owned(),
            properties: properties::to_python(py, publication.properties())?.unbind(),
            expires_at: (expires_at != NEVER).then(|| node.clock.wall(expires_at)),
        })
    }
}
