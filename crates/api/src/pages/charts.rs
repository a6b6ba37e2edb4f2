//! Charts: columns over time as SVG, with scales that people can read and the same numbers as a table.

use core_types::auth::Language;
use jiff::{Timestamp, fmt::strtime};
use store::{
    flow::{Slot, Spread},
    spend::SpendOfDay,
};

use crate::{
    charted::{Charted, Window},
    pages::{
        scale::{Unit, top_of},
        shown::{count, dollars, short, span},
        texts::overview::OverviewTexts,
    },
};

/// Width and height of the part of a chart in which columns stand, in its own units.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 120.0;

/// A column of a chart, or the part of one.
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
    /// All of that, for whoever hears it.
    pub(crate) spoken: String,
    /// What one column is of.
    pub(crate) per: &'static str,
    /// The scale from its top to nothing; none where there is nothing to show.
    pub(crate) ticks: Vec<String>,
    /// Names along the time, each where its part begins.
    pub(crate) marks: Vec<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) legend: Vec<(&'static str, &'static str)>,
    /// The same as a table: what its columns are called, and its rows.
    pub(crate) heads: Vec<&'static str>,
    pub(crate) rows: Vec<(String, Vec<String>)>,
}

/// One place on the time line: its names, and parts that stand on each other, each in words.
struct Place {
    name: String,
    mark: String,
    parts: Vec<(f64, &'static str, String)>,
}

/// What is the same for each place of a chart.
struct Kind {
    title: &'static str,
    per: &'static str,
    unit: Unit,
    /// Into how many equal parts the time is marked.
    marks: usize,
    legend: Vec<(&'static str, &'static str)>,
}

fn chart(kind: Kind, figure: String, places: Vec<Place>) -> Chart {
    let sum = |place: &Place| place.parts.iter().map(|(value, ..)| value).sum::<f64>();
    let greatest = places.iter().map(sum).fold(0.0, f64::max);
    let top = top_of(greatest, kind.unit);
    let step = WIDTH / places.len().max(1) as f64;
    let mut columns = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let mut floor = HEIGHT;
        for (value, tone, words) in place.parts.iter().filter(|(value, ..)| *value > 0.0) {
            let height = value / top * HEIGHT;
            floor -= height;
            columns.push(Column {
                x: format!("{:.1}", step.mul_add(index as f64, step * 0.1)),
                y: format!("{floor:.1}"),
                width: format!("{:.1}", step * 0.8),
                height: format!("{height:.1}"),
                tone,
                words: format!("{}: {words}", place.name),
            });
        }
    }
    let every = places.len().div_ceil(kind.marks.max(1)).max(1);
    let told = |value| kind.unit.tick(value);
    let nothing = columns.is_empty();
    let (title, per) = (kind.title, kind.per);
    Chart {
        title,
        spoken: format!("{title}, {per}. {figure}. 0 – {}", told(top)),
        figure,
        per,
        ticks: if nothing { Vec::new() } else { vec![told(top), told(top / 2.0), told(0.0)] },
        marks: places.iter().step_by(every).map(|place| place.mark.clone()).collect(),
        columns,
        heads: kind.legend.iter().map(|(_, words)| *words).collect(),
        legend: if kind.legend.len() > 1 { kind.legend } else { Vec::new() },
        rows: places.into_iter().filter_map(row).collect(),
    }
}

/// A place as a row of the table; none where nothing happened.
fn row(place: Place) -> Option<(String, Vec<String>)> {
    let is_empty = place.parts.iter().all(|(value, ..)| *value <= 0.0);
    let words = place.parts.into_iter().map(|(.., words)| words).collect();
    (!is_empty).then_some((place.name, words))
}

/// The charts of a time; those of which nothing is known are left out.
pub(crate) fn charts(charted: &Charted, window: Window, language: Language) -> Vec<Chart> {
    let t = OverviewTexts::of(language);
    let of_flow = charted.flow.iter().flat_map(|flow| of_runs(flow, window, t));
    let of_days = charted.days.iter().flat_map(|days| of_spend(days, window, t));
    of_flow.chain(of_days).collect()
}

/// How many runs, how long tasks waited, how long runs took.
fn of_runs(flow: &[Slot], window: Window, t: &'static OverviewTexts) -> [Chart; 3] {
    let (per, marks, long, mark) = match window {
        Window::Day => (t.per_hour, 4, "%m-%d %H:%M", "%H:%M"),
        Window::Week => (t.per_six_hours, 7, "%m-%d %H:%M", "%m-%d"),
        Window::Month => (t.per_day, 6, "%Y-%m-%d", "%m-%d"),
    };
    let text = |format: &str, at: Timestamp| strtime::format(format, at).unwrap_or_default();
    let place =
        |slot: &Slot, parts| Place { name: text(long, slot.at), mark: text(mark, slot.at), parts };
    let (good, bad) =
        flow.iter().fold((0, 0), |(good, bad), slot| (good + slot.succeeded, bad + slot.failed));
    let rate = (good * 100).checked_div(good + bad);
    let rate = rate.map(|rate| format!(" · {rate} % {}", t.chart_good)).unwrap_or_default();
    let ended = |slot: &Slot| {
        let (good, bad) = (slot.succeeded, slot.failed);
        let parts = vec![
            (good as f64, "good", format!("{} {}", count(good), t.chart_good)),
            (bad as f64, "bad", format!("{} {}", count(bad), t.chart_bad)),
        ];
        place(slot, parts)
    };
    let kind = Kind {
        title: t.chart_runs,
        per,
        unit: Unit::Number,
        marks,
        legend: vec![("good", t.chart_good), ("bad", t.chart_bad)],
    };
    let throughput =
        chart(kind, format!("{}{rate}", count(good + bad)), flow.iter().map(ended).collect());
    let spreads = |title, of: fn(&Slot) -> Option<Spread>| {
        let legend = vec![("busy", t.half_within), ("wait", t.most_within)];
        let kind = Kind { title, per, unit: Unit::Seconds, marks, legend };
        let parts = |slot: &Slot| {
            let Some(Spread { half, most }) = of(slot) else { return place(slot, Vec::new()) };
            let half_words = format!("{} ({})", span(half), t.half_within);
            let most_words = format!("{} ({})", span(most), t.most_within);
            place(slot, vec![(half, "busy", half_words), (most - half, "wait", most_words)])
        };
        let latest = flow.iter().rev().find_map(of);
        let figure = latest.map(|latest| format!("{} {}", t.latest, span(latest.half)));
        chart(kind, figure.unwrap_or_default(), flow.iter().map(parts).collect())
    };
    [
        throughput,
        spreads(t.chart_wait, |slot| slot.waited),
        spreads(t.chart_duration, |slot| slot.took),
    ]
}

/// What was used on the last days: tokens and money.
fn of_spend(days: &[SpendOfDay], window: Window, t: &'static OverviewTexts) -> [Chart; 2] {
    let number = i64::from(window.days());
    let today = Timestamp::now().as_second() / 86_400;
    let used = |name: &str| {
        let of_day = days.iter().filter(|day| day.day.to_string() == name);
        of_day.fold((0, 0), |(tokens, cost), day| {
            (tokens + day.usage.total_tokens(), cost + day.usage.cost_microusd)
        })
    };
    let all: Vec<(String, String, (u64, u64))> = (today - number + 1..=today)
        .map(|day| {
            let at = Timestamp::from_second(day * 86_400).unwrap_or_default();
            let name = strtime::format("%Y-%m-%d", at).unwrap_or_default();
            let mark = strtime::format("%m-%d", at).unwrap_or_default();
            let used = used(&name);
            (name, mark, used)
        })
        .collect();
    let (tokens, cost) = all
        .iter()
        .fold((0, 0), |(tokens, cost), (_, _, (more, money))| (tokens + more, cost + money));
    let places = |tone, of: &dyn Fn((u64, u64)) -> (f64, String)| {
        let place = |(name, mark, used): &(String, String, (u64, u64))| {
            let (value, words) = of(*used);
            Place { name: name.clone(), mark: mark.clone(), parts: vec![(value, tone, words)] }
        };
        all.iter().map(place).collect::<Vec<_>>()
    };
    let marks = if number > 14 { 6 } else { 7 };
    let kind = |title, unit, tone| Kind {
        title,
        per: t.per_day,
        unit,
        marks,
        legend: vec![(tone, title)],
    };
    let usd = |cost: u64| dollars(cost as f64 / 1e6);
    [
        chart(
            kind(t.chart_tokens, Unit::Tokens, "busy"),
            short(tokens),
            places("busy", &|(tokens, _)| (tokens as f64, short(tokens))),
        ),
        chart(
            kind(t.chart_cost, Unit::Dollars, "accent"),
            usd(cost),
            places("accent", &|(_, cost)| (cost as f64 / 1e6, usd(cost))),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Vec<Slot> {
        let slot = |index: i64| Slot {
            at: Timestamp::from_second(1_767_225_600 + index * 3600).unwrap(),
            ..Slot::default()
        };
        let mut flow: Vec<Slot> = (0..24).map(slot).collect();
        flow[6] = Slot {
            succeeded: 30,
            failed: 10,
            waited: Some(Spread { half: 40.0, most: 100.0 }),
            ..flow[6]
        };
        flow
    }

    #[test]
    fn a_chart_has_a_round_scale_marks_at_their_places_and_the_same_as_a_table() {
        let charted = Charted { flow: Some(flow()), days: None };
        let charts = charts(&charted, Window::Day, Language::English);
        let [runs, wait, took] = charts.as_slice() else { panic!("{charts:?}") };
        assert_eq!(runs.ticks, ["40", "20", "0"]);
        assert_eq!(runs.marks, ["00:00", "06:00", "12:00", "18:00"]);
        assert_eq!(runs.figure, "40 · 75 % succeeded");
        let tops: Vec<&str> = runs.columns.iter().map(|column| column.y.as_str()).collect();
        assert_eq!(tops, ["30.0", "0.0"], "the failed ones stand on the others");
        let [(hour, cells)] = runs.rows.as_slice() else { panic!("{:?}", runs.rows) };
        assert_eq!(hour, "01-01 06:00");
        assert_eq!(cells.as_slice(), ["30 succeeded", "10 failed"]);
        assert_eq!(wait.ticks, ["2 min", "1 min", "0"]);
        assert!(wait.columns[1].words.contains("1 min 40 s"), "{:?}", wait.columns);
        assert!(took.ticks.is_empty() && took.columns.is_empty(), "nothing ended: {took:?}");
    }
}
