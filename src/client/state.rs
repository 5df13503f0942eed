//! What can be wrong with the daemon's own files.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

#[cfg(feature = "daemon")]
use crate::disk::open::RegularFile;
use crate::disk::open::{self, OpenError};
use crate::disk::system::Disk;
use crate::limits::STATE_FILE_BYTES_MAX;
use crate::wire::Malformed;

/// Entries that [`read_entries`] reads at a time.
#[cfg(feature = "daemon")]
const ENTRIES_AT_ONCE: usize = 4_096;

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

/// The files of a state directory: path and name, of those whose name is text. What is not has never been ours.
///
/// # Errors
/// [`StateError::Io`].
#[cfg(feature = "daemon")]
pub(crate) fn files(disk: &dyn Disk, directory: &Path) -> Result<Vec<(PathBuf, String)>, StateError> {
    let entries = disk.entries(directory).map_err(|source| StateError::io(directory, source))?;
    let named = entries.into_iter().filter_map(|entry| entry.name.into_string().ok());
    Ok(named.map(|name| (directory.join(&name), name)).collect())
}

/// The content of a state file. None is ever empty: one that is has lost its content, and would pass for nothing at all.
///
/// # Errors
/// [`StateError::Open`], [`StateError::Malformed`].
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Zeroizing<Vec<u8>>, StateError> {
    let read = open::read_regular(disk, path, STATE_FILE_BYTES_MAX).map_err(|error| StateError::open(path, error))?;
    if read.is_empty() {
        return Err(StateError::malformed(path, Malformed::new("state file", "it is empty")));
    }
    Ok(read)
}

/// The entries of a state file that grows with what happens, a portion at a time: it is never too large to be read. Hands out
/// its length.
///
/// # Errors
/// [`StateError`].
#[cfg(feature = "daemon")]
pub(crate) fn read_entries<const N: usize>(
    disk: &dyn Disk,
    path: &Path,
    mut take: impl FnMut(&[u8; N]),
) -> Result<u64, StateError> {
    let file = RegularFile::open(disk, path).map_err(|error| StateError::open(path, error))?;
    let mut portion = Zeroizing::new(vec![0; N * ENTRIES_AT_ONCE]);
    let mut length = 0;
    loop {
        let read = file.read_at(length, &mut portion).map_err(|source| StateError::io(path, source))?;
        let (entries, rest) = portion[..read].as_chunks::<N>();
        if !rest.is_empty() {
            return Err(StateError::malformed(path, Malformed::new("state file", "it ends within an entry")));
        }
        entries.iter().for_each(&mut take);
        length += u64::try_from(read).unwrap_or(0);
        if read < portion.len() {
            break;
        }
    }
    match length {
        0 => Err(StateError::malformed(path, Malformed::new("state file", "it is empty"))),
        length => Ok(length),
    }
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
