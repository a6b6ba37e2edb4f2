//! Whose fault a launch that failed is: a fault of the environment stops all claims, one of a run ends that run alone.

use std::path::Path;

use launcher::{error::LaunchError, outcome::StartFailure};

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Every launch would fail like that.
    Environment,
    /// The next one may well work.
    Run,
    /// It cannot be told from the error alone.
    Unclear,
}

/// Decides by the error; a mount that was refused is the run's where what it mounts of its own is gone.
pub(super) fn blame(error: &LaunchError, own: &[&Path]) -> Blame {
    match error {
        LaunchError::EngineUnreachable { .. }
        | LaunchError::EnginePermission { .. }
        | LaunchError::ImageMissing { .. }
        | LaunchError::ImageRefused { .. }
        | LaunchError::NetworkMissing { .. }
        | LaunchError::DirectoryNotShared { .. }
        | LaunchError::LimitUnsupported { .. }
        | LaunchError::ResourceExhausted { .. }
        | LaunchError::Permission { .. }
        // Worker and root directory are the same for all.
        | LaunchError::ProgramMissing { .. }
        | LaunchError::NotExecutable { .. }
        | LaunchError::CwdMissing { .. } => Blame::Environment,
        LaunchError::InvalidSpec { field: "container.image" | "container.network", .. } => {
            Blame::Environment
        }
        LaunchError::MountDenied { path, .. } => {
            let is_gone = own.contains(&path.as_path()) && !path.is_dir();
            if is_gone { Blame::Run } else { Blame::Environment }
        }
        LaunchError::NeverStarted(failure) => of_start(failure),
        LaunchError::InvalidSpec { .. }
        | LaunchError::SpecMismatch { .. }
        | LaunchError::AwaitsAssignment { .. } => Blame::Run,
        LaunchError::EngineRefused { .. }
        | LaunchError::ShimUnusable { .. }
        | LaunchError::Io { .. } => Blame::Unclear,
    }
}

const fn of_start(failure: &StartFailure) -> Blame {
    match failure {
        StartFailure::ProgramMissing { .. }
        | StartFailure::NotExecutable { .. }
        | StartFailure::InterpreterMissing { .. }
        | StartFailure::CwdMissing { .. }
        | StartFailure::Permission { .. }
        | StartFailure::ResourceExhausted { .. } => Blame::Environment,
        StartFailure::InputIncomplete | StartFailure::InputDamaged | StartFailure::Stopped => {
            Blame::Run
        }
        StartFailure::Refused { .. } => Blame::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use launcher::error::EngineError;

    use super::*;

    fn invalid(field: &'static str) -> LaunchError {
        LaunchError::InvalidSpec { field, why: "x".to_owned() }
    }

    #[test]
    fn an_engine_an_image_or_a_network_is_everybodys() {
        let host = || "unix:///x".to_owned();
        for error in [
            LaunchError::EngineUnreachable { host: host(), source: "x".into() },
            LaunchError::EnginePermission { host: host() },
            LaunchError::ImageMissing { image: "x".to_owned() },
            LaunchError::NetworkMissing { network: "x".to_owned() },
            invalid("container.image"),
        ] {
            assert_eq!(blame(&error, &[]), Blame::Environment, "{error}");
        }
    }

    #[test]
    fn a_name_an_argument_or_a_checkout_that_is_gone_is_the_runs() {
        let id = "r-1".parse().unwrap();
        for error in [invalid("args"), LaunchError::SpecMismatch { id }] {
            assert_eq!(blame(&error, &[]), Blame::Run, "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let denied =
            |path: PathBuf| LaunchError::MountDenied { path, why: "it is not there".to_owned() };
        let gone = directory.path().join("gone");
        assert_eq!(blame(&denied(gone.clone()), &[&gone]), Blame::Run);
        // One that is there is refused for all alike, and so is what all share.
        assert_eq!(
            blame(&denied(directory.path().into()), &[directory.path()]),
            Blame::Environment
        );
        assert_eq!(blame(&denied(gone), &[]), Blame::Environment);
    }

    #[test]
    fn what_an_engine_has_no_name_for_may_be_either() {
        let source = EngineError::Refused { status: 500, message: "x".to_owned() };
        let error = LaunchError::EngineRefused { what: "make it", source: Box::new(source) };
        assert_eq!(blame(&error, &[]), Blame::Unclear);
    }
}
