use std::time::Duration;

use core_types::{ids::AgentId, secret::Secret, task::Role};
use store::{
    error::StoreError,
    pool::{ConnectError, PoolOptions, Store},
    wake::{Channel, Wake, WakeStream},
};
use testing::{database::TestDatabase, proxy::FaultProxy, wait::wait_for};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::world::{LEASE, claim, new_agent, plain_task};

const LIMIT: Duration = Duration::from_millis(500);

struct Remote {
    database: TestDatabase,
    proxy: FaultProxy,
    store: Store,
}

fn options() -> PoolOptions {
    PoolOptions {
        max_size: 3,
        operation_timeout: LIMIT,
        listener_silence: Duration::from_millis(300),
        ..PoolOptions::new("store behind a proxy")
    }
}

async fn remote() -> Remote {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.server_address()).await;
    let url: Secret = database.url_through(proxy.address());
    let store = Store::connect(&url, options()).await.unwrap();
    Remote { database, proxy, store }
}

async fn assert_unavailable_in_time<T: std::fmt::Debug>(
    call: impl Future<Output = Result<T, StoreError>>,
) {
    let started = Instant::now();
    let error = timeout(LIMIT * 10, call).await.expect("the call ends by itself").unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.is_transient());
    assert!((LIMIT..LIMIT * 8).contains(&started.elapsed()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unavailable_in_time_and_used_again_when_it_speaks() {
    let Remote { database: _database, proxy, store } = remote().await;
    store.register_agent(&new_agent(Role::Worker)).await.unwrap();
    store.create_tasks(vec![plain_task()]).await.unwrap();
    let [run] = claim(&store, 1).await.try_into().unwrap();
    for _ in 0..2 {
        proxy.pause();
        // On connections of before, on new ones, in a transaction and outside.
        assert_unavailable_in_time(store.renew_leases(&[run.key], LEASE)).await;
        assert_unavailable_in_time(store.ping()).await;
        assert_unavailable_in_time(store.agent_beat(run.agent)).await;
        assert_unavailable_in_time(store.release_cooled(10)).await;
        assert_unavailable_in_time(store.task(run.task)).await;
        // More calls than connections.
        let calls = (0..5).map(|_| store.assignment(AgentId::generate()));
        let started = Instant::now();
        let ended = futures_util::future::join_all(calls).await;
        assert!(ended.iter().all(Result::is_err) && started.elapsed() < LIMIT * 8);

        proxy.resume();
        wait_for("calls to work again", Duration::from_secs(5), async || store.ping().await).await;
        assert!(store.renew_leases(&[run.key], LEASE).await.unwrap()[0].valid);
        assert_eq!(store.release_cooled(10).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_not_lent_again() {
    let Remote { database, proxy, store } = remote().await;
    let backend = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'store behind a proxy'";
    let own = testing_client(&database).await;
    store.ping().await.unwrap();
    let before = count(&own.0, backend).await;
    assert!(before > 0);
    proxy.pause();
    assert_unavailable_in_time(store.ping()).await;
    proxy.resume();
    wait_for("the server to see it closed", Duration::from_secs(5), async || {
        let left = count(&own.0, backend).await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    store.ping().await.unwrap();
}

#[tokio::test]
async fn an_operation_that_waits_for_others_ends_in_time_too() {
    let Remote { database, proxy: _proxy, store } = remote().await;
    let [task] = store.create_tasks(vec![plain_task()]).await.unwrap().try_into().unwrap();
    let own = testing_client(&database).await;
    own.0.batch_execute("BEGIN; SELECT FROM tasks FOR UPDATE").await.unwrap();
    assert_unavailable_in_time(store.cancel_task(task.new.id, "x")).await;
    own.0.batch_execute("ROLLBACK").await.unwrap();
    wait_for("it to work", Duration::from_secs(5), async || {
        store.cancel_task(task.new.id, "x").await
    })
    .await;
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_told_at_the_start() {
    let Remote { database, proxy, store: _store } = remote().await;
    proxy.pause();
    let url = database.url_through(proxy.address());
    let error = timeout(LIMIT * 10, Store::connect(&url, options())).await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Silent { .. }), "{error:?}");
    assert!(error.is_transient());
}

async fn next(wakes: &mut WakeStream) -> Wake {
    timeout(Duration::from_secs(5), wakes.next()).await.expect("a wake-up in time")
}

#[tokio::test]
async fn a_listener_notices_silence_and_is_back_when_the_server_speaks() {
    let Remote { database, proxy, store } = remote().await;
    let mut wakes = store.wakes(&[Channel::Tasks]);
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    // Long enough for some questions: a quiet connection is not a dead one.
    assert!(timeout(Duration::from_secs(1), wakes.next()).await.is_err());
    database.store.wake(Channel::Tasks);
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Tasks));

    proxy.pause();
    assert!(timeout(Duration::from_secs(1), wakes.next()).await.is_err());
    proxy.resume();
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    database.store.wake(Channel::Tasks);
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Tasks));
}

#[tokio::test]
async fn a_listener_that_was_not_asked_for_a_while_keeps_its_connection() {
    let Remote { database, proxy: _proxy, store } = remote().await;
    let mut wakes = store.wakes(&[Channel::Tasks]);
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    // In the middle of a question, and for longer than its answer may take.
    assert!(timeout(Duration::from_millis(301), wakes.next()).await.is_err());
    assert!(timeout(Duration::from_secs(1), std::future::pending::<()>()).await.is_err());
    database.store.wake(Channel::Tasks);
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Tasks));
}

#[tokio::test]
async fn a_dispatchers_beat_tells_the_databases_time() {
    let Remote { database, proxy: _proxy, store } = remote().await;
    let agent = new_agent(Role::Worker);
    let beat = store::dispatchers::DispatcherBeat {
        id: Uuid::now_v7(),
        host: agent.host,
        process: agent.process,
        version: agent.version,
        paused: None,
    };
    let own = testing_client(&database).await;
    let micros = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    for _ in 0..2 {
        let before = count(&own.0, micros).await;
        let told = store.dispatcher_beat(&beat).await.unwrap().as_microsecond();
        let after = count(&own.0, micros).await;
        assert!((before..=after).contains(&told), "{before} {told} {after}");
    }
}

async fn testing_client(
    database: &TestDatabase,
) -> (tokio_postgres::Client, tokio::task::JoinSet<()>) {
    let mut driver = tokio::task::JoinSet::new();
    let client = crate::world::connect(database.url.expose(), &mut driver).await;
    (client, driver)
}

async fn count(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}
