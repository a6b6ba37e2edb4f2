//! Puts the layers on top of each other: defaults, then the database, then the environment.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, sync::Arc};

use figment::Figment;

use crate::{
    database::DatabaseSnapshot,
    environment::{Environment, no_state_directory},
    fault::{Fault, Faults, Source},
    layer::Layer,
    provenance::{Provenance, provenance},
    sandboxed::ForSandboxes,
    settings::Settings,
    sums::Sums,
};

/// The settings in force, and how they came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The typed values.
    pub settings: Arc<Settings>,
    /// Value and source of every key, secrets masked, in the order of the table.
    pub provenance: Vec<Provenance>,
    /// The revision of the database's rows, where there were any to read.
    pub revision: Option<i64>,
    /// Rows that cannot be used. While there are any, nothing may be claimed (C6).
    pub database_faults: Option<Faults>,
    /// What does not change while a process lives.
    base: Arc<Base>,
    sums: Sums,
    pub(crate) for_sandboxes: ForSandboxes,
}

/// The layers that a process keeps for its life: its environment, and what it makes of it. Holds secrets.
struct Base {
    environment: Layer,
    defaults: Layer,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base").finish_non_exhaustive()
    }
}

impl Loaded {
    /// The same settings, marked with faults of rows that came later: a bad state is refused, the old one stays.
    #[must_use]
    pub fn with_database_faults(&self, revision: i64, faults: Faults) -> Self {
        Self { revision: Some(revision), database_faults: Some(faults), ..self.clone() }
    }

    /// The settings after the rows of the database became these: a state with a bad row is refused, the old one stays and
    /// is marked (C6).
    #[must_use]
    pub fn after(&self, rows: &DatabaseSnapshot) -> Self {
        match assemble(&self.base, Some(rows)) {
            Ok(Self { database_faults: Some(faults), .. }) => {
                self.with_database_faults(rows.revision, faults)
            }
            Ok(loaded) => loaded,
            // The layers below and above were fit before, and rows that are typed do not change that.
            Err(faults) => self.with_database_faults(rows.revision, faults),
        }
    }

    /// For each key that every process may read a short sum of its value in force, secrets included: equal in two
    /// processes where the values are. `salt` is the same for all that are compared, and nobody else's.
    ///
    /// Of a sum only 32 bits are left: enough to tell a handful of processes apart, too few to confirm a guess.
    #[must_use]
    pub fn fingerprints(&self, salt: &[u8]) -> BTreeMap<&'static str, String> {
        self.sums.fingerprints(salt)
    }

    /// The keys that the environment of this process sets.
    pub fn set_by_environment(&self) -> impl Iterator<Item = &'static str> {
        let set = |entry: &&Provenance| entry.effective.source == Source::Environment;
        self.provenance.iter().filter(set).map(|entry| entry.setting.key)
    }

    /// The directories below which a task's repository must lie; none is anywhere.
    ///
    /// Whoever lets a repository in asks here and not [`Settings::local_repo_roots`]: a limit that nobody can read must
    /// not become no limit.
    ///
    /// # Errors
    /// The fault of the key's row, where no variable wins over it: nothing is allowed until it is mended.
    pub fn local_repo_roots(&self) -> Result<&[PathBuf], &Fault> {
        self.known(&["LOCAL_REPO_ROOTS"]).map(|()| self.settings.local_repo_roots.as_slice())
    }

    /// Whether it is known what all of these keys shall be. Whoever does something that cannot be taken back asks: the
    /// value that holds for a key whose row cannot be used is an older one or the default, and nobody's wish.
    ///
    /// # Errors
    /// The fault of the first key whose row cannot be used, where no variable wins over it.
    pub fn known(&self, keys: &[&str]) -> Result<(), &Fault> {
        let overruled = |key: &str| self.set_by_environment().any(|set| set == key);
        let mut faults = self.database_faults.iter().flatten();
        let fault = faults.find(|it| keys.contains(&it.key.as_str()) && !overruled(&it.key));
        fault.map_or(Ok(()), Err)
    }
}

/// Loads the settings; any fault in any layer refuses them all.
///
/// # Errors
/// Every fault of every layer, in one report.
pub fn load(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    database: Option<&DatabaseSnapshot>,
) -> Result<Loaded, Faults> {
    let (loaded, mut faults) = build(&Environment::new(environment), database);
    if let Some(bad_rows) = loaded.as_ref().and_then(|loaded| loaded.database_faults.clone()) {
        faults.append(bad_rows);
    }
    loaded.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Loads the settings; bad rows of the database are left out and listed in [`Loaded::database_faults`].
///
/// # Errors
/// Every fault of the environment, in one report.
pub fn load_lenient_database(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    database: Option<&DatabaseSnapshot>,
) -> Result<Loaded, Faults> {
    let (loaded, faults) = build(&Environment::new(environment), database);
    loaded.filter(|_| faults.is_empty()).ok_or(faults)
}

/// The same for a program that serves the API: an address that other machines can reach needs a key or a secret.
///
/// # Errors
/// Every fault of the environment, in one report.
pub fn load_to_serve(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    database: Option<&DatabaseSnapshot>,
) -> Result<Loaded, Faults> {
    let (loaded, mut faults) = build(&Environment::new(environment), database);
    let unusable = |key: &str| faults.iter().any(|fault| fault.key == key);
    if !unusable("API_KEYS")
        && !unusable("API_SECRET")
        && let Some(fault) = loaded.as_ref().and_then(open_to_strangers)
    {
        faults.push(fault);
    }
    loaded.filter(|_| faults.is_empty()).ok_or(faults)
}

/// The fault of an address that strangers can reach while nobody can prove who they are.
fn open_to_strangers(loaded: &Loaded) -> Option<Fault> {
    let address = loaded.settings.api_listen;
    (!address.ip().is_loopback() && loaded.settings.knows_no_caller()).then(|| Fault {
        key: "OPENTIGER_API_LISTEN".to_owned(),
        source: Source::Environment,
        what: format!(
            "`{address}` can be reached from other machines, and neither `API_KEYS` nor `API_SECRET` is set"
        ),
        allowed: "a loopback address, such as `127.0.0.1:4301`, while there is no key".to_owned(),
        hint: "set `API_KEYS` or `API_SECRET`, or listen on a loopback address".to_owned(),
    })
}

/// The settings without what is faulty, and the faults outside of the database's rows.
fn build(
    environment: &Environment,
    database: Option<&DatabaseSnapshot>,
) -> (Option<Loaded>, Faults) {
    let (environment_layer, mut faults) = environment.layer();
    let state_directory = environment.state_directory();
    if state_directory.is_none() && !environment_layer.contains("OPENTIGER_STATE_DIR") {
        faults.push(no_state_directory());
    }
    let defaults = Layer::defaults(Some(state_directory.unwrap_or_else(|| "/".to_owned())));
    let base = Arc::new(Base { environment: environment_layer, defaults });
    match assemble(&base, database) {
        Ok(loaded) => (Some(loaded), faults),
        Err(found) => {
            faults.append(found);
            (None, faults)
        }
    }
}

/// The layers on top of each other, without rows that are faulty.
fn assemble(base: &Arc<Base>, database: Option<&DatabaseSnapshot>) -> Result<Loaded, Faults> {
    let (database_layer, database_faults) = database.cloned().unwrap_or_default().layer();
    let beneath = Figment::from(&base.defaults).merge(&database_layer);
    let full = beneath.clone().merge(&base.environment);
    match full.extract::<Settings>() {
        Ok(settings) => Ok(Loaded {
            settings: Arc::new(settings),
            provenance: provenance(&full, &beneath),
            revision: database.map(|snapshot| snapshot.revision),
            database_faults: Some(database_faults).filter(|faults| !faults.is_empty()),
            base: Arc::clone(base),
            sums: Sums::of(&full),
            for_sandboxes: ForSandboxes::of(&full),
        }),
        Err(error) => {
            let mut faults = Faults::default();
            error.into_iter().for_each(|error| faults.push(untyped(&error)));
            faults.append(database_faults);
            Err(faults)
        }
    }
}

/// A value that the table allows and the typed settings do not take; a test says that there is none.
fn untyped(error: &figment::Error) -> Fault {
    // The error's own text may repeat the value, so only its path is used.
    Fault {
        key: error.path.join("."),
        source: Source::Default,
        what: "does not fit its type".to_owned(),
        allowed: "see `docs/config.md`".to_owned(),
        hint: "report this as a defect of openTiger".to_owned(),
    }
}
