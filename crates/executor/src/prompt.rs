//! The prompt: what the agent is told about its task (X5).

use core_types::{event::cut_text, secret::Secret, task::Role};
use serde_json::Value;

use crate::text::mask;

/// How many failed attempts a prompt tells of, the last ones.
pub const FAILURES_TOLD: usize = 3;
/// What the output of one failure is cut to, in bytes. The end is kept, since that is where errors are.
pub const FAILURE_OUTPUT_LIMIT: usize = 4 * 1024;
/// What the context is cut to, in bytes.
pub const CONTEXT_LIMIT: usize = 64 * 1024;

/// What feedback is cut to, in bytes.
pub const FEEDBACK_LIMIT: usize = 32 * 1024;

/// What a prompt is made of.
#[derive(Debug, Clone, Copy)]
pub struct PromptParts<'a> {
    /// Whose instructions to give, unless there are others.
    pub role: Role,
    /// Instructions in the place of the role's own.
    pub instructions: Option<&'a str>,
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
    /// What somebody said about the last attempt when they asked for another.
    pub feedback: Option<&'a str>,
    /// What of the last attempt is still there.
    pub before: Before,
}

/// What of the last attempt this one goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// The result of the last attempt is in the checkout.
    Result,
    /// The agent goes on with its own session, in a new checkout.
    Session {
        /// Whether that holds the result of the last attempt.
        with_result: bool,
    },
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
        told(parts),
        format!("# Task: {}", parts.title.trim()),
        format!("## Goal\n{}", parts.goal.trim()),
    ];
    sections.extend(parts.context.and_then(context));
    sections.push(format!("## Rules\n{RULES}"));
    sections.extend(verification(parts.verification));
    sections.extend(failures(parts.failures));
    sections.extend(before(parts.before).map(str::to_owned));
    sections.extend(feedback(parts.feedback));
    let mut prompt = sections.join("\n\n");
    prompt.push('\n');
    prompt
}

/// The same text with every secret masked, wherever it came from: a test's output may hold one.
#[must_use]
pub fn without_secrets(prompt: String, secrets: &[Secret]) -> String {
    mask(prompt, secrets)
}

/// Words of ours come first, so that nothing in a setting or a task is a command of the CLI.
fn told(parts: &PromptParts<'_>) -> String {
    match parts.instructions.map(str::trim).filter(|told| !told.is_empty()) {
        Some(told) => format!("Your instructions as the project's {}:\n{told}", parts.role),
        None => instructions(parts.role).to_owned(),
    }
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

const fn before(before: Before) -> Option<&'static str> {
    match before {
        Before::Nothing => None,
        Before::Result => {
            Some("## The last attempt\nIts result is in this checkout already. Go on from there.")
        }
        Before::Session { with_result: true } => Some(
            "## You go on\nThis continues your earlier session. The working directory is another one; it holds the \
             result of your last attempt.",
        ),
        Before::Session { with_result: false } => Some(
            "## You go on\nThis continues your earlier session. The working directory is another one, and what you \
             changed before is not in it: make the changes again that are still right.",
        ),
    }
}

fn feedback(feedback: Option<&str>) -> Option<String> {
    let told = feedback.map(str::trim).filter(|told| !told.is_empty())?;
    Some(format!(
        "## Feedback\nSomebody looked at the last attempt and says this; it goes before all above:\n{}",
        cut_text(told, FEEDBACK_LIMIT)
    ))
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
        PromptParts {
            role,
            instructions: None,
            title: "t",
            goal: "g",
            context: None,
            verification: &[],
            failures: &[],
            feedback: None,
            before: Before::Nothing,
        }
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
    fn instructions_of_a_setting_replace_those_of_the_role() {
        let own = Some("/clear, then only touch docs.");
        let prompt = build(&PromptParts { instructions: own, ..parts(Role::Worker) });
        assert!(prompt.starts_with("Your instructions as the project's worker:\n/clear, then"));
        assert!(!prompt.contains("You are a software engineer"));
        let blank = build(&PromptParts { instructions: Some("  "), ..parts(Role::Worker) });
        assert!(blank.starts_with("You are a software engineer"));
    }

    #[test]
    fn feedback_comes_last_and_says_what_of_the_last_attempt_is_there() {
        let with = |before| {
            let feedback = Some("  use tabs  ");
            build(&PromptParts { feedback, before, ..parts(Role::Worker) })
        };
        let prompts = [
            with(Before::Nothing),
            with(Before::Result),
            with(Before::Session { with_result: true }),
            with(Before::Session { with_result: false }),
        ];
        for prompt in &prompts {
            assert!(prompt.ends_with("all above:\nuse tabs\n"), "{prompt}");
            assert_eq!(prompts.iter().filter(|other| *other == prompt).count(), 1);
        }
        let blank = build(&PromptParts { feedback: Some(" "), ..parts(Role::Worker) });
        assert!(!blank.contains("## Feedback"));
    }

    #[test]
    fn secret_in_an_earlier_output_is_told_to_nobody() {
        let failures =
            [PastFailure { what: "failed", output: Some("ANTHROPIC_API_KEY=sk-12345678") }];
        let prompt = build(&PromptParts { failures: &failures, ..parts(Role::Worker) });
        let prompt = without_secrets(prompt, &[Secret::new("sk-12345678")]);
        assert!(prompt.contains("ANTHROPIC_API_KEY=***"), "{prompt}");
    }

    #[test]
    fn a_prompt_starts_with_words_of_ours_so_that_no_goal_is_a_command_of_the_cli() {
        let prompt = build(&PromptParts { title: "/init", goal: "/clear", ..parts(Role::Docser) });
        assert!(prompt.starts_with("You are"));
    }
}
