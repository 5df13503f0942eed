//! Applying steps to the directory, without a sync: the log holds them until the checkpoint has synced everything.
//!
//! Each step can be applied again, after any part of it was. Every file it makes gets its final name as the last thing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::{JournalError, SCRATCH, place, take};
use crate::disk::atomic;
use crate::wire::journal::Step;

/// Names of files that hold old content until the checkpoint overwrites it, or new content that is not in place yet.
const OWN_PREFIX: &str = "journal-";

/// Names of files that are being prepared: by `Place` before its record is synced, and by everything else that writes
/// first and renames then.
const UNFINISHED_PREFIX: &str = "new-";

/// What is known about earlier tries to apply a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// This process wrote the record, and knows that the step was not completed.
    Live,
    /// An earlier process wrote it under this boot: what it did is there, synced or not.
    SameBoot,
    /// The machine crashed since: any of what was not synced may be there or not.
    OtherBoot,
}

/// Applies steps below a root.
pub(super) struct Applier {
    root: PathBuf,
    /// Secrets without a name of their own any more, to be overwritten and unlinked by the checkpoint. Doing it at once
    /// would take a sync each.
    trash: Vec<PathBuf>,
    next_name: u64,
}

impl Applier {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), trash: Vec::new(), next_name: 0 }
    }

    /// Erases what an earlier process left half done. Nothing of it is needed: the log has the content.
    pub(super) fn sweep(&self) -> Result<(), JournalError> {
        self.erase_all(OWN_PREFIX)
    }

    /// Erases what an earlier process prepared and never recorded or renamed. Only after replay: until then the presence
    /// of such a file says that its `Place` was not done.
    pub(super) fn sweep_unfinished(&self) -> Result<(), JournalError> {
        self.erase_all(UNFINISHED_PREFIX)
    }

    fn erase_all(&self, prefix: &str) -> Result<(), JournalError> {
        let scratch = self.root.join(SCRATCH);
        let entries = fs::read_dir(&scratch).map_err(JournalError::io("reading", &scratch))?;
        for entry in entries {
            let entry = entry.map_err(JournalError::io("reading", &scratch))?;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if entry.file_name().to_string_lossy().starts_with(prefix) && !is_directory {
                atomic::erase(&entry.path()).map_err(JournalError::from_atomic)?;
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, step: &Step, mode: Mode) -> Result<(), JournalError> {
        match step {
            Step::Put { path, bytes, secret } => self.put(&self.root.join(path), bytes, *secret),
            Step::Append { path, offset, bytes } => {
                let path = self.root.join(path);
                append(&path, *offset, bytes).map_err(JournalError::io("extending", &path))
            }
            Step::Place { path, scratch, bytes } => {
                let (path, scratch) = (self.root.join(path), self.root.join(scratch));
                place::place(&path, &scratch, bytes, mode).map_err(JournalError::io("placing", &path))
            }
            Step::Take { path, scratch, identity, sha256 } => {
                let (path, scratch) = (self.root.join(path), self.root.join(scratch));
                take::take(&path, &scratch, identity, sha256).map_err(JournalError::io("taking", &path))
            }
            Step::Erase { path } => {
                let path = self.root.join(path);
                self.discard(&path).map_err(JournalError::io("erasing", &path))
            }
            Step::Remove { path } => {
                let path = self.root.join(path);
                let result = match atomic::remove(&path) {
                    Err(error) if error.raw_os_error() == Some(libc::EISDIR) => Ok(()),
                    result => result,
                };
                result.map_err(JournalError::io("removing", &path))
            }
            Step::MakeDirectory { path } => {
                let path = self.root.join(path);
                atomic::make_directories(&path).map(drop).map_err(JournalError::io("making", &path))
            }
        }
    }

    fn put(&mut self, path: &Path, bytes: &[u8], secret: bool) -> Result<(), JournalError> {
        let new = self.own_name();
        // Whatever happens to it, the checkpoint finds it: afterwards this name holds the old content or nothing.
        self.trash.push(new.clone());
        if let Err(cause) = in_directory(&new, || atomic::write_new(&new, bytes)) {
            // On a full disk this is tried again and again: the part that was written must not make it fuller.
            let _ = atomic::erase(&new);
            return Err(JournalError::io("writing", &new)(cause));
        }
        let exchanged = in_directory(path, || {
            if !secret {
                return fs::rename(&new, path);
            }
            if path.is_dir() {
                // An exchange would take it for a secret file.
                return Err(io::Error::from_raw_os_error(libc::EISDIR));
            }
            match rustix::fs::renameat_with(CWD, &new, CWD, path, RenameFlags::EXCHANGE) {
                Err(Errno::NOENT) => fs::rename(&new, path),
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.discard(path)?;
                    fs::rename(&new, path)
                }
                result => Ok(result?),
            }
        });
        exchanged.map_err(JournalError::io("replacing", path))
    }

    /// Takes a secret's name away and leaves the overwriting to the checkpoint. Absent is fine; a directory stays.
    fn discard(&mut self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(()),
            Ok(_) => {}
            Err(error) if atomic::is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let name = self.own_name();
        self.trash.push(name.clone());
        in_directory(&name, || match fs::symlink_metadata(path) {
            // Gone meanwhile.
            Err(error) if atomic::is_absent(&error) => Ok(()),
            _ => fs::rename(path, &name),
        })
    }

    /// First half of getting rid of old secrets: overwrites them. The caller syncs.
    pub(super) fn overwrite_trash(&self) -> Result<(), JournalError> {
        for path in &self.trash {
            atomic::overwrite(path).map_err(JournalError::io("overwriting", path))?;
        }
        Ok(())
    }

    /// Second half: unlinks them.
    pub(super) fn unlink_trash(&mut self) -> Result<(), JournalError> {
        while let Some(path) = self.trash.last() {
            atomic::remove(path).map_err(JournalError::io("removing", path))?;
            self.trash.pop();
        }
        Ok(())
    }

    fn own_name(&mut self) -> PathBuf {
        self.next_name += 1;
        self.root.join(SCRATCH).join(format!("{OWN_PREFIX}{}", self.next_name))
    }
}

/// Writes at the given place: a second time changes nothing, and a torn first time is completed.
fn append(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
    let open = || fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    in_directory(path, open)?.write_all_at(bytes, offset)
}

/// Does `work`, which makes the name `path`; if a directory on its way is missing, makes it and tries once more.
pub(super) fn in_directory<T>(path: &Path, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match work() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            atomic::make_directories(atomic::parent(path))?;
            work()
        }
        result => result,
    }
}
