//! What may be passed to the CLI: values that it would read as something else are refused.

use crate::{invocation::ExecutorError, text::one_line};

fn check(
    fine: bool,
    what: &'static str,
    value: &str,
    allowed: &'static str,
) -> Result<(), ExecutorError> {
    if fine {
        return Ok(());
    }
    Err(ExecutorError::InvalidValue { what, value: one_line(value), allowed })
}

pub(super) fn command(command: &str) -> Result<(), ExecutorError> {
    let bare = !command.contains('/') && !command.starts_with('-') && !command.is_empty();
    let fine = (bare || command.starts_with('/')) && !command.contains('\0');
    check(fine, "command of Claude Code", command, "an absolute path or a bare name")
}

pub(super) fn model(model: &str) -> Result<(), ExecutorError> {
    let fine = !model.is_empty()
        && !model.starts_with('-')
        && model.chars().all(|c| c.is_ascii_alphanumeric() || "-._:/@[]".contains(c));
    check(fine, "model", model, "letters, digits and `-._:/@[]`, not starting with `-`")
}

pub(super) fn tool(tool: &str) -> Result<(), ExecutorError> {
    let fine = tool.starts_with(|c: char| c.is_ascii_alphabetic()) && !tool.contains(['\0', '\n']);
    check(fine, "tool", tool, "a tool's name, with its pattern in parentheses, e.g. `Bash(git *)`")
}

pub(super) fn session(session: &str) -> Result<(), ExecutorError> {
    let fine = session.len() == 36 && session.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    check(fine, "session", session, "a session id in the form of a UUID")
}
