//! A database with runs that ended, and an exporter.

use std::{sync::Arc, time::Duration};

use core_config::load::{Loaded, load_lenient_database};
use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::TaskId,
    outcome::{RunOutcome, RunReport},
    repository::Repository,
};
use jiff::Timestamp;
use store::tasks::NewTask;
use testing::{database::TestDatabase, samples};
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
        let agent = samples::agent();
        database.store.register_agent(&agent).await.unwrap();
        Self { database, running: JoinSet::new() }
    }

    pub(crate) async fn task(&self) -> TaskId {
        let task = NewTask {
            title: "a secret title".to_owned(),
            goal: "a secret plan".to_owned(),
            repository: Repository::Local { path: "/srv/secret".to_owned() },
            ..samples::task()
        };
        let id = task.id;
        self.database.store.create_tasks(vec![task]).await.unwrap();
        id
    }

    /// Runs the next task through two phases to this end.
    pub(crate) async fn run(&self, outcome: RunOutcome) {
        let store = &self.database.store;
        let request = samples::claim(1);
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
