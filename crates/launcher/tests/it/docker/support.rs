use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use launcher::{
    container::{ContainerSpec, ImagePolicy, Mount},
    docker::{DockerConfig, DockerLauncher},
    error::LaunchError,
    handle::{Destroy, Handle, StopRequest},
    launcher::Launcher as _,
    spec::{Input, LaunchSpec, UserId},
};

/// Who commands in containers are.
pub(crate) const USER: UserId = UserId { uid: 1001, gid: 1001 };

#[expect(clippy::disallowed_methods, reason = "told by whoever runs the tests")]
fn told(name: &str) -> String {
    std::env::var(name).map_err(|_| format!("tests with Docker need `{name}`")).unwrap()
}

/// The engine that tests are clients of, and never stop.
pub(crate) fn host() -> String {
    told("OPENTIGER_TEST_DOCKER_HOST")
}

/// A bare Debian.
pub(crate) fn image() -> String {
    told("OPENTIGER_TEST_BASE_IMAGE")
}

/// A state directory that goes with the test, and all containers of its launches.
pub(crate) struct Boxes {
    scratch: tempfile::TempDir,
    host: String,
}

impl Boxes {
    pub(crate) fn new() -> Self {
        Self::on(host())
    }

    pub(crate) fn on(host: String) -> Self {
        Self { scratch: tempfile::tempdir().unwrap(), host }
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn launcher(&self) -> DockerLauncher {
        let store = self.path().join("state");
        DockerLauncher::open(DockerConfig { host: Some(self.host.clone()), store }).unwrap()
    }

    pub(crate) fn launch_dir(&self, id: &str) -> PathBuf {
        self.launcher().launch_dir(&id.parse().unwrap())
    }

    /// The name of a launch's container.
    pub(crate) fn container(&self, id: &str) -> String {
        let store = self.launcher().store_id().to_owned();
        format!("opentiger-{}-{id}", store.get(..12).unwrap())
    }

    pub(crate) async fn launch(&self, id: &str, spec: &LaunchSpec) -> Result<Handle, LaunchError> {
        let launched = self.launcher().launch(&id.parse().unwrap(), spec, Input::default()).await;
        Ok(launched?.into_handle())
    }

    pub(crate) async fn start(&self, id: &str, spec: &LaunchSpec) -> Handle {
        self.launch(id, spec).await.unwrap()
    }

    /// Ends and removes everything of this test's store.
    pub(crate) async fn clear(&self) {
        let launcher = self.launcher();
        for found in launcher.discover().await.unwrap() {
            let handle = launcher.attach(&found.record).await.unwrap();
            handle.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
            handle.destroy(Destroy::Everything).await.unwrap();
        }
    }

    /// Makes a network that goes with the test.
    pub(crate) fn network(&self) -> String {
        let name = format!("opentiger-{}", self.launcher().store_id());
        self.docker(&["network", "create", &name]);
        name
    }

    /// The engine's command line.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        docker(&self.host, args)
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        // Also after a failure: what is left on the engine belongs to nobody then.
        let label = format!("label=opentiger.instance={}", self.launcher().store_id());
        let left = docker(&self.host, &["ps", "-aq", "--filter", &label]);
        for id in left.split_whitespace() {
            docker(&self.host, &["rm", "-fv", id]);
        }
        let network = format!("opentiger-{}", self.launcher().store_id());
        if !docker(&self.host, &["network", "ls", "-q", "--filter", &format!("name={network}")])
            .is_empty()
        {
            docker(&self.host, &["network", "rm", &network]);
        }
    }
}

/// The engine's command line, with what it prints.
#[expect(clippy::disallowed_methods, reason = "what a person does by hand")]
pub(crate) fn docker(host: &str, args: &[&str]) -> String {
    let done =
        std::process::Command::new("docker").arg("-H").arg(host).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    let wrong = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { text } else { format!("{text}{wrong}") }
}

/// A shell script in a container without a network.
pub(crate) fn shell(script: &str) -> LaunchSpec {
    let mut spec = crate::support::shell(script);
    let container =
        ContainerSpec { pull: ImagePolicy::Never, ..ContainerSpec::new(image(), "none") };
    spec.user = Some(USER);
    spec.container = Some(container);
    spec
}

/// Lets the command of a spec read a directory of the host.
pub(crate) fn mount(spec: &mut LaunchSpec, source: &Path, target: &str) {
    let mount = Mount { source: source.to_owned(), target: target.into(), read_only: true };
    spec.container.as_mut().unwrap().mounts.push(mount);
}
