//! A task's way from the queue to a commit.

use serde_json::json;

use crate::system::{DEADLINE, System, text_at};

#[tokio::test]
async fn queued_task_becomes_a_commit_by_the_real_cli() {
    let stub = model_stub::server::ModelStub::start(model_stub::script::Scripts::builtin())
        .await
        .expect("the stub can listen on loopback");
    let claude = testing::programs::claude_path().to_string_lossy().into_owned();
    let system = System::start([
        ("CLAUDE_CODE_COMMAND".to_owned(), claude),
        ("ANTHROPIC_BASE_URL".to_owned(), stub.base_url()),
        ("ANTHROPIC_API_KEY".to_owned(), "sk-ant-test-0000000000".to_owned()),
    ])
    .await;
    system.wait_ready(200).await;
    let before = system.repository.fingerprint();
    let verification = json!({ "verification": [["test", "-f", "HELLO.md"]] });
    let task =
        system.queue("[script: demo] [file: HELLO.md] write the greeting", verification).await;
    let done = system.wait_status(&task, "done").await;
    let commit = text_at(&done, "/commit");
    let branch = text_at(&done, "/branch");
    assert_eq!(branch, format!("opentiger/{task}-1"));
    assert_eq!(system.repository.git(&["rev-parse", &branch]).trim(), commit);
    let author = system.repository.git(&["log", "-1", "--format=%an <%ae>", &branch]);
    assert_eq!(author.trim(), "openTiger <opentiger@localhost>");
    assert_eq!(system.repository.fingerprint(), before, "work tree and branches are untouched");
    assert_eq!(system.live_launches().await, Vec::<String>::new());
    system.wait_clean().await;
}

#[tokio::test]
async fn cancelled_task_has_its_agent_stopped_and_leaves_no_branch() {
    let system = System::with_fake_agent().await;
    let task = system.queue("[fake: ignore-term] never ends", json!({})).await;
    system.wait_event(&task, "agent_started").await;
    let (status, answer) =
        system.http.post(&format!("/tasks/{task}/cancel"), &json!({})).await.unwrap();
    assert!(status == 200 || status == 202, "{status} {answer}");
    system.wait_status(&task, "cancelled").await;
    let runs = system.runs(&task).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(text_at(&runs[0], "/outcome"), "cancelled");
    assert_eq!(system.live_launches().await, Vec::<String>::new());
    assert_eq!(system.repository.git(&["branch", "--list", "opentiger/*"]), "");
}

const NO_ENGINE: &str = "/nowhere/docker.sock";

#[tokio::test]
async fn a_sandbox_without_an_engine_pauses_claims_and_says_so() {
    let fake = testing::programs::fake_agent_path().to_string_lossy().into_owned();
    let system = System::start([
        ("CLAUDE_CODE_COMMAND".to_owned(), fake),
        ("EXECUTION_ENVIRONMENT".to_owned(), "sandbox".to_owned()),
        ("DOCKER_HOST".to_owned(), format!("unix://{NO_ENGINE}")),
    ])
    .await;
    testing::wait::wait_for("readiness to name the engine", DEADLINE, async || {
        let said = system.wait_ready(503).await.to_string();
        if said.contains(NO_ENGINE) { Ok(()) } else { Err(said) }
    })
    .await;
    let task = system.queue("[fake: nothing]", json!({})).await;
    testing::wait::wait_for("the reason to show", DEADLINE, async || {
        let shown = system.task(&task).await?;
        let waiting = shown.pointer("/waiting").cloned().unwrap_or_default().to_string();
        if waiting.contains(NO_ENGINE) { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    assert!(system.runs(&task).await.is_empty());
}
