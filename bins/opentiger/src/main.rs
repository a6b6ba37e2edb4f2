//! `opentiger`: the command line for people and scripts.

mod cli;
mod code;
mod config;
mod console;
mod failure;
mod progress;
mod server;
mod shape;
mod story;
mod surroundings;
mod system;
mod table;
mod task;
mod units;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{cli::Arguments, console::Console, surroundings::Surroundings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let surroundings = Surroundings::own();
    let console = Console::new(&surroundings, arguments.json);
    let outcome = cli::run(arguments, &surroundings, &console).await;
    console.end(outcome).into()
}
