use std::time::Duration;

use launcher::{
    error::LaunchError,
    launcher::Launcher as _,
    outcome::{Outcome, StopCause},
    output::{LogContent, LogCursor},
    spec::{Input, OutputLimits},
};

use super::support::{Boxes, shell};
use crate::support::{EATER, read_all};

#[tokio::test]
async fn memory_is_limited_with_evidence() {
    let boxes = Boxes::new();
    let mut spec = shell(EATER);
    spec.limits.memory_bytes = Some(32 << 20);
    let handle = boxes.start("memory", &spec).await;
    let report = handle.exited().await;
    assert!(report.out_of_memory, "{report:?}");
    assert_eq!(report.outcome, Outcome::Exited(0));
    let output = String::from_utf8(read_all(&handle).await.0).unwrap();
    assert!(output.contains("went on\n"), "{output}");
    boxes.clear().await;
}

#[tokio::test]
async fn processes_are_limited_and_counted() {
    let boxes = Boxes::new();
    let script = "(i=0; while [ $i -lt 50 ]; do sleep 600 & i=$((i+1)); done); exec sleep 600";
    let mut spec = shell(script);
    spec.limits.processes = Some(10);
    let handle = boxes.start("processes", &spec).await;
    let mut most = 0;
    // The shell that could not fork any more is gone by then.
    while most < 9 {
        most = handle.stats().await.unwrap().processes.max(most);
    }
    assert!(most <= 10, "{most} processes at once");
    boxes.clear().await;
}

#[tokio::test]
async fn processor_time_is_limited_and_counted() {
    let boxes = Boxes::new();
    let mut spec = shell("while :; do :; done");
    spec.limits.cpu_millis = Some(100);
    spec.limits.wall = Some(Duration::from_millis(4000));
    spec.stop.grace = Duration::ZERO;
    let handle = boxes.start("cpu", &spec).await;
    let mut last = None;
    while let Ok(stats) = handle.stats().await {
        last = Some(stats);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let last = last.unwrap();
    assert!(last.memory_bytes > 0 && last.uptime > Duration::ZERO, "{last:?}");
    assert!(last.cpu < Duration::from_millis(1200), "{last:?} with a tenth of a core");
    assert_eq!(handle.exited().await.cause, Some(StopCause::WallTime));
    boxes.clear().await;
}

#[tokio::test]
async fn limit_that_no_engine_honours_is_refused() {
    let boxes = Boxes::new();
    for (limit, change) in [("memory_bytes", (Some(4096), None)), ("cpu_millis", (None, Some(1)))] {
        let mut spec = shell("true");
        (spec.limits.memory_bytes, spec.limits.cpu_millis) = change;
        let id = "refused".parse().unwrap();
        let refused = boxes.launcher().launch(&id, &spec, Input::default()).await;
        let Err(LaunchError::LimitUnsupported { limit: named, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(named, limit);
        assert!(!boxes.launch_dir("refused").try_exists().unwrap());
    }
}

#[tokio::test]
async fn output_is_capped_with_an_exact_gap() {
    let boxes = Boxes::new();
    let mut spec = shell("head -c 3000000 /dev/zero; echo end");
    spec.output = OutputLimits { head_bytes: 100_000, tail_bytes: 100_000 };
    let handle = boxes.start("capped", &spec).await;
    let report = handle.exited().await;
    assert_eq!((report.outcome, report.log_end), (Outcome::Exited(0), 3_000_004));
    let (kept, dropped) = read_all(&handle).await;
    assert_eq!((kept.len() as u64 + dropped, dropped), (3_000_004, report.dropped_bytes));
    assert!(kept.ends_with(b"end\n") && dropped > 2_000_000);
    let mut logs = handle.logs(LogCursor(2_999_990));
    let chunk = futures_util::StreamExt::next(&mut logs).await.unwrap().unwrap();
    assert!(matches!(chunk.content, LogContent::Output { .. }), "{chunk:?}");
    boxes.clear().await;
}
