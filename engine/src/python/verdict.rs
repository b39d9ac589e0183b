//! What Python hands to the engine: verdicts and messages.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::codec::ReasonCode;
use crate::message::{Head, Millis, NEVER, Publication};
use crate::protocol;

use super::properties;

/// An answer to a request.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct Verdict(pub protocol::Verdict);

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
        if client_id.as_deref() == Some("") {
            return Err(PyValueError::new_err("client_id: must not be empty"));
        }
        for (name, value) in [("client_id", &client_id), ("mountpoint", &mountpoint), ("username", &username)] {
            if let Some(value) = value {
                check_text(name, value)?;
            }
        }
        Ok(Self(protocol::Verdict {
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
    #[pyo3(signature = (reason_code=0x87, reason_string=None))]
    fn deny(reason_code: u8, reason_string: Option<String>) -> PyResult<Self> {
        if reason_code < 0x80 {
            return Err(PyValueError::new_err("reason_code: a refusal has a reason code of 0x80 or above"));
        }
        Ok(Self(protocol::Verdict { reason_string, ..protocol::Verdict::deny(ReasonCode(reason_code)) }))
    }

    #[staticmethod]
    #[pyo3(signature = (data=None))]
    fn continue_authentication(data: Option<Vec<u8>>) -> Self {
        Self(protocol::Verdict { data, ..protocol::Verdict::new(protocol::Decision::Continue) })
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

fn check_topic(topic: &str) -> PyResult<()> {
    crate::codec::text::validate_topic_name(topic)
        .map_err(|error| PyValueError::new_err(format!("topic {topic:?}: {error}")))
}

fn check_text(name: &str, value: &str) -> PyResult<()> {
    crate::codec::text::validate_string(value).map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

fn check_qos(qos: u8) -> PyResult<()> {
    if qos > 2 { Err(PyValueError::new_err("qos: expected 0, 1 or 2")) } else { Ok(()) }
}
