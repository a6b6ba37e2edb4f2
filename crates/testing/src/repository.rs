//! Scratch git repositories: made in a temporary directory, changed by the real git, compared as a whole.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Output,
};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::programs::{installed_program, search_path};

/// A repository of a test, gone with this value.
#[derive(Debug)]
pub struct ScratchRepository {
    path: PathBuf,
    _directory: TempDir,
}

/// Everything that belongs to the user of a repository; differences show in the test's output.
///
/// That is the work tree with times and modes, index, `HEAD`, configuration, hooks, and every ref that is not below
/// `opentiger/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<String, String>);

impl ScratchRepository {
    /// A repository on the branch `main` without a commit.
    #[must_use]
    pub fn empty() -> Self {
        Self::named("repository")
    }

    /// The same in a directory of the given name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::made(name, "sha1")
    }

    /// A repository that names its objects with SHA-256, with one commit of one file on the branch `main`.
    #[must_use]
    pub fn with_long_hashes() -> Self {
        let repository = Self::made("repository", "sha256");
        repository.write("README.md", "# A scratch repository\n");
        repository.commit_all("start");
        repository
    }

    fn made(name: &str, format: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        // Other users of a test shall reach it, as they would a directory of a person.
        set_mode(directory.path(), 0o755);
        let path = directory.path().join(name);
        fs::create_dir(&path).expect("a directory can be made");
        let repository = Self { path, _directory: directory };
        let format = format!("--object-format={format}");
        repository.git(&["init", "--quiet", "--initial-branch=main", &format]);
        repository.git(&["config", "user.name", "A User"]);
        repository.git(&["config", "user.email", "user@example.org"]);
        repository
    }

    /// A repository with one commit of a few files on the branch `main`.
    #[must_use]
    pub fn with_one_commit() -> Self {
        let repository = Self::empty();
        repository.write("README.md", "# A scratch repository\n");
        repository.write("src/lib.rs", "pub fn answer() -> u32 {\n    41\n}\n");
        repository.write(".gitignore", "/target\n*.log\n");
        repository.commit_all("start");
        repository
    }

    /// The top directory of the work tree.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below the work tree.
    #[must_use]
    pub fn join(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// Writes a file below the work tree and the directories above it.
    pub fn write(&self, relative: &str, content: &str) {
        let path = self.path.join(relative);
        let parent = path.parent().expect("a path below the work tree has a parent");
        fs::create_dir_all(parent).expect("directories can be made");
        fs::write(&path, content).expect("a file can be written");
    }

    /// Stages and commits everything, and returns the commit.
    pub fn commit_all(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.head()
    }

    /// The commit of `HEAD`.
    #[must_use]
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Runs git in the work tree and returns what it printed.
    ///
    /// # Panics
    /// When git fails; the text shows what it said.
    pub fn git(&self, args: &[&str]) -> String {
        git_in(&self.path, args)
    }

    /// What a file holds in a commit or branch.
    #[must_use]
    pub fn show(&self, revision: &str, path: &str) -> String {
        self.git(&["show", &format!("{revision}:{path}")])
    }

    /// Takes the fingerprint of what belongs to the user.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.path)
    }
}

/// Runs git in a directory, with an environment of the test's own, and returns what it printed.
///
/// # Panics
/// When git fails; the text shows what it said.
#[track_caller]
pub fn git_in(directory: &Path, args: &[&str]) -> String {
    let output = try_git_in(directory, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?} in `{}`: {stderr}", directory.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs git in a directory, with an environment of the test's own.
///
/// # Panics
/// When git cannot be started.
#[must_use]
pub fn try_git_in(directory: &Path, args: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the test stands in for the user's own shell")]
    let mut command = std::process::Command::new(installed_program("git"));
    command
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("PATH", search_path())
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "2")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_CONFIG_KEY_1", "protocol.file.allow")
        .env("GIT_CONFIG_VALUE_1", "always")
        .env("GIT_AUTHOR_NAME", "A User")
        .env("GIT_AUTHOR_EMAIL", "user@example.org")
        .env("GIT_COMMITTER_NAME", "A User")
        .env("GIT_COMMITTER_EMAIL", "user@example.org");
    command.output().expect("git can be started")
}

impl Fingerprint {
    /// Takes the fingerprint of a work tree, or of a bare repository.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let mut parts = BTreeMap::new();
        let refs = git_in(path, &["for-each-ref", "--format=%(refname) %(objectname)"]);
        let own = refs.lines().filter(|line| !line.starts_with("refs/heads/opentiger/"));
        parts.insert("refs".to_owned(), own.collect::<Vec<_>>().join("\n"));
        let git_dir = git_in(path, &["rev-parse", "--absolute-git-dir"]);
        let git_dir = Path::new(git_dir.trim_end_matches('\n'));
        for file in ["HEAD", "index", "config", "FETCH_HEAD", "ORIG_HEAD", "packed-refs"] {
            parts.insert(format!("git: {file}"), digest(&git_dir.join(file)));
        }
        add_files(&git_dir.join("hooks"), "git: hooks", &mut parts);
        if git_dir != path {
            add_files(path, "work", &mut parts);
        }
        Self(parts)
    }
}

fn add_files(directory: &Path, name: &str, parts: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = format!("{name}/{}", entry.file_name().display());
        let metadata =
            fs::symlink_metadata(&path).expect("a file of the work tree can be looked at");
        if metadata.is_dir() {
            if entry.file_name() != ".git" {
                add_files(&path, &name, parts);
            }
            continue;
        }
        let content = if metadata.is_file() { digest(&path) } else { "special".to_owned() };
        let (mode, time) = (metadata.mode(), metadata.mtime_nsec());
        parts.insert(name, format!("{mode:o} {}.{time} {content}", metadata.mtime()));
    }
}

fn digest(file: &Path) -> String {
    match fs::read(file) {
        Ok(bytes) => {
            let hash = Sha256::digest(&bytes);
            hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        }
        Err(error) => error.kind().to_string(),
    }
}

/// Sets the permission bits of a file or directory.
///
/// # Panics
/// When the system refuses.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
}
