//! Read leases: proof that nobody has a file open for writing (design, section 2, "Sending").
//!
//! While a lease is held, whoever opens the file for writing is made to wait until it is given back, at most
//! `/proc/sys/fs/lease-break-time` seconds. It is given back when the file that it was taken on is closed. [`is_held`]
//! tells whether somebody waits.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use thiserror::Error;

use super::sys;

/// Why there is no lease.
#[derive(Debug, Error)]
pub enum LeaseRefused {
    /// `EAGAIN`: somebody has the file open for writing, or is just opening it so.
    #[error("taking a lease: the file is open for writing")]
    Busy,
    /// `EACCES`: the file belongs to another user.
    #[error("taking a lease: the file belongs to another user")]
    NotOwner,
    /// `EINVAL`: the filesystem or the kind of file knows no leases.
    #[error("taking a lease: the filesystem does not support leases")]
    Unsupported,
    /// Anything else.
    #[error("taking a lease: {0}")]
    Io(#[source] io::Error),
}

impl LeaseRefused {
    /// Whether asking again later may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy | Self::Io(_))
    }
}

/// Takes a lease on `file`, which must be open for reading only. At most one per open file.
///
/// # Errors
/// [`LeaseRefused`].
pub(super) fn take(file: &File) -> Result<(), LeaseRefused> {
    sys::set_break_signal(file.as_fd()).map_err(LeaseRefused::Io)?;
    sys::take_read_lease(file.as_fd()).map_err(|error| match error.raw_os_error() {
        Some(libc::EAGAIN) => LeaseRefused::Busy,
        Some(libc::EACCES | libc::EPERM) => LeaseRefused::NotOwner,
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => LeaseRefused::Unsupported,
        _ => LeaseRefused::Io(error),
    })
}

/// Whether nobody has asked to write since: false while a writer waits for us, and after the kernel took the lease.
pub(super) fn is_held(file: &File) -> bool {
    sys::has_read_lease(file.as_fd()).unwrap_or(false)
}

/// Gives the lease back although the file stays open.
pub(super) fn give_back(file: &File) {
    // Without a lease, or with one that the kernel took already, it fails: no harm.
    let _ = sys::release_lease(file.as_fd());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt as _;

    #[test]
    fn a_lease_is_refused_while_the_file_is_open_for_writing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(matches!(take(&reader), Err(LeaseRefused::Busy)));
        drop(writer);
        take(&reader).unwrap();
        assert!(is_held(&reader));
    }

    #[test]
    fn a_lease_break_is_noticed_and_does_not_kill_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, "x").unwrap();
        let reader = File::open(&path).unwrap();
        take(&reader).unwrap();
        // O_NONBLOCK: the opening starts the break and fails instead of waiting for it.
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        assert!(!is_held(&reader));
        // Another lease is refused as long as the break is pending.
        let other = File::open(&path).unwrap();
        assert!(matches!(take(&other), Err(LeaseRefused::Busy)));
        drop(reader);
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    }

    #[test]
    fn a_lease_is_given_back_though_the_file_stays_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, "x").unwrap();
        let reader = File::open(&path).unwrap();
        take(&reader).unwrap();
        give_back(&reader);
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    }

    #[test]
    fn what_knows_no_leases_says_so() {
        let directory = File::open("/proc/self/fd").unwrap();
        let refused = take(&directory).unwrap_err();
        assert!(matches!(refused, LeaseRefused::Unsupported | LeaseRefused::NotOwner), "{refused:?}");
        assert!(!refused.is_temporary());
    }
}
