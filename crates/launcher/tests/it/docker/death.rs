//! What an engine takes with it when it dies: nothing.

use std::time::Duration;

use launcher::{
    error::LaunchError,
    handle::{Destroy, Handle, LaunchState, StopRequest},
    launcher::Launcher as _,
    outcome::{ExitSource, Outcome, StopCause},
    spec::Input,
};

use super::{
    engine::PrivateEngine,
    support::{Boxes, shell},
};
use crate::support::{read_all, wait_for};

const LINES: usize = 400;

/// Some seconds of output.
fn script() -> String {
    format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 42")
}

fn lines(count: usize) -> String {
    (0..count).map(|i| format!("line {i}\n")).collect()
}

async fn half_done(boxes: &Boxes, id: &str) {
    let log = boxes.launch_dir(id).join("out.log");
    wait_for("half of the output", || {
        (std::fs::metadata(&log).ok()?.len() > LINES as u64 * 20).then_some(())
    })
    .await;
}

async fn text(handle: &Handle) -> String {
    String::from_utf8(read_all(handle).await.0).unwrap()
}

#[tokio::test]
async fn engine_with_live_restore_dies_and_comes_back_without_a_trace() {
    let mut engine = PrivateEngine::start(true);
    let boxes = Boxes::on(engine.host());
    let handle = boxes.start("run", &shell(&script())).await;
    half_done(&boxes, "run").await;
    engine.kill();
    assert!(matches!(*handle.state().borrow(), LaunchState::Running { .. }));
    engine.restart();
    let report = handle.exited().await;
    assert_eq!((report.outcome.clone(), report.cause.clone()), (Outcome::Exited(42), None));
    assert_eq!(report.source, ExitSource::Record);
    assert_eq!(text(&handle).await, lines(LINES));
    let again = boxes.launcher().attach(&handle.record()).await.unwrap();
    assert_eq!(again.exited().await, report);
    boxes.clear().await;
}

#[tokio::test]
async fn engine_without_live_restore_ends_what_runs_when_it_comes_back_and_says_so() {
    let mut engine = PrivateEngine::start(false);
    let boxes = Boxes::on(engine.host());
    let handle = boxes
        .start("run", &shell("i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done"))
        .await;
    half_done(&boxes, "run").await;
    engine.kill();
    engine.restart();
    let report = handle.exited().await;
    assert_eq!(report.cause, Some(StopCause::EngineOrOperator { signal: 15 }));
    assert_eq!((report.outcome, report.source), (Outcome::Signaled(15), ExitSource::Record));
    let text = text(&handle).await;
    assert_eq!(text, lines(text.lines().count()));
    boxes.clear().await;
}

#[tokio::test]
async fn end_is_seen_while_the_engine_is_down_and_stays_when_it_is_back() {
    for live_restore in [false, true] {
        let mut engine = PrivateEngine::start(live_restore);
        let boxes = Boxes::on(engine.host());
        let handle = boxes.start("run", &shell(&script())).await;
        let stopped = boxes.start("stopped", &shell("exec sleep 600")).await;
        half_done(&boxes, "run").await;
        engine.kill();
        let report = handle.exited().await;
        assert_eq!((report.outcome.clone(), report.cause.clone()), (Outcome::Exited(42), None));
        assert_eq!(text(&handle).await, lines(LINES));
        // Nobody needs the engine to stop either.
        let end = stopped.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
        assert_eq!(end.cause, Some(StopCause::Requested { reason: "enough".to_owned() }));
        // But its container can only be removed by it.
        stopped.destroy(Destroy::Everything).await.unwrap_err();
        let refused = boxes.launch("new", &shell("true")).await.unwrap_err();
        assert!(matches!(refused, LaunchError::EngineUnreachable { .. }), "{refused:?}");
        assert!(!boxes.launch_dir("new").try_exists().unwrap());
        engine.restart();
        let again = boxes.launcher().attach(&handle.record()).await.unwrap();
        assert_eq!(again.exited().await, report);
        assert_eq!(text(&again).await, lines(LINES));
        boxes.clear().await;
        assert_eq!(boxes.docker(&["ps", "-aq"]), "");
    }
}

#[tokio::test]
async fn engine_that_dies_before_the_assignment_leaves_nothing_that_waits() {
    for live_restore in [false, true] {
        let mut engine = PrivateEngine::start(live_restore);
        let boxes = Boxes::on(engine.host());
        let launcher = boxes.launcher();
        let id = "waiting".parse().unwrap();
        let created = launcher.create(&id, &shell("exec sleep 600")).await.unwrap();
        engine.kill();
        let refused = launcher.assign(created, Input::default()).await.unwrap_err();
        assert!(matches!(refused, LaunchError::NeverStarted(_)), "{refused:?}");
        engine.restart();
        let found = launcher.discover().await.unwrap().remove(0);
        let LaunchState::Ended(report) = found.state else { panic!("{:?}", found.state) };
        assert!(matches!(report.outcome, Outcome::NeverStarted(_)), "{report:?}");
        boxes.clear().await;
        assert_eq!(boxes.docker(&["ps", "-aq"]), "");
    }
}

#[tokio::test]
async fn shim_that_is_killed_while_the_engine_is_down_is_no_end_until_the_engine_says_so() {
    let mut engine = PrivateEngine::start(true);
    let boxes = Boxes::on(engine.host());
    let handle = boxes.start("run", &shell("exec sleep 600")).await;
    let name = boxes.container("run");
    let shim = boxes.docker(&["inspect", "-f", "{{.State.Pid}}", &name]).parse().unwrap();
    engine.kill();
    let shim = rustix::process::Pid::from_raw(shim).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    let early = tokio::time::timeout(Duration::from_secs(1), handle.exited()).await;
    assert!(early.is_err(), "{early:?}");
    engine.restart();
    let report = handle.exited().await;
    assert_eq!((report.outcome, report.source), (Outcome::Signaled(9), ExitSource::Engine));
    boxes.clear().await;
}
