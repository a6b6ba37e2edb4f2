//! The OpenAPI document is the committed one and says what the server does.

use serde_json::{Value, json};

use crate::support::Api;

#[test]
fn the_committed_document_is_the_one_the_handlers_give() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == api::openapi::render_json().unwrap(),
        "docs/openapi.json is not what the handlers give; run `cargo xtask docs`"
    );
}

#[tokio::test]
async fn the_server_shows_the_document() {
    let api = Api::start().await;
    let shown = api.get("/openapi.json").await.json;
    assert_eq!(shown, serde_json::to_value(api::openapi::document()).unwrap());
    assert!(shown["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[test]
fn every_operation_says_how_it_fails() {
    let document = serde_json::to_value(api::openapi::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 14, "{:?}", paths.keys());
    let mut ids = std::collections::BTreeSet::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            let says = |status: &str| responses.contains_key(status);
            assert!(says("403") && says("500") && says("503"), "{method} {path}");
            assert!(!path.contains("{id}") || (says("400") && says("404")), "{method} {path}");
            let has_body = operation.get("requestBody").is_some();
            assert!(
                !has_body || ["400", "408", "413", "415", "422"].iter().all(|status| says(status)),
                "{method} {path}"
            );
            assert!(operation.get("summary").is_some(), "{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_limits_in_the_document_are_the_limits_of_the_server() {
    let api = Api::start().await;
    let document = serde_json::to_value(api::openapi::document()).unwrap();
    let properties = &document["components"]["schemas"]["NewTaskRequest"]["properties"];
    let mut checked = 0;
    for (field, schema) in properties.as_object().unwrap() {
        for (limit, good, bad) in samples(schema) {
            let refused = api.post("/tasks", &api.task_with(&json!({ field: bad }))).await;
            assert_eq!(refused.status.as_u16(), 422, "{field} beyond {limit}");
            let answer = api.post("/tasks", &api.task_with(&json!({ field: good }))).await;
            // A name of the greatest length may be that of no branch, which is another fault.
            let limited =
                answer.status.as_u16() == 201 || answer.text("error").contains("no branch");
            assert!(limited, "{field} at {limit}: {}", answer.json);
            checked += 1;
        }
    }
    assert!(checked >= 12, "only {checked} limits were found in the document");
}

#[test]
fn a_context_may_be_any_json_in_the_document_too() {
    let document = serde_json::to_value(api::openapi::document()).unwrap();
    let schemas = &document["components"]["schemas"];
    let request = &schemas["NewTaskRequest"];
    assert_eq!(request["properties"]["context"].get("type"), None);
    assert!(!request["required"].as_array().unwrap().contains(&json!("context")));
    let answer = schemas["TaskView"]["allOf"].as_array().unwrap();
    let own = answer.iter().find_map(|part| part.pointer("/properties/context")).unwrap();
    assert_eq!(own.get("type"), None);
}

#[test]
fn the_setting_and_the_field_take_the_same_branch_names() {
    let long = "x".repeat(201);
    for name in [
        "main",
        "release/1.x",
        "größe",
        "a.b",
        "no such",
        "-x",
        "a..b",
        "x.lock",
        "HEAD",
        "@",
        "a//b",
        "/a",
        "a/",
        ".a",
        "a.",
        "a~1",
        "@{u}",
        "a\\b",
        "a\nb",
        &long,
    ] {
        let setting = core_config::database::validate_row("BASE_BRANCH", &json!(name)).is_ok();
        assert_eq!(setting, name.parse::<checkout::branch::BranchName>().is_ok(), "{name}");
    }
}

/// For each limit of a schema its name, a value at the limit and one beyond it.
fn samples(schema: &Value) -> Vec<(&'static str, Value, Value)> {
    let mut samples = Vec::new();
    if let Some(max) = schema.get("maxLength").and_then(Value::as_u64) {
        let max = usize::try_from(max).expect("limits are small");
        samples.push(("maxLength", json!("x".repeat(max)), json!("x".repeat(max + 1))));
    }
    if let Some(max) = schema.get("maximum").and_then(Value::as_i64) {
        samples.push(("maximum", json!(max), json!(max + 1)));
    }
    if let Some(min) = schema.get("minimum").and_then(Value::as_i64) {
        samples.push(("minimum", json!(min), json!(min - 1)));
    }
    samples
}
