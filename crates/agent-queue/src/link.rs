//! One connection to Redis that is made again for ever. What it is used for is its user's business.

use std::time::Duration;

use fred::{
    clients::Client,
    error::Error,
    interfaces::ClientLike as _,
    types::{
        Builder,
        config::{ConnectionConfig, PerformanceConfig, ReconnectPolicy, UnresponsiveConfig},
    },
};
use tokio::task::JoinSet;

use crate::address::Address;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a question may stay unanswered before the connection is taken for dead.
const SILENCE: Duration = Duration::from_secs(5);
/// The wait before a connection that was lost is made again, in ms; it doubles up to the second one.
const RECONNECT_MS: (u32, u32) = (50, 2_000);
/// How much the waits of several processes differ, in ms.
const JITTER_MS: u32 = 50;
/// The wait before a client that has given up is started again.
const RESTART: Duration = Duration::from_secs(2);
/// How many messages may wait for a slow listener. What comes on top is lost, and the listener learns that it is.
const BACKLOG: usize = 4096;

/// A connection, kept for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    _keeper: JoinSet<()>,
}

impl Link {
    /// Begins to connect and returns at once. `limit` is how long a command may take; none for those that block.
    pub(crate) fn open(address: &Address, limit: Option<Duration>) -> Self {
        let mut builder = Builder::from_config(address.0.clone());
        builder
            .with_connection_config(|config: &mut ConnectionConfig| {
                config.connection_timeout = CONNECT_TIMEOUT;
                config.internal_command_timeout = CONNECT_TIMEOUT;
                config.max_command_attempts = 1;
                config.tcp.nodelay = Some(true);
                config.unresponsive =
                    UnresponsiveConfig { max_timeout: Some(SILENCE), interval: SILENCE / 4 };
            })
            .with_performance_config(|config: &mut PerformanceConfig| {
                config.default_command_timeout = limit.unwrap_or_default();
                config.broadcast_channel_capacity = BACKLOG;
            });
        let (min, max) = RECONNECT_MS;
        let mut policy = ReconnectPolicy::new_exponential(0, min, max, 2);
        policy.set_jitter(JITTER_MS);
        builder.set_policy(policy);
        let client = builder.build().expect("a parsed address is all that a client needs");
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(client.clone()));
        Self { client, _keeper: keeper }
    }
}

/// Keeps the client's own task running: it ends where a fault looks final to it, and no fault of a server is.
async fn keep(client: Client) {
    loop {
        let mut connection = Ending(client.connect());
        if let Ok(Err(error)) = (&mut connection.0).await {
            tracing::debug!(kind = ?Error::kind(&error), "redis client gave up");
        }
        tokio::time::sleep(RESTART).await;
    }
}

/// The client's task, ended with this value.
struct Ending(fred::types::ConnectHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}
