//! The difference between two commits of a repository, read from its objects alone.
//!
//! A repository's configuration and attributes can name programs that git runs for a diff: external diff tools, text
//! converters, monitors. So git is given a directory of our own, empty but for its own plain configuration, and of the
//! repository nothing but the objects. Nothing is written there.
//!
//! It does not say which commits belong together, and merges nothing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use launcher::spec::UserId;
use tempfile::TempDir;

use crate::{
    error::CheckoutError,
    files::{blocking, io_error, write_new},
    git::{CommitId, GitCall, GitCommand, path_text},
    git_dir::ObjectFormat,
    local::LocalRepository,
    objects::check_alternates,
    roots::AllowedRoots,
};

/// How long one call of git may take here: somebody waits for the answer.
const TIME: Duration = Duration::from_secs(20);
/// The most bytes of the list of files; longer ones are cut.
const LIST_LIMIT: usize = 4 << 20;
/// Where the empty git directory is made for the moment.
const SCRATCH: &str = "/tmp";

/// Where objects are read from.
#[derive(Debug, Clone)]
pub struct ObjectSource {
    objects: PathBuf,
    format: ObjectFormat,
    owner: Option<UserId>,
    roots: AllowedRoots,
}

/// How much of a difference is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffLimits {
    /// Most files in the list.
    pub files: usize,
    /// Most bytes of the patch.
    pub patch_bytes: usize,
    /// Whether files that are no text are in the patch with their content, so that it can be applied.
    pub binary: bool,
}

/// The difference between two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// What changed, by path.
    pub files: Vec<ChangedFile>,
    /// Whether more files changed than are listed.
    pub files_truncated: bool,
    /// The patch, as `git diff` writes it. What is no UTF-8 in the files is none here.
    pub patch: Vec<u8>,
    /// Whether the patch is longer.
    pub patch_truncated: bool,
}

/// A file that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// What became of it.
    pub change: Change,
    /// Its path.
    pub path: String,
    /// Its path before, where it was renamed.
    pub old_path: Option<String>,
    /// Lines that came; none where it is no text.
    pub added: Option<u64>,
    /// Lines that went; none where it is no text.
    pub deleted: Option<u64>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// It has another content or mode.
    Modified,
    /// It has another path, and maybe another content.
    Renamed,
    /// It is another kind of thing: a link, a submodule.
    TypeChanged,
}

/// Why there is no difference to show.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The repository has the commit no more.
    #[error("the repository has no commit {commit}")]
    CommitMissing {
        /// The commit.
        commit: CommitId,
    },
    /// Git or the files of the repository failed.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
}

impl ObjectSource {
    /// The objects of a repository of this host.
    #[must_use]
    pub fn of_local(repository: &LocalRepository) -> Self {
        Self {
            objects: repository.common_dir.join("objects"),
            format: repository.format,
            owner: repository.owner,
            roots: repository.roots().clone(),
        }
    }

    /// The objects of a repository that this project made.
    pub(crate) fn of_our_own(git_dir: &Path, format: ObjectFormat) -> Self {
        let objects = git_dir.join("objects");
        Self { objects, format, owner: None, roots: AllowedRoots::default() }
    }
}

/// Compares two commits.
///
/// # Errors
/// [`DiffError::CommitMissing`] where the repository does not have one of them any more.
pub async fn diff(
    git: &GitCommand,
    source: &ObjectSource,
    (base, commit): (&CommitId, &CommitId),
    limits: DiffLimits,
) -> Result<Diff, DiffError> {
    let reader = Reader::new(git, source).await?;
    for wanted in [base, commit] {
        if !reader.has(wanted).await? {
            return Err(DiffError::CommitMissing { commit: wanted.clone() });
        }
    }
    let trees = [base.as_str(), commit.as_str()];
    let (changes, counts, patch) = tokio::try_join!(
        reader.compare(&["-z", "--raw", "--no-abbrev"], trees, LIST_LIMIT),
        reader.compare(&["-z", "--numstat"], trees, LIST_LIMIT),
        reader.compare(patch_arguments(limits.binary), trees, limits.patch_bytes),
    )?;
    let mut files = changed_files(&changes.0, &counts.0);
    let files_truncated = changes.1 || counts.1 || files.len() > limits.files;
    files.truncate(limits.files);
    Ok(Diff { files, files_truncated, patch: patch.0, patch_truncated: patch.1 })
}

const fn patch_arguments(binary: bool) -> &'static [&'static str] {
    if binary { &["--patch", "--binary", "--full-index"] } else { &["--patch", "--full-index"] }
}

/// Git on nothing but objects.
struct Reader {
    git: GitCommand,
    directory: TempDir,
    objects: String,
    owner: Option<UserId>,
}

impl Reader {
    async fn new(git: &GitCommand, source: &ObjectSource) -> Result<Self, CheckoutError> {
        let (objects, owner) = (path_text(&source.objects)?, source.owner);
        let source = source.clone();
        let directory = blocking(move || {
            check_alternates(&source.objects, &source.roots)?;
            empty_git_dir(source.format, source.owner)
        });
        let directory = directory.await?;
        Ok(Self { git: git.clone().with_timeout(TIME), directory, objects, owner })
    }

    fn call(&self, doing: &'static str) -> Result<GitCall<'_>, CheckoutError> {
        let call = self.git.call(doing).git_dir(self.directory.path())?;
        Ok(call.objects(&self.objects).run_as(self.owner))
    }

    async fn has(&self, commit: &CommitId) -> Result<bool, CheckoutError> {
        let name = format!("{commit}^{{commit}}");
        let call = self.call("look for a commit")?.args(["cat-file", "-e", &name]);
        Ok(call.try_run().await?.success)
    }

    /// What git says of the difference, and whether it would have said more.
    async fn compare(
        &self,
        form: &[&'static str],
        trees: [&str; 2],
        limit: usize,
    ) -> Result<(Vec<u8>, bool), CheckoutError> {
        let plain = [
            "diff-tree",
            "-r",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--find-renames",
            "-l1000",
            "--submodule=short",
            "--src-prefix=a/",
            "--dst-prefix=b/",
        ];
        let call = self.call("compare two commits")?.output_limit(limit);
        let call = call.args(plain).args(form.iter().copied()).args(["--end-of-options"]);
        call.args(trees).run_cut("compare two commits").await
    }
}

/// A git directory with nothing in it, gone with the value.
fn empty_git_dir(format: ObjectFormat, owner: Option<UserId>) -> Result<TempDir, CheckoutError> {
    let directory = tempfile::Builder::new().prefix("opentiger-diff-").tempdir_in(SCRATCH);
    let directory = directory.map_err(io_error("make a directory in", Path::new(SCRATCH)))?;
    let path = directory.path();
    for part in ["objects", "refs"] {
        fs::create_dir(path.join(part)).map_err(io_error("make directory", path))?;
    }
    let extension = match format {
        ObjectFormat::Sha1 => "repositoryFormatVersion = 0",
        ObjectFormat::Sha256 => {
            "repositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = sha256"
        }
    };
    let config = format!("[core]\n\tbare = true\n\t{extension}\n");
    write_new(&path.join("config"), config.as_bytes())?;
    write_new(&path.join("HEAD"), b"ref: refs/heads/none\n")?;
    if let Some(UserId { uid, gid }) = owner {
        // The owner reads it, and can do no more to it than to an own copy: only this call uses it.
        chown(path, Some(uid), Some(gid)).map_err(io_error("hand over", path))?;
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, open).map_err(io_error("open up", path))?;
    }
    Ok(directory)
}

/// Puts together what `--raw` and `--numstat` say, both with NUL behind each part.
fn changed_files(raw: &[u8], counts: &[u8]) -> Vec<ChangedFile> {
    let mut counts = numbers(counts).into_iter();
    let mut parts = raw.split(|byte| *byte == 0);
    let mut files = Vec::new();
    while let Some(head) = parts.next().filter(|head| head.starts_with(b":")) {
        let letter = head.rsplit(|byte| *byte == b' ').next().and_then(|word| word.first());
        let Some(first) = parts.next() else { break };
        let (old, path) = match letter {
            Some(b'R' | b'C') => (Some(first), parts.next()),
            Some(_) | None => (None, Some(first)),
        };
        let Some(path) = path else { break };
        let change = match letter {
            Some(b'A') => Change::Added,
            Some(b'D') => Change::Deleted,
            Some(b'R') => Change::Renamed,
            Some(b'T') => Change::TypeChanged,
            Some(_) | None => Change::Modified,
        };
        let (added, deleted) = counts.next().unwrap_or_default();
        let (path, old_path) = (lossy(path), old.map(lossy));
        files.push(ChangedFile { change, path, old_path, added, deleted });
    }
    files
}

/// The lines that came and went, file by file in the order of `--raw`; none for what is no text.
fn numbers(counts: &[u8]) -> Vec<(Option<u64>, Option<u64>)> {
    let mut parts = counts.split(|byte| *byte == 0);
    let mut numbers = Vec::new();
    while let Some(part) = parts.next().filter(|part| !part.is_empty()) {
        let mut fields = part.splitn(3, |byte| *byte == b'\t');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        numbers.push((number(), number()));
        if fields.next().is_none_or(<[u8]>::is_empty) {
            // A renamed file: both paths follow.
            let _both_paths = parts.by_ref().nth(1);
        }
    }
    numbers
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_of_renamed_and_binary_files_is_put_together() {
        let raw = b":100644 100644 a b M\0one\0:100644 100644 a b R090\0old\0new\0:000000 100644 a b A\0bin\0";
        let counts = b"1\t2\tone\x003\t0\t\0old\0new\0-\t-\tbin\0";
        let files = changed_files(raw, counts);
        let file = |change, path: &str, old: Option<&str>, added, deleted| ChangedFile {
            change,
            path: path.to_owned(),
            old_path: old.map(ToOwned::to_owned),
            added,
            deleted,
        };
        assert_eq!(
            files,
            [
                file(Change::Modified, "one", None, Some(1), Some(2)),
                file(Change::Renamed, "new", Some("old"), Some(3), Some(0)),
                file(Change::Added, "bin", None, None, None),
            ]
        );
        assert!(changed_files(b"", b"").is_empty());
        assert!(changed_files(b":100644 100644 a b R1\0old", b"x").is_empty());
    }
}
