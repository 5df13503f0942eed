//! Private copies of large contents that have served: overwritten and removed, a portion at a time.
//!
//! `journal/large/` holds a copy of each content that `keys/large/` tells of. Whatever else lies there has served, or belongs to
//! something that was never recorded, and goes: so nothing is noted of what is to be removed.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::root::Root;
use crate::disk::atomic::{self, AtomicError};
use crate::limits::LARGE_TURN_BYTES;

/// What is to go.
#[derive(Debug, Default)]
pub struct Sweeping {
    files: VecDeque<PathBuf>,
    /// How much of the first is overwritten.
    offset: u64,
}

impl Sweeping {
    /// A file, relative to the root, which nothing on the disk tells of any more.
    pub fn add(&mut self, path: PathBuf) {
        self.files.push_back(path);
    }

    /// Whether a file is about to go.
    pub fn has(&self, path: &Path) -> bool {
        self.files.iter().any(|file| file == path)
    }

    /// Whether nothing is to go.
    #[cfg(test)]
    pub fn is_done(&self) -> bool {
        self.files.is_empty()
    }

    /// Overwrites a portion. True if there is more.
    pub fn go_on(&mut self, root: &Root) -> bool {
        let Some(path) = self.files.front() else { return false };
        match atomic::erase_portion(root.disk(), &root.join(path), self.offset, LARGE_TURN_BYTES) {
            Ok(Some(next)) => self.offset = next,
            Ok(None) => self.forget_first(),
            Err(AtomicError::Io { cause, .. }) if atomic::is_disk_full(&cause) => {
                // Where overwriting takes new room there is none: that it goes matters more to a full disk.
                tracing::warn!(error = %cause, "a copy that has served cannot be overwritten, and is removed as it is");
                if let Err(error) = root.disk().unlink(&root.join(path)) {
                    tracing::warn!(%error, "a copy that has served is not removed; the next start makes up for it");
                }
                self.forget_first();
            }
            Err(error) => {
                tracing::warn!(%error, "a copy that has served is not erased; the next start makes up for it");
                self.forget_first();
            }
        }
        !self.files.is_empty()
    }

    fn forget_first(&mut self) {
        self.files.pop_front();
        self.offset = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    #[test]
    fn holes_are_neither_filled_nor_read() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path());
        let size = 64 * LARGE_TURN_BYTES;
        let file = std::fs::File::create(root.join("copy")).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(&[1; 100], size / 2).unwrap();
        std::fs::hard_link(root.join("copy"), root.join("other")).unwrap();
        let mut sweeping = Sweeping::default();
        sweeping.add("copy".into());
        assert!(!sweeping.go_on(&root), "a portion is what is there");
        let other = std::fs::File::open(root.join("other")).unwrap();
        assert!(other.metadata().unwrap().blocks() * 512 < LARGE_TURN_BYTES);
        let mut bytes = [1; 100];
        other.read_exact_at(&mut bytes, size / 2).unwrap();
        assert_eq!(bytes, [0; 100]);
    }

    #[test]
    fn a_copy_is_overwritten_portion_by_portion_before_it_is_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path());
        let size = usize::try_from(LARGE_TURN_BYTES).unwrap() + 5;
        std::fs::write(root.join("copy"), vec![1; size]).unwrap();
        // A second name shows what became of the content.
        std::fs::hard_link(root.join("copy"), root.join("other")).unwrap();
        let mut sweeping = Sweeping::default();
        sweeping.add("absent".into());
        sweeping.add("copy".into());
        assert!(sweeping.go_on(&root) && sweeping.has(Path::new("copy")));
        assert!(sweeping.go_on(&root));
        let content = std::fs::read(root.join("other")).unwrap();
        assert_eq!(content.iter().filter(|byte| **byte == 1).count(), 5);
        assert!(!sweeping.go_on(&root) && sweeping.files.is_empty());
        assert!(!root.join("copy").exists());
        assert!(std::fs::read(root.join("other")).unwrap().iter().all(|byte| *byte == 0));
    }
}
