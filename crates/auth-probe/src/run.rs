//! One call of a command line: started, read, and ended in time.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use core_types::{
    auth::{AuthReason, CheckedBy},
    label,
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
use sandbox::relay::clients::CHECK_PREFIX;
use telemetry::chain::error_chain;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use uuid::Uuid;

use crate::{finding::Finding, owner, place::Spot, sandboxed::of_launch};

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

/// How long a launch that was told to end may take to be gone, and how long removing what is left of it.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A program to call, complete.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) secret_env: BTreeMap<String, Secret>,
    pub(crate) stdin: Vec<u8>,
}

/// What was heard of a call.
pub(crate) struct Heard {
    pub(crate) stdout: Vec<u8>,
    pub(crate) last_error: Option<String>,
    pub(crate) end: AgentEnd,
    reader: Option<StreamReader>,
}

/// What came of a call of an agent's command line.
pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) last_error: Option<String>,
    pub(crate) end: AgentEnd,
    pub(crate) verdict: Verdict,
}

/// Calls an agent's command line; when this returns, nothing that it started is alive.
///
/// # Cancel safety
/// Dropped, the call ends by its limit of time.
pub(crate) async fn run(
    spot: &Spot,
    invocation: &Invocation,
    by: CheckedBy,
    deadline: Instant,
) -> Result<Ran, Finding> {
    let secrets = invocation.secret_env.values().chain(spot.secret_env.values());
    let secrets = secrets.chain(&spot.secrets).cloned().collect();
    let reader = match invocation.protocol {
        Protocol::ClaudeStreamJson => {
            StreamReader::ClaudeCode(Box::new(ClaudeReader::new(secrets)))
        }
        Protocol::OpencodeJson => StreamReader::Opencode(Box::new(OpencodeReader::new(secrets))),
    };
    let call = Call {
        program: invocation.program.clone(),
        args: invocation.args.clone(),
        env: invocation.env.clone(),
        secret_env: invocation.secret_env.clone(),
        stdin: invocation.stdin.clone(),
    };
    let heard = hear(spot, &call, Some(reader), by, deadline).await?;
    let Heard { stdout, last_error, end, reader } = heard;
    let reader = reader.expect("it was given one");
    Ok(Ran { stdout, last_error, verdict: reader.finish(&end), end })
}

/// Makes a call and hears it to its end, or ends it at the deadline; when this returns, nothing that it started is alive.
///
/// # Cancel safety
/// Dropped, the call ends by its limit of time.
pub(crate) async fn hear(
    spot: &Spot,
    call: &Call,
    reader: Option<StreamReader>,
    by: CheckedBy,
    deadline: Instant,
) -> Result<Heard, Finding> {
    let id = Uuid::new_v4().simple();
    let id: LaunchId = format!("{CHECK_PREFIX}{id}").parse().expect("it is a valid launch id");
    let handle = match timeout_at(deadline, start(spot, &id, call, deadline)).await {
        Ok(Ok(handle)) => handle,
        Ok(Err(error)) => {
            forget(spot, &id).await;
            return Err(not_started(&error, by));
        }
        Err(_) => {
            forget(spot, &id).await;
            return Err(late(by, "it did not start in time"));
        }
    };
    let mut reading = Reading { reader, stdout: Vec::new(), stderr: Vec::new() };
    let stopped = reading.follow(&handle, deadline).await;
    let Ok(report) = timeout(GONE_WITHIN, handle.exited()).await else {
        return Err(late(
            by,
            "it does not end; it is killed at the latest by its own limit of time",
        ));
    };
    destroy(&handle).await;
    if let Outcome::NeverStarted(failure) = &report.outcome {
        return Err(failed_start(failure, by));
    }
    Ok(reading.finish(&report, stopped))
}

async fn start(
    spot: &Spot,
    id: &LaunchId,
    call: &Call,
    deadline: Instant,
) -> Result<Handle, LaunchError> {
    let within = deadline.saturating_duration_since(Instant::now());
    let spec = (spot.dress)(LaunchSpec {
        args: call.args.clone(),
        env: call.env.clone(),
        limits: Limits { wall: Some(within + BEHIND), ..Limits::default() },
        output: OUTPUT,
        stop: StopPolicy { grace: GRACE, signal: StopSignal::Terminate },
        labels: BTreeMap::from([(label::CHECK.to_owned(), owner::mark())]),
        ..LaunchSpec::new(&call.program, &spot.place.cwd)
    });
    let secrets = spot.secret_env.iter().chain(&call.secret_env);
    let secret_env =
        secrets.map(|(name, value)| (name.clone(), SecretValue::new(value.expose()))).collect();
    let input = Input { stdin: call.stdin.clone(), secret_env, assignment: None };
    spot.launcher.launch(id, &spec, input).await.map(Launched::into_handle)
}

/// Ends and removes what a launch that failed has left, where there is something.
async fn forget(spot: &Spot, id: &LaunchId) {
    let work = async {
        let found = spot.launcher.discover().await.unwrap_or_default();
        let Some(left) = found.into_iter().find(|left| left.id == *id) else {
            return;
        };
        if let Ok(handle) = spot.launcher.attach(&left.record).await {
            handle.stop(StopRequest::new("it failed to start", Duration::ZERO)).await;
            handle.destroy(Destroy::Everything).await.ok();
        }
    };
    if timeout(GONE_WITHIN, work).await.is_err() {
        tracing::warn!(launch.id = %id, "launch of a check not removed yet");
    }
}

async fn destroy(handle: &Handle) {
    match timeout(GONE_WITHIN, handle.destroy(Destroy::Everything)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %error_chain(&error), "launch of a check not removed");
        }
        Err(_) => tracing::warn!(launch.id = %handle.id(), "launch of a check not removed yet"),
    }
}

fn late(by: CheckedBy, what: &str) -> Finding {
    Finding::new(AuthReason::Timeout, by).with_detail(what)
}

/// What is read of a call.
struct Reading {
    reader: Option<StreamReader>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Reading {
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
                    let done = self.reader.as_ref().is_some_and(StreamReader::final_seen);
                    stop(handle).await;
                    return (!done).then_some(StopKind::Total);
                }
            };
            match chunk {
                Some(Ok(chunk)) => self.take(chunk.content),
                // The end says what is to be said.
                Some(Err(_)) | None => break,
            }
            let wait = self.reader.as_ref().and_then(|reader| match reader {
                reader if reader.final_seen() => Some(LINGER),
                reader => reader.only_repeats().then_some(REPEATS),
            });
            patience = wait.map(|wait| patience.unwrap_or_else(|| Instant::now() + wait));
        }
        tokio::select! {
            _ = handle.exited() => {}
            () = sleep_until(deadline) => stop(handle).await,
        }
        None
    }

    fn take(&mut self, content: LogContent) {
        let LogContent::Output { stream, data } = content else {
            return;
        };
        let kept = match stream {
            LogStream::Stdout => {
                self.reader.as_mut().map(|reader| reader.push(&data));
                &mut self.stdout
            }
            LogStream::Stderr => {
                self.reader.as_mut().map(|reader| reader.push_stderr(&data));
                &mut self.stderr
            }
        };
        let room = MOST_OUTPUT.saturating_sub(kept.len());
        kept.extend(data.iter().take(room));
    }

    fn finish(self, report: &ExitReport, stopped: Option<StopKind>) -> Heard {
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
        let last_error = last_line(&self.stderr);
        Heard { stdout: self.stdout, last_error, end, reader: self.reader }
    }
}

/// Asks for the end and waits for it, within bounds.
async fn stop(handle: &Handle) {
    let stopped = handle.stop(StopRequest::new("its time is up", GRACE));
    drop(timeout(GONE_WITHIN, stopped).await);
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
        other => of_launch(other).unwrap_or(AuthReason::Unknown),
    };
    let detail = format!("{}; {}", error_chain(error), error.hint());
    Finding::new(reason, by).with_detail(detail)
}

fn failed_start(failure: &StartFailure, by: CheckedBy) -> Finding {
    not_started(&LaunchError::from(failure.clone()), by)
}
