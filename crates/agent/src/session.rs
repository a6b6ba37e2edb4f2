//! One launched agent: starts its CLI, reads its events as they come, ends it when it must end, and judges it.

use std::time::Duration;

use core_types::{event::RunEvent, ids::RunKey};
use executor::{
    invocation::Invocation,
    stream::StreamReader,
    verdict::{AgentEnd, EndedHow, StopKind, Verdict},
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use launcher::{
    error::LogError,
    handle::{Handle, StopRequest},
    id::LaunchId,
    launcher::Launcher,
    outcome::{ExitReport, Outcome, StopCause},
    output::{LogChunk, LogContent, LogCursor, LogStream},
    spec::{Input, LaunchSpec, SecretValue},
};
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    heartbeat::{Authority, Heartbeat},
    policy::LINGER,
    recorder::Recorder,
};

/// How far an agent may go.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Longest silence.
    pub idle: Duration,
    /// Longest time in all.
    pub total: Duration,
    /// Time between asking it to end and ending it.
    pub grace: Duration,
    /// Tokens of all kinds it may use.
    pub tokens: Option<u64>,
    /// Money it may use, in millionths of a US dollar.
    pub cost_microusd: Option<u64>,
}

/// What surrounds a session.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Starts the CLI.
    pub launcher: &'a dyn Launcher,
    /// Says whether the run may go on, and keeps its launch alive.
    pub heartbeat: &'a Heartbeat,
    /// Takes the events.
    pub recorder: &'a Recorder,
    /// Ends the session when openTiger itself stops.
    pub stop: &'a CancellationToken,
}

/// How a session ended.
#[derive(Debug)]
pub struct SessionEnd {
    /// What the agent made of its work.
    pub verdict: Verdict,
    /// Why it was ended, if it was.
    pub stopped: Option<StopKind>,
}

/// Runs the agent's CLI to its end; when this returns, nothing that it started is alive.
pub async fn run_agent(
    around: &Surroundings<'_>,
    key: RunKey,
    spec: LaunchSpec,
    invocation: &Invocation,
    limits: SessionLimits,
) -> SessionEnd {
    let input = Input {
        stdin: invocation.stdin.clone(),
        secret_env: secret_environment(invocation),
        assignment: Some(serde_json::json!({ "run": key.run, "lease": key.lease })),
    };
    let mut reader = invocation.reader();
    let launched = around.launcher.launch(&agent_launch_id(key), &spec, input).await;
    let handle = match launched {
        Ok(launched) => launched.into_handle(),
        Err(error) => {
            let text = error_chain(&error).to_string();
            let how = EndedHow::NeverStarted { text, hint: Some(error.hint().to_owned()) };
            let end = AgentEnd { how, stopped: None, out_of_memory: false, at: Timestamp::now() };
            return SessionEnd { verdict: reader.finish(&end), stopped: None };
        }
    };
    around.heartbeat.hold(Some(handle.clone()));
    let asked = Session { around, handle: &handle, limits }.follow(&mut reader).await;
    let report = handle.exited().await;
    let stopped = asked.or_else(|| ended_by_shim(&report));
    around.heartbeat.hold(None);
    around
        .recorder
        .record(RunEvent::AgentExited {
            status: report.outcome.to_string(),
            leftovers_killed: report.leftovers_killed,
        })
        .await;
    around.recorder.record_all(reader.end_of_output()).await;
    let end = AgentEnd {
        how: how_ended(&report),
        stopped,
        out_of_memory: report.out_of_memory,
        at: Timestamp::now(),
    };
    SessionEnd { verdict: reader.finish(&end), stopped }
}

/// The launch id of a run's agent; the fencing number keeps two claims of one run apart.
fn agent_launch_id(key: RunKey) -> LaunchId {
    format!("{}.{}.agent", key.run, key.lease).parse().expect("a run id is a valid launch id")
}

fn secret_environment(invocation: &Invocation) -> std::collections::BTreeMap<String, SecretValue> {
    let expose = |(name, value): (&String, &core_types::secret::Secret)| {
        (name.clone(), SecretValue::new(value.expose()))
    };
    invocation.secret_env.iter().map(expose).collect()
}

/// Why the shim ended the launch where this worker did not ask: the worker hung, or lost its database.
fn ended_by_shim(report: &ExitReport) -> Option<StopKind> {
    match report.cause.as_ref()? {
        StopCause::WallTime => Some(StopKind::Total),
        StopCause::LeaseExpired | StopCause::EngineOrOperator { .. } => Some(StopKind::Interrupted),
        // Our own request to a CLI that lingered after its result, which counts.
        StopCause::Requested { .. } => None,
    }
}

fn how_ended(report: &ExitReport) -> EndedHow {
    match &report.outcome {
        Outcome::Exited(code) => EndedHow::Exited(*code),
        Outcome::Signaled(signal) => EndedHow::Signaled(*signal),
        Outcome::NeverStarted(failure) => {
            EndedHow::NeverStarted { text: failure.to_string(), hint: None }
        }
        Outcome::Lost(reason) => EndedHow::Lost { text: reason.to_string() },
    }
}

/// A running session.
struct Session<'a> {
    around: &'a Surroundings<'a>,
    handle: &'a Handle,
    limits: SessionLimits,
}

/// What a session waits for.
enum Wait {
    Chunk(Option<LogChunk>),
    Deadline,
    Authority,
    Stop,
}

impl Session<'_> {
    /// Reads the agent's output to its end, and ends the agent when a limit is reached or the run must stop.
    async fn follow(&self, reader: &mut StreamReader) -> Option<StopKind> {
        let started = Instant::now();
        let mut last_sign = started;
        let mut result_seen: Option<Instant> = None;
        let mut stopped: Option<StopKind> = None;
        let mut stopping = tokio::task::JoinSet::new();
        let mut authority = self.around.heartbeat.authority();
        let mut logs = Box::pin(self.handle.logs(LogCursor::default()));
        loop {
            let deadline = self.deadline(started, last_sign, result_seen);
            let live = stopping.is_empty();
            // Every arm is cancel-safe: the log stream keeps its place, the others only tell that a state changed.
            let wait = tokio::select! {
                chunk = logs.next() => Wait::Chunk(self.readable(chunk)),
                () = sleep_until(deadline), if live => Wait::Deadline,
                () = left_held(&mut authority), if live => Wait::Authority,
                () = self.around.stop.cancelled(), if live => Wait::Stop,
            };
            let reason = match wait {
                Wait::Chunk(None) => break,
                Wait::Chunk(Some(chunk)) => {
                    last_sign = Instant::now();
                    self.record_chunk(reader, chunk).await;
                    if result_seen.is_none() && reader.final_seen() {
                        result_seen = Some(last_sign);
                    }
                    if !live || !self.overspent(reader) {
                        continue;
                    }
                    Some(StopKind::SpendLimit)
                }
                // A CLI that gave its final word and lingers is ended; its word counts.
                Wait::Deadline if result_seen.is_some() => None,
                Wait::Deadline if started.elapsed() >= self.limits.total => Some(StopKind::Total),
                Wait::Deadline => Some(StopKind::Idle),
                Wait::Authority => Some(match *authority.borrow() {
                    Authority::CancelRequested => StopKind::Cancelled,
                    Authority::Held | Authority::Unreachable | Authority::Fenced => {
                        StopKind::Interrupted
                    }
                }),
                Wait::Stop => Some(StopKind::Interrupted),
            };
            stopped = reason;
            let request = StopRequest::new(stop_reason(reason), self.limits.grace);
            let handle = self.handle.clone();
            stopping.spawn(async move { handle.stop(request).await });
        }
        while stopping.join_next().await.is_some() {}
        stopped
    }

    fn deadline(&self, started: Instant, last_sign: Instant, result: Option<Instant>) -> Instant {
        match result {
            Some(seen) => seen + LINGER,
            None => (last_sign + self.limits.idle).min(started + self.limits.total),
        }
    }

    fn readable(&self, chunk: Option<Result<LogChunk, LogError>>) -> Option<LogChunk> {
        match chunk? {
            Ok(chunk) => Some(chunk),
            Err(error) => {
                tracing::error!(
                    launch.id = %self.handle.id(),
                    error = %error_chain(&error),
                    "agent output unreadable"
                );
                None
            }
        }
    }

    async fn record_chunk(&self, reader: &mut StreamReader, chunk: LogChunk) {
        let events = match chunk.content {
            LogContent::Gap { dropped_bytes } => vec![RunEvent::OutputGap { dropped_bytes }],
            LogContent::Output { stream: LogStream::Stdout, data } => reader.push(&data),
            LogContent::Output { stream: LogStream::Stderr, data } => reader.push_stderr(&data),
        };
        self.around.recorder.record_all(events).await;
    }

    fn overspent(&self, reader: &StreamReader) -> bool {
        let usage = reader.usage();
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        over(self.limits.tokens, usage.total_tokens())
            || over(self.limits.cost_microusd, usage.cost_microusd)
    }
}

const fn stop_reason(kind: Option<StopKind>) -> &'static str {
    match kind {
        None => "it gave its result and did not exit",
        Some(StopKind::Idle) => "it gave no sign for longer than its idle limit",
        Some(StopKind::Total) => "it took longer than its limit",
        Some(StopKind::Cancelled) => "its task was cancelled",
        Some(StopKind::SpendLimit) => "it reached its limit of tokens or money",
        Some(StopKind::Interrupted) => "its worker stops or lost its lease",
    }
}

/// Returns when the run must no longer go on.
///
/// # Cancel safety
/// Cancel-safe: the value stays in the channel.
async fn left_held(authority: &mut watch::Receiver<Authority>) {
    if authority.wait_for(|now| *now != Authority::Held).await.is_err() {
        // The heartbeat is gone only when the run is over.
        std::future::pending::<()>().await;
    }
}
