//! What charts are drawn from: every run of the time, and waits since a task could be taken.

use core_types::{outcome::RunOutcome, task::Role};
use store::flow::{Slot, Slots};

use crate::world::{World, task_in};

const HOURS: Slots = Slots { count: 24, seconds: 3600 };

/// The one slot that is like this.
async fn slot(world: &World, is: impl Fn(&Slot) -> bool) -> Slot {
    let flow = world.store.flow(HOURS).await.unwrap();
    assert_eq!(flow.len(), 24);
    assert!(flow.windows(2).all(|pair| pair[1].at.as_second() - pair[0].at.as_second() == 3600));
    let found: Vec<Slot> = flow.iter().copied().filter(is).collect();
    let [one] = found.as_slice() else { panic!("one slot expected: {flow:?}") };
    *one
}

#[tokio::test]
async fn a_wait_counts_from_when_the_task_could_be_taken_and_not_from_its_making() {
    let world = World::new().await;
    world.agent(Role::Worker).await;
    world.task(task_in("billing")).await;
    world.task(task_in("billing")).await;
    let old = "UPDATE tasks SET created_at = created_at - interval '5 hours';
               UPDATE ready SET since = since - interval '5 minutes'";
    world.sql.batch_execute(old).await.unwrap();
    let first = world.run_one().await;
    world.finish(first.key, RunOutcome::Succeeded).await;
    let second = world.run_one().await;
    let sql = "SELECT claimable_at >= (SELECT ended_at FROM runs WHERE id = $1) AS fits,
                   created_at - claimable_at < interval '2 minutes' AS short FROM runs WHERE id = $2";
    let (first, second) = (first.key.run.as_uuid(), second.key);
    let row = world.sql.query_one(sql, &[&first, &second.run.as_uuid()]).await.unwrap();
    assert!(row.get::<_, bool>("fits") && row.get::<_, bool>("short"), "its area was not free");
    world.sql.execute("DELETE FROM leases WHERE run = $1", &[&second.run.as_uuid()]).await.unwrap();
    let sql = "UPDATE runs SET created_at = created_at - interval '30 days' WHERE id = $1";
    world.sql.execute(sql, &[&second.run.as_uuid()]).await.unwrap();
    // All in one slot, whatever the time is.
    let sql = "UPDATE runs SET created_at = date_bin('1 hour', now(), 'epoch') + (created_at - created_at),
                   claimable_at = date_bin('1 hour', now(), 'epoch') - (created_at - claimable_at),
                   ended_at = date_bin('1 hour', now(), 'epoch') WHERE id = $1";
    world.sql.execute(sql, &[&first]).await.unwrap();
    let waited = slot(&world, |slot| slot.waited.is_some()).await.waited.unwrap();
    assert!((299.0..900.0).contains(&waited.half) && waited.most >= waited.half, "{waited:?}");
}

#[tokio::test]
async fn every_run_is_counted_in_the_hour_in_which_it_ended() {
    let world = World::new().await;
    world.agent(Role::Worker).await;
    for outcome in [RunOutcome::Succeeded, RunOutcome::CheckoutFailed, RunOutcome::Interrupted] {
        world.plain().await;
        let run = world.run_one().await;
        world.finish(run.key, outcome).await;
    }
    // As many as there may be on a day, all in the hour before.
    let many = "
        INSERT INTO runs (id, task, lease_number, host, status, outcome, ending, created_at, started_at, ended_at)
        SELECT gen_random_uuid(), (SELECT id FROM tasks ORDER BY seq LIMIT 1), n + 10, 'h', 'ended', 'succeeded', '{}',
            at - interval '100 s', at - interval '90 s', at
        FROM generate_series(1, 50100) AS n,
            (SELECT date_bin('1 hour', now(), 'epoch') - interval '1 minute' AS at) AS hour";
    world.sql.batch_execute(many).await.unwrap();
    let three = "UPDATE runs SET ended_at = now(), started_at = now() - interval '10 s' WHERE lease_number < 10";
    world.sql.batch_execute(three).await.unwrap();
    let before = slot(&world, |slot| slot.succeeded > 1).await;
    assert_eq!((before.succeeded, before.failed), (50_100, 0));
    assert_eq!(before.took.map(|took| took.half.round()), Some(90.0));
    assert_eq!(before.waited, None, "it is not known of runs of before");
    let now = slot(&world, |slot| slot.failed > 0).await;
    assert_eq!((now.succeeded, now.failed), (1, 1), "what somebody stopped is neither");
}
