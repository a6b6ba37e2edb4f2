//! What was used, and what is left of it, as clients see it.

use std::collections::BTreeMap;

use core_types::{task::ExecutorKind, usage::SpendLimits};
use jiff::Timestamp;
use serde::Serialize;
use store::spend::{DaySpend, SpendOfDay};
use utoipa::ToSchema;

use crate::views::run::{UsageView, usd};

/// What was used today and on the days before. Days are those of UTC.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SpendView {
    pub(crate) today: TodayView,
    pub(crate) caps: CapsView,
    /// The last 30 days, the latest first; days without any are left out.
    pub(crate) days: Vec<DayView>,
}

/// What was used of today.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TodayView {
    pub(crate) tokens: u64,
    pub(crate) cost_usd: f64,
    /// What runs that are alive may still spend.
    pub(crate) reserved_usd: f64,
    /// What is left of the day's tokens; absent without a limit.
    pub(crate) tokens_left: Option<u64>,
    /// What is left of the day's money; absent without a limit.
    pub(crate) cost_left_usd: Option<f64>,
    /// When the day is over.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) ends_at: Timestamp,
    /// Why nothing is handed out until then; absent while there is something left.
    pub(crate) exhausted: Option<String>,
}

/// The limits in force; absent is without limit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CapsView {
    pub(crate) task_tokens: Option<u64>,
    pub(crate) task_cost_usd: Option<f64>,
    pub(crate) daily_tokens: Option<u64>,
    pub(crate) daily_cost_usd: Option<f64>,
}

/// What was used on a day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DayView {
    #[schema(value_type = String, format = Date)]
    pub(crate) day: String,
    /// What each executor used.
    pub(crate) by_executor: BTreeMap<&'static str, UsageView>,
}

impl SpendView {
    pub(crate) fn new(today: &DaySpend, days: Vec<SpendOfDay>, limits: &SpendLimits) -> Self {
        let DaySpend { tokens, cost_microusd, reserved_microusd, ends_at } = *today;
        let cost_left =
            |limit: u64| usd(limit.saturating_sub(cost_microusd).saturating_sub(reserved_microusd));
        Self {
            today: TodayView {
                tokens,
                cost_usd: usd(cost_microusd),
                reserved_usd: usd(reserved_microusd),
                tokens_left: limits.day_tokens.map(|limit| limit.saturating_sub(tokens)),
                cost_left_usd: limits.day_cost_microusd.map(cost_left),
                ends_at,
                exhausted: today.exhausted(limits).map(|spent| spent.message),
            },
            caps: CapsView {
                task_tokens: limits.task_tokens,
                task_cost_usd: limits.task_cost_microusd.map(usd),
                daily_tokens: limits.day_tokens,
                daily_cost_usd: limits.day_cost_microusd.map(usd),
            },
            days: by_day(days),
        }
    }
}

fn by_day(spend: Vec<SpendOfDay>) -> Vec<DayView> {
    let mut days: Vec<DayView> = Vec::new();
    for SpendOfDay { day, executor, usage } in spend {
        let day = day.to_string();
        let of_executor = (ExecutorKind::as_str(executor), UsageView::from(usage));
        match days.last_mut().filter(|last| last.day == day) {
            Some(last) => drop(last.by_executor.insert(of_executor.0, of_executor.1)),
            None => days.push(DayView { day, by_executor: BTreeMap::from([of_executor]) }),
        }
    }
    days
}

#[cfg(test)]
mod tests {
    use core_types::usage::Usage;

    use super::*;

    #[test]
    fn executors_of_a_day_stand_together() {
        let of = |day: &str, executor| SpendOfDay {
            day: day.parse().unwrap(),
            executor,
            usage: Usage { output_tokens: 3, ..Usage::default() },
        };
        let days = by_day(vec![
            of("2026-11-24", ExecutorKind::ClaudeCode),
            of("2026-11-24", ExecutorKind::Opencode),
            of("2026-11-23", ExecutorKind::Opencode),
        ]);
        let shown: Vec<(&str, usize)> =
            days.iter().map(|day| (day.day.as_str(), day.by_executor.len())).collect();
        assert_eq!(shown, [("2026-11-24", 2), ("2026-11-23", 1)]);
    }
}
