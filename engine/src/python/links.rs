//! Links to other nodes and what goes over them, as methods of the engine.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::cluster::{self, ClusterListenerInfo, LinkTls, PeerInfo, RouteName, RouteTuple};
use super::engine::Engine;

#[pymethods]
impl Engine {
    #[pyo3(signature = (name, incarnation, *, cluster=None, secret=vec![], agreed=vec![], **limits))]
    fn start_cluster(
        &self,
        name: &str,
        incarnation: &[u8],
        cluster: Option<&[u8]>,
        secret: Vec<u8>,
        agreed: Vec<(String, String)>,
        limits: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.cluster.start(&self.node, name, incarnation, cluster, secret, agreed, limits)
    }

    #[pyo3(signature = (cluster, agreed=vec![]))]
    fn set_cluster(&self, cluster: Option<&[u8]>, agreed: Vec<(String, String)>) -> PyResult<()> {
        self.cluster.set_identity(cluster, agreed)
    }

    #[pyo3(signature = (**limits))]
    fn set_link_limits(&self, limits: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        self.cluster.set_limits(limits)
    }

    #[pyo3(signature = (name, address, port, *, tls=None, max_connections=None))]
    fn open_cluster_listener(
        &self,
        name: &str,
        address: &str,
        port: u16,
        tls: Option<&LinkTls>,
        max_connections: Option<usize>,
    ) -> PyResult<ClusterListenerInfo> {
        self.cluster.open_listener(name, address, port, tls, max_connections)
    }

    fn close_cluster_listener(&self, name: &str) -> PyResult<bool> {
        self.cluster.close_listener(name)
    }

    fn set_cluster_listener_tls(&self, name: &str, tls: &LinkTls) -> PyResult<bool> {
        self.cluster.set_listener_tls(name, tls)
    }

    fn cluster_listeners(&self) -> Vec<ClusterListenerInfo> {
        self.cluster.listeners()
    }

    fn set_link_tls(&self, tls: Option<&LinkTls>) -> PyResult<()> {
        self.cluster.set_tls(tls)
    }

    fn set_removed_peers(&self, removed: Vec<(String, Vec<u8>)>) -> PyResult<()> {
        self.cluster.set_removed(removed)
    }

    #[pyo3(signature = (peers, *, joining=false))]
    fn set_peers(&self, peers: &Bound<'_, PyAny>, joining: bool) -> PyResult<()> {
        self.cluster.set_peers(&self.node, peers, joining)
    }

    #[pyo3(signature = (*, after=None, limit=1_000))]
    fn local_routes(
        &self,
        py: Python<'_>,
        after: Option<(String, u64)>,
        limit: usize,
    ) -> (Vec<RouteTuple>, Option<(String, u64)>) {
        py.detach(|| cluster::local_routes(&self.node, after, limit))
    }

    #[pyo3(signature = (limit=1_000))]
    fn route_changes(&self, py: Python<'_>, limit: usize) -> (Vec<RouteTuple>, bool) {
        py.detach(|| cluster::route_changes(&self.node, limit))
    }

    #[pyo3(signature = (peer, *, add=vec![], remove=vec![], replace=false))]
    fn set_routes(
        &self,
        py: Python<'_>,
        peer: &str,
        add: Vec<RouteTuple>,
        remove: Vec<RouteName>,
        replace: bool,
    ) -> Option<usize> {
        py.detach(|| {
            let add: Vec<_> = add.into_iter().map(cluster::route_of_peer).collect();
            let gone = remove.into_iter().map(|(mountpoint, filter, group)| (mountpoint, filter, group, 0, false));
            let remove: Vec<_> = gone.map(cluster::route_of_peer).collect();
            self.node.set_routes(peer, &add, &remove, replace)
        })
    }

    fn peers(&self, py: Python<'_>) -> PyResult<Vec<PeerInfo>> {
        self.cluster.infos(py)
    }

    fn peer_send(&self, peer: &str, lane: &str, data: &[u8]) -> PyResult<bool> {
        self.cluster.send(peer, lane, data)
    }

    fn peer_event_fd(&self) -> i32 {
        self.cluster.descriptor()
    }

    #[pyo3(signature = (limit=1_024))]
    fn drain_peers<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        self.cluster.drain(py, limit)
    }

    #[pyo3(signature = (why=None))]
    fn set_netsplit(&self, why: Option<String>) {
        self.node.netsplit.store(why.map(Arc::new));
    }
}
