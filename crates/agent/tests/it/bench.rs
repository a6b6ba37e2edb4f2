//! The workbench of these tests: a database, a workshop, a scratch repository and one agent.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use agent::{
    policy::RunPolicy,
    run::{StartedRun, Workshop, work_on},
    sessions::Sessions,
};
use checkout::checkouts::Checkouts;
use core_types::{
    event::RunEvent,
    ids::{AgentId, RunId},
    repository::Repository,
    task::Role,
};
use launcher::process::ProcessLauncher;
use store::{
    agents::{NewAgent, ProcessIdentity},
    pool::{PoolOptions, Store},
    runs::Run,
    tasks::{NewTask, Task},
};
use tempfile::TempDir;
use testing::{database::TestDatabase, proxy::FaultProxy, repository::ScratchRepository, samples};
use tokio_util::sync::CancellationToken;

/// Everything one test needs.
pub(crate) struct Bench {
    _state: TempDir,
    pub(crate) repository: ScratchRepository,
    pub(crate) database: TestDatabase,
    pub(crate) shop: Workshop,
    _ring: tokio::task::JoinSet<()>,
    pub(crate) policy: RunPolicy,
    pub(crate) stop: CancellationToken,
}

/// What came of one run.
pub(crate) struct Told {
    pub(crate) task: Task,
    pub(crate) run: Run,
    pub(crate) events: Vec<RunEvent>,
}

impl Told {
    /// What came of the run, with everything known about it where that is not what was expected.
    #[track_caller]
    pub(crate) fn assert_outcome(&self, expected: core_types::outcome::RunOutcome) {
        assert_eq!(self.run.outcome(), Some(expected), "{:?}\n{:#?}", self.run.report, self.events);
    }

    /// The report of a run that ended.
    #[track_caller]
    pub(crate) fn report(&self) -> &core_types::outcome::RunReport {
        self.run.report.as_ref().expect("the run ended")
    }
}

impl Bench {
    /// A bench whose agent is the scripted program.
    pub(crate) async fn with_fake_agent() -> Self {
        Self::new(&testing::programs::fake_agent_path(), &[]).await
    }

    /// A bench whose agent is the scripted program and whose database can be taken away.
    pub(crate) async fn with_fault_proxy() -> (Self, FaultProxy) {
        let mut bench = Self::with_fake_agent().await;
        let proxy = FaultProxy::start(bench.database.server_address()).await;
        let url = bench.database.url_through(proxy.address());
        let store = Store::connect(&url, PoolOptions::new("through the proxy")).await;
        bench.shop.store = store.expect("the proxy lets through");
        (bench, proxy)
    }

    /// A bench whose agent is this command, under these settings.
    pub(crate) async fn new(command: &Path, settings: &[(&str, &str)]) -> Self {
        let state = TempDir::new().expect("a temporary directory can be made");
        let search_path = testing::programs::search_path();
        let database = TestDatabase::new().await;
        let launcher = ProcessLauncher::new(state.path().to_path_buf()).expect("usable directory");
        let checkouts = checkout::git::GitCommand::find(&search_path).expect("git is installed");
        let checkouts = Checkouts::new(state.path().join("checkouts"), checkouts)
            .with_mirrors(state.path().join("mirrors"));
        let home = state.path().join("home");
        std::fs::create_dir(&home).expect("a home can be made");
        let (alarm, _) = tokio::sync::watch::channel(0);
        let receiver = alarm.subscribe();
        let mut ring = tokio::task::JoinSet::new();
        ring.spawn(agent::resident::ring(database.store.clone(), alarm));
        let shop = Workshop {
            store: database.store.clone(),
            launcher: Arc::new(launcher),
            checkouts: Arc::new(checkouts),
            sessions: Sessions::new(state.path().join("sessions")),
            alarm: receiver,
            parent_env: Arc::new(BTreeMap::from([
                ("PATH".to_owned(), search_path.clone()),
                ("HOME".to_owned(), home.to_string_lossy().into_owned()),
                ("GITHUB_TOKEN".to_owned(), "canary-of-the-worker".to_owned()),
                ("SSH_AUTH_SOCK".to_owned(), "/canary-of-the-worker".to_owned()),
                ("GIT_ASKPASS".to_owned(), "/canary-of-the-worker".to_owned()),
                ("GIT_CONFIG_COUNT".to_owned(), "canary-of-the-worker".to_owned()),
            ])),
        };
        let command = command.to_string_lossy();
        let mut environment = vec![("CLAUDE_CODE_COMMAND", &*command), ("CANCEL_GRACE_S", "1")];
        environment.extend_from_slice(settings);
        let environment = environment.iter().map(|(key, value)| (key.into(), value.into()));
        let loaded = core_config::load::load(environment, None).expect("the settings are right");
        Self {
            policy: RunPolicy::from_settings(&loaded),
            repository: ScratchRepository::with_one_commit(),
            stop: CancellationToken::new(),
            _state: state,
            database,
            shop,
            _ring: ring,
        }
    }

    /// Puts a made-up login of a subscription into the agent's home.
    pub(crate) fn log_in(&self) {
        let home = self.shop.parent_env.get("HOME").expect("the bench has a home");
        model_stub::login::write(Path::new(home)).expect("the home is ours");
    }

    /// A task for the scratch repository.
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

    /// Queues a task, hands it to an agent, works on it and tells what came of it.
    pub(crate) async fn work(&self, task: NewTask) -> Told {
        let started = self.start(task).await;
        let key = started.key;
        work_on(&self.shop, started, &self.policy, &self.stop).await;
        self.told(key.run).await
    }

    /// Works on the task that is queued, with a new agent, and tells what came of it.
    pub(crate) async fn work_again(&self) -> Told {
        let started = self.claim(Role::Worker).await;
        let key = started.key;
        work_on(&self.shop, started, &self.policy, &self.stop).await;
        self.told(key.run).await
    }

    /// Queues a task and has an agent accept its run.
    pub(crate) async fn start(&self, task: NewTask) -> StartedRun {
        let role = task.role;
        self.shop.store.create_tasks(vec![task]).await.expect("the task is right");
        self.claim(role).await
    }

    /// Has a new agent accept the next run.
    async fn claim(&self, role: Role) -> StartedRun {
        let store = &self.shop.store;
        let agent = AgentId::generate();
        let process = launcher::identity::ProcessIdentity::own().expect("/proc is there");
        store
            .register_agent(&NewAgent {
                id: agent,
                role,
                process: ProcessIdentity {
                    pid: process.pid,
                    start_ticks: process.start_ticks,
                    boot_id: process.boot_id,
                },
                ..samples::agent()
            })
            .await
            .expect("the agent can register");
        let claimed = store.claim_host_runs(samples::claim(1)).await.expect("the database answers");
        let claim = claimed.first().expect("the task is ready and an agent idle");
        let key = claim.key;
        let started = store.start_run(key, claim.agent).await.expect("the run is ours");
        StartedRun { key, task: started.task, run: started.run }
    }

    /// Waits until a started run is in this phase.
    pub(crate) async fn wait_phase(&self, run: RunId, phase: &str) {
        let what = format!("phase {phase}");
        testing::wait::wait_for(&what, Duration::from_secs(30), async || {
            let events = self.told(run).await.events;
            let there = |e: &RunEvent| matches!(e, RunEvent::Phase { name } if name == phase);
            if events.iter().any(there) { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
    }

    /// Waits until the agent of a started run said hello.
    pub(crate) async fn wait_hello(&self, run: RunId) {
        testing::wait::wait_for("the agent to say hello", Duration::from_secs(30), async || {
            let events = self.told(run).await.events;
            let there = |e: &RunEvent| matches!(e, RunEvent::AgentStarted { .. });
            if events.iter().any(there) { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
    }

    /// What the database says of a run now.
    pub(crate) async fn told(&self, run: RunId) -> Told {
        // Not the store of the workshop, which may be cut off.
        let store = &self.database.store;
        let run = store.run(run).await.expect("the database answers").expect("the run is there");
        let task =
            store.task(run.task).await.expect("the database answers").expect("the task is there");
        let events = store.events(run.id, 0, 100_000).await.expect("the database answers");
        Told { task, run, events: events.into_iter().map(|event| event.event).collect() }
    }

    /// Asserts that nothing of any run is alive or lies about.
    pub(crate) async fn assert_clean(&self) {
        let launches = self.shop.launcher.discover().await.expect("launches can be listed");
        assert!(launches.is_empty(), "{launches:?}");
        let checkouts = self.shop.checkouts.list().await.expect("checkouts can be listed");
        assert!(checkouts.is_empty(), "{checkouts:?}");
    }
}
