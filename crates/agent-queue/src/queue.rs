//! The handle on Redis: sends without waiting, and knows whether Redis answers.

use std::{sync::Arc, time::Duration};

use core_types::{
    ids::{AgentId, RunId, RunKey},
    secret::Secret,
};
use fred::{
    clients::Client,
    interfaces::{EventInterface as _, PubsubInterface as _},
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{
    address::{Address, AddressError, parse},
    health::{QueueFault, QueueHealth},
    inbox::Inbox,
    keys::Keys,
    link::Link,
    outbox::Outbox,
    subscription::{Subscription, Topic},
};

/// How long a command may take; whoever waits for its effect has another way.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
/// How often Redis is asked whether it answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which installation this is: all processes of one database have the same one, and no other database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceId(String);

impl InstanceId {
    /// Makes an id of a text; every character that would end a part of a key is left out.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.chars().filter(char::is_ascii_alphanumeric).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A handle on Redis; clones share one connection.
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: Address,
    keys: Keys,
    outbox: Arc<Outbox>,
    health: watch::Receiver<QueueHealth>,
    /// Owns what sends and asks; dropping it ends both.
    _tasks: JoinSet<()>,
}

impl Queue {
    /// Begins to connect and returns at once, whether or not Redis is there; from then on it is tried for ever.
    ///
    /// # Errors
    /// [`AddressError`] where the URL is none.
    pub fn connect(url: &Secret, instance: &InstanceId) -> Result<Self, AddressError> {
        let address = parse(url)?;
        let keys = Keys::new(instance);
        let outbox = Arc::new(Outbox::default());
        let (state, health) = watch::channel(QueueHealth::unknown());
        let link = Link::open(&address, Some(COMMAND_TIMEOUT));
        let mut tasks = JoinSet::new();
        let (sends, sent, known) = (link.client.clone(), Arc::clone(&outbox), health.clone());
        let names = keys.clone();
        tasks.spawn(async move {
            sent.send(&sends, &names, || known.borrow().connected).await;
        });
        tasks.spawn(ask(link, keys.clone(), state));
        let inner = Inner { address, keys, outbox, health, _tasks: tasks };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Tells an agent of a run that was handed to it. Only once the claim is in the database.
    pub fn push_assignment(&self, agent: AgentId, key: RunKey) {
        self.inner.outbox.assign(agent, key);
    }

    /// Tells whoever listens to a topic to look.
    pub fn wake(&self, topic: Topic) {
        self.inner.outbox.wake(topic);
    }

    /// Tells that a run has events up to this number. Only once they are in the database.
    pub fn publish_events(&self, run: RunId, seq: i64) {
        self.inner.outbox.events(run, seq);
    }

    /// Opens an agent's inbox, on a connection of its own.
    #[must_use]
    pub fn inbox(&self, agent: AgentId) -> Inbox {
        Inbox::open(&self.inner.address, self.inner.keys.inbox(agent))
    }

    /// Listens to topics, on a connection of its own.
    #[must_use]
    pub fn subscribe(&self, topics: &[Topic]) -> Subscription {
        Subscription::open(
            &self.inner.address,
            self.inner.keys.clone(),
            topics,
            self.watch_health(),
        )
    }

    /// How it stands with Redis.
    #[must_use]
    pub fn health(&self) -> QueueHealth {
        *self.inner.health.borrow()
    }

    /// Follows how it stands with Redis.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<QueueHealth> {
        self.inner.health.clone()
    }
}

/// Asks Redis again and again whether it answers, and tells when that changes.
async fn ask(link: Link, keys: Keys, state: watch::Sender<QueueHealth>) {
    let mut errors = link.client.error_rx();
    let mut told = false;
    // Why there is no connection, since it last answered.
    let mut reason = None;
    loop {
        // Cancel safe: an error that is missed by dropping the wait is found by the question.
        tokio::select! {
            () = sleep(if told { LOOK_EVERY } else { LOOK_EVERY / 20 }) => {}
            Ok((error, _)) = errors.recv() => reason = Some(QueueFault::of(&error)),
        }
        let answer = question(&link.client, &keys).await;
        while let Ok((error, _)) = errors.try_recv() {
            reason = Some(QueueFault::of(&error));
        }
        let fault = match answer {
            Ok(()) => {
                reason = None;
                None
            }
            // A command that waits for a connection only says that it waited.
            Err(QueueFault::Silent) => Some(reason.unwrap_or(QueueFault::Silent)),
            Err(fault) => Some(fault),
        };
        let before = *state.borrow();
        let now = before.after(fault);
        report(before, now, told);
        told |= now.connected || now.fault.is_some();
        if now != before {
            state.send_replace(now);
        }
    }
}

async fn question(client: &Client, keys: &Keys) -> Result<(), QueueFault> {
    let asked: Result<i64, _> = client.publish(keys.echo(), "").await;
    asked.map(drop).map_err(|error| QueueFault::of(&error))
}

/// Says once for each change how it stands.
fn report(before: QueueHealth, now: QueueHealth, told: bool) {
    match (now.connected, now.fault) {
        (true, _) if !before.connected && told => tracing::info!("redis answers again"),
        (true, _) if !before.connected => tracing::info!("redis answers"),
        (false, Some(fault)) if before.connected || !told || before.fault != Some(fault) => {
            tracing::warn!(redis.fault = %fault, "redis does not answer; slower, nothing is lost");
        }
        (true | false, _) => {}
    }
}
