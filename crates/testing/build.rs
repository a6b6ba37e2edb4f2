//! Compiles the program `hostile` to one static binary, which runs in any image.

use std::{env, path::PathBuf, process::Command};

#[expect(clippy::disallowed_methods, reason = "a build script starts the compiler")]
fn main() {
    println!("cargo::rerun-if-changed=hostile");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let variable = |name| env::var_os(name).expect("cargo sets it");
    let program = PathBuf::from(variable("OUT_DIR")).join("hostile");
    let mut command = Command::new(variable("RUSTC"));
    command.args(["--edition=2024", "--crate-name=hostile", "--crate-type=bin", "--target"]);
    command.arg(variable("TARGET")).args(["-C", "target-feature=+crt-static"]);
    command.args([
        "-C",
        "opt-level=s",
        "-C",
        "panic=abort",
        "-C",
        "strip=symbols",
        "-D",
        "warnings",
    ]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg(format!("-Clinker={}", linker.display()));
    }
    let done = command.arg("-o").arg(&program).arg("hostile/main.rs").output();
    let done = done.expect("the compiler can be started");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    println!("cargo::rustc-env=TESTING_HOSTILE_PROGRAM={}", program.display());
}
