//! `cargo xtask image`: the image in which agents run in containers, built from `ops/docker/worker.Dockerfile`.
//!
//! The base comes from a registry; where none answers, a bare Debian is made on this machine. An image that was built
//! from the same inputs is left as it is.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{
    base_image::{self, DEFAULT_BASE},
    console::{duration, line},
    engine::Engine,
    workspace,
};

/// The image that `SANDBOX_DOCKER_IMAGE` means by default.
pub(crate) const DEFAULT_TAG: &str = "opentiger/worker:latest";
/// The label that holds the hash of what an image was built from.
const INPUTS_LABEL: &str = "opentiger.image.inputs";
/// What the build leaves behind where the engine has no BuildKit.
const STAGE: &str = "label=opentiger.image.stage=agents";
/// Lists of certificate authorities, where systems keep them.
const MACHINE_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What image is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Its name.
    pub tag: String,
    /// What it is built on; none is the default, or a bare Debian of our own where no registry answers.
    pub base: Option<String>,
    /// Certificates that everything in the container shall trust besides.
    pub authorities: Option<PathBuf>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { tag: DEFAULT_TAG.to_owned(), base: None, authorities: None }
    }
}

/// An image that is there.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The image that it stands on.
    pub base: String,
    /// How many bytes it has, all layers together.
    pub bytes: u64,
    /// How long it took to build; none where it was there.
    pub took: Option<Duration>,
}

/// Builds the image on this machine's engine and tells size and time.
pub(crate) fn run(wanted: &Wanted) -> Result<()> {
    let image = ensure(&Engine::of_user()?, wanted)?;
    let mib = image.bytes / (1 << 20);
    let took = image.took.map_or_else(
        || "was there already".to_owned(),
        |took| format!("built in {}", duration(took)),
    );
    line(format!("image {} on {}: {mib} MiB, {took}", wanted.tag, image.base));
    Ok(())
}

/// Builds the image where the engine has none from the same inputs.
pub(crate) fn ensure(engine: &Engine, wanted: &Wanted) -> Result<Image> {
    let begun = Instant::now();
    if let Some(base) = up_to_date(engine, wanted)? {
        return Ok(Image { base, bytes: engine.image_bytes(&wanted.tag)?, took: None });
    }
    let base = base_image::ensure(engine, wanted.base.as_deref())?;
    line(format!("building the image {} on {base}", wanted.tag));
    build(engine, wanted, &base)?;
    let bytes = engine.image_bytes(&wanted.tag)?;
    Ok(Image { base, bytes, took: Some(begun.elapsed()) })
}

/// The base of the image where it is built from what would be taken now.
fn up_to_date(engine: &Engine, wanted: &Wanted) -> Result<Option<String>> {
    let Some(label) = engine.image_label(&wanted.tag, INPUTS_LABEL) else {
        return Ok(None);
    };
    let possible = match &wanted.base {
        Some(base) => vec![base.as_str()],
        None => vec![DEFAULT_BASE, base_image::BOOTSTRAPPED],
    };
    for base in possible {
        if label == inputs(base, wanted.authorities.as_deref())? {
            return Ok(Some(base.to_owned()));
        }
    }
    Ok(None)
}

fn build(engine: &Engine, wanted: &Wanted, base: &str) -> Result<()> {
    let context = context(wanted.authorities.as_deref())?;
    let dockerfile = dockerfile();
    let result = engine
        .docker()
        .args(["build", "--tag", &wanted.tag])
        .args(["--build-arg", &format!("BASE={base}")])
        .args(["--build-arg", &format!("INPUTS={}", inputs(base, wanted.authorities.as_deref())?)])
        .args(engine.build_network())
        .args([Path::new("--file"), &dockerfile, &context])
        .run()
        .context("build the image; needs the packages of Debian and the registry of npm");
    fs::remove_dir_all(&context).context("remove the build's context")?;
    // Nothing that is needed: at worst some disk stays in use until somebody prunes.
    drop(engine.docker().args(["image", "prune", "--force", "--filter", STAGE]).output());
    result
}

/// What the Dockerfile may copy: the pins of the command lines, and whom to trust.
fn context(authorities: Option<&Path>) -> Result<PathBuf> {
    let directory = workspace::local_dir().join(format!("image-{}", std::process::id()));
    let (build, image) = (directory.join("trust/build"), directory.join("trust/image"));
    for folder in [&build, &image] {
        fs::create_dir_all(folder).with_context(|| format!("make `{}`", folder.display()))?;
    }
    for (from, to) in pins() {
        fs::copy(&from, directory.join(to))
            .with_context(|| format!("copy `{}`", from.display()))?;
    }
    if let Some(file) = authorities {
        fs::copy(file, image.join("extra.crt"))
            .with_context(|| format!("copy `{}`", file.display()))?;
    }
    if let Some(file) = authorities_for_fetching(authorities) {
        fs::copy(&file, build.join("build.pem"))
            .with_context(|| format!("copy `{}`", file.display()))?;
    }
    Ok(directory)
}

/// Whom this machine trusts: what its variables name, else its system's list. None of it stays in the image.
fn authorities_for_fetching(given: Option<&Path>) -> Option<PathBuf> {
    let named = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"].map(std::env::var_os);
    let named = named.into_iter().flatten().map(PathBuf::from);
    let machine = MACHINE_AUTHORITIES.iter().map(PathBuf::from);
    given.map(Path::to_owned).into_iter().chain(named).chain(machine).find(|file| file.is_file())
}

fn dockerfile() -> PathBuf {
    workspace::root().join("ops/docker/worker.Dockerfile")
}

/// The files of the pins and their names in the build's context.
fn pins() -> [(PathBuf, &'static str); 2] {
    ["package.json", "package-lock.json"]
        .map(|name| (workspace::root().join("ops/agents").join(name), name))
}

/// The hash of everything that an image is made of.
fn inputs(base: &str, authorities: Option<&Path>) -> Result<String> {
    let mut hash = Sha256::new();
    let files = [dockerfile()].into_iter().chain(pins().map(|(file, _)| file));
    for file in files.chain(authorities.map(Path::to_owned)) {
        let content = fs::read(&file).with_context(|| format!("read `{}`", file.display()))?;
        hash.update(content.len().to_be_bytes());
        hash.update(content);
    }
    hash.update(base);
    let mut text = String::new();
    for byte in hash.finalize() {
        write!(text, "{byte:02x}").context("write a hash")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_inputs_are_another_image() {
        let directory = tempfile::tempdir().unwrap();
        let authorities = directory.path().join("extra.crt");
        fs::write(&authorities, "one").unwrap();
        let plain = inputs("debian", None).unwrap();
        assert_eq!(plain, inputs("debian", None).unwrap());
        assert_ne!(plain, inputs("ubuntu", None).unwrap());
        let trusting = inputs("debian", Some(&authorities)).unwrap();
        assert_ne!(plain, trusting);
        fs::write(&authorities, "two").unwrap();
        assert_ne!(trusting, inputs("debian", Some(&authorities)).unwrap());
    }

    #[test]
    fn the_recipe_pins_nothing_itself() {
        let text = fs::read_to_string(dockerfile()).unwrap();
        assert!(text.contains("npm ci"), "npm must keep to the lock file");
        assert!(!text.contains("npm install"), "npm must keep to the lock file");
        assert!(text.contains(INPUTS_LABEL) && text.contains("USER worker"));
    }
}

#[cfg(test)]
mod docker {
    use super::*;

    /// The agents' user and the pinned command lines; what no user needs is not there.
    #[test]
    fn the_built_image_holds_the_pinned_command_lines_and_git() {
        let engine = Engine::of_tests();
        let script = "id -u; claude --version; opencode --version; git --version; \
                      ls /usr/local/share/ca-certificates /trust 2>/dev/null | wc -l";
        let said = engine
            .docker()
            .args(["run", "--rm", "--network", "none", &Engine::worker_image_of_tests()])
            .args(["sh", "-c", script])
            .output()
            .unwrap();
        let pins = fs::read_to_string(workspace::root().join("ops/agents/package.json")).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        let [user, claude, opencode, git, ..] = lines.as_slice() else { panic!("{said}") };
        assert_eq!(*user, "1001");
        for version in [claude, opencode] {
            let version = version.split_whitespace().next().unwrap();
            assert!(pins.contains(&format!("\"{version}\"")), "{version} is not pinned");
        }
        assert!(git.starts_with("git version 2."), "{git}");
    }
}
