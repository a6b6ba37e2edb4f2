//! What came of a run in a sandbox: from what its worker reported, how its container ended, and why we ended it.
//!
//! Plain decisions. A report is what the worker itself says; without one the exit speaks. That a result is there is not
//! decided here: it has to be collected first.

use core_types::{
    outcome::{RunOutcome, RunReport},
    sandbox::{TOLD_TO_STOP, WorkerExit},
};
use launcher::outcome::{ExitReport, ExitSource, Outcome, StopCause};

/// What helps where an image is not one for workers.
const HINT_IMAGE: &str = "let SANDBOX_DOCKER_IMAGE name an image with git and the agents' command lines; `cargo xtask image` builds one";

/// Why the dispatcher stopped a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody cancelled the task and the worker did not end by itself.
    Cancelled,
    /// It used more disk than it may.
    DiskLimit,
    /// The worker did not come to its start.
    NotStarted,
    /// It had reported and did not end.
    Lingering,
}

impl Stopped {
    /// What the launcher is told, and tells again to a dispatcher that takes over.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Cancelled => "the task was cancelled",
            Self::DiskLimit => "its sandbox used more disk than it may",
            Self::NotStarted => "its worker did not start in time",
            Self::Lingering => "it reported and did not end",
        }
    }

    fn of(reason: &str) -> Option<Self> {
        let all = [Self::Cancelled, Self::DiskLimit, Self::NotStarted, Self::Lingering];
        all.into_iter().find(|stopped| stopped.reason() == reason)
    }
}

/// The report that the run is finished with, as far as it does not depend on its result. `reported` is what the worker
/// said; `last_words` the end of what it printed.
#[must_use]
pub fn judge(
    reported: Option<RunReport>,
    exit: Option<&ExitReport>,
    last_words: Option<&str>,
) -> RunReport {
    let stopped = exit.and_then(|exit| match &exit.cause {
        Some(StopCause::Requested { reason }) => Stopped::of(reason),
        _ => None,
    });
    match (reported, exit, stopped) {
        (Some(report), _, Some(Stopped::DiskLimit))
            if report.outcome == RunOutcome::Interrupted =>
        {
            RunReport {
                outcome: RunOutcome::DiskLimit,
                ..report.with_message(Stopped::DiskLimit.reason())
            }
        }
        // Which of the processes is killed is the kernel's choice: an agent does not fail by itself then.
        (Some(report), Some(exit), _)
            if exit.out_of_memory && report.outcome == RunOutcome::AgentFailed =>
        {
            let how = report.message.as_deref().unwrap_or("the agent failed");
            let message = format!("its sandbox ran out of memory: {how}");
            RunReport { outcome: RunOutcome::OutOfMemory, ..report.with_message(message) }
        }
        // One who may signal the worker lives in its container, and has no free attempts to give.
        (Some(report), Some(exit), None) if is_ended_from_within(&report, exit) => {
            let message = "its worker was ended from within its sandbox";
            RunReport { outcome: RunOutcome::WorkerLost, ..report.with_message(message) }
        }
        (Some(report), _, _) => report,
        (None, None, _) => RunReport::new(RunOutcome::WorkerLost)
            .with_message("its container is gone without a trace"),
        (None, Some(_), Some(stopped)) => of_stop(stopped),
        (None, Some(exit), None) => of_exit(exit, last_words),
    }
}

/// Whether the worker was told to stop, and by nobody outside: whoever stops a container is in its record.
fn is_ended_from_within(report: &RunReport, exit: &ExitReport) -> bool {
    let told = report.outcome == RunOutcome::Interrupted
        && report.message.as_deref() == Some(TOLD_TO_STOP);
    told && exit.cause.is_none() && exit.source == ExitSource::Record
}

fn of_stop(stopped: Stopped) -> RunReport {
    let outcome = match stopped {
        Stopped::Cancelled => RunOutcome::Cancelled,
        Stopped::DiskLimit => RunOutcome::DiskLimit,
        Stopped::NotStarted | Stopped::Lingering => RunOutcome::WorkerLost,
    };
    RunReport::new(outcome).with_message(stopped.reason())
}

fn of_exit(exit: &ExitReport, last_words: Option<&str>) -> RunReport {
    let (outcome, how) = match (&exit.cause, &exit.outcome) {
        (Some(StopCause::WallTime), _) => {
            (RunOutcome::TimedOut, "its sandbox took longer than it may".to_owned())
        }
        (Some(StopCause::EngineOrOperator { signal }), outcome) => (
            RunOutcome::Interrupted,
            format!("its container was stopped from outside (signal {signal}): {outcome}"),
        ),
        (Some(StopCause::LeaseExpired), _) => {
            (RunOutcome::Interrupted, "no dispatcher tended it for too long".to_owned())
        }
        (Some(StopCause::Requested { reason }), outcome) => {
            (RunOutcome::Interrupted, format!("its container was stopped ({reason}): {outcome}"))
        }
        (_, Outcome::NeverStarted(failure)) => {
            (RunOutcome::Interrupted, format!("its worker was not started: {failure}"))
        }
        (_, outcome) if exit.out_of_memory => (
            RunOutcome::OutOfMemory,
            format!("its sandbox ran out of memory: the worker {outcome}"),
        ),
        (_, Outcome::Exited(code)) => of_worker(*code),
        (_, outcome) => (RunOutcome::WorkerLost, format!("its worker {outcome}")),
    };
    let message = match last_words.filter(|words| !words.is_empty()) {
        Some(words) => format!("{how}; its last words: {words}"),
        None => how,
    };
    let hint = (outcome == RunOutcome::LaunchFailed).then(|| HINT_IMAGE.to_owned());
    RunReport { hint, ..RunReport::new(outcome).with_message(message) }
}

fn of_worker(code: i32) -> (RunOutcome, String) {
    match WorkerExit::of_code(code) {
        Some(WorkerExit::Interrupted) => {
            (RunOutcome::Interrupted, "its worker was told to stop".to_owned())
        }
        Some(WorkerExit::BadAssignment) => {
            (RunOutcome::HostFailed, "its worker could not use its assignment".to_owned())
        }
        Some(WorkerExit::ImageUnfit) => {
            (RunOutcome::LaunchFailed, "its image lacks what a worker needs".to_owned())
        }
        Some(WorkerExit::DatabaseAway) => {
            (RunOutcome::WorkerLost, "its worker lost the database".to_owned())
        }
        Some(WorkerExit::Fenced) => {
            (RunOutcome::WorkerLost, "the database did not know its worker".to_owned())
        }
        Some(WorkerExit::Reported) | None => {
            (RunOutcome::WorkerLost, format!("its worker exited with {code} and no report"))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn exit(outcome: Outcome, cause: Option<StopCause>) -> ExitReport {
        ExitReport {
            outcome,
            cause,
            out_of_memory: false,
            leftovers_killed: 0,
            survivors: 0,
            log_end: 0,
            dropped_bytes: 0,
            started_at: None,
            ended_at: Timestamp::UNIX_EPOCH,
            source: ExitSource::Record,
        }
    }

    fn judged(outcome: Outcome, cause: Option<StopCause>) -> RunOutcome {
        judge(None, Some(&exit(outcome, cause)), None).outcome
    }

    #[test]
    fn a_report_speaks_before_the_exit() {
        let report = RunReport::new(RunOutcome::VerificationFailed);
        let exit = exit(Outcome::Signaled(9), None);
        assert_eq!(judge(Some(report.clone()), Some(&exit), None), report);
        assert_eq!(judge(Some(report.clone()), None, None), report);
    }

    #[test]
    fn without_a_report_the_exit_speaks_with_its_last_words() {
        assert_eq!(judge(None, None, None).outcome, RunOutcome::WorkerLost);
        let report = judge(None, Some(&exit(Outcome::Exited(101), None)), Some("thread panicked"));
        assert_eq!(report.outcome, RunOutcome::WorkerLost);
        let message = report.message.unwrap_or_default();
        assert!(message.contains("101") && message.ends_with("thread panicked"), "{message}");
        assert_eq!(judged(Outcome::Exited(75), None), RunOutcome::Interrupted);
        let unfit = judge(None, Some(&exit(Outcome::Exited(72), None)), Some("no `git`"));
        assert_eq!(unfit.outcome, RunOutcome::LaunchFailed);
        assert!(unfit.hint.is_some_and(|hint| hint.contains("SANDBOX_DOCKER_IMAGE")));
        let oom = ExitReport { out_of_memory: true, ..exit(Outcome::Signaled(9), None) };
        assert_eq!(judge(None, Some(&oom), None).outcome, RunOutcome::OutOfMemory);
    }

    #[test]
    fn an_agent_that_fails_where_memory_ran_out_has_run_out_of_memory() {
        let full = ExitReport { out_of_memory: true, ..exit(Outcome::Exited(0), None) };
        let judged = |outcome, exit: &ExitReport| {
            let report = RunReport::new(outcome).with_message("ended by signal 9");
            judge(Some(report), Some(exit), None)
        };
        let report = judged(RunOutcome::AgentFailed, &full);
        assert_eq!(report.outcome, RunOutcome::OutOfMemory);
        assert!(report.message.unwrap_or_default().ends_with("ended by signal 9"));
        // A command of the agent's was killed, and it went on.
        assert_eq!(judged(RunOutcome::Succeeded, &full).outcome, RunOutcome::Succeeded);
        let fine = exit(Outcome::Exited(0), None);
        assert_eq!(judged(RunOutcome::AgentFailed, &fine).outcome, RunOutcome::AgentFailed);
    }

    #[test]
    fn a_stop_that_nobody_here_asked_for_is_an_interruption_and_ours_say_why() {
        let from_outside = Some(StopCause::EngineOrOperator { signal: 15 });
        assert_eq!(judged(Outcome::Exited(143), from_outside), RunOutcome::Interrupted);
        assert_eq!(judged(Outcome::Signaled(9), Some(StopCause::WallTime)), RunOutcome::TimedOut);
        for (stopped, outcome) in [
            (Stopped::Cancelled, RunOutcome::Cancelled),
            (Stopped::DiskLimit, RunOutcome::DiskLimit),
            (Stopped::NotStarted, RunOutcome::WorkerLost),
        ] {
            let cause = StopCause::Requested { reason: stopped.reason().to_owned() };
            assert_eq!(judged(Outcome::Signaled(9), Some(cause)), outcome);
        }
    }

    #[test]
    fn a_worker_that_its_own_agent_ended_is_lost_and_no_interruption() {
        let told = RunReport::new(RunOutcome::Interrupted).with_message(TOLD_TO_STOP);
        let judged = |report: &RunReport, exit: &ExitReport| {
            judge(Some(report.clone()), Some(exit), None).outcome
        };
        let by_itself = exit(Outcome::Exited(0), None);
        assert_eq!(judged(&told, &by_itself), RunOutcome::WorkerLost);
        let causes = [
            StopCause::EngineOrOperator { signal: 15 },
            StopCause::LeaseExpired,
            StopCause::Requested { reason: "something".to_owned() },
        ];
        for cause in causes {
            let stopped = exit(Outcome::Exited(0), Some(cause));
            assert_eq!(judged(&told, &stopped), RunOutcome::Interrupted);
        }
        // Without a record nobody knows who stopped it.
        let unknown = ExitReport { source: ExitSource::Engine, ..by_itself.clone() };
        assert_eq!(judged(&told, &unknown), RunOutcome::Interrupted);
        let lease = RunReport::new(RunOutcome::Interrupted).with_message("no lease");
        assert_eq!(judged(&lease, &by_itself), RunOutcome::Interrupted);
    }

    #[test]
    fn a_worker_that_was_stopped_for_its_disk_does_not_call_it_an_interruption() {
        let cause = StopCause::Requested { reason: Stopped::DiskLimit.reason().to_owned() };
        let exit = exit(Outcome::Exited(0), Some(cause));
        let report = RunReport::new(RunOutcome::Interrupted);
        assert_eq!(judge(Some(report), Some(&exit), None).outcome, RunOutcome::DiskLimit);
    }
}
