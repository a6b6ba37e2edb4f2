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
    invocation::{AgentTask, Executor, ExecutorError, Invocation, Place},
    prompt::{self, PastFailure, PromptParts},
    verdict::{StopKind, Verdict},
};
use launcher::spec::{LaunchSpec, Limits, OutputLimits, StopPolicy, StopSignal};
use store::error::FencedError;
use telemetry::chain::error_chain;
use tokio::time::sleep;

use crate::{
    around::Around,
    heartbeat::Authority,
    meter::{Caps, Meter},
    policy::{LEASE_GRACE, RunPolicy},
    run::{StartedRun, Workshop, launch_labels},
    session::{SessionEnd, SessionLimits, run_agent},
    trouble::{Step, report_of},
    verification::{Verification, Verified},
};

/// Agent output kept on disk, in bytes, at its beginning and at its end.
const AGENT_OUTPUT: OutputLimits = OutputLimits { head_bytes: 64 << 20, tail_bytes: 16 << 20 };
/// Longest time for preparing a checkout, for sealing it, and for collecting its result.
const STEP_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Wait before limits that could not be read are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Earlier attempts whose failures an agent is told of.
const FAILURES_TOLD: usize = 3;

/// A run while it lives.
pub(crate) struct Life<'a> {
    pub(crate) shop: &'a Workshop,
    pub(crate) started: &'a StartedRun,
    pub(crate) policy: &'a RunPolicy,
    pub(crate) around: Around<'a>,
}

/// Why a run ends before its last step.
type EndedEarly = Box<RunReport>;

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
        let checkout = self.prepare().await?;
        self.phase("agent").await?;
        let (end, meter) = self.agent(&checkout).await?;
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
    async fn confirm(&self) -> Result<(), EndedEarly> {
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
                Err(Box::new(RunReport::new(RunOutcome::LaunchFailed).with_message(message)))
            }
        }
    }

    async fn prepare(&self) -> Result<Checkout, EndedEarly> {
        let task = &self.started.task.new;
        let request = PrepareRequest {
            run: self.started.key.run,
            task: task.id,
            number: self.started.run.number,
            repository: &task.repository,
            base_branch: task.base_branch.as_deref().or(self.policy.base_branch.as_deref()),
        };
        let roots = match &self.policy.repository_roots {
            Ok(roots) => AllowedRoots::new(roots.clone()),
            Err(fault) => {
                let report = RunReport::new(RunOutcome::LaunchFailed).with_message(fault.clone());
                return Err(Box::new(report));
            }
        };
        let checkouts = Checkouts::clone(&self.shop.checkouts)
            .with_allowed_roots(roots)
            .with_remotes(self.remotes());
        let prepare = async {
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

    async fn agent(&self, checkout: &Checkout) -> Result<(SessionEnd, Meter), EndedEarly> {
        let task = &self.started.task.new;
        let meter = self.meter().await?;
        let invocation = self.invocation(checkout, meter.budget()).await.map_err(|error| {
            let mut report = RunReport::new(RunOutcome::LaunchFailed);
            report.message = Some(error_chain(&error).to_string());
            report.hint = Some(error.hint().to_owned());
            Box::new(report)
        })?;
        self.confirm().await?;
        let limits = SessionLimits {
            idle: self.policy.idle_timeout,
            total: task.timebox.unwrap_or(self.policy.timebox),
            grace: self.policy.grace,
        };
        let spec = self.agent_spec(checkout, &invocation, limits.total);
        let key = self.started.key;
        let end = run_agent(&self.around, key, spec, &invocation, limits, &meter).await;
        meter.note(end.verdict.usage);
        Ok((end, meter))
    }

    /// What the run may use, unless nothing is left of it.
    async fn meter(&self) -> Result<Meter, EndedEarly> {
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

    fn agent_spec(
        &self,
        checkout: &Checkout,
        invocation: &Invocation,
        total: Duration,
    ) -> LaunchSpec {
        LaunchSpec {
            program: invocation.program.clone(),
            args: invocation.args.clone(),
            env: invocation.env.clone(),
            cwd: checkout.work.clone(),
            user: None,
            limits: Limits {
                memory_bytes: self.policy.memory_limit,
                cpu_millis: None,
                processes: self.policy.process_limit,
                // The shim's own limit stands behind this worker's, for the case that it hangs.
                wall: Some(total + self.policy.grace + Duration::from_secs(60)),
            },
            output: AGENT_OUTPUT,
            stop: StopPolicy {
                grace: self.policy.grace.min(LEASE_GRACE),
                signal: StopSignal::Terminate,
            },
            lease: Some(self.around.heartbeat.launch_lease()),
            labels: launch_labels(self.started.key),
        }
    }

    async fn invocation(
        &self,
        checkout: &Checkout,
        budget: Option<u64>,
    ) -> Result<Invocation, ExecutorError> {
        let task = &self.started.task.new;
        let place = Place::on_host(
            self.shop.parent_env.iter(),
            self.policy.agent_home.clone(),
            checkout.work.clone(),
            checkout.tmp.clone(),
            rustix::process::geteuid().is_root(),
        )?;
        let agent_task = AgentTask {
            prompt: self.prompt().await,
            model: task.model.clone(),
            resume: None,
            cost_limit_microusd: budget,
        };
        Executor::new(task.executor, &self.policy.executors)?.invocation(&agent_task, &place)
    }

    async fn prompt(&self) -> String {
        let task = &self.started.task.new;
        let before = self.failures_before().await;
        let failures: Vec<PastFailure<'_>> =
            before.iter().map(|what| PastFailure { what, output: None }).collect();
        prompt::build(&PromptParts {
            role: task.role,
            title: &task.title,
            goal: &task.goal,
            context: task.context.as_ref(),
            verification: &task.verification,
            failures: &failures,
        })
    }

    /// What was wrong with the work of the attempts before this one, oldest first.
    async fn failures_before(&self) -> Vec<String> {
        let runs = self.shop.store.runs_of_task(self.started.task.new.id).await;
        let mut runs = runs.unwrap_or_else(|error| {
            tracing::warn!(error = %error_chain(&error), "earlier attempts not read");
            Vec::new()
        });
        runs.retain(|run| run.outcome().is_some_and(is_about_the_work));
        runs.sort_by_key(|run| run.number);
        let skipped = runs.len().saturating_sub(FAILURES_TOLD);
        runs.into_iter().skip(skipped).filter_map(|run| run.report?.message).collect()
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
        match verification.run(&self.started.task.new.verification).await {
            Verified::Passed => Ok(()),
            Verified::Failed { message } => {
                let report = RunReport::new(RunOutcome::VerificationFailed);
                Err(Box::new(report.with_message(message)))
            }
            Verified::Fault { message } => {
                let message = format!("verification could not be started: {message}");
                Err(Box::new(RunReport::new(RunOutcome::LaunchFailed).with_message(message)))
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

/// Whether an outcome says something about the work that the next attempt should know.
const fn is_about_the_work(outcome: RunOutcome) -> bool {
    match outcome {
        RunOutcome::NothingDone
        | RunOutcome::VerificationFailed
        | RunOutcome::AgentFailed
        | RunOutcome::ToolsDenied
        | RunOutcome::IdleTimeout
        | RunOutcome::TimedOut
        | RunOutcome::OutOfMemory
        | RunOutcome::LimitReached
        | RunOutcome::CollectFailed => true,
        RunOutcome::Succeeded
        | RunOutcome::NoChange
        | RunOutcome::LoginRequired
        | RunOutcome::KeyRejected
        | RunOutcome::QuotaExceeded
        | RunOutcome::ProviderOverloaded
        | RunOutcome::Cancelled
        | RunOutcome::LaunchFailed
        | RunOutcome::CheckoutFailed
        | RunOutcome::RepositoryMissing
        | RunOutcome::RepositoryDenied
        | RunOutcome::HostNotTrusted
        | RunOutcome::BaseBranchMissing
        | RunOutcome::RemoteUnreachable
        | RunOutcome::RemoteHungUp
        | RunOutcome::PushRefused
        | RunOutcome::BranchTaken
        | RunOutcome::RepositoryTooLarge
        | RunOutcome::DiskFull
        | RunOutcome::WorkerLost
        | RunOutcome::Interrupted => false,
    }
}
