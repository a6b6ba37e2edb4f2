//! The prompt: what the agent is told about its task (X5).

use core_types::{event::cut_text, task::Role};
use serde_json::Value;

/// How many failed attempts a prompt tells of, the last ones.
pub const FAILURES_TOLD: usize = 3;
/// What the output of one failure is cut to, in bytes. The end is kept, since that is where errors are.
pub const FAILURE_OUTPUT_LIMIT: usize = 4 * 1024;
/// What the context is cut to, in bytes.
pub const CONTEXT_LIMIT: usize = 64 * 1024;

/// What a prompt is made of.
#[derive(Debug, Clone, Copy)]
pub struct PromptParts<'a> {
    /// Whose instructions to give.
    pub role: Role,
    /// The task in one line.
    pub title: &'a str,
    /// What shall be true in the end.
    pub goal: &'a str,
    /// What else is known.
    pub context: Option<&'a Value>,
    /// The commands that decide whether the result is taken, each as program and arguments.
    pub verification: &'a [Vec<String>],
    /// Earlier attempts that failed, oldest first.
    pub failures: &'a [PastFailure<'a>],
}

/// An earlier attempt that failed.
#[derive(Debug, Clone, Copy)]
pub struct PastFailure<'a> {
    /// What came of it, in one line.
    pub what: &'a str,
    /// What it printed.
    pub output: Option<&'a str>,
}

const RULES: &str = "\
- You work unattended: nobody answers questions. Decide yourself, and say in your last message what you decided.
- Your working directory is a fresh checkout of the repository, made for this task. Stay inside it.
- If the repository has a `CLAUDE.md` or `AGENTS.md`, read it first and follow its conventions.
- Leave the result as changes of files. Do not commit, push, or switch branches: that is done for you.
- Leave nothing behind that is no part of the result: no scratch files, no build output that git would pick up.
- Start nothing that outlives your work: every process you started is ended when you finish.
- If the task cannot be done, change nothing, and say why in your last message.";

/// Writes the prompt.
#[must_use]
pub fn build(parts: &PromptParts<'_>) -> String {
    let mut sections = vec![
        instructions(parts.role).to_owned(),
        format!("# Task: {}", parts.title.trim()),
        format!("## Goal\n{}", parts.goal.trim()),
    ];
    sections.extend(parts.context.and_then(context));
    sections.push(format!("## Rules\n{RULES}"));
    sections.extend(verification(parts.verification));
    sections.extend(failures(parts.failures));
    let mut prompt = sections.join("\n\n");
    prompt.push('\n');
    prompt
}

/// What an agent of this role is for.
#[must_use]
pub const fn instructions(role: Role) -> &'static str {
    match role {
        Role::Worker => {
            "You are a software engineer. Do the task below in this repository: make the smallest change that \
             reaches the goal, in the style of the code around it, with tests where the repository has tests. \
             A run that changes nothing counts as failed."
        }
        Role::Tester => {
            "You are a test engineer. Check what the task below asks for: run the tests, write missing ones, and \
             report what you found. Change product code only where the task says so. If nothing needs a change, \
             change nothing and report that."
        }
        Role::Docser => {
            "You are a technical writer. Bring the documents of this repository in line with its code for the task \
             below. Check every statement against the code. Do not change code. If the documents are right as they \
             are, change nothing and report that."
        }
    }
}

fn context(context: &Value) -> Option<String> {
    let text = match context {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            format!("```json\n{context:#}\n```")
        }
    };
    Some(format!("## Context\n{}", cut_text(&text, CONTEXT_LIMIT)))
}

fn verification(commands: &[Vec<String>]) -> Option<String> {
    if commands.is_empty() {
        return None;
    }
    let lines: Vec<String> =
        commands.iter().map(|command| format!("- `{}`", shown(command))).collect();
    Some(format!(
        "## Verification\nThese commands are run on your result, without a shell, and all must succeed. Run them \
         yourself before you finish.\n{}",
        lines.join("\n")
    ))
}

/// A command as a person would type it.
fn shown(command: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c))
    };
    let quoted = command.iter().map(|word| {
        if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn failures(failures: &[PastFailure<'_>]) -> Option<String> {
    let first = failures.len().saturating_sub(FAILURES_TOLD);
    let told: Vec<String> = failures.iter().skip(first).map(failure).collect();
    (!told.is_empty()).then(|| {
        format!("## Earlier attempts\nThese failed; do not repeat them.\n{}", told.join("\n"))
    })
}

fn failure(failure: &PastFailure<'_>) -> String {
    match failure.output.map(str::trim).filter(|output| !output.is_empty()) {
        None => format!("- {}", failure.what),
        Some(output) => format!("- {}\n```\n{}\n```", failure.what, end_of(output)),
    }
}

fn end_of(text: &str) -> String {
    let start = text.ceil_char_boundary(text.len().saturating_sub(FAILURE_OUTPUT_LIMIT));
    let (dropped, kept) = text.split_at(start);
    if dropped.is_empty() { kept.to_owned() } else { format!("[{start} bytes before]…{kept}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parts(role: Role) -> PromptParts<'static> {
        PromptParts { role, title: "t", goal: "g", context: None, verification: &[], failures: &[] }
    }

    #[test]
    fn every_part_is_told() {
        let verification =
            [vec!["cargo".to_owned(), "test".to_owned()], vec!["sh".to_owned(), "it's".to_owned()]];
        let context = json!({"issue": 7});
        let failures = [PastFailure { what: "verification failed", output: Some("boom") }];
        let prompt = build(&PromptParts {
            title: "Add a flag",
            goal: "`--quiet` silences it [script: demo]",
            context: Some(&context),
            verification: &verification,
            failures: &failures,
            ..parts(Role::Worker)
        });
        for part in [
            "# Task: Add a flag",
            "`--quiet` silences it [script: demo]",
            "\"issue\": 7",
            "- `cargo test`",
            r"- `sh 'it'\''s'`",
            "- verification failed\n```\nboom\n```",
            "CLAUDE.md",
        ] {
            assert!(prompt.contains(part), "{part} is missing in\n{prompt}");
        }
    }

    #[test]
    fn roles_differ_and_only_the_worker_must_change_something() {
        let prompts: Vec<String> = Role::ALL.iter().map(|role| build(&parts(*role))).collect();
        for (role, prompt) in Role::ALL.iter().zip(&prompts) {
            assert_eq!(prompt.contains("counts as failed"), role.requires_change(), "{role}");
            assert_eq!(prompts.iter().filter(|other| *other == prompt).count(), 1);
        }
    }

    #[test]
    fn only_the_last_failures_are_told_and_of_their_output_the_end() {
        let long = format!("{}the end", "é".repeat(FAILURE_OUTPUT_LIMIT));
        let failures: Vec<PastFailure<'_>> = ["one", "two", "three", "four"]
            .map(|what| PastFailure { what, output: Some(&long) })
            .into();
        let prompt = build(&PromptParts { failures: &failures, ..parts(Role::Tester) });
        assert!(!prompt.contains("- one") && prompt.contains("- two") && prompt.contains("- four"));
        assert!(prompt.contains("the end\n```"));
        assert!(prompt.len() < 4 * FAILURE_OUTPUT_LIMIT);
    }

    #[test]
    fn a_prompt_starts_with_words_of_ours_so_that_no_goal_is_a_command_of_the_cli() {
        let prompt = build(&PromptParts { title: "/init", goal: "/clear", ..parts(Role::Docser) });
        assert!(prompt.starts_with("You are"));
    }
}
