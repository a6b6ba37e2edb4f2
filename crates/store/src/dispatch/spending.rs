//! What a run used, on its row and in the sum of the day, in the same statement.
//!
//! A run only ever tells more: what it told while it lived stays where whoever ends it knows less. So a worker's death
//! loses nothing but what was used since its last word.

use core_types::{
    ids::RunKey,
    usage::{SpendLimits, Usage},
};
use tokio_postgres::types::ToSql;

use super::{fenced, progress::holding_lease};
use crate::{
    connections::{Connection, Statements as _},
    error::{FencedError, StoreError},
    pool::Store,
    row::{bigint, number},
    spend::{self, DaySpend},
};

/// What is left for a run, told whenever it tells what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What the runs of the task before this one used.
    pub task_before: Usage,
    /// What was used today, this run's share included.
    pub day: DaySpend,
    /// The part of the day's money that this run may use up, in millionths of a US dollar; 0 where none was set aside.
    pub reserved_microusd: u64,
}

/// Sets the columns of a usage to the parameters from `$first` on, where these are more.
pub(super) fn set_usage(first: usize) -> String {
    let set = |(place, column): (usize, &&str)| {
        format!("{column} = greatest(r.{column}, ${}::bigint)", first + place)
    };
    COLUMNS.iter().enumerate().map(set).collect::<Vec<_>>().join(", ")
}

const COLUMNS: [&str; 6] = [
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_microusd",
    "turns",
];

/// Parts of a `WITH` that add to the day what a run has used more than its row says; `run` is a query for its id, which
/// is the parameter `$1`. Served by the primary keys.
pub(super) fn add_to_day(run: &str, first: usize) -> String {
    let more = |(place, column): (usize, &&str)| {
        format!("greatest(${}::bigint - r.{column}, 0) AS {column}", first + place)
    };
    let more = COLUMNS.iter().enumerate().map(more).collect::<Vec<_>>().join(", ");
    let sums =
        COLUMNS.map(|column| format!("{column} = s.{column} + excluded.{column}")).join(", ");
    let columns = COLUMNS.join(", ");
    let any = COLUMNS.join(" + ");
    format!(
        "more AS MATERIALIZED (
            SELECT t.executor, {more} FROM runs r JOIN tasks t ON t.id = r.task WHERE r.id IN ({run})
        ), summed AS (
            INSERT INTO spend AS s (day, executor, {columns})
            SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, executor, {columns} FROM more WHERE {any} > 0
            ON CONFLICT (day, executor) DO UPDATE SET {sums}
        )"
    )
}

/// The values for [`set_usage`] and [`add_to_day`].
pub(crate) fn usage_values(usage: &Usage) -> [i64; 6] {
    [
        bigint(usage.input_tokens),
        bigint(usage.output_tokens),
        bigint(usage.cache_read_tokens),
        bigint(usage.cache_write_tokens),
        bigint(usage.cost_microusd),
        i64::from(usage.turns),
    ]
}

/// What runs before this one used. Served by the unique key of `runs` and the primary key of `leases`.
const BEFORE: &str = "
    SELECT coalesce(sum(o.input_tokens), 0)::bigint AS input_tokens,
        coalesce(sum(o.output_tokens), 0)::bigint AS output_tokens,
        coalesce(sum(o.cache_read_tokens), 0)::bigint AS cache_read_tokens,
        coalesce(sum(o.cache_write_tokens), 0)::bigint AS cache_write_tokens,
        coalesce(sum(o.cost_microusd), 0)::bigint AS cost_microusd, coalesce(sum(o.turns), 0)::bigint AS turns,
        coalesce((SELECT cost_reserved_microusd FROM leases WHERE run = $1), 0) AS reserved
    FROM runs r JOIN runs o ON o.task = r.task AND o.lease_number < r.lease_number
    WHERE r.id = $1";

impl Store {
    /// Notes what a run has used so far, and tells how that stands to what there is.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: stop the run.
    pub async fn record_usage(&self, key: RunKey, usage: &Usage) -> Result<Standing, FencedError> {
        let connection = self.connection().await?;
        let values = usage_values(usage);
        let write = format!(
            "{}, {} UPDATE runs r SET {} FROM held WHERE r.id = held.run AND r.status <> 'ended'",
            holding_lease!(""),
            add_to_day("SELECT run FROM held", 3),
            set_usage(3)
        );
        let statement = connection.prepare_cached(&write).await?;
        let run = key.run.as_uuid();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&run, &key.lease.0];
        params.extend(values.iter().map(|value| value as &(dyn ToSql + Sync)));
        if connection.execute(&statement, &params).await? == 0 {
            return Err(fenced(&connection, key).await);
        }
        Ok(standing(&connection, key).await?)
    }
}

async fn standing(connection: &Connection, key: RunKey) -> Result<Standing, StoreError> {
    let rows = connection.query_cached(BEFORE, &[&key.run.as_uuid()]).await?;
    let row = rows.first().ok_or_else(|| StoreError::corrupt("runs", "no sum"))?;
    Ok(Standing {
        task_before: spend::usage_from_row(row)?,
        day: spend::day(connection).await?,
        reserved_microusd: number::<i64, u64>(row, "reserved")?,
    })
}

/// What the limit on a task's money leaves, where it has one: its own, or the one for tasks that set none.
pub(super) fn task_money_left(own: Option<u64>, limits: &SpendLimits, used: u64) -> Option<u64> {
    Some(own.or(limits.task_cost_microusd)?.saturating_sub(used))
}
