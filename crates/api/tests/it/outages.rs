//! A database that goes away, and clients that do.

use std::time::Duration;

use bytes::Bytes;
use core_types::ids::TaskId;
use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::json;
use store::pool::{PoolOptions, Store};
use testing::{database::TestDatabase, proxy::FaultProxy, wait::wait_for};
use tokio::time::timeout;

use crate::support::Api;

pub(crate) async fn behind_a_proxy() -> (Api, FaultProxy) {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.server_address()).await;
    let options = PoolOptions {
        acquire_timeout: Duration::from_secs(1),
        ..PoolOptions::new("api under test")
    };
    let url = database.url_through(proxy.address());
    let store = Store::connect(&url, options).await.expect("the proxy passes on");
    (Api::start_on(database, store, &[]).await, proxy)
}

#[tokio::test]
async fn a_database_that_is_away_is_said_so_without_details_and_it_comes_back() {
    let (api, proxy) = behind_a_proxy().await;
    proxy.refuse();
    let refused = api.get("/tasks").await;
    assert_eq!(refused.error(), (503, "unavailable".to_owned()));
    let ready = api.get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.text("error"), "the database does not answer");
    for text in [refused.json.to_string(), ready.json.to_string()] {
        assert!(!text.contains("refused") && !text.contains("127.0.0.1"), "{text}");
    }
    assert_eq!(api.get("/health").await.status, StatusCode::OK);
    proxy.resume();
    wait_for("the database to be reached again", Duration::from_secs(10), async || {
        let answer = api.get("/tasks").await;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(format!("{}", answer.json)) }
    })
    .await;
}

#[tokio::test]
async fn settings_are_shown_without_the_database_and_not_changed() {
    let (api, proxy) = behind_a_proxy().await;
    proxy.refuse();
    let config = api.get("/config").await;
    assert_eq!(
        (config.status, &config.json["processes"]),
        (StatusCode::OK, &serde_json::Value::Null)
    );
    let request = api
        .request(Method::PATCH, "/config")
        .header("content-type", "application/json")
        .body(Full::from(r#"{"updates":{"CANCEL_GRACE_S":1}}"#))
        .unwrap();
    assert_eq!(api.send(request).await.error(), (503, "unavailable".to_owned()));
}

#[tokio::test]
async fn a_database_that_is_lost_while_it_makes_a_task_leaves_that_open_and_says_so() {
    let (api, proxy) = behind_a_proxy().await;
    api.get("/tasks").await;
    proxy.refuse();
    // Without an id nothing is looked up before the task is made.
    let refused = api.post("/tasks", &api.task()).await;
    assert_eq!(refused.error(), (503, "unavailable".to_owned()));
    let text = refused.text("error");
    assert!(text.contains("may still have been made") && text.contains("`id`"), "{text}");
}

#[tokio::test]
async fn a_change_is_made_though_its_client_has_left() {
    let (api, proxy) = behind_a_proxy().await;
    let id = TaskId::generate();
    proxy.delay(Duration::from_millis(100));
    let body: Full<Bytes> = Full::from(api.task_with(&json!({ "id": id })).to_string());
    let request = api
        .request(Method::POST, "/tasks")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let sending = api.client.request(request);
    let left = timeout(Duration::from_millis(60), sending).await;
    assert!(left.is_err(), "the answer takes longer than the client waits");
    wait_for("the task to be there", Duration::from_secs(10), async || {
        match api.database.store.task(id).await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
