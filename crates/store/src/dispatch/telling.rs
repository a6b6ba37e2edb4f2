//! What the end of a run means for the gate of its executor, and that for the task.

use std::time::Duration;

use core_types::{
    gate::{Gate, RunEnd},
    ids::RunId,
    outcome::{RunOutcome, RunReport, table::Sign},
    task::ExecutionEnvironment,
};
use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};

use super::ending::Around;
use crate::{
    error::StoreError,
    gates::{self, GateKey, StoredGate},
};

/// How long a gate stays closed at most for what a run in a sandbox says of its provider's limit: 1 h. Its word counts
/// for all sandboxes, and it may be a lie; a trial finds that out.
const CLAIMED_QUOTA_MAX: SignedDuration = SignedDuration::from_hours(1);

/// Tells the gate of the run's executor how it ended, and what that means for its task.
///
/// A run that changes nothing about its gate only reads it: runs that end well do not wait for each other here.
pub(super) async fn tell_gate(
    tx: &Transaction<'_>,
    key: &GateKey,
    seen: Option<&StoredGate>,
    run: RunId,
    claimed_at: Timestamp,
    report: &RunReport,
) -> Result<Around, StoreError> {
    let now = seen.map_or_else(Timestamp::now, |seen| seen.now);
    let end = RunEnd {
        run,
        claimed_at,
        outcome: report.outcome,
        answered: report.usage.output_tokens > 0,
        retry_at: lifted_at(key.environment, report.retry_at, now),
        message: report.message.as_deref(),
        hint: report.hint.as_deref(),
    };
    let around = |excused_for, now| Around { excused_for, lifted_in: lifted_in(report, now) };
    let fails = matches!(end.sign(), Sign::Fails(_));
    // Where nothing was ever said about a gate it is open, and a run that ends well has nothing to add.
    if !fails && seen.is_none_or(|seen| seen.gate.after(&end, now).is_none()) {
        return Ok(around(None, now));
    }
    let Some(StoredGate { gate, now, .. }) = gates::lock_or_make(tx, key).await? else {
        return Ok(around(None, now));
    };
    let after = gate.after(&end, now);
    if let Some(after) = &after {
        gates::write(tx, key, after).await?;
    }
    let excused_for = fails.then(|| excused_for(&gate, after.as_ref(), report.outcome, now));
    Ok(around(excused_for.flatten(), now))
}

/// A failure at a gate that is not open is put down to the executor; its task steps back behind the next trial.
fn excused_for(
    before: &Gate,
    after: Option<&Gate>,
    outcome: RunOutcome,
    now: Timestamp,
) -> Option<Duration> {
    before.excuses(outcome, now)?;
    after.unwrap_or(before).excuses(outcome, now)
}

/// In how long a limit that the run reached is lifted, where it told.
fn lifted_in(report: &RunReport, now: Timestamp) -> Option<Duration> {
    let left = report.retry_at?.duration_since(now);
    Some(left.max(SignedDuration::ZERO).unsigned_abs())
}

/// When a limit is lifted, as far as the gate takes the run's word for it. The task itself waits as long as it was told.
fn lifted_at(
    environment: ExecutionEnvironment,
    told: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    match environment {
        ExecutionEnvironment::Host => told,
        ExecutionEnvironment::Sandbox => {
            let most = now.checked_add(CLAIMED_QUOTA_MAX).unwrap_or(Timestamp::MAX);
            told.map(|told| told.min(most))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_closes_the_gate_of_all_for_an_hour_at_most() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        for (told, host, sandbox) in [
            (None, None, None),
            (Some(at(-5)), Some(at(-5)), Some(at(-5))),
            (Some(at(600)), Some(at(600)), Some(at(600))),
            (Some(at(31 * 86_400)), Some(at(31 * 86_400)), Some(at(3_600))),
        ] {
            assert_eq!(lifted_at(ExecutionEnvironment::Host, told, at(0)), host);
            assert_eq!(lifted_at(ExecutionEnvironment::Sandbox, told, at(0)), sandbox);
        }
    }
}
