//! Settings, agents and health as clients see them.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use store::{
    agents::{HostId, ProcessIdentity},
    dispatchers::DispatcherBeat,
};

use crate::{
    agent::TestAgent,
    support::{Api, settings},
};

fn setting<'a>(config: &'a Value, key: &str) -> &'a Value {
    let settings = config["settings"].as_array().expect("settings are a list");
    settings.iter().find(|setting| setting["key"] == key).expect("the key is there")
}

fn failing(ready: &Value) -> Vec<&str> {
    let checks = ready["checks"].as_array().expect("checks are a list");
    checks
        .iter()
        .filter(|check| check["ok"] == false)
        .filter_map(|check| check["name"].as_str())
        .collect()
}

#[tokio::test]
async fn settings_show_value_source_and_what_lies_beneath_and_never_a_secret() {
    let variables = [("ANTHROPIC_API_KEY", "sk-ant-hunter2-0042"), ("CANCEL_GRACE_S", "5")];
    let api = Api::start_with(&variables).await;
    let rows = [("CANCEL_GRACE_S", json!(7)), ("TASK_TIMEBOX_S", json!(60))];
    api.settings.send_replace(Arc::new(settings(&variables, &rows)));
    let config = api.get("/config").await.json;
    assert!(!config.to_string().contains("hunter2"));
    let key = setting(&config, "ANTHROPIC_API_KEY");
    assert_eq!(key["value"], json!({ "set": true, "last_four": "0042" }));
    assert_eq!((&key["source"], &key["secret"]), (&json!("environment"), &json!(true)));
    let grace = setting(&config, "CANCEL_GRACE_S");
    assert_eq!(grace["value"], 5);
    assert_eq!(grace["without_environment"], json!({ "value": 7, "source": "database" }));
    assert_eq!(setting(&config, "TASK_TIMEBOX_S")["source"], "database");
    assert_eq!(setting(&config, "LLM_EXECUTOR")["source"], "default");
    assert_eq!(config["revision"], 3);
    assert_eq!(config["database_faults"], json!([]));
    assert_eq!(config.get("hash"), None, "a hash over secrets helps to guess them");
}

#[tokio::test]
async fn a_bad_row_is_marked_and_makes_the_system_unready_while_the_api_serves() {
    let api = Api::start().await;
    api.settings.send_replace(Arc::new(settings(&[], &[("CANCEL_GRACE_S", json!("soon"))])));
    let config = api.get("/config").await.json;
    assert_eq!(config["database_faults"][0]["key"], "CANCEL_GRACE_S");
    let ready = api.get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(failing(&ready.json).contains(&"settings"));
    api.make(&json!({})).await;
}

#[tokio::test]
async fn readiness_names_what_is_missing_until_everything_is_there() {
    let api = Api::start().await;
    assert_eq!(api.get("/health").await.json["status"], "ok");
    let ready = api.get("/health/ready").await;
    assert_eq!(ready.error(), (503, "not_ready".to_owned()));
    assert_eq!(ready.text("error"), "no dispatcher runs; no agent is alive");
    assert_eq!(failing(&ready.json), ["dispatcher", "agent"]);

    TestAgent::register(&api.database.store).await;
    let mut beat = DispatcherBeat {
        id: uuid::Uuid::now_v7(),
        host: HostId::new("here"),
        process: ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "boot".to_owned() },
        version: "0.1.0".to_owned(),
        paused: Some("the house is on fire".to_owned()),
    };
    api.database.store.dispatcher_beat(&beat).await.unwrap();
    let paused = api.get("/health/ready").await;
    assert_eq!(paused.text("error"), "no dispatcher takes tasks: the house is on fire");
    beat.paused = None;
    api.database.store.dispatcher_beat(&beat).await.unwrap();
    let ready = api.get("/health/ready").await;
    assert_eq!((ready.status, &ready.json["ready"]), (StatusCode::OK, &json!(true)));

    api.stop.cancel();
}

#[tokio::test]
async fn agents_are_listed_with_what_they_do() {
    let api = Api::start().await;
    assert_eq!(api.get("/agents").await.json, json!({ "items": [] }));
    api.make(&json!({})).await;
    let key = TestAgent::register(&api.database.store).await.start_next().await;
    let agents = api.get("/agents").await.json;
    let agent = &agents["items"][0];
    assert_eq!((&agent["name"], &agent["live"]), (&json!("worker-1"), &json!(true)));
    assert_eq!(agent["run"], key.run.to_string());
}

#[tokio::test]
async fn while_the_row_of_the_allowed_roots_is_faulty_no_repository_is_allowed() {
    let api = Api::start().await;
    let rows = [("LOCAL_REPO_ROOTS", json!("srv"))];
    api.settings.send_replace(Arc::new(settings(&[], &rows)));
    let refused = api.post("/tasks", &api.task()).await;
    assert_eq!(refused.error(), (503, "setting_unusable".to_owned()));
    assert!(refused.text("error").contains("LOCAL_REPO_ROOTS"));
    api.settings.send_replace(Arc::new(settings(&[("LOCAL_REPO_ROOTS", "/")], &rows)));
    api.make(&json!({})).await;
}

#[tokio::test]
async fn one_live_agent_behind_many_silent_ones_is_enough() {
    let api = Api::start().await;
    TestAgent::register(&api.database.store).await;
    let silent = "INSERT INTO agents (id, name, role, host, pid, start_ticks, boot_id, version, idle_since,
            registered_at, last_beat)
        SELECT gen_random_uuid(), 'a', 'worker', 'h', 1, 1, 'b', '0', now(), now(), now() - interval '30 minutes'
        FROM generate_series(1, 1100)";
    api.database.run(silent).await;
    let ready = api.get("/health/ready").await;
    assert_eq!(failing(&ready.json), ["dispatcher"]);
}
