//! Self-tests as clients ask for them, with the test in the dispatcher's place.

use core_types::{
    self_test::{SelfTestReport, TestStep},
    task::{ExecutionEnvironment, ExecutorKind},
};
use http::StatusCode;
use serde_json::json;
use store::{
    agents::{HostId, ProcessIdentity},
    dispatchers::DispatcherBeat,
    self_tests::SelfTestKey,
};
use testing::wait::wait_for;
use uuid::Uuid;

use crate::support::Api;

const SANDBOX: &[(&str, &str)] = &[("EXECUTION_ENVIRONMENT", "sandbox")];

pub(crate) fn beat() -> DispatcherBeat {
    let process =
        ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "a boot of a test".to_owned() };
    DispatcherBeat {
        id: Uuid::now_v7(),
        host: HostId::new("there"),
        process,
        version: "test".to_owned(),
        paused: None,
    }
}

fn key(executor: ExecutorKind) -> SelfTestKey {
    SelfTestKey { host: HostId::new("there"), environment: ExecutionEnvironment::Sandbox, executor }
}

fn passed() -> SelfTestReport {
    let mut report = SelfTestReport { took_ms: 1_234, ..SelfTestReport::default() };
    TestStep::ALL.iter().for_each(|step| report.passes(*step));
    report
}

#[tokio::test]
async fn a_self_test_is_asked_for_and_told_with_its_steps() {
    let api = Api::start_with(SANDBOX).await;
    let none = api.post("/system/self-test", &json!({})).await;
    assert_eq!(none.error(), (409, "no_dispatcher".to_owned()), "{}", none.json);
    let store = &api.database.store;
    store.dispatcher_beat(&beat()).await.unwrap();
    let opencode = key(ExecutorKind::Opencode);
    let answering = async {
        wait_for("the question", std::time::Duration::from_secs(20), async || {
            let tests = store.self_tests().await.unwrap();
            let asked = |test: &store::self_tests::SelfTest| test.asked_at.is_some();
            if tests.iter().any(asked) { Ok(()) } else { Err(format!("{tests:?}")) }
        })
        .await;
        let report = SelfTestReport::failed(TestStep::Cli, "it is not there", Some("install it"));
        let again = Some(std::time::Duration::from_secs(60));
        store.record_self_test(&opencode, "image 1", &report, again).await.unwrap();
    };
    let path = "/system/self-test?environment=sandbox&executor=opencode";
    let body = json!({});
    let (answer, ()) = tokio::join!(api.post(path, &body), answering);
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let told = &answer.json["items"][0];
    assert_eq!((&told["state"], &told["host"]), (&json!("failed"), &json!("there")));
    assert_eq!(
        (&told["message"], &told["hint"]),
        (&json!("cli: it is not there"), &json!("install it"))
    );
    assert_eq!(told["steps"][0]["ok"], false);
    assert_eq!(told["failures"], 1);
    assert!(told["retry_at"].is_string());
    let list = api.get("/system/self-test").await.json;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_task_waits_for_an_executor_that_failed_and_not_for_one_that_passed() {
    let api = Api::start_with(SANDBOX).await;
    let store = &api.database.store;
    store.dispatcher_beat(&beat()).await.unwrap();
    let task = api.make(&json!({})).await;
    let kind = async || api.get(&format!("/tasks/{task}")).await.json["waiting"].clone();
    assert_eq!(kind().await["kind"], "turn");
    let claude = key(ExecutorKind::ClaudeCode);
    let report = SelfTestReport::failed(TestStep::State, "it cannot be written", Some("mend it"));
    store.record_self_test(&claude, "image 1", &report, None).await.unwrap();
    let waiting = kind().await;
    assert_eq!((&waiting["kind"], &waiting["hint"]), (&json!("self_test"), &json!("mend it")));
    store.record_self_test(&claude, "image 2", &passed(), None).await.unwrap();
    assert_eq!(kind().await["kind"], "turn");
}

#[tokio::test]
async fn other_words_are_refused() {
    let api = Api::start_with(SANDBOX).await;
    for query in ["environment=host", "environment=moon", "executor=gcc", "other=1"] {
        let answer = api.post(&format!("/system/self-test?{query}"), &json!({})).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
}
