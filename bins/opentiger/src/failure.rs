//! Why a command came to nothing: one line, what is at fault, what to do, and the exit code.

use std::{error::Error, fmt, io};

use client::{
    credentials::{KEY_VARIABLE, TOKEN_VARIABLE},
    error::{ClientError, Meaning, Refusal},
};
use serde_json::Value;
use telemetry::chain::error_chain;

use crate::code::Code;

/// What a command ends with where it does not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: Code,
    /// What went wrong; nothing where it was told already.
    pub(crate) text: Option<String>,
    /// What is at fault, a line for each.
    pub(crate) notes: Vec<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure with a line for people.
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: Some(text.into()), notes: Vec::new(), hint: None }
    }

    /// The end of a command that has told everything: only the code is left.
    pub(crate) const fn told(code: Code) -> Self {
        Self { code, text: None, notes: Vec::new(), hint: None }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Code::Usage, text)
    }

    /// Something on this machine that went wrong; `doing` is a verb phrase.
    pub(crate) fn of(doing: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::new(Code::Failed, format!("{doing}: {}", error_chain(error)))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// The same with what was being done in front; `doing` is a verb phrase.
    pub(crate) fn while_doing(mut self, doing: impl fmt::Display) -> Self {
        self.text = self.text.map(|text| format!("{doing}: {text}"));
        self
    }

    /// An answer of the server that does not hold what this version expects.
    pub(crate) fn unexpected(what: &str, error: &serde_json::Error) -> Self {
        Self::new(Code::Failed, format!("the server's answer is not understood: {what}: {error}"))
            .with_hint("use an `opentiger` of the server's own version")
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = error_chain(&error).to_string();
        match &error {
            ClientError::Refused(refusal) => refused(refusal),
            ClientError::Unreachable { base, .. } => {
                Self::new(Code::NotRunning, format!("nothing answers at `{base}`"))
                    .with_hint("`opentiger up` starts openTiger; `--api` names another address")
            }
            ClientError::Foreign { .. } => Self::new(Code::NotRunning, text)
                .with_hint("`--api` or `OPENTIGER_API_URL` names the server's address"),
            ClientError::Address { .. } => Self::usage(text),
            ClientError::Lost { .. } | ClientError::TimedOut { .. } => {
                Self::new(Code::Failed, text)
                    .with_hint("what was asked for may have happened: look before asking again")
            }
        }
    }
}

fn refused(refusal: &Refusal) -> Failure {
    let code = match refusal.meaning() {
        Meaning::Forbidden => Code::Forbidden,
        Meaning::NotFound => Code::NotFound,
        Meaning::Conflict => Code::Conflict,
        Meaning::Invalid => Code::Usage,
        Meaning::Unavailable | Meaning::Fault => Code::Failed,
    };
    let notes = match refusal.details.as_slice() {
        [one] => remainder(one, &refusal.error),
        all => all.iter().map(note).collect(),
    };
    let failure = Failure::new(code, refusal.error.clone()).with_notes(notes);
    match (refusal.meaning(), refusal.retry_after) {
        (Meaning::Forbidden, _) => failure.with_hint(format!(
            "set `{KEY_VARIABLE}` to one of the server's keys, or `{TOKEN_VARIABLE}` to its token"
        )),
        (_, Some(after)) => failure.with_hint(format!("try again in {} s", after.as_secs())),
        (Meaning::NotFound, None) if refusal.is_missing_route() => {
            failure.with_hint("the server is of a version that does not have this")
        }
        (_, None) => failure,
    }
}

/// What the only detail of a refusal adds to its sentence, which says field and fault already.
fn remainder(detail: &Value, said: &str) -> Vec<String> {
    let text = |key: &str| detail.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if !text("what").is_some_and(|what| said.ends_with(what)) {
        return vec![note(detail)];
    }
    let allowed = text("allowed").map(|allowed| format!("allowed: {allowed}"));
    allowed.into_iter().chain(text("hint").map(ToOwned::to_owned)).collect()
}

/// What one detail of a refusal says, in one line.
pub(crate) fn note(detail: &Value) -> String {
    let text = |key: &str| detail.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(field) = text("field").or_else(|| text("key")) else {
        return detail.as_str().map_or_else(|| detail.to_string(), ToOwned::to_owned);
    };
    let mut line = format!("{field} {}", text("what").unwrap_or("is not allowed"));
    for part in [
        text("allowed").map(|allowed| format!("; allowed: {allowed}")),
        text("hint").map(|hint| format!(" ({hint})")),
    ] {
        line.push_str(part.as_deref().unwrap_or_default());
    }
    line
}

impl From<io::Error> for Failure {
    /// Of writing output, the only such error that is passed on as it is.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::told(Code::PipeClosed),
            _ => Self::of("write the output", &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_detail_says_field_fault_and_remedy_in_one_line() {
        let detail = json!({ "field": "goal", "what": "is missing", "allowed": "a text" });
        assert_eq!(note(&detail), "goal is missing; allowed: a text");
        let fault = json!({ "key": "A", "what": "is bad", "allowed": "b", "hint": "mend it" });
        assert_eq!(note(&fault), "A is bad; allowed: b (mend it)");
        assert_eq!(note(&json!("plain")), "plain");
    }

    #[test]
    fn an_only_detail_says_nothing_twice() {
        let detail = json!({ "field": "goal", "what": "is missing", "allowed": "a text" });
        assert_eq!(remainder(&detail, "`goal` is missing"), ["allowed: a text"]);
        assert_eq!(remainder(&detail, "not valid"), ["goal is missing; allowed: a text"]);
        assert_eq!(remainder(&json!("plain"), "not valid"), ["plain"]);
    }

    #[test]
    fn a_closed_pipe_is_quiet() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.text), (Code::PipeClosed, None));
    }
}
