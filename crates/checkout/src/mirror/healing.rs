//! Mirrors that are damaged or too large: found out, and set aside for a new one.
//!
//! An error alone is no proof: git may have been killed, or have had no memory. A mirror that may be damaged is read through,
//! and set aside only where git says that something is wrong with it.

use std::{fs, io};

use super::{Mirror, OLD};
use crate::{
    error::CheckoutError,
    files::{blocking, io_error, remove_tree},
    results::{RESULTS, results_in},
    trouble::{RemoteError, Trouble},
};

impl Mirror<'_> {
    /// Whether it may be this copy, and not the remote, that an error is about.
    pub(super) async fn may_be_at_fault(&self, error: &CheckoutError) -> bool {
        use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound};
        match error {
            CheckoutError::Git { .. } => !error.is_disk_full() && self.is_damaged().await,
            CheckoutError::Io { source, .. } => {
                matches!(source.kind(), InvalidData | IsADirectory | NotADirectory | NotFound)
            }
            CheckoutError::Remote(RemoteError { trouble, .. }) => match trouble {
                Trouble::TooLarge => self.holds_something(),
                Trouble::Damaged => self.holds_something() && self.is_damaged().await,
                Trouble::NotFound => self.is_wrong(&["rev-parse", "--git-dir"]).await,
                Trouble::Failed => {
                    let check = ["fsck", "--connectivity-only", "--no-dangling", "--no-progress"];
                    self.holds_something() && self.is_wrong(&check).await
                }
                Trouble::Denied
                | Trouble::NotTrusted
                | Trouble::Unreachable
                | Trouble::TimedOut
                | Trouble::HungUp
                | Trouble::Moved
                | Trouble::PushRefused
                | Trouble::DiskFull => false,
            },
            _ => false,
        }
    }

    fn holds_something(&self) -> bool {
        let packs = fs::read_dir(self.git_dir.join("objects/pack"));
        packs.is_ok_and(|mut packs| packs.next().is_some())
    }

    /// Whether something is wrong with what lies here, by reading all of it.
    pub(super) async fn is_damaged(&self) -> bool {
        self.is_wrong(&["rev-parse", "--git-dir"]).await
            || self.is_wrong(&["fsck", "--full", "--no-dangling", "--no-progress"]).await
    }

    /// Whether git, asked about this copy alone, says that something is wrong with it. A git that was killed, or not
    /// started, says nothing.
    async fn is_wrong(&self, question: &[&str]) -> bool {
        let Ok(call) = self.call("check the mirror") else {
            return false;
        };
        let answer = call.args(question.iter().copied()).try_run().await;
        answer.is_ok_and(|answer| answer.status.is_some_and(|status| status != 0))
    }

    /// Makes room for a new copy. The old one is kept for what it alone has: the results.
    pub(super) async fn set_aside(&self) -> Result<(), CheckoutError> {
        let (git_dir, directory) = (self.git_dir.clone(), self.directory.clone());
        blocking(move || {
            let has_results = !results_in(&git_dir.join(RESULTS)).is_ok_and(|kept| kept.is_empty());
            let old = OLD.iter().map(|name| directory.join(name)).find(|old| !old.is_dir());
            match old {
                Some(old) if git_dir.is_dir() && has_results => {
                    fs::rename(&git_dir, &old).map_err(io_error("set aside", &git_dir))
                }
                Some(_) | None => remove_tree(&git_dir),
            }
        })
        .await
    }
}
