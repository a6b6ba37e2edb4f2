//! What a run changed, as JSON and as a patch, and why there is nothing to show.

use core_types::{
    ids::{RunId, RunKey, TaskId},
    outcome::{RunOutcome, RunReport},
};
use http::Method;
use http_body_util::Full;
use serde_json::json;

use crate::{
    agent::TestAgent,
    support::{Api, settings},
};

/// A run of a task that ended with a commit on top of `base`.
async fn finished(api: &Api, base: &str, commit: &str) -> (String, RunKey) {
    let task = api.make(&json!({})).await;
    let key = TestAgent::register(&api.database.store).await.start_next().await;
    let store = &api.database.store;
    store.record_base_commit(key, base).await.expect("the run is ours");
    let report = RunReport {
        commit: Some(commit.to_owned()),
        branch: Some("opentiger/x-1".to_owned()),
        ..RunReport::new(RunOutcome::Succeeded)
    };
    store.finish_run(key, &report).await.expect("the run is ours");
    (task, key)
}

#[tokio::test]
async fn what_a_run_changed_is_shown_as_files_and_as_a_patch() {
    let api = Api::start().await;
    let base = api.repository.head();
    api.repository.write("src/lib.rs", "pub fn answer() -> u32 {\n    42\n}\n");
    let commit = api.repository.commit_all("work");
    let (task, key) = finished(&api, &base, &commit).await;
    for path in [format!("/tasks/{task}/diff"), format!("/runs/{}/diff", key.run)] {
        let shown = api.get(&path).await;
        assert_eq!(shown.status, 200, "{:?}", shown.json);
        assert_eq!(
            (shown.text("base_commit"), shown.text("commit")),
            (base.clone(), commit.clone())
        );
        let file = json!({ "path": "src/lib.rs", "change": "modified", "added": 1, "deleted": 1 });
        assert_eq!(shown.json["files"], json!([file]));
        assert!(shown.text("patch").contains("-    41\n+    42\n"));
        assert_eq!(
            (&shown.json["truncated"], &shown.json["run"]),
            (&json!(false), &json!(key.run))
        );
        let cut = api.get(&format!("{path}?max_bytes=10")).await;
        assert_eq!((cut.text("patch").len(), &cut.json["truncated"]), (10, &json!(true)));

        let asked = api.request(Method::GET, &path).header("accept", "text/x-diff, */*");
        for patch in [
            api.get(&format!("{path}?format=patch")).await,
            api.send(asked.body(Full::default()).unwrap()).await,
        ] {
            assert_eq!(patch.headers["content-type"], "text/x-diff");
            assert!(
                patch.json.as_str().unwrap().starts_with("diff --git a/src/lib.rs b/src/lib.rs\n")
            );
        }
    }
    for (query, field) in [("format=pdf", "format"), ("max_bytes=0", "max_bytes"), ("x=1", "x")] {
        let refused = api.get(&format!("/tasks/{task}/diff?{query}")).await;
        assert_eq!((refused.error().0, refused.fields()), (400, vec![field.to_owned()]));
    }
}

#[tokio::test]
async fn where_there_is_nothing_to_show_the_answer_says_why() {
    let api = Api::start().await;
    let code = async |path: String| api.get(&path).await.error();
    assert_eq!(code(format!("/tasks/{}/diff", TaskId::generate())).await.0, 404);
    assert_eq!(code(format!("/runs/{}/diff", RunId::generate())).await.0, 404);
    let waiting = api.make(&json!({})).await;
    let no_commit = (409, "no_commit".to_owned());
    assert_eq!(code(format!("/tasks/{waiting}/diff")).await, no_commit);
    let key = TestAgent::register(&api.database.store).await.start_next().await;
    assert_eq!(code(format!("/runs/{}/diff", key.run)).await, no_commit);

    let (base, gone) = (api.repository.head(), "1".repeat(40));
    let (task, _) = finished(&api, &base, &gone).await;
    let path = format!("/tasks/{task}/diff");
    assert_eq!(code(path.clone()).await, (409, "commit_gone".to_owned()));
    api.settings.send_replace(settings(&[("LOCAL_REPO_ROOTS", "/nowhere")], &[]).into());
    assert_eq!(code(path.clone()).await, (409, "repository_not_allowed".to_owned()));
    api.settings.send_replace(settings(&[], &[]).into());
    std::fs::remove_dir_all(api.repository.path()).unwrap();
    assert_eq!(code(path.clone()).await, (409, "repository_gone".to_owned()));
    api.database
        .run(r#"UPDATE tasks SET repository = '{"mode":"git","url":"https://example.org/x"}'"#)
        .await;
    assert_eq!(code(path).await, (409, "diff_not_here".to_owned()));
}
