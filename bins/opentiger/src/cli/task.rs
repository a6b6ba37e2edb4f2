//! The arguments of the commands about tasks.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use core_types::task::{ExecutorKind, RiskLevel, Role, TaskStatus};

use crate::units::{parse_count, parse_length, parse_number};

const IDS: &str = "\
A task is named by its id, by any beginning or end of at least 4 digits of it that only one task has
(lists show the last 8), or by `@last`, the newest one.";

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Make a task.
    Add(Box<AddArgs>),
    /// List tasks, the newest first.
    List(ListArgs),
    /// Show everything about a task: its runs, why it waits, why it failed.
    #[command(after_help = IDS)]
    Show {
        /// The task.
        #[arg(value_name = "TASK")]
        id: String,
    },
    /// Show what an agent did in a run.
    #[command(after_help = IDS)]
    Logs(LogsArgs),
    /// Call tasks off; what runs is stopped.
    #[command(after_help = IDS)]
    Cancel {
        /// The tasks.
        #[arg(value_name = "TASK", required = true)]
        ids: Vec<String>,
    },
    /// Queue a task again that failed, is blocked, was cancelled, or whose result is not good enough.
    #[command(after_help = IDS)]
    Retry(RetryArgs),
    /// Show what a task changed.
    #[command(after_help = IDS)]
    Diff(DiffArgs),
    /// Bring what a task changed into a work tree, without committing it.
    #[command(after_help = APPLY)]
    Apply(ApplyArgs),
}

const APPLY: &str = "\
The change is merged into index and work tree of the branch you are on, like `git apply --3way --index`: look at it
with `git diff --cached` and commit it yourself. HEAD and branches stay where they are. Nothing at all is changed
where the work tree is not clean (see --allow-dirty), where the change does not merge cleanly, or with --check.";

/// A new task.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --goal the title is the goal. A verification command is split as a shell would split it, and run without one.

Examples:
  opentiger task add \"Fix the typo in README.md\"
  opentiger task add \"Port the parser\" --goal-file goal.md --verify \"cargo test -p parser\" --timebox 45m -f
  git diff | opentiger task add \"Review this change\" --role tester --goal-file -")]
pub(crate) struct AddArgs {
    /// What it is called, in one line.
    pub(crate) title: String,
    /// What is to be done.
    #[arg(long, value_name = "TEXT", conflicts_with = "goal_file")]
    pub(crate) goal: Option<String>,
    /// A file that says what is to be done; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) goal_file: Option<PathBuf>,
    /// The repository: a directory of this machine, or a URL; the one around the working directory where left out.
    #[arg(long, value_name = "PATH|URL")]
    pub(crate) repo: Option<String>,
    /// Which kind of agent does it.
    #[arg(long, value_name = "ROLE", value_parser = clap::builder::PossibleValuesParser::new(Role::WORDS))]
    pub(crate) role: Option<String>,
    /// The branch on which it is based.
    #[arg(long, value_name = "BRANCH")]
    pub(crate) base: Option<String>,
    /// A command that must pass; may be given several times.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) verify: Vec<String>,
    /// What is more important is done earlier.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = parse_number::<i64>)]
    pub(crate) priority: Option<i64>,
    /// How much harm it could do; what is riskier is done later.
    #[arg(long, value_name = "RISK", value_parser = clap::builder::PossibleValuesParser::new(RiskLevel::WORDS))]
    pub(crate) risk: Option<String>,
    /// The agent command line that does it.
    #[arg(long, value_name = "EXECUTOR", value_parser = clap::builder::PossibleValuesParser::new(ExecutorKind::WORDS))]
    pub(crate) executor: Option<String>,
    /// The model that does it.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// A task that must be done first; may be given several times.
    #[arg(long, value_name = "TASK")]
    pub(crate) depends_on: Vec<String>,
    /// Of all tasks of an area only one runs at a time.
    #[arg(long, value_name = "AREA")]
    pub(crate) area: Option<String>,
    /// How long a run of it may take, such as `30m`.
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    pub(crate) timebox: Option<Duration>,
    /// How often it is tried.
    #[arg(long, value_name = "NUMBER", value_parser = parse_number::<u32>)]
    pub(crate) max_attempts: Option<u32>,
    /// At how many tokens, all its runs together, it is stopped.
    #[arg(long, value_name = "TOKENS", value_parser = parse_number::<u64>)]
    pub(crate) token_limit: Option<u64>,
    /// At how many US dollars, all its runs together, it is stopped.
    #[arg(long, value_name = "USD")]
    pub(crate) cost_limit: Option<f64>,
    /// Show what the agent does until the task is over, and end with its result as exit code.
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Which tasks are listed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  opentiger task list --status queued,running
  opentiger task list --role tester --limit 5
  opentiger task list --all --json")]
pub(crate) struct ListArgs {
    /// Only tasks that stand so; several are separated by commas.
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(TaskStatus::WORDS))]
    pub(crate) status: Vec<String>,
    /// Only tasks of this role.
    #[arg(long, value_name = "ROLE", value_parser = clap::builder::PossibleValuesParser::new(Role::WORDS))]
    pub(crate) role: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, conflicts_with = "all", value_parser = parse_count)]
    pub(crate) limit: usize,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
}

/// Which log is shown.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The task.
    #[arg(value_name = "TASK")]
    pub(crate) id: String,
    /// Go on until the task is over, and end with its result as exit code.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The number of the run; the newest one where left out.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) run: Option<u64>,
}

/// How a task is tried again.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The task.
    #[arg(value_name = "TASK")]
    pub(crate) id: String,
    /// What the agent should know about its last attempt; `-` is standard input.
    #[arg(long, value_name = "TEXT")]
    pub(crate) feedback: Option<String>,
    /// Let the agent go on in its last session instead of beginning anew.
    #[arg(long = "continue")]
    pub(crate) continue_session: bool,
    /// Show what the agent does until the task is over, and end with its result as exit code.
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Which change is shown.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The task.
    #[arg(value_name = "TASK")]
    pub(crate) id: String,
    /// Only the files and how much changed in each.
    #[arg(long)]
    pub(crate) stat: bool,
}

/// Which change goes where.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The task.
    #[arg(value_name = "TASK")]
    pub(crate) id: String,
    /// The work tree; the one around the working directory where left out.
    #[arg(long, value_name = "PATH")]
    pub(crate) repo: Option<PathBuf>,
    /// Only tell whether it can be applied.
    #[arg(long)]
    pub(crate) check: bool,
    /// Apply it though there are changes that are not committed.
    #[arg(long)]
    pub(crate) allow_dirty: bool,
}
