//! The real programs, managed by this one: what lives on when it dies, and what the next one makes of it.

use std::{collections::BTreeMap, time::Duration};

use launcher::{
    handle::{LaunchState, StopRequest},
    launcher::Launcher as _,
    process::ProcessLauncher,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::{database::TestDatabase, programs::built_program, wait::wait_for};

use crate::program::{self, Program, reachable_directory};

/// Real programs connect, migrate and register before they are ready.
const DEADLINE: Duration = Duration::from_secs(60);
const FIVE: [&str; 5] = ["dispatcher", "worker-1", "worker-2", "tester-1", "docser-1"];

/// A state directory and a database for any number of servers, one after another or at once.
struct House {
    state: TempDir,
    database: Option<TestDatabase>,
}

impl House {
    async fn new() -> Self {
        for package in ["dispatcher", "worker"] {
            assert!(built_program(package, package).is_file());
        }
        Self { state: reachable_directory(), database: Some(TestDatabase::new().await) }
    }

    /// Starts a server that may manage; its address.
    fn serve(&self, workers: Option<&str>) -> (Program, String) {
        let state = self.state.path().to_str().expect("the path is text");
        let mut variables = vec![
            ("OPENTIGER_PROCESS_MANAGER", "on"),
            ("OPENTIGER_STATE_DIR", state),
            ("HOME", state),
            ("PROCESS_RESTART_DELAY_MS", "10"),
        ];
        variables.extend(workers.map(|count| ("WORKER_COUNT", count)));
        if let Some(database) = &self.database {
            variables.push(("DATABASE_URL", database.url.expose()));
        }
        let mut server = Program::start(&[], &variables);
        let address = server.address();
        (server, address)
    }

    /// Names and pids of the processes that are alive, as the launches say.
    async fn alive(&self) -> Vec<String> {
        let launcher = ProcessLauncher::new(self.state.path().to_path_buf());
        let found = launcher.expect("the directory can be used").discover().await;
        let found = found.expect("launches can be listed");
        let alive = found.into_iter().filter(|one| !matches!(one.state, LaunchState::Ended(_)));
        alive.filter_map(|one| one.labels.get("opentiger.process").cloned()).collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let state = self.state.path().to_path_buf();
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let Ok(launcher) = ProcessLauncher::new(state) else { return };
                for found in launcher.discover().await.unwrap_or_default() {
                    if let Ok(handle) = launcher.attach(&found.record).await {
                        handle.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
                    }
                }
            });
        });
        // A second panic would hide the first.
        ending.join().ok();
    }
}

/// Each listed process with what is said of it.
fn listed(address: &str) -> BTreeMap<String, Value> {
    let list = program::json(&program::get(address, "/system/processes"));
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| item["name"].as_str().unwrap_or_default().to_owned();
    items.into_iter().map(|item| (name(&item), item)).collect()
}

/// Waits until exactly these run; their pids.
async fn running(address: &str, names: &[&str]) -> BTreeMap<String, i64> {
    wait_for(&format!("{names:?} to run"), DEADLINE, async || {
        let listed = listed(address);
        let pids: BTreeMap<String, i64> = listed
            .iter()
            .filter(|(_, item)| item["state"] == "running")
            .filter_map(|(name, item)| Some((name.clone(), item["pid"].as_i64()?)))
            .collect();
        let live = listed.values().filter(|item| {
            matches!(item["state"].as_str(), Some("running" | "starting" | "stopping"))
        });
        let complete = pids.len() == names.len() && live.count() == names.len();
        if complete && names.iter().all(|name| pids.contains_key(*name)) {
            Ok(pids)
        } else {
            Err(format!("{listed:?}"))
        }
    })
    .await
}

/// Waits until a task would be done.
async fn ready(address: &str) {
    wait_for("the system to be ready", DEADLINE, async || {
        let answer = program::get(address, "/health/ready");
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
}

fn kill(pid: i64) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it runs");
}

#[tokio::test]
async fn five_processes_are_adopted_after_a_kill_and_an_end_meanwhile_is_reported() {
    let house = House::new().await;
    let (mut server, address) = house.serve(Some("2"));
    let before = running(&address, &FIVE).await;
    ready(&address).await;
    let one = &listed(&address)["worker-1"];
    assert!(one["memory_bytes"].as_u64().unwrap() > 1 << 20, "{one}");
    assert!(one["uptime_s"].is_u64() && one["started_at"].is_string() && one["cpu_ms"].is_u64());
    server.signal(Signal::KILL);
    assert_eq!(server.exit_code(), None);
    assert_eq!(house.alive().await.len(), 5, "they live on");
    kill(before["tester-1"]);

    let (_server, address) = house.serve(Some("2"));
    wait_for("the tester to be started anew", DEADLINE, async || {
        let tester = listed(&address)["tester-1"].clone();
        if tester["generation"] == 2 { Ok(()) } else { Err(tester.to_string()) }
    })
    .await;
    let after = running(&address, &FIVE).await;
    for name in ["dispatcher", "worker-1", "worker-2", "docser-1"] {
        assert_eq!(after[name], before[name], "{name} is the same process");
    }
    let tester = &listed(&address)["tester-1"];
    assert_ne!(after["tester-1"], before["tester-1"]);
    assert_eq!(tester["last_exit"]["outcome"], "ended by signal 9");
    assert_eq!((&tester["last_exit"]["unasked"], &tester["restarts"]), (&json!(true), &json!(1)));
    ready(&address).await;
    let log = program::json(&program::get(&address, "/system/processes/dispatcher/log?lines=50"));
    assert!(!log["lines"].as_array().unwrap().is_empty(), "{log}");
}

#[tokio::test]
async fn of_two_servers_one_manages_and_either_is_asked_until_the_other_goes_on_alone() {
    let house = House::new().await;
    let (first, first_address) = house.serve(Some("1"));
    let four = ["dispatcher", "worker-1", "tester-1", "docser-1"];
    let before = running(&first_address, &four).await;
    let (_second, second_address) = house.serve(Some("1"));
    assert_eq!(running(&second_address, &four).await, before);
    program::json(&program::post(&second_address, "/system/processes/docser-1/stop", "{}"));
    let three = ["dispatcher", "worker-1", "tester-1"];
    running(&first_address, &three).await;
    first.signal(Signal::KILL);
    program::json(&program::post(&second_address, "/system/processes/docser-1/start", "{}"));
    let after = running(&second_address, &four).await;
    for name in three {
        assert_eq!(after[name], before[name], "{name} is the same process");
    }
    assert_eq!(house.alive().await.len(), 4);
}

#[tokio::test]
async fn a_manager_that_is_suspended_is_followed_by_another_and_changes_nothing_when_it_returns() {
    let house = House::new().await;
    let (first, first_address) = house.serve(Some("1"));
    let before = running(&first_address, &["dispatcher", "worker-1", "tester-1", "docser-1"]).await;
    let (_second, address) = house.serve(Some("1"));
    first.signal(Signal::STOP);
    // What it would see when it returns: an end, and a wish.
    kill(before["tester-1"]);
    program::json(&program::post(&address, "/system/processes/docser-1/stop", "{}"));
    let three = ["dispatcher", "worker-1", "tester-1"];
    wait_for("the other one to manage", DEADLINE, async || {
        let tester = listed(&address)["tester-1"].clone();
        if tester["generation"] == 2 { Ok(()) } else { Err(tester.to_string()) }
    })
    .await;
    let after = running(&address, &three).await;
    for name in ["dispatcher", "worker-1"] {
        assert_eq!(after[name], before[name], "{name} is the same process");
    }
    let store = &house.database.as_ref().expect("it has one").store;
    let rows = store.processes().await.unwrap();
    first.signal(Signal::CONT);
    wait_for("the first one to learn it", DEADLINE, async || {
        let said = first.said();
        let over = ["the lock of the process manager is lost", "another one manages processes"];
        if over.iter().any(|text| said.contains(text)) { Ok(()) } else { Err(said) }
    })
    .await;
    // It answers again, as one that does not manage.
    assert_eq!(running(&first_address, &three).await, after);
    assert_eq!(store.processes().await.unwrap(), rows);
    let mut alive = house.alive().await;
    alive.sort();
    assert_eq!(alive, ["dispatcher", "tester-1", "worker-1"]);
}

#[tokio::test]
async fn a_count_that_is_changed_is_followed_and_everything_can_be_stopped_for_good() {
    let house = House::new().await;
    let (mut server, address) = house.serve(None);
    let set = json!({ "WORKER_COUNT": 2, "TESTER_COUNT": 0, "DOCSER_COUNT": 0 });
    program::json(&program::patch_config(&address, &set));
    running(&address, &["dispatcher", "worker-1", "worker-2"]).await;
    program::json(&program::patch_config(&address, &json!({ "WORKER_COUNT": 1 })));
    let two = running(&address, &["dispatcher", "worker-1"]).await;

    // A server that is asked to end leaves them.
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));
    let (mut server, address) = house.serve(None);
    assert_eq!(running(&address, &["dispatcher", "worker-1"]).await, two);

    let all = program::json(&program::post(&address, "/system/processes/stop-all", ""));
    let stopping: Vec<&Value> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["result"] == "stopping")
        .collect();
    assert_eq!(stopping.len(), 2, "{all}");
    running(&address, &[]).await;
    assert_eq!(house.alive().await, Vec::<String>::new());
    assert_eq!(listed(&address)["worker-1"]["last_exit"]["outcome"], "exited with 0, as asked");
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));
    let (_server, address) = house.serve(None);
    running(&address, &[]).await;
    program::json(&program::post(&address, "/system/processes/start-all", ""));
    running(&address, &["dispatcher", "worker-1"]).await;
}

#[tokio::test]
async fn with_nothing_configured_the_processes_find_the_private_database() {
    let mut house = House::new().await;
    house.database = None;
    let (_server, address) = house.serve(Some("1"));
    running(&address, &["dispatcher", "worker-1", "tester-1", "docser-1"]).await;
    ready(&address).await;
}
