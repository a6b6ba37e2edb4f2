//! How runs went over the last hours, days or weeks, for people who look at charts.
//!
//! Every run of the time is counted, in the database. What that costs grows with the runs of the time, so whoever shows
//! it keeps an answer for a while; it never takes longer than a few seconds, and fails instead.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    connections::Statements as _,
    error::StoreError,
    pool::Store,
    row::{get, number},
};

/// Stretches of time that are as long as each other, the last one under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// How many.
    pub count: u32,
    /// How long one is, in seconds. They begin at multiples of it since 1970, in UTC.
    pub seconds: u32,
}

/// What happened in one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Slot {
    /// When it began.
    pub at: Timestamp,
    /// Runs that ended and came out well.
    pub succeeded: u64,
    /// Runs that ended and did not, without those that somebody stopped.
    pub failed: u64,
    /// How long those that nobody stopped took from their start.
    pub took: Option<Spread>,
    /// How long tasks that were taken had waited since they could be.
    pub waited: Option<Spread>,
}

/// How times are spread, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of them were not longer.
    pub half: f64,
    /// Nine of ten were not longer.
    pub most: f64,
}

/// When the first of so many slots began.
const SINCE: &str = "
    SELECT date_bin($1::bigint * interval '1 second', clock_timestamp(), 'epoch')
        - ($2::bigint - 1) * $1::bigint * interval '1 second' AS since";
/// Served by `runs_by_end`.
const ENDED: &str = "
    SELECT date_bin($1::bigint * interval '1 second', ended_at, 'epoch') AS at,
        count(*) FILTER (WHERE outcome IN ('succeeded', 'no_change'))::bigint AS succeeded,
        count(*) FILTER (WHERE outcome NOT IN ('succeeded', 'no_change', 'cancelled', 'interrupted'))::bigint AS failed,
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - started_at)::float8)
            FILTER (WHERE outcome NOT IN ('cancelled', 'interrupted')) AS spread
    FROM runs WHERE ended_at >= $2 GROUP BY 1";
/// Served by `runs_by_creation`.
const TAKEN: &str = "
    SELECT date_bin($1::bigint * interval '1 second', created_at, 'epoch') AS at,
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM created_at - claimable_at)::float8)
            AS spread
    FROM runs WHERE created_at >= $2 AND claimable_at IS NOT NULL GROUP BY 1";

impl Store {
    /// What happened in each of the last slots, the earliest first; of runs that were not removed.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails, or takes longer than five seconds.
    pub async fn flow(&self, slots: Slots) -> Result<Vec<Slot>, StoreError> {
        let mut connection = self.connection().await?;
        let transaction = connection.build_transaction().read_only(true).start().await?;
        transaction.batch_execute("SET LOCAL statement_timeout = '5s'").await?;
        let (count, step) = (i64::from(slots.count), i64::from(slots.seconds));
        let rows = transaction.query_cached(SINCE, &[&step, &count]).await?;
        let row = rows.first().ok_or_else(|| StoreError::corrupt("since", "no row"))?;
        let since: Timestamp = get(row, "since")?;
        let at = |index: i64| {
            let at = Timestamp::from_second(since.as_second() + index * step);
            at.map_err(|error| StoreError::corrupt("since", error))
        };
        let slot = |index| Ok(Slot { at: at(index)?, ..Slot::default() });
        let mut flow: Vec<Slot> = (0..count).map(slot).collect::<Result<_, StoreError>>()?;
        for row in &transaction.query_cached(ENDED, &[&step, &since]).await? {
            if let Some(slot) = slot_of(&mut flow, row)? {
                slot.succeeded = number::<i64, u64>(row, "succeeded")?;
                slot.failed = number::<i64, u64>(row, "failed")?;
                slot.took = spread(row)?;
            }
        }
        for row in &transaction.query_cached(TAKEN, &[&step, &since]).await? {
            if let Some(slot) = slot_of(&mut flow, row)? {
                slot.waited = spread(row)?;
            }
        }
        transaction.commit().await?;
        Ok(flow)
    }
}

/// The slot that a row is about; none where a new one began in the meantime.
fn slot_of<'a>(flow: &'a mut [Slot], row: &Row) -> Result<Option<&'a mut Slot>, StoreError> {
    let at: Timestamp = get(row, "at")?;
    Ok(flow.iter_mut().find(|slot| slot.at == at))
}

fn spread(row: &Row) -> Result<Option<Spread>, StoreError> {
    let parts: Option<Vec<Option<f64>>> = get(row, "spread")?;
    Ok(match parts.as_deref() {
        Some([Some(half), Some(most)]) => Some(Spread { half: half.max(0.0), most: most.max(0.0) }),
        _ => None,
    })
}
