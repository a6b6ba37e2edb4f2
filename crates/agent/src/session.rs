//! One launched agent: starts its CLI, reads its events as they come, ends it when it must end, and judges it.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use core_types::{event::RunEvent, ids::RunKey, outcome::RunOutcome, usage::Usage};
use executor::{
    invocation::Invocation,
    stream::StreamReader,
    verdict::{AgentEnd, EndedHow, StopKind, Verdict},
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use launcher::{
    error::{LaunchError, LogError},
    handle::{Handle, StopRequest},
    id::LaunchId,
    outcome::{ExitReport, Outcome, StopCause},
    output::{LogChunk, LogContent, LogCursor, LogStream},
    spec::{Input, LaunchSpec, SecretValue},
};
use telemetry::chain::error_chain;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    around::Around,
    heartbeat::Authority,
    meter::Meter,
    policy::{LEASE_GRACE, LINGER},
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
}

/// A call of the agent's CLI.
#[derive(Debug)]
pub struct AgentCall<'a> {
    /// Names its launch within the run.
    pub part: &'a str,
    /// How it is launched.
    pub spec: LaunchSpec,
    /// What is called, and how its output is read.
    pub invocation: &'a Invocation,
}

/// How a session ended.
#[derive(Debug)]
pub struct SessionEnd {
    /// What the agent made of its work.
    pub verdict: Verdict,
    /// Why it was ended, if it was.
    pub stopped: Option<StopKind>,
    /// A fault of this host that makes the verdict worthless.
    pub fault: Option<String>,
}

impl SessionEnd {
    /// The end of a session that cannot be gone on with: nothing was called and nothing was used.
    pub(crate) fn lost() -> Self {
        let verdict = Verdict {
            outcome: Err(RunOutcome::AgentFailed),
            message: Some("the agent's session cannot be gone on with".to_owned()),
            hint: None,
            usage: Usage::default(),
            session: None,
            session_lost: true,
            retry_at: None,
            final_text: None,
        };
        Self { verdict, stopped: None, fault: None }
    }
}

/// Runs the agent's CLI to its end; when this returns, nothing that it started is alive.
pub async fn run_agent(
    around: &Around<'_>,
    key: RunKey,
    call: AgentCall<'_>,
    limits: SessionLimits,
    meter: &Meter,
) -> SessionEnd {
    let AgentCall { part, spec, invocation } = call;
    let mut reader = invocation.reader();
    let handle = match start(around, agent_launch_id(key, part), key, &spec, invocation).await {
        Ok(handle) => handle,
        Err((how, stopped)) => {
            let end = AgentEnd { how, stopped, out_of_memory: false, at: Timestamp::now() };
            return SessionEnd { verdict: reader.finish(&end), stopped, fault: None };
        }
    };
    around.heartbeat.hold(Some(handle.clone()));
    let session = Session { around, handle: &handle, limits, meter, started: Instant::now() };
    let (asked, unreadable) = session.follow(&mut reader).await;
    let report = handle.exited().await;
    around.heartbeat.hold(None);
    let stopped = asked.or_else(|| ended_by_shim(&report));
    let status = report.outcome.to_string();
    let leftovers_killed = report.leftovers_killed;
    around.recorder.record_all(reader.end_of_output()).await;
    around.recorder.record(RunEvent::AgentExited { status, leftovers_killed }).await;
    let end = AgentEnd {
        how: how_ended(&report),
        stopped,
        out_of_memory: report.out_of_memory,
        at: Timestamp::now(),
    };
    let fault = unreadable.or_else(|| worthless(&report));
    SessionEnd { verdict: reader.finish(&end), stopped, fault }
}

/// Makes the call that has to be made before the agent's own; false where it did not end well.
pub async fn prepare_agent(
    around: &Around<'_>,
    key: RunKey,
    invocation: &Invocation,
    spec: LaunchSpec,
) -> bool {
    let id = agent_launch_id(key, "prepare");
    let input = Input { secret_env: secret_environment(invocation), ..Input::default() };
    // Dropping a launch that is under way is made up for: whatever came of it is found by its label and ended.
    let launched = tokio::select! {
        launched = around.launcher.launch(&id, &spec, input) => launched,
        _ = around.told_to_stop() => return false,
    };
    let Ok(launched) = launched else {
        return false;
    };
    let handle = launched.into_handle();
    around.heartbeat.hold(Some(handle.clone()));
    // Both arms only wait for a state.
    let ended = tokio::select! {
        report = handle.exited() => report.is_success(),
        _ = around.told_to_stop() => {
            handle.stop(StopRequest::new("its run must stop", LEASE_GRACE)).await;
            false
        }
    };
    around.heartbeat.hold(None);
    ended
}

/// Launches the CLI, unless the run must stop meanwhile.
async fn start(
    around: &Around<'_>,
    id: LaunchId,
    key: RunKey,
    spec: &LaunchSpec,
    invocation: &Invocation,
) -> Result<Handle, (EndedHow, Option<StopKind>)> {
    let input = Input {
        stdin: invocation.stdin.clone(),
        secret_env: secret_environment(invocation),
        assignment: Some(serde_json::json!({ "run": key.run, "lease": key.lease })),
    };
    // Dropping a launch that is under way is made up for: whatever came of it is found by its label and ended.
    let launched = tokio::select! {
        launched = around.launcher.launch(&id, spec, input) => launched,
        authority = around.told_to_stop() => {
            let text = "the run had to stop before its agent was started".to_owned();
            return Err((EndedHow::NeverStarted { text, hint: None }, Some(stop_kind(authority))));
        }
    };
    launched
        .map(launcher::launcher::Launched::into_handle)
        .map_err(|error| (not_started(&error), None))
}

/// Whose matter a start that failed is: the program's, of which other runs would say the same, or this host's.
fn not_started(error: &LaunchError) -> EndedHow {
    let text = error_chain(error).to_string();
    let hint = error.hint().to_owned();
    match error {
        LaunchError::CwdMissing { .. }
        | LaunchError::ResourceExhausted { .. }
        | LaunchError::ShimUnusable { .. }
        | LaunchError::AwaitsAssignment { .. }
        | LaunchError::Io { .. } => EndedHow::HostFailed { text, hint },
        // A limit that cannot be honoured here holds up every run; so does what was not named above.
        _ => EndedHow::NeverStarted { text, hint: Some(hint) },
    }
}

/// The launch id of a part of a run; the fencing number keeps two claims of one run apart.
fn agent_launch_id(key: RunKey, part: &str) -> LaunchId {
    format!("{}.{}.{part}", key.run, key.lease).parse().expect("a run id is a valid launch id")
}

fn secret_environment(invocation: &Invocation) -> BTreeMap<String, SecretValue> {
    let secrets = invocation.secret_env.iter();
    secrets.map(|(name, value)| (name.clone(), SecretValue::new(value.expose()))).collect()
}

const fn stop_kind(authority: Authority) -> StopKind {
    match authority {
        Authority::CancelRequested => StopKind::Cancelled,
        Authority::Held | Authority::Unreachable | Authority::Fenced => StopKind::Interrupted,
    }
}

/// Why the shim ended the launch where this worker did not ask: the worker hung, or lost its database.
const fn ended_by_shim(report: &ExitReport) -> Option<StopKind> {
    match &report.cause {
        Some(StopCause::WallTime) => Some(StopKind::Total),
        Some(StopCause::LeaseExpired | StopCause::EngineOrOperator { .. }) => {
            Some(StopKind::Interrupted)
        }
        // Our own request to a CLI that lingered after its result, which counts.
        Some(StopCause::Requested { .. }) | None => None,
    }
}

/// Why nothing may follow this end: something of the agent may still be alive.
fn worthless(report: &ExitReport) -> Option<String> {
    match &report.outcome {
        Outcome::Lost(reason) => Some(format!("the end of the agent is not known: {reason}")),
        Outcome::Exited(_) | Outcome::Signaled(_) | Outcome::NeverStarted(_) => {
            let survivors = report.survivors;
            (survivors > 0)
                .then(|| format!("{survivors} processes of the agent could not be ended"))
        }
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
    around: &'a Around<'a>,
    handle: &'a Handle,
    limits: SessionLimits,
    meter: &'a Meter,
    started: Instant,
}

/// What the reading half of a session tells the watching half.
struct Signs {
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// The last sign of life; `None` while what was read waits for the database, which is not the agent's silence.
    last_sign: Option<Instant>,
    /// When the CLI gave its final word, if no further turn followed.
    result: Option<Instant>,
    overspent: bool,
}

impl Signs {
    fn new(now: Instant) -> Self {
        let seen = Seen { last_sign: Some(now), result: None, overspent: false };
        Self { seen: Mutex::new(seen), changed: Notify::new() }
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

impl Session<'_> {
    /// Reads the agent's output to its end, and ends the agent when a limit is reached or the run must stop. Tells why
    /// it was ended, and what made its output unreadable.
    async fn follow(&self, reader: &mut StreamReader) -> (Option<StopKind>, Option<String>) {
        let signs = Signs::new(self.started);
        let mut reading = pin!(self.read(reader, &signs));
        // Neither half is lost: reading goes on below, and watching ends with its answer.
        let (kind, read) = tokio::select! {
            read = &mut reading => (None, Some(read)),
            kind = self.watch(&signs) => (kind, None),
        };
        match read {
            Some(Ok(())) => (None, None),
            Some(Err(error)) => {
                self.end("its output cannot be read", self.limits.grace).await;
                (None, Some(format!("the agent's output cannot be read: {}", error_chain(&error))))
            }
            None => {
                // Where the lease may be lost, the agent must be gone before it is.
                let grace = match kind {
                    Some(StopKind::Interrupted) => self.limits.grace.min(LEASE_GRACE),
                    Some(
                        StopKind::Idle
                        | StopKind::Total
                        | StopKind::Cancelled
                        | StopKind::SpendLimit,
                    )
                    | None => self.limits.grace,
                };
                let ((), read) = tokio::join!(self.end(stop_reason(kind), grace), reading);
                if let Err(error) = read {
                    tracing::warn!(error = %error_chain(&error), "end of the agent's output not read");
                }
                (kind, None)
            }
        }
    }

    async fn end(&self, reason: &str, grace: Duration) {
        self.handle.stop(StopRequest::new(reason, grace)).await;
    }

    /// Reads and records until the launch is over and all of it was read.
    async fn read(&self, reader: &mut StreamReader, signs: &Signs) -> Result<(), LogError> {
        let mut logs = pin!(self.handle.logs(LogCursor::START));
        while let Some(chunk) = logs.next().await {
            let events = events_of(reader, chunk?);
            self.meter.note(reader.usage());
            let (result, overspent) = (reader.final_seen(), self.meter.reached().is_some());
            // A call of the model that fails again and again is no sign of life.
            let gets_on = !reader.only_repeats();
            signs.note(|seen| {
                if gets_on {
                    seen.last_sign = None;
                }
                seen.result = result.then(|| seen.result.unwrap_or_else(Instant::now));
                seen.overspent = overspent;
            });
            self.around.recorder.record_all(events).await;
            if gets_on {
                signs.note(|seen| seen.last_sign = Some(Instant::now()));
            }
        }
        Ok(())
    }

    /// Returns when the agent must be ended; `None` where its result counts and it only lingers.
    async fn watch(&self, signs: &Signs) -> Option<StopKind> {
        loop {
            let seen = signs.seen();
            if seen.overspent {
                return Some(StopKind::SpendLimit);
            }
            let (deadline, kind) = self.next_deadline(seen);
            // Every arm is cancel-safe: each waits for a state or a time.
            tokio::select! {
                authority = self.around.told_to_stop() => return Some(stop_kind(authority)),
                () = signs.changed.notified() => {}
                () = self.meter.exhausted() => return Some(StopKind::SpendLimit),
                () = sleep_until(deadline) => return kind,
            }
        }
    }

    /// When the agent must be ended if nothing new happens, and what for.
    fn next_deadline(&self, seen: Seen) -> (Instant, Option<StopKind>) {
        let total = self.started + self.limits.total;
        if let Some(result) = seen.result {
            return (result + LINGER, None);
        }
        match seen.last_sign.map(|sign| sign + self.limits.idle) {
            Some(idle) if idle < total => (idle, Some(StopKind::Idle)),
            Some(_) | None => (total, Some(StopKind::Total)),
        }
    }
}

fn events_of(reader: &mut StreamReader, chunk: LogChunk) -> Vec<RunEvent> {
    match chunk.content {
        LogContent::Gap { dropped_bytes } => vec![RunEvent::OutputGap { dropped_bytes }],
        LogContent::Output { stream: LogStream::Stdout, data } => reader.push(&data),
        LogContent::Output { stream: LogStream::Stderr, data } => reader.push_stderr(&data),
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
