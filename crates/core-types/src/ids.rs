//! Ids: one newtype per kind, so that mixing two does not compile.
//!
//! The text form carries the kind (`task-…`, `run-…`), is lower case, and is safe in a file name, a branch name
//! and a URL. The database stores the bare UUID.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is no id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not a {kind} id; expected `{kind}-` and 32 hexadecimal digits")]
pub struct InvalidId {
    /// The expected kind, e.g. `task`.
    pub kind: &'static str,
    /// The text as it was given, cut to 64 characters.
    pub got: String,
}

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident, $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the text form, without the hyphen.
            pub const KIND: &'static str = $kind;

            /// Makes a new id; ids made later sort later (UUID version 7).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Wraps the UUID that the database stores.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID that the database stores.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($kind, "-{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let invalid = || InvalidId { kind: $kind, got: text.chars().take(64).collect() };
                let digits = text.strip_prefix(concat!($kind, "-")).ok_or_else(invalid)?;
                if digits.len() != 32 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(invalid());
                }
                Uuid::try_parse(digits).map(Self).map_err(|_| invalid())
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

uuid_id!(
    /// Names a task: one piece of work somebody asked for.
    TaskId,
    "task"
);
uuid_id!(
    /// Names a run: one attempt at a task.
    RunId,
    "run"
);
uuid_id!(
    /// Names one life of an agent process; a restarted agent has a new id.
    AgentId,
    "agent"
);
uuid_id!(
    /// Names a notice to people; the same at each attempt to deliver it.
    NoticeId,
    "notice"
);

/// The fencing number of a claim: rises with each claim of a task, and every write of a run carries it.
///
/// A write with an older number changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseNumber(pub i64);

impl fmt::Display for LeaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What every write of a run carries: which run, and under which claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunKey {
    /// The run.
    pub run: RunId,
    /// The fencing number of the claim that made it.
    pub lease: LeaseNumber,
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.run, self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_comes_back_as_the_same_id() {
        let id = TaskId::generate();
        assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
    }

    #[test]
    fn id_of_another_kind_is_refused_with_the_expected_form() {
        let error = RunId::generate().to_string().parse::<TaskId>().unwrap_err();
        assert!(error.to_string().contains("is not a task id; expected `task-`"), "{error}");
    }

    #[test]
    fn bare_uuid_upper_case_and_junk_are_refused() {
        let id = TaskId::generate();
        for text in [
            id.as_uuid().to_string(),
            id.to_string().to_uppercase(),
            format!("task-{}", id.as_uuid()),
            "task-".to_owned(),
            String::new(),
        ] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }
}
