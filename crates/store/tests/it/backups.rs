//! A backup holds one moment, and an empty database becomes what it was.

use core_types::{
    event::{NumberedEvent, RunEvent},
    outcome::RunOutcome,
    task::Role,
};
use jiff::Timestamp;
use store::{
    backup::BackupError,
    config_rows::ConfigUpdate,
    pool::{PoolOptions, Store},
};
use testing::database::TestDatabase;

use crate::world::{World, task_after, task_in};

/// The rows of every table, one text for each, without what says who lives in this moment.
async fn rows(world: &World) -> Vec<String> {
    let tables = "SELECT relname::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
        AND relname NOT IN ('dispatchers', 'process_settings', 'refinery_schema_history', 'sandbox_login') ORDER BY 1";
    let mut all = Vec::new();
    for table in world.sql.query(tables, &[]).await.unwrap() {
        let name: String = table.get("name");
        let sql = format!("SELECT t::text AS row FROM \"{name}\" t ORDER BY 1");
        let rows = world.sql.query(&sql, &[]).await.unwrap();
        all.extend(rows.iter().map(|row| format!("{name}: {}", row.get::<_, String>("row"))));
    }
    all
}

/// A database with a bit of everything: done, running, waiting, and a text that is hard to write down.
async fn lived() -> World {
    let world = World::new().await;
    world.agent(Role::Worker).await;
    let done = world.task(task_in("billing")).await;
    let run = world.run_one().await;
    let text = "tab\tback\\slash\nnull \\N \u{0} 日本語".to_owned();
    let event = NumberedEvent { seq: 1, at: Timestamp::now(), event: RunEvent::Text { text } };
    world.store.append_events(run.key, &[event]).await.unwrap();
    world.finish(run.key, RunOutcome::Succeeded).await;
    world.task(task_in("billing")).await;
    world.run_one().await;
    let waiting = world.task(task_in("billing")).await;
    world.task(task_after(&[done, waiting])).await;
    let update = ConfigUpdate { value: Some("3".into()), secret: false };
    let updates = [("TASK_MAX_ATTEMPTS".to_owned(), update)].into();
    world.store.set_config_rows(&updates, "test", None).await.unwrap();
    world
}

async fn backup(world: &World) -> Vec<u8> {
    let mut file = Vec::new();
    world.store.back_up(&mut file).await.unwrap();
    file
}

#[tokio::test]
async fn an_empty_database_becomes_what_it_was_and_goes_on() {
    let old = lived().await;
    let file = backup(&old).await;
    for world in [World::empty().await, World::new().await] {
        let contents = world.store.restore(&mut file.as_slice()).await.unwrap();
        assert_eq!(contents.schema, Store::newest_schema_version());
        assert!(contents.tables["tasks"] > 0, "{contents:?}");
        assert_eq!(rows(&world).await, rows(&old).await);
        world.assert_rules().await;
        world.store.migrate().await.unwrap();
        // Numbers go on, triggers work, the queue moves.
        world.plain().await;
        let run = world.run_with_new_agent().await;
        world.finish(run.key, RunOutcome::Succeeded).await;
        assert_eq!(world.count("SELECT count(*) FROM notices WHERE event = 'done'").await, 2);
        world.assert_rules().await;
    }
}

#[tokio::test]
async fn a_backup_of_an_older_version_is_migrated_afterwards() {
    let old = World::empty().await;
    old.store.migrate_up_to(12).await.unwrap();
    let file = backup(&old).await;
    let new = World::empty().await;
    assert_eq!(new.store.restore(&mut file.as_slice()).await.unwrap().schema, 12);
    let migrated = new.store.migrate().await.unwrap();
    assert_eq!((migrated.from, migrated.to), (Some(12), Store::newest_schema_version()));
    // And not into a newer schema.
    let newer = World::new().await;
    let refused = newer.store.restore(&mut file.as_slice()).await;
    assert!(matches!(refused, Err(BackupError::Version { backup: 12, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_database_in_use_is_left_as_it_is() {
    let old = lived().await;
    let file = backup(&old).await;
    let used = World::new().await;
    used.plain().await;
    let before = rows(&used).await;
    let refused = used.store.restore(&mut file.as_slice()).await;
    assert!(matches!(refused, Err(BackupError::InUse { table: "tasks" })), "{refused:?}");
    assert_eq!(rows(&used).await, before);
}

#[tokio::test]
async fn what_is_not_whole_changes_nothing() {
    let file = backup(&lived().await).await;
    let mut flipped = file.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let cases = [
        &file[..file.len() - 1],
        &file[..file.len() / 2],
        &file[..10],
        b"PGDMP of another program",
        &flipped,
    ];
    let database = TestDatabase::new().await;
    let store = Store::connect(&database.url, PoolOptions::new("backups")).await.unwrap();
    for (number, case) in cases.into_iter().enumerate() {
        let refused = store.restore(&mut { case }).await;
        let told = matches!(refused, Err(BackupError::NotWhole(_) | BackupError::Store(_)));
        assert!(told, "case {number}: {refused:?}");
        assert_eq!(store.count_tasks().await.unwrap().counts, [], "case {number}");
    }
    store.restore(&mut file.as_slice()).await.unwrap();
}

#[tokio::test]
async fn an_empty_database_has_no_backup() {
    let world = World::empty().await;
    let refused = world.store.back_up(&mut Vec::new()).await;
    assert!(matches!(refused, Err(BackupError::Empty)), "{refused:?}");
}

#[tokio::test]
async fn a_backup_that_is_made_under_load_is_of_one_moment() {
    let world = World::new().await;
    for _ in 0..4 {
        world.agent(Role::Worker).await;
    }
    let working = async {
        loop {
            world.plain().await;
            for run in world.claim(2).await {
                world.store.start_run(run.key, run.agent).await.unwrap();
                world.finish(run.key, RunOutcome::Succeeded).await;
            }
        }
    };
    let saving = async {
        let mut files = Vec::new();
        for _ in 0..5 {
            files.push(backup(&world).await);
        }
        files
    };
    let files = tokio::select! {
        () = working => unreachable!("it never ends"),
        files = saving => files,
    };
    let mut tasks = 0;
    for file in files {
        let restored = World::empty().await;
        restored.store.restore(&mut file.as_slice()).await.unwrap();
        restored.assert_rules().await;
        let count = restored.count("SELECT count(*) FROM tasks").await;
        assert!(count >= tasks, "a later backup has at least what an earlier one had");
        tasks = count;
    }
    assert!(tasks > 0);
}
