//! One look at a root: what all checks share.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, FileType, ReadDir};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::findings::{Finding, Findings, Severity};
use crate::client::metadata;
use crate::client::root::{self, Root};
use crate::disk::lock;
use crate::disk::open::{self, OpenError, RegularFile};
use crate::wire::identity::ConversationId;

/// What to do about a file that the system keeps from us.
pub(super) const READABLE: &str = "Make it yours and readable: chown, chmod u+rw.";

/// What is looked at, and what was found. Paths are relative to the root.
#[derive(Debug)]
pub(super) struct Checkup<'a> {
    pub(super) root: &'a Root,
    /// Whether to mend what is safe.
    pub(super) repair: bool,
    /// Whether a daemon runs.
    pub(super) daemon: Daemon,
    /// What the next start writes anew, whatever stands there now.
    pub(super) rewritten: HashSet<PathBuf>,
    /// All that it names.
    pub(super) named: HashSet<PathBuf>,
    pub(super) findings: Findings,
}

/// What the lock tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Daemon {
    Stopped,
    /// And its process id, where that is known.
    Running(Option<u32>),
    /// The lock cannot be read, so it may be running.
    Unknown,
}

impl Daemon {
    /// Looks at the lock now; the error says why it cannot be read.
    pub(super) fn look(root: &Root) -> Result<Self, String> {
        let path = root.lock();
        // Opening a FIFO would wait for a writer.
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err("it is no regular file".to_owned());
        }
        let held = lock::is_held(&path).map_err(|error| error.to_string())?;
        Ok(held.map_or(Self::Stopped, |holder| Self::Running(holder.pid)))
    }
}

/// Something in a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) path: PathBuf,
    pub(super) kind: FileType,
}

impl Entry {
    /// Its name as text; none if it is not UTF-8, which nothing of ours is.
    pub(super) fn text(&self) -> Option<&str> {
        self.name.to_str()
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.name.to_string_lossy().starts_with('.')
    }
}

impl<'a> Checkup<'a> {
    pub(super) fn begin(root: &'a Root, repair: bool) -> Self {
        let (rewritten, named) = (HashSet::new(), HashSet::new());
        let (daemon, findings) = (Daemon::Unknown, Findings::default());
        let mut checkup = Self { root, repair, daemon, rewritten, named, findings };
        if let Err(problem) = checkup.look_for_daemon() {
            let remedy = "Make journal/ and the file in it yours and readable: chmod u+rwX. If it is no regular file, \
                          remove it while no chatterboxd runs.";
            checkup.error("lock", Path::new("journal/lock"), problem, remedy);
        }
        checkup
    }

    /// Looks at the lock again.
    fn look_for_daemon(&mut self) -> Result<(), String> {
        let found = Daemon::look(self.root);
        self.daemon = found.as_ref().copied().unwrap_or(Daemon::Unknown);
        found.map(drop)
    }

    /// Whether a daemon runs, or may.
    pub(super) fn is_busy(&self) -> bool {
        self.daemon != Daemon::Stopped
    }

    /// Whether the daemon may know a conversation: its record stands there by now, or in the log, which nobody can read
    /// while a daemon writes it.
    pub(super) fn may_know(&self, id: &ConversationId) -> bool {
        let record = root::conversation_file(id);
        self.is_busy() || self.rewritten.contains(&record) || self.root.is_taken(&record)
    }

    pub(super) fn error(&mut self, kind: &'static str, path: &Path, problem: impl Into<String>, remedy: &str) {
        self.find(Severity::Error, kind, path, problem.into(), remedy);
    }

    pub(super) fn warning(&mut self, kind: &'static str, path: &Path, problem: impl Into<String>, remedy: &str) {
        self.find(Severity::Warning, kind, path, problem.into(), remedy);
    }

    pub(super) fn note(&mut self, kind: &'static str, path: &Path, problem: impl Into<String>, remedy: &str) {
        self.find(Severity::Note, kind, path, problem.into(), remedy);
    }

    fn find(&mut self, severity: Severity, kind: &'static str, path: &Path, problem: String, remedy: &str) {
        let (path, remedy) = (path.to_owned(), remedy.to_owned());
        self.findings.add(Finding { severity, kind, path, problem, remedy, repaired: false });
    }

    /// An error, unless the next start writes the file anew: a crash may leave anything in its place.
    pub(super) fn damaged(&mut self, kind: &'static str, path: &Path, problem: impl Into<String>, remedy: &str) {
        if self.rewritten.contains(path) {
            let remedy = "Nothing is lost: the journal has it, and the next start of chatterboxd writes it anew.";
            self.note("replay", path, problem, remedy);
        } else {
            self.error(kind, path, problem, remedy);
        }
    }

    /// The same for a person's directory, where nothing is lost: a warning, and silence about what the next start
    /// makes.
    pub(super) fn damaged_directory(&mut self, kind: &'static str, path: &Path, problem: &str, remedy: &str) {
        if !self.rewritten.contains(path) && !self.rewritten.contains(&path.join(metadata::FILE)) {
            self.warning(kind, path, problem, remedy);
        }
    }

    /// What stands in a directory, one after the other, so that its size does not matter. A missing directory is
    /// empty: whether it may be missing is asked elsewhere.
    pub(super) fn entries(&mut self, directory: &Path) -> Entries {
        let read = match fs::read_dir(self.root.join(directory)) {
            Ok(read) => Some(read),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
            Err(error) => {
                self.error(
                    "unreadable",
                    directory,
                    error.to_string(),
                    "Make it yours and readable: chown, chmod u+rwx.",
                );
                None
            }
        };
        Entries { directory: directory.to_owned(), read }
    }

    /// The content of one of the daemon's files. A file that has vanished since it was listed is passed over.
    pub(super) fn read(&mut self, kind: &'static str, path: &Path, limit: u64, remedy: &str) -> Option<Content> {
        let read = open::read_regular(self.root.disk(), &self.root.join(path), limit);
        self.found(kind, path, read, remedy)
    }

    /// The size of one of them, the same.
    pub(super) fn size(&mut self, kind: &'static str, path: &Path, remedy: &str) -> Option<u64> {
        let file = RegularFile::open(self.root.disk(), &self.root.join(path));
        let size = file.and_then(|file| Ok(file.stat().map_err(OpenError::Io)?.size));
        self.found(kind, path, size, remedy)
    }

    fn found<T>(&mut self, kind: &'static str, path: &Path, found: Result<T, OpenError>, remedy: &str) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err(OpenError::Absent) => None,
            Err(error) => {
                let remedy = if matches!(error, OpenError::Unreadable) { READABLE } else { remedy };
                self.damaged(kind, path, error.to_string(), remedy);
                None
            }
        }
    }

    /// What a running daemon changes all the time. What was found is dropped if one has started meanwhile.
    pub(super) fn while_no_daemon_runs(&mut self, check: impl FnOnce(&mut Self)) {
        if self.is_busy() {
            return;
        }
        let before = std::mem::take(&mut self.findings);
        check(self);
        let found = std::mem::replace(&mut self.findings, before);
        if self.look_for_daemon().is_ok() && !self.is_busy() {
            self.findings.append(found);
        }
    }
}

/// Bytes that may be secret.
pub(super) type Content = Zeroizing<Vec<u8>>;

/// See [`Checkup::entries`].
#[derive(Debug)]
pub(super) struct Entries {
    directory: PathBuf,
    read: Option<ReadDir>,
}

impl Iterator for Entries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            // An entry that cannot be read has vanished meanwhile.
            let Ok(entry) = self.read.as_mut()?.next()? else { continue };
            if let Ok(kind) = entry.file_type() {
                let name = entry.file_name();
                return Some(Entry { path: self.directory.join(&name), name, kind });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::lock::RootLock;

    #[test]
    fn what_was_found_while_a_daemon_started_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir(root.journal()).unwrap();
        let mut lock = None;
        let mut checkup = Checkup::begin(&root, false);
        checkup.while_no_daemon_runs(|checkup| {
            checkup.error("damaged", Path::new("journal"), "half of something", "");
            lock = Some(RootLock::acquire(&root.lock()).unwrap());
        });
        assert!(checkup.findings.is_healthy());
        assert_eq!(checkup.daemon, Daemon::Running(Some(std::process::id())));
        drop(lock);
        let mut checkup = Checkup::begin(&root, false);
        checkup.while_no_daemon_runs(|checkup| checkup.error("damaged", Path::new("journal"), "all of something", ""));
        assert!(!checkup.findings.is_healthy());
    }

    #[test]
    fn a_fifo_in_the_place_of_the_lock_does_not_hold_anybody_up() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir(root.journal()).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, root.lock(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let checkup = Checkup::begin(&root, false);
        assert!(checkup.is_busy() && !checkup.findings.is_healthy());
    }
}
