//! What command lines in sandboxes keep between the runs of a task: a directory for each task, until it is over.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, lchown},
    path::{Path, PathBuf},
};

use core_types::ids::TaskId;
use launcher::spec::UserId;
use store::{error::StoreError, pool::Store};
use telemetry::chain::error_chain;
use tokio::task::spawn_blocking;
use uuid::Uuid;

/// What the name of a directory begins with that is being removed.
const LEAVING: &str = ".leaving-";

/// The directories of all tasks.
#[derive(Debug, Clone)]
pub struct Sessions {
    root: PathBuf,
}

impl Sessions {
    /// Those of a state directory.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { root: state_dir.join("sandbox/sessions") }
    }

    /// Makes the directory of a task, for this user, unless it is there; tells whether something is in it.
    ///
    /// # Errors
    /// It cannot be made or handed over.
    pub fn open(&self, task: TaskId, user: UserId) -> io::Result<(PathBuf, bool)> {
        let directory = self.directory(task);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => lchown(&directory, Some(user.uid), Some(user.gid))?,
        }
        let held = fs::read_dir(&directory)?.next().is_some();
        Ok((directory, held))
    }

    /// The directory of a task, whether or not it is there.
    #[must_use]
    pub fn directory(&self, task: TaskId) -> PathBuf {
        self.root.join(task.to_string())
    }

    /// Removes what a task keeps, while no container of it runs; the sweep tries again what fails.
    pub async fn forget(&self, task: TaskId) {
        let leaving = self.root.join(format!("{LEAVING}{}", Uuid::new_v4()));
        if fs::rename(self.directory(task), &leaving).is_ok()
            && let Ok(Err(error)) =
                spawn_blocking(move || launcher::removal::remove_tree(&leaving)).await
        {
            tracing::warn!(task.id = %task, error = %error_chain(&error), "session of a sandbox not removed");
        }
    }

    /// Removes those of tasks that are over. What the database does not know is left alone.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer.
    pub async fn sweep(&self, store: &Store) -> Result<(), StoreError> {
        for name in names_in(&self.root) {
            let leaving = if name.starts_with(LEAVING) {
                self.root.join(&name)
            } else {
                let Ok(id) = name.parse::<TaskId>() else { continue };
                let task = store.task(id).await?;
                if !task.is_some_and(|task| task.state.status().is_final()) {
                    continue;
                }
                // Renamed first, so that a task that is tried again in this moment gets a new one.
                let leaving = self.root.join(format!("{LEAVING}{name}"));
                match fs::rename(self.root.join(&name), &leaving) {
                    Ok(()) => leaving,
                    Err(_) => continue,
                }
            };
            if let Ok(Err(error)) =
                spawn_blocking(move || launcher::removal::remove_tree(&leaving)).await
            {
                tracing::warn!(name, error = %error_chain(&error), "session of a sandbox not removed");
            }
        }
        Ok(())
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
