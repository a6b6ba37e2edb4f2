//! How runs went over the last day, hour by hour, for people who look at charts.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    connections::Statements as _,
    error::StoreError,
    pool::Store,
    row::{get, number},
};

/// The runs that ended in one hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HourOfRuns {
    /// When the hour began.
    pub at: Timestamp,
    /// Runs that came out well.
    pub succeeded: u64,
    /// Runs that did not, without those that somebody stopped.
    pub failed: u64,
    /// How long a run took, the median, in seconds.
    pub run_s: Option<f64>,
    /// How long tasks waited for their first run, the median, in seconds.
    pub wait_s: Option<f64>,
}

/// Served by `runs_by_end`; the last 50000 runs at most.
const HOURS: &str = "
    SELECT date_trunc('hour', r.ended_at) AS at,
        count(*) FILTER (WHERE r.outcome IN ('succeeded', 'no_change'))::bigint AS succeeded,
        count(*) FILTER (WHERE r.outcome NOT IN ('succeeded', 'no_change', 'cancelled', 'interrupted'))::bigint AS failed,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM r.ended_at - r.started_at)::float8) AS run_s,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM r.created_at - t.created_at)::float8)
            FILTER (WHERE r.lease_number = 1) AS wait_s
    FROM (SELECT task, lease_number, outcome, created_at, started_at, ended_at FROM runs
          WHERE ended_at > clock_timestamp() - interval '24 hours' ORDER BY ended_at DESC LIMIT 50000) r
    JOIN tasks t ON t.id = r.task GROUP BY 1 ORDER BY 1";

impl Store {
    /// The hours of the last day in which runs ended, the earliest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn hours_of_runs(&self) -> Result<Vec<HourOfRuns>, StoreError> {
        let connection = self.connection().await?;
        let rows = connection.query_cached(HOURS, &[]).await?;
        rows.iter().map(hour).collect()
    }
}

fn hour(row: &Row) -> Result<HourOfRuns, StoreError> {
    Ok(HourOfRuns {
        at: get(row, "at")?,
        succeeded: number::<i64, u64>(row, "succeeded")?,
        failed: number::<i64, u64>(row, "failed")?,
        run_s: get(row, "run_s")?,
        wait_s: get(row, "wait_s")?,
    })
}
