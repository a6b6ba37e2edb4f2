//! Git calls that touch a work tree: run through the launcher, with the agent's environment.
//!
//! Whatever such a call starts is ended with it, and it is stopped at the time limit by its shim even if this process is
//! gone by then.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use core_types::{ids::RunId, label};
use futures_util::StreamExt as _;
use launcher::{
    error::LaunchError,
    handle::{Destroy, Handle},
    id::LaunchId,
    launcher::Launcher,
    outcome::{ExitReport, Outcome, StopCause},
    output::{LogContent, LogCursor, LogStream},
    spec::{Input, LaunchSpec},
};

use crate::{
    error::CheckoutError,
    git::{GitCommand, guard_variables, leading_args},
};

/// Runs git for one run.
pub(crate) struct LaunchedGit<'a> {
    git: &'a GitCommand,
    launcher: &'a dyn Launcher,
    run: RunId,
    env: &'a BTreeMap<String, String>,
}

/// What such a call printed.
#[derive(Debug, Default)]
pub(crate) struct LaunchedOutput {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl<'a> LaunchedGit<'a> {
    pub(crate) const fn new(
        git: &'a GitCommand,
        launcher: &'a dyn Launcher,
        run: RunId,
        env: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { git, launcher, run, env }
    }

    pub(crate) async fn run(
        &self,
        doing: &'static str,
        args: &[&str],
        variables: [(&'static str, String); 3],
        stdin: Vec<u8>,
    ) -> Result<LaunchedOutput, CheckoutError> {
        let spec = self.spec(args, variables);
        let not_started =
            |source: LaunchError| CheckoutError::GitNotStarted { doing, source: Box::new(source) };
        let id = launch_id(self.run);
        let input = Input { stdin, ..Input::default() };
        let launched = self.launcher.launch(&id, &spec, input).await.map_err(not_started)?;
        let (report, output) = end_of(&launched.into_handle()).await;
        self.judge(doing, &report, output)
    }

    fn spec(&self, args: &[&str], variables: [(&'static str, String); 3]) -> LaunchSpec {
        let mut spec = LaunchSpec::new(self.git.program(), PathBuf::from("/"));
        spec.args = leading_args();
        spec.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        spec.env = self.env.clone();
        spec.env.retain(|key, _| !key.starts_with("GIT_"));
        spec.env.extend(guard_variables().map(|(key, value)| (key.to_owned(), value.to_owned())));
        spec.env.extend(variables.map(|(key, value)| (key.to_owned(), value)));
        spec.limits.wall = Some(self.git.timeout());
        spec.labels = labels(self.run, "seal");
        spec
    }

    fn judge(
        &self,
        doing: &'static str,
        report: &ExitReport,
        output: Result<LaunchedOutput, String>,
    ) -> Result<LaunchedOutput, CheckoutError> {
        if report.cause == Some(StopCause::WallTime) {
            return Err(CheckoutError::Timeout { doing, after: self.git.timeout() });
        }
        let output = output.map_err(|detail| CheckoutError::Git { doing, detail })?;
        let how = match &report.outcome {
            Outcome::Exited(0) => return Ok(output),
            Outcome::Exited(code) => format!("exit status {code}"),
            Outcome::Signaled(signal) => format!("signal {signal}"),
            Outcome::NeverStarted(failure) => failure.to_string(),
            Outcome::Lost(reason) => reason.to_string(),
        };
        if let Some(path) = unreadable_file(&output.stderr) {
            return Err(CheckoutError::Unreadable { path });
        }
        let last = output.stderr.lines().rev().find(|line| !line.trim().is_empty());
        Err(CheckoutError::Git {
            doing,
            detail: format!("{} ({how})", last.unwrap_or("no output")),
        })
    }
}

/// The labels by which whoever recovers a run finds what was launched for it.
pub(crate) fn labels(run: RunId, part: &str) -> BTreeMap<String, String> {
    let labels = [(label::RUN, run.to_string()), (label::PART, part.to_owned())];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

/// An id of its own for every call: a launch id is used up by its first start.
pub(crate) fn launch_id(run: RunId) -> LaunchId {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
    let text = format!("{run}.{since:x}.{:x}", call % 0x1000);
    text.parse().expect("a run id, two hexadecimal numbers and points make a launch id")
}

/// Waits for the end of a launch, reads what it printed, and removes it.
pub(crate) async fn end_of(handle: &Handle) -> (ExitReport, Result<LaunchedOutput, String>) {
    let report = handle.exited().await;
    let output = read_output(handle).await;
    if let Err(error) = handle.destroy(Destroy::Everything).await {
        tracing::debug!(launch.id = %handle.id(), error = %error, "cannot remove an ended launch");
    }
    (report, output)
}

async fn read_output(handle: &Handle) -> Result<LaunchedOutput, String> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut chunks = handle.logs(LogCursor::START);
    while let Some(chunk) = chunks.next().await {
        match chunk.map_err(|error| error.to_string())?.content {
            LogContent::Output { stream: LogStream::Stdout, data } => stdout.extend(&data),
            LogContent::Output { stream: LogStream::Stderr, data } => stderr.extend(&data),
            LogContent::Gap { dropped_bytes } => {
                return Err(format!("{dropped_bytes} bytes of its output were dropped"));
            }
        }
    }
    Ok(LaunchedOutput { stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

/// The file that `update-index` could not open.
fn unreadable_file(stderr: &str) -> Option<String> {
    let line = stderr.lines().find(|line| line.contains("): Permission denied"))?;
    Some(line.split('"').nth(1).unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unreadable_file_is_found_in_the_error() {
        let stderr = "error: open(\"a b\"): Permission denied\nfatal: Unable to process path a b\n";
        assert_eq!(unreadable_file(stderr).as_deref(), Some("a b"));
        assert_eq!(unreadable_file("fatal: something else\n"), None);
    }
}
