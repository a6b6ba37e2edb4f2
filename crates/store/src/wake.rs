//! Wake-ups: "look now", never what to look at.
//!
//! A notification carries no payload and may be lost; whoever listens has a timer of its own behind it. NOTIFY takes
//! a lock that makes commits of the whole cluster wait in line, so it is a statement of its own after the commit,
//! sent by one task, at most once in [`SPACING`] for each channel.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::Poll,
    time::Duration,
};

use deadpool_postgres::Pool;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket, tls::NoTlsStream};

use crate::pool::Store;

/// The least time between two notifications of one process.
const SPACING: Duration = Duration::from_millis(10);
/// The wait before the first attempt to connect again; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait between two attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long connecting and registering may take together.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a wake-up is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Something may be claimed: a task, an agent or an area became free.
    Tasks,
    /// An agent may have an assignment, or a run of it was asked to stop.
    Agents,
    /// A run has new events or a new status.
    Events,
    /// A setting changed.
    Config,
}

impl Channel {
    /// Every channel.
    pub const ALL: &'static [Self] = &[Self::Tasks, Self::Agents, Self::Events, Self::Config];

    /// The name in the database.
    const fn name(self) -> &'static str {
        match self {
            Self::Tasks => "opentiger_tasks",
            Self::Agents => "opentiger_agents",
            Self::Events => "opentiger_events",
            Self::Config => "opentiger_config",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Tasks => 1,
            Self::Agents => 2,
            Self::Events => 4,
            Self::Config => 8,
        }
    }
}

/// A reason to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The listener is (again) registered; anything may have happened before. Always the first wake.
    Reconnected,
    /// Somebody woke this channel. Several notifications may come as one.
    Notified(Channel),
}

/// Wake-ups of some channels, for ever.
#[derive(Debug)]
pub struct WakeStream {
    config: Config,
    channels: Vec<Channel>,
    state: Listening,
    pending: BTreeSet<Channel>,
    backoff: Duration,
}

#[derive(Debug)]
enum Listening {
    /// Not connected; the next attempt is due then.
    Off(Instant),
    On(Box<Listener>),
}

struct Listener {
    /// Dropping the client would end the connection.
    _client: Client,
    connection: Connection<Socket, NoTlsStream>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Store {
    /// Listens on a connection of its own.
    ///
    /// The first item is [`Wake::Reconnected`], after the listener is registered: look then, and nothing is missed.
    #[must_use]
    pub fn wakes(&self, channels: &[Channel]) -> WakeStream {
        WakeStream {
            config: self.config().clone(),
            channels: channels.to_vec(),
            state: Listening::Off(Instant::now()),
            pending: BTreeSet::new(),
            backoff: BACKOFF_MIN,
        }
    }
}

impl WakeStream {
    /// Waits for the next reason to look. Never ends: a lost connection is made again.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing that was received is lost when the future is dropped.
    pub async fn next(&mut self) -> Wake {
        loop {
            match &mut self.state {
                Listening::Off(due) => {
                    sleep_until(*due).await;
                    if self.connect().await {
                        return Wake::Reconnected;
                    }
                }
                Listening::On(listener) => {
                    if let Some(channel) = self.pending.pop_first() {
                        return Wake::Notified(channel);
                    }
                    if !receive(listener, &mut self.pending).await {
                        self.state = Listening::Off(Instant::now());
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> bool {
        // A future dropped in the middle starts over after the back-off instead of hammering the server.
        self.state = Listening::Off(Instant::now() + self.backoff);
        self.backoff = self.backoff.saturating_mul(2).min(BACKOFF_MAX);
        let listening = listen(&self.config, &self.channels);
        match tokio::time::timeout(LISTEN_TIMEOUT, listening).await {
            Ok(Ok(listener)) => {
                self.state = Listening::On(Box::new(listener));
                self.pending.clear();
                self.backoff = BACKOFF_MIN;
                true
            }
            Ok(Err(error)) => {
                tracing::debug!(error = %error, "listener cannot connect");
                false
            }
            Err(_) => {
                tracing::debug!("listener took too long to connect");
                false
            }
        }
    }
}

async fn listen(config: &Config, channels: &[Channel]) -> Result<Listener, tokio_postgres::Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let statement: String = channels.iter().map(|c| format!("LISTEN {};", c.name())).collect();
    {
        let register = client.batch_execute(&statement);
        tokio::pin!(register);
        // The connection works only while it is polled; its messages before the registration matter to nobody.
        poll_fn(|cx| {
            while let Poll::Ready(Some(message)) = connection.poll_message(cx) {
                if let Err(error) = message {
                    return Poll::Ready(Err(error));
                }
            }
            register.as_mut().poll(cx)
        })
        .await?;
    }
    Ok(Listener { _client: client, connection })
}

/// Waits for messages and takes all that are there; `false` when the connection ended.
async fn receive(listener: &mut Listener, pending: &mut BTreeSet<Channel>) -> bool {
    poll_fn(|cx| {
        loop {
            match listener.connection.poll_message(cx) {
                Poll::Ready(Some(Ok(AsyncMessage::Notification(note)))) => {
                    pending.extend(Channel::ALL.iter().filter(|c| c.name() == note.channel()));
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(false),
                Poll::Pending if pending.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(true),
            }
        }
    })
    .await
}

/// The channels that wait to be woken.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicU8,
    changed: Notify,
}

impl Signal {
    pub(crate) fn raise(&self, channel: Channel) {
        self.raised.fetch_or(channel.bit(), Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Sends what is raised. What fails is dropped: listeners that lost their connection look when they have it back.
    pub(crate) async fn flush(&self, pool: &Pool) {
        let raised = self.raised.swap(0, Ordering::AcqRel);
        let channels = Channel::ALL.iter().filter(|channel| raised & channel.bit() != 0);
        let statement: String = channels.map(|c| format!("NOTIFY {};", c.name())).collect();
        if statement.is_empty() {
            return;
        }
        let sent = async {
            let client = pool.get().await.map_err(|error| error.to_string())?;
            client.batch_execute(&statement).await.map_err(|error| error.to_string())
        };
        if let Err(error) = sent.await {
            tracing::debug!(error, "wake-up was not sent");
        }
    }
}

/// Sends raised channels for as long as the store lives.
pub(crate) async fn send_wakes(pool: Pool, signal: Arc<Signal>) {
    loop {
        signal.changed.notified().await;
        signal.flush(&pool).await;
        tokio::time::sleep(SPACING).await;
    }
}
