//! Whether a task's repository is there and its base branch too.
//!
//! Looking costs a few starts of git. A place that was found in order is not looked at again for a few seconds: a run
//! looks again anyway before it starts, and tasks for one repository often come one after another.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use checkout::{error::CheckoutError, git::GitCommand, local::inspect_local, roots::AllowedRoots};
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::error::ApiError;

/// How long a place counts as in order without another look.
const FRESH: Duration = Duration::from_secs(5);
/// How many places are remembered; beyond that all are forgotten.
const REMEMBERED: usize = 256;

/// What is asked of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) path: String,
    /// The base branch; none is the one `HEAD` is on.
    pub(crate) branch: Option<String>,
    /// The directories below which it must lie; empty is anywhere.
    pub(crate) roots: Vec<PathBuf>,
}

/// Looks at repositories of this host.
#[derive(Debug, Clone)]
pub(crate) struct Repositories {
    git: Option<GitCommand>,
    seen: Arc<Mutex<Seen>>,
}

/// Places that were in order a short while ago.
#[derive(Debug, Default)]
struct Seen(HashMap<Question, Instant>);

impl Repositories {
    pub(crate) fn new(git: Option<GitCommand>) -> Self {
        Self { git, seen: Arc::default() }
    }

    /// Says what is wrong with a repository, if anything is.
    pub(crate) async fn check(
        &self,
        question: Question,
    ) -> Result<Result<(), CheckoutError>, ApiError> {
        if self.lock().is_fresh(&question, Instant::now()) {
            return Ok(Ok(()));
        }
        let git = self.git()?;
        let answer = look(git, question.clone()).await?;
        if answer.is_ok() {
            self.lock().remember(question, Instant::now());
        }
        Ok(answer)
    }

    /// The git of this host.
    pub(crate) fn git(&self) -> Result<GitCommand, ApiError> {
        self.git.clone().ok_or_else(|| ApiError::unavailable("git is not installed"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks on a thread of its own: a file system that does not answer holds up nobody else.
async fn look(git: GitCommand, question: Question) -> Result<Result<(), CheckoutError>, ApiError> {
    let runtime = Handle::current();
    let looking = move || {
        runtime.block_on(async move {
            let roots = AllowedRoots::new(question.roots);
            let repository = inspect_local(&git, &question.path, &roots).await?;
            repository.base(&git, question.branch.as_deref()).await.map(drop)
        })
    };
    spawn_blocking(looking).await.map_err(|panicked| {
        tracing::error!(error = %panicked, "repository not inspected");
        ApiError::internal()
    })
}

impl Seen {
    fn is_fresh(&self, question: &Question, now: Instant) -> bool {
        self.0.get(question).is_some_and(|seen| now.saturating_duration_since(*seen) < FRESH)
    }

    fn remember(&mut self, question: Question, now: Instant) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(question, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(path: &str, branch: Option<&str>) -> Question {
        Question { path: path.to_owned(), branch: branch.map(ToOwned::to_owned), roots: Vec::new() }
    }

    #[test]
    fn only_the_very_same_question_is_answered_from_memory_and_not_for_long() {
        let mut seen = Seen::default();
        let now = Instant::now();
        seen.remember(question("/a", None), now);
        assert!(seen.is_fresh(&question("/a", None), now));
        assert!(!seen.is_fresh(&question("/a", Some("main")), now));
        assert!(!seen.is_fresh(&question("/b", None), now));
        let roots = Question { roots: vec!["/srv".into()], ..question("/a", None) };
        assert!(!seen.is_fresh(&roots, now));
        assert!(!seen.is_fresh(&question("/a", None), now + FRESH));
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = Seen::default();
        for number in 0..10 * REMEMBERED {
            seen.remember(question(&format!("/{number}"), None), Instant::now());
        }
        assert!(seen.0.len() <= REMEMBERED);
    }
}
