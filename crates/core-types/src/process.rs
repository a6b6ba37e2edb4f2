//! Managed processes: their names, what is wanted of them, and the states they can be in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{task::Role, words};

words! {
    /// What somebody wants of a process.
    Wanted, "wish" {
        /// What the settings say.
        Settings = "settings",
        /// That it runs, whatever the settings say.
        Running = "running",
        /// That it does not run, whatever the settings say.
        Stopped = "stopped",
    }
}

words! {
    /// What a process is for.
    ProcessKind, "kind of process" {
        /// It keeps the system going.
        Service = "service",
        /// It does tasks.
        Worker = "worker",
    }
}

words! {
    /// How a process stands.
    ProcessState, "state of a process" {
        /// It was never started, and nobody wants it to run.
        Idle = "idle",
        /// It is being started.
        Starting = "starting",
        /// It runs.
        Running = "running",
        /// It was asked to end and has not ended yet.
        Stopping = "stopping",
        /// It ended without being asked, and is started again after a while.
        BackingOff = "backing_off",
        /// It ended without being asked too often, or cannot be started; it stays so until somebody starts it.
        Failed = "failed",
        /// It was asked to end, and has.
        Stopped = "stopped",
        /// The settings want it, but no agent runs on the host in the environment `sandbox`.
        Skipped = "skipped",
    }
}

impl ProcessState {
    /// Whether a process may be alive in this state.
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Stopping => true,
            Self::Idle | Self::BackingOff | Self::Failed | Self::Stopped | Self::Skipped => false,
        }
    }
}

/// The name of a managed process: `dispatcher`, or an agent's role with a number, such as `worker-1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProcessName {
    /// The dispatcher.
    Dispatcher,
    /// A resident agent.
    Agent {
        /// Which tasks it takes.
        role: Role,
        /// 1 to [`ProcessName::MAX_NUMBER`].
        number: AgentNumber,
    },
}

/// Tells agents of one role apart: 1 to [`ProcessName::MAX_NUMBER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentNumber(u8);

/// A text that names no managed process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no process; allowed: {}", ProcessName::ALLOWED)]
pub struct ProcessNameError {
    /// The text as it was given, cut at 80 characters.
    pub text: String,
}

impl AgentNumber {
    /// The number, if there can be such an agent.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (1..=ProcessName::MAX_NUMBER).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
}

impl ProcessName {
    /// The greatest number of an agent.
    pub const MAX_NUMBER: u8 = 64;
    /// What names are allowed, for people.
    pub const ALLOWED: &'static str =
        "dispatcher, and worker-N, tester-N, docser-N with N from 1 to 64 without leading zeros";
    /// The same as a regular expression.
    pub const PATTERN: &'static str =
        "^(dispatcher|(worker|tester|docser)-([1-9]|[1-5][0-9]|6[0-4]))$";

    /// Every name there can be: the dispatcher, then the agents by role and number.
    pub fn all() -> impl Iterator<Item = Self> {
        let agents = Role::ALL.iter().flat_map(|role| {
            let agent = |number| Self::Agent { role: *role, number: AgentNumber(number) };
            (1..=Self::MAX_NUMBER).map(agent)
        });
        std::iter::once(Self::Dispatcher).chain(agents)
    }

    /// What the process is for.
    #[must_use]
    pub const fn kind(self) -> ProcessKind {
        match self {
            Self::Dispatcher => ProcessKind::Service,
            Self::Agent { .. } => ProcessKind::Worker,
        }
    }

    /// What people call it, such as `Worker #1`.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Dispatcher => "Dispatcher".to_owned(),
            Self::Agent { role, number } => {
                let role = match role {
                    Role::Worker => "Worker",
                    Role::Tester => "Tester",
                    Role::Docser => "Docser",
                };
                format!("{role} #{}", number.0)
            }
        }
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dispatcher => f.pad("dispatcher"),
            Self::Agent { role, number } => f.pad(&format!("{role}-{}", number.0)),
        }
    }
}

impl FromStr for ProcessName {
    type Err = ProcessNameError;

    fn from_str(text: &str) -> Result<Self, ProcessNameError> {
        let agent = || {
            let (role, number) = text.split_once('-')?;
            let plain =
                number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
            let number = AgentNumber::new(number.parse().ok().filter(|_| plain)?)?;
            Some(Self::Agent { role: role.parse().ok()?, number })
        };
        match text {
            "dispatcher" => Ok(Self::Dispatcher),
            _ => agent().ok_or_else(|| ProcessNameError { text: text.chars().take(80).collect() }),
        }
    }
}

impl TryFrom<String> for ProcessName {
    type Error = ProcessNameError;

    fn try_from(text: String) -> Result<Self, ProcessNameError> {
        text.parse()
    }
}

impl From<ProcessName> for String {
    fn from(name: ProcessName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written() {
        let all: Vec<ProcessName> = ProcessName::all().collect();
        assert_eq!(all.len(), 193);
        for name in all {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        assert_eq!("tester-64".parse::<ProcessName>().unwrap().label(), "Tester #64");
    }

    #[test]
    fn anything_else_is_refused_and_told_what_is_allowed() {
        for text in [
            "",
            "planner",
            "worker",
            "worker-",
            "worker-0",
            "worker-01",
            "worker-65",
            "worker-+1",
            "worker-999999",
            "worker-99999999999999999999",
            "Worker-1",
            "worker-1 ",
            "dispatcher-1",
            "worker-1-1",
            "judge-1",
        ] {
            let error = text.parse::<ProcessName>().unwrap_err();
            assert!(error.to_string().contains("N from 1 to 64"), "{error}");
        }
    }
}
