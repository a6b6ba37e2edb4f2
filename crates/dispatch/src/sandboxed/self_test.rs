//! One self-test: a container like a run's, in which the worker goes the way of a run with a scripted model.

use std::{sync::Arc, time::Duration};

use checkout::{
    checkouts::{Checkouts, PrepareRequest},
    rehearsal::Claim,
};
use core_types::{
    ids::{LeaseNumber, RunId, RunKey, TaskId},
    label,
    repository::Repository,
    sandbox::{AttemptsBefore, SandboxAssignment},
    secret::Secret,
    self_test::{SelfTestAssignment, SelfTestReport, TestStep},
    task::{ExecutorKind, RiskLevel, Role},
};
use futures_util::StreamExt as _;
use launcher::{
    error::{AttachError, LaunchError},
    handle::{Destroy, Handle, StopRequest},
    id::LaunchId,
    launcher::Launcher,
    output::{LogContent, LogCursor, LogStream},
    spec::Input,
};
use store::tasks::{NewTask, Task};
use telemetry::chain::error_chain;
use tokio::time::{Instant, timeout};

use super::outfit::{NotReady, Order, Outfit, Outfitter, Unfit};
use crate::launches::aside;

/// Label of the container of a self-test.
const LABEL: &str = "opentiger.self-test";
/// Longest time in the container; a machine that has nothing else to do needs some seconds.
const WITHIN: Duration = Duration::from_secs(180);
/// Longest time for the container itself.
const CREATE_WITHIN: Duration = Duration::from_secs(60);
/// Longest time for what a container needs: its image may have to be fetched.
const OUTFIT_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Most of what the worker prints; its report is far shorter.
const MOST_OUTPUT: usize = 1 << 20;
/// What the assignment of a self-test does without.
const SECRETS: [&str; 3] = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"];

/// A self-test that was made.
#[derive(Debug)]
pub struct Tested {
    /// What came of it.
    pub report: SelfTestReport,
    /// What was tested, where it came to that.
    pub subject: Option<String>,
}

/// Makes a self-test of an executor; nothing of it is left then.
///
/// # Cancel safety
/// Dropped, [`sweep`] removes what it leaves; the container ends by its limit of time.
pub async fn test(
    outfitter: &dyn Outfitter,
    launcher: &Arc<dyn Launcher>,
    executor: ExecutorKind,
) -> Tested {
    let begun = Instant::now();
    let key = RunKey { run: RunId::generate(), lease: LeaseNumber(1) };
    let mut subject = None;
    let mut report = match outfitter.checkouts() {
        Ok(checkouts) => {
            let mut test = Test { outfitter, launcher, executor, key, subject: None };
            let report = test.run(&checkouts).await.unwrap_or_else(|report| report);
            subject = test.subject;
            report
        }
        Err(fault) => not_started(&fault),
    };
    report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Tested { report, subject }
}

struct Test<'a> {
    outfitter: &'a dyn Outfitter,
    launcher: &'a Arc<dyn Launcher>,
    executor: ExecutorKind,
    key: RunKey,
    /// What it turned out to be a test of.
    subject: Option<String>,
}

impl Test<'_> {
    async fn run(&mut self, checkouts: &Checkouts) -> Result<SelfTestReport, SelfTestReport> {
        let made = checkouts.for_self_tests();
        let (tests, path) = made.map_err(|error| no_checkout(&error))?;
        let claim = tests.claim(self.key.run).map_err(|error| no_checkout(&error))?;
        let mut new = new_task(self.executor, path.to_string_lossy().into_owned());
        new.id = task_of(self.key.run);
        let report = self.in_checkout(&tests, &Task::unstored(new)).await;
        remove(self.outfitter, self.launcher, &tests, self.key.run, claim).await;
        report
    }

    async fn in_checkout(
        &mut self,
        tests: &Checkouts,
        task: &Task,
    ) -> Result<SelfTestReport, SelfTestReport> {
        let request = PrepareRequest {
            run: self.key.run,
            task: task.new.id,
            number: 1,
            repository: &task.new.repository,
            base_branch: None,
        };
        let prepared = tests.prepare_for_sandbox(request, self.outfitter.user()).await;
        let checkout = prepared.map_err(|error| no_checkout(&error))?;
        let told = tests.told_to_sandbox(&checkout).map_err(|error| no_checkout(&error))?;
        let (Some(mounts), Some(told)) = (checkout.sandbox_mounts(), told) else {
            return Err(not_started(&NotReady::new("the checkout was not made for a sandbox")));
        };
        let order = Order {
            key: self.key,
            number: 1,
            task,
            mounts,
            checkout: told,
            before: AttemptsBefore::default(),
            token: Secret::new("self-test"),
        };
        let outfit = timeout(OUTFIT_WITHIN, self.outfitter.outfit(order)).await;
        let late = |_| not_started(&NotReady::new("what its sandbox needs was not there in time"));
        let outfit = outfit.map_err(late)?;
        let outfit = outfit.map_err(unfit)?;
        self.subject = outfit.spec.labels.get(label::SUBJECT).cloned();
        let launched = self.launch(&launch_of(self.key.run), self.dress(outfit)?).await;
        let handle = launched.map_err(|fault| not_started(&fault))?;
        Ok(follow(&handle).await)
    }

    /// Makes of a run's container that of a self-test: another word to the worker, and no secrets.
    fn dress(&self, outfit: Outfit) -> Result<Outfit, SelfTestReport> {
        let Outfit { mut spec, input } = outfit;
        let unusable = |error: serde_json::Error| {
            not_started(&NotReady::new(format!("the assignment cannot be written: {error}")))
        };
        let mut run: SandboxAssignment = serde_json::from_slice(&input.stdin).map_err(unusable)?;
        run.database_url = Secret::new("postgres://nobody@nowhere.invalid/none");
        for secret in SECRETS {
            run.settings.remove(secret);
        }
        let user = self.outfitter.user();
        let assignment = SelfTestAssignment { uid: user.uid, gid: user.gid, run };
        let stdin = serde_json::to_vec(&assignment).map_err(unusable)?;
        spec.args = vec!["self-test".to_owned()];
        spec.limits.wall = Some(WITHIN);
        spec.labels.insert(LABEL.to_owned(), self.executor.to_string());
        Ok(Outfit { spec, input: Input { stdin, ..input } })
    }

    /// It is let reach nothing beside its network.
    async fn launch(&self, id: &LaunchId, outfit: Outfit) -> Result<Handle, NotReady> {
        let Outfit { spec, input } = outfit;
        let late = || NotReady::new("the engine did not start the container in time");
        let started = async {
            let created = self.launcher.create(id, &spec).await?;
            self.launcher.assign(created, input).await
        };
        let launched = timeout(CREATE_WITHIN, started).await.map_err(|_| late())?;
        Ok(launched.map_err(|error| of_launch(&error))?.into_handle())
    }
}

/// Removes what self-tests left whose process is gone: a dispatcher that was killed, or that stopped before the end.
pub async fn sweep(outfitter: &dyn Outfitter, launcher: &Arc<dyn Launcher>) {
    let Ok(checkouts) = outfitter.checkouts() else { return };
    let abandoned =
        checkouts.for_self_tests().and_then(|(tests, _)| Ok((tests.abandoned()?, tests)));
    match abandoned {
        Ok((abandoned, tests)) => {
            for (run, claim) in abandoned {
                tracing::info!(run.id = %run, "removing a self-test that was cut off");
                remove(outfitter, launcher, &tests, run, claim).await;
            }
        }
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "self-tests that were cut off not found");
        }
    }
}

/// Removes everything of a self-test; while something of it is left, so is its claim, for the next sweep.
async fn remove(
    outfitter: &dyn Outfitter,
    launcher: &Arc<dyn Launcher>,
    tests: &Checkouts,
    run: RunId,
    claim: Claim,
) {
    if !remove_container(launcher, &launch_of(run)).await {
        tracing::warn!(run.id = %run, "container of a self-test not removed yet");
        return;
    }
    outfitter.forget(task_of(run)).await;
    match tests.remove(run).await {
        Ok(()) => drop(claim.settle()),
        Err(error) => {
            tracing::warn!(run.id = %run, error = %error_chain(&error), "checkout of a self-test not removed");
        }
    }
}

/// Ends and removes a container, whatever it does; whether nothing of it is left.
async fn remove_container(launcher: &Arc<dyn Launcher>, id: &LaunchId) -> bool {
    let discovering = Arc::clone(launcher);
    let Ok(found) = aside(async move { discovering.discover().await }).await else {
        return false;
    };
    let Some(left) = found.into_iter().find(|left| left.id == *id) else { return true };
    match launcher.attach(&left.record).await {
        Ok(handle) => {
            handle.stop(StopRequest::new("its self-test is over", Duration::ZERO)).await;
            handle.destroy(Destroy::Everything).await.is_ok()
        }
        Err(AttachError::Gone { .. }) => true,
        Err(_) => false,
    }
}

/// Its name is known before it is there.
fn launch_of(run: RunId) -> LaunchId {
    let text = format!("{run}.self-test");
    text.parse().expect("a run id, a point and a word make a launch id")
}

/// A self-test's task is none of the database's, and is found by its run.
const fn task_of(run: RunId) -> TaskId {
    TaskId::from_uuid(run.as_uuid())
}

/// Reads the report of the worker; without one, how the container ended is the report.
async fn follow(handle: &Handle) -> SelfTestReport {
    let Ok(exit) = timeout(WITHIN + CREATE_WITHIN, handle.exited()).await else {
        handle.stop(StopRequest::new("its time is up", Duration::ZERO)).await;
        let cause = format!("it did not end within {} s", WITHIN.as_secs());
        return SelfTestReport::failed(TestStep::Container, cause, None);
    };
    let told = printed(handle).await;
    let told = told.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    if let Some(report) = told {
        return report;
    }
    let said = handle.last_words().await;
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let cause = format!("the worker gave no report, {}{said}", exit.outcome);
    SelfTestReport::failed(TestStep::Container, cause, None)
}

async fn printed(handle: &Handle) -> String {
    let read = async {
        let mut all = Vec::new();
        let mut chunks = handle.logs(LogCursor::START);
        while let Some(Ok(chunk)) = chunks.next().await {
            if let LogContent::Output { stream: LogStream::Stdout, data } = chunk.content
                && all.len() < MOST_OUTPUT
            {
                all.extend_from_slice(&data);
            }
        }
        all
    };
    let all = timeout(Duration::from_secs(10), read).await.unwrap_or_default();
    String::from_utf8_lossy(&all).into_owned()
}

fn not_started(fault: &NotReady) -> SelfTestReport {
    SelfTestReport::failed(TestStep::Container, fault.reason.clone(), fault.hint.as_deref())
}

fn unfit(fault: Unfit) -> SelfTestReport {
    match fault {
        Unfit::Environment(fault) => not_started(&fault),
        Unfit::Run { reason, hint } => {
            SelfTestReport::failed(TestStep::Container, reason, hint.as_deref())
        }
    }
}

fn of_launch(error: &LaunchError) -> NotReady {
    NotReady::new(format!("no sandbox starts: {}", error_chain(error))).with_hint(error.hint())
}

fn no_checkout(error: &(dyn std::error::Error + 'static)) -> SelfTestReport {
    let cause = error_chain(error).to_string();
    SelfTestReport::failed(
        TestStep::Checkout,
        cause,
        Some("see whether OPENTIGER_STATE_DIR can be written"),
    )
}

fn new_task(executor: ExecutorKind, path: String) -> NewTask {
    NewTask {
        id: TaskId::generate(),
        title: "self-test".to_owned(),
        goal: "self-test".to_owned(),
        context: None,
        role: Role::Worker,
        priority: 0,
        risk: RiskLevel::Low,
        dependencies: Vec::new(),
        target_area: None,
        repository: Repository::Local { path },
        base_branch: None,
        verification: Vec::new(),
        timebox: None,
        executor,
        model: None,
        max_attempts: 1,
        token_limit: None,
        cost_limit_microusd: None,
        created_by: "self-test".to_owned(),
    }
}
