//! What can go wrong, one enum per group of operations, by what the caller can do.

mod engine;

use std::{io, path::PathBuf};

pub use self::engine::{BoxError, EngineError, PullFailure};
use crate::{id::LaunchId, outcome::StartFailure};

/// Why nothing was launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program is not there.
    #[error("program `{}` not found", program.display())]
    ProgramMissing {
        /// As it was given.
        program: PathBuf,
        /// What to do.
        hint: String,
    },
    /// The program is there and cannot be executed.
    #[error("`{}` is not executable", program.display())]
    NotExecutable {
        /// As it was given.
        program: PathBuf,
    },
    /// The working directory is not there.
    #[error("working directory `{}` not found", cwd.display())]
    CwdMissing {
        /// As it was given.
        cwd: PathBuf,
    },
    /// The kernel refused it.
    #[error("{what}: permission denied")]
    Permission {
        /// What was tried.
        what: String,
    },
    /// This machine cannot honour a limit that was asked for.
    #[error("limit `{limit}` cannot be honoured here: {why}")]
    LimitUnsupported {
        /// The field of [`Limits`](crate::spec::Limits).
        limit: &'static str,
        /// What is missing.
        why: String,
    },
    /// No memory, process, descriptor or disk space was left. Worth another try later.
    #[error("{what}: resource exhausted")]
    ResourceExhausted {
        /// What was tried.
        what: String,
    },
    /// The id was launched with another spec.
    #[error("launch `{id}` exists with another spec")]
    SpecMismatch {
        /// The id.
        id: LaunchId,
    },
    /// A field of the spec or the input cannot be right on any machine.
    #[error("`{field}` is invalid: {why}")]
    InvalidSpec {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The shim cannot be written or executed.
    #[error("shim `{}` cannot be used", path.display())]
    ShimUnusable {
        /// Where it lies.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Another caller created the launch and has not assigned it yet.
    #[error("launch `{id}` was created by another caller and waits for its assignment")]
    AwaitsAssignment {
        /// The id.
        id: LaunchId,
    },
    /// The id was used for a launch of which nothing was started.
    #[error("never started")]
    NeverStarted(#[source] StartFailure),
    /// The container engine does not answer.
    #[error("container engine `{host}` cannot be reached")]
    EngineUnreachable {
        /// Where it was looked for.
        host: String,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
    /// The container engine's socket is closed to this user.
    #[error("container engine `{host}`: permission denied")]
    EnginePermission {
        /// Where it is.
        host: String,
    },
    /// The container engine refused, for a reason that has no name here.
    #[error("the container engine refused to {what}")]
    EngineRefused {
        /// What was asked, as a verb phrase.
        what: &'static str,
        /// What it said.
        #[source]
        source: Box<EngineError>,
    },
    /// The image is not there, and is not to be fetched.
    #[error("image `{image}` not found")]
    ImageMissing {
        /// As it was given.
        image: String,
    },
    /// The image is not there and could not be fetched.
    #[error("image `{image}` could not be fetched")]
    ImageRefused {
        /// As it was given.
        image: String,
        /// Why not.
        #[source]
        reason: PullFailure,
    },
    /// The engine has no network of that name.
    #[error("network `{network}` not found")]
    NetworkMissing {
        /// As it was given.
        network: String,
    },
    /// The engine does not mount that path.
    #[error("mount of `{}` refused: {why}", path.display())]
    MountDenied {
        /// The path on the host.
        path: PathBuf,
        /// What the engine said.
        why: String,
    },
    /// The engine does not see the launch directory, or runs under another kernel.
    #[error("launch directories in `{}` are not shared with the container engine: {why}", path.display())]
    DirectoryNotShared {
        /// Where they lie.
        path: PathBuf,
        /// What shows it.
        why: String,
    },
    /// The state directory cannot be read or written.
    #[error("{what} `{}`", path.display())]
    Io {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

impl LaunchError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::ProgramMissing { hint, .. } => hint,
            Self::NotExecutable { .. } => "make the file executable, or name another program",
            Self::CwdMissing { .. } => "create the directory, or name another one",
            Self::Permission { .. } => {
                "run as root to switch users; give the user access to program and directory"
            }
            Self::LimitUnsupported { .. } => {
                "leave the limit out, or run where a writable cgroup is delegated (root, or a \
                 systemd unit with `Delegate=yes`)"
            }
            Self::ResourceExhausted { .. } => {
                "free memory, disk space or processes (`ulimit -u`), then try again"
            }
            Self::SpecMismatch { .. } => "use a new launch id for another command",
            Self::InvalidSpec { .. } => "correct the named field",
            Self::ShimUnusable { .. } => {
                "put the state directory on a writable file system that is not mounted `noexec`"
            }
            Self::AwaitsAssignment { .. } => "wait for the other caller, or use another id",
            Self::NeverStarted(failure) => match failure {
                StartFailure::InterpreterMissing { .. } => {
                    "install the interpreter that the first line or the binary names"
                }
                _ => "destroy this launch and launch again under a new id",
            },
            Self::EngineUnreachable { .. } => EngineError::UNREACHABLE_HINT,
            Self::EnginePermission { .. } => EngineError::PERMISSION_HINT,
            Self::EngineRefused { source, .. } => source.hint(),
            Self::ImageMissing { .. } => {
                "build or pull the image, name another one, or allow it to be fetched"
            }
            Self::ImageRefused { reason, .. } => reason.hint(),
            Self::NetworkMissing { .. } => {
                "create the network (`docker network create <name>`), or name another one"
            }
            Self::MountDenied { .. } => {
                "make the path exist, and share it with the engine where that has to be allowed \
                 (Docker Desktop: Settings, Resources, File sharing)"
            }
            Self::DirectoryNotShared { .. } => {
                "use an engine on this machine's own kernel: engines in a virtual machine (Docker \
                 Desktop) or on another host cannot share a launch directory"
            }
            Self::Io { .. } => "check that the state directory is there, writable and not full",
        }
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::ResourceExhausted { .. }
            | Self::AwaitsAssignment { .. }
            | Self::EngineUnreachable { .. } => true,
            Self::ImageRefused { reason, .. } => reason.is_transient(),
            _ => false,
        }
    }
}

impl From<StartFailure> for LaunchError {
    fn from(failure: StartFailure) -> Self {
        match failure {
            StartFailure::ProgramMissing { program } => {
                let hint = format!(
                    "install `{}`, or put its directory into the `PATH` of the launch",
                    program.display()
                );
                Self::ProgramMissing { program, hint }
            }
            StartFailure::NotExecutable { program } => Self::NotExecutable { program },
            StartFailure::CwdMissing { cwd } => Self::CwdMissing { cwd },
            StartFailure::Permission { what } => Self::Permission { what },
            StartFailure::ResourceExhausted { what, errno } => {
                Self::ResourceExhausted { what: format!("{what} (error {errno})") }
            }
            failure @ (StartFailure::InterpreterMissing { .. }
            | StartFailure::InputIncomplete
            | StartFailure::InputDamaged
            | StartFailure::Stopped
            | StartFailure::Refused { .. }) => Self::NeverStarted(failure),
        }
    }
}

/// Why a stored record leads to no launch.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Its launch directory was removed.
    #[error("launch `{id}` is gone")]
    Gone {
        /// The id.
        id: LaunchId,
    },
    /// It belongs to another launcher or another state directory. Leave it alone.
    #[error("launch `{id}` belongs to `{owner}`, not to this launcher")]
    Foreign {
        /// The id.
        id: LaunchId,
        /// Who owns it.
        owner: String,
    },
    /// It was written in a format that this version does not read.
    #[error("launch `{id}` has format {found}, this version reads {known}")]
    Incompatible {
        /// The id.
        id: LaunchId,
        /// The record's format.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// The launch directory cannot be read.
    #[error("read launch directory `{}`", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// Why a running launch could not be asked or looked at.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// It has ended; its report is there.
    #[error("launch `{id}` has ended")]
    Ended {
        /// The id.
        id: LaunchId,
    },
    /// It is still running.
    #[error("launch `{id}` is still running")]
    StillRunning {
        /// The id.
        id: LaunchId,
    },
    /// The shim does not take requests at the moment.
    #[error("launch `{id}` does not answer")]
    NotAnswering {
        /// The id.
        id: LaunchId,
    },
    /// The launch directory cannot be read or written.
    #[error("{what} of launch `{id}`")]
    Io {
        /// The id.
        id: LaunchId,
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// Why the output cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The output was removed.
    #[error("the output is gone")]
    Gone,
    /// The cursor lies behind the end of a finished output.
    #[error("offset {offset} lies behind the end of the output at {end}")]
    BehindEnd {
        /// The cursor's offset.
        offset: u64,
        /// The end of the output.
        end: u64,
    },
    /// The stored output is damaged from here on.
    #[error("the stored output is damaged at offset {offset}")]
    Damaged {
        /// The first offset that cannot be read.
        offset: u64,
    },
    /// The output cannot be read.
    #[error("read the output")]
    Io(#[source] io::Error),
}

/// Why a launcher cannot be used, or its launches cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The state directory cannot be used.
    #[error("{what} `{}`", path.display())]
    Io {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The state directory was written by a version that this one does not know.
    #[error("state directory `{}` has format {found}, this version reads {known}", path.display())]
    Incompatible {
        /// Where.
        path: PathBuf,
        /// The directory's format.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
}

/// Why it is not known what a launcher can do.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The shim cannot be written or executed, so nothing can be launched.
    #[error("shim `{}` cannot be used", path.display())]
    ShimUnusable {
        /// Where it lies.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The container engine gave no usable answer, so nothing can be launched.
    #[error("the container engine cannot be used")]
    Engine(#[source] EngineError),
}
