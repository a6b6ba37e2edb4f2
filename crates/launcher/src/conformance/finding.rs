//! What every launcher must do to find launches and their output again.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::{Bench, Script, id, printed, read, start, unreachable_case};
use crate::{
    error::{AttachError, HandleError},
    handle::{Destroy, HandleRecord, LaunchState, StopRequest},
    launcher::ReapPolicy,
    output::{LogContent, LogCursor},
    spec::Input,
};

pub(super) async fn reattach(bench: &dyn Bench) {
    let handle = start(bench, "view", Script::Hang).await;
    let record = serde_json::to_string(&handle.record()).expect("records are plain");
    drop(handle);
    let record = serde_json::from_str(&record).expect("records are plain");
    let handle = bench.other().attach(&record).await.expect("it is there");
    let state = handle.state().borrow().clone();
    assert!(matches!(state, LaunchState::Running { .. }), "{state:?}");
    let report = handle.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
    let later = bench.launcher().attach(&record).await.expect("it is there");
    assert_eq!(later.exited().await, report);
}

pub(super) async fn resume(bench: &dyn Bench) {
    let handle = start(bench, "resume", Script::Print).await;
    handle.exited().await;
    let whole = printed().into_bytes();
    let from = [0, 1, 2, 3, 13, whole.len() / 2, whole.len() - 1, whole.len()];
    for from in from {
        let rest = read(&handle, LogCursor(from as u64)).await;
        assert!(rest == whole.get(from..).unwrap_or_default(), "from {from}: {}", rest.len());
    }
    let mut pieces = Vec::new();
    let mut cursor = LogCursor::START;
    // Reads one chunk, then loses the reader.
    while let Some(chunk) = handle.logs(cursor).next().await {
        let chunk = chunk.expect("it is readable");
        assert_eq!(chunk.offset, cursor.0);
        cursor = chunk.next;
        let LogContent::Output { data, .. } = chunk.content else { unreachable_case(&chunk) };
        pieces.extend_from_slice(&data);
    }
    assert!(pieces == whole, "{} bytes", pieces.len());
    let behind = handle.logs(LogCursor(whole.len() as u64 + 1)).next().await;
    assert!(matches!(behind, Some(Err(_))), "{behind:?}");
}

pub(super) async fn discover(bench: &dyn Bench) {
    let mut spec = bench.spec(Script::Hang);
    spec.labels.insert("test.case".to_owned(), "discover".to_owned());
    let launched = bench.launcher().launch(&id("discover"), &spec, Input::default()).await;
    let handle = launched.expect("it starts").into_handle();
    let found = bench.other().discover().await.expect("the store is readable");
    let found = found.into_iter().find(|found| found.id == id("discover")).expect("it is there");
    assert_eq!(found.labels, spec.labels);
    assert_eq!(found.record, handle.record());
    assert!(matches!(found.state, LaunchState::Running { .. }), "{:?}", found.state);
    handle.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
}

pub(super) async fn reap(bench: &dyn Bench) {
    let running = start(bench, "reap-running", Script::Hang).await;
    let ended = start(bench, "reap-ended", Script::Print).await;
    ended.exited().await;
    // Other cases run on the same store: everything of theirs is kept by age.
    let keep = Duration::from_secs(3600);
    let young = ReapPolicy { keep_ended: keep, keep_unassigned: keep, dry_run: false };
    let report = bench.other().reap(&young).await.expect("the store is readable");
    assert!(report.removed.is_empty(), "{report:?}");
    assert!(report.kept.contains(&id("reap-ended")) && report.kept.contains(&id("reap-running")));
    let dry = ReapPolicy { keep_ended: Duration::ZERO, keep_unassigned: keep, dry_run: true };
    let report = bench.other().reap(&dry).await.expect("the store is readable");
    assert!(report.removed.contains(&id("reap-ended")), "{report:?}");
    assert!(report.kept.contains(&id("reap-running")), "{report:?}");
    assert!(bench.other().attach(&ended.record()).await.is_ok(), "a dry run removed something");
    running.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
}

pub(super) async fn destroy(bench: &dyn Bench) {
    let handle = start(bench, "destroy", Script::Hang).await;
    let refused = handle.destroy(Destroy::Everything).await;
    assert!(matches!(refused, Err(HandleError::StillRunning { .. })), "{refused:?}");
    let report = handle.stop(StopRequest::new("enough", Duration::from_secs(5))).await;
    handle.destroy(Destroy::KeepLogs).await.expect("it has ended");
    let kept = bench.other().attach(&handle.record()).await.expect("its logs are kept");
    assert_eq!(kept.exited().await, report);
    for _ in 0..2 {
        handle.destroy(Destroy::Everything).await.expect("it has ended");
    }
    let gone = bench.other().attach(&handle.record()).await;
    assert!(matches!(gone, Err(AttachError::Gone { .. })), "{gone:?}");
}

pub(super) async fn foreign(bench: &dyn Bench) {
    let handle = start(bench, "foreign", Script::Print).await;
    let record = handle.record();
    let elsewhere = HandleRecord { store: "elsewhere".to_owned(), ..record.clone() };
    let refused = bench.launcher().attach(&elsewhere).await;
    assert!(matches!(refused, Err(AttachError::Foreign { .. })), "{refused:?}");
    let newer = HandleRecord { version: record.version + 1, ..record.clone() };
    let refused = bench.launcher().attach(&newer).await;
    assert!(matches!(refused, Err(AttachError::Incompatible { .. })), "{refused:?}");
    let other = HandleRecord { spec_hash: "another".to_owned(), ..record };
    let refused = bench.launcher().attach(&other).await;
    assert!(matches!(refused, Err(AttachError::Gone { .. })), "{refused:?}");
}
