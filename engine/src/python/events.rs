//! Events as Python objects.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::broker::events::{BridgeNews, Event};
use crate::hooks::Identity;

use super::bridges::BridgeEvent;
use super::claims::ClaimRequest;
use super::{properties, requests};

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

fn bytes(py: Python<'_>, bytes: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, bytes).unbind()
}

fn text(text: &Arc<str>) -> String {
    text.to_string()
}

/// An event as the object that `_engine.pyi` describes.
pub fn to_python(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    let object = match event {
        Event::Register(request) => Py::new(py, requests::RegisterRequest::from(*request))?.into_any(),
        Event::Publish { ticket, identity, message, is_will } => {
            Py::new(py, requests::PublishRequest { ticket, identity, message, is_will })?.into_any()
        }
        Event::Subscribe { ticket, identity, filters, properties } => {
            Py::new(py, requests::SubscribeRequest { ticket, identity, filters, properties })?.into_any()
        }
        Event::Unsubscribe { ticket, identity, filters, properties } => {
            Py::new(py, requests::UnsubscribeRequest { ticket, identity, filters, properties })?.into_any()
        }
        Event::Deliver { ticket, identity, messages } => {
            Py::new(py, requests::DeliverRequest { ticket, identity, messages })?.into_any()
        }
        Event::Auth { ticket, identity, method, data, reason_code, properties } => {
            Py::new(py, requests::AuthRequest { ticket, identity, method, data, reason_code, properties })?.into_any()
        }
        Event::Claim { ticket, identity, stamp, clean_start } => {
            let (mountpoint, client_id) = (text(&identity.mountpoint), text(&identity.client_id));
            Py::new(py, ClaimRequest { ticket, mountpoint, client_id, stamp, clean_start })?.into_any()
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
                peer: address.map(|peer| peer.pair()),
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
        Event::Bridge { name, news } => {
            let (kind, reason) = match news {
                BridgeNews::Connected => ("connected", String::new()),
                BridgeNews::Ended(reason) => ("ended", reason),
                BridgeNews::Failed(reason) => ("failed", reason),
            };
            Py::new(py, BridgeEvent { name, kind: kind.to_owned(), reason })?.into_any()
        }
        Event::Log { level, message, fields } => {
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Py::new(py, LogEvent { level: level.name().to_owned(), message, fields })?.into_any()
        }
        Event::Register(_)
        | Event::Publish { .. }
        | Event::Subscribe { .. }
        | Event::Unsubscribe { .. }
        | Event::Deliver { .. }
        | Event::Auth { .. }
        | Event::Claim { .. } => {
            unreachable!("requests are converted by to_python")
        }
    };
    Ok(object)
}
