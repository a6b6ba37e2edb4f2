//! Ends that nobody asked for.

use core_types::process::ProcessState::{BackingOff, Failed, Running, Starting, Stopped};
use testing::wait::wait_for;

use crate::stage::{DEADLINE, OBEDIENT, Stage, kill, of};

#[tokio::test]
async fn a_crash_loop_ends_in_failed_with_the_last_lines_until_somebody_starts_it() {
    let stage = Stage::new(&[("PROCESS_RESTART_MAX_ATTEMPTS", "2")]).await;
    stage.program("dispatcher", "echo 'it hurts' >&2\nexit 3");
    let mut stage = stage;
    stage.manage();
    let failed = stage.wait("dispatcher", Failed).await;
    assert_eq!((failed.restarts, failed.generation), (2, Some(3)));
    let exit = failed.last_exit.expect("it ended");
    assert_eq!((exit.outcome.as_str(), exit.unasked), ("exited with 3", true));
    assert_eq!(exit.lines.as_deref(), Some("it hurts"));
    let message = failed.message.unwrap();
    assert!(message.contains("exited with 3; given up after 2 restarts within 600 s"), "{message}");
    assert!(failed.hint.is_some());
    let log = stage.control.log(of("dispatcher"), 10).await.unwrap();
    assert_eq!(log.lines, ["it hurts"]);

    stage.program("dispatcher", OBEDIENT);
    let asked = stage.control.start(of("dispatcher"), &stage.settings()).await.unwrap();
    assert_eq!((asked.process.state, asked.skipped), (Starting, None));
    assert_eq!(stage.wait("dispatcher", Running).await.generation, Some(4));
}

#[tokio::test]
async fn an_end_that_nobody_asked_for_is_followed_by_a_start_even_a_clean_one() {
    let stage = Stage::new(&[]).await;
    // Ends once, cleanly; then stays.
    let script = format!("mkdir once 2>/dev/null && exit 0\n{OBEDIENT}");
    stage.program("dispatcher", &script);
    let mut stage = stage;
    stage.manage();
    let pid = stage.wait_generation("dispatcher", 2).await;
    let exit = stage.row("dispatcher").await.last_exit.unwrap();
    assert_eq!((exit.outcome.as_str(), exit.unasked), ("exited with 0", true));
    kill(pid);
    stage.wait_generation("dispatcher", 3).await;
    let row = stage.row("dispatcher").await;
    assert_eq!(row.last_exit.unwrap().outcome, "ended by signal 9");
    assert_eq!(row.restarts, 2);
}

#[tokio::test]
async fn a_missing_program_is_told_with_what_builds_it_and_started_once_it_is_there() {
    let stage = Stage::new(&[("PROCESS_RESTART_MAX_ATTEMPTS", "1")]).await;
    stage.remove_program("dispatcher");
    let mut stage = stage;
    stage.manage();
    // More often than a process that ends may be started, and it is not given up.
    let looked_for = wait_for("it to be looked for again and again", DEADLINE, async || {
        let row = stage.show("dispatcher").await;
        let long = row.message.as_ref().is_some_and(|text| text.contains("again after 0.08 s"));
        if long { Ok(row) } else { Err(format!("{row:?}")) }
    })
    .await;
    assert_eq!((looked_for.state, looked_for.restarts), (BackingOff, 0));
    assert!(looked_for.message.unwrap().contains("not found"));
    assert!(looked_for.hint.unwrap().contains("cargo build -p dispatcher"));
    stage.program("dispatcher", OBEDIENT);
    let running = stage.wait("dispatcher", Running).await;
    assert_eq!((running.restarts, running.message, running.hint), (0, None, None));
}

#[tokio::test]
async fn a_missing_program_is_looked_for_at_once_when_somebody_asks() {
    let stage = Stage::new(&[("PROCESS_RESTART_DELAY_MS", "60000")]).await;
    stage.remove_program("dispatcher");
    let mut stage = stage;
    stage.manage();
    stage.wait("dispatcher", BackingOff).await;
    stage.program("dispatcher", OBEDIENT);
    stage.control.start(of("dispatcher"), &stage.settings()).await.unwrap();
    stage.wait("dispatcher", Running).await;
}

#[tokio::test]
async fn a_process_that_backs_off_is_left_alone_when_it_is_not_wanted_any_more() {
    let stage = Stage::new(&[("PROCESS_RESTART_DELAY_MS", "60000")]).await;
    stage.program("dispatcher", "exit 1");
    let mut stage = stage;
    stage.manage();
    stage.wait("dispatcher", BackingOff).await;
    stage.control.stop(of("dispatcher"), &stage.settings()).await.unwrap();
    stage.wait("dispatcher", Stopped).await;
    // Started by hand it does not wait.
    stage.program("dispatcher", OBEDIENT);
    stage.control.start(of("dispatcher"), &stage.settings()).await.unwrap();
    stage.wait("dispatcher", Running).await;
}

#[tokio::test]
async fn only_the_last_launches_of_a_name_are_kept() {
    let stage = Stage::new(&[("PROCESS_RESTART_MAX_ATTEMPTS", "7")]).await;
    stage.program("dispatcher", "exit 1");
    let mut stage = stage;
    let first = stage.manage();
    stage.wait("dispatcher", Failed).await;
    assert_eq!(stage.launches().await.len(), 8);
    stage.kill_manager(first).await;
    stage.manage();
    wait_for("old launches to be cleared away", DEADLINE, async || {
        let mut left: Vec<String> = stage
            .launches()
            .await
            .into_iter()
            .map(|l| l.labels["opentiger.generation"].clone())
            .collect();
        left.sort();
        if left == ["5", "6", "7", "8"] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}
