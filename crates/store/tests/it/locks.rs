//! Locks that every role may take, taken by a sandbox.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::{
    sandboxes::url_of,
    world::{World, connect},
};

#[tokio::test]
async fn session_of_a_sandbox_with_a_lock_is_ended_and_another_is_not() {
    let world = World::new().await;
    let login = world.store.ensure_sandbox_login().await.unwrap();
    let url = url_of(&login, &world.url);
    let mut driver = JoinSet::new();
    let holder = connect(url.expose(), &mut driver).await;
    let other = connect(url.expose(), &mut driver).await;
    // The one that programs of ours keep off each other with while they migrate.
    holder.batch_execute("SELECT pg_advisory_lock(8030029660138596197)").await.unwrap();
    let hour = Duration::from_secs(3_600);
    assert_eq!(world.store.end_lingering_sandboxes(hour).await.unwrap(), 1);
    assert!(holder.batch_execute("SELECT 1").await.is_err());
    other.batch_execute("SELECT 1").await.unwrap();
    assert_eq!(world.store.end_lingering_sandboxes(hour).await.unwrap(), 0);
}
