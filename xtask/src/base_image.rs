//! What the image of agents stands on: Debian from a registry, or a bare one made on this machine.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{
    commands::{Tool, find_program},
    console::line,
    engine::Engine,
    install, workspace,
};

/// What is taken where a registry answers.
pub(crate) const DEFAULT_BASE: &str = "debian:bookworm-slim";
/// What is made where none does.
pub(crate) const BOOTSTRAPPED: &str = "opentiger-base:bookworm";
const RELEASE: &str = "bookworm";
/// What nobody reads in a container.
const NOT_NEEDED: &[&str] = &[
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/log",
];

/// Makes sure that the engine has a base, and says which. One that the user named must be had as it is.
pub(crate) fn ensure(engine: &Engine, named: Option<&str>) -> Result<String> {
    let wanted = named.unwrap_or(DEFAULT_BASE);
    if engine.has_image(wanted) {
        return Ok(wanted.to_owned());
    }
    if named.is_none() && engine.has_image(BOOTSTRAPPED) {
        return Ok(BOOTSTRAPPED.to_owned());
    }
    line(format!("fetching {wanted}"));
    match (engine.docker().args(["pull", "--quiet", wanted]).output(), named) {
        (Ok(_), _) => Ok(wanted.to_owned()),
        (Err(error), Some(_)) => Err(error.context("fetch the base image")),
        (Err(error), None) => {
            line(format!("no registry has it for us ({}); making a bare Debian", last(&error)));
            bootstrap(engine)?;
            Ok(BOOTSTRAPPED.to_owned())
        }
    }
}

fn last(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().last().unwrap_or_default().to_owned()
}

/// A Debian from its packages, without a registry.
fn bootstrap(engine: &Engine) -> Result<()> {
    if !install::is_root()? || !install::has_program("debootstrap") {
        bail!(
            "no registry answers, and a base of our own is made by root with debootstrap: run this as root with \
             debootstrap installed, or name an image that the engine has with `--base`"
        );
    }
    let directory = workspace::local_dir().join(format!("base-{}", std::process::id()));
    fs::create_dir_all(&directory).with_context(|| format!("make `{}`", directory.display()))?;
    let made = make(&directory).and_then(|archive| {
        engine
            .docker()
            .args(["import", "--change", r#"CMD ["bash"]"#])
            .args([archive.as_os_str(), BOOTSTRAPPED.as_ref()])
            .output()
            .context("give the base to the engine")
    });
    fs::remove_dir_all(&directory).context("remove what the base was made from")?;
    made.map(drop)
}

fn make(directory: &Path) -> Result<std::path::PathBuf> {
    let (root, archive) = (directory.join("root"), directory.join("root.tar"));
    let debootstrap = find_program("debootstrap").unwrap_or_else(|| "/usr/sbin/debootstrap".into());
    Tool::new(debootstrap)
        .args(["--variant=minbase", RELEASE])
        .args([&root])
        .output()
        .context("make a bare Debian; needs the packages of Debian")?;
    let exclude = NOT_NEEDED.iter().map(|path| format!("--exclude=./{path}/*"));
    Tool::new("tar")
        .args(["--numeric-owner", "--create", "--one-file-system"])
        .args([Path::new("--file"), &archive, Path::new("--directory"), &root])
        .args(exclude)
        .args(["."])
        .output()
        .context("pack the bare Debian")?;
    Ok(archive)
}
