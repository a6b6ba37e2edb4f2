//! `cargo xtask up`: installs, builds, and starts everything; the demo stops it again.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Runtime;

use crate::{
    agent_tools::{self, AgentTools},
    binaries::{Binaries, Profile},
    cli::UpArgs,
    commands::Tool,
    console::{Steps, line},
    demo,
    install::{self, Purpose},
    interrupts::Interrupts,
    sandbox_engine::SandboxEngine,
    stack::{Ownership, Stack},
    static_worker,
    system::{self, PROGRAMS, Plan},
};

/// The package and program of the command line.
const COMMAND_LINE: &str = "opentiger";

/// Does what the command line asks for.
pub(crate) fn run(args: &UpArgs) -> Result<()> {
    let begun = Instant::now();
    let mut steps = Steps::default();
    let tools = steps.time("install", || prepare(Purpose::Running, args.yes))?;
    let binaries = steps.time("build", || {
        let besides = if args.demo { "model-stub" } else { COMMAND_LINE };
        let packages: Vec<&str> = PROGRAMS.iter().copied().chain([besides]).collect();
        let binaries = Binaries::build(&packages, Profile::Debug)?;
        static_worker::build(Profile::Debug)?;
        Ok(binaries)
    })?;
    if !args.demo {
        return users_own(args, &binaries, &tools);
    }
    let runtime = Runtime::new().context("start the runtime")?;
    runtime.block_on(show(args, binaries, &tools, &mut steps))?;
    steps.note("all together", begun.elapsed());
    if args.exit {
        steps.table("how long it took");
    }
    Ok(())
}

/// The demo, on this host or in a container.
async fn show(
    args: &UpArgs,
    binaries: Binaries,
    tools: &AgentTools,
    steps: &mut Steps,
) -> Result<()> {
    let mut environment = demo::environment(tools)?;
    if !args.sandbox {
        return serve(args, Plan::new(binaries, environment)?, steps).await;
    }
    let engine = SandboxEngine::ready(steps).await?;
    environment.set("EXECUTION_ENVIRONMENT", "sandbox");
    engine.name_to(&mut environment);
    let served = match Plan::new(binaries, environment) {
        Ok(plan) => serve(args, plan, steps).await,
        Err(error) => Err(error),
    };
    served.and(engine.end().await)
}

/// Puts on the machine what the purpose needs.
pub(crate) fn prepare(purpose: Purpose, yes: bool) -> Result<AgentTools> {
    install::ensure(purpose, yes)?;
    agent_tools::ensure()
}

/// The user's own system, which goes on in the background: what `opentiger up` starts, with the pinned command lines
/// where the user names none.
fn users_own(args: &UpArgs, binaries: &Binaries, tools: &AgentTools) -> Result<()> {
    let program = binaries.program(COMMAND_LINE)?;
    let mut up = Tool::new(&program).args(["up"]);
    for (setting, command) in tools.settings() {
        if std::env::var_os(setting).is_none() {
            up = up.env(setting, command);
        }
    }
    up.run().context("start openTiger")?;
    if args.exit {
        Tool::new(&program).args(["down", "--now"]).run().context("stop openTiger")?;
    }
    Ok(())
}

async fn serve(args: &UpArgs, plan: Plan, steps: &mut Steps) -> Result<()> {
    let mut interrupts = Interrupts::new()?;
    let mut stack = Stack::new(&plan.state_dir, Ownership::Alone)?;
    let lock = plan.lock()?;
    stack.clear_earlier().await?;
    // Dropping `work` half way is fine: whatever it started is on the stack, and has a lease besides.
    let outcome = tokio::select! {
        outcome = work(args, &mut stack, plan, steps) => outcome,
        () = interrupts.next() => interrupted(args),
    };
    let begun = Instant::now();
    line("stopping; once more to stop at once");
    stack.stop(interrupts.next()).await;
    let cleared = stack.expect_nothing_left().await;
    steps.note("stop", begun.elapsed());
    drop(lock);
    outcome.and(cleared)
}

fn interrupted(args: &UpArgs) -> Result<()> {
    if args.exit {
        bail!("interrupted before it was done");
    }
    Ok(())
}

async fn work(args: &UpArgs, stack: &mut Stack, mut plan: Plan, steps: &mut Steps) -> Result<()> {
    demo::start_model(stack, &mut plan).await?;
    let client = system::start(stack, &plan, steps).await?;
    demo::run(stack, &plan, &client, steps).await?;
    if args.exit {
        return Ok(());
    }
    line(demo::invitation(&client));
    stack.guard(std::future::pending()).await
}
