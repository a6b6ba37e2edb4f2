//! Settings that follow the database while a process lives.

use std::{sync::Arc, time::Duration};

use core_config::{
    database::DatabaseSnapshot,
    load::{Loaded, load_lenient_database},
};
use store::{config_rows::ConfigRows, pool::Store, wake::Channel};
use telemetry::chain::error_chain;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::environment::variables;

/// How often the rows are read although nobody said that they changed.
const POLL: Duration = Duration::from_secs(30);

/// Reads the rows again whenever they changed, until the token says stop. `seen` are the rows behind the settings.
///
/// A state with a bad row is refused: the old values stay, marked with the faults (C6), and nothing may be claimed
/// until the row is mended. While the database is away everything stays as it is.
pub(crate) async fn follow(
    store: Store,
    mut seen: DatabaseSnapshot,
    settings: watch::Sender<Arc<Loaded>>,
    stop: CancellationToken,
) {
    let mut wakes = store.wakes(&[Channel::Config]);
    loop {
        // Both arms only wait: a wake-up that is lost by dropping one is made up for by reading all rows.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = time::timeout(POLL, wakes.next()) => {
                refresh(&store, &mut seen, &settings).await;
            }
        }
    }
}

async fn refresh(
    store: &Store,
    seen: &mut DatabaseSnapshot,
    settings: &watch::Sender<Arc<Loaded>>,
) {
    let rows = match store.config_rows().await {
        Ok(rows) => snapshot(rows),
        Err(error) => {
            tracing::debug!(error = %error_chain(&error), "settings not read again");
            return;
        }
    };
    // The rows themselves are compared: whoever writes them by SQL may leave the revision as it is.
    if rows == *seen {
        return;
    }
    seen.clone_from(&rows);
    let old = Arc::clone(&settings.borrow());
    match load_lenient_database(variables(), Some(&rows)) {
        Ok(mut loaded) => match loaded.database_faults.take() {
            None => {
                tracing::info!(settings.revision = rows.revision, "settings changed");
                settings.send_replace(Arc::new(loaded));
            }
            Some(faults) => {
                let marked = old.with_database_faults(rows.revision, faults);
                report(&marked);
                settings.send_replace(Arc::new(marked));
            }
        },
        // The environment of a process does not change, and it was fit at the start.
        Err(faults) => tracing::error!(error = %error_chain(&faults), "settings refused"),
    }
}

/// Logs the faults of rows, once per change of the rows.
pub(crate) fn report(loaded: &Loaded) {
    for fault in loaded.database_faults.iter().flatten() {
        tracing::error!(setting.key = %fault.key, error = %fault, "setting in the database refused");
    }
}

/// The rows of the database in the shape in which settings take them.
pub(crate) fn snapshot(rows: ConfigRows) -> DatabaseSnapshot {
    DatabaseSnapshot { revision: rows.revision, rows: rows.rows }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use store::config_rows::ConfigUpdate;
    use testing::database::TestDatabase;
    use tokio::task::JoinSet;

    use super::*;

    /// Sets one row as a person at a psql prompt would, whatever the table of settings says.
    async fn set(store: &Store, key: &str, value: serde_json::Value) {
        let update = ConfigUpdate { value: Some(value), secret: false };
        let updates = BTreeMap::from([(key.to_owned(), update)]);
        store.set_config_rows(&updates, "test", None).await.expect("the database answers");
    }

    async fn changed(settings: &mut watch::Receiver<Arc<Loaded>>) -> Arc<Loaded> {
        let change = time::timeout(Duration::from_secs(10), settings.changed());
        change.await.expect("a change is seen in time").expect("the follower lives");
        Arc::clone(&settings.borrow_and_update())
    }

    #[tokio::test]
    async fn a_change_is_followed_and_a_bad_one_is_refused_and_marked() {
        let database = TestDatabase::new().await;
        let rows = snapshot(database.store.config_rows().await.unwrap());
        let first = load_lenient_database(variables(), Some(&rows)).unwrap();
        let (sender, mut settings) = watch::channel(Arc::new(first));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(database.store.clone(), rows, sender, stop.clone()));

        set(&database.store, "CANCEL_GRACE_S", json!(7)).await;
        let loaded = changed(&mut settings).await;
        assert_eq!(loaded.settings.cancel_grace, Duration::from_secs(7));
        assert_eq!(loaded.database_faults, None);

        set(&database.store, "CANCEL_GRACE_S", json!("soon")).await;
        let marked = changed(&mut settings).await;
        assert_eq!(marked.settings.cancel_grace, Duration::from_secs(7), "the old state stays");
        assert_eq!(marked.database_faults.as_ref().unwrap().len(), 1);

        set(&database.store, "CANCEL_GRACE_S", json!(9)).await;
        let mended = changed(&mut settings).await;
        assert_eq!(mended.settings.cancel_grace, Duration::from_secs(9));
        assert_eq!(mended.database_faults, None);

        stop.cancel();
        time::timeout(Duration::from_secs(5), tasks.join_next()).await.expect("it stops in time");
    }

    #[tokio::test]
    async fn rows_that_are_changed_by_sql_are_seen_though_their_revision_stays() {
        let database = TestDatabase::new().await;
        let mut seen = snapshot(database.store.config_rows().await.unwrap());
        let first = load_lenient_database(variables(), Some(&seen)).unwrap();
        let (sender, mut settings) = watch::channel(Arc::new(first));
        refresh(&database.store, &mut seen, &sender).await;
        assert!(!settings.has_changed().unwrap(), "nothing is sent for rows that are the same");

        let sql = "INSERT INTO system_config (key, value, updated_at, updated_by)
            VALUES ('CANCEL_GRACE_S', '7', now(), 'psql')";
        database.run(sql).await;
        refresh(&database.store, &mut seen, &sender).await;
        assert_eq!(changed(&mut settings).await.settings.cancel_grace, Duration::from_secs(7));
    }
}
