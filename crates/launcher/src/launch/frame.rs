//! The input frame of a launch: spec and input as the shim reads them.

use std::{path::Path, time::Duration};

use super::{format::Start, records::Cgroups};
use crate::spec::{Input, LaunchSpec, Limits, OutputLimits, StopPolicy, StopSignal, UserId};

/// The input frame of a launch. Every field of the spec is looked at, so that none is forgotten.
pub(crate) fn frame(spec: &LaunchSpec, input: Input, cgroups: &Cgroups) -> Vec<u8> {
    let LaunchSpec {
        program,
        args,
        env,
        cwd,
        user,
        limits,
        output,
        stop,
        lease,
        labels: _,
        // Where the shim runs is no matter to it.
        container: _,
    } = spec;
    // The first three are set on the cgroups.
    let Limits { memory_bytes: _, cpu_millis: _, processes: _, wall } = limits;
    let OutputLimits { head_bytes, tail_bytes } = *output;
    let StopPolicy { grace, signal } = *stop;
    let Input { stdin, secret_env, assignment } = input;
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let plain = env.iter().filter(|(name, _)| !secret_env.contains_key(*name));
    let plain = plain.map(|(name, value)| format!("{name}={value}").into_bytes());
    let secret = secret_env.iter().map(|(name, v)| format!("{name}={}", v.expose()).into_bytes());
    Start {
        program: bytes(program),
        args: args.iter().map(|arg| arg.clone().into_bytes()).collect(),
        env: plain.chain(secret).collect(),
        cwd: bytes(cwd),
        user: user.map(|UserId { uid, gid }| (uid, gid)),
        cgroups: cgroups.all.iter().map(|path| bytes(path)).collect(),
        kill_cgroup: cgroups.kill.as_deref().map(bytes).unwrap_or_default(),
        oom_file: cgroups.oom_file.as_deref().map(bytes).unwrap_or_default(),
        wall_ms: wall.map_or(0, millis),
        lease_ms: lease.map_or(0, millis),
        grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        stop_signal: match signal {
            StopSignal::Terminate => 15,
            StopSignal::Interrupt => 2,
        },
        head_bytes,
        tail_bytes,
        stdin,
        assignment: assignment.map(|value| value.to_string().into_bytes()).unwrap_or_default(),
    }
    .encode()
}
