//! What a private engine has on the machine, and taking all of it away again: processes, mounts, bridges, cgroups, files.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};

use crate::{owner::Owner, programs::installed_program};

/// Every private engine of this machine has a numbered folder here. Short, for the sockets in it.
const PLACES: &str = "/run/opentiger-engines";
/// The file in such a folder that says whose it is, and on its second line where the engine's data is.
const OWNER: &str = "owner";
/// How many engines there can be; each has a slice of four networks of 256 addresses.
const NUMBERS: std::ops::Range<u8> = 0..64;
/// How long killed processes may take to disappear.
const LIMIT: Duration = Duration::from_secs(20);

/// Where one private engine is on this machine.
#[derive(Debug, Clone)]
pub(super) struct Place {
    number: u8,
    /// Sockets, process ids, log.
    pub(super) run: PathBuf,
    data: PathBuf,
    keeps_data: bool,
}

impl Place {
    /// Takes a place that nobody has and whose network leads nowhere yet.
    pub(super) fn reserve(kept_data: Option<PathBuf>) -> io::Result<Self> {
        let routes = routes()?;
        let fresh = Path::new(PLACES).join(format!("new-{}-{}", std::process::id(), unique()));
        fs::create_dir_all(&fresh)?;
        for number in NUMBERS.filter(|number| is_free(*number, &routes)) {
            let keeps_data = kept_data.is_some();
            let data = kept_data.clone().map_or_else(|| scratch(number), Ok)?;
            let text = format!("{}\n{}\n{keeps_data}\n", Owner::this().text(), data.display());
            fs::write(fresh.join(OWNER), text)?;
            let run = Path::new(PLACES).join(number.to_string());
            // Fails where somebody has the number: their folder is not empty.
            if fs::rename(&fresh, &run).is_ok() {
                fs::create_dir_all(&data)?;
                return Ok(Self { number, run, data, keeps_data });
            }
        }
        fs::remove_dir_all(&fresh)?;
        Err(io::Error::other("every network within 198.18.0.0/16 is in use"))
    }

    /// The engine's arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        let run = |name: &str| self.run.join(name).display().to_string();
        let name = format!("opentiger-test-{}", self.number);
        // No file of the machine's own engine is read; what stands here must not stand there as well.
        fs::write(self.run.join("none.json"), "{}").ok();
        let own = [
            ("config-file", run("none.json")),
            ("host", format!("unix://{}", run("docker.sock"))),
            ("data-root", self.data.display().to_string()),
            ("exec-root", run("exec")),
            ("pidfile", run("pid")),
            ("bridge", self.bridge()),
            ("default-address-pool", format!("base={}/23,size=28", address(self.number, 2, 0))),
            ("exec-opt", "native.cgroupdriver=cgroupfs".to_owned()),
            ("cgroup-parent", format!("/{}", self.cgroup())),
            ("containerd-namespace", name.clone()),
            ("containerd-plugins-namespace", format!("{name}-plugins")),
            ("log-level", "warn".to_owned()),
        ];
        let off = ["iptables", "ip6tables", "ip-forward", "ip-masq", "userland-proxy"];
        let own = own.iter().map(|(name, value)| format!("--{name}={value}"));
        own.chain(off.iter().map(|name| format!("--{name}=false"))).collect()
    }

    pub(super) fn make_bridge(&self) -> io::Result<()> {
        let bridge = self.bridge();
        let gateway = format!("{}/24", address(self.number, 0, 1));
        ip(&["link", "add", "name", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &gateway, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("otengine{}", self.number)
    }

    fn cgroup(&self) -> String {
        format!("opentiger-test-{}", self.number)
    }

    /// Waits until the engine's containerd is gone, which ends with an engine that is killed; its containers do not.
    pub(super) fn wait_for_the_end_of_the_supervisor(&self) {
        let deadline = Instant::now() + LIMIT;
        let is_it =
            |pid: &Pid| program_of(pid.as_raw_nonzero().get()).as_deref() == Some("containerd");
        while self.processes().iter().any(is_it) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes the ids that a killed engine left behind. Nobody may have taken notice of its containerd's end yet, and an
    /// engine that starts would wait for that process to answer.
    pub(super) fn forget_the_killed(&self) {
        for file in ["pid", "exec/containerd/containerd.pid"] {
            fs::remove_file(self.run.join(file)).ok();
        }
    }

    /// Ends everything that the engine started and removes everything that it made. The engine itself is gone by now.
    pub(super) fn clear(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let processes = self.processes();
            if processes.is_empty() || Instant::now() > deadline {
                break;
            }
            for pid in processes {
                kill_process(pid, Signal::KILL).ok();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for mount in self.mounts().iter().rev() {
            unmount(mount, UnmountFlags::DETACH).ok();
        }
        for link in self.links() {
            ip(&["link", "del", &link]).ok();
        }
        for group in self.cgroups().iter().rev() {
            fs::remove_dir(group).ok();
        }
        if !self.keeps_data {
            fs::remove_dir_all(&self.data).ok();
        }
        // Last: until then the number is taken.
        fs::remove_dir_all(&self.run).ok();
    }

    /// What is still there, in words. Kept data is not counted.
    pub(super) fn remains(&self) -> Vec<String> {
        let files = [(true, &self.run), (!self.keeps_data, &self.data)];
        let files = files.into_iter().filter(|(counts, path)| *counts && path.is_dir());
        let files = files.map(|(_, path)| format!("folder {}", path.display()));
        let processes = self.processes().into_iter().map(|pid| format!("process {pid:?}"));
        let mounts = self.mounts().into_iter().map(|path| format!("mount {}", path.display()));
        let links = self.links().into_iter().map(|link| format!("network interface {link}"));
        let groups = self.cgroups().into_iter().map(|path| format!("cgroup {}", path.display()));
        files.chain(processes).chain(mounts).chain(links).chain(groups).collect()
    }

    /// The engine's helpers, which have its folder in their arguments, and everything in its containers.
    fn processes(&self) -> Vec<Pid> {
        let run = self.run.display().to_string();
        let folder = format!("{run}/");
        let helpers = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let program = program_of(pid)?;
            let is_helper = program.starts_with("containerd") || program.starts_with("runc");
            (is_helper && arguments_of(pid)?.contains(&folder)).then_some(pid)
        });
        let contained = self.cgroups().into_iter().flat_map(|group| {
            let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            pids.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        });
        let mut pids: Vec<i32> = helpers.chain(contained).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().filter_map(Pid::from_raw).collect()
    }

    /// Outer before inner.
    fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points.filter(|at| at.starts_with(&self.run) || at.starts_with(&self.data)).collect()
    }

    /// The bridge of the engine and those of the networks that tests made.
    fn links(&self) -> Vec<String> {
        let table = ip(&["-o", "-4", "addr", "show"]).unwrap_or_default();
        let found = table.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, link, "inet", address, ..] = words.as_slice() else { return None };
            let address: Ipv4Addr = address.split('/').next()?.parse().ok()?;
            let is_ours = u32::from(address) & SLICE_MASK == slice(self.number);
            is_ours.then(|| (*link).to_owned())
        });
        found.collect()
    }

    /// Its control groups in every hierarchy, outer before inner.
    fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|one| one.path());
        let tops = std::iter::once(root.to_owned()).chain(hierarchies);
        let mut waiting: Vec<PathBuf> =
            tops.map(|top| top.join(self.cgroup())).filter(|path| path.is_dir()).collect();
        let mut found = Vec::new();
        while let Some(group) = waiting.pop() {
            let inner = fs::read_dir(&group).into_iter().flatten().flatten();
            waiting.extend(inner.map(|entry| entry.path()).filter(|path| path.is_dir()));
            found.push(group);
        }
        found
    }
}

/// Takes away what engines left whose owner was killed, on this machine.
pub fn clear_abandoned() {
    for place in places().filter(|(owner, _)| owner.is_dead()).map(|(_, place)| place) {
        let engine = fs::read_to_string(place.run.join("pid")).unwrap_or_default();
        let pid = engine.trim().parse().ok().filter(|pid| is_engine_of(*pid, &place));
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).ok();
        }
        place.clear();
    }
}

fn places() -> impl Iterator<Item = (Owner, Place)> {
    fs::read_dir(PLACES).into_iter().flatten().flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(entry.path().join(OWNER)).ok()?;
        let mut lines = text.lines();
        let owner = Owner::parse(lines.next()?)?;
        let data = PathBuf::from(lines.next()?);
        let keeps_data = lines.next()? == "true";
        Some((owner, Place { number, run: entry.path(), data, keeps_data }))
    })
}

/// The arguments of a process that is alive, separated by zeros.
fn arguments_of(pid: i32) -> Option<String> {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    (!arguments.is_empty()).then(|| String::from_utf8_lossy(&arguments).into_owned())
}

/// The name of its program.
fn program_of(pid: i32) -> Option<String> {
    let arguments = arguments_of(pid)?;
    Some(arguments.split('\0').next()?.rsplit('/').next()?.to_owned())
}

fn is_engine_of(pid: i32, place: &Place) -> bool {
    let wanted = format!("--pidfile={}", place.run.join("pid").display());
    arguments_of(pid).is_some_and(|arguments| arguments.split('\0').any(|one| one == wanted))
}

/// Addresses that are set aside for measurements between machines (RFC 2544), so no network of anybody's has them.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const SLICE_MASK: u32 = 0xffff_fc00;

/// The first address of an engine's slice.
fn slice(number: u8) -> u32 {
    u32::from(FIRST_ADDRESS) | u32::from(number) << 10
}

/// An address of an engine's slice, by its last two numbers.
fn address(number: u8, network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::from(slice(number) | u32::from(network) << 8 | u32::from(host))
}

/// Whether nothing that this machine has a way to lies in the slice.
fn is_free(number: u8, routes: &[(u32, u32)]) -> bool {
    let slice = slice(number);
    !routes.iter().any(|(to, mask)| (to ^ slice) & mask & SLICE_MASK == 0)
}

/// Where this machine has a way to, each as address and mask, without the way to everywhere.
fn routes() -> io::Result<Vec<(u32, u32)>> {
    let table = fs::read_to_string("/proc/net/route")?;
    // The kernel writes them as they lie in memory.
    let number =
        |text: &str| Some(u32::from_be_bytes(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
    let routes = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((number(words.get(1)?)?, number(words.get(7)?)?))
    });
    Ok(routes.filter(|(_, mask)| *mask != 0).collect())
}

/// A folder for data that ends with the engine: on the disk of the build, for memory is no place for images.
fn scratch(number: u8) -> io::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test.parent().and_then(Path::parent);
    let target = target.ok_or_else(|| io::Error::other("the running test lies in a folder"))?;
    Ok(target.join("engines").join(number.to_string()))
}

fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn ip(args: &[&str]) -> io::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "a test's errand is no part of the product")]
    let output = Command::new(installed_program("ip")).args(args).output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("`ip {}`: {words}", args.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_that_leads_somewhere_is_not_taken() {
        let to = |a, b, c, d, mask| (u32::from(Ipv4Addr::new(a, b, c, d)), mask);
        let elsewhere = [to(10, 0, 0, 0, 0xff00_0000), to(198, 18, 4, 0, 0xffff_ff00)];
        assert!(is_free(0, &elsewhere));
        assert!(!is_free(1, &elsewhere));
        assert!(!is_free(9, &[to(198, 16, 0, 0, 0xfff0_0000)]));
        assert_eq!(address(1, 0, 1), Ipv4Addr::new(198, 18, 4, 1));
        assert!(routes().unwrap().iter().all(|(_, mask)| *mask != 0));
    }
}
