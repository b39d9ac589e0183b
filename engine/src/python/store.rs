//! The store as Python sees it: opened, asked, backed up, checked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::broker::Node;
use crate::broker::events::{Event as NodeEvent, Level};
use crate::settings::Settings;
use crate::store::{Event, Figures, Options, Owner, RealDisk, Recovered, Refusal, Store, check};

use super::engine::Engine;
use super::events::records;
use super::records::Metric;

create_exception!(strogoff._engine, StoreError, PyException, "The store cannot be opened, read or written.");

/// Smallest size of a file, as in the settings.
const SEGMENT_BYTES_MIN: u64 = 65_536;

/// How long a write of Python waits for the disk before it gives up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

records! {
    /// What opening a store found.
    StoreSummary {
        sessions: usize,
        messages: usize,
        retained: usize,
        metadata_keys: usize,
        bytes: u64,
        duration_ms: u64,
        cut: Option<String>,
        missing: u64,
    }
    /// One place of a store that cannot be read.
    StoreDamage {
        file: String,
        offset: u64,
        what: String,
    }
    /// What is in a store.
    StoreReport {
        is_sound: bool,
        format_version: u32,
        bytes: u64,
        live_bytes: u64,
        segments: usize,
        records: u64,
        sessions: usize,
        messages: usize,
        retained: usize,
        metadata_keys: usize,
        damages: Vec<Py<StoreDamage>>,
        cut: Option<String>,
        missing: u64,
    }
}

pub(super) fn store_error(error: impl std::fmt::Display) -> PyErr {
    StoreError::new_err(error.to_string())
}

/// Options of the store, from the settings; `wall_base_ms`: Unix time at which the engine's clock is 0.
pub(super) fn options(settings: &Settings, wall_base_ms: u64) -> Options {
    Options {
        segment_bytes: settings.store_segment_bytes,
        max_bytes: settings.store_max_bytes,
        sync: settings.store_sync,
        sync_interval_ms: settings.store_sync_interval,
        cache_bytes: settings.store_cache_bytes,
        wall_base_ms,
    }
}

/// Opens the store in a directory, which is made if need be.
pub(super) fn open(directory: &Path, options: Options) -> PyResult<(Arc<Store>, Recovered, StoreSummary)> {
    let disk = RealDisk::new(directory).map_err(|error| store_error(format!("{}: {error}", directory.display())))?;
    let (store, recovered) = Store::open(Arc::new(disk), options).map_err(store_error)?;
    let summary = StoreSummary {
        sessions: recovered.sessions.len(),
        messages: recovered.report.messages,
        retained: recovered.retained.values().map(crate::routing::RetainedTrie::len).sum(),
        metadata_keys: recovered.report.metadata_keys,
        bytes: store.figures().bytes,
        duration_ms: recovered.report.took.as_millis() as u64,
        cut: recovered.report.cut.clone(),
        missing: recovered.report.missing,
    };
    Ok((store, recovered, summary))
}

/// Lets the store look after itself. `kept`: tells those who wait that more is kept.
pub(super) fn start(node: &Arc<Node>, kept: impl Fn() + Send + Sync + 'static) {
    let Some(store) = node.store() else { return };
    let owner: Weak<dyn Owner> = Arc::<Node>::downgrade(node);
    let teller = Arc::downgrade(node);
    let on_event = move |event: Event| {
        let (level, message) = match event {
            Event::Kept => return kept(),
            Event::Refusing(reason, detail) => {
                let what = match reason {
                    Refusal::Full => "the disk of the store is full",
                    Refusal::Quota => "the store has reached store.max_bytes",
                    Refusal::Failing => "the disk of the store fails",
                };
                let told = "messages that would have to be kept are refused until that changes";
                (Level::Error, format!("{what}: {detail}; {told}"))
            }
            Event::Accepting => (Level::Warning, "the store takes messages again".to_owned()),
            Event::Failure(detail) => (Level::Error, detail),
            Event::Notice(detail) => (Level::Info, detail),
        };
        if let Some(node) = teller.upgrade() {
            node.tell_operator(NodeEvent::Log { level, message, fields: Vec::new() });
        }
    };
    store.start(owner, Box::new(on_event));
}

type Row = (&'static str, usize, &'static str);

/// What the store counts.
pub(super) fn counters(figures: &Figures) -> Vec<Row> {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    vec![
        ("msg_store_write", number(figures.writes), "Writes to the store's files."),
        ("msg_store_write_bytes", number(figures.written_bytes), "Bytes written to the store's files."),
        ("msg_store_read", number(figures.reads), "Messages read from the store's files."),
        ("msg_store_read_cached", number(figures.cache_hits), "Messages of the store that were still in memory."),
        ("store_syncs", number(figures.syncs), "Times the disk was asked to keep what was written."),
        ("store_sync_microseconds", number(figures.sync_us), "Time that this took, in microseconds."),
        ("store_sync_failures", number(figures.sync_failures), "Times the disk failed to do so."),
        ("store_write_failures", number(figures.write_failures), "Writes to the store's files that failed."),
        (
            "store_cleaned_segments",
            number(figures.cleaned_segments),
            "Files of the store that were cleaned and deleted.",
        ),
        ("store_cleaned_bytes", number(figures.cleaned_bytes), "Bytes that cleaning wrote anew."),
    ]
}

/// What the store is like now.
pub(super) fn gauges(figures: &Figures, store: &Store) -> Vec<Row> {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    vec![
        ("store_bytes", number(figures.bytes), "Bytes of the store's files."),
        ("store_live_bytes", number(figures.live_bytes), "Bytes of messages and metadata in them that are needed."),
        ("store_segments", figures.segments, "Files of the store."),
        ("store_messages", figures.messages, "Messages in the store; one that waits in many queues counts once."),
        ("store_references", number(figures.entries), "Places in queues and retained messages that refer to them."),
        (
            "store_cached_bytes",
            figures.cached_bytes,
            "Memory of messages of the store that were queued lately, in bytes.",
        ),
        ("store_unsynced_ms", number(figures.unsynced_age_ms), "Age of the oldest bytes that are not synced, in ms."),
        ("store_sync_microseconds_max", number(figures.sync_us_max), "The longest sync, in microseconds."),
        ("store_buffered_bytes", number(figures.buffered_bytes), "Bytes that wait in memory to be written."),
        ("store_refusing", usize::from(store.refusal().is_some()), "1 while publishes that must be kept are refused."),
    ]
}

/// Operations that failed, by kind.
pub(super) fn operation_errors(figures: &Figures) -> Vec<Metric> {
    let rows = [("read", figures.read_errors), ("write", figures.write_failures), ("sync", figures.sync_failures)];
    let metric = |(operation, value): (&str, u64)| Metric {
        name: "msg_store_ops_error".to_owned(),
        kind: "counter".to_owned(),
        labels: HashMap::from([("operation".to_owned(), operation.to_owned())]),
        value,
        description: "Operations of the store that failed.".to_owned(),
    };
    rows.into_iter().map(metric).collect()
}

pub(super) fn scan(
    store: &Store,
    py: Python<'_>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> PyResult<Vec<(Py<PyBytes>, Py<PyBytes>)>> {
    let found = py.detach(|| store.scan_metadata(prefix, after, limit)).map_err(store_error)?;
    let bytes = |part: Vec<u8>| PyBytes::new(py, &part).unbind();
    Ok(found.into_iter().map(|(key, value)| (bytes(key), bytes(value))).collect())
}

pub(super) fn write(store: &Store, py: Python<'_>, changes: &[(Vec<u8>, Option<Vec<u8>>)], wait: bool) -> PyResult<()> {
    let changes: Vec<(&[u8], Option<&[u8]>)> =
        changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    let is_kept = py.detach(|| {
        let lsn = store.write_metadata(&changes)?;
        Ok(!wait || store.wait_kept(lsn, WRITE_TIMEOUT))
    });
    match is_kept {
        Ok(true) => Ok(()),
        Ok(false) => Err(store_error("the disk did not take what was written in time; the log of the broker says why")),
        Err(refusal) => Err(store_error(match refusal {
            Refusal::Full => "the disk of the store is full: free some space",
            Refusal::Quota => "the store has reached store.max_bytes: raise it, or drain queues",
            Refusal::Failing => "the disk of the store fails: the log of the broker says how",
        })),
    }
}

pub(super) fn begin_backup(store: &Store, py: Python<'_>, directory: &Path) -> PyResult<Vec<String>> {
    let names = py.detach(|| store.begin_backup()).map_err(store_error)?;
    Ok(names.into_iter().map(|name| directory.join(name).to_string_lossy().into_owned()).collect())
}

fn no_store(directory: &Path) -> PyErr {
    store_error(format!("{}: there is no store in this directory", directory.display()))
}

/// The size that segments have: that of the smallest, since one made for a large message is larger.
fn usual_size(directory: &Path) -> Option<u64> {
    let is_segment = |entry: &std::fs::DirEntry| Path::new(&entry.file_name()).extension() == Some("log".as_ref());
    let segments = directory.read_dir().ok()?.filter_map(Result::ok).filter(is_segment);
    segments.filter_map(|entry| Some(entry.metadata().ok()?.len())).min()
}

/// Reads a whole store that nobody has open.
#[pyfunction]
#[pyo3(signature = (directory, *, repair=false))]
pub fn check_store(py: Python<'_>, directory: &str, repair: bool) -> PyResult<StoreReport> {
    let directory = Path::new(directory);
    if !directory.is_dir() {
        return Err(no_store(directory));
    }
    let report = py.detach(|| {
        let disk = RealDisk::new(directory).map_err(|error| error.to_string())?;
        check(&(Arc::new(disk) as Arc<dyn crate::store::Disk>), repair).map_err(|error| error.to_string())
    });
    let report = report.map_err(store_error)?;
    if report.segments == 0 && report.damages.is_empty() {
        return Err(no_store(directory));
    }
    let damages = report
        .damages
        .into_iter()
        .map(|damage| Py::new(py, StoreDamage { file: damage.file, offset: damage.offset, what: damage.what }));
    let damages = damages.collect::<PyResult<Vec<_>>>()?;
    Ok(StoreReport {
        is_sound: damages.is_empty(),
        format_version: crate::store::VERSION,
        bytes: report.file_bytes,
        live_bytes: report.live_bytes,
        segments: report.segments,
        records: report.records,
        sessions: report.sessions,
        messages: report.messages,
        retained: report.retained,
        metadata_keys: report.metadata_keys,
        damages,
        cut: report.cut,
        missing: report.missing,
    })
}

/// Cleans a store that nobody has open; bytes of its files before and after.
#[pyfunction]
pub fn compact_store(py: Python<'_>, directory: &str) -> PyResult<(u64, u64)> {
    let path = Path::new(directory);
    if !path.is_dir() {
        return Err(no_store(path));
    }
    py.detach(|| {
        // A node that serves nobody owns the sessions while they are written anew.
        let node = Arc::new(Node::new(Settings::default())?);
        let mut options = options(&Settings::default(), node.clock.wall_ms(0));
        options.segment_bytes = usual_size(path).map_or(options.segment_bytes, |size| size.max(SEGMENT_BYTES_MIN));
        let (store, recovered, _) = open(path, options)?;
        node.use_store(Arc::clone(&store));
        let mut cx = node.context();
        node.restore(&mut cx, recovered);
        start(&node, || {});
        let outcome = store.compact();
        store.stop();
        outcome.map_err(store_error)
    })
}

#[pymethods]
impl Engine {
    fn open_store(&self, py: Python<'_>, directory: PathBuf) -> PyResult<StoreSummary> {
        if self.workers.get().is_some() || self.node.store().is_some() {
            return Err(PyRuntimeError::new_err("a store is opened once, before the engine starts"));
        }
        py.detach(|| {
            let options = options(&self.node.settings.load(), self.node.clock.wall_ms(0));
            let (opened, recovered, summary) = open(&directory, options)?;
            self.node.use_store(opened);
            self.work(|node, cx, _| node.restore(cx, recovered));
            // It is set once, as the store is.
            let _ = self.store_directory.set(directory);
            Ok(summary)
        })
    }

    fn store_get(&self, py: Python<'_>, key: &[u8]) -> PyResult<Option<Py<PyBytes>>> {
        let store = self.store()?;
        let value = py.detach(|| store.get_metadata(key)).map_err(store_error)?;
        Ok(value.map(|value| PyBytes::new(py, &value).unbind()))
    }

    #[pyo3(signature = (prefix, *, after=None, limit=1_000))]
    fn store_scan(
        &self,
        py: Python<'_>,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> PyResult<Vec<(Py<PyBytes>, Py<PyBytes>)>> {
        scan(self.store()?, py, prefix, after, limit)
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands the extracted list over")]
    #[pyo3(signature = (changes, *, wait=false))]
    fn store_write(&self, py: Python<'_>, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>, wait: bool) -> PyResult<()> {
        write(self.store()?, py, &changes, wait)
    }

    fn store_begin_backup(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let directory = self.store_directory.get().ok_or_else(|| store_error("no store is open"))?;
        begin_backup(self.store()?, py, directory)
    }

    fn store_end_backup(&self) {
        if let Some(store) = self.node.store() {
            store.end_backup();
        }
    }

    fn store_compact(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let store = self.store()?;
        py.detach(|| store.compact()).map_err(store_error)
    }
}
