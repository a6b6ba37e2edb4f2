//! The processes that the server manages, as far as it is of a version that does.

use client::{client::Client, error::ClientError};
use serde::Deserialize;
use serde_json::{Value, json};

/// A managed process.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) pid: Option<i32>,
    #[serde(default)]
    pub(crate) uptime_s: Option<f64>,
    #[serde(default)]
    pub(crate) restarts: Option<u64>,
    #[serde(default)]
    pub(crate) memory_bytes: Option<u64>,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

impl Process {
    /// Whether it may be alive.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state.as_str(), "starting" | "running" | "stopping")
    }
}

/// Whether nothing is on its way, and something runs where anything is to run.
pub(crate) fn are_settled(list: &[Process]) -> bool {
    let is = |state: &'static str| move |process: &Process| process.state == state;
    // An agent that is one too many is left alone until its run is over, and nobody waits for that.
    let waited_for = |one: &&Process| one.name == "dispatcher" || !list.iter().any(is("running"));
    let ending = list.iter().filter(waited_for).any(is("stopping"));
    let moving = ending || list.iter().any(is("starting"));
    let idle = list.iter().all(|one| is("idle")(one) || is("skipped")(one));
    !moving && (idle || list.iter().any(is("running")))
}

/// Every process; nothing where the server manages none.
pub(crate) async fn list(client: &Client) -> Result<Option<Vec<Process>>, ClientError> {
    Ok(optional(client.get("/system/processes").await)?.map(|answer| read(&answer)))
}

/// Wants none to run; nothing where the server manages none.
pub(crate) async fn stop_all(client: &Client) -> Result<Option<()>, ClientError> {
    Ok(optional(client.post("/system/processes/stop-all", &json!({})).await)?.map(drop))
}

/// Wants those to run that the settings say; nothing where the server manages none.
pub(crate) async fn start_all(client: &Client) -> Result<Option<()>, ClientError> {
    Ok(optional(client.post("/system/processes/start-all", &json!({})).await)?.map(drop))
}

/// The processes of an answer.
pub(crate) fn read(answer: &Value) -> Vec<Process> {
    let items = answer.get("items").or_else(|| answer.get("processes"));
    let items = items.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Process::deserialize(item).ok()).collect()
}

/// Whether nobody manages processes at this moment.
pub(crate) fn is_unmanaged(error: &ClientError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.status == http::StatusCode::CONFLICT)
}

/// An answer that an older server cannot give.
pub(crate) fn optional(answer: Result<Value, ClientError>) -> Result<Option<Value>, ClientError> {
    match answer {
        Err(error) if error.refusal().is_some_and(|refusal| refusal.is_missing_route()) => Ok(None),
        answer => answer.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes(states: &[&str]) -> Vec<Process> {
        let items: Vec<Value> =
            states.iter().map(|state| json!({ "name": "worker-1", "state": state })).collect();
        read(&json!({ "items": items }))
    }

    #[test]
    fn processes_are_settled_when_nothing_moves_and_something_runs() {
        for (states, settled) in [
            (&["running", "running"][..], true),
            (&["running", "starting"], false),
            (&["running", "backing_off"], true),
            (&["failed", "stopped"], false),
            (&["idle", "skipped"], true),
            (&[], true),
        ] {
            assert_eq!(are_settled(&processes(states)), settled, "{states:?}");
        }
    }
}
