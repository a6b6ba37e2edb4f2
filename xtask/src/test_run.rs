//! `cargo xtask test`: everything the tests need, then the tests.
//!
//! The runner writes to this terminal unchanged and has the last word.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use embedded::options::Durability;
use tokio::runtime::Runtime;

use crate::{
    agent_tools::AgentTools,
    cli::TestArgs,
    commands::{Tool, find_program},
    console::{AlreadyTold, line},
    fuzz_tools,
    install::Purpose,
    interrupts::Interrupts,
    services::Environment,
    stack::{Ownership, Stack},
    system, up,
};

/// Does what the command line asks for.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let tools = up::prepare(Purpose::Testing, args.yes)?;
    let fuzzer = fuzz_tools::ensure()?;
    build(args.runner_args.is_empty())?;
    if args.runner_args.is_empty() {
        Tool::cargo().args(["test", "--workspace", "--locked", "--doc", "--quiet"]).run()?;
    }
    let runtime = Runtime::new().context("start the runtime")?;
    runtime.block_on(with_postgres(args.runner_args.clone(), tools, fuzzer))
}

/// Builds the programs, which tests start; and where all tests run, the tests too, with the selection that the runner
/// uses, so that nothing is compiled twice.
fn build(everything: bool) -> Result<()> {
    let tests: &[&str] = if everything { &["--tests", "--examples"] } else { &[] };
    let cargo = Tool::cargo().args(["build", "--workspace", "--locked", "--bins"]).args(tests);
    cargo.run().context("build what the tests need")
}

async fn with_postgres(runner_args: Vec<String>, tools: AgentTools, fuzzer: PathBuf) -> Result<()> {
    let mut interrupts = Interrupts::new()?;
    let state_dir = system::purpose_directory("test")?;
    let mut stack = Stack::new(&state_dir, Ownership::Shared)?;
    let users = File::create(state_dir.join("users.lock")).context("open the lock of test runs")?;
    users.lock_shared().context("join the users of the tests' Postgres")?;
    let environment =
        Environment::of_machine().with("OPENTIGER_STATE_DIR", state_dir.to_string_lossy());
    let postgres = system::private_postgres(&stack, &environment, Durability::Test).await?;
    stack.keep_alive(&postgres);
    let url = postgres.url.expose().to_owned();
    // An interrupt reaches the runner too, which then ends by itself; waiting for it is all there is to do.
    let mut tests =
        tokio::task::spawn_blocking(move || run_tests(&runner_args, &url, &tools, &fuzzer));
    let outcome = tokio::select! {
        outcome = &mut tests => outcome,
        () = interrupts.next() => tests.await,
    };
    stack.stop(interrupts.next()).await;
    // Whoever is the last to leave turns it off; another run that begins now waits for the lock.
    users.unlock().context("leave the users of the tests' Postgres")?;
    if users.try_lock().is_ok() {
        postgres.stop("the tests are over").await;
    }
    outcome.context("wait for the test runner")?
}

fn run_tests(runner_args: &[String], url: &str, tools: &AgentTools, fuzzer: &Path) -> Result<()> {
    let runner: &[&str] = if find_program("cargo-nextest").is_some() {
        &["nextest", "run"]
    } else {
        line("cargo-nextest is not installed; using cargo test");
        &["test", "--lib", "--bins", "--tests", "--examples"]
    };
    let status = Tool::cargo()
        .args(runner)
        .args(["--locked"])
        .args(selection(runner_args))
        .args(runner_args)
        .env("OPENTIGER_TEST_DATABASE_URL", url)
        .env("OPENTIGER_TEST_CLAUDE", &tools.claude)
        .env("OPENTIGER_TEST_OPENCODE", tools.opencode.clone().unwrap_or_default())
        .env("OPENTIGER_TEST_SCHEMATHESIS", fuzzer)
        .status()?;
    if !status.success() {
        return Err(AlreadyTold.into());
    }
    Ok(())
}

/// All packages, unless the arguments choose some.
fn selection(runner_args: &[String]) -> &'static [&'static str] {
    let chooses = |arg: &String| arg.starts_with("-p") || arg.starts_with("--package");
    if runner_args.iter().any(chooses) { &[] } else { &["--workspace"] }
}
