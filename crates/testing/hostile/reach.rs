//! What can be reached from within: processes, rights, files, sockets, addresses, secrets.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Notes, database, spy, sys};

/// How long an address may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest file that is searched for secrets, in bytes.
const SEARCHED: u64 = 4 << 20;

pub(crate) fn run(notes: &mut Notes) {
    spy::run(notes);
    rights(notes);
    files(notes);
    sockets(notes);
    addresses(notes);
    database::run(notes);
    variables(notes);
    secrets(notes);
}

fn rights(notes: &mut Notes) {
    const NEW_USER: i32 = 0x1000_0000;
    const NEW_MOUNTS: i32 = 0x0002_0000;
    notes.result("become root", sys::setuid(0));
    notes.result("own user namespace", sys::unshare(NEW_USER));
    notes.result("own mounts", sys::unshare(NEW_MOUNTS));
    notes.result("mount", sys::mount("/tmp"));
    notes.result("unmount the base's objects", sys::unmount("/opentiger/checkout/objects"));
    notes.result("unmount the login", sys::unmount("/home/worker/.claude"));
    notes.result("another root directory", sys::chroot("/tmp"));
    notes.result("fifo", sys::make_node("/tmp/fifo", 0o010_000, 0));
    notes.result("device", sys::make_node("/tmp/device", 0o020_000, 0x103));
    let program = fs::copy("/bin/true", "/tmp/setuid").and_then(|_| {
        fs::set_permissions("/tmp/setuid", fs::Permissions::from_mode(0o4755))
    });
    notes.result("file that changes users, of its own", program);
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/oom_score_adj"] {
        notes.result(&format!("write {path}"), fs::File::options().write(true).open(path));
    }
    for path in ["/proc/kcore", "/dev/mem", "/dev/kmsg"] {
        let seen = fs::File::open(path).and_then(|mut file| file.read(&mut [0; 16]));
        let seen = seen.map(|bytes| if bytes == 0 { "nothing in it" } else { "done" });
        match seen {
            Ok(word) => notes.word(&format!("read {path}"), word),
            Err(error) => notes.result::<()>(&format!("read {path}"), Err(error)),
        }
    }
    let cgroups = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let groups = cgroups.map(|entry| entry.path()).filter(|path| sys::writable(path)).count();
    notes.word("cgroups to write", &groups.to_string());
}

fn files(notes: &mut Notes) {
    notes.result("list the launch", fs::read_dir("/run/opentiger"));
    for name in ["exit.json", "out.log", "ctl", "intent.json"] {
        let path = format!("/run/opentiger/launch/{name}");
        notes.result(&format!("forge the launch's {name}"), append(&path));
    }
    for path in ["/opentiger/worker", "/usr/bin/git", "/usr/local/bin/claude", "/bin/sh"] {
        notes.result(&format!("replace {path}"), append(path));
    }
    for path in ["/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/etc/ld.so.preload"] {
        notes.result(&format!("write {path}"), append(path));
    }
    let login = "/home/worker/.claude/.credentials.json";
    notes.result("read the login", fs::read(login));
    notes.result("write the login", append(login));
    notes.result("remove the login", fs::remove_file(login));
    notes.result("file beside the login", fs::write("/home/worker/.claude/settings.json", "{}"));
    let object = some_object(Path::new("/opentiger/checkout/objects"));
    notes.result("read an object of the base", fs::read(&object));
    notes.result("write an object of the base", append(&object));
    notes.result("open up an object of the base", {
        fs::set_permissions(&object, fs::Permissions::from_mode(0o666))
    });
    notes.result("remove an object of the base", fs::remove_file(&object));
    notes.result("link an object of the base", fs::hard_link(&object, "linked"));
    notes.result("link of its own", fs::write("a", "").and_then(|()| fs::hard_link("a", "b")));
    drop((fs::remove_file("a"), fs::remove_file("b")));
    notes.result("object beside the base's", {
        fs::write("/opentiger/checkout/objects/alternates", "/etc\n")
    });
    notes.result("another directory of objects", {
        fs::rename("/opentiger/checkout/objects", "/opentiger/checkout/gone")
    });
    let places: BTreeSet<PathBuf> = tops(&places_to_write());
    for place in places {
        notes.word(&place.display().to_string(), "writable");
    }
}

fn append(path: impl AsRef<Path>) -> std::io::Result<()> {
    fs::File::options().append(true).create(true).open(path).map(drop)
}

fn some_object(objects: &Path) -> PathBuf {
    let packs = fs::read_dir(objects.join("pack")).into_iter().flatten().flatten();
    let fans = fs::read_dir(objects).into_iter().flatten().flatten();
    let loose = fans.filter(|fan| fan.file_name().len() == 2);
    let loose = loose.flat_map(|fan| fs::read_dir(fan.path()).into_iter().flatten().flatten());
    packs.chain(loose).next().expect("the base has objects").path()
}

/// Every entry below a directory that is no part of the kernel's own trees.
fn everything(below: &Path, look: &mut dyn FnMut(&Path, &fs::Metadata)) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { continue };
        if ["/proc", "/sys", "/usr/share"].iter().any(|tree| path.starts_with(tree)) {
            continue;
        }
        look(&path, &metadata);
        if metadata.is_dir() {
            everything(&path, look);
        }
    }
}

fn places_to_write() -> Vec<PathBuf> {
    let mut found = Vec::new();
    everything(Path::new("/"), &mut |path, metadata| {
        if metadata.is_dir() && sys::writable(path) {
            found.push(path.to_owned());
        }
    });
    found
}

/// Those that are not below others of them.
fn tops(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let below = |path: &Path| paths.iter().any(|top| path != top && path.starts_with(top));
    paths.iter().filter(|path| !below(path)).cloned().collect()
}

fn sockets(notes: &mut Notes) {
    let own = UnixListener::bind("/tmp/own.sock").expect("a socket can be made");
    notes.result("socket of its own", UnixStream::connect("/tmp/own.sock"));
    drop((own, fs::remove_file("/tmp/own.sock")));
    for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"] {
        notes.result(&format!("socket {path}"), UnixStream::connect(path));
    }
    everything(Path::new("/"), &mut |path, metadata| {
        if metadata.file_type().is_socket() {
            notes.word(&path.display().to_string(), "socket");
        }
    });
}

/// What lies behind the addresses that the test put into the repository, a name and an address a line.
fn addresses(notes: &mut Notes) {
    let list = fs::read_to_string("addresses").expect("the test names addresses");
    for line in list.lines() {
        let (name, address) = line.rsplit_once(' ').expect("a name and an address");
        let attempt = format!("connect to {name}");
        match connect(address) {
            Ok(stream) if name.contains("database") => {
                notes.word(&attempt, &knock(stream, "postgres"));
            }
            connected => notes.result(&attempt, connected),
        }
    }
}

pub(crate) fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut addresses = address.to_socket_addrs()?;
    let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Prints what the Postgres at an address wants of a stranger.
pub(crate) fn knock_at(address: &str) {
    let answer = connect(address);
    println!("{}", answer.map_or_else(|error| sys::word(&error), |stream| knock(stream, "postgres")));
}

/// Asks a Postgres for a session without a password, and tells what it wants.
fn knock(mut stream: TcpStream, user: &str) -> String {
    let body = format!("user\0{user}\0database\0postgres\0\0");
    let length = u32::try_from(body.len() + 8).expect("it is short");
    let mut start = length.to_be_bytes().to_vec();
    start.extend(196_608_u32.to_be_bytes());
    start.extend(body.as_bytes());
    let mut answer = [0; 9];
    match stream.write_all(&start).and_then(|()| stream.read_exact(&mut answer)) {
        Ok(()) if answer[0] == b'R' && answer[5..] == [0; 4] => "lets in".to_owned(),
        Ok(()) if answer[0] == b'R' => "asks for a password".to_owned(),
        Ok(()) => format!("answers {}", char::from(answer[0])),
        Err(error) => sys::word(&error),
    }
}

/// Variables that say where something of the host's is.
fn variables(notes: &mut Notes) {
    let telling = |name: &str| {
        ["DATABASE", "REDIS", "DOCKER", "OPENTIGER", "SECRET", "SSH", "PG"]
            .iter()
            .any(|part| name.contains(part))
    };
    let found: Vec<String> = env::vars().map(|(name, _)| name).filter(|name| telling(name)).collect();
    notes.word("variables of the host", &if found.is_empty() { "none".to_owned() } else { found.join(" ") });
}

/// The secrets that the test left in all kinds of places, wherever they show.
fn secrets(notes: &mut Notes) {
    let mut found = BTreeSet::new();
    let mut search = |content: &[u8]| found.extend(marked(content));
    for tree in ["/opentiger", "/home", "/tmp", "/run", "/etc", "/dev/shm", "/var", "/root", "/mnt"] {
        everything(Path::new(tree), &mut |path, metadata| {
            if metadata.is_file() && metadata.len() < SEARCHED {
                search(&fs::read(path).unwrap_or_default());
            }
        });
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        for file in ["environ", "cmdline", "mountinfo"] {
            search(&fs::read(process.path().join(file)).unwrap_or_default());
        }
    }
    for secret in found {
        notes.word(&secret, "secret");
    }
}

/// The secrets in a content: `canary`, a dash, and letters. The word is turned round, so as not to find this program.
fn marked(content: &[u8]) -> Vec<String> {
    let mark: Vec<u8> = b"-yranac".iter().rev().copied().collect();
    let places = content.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark);
    let rest = places.filter_map(|(at, _)| content.get(at..));
    let word = |rest: &[u8]| {
        let word = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || **byte == b'-');
        String::from_utf8_lossy(&word.copied().collect::<Vec<u8>>()).into_owned()
    };
    rest.map(word).collect()
}
