//! The two answers of a shim: one line when it has the launch, one when the command runs.

use std::io;

use crate::outcome::StartFailure;

/// The first answer.
#[derive(Debug)]
pub(crate) enum First {
    /// It has the launch and waits.
    Ready,
    /// Another one has it, or had it.
    Taken,
    /// It could not do something.
    Unable(io::Error),
    /// No answer of a shim.
    Nonsense,
}

/// The second answer.
#[derive(Debug)]
pub(crate) enum Second {
    /// The command runs.
    Started,
    /// Nothing was started, and the exit record says so.
    Failed(StartFailure),
    /// No answer; the launch directory says what became of it.
    Silent,
}

impl First {
    /// Reads the line.
    pub(crate) fn parse(line: &str) -> Self {
        let mut words = line.trim().splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("ready"), None, None) => Self::Ready,
            (Some("busy" | "ended" | "used"), None, None) => Self::Taken,
            (Some("error"), Some(what), Some(errno)) => {
                Self::Unable(errno.parse().map(io::Error::from_raw_os_error).map_or_else(
                    |_| io::Error::other(format!("the shim could not {what}")),
                    |cause| {
                        let why = format!("the shim could not {what}: {cause}");
                        io::Error::new(cause.kind(), why)
                    },
                ))
            }
            _ => Self::Nonsense,
        }
    }
}

impl Second {
    /// Reads the line.
    pub(crate) fn parse(line: &str) -> Self {
        let line = line.trim();
        if line.starts_with("started ") {
            return Self::Started;
        }
        match line.strip_prefix("failed ").map(serde_json::from_str) {
            Some(Ok(failure)) => Self::Failed(failure),
            Some(Err(_)) | None => Self::Silent,
        }
    }
}
