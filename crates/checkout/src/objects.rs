//! Brings the objects of the user's repository into a checkout: hard links where the file system can, else copies.
//!
//! Reads nothing but the directory `objects` and what its alternates name; never runs git.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{
    error::CheckoutError,
    files::{io_error, make_private_dir, read_small},
    git_dir::ObjectFormat,
    roots::AllowedRoots,
};

/// How deep alternates may refer to alternates; git's own limit.
const MAX_DEPTH: usize = 5;
/// How often the directories are read again when files vanish under the reader (`git gc` in the user's repository).
const MAX_PASSES: usize = 5;

/// Where objects come from and what may be taken.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The repository, as errors name it.
    pub(crate) repository: PathBuf,
    pub(crate) objects: PathBuf,
    pub(crate) format: ObjectFormat,
    pub(crate) roots: AllowedRoots,
    /// Some: every file must belong to this user, on whose behalf a privileged process reads.
    pub(crate) owner: Option<u32>,
}

/// How many files were brought over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Brought {
    pub(crate) linked: u64,
    pub(crate) copied: u64,
}

/// Links or copies every object file into `into`, which is made.
pub(crate) fn bring_objects(source: &Source, into: &Path) -> Result<Brought, CheckoutError> {
    make_private_dir(into)?;
    make_private_dir(&into.join("pack"))?;
    let mut bringing = Bringing { source, into, brought: Brought::default(), vanished: false };
    for _ in 0..MAX_PASSES {
        bringing.vanished = false;
        bringing.directory(&source.objects, 0)?;
        if !bringing.vanished {
            break;
        }
    }
    Ok(bringing.brought)
}

struct Bringing<'a> {
    source: &'a Source,
    into: &'a Path,
    brought: Brought,
    vanished: bool,
}

impl Bringing<'_> {
    fn directory(&mut self, objects: &Path, depth: usize) -> Result<(), CheckoutError> {
        let objects = self.source.roots.check(objects)?;
        let metadata = fs::metadata(&objects).map_err(io_error("look at", &objects))?;
        self.check_owner(&objects, metadata.uid())?;
        for entry in fs::read_dir(&objects).map_err(io_error("list", &objects))? {
            let entry = entry.map_err(io_error("list", &objects))?;
            let name = entry.file_name();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match name.to_str() {
                Some("pack") => self.packs(&entry.path())?,
                Some(name) if is_hex(name, 2) => self.loose(&entry.path(), name)?,
                Some(_) | None => {}
            }
        }
        if depth < MAX_DEPTH {
            for alternate in alternates(&objects)? {
                self.directory(&alternate, depth + 1)?;
            }
        }
        Ok(())
    }

    fn loose(&mut self, directory: &Path, prefix: &str) -> Result<(), CheckoutError> {
        let target = self.into.join(prefix);
        for name in names(directory)? {
            if is_hex(&name, self.source.format.file_digits()) {
                if !target.is_dir() {
                    make_private_dir(&target)?;
                }
                self.file(&directory.join(&name), &target.join(&name))?;
            }
        }
        Ok(())
    }

    /// The pack goes first: an index whose pack is missing would be an error for git.
    fn packs(&mut self, directory: &Path) -> Result<(), CheckoutError> {
        let target = self.into.join("pack");
        let names = names(directory)?;
        if names.iter().any(|name| name.ends_with(".promisor")) {
            return Err(CheckoutError::PartialClone { path: self.source.repository.clone() });
        }
        for stem in names.iter().filter_map(|name| name.strip_suffix(".pack")) {
            let taken = self.file(
                &directory.join(format!("{stem}.pack")),
                &target.join(format!("{stem}.pack")),
            )?;
            for suffix in ["idx", "rev"] {
                let name = format!("{stem}.{suffix}");
                if taken && names.contains(&name) {
                    self.file(&directory.join(&name), &target.join(&name))?;
                }
            }
        }
        Ok(())
    }

    /// Brings one file over; false where it is not there any more or is no regular file.
    fn file(&mut self, from: &Path, to: &Path) -> Result<bool, CheckoutError> {
        match fs::hard_link(from, to) {
            Ok(()) => self.brought.linked += 1,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.vanished = true;
                return Ok(false);
            }
            Err(_) => return self.copy(from, to),
        }
        let metadata = fs::symlink_metadata(to).map_err(io_error("look at", to))?;
        if !metadata.is_file() {
            fs::remove_file(to).map_err(io_error("remove", to))?;
            return Ok(false);
        }
        self.check_owner(from, metadata.uid())?;
        Ok(true)
    }

    /// For another file system, or a file that may not be linked.
    fn copy(&mut self, from: &Path, to: &Path) -> Result<bool, CheckoutError> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut source = match OpenOptions::new().read(true).custom_flags(flags).open(from) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.vanished = true;
                return Ok(false);
            }
            Err(error) => return Err(io_error("read", from)(error)),
        };
        let metadata = source.metadata().map_err(io_error("look at", from))?;
        if !metadata.is_file() {
            return Ok(false);
        }
        self.check_owner(from, metadata.uid())?;
        let mut target = File::create_new(to).map_err(io_error("write", to))?;
        io::copy(&mut source, &mut target).map_err(io_error("copy", from))?;
        self.brought.copied += 1;
        Ok(true)
    }

    fn check_owner(&self, path: &Path, owner: u32) -> Result<(), CheckoutError> {
        match self.source.owner {
            Some(user) if user != owner => {
                Err(CheckoutError::OwnedByAnother { path: path.to_owned(), owner, user })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Refuses objects that lie, or borrow from what lies, outside of the allowed directories.
pub(crate) fn check_alternates(objects: &Path, roots: &AllowedRoots) -> Result<(), CheckoutError> {
    let mut level = BTreeSet::from([objects.to_owned()]);
    for _ in 0..=MAX_DEPTH {
        let mut next = BTreeSet::new();
        for objects in level {
            next.extend(alternates(&roots.check(&objects)?)?);
        }
        level = next;
    }
    Ok(())
}

fn names(directory: &Path) -> Result<Vec<String>, CheckoutError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // `git gc` removes directories that became empty.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", directory))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

fn alternates(objects: &Path) -> Result<Vec<PathBuf>, CheckoutError> {
    let file =
        read_small(objects, "info/alternates", 64 << 10).map_err(io_error("read", objects))?;
    let lines = file.unwrap_or_default();
    let path = |line: &[u8]| objects.join(std::ffi::OsStr::from_bytes(line));
    Ok(lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(path)
        .filter(|path| path.is_dir())
        .collect())
}

fn is_hex(name: &str, digits: usize) -> bool {
    name.len() == digits && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
