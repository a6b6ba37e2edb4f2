//! What a run changed, as JSON and as a patch, and why there is nothing to show.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checkout::{
    access::RemoteAccess,
    checkouts::{Checkouts, PrepareRequest, Remotes},
    git::GitCommand,
    mirror::Mirrors,
    seal::{CommitMessage, Sealed},
    url::UrlRules,
};
use core_types::{
    ids::{RunId, RunKey, TaskId},
    outcome::{RunOutcome, RunReport},
    repository::Repository,
};
use http::Method;
use http_body_util::Full;
use launcher::{launcher::Launcher, process::ProcessLauncher};
use serde_json::json;
use testing::git_server::GitServer;

use crate::{
    agent::TestAgent,
    support::{Api, settings},
};

/// A run of a task that ended with a commit on top of `base`.
async fn finished(api: &Api, base: &str, commit: &str) -> (String, RunKey) {
    let task = api.make(&json!({})).await;
    let key = TestAgent::register(&api.database.store).await.start_next().await;
    finish(api, key, base, commit).await;
    (task, key)
}

async fn finish(api: &Api, key: RunKey, base: &str, commit: &str) {
    let store = &api.database.store;
    store.record_base_commit(key, base).await.expect("the run is ours");
    let report = RunReport {
        commit: Some(commit.to_owned()),
        branch: Some("opentiger/x-1".to_owned()),
        ..RunReport::new(RunOutcome::Succeeded)
    };
    store.finish_run(key, &report).await.expect("the run is ours");
}

/// A result of a run, pushed to a server of git as agents push theirs; the base and the commit.
async fn pushed(api: &Api, key: RunKey, task: &str, server: &GitServer) -> (String, String) {
    let state = api.state_dir.path();
    let launcher = ProcessLauncher::new(state.to_path_buf()).expect("it can be used");
    let launcher: Arc<dyn Launcher> = Arc::new(launcher);
    let path = testing::programs::search_path();
    let access = RemoteAccess {
        rules: UrlRules::default(),
        tokens: Vec::new(),
        accept_unknown_ssh_hosts: false,
        ssh_config: None,
        ca_file: Some(server.ca_file()),
        timeout: Duration::from_secs(60),
        max_bytes: None,
        environment: BTreeMap::from([("PATH".to_owned(), path.clone())]),
    };
    let remotes = Remotes { access: Arc::new(access), launcher: Arc::clone(&launcher) };
    let git = GitCommand::find(&path).expect("git is installed");
    let checkouts = Checkouts::new(state.join("checkouts"), git)
        .with_mirrors(state.join("mirrors"))
        .with_remotes(remotes);
    let request = PrepareRequest {
        run: key.run,
        task: task.parse().expect("it is an id"),
        number: 1,
        repository: &Repository::Git { url: server.url("project") },
        base_branch: None,
    };
    let checkout = checkouts.prepare(request).await.expect("the server answers");
    std::fs::write(checkout.work.join("new.txt"), "new\n").expect("it is ours");
    let env = BTreeMap::from([("PATH".to_owned(), path)]);
    let message = CommitMessage::new("A title", "A body.");
    let sealed = checkouts.seal(&checkout, &*launcher, &env, &message).await;
    let sealed = match sealed.expect("it can be sealed") {
        Sealed::Commit(sealed) => Some(sealed),
        Sealed::Nothing { .. } => None,
    };
    let sealed = sealed.expect("a file is new");
    checkouts.collect(&checkout, &sealed).await.expect("it can be pushed");
    (checkout.base_commit.to_string(), sealed.commit.to_string())
}

#[tokio::test]
async fn a_result_that_was_pushed_is_shown_until_its_mirror_is_removed() {
    let api = Api::start().await;
    let server = GitServer::start().await;
    server.add("project", &api.repository);
    let repository = json!({ "mode": "git", "url": server.url("project") });
    let task = api.make(&json!({ "repository": repository })).await;
    let key = TestAgent::register(&api.database.store).await.start_next().await;
    let (base, commit) = pushed(&api, key, &task, &server).await;
    finish(&api, key, &base, &commit).await;
    drop(server);
    for path in [format!("/tasks/{task}/diff"), format!("/runs/{}/diff", key.run)] {
        let shown = api.get(&path).await;
        assert_eq!(shown.status, 200, "{:?}", shown.json);
        assert_eq!(
            (shown.text("base_commit"), shown.text("commit")),
            (base.clone(), commit.clone())
        );
        let file = json!({ "path": "new.txt", "change": "added", "added": 1, "deleted": 0 });
        assert_eq!(shown.json["files"], json!([file]));
        let patch = api.get(&format!("{path}?format=patch")).await;
        assert!(patch.json.as_str().expect("it is text").ends_with("+new\n"));
    }
    let mirrors = Mirrors::new(api.state_dir.path().join("mirrors"));
    for mirror in mirrors.list().await.expect("they can be listed") {
        assert!(mirrors.remove(&mirror.key).await.expect("it can be removed"));
    }
    let gone = api.get(&format!("/tasks/{task}/diff")).await.error();
    assert_eq!(gone, (409, "diff_not_here".to_owned()));
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
