//! `task diff`.

use client::client::Client;
use serde_json::json;

use super::{change::Change, git::Git, naming::resolve};
use crate::{
    cli::task::DiffArgs,
    code::Code,
    console::{Console, Style},
    failure::Failure,
    surroundings::Surroundings,
};

/// Shows what a task changed: as a patch to the byte where a program reads it.
pub(crate) async fn run(
    args: &DiffArgs,
    client: &Client,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let id = resolve(client, &args.id).await?;
    let change = Change::of(client, &id, None, surroundings).await?;
    let patch = if args.stat { stat(&change.patch, surroundings).await? } else { change.patch };
    let text = String::from_utf8_lossy(&patch);
    if console.json {
        let key = if args.stat { "stat" } else { "patch" };
        console.value(
            &json!({ "id": id, "commit": change.commit, "branch": change.task.branch, key: text }),
        )?;
    } else if console.terminal {
        for line in text.lines() {
            console.parts(&[(style(line), line)])?;
        }
    } else {
        console.raw(&patch)?;
    }
    Ok(Code::Done)
}

/// How much changed in each file. `git apply --stat` needs no repository and changes nothing.
async fn stat(patch: &[u8], surroundings: &Surroundings) -> Result<Vec<u8>, Failure> {
    let git = Git::new(&surroundings.directory()?, surroundings);
    let output = git.try_run(&["apply", "--stat", "--summary", "-"], patch).await?;
    // An empty patch is no patch to git, and no change to us.
    Ok(if patch.is_empty() { Vec::new() } else { output.stdout })
}

fn style(line: &str) -> Style {
    match line {
        _ if line.starts_with("+++") || line.starts_with("---") => Style::Bold,
        _ if line.starts_with("diff ") || line.starts_with("index ") => Style::Bold,
        _ if line.starts_with('+') => Style::Green,
        _ if line.starts_with('-') => Style::Red,
        _ if line.starts_with("@@") => Style::Cyan,
        _ => Style::Plain,
    }
}
