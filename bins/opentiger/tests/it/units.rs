//! The units of systemd: sound, and none that would end agents with a restart.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

/// Where the units expect the programs.
const INSTALLED: &str = "/usr/local/lib/opentiger/";

fn units() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ops/systemd");
    let mut units: Vec<(String, String)> = fs::read_dir(folder)
        .expect("there are units")
        .map(|entry| {
            let entry = entry.expect("it can be listed");
            let text = fs::read_to_string(entry.path()).expect("it is a text");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .filter(|(name, _)| name.ends_with(".service"))
        .collect();
    units.sort();
    units
}

fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_opentiger")).parent().expect("it lies somewhere")
}

#[test]
fn a_restart_of_a_unit_ends_one_process() {
    let units = units();
    assert_eq!(units.len(), 3);
    for (name, text) in &units {
        let lines: Vec<&str> = text.lines().collect();
        for line in ["KillMode=process", "Delegate=yes", "Restart=always"] {
            assert!(lines.contains(&line), "{name} has no `{line}`");
        }
        let start = lines.iter().find_map(|line| line.strip_prefix("ExecStart="));
        let program = start.and_then(|start| start.strip_prefix(INSTALLED)).unwrap_or_default();
        let program = program.split(' ').next().unwrap_or_default();
        assert!(
            programs().join(program).is_file(),
            "{name} starts `{program}`, which is no program"
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "the test stands in for an operator")]
fn systemd_analyze() -> Command {
    Command::new("systemd-analyze")
}

#[test]
fn systemd_takes_the_units() {
    // They are checked where there is something that can; the rules above hold everywhere.
    if systemd_analyze().arg("--version").output().is_err() {
        return;
    }
    let folder = TempDir::new().expect("a temporary directory can be made");
    for (name, text) in units() {
        let here = format!("{}/", programs().display());
        let path = folder.path().join(&name);
        fs::write(&path, text.replace(INSTALLED, &here)).expect("the directory is ours");
        let checked = systemd_analyze()
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(&path)
            .output()
            .expect("it was there a moment ago");
        let said = String::from_utf8_lossy(&checked.stderr);
        let about: Vec<&str> = said.lines().filter(|line| line.contains("opentiger")).collect();
        assert!(checked.status.success() && about.is_empty(), "{name}: {said}");
    }
}

#[test]
fn the_example_of_settings_names_only_what_there_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ops/systemd/opentiger.env");
    let text = fs::read_to_string(path).expect("there is one");
    let mut seen = 0;
    for line in text.lines() {
        let Some((key, _)) = line.trim_start_matches('#').split_once('=') else { continue };
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            continue;
        }
        assert!(key == "PATH" || core_config::table::setting(key).is_some(), "there is no `{key}`");
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}
