//! Every bad input of `POST /tasks` is refused with the name of its field.

use core_types::ids::TaskId;
use serde_json::{Value, json};

use crate::support::Api;

/// Changes that make a body bad, and the field that is at fault.
fn about_texts_and_numbers() -> Vec<(Value, &'static str)> {
    vec![
        (json!({ "title": null }), "title"),
        (json!({ "title": 7 }), "title"),
        (json!({ "title": "" }), "title"),
        (json!({ "title": " \u{a0}" }), "title"),
        (json!({ "title": "two\nlines" }), "title"),
        (json!({ "title": "bell\u{7}" }), "title"),
        (json!({ "title": "x".repeat(201) }), "title"),
        (json!({ "goal": null }), "goal"),
        (json!({ "goal": ["x"] }), "goal"),
        (json!({ "goal": "null\u{0}" }), "goal"),
        (json!({ "goal": "x".repeat(64 * 1024 + 1) }), "goal"),
        (json!({ "goal": "x".repeat(1024 * 1024) }), "goal"),
        (json!({ "context": { "a": ["null\u{0}"] } }), "context"),
        (json!({ "context": { "a": "x".repeat(64 * 1024) } }), "context"),
        (json!({ "role": "boss" }), "role"),
        (json!({ "role": 1 }), "role"),
        (json!({ "priority": 101 }), "priority"),
        (json!({ "priority": -101 }), "priority"),
        (json!({ "priority": 1.5 }), "priority"),
        (json!({ "priority": 9_999_999_999_i64 }), "priority"),
        (json!({ "priority": "high" }), "priority"),
        (json!({ "risk": "none" }), "risk"),
        (json!({ "id": "7" }), "id"),
        (json!({ "id": "run-0123456789abcdef0123456789abcdef" }), "id"),
    ]
}

/// The same for what names something else.
fn about_references() -> Vec<(Value, &'static str)> {
    vec![
        (json!({ "dependencies": "x" }), "dependencies"),
        (json!({ "dependencies": ["x"] }), "dependencies[0]"),
        (json!({ "dependencies": vec![TaskId::generate(); 101] }), "dependencies"),
        (json!({ "dependencies": [TaskId::generate()] }), "dependencies[0]"),
        (json!({ "target_area": "" }), "target_area"),
        (json!({ "target_area": "a\tb" }), "target_area"),
        (json!({ "repository": null }), "repository"),
        (json!({ "repository": "here" }), "repository"),
        (json!({ "repository": {} }), "repository.mode"),
        (json!({ "repository": { "mode": "svn" } }), "repository.mode"),
        (json!({ "repository": { "mode": "local" } }), "repository.path"),
        (json!({ "repository": { "mode": "local", "path": "" } }), "repository.path"),
        (json!({ "repository": { "mode": "local", "path": 1 } }), "repository.path"),
        (json!({ "repository": { "mode": "local", "path": "here" } }), "repository.path"),
        (json!({ "repository": { "mode": "local", "path": "/no/such/place" } }), "repository.path"),
        (json!({ "repository": { "mode": "local", "path": "/etc/passwd" } }), "repository.path"),
        (json!({ "repository": { "mode": "local", "path": "/proc" } }), "repository.path"),
        (json!({ "repository": { "mode": "local", "path": "/a\u{0}b" } }), "repository.path"),
        (
            json!({ "repository": { "mode": "local", "path": "/x", "depth": 1 } }),
            "repository.depth",
        ),
        (json!({ "repository": { "mode": "git" } }), "repository.url"),
        (json!({ "repository": { "mode": "git", "url": "" } }), "repository.url"),
        (json!({ "repository": { "mode": "git", "url": "/home/me/x" } }), "repository.url"),
        (json!({ "repository": { "mode": "git", "url": "file:///x" } }), "repository.url"),
        (json!({ "repository": { "mode": "git", "url": "http://127.0.0.1/x" } }), "repository.url"),
        (json!({ "repository": { "mode": "git", "url": "ext::sh -c id" } }), "repository.url"),
        (json!({ "repository": { "mode": "git", "url": "--upload-pack=id" } }), "repository.url"),
        (json!({ "repository": { "mode": "git", "url": "https://me:pw@h/x" } }), "repository.url"),
        (
            json!({ "repository": { "mode": "git", "url": "https://h/x", "path": "/x" } }),
            "repository.path",
        ),
        (json!({ "base_branch": "no such" }), "base_branch"),
        (json!({ "base_branch": "-x" }), "base_branch"),
        (json!({ "base_branch": "" }), "base_branch"),
        (json!({ "base_branch": "absent" }), "base_branch"),
    ]
}

/// The same for commands and limits.
fn about_commands_and_limits() -> Vec<(Value, &'static str)> {
    vec![
        (json!({ "verification": "cargo test" }), "verification"),
        (json!({ "verification": ["cargo test"] }), "verification[0]"),
        (json!({ "verification": [["true"], []] }), "verification[1]"),
        (json!({ "verification": [["cargo", ""]] }), "verification[0][1]"),
        (json!({ "verification": [["a\u{0}"]] }), "verification[0][0]"),
        (json!({ "verification": vec![["true"]; 51] }), "verification"),
        (json!({ "verification": vec![["x".repeat(8000)]; 9] }), "verification"),
        (json!({ "timebox_s": 0 }), "timebox_s"),
        (json!({ "timebox_s": -1 }), "timebox_s"),
        (json!({ "timebox_s": 604_801 }), "timebox_s"),
        (json!({ "executor": "ed" }), "executor"),
        (json!({ "model": "--help" }), "model"),
        (json!({ "model": "a b" }), "model"),
        (json!({ "max_attempts": 0 }), "max_attempts"),
        (json!({ "max_attempts": 101 }), "max_attempts"),
        (json!({ "token_limit": 0 }), "token_limit"),
        (json!({ "cost_limit_usd": 0 }), "cost_limit_usd"),
        (json!({ "cost_limit_usd": -1.5 }), "cost_limit_usd"),
        (json!({ "cost_limit_usd": "1" }), "cost_limit_usd"),
        (json!({ "colour": "red" }), "colour"),
        (json!({ "repositry": {} }), "repositry"),
    ]
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let api = Api::start().await;
    for (changes, field) in about_texts_and_numbers()
        .iter()
        .chain(&about_references())
        .chain(&about_commands_and_limits())
    {
        let refused = api.post("/tasks", &api.task_with(changes)).await;
        let shown: String = changes.to_string().chars().take(80).collect();
        assert_eq!(refused.status.as_u16(), 422, "{shown}: {}", refused.json);
        assert_eq!(refused.fields(), [*field], "{shown}: {}", refused.json);
    }
    assert_eq!(api.get("/tasks").await.json["items"], json!([]), "none of them was made");
}

#[tokio::test]
async fn a_long_goal_is_told_its_limit() {
    let api = Api::start().await;
    let refused = api.post("/tasks", &api.task_with(&json!({ "goal": "x".repeat(1 << 20) }))).await;
    assert_eq!(refused.text("error"), "`goal` is 1048576 bytes long, limit 65536");
    assert!(refused.json.to_string().len() < 1000, "the goal is not sent back");
    api.make(&json!({ "goal": "x".repeat(64 * 1024) })).await;
}

#[tokio::test]
async fn all_faults_of_a_request_are_told_at_once() {
    let api = Api::start().await;
    let broken = json!({ "title": "", "priority": 1000, "verification": [[]] });
    let refused = api.post("/tasks", &api.task_with(&broken)).await;
    assert_eq!(refused.fields(), ["title", "priority", "verification[0]"]);

    let batch =
        json!({ "tasks": [api.task_with(&json!({ "title": "" })), api.task_with(&broken)] });
    let refused = api.post("/tasks/batch", &batch).await;
    assert_eq!(refused.fields().first().unwrap(), "tasks[0].title");
    assert_eq!(refused.fields().last().unwrap(), "tasks[1].verification[0]");
}

#[tokio::test]
async fn of_very_many_faults_the_first_ones_are_told_and_how_many_there_are() {
    let api = Api::start().await;
    let broken = api.task_with(&json!({ "title": "", "priority": 1000 }));
    let refused = api.post("/tasks/batch", &json!({ "tasks": vec![broken; 100] })).await;
    assert_eq!(refused.fields().len(), 50);
    assert!(refused.text("error").ends_with("(only the first 50 of 200 faults are listed)"));
}

#[tokio::test]
async fn a_task_cannot_depend_on_itself() {
    let api = Api::start().await;
    let id = TaskId::generate();
    let refused =
        api.post("/tasks", &api.task_with(&json!({ "id": id, "dependencies": [id] }))).await;
    assert_eq!(refused.fields(), ["dependencies[0]"]);
}

#[tokio::test]
async fn a_task_cannot_depend_on_one_that_is_cancelled() {
    let api = Api::start().await;
    let parent = api.make(&json!({})).await;
    api.post_text(&format!("/tasks/{parent}/cancel"), "").await;
    let refused = api.post("/tasks", &api.task_with(&json!({ "dependencies": [parent] }))).await;
    assert_eq!(refused.error(), (422, "dependency_failed".to_owned()));
    assert_eq!(refused.fields(), ["dependencies[0]"]);
}

#[tokio::test]
async fn batches_name_the_item_and_have_a_size() {
    let api = Api::start().await;
    let item = api.task_with(&json!({ "role": "boss" }));
    let refused = api.post("/tasks/batch", &json!({ "tasks": [api.task(), item] })).await;
    assert_eq!(refused.fields(), ["tasks[1].role"]);
    assert_eq!(api.post("/tasks/batch", &json!({ "tasks": [] })).await.fields(), ["tasks"]);
    assert_eq!(api.post("/tasks/batch", &json!({})).await.fields(), ["tasks"]);
    let many = json!({ "tasks": vec![api.task(); 201] });
    assert_eq!(api.post("/tasks/batch", &many).await.fields(), ["tasks"]);
    let id = TaskId::generate();
    let twice = api.task_with(&json!({ "id": id }));
    let refused = api.post("/tasks/batch", &json!({ "tasks": [twice, twice] })).await;
    assert_eq!(refused.fields(), ["tasks[1].id"]);
}
