//! Redis away, slow, emptied, cut or wrong: nobody waits for it, and it is used again when it is back.

use agent_queue::{health::QueueFault, subscription::Topic};
use core_types::{
    ids::{AgentId, RunId},
    secret::Secret,
};
use testing::{proxy::FaultProxy, redis::TestRedis};
use tokio::time::Instant;

use crate::bench::{LIMIT, arrives, connected, is, is_heard, key, queue};

#[tokio::test]
async fn a_server_that_comes_later_is_found() {
    let mut redis = TestRedis::absent();
    let begun = Instant::now();
    let queue = queue(&redis.url());
    let agent = AgentId::generate();
    let mut inbox = queue.inbox(agent);
    let mut ears = queue.subscribe(&[Topic::Events]);
    queue.push_assignment(agent, key(1));
    assert!(begun.elapsed().as_millis() < 200, "somebody waited for redis");
    let away = is(&queue, |health| health.fault.is_some()).await;
    assert_eq!((away.connected, away.fault), (false, Some(QueueFault::Unreachable)));
    redis.start_again().await;
    is(&queue, |health| health.connected).await;
    arrives(&queue, &mut inbox, agent).await;
    is_heard(&queue, &mut ears, RunId::generate()).await;
}

#[tokio::test]
async fn a_killed_an_emptied_and_a_frozen_server_are_used_again() {
    let mut redis = TestRedis::start().await;
    let queue = connected(&redis).await;
    let agent = AgentId::generate();
    let mut inbox = queue.inbox(agent);
    let mut ears = queue.subscribe(&[Topic::Events]);
    let run = RunId::generate();
    arrives(&queue, &mut inbox, agent).await;
    is_heard(&queue, &mut ears, run).await;

    redis.kill();
    let away = is(&queue, |health| !health.connected).await;
    assert_eq!(away.fault, Some(QueueFault::Unreachable));
    redis.start_again().await;
    is(&queue, |health| health.connected).await;
    arrives(&queue, &mut inbox, agent).await;
    is_heard(&queue, &mut ears, run).await;

    assert_eq!(redis.say("FLUSHALL").await, "+OK");
    arrives(&queue, &mut inbox, agent).await;
    is_heard(&queue, &mut ears, run).await;

    redis.freeze();
    let silent = is(&queue, |health| !health.connected).await;
    assert_eq!(silent.fault, Some(QueueFault::Silent));
    redis.thaw();
    is(&queue, |health| health.connected).await;
    arrives(&queue, &mut inbox, agent).await;
    is_heard(&queue, &mut ears, run).await;
}

#[tokio::test]
async fn connections_that_die_without_a_word_are_made_again() {
    let redis = TestRedis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    let queue = queue(&redis.url_at(proxy.address()));
    is(&queue, |health| health.connected).await;
    let agent = AgentId::generate();
    let mut inbox = queue.inbox(agent);
    let mut ears = queue.subscribe(&[Topic::Events]);
    arrives(&queue, &mut inbox, agent).await;
    proxy.cut();
    arrives(&queue, &mut inbox, agent).await;
    is_heard(&queue, &mut ears, RunId::generate()).await;
    proxy.refuse();
    is(&queue, |health| !health.connected).await;
    proxy.resume();
    arrives(&queue, &mut inbox, agent).await;
    is_heard(&queue, &mut ears, RunId::generate()).await;
    proxy.pause();
    is(&queue, |health| health.fault == Some(QueueFault::Silent)).await;
    proxy.resume();
    arrives(&queue, &mut inbox, agent).await;
    is_heard(&queue, &mut ears, RunId::generate()).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_by_its_kind_and_tried_again_without_haste() {
    let redis = TestRedis::start().await;
    let wrong = Secret::new(redis.url().expose().replace(":testing@", ":hunter2@"));
    let queue = queue(&wrong);
    let _inbox = queue.inbox(AgentId::generate());
    let _ears = queue.subscribe(&[Topic::Tasks]);
    let refused = is(&queue, |health| health.fault == Some(QueueFault::Refused)).await;
    assert!(!format!("{refused:?}{queue:?}").contains("hunter2"));
    let attempts = connections(&redis).await;
    tokio::time::timeout(LIMIT / 10, std::future::pending::<()>()).await.ok();
    let more = connections(&redis).await - attempts;
    assert!(more < 60, "{more} connections in 3 s");
    let before = queue.health();
    assert_eq!(redis.say("CONFIG SET requirepass hunter2").await, "+OK");
    let well = is(&queue, |health| health.connected).await;
    assert!(well.since > before.since);
}

async fn connections(redis: &TestRedis) -> u64 {
    let stats = redis.say("INFO stats").await;
    let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    count.unwrap().trim().parse().unwrap()
}
