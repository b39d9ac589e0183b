//! Clocks, memory and disk space of this process.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::store::Result;

/// Time on the clock and on the processors since some moment.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
    cpu: Duration,
}

/// What lies between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Time on the clock.
    pub wall: Duration,
    /// Processor time of all threads, the kernel's work for them included.
    pub cpu: Duration,
}

impl Spent {
    /// Adds another span.
    pub fn add(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self { started: Instant::now(), cpu: cpu_time() }
    }

    /// Reads.
    pub fn read(&self) -> Spent {
        Spent { wall: self.started.elapsed(), cpu: cpu_time().saturating_sub(self.cpu) }
    }
}

/// Processor time of this process.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of our own.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the kernel has no clock for processes");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Resident memory in bytes: all of it, and the part that is not pages of files.
pub fn resident() -> Result<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in status")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    };
    Ok((field("VmRSS:")?, field("RssAnon:")?))
}

/// Bytes that the files of a directory take on disk. Holes do not count, preallocated blocks do.
pub fn on_disk(directory: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { on_disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Lets the kernel end this process if it is still there after so many seconds.
pub fn end_within(seconds: u32) {
    // SAFETY: `alarm` has no preconditions, and nothing here handles its signal.
    unsafe { libc::alarm(seconds) };
}

/// Ends this process at once: nothing is closed, flushed or freed, as with a SIGKILL.
pub fn vanish() -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(0) }
}
