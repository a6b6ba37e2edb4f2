//! What the dashboard shows of runs, agents, gates and self-tests, and what it asks of them.

use core_types::outcome::{RunOutcome, RunReport};
use http::StatusCode;
use serde_json::json;

use crate::{agent::TestAgent, pages::Browser, self_tests::beat, support::Api};

const ONE_WORKER: [(&str, &str); 3] =
    [("WORKER_COUNT", "2"), ("TESTER_COUNT", "0"), ("DOCSER_COUNT", "0")];

#[tokio::test]
async fn runs_and_agents_are_listed_found_by_filters_and_lead_to_each_other() {
    let api = Api::start_with(&ONE_WORKER).await;
    let browser = Browser::new(&api);
    assert!(browser.open("/ui/runs").await.page().contains("Nothing has run yet"));
    for title in ["first <b>", "second"] {
        api.make(&json!({ "title": title })).await;
    }
    let agent = TestAgent::register(&api.database.store).await;
    let first = agent.start_next().await;
    agent.finish(first, 1).await;
    let second = agent.start_next().await;
    let run = |key: core_types::ids::RunKey| format!("/ui/runs/{}\"", key.run);

    let all = browser.open("/ui/runs").await.page();
    assert!(all.contains("first &#60;b&#62;") && all.contains("second"), "{all}");
    assert!(all.contains(&run(first)) && all.contains(&run(second)), "{all}");
    let ended = browser.open("/ui/runs?outcome=succeeded").await.page();
    assert!(ended.contains(&run(first)) && !ended.contains(&run(second)), "{ended}");
    let here = browser.open(&format!("/ui/runs?agent={}", agent.id)).await.page();
    assert!(here.contains("Only runs of one agent."), "{here}");
    let odd = browser.open("/ui/runs?outcome=odd").await;
    assert_eq!(odd.status, StatusCode::BAD_REQUEST);
    assert!(odd.page().contains("does not fit"), "it says so in words");

    let overview = browser.open("/").await.page();
    assert!(overview.contains(&run(second)) && !overview.contains(&run(first)), "{overview}");
    assert!(overview.contains("<strong>1</strong> on hosts"), "{overview}");
    let agents = browser.open("/ui/agents").await.page();
    assert!(agents.contains(&format!("/ui/agents/{}\"", agent.id)), "{agents}");
    assert!(agents.contains("/ui/system/processes/worker-2\""), "one that is wanted: {agents}");
    let one = browser.open(&format!("/ui/agents/{}", agent.id)).await.page();
    assert!(one.contains(&run(first)) && one.contains(&run(second)), "{one}");
    let nobody = format!("/ui/agents/agent-{}", "0".repeat(32));
    assert_eq!(browser.open(&nobody).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_gate_is_shown_with_reason_and_times_and_tried_from_the_first_page() {
    let api = Api::start().await;
    let browser = Browser::new(&api);
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    let report = RunReport {
        hint: Some("set a valid key".to_owned()),
        ..RunReport::new(RunOutcome::KeyRejected).with_message("the provider refuses the key")
    };
    agent.end(key, &report).await;
    let page = browser.open("/").await.page();
    for text in
        ["the provider refuses the key", "set a valid key", "Since <time", "Tried again: <time"]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
    let fields = [("next", "/?window=week")];
    let tried = browser.post("/", "/ui/system/gates/claude_code", &fields).await.goes_to();
    assert_eq!(tried, "/?window=week&said=gate_tried");
    let week = browser.open(&tried).await.page();
    assert!(week.contains("per six hours") && week.contains("let through to try"), "{week}");
    assert_eq!(browser.open("/?window=year").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn everything_is_stopped_and_started_again_only_after_a_question() {
    let api = Api::start_with(&ONE_WORKER).await;
    let browser = Browser::new(&api);
    let page = browser.open("/").await.page();
    assert!(
        page.contains("<details class=\"ask\"><summary class=\"button secondary\">Stop everything")
    );
    let wanted = async || {
        let shown = api.get("/system/processes/worker-1").await.json;
        shown["process"]["wanted"].clone()
    };
    let stopped = browser.post("/", "/ui/system/stop-all", &[("next", "//evil.example")]).await;
    assert_eq!(stopped.goes_to(), "/?said=all_stopped");
    assert_eq!(wanted().await, "stopped");
    let started = browser.post("/", "/ui/system/start-all", &[]).await.goes_to();
    assert!(browser.open(&started).await.page().contains("settings decide again"));
    assert_eq!(wanted().await, "settings");
}

#[tokio::test]
async fn a_self_test_is_asked_for_and_what_the_sandbox_lacks_is_shown_before_the_switch() {
    let api = Api::start_with(&ONE_WORKER).await;
    let browser = Browser::new(&api);
    let ask = async || {
        let fields = [("executor", "opencode")];
        browser.post("/ui/system", "/ui/system/self-test", &fields).await
    };
    let refused = ask().await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.page().contains("no dispatcher runs"));
    api.database.store.dispatcher_beat(&beat()).await.unwrap();
    assert_eq!(ask().await.goes_to(), "/ui/system?said=self_test_asked");
    let page = browser.open("/ui/system").await.page();
    assert!(page.contains("under way") && page.contains("<strong>opencode</strong>"), "{page}");
    let readiness = browser.open("/ui/system/readiness?environment=sandbox").await.page();
    assert!(readiness.contains("self_test"), "the host is in force: {readiness}");
    let host = browser.open("/ui/system/readiness?environment=host").await.page();
    assert!(!host.contains("self_test"), "{host}");

    let sandbox = [("EXECUTION_ENVIRONMENT", "sandbox"), ("WORKER_COUNT", "1")];
    let api = Api::start_with(&sandbox).await;
    let agents = Browser::new(&api).open("/ui/agents").await.page();
    assert!(agents.contains("skipped until the execution environment is host"), "{agents}");
    assert!(agents.contains("<span class=\"badge off\">skipped</span>"), "{agents}");
}
