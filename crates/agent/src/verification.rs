//! A task's verification commands: run after everything the agent started is dead, with a fresh home, a fresh
//! temporary directory, a clean environment and no shell.

use std::{collections::BTreeMap, path::Path, time::Duration};

use core_types::{
    event::{RunEvent, cut_text},
    ids::RunKey,
};
use futures_util::StreamExt as _;
use launcher::{
    handle::{Handle, StopRequest},
    launcher::Launcher,
    outcome::{ExitReport, StopCause},
    output::{LogContent, LogCursor},
    spec::{Input, LaunchSpec, Limits, OutputLimits, StopPolicy, StopSignal},
};
use telemetry::chain::error_chain;

use crate::{
    heartbeat::{Authority, Heartbeat},
    policy::{LAUNCH_LEASE, LEASE_GRACE},
    recorder::Recorder,
};

/// Output of a command kept on disk, in bytes: the end says what failed.
const KEPT_HEAD: u64 = 64 * 1024;
const KEPT_TAIL: u64 = 192 * 1024;
/// Output of a command kept in its event, in bytes.
const SHOWN: usize = 16 * 1024;

/// What verification needs.
#[derive(Debug)]
pub struct Verification<'a> {
    /// The run.
    pub key: RunKey,
    /// Where the commands run.
    pub work: &'a Path,
    /// A directory of the run's own; fresh homes and temporary directories are made in it.
    pub scratch: &'a Path,
    /// `PATH` of the commands.
    pub path: &'a str,
    /// Longest time of one command.
    pub timeout: Duration,
    /// Time between asking a command to end and ending it.
    pub grace: Duration,
    /// Starts the commands.
    pub launcher: &'a dyn Launcher,
    /// Keeps them alive with the run and says when to stop.
    pub heartbeat: &'a Heartbeat,
    /// Takes the events.
    pub recorder: &'a Recorder,
}

/// What came of the verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Every command passed.
    Passed,
    /// A command failed; the ones after it did not run.
    Failed {
        /// One line for people.
        message: String,
    },
    /// The run had to stop.
    Stopped(Authority),
}

impl Verification<'_> {
    /// Runs the commands in order up to the first that fails.
    pub async fn run(&self, commands: &[Vec<String>]) -> Verified {
        for (index, command) in commands.iter().enumerate() {
            let verified = self.run_one(index, command).await;
            if verified != Verified::Passed {
                return verified;
            }
        }
        Verified::Passed
    }

    async fn run_one(&self, index: usize, command: &[String]) -> Verified {
        let (passed, status, output) = match self.launch(index, command).await {
            Err(text) => (false, text, String::new()),
            Ok(handle) => {
                self.heartbeat.hold(Some(handle.clone()));
                let ended = self.wait(&handle).await;
                self.heartbeat.hold(None);
                match ended {
                    Err(authority) => return Verified::Stopped(authority),
                    Ok(ended) => (ended.passed, ended.status, last_output(&handle).await),
                }
            }
        };
        let message = format!("verification `{}` failed: {status}", command.join(" "));
        let output = cut_text(&output, SHOWN);
        let event = RunEvent::Verification { command: command.to_vec(), passed, status, output };
        self.recorder.record(event).await;
        if passed { Verified::Passed } else { Verified::Failed { message } }
    }

    async fn launch(&self, index: usize, command: &[String]) -> Result<Handle, String> {
        let [program, args @ ..] = command else {
            return Err("the command is empty".to_owned());
        };
        let env = self
            .fresh_environment(index)
            .map_err(|error| format!("cannot make a home for it: {error}"))?;
        let spec = LaunchSpec {
            program: program.into(),
            args: args.to_vec(),
            env,
            cwd: self.work.to_path_buf(),
            user: None,
            limits: Limits { wall: Some(self.timeout), ..Limits::default() },
            output: OutputLimits { head_bytes: KEPT_HEAD, tail_bytes: KEPT_TAIL },
            stop: StopPolicy { grace: self.grace.min(LEASE_GRACE), signal: StopSignal::Terminate },
            lease: Some(LAUNCH_LEASE),
            labels: crate::run::launch_labels(self.key),
        };
        let id = format!("{}.{}.verify{index}", self.key.run, self.key.lease)
            .parse()
            .map_err(|error| format!("{error}"))?;
        match self.launcher.launch(&id, &spec, Input::default()).await {
            Ok(launched) => Ok(launched.into_handle()),
            Err(error) => Err(format!("{} ({})", error_chain(&error), error.hint())),
        }
    }

    /// HOME and TMPDIR that nothing has touched before.
    fn fresh_environment(&self, index: usize) -> std::io::Result<BTreeMap<String, String>> {
        let base = self.scratch.join(format!("verify{index}"));
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), self.path.to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("CI".to_owned(), "true".to_owned()),
        ]);
        for (name, directory) in [("HOME", base.join("home")), ("TMPDIR", base.join("tmp"))] {
            std::fs::create_dir_all(&directory)?;
            env.insert(name.to_owned(), directory.to_string_lossy().into_owned());
        }
        Ok(env)
    }

    async fn wait(&self, handle: &Handle) -> Result<Ended, Authority> {
        let mut authority = self.heartbeat.authority();
        // Both arms are cancel-safe: each only waits for a state.
        let stopped = tokio::select! {
            report = handle.exited() => return Ok(Ended::of(&report)),
            state = authority.wait_for(|now| *now != Authority::Held) => state.map(|now| *now),
        };
        match stopped {
            Err(_) => Ok(Ended::of(&handle.exited().await)),
            Ok(authority) => {
                handle.stop(StopRequest::new("its run must stop", self.grace)).await;
                Err(authority)
            }
        }
    }
}

struct Ended {
    passed: bool,
    status: String,
}

impl Ended {
    fn of(report: &ExitReport) -> Self {
        let timed_out = matches!(report.cause, Some(StopCause::WallTime));
        let passed = report.is_success();
        let status = if timed_out {
            "it took longer than its limit".to_owned()
        } else {
            report.outcome.to_string()
        };
        Self { passed, status }
    }
}

/// The end of what a command printed, standard output and error as they came.
async fn last_output(handle: &Handle) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut logs = Box::pin(handle.logs(LogCursor::default()));
    while let Some(Ok(chunk)) = logs.next().await {
        match chunk.content {
            LogContent::Output { data, .. } => kept.extend_from_slice(&data),
            LogContent::Gap { dropped_bytes } => {
                kept.extend_from_slice(format!("\n… [{dropped_bytes} bytes dropped]\n").as_bytes());
            }
        }
    }
    let start = kept.len().saturating_sub(SHOWN);
    let tail = kept.get(start..).unwrap_or_default();
    String::from_utf8_lossy(tail).into_owned()
}
