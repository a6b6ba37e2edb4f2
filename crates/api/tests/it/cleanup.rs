//! A cleanup needs a value that confirms what it removes.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use core_types::ids::RunId;
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
    let expected = json!({
        "tasks": 1, "runs": 1, "events": 1, "agents": 0, "notices": 0, "mirrors": 0, "results": 0,
    });
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

#[tokio::test]
async fn mirrors_and_results_go_only_where_they_are_named() {
    let api = Api::start().await;
    let mirrors = api.state_dir.path().join("mirrors");
    let days = |days: u32| SystemTime::now() - Duration::from_secs(24 * 3600) * days;
    let (unused, used) = (mirrors.join("0".repeat(32)), mirrors.join("1".repeat(32)));
    let results = used.join("repo.git/refs/opentiger/results");
    fs::create_dir_all(&results).unwrap();
    fs::create_dir_all(&unused).unwrap();
    for (file, at) in [
        (unused.join("url"), days(6)),
        (used.join("url"), days(4)),
        (results.join(RunId::generate().to_string()), days(6)),
        (results.join(RunId::generate().to_string()), days(4)),
    ] {
        fs::File::create(file).unwrap().set_modified(at).unwrap();
    }
    let plan = async |what: &str| {
        let path = format!("/system/cleanup?older_than_days=5{what}");
        let plan = api.get(&path).await.json;
        let counts = ["mirrors", "results"].map(|one| plan["would_remove"][one].as_u64().unwrap());
        (counts, plan)
    };
    let (none, rows) = plan("").await;
    assert_eq!(none, [0, 0]);
    assert_eq!(rows["what"], json!(["tasks", "events", "agents", "notices"]));
    let (counts, both) = plan("&what=mirrors,results").await;
    assert_eq!(counts, [1, 1], "{both}");
    let what = json!(["mirrors", "results"]);
    let mut wish = json!({ "older_than_days": 5, "what": what, "confirm": rows["confirm"] });
    let stale = api.post("/system/cleanup", &wish).await;
    assert_eq!(stale.error(), (409, "confirmation_stale".to_owned()));
    wish["confirm"] = both["confirm"].clone();
    let done = api.post("/system/cleanup", &wish).await.json;
    assert_eq!(done["removed"]["mirrors"], 1, "{done}");
    assert_eq!(done["removed"]["results"], 1, "{done}");
    assert!(!unused.try_exists().unwrap() && used.try_exists().unwrap());
    assert_eq!(fs::read_dir(results).unwrap().count(), 1);
    assert_eq!(plan("&what=mirrors,results").await.0, [0, 0]);
}
