//! The body of `POST /tasks`: its fields, their limits, and what becomes of fields that are left out.

use std::{ops::RangeInclusive, time::Duration};

use checkout::url::{RepositoryUrl, URL_ALLOWED, UrlRules};
use core_types::{
    ids::TaskId,
    repository::Repository,
    task::{ExecutorKind, RiskLevel, Role},
    words,
};
use serde::Deserialize;
use serde_json::Value;
use store::tasks::NewTask;
use utoipa::ToSchema;

use crate::{error::FieldFault, fields::Faults};

pub(crate) const TITLE_BYTES: usize = 200;
pub(crate) const GOAL_BYTES: usize = 64 * 1024;
pub(crate) const CONTEXT_BYTES: usize = 64 * 1024;
pub(crate) const NAME_BYTES: usize = 200;
pub(crate) const PATH_BYTES: usize = 4096;
pub(crate) const DEPENDENCIES: usize = 100;
pub(crate) const COMMANDS: usize = 50;
pub(crate) const ARGUMENTS: usize = 200;
pub(crate) const ARGUMENT_BYTES: usize = 8 * 1024;
pub(crate) const VERIFICATION_BYTES: usize = 64 * 1024;
const PRIORITY: RangeInclusive<i32> = -100..=100;
const TIMEBOX_S: RangeInclusive<u64> = 1..=7 * 24 * 60 * 60;
const ATTEMPTS: RangeInclusive<u32> = 1..=100;
const TOKENS: RangeInclusive<u64> = 1..=1_000_000_000_000;
const COST_USD: RangeInclusive<f64> = 0.000_001..=1_000_000.0;

words! {
    /// Where a task's repository is.
    RepositoryMode, "repository mode" {
        Local = "local",
        Git = "git",
    }
}

/// A repository as the request names it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepositoryRequest {
    /// `local` is a repository on this host, where the result becomes a branch; `git` is one of another host, which is
    /// fetched, and to which the result is pushed as a branch of the run's own.
    #[schema(value_type = String, examples("local"))]
    mode: RepositoryMode,
    /// For `local`: the absolute path of the work tree's top directory or of a bare repository.
    #[schema(max_length = 4096, examples("/home/me/project"))]
    path: Option<String>,
    /// For `git`: `https://host/path`, `ssh://user@host/path` or `user@host:path`, without a password or token.
    #[schema(max_length = 2048, examples("https://github.com/owner/project.git"))]
    url: Option<String>,
}

/// A coding task.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTaskRequest {
    /// An id of your own making: sending the same task again under it makes no second one.
    #[schema(schema_with = crate::schema::optional_task_id)]
    pub(crate) id: Option<TaskId>,
    /// One line for people.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// What the agent shall do.
    #[schema(min_length = 1, max_length = 65536)]
    goal: String,
    /// Anything else the agent should know: any JSON of at most 64 KiB; `null` is the same as leaving it out.
    #[schema(value_type = Value, required = false)]
    context: Option<Value>,
    #[serde(default = "default_role")]
    #[schema(required = false, schema_with = crate::schema::role_worker)]
    role: Role,
    /// A higher one is taken earlier.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100, default = 0)]
    priority: i32,
    /// A riskier one is taken later.
    #[serde(default = "default_risk")]
    #[schema(required = false, schema_with = crate::schema::risk_medium)]
    risk: RiskLevel,
    /// Tasks that must be done before.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 100)]
    pub(crate) dependencies: Vec<TaskId>,
    /// Of all tasks with the same area one runs at a time.
    #[schema(min_length = 1, max_length = 200)]
    target_area: Option<String>,
    repository: RepositoryRequest,
    /// The branch to start from; the setting `BASE_BRANCH` or the repository's HEAD where left out.
    #[schema(max_length = 200)]
    base_branch: Option<String>,
    /// Commands that must end with exit code 0 after the agent; each is a program with its arguments, without a shell.
    /// All together are at most 64 KiB.
    #[serde(default)]
    #[schema(max_items = 50, examples(json!([["cargo", "test"]])))]
    verification: Vec<Vec<String>>,
    /// How long a run may take, in seconds; the setting `TASK_TIMEBOX_S` where left out.
    #[schema(minimum = 1, maximum = 604_800)]
    timebox_s: Option<u64>,
    /// The setting `LLM_EXECUTOR` where left out.
    #[schema(schema_with = crate::schema::optional_executor)]
    executor: Option<ExecutorKind>,
    /// The model; the executor's setting where left out.
    #[schema(min_length = 1, max_length = 200)]
    model: Option<String>,
    /// How often it is tried; the setting `TASK_MAX_ATTEMPTS` where left out.
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<u32>,
    /// At so many tokens, all kinds and all runs of the task together, a run is stopped.
    #[schema(minimum = 1, maximum = 1_000_000_000_000i64)]
    token_limit: Option<u64>,
    /// At so many US dollars, all runs of the task together, a run is stopped.
    #[schema(minimum = 0.000_001, maximum = 1_000_000.0)]
    cost_limit_usd: Option<f64>,
}

/// What a task has that leaves something out.
#[derive(Debug, Clone)]
pub(crate) struct TaskDefaults {
    pub(crate) executor: ExecutorKind,
    pub(crate) max_attempts: u32,
    /// Who asks, or asked first.
    pub(crate) created_by: String,
    /// Which addresses of repositories are allowed.
    pub(crate) urls: UrlRules,
}

const fn default_role() -> Role {
    Role::Worker
}

const fn default_risk() -> RiskLevel {
    RiskLevel::Medium
}

impl NewTaskRequest {
    /// The settings that decide what the request leaves open, as far as that is written down with the task.
    pub(crate) const fn left_to_settings(&self) -> &'static [&'static str] {
        match (self.executor.is_none(), self.max_attempts.is_none()) {
            (true, true) => &["LLM_EXECUTOR", "TASK_MAX_ATTEMPTS"],
            (true, false) => &["LLM_EXECUTOR"],
            (false, true) => &["TASK_MAX_ATTEMPTS"],
            (false, false) => &[],
        }
    }

    /// The task as it is stored, or everything that is wrong with it.
    pub(crate) fn checked(self, defaults: &TaskDefaults) -> Result<NewTask, Vec<FieldFault>> {
        let mut faults = Faults::default();
        self.check_texts(&mut faults);
        self.check_numbers(&mut faults);
        self.check_dependencies(&mut faults);
        check_verification(&self.verification, &mut faults);
        let executor = self.executor.unwrap_or(defaults.executor);
        let repository = self.repository.checked(defaults.urls, &mut faults);
        let Some(repository) = repository.filter(|_| faults.0.is_empty()) else {
            return Err(faults.0);
        };
        Ok(NewTask {
            id: self.id.unwrap_or_else(TaskId::generate),
            title: self.title,
            goal: self.goal,
            context: self.context,
            role: self.role,
            priority: self.priority,
            risk: self.risk,
            dependencies: self.dependencies,
            target_area: self.target_area,
            repository,
            base_branch: self.base_branch,
            verification: self.verification,
            timebox: self.timebox_s.map(Duration::from_secs),
            executor,
            model: self.model,
            max_attempts: self.max_attempts.unwrap_or(defaults.max_attempts),
            token_limit: self.token_limit,
            cost_limit_microusd: self.cost_limit_usd.map(microusd),
            created_by: defaults.created_by.clone(),
        })
    }

    fn check_texts(&self, faults: &mut Faults) {
        faults.line("title", &self.title, TITLE_BYTES);
        faults.prose("goal", &self.goal, GOAL_BYTES);
        if let Some(context) = &self.context {
            check_context(context, faults);
        }
        if let Some(area) = &self.target_area {
            faults.line("target_area", area, NAME_BYTES);
        }
        if let Some(model) = &self.model {
            check_model(model, faults);
        }
        if let Some(branch) = &self.base_branch
            && let Err(error) = branch.parse::<checkout::branch::BranchName>()
        {
            faults.add(
                "base_branch",
                format!("is no branch name: {}", error.why),
                "the name of an existing branch, without `refs/heads/`",
            );
        }
    }

    fn check_numbers(&self, faults: &mut Faults) {
        faults.range("priority", &self.priority, &PRIORITY);
        if let Some(seconds) = &self.timebox_s {
            faults.range("timebox_s", seconds, &TIMEBOX_S);
        }
        if let Some(attempts) = &self.max_attempts {
            faults.range("max_attempts", attempts, &ATTEMPTS);
        }
        if let Some(tokens) = &self.token_limit {
            faults.range("token_limit", tokens, &TOKENS);
        }
        if let Some(cost) = &self.cost_limit_usd {
            faults.range("cost_limit_usd", cost, &COST_USD);
        }
    }

    fn check_dependencies(&self, faults: &mut Faults) {
        let allowed = format!("at most {DEPENDENCIES} different ids of tasks");
        if self.dependencies.len() > DEPENDENCIES {
            let what = format!("has {} items", self.dependencies.len());
            return faults.add("dependencies", what, allowed);
        }
        for (index, dependency) in self.dependencies.iter().enumerate() {
            let field = format!("dependencies[{index}]");
            if Some(*dependency) == self.id {
                faults.add(field, "is the task itself", "ids of other tasks");
            } else if self.dependencies.iter().take(index).any(|other| other == dependency) {
                faults.add(field, "is there twice", allowed.clone());
            }
        }
    }
}

impl RepositoryRequest {
    fn checked(self, urls: UrlRules, faults: &mut Faults) -> Option<Repository> {
        match self.mode {
            RepositoryMode::Local => {
                self.checked_path(faults).map(|path| Repository::Local { path })
            }
            RepositoryMode::Git => {
                self.checked_url(urls, faults).map(|url| Repository::Git { url })
            }
        }
    }

    /// Looks at the form alone: whether there is a repository, and for whom, is found out by the run.
    fn checked_url(self, urls: UrlRules, faults: &mut Faults) -> Option<String> {
        if self.path.is_some() {
            faults.add("repository.path", "does not go with the mode `git`", "`url` alone");
        }
        let Some(url) = self.url else {
            faults.add("repository.url", "is missing", URL_ALLOWED);
            return None;
        };
        match RepositoryUrl::parse(&url, urls) {
            Ok(_) => Some(url),
            Err(error) => {
                faults.add("repository.url", error.what, format!("{URL_ALLOWED}; {}", error.hint));
                None
            }
        }
    }

    fn checked_path(self, faults: &mut Faults) -> Option<String> {
        let allowed = format!("an absolute path on this host, at most {PATH_BYTES} bytes long");
        if self.url.is_some() {
            faults.add("repository.url", "does not go with the mode `local`", "`path` alone");
        }
        let Some(path) = self.path else {
            faults.add("repository.path", "is missing", allowed);
            return None;
        };
        let before = faults.0.len();
        faults.line("repository.path", &path, PATH_BYTES);
        if faults.0.len() == before && !path.starts_with('/') {
            faults.add("repository.path", "is not an absolute path", allowed);
        }
        Some(path)
    }
}

fn check_model(model: &str, faults: &mut Faults) {
    let before = faults.0.len();
    faults.line("model", model, NAME_BYTES);
    // It becomes an argument of the agent's command line.
    if faults.0.len() == before && (model.starts_with('-') || model.contains(char::is_whitespace)) {
        faults.add("model", "starts with `-` or has a space", "the name of a model");
    }
}

fn check_context(context: &Value, faults: &mut Faults) {
    let allowed = format!("JSON of at most {CONTEXT_BYTES} bytes without the character U+0000");
    let bytes = context.to_string().len();
    if bytes > CONTEXT_BYTES {
        faults.add("context", format!("is {bytes} bytes long, limit {CONTEXT_BYTES}"), allowed);
    } else if has_null_character(context) {
        faults.add("context", "has the character U+0000", allowed);
    }
}

/// Whether any text in it has a character that Postgres cannot store.
fn has_null_character(json: &Value) -> bool {
    match json {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_null_character),
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key.contains('\0') || has_null_character(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn check_verification(commands: &[Vec<String>], faults: &mut Faults) {
    if commands.len() > COMMANDS {
        let what = format!("has {} commands", commands.len());
        return faults.add("verification", what, format!("at most {COMMANDS} commands"));
    }
    let bytes: usize = commands.iter().flatten().map(String::len).sum();
    if bytes > VERIFICATION_BYTES {
        let what = format!("is {bytes} bytes long in all, limit {VERIFICATION_BYTES}");
        let allowed = format!("commands of at most {VERIFICATION_BYTES} bytes in all");
        return faults.add("verification", what, allowed);
    }
    for (index, command) in commands.iter().enumerate() {
        check_command(&format!("verification[{index}]"), command, faults);
    }
}

fn check_command(field: &str, command: &[String], faults: &mut Faults) {
    if command.is_empty() || command.len() > ARGUMENTS {
        let what = match command.len() {
            0 => "is an empty command".to_owned(),
            count => format!("has {count} elements"),
        };
        let allowed =
            format!("a program and its arguments, 1 to {ARGUMENTS} elements, without a shell");
        return faults.add(field, what, allowed);
    }
    for (index, argument) in command.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if argument.is_empty() || argument.len() > ARGUMENT_BYTES || argument.contains('\0') {
            let what = match argument.len() {
                0 => "is empty".to_owned(),
                bytes if bytes > ARGUMENT_BYTES => format!("is {bytes} bytes long"),
                _ => "has the character U+0000".to_owned(),
            };
            let allowed =
                format!("a text of 1 to {ARGUMENT_BYTES} bytes without the character U+0000");
            faults.add(field, what, allowed);
        }
    }
}

/// US dollars as millionths; the range check keeps the product far below the type's end.
fn microusd(usd: f64) -> u64 {
    (usd * 1_000_000.0).round() as u64
}
