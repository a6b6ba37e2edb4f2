//! `worker`: an agent process. `worker resident` stays on the host and takes runs one after another.

mod resident;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An openTiger agent process.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Stay on this host and take runs one after another.
    Resident(resident::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { mode: Mode::Resident(arguments) } = Arguments::parse();
    bootstrap::exit::report("worker", resident::serve(arguments).await)
}
