//! A session keyring of its own for what a runtime child becomes: it would inherit that of whoever started the daemon, with the
//! keys of a login, a mount or a ticket in it (keyrings(7)).

use std::io;

/// keyctl(2): joins a new anonymous session keyring.
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Leaves the inherited session keyring. Kernels without keys have nothing to leave.
pub fn leave_inherited() -> io::Result<()> {
    // SAFETY: the name is a null pointer, which the kernel takes for "anonymous".
    let joined = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match io::Error::last_os_error() {
        _ if joined >= 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        error => Err(error),
    }
}
