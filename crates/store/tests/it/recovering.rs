use std::time::Duration;

use core_types::{
    outcome::RunOutcome,
    task::{Role, RunStatus},
};
use store::agents::HostId;
use testing::wait::wait_for;

use crate::world::{World, connect, new_agent};

#[tokio::test]
async fn a_lease_runs_out_by_the_databases_clock_and_its_run_is_found() {
    let world = World::new().await;
    world.plain().await;
    world.plain().await;
    let silent = world.run_with_new_agent().await;
    world.run_with_new_agent().await;
    assert!(world.store.expired_leases(10).await.unwrap().is_empty());
    world
        .sql
        .execute(
            "UPDATE leases SET expires_at = now() - interval '7 s' WHERE run = $1",
            &[&silent.key.run.as_uuid()],
        )
        .await
        .unwrap();
    let [orphan] = world.store.expired_leases(10).await.unwrap().try_into().unwrap();
    assert_eq!(
        (orphan.key, orphan.task, orphan.agent),
        (silent.key, silent.task, Some(silent.agent))
    );
    assert!((7..60).contains(&orphan.lease_expired_for.as_secs()), "{orphan:?}");
    assert_eq!(orphan.process.map(|process| process.pid), Some(4711));
    world.finish(silent.key, RunOutcome::WorkerLost).await;
    assert!(world.store.expired_leases(10).await.unwrap().is_empty());
    assert_eq!(world.run_with_new_agent().await.task, silent.task);
}

#[tokio::test]
async fn a_run_that_nobody_accepts_is_found() {
    let world = World::new().await;
    world.plain().await;
    world.plain().await;
    world.run_with_new_agent().await;
    world.agent(Role::Worker).await;
    let [claimed] = world.claim(1).await.try_into().unwrap();
    assert!(world.store.unaccepted(Duration::from_secs(10)).await.unwrap().is_empty());
    world.sql.batch_execute("UPDATE runs SET created_at = now() - interval '11 s'").await.unwrap();
    let late = world.store.unaccepted(Duration::from_secs(10)).await.unwrap();
    assert_eq!(late.iter().map(|one| one.key).collect::<Vec<_>>(), [claimed.key]);
}

#[tokio::test]
async fn the_runs_of_a_host_are_listed_with_their_processes() {
    let world = World::new().await;
    world.plain().await;
    world.plain().await;
    let here = world.run_with_new_agent().await;
    let elsewhere =
        store::agents::NewAgent { host: HostId::new("elsewhere"), ..new_agent(Role::Worker) };
    world.store.register_agent(&elsewhere).await.unwrap();
    world.run_one().await;
    let runs = world.store.live_runs_on(&HostId::new("test-host")).await.unwrap();
    assert_eq!(runs.iter().map(|one| one.key).collect::<Vec<_>>(), [here.key]);
    assert_eq!(runs[0].status, RunStatus::Running);
    assert_eq!(runs[0].process, Some(new_agent(Role::Worker).process));
    world.finish(here.key, RunOutcome::Succeeded).await;
    assert!(world.store.live_runs_on(&HostId::new("test-host")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dead_agents_finish_does_not_make_it_fit_for_work() {
    let world = World::new().await;
    world.plain().await;
    let run = world.run_with_new_agent().await;
    world
        .sql
        .batch_execute("UPDATE agents SET last_beat = now() - interval '1 min'")
        .await
        .unwrap();
    world.finish(run.key, RunOutcome::WorkerLost).await;
    assert!(world.claim(5).await.is_empty());
}

#[tokio::test]
async fn connections_killed_by_the_server_are_transient_and_replaced() {
    let world = World::new().await;
    world.store.ping().await.unwrap();
    world
        .sql
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    wait_for("a new connection", Duration::from_secs(10), async || {
        world.store.ping().await.inspect_err(|error| assert!(error.is_transient(), "{error:?}"))
    })
    .await;
    world.plain().await;
}

#[tokio::test]
async fn a_pool_without_a_free_connection_is_unavailable_within_its_time() {
    let world = World::new().await;
    let options = store::pool::PoolOptions {
        max_size: 1,
        acquire_timeout: Duration::from_millis(200),
        ..store::pool::PoolOptions::new("small")
    };
    let small = store::pool::Store::connect(&world.url, options).await.unwrap();
    let task = world.plain().await;
    let mut driver = tokio::task::JoinSet::new();
    let blocker = connect(world.url.expose(), &mut driver).await;
    blocker.batch_execute("BEGIN; SELECT FROM tasks FOR UPDATE").await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let refused = async {
        wait_for("the only connection to be busy", Duration::from_secs(5), async || {
            if world.count(waits).await > 0 { Ok(()) } else { Err("nobody waits") }
        })
        .await;
        small.ping().await
    };
    // The first one never ends by itself: it waits for a lock.
    let refused = tokio::select! {
        result = small.cancel_task(task, "x") => panic!("{result:?}"),
        refused = refused => refused,
    };
    assert!(refused.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_missing_table_asks_for_the_migrations() {
    let world = World::empty().await;
    let error = world.store.agents().await.unwrap_err();
    assert!(matches!(error, store::error::StoreError::WrongSchema { .. }), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(world.store.schema_version().await.unwrap(), None);
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_transient_and_used_again_when_it_does() {
    let world = World::new().await;
    let task = world.plain().await;
    let set = "ALTER DATABASE %d SET default_transaction_read_only = %v";
    let name: String =
        world.sql.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let read_only = set.replace("%d", &name).replace("%v", "on");
    world.sql.batch_execute(&format!("{read_only}; {kill}")).await.unwrap();
    for _ in 0..15 {
        let error = world.store.cancel_task(task, "x").await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
    let writable = set.replace("%d", &name).replace("%v", "off");
    world.sql.batch_execute(&writable).await.unwrap();
    wait_for("writes to work again", Duration::from_secs(10), async || {
        world.store.cancel_task(task, "x").await
    })
    .await;
}
