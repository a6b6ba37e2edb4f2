use core_types::{
    ids::{LeaseNumber, RunId, RunKey},
    outcome::{RunOutcome, RunReport},
    secret::Secret,
    task::Role,
};
use store::{
    migrate::MigrateError,
    pool::{ConnectError, PoolOptions, Store},
};

use crate::world::{World, claim};

#[tokio::test]
async fn two_migrators_at_once_apply_everything_once() {
    let world = World::empty().await;
    let other = world.another_store().await;
    let (one, two) = tokio::join!(world.store.migrate(), other.migrate());
    let mut applied = [one.unwrap().applied, two.unwrap().applied];
    applied.sort_unstable();
    let newest = Store::newest_schema_version();
    let all = world.count("SELECT count(*) FROM refinery_schema_history").await;
    assert_eq!(applied, [0, usize::try_from(all).unwrap()]);
    assert_eq!(other.schema_version().await.unwrap(), Some(newest));
}

#[tokio::test]
async fn every_outcome_can_be_stored() {
    let world = World::new().await;
    for outcome in core_types::outcome::RunOutcome::ALL {
        let allows = format!(
            "SELECT count(*) FROM pg_constraint WHERE conname = 'runs_outcome_check'
             AND pg_get_constraintdef(oid) LIKE '%''{outcome}''%'"
        );
        assert_eq!(world.count(&allows).await, 1, "{outcome}");
    }
}

/// Rows as the first versions wrote them: tasks that wait, one that runs, one that is blocked for its login, a setting.
const ROWS_OF_V2: &str = r#"
    INSERT INTO lanes (area) VALUES ('a');
    INSERT INTO agents (id, name, role, host, pid, start_ticks, boot_id, version, run, idle_since, registered_at,
        last_beat)
    VALUES ('0190a000-0000-7000-8000-00000000000a', 'agent-1', 'worker', 'h', 1, 1, 'b', '0',
        '0190a000-0000-7000-8000-0000000000f1', NULL, now(), now());
    INSERT INTO tasks (id, title, goal, role, priority, risk, target_area, repository, verification, executor, model,
        max_attempts, created_by, rank, status, block_reason, attempts, lease_number, current_run, created_at,
        updated_at)
    SELECT ('0190a000-0000-7000-8000-00000000000' || n)::uuid, 't', 'g', 'worker', 0, 'medium', area,
        '{"mode":"local","path":"/r"}', '[]', executor, model, 3, 'test', n, status, reason, 0, lease, run, now(), now()
    FROM (VALUES
        (1, NULL, 'claude_code', NULL, 'queued', NULL, 0, NULL),
        (2, 'a', 'claude_code', NULL, 'queued', NULL, 0, NULL),
        (3, 'a', 'opencode', 'openai/gpt-5', 'queued', NULL, 0, NULL),
        (4, NULL, 'claude_code', NULL, 'blocked', 'login_required', 0, NULL),
        (5, NULL, 'opencode', 'openai/gpt-5', 'running', NULL, 1, '0190a000-0000-7000-8000-0000000000f1'::uuid)
    ) AS t (n, area, executor, model, status, reason, lease, run);
    INSERT INTO ready (task, role, rank, area)
    SELECT id, role, rank, target_area FROM tasks WHERE rank IN (1, 2);
    INSERT INTO runs (id, task, lease_number, agent, host, status, created_at)
    VALUES ('0190a000-0000-7000-8000-0000000000f1', '0190a000-0000-7000-8000-000000000005', 1,
        '0190a000-0000-7000-8000-00000000000a', 'h', 'running', now());
    INSERT INTO leases (run, task, number, agent, host, expires_at)
    VALUES ('0190a000-0000-7000-8000-0000000000f1', '0190a000-0000-7000-8000-000000000005', 1,
        '0190a000-0000-7000-8000-00000000000a', 'h', now() + interval '1 hour');
    INSERT INTO system_config (key, value, updated_at, updated_by)
    VALUES ('MAX_CONCURRENT_WORKERS', '7', now(), 'somebody');
    UPDATE config_revision SET revision = 1;
"#;

#[tokio::test]
async fn a_database_of_the_second_version_goes_on_with_what_it_holds() {
    let world = World::empty().await;
    assert_eq!(world.store.migrate_up_to(2).await.unwrap().to, 2);
    world.sql.batch_execute(ROWS_OF_V2).await.unwrap();
    let migrated = world.store.migrate().await.unwrap();
    assert_eq!((migrated.from, migrated.to), (Some(2), Store::newest_schema_version()));
    // The plans of before are not for the tables of now.
    let store = world.another_store().await;

    // What waited for its login is let go on.
    assert_eq!(store.release_cooled(10).await.unwrap(), 1);
    world.assert_rules().await;
    assert_eq!(store.reconcile_areas().await.unwrap(), 0, "every line is there");
    let settings = store.config_rows().await.unwrap();
    assert_eq!(settings.rows.get("MAX_CONCURRENT_WORKERS"), Some(&serde_json::json!(7)));

    // The run of before ends at the gate of its provider.
    let running = RunKey {
        run: RunId::from_uuid("0190a000-0000-7000-8000-0000000000f1".parse().unwrap()),
        lease: LeaseNumber(1),
    };
    store.finish_run(running, &RunReport::new(RunOutcome::LoginRequired)).await.unwrap();
    let gates = store.gates().await.unwrap();
    let shut: Vec<&str> = gates
        .iter()
        .filter(|stored| stored.gate.shut().is_some())
        .map(|stored| stored.key.provider.as_str())
        .collect();
    assert_eq!(shut, ["openai"]);

    // And all that no closed gate keeps is done.
    for _ in 0..3 {
        world.agent(Role::Worker).await;
    }
    let mut done = 0;
    loop {
        let claimed = claim(&store, 5).await;
        if claimed.is_empty() {
            break;
        }
        for run in claimed {
            store.finish_run(run.key, &RunReport::new(RunOutcome::Succeeded)).await.unwrap();
            done += 1;
        }
    }
    assert_eq!(done, 3);
    world.assert_rules().await;
}

#[tokio::test]
async fn a_second_migration_does_nothing() {
    let world = World::new().await;
    let again = world.store.migrate().await.unwrap();
    assert_eq!((again.applied, again.from), (0, Some(again.to)));
}

#[tokio::test]
async fn a_database_newer_than_the_binary_is_refused_and_left_alone() {
    let world = World::new().await;
    let newer = Store::newest_schema_version() + 1;
    world
        .sql
        .execute(
            "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
             VALUES ($1, 'from_the_future', '2030-01-01T00:00:00Z', '1')",
            &[&i32::try_from(newer).unwrap()],
        )
        .await
        .unwrap();
    let error = world.store.migrate().await.unwrap_err();
    assert!(
        matches!(error, MigrateError::DatabaseNewer { database, .. } if database == newer),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_database_with_another_history_is_refused() {
    let world = World::new().await;
    let other = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1";
    world.sql.execute(other, &[]).await.unwrap();
    let error = world.store.migrate().await.unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_fails_says_why_and_what_to_do_and_never_the_password() {
    let world = World::empty().await;
    let good = world.url.expose();
    let (base, _) = good.rsplit_once('/').unwrap();
    let bad = [
        format!("{base}/no_such_database"),
        "postgres://tiger:hunter2@127.0.0.1:1/none".to_owned(),
        "postgres://tiger:hunter2@127.0.0.1:port/none".to_owned(),
        "postgres://tiger:hunter2@127.0.0.1:1/none?sslmode=verify-full".to_owned(),
        "postgres://tiger:hunter2@127.0.0.1:1/none?sslmode=require".to_owned(),
        "mysql://tiger:hunter2@h/d".to_owned(),
    ];
    let mut seen = Vec::new();
    for url in bad {
        let error = Store::connect(&Secret::new(url), PoolOptions::new("t")).await.unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        assert!(!error.hint().is_empty());
        seen.push(error);
    }
    assert!(
        matches!(&seen[0], ConnectError::DatabaseMissing { database, .. } if database == "no_such_database")
    );
    assert!(matches!(&seen[1], ConnectError::Unreachable { .. }));
    assert!(seen[1].is_transient());
    for error in &seen[2..] {
        assert!(matches!(error, ConnectError::InvalidUrl { .. }), "{error:?}");
    }
}
