//! `worker`: an agent process. `worker resident` stays on the host and takes runs one after another; `worker once` works on
//! the one run of a sandbox; `worker relay` leads sandboxes to a service of this machine.

mod once;
mod relay;
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
    /// Work on the run that is given on standard input, in a sandbox.
    Once,
    /// Lead sandboxes from an address of their network to a service on this machine's loopback.
    Relay(relay::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Arguments::parse().mode {
        Mode::Resident(arguments) => resident::serve(arguments).await,
        Mode::Once => return once::work().await,
        Mode::Relay(arguments) => relay::serve(arguments).await,
    };
    bootstrap::exit::report("worker", result)
}
