//! What every launcher must do when it starts a command, or cannot.

use std::time::Duration;

use super::{Bench, Script, id, read, start, unreachable_case};
use crate::{
    error::LaunchError,
    handle::{Destroy, LaunchState, StopRequest},
    launcher::Launched,
    outcome::Outcome,
    output::LogCursor,
    spec::Input,
};

pub(super) async fn missing_program(bench: &dyn Bench) {
    let spec = bench.spec(Script::Missing);
    for launcher in [bench.launcher(), bench.other()] {
        let refused = launcher.launch(&id("missing"), &spec, Input::default()).await;
        let Err(error @ LaunchError::ProgramMissing { .. }) = refused else {
            unreachable_case(&refused)
        };
        assert!(!error.hint().is_empty() && !error.is_transient());
    }
    let found = bench.launcher().discover().await.expect("the store is readable");
    let found = found.iter().find(|found| found.id == id("missing"));
    let state = found.map(|found| found.state.clone());
    assert!(
        matches!(&state, Some(LaunchState::Ended(report))
            if matches!(report.outcome, Outcome::NeverStarted(_))),
        "{state:?}"
    );
}

pub(super) async fn invalid_spec(bench: &dyn Bench) {
    let mut spec = bench.spec(Script::Print);
    spec.cwd = "relative".into();
    let refused = bench.launcher().launch(&id("invalid"), &spec, Input::default()).await;
    assert!(matches!(refused, Err(LaunchError::InvalidSpec { field: "cwd", .. })), "{refused:?}");
}

pub(super) async fn second_launch(bench: &dyn Bench) {
    let spec = bench.spec(Script::Hang);
    let first = bench.launcher().launch(&id("second"), &spec, Input::default()).await;
    assert!(matches!(first, Ok(Launched::Started(_))), "{first:?}");
    let again = bench.other().launch(&id("second"), &spec, Input::default()).await;
    let Ok(Launched::AlreadyRunning(handle)) = again else { unreachable_case(&again) };
    handle.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
    let after = bench.launcher().launch(&id("second"), &spec, Input::default()).await;
    assert!(matches!(after, Ok(Launched::AlreadyExited(_))), "{after:?}");
}

pub(super) async fn spec_mismatch(bench: &dyn Bench) {
    start(bench, "mismatch", Script::Print).await;
    let mut other = bench.spec(Script::Print);
    other.labels.insert("other".to_owned(), "yes".to_owned());
    let refused = bench.other().launch(&id("mismatch"), &other, Input::default()).await;
    assert!(matches!(refused, Err(LaunchError::SpecMismatch { .. })), "{refused:?}");
}

pub(super) async fn many_callers(bench: &dyn Bench) {
    let spec = &bench.spec(Script::Hang);
    let calls = (0..64).map(|call| async move {
        let launcher = if call % 2 == 0 { bench.launcher() } else { bench.other() };
        launcher.launch(&id("many"), spec, Input::default()).await
    });
    let answers = futures_util::future::join_all(calls).await;
    let mut started = 0;
    for answer in answers {
        match answer {
            Ok(Launched::Started(_)) => started += 1,
            Ok(Launched::AlreadyRunning(_)) => {}
            other => unreachable_case(&other),
        }
    }
    assert_eq!(started, 1);
    let handle = bench.launcher().launch(&id("many"), spec, Input::default()).await;
    let handle = handle.expect("it runs").into_handle();
    handle.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
}

pub(super) async fn unassigned(bench: &dyn Bench) {
    let spec = bench.spec(Script::Print);
    let created = bench.launcher().create(&id("unassigned"), &spec).await;
    drop(created.expect("it can be created"));
    let refused = bench.other().launch(&id("unassigned"), &spec, Input::default()).await;
    assert!(matches!(refused, Err(LaunchError::NeverStarted(_))), "{refused:?}");
    let found = bench.other().discover().await.expect("the store is readable");
    let found = found.into_iter().find(|found| found.id == id("unassigned")).expect("it is there");
    let handle = bench.launcher().attach(&found.record).await.expect("it is there");
    handle.destroy(Destroy::Everything).await.expect("it has ended");
}

pub(super) async fn standard_input(bench: &dyn Bench) {
    // Far more than a pipe holds, so that it must be written while the output is read.
    let stdin: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
    let input = Input { stdin: stdin.clone(), ..Input::default() };
    let spec = bench.spec(Script::Cat);
    let launched = bench.launcher().launch(&id("stdin"), &spec, input).await;
    let handle = launched.expect("it starts").into_handle();
    let output = read(&handle, LogCursor::START).await;
    assert!(output == stdin, "{} of {} bytes", output.len(), stdin.len());
    assert!(handle.exited().await.is_success());
}
