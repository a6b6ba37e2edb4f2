//! The self-test of sandboxes, as `doctor --self-test` asks for it.

use std::time::Duration;

use client::client::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::doctor::{Check, check};
use crate::failure::Failure;

/// Where it is asked for, and what was found.
const PATH: &str = "/system/self-test";
/// Longest wait for what was asked for.
const WITHIN: Duration = Duration::from_secs(240);

/// Has every host make a self-test, and tells what came of it.
pub(super) async fn run(client: &Client) -> Result<Vec<Check>, Failure> {
    let mut told = client.post(PATH, &json!({})).await?;
    let until = Instant::now() + WITHIN;
    let asked: Vec<String> = items(&told).map(key).collect();
    while items(&told).any(|test| is(test, "pending")) && Instant::now() < until {
        sleep(Duration::from_secs(1)).await;
        let mut all = client.get(PATH).await?;
        if let Some(Value::Array(list)) = all.get_mut("items") {
            list.retain(|test| asked.contains(&key(test)));
        }
        told = all;
    }
    Ok(items(&told).map(of).collect())
}

/// What is told of one that nobody makes.
pub(super) fn not_made(why: &str) -> Check {
    let fix = "`opentiger up`, and see to it that a dispatcher runs (DISPATCHER_ENABLED), then test again";
    check("self_test", "unknown", format!("not made: {why}"), Some(fix))
}

fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(test: &'a Value, field: &str) -> &'a str {
    test.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is(test: &Value, state: &str) -> bool {
    text(test, "state") == state
}

fn key(test: &Value) -> String {
    format!("{}/{}/{}", text(test, "host"), text(test, "environment"), text(test, "executor"))
}

fn of(test: &Value) -> Check {
    let executor = text(test, "executor");
    if is(test, "passed") {
        let took = test.get("took_ms").and_then(Value::as_u64).unwrap_or_default();
        let version = text(test, "cli_version");
        let found = format!("{executor} {version} did a scripted task in {took} ms");
        return check("self_test", "ok", found.replace("  ", " "), None);
    }
    if is(test, "pending") {
        let cause = format!("the self-test of {executor} is not done yet");
        return check("self_test", "unknown", cause, Some("look at the dispatcher's log"));
    }
    let fix = Some(text(test, "hint")).filter(|hint| !hint.is_empty());
    let cause = format!("{executor} {}", text(test, "message"));
    check("self_test", "fail", cause, fix.or(Some("mend the image, then test again")))
}
