//! A task's verification commands: run after everything the agent started is dead, with a fresh home, a fresh
//! temporary directory, a clean environment and no shell.

use std::{collections::BTreeMap, time::Duration};

use checkout::{checkouts::Checkout, error::CheckoutError};
use core_types::{
    event::{RunEvent, cut_text},
    ids::RunKey,
};
use futures_util::StreamExt as _;
use launcher::{
    error::LaunchError,
    handle::{Handle, StopRequest},
    outcome::{ExitReport, StopCause},
    output::{LogContent, LogCursor},
    spec::{Input, LaunchSpec, Limits, OutputLimits, StopPolicy, StopSignal},
};
use telemetry::chain::error_chain;

use crate::{around::Around, heartbeat::Authority, policy::LEASE_GRACE};

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
    /// What surrounds the run.
    pub around: &'a Around<'a>,
    /// The checkout in which the commands run.
    pub checkout: &'a Checkout,
    /// `PATH` of the commands.
    pub path: &'a str,
    /// Longest time of one command.
    pub timeout: Duration,
    /// Time between asking a command to end and ending it.
    pub grace: Duration,
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
    /// A command could not be started for want of something on this host.
    Fault {
        /// One line for people.
        message: String,
    },
    /// The run had to stop; [`Authority::Held`] means that the worker itself stops.
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
        // A paused worker may have lost its run; and a launch gets no longer lease than the run's own.
        let authority = self.around.confirm().await;
        if authority != Authority::Held || self.around.stop.is_cancelled() {
            return Verified::Stopped(authority);
        }
        let (passed, status, output) = match self.launch(index, command).await {
            Err(NotStarted::Command(text)) => (false, text, String::new()),
            Err(NotStarted::Host(message)) => return Verified::Fault { message },
            Ok(handle) => {
                self.around.heartbeat.hold(Some(handle.clone()));
                let ended = self.wait(&handle).await;
                self.around.heartbeat.hold(None);
                let left = self.around.end_rest("a verification command").await;
                match ended {
                    Err(authority) => return Verified::Stopped(authority),
                    Ok(ended) => {
                        let passed = ended.passed && left == 0;
                        (passed, ended.status, last_output(&handle).await)
                    }
                }
            }
        };
        let message = format!("verification `{}` failed: {status}", command.join(" "));
        let output = cut_text(&output, SHOWN);
        let event = RunEvent::Verification { command: command.to_vec(), passed, status, output };
        self.around.recorder.record(event).await;
        if passed { Verified::Passed } else { Verified::Failed { message } }
    }

    async fn launch(&self, index: usize, command: &[String]) -> Result<Handle, NotStarted> {
        let [program, args @ ..] = command else {
            return Err(NotStarted::Command("the command is empty".to_owned()));
        };
        let env = self.fresh_environment();
        let env = env.map_err(|error| NotStarted::Host(error_chain(&error).to_string()))?;
        let spec = LaunchSpec {
            program: program.into(),
            args: args.to_vec(),
            env,
            cwd: self.checkout.work.clone(),
            user: None,
            limits: Limits { wall: Some(self.timeout), ..Limits::default() },
            output: OutputLimits { head_bytes: KEPT_HEAD, tail_bytes: KEPT_TAIL },
            stop: StopPolicy { grace: self.grace.min(LEASE_GRACE), signal: StopSignal::Terminate },
            lease: Some(self.around.heartbeat.launch_lease()),
            labels: crate::run::launch_labels(self.key),
            container: None,
        };
        let id = format!("{}.{}.verify{index}", self.key.run, self.key.lease)
            .parse()
            .expect("a run id and a number make a launch id");
        match self.around.launcher.launch(&id, &spec, Input::default()).await {
            Ok(launched) => Ok(launched.into_handle()),
            Err(error) => {
                let text = format!("{} ({})", error_chain(&error), error.hint());
                Err(match error {
                    LaunchError::ProgramMissing { .. } | LaunchError::NotExecutable { .. } => {
                        NotStarted::Command(text)
                    }
                    _ => NotStarted::Host(text),
                })
            }
        }
    }

    /// HOME and TMPDIR that nothing has touched before, not even in wait for us.
    fn fresh_environment(&self) -> Result<BTreeMap<String, String>, CheckoutError> {
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), self.path.to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("CI".to_owned(), "true".to_owned()),
        ]);
        for name in ["HOME", "TMPDIR"] {
            let directory = self.checkout.fresh_directory("verify")?;
            env.insert(name.to_owned(), directory.to_string_lossy().into_owned());
        }
        Ok(env)
    }

    async fn wait(&self, handle: &Handle) -> Result<Ended, Authority> {
        // Both arms are cancel-safe: each only waits for a state.
        let authority = tokio::select! {
            report = handle.exited() => return Ended::of(&report),
            authority = self.around.told_to_stop() => authority,
        };
        handle.stop(StopRequest::new("its run must stop", self.grace.min(LEASE_GRACE))).await;
        Err(authority)
    }
}

/// Why a command was not started.
enum NotStarted {
    /// It cannot be started anywhere.
    Command(String),
    /// This host could not start it now.
    Host(String),
}

struct Ended {
    passed: bool,
    status: String,
}

impl Ended {
    /// How a command ended by itself or at its limit; where the shim ended it for want of a lease, its end says nothing.
    fn of(report: &ExitReport) -> Result<Self, Authority> {
        let status = match &report.cause {
            Some(StopCause::LeaseExpired | StopCause::EngineOrOperator { .. }) => {
                return Err(Authority::Unreachable);
            }
            Some(StopCause::WallTime) => "it took longer than its limit".to_owned(),
            Some(StopCause::Requested { .. }) | None => report.outcome.to_string(),
        };
        Ok(Self { passed: report.is_success() && report.survivors == 0, status })
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
