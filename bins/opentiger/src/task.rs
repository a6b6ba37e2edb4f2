//! The commands about tasks.

mod add;
mod apply;
mod cancel;
mod change;
mod diff;
mod follow;
mod git;
mod list;
mod logs;
mod naming;
mod retry;
mod show;

use std::{io::Read as _, path::Path};

use client::client::Client;

use crate::{
    cli::task::TaskCommand, code::Code, console::Console, failure::Failure, server::Wanted,
    surroundings::Surroundings,
};

/// The most that is read from standard input or a file; the server takes far less.
const INPUT_BYTES: u64 = 16 << 20;

/// Does what the command line asks for.
pub(crate) async fn run(
    command: TaskCommand,
    wanted: &Wanted,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let client: Client = wanted.client(surroundings)?;
    match command {
        TaskCommand::Add(args) => add::run(*args, &client, surroundings, console).await,
        TaskCommand::List(args) => list::run(&args, &client, console).await,
        TaskCommand::Show { id } => show::run(&id, &client, console).await,
        TaskCommand::Logs(args) => logs::run(&args, &client, console).await,
        TaskCommand::Cancel { ids } => cancel::run(&ids, &client, console).await,
        TaskCommand::Retry(args) => retry::run(&args, &client, console).await,
        TaskCommand::Diff(args) => diff::run(&args, &client, surroundings, console).await,
        TaskCommand::Apply(args) => apply::run(&args, &client, surroundings, console).await,
    }
}

/// What standard input holds, to its end.
///
/// # Errors
/// It cannot be read, or is no text.
pub(crate) fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES).read_to_string(&mut text);
    read.map_err(|error| Failure::of("read standard input", &error))?;
    Ok(text)
}

/// A text that is given as it is, or as `-` for standard input.
fn text_or_input(text: &str) -> Result<String, Failure> {
    if text == "-" { standard_input() } else { Ok(text.to_owned()) }
}

/// What a file holds; `-` is standard input.
fn file_or_input(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        return standard_input();
    }
    let read = std::fs::read_to_string(path);
    read.map_err(|error| {
        let failure = Failure::of(format_args!("read `{}`", path.display()), &error);
        Failure { code: Code::Usage, ..failure }
    })
}
