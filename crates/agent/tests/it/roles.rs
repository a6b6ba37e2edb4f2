//! What an agent is told and verified with, by its role and by what happened before.

use core_types::{outcome::RunOutcome, task::Role};
use model_stub::{script::Scripts, server::ModelStub};

use crate::bench::Bench;

const KEY: (&str, &str) = ("ANTHROPIC_API_KEY", "sk-ant-test-0000000000");

async fn bench(settings: &[(&str, &str)]) -> (ModelStub, Bench) {
    let stub = ModelStub::start(Scripts::builtin()).await.expect("the stub can listen on loopback");
    let base_url = stub.base_url();
    let mut all = vec![("ANTHROPIC_BASE_URL", base_url.as_str()), KEY];
    all.extend_from_slice(settings);
    let bench = Bench::new(&testing::programs::claude_path(), &all).await;
    (stub, bench)
}

/// What the agent was told by the last request.
fn told_to_the_agent(stub: &ModelStub) -> String {
    let last = stub.requests().pop().expect("the agent asked the model");
    last.body.expect("it is JSON").to_string()
}

#[tokio::test]
async fn each_role_has_instructions_and_a_setting_replaces_them() {
    let (stub, bench) = bench(&[("DOCSER_INSTRUCTIONS", "Write in British English only.")]).await;
    let mut task = bench.task("[script: nothing] look");
    task.role = Role::Tester;
    bench.work(task).await.assert_outcome(RunOutcome::NoChange);
    assert!(told_to_the_agent(&stub).contains("You are a test engineer"));
    let mut task = bench.task("[script: nothing] look");
    task.role = Role::Docser;
    bench.work(task).await.assert_outcome(RunOutcome::NoChange);
    let told = told_to_the_agent(&stub);
    assert!(told.contains("Write in British English only.") && !told.contains("technical writer"));
}

#[tokio::test]
async fn task_without_verification_is_verified_by_its_roles() {
    let (stub, bench) =
        bench(&[("WORKER_VERIFICATION", "true,ls not-there.txt"), ("TESTER_VERIFICATION", "true")])
            .await;
    let told = bench.work(bench.task("[script: demo] write A.md")).await;
    told.assert_outcome(RunOutcome::VerificationFailed);
    assert!(told.report().message.as_ref().is_some_and(|text| text.contains("ls not-there.txt")));
    assert!(told_to_the_agent(&stub).contains("- `ls not-there.txt`"));
    let mut own = bench.task("[script: demo] write A.md");
    own.verification = vec![vec!["test".into(), "-f".into(), "A.md".into()]];
    bench.work(own).await.assert_outcome(RunOutcome::Succeeded);
    let mut tester = bench.task("[script: demo] write A.md");
    tester.role = Role::Tester;
    bench.work(tester).await.assert_outcome(RunOutcome::Succeeded);
}

#[tokio::test]
async fn next_attempt_is_told_what_the_failing_verification_printed_without_the_key() {
    let (stub, bench) = bench(&[]).await;
    let mut task = bench.task("[script: demo] write A.md");
    let command = format!("echo boom {}; exit 3", KEY.1);
    task.verification = vec![vec!["sh".into(), "-c".into(), command]];
    task.max_attempts = 2;
    bench.work(task).await.assert_outcome(RunOutcome::VerificationFailed);
    let past = "UPDATE tasks SET not_before = clock_timestamp()";
    bench.database.run(past).await;
    bench.database.store.release_cooled(10).await.expect("the database answers");
    bench.work_again().await.assert_outcome(RunOutcome::VerificationFailed);
    let told = told_to_the_agent(&stub);
    assert!(told.contains("## Earlier attempts") && told.contains("boom ***"), "{told}");
}
