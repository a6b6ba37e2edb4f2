//! The place of a check in a container: directories like those of a run, empty, and gone with the check.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
    sync::Arc,
};

use core_types::{
    auth::{AuthReason, CheckedBy},
    sandbox::paths,
    secret::Secret,
    task::ExecutorKind,
};
use executor::{environment::allow_list, invocation::Place};
use launcher::{
    container::ImagePolicy,
    spec::{LaunchSpec, Limits},
};
use sandbox::{
    premises::{Premises, Surroundings},
    sandbox::{Purpose, logins},
};

use super::{Shared, passage::Passage};
use crate::{
    credentials::Found,
    finding::Finding,
    place::Spot,
    scratch::{Scratch, private},
};

/// What of a checkout is there for a run.
const CHECKOUT: &[&str] = &["work", "home", "tmp", "objects", "result"];
/// A file that a container has to be able to read where it has nothing else to read.
const PROBE: &str = "probe";

/// The place of one check.
pub(super) struct Room {
    scratch: Scratch,
    base: LaunchSpec,
}

/// Makes the directories, and the container around them as a run of this executor would have it.
pub(super) fn make(
    premises: &Premises,
    around: &Surroundings,
    executor: ExecutorKind,
) -> io::Result<Room> {
    let scratch = Scratch::make(&premises.state_dir.join("checks"))?;
    let (checkout, objects) = (scratch.directory("checkout")?, scratch.directory("objects")?);
    let state = scratch.directory("state")?;
    for name in CHECKOUT {
        private(&checkout.join(name))?;
    }
    fs::write(objects.join(PROBE), "x")?;
    let own = state.join(executor.as_str());
    private(&own)?;
    if let Some(login) = logins(executor).opencode {
        crate::host::fill_opencode(&own, &login)?;
    }
    for directory in [&checkout, &objects, &state] {
        give(directory, premises)?;
    }
    let purpose = Purpose {
        checkout: Some(&checkout),
        objects: Some(&objects),
        state: Some(&state),
        ..Purpose::of(executor)
    };
    let mut base = premises.sandbox(around).launch(&purpose);
    if let Some(container) = &mut base.container {
        // A check does not wait for an image.
        container.pull = ImagePolicy::Never;
    }
    Ok(Room { scratch, base })
}

impl Room {
    /// The mounts of the container, with whether it must be able to write there.
    pub(super) fn directories(&self) -> BTreeMap<PathBuf, bool> {
        let mounts = self.base.container.iter().flat_map(|container| &container.mounts);
        let directories = mounts.filter(|mount| mount.target != Path::new(paths::WORKER));
        let mut all: BTreeMap<PathBuf, bool> =
            directories.map(|mount| (mount.target.clone(), !mount.read_only)).collect();
        all.insert(Path::new(paths::CHECKOUT).join("work"), true);
        all
    }

    /// For a look, or for the calls of a check.
    pub(super) fn spot(
        self,
        shared: &Arc<Shared>,
        around: &Surroundings,
        executor: ExecutorKind,
        found: Found,
    ) -> Result<Spot, Finding> {
        let checkout = Path::new(paths::CHECKOUT);
        let place = Place::on_host(
            &self.base.env,
            Some(checkout.join("home")),
            checkout.join("work"),
            checkout.join("tmp"),
            false,
        );
        let place = place.map_err(|error| {
            Finding::new(AuthReason::Unknown, CheckedBy::Credentials).with_detail(error.to_string())
        })?;
        let given = &around.addresses.environment;
        // Proxies may hold passwords, so that they go another way than what is written down.
        let names = allow_list(given.iter().map(|(name, value)| (name, value.expose())));
        let secret_env: BTreeMap<String, Secret> = given
            .iter()
            .filter(|(name, _)| names.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let passage = Passage::new(Arc::clone(shared), around.network.name.clone());
        let Self { scratch, base } = self;
        Ok(Spot {
            place: Place {
                config_dir: Some(Path::new(paths::STATE).join(executor.as_str())),
                login_dir: logins(executor).claude_code,
                sandboxed: true,
                ..place
            },
            login: found.login,
            dress: Box::new(move |call| dressed(&base, call)),
            secrets: found.secrets,
            secret_env,
            keep: Box::new((scratch, Arc::clone(&passage))),
            launcher: passage,
        })
    }
}

/// A call as the command of a container: what it calls is its own, all around it is the run's.
fn dressed(base: &LaunchSpec, call: LaunchSpec) -> LaunchSpec {
    LaunchSpec {
        user: base.user,
        limits: Limits { wall: call.limits.wall, ..base.limits },
        container: base.container.clone(),
        ..call
    }
}

/// Gives a directory with all that is in it to the sandboxes' user. Nothing in it is anybody else's yet.
fn give(path: &Path, premises: &Premises) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), premises)?;
        }
    }
    lchown(path, Some(premises.user.uid), Some(premises.user.gid))
}
