//! A disk in memory that can lose power, fill up and fail.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::disk::{Disk, File};

const SECTOR: usize = 512;

/// What a file holds: now, and after a loss of power.
#[derive(Clone)]
struct Content {
    now: Vec<u8>,
    /// Sectors that differ from what is safe, and what is safe of them.
    unsafe_sectors: BTreeMap<usize, Vec<u8>>,
    /// Sectors that a failed sync made the system forget: they are as unsafe as ever, and no sync writes them.
    forgotten: BTreeMap<usize, Vec<u8>>,
}

/// A file of a [`SimulatedDisk`].
struct SimulatedFile {
    content: Mutex<Content>,
    faults: Arc<Faults>,
}

/// What goes wrong next.
#[derive(Default)]
struct Faults {
    write_errors: AtomicU64,
    sync_errors: AtomicU64,
    create_errors: AtomicU64,
    rename_errors: AtomicU64,
    syncs: AtomicU64,
}

#[derive(Clone)]
enum Change {
    Created(String),
    Removed(String, Arc<SimulatedFile>),
    Renamed(String, String, Option<Arc<SimulatedFile>>),
}

#[derive(Default)]
struct Directory {
    files: BTreeMap<String, Arc<SimulatedFile>>,
    /// Changes since the last sync of the directory. A loss of power keeps the first so many of them.
    changes: Vec<Change>,
}

/// A disk in memory.
#[derive(Default)]
pub struct SimulatedDisk {
    directory: Mutex<Directory>,
    faults: Arc<Faults>,
    /// Bytes that it has room for, 0 for no limit.
    capacity: AtomicU64,
}

/// A source of numbers that look random.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below a limit, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.draw() % limit as u64) as usize
    }
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The disk after the end of the process: all that was written is there, and as little of it is synced as before.
    pub fn kill(&self) -> Arc<Self> {
        self.copy(|file| file.content.lock().clone())
    }

    /// The disk after a loss of power: of what was not synced, each sector is there or not.
    pub fn crash(&self, random: &mut Random) -> Arc<Self> {
        let (kept, lost) = {
            let directory = self.directory.lock();
            let kept = random.below(directory.changes.len() + 1);
            (directory.files.clone(), directory.changes[kept..].to_vec())
        };
        let mut files = kept;
        for change in lost.into_iter().rev() {
            match change {
                Change::Created(name) => _ = files.remove(&name),
                Change::Removed(name, file) => _ = files.insert(name, file),
                Change::Renamed(from, to, replaced) => {
                    let moved = files.remove(&to);
                    files.extend(moved.map(|file| (from, file)));
                    files.extend(replaced.map(|file| (to, file)));
                }
            }
        }
        let old = Self { directory: Mutex::new(Directory { files, changes: Vec::new() }), ..Self::default() };
        old.copy(|file| {
            let content = file.content.lock();
            let mut bytes = content.now.clone();
            for (&sector, safe) in content.unsafe_sectors.iter().chain(&content.forgotten) {
                if random.below(2) == 0 {
                    let start = sector * SECTOR;
                    bytes[start..start + safe.len()].copy_from_slice(safe);
                }
            }
            Content::new(bytes)
        })
    }

    fn copy(&self, mut content: impl FnMut(&SimulatedFile) -> Content) -> Arc<Self> {
        let faults = Arc::new(Faults::default());
        let files = &self.directory.lock().files;
        let files = files
            .iter()
            .map(|(name, file)| (name.clone(), Arc::new(SimulatedFile::new(content(file), faults.clone()))))
            .collect();
        Arc::new(Self {
            directory: Mutex::new(Directory { files, changes: Vec::new() }),
            faults,
            capacity: AtomicU64::new(self.capacity.load(Ordering::Relaxed)),
        })
    }

    /// Lets the next writes fail.
    pub fn fail_writes(&self, count: u64) {
        self.faults.write_errors.store(count, Ordering::Relaxed);
    }

    /// Lets the next syncs fail.
    pub fn fail_syncs(&self, count: u64) {
        self.faults.sync_errors.store(count, Ordering::Relaxed);
    }

    /// Lets the next creations of files fail for lack of room.
    pub fn fail_creations(&self, count: u64) {
        self.faults.create_errors.store(count, Ordering::Relaxed);
    }

    /// Lets the next renames fail.
    pub fn fail_renames(&self, count: u64) {
        self.faults.rename_errors.store(count, Ordering::Relaxed);
    }

    /// Limits what all files together may take.
    pub fn set_capacity(&self, bytes: u64) {
        self.capacity.store(bytes, Ordering::Relaxed);
    }

    /// How often a file was synced.
    pub fn syncs(&self) -> u64 {
        self.faults.syncs.load(Ordering::Relaxed)
    }

    /// Bytes of a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.directory.lock().files[name].content.lock().now.clone()
    }

    /// Puts bytes into the place of a file, safely.
    pub fn set_bytes(&self, name: &str, bytes: Vec<u8>) {
        let file = Arc::new(SimulatedFile::new(Content::new(bytes), self.faults.clone()));
        self.directory.lock().files.insert(name.into(), file);
    }

    fn find(&self, name: &str) -> io::Result<Arc<SimulatedFile>> {
        self.directory.lock().files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Whether one of the failures that were ordered is due.
fn is_due(count: &AtomicU64) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.directory.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn File>> {
        let mut directory = self.directory.lock();
        let used: usize = directory.files.values().map(|file| file.content.lock().now.len()).sum();
        let capacity = self.capacity.load(Ordering::Relaxed);
        if is_due(&self.faults.create_errors) || (capacity > 0 && used as u64 + size > capacity) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        if directory.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(SimulatedFile::new(Content::new(vec![0; size as usize]), self.faults.clone()));
        directory.files.insert(name.into(), file.clone());
        directory.changes.push(Change::Created(name.into()));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.find(name)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut directory = self.directory.lock();
        let file = directory.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        directory.changes.push(Change::Removed(name.into(), file));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if is_due(&self.faults.rename_errors) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut directory = self.directory.lock();
        let file = directory.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = directory.files.insert(to.into(), file);
        directory.changes.push(Change::Renamed(from.into(), to.into(), replaced));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.lock().changes.clear();
        Ok(())
    }
}

impl Content {
    /// Bytes that are safe.
    fn new(now: Vec<u8>) -> Self {
        Self { now, unsafe_sectors: BTreeMap::new(), forgotten: BTreeMap::new() }
    }
}

impl SimulatedFile {
    fn new(content: Content, faults: Arc<Faults>) -> Self {
        Self { content: Mutex::new(content), faults }
    }
}

impl File for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if is_due(&self.faults.write_errors) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut content = self.content.lock();
        let Content { now, unsafe_sectors, forgotten } = &mut *content;
        let start = offset as usize;
        let end = start + bytes.len();
        if end > now.len() {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            let safe = forgotten.remove(&sector);
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(now.len());
            unsafe_sectors.entry(sector).or_insert_with(|| safe.unwrap_or_else(|| now[from..to].to_vec()));
        }
        now[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.content.lock();
        let start = offset as usize;
        let bytes = content.now.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.syncs.fetch_add(1, Ordering::Relaxed);
        let mut content = self.content.lock();
        if is_due(&self.faults.sync_errors) {
            let sectors = std::mem::take(&mut content.unsafe_sectors);
            content.forgotten.extend(sectors);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        content.unsafe_sectors.clear();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content.lock().now.len() as u64)
    }
}
