//! What sandboxes need, part by part, found for real.

use std::collections::BTreeMap;

use auth_probe::part::Part;
use core_types::readiness::CheckState as S;
use testing::engine::base_image;

use super::world::Boxes;

async fn inspect(boxes: &Boxes) -> BTreeMap<&'static str, Part> {
    let parts = boxes.sandboxed().inspect().await;
    for part in &parts {
        assert_eq!(part.fix.is_none(), part.state == S::Ok, "{part:?}");
        assert!(!part.cause.is_empty() && part.fix.as_deref() != Some(""), "{part:?}");
    }
    let count = parts.len();
    let by_name: BTreeMap<_, _> = parts.into_iter().map(|part| (part.name, part)).collect();
    assert_eq!(by_name.len(), count, "a part is told once");
    boxes.nothing_is_left().await;
    by_name
}

#[tokio::test]
async fn everything_that_a_sandbox_needs_is_found_from_inside() {
    let boxes = Boxes::new().with_database().await;
    let parts = inspect(&boxes).await;
    for name in [
        "docker_engine",
        "sandbox_image",
        "sandbox_network",
        "sandbox_container",
        "sandbox_relay",
        "sandbox_database",
        "claude_cli",
        "opencode_cli",
    ] {
        assert_eq!(parts[name].state, S::Ok, "{:?}", parts[name]);
    }
    assert!(parts["sandbox_image"].cause.contains("sha256:"));
    assert!(parts["sandbox_relay"].cause.contains("through the relay on "));
    assert!(parts["claude_cli"].cause.contains("Claude Code"));
    assert_eq!(parts["docker_live_restore"].state, S::Warn, "the shared engine does not restore");
}

#[tokio::test]
async fn what_is_missing_fails_and_what_could_not_be_seen_is_not_known() {
    let mut boxes = Boxes::new().with_database().await;
    boxes.set("SANDBOX_DOCKER_IMAGE", &base_image());
    let parts = inspect(&boxes).await;
    assert_eq!(parts["sandbox_container"].state, S::Fail, "it has no git");
    assert_eq!(parts["claude_cli"].state, S::Fail);
    assert_eq!(parts["opencode_cli"].state, S::Warn, "no task asks for it");
    assert_eq!(parts["sandbox_relay"].state, S::Ok);

    boxes.set("SANDBOX_DOCKER_IMAGE", "opentiger-none:1");
    let parts = inspect(&boxes).await;
    assert_eq!(parts["sandbox_image"].state, S::Fail);
    for name in ["sandbox_container", "sandbox_relay", "sandbox_database", "claude_cli"] {
        assert_eq!(parts[name].state, S::Unknown, "{:?}", parts[name]);
        assert!(parts[name].fix.is_some());
    }

    boxes.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let parts = inspect(&boxes).await;
    assert_eq!(parts["docker_engine"].state, S::Fail);
    assert_eq!(parts["sandbox_image"].state, S::Unknown);
}

#[tokio::test]
async fn database_that_a_container_cannot_reach_fails_although_this_process_reaches_it() {
    let mut boxes = Boxes::new().with_database().await;
    // Nobody listens there, which only who connects finds out.
    let database = boxes.database.as_mut().unwrap();
    let port = super::world::free_port();
    database.url = core_types::secret::Secret::new(format!("postgres://u:p@{port}/d"));
    let parts = inspect(&boxes).await;
    assert_eq!(parts["sandbox_relay"].state, S::Fail, "{:?}", parts["sandbox_relay"]);
    assert_ne!(parts["sandbox_database"].state, S::Ok);
}
