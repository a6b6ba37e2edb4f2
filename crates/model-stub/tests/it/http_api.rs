//! The scripted model's own interface.

use std::{net::SocketAddr, time::Duration};

use model_stub::{
    script::{Script, Scripts, Turn},
    server::{ModelStub, StartError},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Sends a request on a connection of its own and gives status and body.
async fn ask(stub: &ModelStub, method: &str, path: &str, body: &Value) -> (u16, String) {
    let address = stub.base_url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: stub\r\nconnection: close\r\nx-api-key: any\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn request(prompt: &str) -> Value {
    json!({"model": "m", "tools": [{"name": "Bash"}], "messages": [{"role": "user", "content": prompt}]})
}

#[tokio::test]
async fn an_answer_comes_whole_or_as_events() {
    let stub = ModelStub::start(Script::of([Turn::text("well done")])).await.unwrap();
    let mut request = request("go");
    let (status, body) = ask(&stub, "POST", "/v1/messages?beta=true", &request).await;
    let whole: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &whole["content"][0]["text"]), (200, &json!("well done")));
    assert_eq!(whole["stop_reason"], "end_turn");
    request["stream"] = json!(true);
    let (status, body) = ask(&stub, "POST", "/v1/messages", &request).await;
    assert_eq!(status, 200);
    for part in ["event: message_start", "\"text\":\"well ", "event: message_stop"] {
        assert!(body.contains(part), "{part} is missing in {body}");
    }
}

#[tokio::test]
async fn side_paths_answer_and_unknown_ones_say_so() {
    let stub = ModelStub::start(Scripts::builtin()).await.unwrap();
    let (status, body) = ask(&stub, "POST", "/v1/messages/count_tokens", &request("go")).await;
    assert!(status == 200 && body.contains("input_tokens"), "{body}");
    let (status, body) = ask(&stub, "GET", "/v1/models", &json!(null)).await;
    assert!(status == 200 && body.contains("scripted"), "{body}");
    assert_eq!(ask(&stub, "HEAD", "/api/hello", &json!(null)).await.0, 200);
    let (status, body) = ask(&stub, "GET", "/elsewhere", &json!(null)).await;
    assert!(status == 404 && body.contains("not_found_error"), "{body}");
    let (status, body) = ask(&stub, "POST", "/v1/messages", &request("[script: none]")).await;
    assert!(status == 400 && body.contains("allowed: ") && body.contains("demo"), "{body}");
}

#[tokio::test]
async fn a_request_without_tools_is_answered_harmlessly() {
    let stub = ModelStub::start(Script::of([Turn::fail(500, "api_error", "no")])).await.unwrap();
    let title = json!({"model": "m", "messages": [{"role": "user", "content": "a title, please"}]});
    assert_eq!(ask(&stub, "POST", "/v1/messages", &title).await.0, 200);
    assert_eq!(ask(&stub, "POST", "/v1/messages", &request("work")).await.0, 500);
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    let address = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = ModelStub::listen(address, Scripts::builtin()).await;
    assert!(matches!(refused, Err(StartError::NotLoopback { .. })), "{refused:?}");
}

#[tokio::test]
async fn stopping_cuts_answers_that_hang() {
    let stub = ModelStub::start(Script::of([Turn::Hang])).await.unwrap();
    let address = stub.base_url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let body = request("go").to_string();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: stub\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    while stub.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(10), stub.stop()).await.expect("it stops");
}
