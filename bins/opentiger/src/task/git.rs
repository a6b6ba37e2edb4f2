//! The user's own git, in the user's own repository.
//!
//! It runs with the user's environment and configuration, as if the user had typed it; what a configuration could make it
//! execute while it only looks is switched off.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use launcher::tool::{Tool, ToolOutput};

use crate::{code::Code, failure::Failure, surroundings::Surroundings};

/// How long a call may take: a merge into a large work tree may take a while.
const LIMIT: Duration = Duration::from_secs(300);
/// The longest output that is kept: a diff may be long.
const OUTPUT: usize = 256 << 20;
/// Variables besides the usual ones that say where git's own things are.
const VARIABLES: &[&str] = &["XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"];

/// A work tree, and git to use it with.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    directory: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Git {
    pub(crate) fn new(directory: &Path, surroundings: &Surroundings) -> Self {
        let mut environment = executor::environment::allow_list(surroundings.variables());
        for name in VARIABLES {
            if let Some(value) = surroundings.variable(name) {
                environment.insert((*name).to_owned(), value);
            }
        }
        environment.insert("LC_ALL".to_owned(), "C".to_owned());
        environment.insert("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned());
        Self { directory: directory.to_owned(), environment }
    }

    /// The directory in which it runs.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The same with another index than that of the work tree.
    pub(crate) fn with_index(&self, path: &Path) -> Self {
        let mut other = self.clone();
        let path = path.to_string_lossy().into_owned();
        other.environment.insert("GIT_INDEX_FILE".to_owned(), path);
        other
    }

    /// Runs a command; whatever its exit code, it is an answer.
    pub(crate) async fn try_run(&self, args: &[&str], input: &[u8]) -> Result<ToolOutput, Failure> {
        let mut tool = Tool::new("git", &self.directory);
        tool.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        tool.env.clone_from(&self.environment);
        tool.stdin = input.to_vec();
        tool.timeout = LIMIT;
        tool.output_limit = OUTPUT;
        let output = tool.run().await.map_err(|error| Failure::of("run git", &error))?;
        if output.truncated {
            let limit = crate::units::bytes(OUTPUT as u64);
            return Err(Failure::new(Code::Failed, format!("git printed more than {limit}")));
        }
        Ok(output)
    }

    /// Runs a command that is expected to succeed, and gives what it printed; `doing` completes "git could not …".
    pub(crate) async fn run(&self, doing: &str, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let output = self.try_run(args, &[]).await?;
        if output.status == Some(0) {
            return Ok(output.stdout);
        }
        Err(Failure::new(Code::Failed, format!("git could not {doing}")).with_notes(said(&output)))
    }

    /// Whether the repository has a commit.
    pub(crate) async fn has(&self, commit: &str) -> bool {
        let object = format!("{commit}^{{commit}}");
        let found = self.try_run(&["cat-file", "-e", &object], &[]).await;
        found.is_ok_and(|output| output.status == Some(0))
    }
}

/// What git said about its failure, a line for each.
pub(crate) fn said(output: &ToolOutput) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().take(20).map(ToOwned::to_owned).collect()
}

/// The top of the work tree or repository around a directory.
pub(crate) fn top_of(directory: &Path) -> Option<PathBuf> {
    let directory = std::fs::canonicalize(directory).ok()?;
    let is_top = |path: &&Path| {
        let bare = || path.join("HEAD").is_file() && path.join("objects").is_dir();
        path.join(".git").try_exists().unwrap_or(false) || bare()
    };
    directory.ancestors().find(is_top).map(Path::to_owned)
}
