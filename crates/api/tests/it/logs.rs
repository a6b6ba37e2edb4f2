//! A run's log and what its page shows.

use core_types::{
    event::RunEvent,
    ids::{RunId, RunKey},
};
use http::Method;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use crate::{agent::TestAgent, support::Api};

async fn run(api: &Api) -> (TestAgent, RunKey) {
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    (agent, key)
}

#[tokio::test]
async fn a_log_is_read_whole_in_parts_and_from_its_end() {
    let api = Api::start().await;
    let (agent, key) = run(&api).await;
    let texts: Vec<String> = (1..=450).map(|n| format!("line {n}\nmore {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    agent.say(key, 1, &texts).await;
    let path = format!("/runs/{}/log", key.run);
    let whole = api.get(&path).await;
    assert_eq!(whole.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        (&whole.headers["x-next-after"], &whole.headers["x-log-ended"]),
        (&"450".parse().unwrap(), &"false".parse().unwrap())
    );
    let text = whole.json.as_str().unwrap();
    assert_eq!(text.lines().count(), 900);
    assert!(text.lines().next().unwrap().ends_with("Z text     line 1"), "{text}");

    let tail = api.get(&format!("{path}?tail=3")).await.json;
    let lines: Vec<&str> = tail.as_str().unwrap().lines().collect();
    assert_eq!((lines.len(), lines[0], lines[2]), (3, "    more 449", "    more 450"));
    let long = api.get(&format!("{path}?tail=500")).await.json;
    assert_eq!(long.as_str().unwrap().lines().count(), 500);
    let behind = api.get(&format!("{path}?tail=500&after=449")).await;
    assert_eq!(behind.json.as_str().unwrap().lines().count(), 2);
    let nothing = api.get(&format!("{path}?after=450")).await;
    assert_eq!(
        (nothing.json.is_null(), &nothing.headers["x-next-after"]),
        (true, &"450".parse().unwrap())
    );

    agent.finish(key, 451).await;
    let rest = api.get(&format!("{path}?after=450")).await;
    assert_eq!(rest.headers["x-log-ended"], "true");
    assert!(rest.json.as_str().unwrap().ends_with("ended    succeeded\n"));
    let unknown = api.get(&format!("/runs/{}/log", RunId::generate())).await;
    assert_eq!(unknown.error().0, 404);
}

#[tokio::test]
async fn a_long_log_comes_in_answers_of_bounded_length() {
    let api = Api::start().await;
    let (agent, key) = run(&api).await;
    let text = "x".repeat(30_000);
    agent.say(key, 1, &vec![text.as_str(); 80]).await;
    let (mut after, mut lines, mut answers) = ("0".to_owned(), 0, 0);
    loop {
        let part = api.get(&format!("/runs/{}/log?after={after}", key.run)).await;
        let Some(text) = part.json.as_str() else { break };
        assert!(text.len() < 1_100_000);
        lines += text.lines().count();
        answers += 1;
        part.headers["x-next-after"].to_str().unwrap().clone_into(&mut after);
    }
    assert_eq!((lines, answers), (80, 3));
}

#[tokio::test]
async fn a_log_that_is_followed_goes_on_until_the_run_has_ended() {
    let api = Api::start().await;
    let (agent, key) = run(&api).await;
    agent.say(key, 1, &["before", "last"]).await;
    let path = format!("/runs/{}/log?follow=true&tail=1", key.run);
    let request = api.request(Method::GET, &path).body(Full::default()).unwrap();
    let mut body = api.client.request(request).await.unwrap().into_body();
    let mut text = String::new();
    while !text.contains("last") {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    agent.say(key, 3, &["while it runs"]).await;
    agent.finish(key, 4).await;
    text.push_str(std::str::from_utf8(&body.collect().await.unwrap().to_bytes()).unwrap());
    assert!(!text.contains("before"), "{text}");
    let kinds: Vec<&str> =
        text.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(kinds, ["text", "text", "ended"], "{text}");
}

#[tokio::test]
async fn a_run_is_shown_with_its_phases_and_its_verification() {
    let api = Api::start().await;
    let (agent, key) = run(&api).await;
    let phase = |name: &str| RunEvent::Phase { name: name.to_owned() };
    agent.note(key, 1, phase("preparing")).await;
    agent.note(key, 2, phase("agent")).await;
    agent.say(key, 3, &["work"]).await;
    agent.note(key, 4, phase("verifying")).await;
    let command = vec!["cargo".to_owned(), "test".to_owned()];
    let verified = RunEvent::Verification {
        command,
        passed: false,
        status: "exit code 1".to_owned(),
        output: "no".to_owned(),
    };
    agent.note(key, 5, verified).await;
    let path = format!("/runs/{}", key.run);
    let live = api.get(&path).await.json;
    assert_eq!(
        (&live["phases"][1]["name"], live["phases"][1]["duration_s"].is_number()),
        (&json!("agent"), true)
    );
    assert!(live["phases"][2]["duration_s"].is_null());
    agent.finish(key, 6).await;
    let shown = api.get(&path).await.json;
    assert!(shown["phases"][2]["duration_s"].is_number());
    assert_eq!(shown["phases"].as_array().unwrap().len(), 3);
    assert_eq!(shown["verification"][0]["command"], json!(["cargo", "test"]));
    assert_eq!(
        (&shown["verification"][0]["passed"], &shown["outcome"]),
        (&json!(false), &json!("succeeded"))
    );
}
