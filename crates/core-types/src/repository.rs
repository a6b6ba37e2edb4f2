//! Where a task's repository is.

use serde::{Deserialize, Serialize};

/// Where a task's repository is and how its result gets there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Repository {
    /// A repository on this host. The result is a branch in it; its work tree and other refs are untouched.
    Local {
        /// Absolute path of the work tree or of the bare repository.
        path: String,
    },
    /// A repository behind a URL. The result is pushed to a branch of the run's own.
    Git {
        /// `https`, `ssh` or scp form, without credentials.
        url: String,
    },
}
