//! Who manages the processes: the holder of one advisory lock, on a connection of its own.
//!
//! The lock belongs to the session, so whoever dies, or loses the connection, has lost it in that moment. The epoch
//! makes that known to the writes that are still under way.

use std::{fmt, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls, types::ToSql};

use crate::{
    agents::HostId,
    connections::CONNECT_TIMEOUT,
    error::StoreError,
    pool::{SIGN_OF_LIFE, Store},
    row::get,
};

/// Names the lock; positive, so that its halves are what `pg_locks` shows.
pub(super) const LOCK: i64 = 0x6f54_7072_6f63_6573;
/// So that the server lets go of the lock of a manager whose host vanished, and no default cuts the session off.
const SESSION: &str = "
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET statement_timeout = '10s'";
/// How often the lock is tried.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// How often the holder asks whether the connection is there.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The lock, held. Dropping it lets go.
pub struct Managership {
    epoch: i64,
    instance: String,
    client: Client,
    connection: JoinSet<()>,
}

impl fmt::Debug for Managership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Managership").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Managership {
    /// What each write of this manager carries.
    #[must_use]
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Tells the launches of this database from those of others: twelve hexadecimal digits.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Waits until the lock is lost.
    ///
    /// # Cancel safety
    /// Cancel safe: the next call finds what this one had not seen yet.
    pub async fn lost(&mut self) {
        loop {
            // Neither arm loses anything: an ended connection stays ended, and time is only waited for.
            tokio::select! {
                _ = self.connection.join_next() => return,
                () = sleep(ASK_EVERY) => {}
            }
            let answer = timeout(SIGN_OF_LIFE, self.client.simple_query("")).await;
            if !matches!(answer, Ok(Ok(_))) {
                return;
            }
        }
    }
}

impl Store {
    /// Waits until this process manages the processes of the system.
    ///
    /// # Cancel safety
    /// Cancel safe: it begins anew.
    pub async fn manage_processes(&self, host: &HostId) -> Managership {
        loop {
            match self.try_manage(host).await {
                Ok(managership) => return managership,
                Err(error) => {
                    tracing::debug!(error = %error, "processes cannot be managed now");
                    sleep(TRY_EVERY).await;
                }
            }
        }
    }

    async fn try_manage(&self, host: &HostId) -> Result<Managership, StoreError> {
        let connecting = timeout(CONNECT_TIMEOUT, self.config().connect(NoTls)).await;
        let (client, driver) = connecting.map_err(silent)??;
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            // How it ends shows in the statements of its client.
            driver.await.ok();
        });
        timeout(SIGN_OF_LIFE, client.batch_execute(SESSION)).await.map_err(silent)??;
        loop {
            let trying = client.query_one("SELECT pg_try_advisory_lock($1) AS taken", &[&LOCK]);
            let row = timeout(SIGN_OF_LIFE, trying).await.map_err(silent)??;
            if get(&row, "taken")? {
                break;
            }
            sleep(TRY_EVERY).await;
        }
        let host = host.as_str();
        let params: &[&(dyn ToSql + Sync)] = &[&host];
        let taking = client.query_one(
            "UPDATE process_manager SET epoch = epoch + 1, host = $1, since = clock_timestamp()
             RETURNING epoch, substr(md5(instance ||
                 (SELECT oid::text FROM pg_database WHERE datname = current_database())), 1, 12) AS instance",
            params,
        );
        let row = timeout(SIGN_OF_LIFE, taking).await.map_err(silent)??;
        Ok(Managership {
            epoch: get(&row, "epoch")?,
            instance: get(&row, "instance")?,
            client,
            connection,
        })
    }
}

fn silent(elapsed: tokio::time::error::Elapsed) -> StoreError {
    StoreError::Unavailable { source: Box::new(elapsed) }
}
