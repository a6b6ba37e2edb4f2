//! The workspace's own commands: start everything, run the tests, check the code, measure.
//!
//! Owns no behaviour of the product: what the programs do lives in the crates, and what a command here needs from
//! them it asks through their public interfaces.

use std::process::ExitCode;

use clap::Parser as _;

mod agent_tools;
mod base_image;
mod bench;
mod binaries;
mod browser_tools;
mod checks;
mod cli;
mod commands;
#[cfg(test)]
mod compose;
mod console;
mod demo;
mod engine;
mod follow;
mod fuzz_tools;
mod generated;
mod image;
mod install;
mod interrupts;
mod leftovers;
mod pinned;
mod sandbox_engine;
mod services;
mod stack;
mod static_worker;
mod system;
mod test_engine;
mod test_run;
mod tidy;
mod up;
mod workspace;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::fault(&error);
            ExitCode::FAILURE
        }
    }
}
