//! This machine as the place of shims: what a dead one has left, signals, usage, cgroups.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::process::{Pid, Signal};

use super::cgroup::{self, Hierarchies};
use crate::{
    error::HandleError,
    handle::LaunchStats,
    launch::{
        Launch, aside,
        directory::Directory,
        evidence::{self, Proof, Quiet, Recorded},
        procfs,
        records::{Cgroups, Identity},
        site::{Finding, Site},
        store::Store,
    },
    outcome::{ExitReport, LostReason, Outcome, StartFailure},
};

/// The name of this launcher in records.
const KIND: &str = "process";
/// Passes of killing after a shim died.
const KILL_PASSES: u32 = 200;

/// This machine.
#[derive(Debug, Clone)]
pub(crate) struct HostSite {
    pub(crate) store: Arc<Store>,
    hierarchies: Arc<OnceLock<Hierarchies>>,
}

impl HostSite {
    pub(crate) fn new(store: Store) -> Self {
        Self { store: Arc::new(store), hierarchies: Arc::default() }
    }

    /// What this process may write of cgroups; looked at once.
    pub(crate) fn hierarchies(&self) -> &Hierarchies {
        self.hierarchies.get_or_init(Hierarchies::find)
    }

    /// Looks at a launch on the caller's thread. Ends what a dead shim has left, hence may take a
    /// while in that case.
    pub(crate) fn look_now(launch: &Launch) -> io::Result<Finding> {
        let quiet = match Proof::read(launch)? {
            Proof::Alive(finding) => return Ok(finding),
            Proof::Quiet(quiet) => quiet,
        };
        let Quiet { record, verdict, is_accepted, is_removed, is_of_other_boot } = quiet;
        let reason = match (record, verdict) {
            (Recorded::Exit(report), _) | (Recorded::Nothing, Some(report)) => {
                return Ok(Finding::Ended(report));
            }
            (Recorded::Unreadable(why), _) => LostReason::RecordUnreadable { why },
            (Recorded::Nothing, None) if is_removed => return Ok(Finding::Created { shim: None }),
            (Recorded::Nothing, None) if is_of_other_boot => LostReason::HostRebooted,
            (Recorded::Nothing, None) if is_accepted => LostReason::ShimDied,
            (Recorded::Nothing, None) => return Ok(Finding::Created { shim: None }),
        };
        conclude(launch, Outcome::Lost(reason)).map(Finding::Ended)
    }

    fn remove_groups(&self, launch: &Launch) -> io::Result<()> {
        let cgroups: Cgroups = launch.directory.read_if_there("cgroup.json")?.unwrap_or_default();
        let name = cgroup::name(self.store.launches(), launch.id());
        cgroup::remove(&cgroups, &name);
        self.hierarchies().remove(&name);
        Ok(())
    }

    fn look_at_usage(&self, launch: &Launch) -> io::Result<Option<LaunchStats>> {
        let Finding::Running { shim, since } = Self::look_now(launch)? else {
            return Ok(None);
        };
        let directory = &launch.directory;
        let leader: Option<Identity> = directory.read_if_there("started.json")?;
        let cgroups: Cgroups = directory.read_if_there("cgroup.json")?.unwrap_or_default();
        let table = procfs::table();
        let mut pids = procfs::descendants(&table, shim.as_raw_pid());
        pids.extend(cgroup::members(&cgroups, &cgroup::name(self.store.launches(), launch.id())));
        let usage = procfs::usage(&table, &pids);
        let uptime = since.map_or(0, |since| Timestamp::now().duration_since(since).as_millis());
        let is_leader = |identity: &Identity| {
            table.get(&identity.pid).is_some_and(|e| e.start_ticks == identity.start_ticks)
        };
        Ok(Some(LaunchStats {
            leader_pid: leader.filter(is_leader).map(|identity| identity.pid),
            memory_bytes: usage.memory_bytes,
            cpu: usage.cpu,
            processes: usage.processes,
            uptime: Duration::from_millis(u64::try_from(uptime).unwrap_or(0)),
        }))
    }
}

#[async_trait]
impl Site for HostSite {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn store(&self) -> &Arc<Store> {
        &self.store
    }

    async fn look(&self, launch: &Launch) -> io::Result<Finding> {
        let launch = launch.clone();
        aside(move || Self::look_now(&launch)).await
    }

    async fn abandon(&self, launch: &Launch) -> io::Result<Option<ExitReport>> {
        let launch = launch.clone();
        aside(move || abandon(&launch)).await
    }

    async fn wake(&self, launch: &Launch, shim: Pid) -> bool {
        let stands = procfs::entry(shim.as_raw_pid()).is_some_and(|e| matches!(e.state, 'T' | 't'));
        stands && signal_shim(&launch.directory, shim, Signal::CONT)
    }

    async fn terminate(&self, launch: &Launch, shim: Pid) -> bool {
        signal_shim(&launch.directory, shim, Signal::TERM)
    }

    async fn kill(&self, launch: &Launch, shim: Pid) {
        let launch = launch.clone();
        tokio::task::spawn_blocking(move || kill_with_shim(&launch, shim)).await.ok();
    }

    async fn usage(&self, launch: &Launch) -> Result<Option<LaunchStats>, HandleError> {
        let (site, launch) = (self.clone(), launch.clone());
        let id = launch.id().clone();
        let usage = aside(move || site.look_at_usage(&launch)).await;
        usage.map_err(|source| HandleError::Io { id, what: "look at", source })
    }

    async fn clear(&self, launch: &Launch) -> io::Result<()> {
        let (site, launch) = (self.clone(), launch.clone());
        aside(move || site.remove_groups(&launch)).await
    }
}

fn abandon(launch: &Launch) -> io::Result<Option<ExitReport>> {
    let directory = &launch.directory;
    if !directory.has("intent.json")? {
        return Err(io::ErrorKind::NotFound.into());
    }
    let report = conclude(launch, Outcome::NeverStarted(StartFailure::Stopped))?;
    // A shim that has accepted looks for the verdict, so one of the two sees the other.
    if directory.lock_holder()?.is_none() {
        return Ok(Some(report));
    }
    match directory.remove_file("verdict.json") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(None),
    }
}

/// Signals the shim of a launch. `false`: it is gone, or it is not proven to be that shim.
fn signal_shim(directory: &Directory, shim: Pid, signal: Signal) -> bool {
    let start = proven(directory, shim);
    start.is_some_and(|start| procfs::signal(shim.as_raw_pid(), start, signal))
}

/// The start tick of a process that holds the lock and looks like a shim. The holder of the lock may
/// have no number here, or be somebody who took it after the shim: such is never signalled.
fn proven(directory: &Directory, shim: Pid) -> Option<u64> {
    // Read before the proof, so that the two are of one process.
    let start = procfs::entry(shim.as_raw_pid())?.start_ticks;
    let holds = matches!(directory.lock_holder(), Ok(Some(holder)) if holder == shim);
    (holds && procfs::named_directory(shim.as_raw_pid()).is_some()).then_some(start)
}

/// Kills everything of a launch whose shim does not answer, the shim last. Launches that were
/// started from within it stay.
fn kill_with_shim(launch: &Launch, shim: Pid) {
    let Some(start) = proven(&launch.directory, shim) else {
        return;
    };
    let shim = shim.as_raw_pid();
    for _ in 0..KILL_PASSES {
        let table = procfs::table();
        let below: Vec<i32> = procfs::descendants(&table, shim).into_iter().collect();
        let nested = procfs::nested(&table, &below);
        let ours = below.iter().filter(|pid| !nested.contains(pid));
        let alive = ours.filter_map(|pid| table.get(pid).map(|entry| (*pid, entry)));
        let signalled = alive.filter(|(pid, entry)| {
            entry.is_alive() && procfs::signal(*pid, entry.start_ticks, Signal::KILL)
        });
        if signalled.count() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    procfs::signal(shim, start, Signal::KILL);
    // Whoever looks next at the launch does it again.
    kill_leftovers(launch).ok();
}

/// Ends what is left of a launch and makes this outcome its verdict.
fn conclude(launch: &Launch, outcome: Outcome) -> io::Result<ExitReport> {
    // Nothing outlives its boot, and what has the same numbers now is somebody else's.
    let is_dead_already = outcome == Outcome::Lost(LostReason::HostRebooted);
    let leftovers_killed = if is_dead_already { 0 } else { kill_leftovers(launch)? };
    evidence::conclude(launch, evidence::report(launch, outcome, leftovers_killed)?)
}

/// Kills what a dead shim has left, until two looks in a row find nothing. Launches that were
/// started from within it have shims of their own and stay.
fn kill_leftovers(launch: &Launch) -> io::Result<u32> {
    let directory = &launch.directory;
    let cgroups: Cgroups = directory.read_if_there("cgroup.json")?.unwrap_or_default();
    let launches = directory.path().parent().unwrap_or(directory.path());
    let name = cgroup::name(launches, launch.id());
    let leader: Option<Identity> = directory.read_if_there("started.json")?;
    let leader = leader.filter(|leader| leader.boot_id == procfs::boot_id());
    let mut killed = BTreeSet::new();
    let mut empty = 0;
    for _ in 0..KILL_PASSES {
        cgroup::freeze(&cgroups, &name, true);
        let found = leftovers(&cgroup::members(&cgroups, &name), leader.as_ref());
        let hit = |(pid, start): &(i32, u64)| procfs::signal(*pid, *start, Signal::KILL);
        let hit: Vec<(i32, u64)> = found.into_iter().filter(hit).collect();
        cgroup::freeze(&cgroups, &name, false);
        empty = if hit.is_empty() { empty + 1 } else { 0 };
        killed.extend(hit);
        if empty == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    cgroup::remove(&cgroups, &name);
    Ok(u32::try_from(killed.len()).unwrap_or(u32::MAX))
}

/// The living among the members that are not of a nested launch, and the command itself.
fn leftovers(members: &[i32], leader: Option<&Identity>) -> Vec<(i32, u64)> {
    if members.is_empty() && leader.is_none() {
        return Vec::new();
    }
    let table = procfs::table();
    let nested = procfs::nested(&table, members);
    let leader = leader.filter(|leader| {
        table.get(&leader.pid).is_some_and(|entry| entry.start_ticks == leader.start_ticks)
    });
    let ours = members.iter().copied().filter(|pid| !nested.contains(pid));
    let ours = ours.chain(leader.map(|leader| leader.pid));
    let alive = ours.filter_map(|pid| Some((pid, table.get(&pid)?)));
    alive.filter(|(_, e)| e.is_alive()).map(|(pid, e)| (pid, e.start_ticks)).collect()
}
