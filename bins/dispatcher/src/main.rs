//! `dispatcher`: recovers what died and hands ready tasks to idle agents.

mod serve;

use std::process::ExitCode;

use clap::Parser;

/// The openTiger dispatcher. Settings come from the environment and the database.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Only check the settings, then exit.
    #[arg(long)]
    check_config: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    bootstrap::exit::report("dispatcher", serve::run(arguments.check_config).await)
}
