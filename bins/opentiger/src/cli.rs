//! The command line: what can be asked for, and who does it.

pub(crate) mod system;
pub(crate) mod task;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    code::{self, Code},
    config,
    console::Console,
    failure::Failure,
    server::Wanted,
    surroundings::Surroundings,
    system as running, task as tasks,
};

const EXAMPLES: &str = "\
Examples:
  opentiger up
  opentiger task add \"Add a --version flag\" --verify \"cargo test\" --follow
  opentiger task list --status running,queued
  opentiger task diff @last
  opentiger task apply @last
  opentiger down

Where the server is: --api, else OPENTIGER_API_URL, else the server of the state directory.
Who asks: OPENTIGER_API_KEY or API_SECRET, from the environment only.";

const DOCTOR: &str = "\
Logins are checked at the provider, without a model where that is possible, else with a prompt of one word.
Without a server, this machine alone is looked at. Exit code 1 where anything fails.

Examples:
  opentiger doctor
  opentiger doctor --self-test
  opentiger doctor --json | jq '.checks[] | select(.state != \"ok\")'";

/// Queue tasks for coding agents, watch them work, and take what they made.
#[derive(Debug, Parser)]
#[command(name = "opentiger", version, after_help = after_help(), max_term_width = 100)]
pub(crate) struct Arguments {
    /// The server's address, such as `http://127.0.0.1:4301`.
    #[arg(long, global = true, value_name = "URL")]
    api: Option<String>,
    /// Write one JSON value (for logs, one to a line) and nothing else to standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    command: Command,
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", code::help())
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start openTiger on this machine and wait until it is ready.
    Up(system::UpArgs),
    /// Stop openTiger on this machine.
    Down(system::DownArgs),
    /// Show whether it is ready, and what runs.
    Status,
    /// Look at everything that a task needs, and say what to do about what is missing.
    #[command(after_help = DOCTOR)]
    Doctor(system::DoctorArgs),
    /// Remove what ended runs and launches left on the disk.
    Gc(system::GcArgs),
    /// Save the whole database in one file, while everything goes on.
    Backup(system::BackupArgs),
    /// Fill an empty database from a backup.
    Restore(system::RestoreArgs),
    /// Make, watch and end tasks, and take their results.
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Show and change settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a completion script for a shell to standard output.
    #[command(
        after_help = "Examples:\n  opentiger completion bash > ~/.local/share/bash-completion/completions/opentiger\n  opentiger completion zsh > ~/.zfunc/_opentiger\n  opentiger completion fish > ~/.config/fish/completions/opentiger.fish"
    )]
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// What can be done with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show settings with their values and where those come from.
    #[command(
        after_help = "Examples:\n  opentiger config get\n  opentiger config get MAX_CONCURRENT_WORKERS\n  opentiger config get --json | jq '.settings[] | select(.source != \"default\")'"
    )]
    Get {
        /// The setting; all where left out.
        key: Option<String>,
    },
    /// Change settings: all of them, or none where one is at fault.
    #[command(
        after_help = "A value `-` is read from standard input, for secrets: they do not belong on a command line.\n\nExamples:\n  opentiger config set MAX_CONCURRENT_WORKERS=4 TASK_MAX_ATTEMPTS=2\n  opentiger config set ANTHROPIC_API_KEY=- < key.txt\n  opentiger config set --unset CLAUDE_CODE_MODEL"
    )]
    Set {
        /// The settings and their new values.
        #[arg(value_name = "KEY=VALUE", required_unless_present = "unset")]
        assignments: Vec<String>,
        /// A setting that goes back to its default; may be given several times.
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
}

/// Does what the command line asks for.
pub(crate) async fn run(
    arguments: Arguments,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let Arguments { api, json: _, command } = arguments;
    let wanted = Wanted { api };
    match command {
        Command::Up(args) => running::up::run(&args, &wanted, surroundings, console).await,
        Command::Down(args) => running::down::run(&args, &wanted, surroundings, console).await,
        Command::Status => running::status::run(&wanted, surroundings, console).await,
        Command::Doctor(args) => running::doctor::run(&args, &wanted, surroundings, console).await,
        Command::Gc(args) => running::gc::run(&args, &wanted, surroundings, console).await,
        Command::Backup(args) => running::backup::save(&args, surroundings, console).await,
        Command::Restore(args) => running::backup::restore(&args, surroundings, console).await,
        Command::Task(command) => tasks::run(command, &wanted, surroundings, console).await,
        Command::Config(command) => {
            config::run(command, &wanted.client(surroundings)?, console).await
        }
        Command::Completion { shell } => completion(shell, console),
    }
}

fn completion(shell: Shell, console: &Console) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "opentiger", &mut script);
    console.raw(&script)?;
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
