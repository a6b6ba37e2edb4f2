//! One call of git on a remote repository: launched, watched, and judged by what it said.
//!
//! Such a call runs through the launcher with the run's label: if this process dies, whoever takes the run back finds
//! the call and ends it, and its shim ends it at the deadline in any case.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use core_types::ids::RunId;
use launcher::{
    handle::{Handle, StopRequest},
    launcher::Launcher,
    outcome::{ExitReport, Outcome, StopCause},
    spec::{Input, LaunchSpec, OutputLimits, SecretValue},
};
use rustix::process::Pid;

use crate::{
    access::{RemoteAccess, network_settings},
    branch::BranchName,
    credentials::TokenSocket,
    error::CheckoutError,
    files::directory_bytes,
    git::{CommitId, GitCommand, leading_args_without, path_text},
    launched::{LaunchedOutput, end_of, labels, launch_id},
    trouble::{RemoteError, Trouble, detail},
    url::RepositoryUrl,
};

/// How often the size of what arrives is looked at.
const MEASURE_EVERY: Duration = Duration::from_millis(250);
/// What git may print in one call: names of branches, and what the server says.
const OUTPUT: OutputLimits = OutputLimits { head_bytes: 4 << 20, tail_bytes: 1 << 20 };

/// A repository behind a network, and how it is reached.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) url: RepositoryUrl,
    pub(crate) access: Arc<RemoteAccess>,
    pub(crate) git: GitCommand,
    pub(crate) launcher: Arc<dyn Launcher>,
    /// Where sockets may lie.
    pub(crate) private_dir: PathBuf,
}

/// What a call is given.
pub(crate) struct RemoteCall<'a> {
    pub(crate) run: RunId,
    /// The label `opentiger.part`.
    pub(crate) part: &'static str,
    pub(crate) args: Vec<String>,
    pub(crate) variables: BTreeMap<String, String>,
    /// Directories that together may not grow beyond the allowed bytes.
    pub(crate) watched: &'a [PathBuf],
}

/// What a remote says of the branch that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advertised {
    pub(crate) branch: Option<BranchName>,
    pub(crate) commit: CommitId,
}

/// The refs of a remote as it listed them, in its order, and where its `HEAD` points.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    refs: Vec<(String, CommitId)>,
    head: Option<String>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Remote {
    /// Asks for the commit of a branch, or of `HEAD` where none is named.
    pub(crate) async fn look(
        &self,
        run: RunId,
        git_dir: &Path,
        branch: Option<&BranchName>,
    ) -> Result<Advertised, CheckoutError> {
        let named = branch.map(BranchName::to_ref);
        let listing =
            self.list(run, git_dir, &["HEAD", named.as_deref().unwrap_or("HEAD")]).await?;
        let asked = match (branch, listing.head.as_deref()) {
            (Some(branch), _) => Some(branch.clone()),
            (None, Some(head)) => head.strip_prefix("refs/heads/").and_then(|n| n.parse().ok()),
            (None, None) => None,
        };
        let name = asked.as_ref().map_or_else(|| "HEAD".to_owned(), BranchName::to_ref);
        match listing.commit(&name).or_else(|| listing.commit("HEAD").filter(|_| branch.is_none()))
        {
            Some(commit) => Ok(Advertised { branch: asked, commit }),
            None => Err(self.missing(run, git_dir, asked.as_ref(), branch.is_some()).await?),
        }
    }

    /// The error of a branch that is not there, with those that are.
    async fn missing(
        &self,
        run: RunId,
        git_dir: &Path,
        branch: Option<&BranchName>,
        asked_for: bool,
    ) -> Result<CheckoutError, CheckoutError> {
        let listing = self.list(run, git_dir, &["refs/heads/*"]).await?;
        let names = listing.refs.iter().filter_map(|(name, _)| name.strip_prefix("refs/heads/"));
        let names: Vec<&str> =
            names.filter(|name| name.parse::<BranchName>().is_ok()).take(20).collect();
        let path = PathBuf::from(self.url.as_str());
        if names.is_empty() {
            return Ok(CheckoutError::NoCommit { path });
        }
        let existing = names.join(", ");
        let branch = branch.map_or_else(|| "HEAD".to_owned(), ToString::to_string);
        Ok(if asked_for {
            CheckoutError::BranchMissing { path, branch, existing }
        } else {
            CheckoutError::UnbornHead { path, branch, existing }
        })
    }

    /// Lists the refs that match one of the patterns.
    pub(crate) async fn list(
        &self,
        run: RunId,
        git_dir: &Path,
        patterns: &[&str],
    ) -> Result<Listing, CheckoutError> {
        let mut args =
            ["ls-remote", "--symref", "--quiet", "--end-of-options"].map(str::to_owned).to_vec();
        args.push(self.url.as_str().to_owned());
        args.extend(patterns.iter().map(|pattern| (*pattern).to_owned()));
        let variables = BTreeMap::from([("GIT_DIR".to_owned(), path_text(git_dir)?)]);
        let call = RemoteCall { run, part: "look", args, variables, watched: &[] };
        let (_, output) = self.run_well(call).await?;
        Ok(Listing::parse(&output.stdout))
    }

    /// Runs git and fails unless it ended with 0.
    pub(crate) async fn run_well(
        &self,
        call: RemoteCall<'_>,
    ) -> Result<(ExitReport, LaunchedOutput), CheckoutError> {
        let (report, output) = self.run(call).await?;
        match self.fault(&report, &output.stderr) {
            None => Ok((report, output)),
            Some(error) => Err(error.into()),
        }
    }

    /// Runs git and leaves it to the caller what its end means, unless the limits ended it.
    pub(crate) async fn run(
        &self,
        call: RemoteCall<'_>,
    ) -> Result<(ExitReport, LaunchedOutput), CheckoutError> {
        let token = self.access.token(&self.url);
        let socket = match token {
            Some(token) => Some(TokenSocket::open(&self.private_dir, token.clone())?),
            None => None,
        };
        let helper = socket.as_ref().map(TokenSocket::helper);
        let environment = self.access.environment(&self.git, &self.url, helper).await?;
        let mut spec = LaunchSpec::new(self.git.program(), PathBuf::from("/"));
        spec.args = leading_args_without("credential.helper");
        spec.args.extend(network_settings());
        spec.args.extend(call.args);
        spec.env = environment.plain;
        spec.env.extend(call.variables);
        spec.limits.wall = Some(self.access.timeout);
        spec.output = OUTPUT;
        spec.labels = labels(call.run, call.part);
        let private = environment.private.into_iter();
        let secret_env = private.map(|(key, value)| (key, SecretValue::new(value))).collect();
        let input = Input { secret_env, ..Input::default() };
        let launched = self.launcher.launch(&launch_id(call.run), &spec, input).await;
        let launched = launched.map_err(|source| CheckoutError::GitNotStarted {
            doing: "reach the repository",
            source: Box::new(source),
        })?;
        let handle = launched.into_handle();
        let too_large = tokio::select! {
            // Each arm may be dropped: the launch goes on without them, and its end is read below.
            _ = handle.exited() => false,
            () = serve(socket.as_ref(), &handle) => false,
            () = self.outgrown(call.watched) => true,
        };
        if too_large {
            handle.stop(StopRequest::new("it brought more than allowed", Duration::ZERO)).await;
        }
        let (report, output) = end_of(&handle).await;
        // Where little comes quickly, the end is the first time that anybody looks.
        if too_large || self.is_outgrown(call.watched).await {
            let limit = self.access.max_bytes.unwrap_or_default();
            return Err(self.error(Trouble::TooLarge, format!("more than {limit} bytes")).into());
        }
        Ok((report, output.map_err(|detail| self.error(Trouble::Failed, detail))?))
    }

    /// Returns when what arrives is larger than allowed.
    async fn outgrown(&self, watched: &[PathBuf]) {
        if self.access.max_bytes.is_none() || watched.is_empty() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(MEASURE_EVERY).await;
            if self.is_outgrown(watched).await {
                return;
            }
        }
    }

    async fn is_outgrown(&self, watched: &[PathBuf]) -> bool {
        let Some(limit) = self.access.max_bytes.filter(|_| !watched.is_empty()) else {
            return false;
        };
        let watched = watched.to_vec();
        let measure = move || Ok(watched.iter().map(|one| directory_bytes(one)).sum::<u64>());
        crate::files::blocking(measure).await.is_ok_and(|bytes| bytes > limit)
    }

    /// What an end of git means; none where it ended well.
    pub(crate) fn fault(&self, report: &ExitReport, stderr: &str) -> Option<RemoteError> {
        if report.cause == Some(StopCause::WallTime) {
            let seconds = self.access.timeout.as_secs();
            return Some(self.error(Trouble::TimedOut, format!("nothing within {seconds} s")));
        }
        let how = match &report.outcome {
            Outcome::Exited(0) => return None,
            Outcome::Exited(code) => format!("exit status {code}"),
            Outcome::Signaled(signal) => format!("signal {signal}"),
            Outcome::NeverStarted(failure) => failure.to_string(),
            Outcome::Lost(reason) => reason.to_string(),
        };
        let words = self.detail(stderr);
        Some(self.error(Trouble::of(stderr), format!("{words} ({how})")))
    }

    /// Git's words without secrets.
    pub(crate) fn detail(&self, stderr: &str) -> String {
        let token = self.access.token(&self.url).map(|token| token.token.expose());
        detail(stderr, token.as_slice())
    }

    pub(crate) fn error(&self, trouble: Trouble, detail: String) -> RemoteError {
        RemoteError { url: self.url.to_string(), trouble, detail }
    }
}

/// Answers the launch's own processes for as long as it is polled; never returns.
async fn serve(socket: Option<&TokenSocket>, handle: &Handle) {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        let leader = handle.stats().await.ok().and_then(|stats| Pid::from_raw(stats.leader_pid?));
        if let Some(leader) = leader {
            socket.serve(leader).await;
        }
        // It is not started yet, or has just ended.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Listing {
    /// Parses the output of `git ls-remote --symref`; what is no full ref and commit is left out.
    fn parse(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let mut listing = Self::default();
        for line in text.lines() {
            let Some((value, name)) = line.split_once('\t') else {
                continue;
            };
            match (value.strip_prefix("ref: "), value.parse()) {
                (Some(target), _) if name == "HEAD" => listing.head = Some(target.to_owned()),
                (None, Ok(commit)) => listing.refs.push((name.to_owned(), commit)),
                (Some(_), _) | (None, Err(_)) => {}
            }
        }
        listing
    }

    /// The commit of the ref with exactly this name.
    pub(crate) fn commit(&self, name: &str) -> Option<CommitId> {
        self.refs.iter().find(|(other, _)| other == name).map(|(_, commit)| commit.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_by_exact_names() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let output = format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{b}\trefs/heads/x/refs/heads/main\n\
             {a}\trefs/heads/main\nnoise\nzz\trefs/heads/odd\n"
        );
        let listing = Listing::parse(output.as_bytes());
        assert_eq!(listing.head.as_deref(), Some("refs/heads/main"));
        assert_eq!(listing.commit("refs/heads/main").unwrap().as_str(), a);
        assert_eq!(listing.commit("main"), None);
        assert_eq!(listing.refs.len(), 3);
    }
}
