//! CPU time and memory of the broker's processes, as the kernel tells them under `/proc`.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::clock::{Nanos, SECOND};

/// What a process and its descendants have used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all threads, in steps of the kernel's clock tick (10 ms), ended children included.
    pub cpu: Nanos,
    /// Resident memory in bytes; shared pages count once for each process.
    pub resident: u64,
}

/// Processes that are looked at, at most.
const PROCESSES_MAX: usize = 100_000;
/// Clock ticks of a second. User space sees 100 on every Linux (`USER_HZ`).
const TICKS: u64 = 100;

struct Stat {
    parent: u32,
    ticks: u64,
    resident_pages: u64,
}

/// Reads `/proc/PID/stat` (proc(5)). The name in it may hold anything, also parentheses: fields count from the last one.
fn parse(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        ticks: (14..=17).map(field).sum::<Option<u64>>()?,
        resident_pages: field(24)?,
    })
}

fn process(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether there is a process whose usage can be read.
pub fn exists(pid: u32) -> bool {
    process(pid).is_some()
}

/// What `pid` and its descendants have used; `None` when it is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let all: HashMap<u32, Stat> = fs::read_dir("/proc")
        .ok()?
        .take(PROCESSES_MAX)
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, process(pid)?)))
        .collect();
    all.get(&pid)?;
    let mut family = HashSet::from([pid]);
    loop {
        let children: Vec<u32> = all
            .iter()
            .filter(|(child, stat)| family.contains(&stat.parent) && !family.contains(*child))
            .map(|(child, _)| *child)
            .collect();
        if children.is_empty() {
            break;
        }
        family.extend(children);
    }
    let mut usage = Usage::default();
    for stat in family.iter().filter_map(|pid| all.get(pid)) {
        usage.cpu += stat.ticks * (SECOND / TICKS);
        usage.resident += stat.resident_pages * page_size();
    }
    Some(usage)
}

fn page_size() -> u64 {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4_096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.resident > 100_000 && usage.resident < 1 << 40, "{usage:?}");
        assert!(exists(std::process::id()));
        assert_eq!(super::usage(u32::MAX), None);
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_shifts_nothing() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194560 5 6 0 0 10 20 30 40 20 0 4 0 99 1000 55 18446744073709551615 1 1";
        let stat = parse(line).unwrap();
        assert_eq!((stat.parent, stat.ticks, stat.resident_pages), (3, 100, 55));
        assert!(parse("7 (x) S").is_none());
    }
}
