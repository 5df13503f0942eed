//! One daemon per root: an advisory lock (flock(2)) that the kernel gives back when its holder dies, however it dies.
//!
//! The holder's process id stands in the file for people. It is a hint: the lock is the truth.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::FlockOperation;
use thiserror::Error;

use crate::limits::LOCK_TRIES_AT_ONCE;

/// The lock, held until dropped.
#[derive(Debug)]
pub struct RootLock {
    file: File,
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, where it is known.
    pub pid: Option<u32>,
}

/// Why there is no lock.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("locking {}: it is held by {}", path.display(), describe(*pid))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, where that is known.
        pid: Option<u32>,
    },
    /// Nobody holds it, and somebody looks whether anybody does: another try may find it free.
    #[error("locking {}: somebody looks at it all the time", path.display())]
    LookedAt {
        /// The lock file.
        path: PathBuf,
    },
    /// The file could not be opened, locked or written.
    #[error("locking {}: {cause}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl LockError {
    /// Whether trying again later may succeed.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Held { .. } | Self::LookedAt { .. } => true,
            Self::Io { cause, .. } => super::atomic::is_temporary(cause),
        }
    }
}

fn describe(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl RootLock {
    /// Takes the lock at `path`, a file that is made if need be and never removed: a removed lock file can be held
    /// twice.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |cause: io::Error| LockError::Io { path: path.to_owned(), cause };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(path).map_err(failed)?;
        for _ in 0..LOCK_TRIES_AT_ONCE {
            if try_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(failed)? {
                file.set_len(0).map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Self { file });
            }
            // If it can be shared, then only somebody's `is_held` stood in the way.
            if !try_lock(&file, FlockOperation::NonBlockingLockShared).map_err(failed)? {
                return Err(LockError::Held { path: path.to_owned(), pid: read_pid(&file) });
            }
            rustix::fs::flock(&file, FlockOperation::Unlock).map_err(|error| failed(error.into()))?;
            thread::yield_now();
        }
        Err(LockError::LookedAt { path: path.to_owned() })
    }
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // So that nobody takes the number for a running daemon's. If it fails it was only a hint.
        let _ = self.file.set_len(0);
    }
}

/// Who holds the lock at `path`; `None` if nobody does.
///
/// # Errors
/// [`LockError::Io`].
pub fn is_held(path: &Path) -> Result<Option<Holder>, LockError> {
    let failed = |cause: io::Error| LockError::Io { path: path.to_owned(), cause };
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let free = try_lock(&file, FlockOperation::NonBlockingLockShared).map_err(failed)?;
    Ok((!free).then(|| Holder { pid: read_pid(&file) }))
}

fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_with_the_holders_pid_and_free_again_after_a_drop() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert_eq!(is_held(&path).unwrap(), None);
        let lock = RootLock::acquire(&path).unwrap();
        let pid = Some(std::process::id());
        assert!(matches!(RootLock::acquire(&path), Err(LockError::Held { pid: held, .. }) if held == pid));
        assert_eq!(is_held(&path).unwrap(), Some(Holder { pid }));
        drop(lock);
        assert_eq!(is_held(&path).unwrap(), None);
        RootLock::acquire(&path).unwrap();
    }

    #[test]
    fn a_stale_pid_is_not_taken_for_a_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::fs::write(&path, "1\n").unwrap();
        assert_eq!(is_held(&path).unwrap(), None);
        RootLock::acquire(&path).unwrap();
    }

    #[test]
    fn somebody_who_looks_and_is_slow_is_no_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        drop(RootLock::acquire(&path).unwrap());
        let looking = File::open(&path).unwrap();
        assert!(try_lock(&looking, FlockOperation::NonBlockingLockShared).unwrap());
        let error = RootLock::acquire(&path).unwrap_err();
        assert!(matches!(error, LockError::LookedAt { .. }) && error.is_temporary(), "{error}");
        drop(looking);
        RootLock::acquire(&path).unwrap();
    }

    #[test]
    fn looking_at_a_lock_does_not_keep_anybody_from_taking_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        drop(RootLock::acquire(&path).unwrap());
        thread::scope(|scope| {
            let looker = scope.spawn(|| (0..2_000).filter(|_| is_held(&path).unwrap().is_some()).count());
            while !looker.is_finished() {
                match RootLock::acquire(&path) {
                    // On a machine that has others to serve.
                    Ok(_) | Err(LockError::LookedAt { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
}
