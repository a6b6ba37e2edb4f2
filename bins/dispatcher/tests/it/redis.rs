//! Redis stopped, emptied, slow, wrong or absent: every task is done, once, and it is used again when it is back.

use serde_json::{Value, json};
use testing::{redis::TestRedis, wait::wait_for};

use crate::system::{DEADLINE, System, text_at};

/// An agent that writes a file at once.
const QUICK: &str = "[fake: slow] [seconds: 0] [file: made.txt]";

async fn system_with(redis: &str) -> System {
    let fake = testing::programs::fake_agent_path().to_string_lossy().into_owned();
    let system = System::start([
        ("CLAUDE_CODE_COMMAND".to_owned(), fake),
        ("REDIS_URL".to_owned(), redis.to_owned()),
    ])
    .await;
    system.wait_ready(200).await;
    system
}

/// Waits until readiness says this of Redis; the system is ready all the while.
async fn redis_is(system: &System, wanted: &str) {
    wait_for(&format!("redis to be `{wanted}`"), DEADLINE, async || {
        let ready = system.wait_ready(200).await;
        let checks = ready.pointer("/checks").and_then(Value::as_array).cloned();
        let said = checks.unwrap_or_default().into_iter().find(|check| check["name"] == "redis");
        let said = said.map(|check| text_at(&check, "/message")).unwrap_or_default();
        if said.contains(wanted) { Ok(()) } else { Err(said) }
    })
    .await;
}

async fn all_done_once(system: &System, tasks: &[String]) {
    for task in tasks {
        system.wait_status(task, "done").await;
        let runs = system.runs(task).await;
        assert_eq!(runs.len(), 1, "{task}: {runs:?}");
        assert_eq!(text_at(&runs[0], "/outcome"), "succeeded");
    }
}

#[tokio::test]
async fn every_task_is_done_once_whatever_happens_to_redis() {
    let mut redis = TestRedis::start().await;
    let system = system_with(redis.url().expose()).await;
    redis_is(&system, "Redis answers").await;
    let mut tasks = Vec::new();
    let queue = async |tasks: &mut Vec<String>| {
        for _ in 0..2 {
            tasks.push(system.queue(QUICK, json!({})).await);
        }
    };
    queue(&mut tasks).await;
    redis.freeze();
    queue(&mut tasks).await;
    redis_is(&system, "does not answer in time").await;
    queue(&mut tasks).await;
    redis.thaw();
    redis_is(&system, "Redis answers").await;
    queue(&mut tasks).await;
    assert_eq!(redis.say("FLUSHALL").await, "+OK");
    queue(&mut tasks).await;
    redis.kill();
    queue(&mut tasks).await;
    redis_is(&system, "cannot be reached").await;
    redis.start_again().await;
    redis_is(&system, "Redis answers").await;
    queue(&mut tasks).await;
    all_done_once(&system, &tasks).await;
}

#[tokio::test]
async fn entries_that_are_stale_doubled_or_none_start_nothing() {
    let redis = TestRedis::start().await;
    let system = system_with(redis.url().expose()).await;
    let first = system.queue(QUICK, json!({})).await;
    all_done_once(&system, std::slice::from_ref(&first)).await;
    let run = text_at(&system.runs(&first).await[0], "/id");
    let (_, agents) = system.http.get("/agents").await.unwrap();
    let agent = text_at(&agents, "/items/0/id");
    let instance = system.database.as_ref().unwrap().store.instance().await.unwrap();
    let inbox = format!("opentiger:{instance}:inbox:{agent}");
    for entry in [format!("\"{run} 1\""), format!("\"{run} 1\""), "junk".to_owned()] {
        let pushed = redis.say(&format!("RPUSH {inbox} {entry}")).await;
        assert!(pushed.starts_with(':'), "{pushed}");
    }
    let second = system.queue(QUICK, json!({})).await;
    all_done_once(&system, &[first, second]).await;
}

#[tokio::test]
async fn an_absent_redis_and_a_wrong_password_stop_nothing() {
    let mut redis = TestRedis::absent();
    let system = system_with(redis.url().expose()).await;
    redis_is(&system, "slower: Redis cannot be reached, using the database").await;
    let mut tasks = vec![system.queue(QUICK, json!({})).await];
    all_done_once(&system, &tasks).await;
    redis.start_again().await;
    redis_is(&system, "Redis answers").await;
    tasks.push(system.queue(QUICK, json!({})).await);
    all_done_once(&system, &tasks).await;

    let wrong = redis.url().expose().replace(":testing@", ":hunter2@");
    let system = system_with(&wrong).await;
    redis_is(&system, "refuses the user or the password").await;
    let task = system.queue(QUICK, json!({})).await;
    all_done_once(&system, &[task]).await;
    assert!(!system.logs().contains("hunter2"), "the password is in a log");
}

#[tokio::test]
async fn a_private_redis_is_started_and_shared_and_its_death_is_survived() {
    let system = System::with_private_postgres().await;
    redis_is(&system, "Redis answers").await;
    let first = system.queue(QUICK, json!({})).await;
    all_done_once(&system, std::slice::from_ref(&first)).await;
    system.kill_redis().await;
    let second = system.queue(QUICK, json!({})).await;
    all_done_once(&system, &[first, second]).await;
    redis_is(&system, "Redis answers").await;
}
