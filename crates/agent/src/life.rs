//! The steps of one run.
//!
//! The order is the point: checkout, agent, everything the agent started dead, seal, verification, collect. Sealing
//! comes before verification, so that what is committed is what the agent left and not what a verification command
//! wrote; the branch is made last, and only by whoever holds the lease in that moment.

mod clearing;
mod preparing;
mod publishing;

use std::time::Duration;

use checkout::{
    checkouts::{Checkout, Checkouts},
    git::GitCommand,
    given,
    seal::{CommitMessage, Sealed, SealedCommit},
};
use core_types::{
    event::RunEvent,
    ids::RunKey,
    outcome::{RunOutcome, RunReport},
    sandbox::{AttemptsBefore, ResultClaim, SandboxAssignment, TOLD_TO_STOP, TaskBrief},
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
    ledger::Ledger,
    meter::{Caps, Meter},
    policy::{ParentEnvironment, RunPolicy},
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
    pub(crate) key: RunKey,
    pub(crate) task: &'a TaskBrief,
    pub(crate) policy: &'a RunPolicy,
    pub(crate) around: Around<'a>,
    pub(crate) ledger: &'a Ledger,
    /// What agents see an allow-listed few of.
    pub(crate) parent_env: &'a ParentEnvironment,
    pub(crate) scene: Scene<'a>,
}

/// Where a run takes place: where its checkout comes from, and where its result goes.
pub(crate) enum Scene<'a> {
    /// On this host, which makes the one and takes the other.
    Host(Hosted<'a>),
    /// In a sandbox, which is given the one and leaves the other.
    Sandbox(Boxed<'a>),
}

/// A run on this host.
#[derive(Clone, Copy)]
pub(crate) struct Hosted<'a> {
    pub(crate) shop: &'a Workshop,
    pub(crate) started: &'a StartedRun,
}

/// A run in a sandbox.
pub(crate) struct Boxed<'a> {
    pub(crate) assignment: &'a SandboxAssignment,
    pub(crate) git: &'a GitCommand,
}

/// What a run works with.
struct Begun {
    checkouts: Checkouts,
    checkout: Checkout,
    before: AttemptsBefore,
}

/// Why a run ends before its last step.
pub(crate) type EndedEarly = Box<RunReport>;

impl Life<'_> {
    /// Tells what came of the run, and in a sandbox what is to be collected.
    pub(crate) async fn live(self) -> (RunReport, Option<ResultClaim>) {
        let mut verdict = None;
        let (mut report, claim) = match self.steps(&mut verdict).await {
            Ok(ended) => ended,
            Err(report) => (*report, None),
        };
        if let Some(verdict) = verdict {
            report.usage = verdict.usage;
            report.session = verdict.session;
        }
        (report, claim)
    }

    async fn steps(
        &self,
        verdict: &mut Option<Verdict>,
    ) -> Result<(RunReport, Option<ResultClaim>), EndedEarly> {
        self.phase("preparing").await?;
        let Begun { checkouts, checkout, before } = self.begin().await?;
        self.phase("agent").await?;
        let (end, meter) = self.agent(&checkout, &before).await?;
        let judged = self.early_end(&end, &meter);
        *verdict = Some(end.verdict);
        if let Some(report) = judged {
            return Err(report);
        }
        let fresh = self.launcher_after_agent()?;
        let launcher = fresh.as_ref().map_or(self.around.launcher, |fresh| fresh);
        let after = Around { launcher, ..self.around };
        self.phase("sealing").await?;
        let sealed = self.seal(&after, &checkouts, &checkout).await?;
        if sealed.is_none() && self.task.role.requires_change() {
            let message = "the agent ended well and changed nothing";
            return Err(Box::new(RunReport::new(RunOutcome::NothingDone).with_message(message)));
        }
        self.phase("verifying").await?;
        self.verify(&after, &checkout).await?;
        let Some(sealed) = sealed else {
            let message = "nothing needed to change";
            return Ok((RunReport::new(RunOutcome::NoChange).with_message(message), None));
        };
        self.phase("committing").await?;
        match &self.scene {
            Scene::Host(hosted) => {
                Ok((self.collect(&hosted.shop.checkouts, &checkout, &sealed).await?, None))
            }
            Scene::Sandbox(_) => {
                let claim = checkout.leave(&sealed);
                let claim = claim.map_err(|error| report_of(Step::Collect, &error))?;
                Ok((RunReport::new(RunOutcome::Succeeded), Some(claim)))
            }
        }
    }

    async fn begin(&self) -> Result<Begun, EndedEarly> {
        match &self.scene {
            Scene::Host(hosted) => self.begin_on_host(*hosted).await,
            Scene::Sandbox(Boxed { assignment, git }) => {
                let taken = given::take(self.key.run, &assignment.checkout, GitCommand::clone(git));
                let (checkouts, checkout) =
                    taken.map_err(|error| report_of(Step::Checkout, &error))?;
                Ok(Begun { checkouts, checkout, before: assignment.before.clone() })
            }
        }
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
    /// leaves is removed with the checkout; what takes for ever ends with the outcome `late`.
    async fn unless_stopped<T>(
        &self,
        late: RunOutcome,
        step: impl Future<Output = Result<T, EndedEarly>>,
    ) -> Result<T, EndedEarly> {
        // The step may be dropped anywhere: nothing of it counts unless it is carried through.
        tokio::select! {
            done = step => done,
            authority = self.around.told_to_stop() => Err(self.stopped(authority)),
            () = sleep(STEP_WITHIN + self.policy.remotes.timeout) => {
                let message = "a step on the checkout took too long; is the disk or the network stuck?";
                Err(Box::new(RunReport::new(late).with_message(message)))
            }
        }
    }

    /// What the run may use, unless nothing is left of it.
    pub(crate) async fn meter(&self) -> Result<Meter, EndedEarly> {
        let caps = Caps::of(self.task, &self.policy.spend);
        let ask = async {
            loop {
                match Meter::start(self.ledger.clone(), self.key, caps).await {
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

    async fn seal(
        &self,
        after: &Around<'_>,
        checkouts: &Checkouts,
        checkout: &Checkout,
    ) -> Result<Option<SealedCommit>, EndedEarly> {
        let task = self.task;
        let body = format!("Task: {}\nRun: {}", task.id, self.key.run);
        let message = CommitMessage::new(&task.title, &body);
        let env = allow_list(self.parent_env.iter());
        let seal = async {
            let sealed = checkouts.seal(checkout, after.launcher, &env, &message).await;
            sealed.map_err(|error| report_of(Step::Collect, &error))
        };
        let (notices, sealed) = match self.unless_stopped(RunOutcome::HostFailed, seal).await? {
            Sealed::Nothing { notices } => (notices, None),
            Sealed::Commit(sealed) => (sealed.notices.clone(), Some(sealed)),
        };
        for text in notices {
            self.around.recorder.record(RunEvent::Notice { text }).await;
        }
        Ok(sealed)
    }

    async fn verify(&self, after: &Around<'_>, checkout: &Checkout) -> Result<(), EndedEarly> {
        let env = allow_list(self.parent_env.iter());
        let verification = Verification {
            key: self.key,
            around: after,
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
                (RunOutcome::Interrupted, TOLD_TO_STOP)
            }
            Authority::Held | Authority::Unreachable => {
                (RunOutcome::Interrupted, "the worker could not renew its lease and ended it")
            }
            Authority::Fenced => (RunOutcome::Interrupted, "the run was taken back"),
        };
        Box::new(RunReport::new(outcome).with_message(message))
    }
}
