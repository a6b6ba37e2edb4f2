//! What the program finds around it: variables, directory, terminal. Read here and nowhere else.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{IsTerminal as _, stderr, stdout},
    path::PathBuf,
};

use core_config::{
    load::{Loaded, load_lenient_database},
    settings::Settings,
};

use crate::{code::Code, failure::Failure};

/// Widest and narrowest line that tables are made for.
const WIDTHS: std::ops::RangeInclusive<u16> = 40..=200;
/// How wide lines are where nobody looks at them on a terminal.
const PLAIN_WIDTH: u16 = 120;

/// Variables, directory and terminal of this process.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    variables: BTreeMap<OsString, OsString>,
    /// Whether standard output is a terminal that takes more than plain lines.
    pub(crate) terminal: bool,
    /// The same for standard error.
    pub(crate) error_terminal: bool,
    /// Whether colours are wanted on a terminal.
    pub(crate) colour: bool,
    /// The width of a line.
    pub(crate) width: u16,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn own() -> Self {
        let variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let word = |name: &str| variables.get(&OsString::from(name)).filter(|v| !v.is_empty());
        let dumb = word("TERM").is_none_or(|term| term == "dumb");
        let colour = word("NO_COLOR").is_none();
        let terminal = stdout().is_terminal() && !dumb;
        let error_terminal = stderr().is_terminal() && !dumb;
        let width = terminal.then(columns).flatten().unwrap_or(PLAIN_WIDTH);
        let width = width.clamp(*WIDTHS.start(), *WIDTHS.end());
        Self { variables, terminal, error_terminal, colour, width }
    }

    /// A variable that is set, not empty and a text.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let value = self.variables.get(&OsString::from(name))?.to_str()?;
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// Every variable.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.variables.clone().into_iter()
    }

    /// The settings as the variables make them, before any program looks into the database.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::clone(&self.loaded()?.settings))
    }

    /// The same with where each comes from.
    pub(crate) fn loaded(&self) -> Result<Loaded, Failure> {
        load_lenient_database(self.variables(), None)
            .map_err(|faults| Failure::new(Code::Usage, faults.to_string()))
    }

    /// The directory in which the command was given.
    pub(crate) fn directory(&self) -> Result<PathBuf, Failure> {
        std::env::current_dir().map_err(|error| Failure::of("find the working directory", &error))
    }
}

fn columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}
