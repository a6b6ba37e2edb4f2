//! What may be passed to the CLI: values that it would read as something else are refused.

use core_types::provider::{MODEL_ALLOWED, PROVIDER_MODEL_ALLOWED, is_model, is_provider_model};

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

pub(crate) fn command(what: &'static str, command: &str) -> Result<(), ExecutorError> {
    let bare = !command.contains('/') && !command.starts_with('-') && !command.is_empty();
    let fine = (bare || command.starts_with('/')) && !command.contains('\0');
    check(fine, what, command, "an absolute path or a bare name")
}

pub(crate) fn model(model: &str) -> Result<(), ExecutorError> {
    check(is_model(model), "model", model, MODEL_ALLOWED)
}

pub(crate) fn tool(tool: &str) -> Result<(), ExecutorError> {
    let fine = tool.starts_with(|c: char| c.is_ascii_alphabetic()) && !tool.contains(['\0', '\n']);
    check(fine, "tool", tool, "a tool's name, with its pattern in parentheses, e.g. `Bash(git *)`")
}

pub(crate) fn session(session: &str) -> Result<(), ExecutorError> {
    let fine = session.len() == 36 && session.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    check(fine, "session", session, "a session id in the form of a UUID")
}

/// A model as opencode names it, with its provider.
pub(crate) fn provider_model(name: &str) -> Result<(), ExecutorError> {
    check(is_provider_model(name), "model", name, PROVIDER_MODEL_ALLOWED)
}

pub(crate) fn opencode_session(session: &str) -> Result<(), ExecutorError> {
    let id = session.strip_prefix("ses_").unwrap_or_default();
    let fine = (1..=64).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric());
    check(fine, "session", session, "a session id of opencode, `ses_…`")
}
