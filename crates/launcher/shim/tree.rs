//! Who descends from this process, who of them is a launch of its own, and signals to the rest.
//!
//! Orphans become children of the shim, so every descendant is reachable by its parents. A signal
//! goes through a pidfd whose process was proven to be the one that was listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::ffi::OsStrExt as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    sync::OnceLock,
};

use crate::sys::{self, Pid, PidFd};

/// Device and inode of the lock that this process holds.
static OWN_LOCK: OnceLock<(u64, u64)> = OnceLock::new();

/// A process that cannot be mistaken: its number and when it was started.
pub(crate) type Identity = (Pid, u64);

/// One line of the process table.
struct Entry {
    parent: Pid,
    start_ticks: u64,
    group: Pid,
    is_dead: bool,
}

/// The living descendants and cgroup members that are ours to end.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) ours: BTreeMap<Pid, (u64, Pid)>,
    /// Whether nested launches live among them; these and what belongs to them are left alone.
    pub(crate) has_nested: bool,
}

/// Remembers which lock is ours, so that looking for other launches never opens it.
pub(crate) fn remember_own_lock(lock: &File) -> io::Result<()> {
    let data = lock.metadata()?;
    OWN_LOCK.get_or_init(|| (data.dev(), data.ino()));
    Ok(())
}

/// The clock tick at which a process was started.
pub(crate) fn start_ticks(pid: Pid) -> Option<u64> {
    entry(pid).map(|entry| entry.start_ticks)
}

impl Tree {
    /// Looks at the process table now.
    pub(crate) fn look(cgroup: &[u8]) -> Self {
        let table = table();
        let shim = std::process::id() as Pid;
        let mut members = descendants(&table, &[shim]);
        members.extend(cgroup_members(cgroup).iter().filter(|pid| table.contains_key(pid)));
        members.remove(&shim);
        let nested: Vec<Pid> = members.iter().copied().filter(|pid| is_nested_shim(*pid)).collect();
        let mut spared = descendants(&table, &nested);
        spared.extend(&nested);
        let ours = members
            .difference(&spared)
            .filter_map(|pid| {
                let entry = table.get(pid).filter(|entry| !entry.is_dead)?;
                Some((*pid, (entry.start_ticks, entry.group)))
            })
            .collect();
        Self { ours, has_nested: !nested.is_empty() }
    }

    /// Who they are.
    pub(crate) fn identities(&self) -> impl Iterator<Item = Identity> {
        self.ours.iter().map(|(pid, (start, _))| (*pid, *start))
    }

    /// Signals each of them that is still the process that was listed.
    pub(crate) fn signal(&self, signal: i32) {
        for identity in self.identities() {
            signal_process(identity, signal);
        }
    }

    /// Signals those who left the process group of the command.
    pub(crate) fn signal_outside(&self, group: Pid, signal: i32) {
        for (pid, (start, own_group)) in &self.ours {
            if *own_group != group {
                signal_process((*pid, *start), signal);
            }
        }
    }
}

fn signal_process((pid, start): Identity, signal: i32) {
    let pidfd = PidFd::open(pid);
    if start_ticks(pid) != Some(start) {
        return;
    }
    match pidfd {
        Some(pidfd) => drop(pidfd.signal(signal)),
        None => drop(sys::signal_process(pid, signal)),
    }
}

fn table() -> BTreeMap<Pid, Entry> {
    let Ok(directory) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    let names = directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.filter_map(|pid| Some((pid, entry(pid)?))).collect()
}

fn entry(pid: Pid) -> Option<Entry> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may contain anything.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = String::from_utf8_lossy(stat.get(after + 2..)?).into_owned();
    let fields: Vec<&str> = fields.split(' ').collect();
    let threads: u64 = fields.get(17)?.parse().ok()?;
    Some(Entry {
        // A process whose first thread has ended looks like a dead one as long as others go on.
        is_dead: matches!(*fields.first()?, "Z" | "X") && threads < 2,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn descendants(table: &BTreeMap<Pid, Entry>, roots: &[Pid]) -> BTreeSet<Pid> {
    let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
    for (pid, entry) in table {
        children.entry(entry.parent).or_default().push(*pid);
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<Pid> = roots.to_vec();
    while let Some(pid) = open.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
    found
}

/// Whether nobody is in a cgroup; true without one.
pub(crate) fn is_empty(cgroup: &[u8]) -> bool {
    cgroup_members(cgroup).is_empty()
}

fn cgroup_members(cgroup: &[u8]) -> Vec<Pid> {
    if cgroup.is_empty() {
        return Vec::new();
    }
    let procs = Path::new(std::ffi::OsStr::from_bytes(cgroup)).join("cgroup.procs");
    let list = fs::read_to_string(procs).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether a process is the shim of another launch: it looks like one, it is of our user, and the
/// kernel says that it holds the lock of the launch directory that it names.
fn is_nested_shim(pid: Pid) -> bool {
    let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let mut arguments = arguments.split(|byte| *byte == 0);
    let (Some(program), Some(directory)) = (arguments.next(), arguments.next()) else {
        return false;
    };
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let directory = Path::new(std::ffi::OsStr::from_bytes(directory));
    if !name.starts_with(b"shim-") || !directory.is_absolute() {
        return false;
    }
    open_foreign_lock(&directory.join("lock"))
        .is_some_and(|lock| sys::lock_holder(lock.as_raw_fd()) == Some(pid))
}

/// Opens the lock file of another launch of our user. The name is the other process's word, so it
/// may lead to a fifo, where opening waits, or to our own lock, where closing would release it:
/// the file is looked at through a descriptor that does neither before it is opened.
fn open_foreign_lock(path: &Path) -> Option<File> {
    let place = OpenOptions::new().read(true).custom_flags(sys::O_PATH).open(path).ok()?;
    let data = place.metadata().ok()?;
    let is_own = OWN_LOCK.get() == Some(&(data.dev(), data.ino()));
    let is_fit = data.is_file() && data.uid() == sys::effective_user() && !is_own;
    is_fit.then(|| File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).ok()).flatten()
}
