//! Charts as SVG: columns over time, each with its value in words for whoever points at it or hears it.

use core_types::auth::Language;
use jiff::{Timestamp, fmt::strtime};
use store::{flow::HourOfRuns, spend::SpendOfDay};

use crate::pages::{
    shown::{dollars, short, span},
    texts::overview::OverviewTexts,
};

/// Width and height of the part of a chart in which columns stand, in its own units.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 120.0;
/// How many hours and days are shown.
const HOURS: i64 = 24;
const DAYS: i64 = 14;

/// A column of a chart.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) width: String,
    pub(crate) height: String,
    pub(crate) tone: &'static str,
    pub(crate) words: String,
}

/// Columns over time.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// The sum or the last value, in words.
    pub(crate) figure: String,
    /// The greatest value, at the top of the scale.
    pub(crate) top: String,
    pub(crate) first: String,
    pub(crate) last: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) legend: Vec<(&'static str, &'static str)>,
}

/// One place on the time line: its name, and parts that stand on each other.
struct Slot {
    name: String,
    parts: Vec<(f64, &'static str)>,
    words: String,
}

fn chart(
    title: &'static str,
    figure: String,
    slots: Vec<Slot>,
    told: impl Fn(f64) -> String,
) -> Chart {
    let sum = |slot: &Slot| slot.parts.iter().map(|(value, _)| value).sum::<f64>();
    let top = slots.iter().map(sum).fold(0.0, f64::max);
    let step = WIDTH / slots.len().max(1) as f64;
    let mut columns = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        let mut floor = HEIGHT;
        for (value, tone) in slot.parts.iter().filter(|(value, _)| *value > 0.0) {
            let height = value / top * HEIGHT;
            floor -= height;
            columns.push(Column {
                x: format!("{:.1}", step.mul_add(index as f64, step * 0.1)),
                y: format!("{floor:.1}"),
                width: format!("{:.1}", step * 0.8),
                height: format!("{height:.1}"),
                tone,
                words: format!("{}: {}", slot.name, slot.words),
            });
        }
    }
    let name = |slot: Option<&Slot>| slot.map(|slot| slot.name.clone()).unwrap_or_default();
    let (first, last) = (name(slots.first()), name(slots.last()));
    Chart { title, figure, top: told(top), first, last, columns, legend: Vec::new() }
}

/// Charts of the last day's runs: how many, how long they waited, how long they took.
pub(crate) fn of_hours(hours: &[HourOfRuns], language: Language) -> [Chart; 3] {
    let t = OverviewTexts::of(language);
    let this_hour = Timestamp::now().as_second() / 3600;
    let slots = |parts: &dyn Fn(&HourOfRuns) -> Vec<(f64, &'static str)>,
                 told: &dyn Fn(&HourOfRuns) -> String| {
        let slot = |number: i64| {
            let hour = hours.iter().find(|hour| hour.at.as_second() / 3600 == number);
            let at = Timestamp::from_second(number * 3600).unwrap_or_default();
            Slot {
                name: strtime::format("%H:%M UTC", at).unwrap_or_default(),
                parts: hour.map(parts).unwrap_or_default(),
                words: hour.map(told).unwrap_or_default(),
            }
        };
        (this_hour - HOURS + 1..=this_hour).map(slot).collect::<Vec<_>>()
    };
    let (good, bad) =
        hours.iter().fold((0, 0), |(good, bad), hour| (good + hour.succeeded, bad + hour.failed));
    let rate = (good * 100).checked_div(good + bad).map(|rate| format!(" · {rate} %"));
    let figure = format!("{}{}", good + bad, rate.unwrap_or_default());
    let runs = slots(
        &|hour| vec![(hour.succeeded as f64, "good"), (hour.failed as f64, "bad")],
        &|hour| format!("{} {}, {} {}", hour.succeeded, t.chart_good, hour.failed, t.chart_bad),
    );
    let throughput = Chart {
        legend: vec![("good", t.chart_good), ("bad", t.chart_bad)],
        ..chart(t.chart_runs, figure, runs, |top| format!("{top:.0}"))
    };
    let medians = |title, of: fn(&HourOfRuns) -> Option<f64>| {
        let told = |hour: &HourOfRuns| of(hour).map(span).unwrap_or_default();
        let latest = hours.iter().rev().find_map(of).map(span).unwrap_or_default();
        chart(
            title,
            latest,
            slots(&|hour| vec![(of(hour).unwrap_or_default(), "busy")], &told),
            span,
        )
    };
    [
        throughput,
        medians(t.chart_wait, |hour| hour.wait_s),
        medians(t.chart_duration, |hour| hour.run_s),
    ]
}

/// Charts of what was used on the last days: tokens and money.
pub(crate) fn of_days(days: &[SpendOfDay], language: Language) -> [Chart; 2] {
    let t = OverviewTexts::of(language);
    let today = Timestamp::now().as_second() / 86_400;
    let used = |name: &str| {
        let of_day = days.iter().filter(|day| day.day.to_string() == name);
        of_day.fold((0, 0), |(tokens, cost), day| {
            (tokens + day.usage.total_tokens(), cost + day.usage.cost_microusd)
        })
    };
    let slots = |of: &dyn Fn((u64, u64)) -> f64, tone, told: &dyn Fn(f64) -> String| {
        let slot = |number: i64| {
            let at = Timestamp::from_second(number * 86_400).unwrap_or_default();
            let name = strtime::format("%Y-%m-%d", at).unwrap_or_default();
            let value = of(used(&name));
            Slot { words: told(value), parts: vec![(value, tone)], name }
        };
        (today - DAYS + 1..=today).map(slot).collect::<Vec<_>>()
    };
    let last = |slots: &[Slot]| slots.last().map(|slot| slot.words.clone()).unwrap_or_default();
    let (in_tokens, in_dollars) = (|value: f64| short(value as u64), dollars);
    let tokens = slots(&|(tokens, _)| tokens as f64, "busy", &in_tokens);
    let money = slots(&|(_, cost)| cost as f64 / 1e6, "accent", &in_dollars);
    [
        chart(t.chart_tokens, last(&tokens), tokens, in_tokens),
        chart(t.chart_cost, last(&money), money, in_dollars),
    ]
}
