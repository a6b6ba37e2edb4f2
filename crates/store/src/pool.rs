//! The handle on the database: the pool, its limits, and the loop that tries conflicts again.
//!
//! It knows no table. LISTEN has a connection of its own, see [`crate::wake`], because pooled ones drop notifications.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use core_types::secret::Secret;
use rand::Rng as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_postgres::{
    Config, NoTls,
    config::{SslMode, TargetSessionAttrs},
    error::SqlState,
};

use crate::{
    bell::Bell,
    connections::{CONNECT_TIMEOUT, Connection, Connections},
    dispatch::lines::Cursors,
    error::{MayBeStoreError, StoreError},
    wake::{Channel, Rings, Signal, send_wakes},
};

/// How often a transaction that was in the way of another is tried in all.
const ATTEMPTS: u32 = 12;
/// The deadline of signs of life: whoever gives them acts on their failure long before [`PoolOptions::operation_timeout`].
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// A handle on the database; clones share one pool.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connections: Connections,
    config: Config,
    operation_timeout: Duration,
    listener_silence: Duration,
    signal: Arc<Signal>,
    /// Another way to other processes, once there is one.
    bell: OnceLock<Arc<dyn Bell>>,
    /// Where the next claim looks on.
    lines: Cursors,
    /// What rang another way.
    rings: watch::Sender<Rings>,
    /// Owns the task that sends wake-ups; dropping it ends the task.
    _sender: JoinSet<()>,
}

/// How a process uses the database.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Most connections at a time, not counting those that listen.
    pub max_size: usize,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long a call waits for a free connection before it fails as unavailable.
    pub acquire_timeout: Duration,
    /// How long a call may take in all before it fails as unavailable and its connection is dropped. Signs of life
    /// have 5 s at most.
    pub operation_timeout: Duration,
    /// How long a connection that listens may be silent before it is asked whether it is there, and how long it then
    /// has to answer.
    pub listener_silence: Duration,
}

impl PoolOptions {
    /// Ten connections; five seconds for a free one, thirty for a call, ten of silence.
    #[must_use]
    pub fn new(application_name: impl Into<String>) -> Self {
        Self {
            max_size: 10,
            application_name: application_name.into(),
            acquire_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(30),
            listener_silence: Duration::from_secs(10),
        }
    }
}

/// Why the first connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none. Its text is not repeated: it may hold a password.
    #[error("the database url is not understood: {what}")]
    InvalidUrl {
        /// What is wrong, without the URL's own text.
        what: String,
    },
    /// Nothing answers there.
    #[error("no database answers at {at}")]
    Unreachable {
        /// Host and port, or socket directory.
        at: String,
        /// What the driver said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Something takes the connection there and then says nothing.
    #[error("the database at {at} takes connections but did not answer within {} s", .waited.as_secs())]
    Silent {
        /// Host and port, or socket directory.
        at: String,
        /// How long the attempt waited.
        waited: Duration,
    },
    /// The server is there and will take no connection right now.
    #[error("the database at {at} takes no connections now")]
    NotReady {
        /// Host and port, or socket directory.
        at: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// User or password is wrong.
    #[error("the database at {at} refuses user `{user}`")]
    Authentication {
        /// Host and port, or socket directory.
        at: String,
        /// The user of the URL.
        user: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server has no such database.
    #[error("the server at {at} has no database `{database}`")]
    DatabaseMissing {
        /// Host and port, or socket directory.
        at: String,
        /// The database of the URL.
        database: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server refused for another reason.
    #[error("the database at {at} refused the connection")]
    Refused {
        /// Host and port, or socket directory.
        at: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl ConnectError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => {
                "write DATABASE_URL as postgres://user:password@host:5432/database, with special characters of the password percent-encoded"
            }
            Self::Unreachable { .. } => {
                "start the server or correct host and port of DATABASE_URL; without DATABASE_URL openTiger starts a private one"
            }
            Self::Silent { .. } => {
                "see whether the server is stopped or overloaded, and whether a proxy in front of it works"
            }
            Self::NotReady { .. } => {
                "wait for the server to finish starting, or raise its max_connections"
            }
            Self::Authentication { .. } => {
                "correct user and password of DATABASE_URL, or the server's pg_hba.conf"
            }
            Self::DatabaseMissing { .. } => {
                "create the database with `createdb`, or correct its name in DATABASE_URL"
            }
            Self::Refused { .. } => "see the server's log",
        }
    }

    /// Whether waiting may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::NotReady { .. } => true,
            Self::InvalidUrl { .. }
            | Self::Authentication { .. }
            | Self::DatabaseMissing { .. }
            | Self::Refused { .. } => false,
        }
    }
}

impl Store {
    /// Connects once, so that a wrong URL is told at the start, and makes the pool.
    ///
    /// # Errors
    /// [`ConnectError`], by what has to be mended.
    pub async fn connect(url: &Secret, options: PoolOptions) -> Result<Self, ConnectError> {
        let config = parse(url, &options)?;
        let (client, connection) = timeout(options.operation_timeout, config.connect(NoTls))
            .await
            .map_err(|_| ConnectError::Silent {
                at: place(&config),
                waited: options.operation_timeout,
            })?
            .map_err(|source| explain(&config, source))?;
        drop((client, connection));
        let PoolOptions { max_size, acquire_timeout, operation_timeout, listener_silence, .. } =
            options;
        let connections = Connections::new(config.clone(), max_size, acquire_timeout);
        let signal = Arc::new(Signal::default());
        let mut sender = JoinSet::new();
        sender.spawn(send_wakes(connections.clone(), Arc::clone(&signal)));
        let inner = Inner {
            connections,
            config,
            operation_timeout,
            listener_silence,
            signal,
            bell: OnceLock::new(),
            lines: Cursors::default(),
            rings: watch::Sender::new(Rings::default()),
            _sender: sender,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Asks the database for nothing, to see whether it answers.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.connection_within(SIGN_OF_LIFE).await?.simple_query("").await?;
        Ok(())
    }

    /// Tells listeners of a channel to look: the first call at once, then at most once in 10 ms.
    ///
    /// Never fails: a wake-up that is lost only delays what the listeners' own timer finds.
    pub fn wake(&self, channel: Channel) {
        self.inner.signal.raise(channel);
        if let Some(bell) = self.inner.bell.get() {
            bell.wake(channel);
        }
    }

    /// Another way to other processes, once there is one.
    pub(crate) fn bell(&self) -> &OnceLock<Arc<dyn Bell>> {
        &self.inner.bell
    }

    pub(crate) fn rings(&self) -> &watch::Sender<Rings> {
        &self.inner.rings
    }

    /// Tells listeners of the events' channel, without the way besides the database.
    pub(crate) fn raise(&self, channel: Channel) {
        self.inner.signal.raise(channel);
    }

    /// Sends the wake-ups that still wait; for a process that is about to end.
    pub async fn flush_wakes(&self) {
        self.inner.signal.flush(&self.inner.connections).await;
    }

    /// Where this process' claims look on.
    pub(crate) fn lines(&self) -> &Cursors {
        &self.inner.lines
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn listener_silence(&self) -> Duration {
        self.inner.listener_silence
    }

    /// A connection for one operation.
    pub(crate) async fn connection(&self) -> Result<Connection, StoreError> {
        self.connection_within(self.inner.operation_timeout).await
    }

    /// A connection for an operation that may take only so long.
    pub(crate) async fn connection_within(
        &self,
        limit: Duration,
    ) -> Result<Connection, StoreError> {
        self.inner.connections.lend(self.deadline(limit)).await
    }

    fn deadline(&self, limit: Duration) -> Instant {
        Instant::now() + limit.min(self.inner.operation_timeout)
    }

    /// Runs a transaction, and again while others are in its way.
    pub(crate) async fn retrying<T, E, F>(
        &self,
        transaction: impl FnMut(Connection) -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: MayBeStoreError + From<StoreError>,
    {
        self.retrying_within(self.inner.operation_timeout, transaction).await
    }

    /// Like [`Store::retrying`], where all attempts together may take only so long.
    pub(crate) async fn retrying_within<T, E, F>(
        &self,
        limit: Duration,
        mut transaction: impl FnMut(Connection) -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: MayBeStoreError + From<StoreError>,
    {
        let until = self.deadline(limit);
        let mut attempt = 1;
        loop {
            let result = transaction(self.inner.connections.lend(until).await?).await;
            match result.as_ref().err().and_then(MayBeStoreError::store_error) {
                Some(StoreError::Contended { .. })
                    if attempt < ATTEMPTS && Instant::now() < until =>
                {
                    tracing::debug!(attempt, "transaction gave way to another");
                    tokio::time::sleep(pause_after(attempt)).await;
                    attempt += 1;
                }
                // After a fail-over the pool holds connections to a server that takes no writes; new ones ask for
                // one that does.
                Some(StoreError::ReadOnly { .. }) => {
                    self.inner.connections.discard_idle();
                    return result;
                }
                _ => return result,
            }
        }
    }
}

/// A random part keeps two that met from meeting again.
fn pause_after(attempt: u32) -> Duration {
    let most = 5_u64.saturating_mul(1 << attempt.min(6));
    Duration::from_millis(rand::rng().random_range(1..=most))
}

fn parse(url: &Secret, options: &PoolOptions) -> Result<Config, ConnectError> {
    let invalid = |what: String| ConnectError::InvalidUrl { what };
    let mut config: Config = url.expose().parse().map_err(|error: tokio_postgres::Error| {
        // The driver's text may quote a part of the URL; without credentials in it that is no harm.
        let quotable = !url.expose().contains(['@', '=']);
        invalid(if quotable {
            describe(&error)
        } else {
            "its form or one of its options is wrong".to_owned()
        })
    })?;
    if config.get_hosts().is_empty() {
        return Err(invalid("it names no host".to_owned()));
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err(invalid(
            "`sslmode=require` is not supported by this version; use a local server or a tunnel"
                .to_owned(),
        ));
    }
    config
        .application_name(&options.application_name)
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(20))
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    Ok(config)
}

fn describe(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn explain(config: &Config, source: tokio_postgres::Error) -> ConnectError {
    let at = place(config);
    let Some(state) = source.code() else {
        return ConnectError::Unreachable { at, source };
    };
    if *state == SqlState::INVALID_CATALOG_NAME {
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default().to_owned();
        return ConnectError::DatabaseMissing { at, database, source };
    }
    match state.code() {
        code if code.starts_with("28") => {
            let user = config.get_user().unwrap_or_default().to_owned();
            ConnectError::Authentication { at, user, source }
        }
        code if code.starts_with("53") || code.starts_with("57") => {
            ConnectError::NotReady { at, source }
        }
        _ => ConnectError::Refused { at, source },
    }
}

fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let places = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        match host {
            tokio_postgres::config::Host::Tcp(name) => format!("`{name}:{port}`"),
            tokio_postgres::config::Host::Unix(path) => {
                format!("`{}` (port {port})", path.display())
            }
        }
    });
    places.collect::<Vec<_>>().join(", ")
}
