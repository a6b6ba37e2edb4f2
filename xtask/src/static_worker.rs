//! `cargo xtask worker`: the worker without shared libraries, which runs in any image.
//!
//! The dispatcher looks for it beside itself, under the name `worker-static`, and mounts it into each container. It is
//! the same program as `worker`; cargo cannot build both in one go, so this module links it once more.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    binaries::{Binaries, Profile},
    commands::Tool,
    console::line,
};

/// What the dispatcher looks for beside itself.
pub(crate) const NAME: &str = "worker-static";

/// Builds it and tells where it is.
pub(crate) fn run(profile: Profile) -> Result<()> {
    line(format!("the worker for containers: {}", build(profile)?.display()));
    Ok(())
}

/// Builds it where its sources have changed.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let directory = Binaries::of(profile)?.directory().to_owned();
    let (plain, kept) = (directory.join("worker"), directory.join("worker.kept"));
    // Cargo puts either worker under the same name; the one that was there is what everybody else expects.
    let had_one = plain.is_file();
    if had_one {
        fs::rename(&plain, &kept).context("keep the worker that is there")?;
    }
    let linked = link(profile).and_then(|()| publish(&plain, &directory.join(NAME)));
    if had_one {
        fs::rename(&kept, &plain).context("put the worker back")?;
    }
    linked
}

fn link(profile: Profile) -> Result<()> {
    let release: &[&str] = if profile == Profile::Release { &["--release"] } else { &[] };
    Tool::cargo()
        .args(["rustc", "--locked", "--package", "worker", "--bin", "worker"])
        .args(release)
        .args(["--", "-C", "target-feature=+crt-static"])
        .run()
        .context("build the worker for containers")
}

fn publish(built: &Path, to: &Path) -> Result<PathBuf> {
    let program = fs::read(built).with_context(|| format!("read `{}`", built.display()))?;
    if interpreter(&program) {
        bail!("`{}` still asks for shared libraries", built.display());
    }
    fs::rename(built, to).with_context(|| format!("make `{}`", to.display()))?;
    Ok(to.to_owned())
}

/// Whether a program asks for a loader of shared libraries: its ELF headers have an entry `PT_INTERP`.
fn interpreter(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let field = program.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    // Of a 64-bit file with the least significant byte first, which is what rustc makes on the systems we run on.
    let headers = || -> Option<Vec<u64>> {
        let first = usize::try_from(number(32, 8)?).ok()?;
        let size = usize::try_from(number(54, 2)?).ok()?;
        let count = usize::try_from(number(56, 2)?).ok()?;
        (0..count).map(|index| number(first + index * size, 4)).collect()
    };
    // A file that cannot be read as such is not what we want either.
    headers().is_none_or(|kinds| kinds.contains(&u64::from(PT_INTERP)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_shared_libraries_is_told() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(interpreter(&this));
        assert!(interpreter(b"no program at all"));
    }
}

#[cfg(test)]
mod docker {
    use super::*;
    use crate::engine::Engine;

    /// A bare image has no certificates, no passwd entry for the user, and no library that the worker could need.
    #[test]
    fn the_static_worker_runs_in_a_bare_image_and_finds_an_added_host() {
        let worker = std::env::var_os("OPENTIGER_TEST_STATIC_WORKER").map(PathBuf::from);
        let worker =
            worker.expect("OPENTIGER_TEST_STATIC_WORKER is set; `cargo xtask test` does it");
        let base =
            std::env::var_os("OPENTIGER_TEST_BASE_IMAGE").and_then(|it| it.into_string().ok());
        let base = base.expect("OPENTIGER_TEST_BASE_IMAGE is set; `cargo xtask test` does it");
        let engine = Engine::of_tests();
        let run = |args: &[&str]| {
            engine
                .docker()
                .args(["run", "--rm", "--user", "1234:1234", "--add-host", "far.example:127.0.0.9"])
                .args(["--volume", &format!("{}:/opentiger/worker:ro", worker.display())])
                .args(["--env", "DATABASE_URL=postgres://nobody@far.example:9/none"])
                .args(["--env", "OPENTIGER_STATE_DIR=/tmp/state", &base, "/opentiger/worker"])
                .args(args)
                .output()
        };
        let version = run(&["--version"]).unwrap();
        assert!(version.starts_with("worker "), "{version}");
        let error = run(&["resident", "--name", "worker-1"]).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("refused"), "the host was not found, or more is wrong: {text}");
    }
}
