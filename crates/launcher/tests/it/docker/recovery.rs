use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use launcher::{
    docker::{DockerConfig, DockerLauncher},
    error::AttachError,
    handle::{Destroy, HandleRecord, LaunchState, StopRequest},
    launcher::{Launched, Launcher as _, ReapPolicy},
    outcome::{ExitSource, LostReason, Outcome, StopCause},
    spec::Input,
};

use super::support::{Boxes, host, shell};
use crate::support::{DEADLINE, read_all, wait_for};

pub(super) const ALL: ReapPolicy =
    ReapPolicy { keep_ended: Duration::ZERO, keep_unassigned: Duration::ZERO, dry_run: false };

/// No test: the supervisor that another test starts and kills. Launches a script and waits.
#[tokio::test]
#[ignore = "started by another test as a process of its own"]
async fn supervisor_process() {
    #[expect(clippy::disallowed_methods, reason = "told by the test that starts it")]
    let (state, script) =
        (std::env::var("SUPERVISOR_STATE").unwrap(), std::env::var("SUPERVISOR_SCRIPT").unwrap());
    let config = DockerConfig { host: Some(host()), store: state.clone().into() };
    let launcher = DockerLauncher::open(config).unwrap();
    let id = "supervised".parse().unwrap();
    let launched = launcher.launch(&id, &shell(&script), Input::default()).await;
    let record = serde_json::to_vec(&launched.unwrap().into_handle().record()).unwrap();
    let tmp = Path::new(&state).join("record.tmp");
    std::fs::write(&tmp, record).unwrap();
    std::fs::rename(&tmp, Path::new(&state).join("record.json")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn killed_supervisor_costs_neither_code_nor_output() {
    let boxes = Boxes::new();
    let script =
        "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.005; done; exit 42";
    #[expect(clippy::disallowed_methods, reason = "starts this test binary as the supervisor")]
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "docker::recovery::supervisor_process", "--ignored", "--nocapture"]);
    let state = boxes.path().join("state");
    command.env("SUPERVISOR_STATE", &state).env("SUPERVISOR_SCRIPT", script);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let record = state.join("record.json");
    let record = wait_for("the record", || std::fs::read(&record).ok()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let record: HandleRecord = serde_json::from_slice(&record).unwrap();
    let handle = boxes.launcher().attach(&record).await.unwrap();
    let report = handle.exited().await;
    assert_eq!((report.outcome, report.cause), (Outcome::Exited(42), None));
    let expected: String = (0..300).map(|i| format!("line {i}\n")).collect();
    assert_eq!(String::from_utf8(read_all(&handle).await.0).unwrap(), expected);
    boxes.clear().await;
}

#[tokio::test]
async fn container_that_was_killed_ends_with_the_code_of_the_engine() {
    let boxes = Boxes::new();
    let handle = boxes.start("killed", &shell("echo before; exec sleep 600")).await;
    wait_for("the output", || output_ends(&boxes, "killed", b"before\n")).await;
    boxes.docker(&["kill", &boxes.container("killed")]);
    let report = handle.exited().await;
    assert_eq!(report.outcome, Outcome::Signaled(9));
    assert_eq!(report.cause, Some(StopCause::EngineOrOperator { signal: 9 }));
    assert_eq!((report.source, report.log_end), (ExitSource::Engine, 7));
    assert_eq!(read_all(&handle).await, (b"before\n".to_vec(), 0));
    // It is final, also when the engine has forgotten it.
    boxes.docker(&["rm", &boxes.container("killed")]);
    let again = boxes.launcher().attach(&handle.record()).await.unwrap().exited().await;
    assert_eq!(again, report);
    boxes.clear().await;
}

#[tokio::test]
async fn container_that_was_removed_is_lost() {
    let boxes = Boxes::new();
    let handle = boxes.start("removed", &shell("exec sleep 600")).await;
    boxes.docker(&["rm", "-f", &boxes.container("removed")]);
    let report = handle.exited().await;
    // The engine kills before it removes, and may still be asked in between.
    assert!(
        matches!(
            report.outcome,
            Outcome::Lost(LostReason::ContainerRemoved) | Outcome::Signaled(9)
        ),
        "{report:?}"
    );
    let again = boxes.launcher().attach(&handle.record()).await.unwrap().exited().await;
    assert_eq!(again, report);
    boxes.clear().await;
}

#[tokio::test]
async fn exit_record_that_contradicts_the_engine_is_not_believed() {
    let boxes = Boxes::new();
    let handle = boxes.start("forged", &shell("exec sleep 600")).await;
    let record = r#"{"version":1,"outcome":{"exited":0},"cause":null,"out_of_memory":false,
        "leftovers_killed":0,"survivors":0,"log_end":0,"dropped_bytes":0,"started_us":1,"ended_us":2}"#;
    std::fs::write(boxes.launch_dir("forged").join("exit.json"), record).unwrap();
    // While the shim lives, no record counts.
    let state = boxes.launcher().attach(&handle.record()).await.unwrap().state().borrow().clone();
    assert!(matches!(state, LaunchState::Running { .. }), "{state:?}");
    boxes.docker(&["kill", &boxes.container("forged")]);
    let report = handle.exited().await;
    assert_eq!(report.outcome, Outcome::Signaled(9));
    assert_eq!(report.source, ExitSource::EngineAgainstRecord);
    boxes.clear().await;
}

#[tokio::test]
async fn stores_on_one_engine_do_not_touch_each_other() {
    let (one, other) = (Boxes::new(), Boxes::new());
    let running = one.start("same", &shell("exec sleep 600")).await;
    let ended = other.start("same", &shell("exit 3")).await;
    assert_eq!(ended.exited().await.outcome, Outcome::Exited(3));
    let report = other.launcher().reap(&ALL).await.unwrap();
    assert_eq!((report.removed.len(), report.kept.len()), (1, 0), "{report:?}");
    assert_eq!(
        other.docker(&["ps", "-aq", "--filter", &format!("name={}", other.container("same"))]),
        ""
    );
    assert!(matches!(
        other.launcher().attach(&ended.record()).await,
        Err(AttachError::Gone { .. })
    ));
    let foreign = other.launcher().attach(&running.record()).await;
    assert!(matches!(foreign, Err(AttachError::Foreign { .. })), "{foreign:?}");
    assert!(matches!(*running.state().borrow(), LaunchState::Running { .. }));
    one.clear().await;
}

#[tokio::test]
async fn container_without_a_launch_directory_is_removed() {
    let boxes = Boxes::new();
    let handle = boxes.start("homeless", &shell("exec sleep 600")).await;
    drop(handle);
    let name = boxes.container("homeless");
    // One whose directory was removed ends by itself; that takes some seconds.
    std::fs::remove_dir_all(boxes.launch_dir("homeless")).unwrap();
    let dry = boxes.launcher().reap(&ReapPolicy { dry_run: true, ..ALL }).await.unwrap();
    assert_eq!(dry.removed, ["homeless".parse().unwrap()]);
    assert_ne!(boxes.docker(&["ps", "-aq", "--filter", &format!("name={name}")]), "");
    let report = boxes.launcher().reap(&ALL).await.unwrap();
    assert_eq!(report.removed, ["homeless".parse().unwrap()]);
    assert_eq!(boxes.docker(&["ps", "-aq", "--filter", &format!("name={name}")]), "");
}

#[tokio::test]
async fn crash_between_container_and_start_is_gone_on_with() {
    let boxes = Boxes::new();
    let (launcher, id) = (boxes.launcher(), "resumed".parse().unwrap());
    let spec = shell("exit 4");
    drop(launcher.create(&id, &spec).await.unwrap());
    let exit = boxes.launch_dir("resumed").join("exit.json");
    wait_for("the shim to end", || exit.try_exists().unwrap().then_some(())).await;
    // What is left when the launcher dies after it made the container and before it started it.
    for entry in std::fs::read_dir(boxes.launch_dir("resumed")).unwrap().flatten() {
        if entry.file_name() != "intent.json" {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    boxes.docker(&["rm", "-f", &boxes.container("resumed")]);
    let name = boxes.container("resumed");
    boxes.docker(&["create", "--name", &name, &super::support::image(), "true"]);
    let launched = launcher.launch(&id, &spec, Input::default()).await.unwrap();
    assert!(matches!(launched, Launched::Started(_)), "{launched:?}");
    assert_eq!(launched.into_handle().exited().await.outcome, Outcome::Exited(4));
    boxes.clear().await;
}

#[tokio::test]
async fn paused_container_is_woken_to_stop() {
    let boxes = Boxes::new();
    let handle = boxes.start("paused", &shell("exec sleep 600")).await;
    boxes.docker(&["pause", &boxes.container("paused")]);
    let asked = Instant::now();
    let report = handle.stop(StopRequest::new("enough", Duration::ZERO)).await;
    assert_eq!(report.source, ExitSource::Record);
    assert!(asked.elapsed() < DEADLINE, "{:?}", asked.elapsed());
    handle.destroy(Destroy::Everything).await.unwrap();
}

fn output_ends(boxes: &Boxes, id: &str, end: &[u8]) -> Option<()> {
    let output = std::fs::read(boxes.launch_dir(id).join("out.log")).ok()?;
    output.ends_with(end).then_some(())
}
