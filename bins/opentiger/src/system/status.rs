//! `status`: ready or not, why, and what runs.

use client::{
    client::Client,
    error::{ClientError, Meaning},
    readiness::Readiness,
};
use core_types::task::TaskStatus;
use serde_json::{Map, Value, json};

use super::{
    processes::{Process, optional, read as read_processes},
    state::{Kind, StateDir},
};
use crate::{
    code::Code,
    console::{Console, Style},
    failure::Failure,
    server::Wanted,
    surroundings::Surroundings,
    table::Columns,
    units,
};

/// What the server is asked besides its readiness; what it does not have, or may not tell, is left out.
const PARTS: &[(&str, &str)] = &[
    ("processes", "/system/processes"),
    ("agents", "/agents"),
    ("tasks", "/tasks/summary"),
    ("gates", "/system/gates"),
    ("usage", "/system/usage"),
];

/// Shows how the system stands.
pub(crate) async fn run(
    wanted: &Wanted,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let client = match wanted.client(surroundings) {
        Ok(client) => client,
        Err(failure) if failure.code == Code::NotRunning => {
            return not_running(failure, wanted, surroundings, console).await;
        }
        Err(failure) => return Err(failure),
    };
    let readiness = match client.readiness().await {
        Ok(told) => told,
        Err(error @ ClientError::Unreachable { .. }) => {
            return not_running(error.into(), wanted, surroundings, console).await;
        }
        Err(error) => return Err(error.into()),
    };
    let parts = parts(&client).await?;
    let mut whole = Map::from_iter([
        ("running".to_owned(), true.into()),
        ("api".to_owned(), client.base().as_str().into()),
        ("ready".to_owned(), readiness.ready.into()),
        ("checks".to_owned(), readiness.answer.get("checks").cloned().unwrap_or_default()),
    ]);
    whole.extend(parts.clone());
    console.value(&whole)?;
    print(&client, &readiness, &parts, console)?;
    Ok(if readiness.ready { Code::Done } else { Code::Failed })
}

async fn parts(client: &Client) -> Result<Map<String, Value>, Failure> {
    let mut parts = Map::new();
    for (name, path) in PARTS {
        match optional(client.get(path).await) {
            Ok(Some(answer)) => {
                parts.insert((*name).to_owned(), answer);
            }
            Err(error) if is_refusal_of_the_caller(&error) => return Err(error.into()),
            // Without its database a server says that it is not ready, and cannot say more; an older one has not all.
            Ok(None) | Err(_) => {}
        }
    }
    Ok(parts)
}

fn is_refusal_of_the_caller(error: &ClientError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.meaning() == Meaning::Forbidden)
}

fn print(
    client: &Client,
    readiness: &Readiness,
    parts: &Map<String, Value>,
    console: &Console,
) -> std::io::Result<()> {
    let (style, word) =
        if readiness.ready { (Style::Green, "ready") } else { (Style::Red, "not ready") };
    console.parts(&[
        (Style::Plain, "openTiger is "),
        (style, word),
        (Style::Plain, " at "),
        (Style::Plain, client.base().as_str()),
    ])?;
    for check in &readiness.checks {
        let (style, sign) = if check.ok { (Style::Green, "ok") } else { (Style::Red, "no") };
        console.parts(&[
            (style, &format!("  {sign:<3}")),
            (Style::Plain, &format!("{:<12}", check.name)),
            (Style::Plain, &check.message),
        ])?;
    }
    if let Some(answer) = parts.get("processes") {
        processes(&read_processes(answer), console)?;
    }
    if let Some(answer) = parts.get("agents") {
        agents(answer, console)?;
    }
    console.line("")?;
    for (title, told) in
        [("tasks", parts.get("tasks").map(counts)), ("usage today", parts.get("usage").map(spent))]
    {
        if let Some(told) = told.filter(|told| !told.is_empty()) {
            console.line(format!("{title}: {told}"))?;
        }
    }
    if let Some(answer) = parts.get("gates") {
        gates(answer, console)?;
        quotas(answer, console)?;
    }
    Ok(())
}

fn processes(list: &[Process], console: &Console) -> std::io::Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    console.line("")?;
    let mut table =
        Columns::new(console, &["PROCESS", "STATE", "PID", "UPTIME", "RESTARTS", "MEMORY", "WHY"]);
    for process in list {
        let uptime = process.uptime_s.and_then(|s| std::time::Duration::try_from_secs_f64(s).ok());
        table.row([
            process.name.clone(),
            process.state.clone(),
            process.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            uptime.map(units::length).unwrap_or_default(),
            process.restarts.map(|count| count.to_string()).unwrap_or_default(),
            process.memory_bytes.map(units::bytes).unwrap_or_default(),
            process.message.clone().unwrap_or_default(),
        ]);
    }
    table.print(console)
}

fn agents(answer: &Value, console: &Console) -> std::io::Result<()> {
    let items = answer.get("items").and_then(Value::as_array).into_iter().flatten();
    let live: Vec<&Value> =
        items.filter(|agent| agent.get("live") == Some(&Value::Bool(true))).collect();
    if live.is_empty() {
        return Ok(());
    }
    console.line("")?;
    let mut table = Columns::new(console, &["AGENT", "ROLE", "PID", "BUSY WITH"]);
    let text = |agent: &Value, key: &str| match agent.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    for agent in live {
        table.row(["name", "role", "pid", "run"].map(|key| text(agent, key)));
    }
    table.print(console)
}

fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The runs that a gate is for.
fn name_of(gate: &Value) -> String {
    let executor = text_of(gate, "executor").unwrap_or("an executor");
    let provider = text_of(gate, "provider").map(|provider| format!("/{provider}"));
    format!("{executor}{}", provider.unwrap_or_default())
}

/// How much of their limits accounts have used, as far as their providers told.
fn quotas(answer: &Value, console: &Console) -> std::io::Result<()> {
    let items = answer.get("items").and_then(Value::as_array).into_iter().flatten();
    for gate in items {
        let windows = gate.get("quota").and_then(Value::as_array).into_iter().flatten();
        let told = windows.filter_map(|window| {
            let used = window.get("usedPercent").and_then(Value::as_f64)?;
            let resets = text_of(window, "resetsAt").map(|at| format!(", begins anew at {at}"));
            let name = text_of(window, "name")?;
            Some(format!("{name} {used:.0}% used{}", resets.unwrap_or_default()))
        });
        let told: Vec<String> = told.collect();
        if !told.is_empty() {
            console.line(format!("limits of {}: {}", name_of(gate), told.join("; ")))?;
        }
    }
    Ok(())
}

/// Gates that let no run of an executor through, each with why and what to do.
fn gates(answer: &Value, console: &Console) -> std::io::Result<()> {
    let items = answer.get("items").and_then(Value::as_array).into_iter().flatten();
    for gate in items {
        let text = |key: &str| text_of(gate, key);
        if text("state") == Some("open") {
            continue;
        }
        let name = name_of(gate);
        let why = text("message").or_else(|| text("cause")).unwrap_or("no run is handed out");
        console.parts(&[(Style::Red, &name), (Style::Plain, ": "), (Style::Plain, why)])?;
        if let Some(hint) = text("hint") {
            console.parts(&[(Style::Yellow, "  hint: "), (Style::Plain, hint)])?;
        }
    }
    Ok(())
}

/// How many tasks stand how.
fn counts(answer: &Value) -> String {
    let count = |status: &str| answer.get(status).and_then(Value::as_u64).unwrap_or(0);
    let told = TaskStatus::WORDS.iter().filter(|status| count(status) > 0);
    let told: Vec<String> = told.map(|status| format!("{} {status}", count(status))).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

/// What was used today, and what is left where there is a limit.
fn spent(answer: &Value) -> String {
    let today = |key: &str| answer.get("today").and_then(|today| today.get(key));
    let tokens = today("tokens").and_then(Value::as_u64).unwrap_or(0);
    let cost = today("cost_usd").and_then(Value::as_f64).unwrap_or(0.0);
    let left = [
        today("tokens_left").and_then(Value::as_u64).map(|left| format!("{left} tokens left")),
        today("cost_left_usd").and_then(Value::as_f64).map(|left| format!("{left:.4} USD left")),
        today("exhausted")
            .and_then(Value::as_str)
            .map(|why| format!("nothing is handed out: {why}")),
    ];
    let used = format!("{tokens} tokens, {cost:.4} USD");
    std::iter::once(used).chain(left.into_iter().flatten()).collect::<Vec<_>>().join(", ")
}

/// Without a server there is still something to say: what of it runs on without one.
async fn not_running(
    failure: Failure,
    wanted: &Wanted,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let mut left = Vec::new();
    if !wanted.is_named(surroundings)
        && let settings = surroundings.settings()?
        && let Some(state) = StateDir::existing(&settings.state_dir)?
    {
        let state = state.with_sandboxes(settings.docker_host.clone())?;
        for one in state.alive().await?.into_iter().filter(|one| one.kind != Kind::PrivateServer) {
            let pid = one.pid().await;
            left.push((one.name, pid));
        }
    }
    let list: Vec<Value> =
        left.iter().map(|(name, pid)| json!({ "name": name, "pid": pid })).collect();
    console.value(&json!({ "running": false, "ready": false, "left": list }))?;
    if left.is_empty() {
        return Err(failure);
    }
    let named = left.iter().map(|(name, pid)| {
        let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        format!("still runs: {name}{pid}")
    });
    let text = failure.text.clone().unwrap_or_default();
    Err(Failure { text: Some(format!("{text}, but some of openTiger runs on")), ..failure }
        .with_notes(named)
        .with_hint("`opentiger up` takes it up again, `opentiger down` ends it"))
}
