//! One launch in memory: how it goes on, and a handle's view of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Behaviour, End, Shared, lock};
use crate::{
    error::{HandleError, LogError},
    handle::{Destroy, HandleBackend, HandleRecord, LaunchState, LaunchStats, StopRequest},
    id::LaunchId,
    outcome::{ExitReport, ExitSource, LostReason, Outcome, StopCause},
    output::{LogChunk, LogContent, LogCursor, LogStream},
    spec::{Input, LaunchSpec},
};

const KILLED: i32 = 9;
const TERMINATED: i32 = 15;

#[derive(Debug)]
pub(super) struct Launch {
    pub(super) id: LaunchId,
    pub(super) spec: LaunchSpec,
    pub(super) record: HandleRecord,
    pub(super) created_at: Timestamp,
    pub(super) state: watch::Sender<LaunchState>,
    pub(super) output: watch::Sender<Output>,
    pub(super) requests: mpsc::UnboundedSender<Request>,
    pub(super) shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
pub(super) struct Output {
    chunks: Vec<LogChunk>,
    end: u64,
}

/// Bounded by what callers ask; read by one task at once.
#[derive(Debug)]
pub(super) enum Request {
    Renew,
    Stop(StopRequest),
}

impl Launch {
    pub(super) async fn run(
        &self,
        behaviour: Behaviour,
        input: Input,
        mut requests: mpsc::UnboundedReceiver<Request>,
        since: Timestamp,
    ) {
        for (stream, data) in behaviour.output {
            self.print(stream, data);
        }
        if behaviour.echo_stdin {
            self.print(LogStream::Stdout, input.stdin.into());
        }
        let natural = match behaviour.end {
            End::Exit(_) | End::Signal(_) | End::Lost => Some(behaviour.runs_for),
            End::Hang | End::HangDeaf => None,
        };
        let far = Duration::from_secs(1 << 30);
        let after = |time: Option<Duration>| Instant::now() + time.unwrap_or(far);
        let (natural, wall) = (after(natural), after(self.spec.limits.wall));
        let mut lease = after(self.spec.lease);
        let mut cause: Option<StopCause> = None;
        let mut kill = after(None);
        loop {
            let grace = self.spec.stop.grace;
            // Every arm is cancel safe: timers and a channel's `recv`.
            let asked = tokio::select! {
                () = tokio::time::sleep_until(natural) => break,
                () = tokio::time::sleep_until(kill) => break,
                () = tokio::time::sleep_until(wall), if cause.is_none() => {
                    (StopCause::WallTime, grace)
                }
                () = tokio::time::sleep_until(lease), if cause.is_none() => {
                    (StopCause::LeaseExpired, grace)
                }
                Some(request) = requests.recv() => match request {
                    Request::Renew => {
                        lease = after(self.spec.lease);
                        continue;
                    }
                    Request::Stop(StopRequest { reason, grace }) => {
                        (StopCause::Requested { reason }, grace)
                    }
                },
            };
            let (why, grace) = asked;
            cause.get_or_insert(why);
            if behaviour.end != End::HangDeaf {
                break;
            }
            kill = kill.min(Instant::now() + grace);
        }
        let outcome = match (behaviour.end, &cause) {
            (End::Lost, _) => Outcome::Lost(LostReason::ShimDied),
            (End::HangDeaf, _) => Outcome::Signaled(KILLED),
            (End::Exit(_) | End::Signal(_) | End::Hang, Some(_)) => Outcome::Signaled(TERMINATED),
            (End::Exit(code), None) => Outcome::Exited(code),
            (End::Signal(signal), None) => Outcome::Signaled(signal),
            (End::Hang, None) => Outcome::Signaled(KILLED),
        };
        self.end(outcome, cause, Some(since));
    }

    fn print(&self, stream: LogStream, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.output.send_modify(|output| {
            let offset = output.end;
            output.end += data.len() as u64;
            let next = LogCursor(output.end);
            let content = LogContent::Output { stream, data };
            output.chunks.push(LogChunk { offset, next, at: Timestamp::now(), content });
        });
    }

    pub(super) fn end(
        &self,
        outcome: Outcome,
        cause: Option<StopCause>,
        started_at: Option<Timestamp>,
    ) {
        let source = match outcome {
            Outcome::Lost(_) => ExitSource::Evidence,
            Outcome::Exited(_) | Outcome::Signaled(_) | Outcome::NeverStarted(_) => {
                ExitSource::Record
            }
        };
        self.state.send_replace(LaunchState::Ended(ExitReport {
            outcome,
            cause,
            out_of_memory: false,
            leftovers_killed: 0,
            survivors: 0,
            log_end: self.output.borrow().end,
            dropped_bytes: 0,
            started_at,
            ended_at: Timestamp::now(),
            source,
        }));
    }

    /// What is printed at and after an offset, as one chunk of the first stream there.
    fn read(&self, from: u64) -> Option<LogChunk> {
        let output = self.output.borrow();
        let chunk = output.chunks.iter().find(|chunk| chunk.next.0 > from)?;
        let LogContent::Output { stream, data } = &chunk.content else {
            return None;
        };
        let skipped = usize::try_from(from - chunk.offset).unwrap_or(0);
        let data = BytesMut::from(data.as_ref()).split_off(skipped).freeze();
        let content = LogContent::Output { stream: *stream, data };
        Some(LogChunk { offset: from, next: chunk.next, at: chunk.at, content })
    }
}

/// A handle's view of a fake launch.
#[derive(Debug)]
pub(super) struct View(pub(super) Arc<Launch>);

#[async_trait]
impl HandleBackend for View {
    fn id(&self) -> &LaunchId {
        &self.0.id
    }

    fn record(&self) -> HandleRecord {
        self.0.record.clone()
    }

    fn state(&self) -> watch::Receiver<LaunchState> {
        self.0.state.subscribe()
    }

    fn logs(&self, from: LogCursor) -> BoxStream<'static, Result<LogChunk, LogError>> {
        let launch = Arc::clone(&self.0);
        let (state, output) = (launch.state.subscribe(), launch.output.subscribe());
        stream::unfold(Some((launch, state, output, from.0)), |reader| async {
            let (launch, mut state, mut output, from) = reader?;
            loop {
                let end = match &*state.borrow_and_update() {
                    LaunchState::Ended(report) => Some(report.log_end),
                    LaunchState::Created
                    | LaunchState::Running { .. }
                    | LaunchState::Stopping { .. } => None,
                };
                output.mark_unchanged();
                if let Some(chunk) = launch.read(from) {
                    let next = chunk.next.0;
                    return Some((Ok(chunk), Some((launch, state, output, next))));
                }
                match end {
                    Some(end) if from > end => {
                        return Some((Err(LogError::BehindEnd { offset: from, end }), None));
                    }
                    Some(_) => return None,
                    None => {}
                }
                // Both arms are cancel safe: `changed` loses nothing.
                tokio::select! {
                    changed = state.changed() => changed.ok()?,
                    changed = output.changed() => changed.ok()?,
                }
            }
        })
        .boxed()
    }

    async fn renew(&self) -> Result<(), HandleError> {
        let ended = || HandleError::Ended { id: self.0.id.clone() };
        self.0.requests.send(Request::Renew).map_err(|_closed| ended())
    }

    async fn stop(&self, request: StopRequest) -> ExitReport {
        let mut state = self.0.state.subscribe();
        // A launch that has ended takes no requests, and its report is there.
        self.0.requests.send(Request::Stop(request)).ok();
        loop {
            if let LaunchState::Ended(report) = &*state.borrow_and_update() {
                return report.clone();
            }
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn stats(&self) -> Result<LaunchStats, HandleError> {
        let state = self.0.state.borrow().clone();
        match state {
            LaunchState::Running { .. } | LaunchState::Stopping { .. } => Ok(LaunchStats {
                leader_pid: None,
                memory_bytes: 0,
                cpu: Duration::ZERO,
                processes: 1,
                uptime: Duration::ZERO,
            }),
            LaunchState::Created | LaunchState::Ended(_) => {
                Err(HandleError::Ended { id: self.0.id.clone() })
            }
        }
    }

    async fn destroy(&self, what: Destroy) -> Result<(), HandleError> {
        if !matches!(*self.0.state.borrow(), LaunchState::Ended(_)) {
            return Err(HandleError::StillRunning { id: self.0.id.clone() });
        }
        if what == Destroy::Everything {
            let mut shared = lock(&self.0.shared);
            let is_ours = |launch: &Arc<Launch>| Arc::ptr_eq(launch, &self.0);
            if shared.launches.get(&self.0.id).is_some_and(is_ours) {
                shared.launches.remove(&self.0.id);
            }
        }
        Ok(())
    }
}
