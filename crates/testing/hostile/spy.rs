//! What one process can learn of another, or do to it.

use std::{
    env, fs,
    io::Read as _,
    process::{Child, Command, Stdio},
};

use crate::{Notes, family::Family, sys};

/// A process of our own, on which everything works.
struct Victim(Child);

impl Victim {
    fn start() -> Self {
        let program = env::current_exe().expect("a program knows its path");
        let child = Command::new(program).arg("victim").stdin(Stdio::piped()).spawn();
        Self(child.expect("a child can be started"))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a process id")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Lives until nobody holds its input any more.
pub(crate) fn victim() {
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}

pub(crate) fn run(notes: &mut Notes) {
    let (family, victim) = (Family::find(), Victim::start());
    spy(notes, "own child", victim.pid());
    spy(notes, "worker", family.worker);
    spy(notes, "first process", 1);
    let other = Victim::start();
    for (who, pid) in [("first process", 1), ("own child", other.pid())] {
        for (name, signal) in
            [("stop", sys::SIGSTOP), ("terminate", sys::SIGTERM), ("kill", sys::SIGKILL)]
        {
            notes.result(&format!("{who}: {name}"), sys::kill(pid, signal));
        }
    }
    // What the supervisor of the agent's launch was given by the worker.
    let descriptors = fs::read_dir(format!("/proc/{}/fd", family.supervisor));
    let links = descriptors.into_iter().flatten().flatten();
    let links = links.filter_map(|link| fs::read_link(link.path()).ok());
    let sockets = links.filter(|link| link.to_string_lossy().starts_with("socket:")).count();
    notes.word("supervisor: sockets of the worker", &sockets.to_string());
}

fn spy(notes: &mut Notes, who: &str, pid: i32) {
    let of = |name: &str| format!("/proc/{pid}/{name}");
    notes.result(&format!("{who}: environment"), fs::read(of("environ")));
    let maps = fs::read_to_string(of("maps"));
    let address = maps.as_deref().ok().and_then(|maps| maps.split_once('-'));
    let address = address.and_then(|(start, _)| usize::from_str_radix(start, 16).ok());
    notes.result(&format!("{who}: memory map"), maps.as_ref().map_err(same));
    notes.result(&format!("{who}: memory"), fs::File::open(of("mem")));
    notes.result(&format!("{who}: memory to write"), fs::File::options().write(true).open(of("mem")));
    notes.result(&format!("{who}: memory across"), sys::read_across(pid, address.unwrap_or(1 << 22)));
    notes.result(&format!("{who}: trace"), sys::trace(pid));
    notes.result(&format!("{who}: descriptors"), fs::read_dir(of("fd")));
    notes.result(&format!("{who}: input"), fs::File::open(of("fd/0")));
    notes.result(&format!("{who}: take a descriptor"), sys::take_descriptor(pid, 0));
    notes.result(&format!("{who}: root directory"), fs::read_dir(of("root/")));
    notes.result(&format!("{who}: namespaces"), fs::read_link(of("ns/net")));
}

fn same(error: &std::io::Error) -> std::io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), std::io::Error::from_raw_os_error)
}
