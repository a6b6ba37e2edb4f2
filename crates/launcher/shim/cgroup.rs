//! What the shim does with the cgroups that the launcher made: evidence, freezing, removal.

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path};

/// The cgroup as a descriptor, if processes can be born in it (v2).
pub(crate) fn birthplace(cgroup: &[u8]) -> Option<fs::File> {
    let directory = path(cgroup);
    let is_v2 = !cgroup.is_empty() && directory.join("cgroup.events").is_file();
    if is_v2 { fs::File::open(directory).ok() } else { None }
}

/// Whether the kernel killed a member for want of memory.
pub(crate) fn out_of_memory(file: &[u8]) -> bool {
    if file.is_empty() {
        return false;
    }
    let text = fs::read_to_string(path(file)).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    count.is_some_and(|count: u64| count > 0)
}

/// Kills all members at once where the kernel can (v2). Not for cgroups with nested launches.
pub(crate) fn kill(cgroup: &[u8]) {
    if !cgroup.is_empty() {
        // Other kinds have no such file.
        write(&path(cgroup).join("cgroup.kill"), "1");
    }
}

/// Holds all members still, so that none forks away while they are listed, or lets them go on.
pub(crate) fn freeze(cgroup: &[u8], still: bool) {
    if cgroup.is_empty() {
        return;
    }
    let (v1, v2) = if still { ("FROZEN", "1") } else { ("THAWED", "0") };
    write(&path(cgroup).join("freezer.state"), v1);
    write(&path(cgroup).join("cgroup.freeze"), v2);
}

/// Removes the cgroups; those that nested launches still use stay for a later sweep.
pub(crate) fn remove(cgroups: &[Vec<u8>]) {
    for cgroup in cgroups {
        fs::remove_dir(path(cgroup)).ok();
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn write(file: &Path, text: &str) {
    if let Ok(mut file) = fs::OpenOptions::new().write(true).open(file) {
        std::io::Write::write_all(&mut file, text.as_bytes()).ok();
    }
}
