//! Finds processes of a state directory that are still alive, whoever started them.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

/// A process that has to do with a state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// Its id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

/// Every process, but this one, that a state directory's programs started or are.
///
/// A process belongs to it by its program (the shim), by its working directory (a checkout, Redis), by its environment
/// (the services) or by an argument (Postgres). A shell that somebody opened in the directory does not.
#[must_use]
pub(crate) fn processes_of(directory: &Path) -> Vec<Leftover> {
    let own = std::process::id();
    let pids = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        entry.ok()?.file_name().to_str()?.parse::<u32>().ok().filter(|pid| *pid != own)
    });
    pids.filter(|pid| belongs(*pid, directory))
        .map(|pid| Leftover { pid, command: command_line(pid) })
        .filter(|one| !one.command.is_empty())
        .collect()
}

fn belongs(pid: u32, directory: &Path) -> bool {
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let has = |name: &str, wanted: &dyn Fn(&OsStr) -> bool| {
        let words = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| wanted(OsStr::from_bytes(word)))
    };
    let mut setting = OsString::from("OPENTIGER_STATE_DIR=");
    setting.push(directory);
    link("exe").starts_with(directory)
        || link("cwd").starts_with(directory.join("checkouts"))
        || link("cwd").starts_with(directory.join("redis"))
        || has("environ", &|word| word == setting)
        || has("cmdline", &|word| Path::new(word).starts_with(directory.join("postgres")))
}

/// The arguments, or nothing for a process that has ended and waits to be noticed.
fn command_line(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = raw.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    words.join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_directory_has_no_processes() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(processes_of(directory.path()), []);
    }
}
