//! Making, listing, showing and cancelling tasks.

use core_types::ids::TaskId;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    agent::TestAgent,
    support::{Api, settings},
};

#[tokio::test]
async fn a_posted_task_gets_defaults_and_an_address() {
    let api = Api::start().await;
    let made = api.post("/tasks", &api.task()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.json);
    let path = made.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(path, format!("/tasks/{}", made.text("id")));

    let shown = api.get(&path).await;
    assert_eq!(shown.status, StatusCode::OK);
    for (field, value) in [
        ("status", json!("queued")),
        ("role", json!("worker")),
        ("risk", json!("medium")),
        ("priority", json!(0)),
        ("executor", json!("claude_code")),
        ("max_attempts", json!(3)),
        ("dependencies", json!([])),
        ("runs", json!([])),
    ] {
        assert_eq!(shown.json[field], value, "{field}");
    }
    assert_eq!(shown.json["retry"]["attempts_left"], 3);
    assert_eq!(shown.json["waiting"]["kind"], "no_dispatcher");
}

#[tokio::test]
async fn every_field_arrives_as_it_was_sent() {
    let api = Api::start().await;
    let parent = api.make(&json!({})).await;
    let fields = json!({
        "context": { "issue": 7 },
        "role": "tester",
        "priority": -100,
        "risk": "high",
        "dependencies": [parent],
        "target_area": "src/answer",
        "base_branch": "main",
        "verification": [["cargo", "test"], ["true"]],
        "timebox_s": 60.0,
        "executor": "opencode",
        "model": "some/model",
        "max_attempts": 1,
        "token_limit": 1000,
        "cost_limit_usd": 1.25,
    });
    let mut sent = fields.clone();
    sent["timebox_s"] = json!(60);
    let id = api.make(&sent).await;
    let shown = api.get(&format!("/tasks/{id}")).await.json;
    for (field, value) in fields.as_object().unwrap() {
        assert_eq!(shown[field], *value, "{field}");
    }
    assert_eq!(shown["waiting"]["kind"], "dependency");
    assert_eq!(shown["waiting"]["tasks"], json!([parent]));
}

#[tokio::test]
async fn the_same_task_sent_again_is_made_once() {
    let api = Api::start().await;
    let id = TaskId::generate().to_string();
    let body = api.task_with(&json!({ "id": id }));
    assert_eq!(api.post("/tasks", &body).await.status, StatusCode::CREATED);
    let again = api.post("/tasks", &body).await;
    assert_eq!((again.status, again.text("id")), (StatusCode::OK, id.clone()));

    // What was left out came from settings that are others now; it is still the same task.
    api.settings.send_replace(settings(&[("TASK_MAX_ATTEMPTS", "9")], &[]).into());
    assert_eq!(api.post("/tasks", &body).await.status, StatusCode::OK);

    let other = api.task_with(&json!({ "id": id, "title": "another" }));
    let refused = api.post("/tasks", &other).await;
    assert_eq!(refused.error(), (409, "id_taken".to_owned()));
    assert_eq!(refused.fields(), ["id"]);
    assert_eq!(api.get("/tasks").await.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn tasks_of_a_batch_may_depend_on_each_other_in_any_order() {
    let api = Api::start().await;
    let [first, second] = [TaskId::generate().to_string(), TaskId::generate().to_string()];
    let body = json!({ "tasks": [
        api.task_with(&json!({ "id": second, "dependencies": [first] })),
        api.task_with(&json!({ "id": first })),
    ]});
    let made = api.post("/tasks/batch", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.json);
    assert_eq!(made.json["items"][0]["id"], second);
    assert_eq!(made.json["items"][0]["pending_dependencies"], 1);
    assert_eq!(api.post("/tasks/batch", &body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_batch_is_made_whole_or_not_at_all() {
    let api = Api::start().await;
    let missing = TaskId::generate();
    let body = json!({ "tasks": [
        api.task(),
        api.task_with(&json!({ "dependencies": [missing] })),
    ]});
    let refused = api.post("/tasks/batch", &body).await;
    assert_eq!(refused.error(), (422, "dependency_missing".to_owned()));
    assert_eq!(refused.fields(), ["tasks[1].dependencies[0]"]);
    assert_eq!(api.get("/tasks").await.json["items"], json!([]));
}

#[tokio::test]
async fn a_circle_in_a_batch_is_refused_and_named() {
    let api = Api::start().await;
    let [one, two] = [TaskId::generate().to_string(), TaskId::generate().to_string()];
    let body = json!({ "tasks": [
        api.task_with(&json!({ "id": one, "dependencies": [two] })),
        api.task_with(&json!({ "id": two, "dependencies": [one] })),
    ]});
    let refused = api.post("/tasks/batch", &body).await;
    assert_eq!(refused.error(), (422, "dependency_cycle".to_owned()));
    let field = refused.fields().remove(0);
    assert!(field == "tasks[0].dependencies[0]" || field == "tasks[1].dependencies[0]", "{field}");
    let text = refused.text("error");
    assert!(text.contains(&one) && text.contains(&two), "{text}");
}

#[tokio::test]
async fn a_task_that_waits_is_cancelled_at_once_and_once() {
    let api = Api::start().await;
    let id = api.make(&json!({})).await;
    let path = format!("/tasks/{id}/cancel");
    let cancelled = api.post_text(&path, "").await;
    assert_eq!((cancelled.status, cancelled.text("result")), (StatusCode::OK, "cancelled".into()));
    assert_eq!(api.post_text(&path, "").await.error(), (409, "already_final".to_owned()));
    assert_eq!(api.get(&format!("/tasks/{id}")).await.json["waiting"], Value::Null);
}

#[tokio::test]
async fn a_task_that_runs_is_asked_to_stop() {
    let api = Api::start().await;
    let id = api.make(&json!({})).await;
    TestAgent::register(&api.database.store).await.start_next().await;
    let asked = api.post_text(&format!("/tasks/{id}/cancel"), "").await;
    assert_eq!(asked.status, StatusCode::ACCEPTED);
    assert_eq!(asked.text("result"), "cancel_requested");
    let shown = api.get(&format!("/tasks/{id}")).await.json;
    assert_eq!(shown["status"], "running");
    assert!(shown["cancel_requested_at"].is_string());
}

#[tokio::test]
async fn a_task_that_was_done_shows_its_commit_its_run_and_its_cost() {
    let api = Api::start().await;
    let id = api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.finish(key, 1).await;

    let shown = api.get(&format!("/tasks/{id}")).await.json;
    assert_eq!(shown["status"], "done");
    assert_eq!(shown["commit"], "a".repeat(40));
    assert_eq!(shown["runs"][0]["outcome"], "succeeded");
    assert_eq!(shown["runs"][0]["usage"]["cost_usd"], 1.5);

    let run = api.get(&format!("/runs/{}", key.run)).await.json;
    assert_eq!((run["task"].as_str().unwrap(), &run["number"]), (id.as_str(), &json!(1)));
    assert!(run["duration_s"].as_f64().unwrap() >= 0.0);
    let runs = api.get("/runs?status=ended").await.json;
    assert_eq!(runs["items"][0]["id"], key.run.to_string());
    let of_task = api.get(&format!("/tasks/{id}/runs")).await.json;
    assert_eq!(of_task["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/runs?status=running").await.json["items"], json!([]));
}

#[tokio::test]
async fn lists_go_page_by_page_from_the_newest_to_the_oldest() {
    let api = Api::start().await;
    let mut made = Vec::new();
    for role in ["worker", "tester", "worker", "worker"] {
        made.push(api.make(&json!({ "role": role })).await);
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let page = api.get(&format!("/tasks{query}")).await.json;
        let ids = page["items"].as_array().unwrap().iter();
        seen.extend(ids.map(|task| task["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, made);
    let testers = api.get("/tasks?role=tester&status=queued").await.json;
    assert_eq!(testers["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn local_repositories_must_lie_under_the_configured_roots() {
    let api = Api::start().await;
    let roots = [("LOCAL_REPO_ROOTS", "/nowhere")];
    api.settings.send_replace(settings(&roots, &[]).into());
    let refused = api.post("/tasks", &api.task()).await;
    assert_eq!(refused.error().0, 422);
    assert_eq!(refused.fields(), ["repository.path"]);

    let parent = api.repository.path().parent().unwrap().canonicalize().unwrap();
    let roots = [("LOCAL_REPO_ROOTS", parent.to_str().unwrap())];
    api.settings.send_replace(settings(&roots, &[]).into());
    api.make(&json!({})).await;
}

#[tokio::test]
async fn lists_leave_the_long_fields_out() {
    let api = Api::start().await;
    let id = api.make(&json!({ "context": { "a": 1 }, "verification": [["true"]] })).await;
    let listed = api.get("/tasks").await.json["items"][0].clone();
    assert_eq!((&listed["id"], &listed["title"]), (&json!(id), &json!("fix the answer")));
    for field in ["goal", "context", "verification"] {
        assert_eq!(listed.get(field), None, "{field}");
    }
}

#[tokio::test]
async fn any_json_is_a_context() {
    let api = Api::start().await;
    for context in [json!("text"), json!(7), json!([1, { "a": null }]), json!(false), json!({})] {
        let id = api.make(&json!({ "context": context })).await;
        assert_eq!(api.get(&format!("/tasks/{id}")).await.json["context"], context);
    }
    let mut body = api.task();
    body["context"] = Value::Null;
    let made = api.post("/tasks", &body).await;
    assert_eq!((made.status, &made.json["context"]), (StatusCode::CREATED, &Value::Null));
}

#[tokio::test]
async fn of_many_equal_requests_at_once_one_makes_the_task() {
    let api = Api::start().await;
    let body = api.task_with(&json!({ "id": TaskId::generate() }));
    let answers = futures_util::future::join_all((0..8).map(|_| api.post("/tasks", &body))).await;
    let made = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((made(StatusCode::CREATED), made(StatusCode::OK)), (1, 7), "{answers:?}");
}

#[tokio::test]
async fn a_branch_of_the_settings_that_is_missing_is_said_to_be_one_of_the_settings() {
    let api = Api::start().await;
    api.settings.send_replace(settings(&[("BASE_BRANCH", "trunk")], &[]).into());
    let refused = api.post("/tasks", &api.task()).await;
    assert_eq!(refused.error(), (422, "invalid_fields".to_owned()));
    let text = refused.text("error");
    assert!(
        text.contains("is left out") && text.contains("`BASE_BRANCH` of the settings"),
        "{text}"
    );
    let refused = api.post("/tasks", &api.task_with(&json!({ "base_branch": "trunk" }))).await;
    assert!(!refused.text("error").contains("BASE_BRANCH"));
}

#[tokio::test]
async fn a_repository_of_another_host_is_taken_by_its_form_without_asking_it() {
    let api = Api::start().await;
    for url in [
        "https://nowhere.invalid/a/b.git",
        "ssh://git@nowhere.invalid:2222/x",
        "git@nowhere.invalid:x",
    ] {
        let repository = json!({ "repository": { "mode": "git", "url": url } });
        let made = api.post("/tasks", &api.task_with(&repository)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.json);
        assert_eq!(made.json["repository"]["url"], url);
    }
    let url = "https://me:hunter2@nowhere.invalid/x";
    let repository = json!({ "repository": { "mode": "git", "url": url } });
    let refused = api.post("/tasks", &api.task_with(&repository)).await;
    assert_eq!(refused.fields(), ["repository.url"]);
    assert!(!refused.json.to_string().contains("hunter2"), "{:?}", refused.json);
}

#[tokio::test]
async fn plain_http_on_this_machine_is_for_those_who_allow_it() {
    let api = Api::start_with(&[("GIT_ALLOW_HTTP_LOOPBACK", "true")]).await;
    for (url, status) in [
        ("http://127.0.0.1:3000/x", StatusCode::CREATED),
        ("http://example.org/x", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let repository = json!({ "repository": { "mode": "git", "url": url } });
        let made = api.post("/tasks", &api.task_with(&repository)).await;
        assert_eq!(made.status, status, "{:?}", made.json);
    }
}
