//! A cleanup needs a value that confirms what it removes.

use serde_json::{Value, json};

use crate::{agent::TestAgent, support::Api};

const PLAN: &str = "/system/cleanup?older_than_days=5&what=tasks";

async fn old_task(api: &Api, agent: &TestAgent) -> String {
    let id = api.make(&json!({})).await;
    let key = agent.start_next().await;
    agent.finish(key, 1).await;
    api.database
        .run("UPDATE tasks SET finished_at = now() - interval '10 days' WHERE status = 'done'")
        .await;
    id
}

fn body(plan: &Value) -> Value {
    json!({ "older_than_days": 5, "what": ["tasks"], "confirm": plan["confirm"] })
}

#[tokio::test]
async fn what_is_told_is_removed_when_it_is_confirmed_and_running_work_stays() {
    let api = Api::start().await;
    let agent = TestAgent::register(&api.database.store).await;
    let old = old_task(&api, &agent).await;
    let running = api.make(&json!({})).await;
    agent.start_next().await;
    let plan = api.get(PLAN).await;
    assert_eq!(plan.status, 200, "{}", plan.json);
    let expected = json!({ "tasks": 1, "runs": 1, "events": 1, "agents": 0, "notices": 0 });
    assert_eq!(
        (&plan.json["would_remove"], &plan.json["kept_for_dependants"]),
        (&expected, &json!(0))
    );
    assert_eq!(plan.json["what"], json!(["tasks"]));
    let done = api.post("/system/cleanup", &body(&plan.json)).await;
    assert_eq!((&done.json["removed"], &done.json["finished"]), (&expected, &json!(true)));
    assert_eq!(api.get(&format!("/tasks/{old}")).await.error().0, 404);
    assert_eq!(api.get(&format!("/tasks/{running}")).await.json["status"], "running");
    let again = api.post("/system/cleanup", &body(&plan.json)).await;
    assert_eq!(again.error(), (409, "confirmation_stale".to_owned()));
}

#[tokio::test]
async fn nothing_is_removed_without_a_value_that_confirms_just_that() {
    let api = Api::start().await;
    let agent = TestAgent::register(&api.database.store).await;
    let old = old_task(&api, &agent).await;
    let plan = api.get(PLAN).await.json;
    let micros = plan["confirm"].as_str().unwrap().split('-').next().unwrap().to_owned();
    let stale = (409, "confirmation_stale".to_owned());
    for (change, expected) in [
        (json!({ "confirm": null }), (422, "invalid_fields".to_owned())),
        (json!({ "confirm": "yes" }), (422, "invalid_fields".to_owned())),
        (json!({ "what": [] }), (422, "invalid_fields".to_owned())),
        (json!({ "what": ["config"] }), (422, "invalid_fields".to_owned())),
        (json!({ "older_than_days": 40_000 }), (422, "invalid_fields".to_owned())),
        (json!({ "confirm": format!("{micros}-0000000000000000") }), stale.clone()),
        (json!({ "confirm": "0-0000000000000000" }), stale.clone()),
        (json!({ "what": ["tasks", "agents"] }), stale.clone()),
        (json!({ "older_than_days": 6 }), stale.clone()),
        (json!({ "older_than_days": 0 }), stale.clone()),
    ] {
        let mut sent = body(&plan);
        for (field, value) in change.as_object().unwrap() {
            sent[field] = value.clone();
        }
        let refused = api.post("/system/cleanup", &sent).await;
        assert_eq!(refused.error(), expected, "{change}: {}", refused.json);
    }
    // Another task became old since: the value was not about it.
    old_task(&api, &agent).await;
    assert_eq!(api.post("/system/cleanup", &body(&plan)).await.error(), stale);
    assert_eq!(api.get(&format!("/tasks/{old}")).await.status, 200);
    for (query, field) in [
        ("what=tasks", "older_than_days"),
        ("older_than_days=-1", "older_than_days"),
        ("older_than_days=1&what=gates", "what"),
    ] {
        assert_eq!(api.get(&format!("/system/cleanup?{query}")).await.fields(), [field]);
    }
}
