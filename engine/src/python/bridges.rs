//! Bridges as Python opens them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::bridge::{self, MARK_SIZE_MAX, Mapping, Opening, Plan, Remote, Rule, Subscription, Way};
use crate::broker::{SessionRef, SubscriberId};
use crate::codec::ProtocolVersion;
use crate::hooks::INTERNAL_CLIENT_ID;
use crate::net::ListenerState;
use crate::protocol::SessionLimits;
use crate::protocol::client::{Acknowledge, ClientSettings};
use crate::settings::Value;
use crate::transport::outgoing::{Layers, WebSocketTarget};
use crate::transport::tls::{DialTls as Tls, DialTlsOptions};
use rustls_pki_types::ServerName;

use super::engine::Engine;
use super::events::records;
use super::records::SessionInfo;
use super::tls::read_offers;

records! {
    /// What a bridge has counted.
    BridgeStatus {
        state: String,
        published_out: (u64, u64, u64),
        published_in: (u64, u64, u64),
        buffered: usize,
        dropped: u64,
        looped: u64,
        refused: u64,
        expired: u64,
        too_large: u64,
    }
    /// What happened to a bridge.
    BridgeEvent {
        name: String,
        kind: String,
        reason: String,
    }
}

/// TLS of a bridge.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct BridgeTls(Tls);

#[pymethods]
impl BridgeTls {
    #[new]
    #[pyo3(signature = (*, ca, certificates=None, key=None, depth=1, versions=None))]
    fn new(
        py: Python<'_>,
        ca: Option<Vec<u8>>,
        certificates: Option<Vec<u8>>,
        key: Option<Vec<u8>>,
        depth: usize,
        versions: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let identity = match (certificates, key) {
            (None, None) => None,
            (Some(certificates), Some(key)) => Some((certificates, key)),
            _ => return Err(PyValueError::new_err("certfile and keyfile: expected both or none")),
        };
        let options = DialTlsOptions { authorities: ca, identity, depth, offers: read_offers(versions, None, None)? };
        let config = py.detach(|| Tls::new(&options));
        config.map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// `(source prefix, target prefix, pattern, qos, keeps retain)`
type RuleParts = (String, String, String, u8, bool);
/// `(identifier, filter, is shared, qos, keeps retain, rules)`
type SubscriptionParts = (u32, String, bool, u8, bool, Vec<RuleParts>);

fn mapping(way: Way, subscriptions: Vec<SubscriptionParts>) -> Mapping {
    let with_slash = |prefix: String| if prefix.is_empty() { prefix } else { prefix + "/" }.into_boxed_str();
    let rule = |(source, target, pattern, qos, keeps_retain): RuleParts| Rule {
        source_prefix: with_slash(source),
        target_prefix: with_slash(target),
        pattern: pattern.into(),
        qos,
        keeps_retain,
    };
    let subscription = |(identifier, filter, is_shared, qos, keeps_retain, rules): SubscriptionParts| Subscription {
        identifier,
        wire_filter: filter.into(),
        is_shared,
        qos,
        keeps_retain,
        rules: rules.into_iter().map(rule).collect(),
    };
    Mapping { way, subscriptions: subscriptions.into_iter().map(subscription).collect() }
}

/// What a bridge would publish on the other side, for a message with this topic, `QoS` and RETAIN.
#[pyfunction]
#[pyo3(signature = (subscriptions, topic, *, out, qos, retain, through=vec![]))]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 hands the extracted list over")]
pub fn bridge_forwards(
    subscriptions: Vec<SubscriptionParts>,
    topic: &str,
    out: bool,
    qos: u8,
    retain: bool,
    through: Vec<u32>,
) -> Vec<(String, u8, bool)> {
    let mapping = mapping(if out { Way::Out } else { Way::In }, subscriptions);
    let forwards = mapping.forwards(topic, qos, retain, &through).into_iter();
    forwards.map(|forward| (forward.topic, forward.qos, forward.retain)).collect()
}

/// A bridge that runs.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct Bridge {
    running: bridge::Bridge,
    engine: Py<Engine>,
    id: SubscriberId,
}

#[pymethods]
impl Bridge {
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    #[pyo3(signature = (address, port, *, version, client_id, private=false, clean=false, keep_alive=60, username=None,
                        password=None, session_expiry=u32::MAX, receive_maximum=1_000, window=100, tls=None,
                        server_name=None, websocket=None, timeout_ms=10_000))]
    fn connect(
        &self,
        address: &str,
        port: u16,
        version: u8,
        client_id: &str,
        private: bool,
        clean: bool,
        keep_alive: u16,
        username: Option<String>,
        password: Option<String>,
        session_expiry: u32,
        receive_maximum: u16,
        window: u16,
        tls: Option<&BridgeTls>,
        server_name: Option<String>,
        websocket: Option<(String, String)>,
        timeout_ms: u64,
    ) -> PyResult<()> {
        let ip: IpAddr = address
            .parse()
            .map_err(|_| PyValueError::new_err(format!("address: expected an IP address, got {address:?}")))?;
        let version = ProtocolVersion::from_level(version)
            .ok_or_else(|| PyValueError::new_err(format!("version: expected 3, 4 or 5, got {version}")))?;
        let tls = tls.map(|tls| {
            let name = server_name.unwrap_or_else(|| address.to_owned());
            let parsed = ServerName::try_from(name.clone());
            let parsed = parsed.map_err(|_| {
                PyValueError::new_err(format!("server_name: {name:?} is no name that a certificate can have"))
            });
            parsed.map(|name| (Arc::clone(&tls.0.0), name))
        });
        let websocket = websocket.map(|(host, path)| WebSocketTarget { host: host.into(), path: path.into() });
        let packet_size_max = self.engine.get().node.settings.load().packet_size_max();
        self.running.connect(Remote {
            address: SocketAddr::new(ip, port),
            layers: Layers { tls: tls.transpose()?, websocket },
            client: ClientSettings {
                version,
                client_id: client_id.to_owned(),
                clean_start: clean,
                keep_alive_s: keep_alive,
                session_expiry_s: if clean { 0 } else { session_expiry },
                username,
                password: password.map(String::into_bytes),
                bridge: private && version != ProtocolVersion::V5,
                receive_maximum: receive_maximum.max(1),
                send_window: window.max(1),
                packet_size_max: u32::try_from(packet_size_max).unwrap_or(u32::MAX),
                acknowledge: Acknowledge::Manually,
                user_properties: &[(bridge::CLUSTER, "?")],
                ..ClientSettings::default()
            },
            timeout: Duration::from_millis(timeout_ms),
        });
        Ok(())
    }

    fn disconnect(&self) {
        self.running.disconnect();
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.running.close());
    }

    fn status(&self, py: Python<'_>) -> BridgeStatus {
        let counts = self.running.counts();
        let engine = self.engine.get();
        let (waiting, dropped) = py.detach(|| {
            engine.node.registry.get(&self.id).map_or((0, 0), |session| {
                let state = session.lock();
                (state.session.pending.len() + state.session.window.len(), state.session.dropped)
            })
        });
        let state = match self.running.state() {
            bridge::State::Away => "away",
            bridge::State::Connecting => "connecting",
            bridge::State::Connected => "connected",
        };
        BridgeStatus {
            state: state.to_owned(),
            published_out: counts.published_out.into(),
            published_in: counts.published_in.into(),
            // What the bridge holds with an acknowledgement to come is still in the session's window.
            buffered: waiting.max(counts.held),
            dropped: dropped + counts.overflowed,
            looped: counts.looped,
            refused: counts.refused,
            expired: counts.expired,
            too_large: counts.too_large,
        }
    }
}

#[pymethods]
impl Engine {
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    #[pyo3(signature = (name, *, mountpoint="", lasts=false, queue_max=1_000, window=100, out=vec![], incoming=vec![],
                        subscribes=true, stale=vec![], own_mark, remote_mark))]
    fn open_bridge(
        slf: &Bound<'_, Self>,
        name: &str,
        mountpoint: &str,
        lasts: bool,
        queue_max: i64,
        window: u16,
        out: Vec<SubscriptionParts>,
        incoming: Vec<SubscriptionParts>,
        subscribes: bool,
        stale: Vec<String>,
        own_mark: &str,
        remote_mark: &str,
    ) -> PyResult<Bridge> {
        for mark in [own_mark, remote_mark] {
            if mark.is_empty() || mark.len() > MARK_SIZE_MAX {
                return Err(PyValueError::new_err(format!(
                    "own_mark, remote_mark: expected 1 to {MARK_SIZE_MAX} bytes"
                )));
            }
        }
        let engine = slf.get();
        let workers = engine.running_workers()?;
        let client_id = format!("{INTERNAL_CLIENT_ID}{name}");
        let mut limits = SessionLimits::default();
        let settings = [
            ("max_online_messages", Value::Int(queue_max)),
            ("max_offline_messages", Value::Int(queue_max)),
            ("max_inflight_messages", Value::Int(window.into())),
            ("max_subscriptions_per_client", Value::Int(0)),
            ("max_message_rate", Value::Int(0)),
            ("receive_max_client", Value::Int(window.max(1).into())),
            ("upgrade_outgoing_qos", Value::Bool(true)),
        ];
        for (setting, value) in settings {
            limits.set(setting, value).map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        let local = ClientSettings {
            version: ProtocolVersion::V5,
            client_id: client_id.clone(),
            clean_start: !lasts,
            keep_alive_s: 0,
            session_expiry_s: if lasts { u32::MAX } else { 0 },
            receive_maximum: window.max(1),
            send_window: 1_000,
            acknowledge: Acknowledge::Manually,
            ..ClientSettings::default()
        };
        let plan = Plan {
            out: mapping(Way::Out, out),
            incoming: mapping(Way::In, incoming),
            subscribes,
            stale,
            own_mark: own_mark.into(),
            remote_mark: remote_mark.into(),
            window,
        };
        let opening = Opening { name: name.to_owned(), plan, local };
        let cannot = |error: std::io::Error| PyOSError::new_err(format!("bridge {name}: {error}"));
        let (opened, socket) = bridge::Bridge::open(Arc::clone(&engine.node), opening).map_err(cannot)?;
        workers.adopt(Arc::new(ListenerState::internal(mountpoint, limits)), socket);
        let id = SubscriberId::new(mountpoint, &client_id);
        Ok(Bridge { running: opened, engine: slf.clone().unbind(), id })
    }

    /// The sessions of bridges, also of those that are not open.
    fn bridge_sessions(&self, py: Python<'_>) -> Vec<SessionInfo> {
        let mode = self.node.settings.load().queue_deliver_mode;
        py.detach(|| {
            let sessions = self.node.registry.all().into_iter().filter(SessionRef::is_internal);
            sessions.map(|session| SessionInfo::of(&session, mode)).collect()
        })
    }
}
