//! What a task changed: from the repository where its commit is there, else from the server.

use std::path::Path;

use client::client::Client;

use super::git::Git;
use crate::{
    code::Code,
    failure::Failure,
    shape::{Task, read},
    surroundings::Surroundings,
};

/// A change as a patch that `git apply` takes.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The task.
    pub(crate) task: Task,
    /// The commit that holds it.
    pub(crate) commit: String,
    /// The bytes, binary files included.
    pub(crate) patch: Vec<u8>,
}

impl Change {
    /// The change of a task. `tree` is looked at for the commit before the task's own repository is.
    ///
    /// # Errors
    /// The task has no result, or nobody here has it whole.
    pub(crate) async fn of(
        client: &Client,
        id: &str,
        tree: Option<&Path>,
        surroundings: &Surroundings,
    ) -> Result<Self, Failure> {
        let task: Task = read("a task", &client.get(&format!("/tasks/{id}")).await?)?;
        let Some(commit) = task.commit.clone() else {
            let why = task.why(jiff::Timestamp::now());
            return Err(Failure::new(
                Code::NotFound,
                format!("the task is {} and has no result", task.status),
            )
            .with_notes(Some(why).filter(|why| !why.is_empty())));
        };
        let base = task.run_of_commit().and_then(|run| run.base_commit.clone());
        let own = task.repository.as_ref().and_then(|repository| repository.path.clone());
        let places = tree.map(Path::to_owned).into_iter().chain(own.map(Into::into));
        if let Some(base) = &base {
            for place in places.filter(|place| place.is_dir()) {
                let git = Git::new(&place, surroundings);
                if git.has(&commit).await && git.has(base).await {
                    let patch = local(&git, base, &commit).await?;
                    return Ok(Self { task, commit, patch });
                }
            }
        }
        let patch = remote(client, id).await?;
        Ok(Self { task, commit, patch })
    }
}

async fn local(git: &Git, base: &str, commit: &str) -> Result<Vec<u8>, Failure> {
    let args = [
        "-c",
        "core.quotePath=false",
        "diff",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--binary",
        "--full-index",
        "--no-renames",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        base,
        commit,
        "--",
    ];
    git.run("show the change", &args).await
}

/// The patch is whole or not there: the server refuses one that is too long.
async fn remote(client: &Client, id: &str) -> Result<Vec<u8>, Failure> {
    Ok(client.bytes(&format!("/tasks/{id}/diff"), "text/x-diff").await?.to_vec())
}
