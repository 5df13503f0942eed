//! Files of the daemon's own that are recorded, and not written before the checkpoint.
//!
//! Nobody but the daemon reads `keys/` and `journal/`, and it reads them at its start only, behind a replay. So between
//! two checkpoints the log alone holds what changed there: of a session that moved on a hundred times one file is
//! written and one overwritten, not a hundred, and an envelope that was accepted in the meantime never has a file.
//! What people and other programs read is applied at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// What a file is to become.
pub(super) enum Change {
    /// All of it.
    Whole {
        /// Its new content.
        bytes: Zeroizing<Vec<u8>>,
        /// Whether the old content must be overwritten before it is gone.
        secret: bool,
    },
    /// Additions, each at its place.
    Added(Vec<(u64, Vec<u8>)>),
}

/// Changes that wait for the checkpoint, by path relative to the root.
#[derive(Default)]
pub(super) struct Deferred {
    changes: BTreeMap<PathBuf, Change>,
}

/// Whether nobody but the daemon reads this file.
pub(super) fn is_private(path: &Path) -> bool {
    path.starts_with("keys") || path.starts_with("journal")
}

impl Deferred {
    /// The file gets new content.
    pub(super) fn put(&mut self, path: &Path, bytes: &Zeroizing<Vec<u8>>, secret: bool) {
        let before = self.changes.get(path);
        // What is on disk under this name was the last but one's to judge.
        let secret = secret || matches!(before, Some(Change::Whole { secret: true, .. }));
        self.changes.insert(path.to_owned(), Change::Whole { bytes: bytes.clone(), secret });
    }

    /// The file is extended.
    pub(super) fn append(&mut self, path: &Path, offset: u64, bytes: &[u8]) {
        match self.changes.get_mut(path) {
            None => {
                self.changes.insert(path.to_owned(), Change::Added(vec![(offset, bytes.to_vec())]));
            }
            Some(Change::Whole { bytes: whole, .. }) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
                whole.truncate(start);
                whole.extend_from_slice(bytes);
            }
            Some(Change::Added(parts)) => match parts.last_mut() {
                Some((start, part)) if *start + part.len() as u64 == offset => part.extend_from_slice(bytes),
                _ => parts.push((offset, bytes.to_vec())),
            },
        }
    }

    /// The file goes, or has been written. Says whether what is on disk under its name may be a secret that the change
    /// would have overwritten.
    pub(super) fn forget(&mut self, path: &Path) -> bool {
        matches!(self.changes.remove(path), Some(Change::Whole { secret: true, .. }))
    }

    /// Something that is to be written; it stays until [`Deferred::forget`].
    pub(super) fn first(&self) -> Option<(&Path, &Change)> {
        self.changes.first_key_value().map(|(path, change)| (path.as_path(), change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[test]
    fn the_last_content_counts_and_once_secret_is_secret() {
        let mut deferred = Deferred::default();
        deferred.put(Path::new("keys/x"), &bytes("one"), true);
        deferred.put(Path::new("keys/x"), &bytes("two"), false);
        let (path, change) = deferred.first().unwrap();
        assert_eq!(path, Path::new("keys/x"));
        assert!(matches!(change, Change::Whole { bytes, secret: true } if bytes.as_slice() == b"two"));
        assert!(deferred.forget(Path::new("keys/x")));
        assert!(deferred.first().is_none() && !deferred.forget(Path::new("keys/x")));
    }

    #[test]
    fn additions_join_and_extend_what_was_put() {
        let mut deferred = Deferred::default();
        let path = Path::new("keys/received-1");
        deferred.append(path, 40, b"ab");
        deferred.append(path, 42, b"cd");
        assert!(matches!(deferred.first(), Some((_, Change::Added(parts))) if *parts == [(40, b"abcd".to_vec())]));
        deferred.put(path, &bytes("0123"), false);
        deferred.append(path, 4, b"45");
        deferred.append(path, 4, b"45");
        let (_, change) = deferred.first().unwrap();
        assert!(matches!(change, Change::Whole { bytes, .. } if bytes.as_slice() == b"012345"));
    }

    #[test]
    fn only_the_daemons_own_directories_are_private() {
        assert!(is_private(Path::new("keys/sessions/x")) && is_private(Path::new("journal/spool/x")));
        assert!(!is_private(Path::new("conversations/keys/x")) && !is_private(Path::new("keysx")));
    }
}
