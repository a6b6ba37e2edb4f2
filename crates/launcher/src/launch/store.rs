//! The state directory: the launches in it, its identity, and the shim beside them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Launch,
    directory::{Content, Directory, random_name, rename_new},
    format::VERSION,
    procfs,
    records::Intent,
};
use crate::{
    error::{LaunchError, LauncherError},
    id::LaunchId,
    removal::remove_tree,
    spec::LaunchSpec,
};

/// The shim that `build.rs` compiled.
static SHIM: &[u8] = include_bytes!(env!("LAUNCHER_SHIM_PATH"));
const SHIM_HASH: &str = env!("LAUNCHER_SHIM_SHA256");

/// The file with the identity of a store.
const STORE_FILE: &str = ".store.json";

/// What a launch directory holds besides output, lock and requests.
const RECORDS: [&str; 7] = [
    "intent.json",
    "cgroup.json",
    "shim.json",
    "started.json",
    "exit.json",
    "verdict.json",
    "accepted.tmp",
];

/// A state directory in use.
#[derive(Debug)]
pub(crate) struct Store {
    state_dir: PathBuf,
    launches: PathBuf,
    /// Tells this store from others, wherever it is mounted.
    pub(crate) id: String,
    pub(crate) boot_id: String,
    reach: Reach,
    shim: OnceLock<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    version: u32,
    id: String,
}

/// Whether a launch directory was made now or was there.
pub(crate) enum Place {
    Made(Launch),
    Found(Launch),
}

/// Who can reach into launch directories, besides root and the user of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nobody.
    Nobody,
    /// Whoever gets the directory mounted; its parent is closed.
    #[cfg(feature = "docker")]
    Mounted,
}

impl Store {
    /// Opens a store and makes it if it is missing.
    pub(crate) fn open(state_dir: &Path, name: &str, reach: Reach) -> Result<Self, LauncherError> {
        let state_dir = std::path::absolute(state_dir).map_err(|source| LauncherError::Io {
            what: "resolve",
            path: state_dir.to_owned(),
            source,
        })?;
        let launches = state_dir.join(name);
        let fail = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| LauncherError::Io { what, path, source }
        };
        fs::create_dir_all(&state_dir).map_err(fail("make", &state_dir))?;
        match fs::DirBuilder::new().mode(0o700).create(&launches) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(fail("make", &launches)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let directory = Directory::open(&launches).map_err(fail("open", &launches))?;
        let directory =
            directory.ok_or_else(|| fail("open", &launches)(io::ErrorKind::NotFound.into()))?;
        let identity = identity(&directory).map_err(fail("identify", &launches))?;
        if identity.version != VERSION {
            let found = identity.version;
            return Err(LauncherError::Incompatible { path: launches, found, known: VERSION });
        }
        Ok(Self {
            state_dir,
            launches,
            id: identity.id,
            boot_id: procfs::boot_id(),
            reach,
            shim: OnceLock::new(),
        })
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub(crate) fn launches(&self) -> &Path {
        &self.launches
    }

    pub(crate) fn path(&self, id: &LaunchId) -> PathBuf {
        self.launches.join(id.as_str())
    }

    /// A launch that is there: its directory and intent.
    pub(crate) fn find(&self, id: &LaunchId) -> io::Result<Option<Launch>> {
        let Some(directory) = Directory::open(&self.path(id))? else {
            return Ok(None);
        };
        match directory.read::<Intent>("intent.json")? {
            Content::Record(intent) if intent.id == *id => {
                Ok(Some(Launch { directory, intent: Arc::new(intent) }))
            }
            Content::Record(_) => Err(invalid("its intent names another launch")),
            // Directories get their name only with an intent in them, so it is being removed.
            Content::Missing => Ok(None),
            // The machine lost its power before the intent reached the disk.
            Content::Unreadable(_) if is_empty(&directory) => Ok(None),
            Content::Unreadable(why) => Err(invalid(&why)),
        }
    }

    /// Makes the directory of a launch with its intent, or finds it. Exactly one caller makes it.
    pub(crate) fn place(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Place, LaunchError> {
        let fail = |what, source| LaunchError::Io { what, path: self.path(id), source };
        let spec_hash = spec.hash();
        // A launch may be removed between failing to make it and looking at it.
        for _ in 0..10 {
            if let Some(launch) =
                self.find(id).map_err(|error| fail("read launch directory", error))?
            {
                return if launch.intent.spec_hash == spec_hash {
                    Ok(Place::Found(launch))
                } else {
                    Err(LaunchError::SpecMismatch { id: id.clone() })
                };
            }
            let intent = Intent {
                version: VERSION,
                id: id.clone(),
                spec_hash: spec_hash.clone(),
                boot_id: self.boot_id.clone(),
                created_us: Timestamp::now().as_microsecond(),
                spec: spec.clone(),
            };
            let made = self.make(id, &intent);
            if let Some(directory) = made.map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    let what = format!("make launch directory `{}`", self.path(id).display());
                    LaunchError::ResourceExhausted { what }
                }
                _ => fail("make launch directory", error),
            })? {
                return Ok(Place::Made(Launch { directory, intent: Arc::new(intent) }));
            }
        }
        Err(fail("make launch directory", io::ErrorKind::ResourceBusy.into()))
    }

    fn make(&self, id: &LaunchId, intent: &Intent) -> io::Result<Option<Directory>> {
        let hidden = format!(".new-{id}-{}", random_name()?);
        let path = self.launches.join(&hidden);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let (directory_mode, intent_mode) = match self.reach {
            Reach::Nobody => (0o700, 0o600),
            #[cfg(feature = "docker")]
            Reach::Mounted => (0o777, 0o644),
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(directory_mode))?;
        let json = serde_json::to_vec(intent)?;
        let parent = File::open(&self.launches)?;
        // Not synced: a launch does not outlive the machine, and the sync of the exit record makes
        // its directory durable with it. Two syncs here would be most of the time a launch takes.
        let renamed = create(&path.join("intent.json"), intent_mode)
            .and_then(|mut file| file.write_all(&json))
            .and_then(|()| rename_new(parent.as_fd(), &hidden, id.as_str()));
        if !matches!(renamed, Ok(true)) {
            // An abandoned one is swept by `reap`.
            remove_tree(&path).ok();
            return renamed.map(|_| None);
        }
        Directory::open(&self.path(id))
    }

    /// Removes a launch's directory: first from sight, then from disk.
    pub(crate) fn remove(&self, id: &LaunchId) -> io::Result<()> {
        let hidden = self.launches.join(format!(".gone-{id}-{}", random_name()?));
        match fs::rename(self.path(id), &hidden) {
            Ok(()) => {
                // First, so that whoever still looks at it does not take a missing record for a
                // lost launch, or missing output for a gap.
                fs::remove_file(hidden.join("intent.json")).ok();
                remove_tree(&hidden)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what a crash left of making or removing launches, if it is old enough. `false`:
    /// it is not.
    pub(crate) fn sweep(&self, name: &str, older_than: Duration) -> bool {
        let path = self.launches.join(name);
        let age = fs::symlink_metadata(&path).and_then(|data| data.modified());
        let age = age.ok().and_then(|at| at.elapsed().ok());
        // What cannot be removed is tried again with the next sweep.
        age.is_some_and(|age| age > older_than) && remove_tree(&path).is_ok()
    }

    /// Whether an entry without a readable intent is what a power failure left of a launch: our
    /// files and nothing else, and no shim that lives in it.
    pub(crate) fn is_remnant(&self, name: &str) -> bool {
        let Ok(Some(directory)) = Directory::open(&self.launches.join(name)) else {
            return false;
        };
        let is_ours = |name: &String| {
            matches!(
                name.as_str(),
                "." | ".." | "lock" | "starter" | "ctl" | "assignment" | "accepted"
            ) || (name.starts_with("out") && name.ends_with(".log"))
                || RECORDS.iter().any(|record| name.starts_with(record))
        };
        matches!(directory.lock_holder(), Ok(None))
            && directory.names().is_ok_and(|names| names.iter().all(is_ours))
    }

    /// The names of all entries that may be launches.
    pub(crate) fn entries(&self) -> Result<Vec<String>, LauncherError> {
        let path = &self.launches;
        let fail = |source| LauncherError::Io { what: "list", path: path.clone(), source };
        let directory = Directory::open(path).map_err(fail)?;
        let directory = directory.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
        directory.names().map_err(fail)
    }

    /// The shim, written on first use.
    pub(crate) fn shim(&self) -> Result<PathBuf, (PathBuf, io::Error)> {
        // Looked at each time: something that clears old files away may have taken it.
        if let Some(path) = self.shim.get().filter(|path| path.is_file()) {
            return Ok(path.clone());
        }
        let path = self.state_dir.join(format!("shim-{SHIM_HASH}"));
        install(&path).map_err(|error| (path.clone(), error))?;
        Ok(self.shim.get_or_init(|| path).clone())
    }
}

fn identity(directory: &Directory) -> io::Result<Identity> {
    loop {
        match directory.read::<Identity>(STORE_FILE)? {
            Content::Record(identity) => return Ok(identity),
            Content::Unreadable(why) => return Err(invalid(&why)),
            Content::Missing => {
                let id = format!("{}{}", random_name()?, random_name()?);
                let json = serde_json::to_vec(&Identity { version: VERSION, id })?;
                directory.write_new(STORE_FILE, &json)?;
            }
        }
    }
}

/// Writes the shim once, whole or not at all.
fn install(path: &Path) -> io::Result<()> {
    let is_executable =
        |path: &Path| fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o100 != 0);
    if is_executable(path) && fs::read(path)? == SHIM {
        return Ok(());
    }
    let tmp = path.with_extension(format!("tmp-{}", random_name()?));
    let mut file = create(&tmp, 0o755)?;
    file.write_all(SHIM)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&tmp, path)
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Whatever the mask of this process takes away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

fn is_empty(directory: &Directory) -> bool {
    directory.open_file("intent.json").and_then(|file| file.metadata()).is_ok_and(|d| d.len() == 0)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
