//! The parts of the server's answers that are shown to people. Programs get the answers as they came.
//!
//! A newer server may say more, and an older one less: what is not needed to make sense is optional.

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::failure::Failure;

/// Reads an answer.
///
/// # Errors
/// It does not hold what this version needs.
pub(crate) fn read<T: DeserializeOwned>(what: &str, value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| Failure::unexpected(what, &error))
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) items: Vec<Value>,
    #[serde(default)]
    pub(crate) next_cursor: Option<String>,
}

/// A task.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) status: String,
    pub(crate) created_at: Timestamp,
    #[serde(default)]
    pub(crate) role: Option<String>,
    #[serde(default)]
    pub(crate) goal: Option<String>,
    #[serde(default)]
    pub(crate) verification: Vec<Vec<String>>,
    #[serde(default)]
    pub(crate) priority: Option<i64>,
    #[serde(default)]
    pub(crate) executor: Option<String>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) target_area: Option<String>,
    #[serde(default)]
    pub(crate) repository: Option<Repository>,
    #[serde(default)]
    pub(crate) base_branch: Option<String>,
    #[serde(default)]
    pub(crate) dependencies: Vec<String>,
    #[serde(default)]
    pub(crate) pending_dependencies: u64,
    #[serde(default)]
    pub(crate) block_reason: Option<String>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) not_before: Option<Timestamp>,
    #[serde(default)]
    pub(crate) finished_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) commit: Option<String>,
    #[serde(default)]
    pub(crate) branch: Option<String>,
    #[serde(default)]
    pub(crate) waiting: Option<Waiting>,
    #[serde(default)]
    pub(crate) retry: Option<Retry>,
    #[serde(default)]
    pub(crate) runs: Vec<Run>,
}

/// Where a task's repository is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Repository {
    pub(crate) mode: String,
    #[serde(default)]
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) url: Option<String>,
}

/// Why a task waits.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) until: Option<Timestamp>,
}

/// What is left of a task's attempts.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Retry {
    pub(crate) attempts: u64,
    pub(crate) max_attempts: u64,
}

/// One attempt at a task.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) status: String,
    pub(crate) created_at: Timestamp,
    #[serde(default)]
    pub(crate) outcome: Option<String>,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) hint: Option<String>,
    #[serde(default)]
    pub(crate) usage: Option<RunUsage>,
    #[serde(default)]
    pub(crate) base_commit: Option<String>,
    #[serde(default)]
    pub(crate) commit: Option<String>,
    #[serde(default)]
    pub(crate) duration_s: Option<f64>,
}

/// What a run used.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RunUsage {
    #[serde(default)]
    pub(crate) total_tokens: u64,
    #[serde(default)]
    pub(crate) cost_usd: f64,
}

impl Task {
    /// Its newest run.
    pub(crate) fn newest_run(&self) -> Option<&Run> {
        self.runs.iter().max_by_key(|run| run.number)
    }

    /// The run that made the task's commit.
    pub(crate) fn run_of_commit(&self) -> Option<&Run> {
        let commit = self.commit.as_ref()?;
        self.runs
            .iter()
            .filter(|run| run.commit.as_ref() == Some(commit))
            .max_by_key(|run| run.number)
    }

    /// In a few words, what it waits for or what came of it.
    pub(crate) fn why(&self, now: Timestamp) -> String {
        if let Some(waiting) = &self.waiting {
            return waiting.message.clone();
        }
        match self.status.as_str() {
            "queued" if self.pending_dependencies > 0 => {
                format!("waits for {} other tasks", self.pending_dependencies)
            }
            "queued" => match self.not_before.filter(|at| *at > now) {
                Some(at) => format!("tried again in {}", crate::units::age(now, at)),
                None => self.reason.clone().unwrap_or_default(),
            },
            "blocked" => {
                let reason = self.block_reason.as_deref().unwrap_or("blocked").replace('_', " ");
                self.reason.as_ref().map_or(reason.clone(), |text| format!("{reason}: {text}"))
            }
            "running" | "done" => String::new(),
            _ => self.reason.clone().unwrap_or_default(),
        }
    }
}
