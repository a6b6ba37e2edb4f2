//! `POST /tasks/{id}/retry`.

use core_types::ids::TaskId;
use http::StatusCode;
use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn cancelled_task_is_queued_again_with_what_somebody_says() {
    let api = Api::start().await;
    let id = api.make(&json!({})).await;
    let child = api.make(&json!({ "dependencies": [id] })).await;
    api.post_text(&format!("/tasks/{id}/cancel"), "").await;
    let path = format!("/tasks/{id}/retry");
    let body = json!({ "feedback": "use tabs", "continue_session": true });
    for _ in 0..2 {
        let told = api.post(&path, &body).await;
        assert_eq!((told.status, &told.json["status"]), (StatusCode::OK, &json!("queued")));
    }
    let shown = api.get(&format!("/tasks/{id}")).await.json;
    let retry = &shown["retry"];
    assert_eq!((&retry["feedback"], &retry["retries"]), (&json!("use tabs"), &json!(1)));
    assert_eq!((&retry["continue_session"], &retry["attempts_left"]), (&json!(true), &json!(3)));
    assert_eq!(api.get(&format!("/tasks/{child}")).await.json["status"], "queued");
}

#[tokio::test]
async fn task_whose_dependency_will_not_be_done_is_refused_with_which_one() {
    let api = Api::start().await;
    let parent = api.make(&json!({})).await;
    let child = api.make(&json!({ "dependencies": [parent] })).await;
    api.post_text(&format!("/tasks/{parent}/cancel"), "").await;
    let told = api.post(&format!("/tasks/{child}/retry"), &json!({})).await;
    assert_eq!(told.error(), (409, "dependency_hopeless".to_owned()));
    assert!(told.text("error").contains(&parent), "{:?}", told.json);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let api = Api::start().await;
    let id = api.make(&json!({})).await;
    let path = format!("/tasks/{id}/retry");
    for feedback in [json!(""), json!(" \n"), json!("a\u{7}b"), json!("x".repeat(16 * 1024 + 1))] {
        let told = api.post(&path, &json!({ "feedback": feedback })).await;
        assert_eq!(told.status, StatusCode::UNPROCESSABLE_ENTITY, "{:?}", told.json);
        assert_eq!(told.fields(), ["feedback"]);
    }
    for body in [json!({ "feedbak": "x" }), json!({ "continue_session": "yes" })] {
        assert_eq!(api.post(&path, &body).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let nobody = format!("/tasks/{}/retry", TaskId::generate());
    assert_eq!(api.post(&nobody, &json!({})).await.error(), (404, "not_found".to_owned()));
}
