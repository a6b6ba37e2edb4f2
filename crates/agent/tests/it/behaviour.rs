//! Agents that hang, flood, ignore TERM, fork away, do nothing, or eat memory (the scripted program).

use std::time::{Duration, Instant};

use core_types::{
    event::RunEvent,
    outcome::RunOutcome,
    task::{Role, TaskStatus},
};
use store::tasks::cancel::CancelResult;

use crate::bench::Bench;

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
        testing::wait::wait_for("the agent to say hello", Duration::from_secs(20), async || {
            let events = bench.told(key.run).await.events;
            let hello = events.iter().any(|e| matches!(e, RunEvent::AgentStarted { .. }));
            if hello { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
        let asked = Instant::now();
        let result = bench.shop.store.cancel_task(task, "a test").await.unwrap();
        assert!(matches!(result, CancelResult::Requested), "{result:?}");
        asked
    };
    let work = agent::run::work_on(&bench.shop, started, &bench.policy, &bench.stop);
    let (asked, ()) = tokio::join!(cancel, work);
    // Grace 1 s; the rest is room for a loaded machine.
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
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
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    task.verification =
        vec![vec!["sh".into(), "-c".into(), "env; test -z \"$(ls -A \"$HOME\")\"; exit 1".into()]];
    let told = bench.work(task).await;
    let output = told.events.iter().find_map(|event| match event {
        RunEvent::Verification { output, .. } => Some(output.clone()),
        _ => None,
    });
    let output = output.expect("verification ran");
    assert!(output.contains("HOME="), "{output}");
    for canary in ["canary-of-the-worker", "GITHUB_TOKEN", "ANTHROPIC"] {
        assert!(!output.contains(canary), "{output}");
    }
}

#[tokio::test]
async fn stopping_worker_gives_its_run_back_without_costing_an_attempt() {
    let bench = Bench::with_fake_agent().await;
    let started = bench.start(bench.task("[fake: hang]")).await;
    let key = started.key;
    let stop = async {
        testing::wait::wait_for("the agent to say hello", Duration::from_secs(20), async || {
            let events = bench.told(key.run).await.events;
            let hello = events.iter().any(|e| matches!(e, RunEvent::AgentStarted { .. }));
            if hello { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await;
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
    told.assert_outcome(RunOutcome::CheckoutFailed);
    assert!(
        told.report().message.as_ref().is_some_and(|message| message.contains("no-such-branch"))
    );
    assert_eq!(told.task.state.status(), TaskStatus::Failed);
}
