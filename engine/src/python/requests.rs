//! Questions to Python: events with a ticket, each of which makes its own verdicts.
//!
//! A request costs Python what it looks at: texts and properties are converted when they are asked for.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::broker::Peer;
use crate::hooks::Identity;
use crate::message::{Head, Message, NEVER, Publication};
use crate::protocol::{self, Decision, Rewriting, SessionLimits};
use crate::settings::Value;

use super::properties;
use super::verdict::{Verdict, check_identity, check_qos, check_topic};

/// Longest time for which a verdict may leave a client unread.
const THROTTLE_MS_MAX: u64 = 3_600_000;

/// Declares what all requests have, beside what each has for itself.
macro_rules! request {
    ($name:ident { $($own:tt)* }) => {
        #[pymethods]
        impl $name {
            #[getter]
            fn ticket(&self) -> u64 {
                self.ticket
            }

            #[getter]
            fn listener(&self) -> &str {
                &self.identity.listener
            }

            #[getter]
            fn mountpoint(&self) -> &str {
                &self.identity.mountpoint
            }

            #[getter]
            fn client_id(&self) -> &str {
                &self.identity.client_id
            }

            #[getter]
            fn username(&self) -> Option<&str> {
                self.identity.username.as_deref()
            }

            #[getter]
            fn protocol_version(&self) -> u8 {
                self.identity.protocol_version
            }

            $($own)*
        }
    };
}

fn identity(
    listener: &str,
    mountpoint: &str,
    client_id: &str,
    username: Option<&str>,
    protocol_version: u8,
) -> PyResult<Identity> {
    if ![3, 4, 5].contains(&protocol_version) {
        return Err(PyValueError::new_err("protocol_version: expected 3, 4 or 5"));
    }
    Ok(Identity {
        mountpoint: mountpoint.into(),
        client_id: client_id.into(),
        username: username.map(Into::into),
        protocol_version,
        listener: listener.into(),
    })
}

fn accepted() -> protocol::Verdict {
    protocol::Verdict::new(Decision::Allow)
}

fn message(topic: &str, payload: &[u8], qos: u8, retain: bool, properties: &[u8]) -> Message {
    let mut span = Vec::new();
    let layout = Publication::compose(&mut span, topic.as_bytes(), properties, payload);
    Message::keep(&Publication { head: Head { layout, qos, retain, expires_at: NEVER, origin: 0 }, span: &span })
}

fn encoded(given: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<u8>> {
    given.map(properties::from_python).transpose().map(Option::unwrap_or_default)
}

/// `auth_on_register`.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct RegisterRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Client.
    pub identity: Identity,
    /// Address of the client.
    pub peer: Peer,
    /// Family of the listener.
    pub listener_kind: &'static str,
    /// Where the listener listens.
    pub listener_address: (String, u16),
    /// DER.
    pub client_certificate: Option<Arc<[u8]>>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// Clean Start.
    pub clean_start: bool,
    /// Seconds.
    pub keep_alive: u16,
    /// Encoded.
    pub properties: Vec<u8>,
}

impl From<crate::broker::events::RegisterRequest> for RegisterRequest {
    fn from(event: crate::broker::events::RegisterRequest) -> Self {
        Self {
            ticket: event.ticket,
            identity: event.identity,
            peer: event.peer,
            listener_kind: event.listener_kind,
            listener_address: event.listener_address,
            client_certificate: event.client_certificate,
            password: event.password,
            clean_start: event.clean_start,
            keep_alive: event.keep_alive,
            properties: event.properties,
        }
    }
}

request!(RegisterRequest {
    #[new]
    #[pyo3(signature = (*, ticket=0, listener="", peer=("127.0.0.1".to_owned(), 0), mountpoint="", client_id="", username=None,
                        password=None, clean_start=true, keep_alive=60, protocol_version=5, client_certificate=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn new(
        ticket: u64,
        listener: &str,
        peer: (String, u16),
        mountpoint: &str,
        client_id: &str,
        username: Option<&str>,
        password: Option<Vec<u8>>,
        clean_start: bool,
        keep_alive: u16,
        protocol_version: u8,
        client_certificate: Option<Vec<u8>>,
    ) -> PyResult<Self> {
        let (host, port) = peer;
        let host: std::net::IpAddr = host.parse().map_err(|_| PyValueError::new_err("peer: expected an address and a port"))?;
        Ok(Self {
            ticket,
            identity: identity(listener, mountpoint, client_id, username, protocol_version)?,
            peer: Peer::Inet((host, port).into()),
            listener_kind: "tcp",
            listener_address: ("127.0.0.1".to_owned(), 1_883),
            client_certificate: client_certificate.map(Into::into),
            password,
            clean_start,
            keep_alive,
            properties: Vec::new(),
        })
    }

    #[getter]
    fn peer(&self) -> (String, u16) {
        self.peer.pair()
    }

    #[getter]
    fn listener_kind(&self) -> &'static str {
        self.listener_kind
    }

    #[getter]
    fn listener_address(&self) -> (String, u16) {
        self.listener_address.clone()
    }

    #[getter]
    fn client_certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.client_certificate.as_deref().map(|certificate| PyBytes::new(py, certificate))
    }

    #[getter]
    fn password<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.password.as_deref().map(|password| PyBytes::new(py, password))
    }

    #[getter]
    fn clean_start(&self) -> bool {
        self.clean_start
    }

    #[getter]
    fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        properties::to_python(py, &self.properties)
    }

    #[staticmethod]
    #[pyo3(signature = (*, client_id=None, mountpoint=None, username=None, clean_start=None, session_expiry_interval=None,
                        max_connection_lifetime=None, user_properties=None, response_information=None,
                        max_message_size=None, max_message_rate=None, max_inflight_messages=None, max_online_messages=None,
                        max_offline_messages=None, max_subscriptions_per_client=None, queue_type=None, upgrade_qos=None,
                        topic_alias_max_client=None, topic_alias_max_broker=None, receive_max_client=None,
                        receive_max_broker=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn accept(
        client_id: Option<String>,
        mountpoint: Option<String>,
        username: Option<String>,
        clean_start: Option<bool>,
        session_expiry_interval: Option<u32>,
        max_connection_lifetime: Option<u32>,
        user_properties: Option<Vec<(String, String)>>,
        response_information: Option<String>,
        max_message_size: Option<i64>,
        max_message_rate: Option<i64>,
        max_inflight_messages: Option<i64>,
        max_online_messages: Option<i64>,
        max_offline_messages: Option<i64>,
        max_subscriptions_per_client: Option<i64>,
        queue_type: Option<String>,
        upgrade_qos: Option<bool>,
        topic_alias_max_client: Option<i64>,
        topic_alias_max_broker: Option<i64>,
        receive_max_client: Option<i64>,
        receive_max_broker: Option<i64>,
    ) -> PyResult<Verdict> {
        let limits = [
            ("max_message_size", max_message_size.map(Value::Int)),
            ("max_message_rate", max_message_rate.map(Value::Int)),
            ("max_inflight_messages", max_inflight_messages.map(Value::Int)),
            ("max_online_messages", max_online_messages.map(Value::Int)),
            ("max_offline_messages", max_offline_messages.map(Value::Int)),
            ("max_subscriptions_per_client", max_subscriptions_per_client.map(Value::Int)),
            ("queue_type", queue_type.map(Value::Text)),
            ("upgrade_outgoing_qos", upgrade_qos.map(Value::Bool)),
            ("topic_alias_max_client", topic_alias_max_client.map(Value::Int)),
            ("topic_alias_max_broker", topic_alias_max_broker.map(Value::Int)),
            ("receive_max_client", receive_max_client.map(Value::Int)),
            ("receive_max_broker", receive_max_broker.map(Value::Int)),
        ];
        check_identity(client_id.as_deref(), mountpoint.as_deref(), username.as_deref())?;
        Ok(Verdict::from(protocol::Verdict {
            client_id,
            mountpoint,
            username,
            clean_start,
            session_expiry: session_expiry_interval,
            connection_lifetime_s: max_connection_lifetime,
            user_properties: user_properties.map(|pairs| properties::user_properties(&pairs)).transpose()?,
            response_information,
            limits: session_limits(limits)?,
            ..accepted()
        }))
    }
});

fn session_limits(given: [(&str, Option<Value>); 12]) -> PyResult<Option<Box<SessionLimits>>> {
    let mut limits = SessionLimits::default();
    for (name, value) in given {
        if let Some(value) = value {
            limits.set(name, value).map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
    }
    Ok((!limits.is_empty()).then(|| Box::new(limits)))
}

/// `auth_on_publish`.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct PublishRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Publisher.
    pub identity: Identity,
    /// The message.
    pub message: Message,
    /// It is the will of a CONNECT.
    pub is_will: bool,
}

request!(PublishRequest {
    #[new]
    #[pyo3(signature = (*, ticket=0, listener="", mountpoint="", client_id="", username=None, topic="t", payload=&[][..],
                        qos=0, retain=false, is_will=false, protocol_version=5, properties=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn new(
        ticket: u64,
        listener: &str,
        mountpoint: &str,
        client_id: &str,
        username: Option<&str>,
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
        is_will: bool,
        protocol_version: u8,
        properties: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        check_topic(topic)?;
        check_qos(qos)?;
        let identity = identity(listener, mountpoint, client_id, username, protocol_version)?;
        Ok(Self { ticket, identity, message: message(topic, payload, qos, retain, &encoded(properties)?), is_will })
    }

    #[getter]
    fn topic(&self) -> &str {
        self.message.publication().topic_text()
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.message.publication().payload())
    }

    #[getter]
    fn qos(&self) -> u8 {
        self.message.publication().head.qos
    }

    #[getter]
    fn retain(&self) -> bool {
        self.message.publication().head.retain
    }

    #[getter]
    fn is_will(&self) -> bool {
        self.is_will
    }

    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        properties::to_python(py, self.message.publication().properties())
    }

    #[staticmethod]
    #[pyo3(signature = (*, topic=None, payload=None, qos=None, retain=None, mountpoint=None, properties=None, throttle=None))]
    fn accept(
        topic: Option<String>,
        payload: Option<Vec<u8>>,
        qos: Option<u8>,
        retain: Option<bool>,
        mountpoint: Option<String>,
        properties: Option<&Bound<'_, PyAny>>,
        throttle: Option<u64>,
    ) -> PyResult<Verdict> {
        if let Some(topic) = &topic {
            check_topic(topic)?;
        }
        check_qos(qos.unwrap_or(0))?;
        check_identity(None, mountpoint.as_deref(), None)?;
        if throttle.is_some_and(|ms| ms > THROTTLE_MS_MAX) {
            return Err(PyValueError::new_err(format!("throttle: expected at most {THROTTLE_MS_MAX} ms")));
        }
        let properties = properties.map(properties::from_python).transpose()?;
        Ok(Verdict::from(protocol::Verdict {
            topic,
            payload,
            qos,
            retain,
            mountpoint,
            properties,
            throttle_ms: throttle.filter(|ms| *ms > 0),
            ..accepted()
        }))
    }
});

/// `auth_on_subscribe`.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct SubscribeRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Subscriber.
    pub identity: Identity,
    /// Filters with the requested QoS.
    pub filters: Vec<(String, u8)>,
    /// Encoded.
    pub properties: Vec<u8>,
}

request!(SubscribeRequest {
    #[new]
    #[pyo3(signature = (*, ticket=0, listener="", mountpoint="", client_id="", username=None, filters=Vec::new(),
                        protocol_version=5))]
    fn new(
        ticket: u64,
        listener: &str,
        mountpoint: &str,
        client_id: &str,
        username: Option<&str>,
        filters: Vec<(String, u8)>,
        protocol_version: u8,
    ) -> PyResult<Self> {
        let identity = identity(listener, mountpoint, client_id, username, protocol_version)?;
        Ok(Self { ticket, identity, filters, properties: Vec::new() })
    }

    #[getter]
    fn filters(&self) -> Vec<(String, u8)> {
        self.filters.clone()
    }

    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        properties::to_python(py, &self.properties)
    }

    #[pyo3(signature = (*, filters=None, user_properties=None))]
    fn accept(
        &self,
        filters: Option<Vec<(String, u8)>>,
        user_properties: Option<Vec<(String, String)>>,
    ) -> PyResult<Verdict> {
        check_count(filters.as_ref().map(Vec::len), self.filters.len())?;
        let user_properties = user_properties.map(|pairs| properties::user_properties(&pairs)).transpose()?;
        Ok(Verdict::from(protocol::Verdict { user_properties, filters, ..accepted() }))
    }
});

fn check_count(given: Option<usize>, asked: usize) -> PyResult<()> {
    match given {
        Some(given) if given != asked => {
            Err(PyValueError::new_err(format!("filters: expected {asked}, one for each in the request, not {given}")))
        }
        _ => Ok(()),
    }
}

/// `on_unsubscribe`.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct UnsubscribeRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Subscriber.
    pub identity: Identity,
    /// Filters.
    pub filters: Vec<String>,
    /// Encoded.
    pub properties: Vec<u8>,
}

request!(UnsubscribeRequest {
    #[new]
    #[pyo3(signature = (*, ticket=0, listener="", mountpoint="", client_id="", username=None, filters=Vec::new(),
                        protocol_version=5))]
    fn new(
        ticket: u64,
        listener: &str,
        mountpoint: &str,
        client_id: &str,
        username: Option<&str>,
        filters: Vec<String>,
        protocol_version: u8,
    ) -> PyResult<Self> {
        let identity = identity(listener, mountpoint, client_id, username, protocol_version)?;
        Ok(Self { ticket, identity, filters, properties: Vec::new() })
    }

    #[getter]
    fn filters(&self) -> Vec<String> {
        self.filters.clone()
    }

    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        properties::to_python(py, &self.properties)
    }

    #[pyo3(signature = (*, filters=None))]
    fn accept(&self, filters: Option<Vec<String>>) -> PyResult<Verdict> {
        check_count(filters.as_ref().map(Vec::len), self.filters.len())?;
        let filters = filters.map(|filters| filters.into_iter().map(|filter| (filter, 0)).collect());
        Ok(Verdict::from(protocol::Verdict { filters, ..accepted() }))
    }
});

/// `on_auth`.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct AuthRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Client.
    pub identity: Identity,
    /// Authentication method.
    pub method: String,
    /// Authentication data.
    pub data: Option<Vec<u8>>,
    /// 0x00 in CONNECT, 0x18 or 0x19 in AUTH.
    pub reason_code: u8,
    /// Encoded.
    pub properties: Vec<u8>,
}

request!(AuthRequest {
    #[new]
    #[pyo3(signature = (*, ticket=0, listener="", mountpoint="", client_id="", username=None, method="", data=None,
                        reason_code=0))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn new(
        ticket: u64,
        listener: &str,
        mountpoint: &str,
        client_id: &str,
        username: Option<&str>,
        method: &str,
        data: Option<Vec<u8>>,
        reason_code: u8,
    ) -> PyResult<Self> {
        let identity = identity(listener, mountpoint, client_id, username, 5)?;
        Ok(Self { ticket, identity, method: method.to_owned(), data, reason_code, properties: Vec::new() })
    }

    #[getter]
    fn method(&self) -> &str {
        &self.method
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.data.as_deref().map(|data| PyBytes::new(py, data))
    }

    #[getter]
    fn reason_code(&self) -> u8 {
        self.reason_code
    }

    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        properties::to_python(py, &self.properties)
    }

    #[staticmethod]
    #[pyo3(signature = (*, data=None, client_id=None, mountpoint=None, username=None))]
    fn accept(
        data: Option<Vec<u8>>,
        client_id: Option<String>,
        mountpoint: Option<String>,
        username: Option<String>,
    ) -> PyResult<Verdict> {
        check_identity(client_id.as_deref(), mountpoint.as_deref(), username.as_deref())?;
        Ok(Verdict::from(protocol::Verdict { client_id, mountpoint, username, data, ..accepted() }))
    }

    #[staticmethod]
    #[pyo3(signature = (data=None))]
    fn go_on(data: Option<Vec<u8>>) -> Verdict {
        Verdict::from(protocol::Verdict { data, ..protocol::Verdict::new(Decision::Continue) })
    }
});

/// One message of a [`DeliverRequest`].
#[pyclass(frozen, module = "strogoff._engine")]
pub struct DeliverMessage {
    message: Message,
    qos: u8,
    retain: bool,
}

#[pymethods]
impl DeliverMessage {
    #[getter]
    fn topic(&self) -> &str {
        self.message.publication().topic_text()
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.message.publication().payload())
    }

    #[getter]
    fn qos(&self) -> u8 {
        self.qos
    }

    #[getter]
    fn retain(&self) -> bool {
        self.retain
    }

    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        properties::to_python(py, self.message.publication().properties())
    }
}

/// `on_deliver`.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct DeliverRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Receiver.
    pub identity: Identity,
    /// The messages, with QoS and RETAIN of this delivery.
    pub messages: Vec<(Message, u8, bool)>,
}

/// Topic, payload and properties as Python gives them.
type Change<'py> = (Option<String>, Option<Vec<u8>>, Option<Bound<'py, PyAny>>);

request!(DeliverRequest {
    #[getter]
    fn messages(&self) -> Vec<DeliverMessage> {
        let message = |(message, qos, retain): &(Message, u8, bool)| DeliverMessage {
            message: message.clone(),
            qos: *qos,
            retain: *retain,
        };
        self.messages.iter().map(message).collect()
    }

    fn accept(&self, changes: Vec<Option<Change<'_>>>) -> PyResult<Verdict> {
        if changes.len() != self.messages.len() {
            let message = format!("changes: expected {}, one for each message", self.messages.len());
            return Err(PyValueError::new_err(message));
        }
        let rewriting = |change: Option<Change<'_>>| -> PyResult<Option<Rewriting>> {
            let Some((topic, payload, properties)) = change else { return Ok(None) };
            if let Some(topic) = &topic {
                check_topic(topic)?;
            }
            let properties = properties.as_ref().map(properties::from_python).transpose()?;
            Ok(Some(Rewriting { topic, payload, properties }))
        };
        let rewritings = changes.into_iter().map(rewriting).collect::<PyResult<Vec<_>>>()?;
        Ok(Verdict::from(protocol::Verdict { rewritings: Some(rewritings), ..accepted() }))
    }
});
