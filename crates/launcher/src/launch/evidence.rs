//! What a launch directory alone proves, and the verdict where it proves no exit.
//!
//! The lock is the proof of life; a record counts only when nobody holds it.

use std::io;

use jiff::Timestamp;

use super::{
    Launch,
    directory::Content,
    format::VERSION,
    log, procfs,
    records::{ExitRecord, Identity, Verdict, timestamp},
    site::Finding,
};
use crate::outcome::{ExitReport, ExitSource, Outcome};

/// What a launch directory proves.
#[derive(Debug)]
pub(crate) enum Proof {
    /// A shim has the launch.
    Alive(Finding),
    /// No shim has it.
    Quiet(Quiet),
}

/// What lies in the directory of a launch that no shim has.
#[derive(Debug)]
pub(crate) struct Quiet {
    /// The shim's last word.
    pub(crate) record: Recorded,
    /// What the host concluded earlier.
    pub(crate) verdict: Option<ExitReport>,
    /// Whether a start may have happened.
    pub(crate) is_accepted: bool,
    /// Whether somebody is removing it, the intent first: what is missing proves nothing then.
    pub(crate) is_removed: bool,
    /// Whether the machine was started again since.
    pub(crate) is_of_other_boot: bool,
}

/// What lies in the place of the exit record.
#[derive(Debug)]
pub(crate) enum Recorded {
    Nothing,
    Exit(ExitReport),
    /// None that this version can read, and why.
    Unreadable(String),
}

impl Proof {
    /// Looks at a launch directory.
    pub(crate) fn read(launch: &Launch) -> io::Result<Self> {
        let Launch { directory, intent } = launch;
        if let Some(shim) = directory.lock_holder()? {
            return Ok(Self::Alive(if directory.has("accepted")? {
                let started: Option<Identity> = directory.read_if_there("started.json")?;
                Finding::Running { shim, since: started.and_then(|s| s.at_us).map(timestamp) }
            } else {
                Finding::Created { shim: Some(shim) }
            }));
        }
        let record = match directory.read::<ExitRecord>("exit.json")? {
            Content::Record(record) if record.version == VERSION => Recorded::Exit(record.into()),
            Content::Record(record) => Recorded::Unreadable(format!(
                "it has format {}, this version reads {VERSION}",
                record.version
            )),
            Content::Unreadable(why) => Recorded::Unreadable(why),
            Content::Missing => Recorded::Nothing,
        };
        let verdict: Option<Verdict> = directory.read_if_there("verdict.json")?;
        Ok(Self::Quiet(Quiet {
            record,
            verdict: verdict.map(|verdict| verdict.report),
            is_accepted: directory.has("accepted")?,
            is_removed: !directory.has("intent.json")?,
            is_of_other_boot: intent.boot_id != procfs::boot_id(),
        }))
    }
}

/// What is left to say of a launch from the outside. `leftovers_killed`: what was still alive.
pub(crate) fn report(
    launch: &Launch,
    outcome: Outcome,
    leftovers_killed: u32,
) -> io::Result<ExitReport> {
    let output = log::measure(&launch.directory);
    let started: Option<Identity> = launch.directory.read_if_there("started.json")?;
    Ok(ExitReport {
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
    })
}

/// Makes a report the verdict for all readers, or gives the one that another reader made first.
pub(crate) fn conclude(launch: &Launch, report: ExitReport) -> io::Result<ExitReport> {
    let verdict = Verdict { version: VERSION, report };
    let json = serde_json::to_vec(&verdict)?;
    if launch.directory.write_new("verdict.json", &json)? {
        return Ok(verdict.report);
    }
    let first = launch.directory.read_if_there::<Verdict>("verdict.json")?;
    Ok(first.map_or(verdict.report, |first| first.report))
}
