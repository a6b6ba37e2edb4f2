//! `cargo xtask test`: everything the tests need, then the tests.
//!
//! The runner writes to this terminal unchanged and has the last word.

use std::{fs::File, num::NonZero, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use embedded::options::Durability;
use tokio::{runtime::Runtime, task::JoinHandle};

use crate::{
    agent_tools::{self, AgentTools},
    binaries::Profile,
    browser_tools,
    cli::TestArgs,
    commands::{Tool, find_program},
    console::{AlreadyTold, line},
    fuzz_tools,
    install::{self, Purpose},
    interrupts::Interrupts,
    services::Environment,
    stack::{Ownership, Stack},
    static_worker, system,
    test_engine::{self, TestEngine},
};

/// The runner's variable for how many tests run at once.
const TEST_THREADS: &str = "NEXTEST_TEST_THREADS";

/// What the tests are given.
#[derive(Debug)]
struct Given {
    runner_args: Vec<String>,
    tools: AgentTools,
    fuzzer: PathBuf,
    accessibility: PathBuf,
    without_docker: bool,
}

/// Does what the command line asks for.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let docker = !args.without_docker;
    install::ensure(Purpose::Testing { docker }, args.yes)?;
    if docker {
        TestEngine::is_possible()?;
    }
    let runtime = Runtime::new().context("start the runtime")?;
    runtime.block_on(prepare_and_test(args))
}

/// What is built keeps the processors busy, what the images are made of the network: at the same time.
async fn prepare_and_test(args: &TestArgs) -> Result<()> {
    let mut interrupts = Interrupts::new()?;
    // Before the build, which nobody ends: where a registry does not answer that is told at once.
    let given = tokio::task::block_in_place(|| {
        Ok::<_, anyhow::Error>(Given {
            runner_args: args.runner_args.clone(),
            tools: agent_tools::ensure()?,
            fuzzer: fuzz_tools::ensure()?,
            accessibility: browser_tools::ensure()?,
            without_docker: args.without_docker,
        })
    })?;
    let everything = args.runner_args.is_empty();
    let building = tokio::task::spawn_blocking(move || build(everything));
    if given.without_docker {
        built(building, &mut interrupts).await?;
        tell_what_is_left_out();
        let tests = move |variables| run_tests(&given, variables);
        return with_postgres(tests, Vec::new(), &mut interrupts).await;
    }
    // Dropping the start half way ends what it has started.
    let engine = tokio::select! {
        engine = TestEngine::start() => engine.inspect_err(|error| {
            line(format!("no engine for the tests, once the build ends this ends: {error:#}"));
        })?,
        () = interrupts.next() => bail!("interrupted before the tests began"),
    };
    let outcome = match built(building, &mut interrupts).await {
        Ok(static_worker) => {
            let variables = engine.variables(&static_worker);
            let tests = move |variables| run_tests(&given, variables);
            with_postgres(tests, variables, &mut interrupts).await
        }
        Err(error) => Err(error),
    };
    let ended = engine.end().await;
    outcome.and(ended)
}

/// Waits for the build. An interrupt of the terminal ends cargo too.
async fn built(
    building: JoinHandle<Result<PathBuf>>,
    interrupts: &mut Interrupts,
) -> Result<PathBuf> {
    tokio::select! {
        outcome = building => outcome.context("wait for the build")?,
        () = interrupts.next() => bail!("interrupted before the tests began"),
    }
}

/// Builds the programs, which tests start; and where all tests run, the tests too, with the selection that the runner
/// uses, so that nothing is compiled twice. Returns the worker that runs in any image.
fn build(everything: bool) -> Result<PathBuf> {
    let tests: &[&str] = if everything { &["--tests", "--examples"] } else { &[] };
    let cargo = Tool::cargo().args(["build", "--workspace", "--locked", "--bins"]).args(tests);
    cargo.run().context("build what the tests need")?;
    let static_worker = static_worker::build(Profile::Debug)?;
    if everything {
        Tool::cargo().args(["test", "--workspace", "--locked", "--doc", "--quiet"]).run()?;
    }
    Ok(static_worker)
}

fn tell_what_is_left_out() {
    match test_engine::names_of_docker_tests() {
        Ok(names) => {
            line(format!("left out, for they need Docker: {} tests", names.len()));
            names.iter().for_each(|name| line(format!("  {name}")));
        }
        Err(_) => line("left out: every test with `docker` in its name, for they need Docker"),
    }
}

/// Runs tests on a Postgres that all test runs share, with these variables and the one that names it.
pub(crate) async fn with_postgres(
    tests: impl FnOnce(Vec<(&'static str, String)>) -> Result<()> + Send + 'static,
    mut variables: Vec<(&'static str, String)>,
    interrupts: &mut Interrupts,
) -> Result<()> {
    let state_dir = system::purpose_directory("test")?;
    let mut stack = Stack::new(&state_dir, Ownership::Shared)?;
    let users = File::create(state_dir.join("users.lock")).context("open the lock of test runs")?;
    users.lock_shared().context("join the users of the tests' Postgres")?;
    let environment =
        Environment::of_machine().with("OPENTIGER_STATE_DIR", state_dir.to_string_lossy());
    let postgres = system::private_postgres(&stack, &environment, Durability::Test).await?;
    stack.keep_alive(&postgres);
    variables.push(("OPENTIGER_TEST_DATABASE_URL", postgres.url.expose().to_owned()));
    // An interrupt reaches the runner too, which then ends by itself; waiting for it is all there is to do.
    let mut tests = tokio::task::spawn_blocking(move || tests(variables));
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

fn run_tests(given: &Given, variables: Vec<(&'static str, String)>) -> Result<()> {
    let Given { runner_args, tools, fuzzer, accessibility, without_docker } = given;
    let has_nextest = find_program("cargo-nextest").is_some();
    let runner: &[&str] = match (has_nextest, without_docker) {
        (true, false) => &["nextest", "run"],
        (true, true) => &["nextest", "run", "--profile", "without-docker"],
        (false, _) => &["test", "--lib", "--bins", "--tests", "--examples"],
    };
    let mut runner = Tool::cargo()
        .args(runner)
        .args(["--locked"])
        .args(selection(runner_args))
        .args(runner_args)
        .env("OPENTIGER_TEST_CLAUDE", &tools.claude)
        .env("OPENTIGER_TEST_OPENCODE", tools.opencode.clone().unwrap_or_default())
        .env("OPENTIGER_TEST_SCHEMATHESIS", fuzzer)
        .env("OPENTIGER_TEST_AXE", accessibility);
    if std::env::var_os(TEST_THREADS).is_none() {
        runner = runner.env(TEST_THREADS, tests_at_once().to_string());
    }
    if !has_nextest {
        line("cargo-nextest is not installed; using cargo test");
        if *without_docker {
            runner = runner.args(["--", "--skip", "docker"]);
        }
    }
    for (name, value) in variables {
        runner = runner.env(name, value);
    }
    if !runner.status()?.success() {
        return Err(AlreadyTold.into());
    }
    Ok(())
}

/// Two for each core: most of the time, most tests wait.
fn tests_at_once() -> usize {
    2 * std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// All packages, unless the arguments choose some.
fn selection(runner_args: &[String]) -> &'static [&'static str] {
    let chooses = |arg: &String| arg.starts_with("-p") || arg.starts_with("--package");
    if runner_args.iter().any(chooses) { &[] } else { &["--workspace"] }
}
