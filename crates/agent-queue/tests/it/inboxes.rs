//! An agent hears of its runs, of nobody else's, and not for ever.

use agent_queue::queue::{InstanceId, Queue};
use core_types::ids::AgentId;
use testing::{redis::TestRedis, wait::wait_for};
use tokio::time::timeout;

use crate::bench::{LIMIT, QUIET, connected, is, key, next};

#[tokio::test]
async fn an_agent_gets_its_own_runs_in_order_and_no_others() {
    let redis = TestRedis::start().await;
    let queue = connected(&redis).await;
    let (one, other) = (AgentId::generate(), AgentId::generate());
    let (mut inbox, mut others) = (queue.inbox(one), queue.inbox(other));
    let keys = [key(1), key(2), key(2)];
    for key in keys {
        queue.push_assignment(one, key);
    }
    for key in keys {
        assert_eq!(next(&mut inbox).await, key);
    }
    assert!(timeout(QUIET, others.next()).await.is_err(), "it got a run of another agent");
}

#[tokio::test]
async fn an_entry_waits_for_an_agent_that_comes_later_but_not_for_ever() {
    let redis = TestRedis::start().await;
    let queue = connected(&redis).await;
    let agent = AgentId::generate();
    for lease in 1..=40 {
        queue.push_assignment(agent, key(lease));
    }
    let list = format!("opentiger:one:inbox:{agent}");
    wait_for("all to be pushed", LIMIT, async || {
        let length = redis.say(&format!("LLEN {list}")).await;
        if length == ":16" { Ok(()) } else { Err(length) }
    })
    .await;
    let left = redis.say(&format!("TTL {list}")).await;
    assert!(matches!(left.trim_start_matches(':').parse(), Ok(1..=60)), "{left}");
    let mut inbox = queue.inbox(agent);
    assert_eq!(next(&mut inbox).await.lease.0, 25, "the oldest of the last sixteen");
}

#[tokio::test]
async fn two_installations_on_one_server_do_not_meet() {
    let redis = TestRedis::start().await;
    let queue = connected(&redis).await;
    let neighbour = Queue::connect(&redis.url(), &InstanceId::new("two:*")).unwrap();
    is(&neighbour, |health| health.connected).await;
    let agent = AgentId::generate();
    let mut inbox = neighbour.inbox(agent);
    queue.push_assignment(agent, key(1));
    assert!(timeout(QUIET, inbox.next()).await.is_err(), "it got a run of another installation");
}

#[tokio::test]
async fn what_is_none_of_ours_in_a_list_is_passed_over() {
    let redis = TestRedis::start().await;
    let queue = connected(&redis).await;
    let agent = AgentId::generate();
    let mut inbox = queue.inbox(agent);
    let list = format!("opentiger:one:inbox:{agent}");
    assert_eq!(redis.say(&format!("RPUSH {list} junk \"run-x 1\"")).await.get(..1), Some(":"));
    let key = key(7);
    queue.push_assignment(agent, key);
    assert_eq!(next(&mut inbox).await, key);
}
