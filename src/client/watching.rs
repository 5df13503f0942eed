//! Which directories are watched, and what becomes of those that cannot be: the user's share of inotify watches is used
//! up, say. They are looked at each second, as far as their time of modification says that names came or went.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::root::Root;
use crate::disk::watch::{WatchError, Watcher};
use crate::limits::UNWATCHED_LOOKS_MAX;

/// The watched and the unwatched directories of a root.
#[derive(Debug)]
pub struct Watching {
    watcher: Watcher,
    root: Root,
    /// When each was modified at the last look, nanoseconds since 1970.
    unwatched: BTreeMap<PathBuf, i64>,
    /// The last that was looked at.
    looked_at: PathBuf,
    /// Why the first of them is not watched.
    reason: Option<String>,
}

impl Watching {
    /// Nothing is watched yet.
    pub fn new(root: Root, watcher: Watcher) -> Self {
        Self { watcher, root, unwatched: BTreeMap::new(), looked_at: PathBuf::new(), reason: None }
    }

    /// Watches a directory, relative to the root, or notes that it is to be looked at. False if it is gone. inotify knows
    /// a directory made anew under an old name as another, so that a watch is asked for whenever one is found.
    pub fn watch(&mut self, directory: &Path) -> bool {
        match self.watcher.watch(&self.root.join(directory)) {
            Ok(watched) => {
                self.forget(directory);
                watched
            }
            Err(error) => {
                self.note(directory, &error);
                true
            }
        }
    }

    /// Why there are directories that are not watched.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Unwatched directories in which names came or went since the last look. Of very many only some at a time.
    pub fn changed(&mut self) -> Vec<PathBuf> {
        let behind = self
            .unwatched
            .range::<PathBuf, _>((std::ops::Bound::Excluded(&self.looked_at), std::ops::Bound::Unbounded));
        let next: Vec<PathBuf> = behind
            .chain(&self.unwatched)
            .map(|(path, _)| path.clone())
            .take(UNWATCHED_LOOKS_MAX.min(self.unwatched.len()))
            .collect();
        let mut changed = Vec::new();
        for directory in next {
            match self.root.disk().stat(&self.root.join(&directory)) {
                Ok(found) => {
                    if self.unwatched.insert(directory.clone(), found.modified_ns) != Some(found.modified_ns) {
                        changed.push(directory.clone());
                    }
                }
                Err(_) => self.forget(&directory),
            }
            self.looked_at = directory;
        }
        changed
    }

    fn note(&mut self, directory: &Path, error: &WatchError) {
        if self.reason.is_none() {
            tracing::warn!(%error, "a directory is not watched, and looked at each second instead");
            self.reason = Some(format!("{error}; what is not watched is looked at each second"));
        }
        // Looked at by the next look in any case.
        self.unwatched.insert(directory.to_owned(), i64::MIN);
    }

    fn forget(&mut self, directory: &Path) {
        if self.unwatched.remove(directory).is_some() && self.unwatched.is_empty() {
            self.reason = None;
        }
    }
}
