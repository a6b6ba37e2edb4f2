//! A launch as the engine's request for a container: where the hardening is written down.
//!
//! Of the request nothing is a choice of the caller but what [`LaunchSpec`] and [`ContainerSpec`]
//! say. The command, its environment and its input are not in it: they travel in the input frame.

use std::{collections::HashMap, path::Path};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, RestartPolicy, RestartPolicyNameEnum,
};

use crate::{
    container::{ContainerSpec, Scratch},
    error::LaunchError,
    id::LaunchId,
    launch::{Launch, store::Store},
    spec::{LaunchSpec, Limits},
};

/// The label with the id of the store that a container belongs to.
pub const INSTANCE_LABEL: &str = "opentiger.instance";
/// The label with the launch id.
pub const LAUNCH_LABEL: &str = "opentiger.launch";
/// The label with the hash of the spec.
pub const SPEC_LABEL: &str = "opentiger.spec";

/// Where the shim and its launch directory are in a container: below a directory in memory that
/// only root can enter.
const HOME: &str = "/run/opentiger";
/// The least processor time that the kernel's scheduler takes, in thousandths of a core.
const MIN_CPU_MILLIS: u32 = 10;

/// The name of a launch's container. The store is part of it, so that two stores do not meet.
pub(crate) fn name(store: &Store, id: &LaunchId) -> String {
    format!("opentiger-{}-{id}", store.id.get(..12).unwrap_or(&store.id))
}

/// Checks what only a container needs.
pub(crate) fn check(spec: &LaunchSpec) -> Result<&ContainerSpec, LaunchError> {
    let invalid = |field, why: &str| LaunchError::InvalidSpec { field, why: why.to_owned() };
    let Some(container) = &spec.container else {
        return Err(invalid("container", "this launcher starts containers only"));
    };
    match spec.user {
        None => return Err(invalid("user", "a command in a container needs a user")),
        Some(user) if user.uid == 0 => {
            return Err(invalid("user", "root is who watches the command in a container"));
        }
        Some(_) => {}
    }
    let is_safe = |text: &str, also: &[char]| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(&c))
    };
    if !is_safe(&container.image, &['.', '_', '-', '/', ':', '@']) {
        return Err(invalid("container.image", "it is no reference of an image"));
    }
    if !is_safe(&container.network, &['.', '_', '-']) {
        return Err(invalid("container.network", "it is no name of a network"));
    }
    if container.network == "host" {
        return Err(invalid("container.network", "the host's own network is no sandbox"));
    }
    let targets = container.mounts.iter().map(|mount| &mount.target);
    let mut targets = targets.chain(container.scratch.iter().map(|scratch| &scratch.target));
    if targets.any(|target| target.starts_with(HOME) || target == Path::new("/")) {
        return Err(invalid("container.mounts", "that place in the container is the launcher's"));
    }
    if spec.limits.cpu_millis.is_some_and(|millis| millis < MIN_CPU_MILLIS) {
        let why = format!("the kernel takes {MIN_CPU_MILLIS} and more");
        return Err(LaunchError::LimitUnsupported { limit: "cpu_millis", why });
    }
    Ok(container)
}

/// The request for the container of a launch. Every field of the spec is looked at.
pub(crate) fn request(
    store: &Store,
    launch: &Launch,
    container: &ContainerSpec,
    shim: &Path,
) -> ContainerCreateBody {
    let spec = &launch.intent.spec;
    let LaunchSpec {
        // These reach the shim in the input frame.
        program: _,
        args: _,
        env: _,
        cwd: _,
        user: _,
        output: _,
        lease: _,
        limits,
        stop,
        labels,
        container: _,
    } = spec;
    let mut all: HashMap<String, String> = labels.clone().into_iter().collect();
    all.extend(own_labels(store));
    all.insert(LAUNCH_LABEL.to_owned(), launch.id().to_string());
    all.insert(SPEC_LABEL.to_owned(), launch.intent.spec_hash.clone());
    let mut mounts = own_mounts(shim, launch.directory.path());
    mounts.extend(
        container
            .mounts
            .iter()
            .map(|mount| bind(&mount.source, &mount.target.to_string_lossy(), mount.read_only)),
    );
    ContainerCreateBody {
        image: Some(container.image.clone()),
        entrypoint: Some(entrypoint(shim)),
        cmd: Some(Vec::new()),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        labels: Some(all),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(false),
        tty: Some(false),
        open_stdin: Some(true),
        // The end of the only writer is the end of the input.
        stdin_once: Some(true),
        // What the image says of these would start or end something on its own.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        stop_signal: Some("SIGTERM".to_owned()),
        // The shim needs a little longer than its command.
        stop_timeout: i64::try_from(stop.grace.as_secs().saturating_add(5)).ok(),
        host_config: Some(host_config(container, limits, mounts)),
        ..ContainerCreateBody::default()
    }
}

/// What the container executes.
pub(crate) fn entrypoint(shim: &Path) -> Vec<String> {
    vec![inner(shim), format!("{HOME}/launch")]
}

/// The label that every container of a store has.
pub(crate) fn own_labels(store: &Store) -> HashMap<String, String> {
    HashMap::from([(INSTANCE_LABEL.to_owned(), store.id.clone())])
}

/// The shim and its launch directory.
pub(crate) fn own_mounts(shim: &Path, directory: &Path) -> Vec<Mount> {
    vec![bind(shim, &inner(shim), true), bind(directory, &format!("{HOME}/launch"), false)]
}

fn inner(shim: &Path) -> String {
    format!("{HOME}/{}", shim.file_name().unwrap_or_default().to_string_lossy())
}

fn host_config(container: &ContainerSpec, limits: &Limits, mounts: Vec<Mount>) -> HostConfig {
    let ContainerSpec {
        image: _,
        pull: _,
        network,
        hosts,
        // Among `mounts`.
        mounts: _,
        scratch,
        read_only_root,
    } = container;
    // Wall time is the shim's business.
    let Limits { memory_bytes, cpu_millis, processes, wall: _ } = *limits;
    let memory = memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let hardened = hardened(mounts);
    let mut tmpfs = hardened.tmpfs.unwrap_or_default();
    tmpfs.extend(scratch.iter().map(scratch_mount));
    HostConfig {
        network_mode: Some(network.clone()),
        extra_hosts: Some(
            hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect(),
        ),
        tmpfs: Some(tmpfs),
        readonly_rootfs: Some(*read_only_root),
        memory,
        // Memory and swap together: no swap.
        memory_swap: memory,
        cpu_period: cpu_millis.map(|_| 100_000),
        cpu_quota: cpu_millis.map(|millis| i64::from(millis) * 100),
        // The shim is one more.
        pids_limit: processes.map(|count| i64::from(count) + 1),
        ..hardened
    }
}

/// What is the same for every container, whatever a spec says.
pub(crate) fn hardened(mounts: Vec<Mount>) -> HostConfig {
    let home = "rw,nosuid,nodev,noexec,mode=0700,size=64k".to_owned();
    HostConfig {
        mounts: Some(mounts),
        tmpfs: Some(HashMap::from([(HOME.to_owned(), home)])),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(["SETUID", "SETGID", "KILL"].map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        // The shim is the first process itself.
        init: Some(false),
        ipc_mode: Some("private".to_owned()),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    }
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn scratch_mount(scratch: &Scratch) -> (String, String) {
    let Scratch { target, size_bytes, mode, owner, exec } = scratch;
    let exec = if *exec { "exec" } else { "noexec" };
    let owner =
        owner.map_or_else(String::new, |owner| format!(",uid={},gid={}", owner.uid, owner.gid));
    let options = format!("rw,nosuid,nodev,{exec},mode={mode:04o},size={size_bytes}{owner}");
    (target.to_string_lossy().into_owned(), options)
}
