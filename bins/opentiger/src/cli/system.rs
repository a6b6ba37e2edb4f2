//! The arguments of the commands about the system as a whole.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::units::{parse_length, parse_number};

/// How openTiger is started.
#[derive(Debug, Args)]
#[command(after_help = "\
Settings come from the environment (docs/config.md lists them) and are handed to everything that is started.
Without DATABASE_URL a private Postgres is used. What runs already is left as it is.

Examples:
  opentiger up
  DATABASE_URL=postgres://… opentiger up --timeout 2m")]
pub(crate) struct UpArgs {
    /// How long it may take to be ready.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_length)]
    pub(crate) timeout: Duration,
}

/// How openTiger is stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs that are under way, on the host and in containers, end as interrupted, which costs their tasks no attempt.
A private database ends by itself a minute later; nothing is lost.

Examples:
  opentiger down
  opentiger down --grace 2m
  opentiger down --now")]
pub(crate) struct DownArgs {
    /// How long everything may take to end by itself before it is ended by force.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_length)]
    pub(crate) grace: Duration,
    /// End the private servers too, instead of leaving them to end by themselves.
    #[arg(long)]
    pub(crate) now: bool,
}

/// What is looked at.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Have the agent's command line do a scripted task in a sandbox, too; it takes some seconds and costs nothing.
    #[arg(long)]
    pub(crate) self_test: bool,
}

/// What is cleaned up.
#[derive(Debug, Args)]
#[command(after_help = "\
Only what nobody uses any more is removed: launches that ended, checkouts whose runs are over, mirrors that no run
used for MIRROR_KEEP_DAYS, sockets nobody listens on. What runs is never touched.

Examples:
  opentiger gc --dry-run
  opentiger gc
  opentiger gc --records 90")]
pub(crate) struct GcArgs {
    /// Only tell what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep what ended more recently than this; for mirrors MIRROR_KEEP_DAYS says it.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_length)]
    pub(crate) older_than: Duration,
    /// Remove records of the database as well: tasks, runs and events that ended this many days ago or earlier.
    #[arg(long, value_name = "DAYS", value_parser = parse_number::<u32>)]
    pub(crate) records: Option<u32>,
}

/// What is saved.
#[derive(Debug, Args)]
#[command(after_help = "\
The database is the one of DATABASE_URL, else the private one of the state directory; no server need run.
The file holds the settings, secrets among them, so only its owner may read it. One that is there is replaced once the
new one is whole.

Examples:
  opentiger backup opentiger.backup
  opentiger backup \"/var/backups/opentiger-$(date +%F)\"")]
pub(crate) struct BackupArgs {
    /// The file that is written.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// What is restored.
#[derive(Debug, Args)]
#[command(after_help = "\
The database has to be empty: name a new one in DATABASE_URL, or move `postgres` in the state directory away.
All of it is restored or nothing. Runs that were alive at the moment of the backup are done again.

Examples:
  opentiger down --now
  DATABASE_URL=postgres://… opentiger restore opentiger.backup")]
pub(crate) struct RestoreArgs {
    /// The file that `opentiger backup` wrote.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
