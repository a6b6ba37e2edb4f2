use std::time::Duration;

use core_types::{
    ids::{AgentId, RunId, RunKey},
    task::Role,
};
use store::{
    bell::Bell,
    wake::{Channel, Wake, WakeStream},
};
use tokio::time::timeout;

use crate::world::World;

async fn next(wakes: &mut WakeStream) -> Wake {
    timeout(Duration::from_secs(1), wakes.next()).await.expect("a wake-up within a second")
}

#[tokio::test]
async fn the_first_wake_says_look_and_later_ones_name_their_channel() {
    let world = World::new().await;
    let mut wakes = world.store.wakes(&[Channel::Tasks, Channel::Config]);
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    world.another_store().await.wake(Channel::Agents);
    world.plain().await;
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Tasks));
    world.store.wake(Channel::Config);
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Config));
}

#[tokio::test]
async fn a_killed_listener_is_back_within_a_second_and_says_look() {
    let world = World::new().await;
    let mut wakes = world.store.wakes(&[Channel::Tasks]);
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    for _ in 0..3 {
        let killed = world
            .count(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE 'LISTEN%'",
            )
            .await;
        assert_eq!(killed, 1);
        assert_eq!(next(&mut wakes).await, Wake::Reconnected);
        world.plain().await;
        assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Tasks));
    }
}

#[tokio::test]
async fn many_wakes_become_few_and_the_last_one_is_never_lost() {
    let world = World::new().await;
    let mut wakes = world.store.wakes(&[Channel::Events]);
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    for _ in 0..1000 {
        world.store.wake(Channel::Events);
        tokio::task::yield_now().await;
    }
    // The first may take its time on a busy machine.
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Events));
    let mut count = 1;
    while timeout(Duration::from_millis(200), wakes.next()).await.is_ok() {
        count += 1;
    }
    assert!((1..=100).contains(&count), "{count}");
    world.store.wake(Channel::Events);
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Events));
}

#[tokio::test]
async fn a_listener_dropped_in_the_middle_of_waiting_loses_nothing() {
    let world = World::new().await;
    let mut wakes = world.store.wakes(&[Channel::Tasks]);
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    assert!(timeout(Duration::from_millis(20), wakes.next()).await.is_err());
    world.plain().await;
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Tasks));
}

#[tokio::test]
async fn a_process_that_ends_sends_its_last_wake_first() {
    let world = World::new().await;
    let mut wakes = world.store.wakes(&[Channel::Agents]);
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    let other = world.another_store().await;
    other.wake(Channel::Agents);
    other.flush_wakes().await;
    drop(other);
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Agents));
}

#[tokio::test]
async fn the_sender_ends_with_its_store() {
    let world = World::new().await;
    let other = world.another_store().await;
    other.ping().await.unwrap();
    let clone = other.clone();
    drop(other);
    clone.ping().await.unwrap();
    drop(clone);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let left =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'store tests, another'
        AND datname = current_database()";
    while world.count(left).await > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the store's connections stay open");
        tokio::task::yield_now().await;
    }
}

/// Another way to other processes that only remembers.
#[derive(Debug, Default)]
struct Rung(std::sync::Mutex<Vec<String>>);

impl Bell for Rung {
    fn wake(&self, channel: Channel) {
        self.0.lock().unwrap().push(format!("{channel:?}"));
    }

    fn events(&self, run: RunId, seq: i64) {
        self.0.lock().unwrap().push(format!("{run} {seq}"));
    }

    fn assigned(&self, agent: AgentId, key: RunKey) {
        self.0.lock().unwrap().push(format!("{agent} {key}"));
    }
}

#[tokio::test]
async fn what_rings_another_way_wakes_the_same_listeners() {
    let world = World::new().await;
    let mut wakes = world.store.wakes(&[Channel::Tasks, Channel::Config]);
    assert_eq!(next(&mut wakes).await, Wake::Reconnected);
    for channel in [Channel::Agents, Channel::Config, Channel::Tasks, Channel::Tasks] {
        world.store.hear(channel);
    }
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Tasks));
    assert_eq!(next(&mut wakes).await, Wake::Notified(Channel::Config));
    let quiet = timeout(Duration::from_millis(100), wakes.next()).await;
    assert!(quiet.is_err(), "it was woken for nothing: {quiet:?}");
}

#[tokio::test]
async fn what_is_committed_is_told_the_other_way_as_well() {
    let world = World::new().await;
    let rung = std::sync::Arc::new(Rung::default());
    world.store.also_ring(std::sync::Arc::clone(&rung) as std::sync::Arc<dyn Bell>);
    let agent = world.agent(Role::Worker).await;
    world.plain().await;
    let claim = world.claim(1).await.remove(0);
    let said = rung.0.lock().unwrap().clone();
    assert!(said.contains(&"Tasks".to_owned()), "{said:?}");
    assert!(said.contains(&format!("{agent} {}", claim.key)), "{said:?}");
    assert_eq!(
        world.store.instance().await.unwrap(),
        world.another_store().await.instance().await.unwrap()
    );
    assert_ne!(
        world.store.instance().await.unwrap(),
        World::new().await.store.instance().await.unwrap()
    );
}
