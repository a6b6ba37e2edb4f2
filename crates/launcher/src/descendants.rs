//! Ending whatever a process has started, whoever hides it: for a process that carries hostile commands one after
//! another, as the worker of a sandbox does.
//!
//! A launch ends with all its descendants but those that are launches of their own, and its shim is of the command's
//! user. So a command may look like a launch, or kill its shim: what it leaves then is nobody's. It stays a descendant
//! of whoever launched it, though, once that one [adopts](adopt) orphans; nobody can leave that family. Here nothing
//! is spared.

use std::{collections::BTreeSet, io, time::Duration};

use rustix::process::{Pid, Signal, WaitOptions, getpid, set_child_subreaper, waitpid};
use tokio::time::{Instant, sleep};

use crate::launch::procfs::{self, Entry};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// So many looks in a row find nothing before that is believed: a process may start another one and end between two
/// lines of one look.
const QUIET_LOOKS: u32 = 2;

/// What became of the descendants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// So many were alive and were killed.
    pub killed: usize,
    /// So many are alive still; the kernel holds them.
    pub left: usize,
}

/// Becomes the parent of every descendant whose own parent ends. For the whole process, and for good.
///
/// # Errors
/// The system's.
pub fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Kills every descendant of this process and buries those that are its children. Call it where none of them is
/// needed any more: a child that somebody here waits for may be buried under its hands.
///
/// # Cancel safety
/// Cancel safe; what is left is found by the next call.
pub async fn end_all(within: Duration) -> Ended {
    let deadline = Instant::now() + within;
    let (mut killed, mut quiet) = (BTreeSet::new(), 0);
    loop {
        let alive = look();
        // Whoever stands still starts nothing while its kin is found.
        for signal in [Signal::STOP, Signal::KILL] {
            let hit = alive.iter().filter(|(pid, start)| procfs::signal(*pid, *start, signal));
            killed.extend(hit.copied());
        }
        quiet = if alive.is_empty() { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS || Instant::now() >= deadline {
            return Ended { killed: killed.len(), left: alive.len() };
        }
        sleep(PAUSE).await;
    }
}

/// The living descendants, each with the tick of its start. The dead children are buried.
fn look() -> Vec<(i32, u64)> {
    let (table, own) = (procfs::table(), getpid().as_raw_pid());
    let below = procfs::descendants(&table, own);
    let entries = below.into_iter().filter_map(|pid| Some((pid, table.get(&pid)?)));
    let (alive, dead): (Vec<_>, Vec<(i32, &Entry)>) = entries.partition(|(_, it)| it.is_alive());
    for (pid, _) in dead.into_iter().filter(|(_, entry)| entry.parent == own) {
        // An error means that it is buried already.
        waitpid(Pid::from_raw(pid), WaitOptions::NOHANG).ok();
    }
    alive.into_iter().map(|(pid, entry)| (pid, entry.start_ticks)).collect()
}
