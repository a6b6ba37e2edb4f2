//! Redis joined with the database: what the store has committed is told through both, and heard from both.
//!
//! Without Redis the database's own wake-ups do it alone.

use std::sync::Arc;

use agent_queue::{
    queue::{InstanceId, Queue},
    subscription::{Heard, Subscription, Topic},
};
use core_types::{
    ids::{AgentId, RunId, RunKey},
    secret::Secret,
};
use store::{bell::Bell, pool::Store, wake::Channel};
use telemetry::chain::error_chain;

/// What every process listens to. Events are for those who show them; they listen themselves.
const TOPICS: &[Topic] = &[Topic::Tasks, Topic::Agents, Topic::Config, Topic::Processes];

/// Rings in Redis.
#[derive(Debug)]
struct RedisBell(Queue);

impl Bell for RedisBell {
    fn wake(&self, channel: Channel) {
        self.0.wake(topic(channel));
    }

    fn events(&self, run: RunId, seq: i64) {
        self.0.publish_events(run, seq);
    }

    fn assigned(&self, agent: AgentId, key: RunKey) {
        self.0.push_assignment(agent, key);
    }
}

/// Begins to connect, and lets the store ring through Redis as well.
///
/// None where the URL cannot be used, or the database does not say which one it is; that is told, and no fault of a start.
pub(crate) async fn connect(url: &Secret, store: &Store) -> Option<Queue> {
    let instance = match store.instance().await {
        Ok(instance) => InstanceId::new(&instance),
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "going on without redis");
            return None;
        }
    };
    match Queue::connect(url, &instance) {
        Ok(queue) => {
            store.also_ring(Arc::new(RedisBell(queue.clone())));
            Some(queue)
        }
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), hint = error.hint(), "going on without redis");
            None
        }
    }
}

/// Passes on what others ring in Redis, for as long as it is polled.
pub(crate) async fn hear(queue: Queue, store: Store) {
    let mut heard = queue.subscribe(TOPICS);
    loop {
        pass_on(&mut heard, &store).await;
    }
}

async fn pass_on(heard: &mut Subscription, store: &Store) {
    match heard.next().await {
        Heard::Woken(topic) => store.hear(channel(topic)),
        Heard::Anything => TOPICS.iter().for_each(|topic| store.hear(channel(*topic))),
        Heard::Events { .. } => store.hear(Channel::Events),
    }
}

const fn topic(channel: Channel) -> Topic {
    match channel {
        Channel::Tasks => Topic::Tasks,
        Channel::Agents => Topic::Agents,
        Channel::Events => Topic::Events,
        Channel::Config => Topic::Config,
        Channel::Processes => Topic::Processes,
    }
}

const fn channel(topic: Topic) -> Channel {
    match topic {
        Topic::Tasks => Channel::Tasks,
        Topic::Agents => Channel::Agents,
        Topic::Events => Channel::Events,
        Topic::Config => Channel::Config,
        Topic::Processes => Channel::Processes,
    }
}
