//! The last step of a run: its commit is checked and gets its branch, here or at another host.

use std::time::Duration;

use checkout::{
    checkouts::{Checkout, Checkouts},
    collect::{Brought, Collected},
    seal::SealedCommit,
};
use core_types::{
    event::RunEvent,
    outcome::{RunOutcome, RunReport},
};
use telemetry::chain::error_chain;
use tokio::time::sleep;

use super::{EndedEarly, Life};
use crate::trouble::{Step, report_of};

/// How long a push that failed for the moment waits before it is tried again; after the last one it is given up.
const PUSH_WAITS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];

impl Life<'_> {
    pub(super) async fn collect(
        &self,
        checkouts: &Checkouts,
        checkout: &Checkout,
        sealed: &SealedCommit,
    ) -> Result<RunReport, EndedEarly> {
        let bring = async {
            let brought = checkouts.bring(checkout, sealed).await;
            brought.map_err(|error| report_of(Step::Collect, &error))
        };
        let brought = self.unless_stopped(RunOutcome::HostFailed, bring).await?;
        let collected = match self.publish(checkouts, checkout, &brought).await {
            Ok(collected) => collected,
            Err(report) => return Err(self.kept_here(checkout, &brought, report).await),
        };
        let (branch, commit) = (collected.branch.to_string(), collected.commit.to_string());
        let files_changed = sealed.files_changed;
        let mut report = RunReport::new(RunOutcome::Succeeded);
        report.commit = Some(commit.clone());
        report.branch = Some(branch.clone());
        let pushed = checkout.is_pushed();
        let event = RunEvent::Commit { branch, commit, files_changed, pushed };
        self.around.recorder.record(event).await;
        Ok(report)
    }

    /// The report of a push that came to nothing. The commit is named where this host has it: it can be looked at, and
    /// applied by hand.
    async fn kept_here(
        &self,
        checkout: &Checkout,
        brought: &Brought,
        mut report: EndedEarly,
    ) -> EndedEarly {
        let stopped = matches!(report.outcome, RunOutcome::Cancelled | RunOutcome::Interrupted);
        if checkout.is_pushed() && brought.is_kept() && !stopped {
            let commit = brought.commit().to_string();
            let text = format!("commit {commit} was not pushed; it is kept on this host");
            self.around.recorder.record(RunEvent::Notice { text }).await;
            report.commit = Some(commit);
        }
        report
    }

    /// Makes the run's branch, each time only after the database confirmed that the run is still ours. What an agent
    /// has worked for is not given up because a network fails for a moment.
    async fn publish(
        &self,
        checkouts: &Checkouts,
        checkout: &Checkout,
        brought: &Brought,
    ) -> Result<Collected, EndedEarly> {
        let mut waits = PUSH_WAITS.iter();
        loop {
            self.confirm().await?;
            let publish = async { Ok(checkouts.publish(checkout, brought).await) };
            let published = if checkout.is_pushed() {
                self.unless_stopped(RunOutcome::HostFailed, publish).await?
            } else {
                // One ref of this host: done, or not done.
                publish.await?
            };
            let error = match published {
                Ok(collected) => return Ok(collected),
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| error.is_transient()) else {
                return Err(report_of(Step::Collect, &error));
            };
            let text = format!("the push is tried again: {}", error_chain(&error));
            self.around.recorder.record(RunEvent::Notice { text }).await;
            self.unless_stopped(RunOutcome::HostFailed, async {
                sleep(*wait).await;
                Ok(())
            })
            .await?;
        }
    }
}
