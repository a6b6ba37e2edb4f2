//! The command line. Holds no logic beyond choosing the function to call.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    bench,
    binaries::Profile,
    checks, generated,
    image::{self, Wanted},
    static_worker, test_run, tidy, up,
};

/// Runs, tests and checks openTiger.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Installs what is missing, builds, and starts everything.
    Up(UpArgs),
    /// Installs what the tests need, starts a Postgres and a Docker engine for them, and runs them all.
    Test(TestArgs),
    /// Checks format, lints, documentation, house rules, generated files and dependencies.
    Ci {
        /// Runs this check alone.
        #[arg(value_enum)]
        step: Option<Step>,
    },
    /// Writes the generated files under docs/ anew.
    Docs {
        /// Writes nothing and fails where a file is out of step.
        #[arg(long)]
        check: bool,
    },
    /// Checks the house rules that no lint covers.
    Tidy,
    /// Builds the image in which agents run in containers.
    Image(ImageArgs),
    /// Builds the worker that is mounted into containers, beside the other programs.
    Worker {
        /// Builds it for the release builds of the other programs.
        #[arg(long)]
        release: bool,
    },
    /// Measures.
    #[command(subcommand)]
    Bench(Bench),
}

/// What `up` is asked for.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Runs one task in a scratch repository with the real agent and a scripted model; needs no key.
    #[arg(long)]
    pub demo: bool,
    /// Runs the demo's task in a container, on this user's Docker engine or one of its own.
    #[arg(long, requires = "demo")]
    pub sandbox: bool,
    /// Stops everything when the demo's task is done, or as soon as everything is ready.
    #[arg(long)]
    pub exit: bool,
    /// Installs missing packages without asking.
    #[arg(long)]
    pub yes: bool,
}

/// What `test` is asked for.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Installs missing packages without asking.
    #[arg(long)]
    pub yes: bool,
    /// Leaves the tests out that need Docker, and names them.
    #[arg(long)]
    pub without_docker: bool,
    /// Given to the test runner as they are; documentation tests are left out then.
    #[arg(last = true)]
    pub runner_args: Vec<String>,
}

/// What `image` is asked for.
#[derive(Debug, Args)]
struct ImageArgs {
    /// The image's name.
    #[arg(long, default_value = image::DEFAULT_TAG)]
    tag: String,
    /// What it is built on, with Debian's packages; debian:bookworm-slim, or a bare Debian made here where no registry
    /// answers.
    #[arg(long)]
    base: Option<String>,
    /// A file of certificates (PEM) that everything in the container shall trust besides.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Measures the time from `POST /tasks` to the moment an idle agent accepts the task.
    Handover(HandoverArgs),
    /// Measures the time from a claim to the first byte of an agent in a container, and what the engine itself takes.
    Sandbox(SandboxArgs),
    /// Measures how much the dashboard's pages weigh and how soon they show, with 100,000 tasks.
    Pages(PagesArgs),
}

/// What `bench handover` is asked for.
#[derive(Debug, Args)]
pub(crate) struct HandoverArgs {
    /// How many tasks, one at a time.
    #[arg(long, default_value_t = 300)]
    pub tasks: u32,
    /// Measures release builds.
    #[arg(long)]
    pub release: bool,
    /// Installs missing packages without asking.
    #[arg(long)]
    pub yes: bool,
}

/// What `bench sandbox` is asked for.
#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    /// How many tasks, one at a time.
    #[arg(long, default_value_t = 30)]
    pub runs: u32,
    /// Measures release builds.
    #[arg(long)]
    pub release: bool,
    /// Installs missing packages without asking.
    #[arg(long)]
    pub yes: bool,
}

/// What `bench pages` is asked for.
#[derive(Debug, Args)]
pub(crate) struct PagesArgs {
    /// Measures a release build.
    #[arg(long)]
    pub release: bool,
    /// Installs missing packages without asking.
    #[arg(long)]
    pub yes: bool,
}

/// One check of `ci`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Formatting.
    Format,
    /// Lints, with warnings refused.
    Clippy,
    /// Documentation builds, with warnings refused.
    Docs,
    /// House rules.
    Tidy,
    /// Generated files are in step.
    Generated,
    /// Licences, advisories and bans of dependencies.
    Deny,
}

impl Cli {
    /// Does what the command line asks for.
    pub(crate) fn run(self) -> Result<()> {
        match self.task {
            Task::Up(args) => up::run(&args),
            Task::Test(args) => test_run::run(&args),
            Task::Ci { step } => checks::run(step),
            Task::Docs { check } => generated::run(check),
            Task::Tidy => tidy::run(),
            Task::Image(ImageArgs { tag, base, ca }) => {
                image::run(&Wanted { tag, base, authorities: ca })
            }
            Task::Worker { release } => {
                static_worker::run(if release { Profile::Release } else { Profile::Debug })
            }
            Task::Bench(Bench::Handover(args)) => bench::run(&args),
            Task::Bench(Bench::Sandbox(args)) => bench::sandbox::run(&args),
            Task::Bench(Bench::Pages(args)) => bench::pages::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
