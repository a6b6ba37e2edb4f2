//! Wake-ups: "look now", never what to look at.
//!
//! A notification carries no payload and may be lost; whoever listens has a timer of its own behind it. NOTIFY takes
//! a lock that makes commits of the whole cluster wait in line, so it is a statement of its own after the commit,
//! sent by one task, at most once in [`SPACING`] for each channel.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket, tls::NoTlsStream};

use crate::{
    connections::Connections,
    error::StoreError,
    pool::{SIGN_OF_LIFE, Store},
};

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
    /// Something else is wanted of a managed process.
    Processes,
}

impl Channel {
    /// Every channel.
    pub const ALL: &'static [Self] =
        &[Self::Tasks, Self::Agents, Self::Events, Self::Config, Self::Processes];

    /// The name in the database.
    const fn name(self) -> &'static str {
        match self {
            Self::Tasks => "opentiger_tasks",
            Self::Agents => "opentiger_agents",
            Self::Events => "opentiger_events",
            Self::Config => "opentiger_config",
            Self::Processes => "opentiger_processes",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Tasks => 1,
            Self::Agents => 2,
            Self::Events => 4,
            Self::Config => 8,
            Self::Processes => 16,
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
    /// See [`crate::pool::PoolOptions::listener_silence`].
    silence: Duration,
    /// What came another way.
    elsewhere: watch::Receiver<Rings>,
    /// What of it was told already.
    told: Rings,
}

/// How often each channel rang another way, by its place in [`Channel::ALL`].
pub(crate) type Rings = [u64; Channel::ALL.len()];

#[derive(Debug)]
enum Listening {
    /// Not connected; the next attempt is due then.
    Off(Instant),
    On(Box<Listener>),
}

struct Listener {
    /// Dropping the client would end the connection.
    client: Arc<Client>,
    connection: Connection<Socket, NoTlsStream>,
    /// When it last gave a sign.
    heard: Instant,
    question: Option<Question>,
}

/// Asks a silent server whether it is there; `false` when the connection ended.
struct Question {
    answer: Pin<Box<dyn Future<Output = bool> + Send>>,
    /// It should have answered by then.
    due: Instant,
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
        let elsewhere = self.rings().subscribe();
        let told = *elsewhere.borrow();
        WakeStream {
            elsewhere,
            told,
            config: self.config().clone(),
            channels: channels.to_vec(),
            state: Listening::Off(Instant::now()),
            pending: BTreeSet::new(),
            backoff: BACKOFF_MIN,
            silence: self.listener_silence(),
        }
    }
}

impl WakeStream {
    /// Waits for the next reason to look. Never ends: a lost connection is made again, and one that has been silent
    /// for a while is asked, for one to a server that hangs looks like one on which nothing happens.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing that was received is lost when the future is dropped.
    pub async fn next(&mut self) -> Wake {
        loop {
            match &mut self.state {
                Listening::Off(due) => {
                    // Both arms only wait. The first one first: what rings all the time must not keep it from connecting.
                    tokio::select! {
                        biased;
                        () = sleep_until(*due) => {}
                        channel = rung(&mut self.elsewhere, &mut self.told, &self.channels) => {
                            return Wake::Notified(channel);
                        }
                    }
                    if self.connect().await {
                        return Wake::Reconnected;
                    }
                }
                Listening::On(listener) => {
                    if let Some(channel) = self.pending.pop_first() {
                        return Wake::Notified(channel);
                    }
                    // Both arms are cancel safe: what is under way stays in the listener or in the counts.
                    tokio::select! {
                        hears = listener.receive(&mut self.pending, self.silence) => {
                            if !hears {
                                self.state = Listening::Off(Instant::now());
                            }
                        }
                        channel = rung(&mut self.elsewhere, &mut self.told, &self.channels) => {
                            return Wake::Notified(channel);
                        }
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

/// Waits until one of the channels rings another way, and counts that as told.
///
/// Cancel safe: nothing is counted before it returns.
async fn rung(
    elsewhere: &mut watch::Receiver<Rings>,
    told: &mut Rings,
    channels: &[Channel],
) -> Channel {
    loop {
        let now = *elsewhere.borrow_and_update();
        for (place, channel) in Channel::ALL.iter().enumerate() {
            let (Some(told), Some(now)) = (told.get_mut(place), now.get(place)) else { continue };
            let rings = std::mem::replace(told, *now) != *now;
            if rings && channels.contains(channel) {
                return *channel;
            }
        }
        if elsewhere.changed().await.is_err() {
            // The store is gone, and nobody can ring any more.
            std::future::pending::<()>().await;
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
    Ok(Listener { client: Arc::new(client), connection, heard: Instant::now(), question: None })
}

impl Listener {
    /// Waits for messages and takes all that are there; `false` when the connection ended or gives no sign of life.
    ///
    /// Cancel safe: what is under way stays in `self`.
    async fn receive(&mut self, pending: &mut BTreeSet<Channel>, silence: Duration) -> bool {
        loop {
            let moment = match &self.question {
                Some(question) => question.due,
                None => self.heard + silence,
            };
            // What has come is taken before the time is looked at: this may not have been polled for a while.
            match timeout_at(moment, poll_fn(|cx| self.poll(cx, pending))).await {
                Ok(Heard::Messages) => return true,
                Ok(Heard::Answer) => {}
                Ok(Heard::End) => return false,
                Err(_) if self.question.is_none() => self.ask(silence),
                Err(_) => {
                    tracing::debug!("listener was silent for too long");
                    return false;
                }
            }
        }
    }

    fn ask(&mut self, silence: Duration) {
        let client = Arc::clone(&self.client);
        let answer = Box::pin(async move { client.simple_query("").await.is_ok() });
        self.question = Some(Question { answer, due: Instant::now() + silence });
    }

    fn poll(&mut self, cx: &mut Context<'_>, pending: &mut BTreeSet<Channel>) -> Poll<Heard> {
        // The question is sent by polling it, the connection sends it on and brings the answer.
        let mut answer = self.poll_answer(cx);
        loop {
            match self.connection.poll_message(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    self.heard = Instant::now();
                    if let AsyncMessage::Notification(note) = message {
                        pending.extend(Channel::ALL.iter().filter(|c| c.name() == note.channel()));
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Heard::End),
                Poll::Pending => break,
            }
        }
        if answer.is_pending() {
            answer = self.poll_answer(cx);
        }
        match answer {
            Poll::Ready(Heard::End) => Poll::Ready(Heard::End),
            _ if !pending.is_empty() => Poll::Ready(Heard::Messages),
            answer => answer,
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let Some(question) = &mut self.question else {
            return Poll::Pending;
        };
        match question.answer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(false) => Poll::Ready(Heard::End),
            Poll::Ready(true) => {
                self.question = None;
                self.heard = Instant::now();
                Poll::Ready(Heard::Answer)
            }
        }
    }
}

enum Heard {
    /// Notifications wait to be taken.
    Messages,
    /// The server is there.
    Answer,
    /// The connection has ended.
    End,
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
    pub(crate) async fn flush(&self, connections: &Connections) {
        let raised = self.raised.swap(0, Ordering::AcqRel);
        let channels = Channel::ALL.iter().filter(|channel| raised & channel.bit() != 0);
        let statement: String = channels.map(|c| format!("NOTIFY {};", c.name())).collect();
        if statement.is_empty() {
            return;
        }
        let sent = async {
            let connection = connections.lend(Instant::now() + SIGN_OF_LIFE).await?;
            connection.batch_execute(&statement).await?;
            Ok::<_, StoreError>(())
        };
        if let Err(error) = sent.await {
            tracing::debug!(error = %error, "wake-up was not sent");
        }
    }
}

/// Sends raised channels for as long as the store lives.
pub(crate) async fn send_wakes(connections: Connections, signal: Arc<Signal>) {
    loop {
        signal.changed.notified().await;
        signal.flush(&connections).await;
        tokio::time::sleep(SPACING).await;
    }
}
