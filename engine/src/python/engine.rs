//! The engine as one Python object.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList};

use crate::broker::{Batch, Node, Receiver, SessionRef, SubscriberId};
use crate::codec::ReasonCode;
use crate::codec::text::{parse_shared_filter, validate_topic_filter};
use crate::hooks::Hooks;
use crate::net::{ListenerState, SocketOptions, Workers};
use crate::policy::{Decider, Policy};
use crate::protocol::{Context, Session};
use crate::routing::{Subscriber, SubscriptionOptions};
use crate::settings::{SettingError, Settings, Value};
use crate::store::Store;

use super::cluster::Cluster;
use super::events;
use super::listeners::{self, Wanted};
use super::policy::{AccessList, PasswordTable};
use super::records::{ListenerInfo, Metric, RetainedMessage, SessionInfo, SubscriptionInfo};
use super::store::{self, store_error};
use super::tls::TlsConfig;
use super::verdict::{Message, Verdict};

/// What calls from Python work with, one at a time.
struct Desk {
    cx: Context,
    batch: Batch,
}

/// One broker's data plane.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct Engine {
    pub(super) node: Arc<Node>,
    pub(super) workers: OnceLock<Workers>,
    listeners: Mutex<Vec<(Arc<ListenerState>, SocketOptions)>>,
    desk: Mutex<Desk>,
    next_listener_id: AtomicU64,
    pub(super) store_directory: OnceLock<PathBuf>,
    pub(super) cluster: Cluster,
}

impl Engine {
    pub(super) fn store(&self) -> PyResult<&Arc<Store>> {
        self.node.store().ok_or_else(|| store_error("no store is open: call open_store first"))
    }

    /// Runs something that publishes or ends sessions on the calling thread.
    pub(super) fn work<T>(&self, what: impl FnOnce(&Node, &mut Context, &mut Batch) -> T) -> T {
        let mut desk = self.desk.lock();
        let Desk { cx, batch } = &mut *desk;
        self.node.refresh(cx);
        let result = what(&self.node, cx, batch);
        while batch.has_flush_due() {
            batch.flush_all(&self.node, cx);
        }
        if batch.has_held()
            && let Some(workers) = self.workers.get()
        {
            workers.hold(batch.take_held());
        }
        self.node.metrics.absorb(&mut cx.tally);
        if self.node.take_deadline_moved()
            && let Some(workers) = self.workers.get()
        {
            workers.look_at_deadlines();
        }
        result
    }

    /// Hands verdicts to those who wait for them; how many still did.
    fn answer(&self, py: Python<'_>, mut verdicts: Vec<(u64, Arc<crate::protocol::Verdict>)>) -> usize {
        verdicts.retain(|(ticket, _)| self.node.close_ticket(*ticket));
        let count = verdicts.len();
        let (about_messages, for_workers): (Vec<_>, Vec<_>) =
            verdicts.into_iter().partition(|(ticket, _)| Node::is_about_messages(*ticket));
        if let Some(workers) = self.workers.get() {
            workers.resolve(for_workers);
        }
        if !about_messages.is_empty() {
            py.detach(|| {
                self.work(|node, cx, batch| {
                    for (ticket, verdict) in &about_messages {
                        node.answer_about_messages(cx, batch, *ticket, verdict);
                    }
                });
            });
        }
        count
    }

    pub(super) fn running_workers(&self) -> PyResult<&Workers> {
        let is_running = |workers: &&Workers| !workers.are_stopped();
        let stopped = || PyRuntimeError::new_err("the engine is not started, or was stopped");
        self.workers.get().filter(is_running).ok_or_else(stopped)
    }

    fn shut(&self, listener: &ListenerState, kill_sessions: bool) {
        listener.shut();
        if let Some(workers) = self.workers.get() {
            workers.unlisten(listener.id, kill_sessions);
        }
    }

    fn find(&self, client_id: &str, mountpoint: &str) -> Option<SessionRef> {
        self.node.registry.get(&SubscriberId::new(mountpoint, client_id))
    }
}

fn value_of(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_none() {
        Ok(Value::None)
    } else if let Ok(flag) = value.cast::<PyBool>() {
        Ok(Value::Bool(flag.is_true()))
    } else if let Ok(number) = value.extract::<i64>() {
        Ok(Value::Int(number))
    } else {
        value.extract::<String>().map(Value::Text)
    }
}

/// No setting has a value of such a type, or a number so large.
fn no_value(name: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("{name}: expected a bool, a whole number of 64 bits, a string or None, got {value}"))
}

fn apply(settings: &mut Settings, changes: &Bound<'_, PyAny>) -> PyResult<()> {
    let items = changes.call_method0("items")?;
    for item in items.try_iter()? {
        let (name, value): (String, Bound<'_, PyAny>) = item?.extract()?;
        let value = value_of(&value).map_err(|_| no_value(&name, &value))?;
        settings.set(&name, &value).map_err(|error| setting_error(&error))?;
    }
    Ok(())
}

fn setting_error(error: &SettingError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Checks a filter and splits a shared one.
fn split_filter(filter: &str) -> PyResult<(Option<&str>, &str)> {
    let invalid = |error: &dyn std::fmt::Display| PyValueError::new_err(format!("topic_filter {filter:?}: {error}"));
    match parse_shared_filter(filter) {
        Ok(Some((group, topic_filter))) => Ok((Some(group), topic_filter)),
        Ok(None) => validate_topic_filter(filter).map(|()| (None, filter)).map_err(|error| invalid(&error)),
        Err(error) => Err(invalid(&error)),
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (settings=None))]
    fn new(settings: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let mut initial = Settings::default();
        if let Some(changes) = settings {
            apply(&mut initial, changes)?;
        }
        let node = Arc::new(Node::new(initial)?);
        let desk = Desk { cx: node.context(), batch: Batch::default() };
        Ok(Self {
            node,
            workers: OnceLock::new(),
            listeners: Mutex::default(),
            desk: Mutex::new(desk),
            next_listener_id: AtomicU64::new(1),
            store_directory: OnceLock::new(),
            cluster: Cluster::new()?,
        })
    }

    fn start(&self) -> PyResult<()> {
        let again = || PyRuntimeError::new_err("the engine was started before");
        if self.workers.get().is_some() {
            return Err(again());
        }
        let configured = self.node.settings.load().workers;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = Workers::start(&self.node, if configured == 0 { cores } else { configured })?;
        let (notify, node) = (workers.notifier(), Arc::downgrade(&self.node));
        store::start(&self.node, move || {
            notify();
            if let Some(node) = node.upgrade() {
                node.tell_peers_what_is_kept();
            }
        });
        self.workers.set(workers).map_err(|_| again())
    }

    #[pyo3(signature = (timeout_ms=5_000))]
    fn stop(&self, py: Python<'_>, timeout_ms: u64) {
        py.detach(|| {
            for (listener, _) in self.listeners.lock().drain(..) {
                listener.shut();
            }
            if let Some(workers) = self.workers.get() {
                workers.stop(Duration::from_millis(timeout_ms));
            }
            self.cluster.stop(Duration::from_millis(timeout_ms));
            if let Some(store) = self.node.store() {
                store.stop();
            }
        });
    }

    fn configure(&self, settings: &Bound<'_, PyAny>) -> PyResult<()> {
        let current = self.node.settings.load_full();
        let mut changed = (*current).clone();
        apply(&mut changed, settings)?;
        if changed.workers != current.workers {
            return Err(PyValueError::new_err("workers: can be given only when the engine is made"));
        }
        if let Some(store) = self.node.store() {
            if changed.store_segment_bytes != current.store_segment_bytes {
                return Err(PyValueError::new_err("store.segment_bytes: can be given only before the store is opened"));
            }
            let max_bytes = changed.store_max_bytes;
            if max_bytes != current.store_max_bytes && max_bytes > 0 && max_bytes < store.max_bytes_min() {
                let least = store.max_bytes_min() >> 20;
                return Err(PyValueError::new_err(format!(
                    "store.max_bytes: at least {least}MB while the node runs, since its files keep their size; a smaller \
                     value takes a restart"
                )));
            }
            store.reconfigure(
                changed.store_sync,
                changed.store_sync_interval,
                changed.store_max_bytes,
                changed.store_cache_bytes,
            );
        }
        self.node.settings.store(Arc::new(changed));
        Ok(())
    }

    fn settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let values = PyDict::new(py);
        for (name, value) in self.node.settings.load().values() {
            match value {
                Value::None => values.set_item(name, py.None())?,
                Value::Bool(value) => values.set_item(name, value)?,
                Value::Int(value) => values.set_item(name, value)?,
                Value::Text(value) => values.set_item(name, value)?,
            }
        }
        Ok(values)
    }

    // -- listeners ---------------------------------------------------------------------------------------------------

    #[pyo3(signature = (name, kind, address, port, **options))]
    fn open_listener(
        &self,
        py: Python<'_>,
        name: &str,
        kind: &str,
        address: &str,
        port: u16,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<ListenerInfo> {
        let wanted = Wanted::read((name, kind, address, port), options, self.node.listener_access(name), py)?;
        let mut listeners = self.listeners.lock();
        if listeners.iter().any(|(listener, _)| &*listener.options.name == name) {
            return Err(PyValueError::new_err(format!("name: there is a listener {name:?} already")));
        }
        let id = self.next_listener_id.fetch_add(1, Ordering::Relaxed);
        let (state, socket) = wanted.open(id, self.running_workers()?)?;
        let info = ListenerInfo::of(&state);
        listeners.push((state, socket));
        Ok(info)
    }

    #[pyo3(signature = (name, *, kill_sessions=false))]
    fn close_listener(&self, name: &str, kill_sessions: bool) -> bool {
        let mut listeners = self.listeners.lock();
        let Some(position) = listeners.iter().position(|(listener, _)| &*listener.options.name == name) else {
            return false;
        };
        let (state, _) = listeners.remove(position);
        self.shut(&state, kill_sessions);
        true
    }

    #[pyo3(signature = (name, *, kill_sessions=false))]
    fn suspend_listener(&self, name: &str, kill_sessions: bool) -> bool {
        let listeners = self.listeners.lock();
        let Some((state, _)) = listeners.iter().find(|(listener, _)| &*listener.options.name == name) else {
            return false;
        };
        self.shut(state, kill_sessions);
        true
    }

    fn resume_listener(&self, name: &str) -> PyResult<ListenerInfo> {
        let listeners = self.listeners.lock();
        let (state, socket) = listeners
            .iter()
            .find(|(listener, _)| &*listener.options.name == name)
            .ok_or_else(|| PyValueError::new_err(format!("name: there is no listener {name:?}")))?;
        listeners::resume(state, socket, self.running_workers()?)?;
        Ok(ListenerInfo::of(state))
    }

    fn set_listener_tls(&self, name: &str, tls: &TlsConfig) -> PyResult<bool> {
        let listeners = self.listeners.lock();
        let found = listeners.iter().find(|(listener, _)| &*listener.options.name == name);
        found.map_or(Ok(false), |(state, _)| listeners::set_tls(state, tls).map(|()| true))
    }

    fn listeners(&self) -> Vec<ListenerInfo> {
        self.listeners.lock().iter().map(|(listener, _)| ListenerInfo::of(listener)).collect()
    }

    // -- events and verdicts -------------------------------------------------------------------------------------------

    fn event_fd(&self) -> i32 {
        self.node.events.descriptor()
    }

    #[pyo3(signature = (limit=1_024))]
    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for event in self.node.events.drain(limit) {
            list.append(events::to_python(py, event)?)?;
        }
        Ok(list)
    }

    fn set_hooks(&self, hooks: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut wanted = Hooks::empty();
        for name in hooks.try_iter()? {
            let name: String = name?.extract()?;
            wanted |= Hooks::by_name(&name)
                .ok_or_else(|| PyValueError::new_err(format!("{name:?} is not the name of a hook")))?;
        }
        self.node.set_hooks(wanted);
        Ok(())
    }

    fn resolve(&self, py: Python<'_>, ticket: u64, verdict: &Verdict) -> bool {
        self.answer(py, vec![(ticket, Arc::clone(&verdict.0))]) == 1
    }

    fn resolve_all(&self, py: Python<'_>, verdicts: Vec<(u64, PyRef<'_, Verdict>)>) -> usize {
        self.answer(py, verdicts.into_iter().map(|(ticket, verdict)| (ticket, Arc::clone(&verdict.0))).collect())
    }

    #[pyo3(signature = (*, register="inherit", publish="inherit", subscribe="inherit", listener=None))]
    fn set_access(&self, register: &str, publish: &str, subscribe: &str, listener: Option<&str>) -> PyResult<()> {
        let mut deciders = [Decider::Inherit; 3];
        let words = [("register", register), ("publish", publish), ("subscribe", subscribe)];
        for (decider, (name, word)) in deciders.iter_mut().zip(words) {
            *decider = Decider::named(word).ok_or_else(|| {
                let words = Decider::WORDS.join(", ");
                PyValueError::new_err(format!("{name}: expected one of {words}, got {word:?}"))
            })?;
        }
        match listener {
            Some(name) => self.node.listener_access(name).set(deciders),
            None => self.node.access.set(deciders),
        }
        Ok(())
    }

    #[pyo3(signature = (*, access_list, passwords))]
    fn set_policy(&self, access_list: Option<&AccessList>, passwords: Option<&PasswordTable>) {
        let access_list = access_list.map(|list| list.0.clone());
        let passwords = passwords.map(|table| table.0.clone());
        self.node.policy.store(Arc::new(Policy { access_list, passwords }));
    }

    // -- sessions ------------------------------------------------------------------------------------------------------

    #[pyo3(signature = (*, after=None, limit=1_000))]
    fn sessions(&self, py: Python<'_>, after: Option<(String, String)>, limit: usize) -> Vec<SessionInfo> {
        let mode = self.node.settings.load().queue_deliver_mode;
        py.detach(|| {
            let after = after.map(|(mountpoint, client_id)| SubscriberId::new(&mountpoint, &client_id));
            let page = self.node.registry.page(after.as_ref(), limit);
            page.iter().map(|session| SessionInfo::of(session, mode)).collect()
        })
    }

    #[pyo3(signature = (client_id, mountpoint=""))]
    fn session(&self, py: Python<'_>, client_id: &str, mountpoint: &str) -> Option<SessionInfo> {
        let mode = self.node.settings.load().queue_deliver_mode;
        py.detach(|| self.find(client_id, mountpoint).map(|session| SessionInfo::of(&session, mode)))
    }

    fn session_count(&self, py: Python<'_>) -> (usize, usize) {
        py.detach(|| self.node.registry.count_online())
    }

    #[pyo3(signature = (client_id, mountpoint=""))]
    fn subscriptions(&self, py: Python<'_>, client_id: &str, mountpoint: &str) -> Vec<SubscriptionInfo> {
        py.detach(|| {
            let Some(session) = self.find(client_id, mountpoint) else { return Vec::new() };
            let taken: Vec<(Box<str>, SubscriptionOptions)> = session
                .lock()
                .session
                .subscriptions
                .iter()
                .map(|(filter, options)| (filter.clone(), *options))
                .collect();
            let mut subscriptions: Vec<SubscriptionInfo> =
                taken.into_iter().map(|(filter, options)| SubscriptionInfo::of(filter, options)).collect();
            subscriptions.sort_unstable_by(|left, right| left.topic.cmp(&right.topic));
            subscriptions
        })
    }

    #[pyo3(signature = (client_id, mountpoint="", *, reason_code=0x98, cleanup=false))]
    fn disconnect(&self, py: Python<'_>, client_id: &str, mountpoint: &str, reason_code: u8, cleanup: bool) -> bool {
        let id = SubscriberId::new(mountpoint, client_id);
        py.detach(|| self.work(|node, cx, batch| node.disconnect(cx, batch, &id, ReasonCode(reason_code), cleanup)))
    }

    #[pyo3(signature = (client_id, topic_filter, mountpoint=""))]
    fn unsubscribe_client(&self, py: Python<'_>, client_id: &str, topic_filter: &str, mountpoint: &str) -> bool {
        py.detach(|| {
            let Some(session) = self.find(client_id, mountpoint) else { return false };
            self.work(|node, cx, _| node.unsubscribe(cx, &session, topic_filter))
        })
    }

    // -- messages ------------------------------------------------------------------------------------------------------

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands the extracted list over")]
    fn publish(&self, py: Python<'_>, messages: Vec<PyRef<'_, Message>>) -> Vec<usize> {
        let now = self.node.clock.now();
        let messages: Vec<_> =
            messages.iter().map(|message| (message.mountpoint.as_str().into(), message.at(now))).collect();
        py.detach(|| self.work(|node, cx, batch| node.publish_inside(cx, batch, &messages)))
    }

    #[expect(clippy::too_many_arguments, reason = "those of a Python method")]
    #[pyo3(signature = (subscriber, topic_filter, qos=0, *, mountpoint="", no_local=false, node_local=false))]
    fn subscribe(
        &self,
        py: Python<'_>,
        subscriber: &str,
        topic_filter: &str,
        qos: u8,
        mountpoint: &str,
        no_local: bool,
        node_local: bool,
    ) -> PyResult<()> {
        if qos > 2 {
            return Err(PyValueError::new_err("qos: expected 0, 1 or 2"));
        }
        let (group, filter) = split_filter(topic_filter)?;
        py.detach(|| {
            let session = self
                .node
                .insiders
                .lock()
                .entry(subscriber.to_owned())
                .or_insert_with(|| {
                    let identity = self.node.nobody();
                    let id = SubscriberId { mountpoint: identity.mountpoint.clone(), client_id: subscriber.into() };
                    let session = Session::new(self.node.new_session_id(), identity);
                    let receiver = Receiver::Internal { name: subscriber.into(), is_node_local: node_local };
                    SessionRef::new(session, id, receiver, None)
                })
                .clone();
            if session.is_announced() == node_local {
                let is_now = if node_local { "announced to other nodes" } else { "node-local" };
                return Err(PyValueError::new_err(format!("node_local: {subscriber:?} is {is_now} already")));
            }
            let options = SubscriptionOptions { qos, no_local, ..SubscriptionOptions::default() };
            let key = format!("{mountpoint}\0{topic_filter}").into_boxed_str();
            session.lock().session.subscriptions.insert(key, options);
            self.node.subscribe(&mountpoint.into(), filter, group, session, options);
            Ok(())
        })
    }

    #[pyo3(signature = (subscriber, topic_filter, *, mountpoint=""))]
    fn unsubscribe(&self, py: Python<'_>, subscriber: &str, topic_filter: &str, mountpoint: &str) -> PyResult<bool> {
        let (group, filter) = split_filter(topic_filter)?;
        Ok(py.detach(|| self.unsubscribe_inside(subscriber, topic_filter, mountpoint, group, filter)))
    }

    // -- retained messages ---------------------------------------------------------------------------------------------

    #[pyo3(signature = (topic_filter="#", *, mountpoint="", limit=1_000))]
    fn retained(
        &self,
        py: Python<'_>,
        topic_filter: &str,
        mountpoint: &str,
        limit: usize,
    ) -> PyResult<Vec<RetainedMessage>> {
        validate_topic_filter(topic_filter)
            .map_err(|error| PyValueError::new_err(format!("topic_filter {topic_filter:?}: {error}")))?;
        let now = self.node.clock.now();
        let found = py.detach(|| self.node.retained_messages(mountpoint, topic_filter, now, limit));
        found.iter().map(|message| RetainedMessage::of(py, &self.node, mountpoint, message)).collect()
    }

    #[pyo3(signature = (topic, *, mountpoint=""))]
    fn delete_retained(&self, py: Python<'_>, topic: &str, mountpoint: &str) -> bool {
        py.detach(|| self.node.delete_retained(mountpoint, topic))
    }

    fn delete_expired_retained(&self, py: Python<'_>) -> usize {
        let now = self.node.clock.now();
        py.detach(|| self.node.sweep_retained(now))
    }

    // -- metrics -------------------------------------------------------------------------------------------------------

    fn metrics(&self, py: Python<'_>) -> Vec<Metric> {
        py.detach(|| self.all_metrics())
    }

    fn reset_metrics(&self) {
        self.node.metrics.reset();
    }
}

impl Engine {
    fn unsubscribe_inside(
        &self,
        subscriber: &str,
        topic_filter: &str,
        mountpoint: &str,
        group: Option<&str>,
        filter: &str,
    ) -> bool {
        let mut insiders = self.node.insiders.lock();
        let Some(session) = insiders.get(subscriber).cloned() else { return false };
        let key = format!("{mountpoint}\0{topic_filter}").into_boxed_str();
        let is_last = {
            let mut state = session.lock();
            state.session.subscriptions.remove(&key);
            state.session.subscriptions.is_empty()
        };
        if is_last {
            insiders.remove(subscriber);
        }
        self.node.unsubscribe_all(&mountpoint.into(), [(filter, group)], &session) > 0
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.cluster.stop(Duration::from_secs(1));
        if let Some(workers) = self.workers.get() {
            workers.stop(Duration::from_secs(1));
        }
        if let Some(store) = self.node.store() {
            store.stop();
        }
    }
}
