//! A checkout as the sandbox that works in it sees it: taken as it was given, sealed there, left for the host.
//!
//! Nothing that happens here binds the host, which believes none of it; see [`crate::sandboxed`] for its side.

use std::{fs, sync::Arc};

use core_types::{
    ids::RunId,
    sandbox::{self, ResultClaim, SandboxCheckout},
};

use crate::{
    checkouts::{Checkout, Checkouts, Limits},
    error::CheckoutError,
    files::io_error,
    git::{CommitId, GitCommand},
    git_dir::ObjectFormat,
    local::{Head, LocalRepository},
    seal::SealedCommit,
};

/// Takes a checkout that the host has prepared, and who can seal it.
///
/// # Errors
/// [`CheckoutError::Io`] where its directory cannot be written; those of names that are none.
pub fn take(
    run: RunId,
    given: &SandboxCheckout,
    git: GitCommand,
) -> Result<(Checkouts, Checkout), CheckoutError> {
    let directory = given.directory.clone();
    let exclude = directory.join("exclude");
    fs::write(&exclude, &given.exclude).map_err(io_error("write", &exclude))?;
    let format = match given.object_format {
        sandbox::ObjectFormat::Sha1 => ObjectFormat::Sha1,
        sandbox::ObjectFormat::Sha256 => ObjectFormat::Sha256,
    };
    let base_commit: CommitId = given.base_commit.parse().map_err(|_| CheckoutError::Git {
        doing: "take the checkout",
        detail: "its base is no commit".to_owned(),
    })?;
    let head = Head::Detached { commit: base_commit.clone() };
    let limits = Limits {
        file_bytes: given.limits.file_bytes,
        files: usize::try_from(given.limits.files).unwrap_or(usize::MAX),
        pack_bytes: given.limits.pack_bytes,
        ..Limits::default()
    };
    let checkout = Checkout {
        run,
        work: directory.join("work"),
        tmp: directory.join("tmp"),
        home: directory.join("home"),
        base_commit,
        base_branch: given.base_branch.as_deref().map(str::parse).transpose()?,
        branch: given.branch.parse()?,
        source: Arc::new(LocalRepository::of_our_own(&directory.join("objects"), format, head)),
        directory: directory.clone(),
        boxed: false,
        remote: None,
        shallow: given.shallow.clone().map(String::into_bytes),
    };
    Ok((Checkouts::new(directory, git).with_limits(limits), checkout))
}

impl Checkout {
    /// Leaves a sealed result for the host, in the directory `result` of a checkout that was given.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where it cannot be moved there.
    pub fn leave(&self, sealed: &SealedCommit) -> Result<ResultClaim, CheckoutError> {
        let name = sealed.pack.file_name().unwrap_or_default();
        let pack = self.directory.join("result").join(name);
        fs::rename(&sealed.pack, &pack).map_err(io_error("move", &pack))?;
        let pack_bytes = fs::metadata(&pack).map_err(io_error("look at", &pack))?.len();
        Ok(ResultClaim {
            commit: sealed.commit.to_string(),
            pack: name.to_string_lossy().into_owned(),
            pack_bytes,
            files_changed: sealed.files_changed,
            insertions: sealed.insertions,
            deletions: sealed.deletions,
        })
    }
}
