//! What a worker in a sandbox can do with its login, and everything that it cannot.

mod login;

use std::time::Duration;

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::{LeaseNumber, RunKey},
    outcome::{RunOutcome, RunReport},
    sandbox::{ResultClaim, SandboxReport},
    secret::Secret,
    task::RunStatus,
    usage::Usage,
};
use jiff::Timestamp;
use store::{
    error::FencedError,
    recovery::Revocation,
    sandbox::{login::SandboxLogin, worker::WorkerStore},
};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::world::{World, connect};

/// The database of the test for the login of its sandboxes.
pub(crate) fn url_of(login: &SandboxLogin, owners: &Secret) -> Secret {
    let (_, database) = owners.expose().rsplit_once('@').expect("it is a plain URL");
    Secret::new(format!("postgres://{}:{}@{database}", login.name, login.password.expose()))
}

/// A run that waits for its sandbox, and the URL that it gets.
struct Box {
    world: World,
    key: RunKey,
    token: Secret,
    url: Secret,
}

impl Box {
    async fn new() -> Self {
        let world = World::new().await;
        let login = world.store.ensure_sandbox_login().await.unwrap();
        let url = url_of(&login, &world.url);
        world.plain().await;
        world.agent(core_types::task::Role::Worker).await;
        let [claimed] = world.claim(1).await[..] else { panic!("one claim") };
        let token = world.store.issue_sandbox_token(claimed.key).await.unwrap();
        Self { world, key: claimed.key, token, url }
    }

    async fn worker(&self) -> WorkerStore {
        WorkerStore::connect(&self.url, self.key, self.token.clone()).await.unwrap()
    }

    async fn started(&self) -> WorkerStore {
        let worker = self.worker().await;
        worker.start().await.unwrap();
        worker
    }

    /// The login's own connection, for what no worker does.
    async fn hostile(&self, driver: &mut JoinSet<()>) -> Client {
        connect(self.url.expose(), driver).await
    }
}

fn event(seq: i64) -> NumberedEvent {
    let event = RunEvent::Text { text: format!("text {seq} with a NUL \0") };
    NumberedEvent { seq, at: Timestamp::now(), event }
}

fn used(tokens: u64) -> Usage {
    Usage { output_tokens: tokens, cost_microusd: tokens, ..Usage::default() }
}

fn success() -> SandboxReport {
    SandboxReport {
        report: RunReport { usage: used(30), ..RunReport::new(RunOutcome::Succeeded) },
        claim: Some(ResultClaim {
            commit: "a".repeat(40),
            pack: format!("pack-{}.pack", "b".repeat(40)),
            pack_bytes: 1,
            files_changed: 2,
            insertions: 3,
            deletions: 4,
        }),
    }
}

fn is_fenced<T>(result: &Result<T, FencedError>) -> bool {
    matches!(result, Err(FencedError::Fenced { .. }))
}

#[tokio::test]
async fn worker_starts_beats_tells_and_reports_its_own_run() {
    let sandbox = Box::new().await;
    let store = &sandbox.world.store;
    let worker = sandbox.started().await;
    worker.start().await.expect("the first answer may have been lost");
    let beat = worker.beat(&used(10)).await.unwrap();
    assert!(!beat.cancel_requested);
    assert_eq!(beat.standing.day.tokens, 10);
    worker.append_events(&[event(1), event(2)]).await.unwrap();
    worker.append_events(&[event(2), event(3)]).await.unwrap();
    assert_eq!(store.events(sandbox.key.run, 0, 10).await.unwrap().len(), 3);
    let task = store.run(sandbox.key.run).await.unwrap().unwrap().task;
    store.cancel_task(task, "a test").await.unwrap();
    assert!(worker.renew().await.unwrap().cancel_requested);
    worker.report(&success()).await.unwrap();
    let run = store.run(sandbox.key.run).await.unwrap().unwrap();
    assert_eq!(run.status, RunStatus::Collecting);
    assert_eq!(run.report.unwrap().usage, used(30));
    assert_eq!(store.day_spend().await.unwrap().tokens, 30, "each token counts once");
    assert_eq!(store.result_claim(sandbox.key.run).await.unwrap(), success().claim);
    // The dispatcher's turn.
    store.finish_run(sandbox.key, &RunReport::new(RunOutcome::Cancelled)).await.unwrap();
    assert!(is_fenced(&worker.renew().await), "the token is gone with the run");
}

#[tokio::test]
async fn text_about_a_nul_is_kept_as_it_is() {
    let sandbox = Box::new().await;
    let worker = sandbox.started().await;
    let texts = [r"[\u0000-\u001f]", r"\\u0000", "\\\0", "\0", "\0\0-", r"\", "\\\\\0\\u0000"]
        .map(str::to_owned);
    let numbered = (1..).zip(&texts).map(|(seq, text)| {
        let event = RunEvent::Text { text: text.clone() };
        NumberedEvent { seq, at: Timestamp::now(), event }
    });
    worker.append_events(&numbered.collect::<Vec<_>>()).await.unwrap();
    let kept = sandbox.world.store.events(sandbox.key.run, 0, 10).await.unwrap();
    let kept = kept.into_iter().map(|numbered| match numbered.event {
        RunEvent::Text { text } => text,
        other => panic!("{other:?}"),
    });
    assert_eq!(kept.collect::<Vec<_>>(), texts);
}

#[tokio::test]
async fn first_report_counts_and_a_second_one_changes_nothing() {
    let sandbox = Box::new().await;
    let worker = sandbox.started().await;
    worker.report(&success()).await.unwrap();
    let other = SandboxReport { report: RunReport::new(RunOutcome::AgentFailed), claim: None };
    worker.report(&other).await.unwrap();
    let run = sandbox.world.store.run(sandbox.key.run).await.unwrap().unwrap();
    assert_eq!(run.outcome(), Some(RunOutcome::Succeeded));
    assert_eq!(sandbox.world.store.result_claim(run.id).await.unwrap(), success().claim);
    let late = worker.append_events(&[event(9)]).await;
    assert!(is_fenced(&late), "{late:?}");
}

#[tokio::test]
async fn wrong_token_number_or_run_changes_nothing() {
    let sandbox = Box::new().await;
    let (key, token) = (sandbox.key, &sandbox.token);
    let elder = RunKey { lease: LeaseNumber(key.lease.0 + 1), ..key };
    let other = RunKey { run: core_types::ids::RunId::generate(), ..key };
    let guess = Secret::new("0".repeat(32));
    for (key, token) in [(key, &guess), (elder, token), (other, token), (key, &Secret::new(""))] {
        let worker = WorkerStore::connect(&sandbox.url, key, token.clone()).await.unwrap();
        assert!(is_fenced(&worker.start().await));
        assert!(is_fenced(&worker.beat(&used(5)).await));
        assert!(is_fenced(&worker.append_events(&[event(1)]).await));
        assert!(is_fenced(&worker.report(&success()).await));
    }
    let run = sandbox.world.store.run(key.run).await.unwrap().unwrap();
    assert_eq!((run.status, run.report), (RunStatus::Launching, None));
    assert_eq!(sandbox.world.store.day_spend().await.unwrap().tokens, 0);
    assert!(sandbox.world.store.events(key.run, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn revoked_run_is_fenced_and_a_started_one_gets_no_other_token() {
    let sandbox = Box::new().await;
    let worker = sandbox.started().await;
    assert!(is_fenced(&sandbox.world.store.issue_sandbox_token(sandbox.key).await));
    assert!(sandbox.world.store.revoke(sandbox.key, Revocation::WorkerDead).await.unwrap());
    assert!(is_fenced(&worker.renew().await));
    assert!(is_fenced(&worker.report(&success()).await));
}

#[tokio::test]
async fn run_of_the_host_has_no_token_that_fits() {
    let world = World::new().await;
    let login = world.store.ensure_sandbox_login().await.unwrap();
    world.plain().await;
    let claimed = world.run_with_new_agent().await;
    let url = url_of(&login, &world.url);
    for token in ["", "0", "00000000000000000000000000000000"] {
        let worker = WorkerStore::connect(&url, claimed.key, Secret::new(token)).await.unwrap();
        assert!(is_fenced(&worker.renew().await));
    }
}

#[tokio::test]
async fn what_the_functions_take_is_bounded() {
    let sandbox = Box::new().await;
    sandbox.started().await;
    let mut driver = JoinSet::new();
    let hostile = sandbox.hostile(&mut driver).await;
    let args = format!(
        "'{}', {}, '{}'",
        sandbox.key.run.as_uuid(),
        sandbox.key.lease,
        sandbox.token.expose()
    );
    let refused = [
        "events(ARGS, '{1}', '{now}', '{ended}', ARRAY['{\"kind\":\"ended\"}']::json[])",
        "events(ARGS, '{1}', '{now}', '{commit}', ARRAY['{\"kind\":\"commit\"}']::json[])",
        "events(ARGS, '{1}', '{now}', '{text}', ARRAY['{\"kind\":\"ended\"}']::json[])",
        "events(ARGS, '{1}', '{now}', '{text}', ARRAY['7']::json[])",
        "events(ARGS, '{0}', '{now}', '{text}', ARRAY['{\"kind\":\"text\"}']::json[])",
        "events(ARGS, '{1,2}', '{now}', '{text}', ARRAY['{\"kind\":\"text\"}']::json[])",
        "events(ARGS, '{}', '{}', '{}', '{}')",
        "events(ARGS, '{1}', '{now}', '{text}', ARRAY[json_build_object('kind', 'text', 'text', repeat('x', 2000000))])",
        "heartbeat(ARGS, '{1,2}')",
        "heartbeat(ARGS, NULL)",
        "report(ARGS, 'succeeded', '', '', NULL, '{0,0,0,0,0,0}', NULL, NULL, NULL, 0, 0, 0, 0)",
        "report(ARGS, 'no_change', '', '', NULL, '{0,0,0,0,0,0}', NULL, repeat('a', 40), 'pack-' || repeat('a', 40) || '.pack', 0, 0, 0, 0)",
        "report(ARGS, 'succeeded', '', '', NULL, '{0,0,0,0,0,0}', NULL, repeat('a', 40), '../x', 0, 0, 0, 0)",
        "report(ARGS, 'a word', '', '', NULL, '{0,0,0,0,0,0}', NULL, NULL, NULL, 0, 0, 0, 0)",
    ];
    for call in refused {
        let call = format!("SELECT sandbox.{}", call.replace("ARGS", &args));
        assert!(hostile.batch_execute(&call).await.is_err(), "{call}");
    }
    let full = format!(
        "SELECT sandbox.events({args}, '{{9223372036854775807}}', '{{now}}', '{{text}}', ARRAY['{{\"kind\":\"text\"}}']::json[])"
    );
    assert_eq!(hostile.query_one(&full, &[]).await.unwrap().get::<_, String>(0), "full");
    // What everybody counts on stays countable and readable, whatever a sandbox says of itself.
    let most =
        "'{9223372036854775807,9223372036854775807,0,0,9223372036854775807,9223372036854775807}'";
    for usage in [most, most, "'{-1,-1,-1,-1,-1,-1}'"] {
        hostile.batch_execute(&format!("SELECT sandbox.heartbeat({args}, {usage})")).await.unwrap();
    }
    let far = format!(
        "SELECT sandbox.events({args}, '{{1}}', '{{infinity}}', '{{text}}', ARRAY['{{\"kind\":\"text\",\"text\":\"\"}}']::json[]),
            sandbox.report({args}, 'quota_exceeded', repeat('m', 100000), '', 'infinity', '{{0,0,0,0,0,0}}', repeat('s', 999), NULL, NULL, 0, 0, 0, 0)"
    );
    hostile.batch_execute(&far).await.unwrap();
    let store = &sandbox.world.store;
    assert_eq!(store.events(sandbox.key.run, 0, 10).await.unwrap().len(), 1);
    let report = store.run(sandbox.key.run).await.unwrap().unwrap().report.unwrap();
    assert_eq!((report.retry_at, report.message.unwrap().len()), (None, 4000));
    assert_eq!(report.usage.cost_microusd, 1_000_000_000_000);
    assert_eq!(store.day_spend().await.unwrap().cost_microusd, 1_000_000_000_000);
    store.finish_run(sandbox.key, &RunReport::new(RunOutcome::AgentFailed)).await.unwrap();
}

#[tokio::test]
async fn workers_whose_sessions_another_sandbox_ends_connect_again_and_go_on() {
    let sandbox = Box::new().await;
    let worker = sandbox.started().await;
    let mut driver = JoinSet::new();
    let hostile = sandbox.hostile(&mut driver).await;
    let end_all =
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
        WHERE usename = current_user AND pid <> pg_backend_pid()";
    let ended: i64 = hostile.query_one(end_all, &[]).await.unwrap().get(0);
    assert!(ended > 0, "no login can be kept from that");
    // As its heartbeat does: again, until it is answered.
    let go_on = async || worker.renew().await.map_err(|error| error.to_string());
    testing::wait::wait_for("a sign of life", Duration::from_secs(30), go_on).await;
    hostile.query_one(end_all, &[]).await.unwrap();
    let report = async || worker.report(&success()).await.map_err(|error| error.to_string());
    testing::wait::wait_for("the report", Duration::from_secs(30), report).await;
    let run = sandbox.world.store.run(sandbox.key.run).await.unwrap().unwrap();
    assert_eq!(run.status, RunStatus::Collecting);
}

#[tokio::test]
async fn transaction_that_a_sandbox_keeps_holds_nobody_up_for_long() {
    let sandbox = Box::new().await;
    sandbox.started().await;
    let mut driver = JoinSet::new();
    let hostile = sandbox.hostile(&mut driver).await;
    let keep = format!(
        "SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT sandbox.heartbeat('{}', {}, '{}', '{{9,0,0,0,0,0}}')",
        sandbox.key.run.as_uuid(),
        sandbox.key.lease,
        sandbox.token.expose()
    );
    hostile.batch_execute(&keep).await.unwrap();
    let store = &sandbox.world.store;
    assert_eq!(store.end_lingering_sandboxes(Duration::from_secs(3_600)).await.unwrap(), 0);
    let other = sandbox.world.another_store().await;
    let (revoked, ()) = tokio::join!(store.revoke(sandbox.key, Revocation::WorkerDead), async {
        assert_eq!(other.end_lingering_sandboxes(Duration::ZERO).await.unwrap(), 1);
    });
    assert!(revoked.unwrap());
    assert_eq!(store.day_spend().await.unwrap().tokens, 0);
}
