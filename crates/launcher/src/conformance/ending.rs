//! What every launcher must do when a command ends, or must.

use std::time::Duration;

use super::{Bench, PRINT_CODE, Script, id, printed, read, start, start_deaf, wait_for};
use crate::{
    error::HandleError,
    handle::{LaunchState, StopRequest},
    outcome::{Outcome, StopCause},
    output::LogCursor,
    spec::Input,
};

pub(super) async fn exit_code_and_output(bench: &dyn Bench) {
    let handle = start(bench, "print", Script::Print).await;
    let output = read(&handle, LogCursor::START).await;
    let report = handle.exited().await;
    assert_eq!(report.outcome, Outcome::Exited(PRINT_CODE));
    assert_eq!((report.cause, report.leftovers_killed, report.dropped_bytes), (None, 0, 0));
    assert!(report.started_at.is_some_and(|started| started <= report.ended_at));
    assert_eq!(report.log_end, printed().len() as u64);
    assert!(output == printed().into_bytes(), "{} bytes", output.len());
}

pub(super) async fn signal(bench: &dyn Bench) {
    let report = start(bench, "signal", Script::KillItself).await.exited().await;
    assert_eq!((report.outcome, report.cause), (Outcome::Signaled(9), None));
}

pub(super) async fn stop(bench: &dyn Bench) {
    let handle = start(bench, "stop", Script::Hang).await;
    let report = handle.stop(StopRequest::new("first words", Duration::from_secs(5))).await;
    assert_eq!(report.cause, Some(StopCause::Requested { reason: "first words".to_owned() }));
    assert!(!report.is_success());
    let again = handle.stop(StopRequest::new("second words", Duration::ZERO)).await;
    assert_eq!(again, report);
    assert_eq!(handle.exited().await, report);
    assert!(matches!(handle.renew().await, Err(HandleError::Ended { .. })));
    assert!(matches!(handle.stats().await, Err(HandleError::Ended { .. })));
}

pub(super) async fn deaf(bench: &dyn Bench) {
    let handle = start_deaf(bench, "deaf").await;
    let grace = Duration::from_millis(300);
    let asked = std::time::Instant::now();
    let report = handle.stop(StopRequest::new("enough", grace)).await;
    let took = asked.elapsed();
    assert_eq!(report.outcome, Outcome::Signaled(9));
    // Long before the patience of its spec is over, on a machine that has much else to do.
    assert!(took >= grace && took < grace + Duration::from_secs(5), "{took:?}");
}

pub(super) async fn sharper_stop(bench: &dyn Bench) {
    let handle = start_deaf(bench, "sharper").await;
    let patient = handle.clone();
    let patient = patient.stop(StopRequest::new("patient", Duration::from_secs(600)));
    let sharp = async {
        wait_for(&handle, |state| !matches!(state, LaunchState::Created)).await;
        handle.stop(StopRequest::new("sharp", Duration::from_millis(100))).await
    };
    let (patient, sharp) = tokio::join!(patient, sharp);
    assert_eq!(patient, sharp);
    assert_eq!(sharp.cause, Some(StopCause::Requested { reason: "patient".to_owned() }));
}

pub(super) async fn wall_time(bench: &dyn Bench) {
    let mut spec = bench.spec(Script::Hang);
    spec.limits.wall = Some(Duration::from_millis(150));
    let launched = bench.launcher().launch(&id("wall"), &spec, Input::default()).await;
    let report = launched.expect("it starts").into_handle().exited().await;
    assert_eq!(report.cause, Some(StopCause::WallTime));
    assert!(!report.is_success());
}

pub(super) async fn lease(bench: &dyn Bench) {
    let mut spec = bench.spec(Script::Hang);
    spec.lease = Some(Duration::from_millis(1500));
    let launched = bench.launcher().launch(&id("lease"), &spec, Input::default()).await;
    let handle = launched.expect("it starts").into_handle();
    for _ in 0..6 {
        let early = tokio::time::timeout(Duration::from_millis(300), handle.exited()).await;
        assert!(early.is_err(), "it ended in spite of its lease: {early:?}");
        handle.renew().await.expect("it runs");
    }
    assert_eq!(handle.exited().await.cause, Some(StopCause::LeaseExpired));
}

pub(super) async fn late_subscriber(bench: &dyn Bench) {
    let handle = start(bench, "late", Script::Print).await;
    let report = handle.exited().await;
    assert_eq!(*handle.state().borrow(), LaunchState::Ended(report));
}
