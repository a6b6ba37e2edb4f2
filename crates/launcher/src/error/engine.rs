//! What can go wrong with a container engine and with the images that it fetches.

use std::error::Error;

/// An error of a library that is not named in this crate's interface.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a container engine gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It does not answer.
    #[error("container engine `{host}` cannot be reached")]
    Unreachable {
        /// Where it was looked for.
        host: String,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
    /// Its socket is closed to this user.
    #[error("container engine `{host}`: permission denied")]
    Permission {
        /// Where it is.
        host: String,
    },
    /// The address is of a kind that is not spoken here.
    #[error("container engine address `{host}` cannot be used: {why}")]
    HostUnsupported {
        /// As it was given.
        host: String,
        /// Why not.
        why: &'static str,
    },
    /// It said no.
    #[error("{message} (status {status})")]
    Refused {
        /// The status of its answer.
        status: u16,
        /// Its words.
        message: String,
    },
    /// Its answer makes no sense here.
    #[error("unexpected answer of the container engine")]
    Unexpected(#[source] BoxError),
}

impl EngineError {
    pub(super) const UNREACHABLE_HINT: &'static str = "start the engine (`systemctl start docker`), or set \
        `DOCKER_HOST` to where it listens";
    pub(super) const PERMISSION_HINT: &'static str = "let this user use the engine's socket (`usermod -aG \
        docker <user>`, then log in again), or set `DOCKER_HOST` to a rootless engine";

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => Self::UNREACHABLE_HINT,
            Self::Permission { .. } => Self::PERMISSION_HINT,
            Self::HostUnsupported { .. } => {
                "use `unix:///path/to/docker.sock` or `tcp://host:port`"
            }
            Self::Refused { .. } | Self::Unexpected(_) => {
                "the engine's own log says more (`journalctl -u docker`)"
            }
        }
    }

    /// The same error, for somebody else who asked.
    #[cfg(feature = "docker")]
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Unreachable { host, source } => {
                Self::Unreachable { host: host.clone(), source: source.to_string().into() }
            }
            Self::Permission { host } => Self::Permission { host: host.clone() },
            Self::HostUnsupported { host, why } => {
                Self::HostUnsupported { host: host.clone(), why }
            }
            Self::Refused { status, message } => {
                Self::Refused { status: *status, message: message.clone() }
            }
            Self::Unexpected(source) => Self::Unexpected(source.to_string().into()),
        }
    }

    /// Whether the engine itself answered that the thing asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// Why an image could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullFailure {
    /// The registry does not have it.
    #[error("the registry does not have it")]
    NotFound,
    /// The registry does not give it to the engine's user; some say so of what they do not have.
    #[error("the registry refused access, or does not have it")]
    Unauthorized,
    /// The registry has given enough for now.
    #[error("the registry limits the rate of pulls")]
    RateLimited,
    /// The registry cannot be reached.
    #[error("the registry cannot be reached: {message}")]
    Network {
        /// What the engine said.
        message: String,
    },
    /// The engine's disk is full.
    #[error("the engine's disk is full")]
    DiskFull,
    /// Nothing came for a long time.
    #[error("no progress for {seconds} s")]
    Stalled {
        /// For how long.
        seconds: u64,
    },
    /// Something else that the engine says.
    #[error("{message}")]
    Refused {
        /// Its words.
        message: String,
    },
}

impl PullFailure {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotFound => "check name and tag, or build the image",
            Self::Unauthorized => {
                "check the name; pull a private image by hand (`docker login`, `docker pull`): this \
                 program holds no registry password"
            }
            Self::RateLimited => "wait, or pull the image by hand with a login",
            Self::Network { .. } => "check the engine's network and proxy, or pull by hand",
            Self::DiskFull => "free disk space (`docker system df`, `docker image prune`)",
            Self::Stalled { .. } => "check the engine's network, then try again",
            Self::Refused { .. } => "pull the image by hand (`docker pull`) to see more",
        }
    }

    /// Whether another try may succeed without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited | Self::Network { .. } | Self::Stalled { .. })
    }
}
