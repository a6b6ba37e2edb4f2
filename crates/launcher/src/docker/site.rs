//! Containers of an engine as the place of shims.
//!
//! The kernel is asked first: a lock that is held is a shim that lives, whatever the engine says or
//! does not say. Only when no shim holds the launch does the engine count, and where it does not
//! answer, nothing is concluded that it might know better.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bollard::query_parameters::{KillContainerOptions, StatsOptions};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use rustix::process::Pid;

use super::{
    client::{Client, within},
    container,
    facts::{Container, Life, UNKNOWN_CODE},
    start,
};
use crate::{
    error::{EngineError, HandleError},
    handle::LaunchStats,
    launch::{
        Launch, aside,
        evidence::{self, Proof, Quiet, Recorded},
        records::{Identity, timestamp},
        site::{Finding, Site},
        store::Store,
    },
    outcome::{ExitReport, ExitSource, LostReason, Outcome, StartFailure, StopCause},
};

/// The name of this launcher in records.
const KIND: &str = "docker";
/// The engine answers simple questions within that, or it does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Held by whoever starts a launch or ends one that was never started.
pub(crate) const STARTER: &str = "starter";
/// What the shim exits with where it started nothing.
const NOT_STARTED: i64 = 127;

/// The containers of one engine that belong to one store.
#[derive(Debug, Clone)]
pub(crate) struct EngineSite {
    pub(crate) client: Arc<Client>,
    pub(crate) store: Arc<Store>,
}

/// What follows from directory and engine together.
#[derive(Debug)]
enum Verdict {
    /// For now.
    Find(Finding),
    /// For good: everybody is to hear the same.
    Conclude(ExitReport),
    /// It ended in this way, by the engine's word or for want of any.
    End { outcome: Outcome, out_of_memory: bool, source: ExitSource },
}

impl EngineSite {
    pub(crate) fn name(&self, launch: &Launch) -> String {
        container::name(&self.store, launch.id())
    }

    /// Looks at a launch. `is_starter`: the caller holds it.
    pub(crate) async fn look_as(&self, launch: &Launch, is_starter: bool) -> io::Result<Finding> {
        let looked = launch.clone();
        let (proof, is_taken) = aside(move || {
            // First, so that one who starts it between the two looks is seen by one of them.
            let is_taken = !is_starter && looked.directory.is_guarded(STARTER)?;
            Ok((Proof::read(&looked)?, is_taken))
        })
        .await?;
        let quiet = match proof {
            Proof::Alive(finding) => return Ok(finding),
            Proof::Quiet(quiet) => quiet,
        };
        if let Some(report) = quiet.verdict {
            return Ok(Finding::Ended(report));
        }
        let found = self.ask(launch).await;
        let launch = launch.clone();
        aside(move || conclude(&launch, quiet, &found, is_taken)).await
    }

    async fn ask(&self, launch: &Launch) -> Result<Option<Container>, EngineError> {
        let name = self.name(launch);
        within(PATIENCE, self.client.host(), self.client.container(&name)).await?
    }

    async fn signal(&self, launch: &Launch, signal: &str) -> Result<(), EngineError> {
        let docker = self.client.docker().await?;
        let options = KillContainerOptions { signal: signal.to_owned() };
        let name = self.name(launch);
        let killed = docker.kill_container(&name, Some(options));
        let killed = within(PATIENCE, self.client.host(), killed).await?;
        killed.map_err(|error| self.client.error(error))
    }

    /// `None`: nothing is there to be measured.
    async fn measure(&self, launch: &Launch) -> Result<Option<LaunchStats>, EngineError> {
        let docker = self.client.docker().await?;
        let options = StatsOptions { stream: false, one_shot: true };
        let name = self.name(launch);
        let mut stats = docker.stats(&name, Some(options));
        let stats = within(PATIENCE, self.client.host(), stats.next()).await?;
        let stats = stats.transpose().map_err(|error| self.client.error(error))?;
        let stats = stats.unwrap_or_default();
        let memory = stats.memory_stats.unwrap_or_default();
        // What the kernel would give back first is no use of the command's; the CLI shows it so.
        let cache = |stats: HashMap<String, u64>| {
            let cache = stats.get("total_inactive_file").or_else(|| stats.get("inactive_file"));
            cache.copied().unwrap_or(0)
        };
        let cache = memory.stats.map_or(0, cache);
        let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage);
        let Some(processes) = stats.pids_stats.and_then(|pids| pids.current) else {
            return Ok(None);
        };
        Ok(Some(LaunchStats {
            // Its number in the container says nothing here.
            leader_pid: None,
            memory_bytes: memory.usage.unwrap_or(0).saturating_sub(cache),
            cpu: Duration::from_nanos(cpu.and_then(|cpu| cpu.total_usage).unwrap_or(0)),
            // Without the shim.
            processes: u32::try_from(processes.saturating_sub(1)).unwrap_or(u32::MAX),
            uptime: Duration::ZERO,
        }))
    }
}

#[async_trait]
impl Site for EngineSite {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn store(&self) -> &Arc<Store> {
        &self.store
    }

    async fn look(&self, launch: &Launch) -> io::Result<Finding> {
        self.look_as(launch, false).await
    }

    async fn abandon(&self, launch: &Launch) -> io::Result<Option<ExitReport>> {
        let looked = launch.clone();
        let starter = aside(move || {
            if !looked.directory.has("intent.json")? {
                return Err(io::ErrorKind::NotFound.into());
            }
            looked.directory.guard(STARTER)
        });
        let Some(_starter) = starter.await? else {
            return Ok(None);
        };
        match self.look_as(launch, true).await? {
            Finding::Ended(report) => return Ok(Some(report)),
            Finding::Running { .. } | Finding::Created { shim: Some(_) } => return Ok(None),
            Finding::Created { shim: None } => {}
        }
        start::remove(&self.client, &self.name(launch)).await.map_err(io::Error::other)?;
        let launch = launch.clone();
        let stopped = Outcome::NeverStarted(StartFailure::Stopped);
        let concluded =
            move || evidence::conclude(&launch, evidence::report(&launch, stopped, 0)?).map(Some);
        aside(concluded).await
    }

    async fn wake(&self, launch: &Launch, _shim: Pid) -> bool {
        let is_paused = |found: Option<Container>| found.is_some_and(|found| found.is_paused);
        if !self.ask(launch).await.is_ok_and(is_paused) {
            return false;
        }
        let Ok(docker) = self.client.docker().await else {
            return false;
        };
        docker.unpause_container(&self.name(launch)).await.is_ok()
    }

    async fn terminate(&self, launch: &Launch, _shim: Pid) -> bool {
        self.signal(launch, "SIGTERM").await.is_ok()
    }

    async fn kill(&self, launch: &Launch, _shim: Pid) {
        if let Err(error) = self.signal(launch, "SIGKILL").await {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(launch.id = %launch.id(), error, "cannot kill container");
        }
    }

    async fn usage(&self, launch: &Launch) -> Result<Option<LaunchStats>, HandleError> {
        let fail =
            |source| HandleError::Io { id: launch.id().clone(), what: "look at the usage", source };
        let Finding::Running { since, .. } = self.look(launch).await.map_err(fail)? else {
            return Ok(None);
        };
        let uptime = since.map_or(0, |since| Timestamp::now().duration_since(since).as_millis());
        let uptime = Duration::from_millis(u64::try_from(uptime).unwrap_or(0));
        match self.measure(launch).await {
            Ok(stats) => Ok(stats.map(|stats| LaunchStats { uptime, ..stats })),
            // It ended meanwhile.
            Err(EngineError::Refused { status: 404 | 409, .. }) => Ok(None),
            Err(error) => Err(fail(io::Error::other(error))),
        }
    }

    async fn clear(&self, launch: &Launch) -> io::Result<()> {
        start::remove(&self.client, &self.name(launch)).await.map_err(io::Error::other)
    }
}

/// What follows, written down where it is final.
fn conclude(
    launch: &Launch,
    quiet: Quiet,
    found: &Result<Option<Container>, EngineError>,
    is_taken: bool,
) -> io::Result<Finding> {
    if let (Err(error), true) = (found, quiet.is_accepted) {
        let error = error as &(dyn std::error::Error + 'static);
        tracing::debug!(launch.id = %launch.id(), error, "engine cannot be asked about a launch");
    }
    let life = |found: &Option<Container>| found.as_ref().map_or(Life::Absent, |found| found.life);
    match decide(quiet, found.as_ref().ok().map(life), is_taken) {
        Verdict::Find(Finding::Running { shim, since: None }) => {
            let started: Option<Identity> = launch.directory.read_if_there("started.json")?;
            let since = started.and_then(|started| started.at_us).map(timestamp);
            Ok(Finding::Running { shim, since })
        }
        Verdict::Find(finding) => Ok(finding),
        Verdict::Conclude(report) => {
            if report.source == ExitSource::EngineAgainstRecord {
                let outcome = &report.outcome;
                tracing::warn!(
                    launch.id = %launch.id(),
                    exit.outcome = %outcome,
                    "exit record contradicts the engine and is not believed"
                );
            }
            evidence::conclude(launch, report).map(Finding::Ended)
        }
        Verdict::End { outcome, out_of_memory, source } => {
            let killed = matches!(outcome, Outcome::Signaled(_)) && !out_of_memory;
            let cause = match outcome {
                Outcome::Signaled(signal) if killed => Some(StopCause::EngineOrOperator { signal }),
                _ => None,
            };
            let report = evidence::report(launch, outcome, 0)?;
            let report = ExitReport { cause, out_of_memory, source, ..report };
            evidence::conclude(launch, report).map(Finding::Ended)
        }
    }
}

/// What follows from what lies in the directory of a launch that no shim has, and from what the
/// engine says of its container. `None`: the engine does not answer. `is_taken`: somebody is about to start it.
fn decide(quiet: Quiet, life: Option<Life>, is_taken: bool) -> Verdict {
    let Quiet { record, verdict: _, is_accepted, is_removed, is_of_other_boot } = quiet;
    let created =
        |has_shim: bool| Verdict::Find(Finding::Created { shim: has_shim.then_some(Pid::INIT) });
    let running = || Verdict::Find(Finding::Running { shim: Pid::INIT, since: None });
    let lost = |reason| Verdict::End {
        outcome: Outcome::Lost(reason),
        out_of_memory: false,
        source: ExitSource::Evidence,
    };
    match (record, life) {
        (Recorded::Nothing, _) if is_removed => created(false),
        // The kernel has shown that it is dead; what the engine might say later comes too late.
        (Recorded::Exit(report), None) => Verdict::Conclude(report),
        (Recorded::Exit(report), Some(Life::Absent)) => Verdict::Find(Finding::Ended(report)),
        (Recorded::Exit(report), Some(Life::Ended { code, out_of_memory })) => {
            compare(report, code, out_of_memory)
        }
        // The engine has not noticed yet.
        (Recorded::Exit(_), Some(Life::Running | Life::Created)) => {
            if is_accepted {
                running()
            } else {
                created(true)
            }
        }
        (Recorded::Nothing, _) if is_accepted && is_of_other_boot => lost(LostReason::HostRebooted),
        (Recorded::Nothing | Recorded::Unreadable(_), None) => {
            if is_accepted {
                running()
            } else {
                created(true)
            }
        }
        (Recorded::Nothing | Recorded::Unreadable(_), Some(Life::Running)) => {
            if is_accepted {
                running()
            } else {
                created(true)
            }
        }
        (Recorded::Unreadable(why), Some(Life::Absent)) => {
            lost(LostReason::RecordUnreadable { why })
        }
        (
            Recorded::Nothing | Recorded::Unreadable(_),
            Some(Life::Ended { code, out_of_memory }),
        ) if is_accepted => match outcome(code) {
            Some(outcome) => Verdict::End { outcome, out_of_memory, source: ExitSource::Engine },
            None => lost(LostReason::ShimDied),
        },
        (Recorded::Nothing, Some(Life::Absent)) if is_accepted => {
            lost(LostReason::ContainerRemoved)
        }
        (Recorded::Nothing | Recorded::Unreadable(_), Some(_)) => created(is_taken),
    }
}

/// Where the engine knows a code that differs from the record, the engine's counts.
fn compare(report: ExitReport, code: i64, out_of_memory: bool) -> Verdict {
    let recorded = match &report.outcome {
        Outcome::Exited(code) => i64::from(*code),
        Outcome::Signaled(signal) => 128 + i64::from(*signal),
        Outcome::NeverStarted(_) => NOT_STARTED,
        Outcome::Lost(_) => UNKNOWN_CODE,
    };
    let out_of_memory = out_of_memory || report.out_of_memory;
    match outcome(code) {
        Some(outcome) if code != recorded => Verdict::Conclude(ExitReport {
            outcome,
            out_of_memory,
            source: ExitSource::EngineAgainstRecord,
            ..report
        }),
        _ if out_of_memory != report.out_of_memory => {
            Verdict::Conclude(ExitReport { out_of_memory, ..report })
        }
        _ => Verdict::Find(Finding::Ended(report)),
    }
}

/// An outcome from the code of the container's first process; `None`: the engine does not know it.
fn outcome(code: i64) -> Option<Outcome> {
    match i32::try_from(code) {
        Ok(code) if i64::from(code) == UNKNOWN_CODE => None,
        Ok(code @ 129..=192) => Some(Outcome::Signaled(code - 128)),
        Ok(code) => Some(Outcome::Exited(code)),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(record: Recorded) -> Quiet {
        Quiet {
            record,
            verdict: None,
            is_accepted: true,
            is_removed: false,
            is_of_other_boot: false,
        }
    }

    fn recorded(outcome: Outcome) -> Quiet {
        quiet(Recorded::Exit(ExitReport {
            outcome,
            cause: None,
            out_of_memory: false,
            leftovers_killed: 0,
            survivors: 0,
            log_end: 0,
            dropped_bytes: 0,
            started_at: None,
            ended_at: Timestamp::UNIX_EPOCH,
            source: ExitSource::Record,
        }))
    }

    fn ended(code: i64) -> Option<Life> {
        Some(Life::Ended { code, out_of_memory: false })
    }

    #[test]
    fn engine_that_does_not_answer_makes_nothing_dead() {
        let found = decide(quiet(Recorded::Nothing), None, false);
        assert!(matches!(found, Verdict::Find(Finding::Running { .. })), "{found:?}");
        let waits = Quiet { is_accepted: false, ..quiet(Recorded::Nothing) };
        let found = decide(waits, None, false);
        assert!(matches!(found, Verdict::Find(Finding::Created { shim: Some(_) })), "{found:?}");
        // What the shim wrote down before it ended needs no engine.
        let found = decide(recorded(Outcome::Exited(7)), None, false);
        assert!(matches!(found, Verdict::Conclude(r) if r.outcome == Outcome::Exited(7)));
    }

    #[test]
    fn engine_that_is_late_is_waited_for() {
        let found = decide(recorded(Outcome::Exited(7)), Some(Life::Running), false);
        assert!(matches!(found, Verdict::Find(Finding::Running { .. })), "{found:?}");
    }

    #[test]
    fn code_of_the_engine_counts_where_it_knows_one() {
        for (outcome, code) in [(Outcome::Exited(137), 137), (Outcome::Signaled(9), 137)] {
            let found = decide(recorded(outcome.clone()), ended(code), false);
            assert!(matches!(found, Verdict::Find(Finding::Ended(r)) if r.outcome == outcome));
        }
        let found = decide(recorded(Outcome::Exited(0)), ended(137), false);
        let Verdict::Conclude(report) = found else { panic!("{found:?}") };
        assert_eq!(report.outcome, Outcome::Signaled(9));
        assert_eq!(report.source, ExitSource::EngineAgainstRecord);
        // It lost its own memory of the container and says so.
        let found = decide(recorded(Outcome::Exited(7)), ended(UNKNOWN_CODE), false);
        assert!(matches!(found, Verdict::Find(Finding::Ended(_))), "{found:?}");
    }

    #[test]
    fn want_of_memory_that_only_the_engine_saw_is_added() {
        let life = Some(Life::Ended { code: 0, out_of_memory: true });
        let found = decide(recorded(Outcome::Exited(0)), life, false);
        assert!(
            matches!(found, Verdict::Conclude(r) if r.out_of_memory && r.source == ExitSource::Record)
        );
    }

    #[test]
    fn without_a_record_it_is_the_word_of_the_engine_or_lost() {
        let outcome = |life| match decide(quiet(Recorded::Nothing), life, false) {
            Verdict::End { outcome, .. } => outcome,
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome(ended(143)), Outcome::Signaled(15));
        assert_eq!(outcome(ended(UNKNOWN_CODE)), Outcome::Lost(LostReason::ShimDied));
        let removed = Outcome::Lost(LostReason::ContainerRemoved);
        assert_eq!(outcome(Some(Life::Absent)), removed);
    }

    #[test]
    fn launch_that_was_not_accepted_is_whose_guard_it_is() {
        for is_taken in [false, true] {
            let waits = Quiet { is_accepted: false, ..quiet(Recorded::Nothing) };
            let found = decide(waits, Some(Life::Created), is_taken);
            let Verdict::Find(Finding::Created { shim }) = found else { panic!("{found:?}") };
            assert_eq!(shim.is_some(), is_taken);
        }
    }
}
