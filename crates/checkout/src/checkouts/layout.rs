//! What is in a new checkout before anybody works in it.

use std::{fs, path::Path};

use super::{BOX, Checkout};
use crate::{
    error::CheckoutError,
    files::{io_error, make_private_dir, read_small, write_new},
    git_dir::GitDir,
    objects::{Source, bring_objects},
};

/// Makes the directories, the borrowed objects and the agent's own git directory.
pub(super) fn lay_out(root: &Path, checkout: &Checkout) -> Result<(), CheckoutError> {
    fs::create_dir_all(root).map_err(io_error("make directory", root))?;
    make_private_dir(&checkout.directory)?;
    if checkout.boxed {
        make_private_dir(&checkout.directory.join(BOX))?;
        for directory in [checkout.result_dir(), checkout.directory.join(BOX).join("objects")] {
            make_private_dir(&directory)?;
        }
    }
    for directory in [&checkout.work, &checkout.tmp, &checkout.home] {
        make_private_dir(directory)?;
    }
    let source = &checkout.source;
    let objects = Source {
        repository: source.path.clone(),
        objects: source.common_dir.join("objects"),
        format: source.format,
        roots: source.roots().clone(),
        owner: source.owner.map(|user| user.uid),
    };
    let brought = bring_objects(&objects, &checkout.objects())?;
    tracing::debug!(
        objects.linked = brought.linked,
        objects.copied = brought.copied,
        "brought the repository's objects over"
    );
    write_agent_git_dir(checkout)
}

fn write_agent_git_dir(checkout: &Checkout) -> Result<(), CheckoutError> {
    let source = &checkout.source;
    let exclude = read_small(&source.common_dir, "info/exclude", 64 << 10)
        .map_err(io_error("read", &source.common_dir))?
        .unwrap_or_default();
    write_new(&checkout.exclude_file(), &exclude)?;
    let git_dir = GitDir {
        path: checkout.work.join(".git"),
        format: source.format,
        bare: false,
        borrow_from: Some("../../../objects"),
        head: format!("ref: {}", checkout.branch.to_ref()),
        shallow: checkout.shallow.clone(),
        exclude: Some(exclude),
    };
    git_dir.make()?;
    let commit = checkout.base_commit.as_str();
    git_dir.write_branch(checkout.branch.as_str(), commit)?;
    match &checkout.base_branch {
        // So that the agent can compare with it. A name that cannot stand beside the run's branch is left out.
        Some(base) if !base.as_str().starts_with("opentiger") => {
            git_dir.write_branch(base.as_str(), commit)
        }
        Some(_) | None => Ok(()),
    }
}
