//! A run's events: pages, and streams that resume, live and end.

use std::time::Duration;

use api::server::Served;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{agent::TestAgent, support::Api};

const SOON: Duration = Duration::from_secs(10);

/// A stream of server-sent events as a client reads it.
pub(crate) struct Stream {
    body: Incoming,
    text: String,
}

/// One server-sent event.
#[derive(Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Stream {
    pub(crate) async fn open(api: &Api, path: &str, last: Option<&str>) -> Self {
        let request = api.request(Method::GET, path);
        let request = match last {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let request = request.body(Full::default()).expect("the request is well-formed");
        let response = api.client.request(request).await.expect("the server answers");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (sent, rest) = (parse(block), rest.to_owned());
                self.text = rest;
                return Some(sent);
            }
            let frame = timeout(SOON, self.body.frame()).await.expect("something comes in time")?;
            let bytes = frame.expect("the connection holds").into_data().expect("it is data");
            self.text.push_str(std::str::from_utf8(&bytes).expect("it is text"));
        }
    }

    async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            let sent = self.next().await.expect("the stream goes on");
            texts.push(sent.data["event"]["text"].as_str().expect("it is a text").to_owned());
        }
        texts
    }
}

fn parse(block: &str) -> Sent {
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        block.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
    };
    Sent {
        id: field("id"),
        name: field("event"),
        data: serde_json::from_str(&field("data")).unwrap_or_else(|_| Value::from(field("data"))),
    }
}

#[tokio::test]
async fn a_stream_has_what_was_goes_on_live_and_ends_with_the_run() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.say(key, 1, &["one", "two"]).await;
    let mut stream = Stream::open(&api, &format!("/runs/{}/events/stream", key.run), None).await;
    let first = stream.next().await.unwrap();
    assert_eq!((first.id.as_str(), first.name.as_str()), ("1", "text"));
    assert_eq!(first.data["seq"], 1);
    assert_eq!(stream.texts(1).await, ["two"]);

    agent.say(key, 3, &["three"]).await;
    assert_eq!(stream.texts(1).await, ["three"]);
    agent.finish(key, 4).await;
    assert_eq!(stream.next().await.unwrap().name, "ended");
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn live_events_arrive_by_wake_up_and_not_by_the_slow_poll() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.say(key, 1, &["one"]).await;
    let mut stream = Stream::open(&api, &format!("/runs/{}/events/stream", key.run), None).await;
    stream.texts(1).await;
    let mut slowest = Duration::ZERO;
    for seq in 2..8 {
        let said = tokio::time::Instant::now();
        agent.say(key, seq, &["more"]).await;
        stream.texts(1).await;
        slowest = slowest.max(said.elapsed());
    }
    // Six waits for a poll of one second would take three seconds on average and nearly one at the least.
    assert!(slowest < Duration::from_millis(800), "{slowest:?}");
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.say(key, 1, &["one", "two", "three"]).await;
    let path = format!("/runs/{}/events/stream", key.run);
    let mut stream = Stream::open(&api, &path, Some("2")).await;
    assert_eq!(stream.texts(1).await, ["three"]);
    let mut stream = Stream::open(&api, &format!("{path}?after=1"), None).await;
    assert_eq!(stream.texts(2).await, ["two", "three"]);
    let mut stream = Stream::open(&api, &format!("{path}?after=0"), Some("2")).await;
    assert_eq!(stream.texts(1).await, ["three"], "the header wins");
    for last in ["x", "-1"] {
        let request: Request<Full<Bytes>> = api
            .request(Method::GET, &path)
            .header("last-event-id", last)
            .body(Full::default())
            .unwrap();
        assert_eq!(api.send(request).await.fields(), ["Last-Event-ID"]);
    }
    assert_eq!(api.get(&format!("{path}?after=-1")).await.fields(), ["after"]);
}

#[tokio::test]
async fn a_client_that_has_heard_the_end_is_told_to_stop_asking() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.finish(key, 1).await;
    let path = format!("/runs/{}/events/stream", key.run);
    assert_eq!(Stream::open(&api, &path, None).await.next().await.unwrap().name, "ended");
    assert_eq!(api.get(&format!("{path}?after=1")).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_run_that_ends_without_a_last_word_ends_its_stream() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.say(key, 1, &["one"]).await;
    let mut stream = Stream::open(&api, &format!("/runs/{}/events/stream", key.run), None).await;
    assert_eq!(stream.texts(1).await, ["one"]);
    agent.finish_silently(key).await;
    while let Some(sent) = stream.next().await {
        assert_ne!(sent.name, "text");
    }
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_stop() {
    let mut api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.say(key, 1, &["one"]).await;
    let mut stream = Stream::open(&api, &format!("/runs/{}/events/stream", key.run), None).await;
    stream.texts(1).await;
    api.stop.cancel();
    let served = timeout(Duration::from_secs(3), api.serving.join_next()).await;
    assert_eq!(served.expect("it stops in time").unwrap().unwrap(), Served::Gracefully);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn pages_of_events_go_on_where_the_one_before_ended() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.say(key, 1, &["one", "two", "three"]).await;
    let path = format!("/runs/{}/events", key.run);
    let page = api.get(&format!("{path}?limit=2")).await.json;
    assert_eq!((&page["next_after"], &page["ended"]), (&json!(2), &json!(false)));
    assert_eq!(page["items"][1]["event"], json!({ "kind": "text", "text": "two" }));
    let rest = api.get(&format!("{path}?after=2")).await.json;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    agent.finish(key, 4).await;
    let last = api.get(&format!("{path}?after=4")).await.json;
    assert_eq!((&last["next_after"], &last["ended"]), (&json!(4), &json!(true)));
    assert_eq!(api.get(&format!("{path}?limit=1001")).await.fields(), ["limit"]);
}

#[tokio::test]
async fn an_event_of_a_kind_that_nobody_knows_hides_no_other() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.say(key, 1, &["one", "two"]).await;
    let strange = r#"UPDATE run_events SET event = '{"kind":"dance","steps":3}' WHERE seq = 1"#;
    api.database.run(strange).await;
    agent.finish(key, 3).await;
    let page = api.get(&format!("/runs/{}/events", key.run)).await.json;
    assert_eq!(page["items"][0]["event"], json!({ "kind": "dance", "steps": 3 }));
    assert_eq!(page["items"].as_array().unwrap().len(), 3);
    let mut stream = Stream::open(&api, &format!("/runs/{}/events/stream", key.run), None).await;
    for name in ["dance", "text", "ended"] {
        assert_eq!(stream.next().await.unwrap().name, name);
    }
    assert_eq!(stream.next().await, None);
}
