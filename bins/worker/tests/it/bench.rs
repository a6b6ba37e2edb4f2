//! A host's side of a sandbox: a claimed run, its checkout, its token, the worker launched with its assignment on
//! standard input, under a user of its own where the tests run as root.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::PathBuf,
    time::Duration,
};

use checkout::{
    checkouts::{Checkouts, PrepareRequest},
    git::{CommitId, GitCommand},
    sandboxed::Claim,
};
use core_config::load::load;
use core_types::{
    event::RunEvent,
    ids::RunKey,
    repository::Repository,
    sandbox::{AttemptsBefore, Logins, ResultClaim, SandboxAssignment, WorkerExit},
    secret::Secret,
    task::Role,
};
use launcher::{
    handle::Handle,
    launcher::Launcher as _,
    outcome::Outcome,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, UserId},
};
use sandbox::rewrite::postgres::lend;
use store::{agents::HostId, dispatch::sandboxed::SandboxClaimRequest, runs::Run, tasks::NewTask};
use tempfile::TempDir;
use testing::{database::TestDatabase, programs, repository::ScratchRepository, samples};
use uuid::Uuid;

/// The user of the sandbox where the tests run as root; it needs no name.
const SANDBOX: UserId = UserId { uid: 64_123, gid: 64_123 };
/// A secret that nothing but the agent's environment may hold.
pub(crate) const KEY: &str = "sk-canary-0123456789";

pub(crate) struct Bench {
    state: TempDir,
    pub(crate) database: TestDatabase,
    pub(crate) repository: ScratchRepository,
    launcher: ProcessLauncher,
    pub(crate) checkouts: Checkouts,
    settings: Vec<(&'static str, String)>,
    path: String,
}

/// A run that is claimed and has everything that its sandbox needs.
pub(crate) struct Prepared {
    pub(crate) key: RunKey,
    pub(crate) assignment: SandboxAssignment,
    pub(crate) checkout: checkout::checkouts::Checkout,
}

impl Bench {
    /// With the scripted agent.
    pub(crate) async fn new() -> Self {
        Self::with_agent(&programs::fake_agent_path(), &[]).await
    }

    pub(crate) async fn with_agent(
        agent: &std::path::Path,
        more: &[(&'static str, String)],
    ) -> Self {
        let state = TempDir::new().unwrap();
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let launcher = ProcessLauncher::new(state.path().join("host")).unwrap();
        let search_path = programs::search_path();
        let git = GitCommand::find(&search_path).unwrap();
        let directory = agent.parent().unwrap().to_string_lossy().into_owned();
        let command = agent.to_string_lossy().into_owned();
        let mut settings = vec![
            ("CLAUDE_CODE_COMMAND", command),
            ("CANCEL_GRACE_S", "1".to_owned()),
            ("ANTHROPIC_API_KEY", KEY.to_owned()),
        ];
        settings.extend_from_slice(more);
        Self {
            checkouts: Checkouts::new(state.path().join("checkouts"), git),
            database: TestDatabase::new().await,
            repository: ScratchRepository::with_one_commit(),
            launcher,
            settings,
            path: format!("{directory}:{search_path}"),
            state,
        }
    }

    pub(crate) fn task(&self, goal: &str) -> NewTask {
        NewTask {
            goal: goal.to_owned(),
            max_attempts: 1,
            repository: Repository::Local {
                path: self.repository.path().to_string_lossy().into_owned(),
            },
            ..samples::task()
        }
    }

    /// Claims a run of the task and makes what its sandbox gets; the database is reached at `url`, with the sandbox's
    /// login in the place of the owner's.
    pub(crate) async fn prepare(&self, task: NewTask, url: &Secret) -> Prepared {
        let store = &self.database.store;
        store.create_tasks(vec![task]).await.unwrap();
        let request = SandboxClaimRequest {
            claim: samples::claim(1),
            counts: Role::ALL.iter().map(|role| (*role, 5)).collect(),
            without: Vec::new(),
            host: HostId::new("here"),
            dispatcher: Uuid::now_v7(),
        };
        let [claimed] = store.claim_sandbox_runs(&request).await.unwrap()[..] else {
            panic!("one run is claimed");
        };
        let task = store.task(claimed.task).await.unwrap().unwrap();
        let prepare = PrepareRequest {
            run: claimed.key.run,
            task: claimed.task,
            number: 1,
            repository: &task.new.repository,
            base_branch: None,
        };
        let checkout = self.checkouts.prepare_for_sandbox(prepare, user()).await.unwrap();
        let mounts = checkout.sandbox_mounts().unwrap();
        let mut told = self.checkouts.told_to_sandbox(&checkout).unwrap().unwrap();
        // In the place of the mounts.
        told.directory.clone_from(&mounts.directory);
        let own = mounts.directory.parent().unwrap();
        for open in [own, own.parent().unwrap()] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o711)).unwrap();
        }
        fs::remove_dir(mounts.directory.join("objects")).unwrap();
        symlink(&mounts.objects, mounts.directory.join("objects")).unwrap();
        let login = store.ensure_sandbox_login().await.unwrap();
        let settings = self.settings.iter().map(|(key, value)| ((*key).into(), value.into()));
        let home = ("HOME".into(), "/nowhere".into());
        let loaded = load(settings.chain([home]), None).unwrap();
        let assignment = SandboxAssignment {
            key: claimed.key,
            number: 1,
            token: store.issue_sandbox_token(claimed.key).await.unwrap(),
            database_url: lend(url.expose(), &login.name, &login.password).unwrap(),
            redis_url: None,
            task: task.brief(),
            checkout: told,
            launches: self.directory("launches"),
            state: self.directory("state"),
            logins: Logins::default(),
            settings: loaded.for_sandbox(str::to_owned),
            environment: BTreeMap::from([("PATH".to_owned(), Secret::new(&*self.path))]),
            before: AttemptsBefore::default(),
        };
        Prepared { key: claimed.key, assignment, checkout }
    }

    pub(crate) async fn prepared(&self, task: NewTask) -> Prepared {
        self.prepare(task, &self.database.url).await
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.state.path().join(name);
        fs::create_dir(&path).unwrap();
        let UserId { uid, gid } = user();
        chown(&path, Some(uid), Some(gid)).unwrap();
        path
    }

    /// Launches the worker with what it is to read.
    pub(crate) async fn launch(&self, stdin: Vec<u8>) -> Handle {
        let worker = PathBuf::from(env!("CARGO_BIN_EXE_worker"));
        let mut spec = LaunchSpec::new(&worker, PathBuf::from("/"));
        spec.args = vec!["once".to_owned()];
        spec.env = BTreeMap::from([
            ("PATH".to_owned(), programs::search_path()),
            ("CANARY".to_owned(), "canary-of-the-worker".to_owned()),
        ]);
        spec.user = rustix::process::geteuid().is_root().then_some(SANDBOX);
        spec.limits.wall = Some(Duration::from_secs(120));
        let input = Input { stdin, ..Input::default() };
        let id = format!("once-{}", Uuid::now_v7().simple()).parse().unwrap();
        self.launcher.launch(&id, &spec, input).await.unwrap().into_handle()
    }

    pub(crate) async fn start(&self, prepared: &Prepared) -> Handle {
        self.launch(serde_json::to_vec(&prepared.assignment).unwrap()).await
    }

    /// Works on a task to the end of its worker.
    pub(crate) async fn work(&self, task: NewTask) -> (Prepared, WorkerExit) {
        let prepared = self.prepared(task).await;
        let handle = self.start(&prepared).await;
        let exit = self.exit(&handle).await;
        (prepared, exit)
    }

    /// How the worker ended, with what it printed where that is a crash.
    pub(crate) async fn exit(&self, handle: &Handle) -> WorkerExit {
        let report = handle.exited().await;
        let known = match &report.outcome {
            Outcome::Exited(code) => WorkerExit::of_code(*code),
            Outcome::Signaled(_) | Outcome::NeverStarted(_) | Outcome::Lost(_) => None,
        };
        let printed = printed(handle).await;
        for secret in [KEY, "postgres://"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        known.unwrap_or_else(|| panic!("{report:?}\n{printed}"))
    }

    pub(crate) async fn run(&self, key: RunKey) -> Run {
        self.database.store.run(key.run).await.unwrap().unwrap()
    }

    pub(crate) async fn claim(&self, key: RunKey) -> Option<ResultClaim> {
        self.database.store.result_claim(key.run).await.unwrap()
    }

    pub(crate) async fn events(&self, key: RunKey) -> Vec<RunEvent> {
        let events = self.database.store.events(key.run, 0, 10_000).await.unwrap();
        events.into_iter().map(|event| event.event).collect()
    }

    /// Waits until the run has such an event.
    pub(crate) async fn wait_event(&self, key: RunKey, what: &str, is: impl Fn(&RunEvent) -> bool) {
        testing::wait::wait_for(what, Duration::from_secs(60), async || {
            let events = self.events(key).await;
            if events.iter().any(&is) { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
    }

    /// Takes a claim over as the host does, and tells the commit's files.
    pub(crate) async fn collect(&self, prepared: &Prepared) -> String {
        let claim = self.claim(prepared.key).await.expect("something is claimed");
        let commit: CommitId = claim.commit.parse().unwrap();
        let claimed = Claim { commit: &commit, pack: &claim.pack };
        let brought = self.checkouts.bring_claimed(&prepared.checkout, claimed).await.unwrap();
        let published = self.checkouts.publish(&prepared.checkout, &brought.brought).await.unwrap();
        let branch = published.branch.to_string();
        self.repository.git(&["show", "--name-only", "--format=", &branch]).trim().to_owned()
    }
}

/// Whoever the sandbox runs as.
fn user() -> UserId {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() { SANDBOX } else { UserId { uid: uid.as_raw(), gid: gid.as_raw() } }
}

async fn printed(handle: &Handle) -> String {
    use futures_util::StreamExt as _;
    use launcher::output::{LogContent, LogCursor};
    let mut text = Vec::new();
    let mut logs = Box::pin(handle.logs(LogCursor::START));
    while let Some(Ok(chunk)) = logs.next().await {
        if let LogContent::Output { data, .. } = chunk.content {
            text.extend_from_slice(&data);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
