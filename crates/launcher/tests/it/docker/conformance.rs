use std::path::PathBuf;

use launcher::{
    conformance::{self, Bench, PRINT_CODE, Script},
    docker::DockerLauncher,
    launcher::Launcher,
    spec::LaunchSpec,
};

use super::support::{Boxes, mount, shell};

struct InContainers {
    one: DockerLauncher,
    other: DockerLauncher,
    texts: PathBuf,
}

impl Bench for InContainers {
    fn launcher(&self) -> &dyn Launcher {
        &self.one
    }

    fn other(&self) -> &dyn Launcher {
        &self.other
    }

    fn spec(&self, script: Script) -> LaunchSpec {
        let mut spec = match script {
            Script::Print => shell(&format!("cat /texts/printed; exit {PRINT_CODE}")),
            Script::Cat => shell("exec cat"),
            Script::Hang => shell("exec sleep 600"),
            Script::HangDeaf => shell("trap '' TERM; echo deaf; while :; do sleep 600; done"),
            Script::KillItself => shell("kill -9 $$"),
            Script::Missing => LaunchSpec { program: "/nonexistent/program".into(), ..shell("") },
        };
        mount(&mut spec, &self.texts, "/texts");
        spec
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_launcher_keeps_the_contract() {
    let boxes = Boxes::new();
    let texts = boxes.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    std::fs::write(texts.join("printed"), conformance::printed()).unwrap();
    let bench = InContainers { one: boxes.launcher(), other: boxes.launcher(), texts };
    conformance::run(&bench).await;
    boxes.clear().await;
}
