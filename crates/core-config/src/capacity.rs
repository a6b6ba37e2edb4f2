//! How many agents this machine bears at once where nobody said: never without limit (D11).

use std::{fs, path::Path, sync::OnceLock};

/// Memory that one agent and what it starts is taken to need, in bytes: its command line alone takes a quarter of it.
const PER_AGENT: u64 = 1 << 30;
/// Memory that is left to everything else, in bytes.
const KEPT: u64 = 1 << 30;

/// One agent for each processor core, and no more than there is memory for: 1 GiB each after the first GiB. Asked once,
/// for the answer costs a walk through cgroups.
pub(crate) fn capacity() -> u64 {
    static CAPACITY: OnceLock<u64> = OnceLock::new();
    *CAPACITY.get_or_init(|| {
        let cores = std::thread::available_parallelism();
        let cores = cores.map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(1));
        fits(cores, memory())
    })
}

/// An unknown memory limits nothing, for the cores do.
fn fits(cores: u64, memory: Option<u64>) -> u64 {
    let by_memory = memory.map_or(u64::MAX, |bytes| bytes.saturating_sub(KEPT) / PER_AGENT);
    cores.min(by_memory).clamp(1, 1024)
}

/// The memory that this process may use, in bytes: the machine's, or less where its cgroup says so.
fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    machine.into_iter().chain(cgroup_limits()).min()
}

/// `MemTotal:       16384 kB`
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limits of this process's cgroup and those around it (version 2); `max` is none.
fn cgroup_limits() -> Vec<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let limit = |directory: &Path| -> Option<u64> {
        let file = Path::new("/sys/fs/cgroup").join(directory).join("memory.max");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    };
    Path::new(path.trim()).ancestors().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_and_memory_bound_it_and_one_always_fits() {
        let gib = 1 << 30;
        assert_eq!(fits(8, Some(64 * gib)), 8);
        assert_eq!(fits(8, Some(4 * gib)), 3);
        assert_eq!(fits(8, Some(gib / 2)), 1);
        assert_eq!(fits(4, None), 4);
        assert_eq!(fits(100_000, None), 1024);
        assert!((1..=1024).contains(&capacity()));
    }

    #[test]
    fn total_memory_is_read_in_bytes() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total("nothing"), None);
        assert!(memory().is_some_and(|bytes| bytes > 0));
    }
}
