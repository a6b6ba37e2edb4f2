//! Why an executor takes no tasks, whether a task is tried again, and what was spent, as clients see it.

use core_types::{
    outcome::{RunOutcome, RunReport},
    usage::Usage,
};
use http::StatusCode;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::{agent::TestAgent, support::Api};

async fn gate(api: &Api) -> Value {
    let gates = api.get("/system/gates").await.json;
    let items = gates["items"].as_array().expect("gates are a list");
    let of = |gate: &&Value| gate["executor"] == "claude_code" && gate["environment"] == "host";
    items.iter().find(of).expect("every executor has a gate").clone()
}

/// The id of a new task.
async fn task(api: &Api) -> String {
    api.make(&json!({})).await
}

async fn shown(api: &Api, id: &str) -> Value {
    api.get(&format!("/tasks/{id}")).await.json
}

#[tokio::test]
async fn a_broken_login_is_shown_with_what_to_do_and_a_trial_can_be_asked_for() {
    let api = Api::start().await;
    let agent = TestAgent::register(&api.database.store).await;
    assert_eq!(gate(&api).await["state"], "open");
    let (first, second) = (task(&api).await, task(&api).await);
    let key = agent.start_next().await;
    let report = RunReport {
        hint: Some("set a valid ANTHROPIC_API_KEY".to_owned()),
        ..RunReport::new(RunOutcome::KeyRejected).with_message("the provider refuses the key")
    };
    agent.end(key, &report).await;

    let closed = gate(&api).await;
    assert_eq!((&closed["state"], &closed["cause"]), (&json!("closed"), &json!("login")));
    assert_eq!((&closed["needs_a_person"], &closed["closures"]), (&json!(true), &json!(1)));
    assert!((50.0..=60.0).contains(&closed["retry_in_s"].as_f64().unwrap()), "{closed}");
    let tried = shown(&api, &first).await;
    let retry = &tried["retry"];
    assert_eq!((&retry["auto_retry"], &retry["attempts"]), (&json!(true), &json!(0)));
    assert_eq!(
        (&retry["class"], &retry["last_outcome"]),
        (&json!("login"), &json!("key_rejected"))
    );
    let waits = shown(&api, &second).await;
    assert_eq!(waits["waiting"]["kind"], "login");
    assert_eq!(waits["waiting"]["hint"], "set a valid ANTHROPIC_API_KEY");
    assert_eq!(waits["waiting"]["until"], closed["retry_at"]);
    assert_eq!(waits["retry"]["retry_at"], closed["retry_at"]);
    assert_eq!(waits["retry"]["last_outcome"], json!(null));

    let now = api.post("/system/gates/claude_code/open", &json!({})).await;
    assert_eq!((now.status, now.json["retry_in_s"].as_f64()), (StatusCode::OK, Some(0.0)));
    let trial = agent.start_next().await;
    assert_eq!(gate(&api).await["trial_run"], trial.run.to_string());
    agent.finish(trial, 1).await;
    assert_eq!(gate(&api).await["state"], "open");
}

#[tokio::test]
async fn a_provider_without_a_login_is_shown_and_tried_by_its_name() {
    let api = Api::start().await;
    let agent = TestAgent::register(&api.database.store).await;
    let task = json!({ "executor": "opencode", "model": "openai/gpt-5" });
    let first = api.make(&task).await;
    let key = agent.start_next().await;
    agent.end(key, &RunReport::new(RunOutcome::LoginRequired)).await;
    let gates = api.get("/system/gates").await.json;
    let of = |gate: &&Value| gate["provider"] == "openai";
    let closed = gates["items"].as_array().unwrap().iter().find(of).expect("it has a gate").clone();
    assert_eq!((&closed["executor"], &closed["state"]), (&json!("opencode"), &json!("closed")));
    let waits = shown(&api, &first).await["waiting"].clone();
    assert!(waits["message"].as_str().unwrap().contains("models of `openai`"), "{waits}");
    for query in ["", "?provider=openai"] {
        let now = api.post(&format!("/system/gates/opencode/open{query}"), &json!({})).await;
        assert_eq!(now.status, StatusCode::OK, "{query}");
        assert_eq!(
            (&now.json["provider"], &now.json["retry_in_s"]),
            (&json!("openai"), &json!(0.0))
        );
    }
    let none = api.post("/system/gates/opencode/open?provider=nobody", &json!({})).await;
    assert_eq!(none.error(), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn a_gate_of_no_executor_is_refused() {
    let api = Api::start().await;
    for path in ["/system/gates/boss/open", "/system/gates/%ff/open", "/system/gates/%20/open"] {
        let refused = api.post(path, &json!({})).await;
        assert_eq!(refused.error(), (400, "invalid_parameters".to_owned()), "{path}");
        assert_eq!(refused.json["details"][0]["field"], "executor");
    }
}

#[tokio::test]
async fn a_task_says_whether_it_is_tried_again_and_when() {
    let api = Api::start().await;
    let agent = TestAgent::register(&api.database.store).await;
    let id = task(&api).await;
    let untried = shown(&api, &id).await["retry"].clone();
    assert_eq!((&untried["auto_retry"], &untried["retry_at"]), (&json!(true), &json!(null)));
    let key = agent.start_next().await;
    agent.end(key, &RunReport::new(RunOutcome::VerificationFailed)).await;
    let retry = shown(&api, &id).await["retry"].clone();
    assert_eq!((&retry["auto_retry"], &retry["class"]), (&json!(true), &json!("work")));
    assert_eq!(retry["reason"], "a verification command failed");
    assert_eq!(retry["retry_at"], retry["not_before"]);
    let wait = retry["retry_in_s"].as_f64().unwrap();
    assert!((20.0..=30.0).contains(&wait), "{wait}");

    let refused = task(&api).await;
    let key = agent.start_next().await;
    agent.end(key, &RunReport::new(RunOutcome::CheckoutFailed)).await;
    let retry = shown(&api, &refused).await["retry"].clone();
    assert_eq!((&retry["auto_retry"], &retry["class"]), (&json!(false), &json!("caller")));
    assert!(retry["reason"].as_str().unwrap().ends_with("trying again would come to the same"));

    let limited = task(&api).await;
    let key = agent.start_next().await;
    let until = Timestamp::now() + 2.hours();
    let report = RunReport { retry_at: Some(until), ..RunReport::new(RunOutcome::QuotaExceeded) };
    agent.end(key, &report).await;
    let shown = shown(&api, &limited).await;
    assert_eq!((&shown["status"], &shown["waiting"]["kind"]), (&json!("blocked"), &json!("quota")));
    assert_eq!(shown["retry"]["auto_retry"], true);
    assert!(shown["retry"]["retry_in_s"].as_f64().unwrap() > 7000.0);
}

#[tokio::test]
async fn what_was_spent_is_shown_with_what_is_left_and_a_spent_day_is_why_a_task_waits() {
    let api =
        Api::start_with(&[("DAILY_COST_LIMIT_USD", "2.00"), ("TASK_TOKEN_LIMIT", "5000")]).await;
    let agent = TestAgent::register(&api.database.store).await;
    task(&api).await;
    let key = agent.start_next().await;
    let usage = Usage { input_tokens: 40, cost_microusd: 1_500_000, ..Usage::default() };
    agent.end(key, &RunReport { usage, ..RunReport::new(RunOutcome::AgentFailed) }).await;
    let spend = api.get("/system/usage").await.json;
    assert_eq!((&spend["today"]["tokens"], &spend["today"]["cost_usd"]), (&json!(40), &json!(1.5)));
    assert_eq!(
        (&spend["today"]["cost_left_usd"], &spend["today"]["exhausted"]),
        (&json!(0.5), &json!(null))
    );
    assert_eq!(spend["caps"]["task_tokens"], 5000);
    assert_eq!(spend["caps"]["daily_tokens"], json!(null));
    assert_eq!(spend["days"][0]["by_executor"]["claude_code"]["total_tokens"], 40);

    api.database.run("UPDATE spend SET cost_microusd = 2000000").await;
    let waits = task(&api).await;
    let waiting = shown(&api, &waits).await["waiting"].clone();
    assert_eq!(waiting["kind"], "spend_cap");
    assert!(waiting["message"].as_str().unwrap().contains("2.00 USD"), "{waiting}");
    assert_eq!(waiting["until"], spend["today"]["ends_at"]);
}
