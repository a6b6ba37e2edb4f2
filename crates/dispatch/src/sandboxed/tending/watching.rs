//! A container while it works: its end, its disk, its cancel, and a worker that does not start or does not end.

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use checkout::sandboxed::DiskUse;
use core_types::task::RunStatus;
use launcher::{
    handle::{Handle, StopRequest},
    outcome::ExitReport,
};
use sandbox::disk::{self, DiskError, DiskLimits};
use telemetry::chain::error_chain;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Facts, Hands, Tended};
use crate::{launches::aside, sandboxed::ending::Stopped};

/// How often a container is looked at besides its end.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often its disk is counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// So often in a row something could not be counted before that counts as too much.
const UNCOUNTED: u32 = 6;
/// How long a worker may take until the database knows that it works.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How long a worker that was told to cancel may take beside the grace of its agent.
const CANCEL_WITHIN: Duration = Duration::from_secs(20);
/// How long a worker that reported may take to end.
const END_WITHIN: Duration = Duration::from_secs(30);
/// The grace of a container that is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is told that somebody does.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Since when something is so.
#[derive(Debug, Default)]
struct Since {
    reported: Option<Instant>,
    cancelled: Option<Instant>,
}

impl Hands {
    /// Waits until the container has ended, and ends it where it must.
    pub(super) async fn watch(&self, tended: &Tended, handle: &Handle) -> ExitReport {
        let started = Instant::now();
        let (mut since, mut uncounted, mut counted_at) = (Since::default(), 0, started);
        let mut renewed_at = None;
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Both are cancel safe.
            tokio::select! {
                exit = handle.exited() => return exit,
                _ = looks.tick() => {}
            }
            let facts = *tended.facts.borrow();
            tended.renewing.store(facts.status != RunStatus::Running, Ordering::Relaxed);
            if renewed_at
                .is_none_or(|at: Instant| at.elapsed() >= RENEW_EVERY.min(self.untended / 4))
            {
                renewed_at = Some(Instant::now());
                if let Err(error) = handle.renew().await {
                    tracing::debug!(run.id = %tended.key.run, error = %error_chain(&error), "sandbox not renewed");
                }
            }
            let mut stopped = self.overdue(facts, started, &mut since);
            if stopped.is_none() && counted_at.elapsed() >= COUNT_EVERY {
                stopped = self.fills_its_place(tended, &mut uncounted).await;
                counted_at = Instant::now();
            }
            if let Some(stopped) = stopped {
                tracing::warn!(run.id = %tended.key.run, reason = stopped.reason(), "sandbox stopped");
                tended.renewing.store(true, Ordering::Relaxed);
                return handle.stop(StopRequest::new(stopped.reason(), GRACE)).await;
            }
        }
    }

    fn overdue(&self, facts: Facts, started: Instant, since: &mut Since) -> Option<Stopped> {
        let grace = self.settings.borrow().settings.cancel_grace + CANCEL_WITHIN;
        let for_long = |since: &mut Option<Instant>, holds: bool, limit: Duration| {
            *since = since.filter(|_| holds).or_else(|| holds.then(Instant::now));
            since.is_some_and(|since| since.elapsed() >= limit)
        };
        let reported = facts.status == RunStatus::Collecting;
        if for_long(&mut since.reported, reported, END_WITHIN) {
            return Some(Stopped::Lingering);
        }
        if for_long(&mut since.cancelled, facts.cancel_requested, grace) {
            return Some(Stopped::Cancelled);
        }
        let late = facts.status == RunStatus::Launching && started.elapsed() >= START_WITHIN;
        late.then_some(Stopped::NotStarted)
    }

    async fn fills_its_place(&self, tended: &Tended, uncounted: &mut u32) -> Option<Stopped> {
        let (bytes, files) = {
            let loaded = self.settings.borrow();
            (loaded.settings.sandbox_disk_limit, loaded.settings.sandbox_file_limit)
        };
        let limit = DiskUse {
            bytes: bytes.unwrap_or(u64::MAX),
            files: files.unwrap_or(u64::MAX),
            uncounted: false,
        };
        let checkouts = self.outfitter.checkouts().ok()?;
        let used = checkouts.sandbox_use(tended.key.run, limit).await;
        let left = DiskLimits {
            bytes: bytes.map(|bytes| bytes.saturating_sub(used.bytes)),
            files: files.map(|files| files.saturating_sub(used.files)),
        };
        let state: Vec<PathBuf> = self.outfitter.state_of(tended.task).into_iter().collect();
        let kept = aside(async move { disk::usage(&state, left) }).await;
        let is_uncounted = used.uncounted || matches!(kept, Err(DiskError::Io { .. }));
        *uncounted = if is_uncounted { *uncounted + 1 } else { 0 };
        let exceeds = used.exceeds(limit) || kept.is_err_and(|error| is_too_much(&error));
        (exceeds || *uncounted >= UNCOUNTED).then_some(Stopped::DiskLimit)
    }
}

const fn is_too_much(error: &DiskError) -> bool {
    match error {
        DiskError::TooLarge { .. } | DiskError::TooManyFiles { .. } | DiskError::TooDeep => true,
        DiskError::BelowReserve { .. } | DiskError::Io { .. } => false,
    }
}
