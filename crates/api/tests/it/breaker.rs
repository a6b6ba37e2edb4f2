//! A login whose gate is closed is looked at by itself, and its gate opens by itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{breaker::watch_logins, logins::Checks, state::ApiState};
use auth_probe::{
    checker::Checker,
    finding::Finding,
    place::{Ask, Site, Spot},
};
use core_types::{
    auth::{AuthReason, CheckedBy, QuotaWindow},
    gate::GateWord,
    task::{ExecutionEnvironment, ExecutorKind},
};
use testing::{database::TestDatabase, wait::wait_for};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(50);

/// A place in which every check finds the same.
#[derive(Debug)]
struct Told(Mutex<Finding>);

#[async_trait::async_trait]
impl Site for Told {
    async fn open(&self, _ask: &Ask) -> Result<Spot, Finding> {
        Err(self.0.lock().expect("nobody panics").clone())
    }
}

/// A database whose gates are watched.
struct World {
    database: TestDatabase,
    host: Arc<Told>,
    sandbox: Arc<Told>,
    watching: JoinSet<()>,
}

impl World {
    async fn new(reason: AuthReason) -> Self {
        let told = || Arc::new(Told(Mutex::new(Finding::new(reason, CheckedBy::Usage))));
        let mut world = Self {
            database: TestDatabase::new().await,
            host: told(),
            sandbox: told(),
            watching: JoinSet::new(),
        };
        world.watch();
        world
    }

    /// A server that begins to watch; the one before is gone.
    fn watch(&mut self) {
        self.watching = JoinSet::new();
        let loaded = core_config::load::load(Vec::new(), None).expect("the defaults are right");
        let (_, settings) = watch::channel(Arc::new(loaded));
        let sandbox: Arc<dyn Site> = Arc::<Told>::clone(&self.sandbox);
        let checker = Checker::new(Arc::<Told>::clone(&self.host), Some(sandbox));
        let stop = CancellationToken::new();
        let state = ApiState::new(self.database.store.clone(), settings, None, stop.clone())
            .with_checks(Checks { checker, sandboxes: None, environment: BTreeMap::new() });
        self.watching.spawn(watch_logins(state, EVERY, stop));
    }

    async fn close(&self, environment: &str, cause: &str) {
        let sql = format!(
            "UPDATE executor_gates SET state = 'closed', cause = '{cause}', closures = 1, closed_at = now(),
                 retry_at = now() + interval '1 hour'
             WHERE environment = '{environment}' AND executor = 'claude_code'"
        );
        self.database.run(&sql).await;
    }

    async fn word(&self, environment: ExecutionEnvironment) -> GateWord {
        let gates = self.database.store.gates().await.expect("the database answers");
        let of = |stored: &&store::gates::StoredGate| {
            stored.key.environment == environment && stored.key.executor == ExecutorKind::ClaudeCode
        };
        gates.iter().find(of).expect("every executor has one").gate.state.word()
    }

    async fn wait_open(&self, environment: ExecutionEnvironment) {
        wait_for("the gate to open", SOON, async || match self.word(environment).await {
            GateWord::Open => Ok(()),
            other => Err(format!("{other}")),
        })
        .await;
    }

    fn tell(told: &Told, reason: AuthReason) {
        let window =
            QuotaWindow { name: "five_hour".to_owned(), used_percent: 3.0, resets_at: None };
        let finding = Finding { quota: vec![window], ..Finding::new(reason, CheckedBy::Usage) };
        *told.0.lock().expect("nobody panics") = finding;
    }
}

#[tokio::test]
async fn a_renewed_login_opens_its_gate_and_no_other_although_the_server_started_anew() {
    let mut world = World::new(AuthReason::LoginExpired).await;
    world.close("host", "login").await;
    world.close("sandbox", "login").await;
    world.watch();
    World::tell(&world.host, AuthReason::Ready);
    world.wait_open(ExecutionEnvironment::Host).await;
    assert_eq!(world.word(ExecutionEnvironment::Sandbox).await, GateWord::Closed);
    World::tell(&world.sandbox, AuthReason::Ready);
    world.wait_open(ExecutionEnvironment::Sandbox).await;
    let quotas = world.database.store.quotas().await.expect("the database answers");
    assert_eq!(quotas.len(), 2, "{quotas:?}");
}

#[tokio::test]
async fn a_gate_that_is_closed_for_a_limit_is_not_looked_at() {
    let world = World::new(AuthReason::Ready).await;
    World::tell(&world.host, AuthReason::Ready);
    world.close("host", "quota").await;
    world.close("sandbox", "login").await;
    // The watch looks at both in one round.
    world.wait_open(ExecutionEnvironment::Sandbox).await;
    assert_eq!(world.word(ExecutionEnvironment::Host).await, GateWord::Closed);
}
