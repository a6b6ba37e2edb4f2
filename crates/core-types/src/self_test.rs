//! What is said of a self-test: the whole way of a run in a sandbox, with a scripted model inside it.
//!
//! The worker in the sandbox writes a report as one line on its standard output. It is taken for what it is: the word of
//! a program in a container, which decides whether runs are handed out to such containers, and nothing else.

use serde::{Deserialize, Serialize};

use crate::{sandbox::SandboxAssignment, words};

words! {
    /// A step of a self-test, in the order in which they are taken.
    TestStep, "step of a self-test" {
        /// A container starts, and the worker in it.
        Container = "container",
        /// The worker is the user that it should be.
        User = "user",
        /// The checkout is there, and can be written.
        Checkout = "checkout",
        /// What the command line keeps for its task can be written.
        State = "state",
        /// The view of the login can be read.
        Login = "login",
        /// There is a git.
        Git = "git",
        /// The command line starts and speaks its protocol.
        Cli = "cli",
        /// It carries out a tool call of the model.
        Tool = "tool",
        /// What it reports of that is understood.
        Events = "events",
        /// What it left is sealed, verified and laid ready.
        Result = "result",
    }
}

/// Everything that a self-test in a sandbox needs, as one JSON document on the worker's standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTestAssignment {
    /// The user that sandboxes run as.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// A run like any other, of which database and provider are not used.
    pub run: SandboxAssignment,
}

/// How a step came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEnd {
    /// Which.
    pub step: TestStep,
    /// What is wrong; nothing where it is well.
    pub cause: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a self-test found: the steps that were taken, up to the first that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTestReport {
    /// The steps that were taken.
    pub steps: Vec<StepEnd>,
    /// The version of the command line, as it says.
    pub cli_version: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}

impl SelfTestReport {
    /// A report of one step that failed.
    #[must_use]
    pub fn failed(step: TestStep, cause: impl Into<String>, hint: Option<&str>) -> Self {
        let mut report = Self::default();
        report.fails(step, cause, hint);
        report
    }

    /// Notes a step that is well.
    pub fn passes(&mut self, step: TestStep) {
        self.steps.push(StepEnd { step, cause: None, hint: None });
    }

    /// Notes a step that failed.
    pub fn fails(&mut self, step: TestStep, cause: impl Into<String>, hint: Option<&str>) {
        let (cause, hint) = (Some(cause.into()), hint.map(ToOwned::to_owned));
        self.steps.push(StepEnd { step, cause, hint });
    }

    /// The step that failed.
    #[must_use]
    pub fn fault(&self) -> Option<&StepEnd> {
        self.steps.iter().find(|end| end.cause.is_some())
    }

    /// Whether every step was taken and is well.
    #[must_use]
    pub fn passed(&self) -> bool {
        let well =
            |step: &TestStep| self.steps.iter().any(|end| end.step == *step && end.cause.is_none());
        self.fault().is_none() && TestStep::ALL.iter().all(well)
    }

    /// What is wrong, in one line; nothing where it passed.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        if self.passed() {
            return None;
        }
        Some(match self.fault() {
            Some(StepEnd { step, cause, .. }) => {
                format!("{step}: {}", cause.as_deref().unwrap_or_default())
            }
            None => "the self-test ended before its last step".to_owned(),
        })
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.fault()?.hint.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_report_of_every_step_without_a_fault_passes() {
        let mut report = SelfTestReport::default();
        assert!(!report.passed() && report.text().is_some());
        for step in TestStep::ALL {
            assert!(!report.passed());
            report.passes(*step);
        }
        assert!(report.passed());
        assert_eq!(report.text(), None);
        report.fails(TestStep::Cli, "program `claude` not found", Some("install it"));
        assert!(!report.passed());
        assert_eq!(report.text().as_deref(), Some("cli: program `claude` not found"));
        assert_eq!(report.hint(), Some("install it"));
    }
}
