//! Settings that say what runs, while it runs.

use core_types::process::ProcessState::{Running, Skipped, Stopped, Stopping};

use crate::stage::{Stage, is_alive, of};

#[tokio::test]
async fn counts_are_followed_up_and_down() {
    let stage = Stage::managed(&[("WORKER_COUNT", "1"), ("DOCSER_COUNT", "1")]).await;
    stage.wait_alive(&["dispatcher", "docser-1", "worker-1"]).await;
    stage.set(&[("WORKER_COUNT", "3"), ("DISPATCHER_ENABLED", "false")]);
    stage.wait_alive(&["worker-1", "worker-2", "worker-3"]).await;
    stage.set(&[("WORKER_COUNT", "1")]);
    stage.wait_alive(&["dispatcher", "worker-1"]).await;
    let list = stage.control.list(&stage.settings()).await.unwrap();
    let states: Vec<String> =
        list.iter().map(|info| format!("{} {}", info.name, info.state)).collect();
    assert_eq!(
        states,
        [
            "dispatcher running",
            "worker-1 running",
            "worker-2 stopped",
            "worker-3 stopped",
            "docser-1 stopped"
        ]
    );
    assert_eq!(stage.show("worker-1").await.generation, Some(1), "it ran all the time");
}

#[tokio::test]
async fn in_the_sandbox_environment_no_agent_is_started_and_a_start_says_why() {
    let sandbox = [("EXECUTION_ENVIRONMENT", "sandbox"), ("WORKER_COUNT", "1")];
    let stage = Stage::managed(&sandbox).await;
    stage.wait("dispatcher", Running).await;
    let skipped = stage.show("worker-1").await;
    assert_eq!(skipped.state, Skipped);
    assert!(skipped.message.unwrap().contains("sandbox"));
    let asked = stage.control.start(of("tester-1"), &stage.settings()).await.unwrap();
    assert!(asked.skipped.unwrap().contains("`EXECUTION_ENVIRONMENT` is `sandbox`"));
    assert!(stage.database.store.process_wishes().await.unwrap().is_empty(), "nothing is noted");
    stage.wait_alive(&["dispatcher"]).await;
    stage.set(&[("WORKER_COUNT", "1")]);
    stage.wait_alive(&["dispatcher", "worker-1"]).await;
}

#[tokio::test]
async fn what_a_row_that_cannot_be_used_would_decide_stays_as_it_is() {
    let mut stage = Stage::new(&[]).await;
    let one = [("WORKER_COUNT", "1")];
    stage.set_with_rows(&one, &[("EXECUTION_ENVIRONMENT", "cloud")]);
    stage.manage();
    stage.wait("dispatcher", Running).await;
    // Each look is at all names, and the dispatcher is the first of them.
    stage.control.restart(of("dispatcher"), &stage.settings()).await.unwrap();
    stage.wait_generation("dispatcher", 2).await;
    let rows = stage.database.store.processes().await.unwrap();
    assert_eq!(
        rows.len(),
        1,
        "an agent on the host, which may be meant to be in a sandbox: {rows:?}"
    );
    let asked = stage.control.start(of("worker-1"), &stage.settings()).await.unwrap();
    assert_eq!(asked.skipped, None);
    stage.control.restart(of("dispatcher"), &stage.settings()).await.unwrap();
    stage.wait_generation("dispatcher", 3).await;
    assert_eq!(stage.database.store.processes().await.unwrap().len(), 1);
    stage.set(&one);
    stage.wait_alive(&["dispatcher", "worker-1"]).await;

    stage.set_with_rows(&[], &[("DISPATCHER_ENABLED", "no idea"), ("WORKER_COUNT", "many")]);
    stage.control.restart(of("dispatcher"), &stage.settings()).await.unwrap();
    stage.wait_generation("dispatcher", 4).await;
    assert_eq!(stage.show("worker-1").await.generation, Some(1), "it runs on");
    stage.wait_alive(&["dispatcher", "worker-1"]).await;
    stage.control.stop(of("worker-1"), &stage.settings()).await.unwrap();
    stage.wait("worker-1", Stopped).await;
}

#[tokio::test]
async fn a_change_to_the_sandbox_environment_lets_a_busy_agent_finish_its_run() {
    let stage = Stage::managed(&[("WORKER_COUNT", "2")]).await;
    let busy = stage.wait_generation("worker-1", 1).await;
    let idle = stage.wait_generation("worker-2", 1).await;
    for (name, pid) in [("worker-1", busy), ("worker-2", idle)] {
        agent(&stage, name, pid).await;
    }
    let run = "UPDATE agents SET run = '00000000-0000-0000-0000-000000000001', idle_since = NULL
        WHERE name = 'worker-1'";
    stage.database.run(run).await;
    stage.set(&[("EXECUTION_ENVIRONMENT", "sandbox"), ("WORKER_COUNT", "2")]);
    stage.wait("worker-2", Skipped).await;
    let draining = stage.show("worker-1").await;
    assert_eq!(draining.state, Stopping);
    assert!(draining.message.unwrap().contains("when its run is over"));
    assert!(is_alive(busy) && !is_alive(idle));
    assert!(stage.database.store.agents().await.unwrap().is_empty(), "neither gets more work");
    stage.database.run("UPDATE agents SET run = NULL, idle_since = now()").await;
    stage.wait("worker-1", Skipped).await;
    assert!(!is_alive(busy));
    assert_eq!(stage.row("worker-1").await.state, Stopped);
}

async fn agent(stage: &Stage, name: &str, pid: i32) {
    let agent = store::agents::NewAgent {
        id: core_types::ids::AgentId::generate(),
        name: name.to_owned(),
        role: core_types::task::Role::Worker,
        host: stage.control.host.clone(),
        process: store::agents::ProcessIdentity { pid, start_ticks: 1, boot_id: "b".to_owned() },
        version: "0".to_owned(),
    };
    stage.database.store.register_agent(&agent).await.unwrap();
}
