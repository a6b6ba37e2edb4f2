//! The workbench of these tests: a queue on a server of its own.

use std::time::Duration;

use agent_queue::{
    health::QueueHealth,
    inbox::Inbox,
    queue::{InstanceId, Queue},
    subscription::{Heard, Subscription},
};
use core_types::{
    ids::{AgentId, LeaseNumber, RunId, RunKey},
    secret::Secret,
};
use testing::redis::TestRedis;
use tokio::time::timeout;

/// Long enough for every wait in these tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Nothing comes within this time, where nothing must come.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

pub(crate) fn queue(url: &Secret) -> Queue {
    Queue::connect(url, &InstanceId::new("one")).unwrap()
}

/// A queue that its server answers.
pub(crate) async fn connected(redis: &TestRedis) -> Queue {
    let queue = queue(&redis.url());
    is(&queue, |health| health.connected).await;
    queue
}

/// Waits until the queue says so of itself.
pub(crate) async fn is(queue: &Queue, wanted: impl FnMut(&QueueHealth) -> bool) -> QueueHealth {
    let mut health = queue.watch_health();
    *timeout(LIMIT, health.wait_for(wanted)).await.unwrap().unwrap()
}

pub(crate) fn key(lease: i64) -> RunKey {
    RunKey { run: RunId::generate(), lease: LeaseNumber(lease) }
}

pub(crate) async fn next(inbox: &mut Inbox) -> RunKey {
    timeout(LIMIT, inbox.next()).await.unwrap()
}

pub(crate) async fn heard(subscription: &mut Subscription) -> Heard {
    timeout(LIMIT, subscription.next()).await.unwrap()
}

/// Sends assignments until one arrives: what is sent while Redis is away is dropped, as it should be.
pub(crate) async fn arrives(queue: &Queue, inbox: &mut Inbox, agent: AgentId) {
    let key = key(1);
    timeout(LIMIT, async {
        loop {
            queue.push_assignment(agent, key);
            if timeout(QUIET, inbox.next()).await.is_ok_and(|got| got == key) {
                return;
            }
        }
    })
    .await
    .expect("an assignment arrives");
}

/// Raises a topic until it is heard.
pub(crate) async fn is_heard(queue: &Queue, ears: &mut Subscription, run: RunId) {
    let wanted = Heard::Events { run, seq: 1 };
    timeout(LIMIT, async {
        loop {
            queue.publish_events(run, 1);
            let listening = async { while ears.next().await != wanted {} };
            if timeout(QUIET, listening).await.is_ok() {
                return;
            }
        }
    })
    .await
    .expect("news are heard");
}
