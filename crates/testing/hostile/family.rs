//! Who is who among the processes above this one: command line, its supervisor, worker, first process.

use std::{fs, process};

/// The processes that this one descends from.
pub(crate) struct Family {
    /// What runs the task: the child of the container's first process.
    pub(crate) worker: i32,
    /// The parent of the command line.
    pub(crate) supervisor: i32,
    /// The agent's command line.
    pub(crate) agent: i32,
}

impl Family {
    pub(crate) fn find() -> Self {
        let mut line = vec![i32::try_from(process::id()).expect("a process id")];
        while let Some(parent) = line.last().and_then(|pid| parent(*pid)).filter(|pid| *pid > 1) {
            line.push(parent);
        }
        let [.., agent, supervisor, worker] = &*line else { panic!("no worker above: {line:?}") };
        Self { worker: *worker, supervisor: *supervisor, agent: *agent }
    }
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.1.parse().ok()
}

/// State and parent of a process, if it is there.
fn stat(pid: i32) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

/// Whether a process has ended.
pub(crate) fn has_ended(pid: i32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == "Z")
}
