//! A database with tasks that end, settings, and a deliverer.

use std::{sync::Arc, time::Duration};

use core_config::{
    database::DatabaseSnapshot,
    load::{Loaded, load_lenient_database},
};
use core_types::{
    ids::{AgentId, NoticeId, TaskId},
    outcome::{RunOutcome, RunReport},
};
use launcher::process::ProcessLauncher;
use notices::deliverer::{Deliverer, Patience};
use store::{
    notices::{Notice, NoticeFilter},
    pool::Store,
    tasks::NewTask,
};
use tempfile::TempDir;
use testing::{database::TestDatabase, programs::search_path, samples, wait::wait_for};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) database: TestDatabase,
    pub(crate) state: TempDir,
    pub(crate) patience: Patience,
    agent: AgentId,
    running: JoinSet<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        let agent = samples::agent();
        database.store.register_agent(&agent).await.unwrap();
        let store = database.store.clone();
        let state = TempDir::new().unwrap();
        let (patience, running) = (Patience::default(), JoinSet::new());
        Self { store, database, state, patience, agent: agent.id, running }
    }

    /// Makes a task that depends on others.
    pub(crate) async fn task(&self, dependencies: &[TaskId]) -> TaskId {
        let task = NewTask {
            title: "repair the answer".to_owned(),
            goal: "a secret plan".to_owned(),
            dependencies: dependencies.to_vec(),
            max_attempts: 2,
            ..samples::task()
        };
        let id = task.id;
        self.store.create_tasks(vec![task]).await.unwrap();
        id
    }

    /// Has the next run, and ends it so.
    pub(crate) async fn end_next(&self, outcome: RunOutcome) {
        let request = samples::claim(1);
        let claimed = self.store.claim_host_runs(request).await.unwrap();
        let key = claimed.first().unwrap().key;
        self.store.start_run(key, self.agent).await.unwrap();
        let mut report = RunReport::new(outcome).with_message("what happened");
        report.usage.cost_microusd = 1_250_000;
        if outcome == RunOutcome::Succeeded {
            report.commit = Some("a".repeat(40));
            report.branch = Some("opentiger/x-1".to_owned());
        }
        self.store.finish_run(key, &report).await.unwrap();
    }

    /// Makes a task and ends it so.
    pub(crate) async fn over(&self, outcome: RunOutcome) -> TaskId {
        let task = self.task(&[]).await;
        self.end_next(outcome).await;
        task
    }

    /// Delivers under these settings until the world or the token ends.
    pub(crate) fn deliver(&mut self, variables: &[(&str, &str)]) -> CancellationToken {
        self.deliver_under(settings(variables))
    }

    /// Delivers under these settings until the world or the token ends.
    pub(crate) fn deliver_under(&mut self, loaded: Loaded) -> CancellationToken {
        let (_keep, settings) = watch::channel(Arc::new(loaded));
        let deliverer = Deliverer {
            store: self.store.clone(),
            launcher: Arc::new(ProcessLauncher::new(self.state.path().to_path_buf()).unwrap()),
            settings,
            env: [("PATH".to_owned(), search_path())].into(),
            lease: Duration::from_secs(90),
            patience: self.patience,
        };
        let stop = CancellationToken::new();
        self.running.spawn(deliverer.run(stop.clone()));
        stop
    }

    pub(crate) async fn notices(&self) -> Vec<Notice> {
        let filter = NoticeFilter { limit: 100, ..NoticeFilter::default() };
        let mut items = self.store.list_notices(&filter).await.unwrap().items;
        items.reverse();
        items
    }

    /// Waits until a notice is as it should be.
    pub(crate) async fn wait(
        &self,
        id: NoticeId,
        what: &str,
        fits: impl Fn(&Notice) -> bool,
    ) -> Notice {
        wait_for(what, Duration::from_secs(20), async || {
            let notice =
                self.store.notice(id).await.unwrap().ok_or_else(|| "no notice".to_owned())?;
            if fits(&notice) { Ok(notice) } else { Err(format!("{notice:?}")) }
        })
        .await
    }

    /// Makes everything that waits for its next attempt due.
    pub(crate) async fn hurry(&self) {
        self.database.run("UPDATE notices SET next_at = now() WHERE next_at IS NOT NULL").await;
    }
}

pub(crate) fn settings(variables: &[(&str, &str)]) -> Loaded {
    with_rows(variables, &[])
}

/// The same with rows of the database, which may be unusable.
pub(crate) fn with_rows(variables: &[(&str, &str)], rows: &[(&str, &str)]) -> Loaded {
    let all = [("OPENTIGER_STATE_DIR", "/srv/tiger")];
    let all = all.iter().chain(variables).map(|(key, value)| ((*key).into(), (*value).into()));
    let rows = rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    load_lenient_database(all, Some(&DatabaseSnapshot { revision: 1, rows })).unwrap()
}
