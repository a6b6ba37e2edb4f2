//! Ways to outlive the agent, in order to change what its verification sees.
//!
//! Whatever stays waits until the result is sealed, and then makes the file `fooled`, which the result does not have.

use std::{
    env, fs,
    fs::File,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{self, Command},
    thread::sleep,
    time::Duration,
};

use crate::{
    family::{Family, has_ended},
    sys,
};

const WORK: &str = "/opentiger/checkout/work";
const LAUNCHES: &str = "/opentiger/launches";
/// A place that looks like a launch.
const NEST: &str = "/tmp/nest";
/// Where the real shim is kept by whoever stands in its place.
const KEPT: &str = "/tmp/kept-shim";

pub(crate) fn run(how: &str) {
    fs::write("left", how).expect("the work tree can be written");
    match how {
        "as-a-launch" => as_a_launch(),
        "as-an-orphan" => as_an_orphan(),
        "without-a-leader" => without_a_leader(),
        "in-the-shim" => return in_the_shim(),
        "at-home" => return at_home(),
        other => panic!("there is no way `{other}`"),
    }
    while !Path::new(WORK).join("alive").exists() {
        sleep(Duration::from_millis(5));
    }
    println!("something stays");
}

/// Looks like a launch within the agent's, which ends by itself.
fn as_a_launch() {
    fs::create_dir_all(NEST).expect("scratch can be written");
    let shim = Path::new(NEST).join("shim-nested");
    fs::copy(program(), &shim).expect("scratch can be written");
    Command::new(shim).arg(NEST).spawn().expect("it can be started");
}

/// Kills who watches over the agent, once the agent has ended, and says in its name that all went well.
fn as_an_orphan() {
    let family = Family::find();
    let line = fs::read_to_string(format!("/proc/{}/cmdline", family.supervisor));
    let line = line.expect("the supervisor can be looked at");
    let launch = PathBuf::from(line.split('\0').nth(1).expect("it names its launch"));
    Command::new(program())
        .args(["fool"])
        .env("AGENT", family.agent.to_string())
        .env("SUPERVISOR", family.supervisor.to_string())
        .env("LAUNCH", launch)
        .spawn()
        .expect("it can be started");
}

/// A process whose first thread has ended looks like one that waits to be buried.
fn without_a_leader() {
    Command::new(program()).arg("fool").env("LEADERLESS", "1").spawn().expect("it can be started");
}

/// Puts this program in the place of the one that starts whatever comes after.
fn in_the_shim() {
    let shims = fs::read_dir(LAUNCHES).expect("the launches are the worker's own user's").flatten();
    let shims = shims.map(|entry| entry.path());
    let is_shim = |path: &PathBuf| path.to_string_lossy().contains("/shim-");
    for shim in shims.filter(is_shim) {
        fs::copy(&shim, KEPT).expect("scratch can be written");
        let new = shim.with_extension("new");
        fs::copy(program(), &new).expect("scratch can be written");
        fs::rename(&new, &shim).expect("it is a directory of our user");
        println!("something stays");
    }
}

/// Leaves what a shell, git or cargo would read from a home directory, and programs by the names of others.
fn at_home() {
    let home = PathBuf::from(env::var_os("HOME").expect("there is a home"));
    let fool = format!("touch {WORK}/fooled");
    for name in [".bashrc", ".bash_profile", ".profile", ".bash_login", ".zshenv"] {
        fs::write(home.join(name), format!("{fool}\nalias test='{fool}'\n")).expect("it is ours");
    }
    let git = format!("[core]\n\tfsmonitor = {fool}\n\tpager = {fool}\n[alias]\n\tstatus = !{fool}\n");
    fs::write(home.join(".gitconfig"), git).expect("it is ours");
    for directory in ["bin", ".local/bin", ".cargo/bin", "../tmp"] {
        let directory = home.join(directory);
        fs::create_dir_all(&directory).expect("it is ours");
        for name in ["test", "sleep", "bash", "sh", "git", "cargo"] {
            let path = directory.join(name);
            fs::write(&path, format!("#!/bin/sh\n{fool}\n")).expect("it is ours");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(path, mode).expect("it is ours");
        }
    }
    fs::create_dir_all(home.join(".cargo")).expect("it is ours");
    let cargo = "[target.'cfg(all())']\nrunner = \"touch\"\n";
    fs::write(home.join(".cargo/config.toml"), cargo).expect("it is ours");
    println!("something stays");
}

/// What was started by the name of a shim.
pub(crate) fn as_shim(directory: &str) -> ! {
    if directory != NEST {
        // In the place of the real one.
        drop(File::create(Path::new(WORK).join("fooled")));
        let error = Command::new(KEPT).args(env::args_os().skip(1)).exec();
        panic!("the real shim does not start: {error}");
    }
    let lock = File::create(Path::new(NEST).join("lock")).expect("scratch can be written");
    sys::lock(lock.as_raw_fd());
    wait_and_fool()
}

/// What stays.
pub(crate) fn fool() -> ! {
    if env::var_os("LEADERLESS").is_some() {
        std::thread::spawn(|| wait_and_fool());
        sys::end_thread();
    }
    let number = |name: &str| env::var(name).ok()?.parse().ok();
    if let (Some(agent), Some(supervisor)) = (number("AGENT"), number("SUPERVISOR")) {
        sys::detach();
        sys::ignore(sys::SIGTERM);
        announce();
        while !has_ended(agent) {
            sleep(Duration::from_millis(1));
        }
        // The supervisor waits for us in vain now, and has written what the agent printed. Who looks at a dead one
        // must find the record.
        forge(&PathBuf::from(env::var_os("LAUNCH").expect("it was told")));
        drop(sys::kill(supervisor, sys::SIGKILL));
    }
    wait_and_fool()
}

fn announce() {
    drop(File::create(Path::new(WORK).join("alive")));
}

fn wait_and_fool() -> ! {
    sys::ignore(sys::SIGTERM);
    announce();
    let results = Path::new("/opentiger/checkout/seal.git/result");
    let is_pack = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|it| it == "pack");
    loop {
        if fs::read_dir(results).into_iter().flatten().flatten().any(|entry| is_pack(&entry)) {
            drop(File::create(Path::new(WORK).join("fooled")));
        }
        sleep(Duration::from_millis(2));
    }
}

/// Writes the record of an agent that ended well.
fn forge(launch: &Path) {
    let log = fs::read(launch.join("out.log")).unwrap_or_default();
    let record = format!(
        "{{\"version\":1,\"outcome\":{{\"exited\":0}},\"cause\":null,\"out_of_memory\":false,\"leftovers_killed\":0,\
         \"survivors\":0,\"log_end\":{},\"dropped_bytes\":0,\"started_us\":null,\"ended_us\":1}}",
        end_of_log(&log)
    );
    let new = launch.join("exit.json.new");
    drop(fs::write(&new, record).and_then(|()| fs::rename(&new, launch.join("exit.json"))));
}

/// How many bytes of output a log holds: where its last frame ends.
fn end_of_log(log: &[u8]) -> u64 {
    let (mut at, mut end) = (16, 0);
    while let Some(header) = log.get(at..at + 32) {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let length = number(&header[12..16]);
        end = number(&header[16..24]) + length;
        at += 32 + usize::try_from(length).unwrap_or(usize::MAX >> 1);
    }
    end
}

fn program() -> PathBuf {
    env::current_exe().unwrap_or_else(|_| process::exit(3))
}
