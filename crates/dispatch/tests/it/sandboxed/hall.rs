//! A hall of dispatchers, with a shell in place of each container.

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
    repository::Repository,
    sandbox::{ResultClaim, SandboxReport, paths},
    secret::Secret,
    task::{RunStatus, TaskState},
};
use dispatch::sandboxed::{
    outfit::{NotReady, Order, Outfit, Outfitter, Unfit},
    readiness::Readiness,
    tenders::{Sandboxes, Tenders, UNTENDED},
};
use launcher::{
    container::{ContainerSpec, ImagePolicy, Mount},
    docker::{DockerConfig, DockerLauncher},
    id::LaunchId,
    identity,
    launcher::Launcher,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, UserId},
};
use store::{
    agents::{HostId, ProcessIdentity},
    dispatchers::DispatcherBeat,
    sandbox::worker::WorkerStore,
    tasks::NewTask,
};
use tempfile::TempDir;
use testing::{
    database::TestDatabase, programs::search_path, repository::ScratchRepository, samples,
    wait::wait_for,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(super) const LONG: Duration = Duration::from_secs(60);

/// Makes a commit as a worker would, says so, and goes on until it is told to end.
pub(super) const WORKS: &str = r#"set -e
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
pub(super) const EATS: &str = "exec tail /dev/zero";
/// Does nothing, for as long as it takes.
pub(super) const WAITS: &str =
    r#"touch "$BOX/tmp/said"; until [ -e "$BOX/tmp/go" ]; do sleep 0.02; done"#;
/// Ends badly.
pub(super) const CRASHES: &str = "echo first; echo 'the last straw' >&2; exit 101";
/// Takes more place than it was given.
pub(super) const FILLS: &str =
    r#"dd if=/dev/zero of="$BOX/work/big" bs=1M count=8 2>/dev/null; exec sleep 600"#;

const IDENTITY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", IDENTITY_NAME),
    ("GIT_AUTHOR_EMAIL", IDENTITY_MAIL),
    ("GIT_COMMITTER_NAME", IDENTITY_NAME),
    ("GIT_COMMITTER_EMAIL", IDENTITY_MAIL),
];

/// Fits out shells, and keeps what their workers would know.
#[derive(Debug)]
pub(super) struct Shells {
    checkouts: Checkouts,
    script: &'static str,
    /// The image of a container to run it in.
    image: Option<String>,
    pub(super) broken: AtomicBool,
    /// The task that gets no sandbox.
    pub(super) unfit: Mutex<Option<TaskId>>,
    pub(super) tokens: Mutex<HashMap<RunId, Secret>>,
}

impl Shells {
    fn new(checkouts: Checkouts, script: &'static str, image: Option<String>) -> Self {
        Self {
            checkouts,
            script,
            image,
            broken: AtomicBool::new(false),
            unfit: Mutex::default(),
            tokens: Mutex::default(),
        }
    }
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
        let own = [
            ("PATH", search_path()),
            ("BOX", path(&order.mounts.directory)),
            ("OBJECTS", path(&order.mounts.objects)),
            ("BASE", order.checkout.base_commit),
        ];
        let identity = IDENTITY.map(|(key, value)| (key, value.to_owned()));
        spec.env =
            own.into_iter().chain(identity).map(|(key, value)| (key.to_owned(), value)).collect();
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
pub(super) struct Hall {
    pub(super) database: TestDatabase,
    pub(super) repository: ScratchRepository,
    state: TempDir,
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) shells: Arc<Shells>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) settings: watch::Sender<Arc<Loaded>>,
    pub(super) untended: Duration,
    dispatchers: JoinSet<()>,
}

pub(super) fn settings(more: &[(&str, &str)]) -> Arc<Loaded> {
    let sandbox = [("EXECUTION_ENVIRONMENT", "sandbox"), ("WORKER_COUNT", "20")];
    let all = sandbox.iter().chain(more).map(|(key, value)| ((*key).into(), (*value).into()));
    Arc::new(load(all.chain([("MAX_CONCURRENT_WORKERS".into(), "20".into())]), None).unwrap())
}

impl Hall {
    pub(super) async fn new(script: &'static str, more: &[(&str, &str)]) -> Self {
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
        let checkouts = checkouts.with_mirrors(state.path().join("mirrors")).with_remotes(remotes);
        Self {
            database: TestDatabase::new().await,
            repository: ScratchRepository::with_one_commit(),
            launcher: Arc::new(ProcessLauncher::new(state.path().to_path_buf()).unwrap()),
            state,
            shells: Arc::new(Shells::new(checkouts, script, None)),
            readiness: Arc::new(Readiness::new()),
            settings: watch::Sender::new(settings(more)),
            untended: UNTENDED,
            dispatchers: JoinSet::new(),
        }
    }

    /// The same with containers of the engine of these tests.
    pub(super) async fn with_containers(script: &'static str) -> Self {
        let hall = Self::new(script, &[]).await;
        // A test that needs an engine fails without one.
        let variable = |name: &str| std::env::var(name).expect("the variable names what is used");
        let host = Some(variable("OPENTIGER_TEST_DOCKER_HOST"));
        let store = hall.state.path().to_owned();
        let launcher = DockerLauncher::open(DockerConfig { host, store }).unwrap();
        let image = Some(variable("OPENTIGER_TEST_BASE_IMAGE"));
        let shells = Shells::new(hall.shells.checkouts.clone(), script, image);
        Self { launcher: Arc::new(launcher), shells: Arc::new(shells), ..hall }
    }

    /// The same with a task, and a dispatcher that has a run of it; `alive` is what others see of that.
    pub(super) async fn busy(mut self, alive: bool) -> (Self, TaskId, RunKey) {
        let task = self.queue().await;
        self.dispatcher(alive).await;
        let key = self.run_of(task).await;
        (self, task, key)
    }

    /// Leaves in a run's container what an agent there would: the image has no git.
    pub(super) fn works_inside(&self, run: RunId) {
        let inside = self.inside(run, "");
        let objects = inside.with_file_name("objects");
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", WORKS_OUTSIDE])
            .env_clear()
            .env("PATH", search_path())
            .env("BOX", inside)
            .env("GIT_OBJECTS", objects)
            .envs(IDENTITY)
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub(super) async fn queue(&self) -> TaskId {
        let path = self.repository.path().to_str().unwrap().to_owned();
        self.queue_of(Repository::Local { path }).await
    }

    pub(super) async fn queue_of(&self, repository: Repository) -> TaskId {
        let task = NewTask { repository, ..samples::task() };
        let id = task.id;
        self.database.store.create_tasks(vec![task]).await.unwrap();
        id
    }

    /// A dispatcher; `alive` is what others see of its process.
    pub(super) async fn dispatcher(&mut self, alive: bool) -> CancellationToken {
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
    pub(super) async fn kill_dispatchers(&mut self) {
        self.dispatchers.shutdown().await;
    }

    /// The run of a task that is being worked on.
    pub(super) async fn run_of(&self, task: TaskId) -> RunKey {
        wait_for("a run", LONG, async || {
            let runs = self.database.store.runs_of_task(task).await.unwrap();
            runs.last().map(store::runs::Run::key).ok_or("none")
        })
        .await
    }

    pub(super) fn inside(&self, run: RunId, file: &str) -> PathBuf {
        self.state.path().join("checkouts").join(run.to_string()).join("box").join(file)
    }

    pub(super) async fn said(&self, run: RunId) {
        let said = self.inside(run, "tmp/said");
        wait_for("the shell's work", LONG, async || {
            said.try_exists().unwrap().then_some(()).ok_or("not yet")
        })
        .await;
    }

    pub(super) async fn worker(&self, key: RunKey) -> WorkerStore {
        let token = wait_for("a token", LONG, async || {
            self.shells.tokens.lock().unwrap().get(&key.run).cloned().ok_or("none")
        })
        .await;
        WorkerStore::connect(&self.database.url, key, token).await.unwrap()
    }

    pub(super) fn claim(&self, run: RunId) -> ResultClaim {
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

    pub(super) fn go(&self, run: RunId) {
        fs::write(self.inside(run, "tmp/go"), "").unwrap();
    }

    /// The worker of a run, started, once its shell has worked.
    pub(super) async fn started(&self, key: RunKey) -> WorkerStore {
        self.said(key.run).await;
        let worker = self.worker(key).await;
        worker.start().await.unwrap();
        worker
    }

    /// The last words of a worker, and its end.
    pub(super) async fn reports(
        &self,
        key: RunKey,
        worker: &WorkerStore,
        outcome: RunOutcome,
        claim: Option<ResultClaim>,
    ) {
        let report = RunReport::new(outcome);
        worker.report(&SandboxReport { report, claim }).await.unwrap();
        self.go(key.run);
    }

    /// Does what the worker of a run would do once its shell has worked.
    pub(super) async fn work(&self, key: RunKey) {
        let worker = self.started(key).await;
        let claim = Some(self.claim(key.run));
        self.reports(key, &worker, RunOutcome::Succeeded, claim).await;
    }

    /// The same, and a success comes of it.
    pub(super) async fn succeeds(&self, key: RunKey) {
        self.work(key).await;
        let report = self.ended(key.run).await;
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:?}");
    }

    pub(super) async fn ended(&self, run: RunId) -> RunReport {
        wait_for("the end of the run", LONG, async || {
            let run = self.database.store.run(run).await.unwrap().unwrap();
            if run.status == RunStatus::Ended { Ok(run.report.unwrap()) } else { Err(run.status) }
        })
        .await
    }

    pub(super) async fn nothing_is_left(&self) {
        wait_for("nothing to be left", LONG, async || {
            let launches = self.launcher.discover().await.unwrap();
            let checkouts = self.shells.checkouts.list().await.unwrap();
            let left = launches.len() + checkouts.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} things")) }
        })
        .await;
    }

    pub(super) async fn state_of(&self, task: TaskId) -> TaskState {
        self.database.store.task(task).await.unwrap().unwrap().state
    }
}
