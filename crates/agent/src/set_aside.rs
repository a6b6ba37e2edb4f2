//! Files of a repository that the agent's command line would execute: out of its way while it runs, back before the
//! result is sealed.
//!
//! What the agent itself puts in their place is its work and wins, file by file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What was taken out of a work tree.
#[derive(Debug)]
pub(crate) struct SetAside {
    work: PathBuf,
    kept: PathBuf,
    names: Vec<&'static str>,
}

impl SetAside {
    /// Moves what there is of these names from the top of the work tree to an empty directory on the same disk.
    pub(crate) fn take(work: &Path, kept: PathBuf, names: &[&'static str]) -> io::Result<Self> {
        let mut aside = Self { work: work.to_owned(), kept, names: Vec::new() };
        for &name in names {
            match fs::rename(work.join(name), aside.kept.join(name)) {
                Ok(()) => aside.names.push(name),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(aside)
    }

    /// The names of what was taken.
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Puts everything back. Nothing may run in the work tree any more.
    pub(crate) fn put_back(self) -> io::Result<()> {
        self.names
            .iter()
            .try_for_each(|name| put_back(&self.kept.join(name), &self.work.join(name)))
    }
}

/// Never follows a link: what is there already is looked at as what it is.
fn put_back(kept: &Path, place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(kept, place),
        Err(error) => Err(error),
        Ok(there) if there.is_dir() && fs::symlink_metadata(kept)?.is_dir() => {
            for entry in fs::read_dir(kept)? {
                let name = entry?.file_name();
                put_back(&kept.join(&name), &place.join(&name))?;
            }
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::TempDir::new().unwrap();
        let (work, kept) = (directory.path().join("work"), directory.path().join("kept"));
        fs::create_dir_all(work.join("dir/deep")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(work.join("dir/deep/a"), "a").unwrap();
        fs::write(work.join("file"), "theirs").unwrap();
        (directory, work, kept)
    }

    #[test]
    fn what_nobody_touched_comes_back_as_it_was() {
        let (_directory, work, kept) = tree();
        let aside = SetAside::take(&work, kept, &["dir", "file", "absent"]).unwrap();
        assert_eq!(aside.names(), ["dir", "file"]);
        assert!(
            !work.join("dir").try_exists().unwrap() && !work.join("file").try_exists().unwrap()
        );
        aside.put_back().unwrap();
        assert_eq!(fs::read_to_string(work.join("dir/deep/a")).unwrap(), "a");
        assert_eq!(fs::read_to_string(work.join("file")).unwrap(), "theirs");
    }

    #[test]
    fn what_the_agent_made_wins_and_no_link_is_followed() {
        let (directory, work, kept) = tree();
        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let aside = SetAside::take(&work, kept, &["dir", "file"]).unwrap();
        fs::create_dir(work.join("dir")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, work.join("dir/deep")).unwrap();
        fs::write(work.join("file"), "the agent's").unwrap();
        aside.put_back().unwrap();
        assert_eq!(fs::read_to_string(work.join("file")).unwrap(), "the agent's");
        assert!(fs::read_dir(&elsewhere).unwrap().next().is_none());
    }
}
