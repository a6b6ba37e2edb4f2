//! Who manages the processes: the holder of one advisory lock, on a connection of its own.
//!
//! The lock belongs to the session, so whoever dies, or loses the connection, has lost it in that moment. The epoch
//! makes that known to the writes that are still under way.
//!
//! A holder that is suspended keeps its session, and the system would answer for it for ever. Therefore it gives a sign
//! on that session every other second, which the database notes as the session's last change of state, and who waits for
//! the lock ends a session without a sign. No clock takes part: the one who waits sees the same sign for long enough.

use std::{fmt, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
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
/// How often the holder asks whether the connection is there, which is its sign of life.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long the same sign may be seen of a holder: five were missed.
const SILENT_FOR: Duration = Duration::from_secs(12);
/// Who waits and did not look for longer than this has seen no silence: it may have been suspended itself.
const GAP: Duration = Duration::from_secs(3);
/// The session that holds the lock, while it waits for its client, with what tells its last sign from any other. Nothing
/// is seen of it where the database does not track activities, or the session is another role's.
const HOLDER: &str = "
    SELECT activity.pid, concat_ws(' ', pid, backend_start, state_change) AS sign
    FROM pg_stat_activity AS activity JOIN pg_locks AS lock USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
        AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (lock.classid::bigint << 32) + lock.objid::bigint = $1
        AND activity.state <> 'active' AND activity.state_change IS NOT NULL";

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
        let mut watch = Watch::default();
        loop {
            let trying = client.query_one("SELECT pg_try_advisory_lock($1) AS taken", &[&LOCK]);
            let row = timeout(SIGN_OF_LIFE, trying).await.map_err(silent)??;
            if get(&row, "taken")? {
                break;
            }
            let sign = timeout(SIGN_OF_LIFE, last_sign(&client)).await.map_err(silent)??;
            if watch.is_silent(sign.as_deref(), Instant::now()) {
                timeout(SIGN_OF_LIFE, end_session(&client, sign)).await.map_err(silent)?;
                watch = Watch::default();
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

/// What is seen of the holder by one who waits.
#[derive(Debug, Default)]
struct Watch {
    /// The last sign, and since when no other one was seen.
    seen: Option<(String, Instant)>,
    looked: Option<Instant>,
}

impl Watch {
    /// Takes note of the holder's last sign, and tells whether it has given none for as long as a holder may not.
    fn is_silent(&mut self, sign: Option<&str>, now: Instant) -> bool {
        let looked = self.looked.replace(now);
        let has_gap = looked.is_none_or(|looked| now.duration_since(looked) > GAP);
        match &self.seen {
            Some((seen, since)) if !has_gap && Some(seen.as_str()) == sign => {
                now.duration_since(*since) >= SILENT_FOR
            }
            Some(_) | None => {
                self.seen = sign.map(|sign| (sign.to_owned(), now));
                false
            }
        }
    }
}

async fn last_sign(client: &Client) -> Result<Option<String>, StoreError> {
    let row = client.query_opt(HOLDER, &[&LOCK]).await?;
    row.map(|row| get(&row, "sign")).transpose()
}

/// Ends the session that gave this sign last, and no other. Where that is not allowed it goes on as it is.
async fn end_session(client: &Client, sign: Option<String>) {
    let sql = format!("SELECT pg_terminate_backend(pid) FROM ({HOLDER}) AS holder WHERE sign = $2");
    let params: &[&(dyn ToSql + Sync)] = &[&LOCK, &sign];
    match client.query(&sql, params).await {
        Ok(_) => {
            tracing::warn!("the manager of processes gave no sign, its lock was taken from it")
        }
        Err(error) => {
            let error = StoreError::from(error);
            tracing::warn!(error = %error, "the manager of processes gives no sign, its lock cannot be taken");
        }
    }
}

fn silent(elapsed: tokio::time::error::Elapsed) -> StoreError {
    StoreError::Unavailable { source: Box::new(elapsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these signs, one a second, and says at which the holder was silent.
    fn silent_at(signs: impl IntoIterator<Item = Option<&'static str>>) -> Option<usize> {
        let (mut watch, begin) = (Watch::default(), Instant::now());
        let mut seconds = 0..;
        signs.into_iter().position(|sign| {
            let second = seconds.next().unwrap_or_default();
            watch.is_silent(sign, begin + Duration::from_secs(second))
        })
    }

    #[test]
    fn a_holder_is_silent_that_shows_the_same_sign_for_long_enough() {
        let quiet = usize::try_from(SILENT_FOR.as_secs()).unwrap();
        assert_eq!(silent_at([Some("a"); 60]), Some(quiet));
        let once_more = [Some("a"); 12].into_iter().chain([Some("b"); 60]);
        assert_eq!(silent_at(once_more), Some(12 + quiet));
        // Busy or not to be seen in between.
        let busy = [Some("a"); 12].into_iter().chain([None]).chain([Some("a"); 60]);
        assert_eq!(silent_at(busy), Some(13 + quiet));
        assert_eq!(silent_at([None; 60]), None);
        assert_eq!(silent_at((0..60).map(|at| Some(if at % 2 == 0 { "a" } else { "b" }))), None);
    }

    #[test]
    fn who_did_not_look_has_seen_no_silence() {
        let (mut watch, begin) = (Watch::default(), Instant::now());
        assert!(!watch.is_silent(Some("a"), begin));
        let late = begin + SILENT_FOR + GAP;
        assert!(!watch.is_silent(Some("a"), late), "it was suspended itself");
        for second in 1..SILENT_FOR.as_secs() {
            assert!(!watch.is_silent(Some("a"), late + Duration::from_secs(second)));
        }
        assert!(watch.is_silent(Some("a"), late + SILENT_FOR));
    }
}
