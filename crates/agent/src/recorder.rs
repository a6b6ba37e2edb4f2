//! A run's events on their way to the database: numbered here, written in batches, in order, never twice.
//!
//! A full queue makes its caller wait; the launched agent itself is never held up, for what it prints lies in the
//! launch's log. While the database is away batches are tried again; once the run is fenced they are dropped.

use std::time::Duration;

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::RunKey,
};
use jiff::Timestamp;
use store::error::FencedError;
use telemetry::chain::error_chain;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{ledger::Ledger, patience::Patience};

/// Events that may wait for the database before their producer waits too.
const QUEUE: usize = 1024;
/// Most events written by one statement.
const BATCH: usize = 128;
/// Longest time an event waits for company.
const GATHER: Duration = Duration::from_millis(50);
/// Wait before a batch is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Takes the events of one run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    events: mpsc::Sender<(Timestamp, RunEvent)>,
}

/// The task that writes what a [`Recorder`] takes; ends when every clone of it is gone.
#[derive(Debug)]
pub struct Writer {
    task: JoinHandle<i64>,
}

/// Starts recording the events of a run. Once `stop` is cancelled, events that cannot be written for a while are dropped.
#[must_use]
pub fn record_events(ledger: Ledger, key: RunKey, stop: CancellationToken) -> (Recorder, Writer) {
    let (events, queue) = mpsc::channel(QUEUE);
    #[expect(clippy::disallowed_methods, reason = "owned by the Writer, which is awaited")]
    let task = tokio::spawn(write_batches(ledger, key, queue, stop));
    (Recorder { events }, Writer { task })
}

impl Recorder {
    /// Takes an event, waiting while too many are on their way.
    pub async fn record(&self, event: RunEvent) {
        // The writer ends only after its recorders, or by a panic that `Writer::finish` reports.
        if self.events.send((Timestamp::now(), event)).await.is_err() {
            tracing::warn!("event dropped: its writer is gone");
        }
    }

    /// Takes several events in order.
    pub async fn record_all(&self, events: Vec<RunEvent>) {
        for event in events {
            self.record(event).await;
        }
    }
}

impl Writer {
    /// Waits until every event is written (or given up because the run is fenced) and tells the last number used.
    pub async fn finish(self) -> i64 {
        self.task.await.unwrap_or_else(|error| {
            tracing::error!(error = %error_chain(&error), "event writer ended early");
            0
        })
    }
}

async fn write_batches(
    ledger: Ledger,
    key: RunKey,
    mut queue: mpsc::Receiver<(Timestamp, RunEvent)>,
    stop: CancellationToken,
) -> i64 {
    let mut seq = 0;
    let mut fenced = false;
    while let Some(batch) = next_batch(&mut queue, &mut seq).await {
        if !fenced {
            fenced = !write(&ledger, key, &batch, &stop).await;
        }
    }
    seq
}

/// The next events, numbered; `None` when no more will come.
async fn next_batch(
    queue: &mut mpsc::Receiver<(Timestamp, RunEvent)>,
    seq: &mut i64,
) -> Option<Vec<NumberedEvent>> {
    let mut batch = Vec::new();
    let mut push = |(at, event), batch: &mut Vec<NumberedEvent>| {
        *seq += 1;
        batch.push(NumberedEvent { seq: *seq, at, event });
    };
    push(queue.recv().await?, &mut batch);
    let gather_until = Instant::now() + GATHER;
    while batch.len() < BATCH {
        match timeout_at(gather_until, queue.recv()).await {
            Ok(Some(event)) => push(event, &mut batch),
            Ok(None) | Err(_) => break,
        }
    }
    Some(batch)
}

/// Writes a batch, however long the database is away; false when no later batch can be written either.
async fn write(
    ledger: &Ledger,
    key: RunKey,
    batch: &[NumberedEvent],
    stop: &CancellationToken,
) -> bool {
    let mut patience = Patience::new(stop);
    loop {
        match patience.wait_for(ledger.append_events(key, batch)).await {
            Some(Ok(())) => return true,
            Some(Err(FencedError::Store(error))) if error.is_transient() => {
                patience.note("events not written yet", &error);
                if !patience.pause(RETRY).await {
                    tracing::warn!("events given up: the database is away and the worker stops");
                    return false;
                }
            }
            Some(Err(FencedError::Store(error))) => {
                tracing::warn!(error = %error_chain(&error), "events refused and dropped");
                return true;
            }
            Some(Err(error @ FencedError::Fenced { .. })) => {
                tracing::info!(error = %error_chain(&error), "events dropped: the run is over");
                return false;
            }
            None => {
                tracing::warn!("events given up: the database does not answer");
                return false;
            }
        }
    }
}
