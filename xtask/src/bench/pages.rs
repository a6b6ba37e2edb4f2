//! `cargo xtask bench pages`: the dashboard in a real Chromium, over 100,000 tasks.
//!
//! The measurement is a test that only this command runs: it needs the browser and the server that the tests have.

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

use crate::{
    cli::PagesArgs,
    commands::Tool,
    console::AlreadyTold,
    install::{self, Purpose},
    interrupts::Interrupts,
    test_run,
};

const MEASUREMENT: &str = "pages_are_measured_with_100_000_tasks";

/// Does what the command line asks for.
pub(crate) fn run(args: &PagesArgs) -> Result<()> {
    install::ensure(Purpose::Testing { docker: false }, args.yes)?;
    let profile: &[&str] = if args.release { &["--release"] } else { &[] };
    let mut runner = Tool::cargo()
        .args(["test", "--locked", "--package", "api-server", "--test", "it"])
        .args(profile)
        .args(["--", "--ignored", "--nocapture", MEASUREMENT]);
    let measure = move |variables: Vec<(&'static str, String)>| {
        for (name, value) in variables {
            runner = runner.env(name, value);
        }
        if runner.status()?.success() { Ok(()) } else { Err(AlreadyTold.into()) }
    };
    Runtime::new().context("start the runtime")?.block_on(async {
        let mut interrupts = Interrupts::new()?;
        test_run::with_postgres(measure, Vec::new(), &mut interrupts).await
    })
}
