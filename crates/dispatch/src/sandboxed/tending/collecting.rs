//! What a container left: checked by this host, brought to where it belongs, and only then a success.

use std::time::Duration;

use checkout::{
    checkouts::{Checkout, Checkouts},
    collect::{Brought, Collected},
    error::CheckoutError,
    outcome::{Step, outcome_of},
    sandboxed::{BroughtClaim, Claim},
};
use core_types::{
    event::RunEvent,
    ids::RunKey,
    outcome::{RunOutcome, RunReport},
    sandbox::ResultClaim,
};
use telemetry::chain::error_chain;
use tokio::time::{sleep, timeout};

use super::{Hands, Tended, patiently};
use crate::found::LEASE;

/// Longest time for checking a result.
const BRING_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How long a push that failed for the moment waits before it is tried again; after the last one it is given up.
const PUSH_WAITS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];

impl Hands {
    /// What a run that reports a success is finished with.
    pub(super) async fn result(&self, tended: &Tended, report: RunReport) -> RunReport {
        let run = tended.key.run;
        if report.outcome == RunOutcome::NoChange {
            return self.without_change(tended, report).await;
        }
        let Some(claim) = patiently(|| self.store.result_claim(run)).await else {
            return ended(&report, RunOutcome::CollectFailed, "it reported a result and left none");
        };
        match self.collect(tended.key, &claim).await {
            Ok(collected) => RunReport {
                commit: Some(collected.commit.to_string()),
                branch: Some(collected.branch.to_string()),
                ..report
            },
            Err(failed) => RunReport { usage: report.usage, session: report.session, ..*failed },
        }
    }

    /// Whether nothing to change is a success depends on the role, whatever the sandbox says.
    async fn without_change(&self, tended: &Tended, report: RunReport) -> RunReport {
        let task = patiently(|| self.store.task(tended.task)).await;
        if task.is_some_and(|task| task.new.role.requires_change()) {
            let message = "the agent ended well and changed nothing";
            return ended(&report, RunOutcome::NothingDone, message);
        }
        report
    }

    async fn collect(&self, key: RunKey, claim: &ResultClaim) -> Result<Collected, Box<RunReport>> {
        let failed = |error: CheckoutError| {
            let mut report = RunReport::new(outcome_of(Step::Collect, &error));
            report.message = Some(error_chain(&error).to_string());
            report.hint = error.hint().map(str::to_owned);
            Box::new(report)
        };
        let host_failed = |message: String| {
            Box::new(RunReport::new(RunOutcome::HostFailed).with_message(message))
        };
        let checkouts = self.outfitter.checkouts();
        let checkouts = checkouts.map_err(|fault| host_failed(fault.text()))?;
        let checkout = checkouts.reopen(key.run).await.map_err(failed)?;
        let checkout = checkout.ok_or_else(|| host_failed("its checkout is gone".to_owned()))?;
        let commit = claim.commit.parse().map_err(|_| {
            let report = RunReport::new(RunOutcome::CollectFailed);
            Box::new(report.with_message("what it claims to have made is no commit"))
        })?;
        let claim = Claim { commit: &commit, pack: &claim.pack };
        let bring = timeout(BRING_WITHIN, checkouts.bring_claimed(&checkout, claim)).await;
        let BroughtClaim { brought, files_changed, .. } = bring
            .map_err(|_| host_failed("its result was not checked in time".to_owned()))?
            .map_err(failed)?;
        let published = self.publish(key, &checkouts, &checkout, &brought).await;
        let collected = match published.and_then(|published| published.map_err(failed)) {
            Ok(collected) => collected,
            Err(report) => return Err(self.kept_here(key, &checkout, &brought, report).await),
        };
        let event = RunEvent::Commit {
            branch: collected.branch.to_string(),
            commit: collected.commit.to_string(),
            files_changed,
            pushed: checkout.is_pushed(),
        };
        self.tell(key, event).await;
        Ok(collected)
    }

    /// The report of a push that came to nothing. The commit is named where this host has it: it can be looked at, and
    /// applied by hand.
    async fn kept_here(
        &self,
        key: RunKey,
        checkout: &Checkout,
        brought: &Brought,
        mut report: Box<RunReport>,
    ) -> Box<RunReport> {
        let stopped = matches!(report.outcome, RunOutcome::Cancelled | RunOutcome::Interrupted);
        if checkout.is_pushed() && brought.is_kept() && !stopped {
            let commit = brought.commit().to_string();
            let text = format!("commit {commit} was not pushed; it is kept on this host");
            self.tell(key, RunEvent::Notice { text }).await;
            report.commit = Some(commit);
        }
        report
    }

    /// Makes the run's branch, each time only after the database confirmed that the run is still ours.
    async fn publish(
        &self,
        key: RunKey,
        checkouts: &Checkouts,
        checkout: &Checkout,
        brought: &Brought,
    ) -> Result<Result<Collected, CheckoutError>, Box<RunReport>> {
        let mut waits = PUSH_WAITS.iter();
        loop {
            let keys = [key];
            let renewed = patiently(|| self.store.renew_leases(&keys, LEASE)).await;
            if !renewed.iter().all(|renewed| renewed.valid) {
                let report = RunReport::new(RunOutcome::Interrupted);
                return Err(Box::new(report.with_message("the run was taken back")));
            }
            if renewed.iter().any(|renewed| renewed.cancel_requested) {
                let report = RunReport::new(RunOutcome::Cancelled);
                return Err(Box::new(report.with_message("the task was cancelled")));
            }
            let error = match checkouts.publish(checkout, brought).await {
                Ok(collected) => return Ok(Ok(collected)),
                Err(error) => error,
            };
            let Some(wait) = waits.next().filter(|_| error.is_transient()) else {
                return Ok(Err(error));
            };
            let text = format!("the push is tried again: {}", error_chain(&error));
            self.tell(key, RunEvent::Notice { text }).await;
            sleep(*wait).await;
        }
    }

    async fn tell(&self, key: RunKey, event: RunEvent) {
        if let Err(error) = self.store.append_events_after(key, &[event]).await {
            tracing::warn!(run.id = %key.run, error = %error_chain(&error), "event not written");
        }
    }
}

fn ended(report: &RunReport, outcome: RunOutcome, message: &str) -> RunReport {
    let mut ended = RunReport::new(outcome).with_message(message);
    ended.usage = report.usage;
    ended.session.clone_from(&report.session);
    ended
}
