//! What is told to whoever collects numbers: names, kinds, labels, and their text.
//!
//! One table says what each number is called; `docs/metrics.md` and `docs/ja/metrics.md` are written from it. Numbers come
//! from the database, so that every process's truth shows whichever server is asked; a few are this server's own.

mod japanese;

use std::{collections::HashMap, fmt, iter};

use core_types::auth::Language;
/// The kind of the answer's text.
pub(crate) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};
use store::measures::{Measure, Measures, Stretch};

/// How a number behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Times, by how many took less than each bound.
    Histogram,
}

/// A number and what it means.
#[derive(Debug, Clone, Copy)]
struct About {
    /// As it is written, for a counter without `_total`.
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

impl About {
    const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// The name under which a collector finds it.
    fn found_as(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }

    /// Its line in the table, with what it is in the language of the page.
    fn line(&self, help: &str) -> String {
        let kind = match self.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {kind} | {} | {} |\n", self.found_as(), labels.join(", "), help)
    }
}

#[expect(clippy::too_many_lines, reason = "a table, one line after the other")]
const fn of_measure(measure: Measure) -> About {
    match measure {
        Measure::Tasks => About::gauge(
            "opentiger_tasks",
            &["role", "status"],
            "Tasks that are kept, by role and status.",
        ),
        Measure::Queued => About::gauge(
            "opentiger_tasks_queued",
            &["waits_for"],
            "Queued tasks, by what they wait for: dependency, cooldown, area, gate, or only their turn.",
        ),
        Measure::Blocked => {
            About::gauge("opentiger_tasks_blocked", &["reason"], "Blocked tasks, by reason.")
        }
        Measure::OldestQueued => About::gauge(
            "opentiger_oldest_queued_task_seconds",
            &[],
            "For how long the queued task that was made first has been there; absent where none is queued.",
        ),
        Measure::LiveRuns => About::gauge(
            "opentiger_runs_alive",
            &["environment", "status"],
            "Runs that are alive; in the environment sandbox each is a container.",
        ),
        Measure::EndedRuns => About::counter(
            "opentiger_runs_ended",
            &["environment", "executor", "role", "outcome"],
            "Runs that ended, by outcome; those that were cleaned up since are counted too.",
        ),
        Measure::Tokens => About::counter(
            "opentiger_tokens",
            &["executor", "kind"],
            "Tokens used, by kind: input, output, cache_read, cache_write.",
        ),
        Measure::Cost => About::counter(
            "opentiger_cost_dollars",
            &["executor"],
            "US dollars spent, as the command lines estimate them.",
        ),
        Measure::DayTokens => {
            About::gauge("opentiger_day_tokens", &[], "Tokens used on this day of UTC.")
        }
        Measure::DayCost => {
            About::gauge("opentiger_day_cost_dollars", &[], "US dollars spent on this day of UTC.")
        }
        Measure::ExpiredLeases => About::gauge(
            "opentiger_leases_expired",
            &[],
            "Runs whose lease is over and that no dispatcher took back yet.",
        ),
        Measure::Agents => About::gauge(
            "opentiger_agents",
            &["role", "state"],
            "Agents of hosts that live, by whether they are idle or busy.",
        ),
        Measure::Dispatchers => About::gauge(
            "opentiger_dispatchers",
            &["state"],
            "Dispatchers that live, by whether they are claiming or paused.",
        ),
        Measure::Processes => {
            About::gauge("opentiger_processes", &["state"], "Managed processes, by state.")
        }
        Measure::Restarts => About::counter(
            "opentiger_process_restarts",
            &["name"],
            "Starts of a managed process after an end that nobody asked for.",
        ),
        Measure::GateOpen => About::gauge(
            "opentiger_gate_open",
            &["environment", "executor", "provider"],
            "Whether runs of an executor are handed out: 1 or 0. A provider without a row is open.",
        ),
        Measure::Notices => About::gauge(
            "opentiger_notices",
            &["state"],
            "Notices that are pending, or failed for good.",
        ),
        Measure::DatabaseBytes => {
            About::gauge("opentiger_database_bytes", &[], "Bytes of the database on disk.")
        }
    }
}

const fn of_stretch(stretch: Stretch) -> About {
    let labels = &["environment", "executor"];
    match stretch {
        Stretch::Wait => About {
            name: "opentiger_task_wait_seconds",
            kind: Kind::Histogram,
            labels,
            help: "From when a task could be taken (nothing to wait for but a free place) to its claim, by runs that ended.",
        },
        Stretch::Start => About {
            name: "opentiger_run_start_seconds",
            kind: Kind::Histogram,
            labels,
            help: "From the claim of a run to the moment at which its worker accepted it.",
        },
        Stretch::Duration => About {
            name: "opentiger_run_duration_seconds",
            kind: Kind::Histogram,
            labels,
            help: "From a worker's acceptance of a run to the end of the run.",
        },
    }
}

const BUILD: About = About::gauge(
    "opentiger_build",
    &["version"],
    "Always 1; the version of the server that was asked.",
);
const DATABASE_UP: About = About::gauge(
    "opentiger_database_up",
    &[],
    "Whether the database answered: 1 or 0. At 0 everything that comes from it is absent.",
);
const REDIS_UP: About = About::gauge(
    "opentiger_redis_up",
    &[],
    "Whether Redis answers the server that was asked: 1 or 0; absent where there is none.",
);
const SETTINGS_FAULTS: About = About::gauge(
    "opentiger_settings_faults",
    &[],
    "Rows of settings that cannot be used; while there are any, nothing is claimed.",
);

/// What a server says of itself, and what it read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// What the database says; absent where it did not answer.
    pub(crate) measures: Option<Measures>,
    /// Whether Redis answers, where there is one.
    pub(crate) redis: Option<bool>,
    /// How many rows of settings cannot be used.
    pub(crate) faults: usize,
}

impl Told {
    /// All of it as text for a collector.
    pub(crate) fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let encoder = &mut encoder;
        number(encoder, &BUILD, [(&[env!("CARGO_PKG_VERSION").to_owned()][..], 1.0)])?;
        let up = |is_up: bool| f64::from(u8::from(is_up));
        number(encoder, &DATABASE_UP, [(&[][..], up(self.measures.is_some()))])?;
        number(encoder, &REDIS_UP, self.redis.map(|is_up| (&[][..], up(is_up))))?;
        number(encoder, &SETTINGS_FAULTS, [(&[][..], self.faults as f64)])?;
        let Some(measures) = &self.measures else { return Ok(()) };
        for measure in Measure::ALL {
            let of_it = measures.counts.iter().filter(|counted| counted.measure == *measure);
            let values = of_it.map(|counted| (counted.labels.as_slice(), counted.value));
            number(encoder, &of_measure(*measure), values)?;
        }
        for stretch in Stretch::ALL {
            times(encoder, &of_stretch(*stretch), measures, *stretch)?;
        }
        Ok(())
    }
}

fn number<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    about: &About,
    values: impl IntoIterator<Item = (&'a [String], f64)>,
) -> Result<(), fmt::Error> {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let kind = match about.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge | Kind::Histogram => MetricType::Gauge,
    };
    let mut metric = encoder.encode_descriptor(about.name, about.help, None, kind)?;
    for (labels, value) in values {
        let labels = labelled(about, labels);
        let mut one = metric.encode_family(&labels)?;
        match about.kind {
            Kind::Counter => one.encode_counter::<Labels<'_>, _, f64>(&value, None)?,
            Kind::Gauge | Kind::Histogram => one.encode_gauge(&value)?,
        }
    }
    Ok(())
}

fn times(
    encoder: &mut DescriptorEncoder<'_>,
    about: &About,
    measures: &Measures,
    stretch: Stretch,
) -> Result<(), fmt::Error> {
    let mut timings = measures.timings.iter().filter(|timing| timing.stretch == stretch).peekable();
    if timings.peek().is_none() {
        return Ok(());
    }
    let mut metric =
        encoder.encode_descriptor(about.name, about.help, None, MetricType::Histogram)?;
    for timing in timings {
        let labels = [timing.environment.clone(), timing.executor.clone()];
        let labels = labelled(about, &labels);
        let count = timing.buckets.iter().map(|(_, runs)| runs).sum();
        let none = None::<&HashMap<usize, Exemplar<Labels<'_>, f64>>>;
        metric.encode_family(&labels)?.encode_histogram(
            timing.seconds,
            count,
            &timing.buckets,
            none,
        )?;
    }
    Ok(())
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

fn labelled<'a>(about: &About, values: &'a [String]) -> Labels<'a> {
    about.labels.iter().copied().zip(values.iter().map(String::as_str)).collect()
}

const HEAD: &str = "<!-- Written from the table in crates/api/src/metrics.rs by `cargo xtask docs`; do not edit. -->

# Metrics

What `GET /metrics` tells, in the text format of Prometheus. [operations.md](operations.md) says how to collect it and what
to watch. Names and labels stay as they are within a major version.

Everything below but `opentiger_build`, `opentiger_database_up`, `opentiger_redis_up` and `opentiger_settings_faults` comes
from the database and is the same whichever server is asked: collect it from one, or do not add up servers. A line is
absent where there is nothing to count. Counters go on when old runs are removed and when programs are started again.

| name | kind | labels | what it is |
|---|---|---|---|
";

/// The page `docs/metrics.md`, or its translation.
#[must_use]
pub fn render_markdown(language: Language) -> String {
    let own = [
        (BUILD, japanese::BUILD),
        (DATABASE_UP, japanese::DATABASE_UP),
        (REDIS_UP, japanese::REDIS_UP),
        (SETTINGS_FAULTS, japanese::SETTINGS_FAULTS),
    ];
    let measured = Measure::ALL.iter().map(|one| (of_measure(*one), japanese::of_measure(*one)));
    let timed = Stretch::ALL.iter().map(|one| (of_stretch(*one), japanese::of_stretch(*one)));
    let lines = own.into_iter().chain(measured).chain(timed);
    let (head, lines): (&str, Vec<String>) = match language {
        Language::English => (HEAD, lines.map(|(about, _)| about.line(about.help)).collect()),
        Language::Japanese => {
            (japanese::HEAD, lines.map(|(about, help)| about.line(help)).collect())
        }
    };
    iter::once(head.to_owned()).chain(lines).collect()
}
