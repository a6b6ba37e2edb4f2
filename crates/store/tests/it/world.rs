//! A fresh database with a few words for what tests do to it, and the rules that must hold at any moment.

use std::time::Duration;

use core_types::{
    ids::{AgentId, RunKey, TaskId},
    outcome::{RunOutcome, RunReport},
    provider::Provider,
    secret::Secret,
    task::{ExecutionEnvironment, Role},
    usage::SpendLimits,
};
use store::{
    agents::NewAgent,
    dispatch::{claim::Claimed, finish::Finished},
    pool::{PoolOptions, Store},
    tasks::{NewTask, Task, waiting::Waiting},
};
use testing::{database::TestDatabase, samples};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// The lease of every claim here, as in the samples.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A fresh database and a connection of the test's own.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) sql: Client,
    pub(crate) url: Secret,
    _driver: JoinSet<()>,
    /// Last, so that it is dropped after everything that is connected to it.
    _database: TestDatabase,
}

/// Connects the test's own client.
pub(crate) async fn connect(url: &str, driver: &mut JoinSet<()>) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    driver.spawn(async move {
        // How it ends shows in the statements of its client.
        connection.await.ok();
    });
    client
}

impl World {
    /// A database with the schema.
    pub(crate) async fn new() -> Self {
        Self::on(TestDatabase::new().await).await
    }

    /// A database with nothing in it.
    pub(crate) async fn empty() -> Self {
        Self::on(TestDatabase::unmigrated().await).await
    }

    async fn on(database: TestDatabase) -> Self {
        let url = database.url.clone();
        let mut driver = JoinSet::new();
        let sql = connect(url.expose(), &mut driver).await;
        let options = PoolOptions { max_size: 12, ..PoolOptions::new("store tests") };
        let store = Store::connect(&url, options).await.unwrap();
        Self { store, sql, url, _driver: driver, _database: database }
    }

    /// Another process's handle on the same database.
    pub(crate) async fn another_store(&self) -> Store {
        loop {
            match Store::connect(&self.url, PoolOptions::new("store tests, another")).await {
                Ok(store) => return store,
                // Connections are killed at random by the test that asks for several.
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
        }
    }

    /// Makes one task.
    pub(crate) async fn task(&self, task: NewTask) -> TaskId {
        let id = task.id;
        self.store.create_tasks(vec![task]).await.unwrap();
        id
    }

    /// Makes a plain task.
    pub(crate) async fn plain(&self) -> TaskId {
        self.task(plain_task()).await
    }

    /// Registers an idle agent.
    pub(crate) async fn agent(&self, role: Role) -> AgentId {
        let agent = new_agent(role);
        self.store.register_agent(&agent).await.unwrap();
        agent.id
    }

    /// Claims with room for everything.
    pub(crate) async fn claim(&self, limit: u32) -> Vec<Claimed> {
        claim(&self.store, limit).await
    }

    /// What a task waits for on the host.
    pub(crate) async fn why(&self, task: TaskId) -> Option<Waiting> {
        self.why_with_default(task, &Provider::default()).await
    }

    /// The same where a task of opencode that names no model asks this provider's.
    pub(crate) async fn why_with_default(
        &self,
        task: TaskId,
        default: &Provider,
    ) -> Option<Waiting> {
        let host = ExecutionEnvironment::Host;
        let why = self.store.why_waiting(task, &SpendLimits::default(), host, default).await;
        why.expect("the database answers")
    }

    /// Claims exactly one run and starts it.
    pub(crate) async fn run_one(&self) -> Claimed {
        let claimed = self.claim(1).await;
        let [one] = claimed.as_slice() else { panic!("one claim expected: {claimed:?}") };
        self.store.start_run(one.key, one.agent).await.unwrap();
        *one
    }

    /// Registers an agent, claims exactly one run and starts it.
    pub(crate) async fn run_with_new_agent(&self) -> Claimed {
        self.agent(Role::Worker).await;
        self.run_one().await
    }

    /// Ends a run.
    pub(crate) async fn finish(&self, key: RunKey, outcome: RunOutcome) -> Finished {
        self.store.finish_run(key, &RunReport::new(outcome)).await.unwrap()
    }

    /// Opens every gate, whatever closed it.
    pub(crate) async fn open_gates(&self) {
        let sql =
            "UPDATE executor_gates SET state = 'open', cause = NULL, failures = 0, closures = 0,
            retry_at = NULL, trial_run = NULL, trial_since = NULL";
        self.sql.batch_execute(sql).await.unwrap();
    }

    /// The task as it stands.
    pub(crate) async fn read(&self, id: TaskId) -> Task {
        self.store.task(id).await.unwrap().expect("the task is there")
    }

    /// A number out of the database.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Asserts that every rule holds; each is one statement and so one moment.
    pub(crate) async fn assert_rules(&self) {
        assert_rules(&self.sql).await;
    }
}

/// Claims with room for everything.
pub(crate) async fn claim(store: &Store, limit: u32) -> Vec<Claimed> {
    let request = samples::claim(limit);
    store.claim_host_runs(request).await.unwrap()
}

/// An agent of this role.
pub(crate) fn new_agent(role: Role) -> NewAgent {
    NewAgent { role, ..samples::agent() }
}

/// A task for a worker, without dependencies and area, that may fail twice.
pub(crate) fn plain_task() -> NewTask {
    NewTask { max_attempts: 2, ..samples::task() }
}

/// A plain task of an area.
pub(crate) fn task_in(area: &str) -> NewTask {
    NewTask { target_area: Some(area.to_owned()), ..plain_task() }
}

/// A plain task that waits for others.
pub(crate) fn task_after(dependencies: &[TaskId]) -> NewTask {
    NewTask { dependencies: dependencies.to_vec(), ..plain_task() }
}

const RULES: &[(&str, &str)] = &[
    (
        "at most one task of an area runs",
        "SELECT count(*) FROM (SELECT FROM tasks WHERE status = 'running' AND target_area IS NOT NULL
             GROUP BY target_area HAVING count(*) > 1) x",
    ),
    (
        "a task runs exactly while a lease with its number and run exists",
        "SELECT count(*) FROM tasks t FULL JOIN leases l ON l.task = t.id
         WHERE (t.status = 'running') IS DISTINCT FROM (l.run IS NOT NULL)
             OR (l.run IS NOT NULL AND (l.number <> t.lease_number OR l.run <> t.current_run))",
    ),
    (
        "a run is over exactly when it has no lease",
        "SELECT count(*) FROM runs r LEFT JOIN leases l ON l.run = r.id
         WHERE (r.status = 'ended') = (l.run IS NOT NULL)",
    ),
    (
        "an agent is busy exactly while it holds a lease",
        "SELECT count(*) FROM agents a FULL JOIN leases l ON l.agent = a.id
         WHERE a.run IS DISTINCT FROM l.run AND (a.id IS NOT NULL OR l.agent IS NOT NULL)",
    ),
    (
        "every eligible task is ready or stands behind its area",
        "SELECT count(*) FROM tasks t
         WHERE status = 'queued' AND pending_dependencies = 0 AND not_before IS NULL
             AND NOT EXISTS (SELECT FROM ready r WHERE r.task = t.id)
             AND NOT EXISTS (SELECT FROM ready r WHERE r.area = t.target_area AND r.executor = t.executor
                 AND r.provider = t.provider)
             AND NOT EXISTS (SELECT FROM tasks o WHERE o.target_area = t.target_area AND o.status = 'running')",
    ),
    (
        "what is ready is eligible, in an area in which nothing runs",
        "SELECT count(*) FROM ready r LEFT JOIN tasks t ON t.id = r.task
         WHERE t.status IS DISTINCT FROM 'queued' OR t.pending_dependencies <> 0 OR t.not_before IS NOT NULL
             OR t.target_area IS DISTINCT FROM r.area OR t.rank <> r.rank OR t.role <> r.role
             OR t.executor <> r.executor OR t.provider <> r.provider
             OR EXISTS (SELECT FROM tasks o WHERE o.target_area = r.area AND o.status = 'running')",
    ),
    (
        "the best of an area, executor and provider is the one that is ready",
        "SELECT count(*) FROM ready r JOIN tasks better ON better.target_area = r.area
         WHERE better.executor = r.executor AND better.provider = r.provider AND better.status = 'queued' AND better.pending_dependencies = 0 AND better.not_before IS NULL
             AND (better.rank, better.id) < (r.rank, r.task)",
    ),
    (
        "the count of pending dependencies is right",
        "SELECT count(*) FROM tasks t WHERE pending_dependencies <> (
             SELECT count(*) FROM task_dependencies e JOIN tasks d ON d.id = e.dependency
             WHERE e.task = t.id AND d.status <> 'done')",
    ),
    (
        "no task is claimed before its dependencies are done",
        // But for one whose dependency was done and is wanted once more.
        "SELECT count(*) FROM tasks t WHERE lease_number > 0 AND pending_dependencies > 0 AND NOT EXISTS (
             SELECT FROM task_dependencies e JOIN tasks d ON d.id = e.dependency
             WHERE e.task = t.id AND d.retries > 0)",
    ),
    (
        "nothing waits for what will never be done",
        "SELECT count(*) FROM tasks t JOIN task_dependencies e ON e.task = t.id JOIN tasks d ON d.id = e.dependency
         WHERE t.status = 'queued' AND (d.status IN ('failed', 'cancelled')
             OR d.block_reason IN ('dependency_failed', 'dependency_cancelled'))",
    ),
    (
        "each claim of a task made one run",
        "SELECT count(*) FROM tasks t
         WHERE lease_number <> (SELECT count(*) FROM runs r WHERE r.task = t.id)
             OR lease_number <> (SELECT coalesce(max(r.lease_number), 0) FROM runs r WHERE r.task = t.id)",
    ),
];

/// Asserts that every rule holds; each is one statement and so one moment.
pub(crate) async fn assert_rules(sql: &Client) {
    for (rule, broken) in RULES {
        let broken: i64 = sql.query_one(*broken, &[]).await.unwrap().get(0);
        assert_eq!(broken, 0, "broken: {rule}");
    }
}
