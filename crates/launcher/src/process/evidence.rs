//! What a launch directory proves: waiting, running, ended, or lost.
//!
//! The lock is the proof of life; a record counts only when nobody holds it. Where a shim died
//! without a record, this module ends what it left and writes the verdict, once for all readers.

use std::{collections::BTreeSet, io, time::Duration};

use jiff::Timestamp;
use rustix::process::{Pid, Signal};

use super::{
    cgroup,
    directory::{Content, Directory},
    format::VERSION,
    log, procfs,
    records::{Cgroups, ExitRecord, Identity, Intent, Verdict, timestamp},
};
use crate::outcome::{ExitReport, ExitSource, LostReason, Outcome, StartFailure};

/// What a launch directory proves now.
#[derive(Debug)]
pub(crate) enum Finding {
    /// Nothing was started. The shim, if one is there, waits for its input.
    Created { shim: Option<Pid> },
    /// A shim holds the launch and has accepted its input.
    Running { shim: Pid, since: Option<Timestamp> },
    /// It is over.
    Ended(ExitReport),
}

/// Passes of killing after a shim died.
const KILL_PASSES: u32 = 200;

/// Looks at a launch. Ends what a dead shim has left, hence may take a while in that case.
pub(crate) fn look(directory: &Directory, intent: &Intent) -> io::Result<Finding> {
    if let Some(shim) = directory.lock_holder()? {
        return Ok(if directory.has("accepted")? {
            let started: Option<Identity> = directory.read_if_there("started.json")?;
            Finding::Running { shim, since: started.and_then(|s| s.at_us).map(timestamp) }
        } else {
            Finding::Created { shim: Some(shim) }
        });
    }
    let lost = |reason| conclude(directory, intent, Outcome::Lost(reason)).map(Finding::Ended);
    match directory.read::<ExitRecord>("exit.json")? {
        Content::Record(record) if record.version == VERSION => {
            return Ok(Finding::Ended(record.into()));
        }
        Content::Record(record) => {
            let why = format!("it has format {}, this version reads {VERSION}", record.version);
            return lost(LostReason::RecordUnreadable { why });
        }
        Content::Unreadable(why) => return lost(LostReason::RecordUnreadable { why }),
        Content::Missing => {}
    }
    if let Some(verdict) = directory.read_if_there::<Verdict>("verdict.json")? {
        return Ok(Finding::Ended(verdict.report));
    }
    if !directory.has("intent.json")? {
        // Somebody is removing it, the intent first: what is missing proves nothing any more.
        return Ok(Finding::Created { shim: None });
    }
    if intent.boot_id != procfs::boot_id() {
        lost(LostReason::HostRebooted)
    } else if directory.has("accepted")? {
        lost(LostReason::ShimDied)
    } else {
        Ok(Finding::Created { shim: None })
    }
}

/// Ends a launch that has no shim and was never started. `None`: a shim has it after all.
pub(crate) fn abandon(directory: &Directory, intent: &Intent) -> io::Result<Option<ExitReport>> {
    if !directory.has("intent.json")? {
        return Err(io::ErrorKind::NotFound.into());
    }
    let report = conclude(directory, intent, Outcome::NeverStarted(StartFailure::Stopped))?;
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
pub(crate) fn signal_shim(directory: &Directory, shim: Pid, signal: Signal) -> bool {
    let start = proven(directory, shim);
    start.is_some_and(|start| procfs::signal(shim.as_raw_pid(), start, signal))
}

/// Wakes a shim that stands still: it would miss deadlines and requests. `true`: it did.
pub(crate) fn wake(directory: &Directory, shim: Pid) -> bool {
    let stands = procfs::entry(shim.as_raw_pid()).is_some_and(|e| matches!(e.state, 'T' | 't'));
    stands && signal_shim(directory, shim, Signal::CONT)
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
pub(crate) fn kill_with_shim(directory: &Directory, intent: &Intent, shim: Pid) {
    let Some(start) = proven(directory, shim) else {
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
            entry.state != 'Z' && procfs::signal(*pid, entry.start_ticks, Signal::KILL)
        });
        if signalled.count() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    procfs::signal(shim, start, Signal::KILL);
    // Whoever looks next at the launch does it again.
    kill_leftovers(directory, intent).ok();
}

fn conclude(directory: &Directory, intent: &Intent, outcome: Outcome) -> io::Result<ExitReport> {
    // Nothing outlives its boot, and what has the same numbers now is somebody else's.
    let is_dead_already = outcome == Outcome::Lost(LostReason::HostRebooted);
    let leftovers_killed = if is_dead_already { 0 } else { kill_leftovers(directory, intent)? };
    let output = log::measure(directory);
    let started: Option<Identity> = directory.read_if_there("started.json")?;
    let report = ExitReport {
        outcome,
        cause: None,
        out_of_memory: false,
        leftovers_killed,
        survivors: 0,
        log_end: output.end,
        dropped_bytes: output.end - output.kept,
        started_at: started.and_then(|started| started.at_us).map(timestamp),
        ended_at: Timestamp::now(),
        source: ExitSource::Evidence,
    };
    let verdict = Verdict { version: VERSION, report };
    let json = serde_json::to_vec(&verdict)?;
    if directory.write_new("verdict.json", &json)? {
        return Ok(verdict.report);
    }
    // Another reader was faster; there is one verdict.
    let first = directory.read_if_there::<Verdict>("verdict.json")?;
    Ok(first.map_or(verdict.report, |first| first.report))
}

/// Kills what a dead shim has left, until two looks in a row find nothing. Launches that were
/// started from within it have shims of their own and stay.
fn kill_leftovers(directory: &Directory, intent: &Intent) -> io::Result<u32> {
    let cgroups: Cgroups = directory.read_if_there("cgroup.json")?.unwrap_or_default();
    let launches = directory.path().parent().unwrap_or(directory.path());
    let name = cgroup::name(launches, &intent.id);
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
    alive.filter(|(_, e)| e.state != 'Z').map(|(pid, e)| (pid, e.start_ticks)).collect()
}
