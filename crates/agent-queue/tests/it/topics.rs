//! Wake-ups and news reach every process that listens.

use agent_queue::subscription::{Heard, Topic};
use core_types::ids::RunId;
use testing::redis::TestRedis;
use tokio::time::timeout;

use crate::bench::{QUIET, connected, heard};

#[tokio::test]
async fn a_listener_is_told_to_look_first_and_then_hears_its_topics() {
    let redis = TestRedis::start().await;
    let (queue, other) = (connected(&redis).await, connected(&redis).await);
    let mut ears = queue.subscribe(&[Topic::Tasks, Topic::Config]);
    assert_eq!(heard(&mut ears).await, Heard::Anything);
    other.wake(Topic::Agents);
    other.wake(Topic::Tasks);
    assert_eq!(heard(&mut ears).await, Heard::Woken(Topic::Tasks));
    queue.wake(Topic::Config);
    assert_eq!(heard(&mut ears).await, Heard::Woken(Topic::Config));
    other.publish_events(RunId::generate(), 3);
    assert!(timeout(QUIET, ears.next()).await.is_err(), "it heard what it did not listen to");
}

#[tokio::test]
async fn news_of_a_run_say_how_far_its_events_go() {
    let redis = TestRedis::start().await;
    let queue = connected(&redis).await;
    let mut ears = queue.subscribe(&[Topic::Events]);
    assert_eq!(heard(&mut ears).await, Heard::Anything);
    let run = RunId::generate();
    for seq in 1..=100 {
        queue.publish_events(run, seq);
    }
    let mut last = 0;
    while last < 100 {
        match heard(&mut ears).await {
            Heard::Events { run: of, seq } => {
                assert!(of == run && seq > last, "{seq} after {last}");
                last = seq;
            }
            other @ (Heard::Anything | Heard::Woken(_)) => panic!("heard {other:?}"),
        }
    }
}
