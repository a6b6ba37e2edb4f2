//! Compiles the shim to one static binary and puts it where the library embeds it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};

fn main() {
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let shim = out.join("shim");
    // A toolchain without static C library links dynamically: right on this machine, but not in
    // every container image.
    if let Err(why) = compile(&shim, &["-C", "target-feature=+crt-static"]) {
        println!("cargo::warning=the shim is not static, so it may not run in other images: {why}");
        compile(&shim, &[]).expect("the shim compiles");
    }
    let bytes = fs::read(&shim).expect("the compiler has written the shim");
    let hash = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    println!("cargo::rustc-env=LAUNCHER_SHIM_SHA256={hash}");
    println!("cargo::rustc-env=LAUNCHER_SHIM_PATH={}", shim.display());
}

#[expect(clippy::disallowed_methods, reason = "a build script starts the compiler")]
fn compile(out: &Path, extra: &[&str]) -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let target = env::var("TARGET").map_err(|error| error.to_string())?;
    let mut command = Command::new(rustc);
    command.args(["--edition=2024", "--crate-name=shim", "--crate-type=bin", "--target", &target]);
    command.args([
        "-C",
        "opt-level=s",
        "-C",
        "panic=abort",
        "-C",
        "strip=symbols",
        "-C",
        "lto=fat",
    ]);
    command.args(["-C", "codegen-units=1", "-D", "warnings"]).args(extra);
    command.arg("-o").arg(out).arg("shim/main.rs");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg(format!("-Clinker={}", linker.display()));
    }
    let done = command.output().map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).into_owned())
}
