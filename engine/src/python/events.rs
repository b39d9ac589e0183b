//! Events as Python objects.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::broker::events::Event;
use crate::hooks::Identity;

use super::properties;

/// Declares a frozen class whose fields Python can read.
macro_rules! records {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[pyclass(frozen, get_all, module = "strogoff._engine")]
            pub struct $name { $(#[allow(missing_docs)] pub $field: $kind,)* }
        )*
    };
}
pub(super) use records;

records! {
    /// `auth_on_register`.
    RegisterRequest {
        ticket: u64,
        listener: String,
        peer: (String, u16),
        mountpoint: String,
        client_id: String,
        username: Option<String>,
        password: Option<Py<PyBytes>>,
        clean_start: bool,
        keep_alive: u16,
        protocol_version: u8,
        properties: Py<PyList>,
    }
    /// `auth_on_publish`.
    PublishRequest {
        ticket: u64,
        mountpoint: String,
        client_id: String,
        username: Option<String>,
        topic: String,
        payload: Py<PyBytes>,
        qos: u8,
        retain: bool,
        is_will: bool,
        protocol_version: u8,
        properties: Py<PyList>,
    }
    /// `auth_on_subscribe`.
    SubscribeRequest {
        ticket: u64,
        mountpoint: String,
        client_id: String,
        username: Option<String>,
        filters: Vec<(String, u8)>,
        protocol_version: u8,
        properties: Py<PyList>,
    }
    /// `on_auth`.
    AuthRequest {
        ticket: u64,
        mountpoint: String,
        client_id: String,
        username: Option<String>,
        method: String,
        data: Option<Py<PyBytes>>,
        reason_code: u8,
        properties: Py<PyList>,
    }
    /// What happened to a session.
    SessionEvent {
        kind: String,
        mountpoint: String,
        client_id: String,
        username: Option<String>,
        peer: Option<(String, u16)>,
        protocol_version: u8,
        reason: String,
    }
    /// What happened to subscriptions.
    SubscriptionEvent {
        kind: String,
        mountpoint: String,
        client_id: String,
        username: Option<String>,
        filters: Vec<(String, u8)>,
    }
    /// What happened to a message.
    MessageEvent {
        kind: String,
        subscriber: String,
        mountpoint: String,
        client_id: String,
        username: Option<String>,
        topic: String,
        payload: Py<PyBytes>,
        qos: u8,
        retain: bool,
        properties: Py<PyList>,
        reason: String,
    }
    /// For the operator.
    LogEvent {
        level: String,
        message: String,
        fields: HashMap<String, String>,
    }
}

fn username(identity: &Identity) -> Option<String> {
    identity.username.as_deref().map(str::to_owned)
}

fn peer(address: std::net::SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

fn bytes(py: Python<'_>, bytes: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, bytes).unbind()
}

fn text(text: &Arc<str>) -> String {
    text.to_string()
}

/// An event as the object that `_engine.pyi` describes.
pub fn to_python(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    let object = match event {
        Event::Register(request) => {
            let properties = properties::to_python(py, &request.properties)?.unbind();
            let request = RegisterRequest {
                ticket: request.ticket,
                listener: text(&request.listener),
                peer: peer(request.peer),
                mountpoint: text(&request.identity.mountpoint),
                client_id: text(&request.identity.client_id),
                username: username(&request.identity),
                password: request.password.as_deref().map(|password| bytes(py, password)),
                clean_start: request.clean_start,
                keep_alive: request.keep_alive,
                protocol_version: request.identity.protocol_version,
                properties,
            };
            Py::new(py, request)?.into_any()
        }
        Event::Publish { ticket, identity, message, is_will } => {
            let publication = message.publication();
            let request = PublishRequest {
                ticket,
                mountpoint: text(&identity.mountpoint),
                client_id: text(&identity.client_id),
                username: username(&identity),
                topic: publication.topic_text().to_owned(),
                payload: bytes(py, publication.payload()),
                qos: publication.head.qos,
                retain: publication.head.retain,
                is_will,
                protocol_version: identity.protocol_version,
                properties: properties::to_python(py, publication.properties())?.unbind(),
            };
            Py::new(py, request)?.into_any()
        }
        Event::Subscribe { ticket, identity, filters, properties } => {
            let request = SubscribeRequest {
                ticket,
                mountpoint: text(&identity.mountpoint),
                client_id: text(&identity.client_id),
                username: username(&identity),
                filters,
                protocol_version: identity.protocol_version,
                properties: properties::to_python(py, &properties)?.unbind(),
            };
            Py::new(py, request)?.into_any()
        }
        Event::Auth { ticket, identity, method, data, reason_code, properties } => {
            let request = AuthRequest {
                ticket,
                mountpoint: text(&identity.mountpoint),
                client_id: text(&identity.client_id),
                username: username(&identity),
                method,
                data: data.as_deref().map(|data| bytes(py, data)),
                reason_code,
                properties: properties::to_python(py, &properties)?.unbind(),
            };
            Py::new(py, request)?.into_any()
        }
        notification => notification_to_python(py, notification)?,
    };
    Ok(object)
}

fn notification_to_python(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    let object = match event {
        Event::Session { hook, identity, peer: address, reason } => {
            let event = SessionEvent {
                kind: hook.name().to_owned(),
                mountpoint: text(&identity.mountpoint),
                client_id: text(&identity.client_id),
                username: username(&identity),
                peer: address.map(peer),
                protocol_version: identity.protocol_version,
                reason,
            };
            Py::new(py, event)?.into_any()
        }
        Event::Subscription { hook, identity, filters } => {
            let event = SubscriptionEvent {
                kind: hook.name().to_owned(),
                mountpoint: text(&identity.mountpoint),
                client_id: text(&identity.client_id),
                username: username(&identity),
                filters,
            };
            Py::new(py, event)?.into_any()
        }
        Event::Message { hook, subscriber, identity, message, qos, retain, reason } => {
            let publication = message.publication();
            let event = MessageEvent {
                kind: hook.map_or("delivery", |hook| hook.name()).to_owned(),
                subscriber: text(&subscriber),
                mountpoint: text(&identity.mountpoint),
                client_id: text(&identity.client_id),
                username: username(&identity),
                topic: publication.topic_text().to_owned(),
                payload: bytes(py, publication.payload()),
                qos,
                retain,
                properties: properties::to_python(py, publication.properties())?.unbind(),
                reason: reason.to_owned(),
            };
            Py::new(py, event)?.into_any()
        }
        Event::Log { level, message, fields } => {
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Py::new(py, LogEvent { level: level.name().to_owned(), message, fields })?.into_any()
        }
        Event::Register(_) | Event::Publish { .. } | Event::Subscribe { .. } | Event::Auth { .. } => {
            unreachable!("requests are converted by to_python")
        }
    };
    Ok(object)
}
