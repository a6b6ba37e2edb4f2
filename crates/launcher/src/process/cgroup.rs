//! Cgroups on version 2, version 1 and hybrid machines: found once, made per launch, removed.
//!
//! It writes only below hierarchies where this process may, in directories named `launch-…`. What
//! it cannot honour it says. A launch's directory is a sibling of our own on version 2, where a
//! group with processes cannot have groups with controllers below it, and a child on version 1.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    error::LaunchError,
    id::LaunchId,
    launch::{
        format::{VERSION, fnv64},
        records::Cgroups,
    },
    launcher::CgroupSupport,
    spec::Limits,
};

const PREFIX: &str = "launch-";

/// What this process may write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hierarchies {
    kill: Option<Base>,
    memory: Option<Base>,
    cpu: Option<Base>,
    processes: Option<Base>,
}

/// A directory in which groups may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    directory: PathBuf,
    is_v2: bool,
}

/// A mounted hierarchy.
struct Mount {
    point: PathBuf,
    root: String,
    is_v2: bool,
    controllers: Vec<String>,
}

impl Hierarchies {
    /// Looks at what this process may write.
    pub(crate) fn find() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
        let v2 = mounts.iter().find(|m| m.is_v2).and_then(|m| m.base(&own)).filter(Base::usable);
        let v1 = |name: &str| {
            let mount = mounts.iter().find(|m| m.controllers.iter().any(|c| c == name))?;
            mount.base(&own).filter(Base::usable)
        };
        let limit = |name: &str| v2.clone().filter(|base| base.enables(name)).or_else(|| v1(name));
        Self {
            memory: limit("memory"),
            cpu: limit("cpu"),
            processes: limit("pids"),
            kill: v2.clone().or_else(|| v1("freezer")),
        }
    }

    /// The kind of hierarchy for the capabilities.
    pub(crate) fn support(&self) -> CgroupSupport {
        let limits = [&self.memory, &self.cpu, &self.processes];
        if limits.into_iter().flatten().any(|base| !base.is_v2) {
            CgroupSupport::V1
        } else {
            match &self.kill {
                Some(base) if base.is_v2 => CgroupSupport::V2,
                Some(_) => CgroupSupport::V1,
                None => CgroupSupport::None,
            }
        }
    }

    /// Whether limits of memory, processor time and processes can be honoured.
    pub(crate) fn limits(&self) -> (bool, bool, bool) {
        (self.memory.is_some(), self.cpu.is_some(), self.processes.is_some())
    }

    /// Refuses limits that cannot be honoured, before anything is made.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), LaunchError> {
        let Limits { memory_bytes, cpu_millis, processes, wall: _ } = limits;
        let wanted = [
            ("memory_bytes", memory_bytes.is_some(), &self.memory),
            ("cpu_millis", cpu_millis.is_some(), &self.cpu),
            ("processes", processes.is_some(), &self.processes),
        ];
        match wanted.into_iter().find(|(_, is_wanted, base)| *is_wanted && base.is_none()) {
            Some((limit, ..)) => Err(LaunchError::LimitUnsupported {
                limit,
                why: "no writable cgroup with that controller".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Makes the groups of a launch and sets its limits. Idempotent.
    pub(crate) fn make(&self, name: &str, limits: &Limits) -> Result<Cgroups, LaunchError> {
        self.check(limits)?;
        let mut made = Cgroups { version: VERSION, ..Cgroups::default() };
        if let Some(base) = &self.kill {
            made.kill = base.make(name, &mut made.all);
        }
        if let (Some(bytes), Some(base)) = (limits.memory_bytes, &self.memory) {
            let (file, swap) = if base.is_v2 {
                ("memory.max", ("memory.swap.max", 0))
            } else {
                ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", bytes))
            };
            let directory = base.limit(name, &mut made.all, "memory_bytes", file, bytes)?;
            // Kernels that do not count swap have no such file.
            fs::write(directory.join(swap.0), swap.1.to_string()).ok();
            let events = if base.is_v2 { "memory.events" } else { "memory.oom_control" };
            made.oom_file = Some(directory.join(events));
        }
        if let (Some(millis), Some(base)) = (limits.cpu_millis, &self.cpu) {
            let quota = u64::from(millis) * 100;
            if base.is_v2 {
                let text = format!("{quota} 100000");
                base.limit(name, &mut made.all, "cpu_millis", "cpu.max", text)?;
            } else {
                base.limit(name, &mut made.all, "cpu_millis", "cpu.cfs_quota_us", quota)?;
            }
        }
        if let (Some(count), Some(base)) = (limits.processes, &self.processes) {
            base.limit(name, &mut made.all, "processes", "pids.max", count)?;
        }
        Ok(made)
    }
}

impl Hierarchies {
    /// Removes the empty groups of a launch wherever this process would make some: a crash may come
    /// between making them and writing them down.
    pub(crate) fn remove(&self, name: &str) {
        let bases = [&self.kill, &self.memory, &self.cpu, &self.processes];
        for base in bases.into_iter().flatten() {
            fs::remove_dir(base.directory.join(name)).ok();
        }
    }
}

/// The name of a launch's groups: the store is part of it, so that two stores do not meet.
pub(crate) fn name(launches: &Path, id: &LaunchId) -> String {
    format!("{PREFIX}{:016x}-{id}", fnv64(launches.as_os_str().as_encoded_bytes()))
}

/// Removes the groups that are empty, and only such that have the launch's name.
pub(crate) fn remove(cgroups: &Cgroups, name: &str) {
    for directory in cgroups.all.iter().filter(|directory| is_named(directory, name)) {
        // Gone already, or a nested launch is still in it.
        fs::remove_dir(directory).ok();
    }
}

/// The processes in the group by which a launch is killed.
pub(crate) fn members(cgroups: &Cgroups, name: &str) -> Vec<i32> {
    let Some(kill) = cgroups.kill.as_ref().filter(|directory| is_named(directory, name)) else {
        return Vec::new();
    };
    let list = fs::read_to_string(kill.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Holds the members still, so that none forks away while they are killed, or lets them go on.
pub(crate) fn freeze(cgroups: &Cgroups, name: &str, still: bool) {
    let Some(kill) = cgroups.kill.as_ref().filter(|directory| is_named(directory, name)) else {
        return;
    };
    let (v1, v2) = if still { ("FROZEN", "1") } else { ("THAWED", "0") };
    for (file, text) in [("freezer.state", v1), ("cgroup.freeze", v2)] {
        if kill.join(file).is_file() {
            fs::write(kill.join(file), text).ok();
        }
    }
}

fn is_named(directory: &Path, name: &str) -> bool {
    directory.file_name().is_some_and(|last| last == name)
}

impl Base {
    /// Whether groups can be made here and processes moved into them.
    fn usable(&self) -> bool {
        let may = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        may(&self.directory) && may(&self.directory.join("cgroup.procs"))
    }

    /// Whether groups here can have the controller, turning it on where that is allowed.
    fn enables(&self, controller: &str) -> bool {
        let file = self.directory.join("cgroup.subtree_control");
        let has = || {
            let list = fs::read_to_string(&file).unwrap_or_default();
            list.split_whitespace().any(|name| name == controller)
        };
        has() || (fs::write(&file, format!("+{controller}")).is_ok() && has())
    }

    fn make(&self, name: &str, all: &mut Vec<PathBuf>) -> Option<PathBuf> {
        let directory = self.directory.join(name);
        match fs::create_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => return None,
        }
        if !all.contains(&directory) {
            all.push(directory.clone());
        }
        Some(directory)
    }

    fn limit(
        &self,
        name: &str,
        all: &mut Vec<PathBuf>,
        limit: &'static str,
        file: &str,
        value: impl ToString,
    ) -> Result<PathBuf, LaunchError> {
        let unsupported = |why: String| LaunchError::LimitUnsupported { limit, why };
        let directory = self.make(name, all).ok_or_else(|| {
            unsupported(format!("cannot make a cgroup in `{}`", self.directory.display()))
        })?;
        let file = directory.join(file);
        fs::write(&file, value.to_string())
            .map_err(|error| unsupported(format!("write `{}`: {error}", file.display())))?;
        Ok(directory)
    }
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?.to_owned(), PathBuf::from(left.next()?));
        let mut right = right.split(' ');
        let is_v2 = match right.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options = right.nth(1).unwrap_or_default();
        let controllers = options.split(',').map(str::to_owned);
        Some(Self {
            point,
            root,
            is_v2,
            controllers: if is_v2 { Vec::new() } else { controllers.collect() },
        })
    }

    /// Where groups of our launches belong in it.
    fn base(&self, own: &str) -> Option<Base> {
        let own = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let fits = if self.is_v2 {
                controllers.is_empty()
            } else {
                controllers.split(',').any(|name| self.controllers.iter().any(|c| c == name))
            };
            fits.then_some(path)
        })?;
        let below = own.strip_prefix(self.root.trim_end_matches('/')).unwrap_or("/");
        let own = self.point.join(below.trim_start_matches('/'));
        let is_launch = own
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(PREFIX));
        let sibling = self.is_v2 && own != self.point;
        let directory = if is_launch || sibling { own.parent()?.to_owned() } else { own };
        directory.is_dir().then_some(Base { directory, is_v2: self.is_v2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_lines_tell_version_and_controllers() {
        let v1 = "35 30 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        let v1 = Mount::parse(v1).unwrap();
        assert!(!v1.is_v2 && v1.controllers.iter().any(|c| c == "memory"));
        let v2 = Mount::parse("30 29 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw");
        assert!(v2.unwrap().is_v2);
        assert!(Mount::parse("30 29 0:26 / /proc rw - proc proc rw").is_none());
    }

    #[test]
    fn limits_without_hierarchy_are_refused_by_name() {
        let none = Hierarchies::default();
        let limits = Limits { cpu_millis: Some(500), ..Limits::default() };
        let refused = none.check(&limits);
        assert!(
            matches!(refused, Err(LaunchError::LimitUnsupported { limit: "cpu_millis", .. })),
            "{refused:?}"
        );
        none.check(&Limits { wall: Some(std::time::Duration::from_secs(1)), ..Limits::default() })
            .unwrap();
    }

    #[test]
    fn stores_do_not_share_names() {
        let id: LaunchId = "a".parse().unwrap();
        assert_ne!(name(Path::new("/x"), &id), name(Path::new("/y"), &id));
    }
}
