//! The running program against schemathesis, which makes requests from the OpenAPI document.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use testing::{database::TestDatabase, programs};

use crate::program::Program;

/// Requests of each kind that are made for an operation. More find more, and take longer.
const EXAMPLES: &str = "12";
/// The longest time, in seconds, after which the fuzzer stops making requests.
const TIME: &str = "60";

fn settings_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/fuzz/schemathesis.toml")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_the_server_fail_or_answer_as_nobody_documented() {
    let database = TestDatabase::new().await;
    let mut server = Program::start(&[], &[("DATABASE_URL", database.url.expose())]);
    let document = format!("http://{}/openapi.json", server.address());
    let fuzzing = tokio::task::spawn_blocking(move || {
        #[expect(clippy::disallowed_methods, reason = "a test's own tool, waited for")]
        let mut python = Command::new(programs::installed_program("python3"));
        python
            .env("PYTHONPATH", programs::schemathesis_packages())
            .args(["-m", "schemathesis.cli", "--config-file"])
            .arg(settings_file())
            .args(["run", &document, "--no-color", "--generation-deterministic"])
            .args(["--max-examples", EXAMPLES, "--max-time", TIME, "--request-timeout", "30"])
            .args(["--suppress-health-check", "all"])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null());
        python.output().expect("python3 can be started")
    });
    let output = fuzzing.await.expect("the fuzzer is waited for");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}\nthe server: {}", server.said());
    let passed = said.lines().any(|line| line.contains("generated, ") && line.contains(" passed"));
    assert!(passed, "nothing was tried: {said}");
}
