//! A database with runs that ended, and an exporter.

use std::{sync::Arc, time::Duration};

use core_config::load::{Loaded, load_lenient_database};
use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::{AgentId, TaskId},
    outcome::{RunOutcome, RunReport},
    repository::Repository,
    task::{ExecutorKind, RiskLevel, Role},
    usage::SpendLimits,
};
use jiff::Timestamp;
use store::{
    agents::{HostId, NewAgent, ProcessIdentity},
    dispatch::claim::ClaimRequest,
    tasks::NewTask,
};
use testing::database::TestDatabase;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use traces::exporter::Exporter;

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    running: JoinSet<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        let agent = NewAgent {
            id: AgentId::generate(),
            name: "worker-1".to_owned(),
            role: Role::Worker,
            host: HostId::new("here"),
            process: ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "boot".to_owned() },
            version: "0".to_owned(),
        };
        database.store.register_agent(&agent).await.unwrap();
        Self { database, running: JoinSet::new() }
    }

    pub(crate) async fn task(&self) -> TaskId {
        let task = NewTask {
            id: TaskId::generate(),
            title: "a secret title".to_owned(),
            goal: "a secret plan".to_owned(),
            context: None,
            role: Role::Worker,
            priority: 0,
            risk: RiskLevel::Medium,
            dependencies: Vec::new(),
            target_area: None,
            repository: Repository::Local { path: "/srv/secret".to_owned() },
            base_branch: None,
            verification: Vec::new(),
            timebox: None,
            executor: ExecutorKind::ClaudeCode,
            model: None,
            max_attempts: 3,
            token_limit: None,
            cost_limit_microusd: None,
            created_by: "test".to_owned(),
        };
        let id = task.id;
        self.database.store.create_tasks(vec![task]).await.unwrap();
        id
    }

    /// Runs the next task through two phases to this end.
    pub(crate) async fn run(&self, outcome: RunOutcome) {
        let store = &self.database.store;
        let request = ClaimRequest {
            limit: 1,
            lease: Duration::from_secs(30),
            max_running: 10,
            spend: SpendLimits::default(),
            default_provider: core_types::provider::Provider::default(),
        };
        let claimed = store.claim_host_runs(request).await.unwrap();
        let run = claimed.first().unwrap();
        store.start_run(run.key, run.agent).await.unwrap();
        let phase = |seq, name: &str| NumberedEvent {
            seq,
            at: Timestamp::now(),
            event: RunEvent::Phase { name: name.to_owned() },
        };
        store.append_events(run.key, &[phase(1, "preparing"), phase(2, "agent")]).await.unwrap();
        store.finish_run(run.key, &RunReport::new(outcome)).await.unwrap();
    }

    /// Tells under these settings until the value is gone.
    pub(crate) fn export(&mut self, variables: &[(&str, &str)]) {
        let settings = watch::Sender::new(Arc::new(settings(variables)));
        let exporter = Exporter {
            store: self.database.store.clone(),
            settings: settings.subscribe(),
            settled: Duration::ZERO,
        };
        self.running.spawn(async move {
            // Without somebody who could change them, they count as changed for ever.
            let _kept = settings;
            exporter.run(CancellationToken::new()).await;
        });
    }
}

fn settings(variables: &[(&str, &str)]) -> Loaded {
    let place = [("OPENTIGER_STATE_DIR", "/srv/tiger")];
    let all = place.iter().chain(variables);
    let all = all.map(|(key, value)| ((*key).into(), (*value).into()));
    load_lenient_database(all, None).unwrap()
}
