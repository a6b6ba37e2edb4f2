//! Mirrors that are damaged or too large: found out, and set aside for a new one.

use std::{fs, io};

use super::{Mirror, OLD};
use crate::{
    error::CheckoutError,
    files::{blocking, io_error, remove_tree},
    trouble::{RemoteError, Trouble},
};

impl Mirror<'_> {
    /// Whether it may be this copy, and not the remote, that an error is about.
    pub(super) async fn may_be_at_fault(&self, error: &CheckoutError) -> bool {
        use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound};
        match error {
            CheckoutError::Git { .. } => !error.is_disk_full(),
            CheckoutError::Io { source, .. } => {
                matches!(source.kind(), InvalidData | IsADirectory | NotADirectory | NotFound)
            }
            CheckoutError::Remote(RemoteError { trouble, .. }) => match trouble {
                Trouble::TooLarge | Trouble::Damaged => self.holds_something(),
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

    /// Whether git, asked about this copy alone, says that something is wrong with it.
    async fn is_wrong(&self, question: &[&str]) -> bool {
        let Ok(call) = self.call("check the mirror") else {
            return false;
        };
        call.args(question.iter().copied()).try_run().await.is_ok_and(|answer| !answer.success)
    }

    /// Makes room for a new copy. Of several old ones the first is kept: it is the one that has the results.
    pub(super) async fn set_aside(&self) -> Result<(), CheckoutError> {
        let (git_dir, old) = (self.git_dir.clone(), self.directory.join(OLD));
        blocking(move || {
            if old.is_dir() || !git_dir.is_dir() {
                return remove_tree(&git_dir);
            }
            fs::rename(&git_dir, &old).map_err(io_error("set aside", &git_dir))
        })
        .await
    }
}
