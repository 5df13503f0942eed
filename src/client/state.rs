//! What can be wrong with the daemon's own files.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::disk::open::OpenError;
use crate::wire::Malformed;

/// A state file cannot be read. The daemon stops rather than guesses.
#[derive(Debug, Error)]
pub enum StateError {
    /// The system refused.
    #[error("reading {}: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no plain file, or too large.
    #[error("reading {}: {source}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// Its content is not what the daemon wrote.
    #[error("reading {}: {source}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Malformed,
    },
}

impl StateError {
    #[cfg(feature = "daemon")]
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn open(path: &Path, source: OpenError) -> Self {
        Self::Open { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path, source: Malformed) -> Self {
        Self::Malformed { path: path.to_owned(), source }
    }
}
