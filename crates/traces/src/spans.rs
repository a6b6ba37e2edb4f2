//! A run as spans, in the JSON of OTLP.
//!
//! Ids are made from what the database has: a trace's is its task's, a run's span has the run's last eight bytes, and
//! what is below is counted from there. So whoever tells a run, and however often, tells the same spans; and a log line's
//! `task.id` behind its `task-` is the trace.
//!
//! No title, goal, text or path is told, nor what a command printed: a collector is often somebody else's.

use core_types::{event::RunEvent, outcome::table::OutcomeClass};
use jiff::Timestamp;
use serde::Serialize;
use store::traces::EndedRun;

/// The whole of what is posted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    resource_spans: [ResourceSpans; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Debug, Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Debug, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

/// A stretch of time of a trace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: String,
    /// 1 is a part of the system's own work.
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    events: Vec<Moment>,
    status: Status,
}

/// Something that happened in a span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Moment {
    time_unix_nano: String,
    name: &'static str,
    attributes: Vec<Attribute>,
}

#[derive(Debug, Default, Serialize)]
struct Status {
    /// 0 is nothing said, 1 is well, 2 is an error.
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Attribute {
    key: &'static str,
    value: Value,
}

/// Numbers are texts, as in all of Protobuf's JSON.
#[derive(Debug, Serialize)]
enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "intValue")]
    Whole(String),
    #[serde(rename = "doubleValue")]
    Broken(f64),
    #[serde(rename = "boolValue")]
    Flag(bool),
}

fn text(key: &'static str, value: impl ToString) -> Attribute {
    Attribute { key, value: Value::Text(value.to_string()) }
}

fn count(key: &'static str, value: u64) -> Attribute {
    Attribute { key, value: Value::Whole(value.to_string()) }
}

impl Export {
    /// These runs, and the tasks that they ended.
    #[must_use]
    pub fn of(runs: &[EndedRun]) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let attributes = vec![text("service.name", "opentiger"), text("service.version", version)];
        let spans = runs.iter().flat_map(spans).collect();
        let scope = Scope { name: "opentiger", version };
        let scope_spans = [ScopeSpans { scope, spans }];
        Self { resource_spans: [ResourceSpans { resource: Resource { attributes }, scope_spans }] }
    }
}

/// The ids of one run's trace.
struct Ids {
    trace: String,
    task: u64,
    run: u64,
}

impl Ids {
    fn of(run: &EndedRun) -> Self {
        let task = run.task.as_uuid().as_u128();
        // The last eight bytes are random ones, and two bits that keep them from being zero.
        let last = |id: u128| u64::try_from(id & u128::from(u64::MAX)).unwrap_or(u64::MAX);
        Self {
            trace: format!("{task:032x}"),
            task: last(task),
            run: last(run.run.as_uuid().as_u128()),
        }
    }

    /// The id of the `number`th span below the run's.
    fn below(&self, number: usize) -> u64 {
        self.run.wrapping_add(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

fn nanos(at: Timestamp) -> String {
    at.as_nanosecond().max(0).to_string()
}

fn spans(run: &EndedRun) -> Vec<Span> {
    let ids = Ids::of(run);
    let mut spans = vec![run_span(run, &ids)];
    let accepted = run.started_at.unwrap_or(run.ended_at);
    spans.push(part(&ids, 1, "launch", run.claimed_at, accepted));
    let phases: Vec<(&str, Timestamp)> = run
        .milestones
        .iter()
        .filter_map(|(at, event)| match event {
            RunEvent::Phase { name } => Some((name.as_str(), *at)),
            _ => None,
        })
        .collect();
    for (number, (name, begins)) in phases.iter().enumerate() {
        let ends = phases.get(number + 1).map_or(run.ended_at, |(_, next)| *next);
        spans.push(part(&ids, number + 2, name, *begins, ends));
    }
    if let Some(finished_at) = run.task_finished_at {
        spans.push(task_span(run, &ids, finished_at));
    }
    spans
}

/// The whole life of a task, told with the run that ended it.
fn task_span(run: &EndedRun, ids: &Ids, finished_at: Timestamp) -> Span {
    Span {
        trace_id: ids.trace.clone(),
        span_id: format!("{:016x}", ids.task),
        parent_span_id: None,
        name: "task".to_owned(),
        kind: 1,
        start_time_unix_nano: nanos(run.task_created_at),
        end_time_unix_nano: nanos(finished_at),
        attributes: vec![
            text("opentiger.task.id", run.task),
            text("opentiger.task.role", run.role),
            count("opentiger.task.runs", run.number),
        ],
        events: Vec::new(),
        status: status(run),
    }
}

fn run_span(run: &EndedRun, ids: &Ids) -> Span {
    let mut attributes = vec![
        text("opentiger.task.id", run.task),
        text("opentiger.run.id", run.run),
        count("opentiger.run.number", run.number),
        text("opentiger.environment", run.environment),
        text("opentiger.executor", run.executor),
        text("opentiger.task.role", run.role),
        text("opentiger.outcome", run.outcome),
        count("gen_ai.usage.input_tokens", run.usage.input_tokens),
        count("gen_ai.usage.output_tokens", run.usage.output_tokens),
        count("opentiger.usage.cache_read_tokens", run.usage.cache_read_tokens),
        count("opentiger.usage.cache_write_tokens", run.usage.cache_write_tokens),
        Attribute {
            key: "opentiger.usage.cost_dollars",
            value: Value::Broken(run.usage.cost_microusd as f64 / 1e6),
        },
    ];
    attributes.extend(run.host.as_ref().map(|host| text("host.name", host)));
    attributes.extend(run.model.as_ref().map(|model| text("gen_ai.request.model", model)));
    let events = run.milestones.iter().filter_map(|(at, event)| verification(*at, event));
    Span {
        trace_id: ids.trace.clone(),
        span_id: format!("{:016x}", ids.run),
        parent_span_id: Some(format!("{:016x}", ids.task)),
        name: "run".to_owned(),
        kind: 1,
        start_time_unix_nano: nanos(run.claimed_at),
        end_time_unix_nano: nanos(run.ended_at),
        attributes,
        events: events.collect(),
        status: status(run),
    }
}

/// A part of a run. Clocks of two machines may disagree: no part ends before it begins.
fn part(ids: &Ids, number: usize, name: &str, begins: Timestamp, ends: Timestamp) -> Span {
    Span {
        trace_id: ids.trace.clone(),
        span_id: format!("{:016x}", ids.below(number)),
        parent_span_id: Some(format!("{:016x}", ids.run)),
        name: name.to_owned(),
        kind: 1,
        start_time_unix_nano: nanos(begins),
        end_time_unix_nano: nanos(ends.max(begins)),
        attributes: Vec::new(),
        events: Vec::new(),
        status: Status::default(),
    }
}

fn verification(at: Timestamp, event: &RunEvent) -> Option<Moment> {
    let RunEvent::Verification { passed, .. } = event else {
        return None;
    };
    let passed = Attribute { key: "opentiger.verification.passed", value: Value::Flag(*passed) };
    Some(Moment { time_unix_nano: nanos(at), name: "verification", attributes: vec![passed] })
}

fn status(run: &EndedRun) -> Status {
    let rule = run.outcome.rule();
    match rule.class {
        OutcomeClass::Success => Status { code: 1, message: None },
        OutcomeClass::Interruption => Status::default(),
        OutcomeClass::Work
        | OutcomeClass::Provider
        | OutcomeClass::Login
        | OutcomeClass::Launch
        | OutcomeClass::Host
        | OutcomeClass::Caller => Status { code: 2, message: Some(rule.text) },
    }
}

#[cfg(test)]
mod tests {
    use core_types::{
        ids::{RunId, TaskId},
        outcome::RunOutcome,
        task::{ExecutionEnvironment, ExecutorKind, Role},
        usage::Usage,
    };
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn run() -> EndedRun {
        let phase = |second, name: &str| (at(second), RunEvent::Phase { name: name.to_owned() });
        let verification = RunEvent::Verification {
            command: vec!["secret-command".to_owned()],
            passed: false,
            status: "exit code 1".to_owned(),
            output: "secret output".to_owned(),
        };
        EndedRun {
            run: RunId::generate(),
            task: TaskId::generate(),
            number: 2,
            environment: ExecutionEnvironment::Sandbox,
            host: None,
            executor: ExecutorKind::ClaudeCode,
            role: Role::Worker,
            model: None,
            outcome: RunOutcome::VerificationFailed,
            usage: Usage { input_tokens: 7, cost_microusd: 250_000, ..Usage::default() },
            task_created_at: at(0),
            task_finished_at: Some(at(90)),
            claimed_at: at(10),
            started_at: Some(at(11)),
            ended_at: at(90),
            milestones: vec![
                phase(12, "preparing"),
                phase(20, "agent"),
                (at(80), verification),
                phase(70, "verifying"),
            ],
        }
    }

    #[test]
    fn a_task_is_one_trace_of_its_runs_and_their_phases() {
        let run = run();
        let export = serde_json::to_value(Export::of(std::slice::from_ref(&run))).unwrap();
        let spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        let names: Vec<&str> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["run", "launch", "preparing", "agent", "verifying", "task"]);
        let trace = run.task.as_uuid().simple().to_string();
        let ids: std::collections::BTreeSet<&str> =
            spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), spans.len());
        for span in spans {
            assert_eq!(span["traceId"], trace.as_str());
            assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
            let [from, to] = ["startTimeUnixNano", "endTimeUnixNano"]
                .map(|key| span[key].as_str().unwrap().parse::<u64>().unwrap());
            assert!(from <= to && from > 1_000_000_000_000_000_000, "{span}");
        }
        assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
        assert_eq!(spans[0]["parentSpanId"], spans[5]["spanId"]);
        assert_eq!(spans[5].get("parentSpanId"), None);
        assert_eq!(spans[0]["status"]["code"], 2);
        assert_eq!(spans[3]["endTimeUnixNano"], spans[4]["startTimeUnixNano"]);
        let tokens = json!({ "key": "gen_ai.usage.input_tokens", "value": { "intValue": "7" } });
        assert!(spans[0]["attributes"].as_array().unwrap().contains(&tokens));
        assert_eq!(spans[0]["events"][0]["name"], "verification");
    }

    #[test]
    fn what_was_printed_and_asked_for_is_not_told() {
        let text = serde_json::to_string(&Export::of(&[run()])).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn telling_it_twice_tells_the_same() {
        let run = run();
        let told = |run: &EndedRun| serde_json::to_string(&Export::of(std::slice::from_ref(run)));
        assert_eq!(told(&run).unwrap(), told(&run).unwrap());
    }
}
