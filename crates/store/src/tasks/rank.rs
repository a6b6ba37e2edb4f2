//! The order in which tasks are taken: a number that is fixed when the task is made.
//!
//! A task gains as much by waiting five hours as by ten points. All that wait gain alike, so the gain need not be
//! written: points become an offset to the time of creation, the order is an index, and nobody starves.

use std::time::Duration;

use core_types::task::RiskLevel;

use crate::tasks::NewTask;

/// How far one point moves a task ahead: ten points are five hours.
const POINT: Duration = Duration::from_secs(30 * 60);
/// A task of at most this length goes ahead of longer ones.
const SHORT: Duration = Duration::from_secs(30 * 60);
/// What a short task gains.
const SHORT_POINTS: i64 = 5;

/// How far ahead of its creation a task stands in the line, in microseconds; negative is behind.
pub(crate) fn head_start_micros(task: &NewTask) -> i64 {
    let point = i64::try_from(POINT.as_micros()).unwrap_or(i64::MAX);
    points(task).saturating_mul(point)
}

fn points(task: &NewTask) -> i64 {
    // Added, never multiplied: a factor would turn a risky task of negative priority into an urgent one.
    let risk = match task.risk {
        RiskLevel::Low => 5,
        RiskLevel::Medium => 0,
        RiskLevel::High => -5,
    };
    let short = if task.timebox.is_some_and(|timebox| timebox <= SHORT) { SHORT_POINTS } else { 0 };
    i64::from(task.priority) + risk + short
}
