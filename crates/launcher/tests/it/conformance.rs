use launcher::{
    conformance::{self, Bench, PRINT_CODE, Script},
    fake::{Behaviour, End, FakeLauncher},
    launcher::Launcher,
    outcome::StartFailure,
    process::ProcessLauncher,
    spec::LaunchSpec,
};

use crate::support::{Scratch, shell};

struct OnThisMachine {
    one: ProcessLauncher,
    other: ProcessLauncher,
    text: std::path::PathBuf,
}

impl Bench for OnThisMachine {
    fn launcher(&self) -> &dyn Launcher {
        &self.one
    }

    fn other(&self) -> &dyn Launcher {
        &self.other
    }

    fn spec(&self, script: Script) -> LaunchSpec {
        match script {
            Script::Print => shell(&format!("cat {}; exit {PRINT_CODE}", self.text.display())),
            Script::Cat => shell("exec cat"),
            Script::Hang => shell("exec sleep 600"),
            Script::HangDeaf => shell("trap '' TERM; echo deaf; while :; do sleep 600; done"),
            Script::KillItself => shell("kill -9 $$"),
            Script::Missing => LaunchSpec::new("/nonexistent/program", "/"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn process_launcher_keeps_the_contract() {
    let scratch = Scratch::new();
    let text = scratch.path().join("printed");
    std::fs::write(&text, conformance::printed()).unwrap();
    let bench = OnThisMachine { one: scratch.launcher(), other: scratch.launcher(), text };
    conformance::run(&bench).await;
}

struct InMemory(FakeLauncher);

impl Bench for InMemory {
    fn launcher(&self) -> &dyn Launcher {
        &self.0
    }

    fn other(&self) -> &dyn Launcher {
        &self.0
    }

    fn spec(&self, script: Script) -> LaunchSpec {
        LaunchSpec::new(format!("{script:?}"), "/")
    }
}

#[tokio::test]
async fn fake_launcher_keeps_the_contract() {
    let fake = FakeLauncher::new();
    let missing = StartFailure::ProgramMissing { program: "Missing".into() };
    fake.on("Print", Behaviour::printing(conformance::printed(), PRINT_CODE))
        .on("Cat", Behaviour { echo_stdin: true, ..Behaviour::default() })
        .on("Hang", Behaviour::ending(End::Hang))
        .on("HangDeaf", Behaviour { end: End::HangDeaf, ..Behaviour::printing("deaf", 0) })
        .on("KillItself", Behaviour::ending(End::Signal(9)))
        .on("Missing", Behaviour { start_failure: Some(missing), ..Behaviour::default() });
    conformance::run(&InMemory(fake)).await;
}
