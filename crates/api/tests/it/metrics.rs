//! The system in numbers, as a collector sees it.

use std::collections::BTreeMap;

use core_types::auth::Language;
use http::StatusCode;
use serde_json::json;

use crate::{outages::behind_a_proxy, support::Api};

/// The value of each line, by its name with labels. Anything else than the format's lines is an error.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with("# "));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a line has a name and a value");
            (name.to_owned(), value.parse().expect("a value is a number"))
        })
        .collect()
}

async fn scrape(api: &Api) -> BTreeMap<String, f64> {
    let answer = api.get("/metrics").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    samples(answer.json.as_str().expect("the answer is text"))
}

#[test]
fn the_committed_tables_are_those_of_the_code() {
    for (name, language) in
        [("metrics.md", Language::English), ("ja/metrics.md", Language::Japanese)]
    {
        let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == api::metrics::render_markdown(language),
            "docs/{name} is not what the code says; run `cargo xtask docs`"
        );
    }
}

#[tokio::test]
async fn every_line_is_in_the_table_and_says_what_is_so() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    api.make(&json!({ "title": "\"quoted\" and \\" })).await;
    let seen = scrape(&api).await;
    assert_eq!(seen["opentiger_database_up"], 1.0);
    assert_eq!(seen["opentiger_settings_faults"], 0.0);
    assert_eq!(seen["opentiger_tasks{role=\"worker\",status=\"queued\"}"], 2.0);
    assert_eq!(seen["opentiger_tasks_queued{waits_for=\"turn\"}"], 2.0);
    assert_eq!(
        seen["opentiger_gate_open{environment=\"host\",executor=\"claude_code\",provider=\"\"}"],
        1.0
    );
    assert!(!seen.contains_key("opentiger_redis_up"), "there is no Redis here");
    let table = api::metrics::render_markdown(Language::English);
    for line in seen.keys() {
        let name = line.split('{').next().unwrap_or_default();
        assert!(table.contains(&format!("| `{name}` |")), "`{name}` is not in the table");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_a_number_and_no_error() {
    let (api, proxy) = behind_a_proxy().await;
    proxy.refuse();
    let seen = scrape(&api).await;
    assert_eq!(seen["opentiger_database_up"], 0.0);
    assert!(!seen.keys().any(|line| line.starts_with("opentiger_tasks")), "{seen:?}");
}
