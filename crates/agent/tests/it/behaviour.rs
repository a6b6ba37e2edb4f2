//! Agents that hang, flood, ignore TERM, fork away, do nothing, or eat memory (the scripted program).

use std::time::{Duration, Instant};

use core_types::{
    event::RunEvent,
    outcome::RunOutcome,
    task::{Role, TaskStatus},
};
use store::tasks::cancel::CancelResult;

use crate::bench::Bench;

/// A shell script in the place of the CLI; gone with the directory.
fn script(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::TempDir::new().expect("a temporary directory can be made");
    let script = directory.path().join("claude");
    std::fs::write(&script, format!("#!/bin/sh\n{text}")).expect("the directory is ours");
    testing::repository::set_mode(&script, 0o755);
    (directory, script)
}

#[tokio::test]
async fn good_agent_ends_in_a_commit_on_the_runs_branch() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    task.verification = vec![vec!["test".into(), "-f".into(), "made.txt".into()]];
    let id = task.id;
    let told = bench.work(task).await;
    told.assert_outcome(RunOutcome::Succeeded);
    assert_eq!(told.task.state.status(), TaskStatus::Done);
    let branch = format!("opentiger/{id}-1");
    assert_eq!(told.report().branch.as_deref(), Some(&*branch));
    let files = bench.repository.git(&["show", "--name-only", "--format=", &branch]);
    assert_eq!(files.trim(), "made.txt");
    assert!(told.report().usage.total_tokens() > 0);
    let phases: Vec<&str> = told
        .events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Phase { name } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(phases, ["preparing", "agent", "sealing", "verifying", "committing"]);
    assert!(matches!(told.events.last(), Some(RunEvent::Ended { .. })), "{:?}", told.events.last());
    bench.assert_clean().await;
}

#[tokio::test]
async fn silent_agent_is_stopped_at_its_idle_limit() {
    let mut bench = Bench::with_fake_agent().await;
    bench.policy.idle_timeout = Duration::from_secs(1);
    let told = bench.work(bench.task("[fake: hang]")).await;
    told.assert_outcome(RunOutcome::IdleTimeout);
    bench.assert_clean().await;
}

#[tokio::test]
async fn agent_that_works_too_long_is_stopped_at_its_timebox() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: slow] [seconds: 60] [file: made.txt]");
    task.timebox = Some(Duration::from_secs(2));
    let told = bench.work(task).await;
    told.assert_outcome(RunOutcome::TimedOut);
    bench.assert_clean().await;
}

#[tokio::test]
async fn agent_that_ignores_term_is_gone_a_grace_after_the_cancel() {
    let bench = Bench::with_fake_agent().await;
    let started = bench.start(bench.task("[fake: ignore-term]")).await;
    let (key, task) = (started.key, started.task.new.id);
    let cancel = async {
        bench.wait_hello(key.run).await;
        let asked = Instant::now();
        let result = bench.shop.store.cancel_task(task, "a test").await.unwrap();
        assert!(matches!(result, CancelResult::Requested), "{result:?}");
        asked
    };
    let work = agent::run::work_on(&bench.shop, started, &bench.policy, &bench.stop);
    let (asked, ()) = tokio::join!(cancel, work);
    // Grace 1 s; the rest is room for a loaded machine.
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    let told = bench.told(key.run).await;
    told.assert_outcome(RunOutcome::Cancelled);
    assert_eq!(told.task.state.status(), TaskStatus::Cancelled);
    bench.assert_clean().await;
}

#[tokio::test]
async fn process_forked_away_is_dead_before_verification() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: fork-away] [file: made.txt]");
    task.verification = vec![vec!["true".into()]];
    let told = bench.work(task).await;
    told.assert_outcome(RunOutcome::Succeeded);
    let leftovers = told.events.iter().find_map(|event| match event {
        RunEvent::AgentExited { leftovers_killed, .. } => Some(*leftovers_killed),
        _ => None,
    });
    assert!(leftovers.is_some_and(|count| count >= 1), "{:?}", told.events);
    bench.assert_clean().await;
}

#[tokio::test]
async fn flood_is_bounded_and_its_result_still_counts() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: flood]");
    task.role = Role::Tester;
    let told = bench.work(task).await;
    told.assert_outcome(RunOutcome::NoChange);
    bench.assert_clean().await;
}

#[tokio::test]
async fn worker_that_changed_nothing_failed_and_a_tester_did_not() {
    let bench = Bench::with_fake_agent().await;
    let told = bench.work(bench.task("[fake: nothing]")).await;
    told.assert_outcome(RunOutcome::NothingDone);
    assert_eq!(told.task.state.status(), TaskStatus::Failed);
    let mut task = bench.task("[fake: nothing]");
    task.role = Role::Tester;
    let told = bench.work(task).await;
    told.assert_outcome(RunOutcome::NoChange);
    assert_eq!(told.task.state.status(), TaskStatus::Done);
}

#[tokio::test]
async fn exit_code_zero_without_a_result_is_a_failure() {
    let bench = Bench::with_fake_agent().await;
    let told = bench.work(bench.task("[fake: exit-zero]")).await;
    told.assert_outcome(RunOutcome::AgentFailed);
    assert_eq!(told.task.state.status(), TaskStatus::Failed);
}

#[tokio::test]
async fn failed_verification_moves_no_branch_and_keeps_the_output() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    task.verification = vec![vec!["ls".into(), "not-there.txt".into()]];
    let told = bench.work(task).await;
    told.assert_outcome(RunOutcome::VerificationFailed);
    assert!(
        told.report().message.as_ref().is_some_and(|message| message.contains("ls not-there.txt"))
    );
    let output = told.events.iter().find_map(|event| match event {
        RunEvent::Verification { passed: false, output, .. } => Some(output.clone()),
        _ => None,
    });
    assert!(output.is_some_and(|output| output.contains("not-there.txt")));
    assert_eq!(bench.repository.git(&["branch", "--list", "opentiger/*"]), "");
}

#[tokio::test]
async fn verification_sees_a_fresh_home_and_no_variable_of_the_worker() {
    // The agent leaves something where a home of a foreseeable name would be.
    let fake = testing::programs::fake_agent_path();
    let plant = "mkdir -p \"$TMPDIR/verify0/home\" && touch \"$TMPDIR/verify0/home/planted\"";
    let (_directory, script) = script(&format!("{plant}\nexec '{}' \"$@\"\n", fake.display()));
    let bench = Bench::new(&script, &[]).await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    let look = "env; ls -A \"$HOME\" \"$TMPDIR\"; exit 1";
    task.verification = vec![vec!["sh".into(), "-c".into(), look.into()]];
    let told = bench.work(task).await;
    let output = told.events.iter().find_map(|event| match event {
        RunEvent::Verification { output, .. } => Some(output.clone()),
        _ => None,
    });
    let output = output.expect("verification ran");
    assert!(output.contains("HOME=") && output.contains("TMPDIR="), "{output}");
    for canary in ["planted", "canary-of-the-worker", "GITHUB_TOKEN", "ANTHROPIC"] {
        assert!(!output.contains(canary), "{output}");
    }
}

#[tokio::test]
async fn crash_is_a_failure() {
    let bench = Bench::with_fake_agent().await;
    let told = bench.work(bench.task("[fake: crash]")).await;
    told.assert_outcome(RunOutcome::AgentFailed);
    bench.assert_clean().await;
}

#[tokio::test]
async fn garbage_in_the_output_hides_no_result() {
    let bench = Bench::with_fake_agent().await;
    let told = bench.work(bench.task("[fake: garbage] [file: made.txt]")).await;
    told.assert_outcome(RunOutcome::Succeeded);
    let noise = told.events.iter().filter(|event| matches!(event, RunEvent::Output { .. })).count();
    assert!(noise > 0, "what is no event is kept: {:?}", told.events);
}

#[tokio::test]
async fn agent_that_ends_itself_by_a_signal_costs_an_attempt() {
    let (_directory, script) = script("kill -TERM $$\nsleep 60\n");
    let bench = Bench::new(&script, &[]).await;
    let told = bench.work(bench.task("anything")).await;
    told.assert_outcome(RunOutcome::AgentFailed);
    assert_eq!((told.task.state.status(), told.task.attempts), (TaskStatus::Failed, 1));
}

#[tokio::test]
async fn agent_that_eats_memory_is_ended_at_its_limit_or_never_started() {
    let limit = [("AGENT_MEMORY_LIMIT_BYTES", "134217728")];
    let bench = Bench::new(&testing::programs::fake_agent_path(), &limit).await;
    let honoured = bench.shop.launcher.probe().await.unwrap().limit_memory;
    let told = bench.work(bench.task("[fake: oom]")).await;
    // A limit is honoured or refused, never ignored.
    let expected = if honoured { RunOutcome::OutOfMemory } else { RunOutcome::LaunchFailed };
    told.assert_outcome(expected);
    bench.assert_clean().await;
}

#[tokio::test]
async fn agent_is_stopped_at_its_limit_of_tokens() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: slow] [seconds: 60] [file: made.txt]");
    task.token_limit = Some(50);
    let told = bench.work(task).await;
    told.assert_outcome(RunOutcome::LimitReached);
    bench.assert_clean().await;
}

#[tokio::test]
async fn stopping_worker_gives_its_run_back_without_costing_an_attempt() {
    let bench = Bench::with_fake_agent().await;
    let started = bench.start(bench.task("[fake: hang]")).await;
    let key = started.key;
    let stop = async {
        bench.wait_hello(key.run).await;
        bench.stop.cancel();
    };
    tokio::join!(stop, agent::run::work_on(&bench.shop, started, &bench.policy, &bench.stop));
    let told = bench.told(key.run).await;
    told.assert_outcome(RunOutcome::Interrupted);
    assert_eq!(told.task.state.status(), TaskStatus::Queued);
    assert_eq!(told.task.attempts, 0);
    bench.assert_clean().await;
}

#[tokio::test]
async fn missing_command_line_is_a_launch_failure_with_a_hint() {
    let bench = Bench::new(std::path::Path::new("/nowhere/claude"), &[]).await;
    let told = bench.work(bench.task("anything")).await;
    told.assert_outcome(RunOutcome::LaunchFailed);
    assert!(
        told.report().message.as_ref().is_some_and(|message| message.contains("/nowhere/claude"))
    );
    assert!(told.report().hint.is_some());
}

#[tokio::test]
async fn missing_base_branch_fails_the_task_with_the_reason() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    task.base_branch = Some("no-such-branch".to_owned());
    let told = bench.work(task).await;
    told.assert_outcome(RunOutcome::BaseBranchMissing);
    assert!(
        told.report().message.as_ref().is_some_and(|message| message.contains("no-such-branch"))
    );
    assert_eq!(told.task.state.status(), TaskStatus::Failed);
}
