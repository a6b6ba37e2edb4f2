//! Limits on tokens and money: of a task over all its runs, of a day over all runs.

use core_types::{
    event::RunEvent,
    outcome::{RunOutcome, RunReport},
    task::TaskState,
    usage::Usage,
};

use crate::bench::{Bench, Told};

fn tokens(count: u64) -> Usage {
    Usage { output_tokens: count, ..Usage::default() }
}

/// What the run said that ended it.
#[track_caller]
fn message(told: &Told) -> &str {
    told.assert_outcome(RunOutcome::LimitReached);
    told.report().message.as_deref().expect("a reached limit says which")
}

fn started_an_agent(told: &Told) -> bool {
    told.events.iter().any(|event| matches!(event, RunEvent::AgentStarted { .. }))
}

#[tokio::test]
async fn a_task_that_used_up_its_tokens_in_earlier_runs_starts_no_agent_again() {
    let bench = Bench::with_fake_agent().await;
    let mut task = bench.task("[fake: ok] [file: made.txt]");
    (task.token_limit, task.max_attempts) = (Some(500), 2);
    let first = bench.start(task).await;
    let spent = RunReport { usage: tokens(600), ..RunReport::new(RunOutcome::WorkerLost) };
    bench.shop.store.finish_run(first.key, &spent).await.unwrap();
    let told = bench.work_again().await;
    let said = message(&told);
    assert!(said.contains("limit of 500 tokens") && said.contains("600 used"), "{said}");
    assert_eq!(told.task.state, TaskState::Failed);
    assert!(!started_an_agent(&told));
    bench.assert_clean().await;
}

#[tokio::test]
async fn a_limit_for_tasks_that_set_none_stops_the_agent_at_work() {
    let mut bench = Bench::with_fake_agent().await;
    bench.policy.spend.task_tokens = Some(100);
    let told = bench.work(bench.task("[fake: slow] [seconds: 60] [file: made.txt]")).await;
    let said = message(&told);
    assert!(said.contains("limit of 100 tokens"), "{said}");
    assert!(started_an_agent(&told));
    assert!(told.report().usage.total_tokens() >= 100, "what was used is kept");
    let day = bench.shop.store.day_spend().await.unwrap();
    assert_eq!(day.tokens, told.report().usage.total_tokens());
    bench.assert_clean().await;
}

#[tokio::test]
async fn parallel_runs_are_stopped_when_together_they_reach_the_days_tokens() {
    let mut bench = Bench::with_fake_agent().await;
    // One run alone stays below it.
    bench.policy.spend.day_tokens = Some(200);
    let slow = || bench.task("[fake: slow] [seconds: 60] [file: made.txt]");
    let (one, two) = (bench.start(slow()).await, bench.start(slow()).await);
    let keys = [one.key.run, two.key.run];
    let work = |run| agent::run::work_on(&bench.shop, run, &bench.policy, &bench.stop);
    tokio::join!(work(one), work(two));
    for run in keys {
        let told = bench.told(run).await;
        let said = message(&told);
        assert!(said.contains("the day's limit of 200 tokens"), "{said}");
        assert_eq!((told.task.state, told.task.attempts), (TaskState::Queued, 0));
        let day = bench.shop.store.day_spend().await.unwrap();
        assert_eq!(told.report().retry_at, Some(day.ends_at));
    }
    bench.assert_clean().await;
}

#[tokio::test]
async fn on_a_spent_day_no_agent_is_started_and_the_task_waits_for_the_next() {
    let mut bench = Bench::with_fake_agent().await;
    let first = bench.start(bench.task("anything")).await;
    let spent = RunReport { usage: tokens(1000), ..RunReport::new(RunOutcome::AgentFailed) };
    bench.shop.store.finish_run(first.key, &spent).await.unwrap();
    bench.policy.spend.day_tokens = Some(1000);
    let told = bench.work(bench.task("[fake: ok] [file: made.txt]")).await;
    assert!(message(&told).contains("1000 used by all runs"));
    assert!(!started_an_agent(&told));
    assert!(told.task.not_before.is_some());
    bench.assert_clean().await;
}
