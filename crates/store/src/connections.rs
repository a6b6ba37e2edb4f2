//! Pooled connections, each lent until a moment.
//!
//! A server that is stopped, or a network that swallows everything, would leave a call waiting for ever: the timeouts
//! of a session are kept by the server, and those of TCP are content while the other side's kernel answers. So whoever
//! takes a connection says until when; at that moment the task that drives the connection drops it, and with it
//! whatever waits for an answer on it. What was under way may or may not have been done, as with any lost connection.
//!
//! It knows no table and tries nothing again.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult},
};
use deadpool_postgres::{ClientWrapper, Transaction};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_postgres::{Config, Error, NoTls, Row, Socket, tls::NoTlsStream, types::ToSql};

use crate::error::StoreError;

/// How long one attempt to connect may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Set on every pooled connection.
///
/// The timeouts end what a stopped or partitioned client left open (it may hold a lane or the claim gate). Every
/// statement here is served by an index; the planner may not choose otherwise, because a plan that was made and
/// cached while the tables were empty would outlive that. So it need not plan again for each call either: that took
/// longer than the statements themselves.
const SESSION: &str = "
    SET statement_timeout = '30s';
    SET lock_timeout = '15s';
    SET idle_in_transaction_session_timeout = '10s';
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
";

/// The pool. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    pool: Pool<Connector>,
}

impl Connections {
    pub(crate) fn new(config: Config, max_size: usize, acquire_timeout: Duration) -> Self {
        let pool = Pool::builder(Connector { config })
            .max_size(max_size.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(acquire_timeout))
            .create_timeout(Some(CONNECT_TIMEOUT.saturating_mul(2)))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .build()
            .expect("a pool with timeouts builds when its runtime is set");
        Self { pool }
    }

    /// Takes a connection that is dropped at `until`, if it is not given back before.
    pub(crate) async fn lend(&self, until: Instant) -> Result<Connection, StoreError> {
        let driven = timeout_at(until, self.pool.get())
            .await
            .map_err(|elapsed| StoreError::Unavailable { source: Box::new(elapsed) })??;
        driven.until.send_replace(Some(until));
        Ok(Connection { driven, until })
    }

    /// Closes what nobody has taken.
    pub(crate) fn discard_idle(&self) {
        discard_idle(&self.pool);
    }
}

fn discard_idle(pool: &Pool<Connector>) {
    let discarded = pool.retain(|_, _| false).removed.len();
    tracing::debug!(connections.discarded = discarded, "idle connections discarded");
}

/// A connection on loan.
#[derive(Debug)]
pub(crate) struct Connection {
    driven: Object<Connector>,
    until: Instant,
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.driven.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.driven.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driven.until.send_replace(None);
        // Those that are idle go the same way to the same server; new ones find out whether it is back.
        if Instant::now() >= self.until
            && let Some(pool) = Object::pool(&self.driven)
        {
            discard_idle(&pool);
        }
    }
}

/// A connection, or a transaction on one.
pub(crate) trait Statements: Sync {
    /// Prepares a statement once for each connection, and runs it.
    fn query_cached(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;
}

impl Statements for Connection {
    async fn query_cached(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let statement = self.prepare_cached(sql).await?;
        self.query(&statement, params).await
    }
}

impl Statements for Transaction<'_> {
    async fn query_cached(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let statement = self.prepare_cached(sql).await?;
        self.query(&statement, params).await
    }
}

/// Makes connections for the pool.
#[derive(Debug)]
struct Connector {
    config: Config,
}

/// A connection and the moment at which its driver drops it; none while it is idle.
#[derive(Debug)]
struct Driven {
    client: ClientWrapper,
    until: watch::Sender<Option<Instant>>,
}

impl Manager for Connector {
    type Type = Driven;
    type Error = Error;

    #[expect(clippy::disallowed_methods, reason = "the client owns its driver: it ends with it")]
    async fn create(&self) -> Result<Driven, Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        let (until, due) = watch::channel(None);
        let client = ClientWrapper::new(client, tokio::spawn(drive(connection, due)));
        client.batch_execute(SESSION).await?;
        Ok(Driven { client, until })
    }

    async fn recycle(&self, driven: &mut Driven, _: &Metrics) -> RecycleResult<Error> {
        if driven.client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        Ok(())
    }
}

/// Works for a connection until it ends or its moment has come.
async fn drive(
    connection: tokio_postgres::Connection<Socket, NoTlsStream>,
    until: watch::Receiver<Option<Instant>>,
) {
    // Neither arm need be cancel-safe: the connection ends with either.
    let ended = tokio::select! {
        ended = connection => ended,
        () = passed(until) => {
            tracing::warn!("the database did not answer in time, connection dropped");
            return;
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection to the database ended");
    }
}

/// Waits for the moment; for ever where none comes.
async fn passed(mut until: watch::Receiver<Option<Instant>>) {
    loop {
        let due = *until.borrow_and_update();
        let moment = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        // Both arms are cancel-safe: a change stays unseen until `borrow_and_update`.
        tokio::select! {
            () = moment => return,
            changed = until.changed() => {
                if changed.is_err() {
                    // The client is gone; the connection ends by itself.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}
