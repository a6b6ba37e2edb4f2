//! The steps of one run.
//!
//! The order is the point: checkout, agent, everything the agent started dead, seal, verification, collect. Sealing
//! comes before verification, so that what is committed is what the agent left and not what a verification command
//! wrote; the branch is made last, and only by whoever holds the lease in that moment.

mod publishing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checkout::{
    checkouts::{Checkout, Checkouts, PrepareRequest, Remotes},
    roots::AllowedRoots,
    seal::{CommitMessage, Sealed, SealedCommit},
};
use core_types::{
    event::RunEvent,
    outcome::{RunOutcome, RunReport},
};
use executor::{
    environment::{DEFAULT_PATH, allow_list},
    verdict::{StopKind, Verdict},
};
use store::error::FencedError;
use telemetry::chain::error_chain;
use tokio::time::sleep;

use crate::{
    around::Around,
    heartbeat::Authority,
    meter::{Caps, Meter},
    past::LastAttempt,
    policy::RunPolicy,
    run::{StartedRun, Workshop},
    session::SessionEnd,
    trouble::{Step, report_of},
    verification::{Verification, Verified},
};

/// Longest time for preparing a checkout, for sealing it, and for collecting its result.
const STEP_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Wait before limits that could not be read are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A run while it lives.
pub(crate) struct Life<'a> {
    pub(crate) shop: &'a Workshop,
    pub(crate) started: &'a StartedRun,
    pub(crate) policy: &'a RunPolicy,
    pub(crate) around: Around<'a>,
}

/// Why a run ends before its last step.
pub(crate) type EndedEarly = Box<RunReport>;

impl Life<'_> {
    pub(crate) async fn live(self) -> RunReport {
        let mut verdict = None;
        let mut report = match self.steps(&mut verdict).await {
            Ok(report) => report,
            Err(report) => *report,
        };
        if let Some(verdict) = verdict {
            report.usage = verdict.usage;
            report.session = verdict.session;
        }
        report
    }

    async fn steps(&self, verdict: &mut Option<Verdict>) -> Result<RunReport, EndedEarly> {
        self.phase("preparing").await?;
        let mut last = self.last_attempt().await;
        let checkout = self.prepare(&mut last).await?;
        self.phase("agent").await?;
        let (end, meter) = self.agent(&checkout, &last).await?;
        let judged = self.early_end(&end, &meter);
        *verdict = Some(end.verdict);
        if let Some(report) = judged {
            return Err(report);
        }
        self.phase("sealing").await?;
        let sealed = self.seal(&checkout).await?;
        if sealed.is_none() && self.started.task.new.role.requires_change() {
            let message = "the agent ended well and changed nothing";
            return Err(Box::new(RunReport::new(RunOutcome::NothingDone).with_message(message)));
        }
        self.phase("verifying").await?;
        self.verify(&checkout).await?;
        let Some(sealed) = sealed else {
            let message = "nothing needed to change";
            return Ok(RunReport::new(RunOutcome::NoChange).with_message(message));
        };
        self.phase("committing").await?;
        self.collect(&checkout, &sealed).await
    }

    /// Goes on to the next phase, unless the run must stop.
    async fn phase(&self, name: &str) -> Result<(), EndedEarly> {
        let authority = *self.around.heartbeat.authority().borrow();
        if authority != Authority::Held || self.around.stop.is_cancelled() {
            return Err(self.stopped(authority));
        }
        self.around.recorder.record(RunEvent::Phase { name: name.to_owned() }).await;
        Ok(())
    }

    /// Asks the database whether the run is still ours, before a step that cannot be taken back.
    pub(crate) async fn confirm(&self) -> Result<(), EndedEarly> {
        match self.around.confirm().await {
            Authority::Held if !self.around.stop.is_cancelled() => Ok(()),
            authority @ (Authority::Held
            | Authority::CancelRequested
            | Authority::Unreachable
            | Authority::Fenced) => Err(self.stopped(authority)),
        }
    }

    /// Carries a step through, unless the run must stop or the step takes for ever. What a step that is cut short
    /// leaves is removed with the checkout.
    async fn unless_stopped<T>(
        &self,
        step: impl Future<Output = Result<T, EndedEarly>>,
    ) -> Result<T, EndedEarly> {
        // The step may be dropped anywhere: nothing of it counts unless it is carried through.
        tokio::select! {
            done = step => done,
            authority = self.around.told_to_stop() => Err(self.stopped(authority)),
            () = sleep(STEP_WITHIN + self.policy.remotes.timeout) => {
                let message = "a step on the checkout took too long; is the disk or the network stuck?";
                Err(Box::new(RunReport::new(RunOutcome::HostFailed).with_message(message)))
            }
        }
    }

    async fn prepare(&self, last: &mut LastAttempt) -> Result<Checkout, EndedEarly> {
        let task = &self.started.task.new;
        let base = task.base_branch.as_deref().or(self.policy.base_branch.as_deref());
        let request = PrepareRequest {
            run: self.started.key.run,
            task: task.id,
            number: self.started.run.number,
            repository: &task.repository,
            base_branch: base,
        };
        let roots = match &self.policy.repository_roots {
            Ok(roots) => AllowedRoots::new(roots.clone()),
            Err(fault) => {
                let report = RunReport::new(RunOutcome::HostFailed).with_message(fault.clone());
                return Err(Box::new(report));
            }
        };
        let checkouts = Checkouts::clone(&self.shop.checkouts)
            .with_allowed_roots(roots)
            .with_remotes(self.remotes());
        let prepare = async {
            if let Some(branch) = &last.branch {
                let on_result = PrepareRequest { base_branch: Some(branch), ..request };
                match checkouts.prepare(on_result).await {
                    Err(error)
                        if report_of(Step::Checkout, &error).outcome
                            == RunOutcome::BaseBranchMissing =>
                    {
                        tracing::info!(error = %error_chain(&error), "last result not found");
                        last.branch = None;
                    }
                    prepared => {
                        return prepared.map_err(|error| report_of(Step::Checkout, &error));
                    }
                }
            }
            let prepared = checkouts.prepare(request).await;
            prepared.map_err(|error| report_of(Step::Checkout, &error))
        };
        let checkout = self.unless_stopped(prepare).await?;
        let base = checkout.base_commit.to_string();
        if let Err(error) = self.shop.store.record_base_commit(self.started.key, &base).await {
            tracing::warn!(error = %error_chain(&error), "base commit not recorded");
        }
        Ok(checkout)
    }

    /// The way to repositories of other hosts: with this host's logins, which no agent ever gets.
    fn remotes(&self) -> Remotes {
        let mut access = self.policy.remotes.clone();
        access.environment = BTreeMap::clone(&self.shop.parent_env);
        Remotes { access: Arc::new(access), launcher: Arc::clone(&self.shop.launcher) }
    }

    /// What the run may use, unless nothing is left of it.
    pub(crate) async fn meter(&self) -> Result<Meter, EndedEarly> {
        let caps = Caps::of(&self.started.task.new, &self.policy.spend);
        let ask = async {
            loop {
                match Meter::start(self.shop.store.clone(), self.started.key, caps).await {
                    Ok(meter) => return Ok(meter),
                    Err(FencedError::Fenced { .. }) => return Err(self.stopped(Authority::Fenced)),
                    Err(FencedError::Store(error)) => {
                        tracing::warn!(error = %error_chain(&error), "limits not read yet");
                        sleep(ASK_AGAIN).await;
                    }
                }
            }
        };
        // Nothing is lost by dropping the question.
        let meter = tokio::select! {
            meter = ask => meter?,
            authority = self.around.told_to_stop() => return Err(self.stopped(authority)),
        };
        match meter.reached() {
            Some(reached) => Err(Box::new(reached.report())),
            None => Ok(meter),
        }
    }

    /// The report of an agent that did not finish its work.
    fn early_end(&self, end: &SessionEnd, meter: &Meter) -> Option<EndedEarly> {
        if end.stopped == Some(StopKind::Interrupted) {
            return Some(self.stopped(*self.around.heartbeat.authority().borrow()));
        }
        if let Some(fault) = &end.fault {
            let report = RunReport::new(RunOutcome::AgentFailed).with_message(fault.clone());
            return Some(Box::new(report));
        }
        let verdict = &end.verdict;
        let outcome = verdict.outcome.err()?;
        // The command line keeps to the budget it was told, and knows nothing of whose it is.
        if outcome == RunOutcome::LimitReached
            && let Some(reached) = meter.reached()
        {
            return Some(Box::new(reached.report()));
        }
        let mut report = RunReport::new(outcome);
        report.message.clone_from(&verdict.message);
        report.hint.clone_from(&verdict.hint);
        report.retry_at = verdict.retry_at;
        Some(Box::new(report))
    }

    async fn seal(&self, checkout: &Checkout) -> Result<Option<SealedCommit>, EndedEarly> {
        let task = &self.started.task.new;
        let body = format!("Task: {}\nRun: {}", task.id, self.started.key.run);
        let message = CommitMessage::new(&task.title, &body);
        let env = allow_list(self.shop.parent_env.iter());
        let seal = async {
            let launcher = self.around.launcher;
            let sealed = self.shop.checkouts.seal(checkout, launcher, &env, &message).await;
            sealed.map_err(|error| report_of(Step::Collect, &error))
        };
        let (notices, sealed) = match self.unless_stopped(seal).await? {
            Sealed::Nothing { notices } => (notices, None),
            Sealed::Commit(sealed) => (sealed.notices.clone(), Some(sealed)),
        };
        for text in notices {
            self.around.recorder.record(RunEvent::Notice { text }).await;
        }
        Ok(sealed)
    }

    async fn verify(&self, checkout: &Checkout) -> Result<(), EndedEarly> {
        let env = allow_list(self.shop.parent_env.iter());
        let verification = Verification {
            key: self.started.key,
            around: &self.around,
            checkout,
            path: env.get("PATH").map_or(DEFAULT_PATH, String::as_str),
            timeout: self.policy.verification_timeout,
            grace: self.policy.grace,
        };
        match verification.run(self.verification()).await {
            Verified::Passed => Ok(()),
            Verified::Failed { message } => {
                let report = RunReport::new(RunOutcome::VerificationFailed);
                Err(Box::new(report.with_message(message)))
            }
            Verified::Fault { message } => {
                let message = format!("verification could not be started: {message}");
                Err(Box::new(RunReport::new(RunOutcome::HostFailed).with_message(message)))
            }
            Verified::Stopped(authority) => Err(self.stopped(authority)),
        }
    }

    /// The report of a run that must stop.
    fn stopped(&self, authority: Authority) -> EndedEarly {
        let (outcome, message) = match authority {
            Authority::CancelRequested => (RunOutcome::Cancelled, "the task was cancelled"),
            Authority::Held if self.around.stop.is_cancelled() => {
                (RunOutcome::Interrupted, "the worker stopped while it ran")
            }
            Authority::Held | Authority::Unreachable => {
                (RunOutcome::Interrupted, "the worker could not renew its lease and ended it")
            }
            Authority::Fenced => (RunOutcome::Interrupted, "the run was taken back"),
        };
        Box::new(RunReport::new(outcome).with_message(message))
    }
}
