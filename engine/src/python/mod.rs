//! The boundary: what `strogoff._engine` is made of. `_engine.pyi` is its manual.
//!
//! Everything here converts and calls; what happens is decided in the other modules. No thread of the engine ever comes
//! here, so none ever waits for the GIL.

use pyo3::prelude::*;

mod bench;
mod bridges;
mod claims;
mod cluster;
mod engine;
mod events;
mod link_metrics;
mod links;
mod listeners;
mod metrics;
mod moving;
mod policy;
mod properties;
mod records;
mod requests;
mod retaining;
mod store;
mod tls;
mod verdict;

/// The classes of the module.
#[pymodule(gil_used = false)]
pub fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("HOOKS", pyo3::types::PyTuple::new(module.py(), crate::hooks::HOOK_NAMES)?)?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<bench::Bench>()?;
    module.add_class::<verdict::Verdict>()?;
    module.add_class::<verdict::Message>()?;
    module.add_class::<tls::TlsConfig>()?;
    module.add_class::<policy::AccessList>()?;
    module.add_class::<policy::PasswordTable>()?;
    module.add_function(wrap_pyfunction!(policy::hash_password, module)?)?;
    module.add_class::<requests::RegisterRequest>()?;
    module.add_class::<requests::PublishRequest>()?;
    module.add_class::<requests::SubscribeRequest>()?;
    module.add_class::<requests::UnsubscribeRequest>()?;
    module.add_class::<requests::AuthRequest>()?;
    module.add_class::<requests::DeliverMessage>()?;
    module.add_class::<requests::DeliverRequest>()?;
    module.add_class::<claims::ClaimRequest>()?;
    module.add_class::<events::SessionEvent>()?;
    module.add_class::<events::SubscriptionEvent>()?;
    module.add_class::<events::MessageEvent>()?;
    module.add_class::<events::LogEvent>()?;
    module.add_class::<bridges::Bridge>()?;
    module.add_class::<bridges::BridgeEvent>()?;
    module.add_class::<bridges::BridgeStatus>()?;
    module.add_class::<bridges::BridgeTls>()?;
    module.add_function(wrap_pyfunction!(bridges::bridge_forwards, module)?)?;
    module.add_class::<records::ListenerInfo>()?;
    module.add_class::<records::SessionInfo>()?;
    module.add_class::<records::SubscriptionInfo>()?;
    module.add_class::<records::RetainedMessage>()?;
    module.add_class::<records::Metric>()?;
    module.add_class::<cluster::PeerConfig>()?;
    module.add_class::<cluster::LinkTls>()?;
    module.add_class::<cluster::ClusterListenerInfo>()?;
    module.add_class::<cluster::PeerLane>()?;
    module.add_class::<cluster::PeerInfo>()?;
    module.add_class::<cluster::PeerMessage>()?;
    module.add_class::<cluster::PeerState>()?;
    module.add_class::<cluster::PeerRefused>()?;
    module.add_class::<cluster::RoutesChanged>()?;
    module.add_class::<cluster::SessionsChanged>()?;
    module.add_class::<cluster::RetainedChanged>()?;
    module.add("StoreError", module.py().get_type::<store::StoreError>())?;
    module.add_class::<store::StoreSummary>()?;
    module.add_class::<store::StoreDamage>()?;
    module.add_class::<store::StoreReport>()?;
    module.add_function(wrap_pyfunction!(store::check_store, module)?)?;
    module.add_function(wrap_pyfunction!(store::compact_store, module)?)
}
