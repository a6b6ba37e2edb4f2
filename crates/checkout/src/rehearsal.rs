//! A repository of our own for self-tests, and checkouts of it that are nobody's runs.
//!
//! It is written out and not made by git, for it is always the same: one commit of one file.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use core_types::ids::RunId;

use crate::checkouts::Checkouts;

/// Where it lies among the checkouts of self-tests, whose names are ids of runs.
const NAME: &str = "repository";

/// The objects as git keeps them, by their names: a blob, its tree, its commit.
const OBJECTS: [(&str, &[u8]); 3] = [
    (
        "093ec3fc9db03abde7f1a82e4cb39479a143aed8",
        b"x\xda\x15\xc9\xb1\x0d\x800\x0c\x04@j\xa6\xf8\x05H\x991\xa8X\x80\x08\x87X\x8a\xfc(6E\xb6G\x5c{\xa5\xb3 \xe7\xe5h\x82!\x0f]\x83c\x82\x15.\xbdn!\x1e\x9e\xb03\x9a\xda\x0d5h@\xfd\xff\xd7\x05A\x9c6\x0b\xaf\x99\xd6\x0f\xc6\x14\x19\xb4",
    ),
    (
        "d0e580f960d55f533cd4ea48932cc6a5e156606a",
        b"x\xda+)JMU06a040031Q\x08rut\xf1ue\xe0\xb4;\xfcg\xee\x06\xab\xbd\xcf?\xae\xd0\xf3\xd9<\xa5r\xa1\xf3\xba\x1b\x00\x1e\xac\x10\xa3",
    ),
    (
        "35bafeee63c5dd14b0803b5dedfcba0835d70205",
        b"x\xda\x8d\x8dA\x0a\xc20\x10\x00=\xe7\x15{\x17ak\xb2\xa1\x05\x11\x1f\xe1\x07\x96\xcd\xc6\x16R#\xc9\xfa\xff\xb6\xbe\xc09\xcde\x18\xa9\xeb\xba\x18\x0c\x14N\xd6T!\xa1\xd2\x88y\x8a\x98\x882y/)(\x87q\xf2W\x91\xc8\xa4\x03\xc5\x88\x91\x1d\x7fm\xae\x0d\xeaG\xdf\xcf\xe5\xa5\x0dn\x87\xda\xa1\x8fR\x85\xcb\x5c\xbb\xdd\x01\xe1\x8c;N~\x1f\xd3\xff\x0b\xd7\xb5\xe4\x8bi7\xb7\x01\xe7>59",
    ),
];

/// What the name of a claim ends with, after the id of the run.
const CLAIM: &str = ".claim";

/// Says that somebody makes a self-test, or removes what is left of one, for as long as this lives: the kernel lets it go
/// with the process, however that ends.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _locked: File,
}

impl Claim {
    /// Ends it for good, once nothing of the self-test is left.
    ///
    /// # Errors
    /// The system's, where its file cannot be removed.
    pub fn settle(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Checkouts {
    /// Claims a self-test that is about to begin. Comes before everything else of it.
    ///
    /// # Errors
    /// The system's, where the claim cannot be written.
    pub fn claim(&self, run: RunId) -> io::Result<Claim> {
        let path = self.root.join(format!("{run}{CLAIM}"));
        let new = self.root.join(format!(".{run}{CLAIM}"));
        let locked = File::create_new(&new)?;
        locked.try_lock()?;
        // Only now anybody may find it.
        fs::rename(&new, &path)?;
        Ok(Claim { path, _locked: locked })
    }

    /// Self-tests of which something may be left and whose process is gone, claimed for who removes that.
    ///
    /// # Errors
    /// The system's, where the checkouts cannot be listed.
    pub fn abandoned(&self) -> io::Result<Vec<(RunId, Claim)>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let run = |name: String| name.strip_suffix(CLAIM).unwrap_or(&name).parse().ok();
        let runs: BTreeSet<RunId> = names.filter_map(run).collect();
        Ok(runs.into_iter().filter_map(|run| Some((run, self.take(run)?))).collect())
    }

    /// Takes the claim of a process that is gone; nothing while it lives.
    fn take(&self, run: RunId) -> Option<Claim> {
        let path = self.root.join(format!("{run}{CLAIM}"));
        // One without a file is over in this moment, or was made by a version that wrote none.
        let locked = File::options().create(true).append(true).open(&path).ok()?;
        locked.try_lock().ok()?;
        Some(Claim { path, _locked: locked })
    }

    /// Checkouts of self-tests, beside these, and the path of a repository for them, made where it is not there yet.
    ///
    /// # Errors
    /// The system's, where it cannot be made.
    pub fn for_self_tests(&self) -> io::Result<(Self, PathBuf)> {
        let tests = self.apart(self.root.with_file_name("self-tests"));
        let path = tests.root.join(NAME);
        if !path.join(".git/HEAD").is_file() {
            write(&path.join(".git"))?;
        }
        Ok((tests, path))
    }
}

/// `HEAD` comes last: with it the repository is whole.
fn write(git_dir: &Path) -> io::Result<()> {
    let put = |name: &str, content: &[u8]| {
        let file = git_dir.join(name);
        fs::create_dir_all(file.parent().unwrap_or(git_dir))?;
        fs::write(file, content)
    };
    for (name, content) in OBJECTS {
        let (directory, file) = name.split_at(2);
        put(&format!("objects/{directory}/{file}"), content)?;
    }
    let [_, _, (commit, _)] = OBJECTS;
    put("refs/heads/main", format!("{commit}\n").as_bytes())?;
    put("config", b"[core]\n\trepositoryformatversion = 0\n\tbare = false\n")?;
    put("HEAD", b"ref: refs/heads/main\n")
}

#[cfg(test)]
mod tests {
    use core_types::{
        ids::{RunId, TaskId},
        repository::Repository,
    };

    use super::*;
    use crate::{checkouts::PrepareRequest, git::GitCommand};

    #[test]
    fn a_claim_is_taken_once_its_holder_is_gone() {
        let state = tempfile::tempdir().unwrap();
        let git = GitCommand::new("/usr/bin/git".into(), String::new());
        let checkouts = Checkouts::new(state.path().join("checkouts"), git);
        let (tests, _) = checkouts.for_self_tests().unwrap();
        let run = RunId::generate();
        let claim = tests.claim(run).unwrap();
        assert!(tests.abandoned().unwrap().is_empty());
        drop(claim);
        let [(left, taken)] = <[_; 1]>::try_from(tests.abandoned().unwrap()).unwrap();
        assert_eq!(left, run);
        assert!(tests.abandoned().unwrap().is_empty(), "somebody removes it");
        taken.settle().unwrap();
        assert!(tests.abandoned().unwrap().is_empty());
        // A checkout alone is enough.
        fs::create_dir(tests.root.join(run.to_string())).unwrap();
        assert_eq!(tests.abandoned().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_checkout_of_it_has_its_file() {
        let state = tempfile::tempdir().unwrap();
        let git = GitCommand::find(&testing::programs::search_path()).unwrap();
        let checkouts = Checkouts::new(state.path().join("checkouts"), git);
        // The second time it is there.
        for _ in 0..2 {
            let (tests, path) = checkouts.for_self_tests().unwrap();
            let path = path.to_str().unwrap().to_owned();
            let run = RunId::generate();
            let request = PrepareRequest {
                run,
                task: TaskId::generate(),
                number: 1,
                repository: &Repository::Local { path },
                base_branch: None,
            };
            let checkout = tests.prepare(request).await.unwrap();
            let text = fs::read_to_string(checkout.work.join("README")).unwrap();
            assert!(text.starts_with("The repository of self-tests"), "{text}");
            tests.remove(run).await.unwrap();
            assert!(checkouts.list().await.unwrap().is_empty());
        }
    }
}
