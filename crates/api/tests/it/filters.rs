//! Filters, cursors and counts of lists.

use core_types::ids::{AgentId, TaskId};
use serde_json::{Value, json};

use crate::{agent::TestAgent, support::Api};

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("a page has items");
    items.iter().filter_map(|item| item["id"].as_str().map(ToOwned::to_owned)).collect()
}

#[tokio::test]
async fn tasks_are_found_by_any_filters_together() {
    let api = Api::start().await;
    let first = api.make(&json!({ "title": "Repair the 100% bug", "role": "tester" })).await;
    let second =
        api.make(&json!({ "title": "write docs", "role": "docser", "target_area": "a b" })).await;
    let third = api.make(&json!({ "title": "another bug" })).await;
    api.post_text(&format!("/tasks/{third}/cancel"), "").await;
    let made = api.get(&format!("/tasks/{second}")).await.text("created_at");
    let place = api.repository.path().to_str().unwrap();
    for (query, expected) in [
        ("?order=oldest".to_owned(), vec![&first, &second, &third]),
        ("?status=queued,cancelled".to_owned(), vec![&third, &second, &first]),
        ("?status=cancelled".to_owned(), vec![&third]),
        ("?status=queued&role=tester".to_owned(), vec![&first]),
        ("?executor=claude_code&role=docser".to_owned(), vec![&second]),
        ("?target_area=a%20b".to_owned(), vec![&second]),
        (format!("?repository={place}&q=BUG"), vec![&third, &first]),
        ("?repository=/nowhere".to_owned(), vec![]),
        ("?q=100%25".to_owned(), vec![&first]),
        ("?q=_".to_owned(), vec![]),
        (format!("?created_after={made}"), vec![&third, &second]),
        (format!("?created_before={made}"), vec![&first]),
        ("?created_before=1200-01-01T00:00:00Z".to_owned(), vec![]),
        ("?created_after=9999-01-01T00:00:00Z".to_owned(), vec![]),
    ] {
        let page = api.get(&format!("/tasks{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.json);
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(ids(&page.json), expected, "{query}");
    }
}

#[tokio::test]
async fn parameters_that_are_unknown_or_not_allowed_are_refused_by_name() {
    let api = Api::start().await;
    for (query, field) in [
        ("/tasks?colour=red", "colour"),
        ("/tasks?status=queued,odd", "status"),
        ("/tasks?status=", "status"),
        ("/tasks?status=queued&status=done", "status"),
        ("/tasks?q=", "q"),
        ("/tasks?q=a%00b", "q"),
        ("/tasks?created_after=yesterday", "created_after"),
        ("/tasks?order=random", "order"),
        ("/tasks?limit=0", "limit"),
        ("/runs?task=7", "task"),
        ("/runs?outcome=odd", "outcome"),
        ("/runs?since=1", "since"),
        ("/agents?state=asleep", "state"),
        ("/agents?limit=3", "limit"),
        ("/runs/run-00000000000000000000000000000000/log?tail=0", "tail"),
        ("/runs/run-00000000000000000000000000000000/log?follow=yes", "follow"),
    ] {
        let refused = api.get(query).await;
        assert_eq!(refused.error(), (400, "invalid_parameters".to_owned()), "{query}");
        assert_eq!(refused.fields(), [field], "{query}");
    }
    let long = "x".repeat(201);
    assert_eq!(api.get(&format!("/tasks?q={long}")).await.fields(), ["q"]);
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_list_only() {
    let api = Api::start().await;
    for _ in 0..3 {
        api.make(&json!({})).await;
    }
    let first = api.get("/tasks?limit=1&role=worker").await;
    let cursor = first.text("next_cursor");
    let next = api.get(&format!("/tasks?limit=2&role=worker&cursor={cursor}")).await;
    assert_eq!((ids(&next.json).len(), &next.json["next_cursor"]), (2, &Value::Null));
    for query in ["/tasks?limit=1", "/tasks?role=worker&order=oldest", "/runs?limit=1"] {
        let refused = api.get(&format!("{query}&cursor={cursor}")).await;
        assert_eq!(refused.fields(), ["cursor"], "{query}");
    }
    assert_eq!(api.get("/tasks?cursor=12").await.fields(), ["cursor"]);
}

#[tokio::test]
async fn pages_stay_right_while_tasks_are_made() {
    let api = Api::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(api.make(&json!({ "title": "wanted" })).await);
    }
    for (order, reverse) in [("newest", true), ("oldest", false)] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = api.get(&format!("/tasks?q=wanted&limit=2&order={order}{cursor}")).await;
            seen.extend(ids(&page.json));
            api.make(&json!({ "title": "another" })).await;
            let Some(next) = page.json["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        if reverse {
            seen.reverse();
        }
        assert_eq!(seen, made, "{order}");
    }
}

#[tokio::test]
async fn tasks_are_counted_by_status_and_role() {
    let api = Api::start().await;
    let none = api.get("/tasks/summary").await.json;
    assert_eq!((&none["total"], &none["oldest_queued"]), (&json!(0), &Value::Null));
    let oldest = api.make(&json!({ "role": "tester" })).await;
    api.make(&json!({})).await;
    let cancelled = api.make(&json!({})).await;
    api.post_text(&format!("/tasks/{cancelled}/cancel"), "").await;
    let counts = api.get("/tasks/summary").await.json;
    assert_eq!(
        (&counts["total"], &counts["queued"], &counts["cancelled"]),
        (&json!(3), &json!(2), &json!(1))
    );
    assert_eq!(counts["by_role"]["worker"]["queued"], 1);
    assert_eq!(counts["by_role"]["docser"]["done"], 0);
    assert_eq!(counts["oldest_queued"], oldest);
    assert!(counts["oldest_queued_age_s"].as_f64().unwrap() >= 0.0);
}

#[tokio::test]
async fn runs_are_found_by_task_agent_outcome_and_time() {
    let api = Api::start().await;
    let task = api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.finish(key, 1).await;
    let run = key.run.to_string();
    let made = api.get(&format!("/runs/{run}")).await.text("created_at");
    let (agent, other, nobody) = (agent.id, TaskId::generate(), AgentId::generate());
    for (query, found) in [
        (
            format!(
                "?task={task}&agent={agent}&executor=claude_code&outcome=succeeded,no_change&status=ended"
            ),
            true,
        ),
        (format!("?task={other}"), false),
        (format!("?agent={nobody}"), false),
        ("?executor=opencode".to_owned(), false),
        ("?outcome=agent_failed".to_owned(), false),
        ("?status=running,launching".to_owned(), false),
        (format!("?since={made}"), true),
        (format!("?until={made}"), false),
    ] {
        let page = api.get(&format!("/runs{query}")).await;
        let expected = if found { vec![run.clone()] } else { vec![] };
        assert_eq!(ids(&page.json), expected, "{query}: {}", page.json);
    }
}

#[tokio::test]
async fn an_agent_is_shown_with_its_run_and_after_it_has_signed_off() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let path = format!("/agents/{}", agent.id);
    let idle = api.get(&path).await.json;
    assert_eq!((&idle["state"], &idle["present_run"]), (&json!("idle"), &Value::Null));
    let key = agent.start_next().await;
    let busy = api.get(&path).await.json;
    assert_eq!((&busy["state"], &busy["present_run"]["id"]), (&json!("busy"), &json!(key.run)));
    assert_eq!(ids(&api.get("/agents?state=busy&role=worker").await.json).len(), 1);
    assert_eq!(ids(&api.get("/agents?state=idle").await.json).len(), 0);
    assert_eq!(ids(&api.get("/agents?role=tester").await.json).len(), 0);
    agent.finish(key, 1).await;
    api.database.store.retire_agent(agent.id).await.unwrap();
    assert_eq!(ids(&api.get("/agents").await.json).len(), 0);
    assert_eq!(ids(&api.get("/agents?state=retired").await.json), [agent.id.to_string()]);
    assert_eq!(api.get(&path).await.json["state"], "retired");
    api.database
        .run("UPDATE agents SET retired_at = NULL, last_beat = now() - interval '1 hour'")
        .await;
    assert_eq!(ids(&api.get("/agents?state=silent").await.json).len(), 1);
    assert_eq!(api.get(&format!("/agents/{}", AgentId::generate())).await.error().0, 404);
}
