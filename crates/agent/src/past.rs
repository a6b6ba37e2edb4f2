//! What a run is told of the attempts before it.

use core_types::{event::RunEvent, outcome::RunOutcome, sandbox::PastFailure};
use store::{error::StoreError, runs::Run};
use telemetry::chain::error_chain;

use crate::life::Hosted;

/// What of the last attempt a run goes on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LastAttempt {
    /// The agent's own session.
    pub(crate) session: Option<String>,
    /// The branch with its result.
    pub(crate) branch: Option<String>,
}

impl Hosted<'_> {
    /// What this run shall go on with: nothing, unless somebody asked for that.
    pub(crate) async fn last_attempt(&self) -> LastAttempt {
        if !self.started.task.continue_session {
            return LastAttempt::default();
        }
        let mut last = LastAttempt::default();
        for run in self.runs_before().await {
            if let Some(report) = run.report {
                last.session = report.session.or(last.session);
                last.branch = report.branch.or(last.branch);
            }
        }
        last
    }

    /// What was wrong with the work of the last `count` attempts before this one, oldest first.
    pub(crate) async fn failures_before(&self, count: usize) -> Vec<PastFailure> {
        let mut failures = Vec::new();
        for run in last_failed(self.runs_before().await, count) {
            let output = self.failing_output(&run).await;
            let what = run.report.and_then(|report| report.message);
            failures.extend(what.map(|what| PastFailure { what, output }));
        }
        failures
    }

    /// The task's runs so far; none where they cannot be read.
    pub(crate) async fn runs_before(&self) -> Vec<Run> {
        let runs = self.shop.store.runs_of_task(self.started.task.new.id).await;
        let mut runs = runs.unwrap_or_else(|error| {
            unread(&error);
            Vec::new()
        });
        runs.retain(|run| run.id != self.started.key.run);
        runs.sort_by_key(|run| run.number);
        runs
    }

    async fn failing_output(&self, run: &Run) -> Option<String> {
        if run.outcome() != Some(RunOutcome::VerificationFailed) {
            return None;
        }
        match self.shop.store.failed_verification(run.id).await {
            Ok(Some(RunEvent::Verification { output, .. })) => Some(output),
            Ok(_) => None,
            Err(error) => {
                unread(&error);
                None
            }
        }
    }
}

/// A prompt that says less is better than no run.
fn unread(error: &StoreError) {
    tracing::warn!(error = %error_chain(error), "earlier attempts not read");
}

fn last_failed(mut runs: Vec<Run>, count: usize) -> Vec<Run> {
    runs.retain(|run| run.outcome().is_some_and(RunOutcome::is_about_the_work));
    runs.split_off(runs.len().saturating_sub(count))
}
