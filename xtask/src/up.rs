//! `cargo xtask up`: installs, builds, starts everything, and stops it again.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Runtime;

use crate::{
    agent_tools::{self, AgentTools},
    binaries::{Binaries, Profile},
    cli::UpArgs,
    console::{Steps, line},
    demo,
    install::{self, Purpose},
    interrupts::Interrupts,
    services::Environment,
    stack::{Ownership, Stack},
    system::{self, PROGRAMS, Plan},
};

/// Does what the command line asks for.
pub(crate) fn run(args: &UpArgs) -> Result<()> {
    let begun = Instant::now();
    let mut steps = Steps::default();
    let tools = steps.time("install", || prepare(Purpose::Running, args.yes))?;
    let binaries = steps.time("build", || {
        let packages: Vec<&str> = PROGRAMS.iter().copied().chain(["model-stub"]).collect();
        Binaries::build(&packages, Profile::Debug)
    })?;
    let environment = if args.demo { demo::environment(&tools)? } else { users_own(&tools) };
    let plan = Plan::new(binaries, environment)?;
    let runtime = Runtime::new().context("start the runtime")?;
    runtime.block_on(serve(args, plan, &mut steps))?;
    steps.note("all together", begun.elapsed());
    if args.exit {
        steps.table("how long it took");
    }
    Ok(())
}

/// Puts on the machine what the purpose needs.
pub(crate) fn prepare(purpose: Purpose, yes: bool) -> Result<AgentTools> {
    install::ensure(purpose, yes)?;
    agent_tools::ensure()
}

/// The user's own settings, with the pinned command lines where they name none.
fn users_own(tools: &AgentTools) -> Environment {
    let pinned = tools.settings().into_iter();
    pinned.fold(Environment::of_user(), |environment, (key, program)| {
        if environment.has(key) {
            environment
        } else {
            environment.with(key, program.to_string_lossy())
        }
    })
}

async fn serve(args: &UpArgs, plan: Plan, steps: &mut Steps) -> Result<()> {
    let mut interrupts = Interrupts::new()?;
    let ownership = if args.demo { Ownership::Alone } else { Ownership::Shared };
    let mut stack = Stack::new(&plan.state_dir, ownership)?;
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
    if ownership == Ownership::Shared {
        line("  private servers end by themselves, a minute after their last use");
    }
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
    if args.demo {
        demo::start_model(stack, &mut plan).await?;
    }
    let client = system::start(stack, &plan, steps).await?;
    if args.demo {
        demo::run(stack, &plan, &client, steps).await?;
    }
    if args.exit {
        return Ok(());
    }
    line(demo::invitation(&client));
    stack.guard(std::future::pending()).await
}
