//! What was used on each day, and what of the day is left (D12). Days are those of UTC.
//!
//! Runs tell what they used while they live, and it is added to the day on which they tell it. Money is known late: a
//! command line may tell it only at its end. So a claim sets aside what a run may use up of the day's money, and what is
//! set aside and what was used together never exceed the day's limit.

use core_types::{
    task::ExecutorKind,
    usage::{SpendLimits, Usage, usd_text},
};
use jiff::{Timestamp, civil::Date};
use tokio_postgres::Row;

use crate::{
    connections::Statements,
    error::StoreError,
    pool::Store,
    row::{get, number, word},
};

/// A run whose task has no limit on money may use up to this part of a day's money.
const SHARE_OF_DAY: u64 = 4;
/// Less than this part of the day's money is not worth starting a run for.
const CRUMB_OF_DAY: u64 = 100;

/// What was used of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaySpend {
    /// All tokens.
    pub tokens: u64,
    /// Money, in millionths of a US dollar.
    pub cost_microusd: u64,
    /// Money that runs that are alive may still use, in millionths of a US dollar.
    pub reserved_microusd: u64,
    /// When the day is over.
    pub ends_at: Timestamp,
}

/// What one executor used on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpendOfDay {
    /// The day, of UTC.
    pub day: Date,
    /// The executor.
    pub executor: ExecutorKind,
    /// What its runs used.
    pub usage: Usage,
}

/// Why a day's limit keeps runs from being handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayIsSpent {
    /// For people.
    pub message: String,
    /// When the day is over. It may end sooner where money that is set aside is not used.
    pub until: Timestamp,
}

impl DaySpend {
    /// Whether the limits of a day leave nothing for another run.
    #[must_use]
    pub fn exhausted(&self, limits: &SpendLimits) -> Option<DayIsSpent> {
        let until = self.ends_at;
        if let Some(limit) = limits.day_tokens.filter(|limit| self.tokens >= *limit) {
            let used = self.tokens;
            let message = format!("the day's limit of {limit} tokens is used up ({used} used)");
            return Some(DayIsSpent { message, until });
        }
        let limit = limits.day_cost_microusd?;
        let left = self.money_left(limit);
        (left == 0 || left < limit / CRUMB_OF_DAY).then(|| DayIsSpent {
            message: format!(
                "the day's limit of {} is used up ({} used, {} set aside for runs that are alive)",
                usd_text(limit),
                usd_text(self.cost_microusd),
                usd_text(self.reserved_microusd),
            ),
            until,
        })
    }

    const fn money_left(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.cost_microusd).saturating_sub(self.reserved_microusd)
    }

    /// Sets aside what a run of a task may use up, where `task_left` is what the task's own limit leaves; nothing where
    /// the day does not leave enough.
    pub(crate) fn set_aside(&mut self, limit: u64, task_left: Option<u64>) -> Option<u64> {
        let wanted = task_left.unwrap_or_else(|| limit.div_ceil(SHARE_OF_DAY));
        let granted = wanted.min(self.money_left(limit));
        // A task that has nothing left is handed out nevertheless: that is how it comes to its end.
        if granted < wanted && (granted == 0 || granted < limit / CRUMB_OF_DAY) {
            return None;
        }
        self.reserved_microusd = self.reserved_microusd.saturating_add(granted);
        Some(granted)
    }
}

/// The sum of the day, and what is set aside. Served by the primary keys.
pub(crate) const DAY: &str = "
    SELECT coalesce(sum(input_tokens + output_tokens + cache_read_tokens + cache_write_tokens), 0)::bigint AS tokens,
        coalesce(sum(cost_microusd), 0)::bigint AS cost,
        (SELECT coalesce(sum(greatest(l.cost_reserved_microusd - r.cost_microusd, 0)), 0)::bigint
         FROM leases l JOIN runs r ON r.id = l.run WHERE l.cost_reserved_microusd > 0) AS reserved,
        (((clock_timestamp() AT TIME ZONE 'UTC')::date + 1)::timestamp AT TIME ZONE 'UTC') AS ends_at
    FROM spend WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date";

/// Reads the row of [`DAY`].
pub(crate) fn day_from_row(row: &Row) -> Result<DaySpend, StoreError> {
    Ok(DaySpend {
        tokens: number::<i64, u64>(row, "tokens")?,
        cost_microusd: number::<i64, u64>(row, "cost")?,
        reserved_microusd: number::<i64, u64>(row, "reserved")?,
        ends_at: get(row, "ends_at")?,
    })
}

/// What was used so far today.
pub(crate) async fn day(client: &impl Statements) -> Result<DaySpend, StoreError> {
    let rows = client.query_cached(DAY, &[]).await?;
    let row = rows.first().ok_or_else(|| StoreError::corrupt("spend", "no sum"))?;
    day_from_row(row)
}

impl Store {
    /// What was used so far today, and what is set aside.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn day_spend(&self) -> Result<DaySpend, StoreError> {
        day(&self.connection().await?).await
    }

    /// What was used on each of the last `days` days, the latest first; days without any are left out.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn spend_of_days(&self, days: u32) -> Result<Vec<SpendOfDay>, StoreError> {
        let connection = self.connection().await?;
        let sql = "SELECT to_char(day, 'YYYY-MM-DD') AS day, executor, input_tokens, output_tokens, cache_read_tokens,
                       cache_write_tokens, cost_microusd, turns
                   FROM spend WHERE day > (clock_timestamp() AT TIME ZONE 'UTC')::date - $1::bigint::integer
                   ORDER BY spend.day DESC, executor";
        let rows = connection.query_cached(sql, &[&i64::from(days)]).await?;
        rows.iter().map(of_day_from_row).collect()
    }
}

fn of_day_from_row(row: &Row) -> Result<SpendOfDay, StoreError> {
    let day: String = get(row, "day")?;
    Ok(SpendOfDay {
        day: day.parse().map_err(|error| StoreError::corrupt("day", error))?,
        executor: word(row, "executor")?,
        usage: usage_from_row(row)?,
    })
}

/// Reads the columns of a usage.
pub(crate) fn usage_from_row(row: &Row) -> Result<Usage, StoreError> {
    Ok(Usage {
        input_tokens: number::<i64, u64>(row, "input_tokens")?,
        output_tokens: number::<i64, u64>(row, "output_tokens")?,
        cache_read_tokens: number::<i64, u64>(row, "cache_read_tokens")?,
        cache_write_tokens: number::<i64, u64>(row, "cache_write_tokens")?,
        cost_microusd: number::<i64, u64>(row, "cost_microusd")?,
        turns: u32::try_from(get::<i64>(row, "turns")?).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(cost: u64) -> DaySpend {
        DaySpend {
            tokens: 0,
            cost_microusd: cost,
            reserved_microusd: 0,
            ends_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_is_set_aside_and_used_never_exceeds_the_day() {
        let mut today = day(100);
        let granted: Vec<u64> = std::iter::from_fn(|| today.set_aside(1000, None)).collect();
        assert_eq!(granted, [250, 250, 250, 150]);
        let mut today = day(0);
        let granted: Vec<u64> = std::iter::from_fn(|| today.set_aside(1000, Some(90))).collect();
        assert_eq!((granted.len(), granted.iter().sum::<u64>()), (12, 1000));
        assert_eq!(today.set_aside(1000, Some(0)), Some(0));
    }

    #[test]
    fn a_crumb_starts_no_run_and_says_so() {
        let limits = SpendLimits { day_cost_microusd: Some(1000), ..SpendLimits::default() };
        assert_eq!(day(990).exhausted(&limits), None);
        assert!(day(991).exhausted(&limits).is_some());
        assert_eq!(day(991).set_aside(1000, None), None);
        assert_eq!(day(5000).exhausted(&SpendLimits::default()), None);
        let limits = SpendLimits { day_tokens: Some(0), ..SpendLimits::default() };
        assert!(day(0).exhausted(&limits).is_some());
    }
}
