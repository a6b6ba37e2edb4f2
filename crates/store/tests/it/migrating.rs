use core_types::secret::Secret;
use store::{
    migrate::MigrateError,
    pool::{ConnectError, PoolOptions, Store},
};

use crate::world::World;

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
