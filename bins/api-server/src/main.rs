//! `api-server`: the HTTP API.

mod processes;
mod serve;

use std::process::ExitCode;

use clap::Parser;

/// The openTiger API server. Settings come from the environment and the database; docs/config.md lists them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Only check the settings of the environment, then exit.
    #[arg(long)]
    check_config: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { check_config } = Arguments::parse();
    let result = if check_config {
        bootstrap::check::check_config(true).map_err(anyhow::Error::from)
    } else {
        serve::run().await
    };
    bootstrap::exit::report("api-server", result)
}
