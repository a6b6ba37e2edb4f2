//! Collecting: a sealed commit comes into the user's repository, as the run's branch and nothing else.
//!
//! The pack may have been made by hostile code. It is opened as a plain file, copied under a size cap, indexed strictly
//! in a repository of our own, and packed again from the claimed commit, so that the user's repository only ever meets
//! objects that are well formed, connected and wanted. Then one ref is made, by a compare-and-swap.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::{
    branch::BranchName,
    checkouts::{Checkout, Checkouts},
    error::CheckoutError,
    files::{Opened, blocking, io_error, open_plain, remove_tree},
    git::{CommitId, GitCall, GitOutput},
    git_dir::GitDir,
    push::push,
    remote::Remote,
    seal::SealedCommit,
};

/// Fewer objects than this are written one by one, as git itself does with a fetch: a pack for each run would slow the
/// user's repository down.
const LOOSE_LIMIT: u32 = 100;

/// A result that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// The commit.
    pub commit: CommitId,
    /// The branch in the user's repository that points at it.
    pub branch: BranchName,
}

/// A commit that lies in the user's repository with no branch on it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    pub(crate) commit: CommitId,
    pub(crate) kept: bool,
}

impl Brought {
    /// The commit.
    #[must_use]
    pub const fn commit(&self) -> &CommitId {
        &self.commit
    }

    /// Whether this host has the commit, whatever becomes of its branch: in the user's repository, or in the mirror.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.kept
    }
}

impl Checkouts {
    /// Brings a sealed commit into the user's repository and makes its branch: [`Self::bring`], then [`Self::publish`].
    /// Idempotent.
    ///
    /// # Errors
    /// Those of the two. After an error no ref has changed.
    pub async fn collect(
        &self,
        checkout: &Checkout,
        result: &SealedCommit,
    ) -> Result<Collected, CheckoutError> {
        let brought = self.bring(checkout, result).await?;
        self.publish(checkout, &brought).await
    }

    /// Brings a sealed commit into the user's repository; nothing there refers to it yet. Where the result is pushed,
    /// it is checked, made ready and kept in the mirror, and nothing leaves this host.
    ///
    /// # Errors
    /// Faults of the result: [`CheckoutError::PackNotPlain`], [`CheckoutError::PackTooLarge`],
    /// [`CheckoutError::PackRefused`], [`CheckoutError::Unrelated`]. Faults of the host:
    /// [`CheckoutError::BranchTaken`], [`CheckoutError::NotWritable`], and others.
    pub async fn bring(
        &self,
        checkout: &Checkout,
        result: &SealedCommit,
    ) -> Result<Brought, CheckoutError> {
        let collecting = Collecting { checkouts: self, checkout, commit: &result.commit };
        if checkout.is_pushed() || !collecting.is_there().await? {
            collecting.open_quarantine(&result.pack).await?;
            collecting.check().await?;
            return collecting.accept().await;
        }
        Ok(Brought { commit: result.commit.clone(), kept: true })
    }

    /// Makes the run's branch on a commit that was brought: one ref, from nothing to this commit. The branch being
    /// there with this commit is fine. Where the result is pushed, this is the push; it may be tried again.
    ///
    /// # Errors
    /// [`CheckoutError::Remote`], [`CheckoutError::BranchTaken`], [`CheckoutError::BranchBlocked`], [`CheckoutError::NotWritable`], and others; no
    /// ref has changed then.
    pub async fn publish(
        &self,
        checkout: &Checkout,
        brought: &Brought,
    ) -> Result<Collected, CheckoutError> {
        let collecting = Collecting { checkouts: self, checkout, commit: &brought.commit };
        if let Some(remote) = &checkout.remote {
            push(remote, checkout, &brought.commit).await?;
        } else if !collecting.is_there().await? {
            collecting.make_branch().await?;
        }
        Ok(Collected { commit: brought.commit.clone(), branch: checkout.branch.clone() })
    }
}

/// One call of `bring` or `publish`.
pub(crate) struct Collecting<'a> {
    pub(crate) checkouts: &'a Checkouts,
    pub(crate) checkout: &'a Checkout,
    pub(crate) commit: &'a CommitId,
}

impl Collecting<'_> {
    /// Whether the branch is there with this commit.
    pub(crate) async fn is_there(&self) -> Result<bool, CheckoutError> {
        let branch = &self.checkout.branch;
        match self.checkout.source.branch_commit(&self.checkouts.git, branch).await? {
            None => Ok(false),
            Some(existing) if existing == *self.commit => Ok(true),
            Some(existing) => Err(CheckoutError::BranchTaken {
                branch: branch.to_string(),
                existing: existing.to_string(),
            }),
        }
    }

    pub(crate) async fn open_quarantine(&self, pack: &Path) -> Result<(), CheckoutError> {
        let directory = self.checkout.directory.clone();
        let quarantine = self.checkout.private_git_dir(self.checkout.quarantine_dir());
        let (pack, limit) = (pack.to_owned(), self.checkouts.limits.pack_bytes);
        blocking(move || {
            let file = open_pack(&directory, &pack, limit)?;
            fill(&quarantine, file, &pack, limit)
        })
        .await?;
        let call = self.quarantine("index the result")?;
        let pack = self.checkout.quarantine_dir().join("objects/pack/pack-result.pack");
        let pack = crate::git::path_text(&pack)?;
        let output = call.args(["index-pack", "--strict", &pack]).try_run().await?;
        if output.success { Ok(()) } else { Err(refused(&output)) }
    }

    /// Checks that the commit is there and builds on the base.
    pub(crate) async fn check(&self) -> Result<(), CheckoutError> {
        let (tip, base) = (self.commit, &self.checkout.base_commit);
        let call = self.quarantine("check the result")?;
        let args = ["merge-base", "--is-ancestor", base.as_str(), tip.as_str()];
        let output = call.args(args).try_run().await?;
        match output.status {
            Some(0) => Ok(()),
            Some(1) => Err(CheckoutError::Unrelated { tip: tip.clone(), base: base.clone() }),
            Some(_) | None => Err(refused(&output)),
        }
    }

    /// Takes what was checked over into the user's repository; where the result is pushed, it is pushed from where it is.
    pub(crate) async fn accept(&self) -> Result<Brought, CheckoutError> {
        let mut kept = true;
        if let Some(remote) = &self.checkout.remote {
            if let Err(error) = self.keep(remote).await {
                tracing::warn!(run.id = %self.checkout.run, error = %error, "result not kept here");
                kept = false;
            }
        } else {
            let pack = self.repack().await?;
            self.hand_over(pack).await?;
            let quarantine = self.checkout.quarantine_dir();
            blocking(move || remove_tree(&quarantine)).await?;
        }
        Ok(Brought { commit: self.commit.clone(), kept })
    }

    /// Leaves the commit in the mirror too: a push may be refused, and a result is looked at where it was made.
    async fn keep(&self, remote: &Remote) -> Result<(), CheckoutError> {
        let Some(mirrors) = self.checkouts.mirrors() else {
            return Err(CheckoutError::RemotesUnavailable { url: remote.url.to_string() });
        };
        let format = self.checkout.source.format;
        let keeper = mirrors.keeper(remote, self.checkout.run, format).await?;
        let pack = self.repack().await?;
        self.hand_over(pack).await?;
        keeper.keep(self.commit).await
    }

    /// Packs what the user's repository needs: usually what the base has not; everything where it dropped the base.
    async fn repack(&self) -> Result<Vec<u8>, CheckoutError> {
        let base = &self.checkout.base_commit;
        let name = format!("{base}^{{commit}}");
        let call = self.checkout.source.call(&self.checkouts.git, "look for the base")?;
        let has_base = call.args(["rev-parse", "--quiet", "--verify", &name]).try_run().await?;
        let mut revisions = format!("{}\n", self.commit);
        if has_base.success {
            revisions.push('^');
            revisions.push_str(base.as_str());
            revisions.push('\n');
        }
        let limit = usize::try_from(self.checkouts.limits.pack_bytes).unwrap_or(usize::MAX);
        let call = self.quarantine("pack the result")?.stdin(revisions.into_bytes());
        let call = call.output_limit(limit.saturating_mul(2));
        let output = call.args(["pack-objects", "--quiet", "--revs", "--stdout"]).run().await?;
        Ok(output.stdout)
    }

    async fn hand_over(&self, pack: Vec<u8>) -> Result<(), CheckoutError> {
        let few = object_count(&pack).is_some_and(|count| count < LOOSE_LIMIT);
        let args: &[&str] = if few {
            &["unpack-objects", "-q", "--strict"]
        } else {
            &["index-pack", "--stdin", "--strict"]
        };
        let call = self.in_source("write the result")?.stdin(pack);
        let output = call.args(args.iter().copied()).try_run().await?;
        if output.success { Ok(()) } else { Err(self.not_written(output)) }
    }

    async fn make_branch(&self) -> Result<(), CheckoutError> {
        let reason = format!("opentiger: result of {}", self.checkout.run);
        let name = self.checkout.branch.to_ref();
        let zero = self.checkout.source.format.zero();
        let call = self.in_source("make the branch")?;
        let args = ["update-ref", "--no-deref", "-m", &reason, &name, self.commit.as_str(), &zero];
        let output = call.args(args).try_run().await?;
        if output.success || self.is_there().await? {
            return Ok(());
        }
        match blocking_branch(&output.stderr) {
            Some(blocking) => Err(CheckoutError::BranchBlocked {
                branch: self.checkout.branch.to_string(),
                blocking,
            }),
            None => Err(self.not_written(output)),
        }
    }

    /// A call in the quarantine.
    pub(crate) fn quarantine(&self, doing: &'static str) -> Result<GitCall<'_>, CheckoutError> {
        let call = self.checkouts.git.call(doing).memory_limit(self.checkouts.limits.memory_bytes);
        call.git_dir(&self.checkout.quarantine_dir())
    }

    /// Makes a call in the quarantine that fails for nothing but what is in it.
    pub(crate) async fn ask(&self, call: GitCall<'_>) -> Result<GitOutput, CheckoutError> {
        match call.try_run().await {
            Ok(output) if output.success => Ok(output),
            Ok(output) => Err(refused(&output)),
            Err(CheckoutError::Git { detail, .. }) => Err(CheckoutError::PackRefused { detail }),
            Err(error) => Err(error),
        }
    }

    /// A call that writes to the user's repository; what it writes is on the disk when it ends.
    fn in_source(&self, doing: &'static str) -> Result<GitCall<'_>, CheckoutError> {
        let call = self.checkout.source.call(&self.checkouts.git, doing)?;
        Ok(call.args(["-c", "core.fsync=committed"]))
    }

    fn not_written(&self, output: GitOutput) -> CheckoutError {
        const REASONS: &[&str] =
            &["Permission denied", "insufficient permission", "No space left", "Read-only file"];
        if REASONS.iter().any(|reason| output.stderr.contains(reason)) {
            let path = self.checkout.source.common_dir.clone();
            return CheckoutError::NotWritable { path, detail: output.detail() };
        }
        output.into_error("write the result")
    }
}

fn refused(output: &GitOutput) -> CheckoutError {
    CheckoutError::PackRefused { detail: output.detail() }
}

/// Opens the pack below the checkout's directory, following nothing.
fn open_pack(directory: &Path, pack: &Path, limit: u64) -> Result<File, CheckoutError> {
    let not_plain = |what| CheckoutError::PackNotPlain { path: pack.to_owned(), what };
    let relative =
        pack.strip_prefix(directory).map_err(|_| not_plain("outside of the checkout"))?;
    match open_plain(directory, relative).map_err(io_error("open", pack))? {
        Opened::Plain(_, bytes) if bytes > limit => {
            Err(CheckoutError::PackTooLarge { bytes, limit })
        }
        Opened::Plain(file, _) => Ok(file),
        Opened::Missing => Err(not_plain("missing")),
        Opened::Other(what) => Err(not_plain(what)),
    }
}

/// Makes the quarantine and copies the pack into it. A file that grows while it is read is cut off and refused.
fn fill(quarantine: &GitDir, from: File, pack: &Path, limit: u64) -> Result<(), CheckoutError> {
    remove_tree(&quarantine.path)?;
    quarantine.make()?;
    let path: PathBuf = quarantine.path.join("objects/pack/pack-result.pack");
    let mut into = File::create_new(&path).map_err(io_error("write", &path))?;
    let copied = io::copy(&mut from.take(limit.saturating_add(1)), &mut into)
        .map_err(io_error("copy", pack))?;
    if copied > limit {
        return Err(CheckoutError::PackTooLarge { bytes: copied, limit });
    }
    Ok(())
}

/// The number of objects in a pack, from its header.
fn object_count(pack: &[u8]) -> Option<u32> {
    let bytes: [u8; 4] = pack.get(8..12)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// The branch that keeps another one from being made, from git's words.
fn blocking_branch(stderr: &str) -> Option<String> {
    let (before, _) = stderr.split_once("' exists; cannot create")?;
    let (_, name) = before.rsplit_once('\'')?;
    Some(name.strip_prefix("refs/heads/").unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_count_is_read_from_a_pack() {
        assert_eq!(object_count(b"PACK\0\0\0\x02\0\0\x01\x02"), Some(258));
        assert_eq!(object_count(b"PACK"), None);
    }

    #[test]
    fn the_blocking_branch_is_found_in_gits_words() {
        let stderr = "fatal: cannot lock ref 'refs/heads/opentiger/t-1': 'refs/heads/opentiger' \
                      exists; cannot create 'refs/heads/opentiger/t-1'\n";
        assert_eq!(blocking_branch(stderr).as_deref(), Some("opentiger"));
    }
}
