//! A stream of events across everything that can break it.

use client::{error::ClientError, follow::Follower};
use serde_json::Value;

use crate::server::{Server, answer, cut_stream};

fn event(number: u32, kind: &str) -> String {
    format!(
        "id: {number}\nevent: {kind}\ndata: {{\"event\":{{\"kind\":\"{kind}\",\"n\":{number}}}}}\n\n"
    )
}

async fn numbers(follower: &mut Follower) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(event) = follower.next().await.expect("the stream goes on") {
        numbers.push(event.pointer("/event/n").and_then(Value::as_u64).expect("it has a number"));
    }
    numbers
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_after_the_last_whole_event() {
    let server = Server::answering(vec![
        cut_stream(&format!("{}{}id: 3\nda", event(1, "phase"), event(2, "text"))),
        cut_stream(&format!(": alive\n\n{}{}", event(2, "text"), event(3, "text"))),
        cut_stream(&event(4, "ended")),
    ])
    .await;
    let mut follower = Follower::new(server.client(), "/runs/r/events/stream", 0);
    assert_eq!(numbers(&mut follower).await, [1, 2, 3, 4]);
    let resumed: Vec<bool> = server
        .asked()
        .iter()
        .zip(["last-event-id: 0", "last-event-id: 2", "last-event-id: 3"])
        .map(|(asked, header)| asked.contains(header))
        .collect();
    assert_eq!(resumed, [true; 3]);
}

#[tokio::test]
async fn a_server_that_cannot_now_is_asked_again_and_no_content_is_the_end() {
    let busy = r#"{"error":"the database is not available","code":"unavailable"}"#;
    let server = Server::answering(vec![
        answer("503 Service Unavailable", "", busy),
        cut_stream(&event(8, "text")),
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned(),
    ])
    .await;
    let mut follower = Follower::new(server.client(), "/runs/r/events/stream", 7);
    assert_eq!(numbers(&mut follower).await, [8]);
    assert_eq!(follower.after(), 8);
}

#[tokio::test]
async fn a_refusal_that_will_not_pass_is_an_error_at_once() {
    let gone = r#"{"error":"run not found","code":"not_found"}"#;
    let server = Server::answering(vec![answer("404 Not Found", "", gone)]).await;
    let mut follower = Follower::new(server.client(), "/runs/r/events/stream", 0);
    let error = follower.next().await.unwrap_err();
    assert_eq!(error.refusal().map(|refusal| refusal.code.as_str()), Some("not_found"));
}

#[tokio::test]
async fn an_event_that_is_none_is_foreign() {
    let server = Server::answering(vec![cut_stream("id: 1\ndata: no json\n\n")]).await;
    let mut follower = Follower::new(server.client(), "/runs/r/events/stream", 0);
    let error = follower.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Foreign { .. }), "{error:?}");
}
