//! Programs that tests start: the scripted agent of this crate and the real command line of an agent.

use std::path::{Path, PathBuf};

/// The variable that names the real `claude`; `cargo xtask test` installs one and sets it.
const CLAUDE_VARIABLE: &str = "OPENTIGER_TEST_CLAUDE";
/// The same for the real `opencode`.
const OPENCODE_VARIABLE: &str = "OPENTIGER_TEST_OPENCODE";

/// The scripted agent, built into the same target directory as the running test.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn fake_agent_path() -> PathBuf {
    built_program("fake-agent", "testing")
}

/// The program that tries what a sandbox must not let it; static, for any image. Its own head says how it is called.
#[must_use]
pub fn hostile_path() -> &'static Path {
    Path::new(env!("TESTING_HOSTILE_PROGRAM"))
}

/// A program or example of this workspace, built into the same target directory as the running test. Builds nothing.
///
/// # Panics
/// When it is not built; the text says how to build it.
#[must_use]
pub fn built_program(name: &str, package: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the running test has a path");
    // Tests lie in `target/<profile>/deps`, examples in `target/<profile>/examples`, programs in `target/<profile>`.
    let places = test
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(|directory| [directory.join(name), directory.join("examples").join(name)]);
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("`{name}` is not built beside this test; run `cargo build -p {package} --bins --examples`")
    })
}

/// The real `claude` that tests run against a scripted model.
///
/// # Panics
/// When the variable `OPENTIGER_TEST_CLAUDE` does not name an existing file.
#[must_use]
pub fn claude_path() -> PathBuf {
    agent_path(CLAUDE_VARIABLE, "claude")
}

/// The real `opencode` that tests run against a scripted model.
///
/// # Panics
/// When the variable `OPENTIGER_TEST_OPENCODE` does not name an existing file.
#[must_use]
pub fn opencode_path() -> PathBuf {
    agent_path(OPENCODE_VARIABLE, "opencode")
}

fn agent_path(variable: &str, name: &str) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    match named {
        Some(path) if path.is_absolute() && path.is_file() => path,
        Some(path) => panic!(
            "{variable} names `{}`, which is no absolute path of a file; `cargo xtask test` sets it",
            path.display()
        ),
        None => panic!(
            "{variable} is not set; run the tests with `cargo xtask test`, which installs the pinned `{name}` and sets \
             it, or set it to the path of a `{name}`"
        ),
    }
}

/// The variable that names the folder of the API fuzzer's Python packages; `cargo xtask test` installs them and sets it.
const SCHEMATHESIS_VARIABLE: &str = "OPENTIGER_TEST_SCHEMATHESIS";

/// The folder of Python packages in which the API's fuzzer is.
///
/// # Panics
/// When the variable `OPENTIGER_TEST_SCHEMATHESIS` does not name it.
#[must_use]
pub fn schemathesis_packages() -> PathBuf {
    let named = std::env::var_os(SCHEMATHESIS_VARIABLE).map(PathBuf::from);
    named.filter(|path| path.join("schemathesis").is_dir()).unwrap_or_else(|| {
        panic!(
            "{SCHEMATHESIS_VARIABLE} does not name a folder with the Python package `schemathesis`; `cargo xtask test` \
             installs the pinned one and sets it"
        )
    })
}

/// The variable that names the script of axe-core; `cargo xtask test` installs it and sets it.
const AXE_VARIABLE: &str = "OPENTIGER_TEST_AXE";

/// The script of axe-core, which finds in a page what keeps people out.
///
/// # Panics
/// When the variable `OPENTIGER_TEST_AXE` does not name it.
#[must_use]
pub fn axe_script() -> PathBuf {
    let named = std::env::var_os(AXE_VARIABLE).map(PathBuf::from);
    named.filter(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "{AXE_VARIABLE} does not name the script of axe-core; `cargo xtask test` installs the pinned one and sets it"
        )
    })
}

/// The directories in which programs are looked for.
///
/// # Panics
/// When `PATH` is not set or not UTF-8.
#[must_use]
pub fn search_path() -> String {
    let path = std::env::var_os("PATH").and_then(|path| path.into_string().ok());
    path.expect("PATH is set and is UTF-8")
}

/// A program of the system that tests use, such as `git`.
///
/// # Panics
/// When it is in no directory of `PATH`.
#[must_use]
pub fn installed_program(name: &str) -> PathBuf {
    let path = search_path();
    let mut candidates = path.split(':').map(|directory| Path::new(directory).join(name));
    candidates
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("tests need `{name}`; install it, or run `cargo xtask test`"))
}
