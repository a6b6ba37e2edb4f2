//! What the command line does about containers.

use std::time::Duration;

use core_types::label;
use launcher::{
    container::{ContainerSpec, ImagePolicy},
    docker::{DockerConfig, DockerLauncher},
    handle::{Destroy, LaunchState, StopRequest},
    launcher::Launcher as _,
    outcome::StopCause,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec, UserId},
};
use testing::engine::{base_image, shared_host};

use crate::world::World;

const RUN: &str = "0198c8f5-7f3b-7c4e-a9b7-6a3f0f6f1f10";

#[tokio::test]
async fn down_ends_containers_whose_dispatcher_is_gone() {
    let mut world = World::without_database();
    world.set("DOCKER_HOST", &shared_host());
    ProcessLauncher::new(world.state_dir()).expect("the state directory can be made");
    let config = DockerConfig { host: Some(shared_host()), store: world.state_dir() };
    let launcher = DockerLauncher::open(config).expect("the directory of containers can be made");
    let mut spec = LaunchSpec::new("/bin/sh", "/");
    spec.args = ["-c", "exec sleep 600"].map(str::to_owned).into();
    spec.user = Some(UserId { uid: 1001, gid: 1001 });
    spec.labels.insert(label::RUN.to_owned(), RUN.to_owned());
    let image = ContainerSpec::new(base_image(), "none");
    spec.container = Some(ContainerSpec { pull: ImagePolicy::Never, ..image });
    let id = "sandbox".parse().expect("it is a launch id");
    let launched = launcher.launch(&id, &spec, Input::default()).await.expect("it starts");
    let handle = launched.into_handle();

    let status = world.call(&["status"]).await.with_code(3);
    let down = world.call(&["down"]).await;
    let state = handle.state().borrow().clone();
    handle.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
    handle.destroy(Destroy::Everything).await.expect("it has ended");

    let name = format!("sandbox of {RUN}");
    assert!(status.err.contains(&name), "{}", status.err);
    let said = down.done().out;
    assert!(said.contains(&name) && said.contains("until the next start"), "{said}");
    let LaunchState::Ended(exit) = state else { panic!("{state:?}") };
    assert_eq!(exit.cause, Some(StopCause::Requested { reason: "opentiger down".to_owned() }));
}
