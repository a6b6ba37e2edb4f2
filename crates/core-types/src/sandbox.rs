//! What is said between openTiger on the host and its worker in a sandbox: the assignment on the worker's standard
//! input, the report in the database, and the worker's exit code.
//!
//! What is written here is also read by the far side alone: both are the same build, so a field that one of them does
//! not know is a fault. Secrets leave their type on this wire and nowhere else; it is the launch's input frame, which
//! no file, argument list or environment holds.

pub mod look;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::{
    ids::{RunKey, TaskId},
    outcome::RunReport,
    secret::Secret,
    task::{ExecutorKind, Role},
};

/// Where things lie in a sandbox.
pub mod paths {
    /// The run's checkout, writable: with `work`, `home`, `tmp` and `result` in it, and `objects`, which cannot be written.
    pub const CHECKOUT: &str = "/opentiger/checkout";
    /// The worker's program.
    pub const WORKER: &str = "/opentiger/worker";
    /// Where the worker's own launches have their directories; memory.
    pub const LAUNCHES: &str = "/opentiger/launches";
    /// What the agent's command line keeps for the task, writable.
    pub const STATE: &str = "/opentiger/state";
    /// The view of the host's login of Claude Code, read only.
    pub const CLAUDE_LOGIN: &str = "/home/worker/.claude";
    /// The host's settings of Claude Code, read only.
    pub const CLAUDE_CONFIG: &str = "/home/worker/.config/claude";
}

/// Everything that `worker once` needs, as one JSON document on its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxAssignment {
    /// The run and the fencing number of its claim.
    pub key: RunKey,
    /// Which attempt at the task this is, from 1.
    pub number: u32,
    /// 128 random bits in hexadecimal digits, by which the database knows the run's worker.
    #[serde(serialize_with = "on_the_wire")]
    pub token: Secret,
    /// The database as the container reaches it, with the login that may do nothing but call the run's functions.
    #[serde(serialize_with = "on_the_wire")]
    pub database_url: Secret,
    /// Redis as the container reaches it, with a login that sees this run's keys alone; none is fine.
    #[serde(serialize_with = "on_the_wire_if_any", default)]
    pub redis_url: Option<Secret>,
    /// The task.
    pub task: TaskBrief,
    /// The checkout, and where the result goes.
    pub checkout: SandboxCheckout,
    /// Where the worker's own launches have their directories; in memory, and the worker's own.
    pub launches: PathBuf,
    /// What the agent's command line keeps for the task between its runs; writable.
    pub state: PathBuf,
    /// Where the host's logins are, to be read.
    pub logins: Logins,
    /// Settings in force, by their keys in the settings table, each as JSON: the run's limits, its agent and provider.
    /// URLs are as the container reaches them. A key that is not here has its default. `core-config` writes and reads
    /// them.
    #[serde(serialize_with = "all_on_the_wire")]
    pub settings: BTreeMap<String, Secret>,
    /// Variables for the agent beside those of the container itself, cut down to what an agent may see.
    #[serde(serialize_with = "all_on_the_wire")]
    pub environment: BTreeMap<String, Secret>,
    /// What the run is told of the attempts before it.
    pub before: AttemptsBefore,
}

/// What a run has to know of its task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskBrief {
    /// The task.
    pub id: TaskId,
    /// One line.
    pub title: String,
    /// What shall be true afterwards.
    pub goal: String,
    /// Anything else the agent should know.
    pub context: Option<Value>,
    /// The kind of agent that does it.
    pub role: Role,
    /// Commands that must succeed on the result, each as program and arguments; empty: those of the role.
    pub verification: Vec<Vec<String>>,
    /// The longest time the run may take; absent: the setting's.
    pub timebox: Option<Duration>,
    /// The agent command line.
    pub executor: ExecutorKind,
    /// The model; absent means the executor's default.
    pub model: Option<String>,
    /// Most tokens of all its runs; absent: the setting's.
    pub token_limit: Option<u64>,
    /// Most money of all its runs, in millionths of a US dollar; absent: the setting's.
    pub cost_limit_microusd: Option<u64>,
    /// What the agent is told about the last attempt.
    pub feedback: Option<String>,
}

/// A run's checkout as its sandbox sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxCheckout {
    /// The directory of it all: `work` (a repository of its own, the agent's current directory), `objects` (of the base,
    /// read only), `home`, `tmp` and `result`. The worker makes directories of its own beside them, which have to lie on
    /// the same mount as `work`.
    pub directory: PathBuf,
    /// The hash that the repository names its objects with.
    pub object_format: ObjectFormat,
    /// The commit that the run starts from, as a full object id.
    pub base_commit: String,
    /// The branch that it starts from, where it has one.
    pub base_branch: Option<String>,
    /// The branch that the result goes to.
    pub branch: String,
    /// The content of the git directory's `shallow`, where the history is cut.
    pub shallow: Option<String>,
    /// What the repository excludes beside its `.gitignore`, as the content of `info/exclude`.
    pub exclude: String,
    /// What the result may have at most.
    pub limits: ResultLimits,
}

/// The hash that a repository names its objects with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    /// 40 hexadecimal digits.
    Sha1,
    /// 64 hexadecimal digits.
    Sha256,
}

/// What a result may have at most. The host holds the result to them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultLimits {
    /// Bytes of one new or changed file.
    pub file_bytes: u64,
    /// Files of a work tree that are not ignored.
    pub files: u64,
    /// Bytes of the pack that carries the result.
    pub pack_bytes: u64,
}

/// Where a sandbox finds the host's logins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logins {
    /// The directory with Claude Code's `.credentials.json`; read only.
    pub claude_code: Option<PathBuf>,
    /// opencode's file of logins; read only.
    pub opencode: Option<PathBuf>,
}

/// What a run is told of the attempts at its task before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptsBefore {
    /// What was wrong with the work of the last ones, oldest first.
    pub failures: Vec<PastFailure>,
    /// The agent's own session, where this run shall go on with it.
    pub session: Option<String>,
    /// Whether the checkout starts from the last attempt's result.
    pub with_result: bool,
}

/// An attempt whose work was not good enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastFailure {
    /// What came of it, in one line.
    pub what: String,
    /// The end of what the failing verification command printed.
    pub output: Option<String>,
}

/// What a sandboxed worker says of its run: a claim that nothing rests on before the host has checked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxReport {
    /// What came of it, without commit and branch: those are the host's to make.
    pub report: RunReport,
    /// What is to be collected; present if and only if the outcome is `succeeded`.
    pub claim: Option<ResultClaim>,
}

/// A result that lies ready in the directory `result` of the checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultClaim {
    /// The commit, as a full object id.
    pub commit: String,
    /// The name of the pack's file in `result`: of the form that [`ResultClaim::is_pack_name`] takes.
    pub pack: String,
    /// The size of the pack, in bytes.
    pub pack_bytes: u64,
    /// Files added, changed and removed.
    pub files_changed: u32,
    /// Lines added in text files.
    pub insertions: u64,
    /// Lines removed in text files.
    pub deletions: u64,
}

impl ResultClaim {
    /// Whether a text is a pack's file name and nothing that leads elsewhere.
    #[must_use]
    pub fn is_pack_name(text: &str) -> bool {
        let digits = text.strip_prefix("pack-").and_then(|rest| rest.strip_suffix(".pack"));
        digits.is_some_and(|digits| {
            matches!(digits.len(), 40 | 64)
                && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    }
}

/// What a worker says of a run that it ended because it was told to stop. In a sandbox whose container nobody stopped it
/// was the run's own agent who told it.
pub const TOLD_TO_STOP: &str = "the worker stopped while it ran";

/// How `worker once` ends. Any other code is a crash or not the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerExit {
    /// The report is in the database.
    Reported,
    /// The assignment could not be read, or asks for what cannot be.
    BadAssignment,
    /// The image lacks a program that the worker itself needs.
    ImageUnfit,
    /// The database did not take the report in time, or was not there.
    DatabaseAway,
    /// The database does not know the run as this worker's: taken back, over, or a wrong token.
    Fenced,
    /// It was told to stop before it could report.
    Interrupted,
}

impl WorkerExit {
    /// Every way to end.
    pub const ALL: [Self; 6] = [
        Self::Reported,
        Self::BadAssignment,
        Self::ImageUnfit,
        Self::DatabaseAway,
        Self::Fenced,
        Self::Interrupted,
    ];

    /// The exit code; those of `sysexits.h` where one fits.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Reported => 0,
            Self::BadAssignment => 65,
            Self::DatabaseAway => 69,
            Self::ImageUnfit => 72,
            Self::Interrupted => 75,
            Self::Fenced => 77,
        }
    }

    /// What an exit code means, if it is one of these.
    #[must_use]
    pub fn of_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| i32::from(exit.code()) == code)
    }
}

fn on_the_wire<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn on_the_wire_if_any<S: Serializer>(
    secret: &Option<Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

fn all_on_the_wire<S: Serializer>(
    secrets: &BTreeMap<String, Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(secrets.iter().map(|(key, secret)| (key, secret.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{LeaseNumber, RunId},
        outcome::RunOutcome,
    };

    const HIDDEN: &str = "hunter2hunter2";

    fn assignment() -> SandboxAssignment {
        SandboxAssignment {
            key: RunKey { run: RunId::generate(), lease: LeaseNumber(3) },
            number: 3,
            token: Secret::new(HIDDEN),
            database_url: Secret::new(format!("postgres://sandbox:{HIDDEN}@h/d")),
            redis_url: Some(Secret::new(format!("redis://u:{HIDDEN}@h/0"))),
            task: TaskBrief {
                id: TaskId::generate(),
                title: "t".to_owned(),
                goal: "g".to_owned(),
                context: Some(serde_json::json!({ "a": 1 })),
                role: Role::Worker,
                verification: vec![vec!["true".to_owned()]],
                timebox: Some(Duration::from_millis(1_500)),
                executor: ExecutorKind::ClaudeCode,
                model: None,
                token_limit: Some(5),
                cost_limit_microusd: None,
                feedback: None,
            },
            checkout: SandboxCheckout {
                directory: paths::CHECKOUT.into(),
                object_format: ObjectFormat::Sha1,
                base_commit: "a".repeat(40),
                base_branch: Some("main".to_owned()),
                branch: "opentiger/x".to_owned(),
                shallow: None,
                exclude: String::new(),
                limits: ResultLimits { file_bytes: 1, files: 2, pack_bytes: 3 },
            },
            launches: paths::LAUNCHES.into(),
            state: paths::STATE.into(),
            logins: Logins { claude_code: Some(paths::CLAUDE_LOGIN.into()), opencode: None },
            settings: BTreeMap::from([("ANTHROPIC_API_KEY".to_owned(), Secret::new(HIDDEN))]),
            environment: BTreeMap::from([("https_proxy".to_owned(), Secret::new(HIDDEN))]),
            before: AttemptsBefore {
                failures: vec![PastFailure { what: "w".to_owned(), output: None }],
                session: None,
                with_result: true,
            },
        }
    }

    #[test]
    fn assignment_comes_back_whole() {
        let assignment = assignment();
        let wire = serde_json::to_vec(&assignment).unwrap();
        assert_eq!(serde_json::from_slice::<SandboxAssignment>(&wire).unwrap(), assignment);
    }

    #[test]
    fn secrets_are_on_the_wire_and_in_nothing_that_is_printed() {
        let assignment = assignment();
        assert_eq!(serde_json::to_string(&assignment).unwrap().matches(HIDDEN).count(), 5);
        assert!(!format!("{assignment:?}").contains(HIDDEN));
    }

    #[test]
    fn field_of_another_version_is_refused() {
        let report = SandboxReport { report: RunReport::new(RunOutcome::NoChange), claim: None };
        let mut value = serde_json::to_value(&report).unwrap();
        assert!(serde_json::from_value::<SandboxReport>(value.clone()).is_ok());
        value.as_object_mut().unwrap().insert("more".to_owned(), Value::Null);
        assert!(serde_json::from_value::<SandboxReport>(value).is_err());
    }

    #[test]
    fn pack_name_leads_nowhere_else() {
        assert!(ResultClaim::is_pack_name(&format!("pack-{}.pack", "a1".repeat(20))));
        for text in ["pack-.pack", "pack-../../etc.pack", "/pack-a.pack", "", "x.pack"] {
            assert!(!ResultClaim::is_pack_name(text), "{text}");
        }
    }

    #[test]
    fn exit_codes_come_back_and_a_crash_is_none_of_them() {
        for exit in WorkerExit::ALL {
            assert_eq!(WorkerExit::of_code(i32::from(exit.code())), Some(exit));
        }
        for crash in [1, 101, 134, 137, 139, 143] {
            assert_eq!(WorkerExit::of_code(crash), None);
        }
    }
}
