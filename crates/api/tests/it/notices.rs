//! Notices in the API.

use std::time::Duration;

use serde_json::{Value, json};
use store::notices::{NoticeNext, Settled};

use crate::{agent::TestAgent, support::Api};

#[tokio::test]
async fn notices_are_listed_by_state_and_event_page_by_page() {
    let api = Api::start().await;
    let agent = TestAgent::register(&api.database.store).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(api.make(&json!({})).await);
        let key = agent.start_next().await;
        agent.finish(key, 1).await;
    }
    let first = api.get("/notices?state=pending&event=done&limit=2").await;
    assert_eq!(first.status, 200, "{}", first.json);
    let items = first.json["items"].as_array().unwrap();
    assert_eq!(
        (items.len(), &items[0]["task"], &items[0]["title"]),
        (2, &json!(tasks[2]), &json!("fix the answer"))
    );
    assert_eq!(
        (&items[0]["cost_usd"], &items[0]["branch"]),
        (&json!(1.5), &json!("opentiger/x-1"))
    );
    let cursor = first.text("next_cursor");
    let rest =
        api.get(&format!("/notices?state=pending&event=done&limit=2&cursor={cursor}")).await.json;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    assert_eq!(api.get("/notices?state=sent,failed").await.json["items"], json!([]));
    for (query, field) in
        [("state=odd", "state"), ("event=odd", "event"), ("task=1", "task"), ("cursor=1", "cursor")]
    {
        assert_eq!(api.get(&format!("/notices?{query}")).await.fields(), [field]);
    }
}

#[tokio::test]
async fn a_test_says_what_came_of_it() {
    let api = Api::start().await;
    let store = api.database.store.clone();
    let delivering = async {
        loop {
            if let Some(notice) =
                store.claim_notices(1, Duration::from_secs(60), false).await.unwrap().pop()
            {
                let settled = Settled {
                    webhook: false,
                    command: false,
                    next: NoticeNext::GiveUp,
                    error: Some("no".to_owned()),
                };
                store.settle_notice(&notice, &settled).await.unwrap();
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(api.post_text("/system/notices/test", ""), delivering);
    assert_eq!(
        (answer.status.as_u16(), answer.text("state"), answer.text("last_error")),
        (200, "failed".to_owned(), "no".to_owned())
    );
    api.stop.cancel();
}
