//! The files of a mirror: made, moved over, and cleared of what killed calls left.

use std::{fs, path::Path};

use uuid::Uuid;

use crate::{
    error::CheckoutError,
    files::{io_error, remove_tree},
    git_dir::{GitDir, ObjectFormat},
    results::RESULTS,
};

/// Removes what fetches left that were killed.
pub(super) fn clear_leftovers(directory: &Path) -> Result<(), CheckoutError> {
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("incoming-") || name.starts_with("making-") {
            remove_file_or_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the lock files and half-written packs of a git that was killed: we hold the mirror's own lock.
pub(super) fn clear_locks(git_dir: &Path) -> Result<(), CheckoutError> {
    for directory in ["", "refs", "refs/opentiger", RESULTS, "objects/pack"] {
        let directory = git_dir.join(directory);
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".lock") || name.starts_with("tmp_") || name.starts_with(".tmp-") {
                remove_file_or_tree(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn remove_file_or_tree(path: &Path) -> Result<(), CheckoutError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(_) => remove_tree(path),
    }
}

/// Makes an empty repository in the place of whatever is there.
pub(super) fn make_repository(
    directory: &Path,
    git_dir: &Path,
    format: ObjectFormat,
) -> Result<(), CheckoutError> {
    let making = directory.join(format!("making-{}", Uuid::new_v4().simple()));
    let repository = GitDir {
        path: making.clone(),
        format,
        bare: true,
        borrow_from: None,
        head: "ref: refs/heads/none".to_owned(),
        shallow: None,
        exclude: None,
    };
    repository.make()?;
    remove_tree(git_dir)?;
    fs::rename(&making, git_dir).map_err(io_error("make", git_dir))
}

/// Moves packs over; each counts from the moment its index is there.
pub(super) fn move_packs(from: &Path, into: &Path) -> Result<(), CheckoutError> {
    let names: Vec<String> = fs::read_dir(from)
        .map_err(io_error("list", from))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    for stem in names.iter().filter_map(|name| name.strip_suffix(".idx")) {
        for suffix in ["pack", "rev", "idx"] {
            let name = format!("{stem}.{suffix}");
            if names.contains(&name) {
                let target = into.join(&name);
                fs::rename(from.join(&name), &target).map_err(io_error("write", &target))?;
            }
        }
    }
    Ok(())
}
