//! Which outcome of a run follows from an error of its checkout.

use core_types::outcome::RunOutcome;

use crate::{
    error::{CheckoutError, Fault},
    trouble::Trouble,
};

/// Which part of a run failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Before the agent: the copy of the repository.
    Checkout,
    /// After the agent: the commit and its way to the branch.
    Collect,
}

/// The outcome of a git step that failed. A fault of this host is not held against the task: it is tried again.
#[must_use]
pub fn outcome_of(step: Step, error: &CheckoutError) -> RunOutcome {
    match error {
        CheckoutError::Remote(error) => of_remote(step, error.trouble),
        CheckoutError::BranchMissing { .. } => RunOutcome::BaseBranchMissing,
        CheckoutError::BranchTaken { .. } => RunOutcome::BranchTaken,
        error if error.is_disk_full() => RunOutcome::DiskFull,
        error => match (error.fault(), step) {
            (Fault::Host, _) => RunOutcome::HostFailed,
            (Fault::Request | Fault::Result, Step::Checkout) => RunOutcome::CheckoutFailed,
            (Fault::Request | Fault::Result, Step::Collect) => RunOutcome::CollectFailed,
        },
    }
}

const fn of_remote(step: Step, trouble: Trouble) -> RunOutcome {
    match (trouble, step) {
        (Trouble::NotFound, _) => RunOutcome::RepositoryMissing,
        (Trouble::Denied, Step::Checkout) => RunOutcome::RepositoryDenied,
        // The login was good enough to read: another attempt of the agent's would come to the same.
        (Trouble::Denied, Step::Collect) | (Trouble::PushRefused, _) => RunOutcome::PushRefused,
        (Trouble::NotTrusted, _) => RunOutcome::HostNotTrusted,
        (Trouble::HungUp, _) => RunOutcome::RemoteHungUp,
        (Trouble::Unreachable | Trouble::TimedOut | Trouble::Failed, _) => {
            RunOutcome::RemoteUnreachable
        }
        (Trouble::TooLarge, _) => RunOutcome::RepositoryTooLarge,
        (Trouble::DiskFull, _) => RunOutcome::DiskFull,
        (Trouble::Moved | Trouble::Damaged, Step::Checkout) => RunOutcome::CheckoutFailed,
        (Trouble::Moved | Trouble::Damaged, Step::Collect) => RunOutcome::CollectFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trouble::RemoteError;

    fn remote(step: Step, trouble: Trouble) -> RunOutcome {
        let error = RemoteError { url: "https://h/x".to_owned(), trouble, detail: "x".to_owned() };
        outcome_of(step, &error.into())
    }

    #[test]
    fn a_login_that_may_read_and_not_write_is_a_refused_push() {
        assert_eq!(remote(Step::Checkout, Trouble::Denied), RunOutcome::RepositoryDenied);
        assert_eq!(remote(Step::Collect, Trouble::Denied), RunOutcome::PushRefused);
    }

    #[test]
    fn a_full_disk_has_its_name_wherever_it_shows() {
        let io = CheckoutError::Io {
            doing: "write",
            path: "/x".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        let git = CheckoutError::Git {
            doing: "write the work tree",
            detail: "fatal: cannot write: No space left on device".to_owned(),
        };
        for error in [io, git] {
            assert_eq!(outcome_of(Step::Checkout, &error), RunOutcome::DiskFull);
        }
        assert_eq!(remote(Step::Collect, Trouble::DiskFull), RunOutcome::DiskFull);
    }
}
