//! The few kernel calls that no safe crate in use here offers.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How a process ended, as `waitpid` told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    Exited(i32),
    Signaled(i32),
}

impl WaitStatus {
    /// The code a shell would show: 128 + n after signal n.
    pub fn code(self) -> i32 {
        match self {
            WaitStatus::Exited(code) => code,
            WaitStatus::Signaled(signal) => 128 + signal,
        }
    }

    /// The signal that ended it.
    pub fn signal(self) -> Option<i32> {
        match self {
            WaitStatus::Exited(_) => None,
            WaitStatus::Signaled(signal) => Some(signal),
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Reaps one ended child (`pid` -1: any); `None` when none has ended yet, an error of ECHILD when there is none at all.
pub fn wait_child(pid: i32, block: bool) -> io::Result<Option<(i32, WaitStatus)>> {
    let mut status = 0;
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: `status` outlives the call.
        let result = unsafe { libc::waitpid(pid, &mut status, flags) };
        return match result {
            0 => Ok(None),
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => Err(error),
            },
            pid if libc::WIFEXITED(status) => {
                Ok(Some((pid, WaitStatus::Exited(libc::WEXITSTATUS(status)))))
            }
            pid => Ok(Some((pid, WaitStatus::Signaled(libc::WTERMSIG(status))))),
        };
    }
}

/// Sends a signal; ESRCH when the process is gone.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Makes orphaned descendants children of this process.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Names this process for `ps`; at most 15 bytes are kept.
pub fn set_name(name: &CStr) {
    // SAFETY: `name` is a C string that outlives the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Starts a session without a terminal.
pub fn new_session() {
    // SAFETY: takes no pointers; fails harmlessly when this process already leads a group.
    unsafe { libc::setsid() };
}

/// Blocks `signals` and returns a descriptor on which they are read.
pub fn signal_descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: a zeroed sigset_t is valid memory for sigemptyset to initialise, and every pointer outlives its call.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            &set,
            std::ptr::null_mut(),
        ))?;
        let fd = check(libc::signalfd(
            -1,
            &set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Gives every signal its default action and unblocks all, as a new program expects.
pub fn reset_signals() {
    // The kernel's own structure, all zero: default action, no flags, empty mask. The C library's call would leave out 32 and 33.
    let default_action = [0_u64; 4];
    // SAFETY: the set is initialised before use; the structure is as large as the kernel's on every architecture, and failures
    // (SIGKILL, SIGSTOP) are harmless.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default_action.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            );
        }
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Leaves the shared namespaces named by `flags` (`CLONE_NEW*`).
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: takes no pointers; CLONE_FILES and CLONE_FS style sharing is not asked for by any caller.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Joins the namespace behind `fd`, or those named by `flags` of the process behind a pidfd.
pub fn set_namespace(fd: impl AsFd, flags: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call.
    check(unsafe { libc::setns(fd.as_fd().as_raw_fd(), flags) }).map(drop)
}

/// Forks a single-threaded process: 0 in the child.
///
/// # Safety
/// The calling process must have one thread only: the child goes on to allocate.
pub unsafe fn fork() -> io::Result<i32> {
    // SAFETY: the caller promises that there is one thread.
    check(unsafe { libc::fork() })
}

/// Replaces this process's image; returns only the error.
pub fn execve(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        list.iter()
            .map(|item| item.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<_>>()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both vectors end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Marks every descriptor from `first` up close-on-exec.
pub fn close_on_exec_from(first: u32) {
    // SAFETY: takes no pointers; marking descriptors does not invalidate any owner.
    unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
}

/// Closes every descriptor from `first` up.
///
/// # Safety
/// No live value may own one of them.
pub unsafe fn close_from(first: u32) {
    // SAFETY: the caller promises that nobody owns them.
    unsafe { libc::close_range(first, u32::MAX, 0) };
}

/// Lets the next exec keep `fd` (or not).
pub fn set_inheritable(fd: impl AsFd, inheritable: bool) -> io::Result<()> {
    let flags = if inheritable { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: the descriptor is open for the duration of the call.
    check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETFD, flags) }).map(drop)
}

/// Takes a descriptor by number, as told on the command line.
///
/// # Safety
/// The number must be an open descriptor that nothing else owns.
pub unsafe fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller promises an open descriptor without another owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Mounts; `None` arguments are null pointers.
pub fn mount(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&OsStr>,
    flags: u64,
) -> io::Result<()> {
    let source = source.map(c_path).transpose()?;
    let target = c_path(target)?;
    let kind = kind.map(|kind| c_path(Path::new(kind))).transpose()?;
    let pointer = |string: &Option<CString>| {
        string
            .as_ref()
            .map_or(std::ptr::null(), |string| string.as_ptr())
    };
    // SAFETY: all strings outlive the call and there is no data argument.
    check(unsafe {
        libc::mount(
            pointer(&source),
            target.as_ptr(),
            pointer(&kind),
            flags,
            std::ptr::null(),
        )
    })
    .map(drop)
}

/// Detaches the mount at `target`; fine when there is none.
pub fn unmount(target: &Path) -> io::Result<()> {
    let path = c_path(target)?;
    // SAFETY: the string outlives the call.
    match check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings the loopback interface of this network namespace up.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: ifreq is plain data for which zero is valid, and it outlives both calls; the socket is owned at once.
    unsafe {
        let socket = OwnedFd::from_raw_fd(check(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        ))?);
        let mut request: libc::ifreq = mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        check(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS,
            &mut request,
        ))?;
        request.ifr_ifru.ifru_flags |= (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS,
            &request,
        ))?;
    }
    Ok(())
}

/// Sets the host name of this uts namespace.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe `name`.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Sets the size of the terminal behind `fd`.
pub fn set_terminal_size(fd: impl AsFd, cols: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: `size` outlives the call.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) }).map(drop)
}

/// Raises the soft limit of open descriptors to the hard one.
pub fn raise_descriptor_limit() {
    // SAFETY: the structure is initialised by getrlimit before use and outlives both calls.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max.min(65536).max(limit.rlim_cur);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Sets group and user ids, all three of each, and the supplementary groups.
pub fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe `groups`.
    unsafe {
        check(libc::setgroups(groups.len(), groups.as_ptr()))?;
        check(libc::setresgid(gid, gid, gid))?;
        // Capabilities must survive the change of user until they are set on purpose.
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::setresuid(uid, uid, uid))?;
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0)).map(drop)
    }
}

/// Forbids gaining privileges by exec, for good.
pub fn set_no_new_privileges() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Loads a seccomp filter, as many whole instructions as `program` holds, with SECCOMP_FILTER_FLAG_* (seccomp(2)).
pub fn load_filter(program: &[u8], flags: u32) -> io::Result<()> {
    let length = u16::try_from(program.len() / mem::size_of::<libc::sock_filter>())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies `len` instructions, which is what the slice holds, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    check(result as libc::c_int).map(drop)
}

/// Gives up a capability for this process and all its descendants.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) })
        .map(drop)
}

/// Hides this process's memory from processes in namespaces that it joins.
pub fn set_undumpable() {
    // SAFETY: takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Gives this process's files in /proc to the user that it is now.
pub fn set_dumpable() {
    // SAFETY: takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
}

/// Sets the file creation mask.
pub fn set_umask(mask: u32) {
    // SAFETY: takes no pointers and cannot fail.
    unsafe { libc::umask(mask) };
}

/// Returns freed heap pages to the kernel.
#[cfg(target_env = "gnu")]
pub fn trim_heap() {
    // SAFETY: takes no pointers; glibc's own lock protects the heap.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn trim_heap() {}

/// Unmaps the pages of the program and its libraries that are just as they are in their files. They stay in the page cache and
/// come back one by one when they are needed again.
pub fn forget_clean_pages() {
    unsafe extern "C" fn forget(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        _: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the C library passes a valid structure; the headers that it points to are mapped while the object is. A segment
        // that is not writable was never written to (there are no text relocations), so its pages can be had from the file again.
        unsafe {
            let info = &*info;
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
            for header in headers {
                if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
                    continue;
                }
                let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
                let end = (start + header.p_memsz as usize).next_multiple_of(page);
                let start = start / page * page;
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
            }
        }
        0
    }
    // SAFETY: the callback keeps nothing and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut()) };
}

/// Lets the kernel reap children of this process.
pub fn ignore_children() {
    // SAFETY: SIG_IGN is no function of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Closes every descriptor but `kept`. Standard streams too: whoever reads from them must see their end.
///
/// # Safety
/// No live value that is used again may own another one.
pub unsafe fn close_all_but(kept: RawFd) {
    let kept = kept as u32;
    // SAFETY: the caller promises that nobody uses them.
    unsafe {
        if kept > 0 {
            libc::close_range(0, kept - 1, 0);
        }
        libc::close_range(kept + 1, u32::MAX, 0);
    }
}
