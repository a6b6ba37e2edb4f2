//! Settings changed through the API: each kind of fault, all or nothing, two writers, who may change what.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use store::{
    agents::{HostId, ProcessIdentity},
    process_settings::ProcessSettings,
};

use crate::support::{Answer, Api};

const KEY: (&str, &str) = ("x-api-key", "the-right-key-0001");
const API_KEYS: (&str, &str) = ("API_KEYS", "the-right-key-0001");

async fn patch(api: &Api, headers: &[(&str, &str)], updates: Value) -> Answer {
    patch_text(api, headers, &json!({ "updates": updates }).to_string()).await
}

async fn patch_text(api: &Api, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request =
        api.request(Method::PATCH, "/config").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request.body(Full::from(body.to_owned())).expect("the request is well-formed")).await
}

#[track_caller]
fn setting<'a>(config: &'a Value, key: &str) -> &'a Value {
    let settings = config["settings"].as_array().expect("settings are a list");
    settings.iter().find(|setting| setting["key"] == key).expect("the key is there")
}

/// The details of a refusal: field, what is wrong, what is allowed.
fn details(answer: &Answer) -> Vec<(String, String, String)> {
    let text = |fault: &Value, part: &str| fault[part].as_str().unwrap_or_default().to_owned();
    let details = answer.json["details"].as_array().expect("a refusal has details");
    details.iter().map(|f| (text(f, "field"), text(f, "what"), text(f, "allowed"))).collect()
}

#[tokio::test]
async fn a_change_is_in_force_when_it_is_answered_and_stands_in_the_history() {
    let api = Api::start_following(&[API_KEYS]).await;
    assert_eq!(api.get("/config").await.headers["etag"], "\"0\"");
    let updates = json!({ "CANCEL_GRACE_S": "7", "CLAUDE_CODE_MODEL": "opus" });
    let changed = patch(&api, &[KEY], updates).await;
    assert_eq!(
        (changed.status, &changed.headers["etag"]),
        (StatusCode::OK, &"\"1\"".parse().unwrap())
    );
    assert_eq!(changed.json["changed"], json!(["CANCEL_GRACE_S", "CLAUDE_CODE_MODEL"]));
    assert_eq!(changed.json["shadowed_by_environment"], json!([]));
    let shown = api.get("/config").await;
    assert_eq!(shown.headers["etag"], "\"1\"", "whoever reads next sees it");
    for config in [&changed.json, &shown.json] {
        let grace = setting(config, "CANCEL_GRACE_S");
        assert_eq!((&grace["value"], &grace["source"]), (&json!(7), &json!("database")));
        assert_eq!(grace["group"], "tasks");
    }
    let again = patch(&api, &[], json!({ "CANCEL_GRACE_S": 7 })).await;
    assert_eq!(
        (&again.headers["etag"], &again.json["changed"]),
        (&"\"1\"".parse().unwrap(), &json!([]))
    );
    let removed = patch(&api, &[], json!({ "CANCEL_GRACE_S": null })).await;
    assert_eq!(setting(&removed.json, "CANCEL_GRACE_S")["source"], "default");

    let history = api.get("/config/history?key=CANCEL_GRACE_S&limit=1").await.json;
    let entry = &history["items"][0];
    assert_eq!((&entry["who"], &entry["revision"]), (&json!("local"), &json!(2)));
    assert_eq!((&entry["old_value"], &entry["new_value"]), (&json!(7), &Value::Null));
    let path = format!(
        "/config/history?key=CANCEL_GRACE_S&cursor={}",
        history["next_cursor"].as_str().unwrap()
    );
    let before = api.get(&path).await.json;
    assert_eq!(before["items"].as_array().unwrap().len(), 1);
    assert_eq!(before["items"][0]["who"], "api-key:0001");
    assert_eq!(api.get("/config/history").await.json["items"].as_array().unwrap().len(), 3);
    let bad = api.get("/config/history?key=%00&cursor=x&limit=0").await;
    assert_eq!(bad.fields(), ["key", "cursor", "limit"]);
}

#[tokio::test]
async fn every_kind_of_fault_is_told_and_one_of_them_keeps_the_rest_from_being_made() {
    let api = Api::start_following(&[API_KEYS]).await;
    let refused = patch(
        &api,
        &[KEY],
        json!({
            "TASK_TIMEBOX_S": 60,
            "CANCEL_GRACES": 1,
            "CANCEL_GRACE_S": true,
            "TASK_MAX_ATTEMPTS": 101,
            "EXECUTION_ENVIRONMENT": "cloud",
            "API_SECRET": "hunter2-hunter2-0001",
            "LOCAL_REPO_ROOTS": ["/srv", "relative"],
            "ANTHROPIC_API_KEY": "hunter2\nhunter2",
            "ANTHROPIC_BASE_URL": "https://me:hunter2@gateway",
            "NO_SUCH_KEY_AT_ALL": null,
        }),
    )
    .await;
    assert_eq!(refused.error(), (400, "invalid_settings".to_owned()));
    let details = details(&refused);
    let of = |key: &str| {
        let found = details.iter().find(|(field, ..)| *field == format!("updates.{key}"));
        found.map(|(_, what, allowed)| (what.as_str(), allowed.as_str())).expect("the key is named")
    };
    assert_eq!(details.len(), 9);
    let unknown = of("CANCEL_GRACES");
    assert_eq!(unknown.0, "is not a setting; did you mean `CANCEL_GRACE_S`?");
    assert!(unknown.1.contains("TASK_TIMEBOX_S") && !unknown.1.contains("API_KEYS"));
    assert_eq!(
        of("CANCEL_GRACE_S"),
        ("is a boolean, expected an integer", "an integer from 0 to 600")
    );
    assert_eq!(of("TASK_MAX_ATTEMPTS").0, "`101` is out of range");
    assert_eq!(of("EXECUTION_ENVIRONMENT"), ("`cloud` is not allowed", "host, sandbox"));
    assert_eq!(of("API_SECRET").1, "the environment only");
    assert_eq!(of("LOCAL_REPO_ROOTS").0, "`relative` is not an absolute path");
    assert_eq!(of("NO_SUCH_KEY_AT_ALL").0, "is not a setting");
    assert!(!refused.json.to_string().contains("hunter2"), "{}", refused.json);
    let config = api.get("/config").await;
    assert_eq!(config.headers["etag"], "\"0\"");
    assert_eq!(setting(&config.json, "TASK_TIMEBOX_S")["source"], "default");
    assert_eq!(api.get("/config/history").await.json["items"], json!([]));
}

#[tokio::test]
async fn a_body_of_another_form_is_refused_with_its_place() {
    let api = Api::start().await;
    for (body, field) in [
        ("{}", "updates"),
        (r#"{"updates":[]}"#, "updates"),
        (r#"{"updates":{},"more":1}"#, "more"),
        (r#"{"updates":{"CANCEL_GRACE_S":1,"CANCEL_GRACE_S":2}}"#, "updates.CANCEL_GRACE_S"),
    ] {
        let answer = patch_text(&api, &[], body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.fields()),
            (422, vec![field.to_owned()]),
            "{body}"
        );
    }
    assert_eq!(patch_text(&api, &[], "{").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(patch(&api, &[], json!({})).await.json["changed"], json!([]));
}

#[tokio::test]
async fn of_two_writers_on_one_revision_one_is_told_the_present_one() {
    let api = Api::start_following(&[]).await;
    let tag = [("if-match", "\"0\"")];
    let (one, two) = tokio::join!(
        patch(&api, &tag, json!({ "CANCEL_GRACE_S": 3 })),
        patch(&api, &tag, json!({ "CANCEL_GRACE_S": 4 })),
    );
    let (made, stale) = if one.status == StatusCode::OK { (one, two) } else { (two, one) };
    assert_eq!(made.status, StatusCode::OK);
    assert_eq!(stale.error(), (412, "revision_changed".to_owned()));
    assert_eq!(stale.headers["etag"], "\"1\"");
    assert!(stale.text("error").contains("revision 1"));
    assert_eq!(patch(&api, &[("if-match", "\"0\"")], json!({})).await.status.as_u16(), 412);
    for fits in ["\"1\"", "\"0\", \"1\"", "*"] {
        assert_eq!(
            patch(&api, &[("if-match", fits)], json!({})).await.status,
            StatusCode::OK,
            "{fits}"
        );
    }
    for strange in ["W/\"1\"", "1", "\"x\""] {
        let answer = patch(&api, &[("if-match", strange)], json!({ "CANCEL_GRACE_S": 9 })).await;
        assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{strange}");
    }
    assert_eq!(api.get("/config").await.headers["etag"], "\"1\"");
}

#[tokio::test]
async fn a_value_that_the_environment_wins_over_is_stored_and_said_to_be_shadowed() {
    let api = Api::start_following(&[("CANCEL_GRACE_S", "5")]).await;
    let changed = patch(&api, &[], json!({ "CANCEL_GRACE_S": 7, "TASK_TIMEBOX_S": 60 })).await;
    assert_eq!(changed.json["shadowed_by_environment"], json!(["CANCEL_GRACE_S"]));
    let grace = setting(&changed.json, "CANCEL_GRACE_S");
    assert_eq!((&grace["value"], &grace["source"]), (&json!(5), &json!("environment")));
    assert_eq!(grace["without_environment"], json!({ "value": 7, "source": "database" }));
}

#[tokio::test]
async fn a_bad_row_is_shown_at_its_key_and_can_be_mended_or_removed() {
    let api = Api::start_following(&[]).await;
    api.write_rows(&[
        ("CANCEL_GRACE_S", json!("soon")),
        ("TASK_TIMEBOX_S", json!(-1)),
        ("LEFT_BY_ANOTHER_VERSION", json!({ "secret": "hunter2" })),
        ("API_KEYS", json!("hunter2-hunter2-0001")),
    ])
    .await;
    let config =
        api.config_until(|config| config["database_faults"].as_array().unwrap().len() == 4).await;
    assert_eq!(
        setting(&config, "CANCEL_GRACE_S")["fault"]["what"],
        "`soon` is not an integer in range"
    );
    assert_eq!(setting(&config, "TASK_MAX_ATTEMPTS")["fault"], Value::Null);
    let made = api.post("/tasks", &api.task()).await;
    assert_eq!(made.status, StatusCode::CREATED, "none of these decides about it: {}", made.json);
    assert!(!config.to_string().contains("hunter2"));

    let mended = patch(&api, &[], json!({ "CANCEL_GRACE_S": 9 })).await;
    assert_eq!(mended.status, StatusCode::OK, "{}", mended.json);
    assert_eq!(mended.json["database_faults"].as_array().unwrap().len(), 3);
    let removed =
        patch(&api, &[], json!({ "TASK_TIMEBOX_S": null, "LEFT_BY_ANOTHER_VERSION": null })).await;
    assert_eq!(removed.json["database_faults"][0]["key"], "API_KEYS");
    let guarded = patch(&api, &[], json!({ "API_KEYS": ["another-key-of-a-stranger"] })).await;
    assert_eq!(guarded.error(), (403, "key_required".to_owned()));
    let mended = patch(&api, &[], json!({ "API_KEYS": null })).await;
    assert_eq!(mended.status, StatusCode::OK, "{}", mended.json);
    let config = api.config_until(|config| config["database_faults"] == json!([])).await;
    assert_eq!(setting(&config, "TASK_TIMEBOX_S")["source"], "default");
    let history = api.get("/config/history").await.json.to_string();
    assert!(
        history.contains("LEFT_BY_ANOTHER_VERSION") && !history.contains("hunter2"),
        "{history}"
    );
}

#[tokio::test]
async fn nothing_is_written_down_with_a_task_that_a_bad_row_should_have_said() {
    let api = Api::start_following(&[]).await;
    api.write_rows(&[("TASK_MAX_ATTEMPTS", json!("often"))]).await;
    api.config_until(|config| config["database_faults"] != json!([])).await;
    let refused = api.post("/tasks", &api.task()).await;
    assert_eq!(refused.error(), (503, "setting_unusable".to_owned()));
    assert!(refused.text("error").contains("TASK_MAX_ATTEMPTS"), "{}", refused.json);
    let said = api.post("/tasks", &api.task_with(&json!({ "max_attempts": 2 }))).await;
    assert_eq!(said.status, StatusCode::CREATED, "{}", said.json);
}

#[tokio::test]
async fn a_key_that_reaches_the_host_is_changed_with_a_key_and_never_without() {
    let api = Api::start_following(&[API_KEYS]).await;
    let reaching: Vec<(&str, Value)> = vec![
        ("CLAUDE_CODE_COMMAND", json!("/tmp/evil")),
        ("ANTHROPIC_BASE_URL", json!("http://evil.example")),
        ("CLAUDE_CODE_PERMISSION_MODE", json!("bypassPermissions")),
        ("LOCAL_REPO_ROOTS", json!([])),
        ("OPENTIGER_CLAUDE_HOME", json!("/root")),
    ];
    for (key, value) in &reaching {
        for value in [value, &Value::Null] {
            let refused = patch(&api, &[], json!({ "CANCEL_GRACE_S": 1, *key: value })).await;
            assert_eq!(refused.error(), (403, "key_required".to_owned()), "{key}");
            assert_eq!(refused.fields(), [format!("updates.{key}")]);
        }
    }
    assert_eq!(api.get("/config").await.headers["etag"], "\"0\"", "and nothing beside it");
    let table = core_config::table::SETTINGS.iter().filter(|setting| setting.reaches_host);
    let all: BTreeMap<&str, Value> = table.map(|setting| (setting.key, Value::Null)).collect();
    let refused = patch(&api, &[], json!(all)).await;
    assert_eq!(refused.fields().len(), all.len(), "every one of them is guarded");
    let allowed: BTreeMap<&str, Value> = reaching.into_iter().collect();
    let changed = patch(&api, &[KEY], json!(allowed)).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.json);
}

#[tokio::test]
async fn settings_are_not_changed_without_a_key_where_local_control_is_switched_off() {
    let api = Api::start_following(&[("OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL", "false")]).await;
    let refused = patch(&api, &[], json!({ "CANCEL_GRACE_S": 1 })).await;
    assert_eq!(refused.error(), (403, "control_not_allowed".to_owned()));
    assert_eq!(api.get("/config").await.headers["etag"], "\"0\"");
    api.make(&json!({})).await;
}

#[tokio::test]
async fn a_secret_is_in_no_answer_and_no_history() {
    let api = Api::start_following(&[]).await;
    for secret in ["sk-ant-hunter2-0001", "sk-ant-hunter2-0002"] {
        let changed = patch(&api, &[], json!({ "ANTHROPIC_API_KEY": secret })).await;
        let key = setting(&changed.json, "ANTHROPIC_API_KEY");
        let last_four: String = secret.chars().skip(secret.len() - 4).collect();
        assert_eq!(key["value"], json!({ "set": true, "last_four": last_four }));
        assert!(!changed.json.to_string().contains("hunter2"));
    }
    let history = api.get("/config/history?key=ANTHROPIC_API_KEY").await.json;
    assert_eq!(history["items"][0]["old_value"], "***");
    assert_eq!(history["items"][0]["new_value"], "***");
    assert!(!history.to_string().contains("hunter2"));
}

#[tokio::test]
async fn what_other_processes_have_in_force_is_shown_and_locks_and_warns() {
    let api = Api::start_following(&[]).await;
    let alone = api.get("/config").await.json;
    assert_eq!(alone["processes"], json!([]));
    let rows = core_config::database::DatabaseSnapshot::default();
    let environment = [("OPENTIGER_STATE_DIR", "/srv"), ("EXECUTION_ENVIRONMENT", "sandbox")];
    let environment = environment.map(|(key, value)| (key.into(), value.into()));
    let theirs = core_config::load::load(environment, Some(&rows)).unwrap();
    let store = &api.database.store;
    let prints = theirs.fingerprints(&store.settings_salt().await.unwrap());
    let mut said = ProcessSettings {
        id: uuid::Uuid::now_v7(),
        program: "dispatcher".to_owned(),
        host: HostId::new("here"),
        process: ProcessIdentity { pid: 7, start_ticks: 8, boot_id: "boot".to_owned() },
        version: "0.1.0".to_owned(),
        revision: Some(0),
        environment: theirs.set_by_environment().map(ToOwned::to_owned).collect(),
        fingerprints: prints.into_iter().map(|(key, print)| (key.to_owned(), print)).collect(),
    };
    store.publish_settings(&said).await.unwrap();
    let config = api.get("/config").await.json;
    let process = &config["processes"][0];
    assert_eq!((&process["program"], &process["pid"]), (&json!("dispatcher"), &json!(7)));
    assert_eq!(process["differs"], json!(["EXECUTION_ENVIRONMENT"]));
    let selector = setting(&config, "EXECUTION_ENVIRONMENT");
    assert_eq!(selector["locked"], true);
    assert_eq!(selector["set_by_environment_of"], json!(["dispatcher 7 on here"]));
    assert_eq!(setting(&config, "CANCEL_GRACE_S")["locked"], false);
    let shown = config.to_string();
    assert!(!said.fingerprints.values().any(|print| shown.contains(print)), "sums stay inside");
    let ready = api.get("/health/ready").await.json;
    let warning =
        "processes have different values of EXECUTION_ENVIRONMENT; `GET /config` says which";
    assert_eq!(ready["warnings"], json!([warning]));
    assert!(ready["checks"].as_array().unwrap().iter().all(|check| check["name"] != "warnings"));
    let changed = patch(&api, &[], json!({ "EXECUTION_ENVIRONMENT": "sandbox" })).await;
    assert_eq!(changed.json["shadowed_by_environment"], json!(["EXECUTION_ENVIRONMENT"]));

    said.program = "worker".to_owned();
    said.revision = Some(1);
    store
        .publish_settings(&ProcessSettings { id: uuid::Uuid::now_v7(), ..said.clone() })
        .await
        .unwrap();
    store.retire_settings(said.id).await.unwrap();
    let config = api.get("/config").await.json;
    assert_eq!(setting(&config, "EXECUTION_ENVIRONMENT")["locked"], false, "only dispatchers lock");
    assert_eq!(config["processes"][0]["differs"], json!([]));
    assert_eq!(api.get("/health/ready").await.json["warnings"], json!([]));
}
