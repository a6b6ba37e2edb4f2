//! Checks of logins and readiness in full, with a stand-in for Claude Code.

use std::{fs, os::unix::fs::PermissionsExt as _};

use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Api;

/// A server whose Claude Code is this shell script, with a key.
async fn with_claude(script: &str) -> (Api, TempDir) {
    let dir = TempDir::new().expect("a directory can be made");
    let path = dir.path().join("claude");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let command = path.to_string_lossy().into_owned();
    let variables = [
        ("CLAUDE_CODE_COMMAND", command.as_str()),
        ("OPENCODE_COMMAND", "/nowhere/opencode"),
        ("ANTHROPIC_API_KEY", "sk-ant-test-0123456789"),
    ];
    (Api::start_with(&variables).await, dir)
}

const REPLY: &str =
    r#"echo '{"type":"result","subtype":"success","is_error":false,"result":"OK"}'"#;

#[tokio::test]
async fn answer_has_the_known_fields_and_holds_for_a_minute() {
    let (api, _dir) = with_claude(REPLY).await;
    let first = api.get("/system/claude/auth").await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(first.json["available"], true, "{}", first.json);
    assert_eq!(first.json["authenticated"], true);
    assert_eq!(first.json["executionEnvironment"], "host");
    assert_eq!(
        (&first.json["reason"], &first.json["checkedBy"]),
        (&json!("ready"), &json!("prompt"))
    );
    assert_eq!((&first.json["hint"], &first.json["cached"]), (&json!(null), &json!(false)));
    assert!(first.json["durationMs"].is_u64() && first.json["checkedAt"].is_string());
    let again = api.get("/system/claude/auth?environment=host").await.json;
    assert_eq!((&again["cached"], &again["checkedAt"]), (&json!(true), &first.json["checkedAt"]));
    let fresh = api.get("/system/claude/auth?refresh=true").await.json;
    assert_eq!(fresh["cached"], false);
}

#[tokio::test]
async fn reason_is_told_in_the_language_that_is_asked_for() {
    let (api, _dir) = with_claude(REPLY).await;
    let english = api.get("/system/opencode/auth").await.json;
    assert_eq!((&english["reason"], &english["available"]), (&json!("cli_missing"), &json!(false)));
    assert!(english["hint"].as_str().unwrap().contains("npm install"), "{english}");
    let request = api.request(Method::GET, "/system/opencode/auth").header("accept-language", "ja");
    let japanese = api.send(request.body(Full::default()).unwrap()).await.json;
    assert!(japanese["message"].as_str().unwrap().contains("見つかりません"), "{japanese}");
}

#[tokio::test]
async fn other_environments_and_words_are_refused_and_a_sandbox_is_not_taken_for_well() {
    let (api, _dir) = with_claude(REPLY).await;
    for query in ["environment=", "environment=moon", "refresh=1", "other=1"] {
        let answer = api.get(&format!("/system/claude/auth?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
    let sandbox = api.get("/system/claude/auth?environment=sandbox").await.json;
    assert_eq!(sandbox["reason"], "unknown");
    assert_eq!((&sandbox["authenticated"], &sandbox["available"]), (&json!(false), &json!(false)));
}

#[tokio::test]
async fn system_control_is_needed() {
    let variables = [
        ("OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL", "false"),
        ("API_SECRET", "0123456789abcdef0123456789abcdef"),
    ];
    let api = Api::start_with(&variables).await;
    for path in ["/system/claude/auth", "/system/opencode/auth", "/system/readiness"] {
        let answer = api.get(path).await;
        assert!(
            [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
    }
}

#[tokio::test]
async fn others_are_answered_while_a_check_goes_on() {
    let (api, dir) = with_claude(&format!(
        "while [ ! -e \"$(dirname \"$0\")/go\" ]; do sleep 0.05; done; {REPLY}"
    ))
    .await;
    let checking = api.get("/system/claude/auth");
    let others = async {
        for _ in 0..5 {
            assert_eq!(api.get("/health").await.status, StatusCode::OK);
            assert_eq!(api.get("/tasks").await.status, StatusCode::OK);
        }
        fs::write(dir.path().join("go"), "").unwrap();
    };
    let (checked, ()) = tokio::join!(checking, others);
    assert_eq!(checked.json["reason"], "ready", "{}", checked.json);
}

#[tokio::test]
async fn gate_that_closed_because_of_the_login_opens_when_a_check_comes_out_well() {
    let (api, _dir) = with_claude(REPLY).await;
    api.database
        .run(
            "UPDATE executor_gates SET state = 'closed', cause = 'login', closures = 1, closed_at = now(),
                 retry_at = now() + interval '1 hour'
             WHERE environment = 'host' AND executor = 'claude_code'",
        )
        .await;
    api.get("/system/claude/auth").await;
    let gate = gate(&api).await;
    assert_eq!((&gate["state"], &gate["cause"]), (&json!("open"), &json!(null)), "{gate}");
}

/// The gate of Claude Code on the host.
async fn gate(api: &Api) -> Value {
    let gates = api.get("/system/gates").await.json;
    let items = gates["items"].as_array().expect("it is a list");
    let of = |gate: &&Value| gate["executor"] == "claude_code" && gate["environment"] == "host";
    items.iter().find(of).expect("every executor has one").clone()
}

#[tokio::test]
async fn a_check_that_is_refused_closes_the_gate_and_tasks_say_so_until_one_is_not() {
    let refusal = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":401,"result":"Failed to authenticate. API Error: 401 invalid x-api-key"}"#;
    let (api, dir) = with_claude(&format!(
        "if [ -e \"$(dirname \"$0\")/mended\" ]; then {REPLY}; else echo '{refusal}'; fi"
    ))
    .await;
    let task = api.make(&json!({})).await;
    let refused = api.get("/system/claude/auth").await.json;
    assert_eq!(refused["reason"], "login_required", "{refused}");
    let closed = gate(&api).await;
    assert_eq!((&closed["state"], &closed["cause"]), (&json!("closed"), &json!("login")));
    assert_eq!(closed["hint"], refused["hint"]);
    let waiting = api.get(&format!("/tasks/{task}")).await.json["waiting"].clone();
    assert_eq!(waiting["kind"], "login", "{waiting}");
    fs::write(dir.path().join("mended"), "").unwrap();
    // The answer from before opens nothing.
    api.get("/system/claude/auth").await;
    assert_eq!(gate(&api).await["state"], "closed");
    api.get("/system/claude/auth?refresh=true").await;
    assert_eq!(gate(&api).await["state"], "open");
}

#[tokio::test]
async fn readiness_names_what_was_found_and_what_to_do() {
    let (api, _dir) = with_claude(REPLY).await;
    let answer = api.get("/system/readiness").await.json;
    let checks = answer["checks"].as_array().unwrap();
    let of = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(answer["ready"], false, "no dispatcher runs");
    assert_eq!(of("claude_auth")["state"], "ok");
    assert_eq!(of("git")["state"], "ok");
    assert_eq!(of("dispatcher")["state"], "fail");
    // Nothing uses it unless a task asks for it.
    assert_eq!(of("opencode_cli")["state"], "warn");
    for check in checks {
        assert_eq!(check["fix"].is_null(), check["state"] == "ok", "{check}");
        assert!(!check["cause"].as_str().unwrap().is_empty());
    }
}
