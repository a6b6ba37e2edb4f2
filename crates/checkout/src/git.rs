//! How this crate runs git: one environment, one set of overrides, one way to fail.
//!
//! Every call has a cleared environment, reads no system or user configuration, prompts for nothing, speaks no protocol
//! but plain files, fetches nothing lazily, and overrides what a repository's own configuration could execute.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use launcher::{
    spec::UserId,
    tool::{Tool, ToolError},
};

use crate::error::CheckoutError;

/// The identity on every commit that openTiger makes.
pub const IDENTITY_NAME: &str = "openTiger";
/// The mail address on every commit that openTiger makes.
pub const IDENTITY_MAIL: &str = "opentiger@localhost";

/// Overrides for whatever a repository's configuration says.
const OVERRIDES: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.sshCommand=false",
    "core.alternateRefsCommand=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.quotePath=false",
    "core.fsyncMethod=batch",
    "credential.helper=",
    "protocol.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "advice.detachedHead=false",
];

/// Most bytes of an error text that go into an error.
const DETAIL_LIMIT: usize = 600;

/// The full name of a commit, as git writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitId(String);

/// A text that is no full commit name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a full commit name: expected 40 or 64 lower-case hexadecimal digits")]
pub struct InvalidCommitId;

impl CommitId {
    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for CommitId {
    type Err = InvalidCommitId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if matches!(text.len(), 40 | 64) && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidCommitId)
        }
    }
}

/// The git program of this host.
#[derive(Debug, Clone)]
pub struct GitCommand {
    program: PathBuf,
    search_path: String,
    timeout: Duration,
}

impl GitCommand {
    /// Wraps a git program; `search_path` becomes its `PATH`.
    #[must_use]
    pub const fn new(program: PathBuf, search_path: String) -> Self {
        Self { program, search_path, timeout: Duration::from_secs(300) }
    }

    /// Finds `git` in a list of directories separated by `:`.
    ///
    /// # Errors
    /// [`CheckoutError::GitNotStarted`] where none of them has it.
    pub fn find(search_path: &str) -> Result<Self, CheckoutError> {
        let candidate = |directory: &str| Path::new(directory).join("git");
        search_path
            .split(':')
            .filter(|directory| directory.starts_with('/'))
            .map(candidate)
            .find(|program| program.is_file())
            .map(|program| Self::new(program, search_path.to_owned()))
            .ok_or_else(|| CheckoutError::GitNotStarted {
                doing: "start",
                source: format!("no `git` in `{search_path}`").into(),
            })
    }

    /// The same command with another limit for the duration of each call; 300 s unless told.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its `PATH`.
    pub(crate) fn search_path(&self) -> &str {
        &self.search_path
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Begins a call; `doing` completes "git could not …".
    pub(crate) fn call(&self, doing: &'static str) -> GitCall<'_> {
        GitCall {
            git: self,
            doing,
            args: Vec::new(),
            env: environment(&self.search_path),
            stdin: Vec::new(),
            user: None,
            output_limit: 64 << 20,
            memory: None,
        }
    }
}

/// The arguments that stand before git's subcommand in every call.
pub(crate) fn leading_args() -> Vec<String> {
    leading_args_without("")
}

/// The same without the override of one setting, which the environment says in its place: an argument would win.
pub(crate) fn leading_args_without(setting: &str) -> Vec<String> {
    let kept = |over: &&&str| over.split('=').next() != Some(setting);
    let overrides = OVERRIDES.iter().filter(kept);
    let overrides = overrides.flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]);
    overrides.chain(["--no-pager".to_owned(), "--no-replace-objects".to_owned()]).collect()
}

/// The variables that every call has, beside `PATH` the only ones.
pub(crate) fn guard_variables() -> [(&'static str, &'static str); 16] {
    [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "false"),
        ("GIT_EDITOR", "false"),
        ("GIT_ALLOW_PROTOCOL", "file"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_ADVICE", "0"),
        ("GIT_AUTHOR_NAME", IDENTITY_NAME),
        ("GIT_AUTHOR_EMAIL", IDENTITY_MAIL),
        ("GIT_COMMITTER_NAME", IDENTITY_NAME),
        ("GIT_COMMITTER_EMAIL", IDENTITY_MAIL),
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
    ]
}

fn environment(search_path: &str) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> =
        guard_variables().map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    env.insert("PATH".to_owned(), search_path.to_owned());
    env.insert("HOME".to_owned(), "/nonexistent".to_owned());
    env
}

/// One call of git, being put together.
pub(crate) struct GitCall<'a> {
    git: &'a GitCommand,
    doing: &'static str,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    stdin: Vec<u8>,
    user: Option<UserId>,
    output_limit: usize,
    memory: Option<u64>,
}

/// What a call of git left behind.
#[derive(Debug)]
pub(crate) struct GitOutput {
    pub(crate) success: bool,
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    how: String,
}

impl GitCall<'_> {
    /// Finds the repository from a directory, as git itself does.
    pub(crate) fn inside(mut self, directory: &Path) -> Result<Self, CheckoutError> {
        self.args.extend(["-C".to_owned(), path_text(directory)?]);
        Ok(self)
    }

    /// Uses this git directory without looking for one.
    pub(crate) fn git_dir(mut self, directory: &Path) -> Result<Self, CheckoutError> {
        self.env.insert("GIT_DIR".to_owned(), path_text(directory)?);
        Ok(self)
    }

    pub(crate) fn work_tree(mut self, directory: &Path) -> Result<Self, CheckoutError> {
        self.env.insert("GIT_WORK_TREE".to_owned(), path_text(directory)?);
        Ok(self)
    }

    /// Reads objects from this directory instead of the git directory's own.
    pub(crate) fn objects(mut self, directory: &str) -> Self {
        self.env.insert("GIT_OBJECT_DIRECTORY".to_owned(), directory.to_owned());
        self
    }

    pub(crate) fn run_as(mut self, user: Option<UserId>) -> Self {
        self.user = user;
        self
    }

    pub(crate) fn args<'t>(mut self, args: impl IntoIterator<Item = &'t str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    pub(crate) fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = bytes;
        self
    }

    pub(crate) const fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    pub(crate) const fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Runs git and fails unless it ended with 0.
    pub(crate) async fn run(self) -> Result<GitOutput, CheckoutError> {
        let doing = self.doing;
        let output = self.try_run().await?;
        if output.success { Ok(output) } else { Err(output.into_error(doing)) }
    }

    /// Runs git and leaves it to the caller what its exit status means.
    pub(crate) async fn try_run(self) -> Result<GitOutput, CheckoutError> {
        let (doing, limit) = (self.doing, self.output_limit);
        let (output, truncated) = self.run_whatever_comes().await?;
        if truncated {
            let detail = format!("its output is larger than {limit} bytes");
            return Err(CheckoutError::Git { doing, detail });
        }
        Ok(output)
    }

    /// Runs git, fails unless it ended with 0, and cuts its output at the limit; tells whether it did.
    pub(crate) async fn run_cut(
        self,
        doing: &'static str,
    ) -> Result<(Vec<u8>, bool), CheckoutError> {
        let (output, truncated) = self.run_whatever_comes().await?;
        if output.success { Ok((output.stdout, truncated)) } else { Err(output.into_error(doing)) }
    }

    async fn run_whatever_comes(self) -> Result<(GitOutput, bool), CheckoutError> {
        let (doing, timeout) = (self.doing, self.git.timeout);
        let tool = Tool {
            program: self.git.program.clone(),
            args: leading_args().into_iter().chain(self.args).collect(),
            env: self.env,
            cwd: PathBuf::from("/"),
            stdin: self.stdin,
            timeout,
            output_limit: self.output_limit,
            user: self.user,
            memory: self.memory,
        };
        let output = tool.run().await.map_err(|error| tool_error(doing, timeout, error))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let truncated = output.truncated;
        let how = match (output.status, output.signal) {
            (Some(status), _) => format!("exit status {status}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit status".to_owned(),
        };
        let (success, status) = (output.status == Some(0), output.status);
        let output = GitOutput { success, status, stdout: output.stdout, stderr, how };
        Ok((output, truncated))
    }
}

impl GitOutput {
    /// The output as text without the line end at its end.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    /// The output as a commit name.
    pub(crate) fn commit(&self) -> Option<CommitId> {
        self.text().parse().ok()
    }

    /// The error text, on one line and cut.
    pub(crate) fn detail(&self) -> String {
        let lines: Vec<&str> =
            self.stderr.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let text = lines.join("; ");
        let end = text.floor_char_boundary(DETAIL_LIMIT);
        let cut = text.get(..end).unwrap_or_default();
        if cut.is_empty() { self.how.clone() } else { format!("{cut} ({})", self.how) }
    }

    pub(crate) fn into_error(self, doing: &'static str) -> CheckoutError {
        CheckoutError::Git { doing, detail: self.detail() }
    }
}

fn tool_error(doing: &'static str, after: Duration, error: ToolError) -> CheckoutError {
    match error {
        ToolError::TimedOut { .. } => CheckoutError::Timeout { doing, after },
        other => CheckoutError::GitNotStarted { doing, source: Box::new(other) },
    }
}

/// A path as an argument for git.
pub(crate) fn path_text(path: &Path) -> Result<String, CheckoutError> {
    path.to_str().map(str::to_owned).ok_or_else(|| CheckoutError::Io {
        doing: "pass on",
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path is not UTF-8"),
    })
}
