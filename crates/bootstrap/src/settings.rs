//! Settings that follow the database while a process lives.

use std::{sync::Arc, time::Duration};

use core_config::{database::DatabaseSnapshot, load::Loaded};
use store::{config_rows::ConfigRows, pool::Store, wake::Channel};
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::publishing::{BEAT, Publisher};

/// How often the rows are read although nobody said that they changed.
const POLL: Duration = Duration::from_secs(30);

/// Reads the rows again whenever they changed, until `ended`, and tells others what is in force, until `leaving`. `seen`
/// are the rows behind the settings.
///
/// A state with a bad row is refused: the old values stay, marked with the faults (C6), and nothing may be claimed
/// until the row is mended. While the database is away everything stays as it is.
pub(crate) async fn follow(
    store: Store,
    mut seen: DatabaseSnapshot,
    settings: watch::Sender<Arc<Loaded>>,
    mut publisher: Option<Publisher>,
    leaving: CancellationToken,
    ended: CancellationToken,
) {
    let mut wakes = store.wakes(&[Channel::Config]);
    let mut poll = time::interval(POLL);
    let mut beat = time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // All arms only wait: a wake-up that is lost by dropping one is made up for by reading all rows.
        let look = tokio::select! {
            () = ended.cancelled() => return,
            () = leaving.cancelled(), if publisher.is_some() => {
                if let Some(publisher) = publisher.take() {
                    publisher.retire().await;
                }
                continue;
            }
            _ = wakes.next() => true,
            _ = poll.tick() => true,
            _ = beat.tick() => false,
        };
        if look {
            refresh(&store, &mut seen, &settings).await;
        }
        if let Some(publisher) = &mut publisher {
            let in_force = Arc::clone(&settings.borrow());
            publisher.tell(&in_force).await;
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
    let loaded = settings.borrow().after(&rows);
    match &loaded.database_faults {
        None => tracing::info!(settings.revision = rows.revision, "settings changed"),
        Some(_) => report(&loaded),
    }
    settings.send_replace(Arc::new(loaded));
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

    use core_config::load::load_lenient_database;
    use serde_json::json;
    use store::{agents::HostId, config_rows::ConfigUpdate};
    use testing::{database::TestDatabase, wait::wait_for};
    use tokio::task::JoinSet;

    use super::*;
    use crate::environment::variables;

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
        tasks.spawn(follow(database.store.clone(), rows, sender, None, stop.clone(), stop.clone()));

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

    /// A process that follows the settings of a database, with an environment of its own.
    struct Process {
        settings: watch::Receiver<Arc<Loaded>>,
        leaving: CancellationToken,
        ended: CancellationToken,
        tasks: JoinSet<()>,
    }

    async fn process(
        database: &TestDatabase,
        program: &str,
        variables: &[(&str, &str)],
    ) -> Process {
        let options = store::pool::PoolOptions::new(program);
        let store = Store::connect(&database.url, options).await.unwrap();
        let rows = snapshot(store.config_rows().await.unwrap());
        let base = [("OPENTIGER_STATE_DIR", "/srv")];
        let variables =
            base.iter().chain(variables).map(|(key, value)| ((*key).into(), (*value).into()));
        let first = load_lenient_database(variables, Some(&rows)).unwrap();
        let (sender, settings) = watch::channel(Arc::new(first));
        let publisher = Publisher::new(store.clone(), program, &HostId::new("here"));
        let (leaving, ended) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(store, rows, sender, publisher, leaving.clone(), ended.clone()));
        Process { settings, leaving, ended, tasks }
    }

    impl Process {
        async fn stops(mut self) {
            self.ended.cancel();
            time::timeout(Duration::from_secs(5), self.tasks.join_next()).await.expect("it stops");
        }
    }

    /// Waits until the live processes have told something.
    async fn told(
        store: &Store,
        fits: impl Fn(&[store::process_settings::LiveSettings]) -> bool,
    ) -> Vec<store::process_settings::LiveSettings> {
        wait_for("the processes to have told", Duration::from_secs(10), async || {
            let live = store.live_settings().await.unwrap();
            if fits(&live) { Ok(live) } else { Err(format!("{live:?}")) }
        })
        .await
    }

    #[tokio::test]
    async fn a_change_reaches_every_process_within_a_second() {
        let database = TestDatabase::new().await;
        let mut one = process(&database, "dispatcher", &[]).await;
        let mut two = process(&database, "worker", &[("TASK_TIMEBOX_S", "60")]).await;
        told(&database.store, |live| live.len() == 2).await;
        let mut fastest = Duration::MAX;
        for grace in 1..=3 {
            let began = std::time::Instant::now();
            set(&database.store, "CANCEL_GRACE_S", json!(grace)).await;
            for settings in [&mut one.settings, &mut two.settings] {
                let loaded = changed(settings).await;
                assert_eq!(loaded.settings.cancel_grace, Duration::from_secs(grace));
            }
            fastest = fastest.min(began.elapsed());
        }
        // A loaded machine may be slow once, and never as slow as looking by itself every half a minute.
        assert!(fastest < Duration::from_secs(1), "{fastest:?}");
        set(&database.store, "TASK_TIMEBOX_S", json!(90)).await;
        assert_eq!(changed(&mut one.settings).await.settings.task_timebox.as_secs(), 90);
        let here = changed(&mut two.settings).await;
        assert_eq!(here.settings.task_timebox.as_secs(), 60, "the environment wins in its process");
        one.stops().await;
        two.stops().await;
    }

    #[tokio::test]
    async fn processes_tell_what_their_environment_sets_and_where_they_differ() {
        let database = TestDatabase::new().await;
        let key = ("ANTHROPIC_API_KEY", "hunter2-hunter2-0001");
        let one = process(&database, "dispatcher", &[("CANCEL_GRACE_S", "3"), key]).await;
        let two = process(&database, "worker", &[]).await;
        let both = |live: &[store::process_settings::LiveSettings]| live.len() == 2;
        let live = told(&database.store, both).await;
        let of = |program: &str| {
            let said = live.iter().map(|live| &live.said).find(|said| said.program == program);
            said.expect("it told").clone()
        };
        let (dispatcher, worker) = (of("dispatcher"), of("worker"));
        assert_eq!(dispatcher.environment.len(), 3, "{:?}", dispatcher.environment);
        let differing: Vec<&str> = (dispatcher.fingerprints.iter())
            .filter(|(key, print)| worker.fingerprints[*key] != **print)
            .map(|(key, _)| key.as_str())
            .collect();
        assert_eq!(differing, ["ANTHROPIC_API_KEY", "CANCEL_GRACE_S"]);
        assert!(!format!("{live:?}").contains("hunter2"));

        set(&database.store, "CANCEL_GRACE_S", json!(3)).await;
        let equal = |live: &[store::process_settings::LiveSettings]| {
            let prints: Vec<&String> =
                live.iter().map(|live| &live.said.fingerprints["CANCEL_GRACE_S"]).collect();
            prints.len() == 2 && prints[0] == prints[1]
        };
        told(&database.store, equal).await;
        one.leaving.cancel();
        let alone = told(&database.store, |live| live.len() == 1).await;
        assert_eq!(alone[0].said.program, "worker", "who is stopping is not listed any more");
        one.stops().await;
        two.stops().await;
    }
}
