//! Applying steps to the directory, without a sync: the log holds them until the checkpoint has synced everything.
//!
//! Each step can be applied again, after any part of it was. Every file it makes gets its final name as the last thing.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::deferred::{self, Change, Deferred};
use super::expire::expire;
use super::take::{Take, Taking};
use super::{JournalError, SCRATCH, moving, place};
use crate::disk::atomic::{self, UNFINISHED_PREFIX};
use crate::disk::open::{self, OpenError};
use crate::disk::system::{Disk, Kind};
use crate::limits::TAKE_TRIES_MAX;
use crate::wire::journal::{DirectoryIdentity, Step};

/// Names of messages that have come of age and are to be overwritten by the checkpoint. While the log knows of one it is to be
/// compared before it goes.
const EXPIRED_PREFIX: &str = "expired-";

/// Names of files that hold old content until the checkpoint overwrites it, or new content that is not in place yet.
const OWN_PREFIX: &str = "journal-";

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
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// What is written by the checkpoint.
    deferred: Deferred,
    /// Secrets without a name of their own any more, to be overwritten and unlinked by the checkpoint. Doing it at once
    /// would take a sync each.
    trash: Vec<PathBuf>,
    /// Directories that messages in the trash come from, and which are to be synced before these are overwritten.
    expired: BTreeSet<PathBuf>,
    next_name: u64,
    /// Files that the log holds bytes of.
    written: HashSet<PathBuf>,
    /// What taking outbox files needs to know, and those that are not settled.
    pub(super) taking: Taking,
}

impl Applier {
    pub(super) fn new(disk: Arc<dyn Disk>, root: &Path) -> Self {
        let taking = Taking::new(disk.clone(), root);
        Self {
            disk,
            root: root.to_owned(),
            deferred: Deferred::default(),
            trash: Vec::new(),
            expired: BTreeSet::new(),
            next_name: 0,
            written: HashSet::new(),
            taking,
        }
    }

    /// Erases what an earlier process left half done. Nothing of it is needed: the log has the content.
    pub(super) fn sweep(&self) -> Result<(), JournalError> {
        self.erase_all(OWN_PREFIX)
    }

    /// Erases what an earlier process prepared and never recorded or renamed. Only after replay: until then the presence
    /// of such a file says that its `Place` was not done.
    pub(super) fn sweep_unfinished(&self) -> Result<(), JournalError> {
        self.erase_all(UNFINISHED_PREFIX)?;
        // The power failed between the end of a checkpoint and the sync of what it has unlinked.
        self.erase_all(EXPIRED_PREFIX)
    }

    fn erase_all(&self, prefix: &str) -> Result<(), JournalError> {
        let scratch = self.root.join(SCRATCH);
        for entry in self.disk.entries(&scratch).map_err(JournalError::io("reading", &scratch))? {
            if entry.name.to_string_lossy().starts_with(prefix) && entry.kind != Kind::Directory {
                atomic::erase(&*self.disk, &scratch.join(entry.name)).map_err(JournalError::from_atomic)?;
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, step: &Step, mode: Mode) -> Result<(), JournalError> {
        match step {
            Step::Put { path, bytes, secret } if deferred::is_private(path) => {
                self.deferred.put(path, bytes, *secret);
                Ok(())
            }
            Step::Append { path, offset, bytes } if deferred::is_private(path) => {
                self.deferred.append(path, *offset, bytes);
                Ok(())
            }
            Step::Put { path, bytes, secret } => self.put(&self.root.join(path), bytes, *secret),
            Step::Append { path, offset, bytes } => self.append(path, *offset, bytes),
            Step::Write { path, offset, bytes } => {
                self.written.insert(path.clone());
                self.append(path, *offset, bytes)
            }
            Step::Place { path, scratch, bytes } => {
                self.written.insert(path.clone());
                let (path, scratch) = (self.root.join(path), self.root.join(scratch));
                place::place(&*self.disk, &self.root, &path, &scratch, bytes, mode)
                    .map_err(JournalError::io("placing", &path))
            }
            Step::Move { path, from } => {
                let (path, from) = (self.root.join(path), self.root.join(from));
                moving::move_synced(&*self.disk, &self.root, &path, &from).map_err(JournalError::io("placing", &path))
            }
            Step::Take { path, scratch, identity, sha256, directory, only_link } => {
                let take = Take {
                    path: path.clone(),
                    scratch: scratch.clone(),
                    identity: *identity,
                    sha256: *sha256,
                    directory: *directory,
                    only_link: *only_link,
                };
                self.taking.take(take, mode).map_err(JournalError::io("taking", &self.root.join(path)))
            }
            Step::Erase { path } => {
                self.deferred.forget(path);
                self.discard(&self.root.join(path)).map_err(JournalError::io("erasing", &self.root.join(path)))
            }
            Step::Expire { path, aside, identity } => {
                let (path, aside) = (self.root.join(path), self.root.join(aside));
                match expire(&*self.disk, &self.root, (&path, &aside), identity, mode) {
                    Ok(true) => self.set_aside(&path, aside),
                    result => result.map(drop),
                }
                .map_err(JournalError::io("erasing", &path))
            }
            Step::Remove { path } => {
                let was_secret = self.deferred.forget(path);
                let is_persons = !deferred::is_private(path);
                let path = self.root.join(path);
                let result = match was_secret {
                    true => self.discard(&path),
                    false => atomic::remove(&*self.disk, &path),
                };
                match result {
                    Err(error) if error.raw_os_error() == Some(libc::EISDIR) => Ok(()),
                    Err(error) if is_persons && atomic::is_in_the_way(&error) => {
                        // Somebody has taken our right to. That holds up nothing.
                        tracing::warn!(%error, "a file that has served cannot be removed");
                        Ok(())
                    }
                    result => result.map_err(JournalError::io("removing", &path)),
                }
            }
            Step::Mark { path, directory, bytes } => {
                match self.mark(path, directory, bytes, mode) {
                    Err(error) if atomic::is_in_the_way(&error) => {
                        // The directory is found by its name and what is in it, as one that another program has made.
                        tracing::warn!(%error, "a directory of the outbox cannot be marked");
                        Ok(())
                    }
                    result => result.map_err(JournalError::io("marking", &self.root.join(path))),
                }
            }
            Step::MakeDirectory { path } => {
                let path = self.root.join(path);
                atomic::make_directories(&*self.disk, &self.root, &path)
                    .map(drop)
                    .map_err(JournalError::io("making", &path))
            }
        }
    }

    /// Whether the log holds bytes that are written into this file, at its replay too.
    pub(super) fn is_written(&self, path: &Path) -> bool {
        self.written.contains(path)
    }

    /// The log holds nothing any more.
    pub(super) fn emptied(&mut self) {
        self.written.clear();
    }

    /// Writes what was deferred. What could not be written stays deferred.
    pub(super) fn write_deferred(&mut self) -> Result<(), JournalError> {
        let mut deferred = std::mem::take(&mut self.deferred);
        let result = self.write_all(&mut deferred);
        self.deferred = deferred;
        result
    }

    fn write_all(&mut self, deferred: &mut Deferred) -> Result<(), JournalError> {
        while let Some((path, change)) = deferred.first() {
            match change {
                Change::Whole { bytes, secret } => self.put(&self.root.join(path), bytes, *secret)?,
                Change::Added(parts) => {
                    parts.iter().try_for_each(|(offset, bytes)| self.append(path, *offset, bytes))?
                }
            }
            let path = path.to_owned();
            deferred.forget(&path);
        }
        Ok(())
    }

    fn mark(&mut self, path: &Path, directory: &DirectoryIdentity, bytes: &[u8], mode: Mode) -> io::Result<()> {
        for _ in 0..TAKE_TRIES_MAX {
            let Some(directory) = self.taking.find_directory(path, directory, mode)? else { return Ok(()) };
            match self.mark_in(&directory.join(path.file_name().unwrap_or_default()), bytes, mode) {
                // Renamed in this very moment: another look. The next file in it must find the mark.
                Err(error) if atomic::is_absent(&error) => self.taking.forget_listings(),
                result => return result,
            }
        }
        Ok(())
    }

    /// Absent is an error only where the directory is.
    fn mark_in(&mut self, path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
        match open::read_regular(&*self.disk, path, bytes.len() as u64) {
            Err(OpenError::Absent) => {}
            Err(OpenError::Io(error)) => return Err(error),
            // Lost blocks of it after a power failure.
            Ok(there) if mode == Mode::OtherBoot && place::is_remains(&there, bytes) => {}
            _ => return Ok(()),
        }
        let new = self.own_name();
        self.trash.push(new.clone());
        let disk = self.disk.clone();
        let written = in_directory(&*disk, &self.root, &new, || atomic::write_new(&*disk, &new, bytes));
        match written.and_then(|()| disk.rename(&new, path)) {
            Ok(()) => drop(self.trash.pop()),
            Err(error) => {
                self.abandon(&new);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes at the given place: a second time changes nothing, and a torn first time is completed.
    fn append(&self, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), JournalError> {
        let path = self.root.join(path);
        let open = || match self.disk.open_to_write(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create_new(&path),
            result => result,
        };
        let written = in_directory(&*self.disk, &self.root, &path, open).and_then(|file| file.write_at(offset, bytes));
        written.map_err(JournalError::io("extending", &path))
    }

    fn put(&mut self, path: &Path, bytes: &[u8], secret: bool) -> Result<(), JournalError> {
        let new = self.own_name();
        // Whatever happens to it, the checkpoint finds it: afterwards this name holds the old content or nothing.
        self.trash.push(new.clone());
        let disk = self.disk.clone();
        if let Err(cause) = in_directory(&*disk, &self.root, &new, || atomic::write_new(&*disk, &new, bytes)) {
            self.abandon(&new);
            return Err(JournalError::io("writing", &new)(cause));
        }
        let root = self.root.clone();
        let exchanged = in_directory(&*disk, &root, path, || {
            if !secret {
                return disk.rename(&new, path);
            }
            if disk.stat(path).is_ok_and(|there| there.kind == Kind::Directory) {
                // An exchange would take it for a secret file.
                return Err(io::Error::from_raw_os_error(libc::EISDIR));
            }
            match disk.exchange(&new, path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => disk.rename(&new, path),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.discard(path)?;
                    disk.rename(&new, path)
                }
                result => result,
            }
        });
        match &exchanged {
            // A rename left nothing under the other name.
            Ok(()) if !secret => drop(self.trash.pop()),
            Ok(()) => {}
            Err(_) => self.abandon(&new),
        }
        exchanged.map_err(JournalError::io("replacing", path))
    }

    /// Erases what was written for a step that is refused. It is tried again and again, on a full disk too: neither the
    /// disk nor the trash may grow by that.
    fn abandon(&mut self, new: &Path) {
        if atomic::erase(&*self.disk, new).is_ok() {
            self.trash.retain(|path| path != new);
        }
    }

    /// Takes a secret's name away and leaves the overwriting to the checkpoint. Absent is fine; a directory stays.
    fn discard(&mut self, path: &Path) -> io::Result<()> {
        match self.disk.stat(path) {
            Ok(there) if there.kind == Kind::Directory => return Ok(()),
            Ok(_) => {}
            Err(error) if atomic::is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let name = self.own_name();
        self.trash.push(name.clone());
        in_directory(&*self.disk, &self.root, &name, || match self.disk.stat(path) {
            // Gone meanwhile.
            Err(error) if atomic::is_absent(&error) => Ok(()),
            _ => self.disk.rename(path, &name),
        })
    }

    /// A message was moved, and nothing of it is overwritten before that is on the disk.
    fn set_aside(&mut self, path: &Path, aside: PathBuf) -> io::Result<()> {
        let directories = [atomic::parent(path), atomic::parent(&aside)];
        if aside.starts_with(self.root.join(SCRATCH)) {
            self.expired.extend(directories.map(Path::to_owned));
            self.trash.push(aside);
            return Ok(());
        }
        directories.iter().try_for_each(|directory| sync_if_there(&*self.disk, directory))
    }

    /// Syncs the names of messages that are about to be overwritten.
    ///
    /// # Errors
    /// [`JournalError::Io`], as of every sync.
    pub(super) fn sync_expired(&mut self) -> Result<(), JournalError> {
        for directory in std::mem::take(&mut self.expired) {
            sync_if_there(&*self.disk, &directory).map_err(JournalError::io("syncing", &directory))?;
        }
        Ok(())
    }

    /// First half of getting rid of old secrets: overwrites them. The caller syncs.
    pub(super) fn overwrite_trash(&self) -> Result<(), JournalError> {
        for path in &self.trash {
            atomic::overwrite(&*self.disk, path).map_err(JournalError::io("overwriting", path))?;
        }
        Ok(())
    }

    /// Second half: unlinks them.
    pub(super) fn unlink_trash(&mut self) -> Result<(), JournalError> {
        while let Some(path) = self.trash.last() {
            atomic::remove(&*self.disk, path).map_err(JournalError::io("removing", path))?;
            self.trash.pop();
        }
        Ok(())
    }

    fn own_name(&mut self) -> PathBuf {
        self.next_name += 1;
        self.root.join(SCRATCH).join(format!("{OWN_PREFIX}{}", self.next_name))
    }
}

fn sync_if_there(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    match disk.open_directory(directory) {
        Err(error) if atomic::is_absent(&error) => Ok(()),
        opened => opened?.sync(),
    }
}

/// Does `work`, which makes the name `path`; if a directory on its way is missing, makes it and tries once more. Never
/// the root itself: where that is gone, it has been moved away or unmounted.
pub(super) fn in_directory<T>(
    disk: &dyn Disk,
    root: &Path,
    path: &Path,
    mut work: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match work() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            atomic::make_directories(disk, root, atomic::parent(path))?;
            work()
        }
        result => result,
    }
}
