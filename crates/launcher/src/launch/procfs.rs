//! The process table: who a process is, who descends from it, and signals that reach nobody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::directory::Directory;

/// One line of the process table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) start_ticks: u64,
    threads: u64,
    cpu_ticks: u64,
    resident_pages: u64,
}

impl Entry {
    /// Whether something of it runs. A process whose first thread has ended looks like a dead one as long as others go on.
    pub(crate) const fn is_alive(&self) -> bool {
        self.state != 'Z' || self.threads > 1
    }
}

/// What some processes use together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) processes: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) cpu: Duration,
}

/// The id of this boot of the machine.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// One process, if it is there.
pub(crate) fn entry(pid: i32) -> Option<Entry> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may contain anything.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = String::from_utf8_lossy(stat.get(after + 2..)?).into_owned();
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Entry {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        // utime, stime, and those of its reaped children.
        cpu_ticks: (11..15).filter_map(number).sum(),
        threads: number(17)?,
        start_ticks: number(19)?,
        resident_pages: number(21)?,
    })
}

/// Every process that is there.
pub(crate) fn table() -> BTreeMap<i32, Entry> {
    let Ok(directory) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    let pids = directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, entry(pid)?))).collect()
}

/// The descendants of a process, itself excluded.
pub(crate) fn descendants(table: &BTreeMap<i32, Entry>, root: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        let children = table.iter().filter(|(_, entry)| entry.parent == parent);
        open.extend(children.map(|(pid, _)| *pid).filter(|pid| found.insert(*pid)));
    }
    found
}

/// Which of these processes are the shims of other launches or belong to one: they end by
/// themselves. The kernel says who holds the lock of the launch directory that a shim names.
pub(crate) fn nested(table: &BTreeMap<i32, Entry>, pids: &[i32]) -> BTreeSet<i32> {
    let shims: Vec<i32> = pids.iter().copied().filter(|pid| is_shim(*pid)).collect();
    let mut found: BTreeSet<i32> = shims.iter().flat_map(|pid| descendants(table, *pid)).collect();
    found.extend(shims);
    found
}

fn is_shim(pid: i32) -> bool {
    let directory = named_directory(pid).and_then(|path| Directory::open(&path).ok().flatten());
    directory.is_some_and(|directory| directory.is_locked_by_our(pid))
}

/// The launch directory that a process names if it looks like a shim. Any process can look so.
pub(crate) fn named_directory(pid: i32) -> Option<PathBuf> {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let (program, directory) = (arguments.next()?, arguments.next()?);
    let is_shim = program.rsplit('/').next().is_some_and(|name| name.starts_with("shim-"));
    (is_shim && directory.starts_with('/')).then(|| PathBuf::from(directory.as_ref()))
}

/// What these processes use. Pages that they share are counted for each.
pub(crate) fn usage(table: &BTreeMap<i32, Entry>, pids: &BTreeSet<i32>) -> Usage {
    let page = rustix::param::page_size() as u64;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let alive = pids.iter().filter_map(|pid| table.get(pid)).filter(|entry| entry.is_alive());
    alive.fold(Usage::default(), |sum, entry| Usage {
        processes: sum.processes + 1,
        memory_bytes: sum.memory_bytes + entry.resident_pages * page,
        cpu: sum.cpu + Duration::from_millis(entry.cpu_ticks * 1000 / ticks),
    })
}

/// Signals a process if it is still the one that was started at that tick. `false`: it is not, or
/// the kernel has no pidfd, without which nothing is signalled.
pub(crate) fn signal(pid: i32, start_ticks: u64, signal: Signal) -> bool {
    let Some(raw) = Pid::from_raw(pid) else {
        return false;
    };
    let Ok(pidfd) = pidfd_open(raw, PidfdFlags::empty()) else {
        return false;
    };
    // The descriptor pins the process; only then its start is compared.
    let is_same = entry(pid).is_some_and(|entry| entry.start_ticks == start_ticks);
    is_same && pidfd_send_signal(&pidfd, signal).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_read_as_it_is() {
        let own = i32::try_from(std::process::id()).unwrap();
        let entry = entry(own).unwrap();
        assert!(entry.resident_pages > 0 && entry.start_ticks > 0 && entry.parent > 0);
        let table = table();
        assert!(descendants(&table, entry.parent).contains(&own));
        assert_eq!(usage(&table, &[own].into()).processes, 1);
    }

    #[test]
    fn number_that_another_process_has_now_is_not_signalled() {
        let own = i32::try_from(std::process::id()).unwrap();
        let start = entry(own).unwrap().start_ticks;
        // The signal that does nothing to a process that is there.
        assert!(signal(own, start, Signal::CONT));
        // The one that would end this test if it were sent.
        assert!(!signal(own, start + 1, Signal::KILL));
    }
}
