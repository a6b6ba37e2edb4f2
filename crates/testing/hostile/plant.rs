//! Traps for whoever reads what this sandbox leaves, the host's git before all.
//!
//! What a trap would execute makes two files: one in this sandbox, by which the traps are shown to spring for a careless
//! git, and one at a path of the host, where there must never be one.

use std::{
    env, fs,
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Notes, sys};

const BOX: &str = "/opentiger/checkout";
const STATE: &str = "/opentiger/state";
const SPRUNG: &str = "/tmp/sprung";
/// Levels of a tree that no path is long enough for.
const DEEP: u32 = 1500;

/// Sets traps of all kinds; `canary` is the path on the host, `other` a git directory there that is nobody's business.
pub(crate) fn run(notes: &mut Notes, canary: &str, other: &str) {
    let spring = format!("touch {SPRUNG} {canary}");
    in_git(&spring, other);
    let careless = [
        vec!["status"],
        vec!["add", "README.md"],
        vec!["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "x"],
    ];
    for arguments in careless {
        let mut git = Command::new("git");
        drop(git.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
    let is_sprung = Path::new(SPRUNG).exists();
    notes.word("traps, for a git that is careless", if is_sprung { "sprung" } else { "dull" });
    in_the_work_tree(&spring, other);
    beside_the_work_tree();
    at_home(&spring);
}

fn in_git(spring: &str, other: &str) {
    let program = format!("\"sh -c '{spring}' #\"");
    let config = format!(
        "[core]\n\tfsmonitor = {program}\n\tsshCommand = {program}\n\tpager = {program}\n\teditor = {program}\n\
         \talternateRefsCommand = {program}\n\
         [diff]\n\texternal = {program}\n[filter \"evil\"]\n\tclean = {program}\n\tsmudge = {program}\n\
         \tprocess = {program}\n\trequired = true\n[gpg]\n\tprogram = {program}\n\
         [credential]\n\thelper = {program}\n[remote \"evil\"]\n\turl = ext::sh -c {program}\n\tpromisor = true\n\
         [extensions]\n\tpartialClone = evil\n[includeIf \"gitdir:/\"]\n\tpath = {BOX}/home/.gitconfig\n\
         [protocol]\n\tallow = always\n[submodule]\n\trecurse = true\n[fetch]\n\trecurseSubmodules = true\n"
    );
    append(".git/config", &config);
    append(".git/info/attributes", "* filter=evil diff=evil merge=evil\n");
    for hook in ["pre-commit", "post-commit", "post-index-change", "reference-transaction", "post-checkout"] {
        script(&Path::new(".git/hooks").join(hook), spring);
    }
    fs::create_dir_all(".git/objects/info").expect("it is ours");
    append(".git/objects/info/alternates", &format!("{other}/objects\n"));
    link(other, ".git/refs/heads/other");
}

fn in_the_work_tree(spring: &str, other: &str) {
    append("new.txt", "new\n");
    link("/etc/passwd", "to-a-file");
    link("../../../../..", "to-all");
    link(other, "to-git");
    sys::make_node("fifo", 0o010_000, 0).expect("fifos can be made");
    drop(UnixListener::bind("socket").expect("sockets can be made"));
    for name in [&b"-n"[..], b"line\nend", b"\xff\xfe", b"a\tb", b"..."] {
        fs::write(std::ffi::OsStr::from_bytes(name), "").expect("it is ours");
    }
    append(".gitignore", "/ignored\n");
    fs::create_dir_all("ignored").expect("it is ours");
    let hole = fs::File::create("ignored/hole").and_then(|file| file.set_len(1 << 40));
    hole.expect("holes take no place");
    // A repository within, one that says that it is elsewhere, and one that is to be fetched.
    fs::create_dir_all("nested/.git/hooks").expect("it is ours");
    for name in ["objects", "refs"] {
        fs::create_dir_all(Path::new("nested/.git").join(name)).expect("it is ours");
    }
    append("nested/.git/HEAD", "ref: refs/heads/main\n");
    append("nested/.git/config", &format!("[core]\n\tfsmonitor = \"sh -c '{spring}' #\"\n"));
    append("nested/file", "nested\n");
    fs::create_dir_all("elsewhere").expect("it is ours");
    append("elsewhere/.git", &format!("gitdir: {other}\n"));
    append("elsewhere/file", "elsewhere\n");
    append(".gitmodules", "[submodule \"evil\"]\n\tpath = evil\n\turl = ./evil\n");
    append(".gitattributes", "* filter=evil diff=evil\n");
    // At last the git directory itself: a file that leads elsewhere.
    fs::rename(".git", Path::new(BOX).join("tmp/was-git")).expect("it is ours");
    append(".git", &format!("gitdir: {other}\n"));
}

fn beside_the_work_tree() {
    for (to, name) in [("/etc", "seal.git"), ("/etc/passwd", "quarantine.git"), ("/", "aside")] {
        link(to, &format!("{BOX}/{name}"));
    }
    for directory in [&format!("{BOX}/tmp"), STATE] {
        let directory = Path::new(directory);
        sys::make_node(directory.join("fifo"), 0o010_000, 0).expect("fifos can be made");
        link("/", &directory.join("root").to_string_lossy());
        let shut = directory.join("shut");
        fs::create_dir_all(shut.join("within")).expect("it is ours");
        fs::set_permissions(&shut, fs::Permissions::from_mode(0)).expect("it is ours");
        let start = env::current_dir().expect("it is there");
        env::set_current_dir(directory).expect("it is ours");
        for _ in 0..DEEP {
            fs::create_dir("d").expect("it is ours");
            env::set_current_dir("d").expect("it is ours");
        }
        env::set_current_dir(start).expect("it is there");
    }
}

fn at_home(spring: &str) {
    let home = Path::new(BOX).join("home");
    append(home.join(".gitconfig"), &format!("[core]\n\tfsmonitor = \"sh -c '{spring}' #\"\n"));
}

/// Puts something else in the place of the directory for the result.
pub(crate) fn instead_of_the_results() {
    append("new.txt", "new\n");
    let (result, moved) = (Path::new(BOX).join("result"), Path::new(BOX).join("tmp/moved"));
    fs::rename(&result, &moved).expect("it is ours");
    symlink(&moved, &result).expect("it is ours");
}

/// Puts a whole pack of another commit in the place of each that was sealed; called as a verification command.
pub(crate) fn other_results() {
    let other = Path::new("/tmp/other");
    fs::create_dir_all(other).expect("scratch can be written");
    fs::write(other.join("swapped"), "never sealed\n").expect("scratch can be written");
    let author = ["-c", "user.name=x", "-c", "user.email=x"];
    let steps: [&[&str]; 4] =
        [&["init", "-q"], &["add", "swapped"], &["commit", "-q", "-m", "swapped"], &["repack", "-adq"]];
    for step in steps {
        let done = Command::new("git").current_dir(other).args(author).args(step).status();
        assert!(done.expect("git is there").success(), "git {step:?}");
    }
    let ours = packs(&other.join(".git/objects/pack"));
    let sealed = packs(&Path::new(BOX).join("seal.git/result"));
    assert!(!ours.is_empty() && !sealed.is_empty(), "{ours:?} {sealed:?}");
    for pack in sealed {
        let new = pack.with_extension("new");
        fs::copy(&ours[0], &new).and_then(|_| fs::rename(new, pack)).expect("it is our user's");
    }
}

fn packs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|it| it == "pack")).collect()
}

fn append(path: impl AsRef<Path>, text: &str) {
    let file = fs::File::options().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("it is ours");
}

fn script(path: &Path, line: &str) {
    fs::create_dir_all(path.parent().expect("it is in a directory")).expect("it is ours");
    fs::write(path, format!("#!/bin/sh\n{line}\n")).expect("it is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

fn link(to: &str, path: &str) {
    drop(fs::remove_file(path));
    symlink(to, path).expect("it is ours");
}
