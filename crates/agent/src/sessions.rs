//! Where an agent's command line keeps a task's sessions, so that a later run of the task can go on with one.
//!
//! A directory for each task, below the state directory. Claude Code has none: its sessions lie in the user's own
//! directory for it, where it finds them from any checkout. opencode finds a session in its database only, and that
//! is the task's own, so that neither the user's list of sessions nor the disk fills up with openTiger's.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use core_types::{ids::TaskId, sandbox::Logins, task::ExecutorKind};
use executor::opencode::{LOGIN_IN_HOME, LOGIN_IN_STATE};
use launcher::removal::remove_tree;
use telemetry::chain::error_chain;

/// The directories of all tasks of this host.
#[derive(Debug, Clone)]
pub struct Sessions {
    root: PathBuf,
}

impl Sessions {
    /// Takes the directory that holds all of them; it is made when the first one is.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory of a task, made where it is not there yet, with the way to the user's own login in it; `None` for
    /// a command line that needs none.
    ///
    /// # Errors
    /// The system's error, where it cannot be made.
    pub fn of_task(
        &self,
        task: TaskId,
        executor: ExecutorKind,
        home: &Path,
    ) -> io::Result<Option<PathBuf>> {
        match executor {
            ExecutorKind::ClaudeCode => Ok(None),
            ExecutorKind::Opencode => {
                let own = self.root.join(task.to_string());
                // A link, so that a login which is renewed meanwhile is renewed for the user too.
                make_opencodes(&own, Some(&home.join(LOGIN_IN_HOME)))?;
                touch(&own).map(|()| Some(own))
            }
        }
    }

    /// Removes the directories of tasks whose last run began longer ago. What cannot be removed is tried again later.
    pub fn sweep(&self, older_than: Duration) {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return;
        };
        let now = SystemTime::now();
        for path in entries.flatten().map(|entry| entry.path()) {
            let age = fs::symlink_metadata(path.join(STAMP)).and_then(|found| found.modified());
            let old = age.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > older_than));
            if old && let Err(error) = remove_tree(&path) {
                tracing::warn!(error = %error_chain(&error), "sessions of a task not removed");
            }
        }
    }
}

/// Where an agent's command line keeps its sessions in a sandbox, below the directory that is the task's own there;
/// made where it is not there yet.
///
/// # Errors
/// The system's error, where it cannot be made.
pub fn in_sandbox(executor: ExecutorKind, state: &Path, logins: &Logins) -> io::Result<PathBuf> {
    let own = state.join(executor.as_str());
    match executor {
        ExecutorKind::ClaudeCode => make_private(&own)?,
        ExecutorKind::Opencode => make_opencodes(&own, logins.opencode.as_deref())?,
    }
    Ok(own)
}

/// opencode's own directories, with the way to a login.
fn make_opencodes(own: &Path, login: Option<&Path>) -> io::Result<()> {
    let place = own.join(LOGIN_IN_STATE);
    make_private(place.parent().unwrap_or(own))?;
    make_private(&own.join("state"))?;
    match login.map(|login| symlink(login, &place)) {
        Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Some(_) | None => Ok(()),
    }
}

/// The file whose time says when a task's directory was last used.
const STAMP: &str = "used";

fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Never through a link: the agent can write to the directory, and what the link names may be another's.
fn touch(own: &Path) -> io::Result<()> {
    let stamp = own.join(STAMP);
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let open = || {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow);
        options.open(&stamp)
    };
    let file = open().or_else(|_| {
        // Not a plain file of ours: made anew, what it was is not touched.
        remove_tree(&stamp)?;
        open()
    })?;
    file.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> (tempfile::TempDir, Sessions) {
        let directory = tempfile::TempDir::new().unwrap();
        let sessions = Sessions::new(directory.path().join("sessions"));
        (directory, sessions)
    }

    #[test]
    fn users_login_is_reached_and_stays_the_users() {
        let (directory, sessions) = sessions();
        let home = directory.path().join("home");
        let login = home.join(LOGIN_IN_HOME);
        fs::create_dir_all(login.parent().unwrap()).unwrap();
        fs::write(&login, "{}").unwrap();
        let task = TaskId::generate();
        let own = sessions.of_task(task, ExecutorKind::Opencode, &home).unwrap().unwrap();
        // Again, as the next run of the task does.
        assert_eq!(
            sessions.of_task(task, ExecutorKind::Opencode, &home).unwrap(),
            Some(own.clone())
        );
        fs::write(own.join(LOGIN_IN_STATE), "renewed").unwrap();
        assert_eq!(fs::read_to_string(&login).unwrap(), "renewed");
        sessions.sweep(Duration::ZERO);
        assert!(!own.try_exists().unwrap(), "old sessions go");
        assert_eq!(fs::read_to_string(&login).unwrap(), "renewed", "the login stays");
    }

    #[test]
    fn stamp_that_an_agent_made_a_link_of_leaves_alone_what_it_names() {
        let (directory, sessions) = sessions();
        let victim = directory.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        let task = TaskId::generate();
        let of = || sessions.of_task(task, ExecutorKind::Opencode, directory.path()).unwrap();
        let stamp = of().unwrap().join(STAMP);
        fs::remove_file(&stamp).unwrap();
        symlink(&victim, &stamp).unwrap();
        of().unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert!(fs::symlink_metadata(&stamp).unwrap().is_file());
        fs::remove_file(&stamp).unwrap();
        fs::create_dir(&stamp).unwrap();
        of().unwrap();
        assert!(fs::symlink_metadata(&stamp).unwrap().is_file());
    }

    #[test]
    fn claude_code_needs_no_directory_and_young_ones_stay() {
        let (directory, sessions) = sessions();
        let task = TaskId::generate();
        let of = |kind| sessions.of_task(task, kind, directory.path()).unwrap();
        assert_eq!(of(ExecutorKind::ClaudeCode), None);
        let own = of(ExecutorKind::Opencode).unwrap();
        sessions.sweep(Duration::from_secs(3_600));
        assert!(own.try_exists().unwrap());
    }
}
