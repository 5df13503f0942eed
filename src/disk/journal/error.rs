//! What can go wrong with the journal, and what is then known about the transactions at hand.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::disk::atomic::{self, AtomicError};
use crate::wire::Malformed;

/// A failure of the journal.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk said no, before anything was recorded.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// The root is gone, or another directory has its name. Nothing was recorded, and nothing was made in its place.
    #[error(
        "writing to {}: the directory is gone, or another has its place; bring back the one that was here",
        root.display()
    )]
    RootGone {
        /// Where it was.
        root: PathBuf,
    },
    /// The root cannot be looked at, so that nobody knows whether it is still there. Nothing was recorded.
    #[error("opening {}: {cause}", root.display())]
    RootUnreadable {
        /// Where it was.
        root: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A transaction that no journal can hold.
    #[error("recording a transaction: it has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// Its size, serialized.
        size: u64,
        /// `JOURNAL_RECORD_BYTES_MAX`.
        limit: u64,
    },
    /// A transaction names a path outside the root, or twice the same scratch file.
    #[error("recording a transaction: {problem}")]
    Refused {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A record that had been synced cannot be read any more.
    #[error("reading {}: the record at byte {offset} is damaged, and intact ones follow", path.display())]
    Damaged {
        /// The log.
        path: PathBuf,
        /// Where, from the start of the file.
        offset: u64,
    },
    /// The log, or an intact record in it, is not what this program writes.
    #[error("reading {}: {cause}", path.display())]
    Malformed {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Malformed,
    },
    /// Writing or syncing the log failed. Whether the batch is in it is not known.
    #[error("recording a transaction: {cause}")]
    NotSynced {
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The log failed before; only opening the journal anew helps.
    #[error("recording a transaction: the log failed before, and must be opened again")]
    Poisoned,
    /// The batch is recorded, but not applied to its end. It will be, before anything else.
    #[error("applying a recorded transaction: {cause}")]
    Unapplied {
        /// Why.
        #[source]
        cause: Box<JournalError>,
    },
    /// The batch is recorded and applied; emptying the log failed.
    #[error("emptying the journal: {cause}")]
    NotEmptied {
        /// Why.
        #[source]
        cause: Box<JournalError>,
    },
}

/// What a failed [`super::Journal::commit`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: the same batch may be committed later.
    Nothing,
    /// It is recorded: it will happen, and must not be committed again.
    Recorded,
    /// Not known until the journal is opened anew. All state must be read from the disk again.
    Unknown,
}

impl JournalError {
    /// Whether waiting, and then committing, retrying or opening anew as [`Self::outcome`] says, may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Io { cause, .. } | Self::NotSynced { cause } => atomic::is_temporary(cause),
            Self::Unapplied { cause } | Self::NotEmptied { cause } => cause.is_temporary(),
            Self::Poisoned | Self::RootGone { .. } | Self::RootUnreadable { .. } => true,
            Self::TooLarge { .. } | Self::Refused { .. } | Self::Damaged { .. } | Self::Malformed { .. } => false,
        }
    }

    /// Whether the disk as a whole is to blame.
    pub fn is_disk_trouble(&self) -> bool {
        match self {
            Self::Io { cause, .. } | Self::NotSynced { cause } => atomic::is_disk_trouble(cause),
            Self::Unapplied { cause } | Self::NotEmptied { cause } => cause.is_disk_trouble(),
            _ => false,
        }
    }

    /// Whether a recorded step waits for a place that something else has, or that is not ours any more.
    pub fn is_in_the_way(&self) -> bool {
        match self {
            Self::Unapplied { cause } => match &**cause {
                Self::Io { cause, .. } => atomic::is_in_the_way(cause),
                _ => false,
            },
            _ => false,
        }
    }

    /// What a person can do about it, to be said before "it is tried again"; nothing where only the disk can.
    pub fn remedy(&self) -> &'static str {
        match self.is_in_the_way() {
            true => "see that nothing else has this name and that its directory is yours and writable; ",
            false => "",
        }
    }

    /// Whether there is no room on the disk.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { cause, .. } | Self::NotSynced { cause } => atomic::is_disk_full(cause),
            Self::Unapplied { cause } | Self::NotEmptied { cause } => cause.is_disk_full(),
            _ => false,
        }
    }

    /// What became of the batch.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSynced { .. } => Outcome::Unknown,
            Self::Unapplied { .. } | Self::NotEmptied { .. } => Outcome::Recorded,
            _ => Outcome::Nothing,
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { doing, path: path.to_owned(), cause }
    }

    pub(super) fn from_atomic(error: AtomicError) -> Self {
        match error {
            AtomicError::Io { doing, path, cause } => Self::Io { doing, path, cause },
            AtomicError::AlreadyExists { path } => {
                Self::Io { doing: "creating", path, cause: io::ErrorKind::AlreadyExists.into() }
            }
        }
    }
}
