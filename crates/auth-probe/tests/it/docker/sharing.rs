//! What concurrent callers get, and what a dead one leaves.

use std::time::Duration;

use core_types::{
    auth::AuthReason as R,
    task::{ExecutionEnvironment::Sandbox, ExecutorKind::ClaudeCode},
};
use launcher::{
    docker::{DockerConfig, DockerLauncher},
    id::LaunchId,
    launcher::Launcher as _,
    spec::Input,
};
use tokio::task::JoinSet;

use super::world::Boxes;

#[tokio::test]
async fn fifty_concurrent_checks_are_one_run() {
    let (boxes, stub) = Boxes::with_key("nothing").await;
    let checker = boxes.checker();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (checker, ask) = (checker.clone(), boxes.ask(ClaudeCode));
        callers.spawn(async move { checker.check(Sandbox, ask, true).await });
    }
    let reports = callers.join_all().await;
    assert!(reports.iter().all(|report| report.finding.reason == R::Ready), "{reports:?}");
    assert_eq!(reports.iter().filter(|report| !report.cached).count(), 1);
    assert_eq!(stub.requests().len(), 1);
    boxes.nothing_is_left().await;
}

#[tokio::test]
async fn container_that_a_dead_check_left_is_swept_and_a_runs_is_not() {
    let boxes = Boxes::new();
    let sandboxes = boxes.sandboxed();
    let config = DockerConfig {
        host: Some(testing::engine::shared_host()),
        store: boxes.state.path().to_owned(),
    };
    let launcher = DockerLauncher::open(config).unwrap();
    let start = async |id: &str, label: &str| {
        let id: LaunchId = id.parse().unwrap();
        let mut spec = launcher::spec::LaunchSpec::new("/bin/sleep", "/");
        spec.args = vec!["1000".to_owned()];
        spec.user = Some(launcher::spec::UserId { uid: 1001, gid: 1001 });
        spec.labels.insert(label.to_owned(), "x".to_owned());
        let mut container = launcher::container::ContainerSpec::new(
            testing::engine::base_image(),
            boxes.network.clone(),
        );
        container.pull = launcher::container::ImagePolicy::Never;
        spec.container = Some(container);
        launcher.launch(&id, &spec, Input::default()).await.unwrap();
    };
    start("check-dead", "opentiger.check").await;
    start("run-of-a-task", "opentiger.run").await;
    sandboxes.sweep(Duration::from_secs(600)).await;
    assert_eq!(boxes.containers().lines().count(), 2, "a young one may be under way");
    sandboxes.sweep(Duration::ZERO).await;
    let left: Vec<_> = launcher.discover().await.unwrap();
    let left: Vec<&str> = left.iter().map(|launch| launch.id.as_str()).collect();
    assert_eq!(left, ["run-of-a-task"]);
    assert_eq!(boxes.containers().lines().count(), 1);
}
