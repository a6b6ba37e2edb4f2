//! From a claimed run to a container that works on it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use checkout::{
    checkouts::{Checkout, Checkouts, PrepareRequest},
    error::CheckoutError,
    outcome::{Step, outcome_of},
};
use core_types::{
    event::RunEvent,
    ids::TaskId,
    label,
    outcome::{RunOutcome, RunReport},
    sandbox::{AttemptsBefore, PastFailure},
};
use launcher::{error::LaunchError, handle::Handle, id::LaunchId, spec::LaunchSpec};
use store::{error::FencedError, runs::Run, tasks::Task};
use telemetry::chain::error_chain;
use tokio::time::timeout;

use super::{
    Hands, Refusal, Tended,
    blame::{Blame, blame},
    patiently,
};
use crate::sandboxed::outfit::{NotReady, Order, Outfit, Unfit};

/// Longest time for a checkout beside what one call over a network may take.
const PREPARE_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Longest time for a container, and before that for what one needs: its image may have to be fetched.
const CREATE_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Longest time for handing over the assignment.
const ASSIGN_WITHIN: Duration = Duration::from_secs(60);
const SLOW_OUTFIT: &str = "image, network and relays of a sandbox were not there in time";
const UNPROVED: &str =
    "its sandbox is another than the one that was tested; a self-test comes first";
/// So many of the last failures are told to the next attempt.
const FAILURES_TOLD: usize = 3;

impl Hands {
    /// Prepares and launches, unless somebody cancels first.
    pub(super) async fn start(&self, tended: &Tended, id: &LaunchId) -> Result<Handle, Refusal> {
        let mut facts = tended.facts.clone();
        let cancelled = async move {
            // The sender lives as long as the run is tended.
            let asked = facts.wait_for(|facts| facts.cancel_requested).await.is_ok();
            if !asked {
                std::future::pending::<()>().await;
            }
        };
        // What a step that is cut off leaves is removed when the run is over.
        tokio::select! {
            started = self.prepare_and_launch(tended, id) => started,
            () = cancelled => {
                let report = RunReport::new(RunOutcome::Cancelled);
                Err(Box::new(report.with_message("the task was cancelled before its sandbox started")))
            }
        }
    }

    async fn prepare_and_launch(&self, tended: &Tended, id: &LaunchId) -> Result<Handle, Refusal> {
        let (task, run) = self.read(tended).await?;
        let runs = self.runs_before(&task, &run).await;
        let checkouts = self.outfitter.checkouts().map_err(|fault| self.not_ready(fault))?;
        let (checkout, before) = {
            let _place = self.preparing.take(&task.new.repository).await;
            self.prepare(&checkouts, &task, &run, runs).await?
        };
        let base = checkout.base_commit.to_string();
        if let Err(error) = self.store.record_base_commit(tended.key, &base).await {
            tracing::warn!(run.id = %run.id, error = %error_chain(&error), "base commit not recorded");
        }
        let told = checkouts.told_to_sandbox(&checkout).map_err(refused)?;
        let (Some(mounts), Some(told)) = (checkout.sandbox_mounts(), told) else {
            return Err(host_failed("the checkout was not made for a sandbox".to_owned(), None));
        };
        let token = match self.store.issue_sandbox_token(tended.key).await {
            Ok(token) => token,
            Err(FencedError::Fenced { .. }) => return Err(interrupted("the run was taken back")),
            Err(FencedError::Store(error)) => {
                return Err(interrupted(&format!("no token: {}", error_chain(&error))));
            }
        };
        let order = Order {
            key: tended.key,
            number: run.number,
            task: &task,
            mounts,
            checkout: told,
            before,
            token,
        };
        let own = [order.mounts.directory.clone(), order.mounts.objects.clone()];
        let outfit = timeout(CREATE_WITHIN, self.outfitter.outfit(order)).await;
        let outfit = outfit.map_err(|_| self.not_ready(NotReady::new(SLOW_OUTFIT)))?;
        let mut outfit = outfit.map_err(|unfit| self.unfit(unfit))?;
        let subject = outfit.spec.labels.get(label::SUBJECT).map(String::as_str);
        if !patiently(|| self.self_tests.is_proved(task.new.executor, subject)).await {
            return Err(interrupted(UNPROVED));
        }
        tie(&mut outfit.spec, tended, self.untended);
        let _place = self.starting.acquire().await;
        let own = own.each_ref().map(PathBuf::as_path);
        let launched = self.launch(id, outfit, &own).await;
        if launched.is_err() {
            self.outfitter.dismiss(id).await;
        }
        let handle = launched.map_err(|failure| self.not_launched(tended.task, failure))?;
        self.readiness.worked();
        Ok(handle)
    }

    async fn launch(
        &self,
        id: &LaunchId,
        outfit: Outfit,
        own: &[&Path],
    ) -> Result<Handle, NotLaunched> {
        let Outfit { spec, input } = outfit;
        let late = |what: &str| NotReady::new(format!("the engine did not {what} in time"));
        let failed = |error: LaunchError| NotLaunched::of(&error, own);
        let created = timeout(CREATE_WITHIN, self.launcher.create(id, &spec)).await;
        let created = created.map_err(|_| late("make the container"))?.map_err(failed)?;
        let network = spec.container.as_ref().map(|container| container.network.as_str());
        self.outfitter.admit(id, network).await?;
        let launched = timeout(ASSIGN_WITHIN, self.launcher.assign(created, input)).await;
        let launched = launched.map_err(|_| late("start the worker"))?.map_err(failed)?;
        Ok(launched.into_handle())
    }

    async fn read(&self, tended: &Tended) -> Result<(Task, Run), Refusal> {
        let task = patiently(|| self.store.task(tended.task)).await;
        let run = patiently(|| self.store.run(tended.key.run)).await;
        task.zip(run).ok_or_else(|| interrupted("its task is gone"))
    }

    async fn prepare(
        &self,
        checkouts: &Checkouts,
        task: &Task,
        run: &Run,
        runs: Vec<Run>,
    ) -> Result<(Checkout, AttemptsBefore), Refusal> {
        let (mut before, branch) = self.before(task, runs).await;
        let settings = Arc::clone(&self.settings.borrow().settings);
        let base_branch = task.new.base_branch.as_deref().or(settings.base_branch.as_deref());
        let request = PrepareRequest {
            run: run.id,
            task: task.new.id,
            number: run.number,
            repository: &task.new.repository,
            base_branch,
        };
        let user = self.outfitter.user();
        let within = PREPARE_WITHIN + settings.git_timeout;
        if let Some(branch) = &branch {
            let on_result = PrepareRequest { base_branch: Some(branch), ..request };
            let prepared = checkouts.prepare_for_sandbox(on_result, user);
            match timeout(within, prepared).await {
                Ok(Ok(checkout)) => return Ok((checkout, before)),
                Ok(Err(error))
                    if outcome_of(Step::Checkout, &error) == RunOutcome::BaseBranchMissing =>
                {
                    before.with_result = false;
                }
                Ok(Err(error)) => return Err(refused(error)),
                Err(_) => return Err(too_slow()),
            }
        }
        match timeout(within, checkouts.prepare_for_sandbox(request, user)).await {
            Ok(prepared) => Ok((prepared.map_err(refused)?, before)),
            Err(_) => Err(too_slow()),
        }
    }

    async fn runs_before(&self, task: &Task, run: &Run) -> Vec<Run> {
        let mut runs = patiently(|| self.store.runs_of_task(task.new.id)).await;
        runs.retain(|other| other.id != run.id);
        runs.sort_by_key(|run| run.number);
        runs
    }

    /// What the run is told of the attempts before, and the branch with the last result where it goes on with that.
    async fn before(&self, task: &Task, mut runs: Vec<Run>) -> (AttemptsBefore, Option<String>) {
        let (mut session, mut branch) = (None, None);
        if task.continue_session {
            for report in runs.iter().filter_map(|run| run.report.as_ref()) {
                session = report.session.clone().or(session);
                branch = report.branch.clone().or(branch);
            }
        }
        runs.retain(|run| run.outcome().is_some_and(RunOutcome::is_about_the_work));
        let mut failures = Vec::new();
        for run in runs.split_off(runs.len().saturating_sub(FAILURES_TOLD)) {
            let output = self.failing_output(&run).await;
            let what = run.report.and_then(|report| report.message);
            failures.extend(what.map(|what| PastFailure { what, output }));
        }
        (AttemptsBefore { failures, session, with_result: branch.is_some() }, branch)
    }

    async fn failing_output(&self, run: &Run) -> Option<String> {
        if run.outcome() != Some(RunOutcome::VerificationFailed) {
            return None;
        }
        match self.store.failed_verification(run.id).await {
            Ok(Some(RunEvent::Verification { output, .. })) => Some(output),
            // A prompt that says less is better than no run.
            Ok(_) | Err(_) => None,
        }
    }

    fn unfit(&self, unfit: Unfit) -> Refusal {
        match unfit {
            Unfit::Environment(fault) => self.not_ready(fault),
            Unfit::Run { reason, hint } => host_failed(reason, hint),
        }
    }

    /// A launch that failed ends its run, and stops all claims where the next one would fail as well.
    fn not_launched(&self, task: TaskId, failure: NotLaunched) -> Refusal {
        let NotLaunched { fault, blame } = failure;
        let is_everybodys = match blame {
            Blame::Environment => true,
            Blame::Run => false,
            Blame::Unclear => self.readiness.suspects(task),
        };
        if is_everybodys { self.not_ready(fault) } else { host_failed(fault.reason, fault.hint) }
    }

    /// The launch failed for a reason that is not the task's: it waits with all others until that is mended.
    fn not_ready(&self, fault: NotReady) -> Refusal {
        let report = interrupted(&fault.text());
        self.readiness.failed(fault);
        report
    }
}

/// Why a container was not launched, and whose fault that is.
struct NotLaunched {
    fault: NotReady,
    blame: Blame,
}

impl NotLaunched {
    fn of(error: &LaunchError, own: &[&Path]) -> Self {
        let fault = NotReady::new(format!("no sandbox starts: {}", error_chain(error)));
        Self { fault: fault.with_hint(error.hint()), blame: blame(error, own) }
    }
}

impl From<NotReady> for NotLaunched {
    fn from(fault: NotReady) -> Self {
        Self { fault, blame: Blame::Environment }
    }
}

/// What this dispatcher adds to every launch: how it is found again, and that it ends once nobody tends it.
fn tie(spec: &mut LaunchSpec, tended: &Tended, untended: Duration) {
    spec.labels.insert(label::RUN.to_owned(), tended.key.run.to_string());
    spec.labels.insert(label::LEASE.to_owned(), tended.key.lease.to_string());
    spec.lease = Some(untended);
}

fn refused(error: CheckoutError) -> Refusal {
    let mut report = RunReport::new(outcome_of(Step::Checkout, &error));
    report.message = Some(error_chain(&error).to_string());
    report.hint = error.hint().map(str::to_owned);
    Box::new(report)
}

fn too_slow() -> Refusal {
    let message = "the checkout took too long; is the disk or the network stuck?";
    Box::new(RunReport::new(RunOutcome::CheckoutTimedOut).with_message(message))
}

fn host_failed(message: String, hint: Option<String>) -> Refusal {
    Box::new(RunReport { hint, ..RunReport::new(RunOutcome::HostFailed).with_message(message) })
}

fn interrupted(message: &str) -> Refusal {
    Box::new(RunReport::new(RunOutcome::Interrupted).with_message(message))
}
