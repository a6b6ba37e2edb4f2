//! System calls that the standard library has no name for.

use std::{
    ffi::{CString, c_char, c_int, c_long, c_void},
    io,
    path::Path,
    ptr::{null, null_mut},
};

#[repr(C)]
struct Span {
    start: *mut c_void,
    length: usize,
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn ptrace(request: c_int, pid: c_int, address: *mut c_void, data: *mut c_void) -> c_long;
    fn process_vm_readv(
        pid: c_int,
        local: *const Span,
        local_count: u64,
        remote: *const Span,
        remote_count: u64,
        flags: u64,
    ) -> isize;
    #[link_name = "kill"]
    fn c_kill(pid: c_int, signal: c_int) -> c_int;
    #[link_name = "signal"]
    fn c_signal(signal: c_int, handler: usize) -> usize;
    #[link_name = "setuid"]
    fn c_setuid(uid: u32) -> c_int;
    #[link_name = "unshare"]
    fn c_unshare(flags: c_int) -> c_int;
    #[link_name = "setsid"]
    fn c_setsid() -> c_int;
    #[link_name = "fork"]
    fn c_fork() -> c_int;
    #[link_name = "fcntl"]
    fn c_fcntl(fd: c_int, command: c_int, ...) -> c_int;
    #[link_name = "access"]
    fn c_access(path: *const c_char, mode: c_int) -> c_int;
    #[link_name = "chroot"]
    fn c_chroot(path: *const c_char) -> c_int;
    #[link_name = "mknod"]
    fn c_mknod(path: *const c_char, mode: u32, device: u64) -> c_int;
    #[link_name = "mount"]
    fn c_mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: u64,
        data: *const c_void,
    ) -> c_int;
    #[link_name = "umount2"]
    fn c_umount(target: *const c_char, flags: c_int) -> c_int;
}

pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGSTOP: i32 = 19;

/// The name of an error's number.
pub(crate) fn word(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else { return format!("{:?}", error.kind()) };
    let known = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (3, "ESRCH"),
        (6, "ENXIO"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (14, "EFAULT"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (18, "EXDEV"),
        (20, "ENOTDIR"),
        (22, "EINVAL"),
        (26, "ETXTBSY"),
        (28, "ENOSPC"),
        (30, "EROFS"),
        (38, "ENOSYS"),
        (99, "EADDRNOTAVAIL"),
        (101, "ENETUNREACH"),
        (110, "ETIMEDOUT"),
        (111, "ECONNREFUSED"),
        (113, "EHOSTUNREACH"),
    ];
    let name = known.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("error {number}"))
}

fn check(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn text(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().to_string_lossy().into_owned()).expect("no NUL in a path")
}

/// Traces a process without stopping it.
pub(crate) fn trace(pid: i32) -> io::Result<()> {
    const SEIZE: c_int = 0x4206;
    // SAFETY: this request takes no memory.
    check(unsafe { ptrace(SEIZE, pid, null_mut(), null_mut()) }).map(drop)
}

/// Reads a byte of another process.
pub(crate) fn read_across(pid: i32, address: usize) -> io::Result<()> {
    let mut byte = 0_u8;
    let local = Span { start: (&raw mut byte).cast(), length: 1 };
    let remote = Span { start: address as *mut c_void, length: 1 };
    // SAFETY: one byte of ours is written; the other address is not dereferenced here.
    check(unsafe { process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) } as i64).map(drop)
}

/// Takes a descriptor of another process.
pub(crate) fn take_descriptor(pid: i32, fd: i32) -> io::Result<()> {
    // SAFETY: neither call takes memory.
    let pidfd = check(unsafe { syscall(434, pid, 0) })?;
    check(unsafe { syscall(438, pidfd, fd, 0) }).map(drop)
}

pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { c_kill(pid, signal) }).map(drop)
}

/// Is deaf to a signal from now on.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: the number stands for ignoring.
    unsafe { c_signal(signal, 1) };
}

pub(crate) fn setuid(uid: u32) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { c_setuid(uid) }).map(drop)
}

/// Makes namespaces of its own.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { c_unshare(flags) }).map(drop)
}

/// Becomes a process that its parents do not know.
pub(crate) fn detach() {
    for _ in 0..2 {
        // SAFETY: the child of a program with one thread may do anything.
        if unsafe { c_fork() } > 0 {
            std::process::exit(0);
        }
        // SAFETY: takes no memory.
        unsafe { c_setsid() };
    }
}

/// Locks a file as a shim locks its launch.
pub(crate) fn lock(fd: i32) {
    #[repr(C)]
    struct Lock {
        kind: i16,
        whence: i16,
        start: i64,
        length: i64,
        pid: i32,
    }
    let lock = Lock { kind: 1, whence: 0, start: 0, length: 0, pid: 0 };
    // SAFETY: `lock` is laid out as the kernel's.
    unsafe { c_fcntl(fd, 6, &raw const lock) };
}

/// Whether a path can be written.
pub(crate) fn writable(path: &Path) -> bool {
    let path = text(path);
    // SAFETY: the path ends in NUL.
    unsafe { c_access(path.as_ptr(), 2) == 0 }
}

pub(crate) fn chroot(path: &str) -> io::Result<()> {
    let path = text(path);
    // SAFETY: the path ends in NUL.
    check(unsafe { c_chroot(path.as_ptr()) }).map(drop)
}

/// Makes a file of another kind: 0o010000 is a fifo, 0o020000 a device.
pub(crate) fn make_node(path: impl AsRef<Path>, kind: u32, device: u64) -> io::Result<()> {
    let path = text(path);
    // SAFETY: the path ends in NUL.
    check(unsafe { c_mknod(path.as_ptr(), kind | 0o666, device) }).map(drop)
}

/// Mounts memory on a directory.
pub(crate) fn mount(target: &str) -> io::Result<()> {
    let (kind, target) = (text("tmpfs"), text(target));
    // SAFETY: all texts end in NUL.
    check(unsafe { c_mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, null()) }).map(drop)
}

pub(crate) fn unmount(target: &str) -> io::Result<()> {
    let target = text(target);
    // SAFETY: the text ends in NUL.
    check(unsafe { c_umount(target.as_ptr(), 0) }).map(drop)
}

/// Ends this thread, the process's first, and leaves the others alone.
pub(crate) fn end_thread() -> ! {
    const EXIT: c_long = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
    // SAFETY: takes no memory; nothing of this thread is used by others.
    unsafe { syscall(EXIT, 0) };
    unreachable!("a thread that has ended")
}
