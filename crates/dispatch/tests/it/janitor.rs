//! What the janitor leaves alone.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use core_config::load::{Loaded, load};
use core_types::outcome::{RunOutcome, RunReport};
use dispatch::{complaints::Complaints, janitor::Janitor, retention};
use launcher::launcher::Launcher;
use testing::wait::wait_for;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, LEASE, Worker, end, is_running};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_runs_or_belongs_to_a_run_that_is_not_over_is_not_swept() {
    let bench = Bench::new().await;
    let key = bench.started(Worker::Alive, LEASE).await;
    let ended = bench.launched(&key.run.to_string()).await;
    end(&ended).await;
    let server = bench.launched("embedded-postgres").await;
    let launcher: Arc<dyn Launcher> = Arc::clone(&bench.faulty) as Arc<dyn Launcher>;
    let checkouts = Arc::clone(&bench.checkouts);
    let store = bench.database.store.clone();
    let janitor = Janitor { store, launcher, sandboxes: None, checkouts, settings: settings(&[]) };
    janitor.sweep(&mut Complaints::default()).await;
    assert!(is_running(&server));
    assert_eq!(bench.launcher.discover().await.unwrap().len(), 2);
    end(&server).await;
}

#[tokio::test]
async fn mirrors_that_no_run_used_for_long_are_swept() {
    let bench = Bench::new().await;
    let mirrors = bench.state.path().join("mirrors");
    let days = |days: u32| SystemTime::now() - Duration::from_secs(24 * 3600) * days;
    for (key, used) in [("0".repeat(32), days(31)), ("1".repeat(32), days(29))] {
        fs::create_dir_all(mirrors.join(&key)).unwrap();
        let noted = fs::File::create(mirrors.join(&key).join("url")).unwrap();
        noted.set_modified(used).unwrap();
    }
    // A result is kept as long, however often its mirror is used.
    let results = mirrors.join("1".repeat(32)).join("repo.git/refs/opentiger/results");
    fs::create_dir_all(&results).unwrap();
    for since in [days(31), days(29)] {
        let name = core_types::ids::RunId::generate().to_string();
        fs::File::create(results.join(name)).unwrap().set_modified(since).unwrap();
    }
    let kept = || fs::read_dir(&results).unwrap().count();
    let launcher: Arc<dyn Launcher> = Arc::clone(&bench.faulty) as Arc<dyn Launcher>;
    let checkouts =
        Arc::new(checkout::checkouts::Checkouts::clone(&bench.checkouts).with_mirrors(mirrors));
    let sweep = async |keep: &[(&str, &str)]| {
        let janitor = Janitor {
            sandboxes: None,
            store: bench.database.store.clone(),
            launcher: Arc::clone(&launcher),
            checkouts: Arc::clone(&checkouts),
            settings: settings(keep),
        };
        janitor.sweep(&mut Complaints::default()).await;
        let left = checkouts.mirrors().unwrap().list().await.unwrap();
        left.into_iter().map(|mirror| mirror.key).collect::<Vec<_>>()
    };
    assert_eq!(sweep(&[("MIRROR_KEEP_DAYS", "0")]).await.len(), 2);
    assert_eq!(kept(), 2);
    assert_eq!(sweep(&[]).await, ["1".repeat(32)]);
    assert_eq!(kept(), 1);
    assert_eq!(sweep(&[("MIRROR_KEEP_DAYS", "28")]).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_over_is_kept_for_as_long_as_the_settings_say() {
    let bench = Bench::new().await;
    let store = &bench.database.store;
    let ended = async |days: u32| {
        let (key, agent) = bench.handed_out(Worker::Alive, LEASE).await;
        store.start_run(key, agent).await.unwrap();
        let mut report = RunReport::new(RunOutcome::Succeeded);
        report.commit = Some("a".repeat(40));
        report.branch = Some("opentiger/x-1".to_owned());
        store.finish_run(key, &report).await.unwrap();
        store.retire_agent(agent).await.unwrap();
        let id = bench.run(key).await.task;
        let age = format!(
            "UPDATE tasks SET finished_at = now() - interval '{days} days'
             WHERE id = replace('{id}', 'task-', '')::uuid"
        );
        bench.database.run(&age).await;
        id
    };
    let (old, young) = (ended(8).await, ended(6).await);
    let running = bench.run(bench.started(Worker::Alive, LEASE).await).await.task;
    let left = async || {
        let mut left = Vec::new();
        for id in [old, young, running] {
            left.push(store.task(id).await.unwrap().is_some());
        }
        left
    };
    assert!(retention::remove(store, None).await.unwrap());
    assert_eq!(left().await, [true, true, true], "for ever");
    // It looks by itself each hour only, so what goes here goes because a setting was changed.
    let (changes, settings) = watch::channel(loaded(&[]));
    let (stop, mut keeping) = (CancellationToken::new(), JoinSet::new());
    keeping.spawn(retention::keep_small(store.clone(), settings, stop.clone()));
    for (days, stay) in [("7", [false, true, true]), ("5", [false, false, true])] {
        changes.send_replace(loaded(&[("TASK_RETENTION_DAYS", days)]));
        wait_for("what is too old to go", LONG, async || {
            let left = left().await;
            if left == stay { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
    stop.cancel();
    keeping.join_all().await;
    assert_eq!(left().await, [false, false, true], "what runs is not over");
}

/// Settings that stay as they are.
fn settings(environment: &[(&str, &str)]) -> watch::Receiver<Arc<Loaded>> {
    watch::channel(loaded(environment)).1
}

fn loaded(environment: &[(&str, &str)]) -> Arc<Loaded> {
    let environment = environment.iter().map(|(key, value)| (key.into(), value.into()));
    Arc::new(load(environment, None).expect("they are right"))
}
