//! Branch names: what git allows, checked before a name comes near a command line, and the name of a run's branch.

use std::{fmt, str::FromStr};

use core_types::ids::TaskId;

/// Longest branch name, in bytes: a component plus `.lock` has to fit into a file name.
const MAX_BYTES: usize = 200;

/// A name that git accepts for a branch, without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchName(String);

/// A text that git would not accept as the name of a branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no branch name: {why}")]
pub struct InvalidBranchName {
    /// The text as it was given, cut to 100 characters and without control characters.
    pub name: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

impl BranchName {
    /// The branch that the attempt `number` at a task writes its result to.
    #[must_use]
    pub fn of_run(task: TaskId, number: u32) -> Self {
        Self(format!("opentiger/{task}-{number}"))
    }

    /// The name without `refs/heads/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full name of the ref.
    #[must_use]
    pub fn to_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BranchName {
    type Err = InvalidBranchName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match broken_rule(name) {
            None => Ok(Self(name.to_owned())),
            Some(why) => Err(InvalidBranchName {
                name: name.chars().filter(|c| !c.is_control()).take(100).collect(),
                why,
            }),
        }
    }
}

/// The rules of `git check-ref-format --branch`, in the order a person would want to hear of them.
fn broken_rule(name: &str) -> Option<&'static str> {
    const SPECIAL: &[char] = &[' ', '~', '^', ':', '?', '*', '[', '\\'];
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > MAX_BYTES {
        return Some("it is longer than 200 bytes");
    }
    if name.starts_with('-') {
        return Some("it starts with `-`");
    }
    if name == "@" || name == "HEAD" {
        return Some("that name has a meaning of its own in git");
    }
    if name.chars().any(|c| c.is_ascii_control() || SPECIAL.contains(&c)) {
        return Some("it holds a control character, a space or one of `~^:?*[\\`");
    }
    if name.contains("..") || name.contains("@{") {
        return Some("it holds `..` or `@{`");
    }
    if name.ends_with('.') {
        return Some("it ends with `.`");
    }
    name.split('/').find_map(broken_component_rule)
}

fn broken_component_rule(component: &str) -> Option<&'static str> {
    if component.is_empty() {
        return Some("it has an empty part (`/` at an end, or `//`)");
    }
    if component.starts_with('.') {
        return Some("a part of it starts with `.`");
    }
    if component.ends_with(".lock") {
        return Some("a part of it ends with `.lock`");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runs_branch_is_a_valid_name() {
        let name = BranchName::of_run(TaskId::generate(), u32::MAX);
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        assert!(name.to_ref().starts_with("refs/heads/opentiger/task-"));
    }

    #[test]
    fn control_characters_do_not_reach_the_error_text() {
        let error = "a\u{1b}[31mb".parse::<BranchName>().unwrap_err();
        assert_eq!(error.name, "a[31mb");
    }
}
