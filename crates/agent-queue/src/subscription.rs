//! Listening: "look", and how far a run's events go. Whatever was missed is told as [`Heard::Anything`].

use std::time::Duration;

use core_types::ids::RunId;
use fred::{
    interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _},
    types::Message,
};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{address::Address, health::QueueHealth, keys::Keys, link::Link};

/// How long a listener may hear nothing, not even its own process, before it doubts its connection.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a command of this module may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much may wait for a slow listener; what is lost on top is told as [`Heard::Anything`].
const WAITING: usize = 1024;

/// What a wake-up is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Something may be claimed.
    Tasks,
    /// An agent may have an assignment, or a run of it was asked to stop.
    Agents,
    /// A run has new events or a new status.
    Events,
    /// A setting changed.
    Config,
    /// Something about managed processes changed.
    Processes,
}

impl Topic {
    /// The last part of the channel's name.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Agents => "agents",
            Self::Events => "events",
            Self::Config => "config",
            Self::Processes => "processes",
        }
    }
}

/// A reason to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It listens (again); anything may have happened before.
    Anything,
    /// Somebody woke this topic.
    Woken(Topic),
    /// A run has events up to this number.
    Events {
        /// The run.
        run: RunId,
        /// The number.
        seq: i64,
    },
}

/// What is heard of some topics.
#[derive(Debug)]
pub struct Subscription {
    heard: mpsc::Receiver<Heard>,
    _ear: JoinSet<()>,
}

impl Subscription {
    pub(crate) fn open(
        address: &Address,
        keys: Keys,
        topics: &[Topic],
        health: watch::Receiver<QueueHealth>,
    ) -> Self {
        let (sender, heard) = mpsc::channel(WAITING);
        let link = Link::open(address, Some(PATIENCE));
        let topics = topics.to_vec();
        let mut task = JoinSet::new();
        let ear = Ear { link, keys, topics, sender, health, heard: Instant::now() };
        task.spawn(ear.listen());
        Self { heard, _ear: task }
    }

    /// Waits for the next reason to look, for ever where Redis is away.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            // Its task ends with this value, or by a panic; without it nothing is heard any more.
            None => std::future::pending().await,
        }
    }
}

struct Ear {
    link: Link,
    keys: Keys,
    topics: Vec<Topic>,
    sender: mpsc::Sender<Heard>,
    health: watch::Receiver<QueueHealth>,
    /// When it last heard anything.
    heard: Instant,
}

/// The other side is gone.
struct Gone;

impl Ear {
    /// Listens until nobody wants to hear any more. A listener that falls behind is slowed down here, and learns from
    /// the client that it missed something.
    async fn listen(mut self) {
        let mut connected = self.link.client.reconnect_rx();
        let mut messages = self.link.client.message_rx();
        while !self.sender.is_closed() {
            // Every arm is cancel safe: what was not received stays in its channel.
            let step = tokio::select! {
                Ok(_) = connected.recv() => self.register().await,
                message = messages.recv() => self.pass_on(message).await,
                () = sleep_until(self.heard + SILENCE) => {
                    self.doubt().await;
                    Ok(())
                }
            };
            if step.is_err() {
                return;
            }
        }
    }

    /// Subscribes on a new connection; where that fails, the doubt that follows makes another one.
    async fn register(&mut self) -> Result<(), Gone> {
        let mut channels = vec![self.keys.echo()];
        channels.extend(self.topics.iter().map(|topic| self.keys.wake(*topic)));
        if self.topics.contains(&Topic::Events) {
            channels.push(self.keys.events());
        }
        match self.link.client.subscribe(channels).await {
            Ok(()) => {
                self.heard = Instant::now();
                self.tell(Heard::Anything).await
            }
            Err(error) => {
                tracing::debug!(kind = ?error.kind(), "cannot subscribe");
                Ok(())
            }
        }
    }

    async fn pass_on(&mut self, message: Result<Message, RecvError>) -> Result<(), Gone> {
        self.heard = Instant::now();
        match message {
            Ok(message) => match self.understand(&message) {
                Some(heard) => self.tell(heard).await,
                None => Ok(()),
            },
            Err(RecvError::Lagged(_)) => self.tell(Heard::Anything).await,
            Err(RecvError::Closed) => Err(Gone),
        }
    }

    fn understand(&self, message: &Message) -> Option<Heard> {
        let channel: &str = &message.channel;
        if let Some(topic) = self.topics.iter().find(|topic| self.keys.wake(**topic) == channel) {
            return Some(Heard::Woken(*topic));
        }
        if channel != self.keys.events() {
            return None;
        }
        let text = message.value.as_str()?;
        let (run, seq) = text.split_once(' ')?;
        Some(Heard::Events { run: run.parse().ok()?, seq: seq.parse().ok()? })
    }

    /// It has been silent although this process speaks to itself each second: where Redis answers others, this
    /// connection is dead without anybody having said so.
    async fn doubt(&mut self) {
        let health = *self.health.borrow();
        if health.connected && health.since.elapsed() > SILENCE {
            tracing::debug!("heard nothing for too long, connecting again");
            timeout(PATIENCE, self.link.client.force_reconnection()).await.ok();
        }
        self.heard = Instant::now();
    }

    async fn tell(&self, heard: Heard) -> Result<(), Gone> {
        self.sender.send(heard).await.map_err(|_| Gone)
    }
}
