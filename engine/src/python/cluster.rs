//! Links to other nodes as Python sees them: who is a peer, what they say, how they are.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList};

use crate::broker::{LocalRoute, Node, RouteOfPeer, RoutesCursor};
use crate::message::Millis;
use crate::peer::{
    self, Boot, Change, ClusterId, ClusterListener, Identity, Incarnation, Lane, LinkOptions, LinkTlsOptions, Messages,
    Notice, Notices, PeerId, PeerLink, Peers, Taken, TurnedAway, Upper,
};

use super::events::records;
use super::link_metrics;
use super::records::Metric;
use super::tls::read_offers;

records! {
    /// A listener for other nodes.
    ClusterListenerInfo {
        name: String,
        address: String,
        port: u16,
        is_tls: bool,
        max_connections: Option<usize>,
        active_connections: usize,
        all_connections: u64,
        failed_connections: u64,
    }
    /// One connection of a link.
    PeerLane {
        lane: String,
        direction: String,
        state: String,
        since: f64,
        round_trip_us: Option<u64>,
    }
    /// A link.
    PeerInfo {
        name: String,
        incarnation: Option<Py<PyBytes>>,
        state: String,
        since: f64,
        lanes: Vec<Py<PeerLane>>,
        answering: Option<String>,
        error: String,
        refusal: Option<String>,
        queued_bytes: usize,
        held_bytes: usize,
        oldest_age_ms: u64,
        dropped: (u64, u64, u64),
        dropped_bytes: u64,
        messages_turned_away: u64,
        messages_lost: u64,
        duplicates: u64,
        gaps: u64,
        bytes_sent: u64,
        bytes_received: u64,
    }
    /// A message of another control plane.
    PeerMessage {
        peer: String,
        incarnation: Py<PyBytes>,
        lane: String,
        data: Py<PyBytes>,
    }
    /// A link has changed.
    PeerState {
        peer: String,
        incarnation: Option<Py<PyBytes>>,
        state: String,
        reason: String,
        refusal: Option<String>,
    }
    /// What this node subscribes to has changed.
    RoutesChanged {
    }
    /// Sessions that last have changed.
    SessionsChanged {
    }
    /// Retained messages were changed here.
    RetainedChanged {
    }
    /// A node, or something else, was not let in.
    PeerRefused {
        listener: String,
        address: (String, u16),
        peer: Option<String>,
        refusal: Option<String>,
        reason: String,
    }
}

/// Whom to dial, and where.
#[pyclass(frozen, eq, module = "strogoff._engine")]
#[derive(PartialEq)]
pub struct PeerConfig(peer::PeerConfig);

#[pymethods]
impl PeerConfig {
    #[new]
    #[pyo3(signature = (name, addresses, *, incarnation=None, tls=false))]
    fn new(name: &str, addresses: Vec<String>, incarnation: Option<&[u8]>, tls: bool) -> PyResult<Self> {
        let incarnation = incarnation.map(|bytes| read_bytes("incarnation", bytes)).transpose()?.map(Incarnation);
        Ok(Self(peer::PeerConfig { name: name.into(), addresses, incarnation, is_tls: tls }))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn addresses(&self) -> Vec<String> {
        self.0.addresses.clone()
    }

    #[getter]
    fn incarnation<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.incarnation.map(|incarnation| PyBytes::new(py, &incarnation.0))
    }

    #[getter]
    fn tls(&self) -> bool {
        self.0.is_tls
    }
}

/// TLS between nodes.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct LinkTls(peer::LinkTls);

#[pymethods]
impl LinkTls {
    #[new]
    #[pyo3(signature = (*, certificates, key, ca, crl=None, check_names=true, depth=1, versions=None, ciphers=None,
                        curves=None, handshake_timeout_ms=5_000))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn new(
        py: Python<'_>,
        certificates: Vec<u8>,
        key: Vec<u8>,
        ca: Vec<u8>,
        crl: Option<Vec<u8>>,
        check_names: bool,
        depth: usize,
        versions: Option<&Bound<'_, PyAny>>,
        ciphers: Option<&Bound<'_, PyAny>>,
        curves: Option<&Bound<'_, PyAny>>,
        handshake_timeout_ms: Option<u32>,
    ) -> PyResult<Self> {
        if handshake_timeout_ms == Some(0) {
            return Err(PyValueError::new_err("handshake_timeout_ms: expected 1 or more, or None for no limit, got 0"));
        }
        let options = LinkTlsOptions {
            certificates,
            key,
            authorities: ca,
            revocations: crl,
            are_names_checked: check_names,
            depth,
            offers: read_offers(versions, ciphers, curves)?,
            handshake_timeout: handshake_timeout_ms.map(|ms| Duration::from_millis(ms.into())),
        };
        let tls = py.detach(|| peer::LinkTls::new(&options));
        tls.map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

fn read_bytes<const N: usize>(name: &str, bytes: &[u8]) -> PyResult<[u8; N]> {
    bytes.try_into().map_err(|_| PyValueError::new_err(format!("{name}: expected {N} bytes, got {}", bytes.len())))
}

/// What the links call: it notes what Python is to hear.
struct Boundary {
    node: Arc<Node>,
    notices: Arc<Notices>,
}

impl Boundary {
    fn note(&self, notice: Notice) {
        let settings = self.node.settings.load();
        self.notices.push(notice, settings.event_queue_limit, settings.event_queue_bytes);
    }
}

impl Upper for Boundary {
    fn now(&self) -> Millis {
        self.node.clock.now()
    }

    fn last_applied(&self, from: &PeerId) -> u64 {
        self.node.last_applied(from)
    }

    fn batch(&self, link: &Arc<PeerLink>, from: &Arc<PeerId>, seq: u64, messages: Messages<'_>) -> Taken {
        self.node.receive_batch(link, from, seq, messages)
    }

    fn acknowledged(&self, link: &Arc<PeerLink>, _seq: u64) {
        self.node.peer_has_moved(link);
    }

    fn message(&self, from: &Arc<PeerId>, lane: Lane, data: &[u8]) {
        self.note(Notice::Message { from: Arc::clone(from), lane, data: data.into() });
    }

    fn changed(&self, link: &Arc<PeerLink>, change: &Change) {
        self.node.peer_has_moved(link);
        self.note(Notice::Changed { name: Arc::clone(link.name()), change: change.clone() });
    }

    fn turned_away(&self, visitor: &TurnedAway) {
        self.note(Notice::TurnedAway(visitor.clone()));
    }
}

/// The links of an engine.
pub(super) struct Cluster {
    notices: Arc<Notices>,
    peers: OnceLock<Peers>,
}

impl Cluster {
    pub fn new() -> PyResult<Self> {
        Ok(Self { notices: Arc::new(Notices::new()?), peers: OnceLock::new() })
    }

    fn peers(&self) -> PyResult<&Peers> {
        self.peers.get().ok_or_else(|| PyRuntimeError::new_err("the links are not started: call start_cluster first"))
    }

    #[expect(clippy::too_many_arguments, reason = "those of a Python method")]
    pub fn start(
        &self,
        node: &Arc<Node>,
        name: &str,
        incarnation: &[u8],
        cluster: Option<&[u8]>,
        secret: Vec<u8>,
        agreed: Vec<(String, String)>,
        limits: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        node.remotes.set_own_name(name);
        let again = || PyRuntimeError::new_err("the links were started before");
        if self.peers.get().is_some() {
            return Err(again());
        }
        let mut boot = [0; 8];
        getrandom::fill(&mut boot).map_err(|error| PyOSError::new_err(error.to_string()))?;
        let incarnation = Incarnation(read_bytes("incarnation", incarnation)?);
        let identity = Identity {
            node: PeerId { name: name.into(), incarnation, boot: Boot(boot) },
            cluster: read_cluster(cluster)?,
            agreed,
            secret,
        };
        let options = read_limits(LinkOptions::default(), limits)?;
        let boundary = Boundary { node: Arc::clone(node), notices: Arc::clone(&self.notices) };
        let peers = Peers::start(identity, options, Arc::new(boundary)).map_err(to_python)?;
        let notices = Arc::clone(&self.notices);
        node.interest.watch(move || notices.routes_changed());
        let notices = Arc::clone(&self.notices);
        node.kept_sessions.watch(move || notices.sessions_changed());
        node.kept_sessions.set_watched(false);
        let notices = Arc::clone(&self.notices);
        node.retained_topics.watch(move || notices.retained_changed());
        node.retained_topics.set_watched(false);
        self.peers.set(peers).map_err(|_| again())
    }

    pub fn set_identity(&self, cluster: Option<&[u8]>, agreed: Vec<(String, String)>) -> PyResult<()> {
        self.peers()?.set_identity(read_cluster(cluster)?, agreed).map_err(to_python)
    }

    pub fn set_limits(&self, limits: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let peers = self.peers()?;
        peers.set_options(read_limits(peers.options(), limits)?).map_err(to_python)
    }

    pub fn open_listener(
        &self,
        name: &str,
        address: &str,
        port: u16,
        tls: Option<&LinkTls>,
        max_connections: Option<usize>,
    ) -> PyResult<ClusterListenerInfo> {
        let ip = address.parse().map_err(|_| {
            PyValueError::new_err(format!("address: expected an IPv4 or IPv6 address, got {address:?}"))
        })?;
        let address = std::net::SocketAddr::new(ip, port);
        if max_connections == Some(0) {
            return Err(PyValueError::new_err("max_connections: expected 1 or more, or None for no limit, got 0"));
        }
        let opened = self.peers()?.open_listener(name, address, tls.map(|tls| tls.0.clone()), max_connections)?;
        let taken = || PyValueError::new_err(format!("name: there is a cluster listener {name:?} already"));
        opened.as_deref().map(ClusterListenerInfo::of).ok_or_else(taken)
    }

    pub fn close_listener(&self, name: &str) -> PyResult<bool> {
        Ok(self.peers()?.close_listener(name))
    }

    pub fn set_listener_tls(&self, name: &str, tls: &LinkTls) -> PyResult<bool> {
        match self.peers()?.set_listener_tls(name, tls.0.clone()) {
            Some(false) => Err(PyValueError::new_err(format!("tls: the cluster listener {name:?} has no TLS"))),
            outcome => Ok(outcome.is_some()),
        }
    }

    pub fn listeners(&self) -> Vec<ClusterListenerInfo> {
        let listeners = self.peers.get().map(Peers::listeners).unwrap_or_default();
        listeners.iter().map(|listener| ClusterListenerInfo::of(listener)).collect()
    }

    pub fn set_tls(&self, tls: Option<&LinkTls>) -> PyResult<()> {
        self.peers()?.set_tls(tls.map(|tls| tls.0.clone()));
        Ok(())
    }

    pub fn set_peers(&self, node: &Node, peers: &Bound<'_, PyAny>, joining: bool) -> PyResult<()> {
        let mut configs: Vec<peer::PeerConfig> = Vec::new();
        for config in PyIterator::from_object(peers)? {
            let config = config?.cast::<PeerConfig>()?.get().0.clone();
            if configs.iter().any(|other| other.name == config.name) {
                return Err(PyValueError::new_err(format!("peers: {:?} is named twice", config.name)));
            }
            configs.push(config);
        }
        let peers = self.peers()?;
        peers.set_peers(configs, joining).map_err(to_python)?;
        // A guest has no place among the peers.
        let links = peers.links().into_iter().filter(|link| link.index().is_some()).collect();
        node.set_remotes(links);
        Ok(())
    }

    pub fn set_removed(&self, removed: Vec<(String, Vec<u8>)>) -> PyResult<()> {
        let read = |(name, bytes): (String, Vec<u8>)| {
            Ok((name.as_str().into(), Incarnation(read_bytes("incarnation", &bytes)?)))
        };
        self.peers()?.set_removed(removed.into_iter().map(read).collect::<PyResult<Vec<_>>>()?);
        Ok(())
    }

    pub fn infos(&self, py: Python<'_>) -> PyResult<Vec<PeerInfo>> {
        let links = self.peers.get().map(Peers::links).unwrap_or_default();
        let mut infos: Vec<peer::PeerInfo> = links.iter().map(|link| link.info()).collect();
        infos.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        infos.iter().map(|info| PeerInfo::of(py, info)).collect()
    }

    pub fn send(&self, peer: &str, lane: &str, data: &[u8]) -> PyResult<bool> {
        let known = Lane::by_name(lane).filter(|lane| *lane != Lane::Data);
        let lane =
            known.ok_or_else(|| PyValueError::new_err(format!("lane: expected control or metadata, got {lane:?}")))?;
        Ok(self.peers()?.find(peer).is_some_and(|link| link.send(lane, data)))
    }

    /// How far the data lane to a peer is filled.
    pub fn lane_filled(&self, peer: &str) -> PyResult<u64> {
        Ok(self.peers()?.find(peer).map_or(0, |link| link.appended()))
    }

    /// Whether a peer has taken all of the data lane up to a position, or cannot be reached.
    pub fn has_taken(&self, peer: &str, position: u64) -> PyResult<bool> {
        Ok(self.peers()?.find(peer).is_none_or(|link| link.acknowledged() >= position || !link.is_reachable()))
    }

    pub fn descriptor(&self) -> i32 {
        self.notices.descriptor()
    }

    pub fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for notice in self.notices.drain(limit) {
            list.append(notice_to_python(py, notice)?)?;
        }
        Ok(list)
    }

    pub fn stop(&self, timeout: Duration) {
        if let Some(peers) = self.peers.get() {
            peers.stop(timeout);
        }
    }

    pub fn metrics(&self, node: &Node) -> Vec<Metric> {
        let Some(peers) = self.peers.get() else { return Vec::new() };
        let (waiting, dropped) = self.notices.counts();
        let mut metrics = link_metrics::sums(&peers.figures(), waiting as u64, dropped);
        metrics.extend(link_metrics::of_peers(&peers.links()));
        let routes = [
            (
                "counter",
                "cluster_route_overflows",
                node.interest.overflows(),
                "Times that so many subscriptions changed that all routes had to be told to other nodes anew.",
            ),
            (
                "gauge",
                "cluster_routes_waiting",
                node.interest.waiting() as u64,
                "Changes of subscriptions that other nodes have not been told.",
            ),
        ];
        metrics.extend(routes.map(|(kind, name, value, description)| Metric {
            name: name.to_owned(),
            kind: kind.to_owned(),
            labels: HashMap::new(),
            value,
            description: description.to_owned(),
        }));
        metrics
    }
}

/// Mountpoint, filter, group, its members, whether one of them is connected.
pub(super) type RouteTuple = (String, String, Option<String>, u32, bool);
/// Mountpoint, filter, group.
pub(super) type RouteName = (String, String, Option<String>);

pub(super) fn route_of_peer((mountpoint, filter, group, members, has_online): RouteTuple) -> RouteOfPeer {
    RouteOfPeer { mountpoint, filter, group, members, has_online }
}

fn route_tuple((key, members): LocalRoute) -> RouteTuple {
    let group = key.group.map(String::from);
    (key.mountpoint.to_string(), key.filter.into(), group, members.count, members.has_online)
}

/// A page of what this node subscribes to, and where the next begins.
pub(super) fn local_routes(
    node: &Node,
    after: Option<RoutesCursor>,
    limit: usize,
) -> (Vec<RouteTuple>, Option<RoutesCursor>) {
    let (routes, next) = node.local_routes(after, limit);
    (routes.into_iter().map(route_tuple).collect(), next)
}

/// What has changed, as it is now, and whether all has to be read anew.
pub(super) fn route_changes(node: &Node, limit: usize) -> (Vec<RouteTuple>, bool) {
    let changes = node.route_changes(limit);
    (changes.routes.into_iter().map(route_tuple).collect(), changes.is_overflown)
}

fn to_python(error: std::io::Error) -> PyErr {
    match error.kind() {
        std::io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
        std::io::ErrorKind::Other => PyRuntimeError::new_err(error.to_string()),
        _ => error.into(),
    }
}

fn read_cluster(cluster: Option<&[u8]>) -> PyResult<Option<ClusterId>> {
    cluster.map(|bytes| read_bytes("cluster", bytes).map(ClusterId)).transpose()
}

/// Changes the limits that are given; a name that there is not is an error.
fn read_limits(mut options: LinkOptions, given: Option<&Bound<'_, PyDict>>) -> PyResult<LinkOptions> {
    let Some(given) = given else { return Ok(options) };
    for (name, value) in given {
        let name: String = name.extract()?;
        let number = value.extract::<u32>().map_err(|_| {
            PyValueError::new_err(format!("{name}: expected a whole number from 0 to {}, got {value}", u32::MAX))
        })?;
        let (time, size) = (Duration::from_millis(number.into()), number as usize);
        match name.as_str() {
            "link_timeout_ms" => options.link_timeout = time,
            "handshake_timeout_ms" => options.handshake_timeout = time,
            "outgoing_buffer_size" => options.outgoing_buffer_size = size,
            "flush_threshold" => options.flush_threshold = size,
            "incoming_buffer_size" => options.incoming_buffer_size = size,
            "credit" => options.credit = size,
            "queued_bytes" => options.queued_bytes = size,
            _ => return Err(PyTypeError::new_err(format!("got an unexpected keyword argument '{name}'"))),
        }
    }
    Ok(options)
}

impl ClusterListenerInfo {
    fn of(listener: &ClusterListener) -> Self {
        let (all_connections, failed_connections) = listener.counts();
        Self {
            name: listener.name.to_string(),
            address: listener.address.ip().to_string(),
            port: listener.address.port(),
            is_tls: listener.is_tls(),
            max_connections: listener.connections_max,
            active_connections: listener.active(),
            all_connections,
            failed_connections,
        }
    }
}

fn wall(at: std::time::Instant) -> f64 {
    let then = SystemTime::now().checked_sub(at.elapsed()).unwrap_or(UNIX_EPOCH);
    then.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn incarnation_bytes(py: Python<'_>, incarnation: Incarnation) -> Py<PyBytes> {
    PyBytes::new(py, &incarnation.0).unbind()
}

impl PeerInfo {
    fn of(py: Python<'_>, info: &peer::PeerInfo) -> PyResult<Self> {
        let lanes = info.lanes.iter().map(|lane| {
            let lane = PeerLane {
                lane: lane.lane.name().to_owned(),
                direction: lane.side.name().to_owned(),
                state: lane.state.name().to_owned(),
                since: wall(lane.since),
                round_trip_us: lane.round_trip_us,
            };
            Py::new(py, lane)
        });
        let [qos_0, qos_1, qos_2] = info.dropped.messages;
        Ok(Self {
            name: info.name.to_string(),
            incarnation: info.incarnation.map(|incarnation| incarnation_bytes(py, incarnation)),
            state: info.condition.name().to_owned(),
            since: wall(info.since),
            lanes: lanes.collect::<PyResult<_>>()?,
            answering: info.answering.as_deref().map(str::to_owned),
            error: info.error.clone(),
            refusal: info.refusal.map(|code| code.name().to_owned()),
            queued_bytes: info.queued_bytes,
            held_bytes: info.held_bytes,
            oldest_age_ms: info.oldest_age_ms,
            dropped: (qos_0, qos_1, qos_2),
            dropped_bytes: info.dropped.bytes,
            messages_turned_away: info.messages_turned_away,
            messages_lost: info.messages_lost,
            duplicates: info.duplicates,
            gaps: info.gaps,
            bytes_sent: info.counts.bytes_sent,
            bytes_received: info.counts.bytes_received,
        })
    }
}

fn notice_to_python(py: Python<'_>, notice: Notice) -> PyResult<Py<PyAny>> {
    let object = match notice {
        Notice::Message { from, lane, data } => {
            let event = PeerMessage {
                peer: from.name.to_string(),
                incarnation: incarnation_bytes(py, from.incarnation),
                lane: lane.name().to_owned(),
                data: PyBytes::new(py, &data).unbind(),
            };
            Py::new(py, event)?.into_any()
        }
        Notice::Changed { name, change } => {
            let event = PeerState {
                peer: name.to_string(),
                incarnation: change.peer.map(|peer| incarnation_bytes(py, peer.incarnation)),
                state: change.condition.name().to_owned(),
                reason: change.reason,
                refusal: change.refusal.map(|code| code.name().to_owned()),
            };
            Py::new(py, event)?.into_any()
        }
        Notice::RoutesChanged => Py::new(py, RoutesChanged {})?.into_any(),
        Notice::SessionsChanged => Py::new(py, SessionsChanged {})?.into_any(),
        Notice::RetainedChanged => Py::new(py, RetainedChanged {})?.into_any(),
        Notice::TurnedAway(visitor) => {
            let event = PeerRefused {
                listener: visitor.listener.to_string(),
                address: (visitor.address.ip().to_string(), visitor.address.port()),
                peer: visitor.name.as_deref().map(str::to_owned),
                refusal: visitor.code.map(|code| code.name().to_owned()),
                reason: visitor.reason,
            };
            Py::new(py, event)?.into_any()
        }
    };
    Ok(object)
}
