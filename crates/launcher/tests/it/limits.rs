use std::time::Duration;

use launcher::{
    error::LaunchError,
    launcher::Launcher as _,
    outcome::{Outcome, StopCause},
    spec::{Input, LaunchSpec},
};

use crate::support::{EATER, Scratch, read_all, shell};

async fn refused(scratch: &Scratch, spec: &LaunchSpec) {
    let id = "refused".parse().unwrap();
    let refused = scratch.launcher().launch(&id, spec, Input::default()).await;
    assert!(matches!(refused, Err(LaunchError::LimitUnsupported { .. })), "{refused:?}");
    let left = scratch.launch("refused").try_exists().unwrap();
    assert!(!left, "a refused launch used its id up");
}

#[tokio::test]
async fn memory_is_limited_with_evidence_or_refused() {
    let scratch = Scratch::new();
    let mut spec = shell(EATER);
    spec.limits.memory_bytes = Some(32 << 20);
    if !scratch.launcher().probe().await.unwrap().limit_memory {
        return refused(&scratch, &spec).await;
    }
    let handle = scratch.start("memory", &spec).await;
    let report = handle.exited().await;
    assert!(report.out_of_memory, "{report:?}");
    // The kernel kills one process; what the command makes of it is the command's business.
    assert_eq!(report.outcome, Outcome::Exited(0));
    let (output, _) = read_all(&handle).await;
    let output = String::from_utf8_lossy(&output);
    assert!(output.contains("went on\n"), "{output}");

    let modest = handle_with(&scratch, "modest", |spec| {
        spec.limits.memory_bytes = Some(256 << 20);
    });
    assert!(!modest.await.out_of_memory);
}

async fn handle_with(
    scratch: &Scratch,
    id: &str,
    change: impl FnOnce(&mut LaunchSpec),
) -> launcher::outcome::ExitReport {
    let mut spec = shell("true");
    change(&mut spec);
    scratch.start(id, &spec).await.exited().await
}

#[tokio::test]
async fn processes_are_limited_or_refused() {
    let scratch = Scratch::new();
    // The inner shell gives up where it cannot fork; the outer one is the command.
    let script = "(i=0; while [ $i -lt 50 ]; do sleep 600 & i=$((i+1)); done); exec sleep 600";
    let mut spec = shell(script);
    spec.limits.processes = Some(10);
    spec.limits.wall = Some(Duration::from_millis(800));
    spec.stop.grace = Duration::ZERO;
    if !scratch.launcher().probe().await.unwrap().limit_processes {
        return refused(&scratch, &spec).await;
    }
    let handle = scratch.start("processes", &spec).await;
    let mut most = 0;
    while let Ok(stats) = handle.stats().await {
        most = most.max(stats.processes);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((2..=10).contains(&most), "{most} processes at once");
    assert_eq!(handle.exited().await.survivors, 0);
}

#[tokio::test]
async fn processor_time_is_limited_or_refused() {
    let scratch = Scratch::new();
    let mut spec = shell("while :; do :; done");
    spec.limits.cpu_millis = Some(100);
    spec.limits.wall = Some(Duration::from_millis(1500));
    spec.stop.grace = Duration::ZERO;
    if !scratch.launcher().probe().await.unwrap().limit_cpu {
        return refused(&scratch, &spec).await;
    }
    let handle = scratch.start("cpu", &spec).await;
    let mut cpu = Duration::ZERO;
    while let Ok(stats) = handle.stats().await {
        cpu = cpu.max(stats.cpu);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(cpu < Duration::from_millis(400), "{cpu:?} in 1.5 s with a tenth of a core");
}

#[tokio::test]
async fn wall_time_ends_a_deaf_command_after_its_grace() {
    let scratch = Scratch::new();
    let mut spec = shell("trap '' TERM; while :; do sleep 1; done");
    spec.limits.wall = Some(Duration::from_millis(200));
    spec.stop.grace = Duration::from_millis(200);
    let report = scratch.start("wall", &spec).await.exited().await;
    assert_eq!(report.cause, Some(StopCause::WallTime));
    assert_eq!(report.outcome, Outcome::Signaled(9));
}

#[tokio::test]
async fn command_that_obeys_is_asked_with_the_signal_of_its_spec() {
    let scratch = Scratch::new();
    let mut spec = shell("trap 'exit 3' INT; trap 'exit 4' TERM; while :; do sleep 0.05; done");
    spec.limits.wall = Some(Duration::from_millis(300));
    spec.stop.signal = launcher::spec::StopSignal::Interrupt;
    let report = scratch.start("signal", &spec).await.exited().await;
    assert_eq!(report.outcome, Outcome::Exited(3));
}
