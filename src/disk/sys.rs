//! The system calls that no safe crate offers: file leases and the signal of their break (fcntl(2)).
//!
//! The one module of this crate with unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// The signal of a lease break. Its default action is to be ignored, where that of `SIGIO`, the kernel's choice, is to
/// kill the process. An ignored signal is dropped before it is queued, so the kernel's fallback to `SIGIO` for a full
/// queue cannot happen either.
const BREAK_SIGNAL: libc::c_int = libc::SIGURG;

/// `fcntl(F_SETSIG)`, from the kernel's `include/uapi/asm-generic/fcntl.h`; the `libc` crate lacks it on some targets.
const F_SETSIG: libc::c_int = 10;

/// Makes a lease break on `file` send `SIGURG`. To be called before a lease is taken.
pub(super) fn set_break_signal(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `file` is an open descriptor for the whole call, as `BorrowedFd` promises. `F_SETSIG` takes an int by
    // value and reads or writes no memory of ours. It changes a setting of this open file description only.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, BREAK_SIGNAL) }).map(drop)
}

/// Asks for a read lease on `file`: granted only while no process has it open for writing.
pub(super) fn take_read_lease(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `file` is an open descriptor for the whole call, as `BorrowedFd` promises. `F_SETLEASE` takes an int by
    // value and touches no memory of ours. Its one effect on the process, a signal on a break, is made harmless by
    // `set_break_signal`, which `lease` calls first.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) }).map(drop)
}

/// Gives the lease on `file` back.
pub(super) fn release_lease(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `file` is an open descriptor for the whole call, as `BorrowedFd` promises. `F_SETLEASE` takes an int by
    // value and touches no memory of ours; without a lease it fails, which is harmless.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) }).map(drop)
}

/// Whether `file` has a read lease that nobody has asked to break.
pub(super) fn has_read_lease(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: `file` is an open descriptor for the whole call, as `BorrowedFd` promises. `F_GETLEASE` takes no
    // argument (what stands in its place is not read), touches no memory of ours and changes nothing.
    let kind = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) })?;
    Ok(kind == libc::F_RDLCK)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
