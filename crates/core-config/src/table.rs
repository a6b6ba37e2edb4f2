//! The declared table of settings: every key there is, and everything there is to know about it.
//!
//! A key that nothing reads does not exist. The settings themselves stand in one file for each group.

mod executors;
mod processes;
mod repositories;
mod sandbox;
mod server;
mod tasks;

use core_types::{auth::Language, words};

use crate::kind::Kind;

words! {
    /// When a changed value is used.
    TakesEffect, "moment of effect" {
        /// When the process is started again.
        Restart = "restart",
        /// With the next task that is claimed; runs in flight keep the old value.
        NextClaim = "next claim",
        /// With the next request.
        NextRequest = "next request",
        /// Within seconds.
        AtOnce = "at once",
    }
}

words! {
    /// Which layers may set a key.
    Layers, "set of layers" {
        /// The environment only: who may enter, and where the data lies.
        Environment = "environment",
        /// The table `system_config` or the environment; the environment wins.
        EnvironmentOrDatabase = "environment or database",
    }
}

words! {
    /// What a number counts.
    Unit, "unit" {
        Attempts = "attempts",
        Bytes = "bytes",
        Days = "days",
        Files = "files",
        Milliseconds = "milliseconds",
        Processes = "processes",
        RequestsPerMinute = "requests per minute",
        Retries = "retries",
        Runs = "runs",
        Seconds = "seconds",
        ThousandthsOfACore = "thousandths of a core",
        Tokens = "tokens",
        Turns = "turns",
        UsDollars = "US dollars",
    }
}

/// The value of a key that no layer sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// No value.
    Empty,
    /// A text, written as in the environment.
    Text(&'static str),
    /// A number.
    Integer(u64),
    /// As many agents as this machine bears: one for each processor core, as far as there is memory.
    Capacity,
    /// The same, or this number where that is more.
    CapacityUpTo(u64),
    /// The user's or, as root, the system's directory for data.
    StateDirectory,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in the environment and in the database.
    pub key: &'static str,
    /// The type and what it allows.
    pub kind: Kind,
    /// The value where nobody sets it.
    pub default: Fallback,
    /// The unit of a number.
    pub unit: Option<Unit>,
    /// What it does, in one sentence of English.
    pub doc: &'static str,
    /// The same in Japanese.
    pub doc_ja: &'static str,
    /// When a change is used.
    pub takes_effect: TakesEffect,
    /// Who may set it.
    pub layers: Layers,
    /// Whether it names something that openTiger starts or talks to on this host (C8).
    pub reaches_host: bool,
}

impl Setting {
    /// What it does, for readers of a language.
    #[must_use]
    pub const fn doc_in(&self, language: Language) -> &'static str {
        match language {
            Language::English => self.doc,
            Language::Japanese => self.doc_ja,
        }
    }

    const fn environment(
        key: &'static str,
        kind: Kind,
        default: Fallback,
        doc: &'static str,
        doc_ja: &'static str,
    ) -> Self {
        Self {
            key,
            kind,
            default,
            unit: None,
            doc,
            doc_ja,
            takes_effect: TakesEffect::Restart,
            layers: Layers::Environment,
            reaches_host: true,
        }
    }

    const fn database(
        key: &'static str,
        kind: Kind,
        default: Fallback,
        doc: &'static str,
        doc_ja: &'static str,
    ) -> Self {
        Self {
            key,
            kind,
            default,
            unit: None,
            doc,
            doc_ja,
            takes_effect: TakesEffect::NextClaim,
            layers: Layers::EnvironmentOrDatabase,
            reaches_host: false,
        }
    }

    const fn unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    const fn reaching_host(mut self) -> Self {
        self.reaches_host = true;
        self
    }

    const fn effective(mut self, moment: TakesEffect) -> Self {
        self.takes_effect = moment;
        self
    }
}

/// The setting of that name.
#[must_use]
pub fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

const DAY_S: u64 = 24 * 60 * 60;

/// The greatest number of an agent.
const MOST_AGENTS: u64 = core_types::process::ProcessName::MAX_NUMBER as u64;

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

/// The groups, in the order in which documents and the API show them.
const GROUPS: [&[Setting]; 6] = [
    server::SETTINGS,
    processes::SETTINGS,
    executors::SETTINGS,
    tasks::SETTINGS,
    repositories::SETTINGS,
    sandbox::SETTINGS,
];

/// Every setting, in the order in which documents and the API show them.
pub const SETTINGS: &[Setting] = &joined::<{ count() }>();

const fn count() -> usize {
    let (mut groups, mut count) = (GROUPS.as_slice(), 0);
    while let [group, rest @ ..] = groups {
        count += group.len();
        groups = rest;
    }
    count
}

/// The groups one after another. A wrong length does not compile.
const fn joined<const COUNT: usize>() -> [Setting; COUNT] {
    let mut all = [FIRST; COUNT];
    let (mut groups, mut place) = (GROUPS.as_slice(), all.as_mut_slice());
    while let [group, rest @ ..] = groups {
        let (own, others) = place.split_at_mut(group.len());
        own.copy_from_slice(group);
        (groups, place) = (rest, others);
    }
    assert!(place.is_empty(), "every place is taken");
    all
}

/// Any setting: what a place holds until its own is there.
const FIRST: Setting = Setting::database("", Kind::Boolean, Fallback::Empty, "", "");
