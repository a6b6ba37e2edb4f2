//! `worker`: an agent process, on the host or in a sandbox.

mod look;
mod once;
mod relay;
mod resident;
mod self_test;

use std::process::ExitCode;

use bootstrap::exit;
use clap::Parser;

/// An openTiger agent process.
#[derive(Debug, Parser)]
#[command(version)]
enum Mode {
    /// Stay on this host and take runs one after another.
    Resident(resident::Arguments),
    /// Work on the run that is given on standard input, in a sandbox.
    Once,
    /// Work on such a run with a scripted model, and tell how each step went.
    SelfTest,
    /// Tell what a sandbox sees of what standard input asks for.
    Look,
    /// Lead sandboxes from an address of their network to a service on this machine's loopback.
    Relay(relay::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Mode::parse() {
        Mode::Resident(arguments) => exit::report("worker", resident::serve(arguments).await),
        Mode::Once => once::work().await,
        Mode::SelfTest => self_test::run().await,
        Mode::Look => exit::report("worker", look::look().await),
        Mode::Relay(arguments) => exit::report("worker", relay::serve(arguments).await),
    }
}
