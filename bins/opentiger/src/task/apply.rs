//! `task apply`: a task's change in the user's work tree, merged, staged, not committed.
//!
//! Tried on a copy of the index first: either it merges cleanly and everything is done, or nothing is. A commit is the
//! user's to make, so HEAD and branches stay where they are; that is why it is no cherry-pick.

use std::path::{Path, PathBuf};

use client::client::Client;
use serde_json::json;

use super::{
    change::Change,
    git::{Git, said, top_of},
    naming::resolve,
};
use crate::{
    cli::task::ApplyArgs, code::Code, console::Console, failure::Failure,
    surroundings::Surroundings,
};

/// Paths are given as they are, and what the user's configuration says of white space is no reason to refuse.
const APPLY: &[&str] = &["apply", "--3way", "--whitespace=nowarn"];

/// Applies a task's change.
pub(crate) async fn run(
    args: &ApplyArgs,
    client: &Client,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let tree = tree(args.repo.as_deref(), surroundings)?;
    let id = resolve(client, &args.id).await?;
    let change = Change::of(client, &id, Some(&tree), surroundings).await?;
    let git = Git::new(&tree, surroundings);
    if !args.allow_dirty {
        expect_clean(&git, &tree).await?;
    }
    let files = touched(&git, &change.patch).await?;
    if !files.is_empty() {
        rehearse(&git, &change).await?;
        if !args.check {
            perform(&git, &change).await?;
        }
    }
    tell(args.check, &change, &tree, &files, console)?;
    Ok(Code::Done)
}

fn tree(named: Option<&Path>, surroundings: &Surroundings) -> Result<PathBuf, Failure> {
    let directory = surroundings.directory()?;
    let directory = named.map_or(directory.clone(), |named| directory.join(named));
    top_of(&directory).filter(|top| top.join(".git").try_exists().unwrap_or(false)).ok_or_else(
        || {
            Failure::usage(format!("`{}` lies in no git work tree", directory.display()))
                .with_hint("change into one, or name it with `--repo`")
        },
    )
}

async fn expect_clean(git: &Git, tree: &Path) -> Result<(), Failure> {
    let args = ["status", "--porcelain=v1", "--untracked-files=no", "--ignore-submodules=dirty"];
    let changes = git.run("look at the work tree", &args).await?;
    if changes.is_empty() {
        return Ok(());
    }
    let changes = String::from_utf8_lossy(&changes)
        .lines()
        .take(10)
        .map(ToOwned::to_owned)
        .collect::<Vec<_>>();
    Err(Failure::new(
        Code::Conflict,
        format!("`{}` has changes that are not committed", tree.display()),
    )
    .with_notes(changes)
    .with_hint("commit or stash them, or give `--allow-dirty`"))
}

/// The files that a patch touches.
async fn touched(git: &Git, patch: &[u8]) -> Result<Vec<String>, Failure> {
    if patch.is_empty() {
        return Ok(Vec::new());
    }
    let output = git.try_run(&["apply", "--numstat", "-z", "-"], patch).await?;
    if output.status != Some(0) {
        return Err(Failure::new(Code::Failed, "git does not understand the change")
            .with_notes(said(&output)));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |entry: &str| entry.splitn(3, '\t').nth(2).map(ToOwned::to_owned);
    Ok(text.split('\0').filter_map(path).collect())
}

/// Merges into a copy of the index, so that a conflict is found before a file is touched.
async fn rehearse(git: &Git, change: &Change) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::of("copy the index", &error);
    let index = git.run("find its index", &["rev-parse", "--git-path", "index"]).await?;
    let index = git.directory().join(String::from_utf8_lossy(&index).trim_end());
    let place = tempfile::tempdir().map_err(failed)?;
    let copy = place.path().join("index");
    match std::fs::copy(&index, &copy) {
        Ok(_) => {}
        // A repository without a commit has no index yet; git makes one where there is no file.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let args = [APPLY, &["--cached", "-"]].concat();
    let output = git.with_index(&copy).try_run(&args, &change.patch).await?;
    if output.status == Some(0) {
        return Ok(());
    }
    Err(Failure::new(Code::Conflict, "the change does not merge cleanly; nothing was touched")
        .with_notes(said(&output))
        .with_hint(format!("{} lets you settle the conflicts by hand", by_hand(change))))
}

/// What merges a change so that git marks its conflicts.
fn by_hand(change: &Change) -> String {
    let task = &change.task;
    let url = task.repository.as_ref().and_then(|repository| repository.url.as_deref());
    match (url, task.branch.as_deref()) {
        (None, branch) => format!("`git merge {}`", branch.unwrap_or(&change.commit)),
        (Some(url), Some(branch)) => {
            format!("`git fetch {url} {branch} && git merge FETCH_HEAD`")
        }
        // Its push was refused: nobody has a branch to merge.
        (Some(_), None) => format!("`opentiger task diff {} | git apply --3way`", task.id),
    }
}

async fn perform(git: &Git, change: &Change) -> Result<(), Failure> {
    let args = [APPLY, &["--index", "-"]].concat();
    let output = git.try_run(&args, &change.patch).await?;
    if output.status == Some(0) {
        return Ok(());
    }
    Err(Failure::new(Code::Conflict, "git refused to apply the change")
        .with_notes(said(&output))
        .with_hint(
            "files that git does not know may be in the way; `git status` shows the work tree",
        ))
}

fn tell(
    check: bool,
    change: &Change,
    tree: &Path,
    files: &[String],
    console: &Console,
) -> std::io::Result<()> {
    console.value(&json!({
        "id": change.task.id, "commit": change.commit, "tree": tree.to_string_lossy(),
        "applied": !check && !files.is_empty(), "files": files,
    }))?;
    if files.is_empty() {
        return console.line("the task changed nothing");
    }
    let count = files.len();
    let place = tree.display();
    if check {
        return console.line(format!("can be applied to {place}; files: {count}"));
    }
    console.line(format!("applied to {place}, staged and not committed; files: {count}"))?;
    for file in files {
        console.line(format!("  {file}"))?;
    }
    console.line("look at it with `git diff --cached`, and commit it")
}
