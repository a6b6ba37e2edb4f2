//! Runs in sandboxes from claim to finish, with a shell in place of the container and the test in place of its worker.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "the engine is named by variables; git runs as in a container"
)]

mod docker;
mod launching;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use checkout::{
    access::RemoteAccess,
    checkouts::{Checkouts, Remotes},
    git::{GitCommand, IDENTITY_MAIL, IDENTITY_NAME},
    url::UrlRules,
};
use core_config::load::{Loaded, load};
use core_types::{
    ids::{RunId, RunKey, TaskId},
    outcome::{RunOutcome, RunReport},
    provider::Provider,
    repository::Repository,
    sandbox::{ResultClaim, SandboxReport, paths},
    secret::Secret,
    task::{Role, RunStatus, TaskState},
    usage::SpendLimits,
};
use dispatch::sandboxed::{
    outfit::{NotReady, Order, Outfit, Outfitter, Unfit},
    readiness::Readiness,
    tenders::{Sandboxes, Tenders, UNTENDED},
};
use launcher::{
    container::{ContainerSpec, ImagePolicy, Mount},
    docker::{DockerConfig, DockerLauncher},
    handle::LaunchState,
    id::LaunchId,
    identity,
    launcher::Launcher,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, UserId},
};
use store::{
    agents::{HostId, ProcessIdentity},
    dispatch::{claim::ClaimRequest, sandboxed::SandboxClaimRequest},
    dispatchers::DispatcherBeat,
    sandbox::worker::WorkerStore,
    tasks::NewTask,
};
use tempfile::TempDir;
use testing::{
    database::TestDatabase, programs::search_path, repository::ScratchRepository, wait::wait_for,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bench::task;

const LONG: Duration = Duration::from_secs(60);

/// Makes a commit as a worker would, says so, and goes on until it is told to end.
const WORKS: &str = r#"set -e
rmdir "$BOX/objects"; ln -s "$OBJECTS" "$BOX/objects"
cd "$BOX/work"; echo new > new.txt; git add -A; git commit -qm work
printf 'HEAD\n^%s\n' "$BASE" | git pack-objects --quiet --revs "$BOX/result/pack" > "$BOX/tmp/pack"
git rev-parse HEAD > "$BOX/tmp/commit"
touch "$BOX/tmp/said"; until [ -e "$BOX/tmp/go" ]; do sleep 0.02; done"#;
/// Makes the same commit from outside of a container, with the objects where the host has them.
const WORKS_OUTSIDE: &str = r#"set -e
export GIT_ALTERNATE_OBJECT_DIRECTORIES="$GIT_OBJECTS" GIT_CONFIG_COUNT=1
export GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
cd "$BOX/work"; base=$(git rev-parse HEAD); echo new > new.txt; git add -A; git commit -qm work
printf 'HEAD\n^%s\n' "$base" | git pack-objects --quiet --revs "$BOX/result/pack" > "$BOX/tmp/pack"
git rev-parse HEAD > "$BOX/tmp/commit""#;
/// Uses more memory than it may.
const EATS: &str = "exec tail /dev/zero";
/// Does nothing, for as long as it takes.
const WAITS: &str = r#"touch "$BOX/tmp/said"; until [ -e "$BOX/tmp/go" ]; do sleep 0.02; done"#;
/// Ends badly.
const CRASHES: &str = "echo first; echo 'the last straw' >&2; exit 101";
/// Takes more place than it was given.
const FILLS: &str =
    r#"dd if=/dev/zero of="$BOX/work/big" bs=1M count=8 2>/dev/null; exec sleep 600"#;

/// Fits out shells, and keeps what their workers would know.
#[derive(Debug)]
struct Shells {
    checkouts: Checkouts,
    script: &'static str,
    /// The image of a container to run it in.
    image: Option<String>,
    broken: AtomicBool,
    /// The task that gets no sandbox.
    unfit: Mutex<Option<TaskId>>,
    tokens: Mutex<HashMap<RunId, Secret>>,
}

#[async_trait]
impl Outfitter for Shells {
    async fn ready(&self) -> Result<(), NotReady> {
        Ok(())
    }

    fn user(&self) -> UserId {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        match &self.image {
            Some(_) if uid.is_root() => UserId { uid: 1001, gid: 1001 },
            Some(_) | None => UserId { uid: uid.as_raw(), gid: gid.as_raw() },
        }
    }

    fn checkouts(&self) -> Result<Checkouts, NotReady> {
        Ok(self.checkouts.clone())
    }

    async fn outfit(&self, order: Order<'_>) -> Result<Outfit, Unfit> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(NotReady::new("the engine is asleep").into());
        }
        if *self.unfit.lock().unwrap() == Some(order.task.new.id) {
            return Err(Unfit::Run { reason: "its state is a file".to_owned(), hint: None });
        }
        self.tokens.lock().unwrap().insert(order.key.run, order.token);
        let mut spec = LaunchSpec::new("/bin/sh", "/");
        spec.args = vec!["-c".to_owned(), self.script.to_owned()];
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        spec.env = [
            ("PATH", search_path()),
            ("BOX", path(&order.mounts.directory)),
            ("OBJECTS", path(&order.mounts.objects)),
            ("BASE", order.checkout.base_commit),
            ("GIT_AUTHOR_NAME", IDENTITY_NAME.to_owned()),
            ("GIT_AUTHOR_EMAIL", IDENTITY_MAIL.to_owned()),
            ("GIT_COMMITTER_NAME", IDENTITY_NAME.to_owned()),
            ("GIT_COMMITTER_EMAIL", IDENTITY_MAIL.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if let Some(image) = &self.image {
            spec.env.insert("BOX".to_owned(), paths::CHECKOUT.to_owned());
            spec.env.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
            spec.user = Some(self.user());
            spec.limits.memory_bytes = Some(64 << 20);
            spec.limits.processes = Some(32);
            let mut container = ContainerSpec::new(image, "none");
            container.pull = ImagePolicy::Never;
            let mount = |source: &Path, target: String, read_only| Mount {
                source: source.to_owned(),
                target: target.into(),
                read_only,
            };
            container.mounts = vec![
                mount(&order.mounts.directory, paths::CHECKOUT.to_owned(), false),
                mount(&order.mounts.objects, format!("{}/objects", paths::CHECKOUT), true),
            ];
            spec.container = Some(container);
        }
        Ok(Outfit { spec, input: Input::default() })
    }

    async fn admit(&self, _: &LaunchId, _: Option<&str>) -> Result<(), NotReady> {
        Ok(())
    }

    async fn dismiss(&self, _launch: &LaunchId) {}
}

/// A database, a repository, and dispatchers that come and go.
struct Hall {
    database: TestDatabase,
    repository: ScratchRepository,
    state: TempDir,
    launcher: Arc<dyn Launcher>,
    shells: Arc<Shells>,
    readiness: Arc<Readiness>,
    settings: watch::Sender<Arc<Loaded>>,
    untended: Duration,
    dispatchers: JoinSet<()>,
}

fn settings(more: &[(&str, &str)]) -> Arc<Loaded> {
    let sandbox = [("EXECUTION_ENVIRONMENT", "sandbox"), ("WORKER_COUNT", "20")];
    let all = sandbox.iter().chain(more).map(|(key, value)| ((*key).into(), (*value).into()));
    Arc::new(load(all.chain([("MAX_CONCURRENT_WORKERS".into(), "20".into())]), None).unwrap())
}

impl Hall {
    async fn new(script: &'static str, more: &[(&str, &str)]) -> Self {
        let state = TempDir::new().unwrap();
        let git = GitCommand::find(&search_path()).unwrap();
        let remotes = Remotes {
            access: Arc::new(RemoteAccess {
                rules: UrlRules { http_loopback: true },
                tokens: Vec::new(),
                accept_unknown_ssh_hosts: false,
                ssh_config: None,
                ca_file: None,
                timeout: LONG,
                max_bytes: None,
                environment: BTreeMap::new(),
            }),
            launcher: Arc::new(ProcessLauncher::new(state.path().to_path_buf()).unwrap()),
        };
        let checkouts = Checkouts::new(state.path().join("checkouts"), git);
        let shells = Shells {
            checkouts: checkouts.with_mirrors(state.path().join("mirrors")).with_remotes(remotes),
            script,
            image: None,
            broken: AtomicBool::new(false),
            unfit: Mutex::default(),
            tokens: Mutex::default(),
        };
        Self {
            database: TestDatabase::new().await,
            repository: ScratchRepository::with_one_commit(),
            launcher: Arc::new(ProcessLauncher::new(state.path().to_path_buf()).unwrap()),
            state,
            shells: Arc::new(shells),
            readiness: Arc::new(Readiness::new()),
            settings: watch::Sender::new(settings(more)),
            untended: UNTENDED,
            dispatchers: JoinSet::new(),
        }
    }

    /// The same with containers of the engine of these tests.
    async fn with_containers(script: &'static str) -> Self {
        let hall = Self::new(script, &[]).await;
        // A test that needs an engine fails without one.
        let variable = |name: &str| std::env::var(name).expect("the variable names what is used");
        let host = Some(variable("OPENTIGER_TEST_DOCKER_HOST"));
        let store = hall.state.path().to_owned();
        let launcher = DockerLauncher::open(DockerConfig { host, store }).unwrap();
        let shells = Shells {
            checkouts: hall.shells.checkouts.clone(),
            script,
            image: Some(variable("OPENTIGER_TEST_BASE_IMAGE")),
            broken: AtomicBool::new(false),
            unfit: Mutex::default(),
            tokens: Mutex::default(),
        };
        Self { launcher: Arc::new(launcher), shells: Arc::new(shells), ..hall }
    }

    /// Leaves in a run's container what an agent there would: the image has no git.
    fn works_inside(&self, run: RunId) {
        let inside = self.inside(run, "");
        let objects = inside.with_file_name("objects");
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", WORKS_OUTSIDE])
            .env_clear()
            .env("PATH", search_path())
            .env("BOX", inside)
            .env("GIT_OBJECTS", objects)
            .env("GIT_AUTHOR_NAME", IDENTITY_NAME)
            .env("GIT_AUTHOR_EMAIL", IDENTITY_MAIL)
            .env("GIT_COMMITTER_NAME", IDENTITY_NAME)
            .env("GIT_COMMITTER_EMAIL", IDENTITY_MAIL)
            .status()
            .unwrap();
        assert!(status.success());
    }

    async fn queue(&self) -> TaskId {
        let path = self.repository.path().to_str().unwrap().to_owned();
        self.queue_of(Repository::Local { path }).await
    }

    async fn queue_of(&self, repository: Repository) -> TaskId {
        let task = NewTask { repository, ..task() };
        let id = task.id;
        self.database.store.create_tasks(vec![task]).await.unwrap();
        id
    }

    /// A dispatcher; `alive` is what others see of its process.
    async fn dispatcher(&mut self, alive: bool) -> CancellationToken {
        let own = identity::ProcessIdentity::own().unwrap();
        let start_ticks = own.start_ticks - u64::from(!alive);
        let beat = DispatcherBeat {
            id: Uuid::now_v7(),
            host: HostId::new("here"),
            process: ProcessIdentity { pid: own.pid, start_ticks, boot_id: own.boot_id },
            version: "test".to_owned(),
            paused: None,
        };
        self.database.store.dispatcher_beat(&beat).await.unwrap();
        let sandboxes = Sandboxes {
            launcher: Arc::clone(&self.launcher),
            outfitter: Arc::<Shells>::clone(&self.shells),
            readiness: Arc::clone(&self.readiness),
            untended: self.untended,
        };
        let store = self.database.store.clone();
        let tenders = Tenders::new(store, beat.host, beat.id, self.settings.subscribe(), sandboxes);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        self.dispatchers.spawn(tenders.run(stopping));
        stop
    }

    /// Ends every dispatcher as a kill would: nothing is told to anybody.
    async fn kill_dispatchers(&mut self) {
        self.dispatchers.shutdown().await;
    }

    /// The run of a task that is being worked on.
    async fn run_of(&self, task: TaskId) -> RunKey {
        wait_for("a run", LONG, async || {
            let runs = self.database.store.runs_of_task(task).await.unwrap();
            runs.last().map(store::runs::Run::key).ok_or("none")
        })
        .await
    }

    fn inside(&self, run: RunId, file: &str) -> PathBuf {
        self.state.path().join("checkouts").join(run.to_string()).join("box").join(file)
    }

    async fn said(&self, run: RunId) {
        let said = self.inside(run, "tmp/said");
        wait_for("the shell's work", LONG, async || {
            said.try_exists().unwrap().then_some(()).ok_or("not yet")
        })
        .await;
    }

    async fn worker(&self, key: RunKey) -> WorkerStore {
        let token = wait_for("a token", LONG, async || {
            self.shells.tokens.lock().unwrap().get(&key.run).cloned().ok_or("none")
        })
        .await;
        WorkerStore::connect(&self.database.url, key, token).await.unwrap()
    }

    fn claim(&self, run: RunId) -> ResultClaim {
        let read =
            |file: &str| fs::read_to_string(self.inside(run, file)).unwrap().trim().to_owned();
        ResultClaim {
            commit: read("tmp/commit"),
            pack: format!("pack-{}.pack", read("tmp/pack")),
            pack_bytes: 1,
            files_changed: 77,
            insertions: 77,
            deletions: 77,
        }
    }

    fn go(&self, run: RunId) {
        fs::write(self.inside(run, "tmp/go"), "").unwrap();
    }

    /// Does what the worker of a run would do once its shell has worked.
    async fn work(&self, key: RunKey) {
        self.said(key.run).await;
        let worker = self.worker(key).await;
        worker.start().await.unwrap();
        let report = RunReport::new(RunOutcome::Succeeded);
        let claim = Some(self.claim(key.run));
        worker.report(&SandboxReport { report, claim }).await.unwrap();
        self.go(key.run);
    }

    async fn ended(&self, run: RunId) -> RunReport {
        wait_for("the end of the run", LONG, async || {
            let run = self.database.store.run(run).await.unwrap().unwrap();
            if run.status == RunStatus::Ended { Ok(run.report.unwrap()) } else { Err(run.status) }
        })
        .await
    }

    async fn nothing_is_left(&self) {
        wait_for("nothing to be left", LONG, async || {
            let launches = self.launcher.discover().await.unwrap();
            let checkouts = self.shells.checkouts.list().await.unwrap();
            let left = launches.len() + checkouts.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} things")) }
        })
        .await;
    }

    async fn state_of(&self, task: TaskId) -> TaskState {
        self.database.store.task(task).await.unwrap().unwrap().state
    }
}

#[tokio::test]
async fn a_task_becomes_a_commit_and_nothing_is_left() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    hall.work(key).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:?}");
    let branch = report.branch.unwrap();
    assert_eq!(hall.repository.git(&["show", &format!("{branch}:new.txt")]), "new\n");
    assert_eq!(hall.state_of(task).await, TaskState::Done);
    hall.nothing_is_left().await;
    let events = hall.database.store.stored_events(key.run, 0, 100).await.unwrap();
    let commit = events.iter().find(|event| event.event["kind"] == "commit").unwrap();
    // Counted here, whatever the sandbox said.
    assert_eq!(commit.event["files_changed"], 1);
}

#[tokio::test]
async fn twenty_tasks_at_once_become_twenty_commits() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(hall.queue().await);
    }
    hall.dispatcher(true).await;
    let work = tasks.iter().map(async |task| {
        let key = hall.run_of(*task).await;
        hall.work(key).await;
        hall.ended(key.run).await.outcome
    });
    let outcomes = futures_util::future::join_all(work).await;
    assert!(outcomes.iter().all(|outcome| *outcome == RunOutcome::Succeeded), "{outcomes:?}");
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_run_that_was_only_claimed_is_taken_over() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let task = hall.queue().await;
    let request = SandboxClaimRequest {
        claim: ClaimRequest {
            limit: 1,
            lease: Duration::from_secs(30),
            max_running: 1,
            spend: SpendLimits::default(),
            default_provider: Provider::default(),
        },
        counts: BTreeMap::from([(Role::Worker, 1)]),
        without: Vec::new(),
        host: HostId::new("here"),
        // It signed off.
        dispatcher: Uuid::now_v7(),
    };
    let claimed = hall.database.store.claim_sandbox_runs(&request).await.unwrap();
    let key = claimed[0].key;
    assert_eq!(claimed[0].task, task);
    hall.dispatcher(true).await;
    hall.work(key).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_run_that_works_is_taken_over_without_a_second_start() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let task = hall.queue().await;
    hall.dispatcher(false).await;
    let key = hall.run_of(task).await;
    hall.said(key.run).await;
    hall.worker(key).await.start().await.unwrap();
    hall.kill_dispatchers().await;
    hall.dispatcher(true).await;
    hall.work(key).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    assert_eq!(hall.database.store.runs_of_task(task).await.unwrap().len(), 1);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_run_that_reported_and_ended_while_nobody_looked_is_collected() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let task = hall.queue().await;
    hall.dispatcher(false).await;
    let key = hall.run_of(task).await;
    hall.said(key.run).await;
    hall.kill_dispatchers().await;
    hall.work(key).await;
    wait_for("the end of the shell", LONG, async || {
        let launches = hall.launcher.discover().await.unwrap();
        let ended = launches.iter().all(|found| matches!(found.state, LaunchState::Ended(_)));
        ended.then_some(()).ok_or("it runs")
    })
    .await;
    hall.dispatcher(true).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_run_of_a_dispatcher_that_lives_is_left_to_it() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    hall.dispatcher(true).await;
    hall.work(key).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    assert_eq!(hall.shells.tokens.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_worker_that_crashes_is_told_with_its_last_words() {
    let mut hall = Hall::new(CRASHES, &[]).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::WorkerLost);
    let message = report.message.unwrap();
    assert!(message.contains("101") && message.contains("the last straw"), "{message}");
}

#[tokio::test]
async fn a_result_that_is_not_what_it_claims_to_be_is_refused() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    hall.said(key.run).await;
    let worker = hall.worker(key).await;
    worker.start().await.unwrap();
    let claim = ResultClaim { commit: "a".repeat(40), ..hall.claim(key.run) };
    let report = RunReport::new(RunOutcome::Succeeded);
    worker.report(&SandboxReport { report, claim: Some(claim) }).await.unwrap();
    hall.go(key.run);
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::CollectFailed);
    assert_eq!(hall.repository.git(&["branch", "--list", "opentiger/*"]), "");
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_worker_that_claims_that_nothing_had_to_change_is_not_believed() {
    let mut hall = Hall::new(WAITS, &[]).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    hall.said(key.run).await;
    let worker = hall.worker(key).await;
    worker.start().await.unwrap();
    let report = RunReport::new(RunOutcome::NoChange);
    worker.report(&SandboxReport { report, claim: None }).await.unwrap();
    hall.go(key.run);
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::NothingDone);
}

#[tokio::test]
async fn a_launch_that_fails_for_all_pauses_claims_and_costs_nothing() {
    let mut hall = Hall::new(WORKS, &[]).await;
    hall.shells.broken.store(true, Ordering::Relaxed);
    let tasks = [hall.queue().await, hall.queue().await];
    hall.dispatcher(true).await;
    let mut pauses = hall.readiness.changes();
    let paused = |unready: &Option<NotReady>| {
        unready.as_ref().is_some_and(|fault| fault.reason == "the engine is asleep")
    };
    pauses.wait_for(paused).await.unwrap();
    for task in tasks {
        wait_for("the task to be queued", LONG, async || match hall.state_of(task).await {
            TaskState::Queued => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert_eq!(hall.database.store.task(task).await.unwrap().unwrap().attempts, 0);
    }
    hall.shells.broken.store(false, Ordering::Relaxed);
    for task in tasks {
        let key = wait_for("another run", LONG, async || {
            let runs = hall.database.store.runs_of_task(task).await.unwrap();
            let last = runs.iter().max_by_key(|run| run.number).unwrap();
            if last.status == RunStatus::Ended { Err("ended") } else { Ok(last.key()) }
        })
        .await;
        hall.work(key).await;
        assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    }
}

#[tokio::test]
async fn a_sandbox_that_fills_its_place_is_stopped() {
    let mut hall = Hall::new(FILLS, &[("SANDBOX_DISK_LIMIT_BYTES", "4000000")]).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    let report = hall.ended(key.run).await;
    assert_eq!(report.outcome, RunOutcome::DiskLimit, "{report:?}");
    hall.nothing_is_left().await;
}

#[tokio::test]
async fn a_switch_to_the_host_leaves_what_runs_and_claims_no_more() {
    let mut hall = Hall::new(WORKS, &[]).await;
    let before = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(before).await;
    hall.said(key.run).await;
    hall.settings.send_replace(Arc::new(load([], None).unwrap()));
    let after = hall.queue().await;
    hall.work(key).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
    assert!(hall.database.store.runs_of_task(after).await.unwrap().is_empty());
    hall.settings.send_replace(settings(&[]));
    let key = hall.run_of(after).await;
    hall.work(key).await;
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Succeeded);
}

#[tokio::test]
async fn a_cancelled_task_is_ended_by_its_worker_and_keeps_nothing() {
    let mut hall = Hall::new(WAITS, &[]).await;
    let task = hall.queue().await;
    hall.dispatcher(true).await;
    let key = hall.run_of(task).await;
    hall.said(key.run).await;
    let worker = hall.worker(key).await;
    worker.start().await.unwrap();
    hall.database.store.cancel_task(task, "enough").await.unwrap();
    wait_for("the worker to learn of it", LONG, async || {
        let beat = worker.renew().await.unwrap();
        beat.cancel_requested.then_some(()).ok_or("not yet")
    })
    .await;
    let report = RunReport::new(RunOutcome::Cancelled);
    worker.report(&SandboxReport { report, claim: None }).await.unwrap();
    hall.go(key.run);
    assert_eq!(hall.ended(key.run).await.outcome, RunOutcome::Cancelled);
    assert_eq!(hall.state_of(task).await, TaskState::Cancelled);
    hall.nothing_is_left().await;
}
