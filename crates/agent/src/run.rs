//! One run from its start to its finish.
//!
//! The order is the point: checkout, agent, everything the agent started dead, seal, verification, collect, finish.
//! Sealing comes before verification, so that what is committed is what the agent left and not what a verification
//! command wrote; nothing is moved to the branch unless verification passed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checkout::{
    checkouts::{Checkout, Checkouts, PrepareRequest},
    seal::{CommitMessage, Sealed, SealedCommit},
};
use core_types::{
    event::RunEvent,
    ids::RunKey,
    outcome::{RunOutcome, RunReport},
};
use executor::{
    environment::allow_list,
    invocation::{AgentTask, Executor, ExecutorError, Invocation, Place},
    prompt::{self, PastFailure, PromptParts},
    verdict::{StopKind, Verdict},
};
use launcher::{
    launcher::Launcher,
    spec::{LaunchSpec, Limits, OutputLimits, StopPolicy, StopSignal},
};
use store::{error::FencedError, pool::Store, runs::Run, tasks::Task};
use telemetry::chain::error_chain;
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    heartbeat::{Authority, Heartbeat},
    policy::{LAUNCH_LEASE, LEASE_GRACE, ParentEnvironment, RunPolicy},
    recorder::{Recorder, record_events},
    session::{SessionLimits, Surroundings, run_agent},
    verification::{Verification, Verified},
};

/// Label of every launch of a run: the run's id.
pub const LABEL_RUN: &str = "opentiger.run";
/// Label of every launch of a run: the fencing number of its claim.
pub const LABEL_LEASE: &str = "opentiger.lease";
/// Agent output kept on disk, in bytes, at its beginning and at its end.
const AGENT_OUTPUT: OutputLimits = OutputLimits { head_bytes: 64 << 20, tail_bytes: 16 << 20 };
/// Wait before a finish that could not be written is tried again.
const FINISH_RETRY: Duration = Duration::from_millis(500);
/// How long a worker that was told to stop still waits for the database once its agent had its grace.
const PATIENCE: Duration = Duration::from_secs(5);

/// The labels by which whoever recovers a run finds its launches.
#[must_use]
pub fn launch_labels(key: RunKey) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_RUN.to_owned(), key.run.to_string()),
        (LABEL_LEASE.to_owned(), key.lease.to_string()),
    ])
}

/// What every run of a worker shares.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// The database.
    pub store: Store,
    /// Starts agents and verification commands.
    pub launcher: Arc<dyn Launcher>,
    /// Where checkouts lie.
    pub checkouts: Arc<Checkouts>,
    /// Rings when something about an agent changed: work for it, or a request to cancel.
    pub alarm: watch::Receiver<u64>,
    /// The worker's own environment, of which agents see an allow-listed few.
    pub parent_env: Arc<ParentEnvironment>,
}

/// A run that its worker has started.
#[derive(Debug)]
pub struct StartedRun {
    /// The run and its fencing number.
    pub key: RunKey,
    /// The task as it was at the start.
    pub task: Task,
    /// The run as it was at the start.
    pub run: Run,
}

/// Works on a started run to its end and finishes it. Afterwards nothing of it is left on this machine but its
/// commit in the repository and its rows in the database.
pub async fn work_on(
    shop: &Workshop,
    started: StartedRun,
    policy: &RunPolicy,
    stop: &CancellationToken,
) {
    let span =
        tracing::info_span!("run", run.id = %started.key.run, task.id = %started.task.new.id);
    work(shop, started, policy, stop).instrument(span).await;
}

async fn work(shop: &Workshop, started: StartedRun, policy: &RunPolicy, stop: &CancellationToken) {
    let heartbeat = Heartbeat::start(shop.store.clone(), started.key, shop.alarm.clone());
    let hurry = CancellationToken::new();
    let _hurrying = JoinSet::from_iter([hurry_after(stop.clone(), policy.grace, hurry.clone())]);
    let (recorder, writer) = record_events(shop.store.clone(), started.key, hurry.clone());
    tracing::info!("run started");
    let life = Life { shop, started: &started, policy, stop, heartbeat: &heartbeat, recorder };
    let report = life.live().await;
    writer.finish().await;
    finish(&shop.store, started.key, &report, &hurry).await;
    drop(heartbeat);
    clean_up(shop, started.key).await;
    tracing::info!(outcome = %report.outcome, "run ended");
}

/// Ends patience with the database some time after the worker was told to stop.
async fn hurry_after(stop: CancellationToken, grace: Duration, hurry: CancellationToken) {
    stop.cancelled().await;
    sleep(grace + PATIENCE).await;
    hurry.cancel();
}

/// Writes the end of a run, however long the database is away. Gives up only when the run is no longer ours, or when
/// the worker must end: then a dispatcher sees its death and finishes the run.
async fn finish(store: &Store, key: RunKey, report: &RunReport, hurry: &CancellationToken) {
    loop {
        match store.finish_run(key, report).await {
            Ok(_) => return,
            Err(FencedError::Store(error)) if error.is_transient() && !hurry.is_cancelled() => {
                tracing::warn!(error = %error_chain(&error), "finish not written yet");
                hurry.run_until_cancelled(sleep(FINISH_RETRY)).await;
            }
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "finish given up");
                return;
            }
        }
    }
}

/// Removes the checkout and the launch directories of a run.
async fn clean_up(shop: &Workshop, key: RunKey) {
    if let Err(error) = shop.checkouts.remove(key.run).await {
        tracing::warn!(error = %error_chain(&error), "checkout not removed");
    }
    let launches = match shop.launcher.discover().await {
        Ok(launches) => launches,
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "launches not listed");
            return;
        }
    };
    let run = key.run.to_string();
    for found in launches.iter().filter(|found| found.labels.get(LABEL_RUN) == Some(&run)) {
        let destroyed = match shop.launcher.attach(&found.record).await {
            Ok(handle) => handle
                .destroy(launcher::handle::Destroy::Everything)
                .await
                .map_err(|e| error_chain(&e).to_string()),
            Err(error) => Err(error_chain(&error).to_string()),
        };
        if let Err(error) = destroyed {
            tracing::warn!(launch.id = %found.id, error, "launch directory not removed");
        }
    }
}

/// A run while it lives.
struct Life<'a> {
    shop: &'a Workshop,
    started: &'a StartedRun,
    policy: &'a RunPolicy,
    stop: &'a CancellationToken,
    heartbeat: &'a Heartbeat,
    recorder: Recorder,
}

/// Why a run ends before its last step.
type EndedEarly = Box<RunReport>;

impl Life<'_> {
    async fn live(self) -> RunReport {
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
        let task = &self.started.task;
        self.phase("preparing").await?;
        let checkout = self.prepare().await?;
        self.phase("agent").await?;
        let ended = self.agent(&checkout).await?;
        let judged = early_end(&ended);
        *verdict = Some(ended);
        if let Some(report) = judged {
            return Err(report);
        }
        self.phase("sealing").await?;
        let sealed = self.seal(&checkout).await?;
        if sealed.is_none() && task.new.role.requires_change() {
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
        let authority = *self.heartbeat.authority().borrow();
        if authority != Authority::Held || self.stop.is_cancelled() {
            return Err(Box::new(self.stopped(authority)));
        }
        self.recorder.record(RunEvent::Phase { name: name.to_owned() }).await;
        Ok(())
    }

    async fn prepare(&self) -> Result<Checkout, EndedEarly> {
        let task = &self.started.task.new;
        let base_branch = task.base_branch.as_deref().or(self.policy.base_branch.as_deref());
        let request = PrepareRequest {
            run: self.started.key.run,
            task: task.id,
            number: self.started.run.number,
            repository: &task.repository,
            base_branch,
        };
        let checkout = self.shop.checkouts.prepare(request).await.map_err(|error| {
            let mut report = RunReport::new(RunOutcome::CheckoutFailed);
            report.message = Some(error_chain(&error).to_string());
            report.hint = error.hint().map(str::to_owned);
            Box::new(report)
        })?;
        let base = checkout.base_commit.to_string();
        if let Err(error) = self.shop.store.record_base_commit(self.started.key, &base).await {
            tracing::warn!(error = %error_chain(&error), "base commit not recorded");
        }
        Ok(checkout)
    }

    async fn agent(&self, checkout: &Checkout) -> Result<Verdict, EndedEarly> {
        let task = &self.started.task.new;
        let invocation = self.invocation(checkout).await.map_err(|error| {
            let mut report = RunReport::new(RunOutcome::LaunchFailed);
            report.message = Some(error_chain(&error).to_string());
            report.hint = Some(error.hint().to_owned());
            Box::new(report)
        })?;
        let total = task.timebox.unwrap_or(self.policy.timebox);
        let spec = LaunchSpec {
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
            lease: Some(LAUNCH_LEASE),
            labels: launch_labels(self.started.key),
        };
        let limits = SessionLimits {
            idle: self.policy.idle_timeout,
            total,
            grace: self.policy.grace,
            tokens: task.token_limit,
            cost_microusd: task.cost_limit_microusd,
        };
        let around = Surroundings {
            launcher: &*self.shop.launcher,
            heartbeat: self.heartbeat,
            recorder: &self.recorder,
            stop: self.stop,
        };
        let end = run_agent(&around, self.started.key, spec, &invocation, limits).await;
        if end.stopped == Some(StopKind::Interrupted) {
            return Err(Box::new(self.stopped(*self.heartbeat.authority().borrow())));
        }
        Ok(end.verdict)
    }

    async fn invocation(&self, checkout: &Checkout) -> Result<Invocation, ExecutorError> {
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
            cost_limit_microusd: task.cost_limit_microusd,
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

    /// What went wrong in the attempts before this one, oldest first.
    async fn failures_before(&self) -> Vec<String> {
        let runs = self.shop.store.runs_of_task(self.started.task.new.id).await;
        let mut runs = runs.unwrap_or_else(|error| {
            tracing::warn!(error = %error_chain(&error), "earlier attempts not read");
            Vec::new()
        });
        runs.retain(|run| run.id != self.started.key.run);
        runs.sort_by_key(|run| run.number);
        runs.into_iter().filter_map(|run| run.report?.message).collect()
    }

    async fn seal(&self, checkout: &Checkout) -> Result<Option<SealedCommit>, EndedEarly> {
        let task = &self.started.task.new;
        let body = format!("Task: {}\nRun: {}", task.id, self.started.key.run);
        let message = CommitMessage::new(&task.title, &body);
        let env = allow_list(self.shop.parent_env.iter());
        let sealed = self.shop.checkouts.seal(checkout, &*self.shop.launcher, &env, &message).await;
        let (notices, sealed) = match sealed.map_err(|error| collect_failed(&error))? {
            Sealed::Nothing { notices } => (notices, None),
            Sealed::Commit(sealed) => (sealed.notices.clone(), Some(sealed)),
        };
        for text in notices {
            self.recorder.record(RunEvent::Notice { text }).await;
        }
        Ok(sealed)
    }

    async fn verify(&self, checkout: &Checkout) -> Result<(), EndedEarly> {
        let no_path = String::new();
        let verification = Verification {
            key: self.started.key,
            work: &checkout.work,
            scratch: &checkout.tmp,
            path: self.shop.parent_env.get("PATH").unwrap_or(&no_path),
            timeout: self.policy.verification_timeout,
            grace: self.policy.grace,
            launcher: &*self.shop.launcher,
            heartbeat: self.heartbeat,
            recorder: &self.recorder,
        };
        match verification.run(&self.started.task.new.verification).await {
            Verified::Passed => Ok(()),
            Verified::Failed { message } => {
                Err(Box::new(RunReport::new(RunOutcome::VerificationFailed).with_message(message)))
            }
            Verified::Stopped(authority) => Err(Box::new(self.stopped(authority))),
        }
    }

    async fn collect(
        &self,
        checkout: &Checkout,
        sealed: &SealedCommit,
    ) -> Result<RunReport, EndedEarly> {
        let collected = self.shop.checkouts.collect(checkout, sealed).await;
        let collected = collected.map_err(|error| collect_failed(&error))?;
        let (branch, commit) = (collected.branch.to_string(), collected.commit.to_string());
        let files_changed = sealed.files_changed;
        let mut report = RunReport::new(RunOutcome::Succeeded);
        report.commit = Some(commit.clone());
        report.branch = Some(branch.clone());
        self.recorder.record(RunEvent::Commit { branch, commit, files_changed }).await;
        Ok(report)
    }

    /// The report of a run that must stop.
    fn stopped(&self, authority: Authority) -> RunReport {
        let (outcome, message) = match authority {
            Authority::CancelRequested => (RunOutcome::Cancelled, "the task was cancelled"),
            Authority::Held => (RunOutcome::Interrupted, "the worker stopped while it ran"),
            Authority::Unreachable => {
                (RunOutcome::Interrupted, "the worker could not renew its lease and ended it")
            }
            Authority::Fenced => (RunOutcome::Interrupted, "the run was taken back"),
        };
        RunReport::new(outcome).with_message(message)
    }
}

/// The report of an agent that did not finish its work.
fn early_end(verdict: &Verdict) -> Option<EndedEarly> {
    let outcome = verdict.outcome.as_ref().err().copied()?;
    let mut report = RunReport::new(outcome);
    report.message.clone_from(&verdict.message);
    report.hint.clone_from(&verdict.hint);
    report.retry_at = verdict.retry_at;
    Some(Box::new(report))
}

fn collect_failed(error: &checkout::error::CheckoutError) -> EndedEarly {
    let mut report = RunReport::new(RunOutcome::CollectFailed);
    report.message = Some(error_chain(error).to_string());
    report.hint = error.hint().map(str::to_owned);
    Box::new(report)
}
