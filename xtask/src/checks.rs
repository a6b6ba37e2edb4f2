//! `cargo xtask ci`: every check but the tests.
//!
//! Lints and documentation use the same features, so that they share the compiled dependencies.

use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum as _;

use crate::{
    cli::Step,
    commands::{Tool, find_program},
    console::{Steps, line},
    generated, tidy,
};

/// Runs one check, or all of them in order of their price, and stops at the first that fails.
pub(crate) fn run(only: Option<Step>) -> Result<()> {
    let mut steps = Steps::default();
    let wanted = Step::value_variants().iter().filter(|step| only.is_none_or(|one| one == **step));
    for step in wanted {
        let name =
            step.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        line(format!("ci: {name}"));
        let started = Instant::now();
        check(*step)?;
        steps.note(&name, started.elapsed());
    }
    steps.table("every check passed");
    Ok(())
}

fn check(step: Step) -> Result<()> {
    match step {
        Step::Format => Tool::cargo().args(["xfmt", "--check"]).run(),
        Step::Clippy => Tool::cargo()
            .args(["clippy", "--workspace", "--all-targets", "--all-features", "--locked"])
            .args(["--", "-D", "warnings"])
            .run(),
        Step::Docs => Tool::cargo()
            .args(["doc", "--workspace", "--no-deps", "--all-features", "--locked"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run(),
        Step::Tidy => tidy::run(),
        Step::Generated => generated::run(true),
        Step::Deny => deny(),
    }
}

fn deny() -> Result<()> {
    if find_program("cargo-deny").is_none() {
        line(
            "ci: deny left out: cargo-deny is not installed (`cargo install --locked cargo-deny`)",
        );
        return Ok(());
    }
    Tool::cargo().args(["deny", "--locked", "check"]).run()
}
