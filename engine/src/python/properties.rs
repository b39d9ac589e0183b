//! Properties as Python sees them: a list of `(name, value)` in wire order.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::codec::Property;

/// A property list of the wire as a Python list.
pub fn to_python<'py>(py: Python<'py>, encoded: &[u8]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for property in Property::list(encoded) {
        list.append(pair(py, &property)?)?;
    }
    Ok(list)
}

fn pair<'py>(py: Python<'py>, property: &Property<'_>) -> PyResult<Bound<'py, PyTuple>> {
    let text = |value: &str| PyString::new(py, value).into_any();
    let bytes = |value: &[u8]| PyBytes::new(py, value).into_any();
    let number = |value: u32| value.into_pyobject(py).map(Bound::into_any).map_err(PyErr::from);
    let value = match *property {
        Property::PayloadFormat(value) => number(value.into())?,
        Property::MessageExpiry(value)
        | Property::SubscriptionIdentifier(value)
        | Property::SessionExpiry(value)
        | Property::WillDelay(value)
        | Property::MaximumPacketSize(value) => number(value)?,
        Property::ServerKeepAlive(value)
        | Property::ReceiveMaximum(value)
        | Property::TopicAliasMaximum(value)
        | Property::TopicAlias(value) => number(value.into())?,
        Property::MaximumQoS(value) => number(value as u32)?,
        Property::RequestProblemInformation(value)
        | Property::RequestResponseInformation(value)
        | Property::RetainAvailable(value)
        | Property::WildcardSubscriptionAvailable(value)
        | Property::SubscriptionIdentifiersAvailable(value)
        | Property::SharedSubscriptionAvailable(value) => number(value.into())?,
        Property::ContentType(value)
        | Property::ResponseTopic(value)
        | Property::AssignedClientId(value)
        | Property::AuthenticationMethod(value)
        | Property::ResponseInformation(value)
        | Property::ServerReference(value)
        | Property::ReasonString(value) => text(value),
        Property::CorrelationData(value) | Property::AuthenticationData(value) => bytes(value),
        Property::User(name, value) => PyTuple::new(py, [name, value])?.into_any(),
    };
    PyTuple::new(py, [text(name_of(property)), value])
}

fn name_of(property: &Property<'_>) -> &'static str {
    match property {
        Property::PayloadFormat(_) => "payload_format_indicator",
        Property::MessageExpiry(_) => "message_expiry_interval",
        Property::ContentType(_) => "content_type",
        Property::ResponseTopic(_) => "response_topic",
        Property::CorrelationData(_) => "correlation_data",
        Property::SubscriptionIdentifier(_) => "subscription_identifier",
        Property::SessionExpiry(_) => "session_expiry_interval",
        Property::AssignedClientId(_) => "assigned_client_identifier",
        Property::ServerKeepAlive(_) => "server_keep_alive",
        Property::AuthenticationMethod(_) => "authentication_method",
        Property::AuthenticationData(_) => "authentication_data",
        Property::RequestProblemInformation(_) => "request_problem_information",
        Property::WillDelay(_) => "will_delay_interval",
        Property::RequestResponseInformation(_) => "request_response_information",
        Property::ResponseInformation(_) => "response_information",
        Property::ServerReference(_) => "server_reference",
        Property::ReasonString(_) => "reason_string",
        Property::ReceiveMaximum(_) => "receive_maximum",
        Property::TopicAliasMaximum(_) => "topic_alias_maximum",
        Property::TopicAlias(_) => "topic_alias",
        Property::MaximumQoS(_) => "maximum_qos",
        Property::RetainAvailable(_) => "retain_available",
        Property::User(..) => "user_property",
        Property::MaximumPacketSize(_) => "maximum_packet_size",
        Property::WildcardSubscriptionAvailable(_) => "wildcard_subscription_available",
        Property::SubscriptionIdentifiersAvailable(_) => "subscription_identifier_available",
        Property::SharedSubscriptionAvailable(_) => "shared_subscription_available",
    }
}

/// The properties of a message to be passed on, encoded. Names that a message cannot have are errors.
pub fn from_python(properties: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut encoded = Vec::new();
    for entry in properties.try_iter()? {
        let (name, value): (String, Bound<'_, PyAny>) = entry?.extract()?;
        append(&name, &value, &mut encoded)?;
    }
    Ok(encoded)
}

/// User properties, encoded.
pub fn user_properties(pairs: &[(String, String)]) -> PyResult<Vec<u8>> {
    let mut encoded = Vec::new();
    for (name, value) in pairs {
        for text in [name, value] {
            check_length("user_properties", text)?;
            crate::codec::text::validate_string(text)
                .map_err(|error| PyValueError::new_err(format!("user_properties: {error}")))?;
        }
        Property::User(name, value).append(&mut encoded);
    }
    Ok(encoded)
}

fn check_length(name: &str, text: &str) -> PyResult<()> {
    if text.len() > usize::from(u16::MAX) {
        return Err(PyValueError::new_err(format!("{name}: longer than 65535 bytes")));
    }
    Ok(())
}

fn append(name: &str, value: &Bound<'_, PyAny>, encoded: &mut Vec<u8>) -> PyResult<()> {
    match name {
        "payload_format_indicator" => match value.extract::<u8>()? {
            format @ 0..=1 => Property::PayloadFormat(format).append(encoded),
            _ => return Err(PyValueError::new_err("payload_format_indicator: expected 0 or 1")),
        },
        "content_type" => Property::ContentType(&text(name, value)?).append(encoded),
        "response_topic" => {
            let topic = text(name, value)?;
            crate::codec::text::validate_topic_name(&topic)
                .map_err(|error| PyValueError::new_err(format!("response_topic: {error}")))?;
            Property::ResponseTopic(&topic).append(encoded);
        }
        "correlation_data" => {
            let data: Vec<u8> = value.extract()?;
            if data.len() > usize::from(u16::MAX) {
                return Err(PyValueError::new_err("correlation_data: longer than 65535 bytes"));
            }
            Property::CorrelationData(&data).append(encoded);
        }
        "user_property" => {
            let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = value.extract()?;
            Property::User(&text(name, &key)?, &text(name, &value)?).append(encoded);
        }
        _ => {
            let allowed = "payload_format_indicator, content_type, response_topic, correlation_data, user_property";
            return Err(PyValueError::new_err(format!(
                "{name}: a message has no such property; expected one of {allowed}"
            )));
        }
    }
    Ok(())
}

fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let text: String = value.extract()?;
    crate::codec::text::validate_string(&text).map_err(|error| PyValueError::new_err(format!("{name}: {error}")))?;
    check_length(name, &text)?;
    Ok(text)
}
