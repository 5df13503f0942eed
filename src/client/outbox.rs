//! The outbox as it stands on disk: which files are messages, in which order, and the `.error` files beside those that
//! cannot be sent (design, section 2, "Sending").
//!
//! Events only say where to look; what counts is what a look finds.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::error_file;
use super::metadata;
use super::root::Root;
use crate::clock::Timestamp;
use crate::disk::open::FileIdentity;
use crate::disk::system::{Entry, Kind};
use crate::limits::LEASE_RETRY_MS;
use crate::name::{self, is_ignored};

/// What the daemon knows of the outbox's files. Paths are relative to the root: `outbox/DIRECTORY/FILE`.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<PathBuf>,
    queued: HashSet<PathBuf>,
    waiting: BTreeMap<PathBuf, String>,
    /// Files that no lease can be had on, or that are empty: as they were first seen, and how many ticks ago.
    quiet: HashMap<PathBuf, (FileIdentity, u64)>,
    ignored: HashMap<PathBuf, usize>,
    errors: BTreeMap<PathBuf, String>,
}

/// What stands in one outbox directory.
#[derive(Debug, Default)]
struct Listing {
    /// With their modification times, nanoseconds since 1970.
    files: Vec<(i64, OsString)>,
    errors: Vec<OsString>,
    ignored: usize,
}

impl Outbox {
    /// Notes a file to be looked at, behind those noted before.
    pub fn note(&mut self, path: PathBuf) {
        if path.file_name().is_some_and(|name| !is_ignored(name)) && self.queued.insert(path.clone()) {
            self.queue.push_back(path);
        }
    }

    /// The next file to look at.
    pub fn next(&mut self) -> Option<PathBuf> {
        let path = self.queue.pop_front()?;
        self.queued.remove(&path);
        Some(path)
    }

    /// Reads every outbox directory and notes what it finds, by modification time, then by name with digits as numbers.
    /// Hands out the directories, relative to the root, hidden ones left out.
    ///
    /// # Errors
    /// Only if `outbox/` itself cannot be read.
    pub fn scan(&mut self, root: &Root) -> io::Result<Vec<PathBuf>> {
        let mut directories = Vec::new();
        let mut found: Vec<(i64, PathBuf)> = Vec::new();
        let mut errors = HashSet::new();
        self.ignored.clear();
        for Entry { name, kind, .. } in root.disk().entries(&root.outbox())? {
            let path = Path::new("outbox").join(&name);
            if name.as_bytes().ends_with(b".error") {
                errors.insert(path);
            } else if kind == Kind::Directory && !name.as_bytes().starts_with(b".") {
                let listing = list(root, &path);
                if listing.files.is_empty() {
                    self.clear(root, &path);
                }
                self.ignored.insert(path.clone(), listing.ignored);
                errors.extend(listing.errors.iter().map(|name| path.join(name)));
                found.extend(listing.files.into_iter().map(|(time, name)| (time, path.join(name))));
                directories.push(path);
            } else if !is_ignored(&name) {
                found.push((0, path));
            }
        }
        self.note_sorted(found);
        self.adopt_errors(root, errors);
        Ok(directories)
    }

    /// Reads one outbox directory and notes what it finds.
    pub fn scan_directory(&mut self, root: &Root, directory: &Path) {
        let listing = list(root, directory);
        self.ignored.insert(directory.to_owned(), listing.ignored);
        let found = listing.files.into_iter().map(|(time, name)| (time, directory.join(name)));
        self.note_sorted(found.collect());
        self.adopt_errors(root, listing.errors.iter().map(|name| directory.join(name)).collect());
    }

    fn note_sorted(&mut self, mut found: Vec<(i64, PathBuf)>) {
        let by_name = |left: &Path, right: &Path| {
            let text = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name::natural_order(&text(left), &text(right)).then_with(|| left.cmp(right))
        };
        found.sort_by(|left, right| left.0.cmp(&right.0).then_with(|| by_name(&left.1, &right.1)));
        found.into_iter().for_each(|(_, path)| self.note(path));
    }

    /// Remembers error files of ours that a former run left, and removes those whose file is gone.
    fn adopt_errors(&mut self, root: &Root, found: HashSet<PathBuf>) {
        let known: HashSet<PathBuf> = self.errors.keys().map(|target| error_file::beside(target)).collect();
        for path in found.difference(&known).filter(|path| error_file::is_ours(root, &root.join(path))) {
            let name = path.file_name().unwrap_or_default().as_bytes();
            let target = path.with_file_name(OsStr::from_bytes(name.strip_suffix(b".error").unwrap_or(name)));
            if root.is_taken(&target) {
                self.errors.insert(target, String::new());
            } else {
                error_file::remove(root, &root.join(path));
            }
        }
    }

    /// A file that cannot be sent now and will be tried again by itself, and why.
    pub fn wait(&mut self, path: PathBuf, reason: &str) {
        self.waiting.insert(path, reason.to_owned());
    }

    /// A file waits for nothing by itself any more: its directory is refused.
    pub fn stop_waiting(&mut self, path: &Path) {
        self.waiting.remove(path);
    }

    /// For how long a file has not changed, in milliseconds: by its own time, or, where that lies in the future of a
    /// clock that jumped, by how long we have looked at it.
    pub fn quiet_ms(&mut self, path: &Path, identity: FileIdentity, now: Timestamp) -> u64 {
        let modified = Timestamp::from_micros(u64::try_from(identity.modified_ns / 1_000).unwrap_or(0));
        let seen = self.quiet.entry(path.to_owned()).or_insert((identity, 0));
        if seen.0 != identity {
            *seen = (identity, 0);
        }
        // The first tick after the first look may follow at once.
        now.millis_since(modified).max(seen.1.saturating_sub(1) * LEASE_RETRY_MS)
    }

    /// A second has passed: notes all waiting files again.
    pub fn tick(&mut self) {
        self.quiet.retain(|path, _| self.waiting.contains_key(path));
        self.quiet.values_mut().for_each(|(_, ticks)| *ticks += 1);
        let waiting: Vec<PathBuf> = self.waiting.keys().cloned().collect();
        waiting.into_iter().for_each(|path| self.note(path));
    }

    /// A file or directory that is all right, or gone: nothing waits for it any more, and its error file goes.
    pub fn clear(&mut self, root: &Root, path: &Path) {
        self.waiting.remove(path);
        if self.errors.remove(path).is_some() {
            error_file::remove(root, &root.join(error_file::beside(path)));
        }
    }

    /// Puts `text`, what is wrong and what to do, into the error file beside `path`.
    pub fn refuse(&mut self, root: &Root, path: &Path, text: &str) {
        self.waiting.remove(path);
        if self.errors.get(path).is_some_and(|known| known == text) {
            return;
        }
        if error_file::write(root, &root.join(path), text) {
            self.errors.insert(path.to_owned(), text.to_owned());
        }
    }

    /// Remembers that a former run has put an error beside `path`.
    pub fn adopt(&mut self, path: PathBuf) {
        self.errors.entry(path).or_default();
    }

    /// Forgets errors of files that are no longer there.
    pub fn forget_gone(&mut self, root: &Root) {
        let gone = |path: &&PathBuf| !root.is_taken(path);
        let gone: Vec<PathBuf> = self.errors.keys().chain(self.waiting.keys()).filter(gone).cloned().collect();
        gone.iter().for_each(|path| self.clear(root, path));
    }

    /// Files that wait, and why.
    pub fn waiting(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.waiting.iter().map(|(path, reason)| (path.as_path(), reason.as_str()))
    }

    /// Files and directories with an error beside them.
    pub fn refused(&self) -> impl Iterator<Item = &Path> {
        self.errors.keys().map(PathBuf::as_path)
    }

    /// Whether a file or directory has an error beside it.
    pub fn is_refused(&self, path: &Path) -> bool {
        self.errors.contains_key(path)
    }

    /// How many files are ignored by their names.
    pub fn ignored(&self) -> usize {
        self.ignored.values().sum()
    }
}

/// A directory that vanished meanwhile holds nothing.
fn list(root: &Root, directory: &Path) -> Listing {
    let mut listing = Listing::default();
    for name in root.names(directory) {
        if name.as_bytes().ends_with(b".error") {
            // A file of a person's that is called so is none of ours, and is not sent.
            listing.ignored += usize::from(!error_file::is_ours(root, &root.join(directory).join(&name)));
            listing.errors.push(name);
        } else if !is_ignored(&name) {
            let stat = root.disk().stat(&root.join(directory).join(&name));
            listing.files.push((stat.map_or(0, |stat| stat.modified_ns), name));
        } else if name != metadata::FILE && name != super::directory::ID_FILE {
            listing.ignored += 1;
        }
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_looked_at_once_in_the_order_they_were_noted() {
        let mut outbox = Outbox::default();
        for name in ["outbox/bob/2", "outbox/bob/1", "outbox/bob/2", "outbox/bob/x.tmp"] {
            outbox.note(name.into());
        }
        assert_eq!(outbox.next(), Some("outbox/bob/2".into()));
        assert_eq!(outbox.next(), Some("outbox/bob/1".into()));
        assert_eq!(outbox.next(), None);
    }
}
