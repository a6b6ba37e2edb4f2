//! Streams through Redis: exactly the database's events, in order, once, whatever Redis does and says.

use std::time::Duration;

use agent_queue::queue::{InstanceId, Queue};
use core_types::ids::RunId;
use http::StatusCode;
use serde_json::{Value, json};
use testing::redis::TestRedis;
use tokio::time::timeout;

use crate::{agent::TestAgent, events::Stream, support::Api};

const LIMIT: Duration = Duration::from_secs(30);

async fn becomes(queue: &Queue, connected: bool) {
    let mut health = queue.watch_health();
    let waited = timeout(LIMIT, health.wait_for(|health| health.connected == connected)).await;
    waited.expect("it changes in time").expect("the queue lives");
}

#[tokio::test]
async fn a_stream_has_every_event_once_in_order_through_every_outage() {
    let mut redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url(), &InstanceId::new("test")).unwrap();
    becomes(&queue, true).await;
    let api = Api::start_with_queue(queue.clone()).await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    let mut stream = Stream::open(&api, &format!("/runs/{}/events/stream", key.run), None).await;
    let mut seq = 0;
    let mut say = async |lies: bool| {
        for _ in 0..20 {
            seq += 1;
            if lies {
                // News from the future, of the past, twice, and of nobody.
                queue.publish_events(key.run, seq + 100);
                queue.publish_events(RunId::generate(), 1);
            }
            agent.say(key, seq, &["text"]).await;
            queue.publish_events(key.run, seq);
            queue.publish_events(key.run, seq.saturating_sub(5));
            let sent = stream.next().await.expect("the stream goes on");
            assert_eq!(sent.id, seq.to_string());
        }
    };
    say(true).await;
    redis.freeze();
    say(false).await;
    becomes(&queue, false).await;
    redis.thaw();
    becomes(&queue, true).await;
    say(true).await;
    redis.kill();
    say(false).await;
    redis.start_again().await;
    say(false).await;
    assert_eq!(redis.say("FLUSHALL").await, "+OK");
    becomes(&queue, true).await;
    say(true).await;
    agent.finish(key, 121).await;
    let last = stream.next().await.expect("the last event comes");
    assert_eq!((last.id.as_str(), last.name.as_str()), ("121", "ended"));
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn readiness_tells_of_redis_and_never_fails_for_it() {
    let redis = TestRedis::absent();
    let queue = Queue::connect(&redis.url(), &InstanceId::new("test")).unwrap();
    let mut health = queue.watch_health();
    timeout(LIMIT, health.wait_for(|health| health.fault.is_some())).await.unwrap().unwrap();
    let api = Api::start_with_queue(queue).await;
    let ready = api.get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "for want of a dispatcher alone");
    let check = redis_check(&ready.json).expect("there is one");
    assert_eq!(check["ok"], true);
    assert_eq!(check["message"], "slower: Redis cannot be reached, using the database");
    let without = Api::start().await;
    assert_eq!(redis_check(&without.get("/health/ready").await.json), None);
}

fn redis_check(ready: &Value) -> Option<Value> {
    let checks = ready["checks"].as_array().expect("checks are a list");
    checks.iter().find(|check| check["name"] == "redis").cloned()
}
