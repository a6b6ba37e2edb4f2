//! Managed processes on the wire. What a manager makes of it is the business of crate `processes`.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::Api;

const AT_HOME: [(&str, &str); 3] =
    [("WORKER_COUNT", "1"), ("TESTER_COUNT", "0"), ("DOCSER_COUNT", "0")];

async fn change(api: &Api, path: &str) -> Value {
    let answer = api.post(path, &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.json);
    answer.json
}

#[tokio::test]
async fn what_the_settings_want_is_listed_with_how_it_stands() {
    let api = Api::start_with(&AT_HOME).await;
    let list = api.get("/system/processes").await;
    assert_eq!(list.status, StatusCode::OK);
    assert_eq!(list.json["manager"], Value::Null);
    let items = list.json["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    let worker = &items[1];
    assert_eq!(worker["name"], "worker-1");
    assert_eq!(worker["label"], "Worker #1");
    assert_eq!(worker["kind"], "worker");
    assert_eq!(worker["wanted"], "settings");
    assert_eq!(worker["restarts"], 0);
    for unknown in ["pid", "started_at", "uptime_s", "memory_bytes", "cpu_ms", "last_exit"] {
        assert_eq!(worker.get(unknown), Some(&Value::Null), "{unknown}");
    }
    assert_eq!(items[0]["kind"], "service");
    let shown = api.get("/system/processes/docser-64").await.json;
    assert_eq!(shown["process"]["state"], "idle");
}

#[tokio::test]
async fn a_wish_is_noted_and_shows_at_once() {
    let api = Api::start_with(&AT_HOME).await;
    let started = change(&api, "/system/processes/tester-2/start").await;
    assert_eq!((&started["skipped"], &started["reason"]), (&json!(false), &Value::Null));
    assert_eq!(started["process"]["state"], "starting");
    assert_eq!(started["process"]["wanted"], "running");
    let stopped = change(&api, "/system/processes/tester-2/stop").await;
    assert_eq!(stopped["process"]["wanted"], "stopped");
    let restarted = change(&api, "/system/processes/worker-1/restart").await;
    assert_eq!(restarted["process"]["wanted"], "settings", "the settings want it anyway");

    let all = change(&api, "/system/processes/stop-all").await;
    // Nothing was launched, so there is nothing to stop.
    assert_eq!(all["items"], json!([]));
    let shown = api.get("/system/processes/worker-1").await.json;
    assert_eq!(
        (&shown["process"]["state"], &shown["process"]["wanted"]),
        (&json!("idle"), &json!("stopped"))
    );
    let again = change(&api, "/system/processes/start-all").await;
    let names: Vec<&str> = again["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["name"].as_str())
        .collect();
    assert_eq!(names, ["dispatcher", "worker-1"]);
}

#[tokio::test]
async fn a_name_that_no_process_can_have_is_refused_with_those_it_can() {
    let api = Api::start().await;
    for name in ["worker-999999", "planner", "worker-0", "worker-01", "judge-1", "%ff", "a%2fb"] {
        let path = format!("/system/processes/{name}");
        for answer in [
            api.get(&path).await,
            api.get(&format!("{path}/log")).await,
            api.post(&format!("{path}/start"), &json!({})).await,
            api.post(&format!("{path}/stop"), &json!({})).await,
            api.post(&format!("{path}/restart"), &json!({})).await,
        ] {
            assert_eq!(answer.error(), (404, "no_such_process".to_owned()), "{name}");
            assert!(
                answer.text("error").contains("worker-N, tester-N, docser-N with N from 1 to 64")
            );
        }
    }
    assert!(api.database.store.process_wishes().await.unwrap().is_empty());
}

#[tokio::test]
async fn in_the_sandbox_environment_the_start_of_an_agent_is_skipped_with_why() {
    let api = Api::start_with(&[("EXECUTION_ENVIRONMENT", "sandbox")]).await;
    for what in ["start", "restart"] {
        for name in ["worker-1", "tester-1", "docser-3"] {
            let answer = change(&api, &format!("/system/processes/{name}/{what}")).await;
            assert_eq!(answer["skipped"], true, "{answer}");
            assert!(answer["reason"].as_str().unwrap().contains("sandbox"));
        }
    }
    assert!(api.database.store.process_wishes().await.unwrap().is_empty());
    let dispatcher = change(&api, "/system/processes/dispatcher/start").await;
    assert_eq!(dispatcher["skipped"], false);
    let listed = api.get("/system/processes").await.json;
    assert_eq!(listed["items"][1]["state"], "skipped");
}

#[tokio::test]
async fn where_nobody_manages_a_wish_is_refused() {
    let api = Api::start_with(&[("OPENTIGER_PROCESS_MANAGER", "off")]).await;
    for path in ["worker-1/start", "worker-1/stop", "worker-1/restart", "stop-all", "start-all"] {
        let answer = api.post(&format!("/system/processes/{path}"), &json!({})).await;
        assert_eq!(answer.error(), (409, "no_manager".to_owned()), "{path}");
    }
    assert_eq!(api.get("/system/processes").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_log_of_what_never_ran_is_empty_and_its_length_is_checked() {
    let api = Api::start().await;
    let log = api.get("/system/processes/worker-1/log?lines=2000").await;
    assert_eq!(log.json, json!({ "name": "worker-1", "launch": null, "lines": [] }));
    for lines in ["0", "2001", "-1", "many", ""] {
        let answer = api.get(&format!("/system/processes/worker-1/log?lines={lines}")).await;
        assert_eq!(
            (answer.status, answer.fields()),
            (StatusCode::BAD_REQUEST, vec!["lines".to_owned()])
        );
    }
}
