//! What the new process may do between fork and exec: these calls allocate nothing.

use std::ffi::{CStr, c_char};

use super::{Pid, c};

/// Forks. The shim has one thread, so the new process is whole.
pub(crate) fn fork() -> Pid {
    // SAFETY: there is one thread, so no lock can be held by a thread that is not there.
    unsafe { c::fork() }
}

/// Forks into a cgroup of version 2; `None`: this kernel or this cgroup does not do that.
///
/// Moving a process afterwards makes the kernel wait for a grace period, which takes
/// milliseconds on a busy machine; being born there takes none.
pub(crate) fn fork_into(cgroup: &std::fs::File) -> Option<Pid> {
    use std::os::fd::AsRawFd as _;
    const CLONE3: i64 = 435;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut args = [0u64; 11];
    args[0] = INTO_CGROUP;
    args[4] = super::SIGCHLD as u64;
    args[10] = u64::try_from(cgroup.as_raw_fd()).ok()?;
    // SAFETY: as with `fork`; the arguments are laid out as the kernel's 88 bytes, and without
    // a stack of its own the child goes on here.
    let pid = unsafe { c::syscall(CLONE3, args.as_ptr(), size_of_val(&args)) };
    (pid >= 0).then_some(pid as Pid)
}

pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { c::_exit(code) }
}

pub(crate) fn parent() -> Pid {
    // SAFETY: takes no memory.
    unsafe { c::getppid() }
}

pub(crate) fn own_group() {
    // SAFETY: takes no memory.
    unsafe { c::setpgid(0, 0) };
}

pub(crate) fn exec(path: &CStr, argv: &[*const c_char], envp: &[*const c_char]) {
    // SAFETY: both lists end in null and point to strings that end in NUL.
    unsafe { c::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
}

pub(crate) fn chdir(path: &CStr) -> bool {
    // SAFETY: the path ends in NUL.
    unsafe { c::chdir(path.as_ptr()) == 0 }
}

pub(crate) fn may(path: &CStr, mode: i32) -> bool {
    // SAFETY: the path ends in NUL.
    unsafe { c::access(path.as_ptr(), mode) == 0 }
}

pub(crate) fn standard(from: i32, to: i32) -> bool {
    // SAFETY: takes no memory.
    unsafe { c::dup2(from, to) == to }
}

pub(crate) fn become_user(uid: u32, gid: u32) -> bool {
    // SAFETY: an empty list is read nowhere.
    let groups = unsafe { c::setgroups(0, std::ptr::null()) == 0 };
    // SAFETY: takes no memory.
    let group = unsafe { c::setresgid(gid, gid, gid) == 0 };
    // SAFETY: takes no memory.
    let user = unsafe { c::setresuid(uid, uid, uid) == 0 };
    // A user that stays what it is needs no right to drop the groups.
    group && user && (groups || super::effective_user() != 0)
}

/// Writes into a file that is there already.
pub(crate) fn write_file(path: &CStr, bytes: &[u8]) -> bool {
    const WRITE_CLOEXEC: i32 = 0o2_000_001;
    // SAFETY: the path ends in NUL.
    let fd = unsafe { c::open(path.as_ptr(), WRITE_CLOEXEC) };
    fd >= 0 && super::write(fd, bytes).is_ok_and(|count| count == bytes.len())
}
