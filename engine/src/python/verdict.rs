//! What Python hands to the engine: verdicts and messages.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::codec::ReasonCode;
use crate::message::{Head, Millis, NEVER, Publication};
use crate::protocol;

use super::properties;

/// An answer to a request. Made once, it may answer many.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct Verdict(pub Arc<protocol::Verdict>);

impl From<protocol::Verdict> for Verdict {
    fn from(verdict: protocol::Verdict) -> Self {
        Self(Arc::new(verdict))
    }
}

#[pymethods]
impl Verdict {
    #[staticmethod]
    #[pyo3(signature = (*, client_id=None, mountpoint=None, username=None, topic=None, payload=None, qos=None, retain=None,
                        filters=None, data=None, properties=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn allow(
        client_id: Option<String>,
        mountpoint: Option<String>,
        username: Option<String>,
        topic: Option<String>,
        payload: Option<Vec<u8>>,
        qos: Option<u8>,
        retain: Option<bool>,
        filters: Option<Vec<(String, u8)>>,
        data: Option<Vec<u8>>,
        properties: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        if let Some(topic) = &topic {
            check_topic(topic)?;
        }
        check_qos(qos.unwrap_or(0))?;
        check_identity(client_id.as_deref(), mountpoint.as_deref(), username.as_deref())?;
        Ok(Self::from(protocol::Verdict {
            client_id,
            mountpoint,
            username,
            topic,
            payload,
            qos,
            retain,
            filters,
            data,
            properties: properties.map(properties::from_python).transpose()?,
            ..protocol::Verdict::new(protocol::Decision::Allow)
        }))
    }

    #[staticmethod]
    #[pyo3(signature = (reason_code=0x87, reason_string=None, *, server_reference=None, user_properties=None))]
    fn deny(
        reason_code: u8,
        reason_string: Option<String>,
        server_reference: Option<String>,
        user_properties: Option<Vec<(String, String)>>,
    ) -> PyResult<Self> {
        if reason_code < 0x80 {
            return Err(PyValueError::new_err("reason_code: a refusal has a reason code of 0x80 or above"));
        }
        for (name, value) in [("reason_string", &reason_string), ("server_reference", &server_reference)] {
            if let Some(value) = value {
                check_text(name, value)?;
            }
        }
        Ok(Self::from(protocol::Verdict {
            reason_string,
            server_reference,
            user_properties: user_properties.map(|pairs| properties::user_properties(&pairs)).transpose()?,
            ..protocol::Verdict::deny(ReasonCode(reason_code))
        }))
    }

    #[staticmethod]
    #[pyo3(signature = (data=None))]
    fn continue_authentication(data: Option<Vec<u8>>) -> Self {
        Self::from(protocol::Verdict { data, ..protocol::Verdict::new(protocol::Decision::Continue) })
    }

    #[getter]
    fn is_allowed(&self) -> bool {
        self.0.decision == protocol::Decision::Allow
    }

    #[getter]
    fn reason_code(&self) -> u8 {
        match self.0.decision {
            protocol::Decision::Allow => 0,
            protocol::Decision::Continue => ReasonCode::CONTINUE_AUTHENTICATION.0,
            protocol::Decision::Deny(reason) => reason.0,
        }
    }

    #[getter]
    fn filters(&self) -> Option<Vec<(String, u8)>> {
        self.0.filters.clone()
    }

    fn __repr__(&self) -> String {
        match self.0.decision {
            protocol::Decision::Allow => "Verdict(allow)".to_owned(),
            protocol::Decision::Continue => "Verdict(continue)".to_owned(),
            protocol::Decision::Deny(reason) => format!("Verdict(deny 0x{:02X})", reason.0),
        }
    }
}

/// A message to be published from inside.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct Message {
    /// Name space of the topic.
    pub mountpoint: String,
    /// Seconds.
    expiry_s: Option<u32>,
    /// The message without its expiry.
    kept: crate::message::Message,
}

#[pymethods]
impl Message {
    #[new]
    #[pyo3(signature = (topic, payload=&[][..], qos=0, *, retain=false, mountpoint=String::new(), message_expiry=None,
                        properties=None))]
    fn new(
        topic: &str,
        payload: &[u8],
        qos: u8,
        retain: bool,
        mountpoint: String,
        message_expiry: Option<u32>,
        properties: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        check_topic(topic)?;
        check_qos(qos)?;
        let properties = properties.map(properties::from_python).transpose()?.unwrap_or_default();
        let mut span = Vec::new();
        let layout = Publication::compose(&mut span, topic.as_bytes(), &properties, payload);
        let head = Head { layout, qos, retain, expires_at: NEVER, origin: 0 };
        let kept = crate::message::Message::keep(&Publication { head, span: &span });
        Ok(Self { mountpoint, expiry_s: message_expiry, kept })
    }
}

impl Message {
    /// The message with its expiry counted from now.
    pub fn at(&self, now: Millis) -> crate::message::Message {
        let Some(seconds) = self.expiry_s else { return self.kept.clone() };
        let kept = self.kept.publication();
        let head = Head { expires_at: now + Millis::from(seconds) * 1_000, ..kept.head };
        crate::message::Message::keep(&Publication { head, span: kept.span })
    }
}

/// Checks who a client is to be from now on.
pub fn check_identity(client_id: Option<&str>, mountpoint: Option<&str>, username: Option<&str>) -> PyResult<()> {
    if client_id == Some("") {
        return Err(PyValueError::new_err("client_id: must not be empty"));
    }
    for (name, value) in [("client_id", client_id), ("mountpoint", mountpoint), ("username", username)] {
        if let Some(value) = value {
            check_text(name, value)?;
        }
    }
    Ok(())
}

pub(super) fn check_topic(topic: &str) -> PyResult<()> {
    crate::codec::text::validate_topic_name(topic)
        .map_err(|error| PyValueError::new_err(format!("topic {topic:?}: {error}")))
}

pub(super) fn check_text(name: &str, value: &str) -> PyResult<()> {
    crate::codec::text::validate_string(value).map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

pub(super) fn check_qos(qos: u8) -> PyResult<()> {
    if qos > 2 { Err(PyValueError::new_err("qos: expected 0, 1 or 2")) } else { Ok(()) }
}
