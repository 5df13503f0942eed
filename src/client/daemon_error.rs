//! Why the daemon does not run, and when waiting for the disk may help.

use std::path::PathBuf;

use thiserror::Error;

use super::state::StateError;
use crate::disk::atomic::{self, AtomicError};
use crate::disk::journal::JournalError;
use crate::disk::lock::LockError;
use crate::disk::open::OpenError;
use crate::disk::watch::WatchError;
use crate::net::dialer::NoTor;

/// Why the daemon does not run (any more).
#[derive(Debug, Error)]
pub enum DaemonError {
    /// No account.
    #[error("there is no account in {}", .0.display())]
    NoAccount(PathBuf),
    /// Another daemon runs.
    #[error("{0}")]
    Lock(#[from] LockError),
    /// The journal cannot be opened.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// A state file cannot be read.
    #[error("{0}")]
    State(#[from] StateError),
    /// The directory cannot be watched at all.
    #[error("{0}")]
    Watch(#[from] WatchError),
    /// A directory cannot be made.
    #[error("{0}")]
    Disk(#[from] AtomicError),
    /// The settings want Tor, which this program was built without.
    #[error("{0}")]
    NoTor(#[from] NoTor),
    /// The engine's thread ended with a fault of ours.
    #[error("the engine ended by a fault of the program")]
    Fault,
}

impl DaemonError {
    /// Whether the disk is to blame, so that waiting for it may help.
    pub(super) fn is_disk_trouble(&self) -> bool {
        let cause = match self {
            Self::Lock(LockError::Io { cause, .. }) => cause,
            Self::Disk(AtomicError::Io { cause, .. }) => cause,
            Self::State(
                StateError::Io { source: cause, .. } | StateError::Open { source: OpenError::Io(cause), .. },
            ) => cause,
            Self::Journal(error) => return error.is_disk_trouble(),
            _ => return false,
        };
        atomic::is_disk_trouble(cause)
    }

    /// Whether a recorded step waits for a place on the disk that something else has, or that is not ours any more.
    pub(super) fn is_in_the_way(&self) -> bool {
        matches!(self, Self::Journal(error) if error.is_in_the_way())
    }

    /// Whether somebody only looks at the lock, for longer than that takes.
    pub(super) fn is_looked_at(&self) -> bool {
        matches!(self, Self::Lock(LockError::LookedAt { .. }))
    }

    /// What a person can do about it, before "it is tried again"; nothing where only the disk can.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Journal(error) => error.remedy(),
            _ => "",
        }
    }
}
