//! What concurrent and later callers get.

use std::fs;

use core_types::{
    auth::{AuthReason as R, CheckedBy},
    secret::Secret,
    task::{ExecutionEnvironment, ExecutorKind},
};
use tokio::task::JoinSet;

use crate::world::{KEY, World, found};

/// A world whose Claude Code says that it was called.
fn counted() -> World {
    let mut world = World::new();
    world.settings.claude_code.api_key = Some(Secret::new(KEY));
    let calls = world.dir.path().join("calls");
    let reply = r#"{"type":"result","subtype":"success","is_error":false,"result":"OK"}"#;
    world.stand_in(&format!("echo call >> '{}'; sleep 0.3; echo '{reply}'", calls.display()));
    world
}

fn calls(world: &World) -> usize {
    fs::read_to_string(world.dir.path().join("calls")).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn fifty_concurrent_checks_are_one_run_and_its_answer_holds_until_a_fresh_one_is_asked_for() {
    let world = counted();
    let checker = world.checker();
    for (refresh, expected) in [(true, 1), (false, 1), (true, 2)] {
        let mut callers = JoinSet::new();
        for _ in 0..50 {
            let (checker, ask) = (checker.clone(), world.ask(ExecutorKind::ClaudeCode));
            callers.spawn(
                async move { checker.check(ExecutionEnvironment::Host, ask, refresh).await },
            );
        }
        let reports = callers.join_all().await;
        assert!(reports.iter().all(|report| report.finding.reason == R::Ready));
        let own = reports.iter().filter(|report| !report.cached).count();
        assert_eq!(own, usize::from(refresh));
        assert_eq!(calls(&world), expected);
    }
    world.nothing_is_left().await;
}

#[tokio::test]
async fn answer_to_another_question_is_not_taken() {
    let mut world = counted();
    let checker = world.checker();
    let ask = world.ask(ExecutorKind::ClaudeCode);
    checker.check(ExecutionEnvironment::Host, ask, false).await;
    world.settings.claude_code.api_key = Some(Secret::new("sk-ant-another"));
    let ask = world.ask(ExecutorKind::ClaudeCode);
    let report = checker.check(ExecutionEnvironment::Host, ask, false).await;
    assert!(!report.cached);
    assert_eq!(calls(&world), 2);
}

#[tokio::test]
async fn sandbox_that_nobody_can_check_is_unknown_and_never_ready() {
    let world = counted();
    let ask = world.ask(ExecutorKind::ClaudeCode);
    let report = world.checker().check(ExecutionEnvironment::Sandbox, ask, false).await;
    found(&report.finding, R::Unknown, CheckedBy::Credentials);
    assert!(!report.finding.reason.is_authenticated());
}
