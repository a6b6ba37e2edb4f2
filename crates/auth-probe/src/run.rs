//! One call of a command line: started, read, and ended in time.

use std::{collections::BTreeMap, time::Duration};

use core_types::{
    auth::{AuthReason, CheckedBy},
    secret::Secret,
};
use executor::{
    claude_code::reader::ClaudeReader,
    invocation::{Invocation, Protocol},
    opencode::reader::OpencodeReader,
    stream::StreamReader,
    verdict::{AgentEnd, EndedHow, StopKind, Verdict},
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use launcher::{
    error::LaunchError,
    handle::{Destroy, Handle, StopRequest},
    id::LaunchId,
    launcher::Launched,
    outcome::{ExitReport, Outcome, StartFailure, StopCause},
    output::{LogContent, LogCursor, LogStream},
    spec::{Input, LaunchSpec, Limits, OutputLimits, SecretValue, StopPolicy, StopSignal},
};
use telemetry::chain::error_chain;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::{finding::Finding, place::Spot};

/// Time between asking a command line to end and ending it.
const GRACE: Duration = Duration::from_millis(500);
/// How long one that gave its last word may take to exit.
const LINGER: Duration = Duration::from_secs(2);
/// How long one that only repeats a failed call is waited for.
const REPEATS: Duration = Duration::from_secs(3);
/// The shim's own limit stands this far behind ours, for the case that we are gone.
const BEHIND: Duration = Duration::from_secs(10);
/// What of the output is kept in memory; the answers looked for are far shorter.
const MOST_OUTPUT: usize = 8 << 20;
const OUTPUT: OutputLimits = OutputLimits { head_bytes: 8 << 20, tail_bytes: 1 << 20 };

/// What came of a call.
pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) last_error: Option<String>,
    pub(crate) end: AgentEnd,
    pub(crate) verdict: Verdict,
}

/// Makes a call; when this returns, nothing that it started is alive.
///
/// # Cancel safety
/// Dropped, the call ends by its limit of time.
pub(crate) async fn run(
    spot: &Spot,
    call: &Invocation,
    by: CheckedBy,
    within: Duration,
) -> Result<Ran, Finding> {
    let deadline = Instant::now() + within;
    let id: LaunchId =
        format!("check-{}", Uuid::new_v4().simple()).parse().expect("it is a valid launch id");
    let handle = match start(spot, &id, call, within).await {
        Ok(handle) => handle,
        Err(error) => {
            forget(spot, &id).await;
            return Err(not_started(&error, by));
        }
    };
    let mut reading = Reading::new(call, &spot.secrets);
    let stopped = reading.follow(&handle, deadline).await;
    let report = handle.exited().await;
    if let Err(error) = handle.destroy(Destroy::Everything).await {
        tracing::warn!(error = %error_chain(&error), "launch of a check not removed");
    }
    if let Outcome::NeverStarted(failure) = &report.outcome {
        return Err(failed_start(failure, by));
    }
    Ok(reading.finish(&report, stopped))
}

async fn start(
    spot: &Spot,
    id: &LaunchId,
    call: &Invocation,
    within: Duration,
) -> Result<Handle, LaunchError> {
    let spec = (spot.dress)(LaunchSpec {
        args: call.args.clone(),
        env: call.env.clone(),
        limits: Limits { wall: Some(within + BEHIND), ..Limits::default() },
        output: OUTPUT,
        stop: StopPolicy { grace: GRACE, signal: StopSignal::Terminate },
        labels: BTreeMap::from([("opentiger.check".to_owned(), "login".to_owned())]),
        ..LaunchSpec::new(&call.program, &spot.place.cwd)
    });
    let secrets = call.secret_env.iter();
    let secret_env =
        secrets.map(|(name, value)| (name.clone(), SecretValue::new(value.expose()))).collect();
    let input = Input { stdin: call.stdin.clone(), secret_env, assignment: None };
    spot.launcher.launch(id, &spec, input).await.map(Launched::into_handle)
}

/// Removes what a launch that failed has left, where there is something.
async fn forget(spot: &Spot, id: &LaunchId) {
    let found = spot.launcher.discover().await.unwrap_or_default();
    let Some(left) = found.into_iter().find(|left| left.id == *id) else {
        return;
    };
    if let Ok(handle) = spot.launcher.attach(&left.record).await {
        handle.destroy(Destroy::Everything).await.ok();
    }
}

/// What is read of a call.
struct Reading {
    reader: StreamReader,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Reading {
    fn new(call: &Invocation, more: &[Secret]) -> Self {
        let secrets = call.secret_env.values().chain(more).cloned().collect();
        let reader = match call.protocol {
            Protocol::ClaudeStreamJson => {
                StreamReader::ClaudeCode(Box::new(ClaudeReader::new(secrets)))
            }
            Protocol::OpencodeJson => {
                StreamReader::Opencode(Box::new(OpencodeReader::new(secrets)))
            }
        };
        Self { reader, stdout: Vec::new(), stderr: Vec::new() }
    }

    /// Reads to the end, or ends the call when its time is up; tells whether it did.
    async fn follow(&mut self, handle: &Handle, deadline: Instant) -> Option<StopKind> {
        let mut logs = handle.logs(LogCursor::START);
        let mut patience: Option<Instant> = None;
        loop {
            let until = patience.map_or(deadline, |end| end.min(deadline));
            // Cancel safe: a chunk that was not taken is read again.
            let chunk = tokio::select! {
                chunk = logs.next() => chunk,
                () = sleep_until(until) => {
                    let done = self.reader.final_seen();
                    handle.stop(StopRequest::new("its time is up", GRACE)).await;
                    return (!done).then_some(StopKind::Total);
                }
            };
            match chunk {
                Some(Ok(chunk)) => self.take(chunk.content),
                // The end says what is to be said.
                Some(Err(_)) | None => break,
            }
            let wait = if self.reader.final_seen() {
                Some(LINGER)
            } else {
                self.reader.only_repeats().then_some(REPEATS)
            };
            patience = wait.map(|wait| patience.unwrap_or_else(|| Instant::now() + wait));
        }
        tokio::select! {
            _ = handle.exited() => {}
            () = sleep_until(deadline) => {
                handle.stop(StopRequest::new("its time is up", GRACE)).await;
            }
        }
        None
    }

    fn take(&mut self, content: LogContent) {
        let LogContent::Output { stream, data } = content else {
            return;
        };
        let kept = match stream {
            LogStream::Stdout => {
                self.reader.push(&data);
                &mut self.stdout
            }
            LogStream::Stderr => {
                self.reader.push_stderr(&data);
                &mut self.stderr
            }
        };
        let room = MOST_OUTPUT.saturating_sub(kept.len());
        kept.extend(data.iter().take(room));
    }

    fn finish(self, report: &ExitReport, stopped: Option<StopKind>) -> Ran {
        let stopped = stopped.or_else(|| {
            matches!(report.cause, Some(StopCause::WallTime)).then_some(StopKind::Total)
        });
        let how = match &report.outcome {
            Outcome::Exited(code) => EndedHow::Exited(*code),
            Outcome::Signaled(signal) => EndedHow::Signaled(*signal),
            Outcome::NeverStarted(failure) => {
                EndedHow::NeverStarted { text: failure.to_string(), hint: None }
            }
            Outcome::Lost(reason) => EndedHow::Lost { text: reason.to_string() },
        };
        let end =
            AgentEnd { how, stopped, out_of_memory: report.out_of_memory, at: Timestamp::now() };
        let verdict = self.reader.finish(&end);
        Ran { last_error: last_line(&self.stderr), stdout: self.stdout, end, verdict }
    }
}

fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(core_types::event::cut_text(line, 300))
}

/// What a launch that failed says; typed errors before anything that a program prints.
fn not_started(error: &LaunchError, by: CheckedBy) -> Finding {
    let reason = match error {
        LaunchError::ProgramMissing { .. } => AuthReason::CliMissing,
        LaunchError::NotExecutable { .. }
        | LaunchError::NeverStarted(StartFailure::InterpreterMissing { .. }) => {
            AuthReason::CliIncompatible
        }
        _ => AuthReason::Unknown,
    };
    let detail = format!("{}; {}", error_chain(error), error.hint());
    Finding::new(reason, by).with_detail(detail)
}

fn failed_start(failure: &StartFailure, by: CheckedBy) -> Finding {
    not_started(&LaunchError::from(failure.clone()), by)
}
