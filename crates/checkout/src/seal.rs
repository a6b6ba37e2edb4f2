//! Sealing: whatever a work tree holds becomes one commit on top of the base, carried by a pack.
//!
//! The agent's own `.git` is never read: what it staged, committed, configured, planted or deleted there makes no
//! difference. The commit is made in a git directory that this module writes afresh, after everything the agent started
//! is dead. Calls that touch the work tree go through the launcher with the agent's environment, so that they end with
//! whatever they may have started; calls that touch only the fresh git directory are short tools.
//!
//! Only plumbing is used on the work tree: `git add` and `git status` start a further git inside nested repositories,
//! with those repositories' configuration; `ls-files` and `update-index` never do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use launcher::launcher::Launcher;

use crate::{
    changes::{Changes, parse_changes},
    checkouts::{Checkout, Checkouts},
    error::CheckoutError,
    files::{blocking, io_error, make_private_dir, remove_tree},
    git::{CommitId, GitCall, path_text},
    launched::LaunchedGit,
    worktree::{Notices, Plan, Scan, Tracked, parse_tree},
};

/// Repositories inside of a work tree whose files are taken over; more are left out with a notice.
const NESTED_LIMIT: usize = 32;

/// The text of a commit: a title line and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMessage(String);

/// What a work tree turned out to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// The same as the base.
    Nothing {
        /// What a person should know about what was left out.
        notices: Vec<String>,
    },
    /// A change, now a commit.
    Commit(SealedCommit),
}

/// A commit that waits to be collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCommit {
    /// The commit.
    pub commit: CommitId,
    /// Files added, changed and removed.
    pub files_changed: u32,
    /// Lines added in text files.
    pub insertions: u64,
    /// Lines removed in text files.
    pub deletions: u64,
    /// The pack that holds the commit and what the base has not, below the checkout's directory.
    pub pack: PathBuf,
    /// What a person should know about what was left out.
    pub notices: Vec<String>,
}

impl CommitMessage {
    /// Joins a title, put on one line of at most 120 characters, and a body. Control characters are dropped.
    #[must_use]
    pub fn new(title: &str, body: &str) -> Self {
        let words: Vec<&str> = title.split_whitespace().collect();
        let title: String = words.join(" ").chars().filter(|c| !c.is_control()).take(120).collect();
        let title = if title.is_empty() { "Result of a task" } else { &title };
        let body: String = body.chars().filter(|c| !c.is_control() || *c == '\n').collect();
        let text = format!("{title}\n\n{}", body.trim());
        Self(format!("{}\n", text.trim_end()))
    }
}

impl Checkouts {
    /// Seals the work tree of a checkout. May be called again; the last call counts.
    ///
    /// Submodules stay at what the base says, and filters (such as LFS) do not apply. A repository inside of the
    /// work tree loses its history: its files become plain files of the result.
    ///
    /// # Errors
    /// Faults of the result: [`CheckoutError::FileTooLarge`], [`CheckoutError::TooManyFiles`],
    /// [`CheckoutError::Unreadable`], [`CheckoutError::PackTooLarge`], [`CheckoutError::WorkTreeGone`];
    /// [`CheckoutError::Timeout`] and other faults of the host.
    ///
    /// # Cancel safety
    /// A cancelled call changes nothing for good; a git that it launched ends at the time limit and leaves its launch
    /// directory, labelled with the run.
    pub async fn seal(
        &self,
        checkout: &Checkout,
        launcher: &dyn Launcher,
        env: &BTreeMap<String, String>,
        message: &CommitMessage,
    ) -> Result<Sealed, CheckoutError> {
        let sealing = Sealing { checkouts: self, checkout, git_dir: checkout.seal_dir() };
        let launched = LaunchedGit::new(&self.git, launcher, checkout.run, env);
        sealing.make_git_dir().await?;
        let (base_tree, tracked) = sealing.read_base().await?;
        let plan = sealing.plan(&launched, tracked).await?;
        let notices = sealing.apply(&launched, plan).await?.into_texts();
        let tree = sealing.call("write the tree")?.args(["write-tree"]).run().await?.text();
        if tree == base_tree {
            return Ok(Sealed::Nothing { notices });
        }
        let commit = sealing.commit(&tree, message).await?;
        let (changes, pack) =
            tokio::try_join!(sealing.count_changes(&base_tree, &tree), sealing.pack(&commit))?;
        let Changes { files_changed, insertions, deletions } = changes;
        Ok(Sealed::Commit(SealedCommit {
            commit,
            files_changed,
            insertions,
            deletions,
            pack,
            notices,
        }))
    }
}

/// One call of `seal`.
struct Sealing<'a> {
    checkouts: &'a Checkouts,
    checkout: &'a Checkout,
    git_dir: PathBuf,
}

impl Sealing<'_> {
    /// A call that never looks at the work tree.
    fn call(&self, doing: &'static str) -> Result<GitCall<'_>, CheckoutError> {
        self.checkouts.git.call(doing).git_dir(&self.git_dir)
    }

    async fn make_git_dir(&self) -> Result<(), CheckoutError> {
        let git_dir = self.checkout.private_git_dir(self.git_dir.clone());
        blocking(move || {
            remove_tree(&git_dir.path)?;
            git_dir.make()?;
            make_private_dir(&git_dir.path.join("result"))
        })
        .await
    }

    /// Reads the base into the fresh index; returns the name of its tree and its entries.
    async fn read_base(&self) -> Result<(String, Vec<Tracked>), CheckoutError> {
        let base = self.checkout.base_commit.as_str();
        let tree = format!("{base}^{{tree}}");
        let (_, tree, entries) = tokio::try_join!(
            self.call("read the base")?.args(["read-tree", base]).run(),
            self.call("read the base")?.args(["rev-parse", "--verify", &tree]).run(),
            self.call("list the base")?.args(["ls-tree", "-r", "-z", "--full-tree", base]).run(),
        )?;
        Ok((tree.text(), parse_tree(&entries.stdout)))
    }

    /// Lists what is not in the base and not ignored, and decides about each path.
    async fn plan(
        &self,
        launched: &LaunchedGit<'_>,
        tracked: Vec<Tracked>,
    ) -> Result<Plan, CheckoutError> {
        let mut scan = Scan::new(&self.checkout.work, self.checkouts.limits)?;
        scan.tracked(tracked)?;
        let listing = self.list_others(launched, &self.checkout.work, "index").await?;
        let mut nested = scan.others(Path::new(""), &listing)?;
        let mut taken = 0;
        while let Some(repository) = nested.pop() {
            if taken == NESTED_LIMIT || !scan.is_real(&repository) {
                scan.note(format!("left out `{}`: a repository of its own", repository.display()));
                continue;
            }
            taken += 1;
            scan.note(format!("took over `{}` without its history", repository.display()));
            let directory = self.checkout.work.join(&repository);
            let listing = self.list_others(launched, &directory, "no-index").await?;
            nested.extend(scan.others(&repository, &listing)?);
        }
        blocking(move || Ok(scan.finish())).await
    }

    async fn list_others(
        &self,
        launched: &LaunchedGit<'_>,
        directory: &Path,
        index: &str,
    ) -> Result<Vec<u8>, CheckoutError> {
        let exclude = format!("core.excludesFile={}", path_text(&self.checkout.exclude_file())?);
        let args = ["-c", &exclude, "ls-files", "-z", "--others", "--exclude-standard"];
        let variables = self.variables(directory, index)?;
        let output = launched.run("list the work tree", &args, variables, Vec::new()).await?;
        match unreadable_directory(&output.stderr) {
            Some(path) => Err(CheckoutError::Unreadable { path }),
            None => Ok(output.stdout),
        }
    }

    fn variables(
        &self,
        work_tree: &Path,
        index: &str,
    ) -> Result<[(&'static str, String); 3], CheckoutError> {
        Ok([
            ("GIT_DIR", path_text(&self.git_dir)?),
            ("GIT_WORK_TREE", path_text(work_tree)?),
            ("GIT_INDEX_FILE", path_text(&self.git_dir.join(index))?),
        ])
    }

    /// Brings the index to what the plan says.
    async fn apply(
        &self,
        launched: &LaunchedGit<'_>,
        plan: Plan,
    ) -> Result<Notices, CheckoutError> {
        let Plan { update, remove, large, mut notices } = plan;
        self.check_large(&large).await?;
        if !remove.is_empty() {
            let zero = self.checkout.source.format.zero();
            let line = |path: &Vec<u8>| [format!("0 {zero}\t").as_bytes(), path, b"\0"].concat();
            let input = remove.iter().flat_map(line).collect();
            let call = self.call("remove files from the index")?.stdin(input);
            call.args(["update-index", "-z", "--index-info"]).run().await?;
        }
        if !update.is_empty() {
            let input: Vec<u8> =
                update.iter().flat_map(|path| [path.as_slice(), b"\0"].concat()).collect();
            let args = ["update-index", "-z", "--add", "--remove", "--replace", "--stdin"];
            let variables = self.variables(&self.checkout.work, "index")?;
            let output = launched.run("read the work tree", &args, variables, input).await?;
            for path in output.stderr.lines().filter_map(|l| l.strip_prefix("Ignoring path ")) {
                notices.add(format!("left out `{path}`: git does not allow the name"));
            }
        }
        Ok(notices)
    }

    /// Refuses tracked files that are over the limit, unless they were so before and have not grown.
    async fn check_large(&self, large: &[(Tracked, u64)]) -> Result<(), CheckoutError> {
        let limit = self.checkouts.limits.file_bytes;
        for (entry, bytes) in large {
            let call = self.call("read a size")?;
            let before = call.args(["cat-file", "-s", &entry.object]).run().await?.text();
            if before.parse() != Ok(*bytes) {
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                return Err(CheckoutError::FileTooLarge { path, bytes: *bytes, limit });
            }
        }
        Ok(())
    }

    async fn commit(&self, tree: &str, message: &CommitMessage) -> Result<CommitId, CheckoutError> {
        let call = self.call("make the commit")?.stdin(message.0.clone().into_bytes());
        let args = ["commit-tree", "-p", self.checkout.base_commit.as_str(), tree];
        let output = call.args(args).run().await?;
        output.commit().ok_or_else(|| output.into_error("make the commit"))
    }

    async fn count_changes(&self, base: &str, tree: &str) -> Result<Changes, CheckoutError> {
        let call = self.call("count the changes")?;
        let options = ["-r", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv"];
        let output = call.args(["diff-tree"]).args(options).args([base, tree]).run().await?;
        Ok(parse_changes(&output.stdout))
    }

    /// Packs the commit and what the base has not.
    async fn pack(&self, commit: &CommitId) -> Result<PathBuf, CheckoutError> {
        let stem = self.git_dir.join("result/pack");
        let revisions = format!("{commit}\n^{}\n", self.checkout.base_commit);
        let call = self.call("pack the result")?.stdin(revisions.into_bytes());
        let stem_text = path_text(&stem)?;
        let output = call.args(["pack-objects", "--quiet", "--revs", &stem_text]).run().await?;
        let pack = self.git_dir.join("result").join(format!("pack-{}.pack", output.text()));
        let bytes = fs::metadata(&pack).map_err(io_error("look at", &pack))?.len();
        let limit = self.checkouts.limits.pack_bytes;
        if bytes > limit {
            return Err(CheckoutError::PackTooLarge { bytes, limit });
        }
        Ok(pack)
    }
}

/// The directory that `ls-files` warned of.
fn unreadable_directory(stderr: &str) -> Option<String> {
    let line = stderr.lines().find(|line| line.contains("could not open directory"))?;
    Some(line.split('\'').nth(1).unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_title_line_and_no_control_characters() {
        let message = CommitMessage::new("a\nb\u{1b}[31m", "body\n\nmore\0\n\n");
        assert_eq!(message.0, "a b[31m\n\nbody\n\nmore\n");
        assert_eq!(CommitMessage::new(" ", "").0, "Result of a task\n");
    }

    #[test]
    fn the_unreadable_directory_is_found_in_the_warning() {
        let stderr = "warning: could not open directory 'a b/': Permission denied\n";
        assert_eq!(unreadable_directory(stderr).as_deref(), Some("a b/"));
    }
}
