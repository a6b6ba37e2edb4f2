//! A program that tries what it must not be able to: an agent's tool runs it in a sandbox.
//!
//! `hostile <what>` tries one kind of thing from the work tree and writes a line for each attempt, the result before the
//! attempt, to the file `attempts` there. It uses the standard library only. A test decides what the results should be,
//! and each kind of attempt has one that must succeed, so that a program that cannot try is found out.

mod database;
mod digest;
mod family;
mod linger;
mod plant;
mod postgres;
mod reach;
mod spy;
mod sys;

use std::{env, fs::File, io, io::Write as _, process};

/// What was tried and what came of it.
struct Notes(File);

impl Notes {
    /// Notes an attempt; `done` where it worked.
    fn result<T>(&mut self, attempt: &str, result: io::Result<T>) {
        match result {
            Ok(_) => self.word(attempt, "done"),
            Err(error) => self.word(attempt, &sys::word(&error)),
        }
    }

    fn word(&mut self, attempt: &str, word: &str) {
        writeln!(self.0, "{word}\t{attempt}").expect("the work tree can be written");
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let named = arguments.first().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
    if named.starts_with("shim-") {
        linger::as_shim(arguments.get(1).copied().unwrap_or_default());
    }
    match arguments.get(1..).unwrap_or_default() {
        ["reach"] => reach::run(&mut notes()),
        ["victim"] => spy::victim(),
        ["linger", how] => linger::run(how),
        ["fool"] => linger::fool(),
        ["plant", canary, other] => plant::run(&mut notes(), canary, other),
        ["move-results"] => plant::instead_of_the_results(),
        ["swap-results"] => plant::other_results(),
        ["knock", address] => reach::knock_at(address),
        other => {
            eprintln!("hostile: what is {other:?}?");
            process::exit(2);
        }
    }
}

fn notes() -> Notes {
    Notes(File::create("attempts").expect("the work tree can be written"))
}
