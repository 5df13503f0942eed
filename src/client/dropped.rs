//! Files of dropboxes that are recorded: they are removed where they were dropped, and never sent again.
//!
//! The record that lets a copy appear in the outbox notes the file it was made of, in `keys/dropped`. Behind it the file gets a
//! hidden name that nobody can guess, is compared with what was read, and unlinked; the directory is synced, and then the note
//! is taken back. A restart finds the file under its name, under the hidden one, or gone, and goes on from there. What was
//! written since gets its name back, and is a new message.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::dropbox::place::{self, PlaceFault};
use super::state::{self, StateError};
use crate::disk::atomic;
use crate::disk::open::{FileIdentity, OpenError};
use crate::disk::system::{Disk, Stat};
use crate::limits::{DROPBOX_ENTRIES_MAX, NAME_TRIES_MAX};
use crate::wire::dropped::DroppedFile;

/// The notes.
#[derive(Debug, Default)]
pub struct Dropped {
    recorded: Vec<DroppedFile>,
    /// Those of the transaction that is being put together.
    pending: Vec<DroppedFile>,
    is_dirty: bool,
}

impl Dropped {
    /// Reads `keys/dropped`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Self, StateError> {
        let bytes = match state::read(disk, path) {
            Err(StateError::Open { source: OpenError::Absent, .. }) => return Ok(Self::default()),
            bytes => bytes?,
        };
        let recorded = DroppedFile::all_from_bytes(&bytes).map_err(|error| StateError::malformed(path, error))?;
        Ok(Self { recorded, ..Self::default() })
    }

    /// The transaction that is being put together has the content of a file.
    pub fn add(&mut self, file: DroppedFile) {
        self.pending.push(file);
        self.is_dirty = true;
    }

    /// That transaction is on disk, and done.
    pub fn recorded(&mut self) {
        self.recorded.append(&mut self.pending);
    }

    /// Whether this file was read already, and is only still to go.
    pub fn has(&self, directory: &Path, identity: &FileIdentity) -> bool {
        self.all().any(|file| file.directory == directory && file.is_it(identity))
    }

    /// How many of a dropbox are still to go.
    pub fn in_directory(&self, directory: &Path) -> usize {
        self.all().filter(|file| file.directory == directory).count()
    }

    fn all(&self) -> impl Iterator<Item = &DroppedFile> {
        self.recorded.iter().chain(&self.pending)
    }

    /// The file's new content, if it changed; none of it where nothing is to be noted.
    pub fn take_dirty(&mut self) -> Option<Vec<u8>> {
        let all: Vec<DroppedFile> = self.all().cloned().collect();
        std::mem::take(&mut self.is_dirty).then(|| DroppedFile::all_to_bytes(&all))
    }

    /// Removes those that are recorded. What fails is tried again. `is_named` says whether a directory is a dropbox.
    pub fn remove_recorded(&mut self, disk: &dyn Disk, root: &Path, ours: u32, is_named: impl Fn(&Path) -> bool) {
        let mut removed: Vec<PathBuf> = Vec::new();
        let mut kept = Vec::new();
        for file in std::mem::take(&mut self.recorded) {
            let done = match place::check(disk, &file.directory, root, ours) {
                // Its filesystem may not be mounted yet, and have the file.
                Err(PlaceFault::Missing(_)) if is_named(&file.directory) => Err(io::ErrorKind::NotFound.into()),
                // Whoever removed it removed what was in it.
                Err(PlaceFault::Missing(_)) => Ok(()),
                Err(_) => Err(io::ErrorKind::PermissionDenied.into()),
                Ok(_) => remove(disk, &file).map(|()| removed.push(file.directory.clone())),
            };
            match done {
                Ok(()) => self.is_dirty = true,
                Err(error) => {
                    tracing::info!(%error, "a file in a dropbox that was sent cannot be removed now");
                    kept.push(file);
                }
            }
        }
        self.recorded = kept;
        removed.sort();
        removed.dedup();
        for directory in removed {
            // Before the note is taken back: after a power failure a file without one would be sent again.
            if let Err(error) = atomic::sync_directory(disk, &directory) {
                tracing::warn!(%error, "a dropbox cannot be synced: a file in it may come back if the power fails");
            }
        }
    }
}

/// Makes a file go, unless it is not the one that was read any more.
fn remove(disk: &dyn Disk, file: &DroppedFile) -> io::Result<()> {
    let hidden = file.directory.join(&file.hidden);
    if stat(disk, &hidden)?.is_none() {
        let Some(name) = find(disk, file, DROPBOX_ENTRIES_MAX)? else { return Ok(()) };
        match disk.rename_new(&file.directory.join(name), &hidden) {
            // Gone in this moment: perhaps it has another name. The next look tells.
            Err(error) if atomic::is_absent(&error) => return Err(error),
            result => result?,
        }
    }
    match stat(disk, &hidden)? {
        None => Ok(()),
        Some(found) if file.is_it(&found.identity()) => disk.unlink(&hidden),
        // Written to since it was read, or another file: it is a new message.
        Some(_) => give_back(disk, file, &hidden),
    }
}

/// The name that the file has now, if it is still there and as it was. So many names are looked at.
///
/// # Errors
/// The disk's; that there are more names, of which one may be its own.
fn find(disk: &dyn Disk, file: &DroppedFile, most: usize) -> io::Result<Option<OsString>> {
    let is_it = |name: &OsString| -> io::Result<bool> {
        Ok(stat(disk, &file.directory.join(name))?.is_some_and(|found| file.is_it(&found.identity())))
    };
    if is_it(&file.name)? {
        return Ok(Some(file.name.clone()));
    }
    // The sender may rename what is his.
    let entries = disk.some_entries(&file.directory, most)?;
    let is_cut = entries.len() >= most;
    let named = entries.into_iter().find(|entry| entry.inode == file.inode).map(|entry| entry.name);
    match named {
        Some(name) if is_it(&name)? => Ok(Some(name)),
        None if is_cut => Err(io::Error::other("it is not among the names that were looked at, and there are more")),
        _ => Ok(None),
    }
}

fn give_back(disk: &dyn Disk, file: &DroppedFile, hidden: &Path) -> io::Result<()> {
    for number in 1..=NAME_TRIES_MAX {
        let mut name = file.name.clone();
        if number > 1 {
            name.push(format!("-{number}"));
        }
        match disk.rename_new(hidden, &file.directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn stat(disk: &dyn Disk, path: &Path) -> io::Result<Option<Stat>> {
    match disk.stat(path) {
        Err(error) if atomic::is_absent(&error) => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use std::fs;

    fn note(directory: &Path, name: &str) -> DroppedFile {
        let identity = RealDisk.stat(&directory.join(name)).unwrap().identity();
        DroppedFile {
            directory: directory.to_owned(),
            name: name.into(),
            hidden: ".taken-1".into(),
            inode: identity.inode,
            born_ns: identity.born_ns,
            modified_ns: identity.modified_ns,
            size: identity.size,
        }
    }

    #[test]
    fn a_file_that_a_cut_listing_does_not_show_is_not_taken_for_gone() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("a"), "read").unwrap();
        let file = note(scratch.path(), "a");
        fs::remove_file(at("a")).unwrap();
        // So that none of them has its inode: it is the modification time that tells, too.
        ["b", "c"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        assert_eq!(find(&RealDisk, &file, 3).unwrap(), None);
        find(&RealDisk, &DroppedFile { inode: u64::MAX, ..file }, 2).unwrap_err();
    }

    #[test]
    fn the_note_of_a_file_in_a_dropbox_that_is_not_mounted_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("box")).unwrap();
        fs::write(scratch.path().join("box/a"), "read").unwrap();
        let mut dropped = Dropped::default();
        dropped.add(note(&scratch.path().join("box"), "a"));
        dropped.recorded();
        fs::remove_file(scratch.path().join("box/a")).unwrap();
        fs::remove_dir(scratch.path().join("box")).unwrap();
        let (root, ours) = (scratch.path().join("root"), rustix::process::geteuid().as_raw());
        dropped.remove_recorded(&RealDisk, &root, ours, |_| true);
        assert_eq!(dropped.all().count(), 1);
        dropped.remove_recorded(&RealDisk, &root, ours, |_| false);
        assert_eq!(dropped.all().count(), 0);
    }

    #[test]
    fn what_was_read_goes_under_whatever_name_and_what_was_written_since_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        for moved_to in ["a", "b", ".taken-1"] {
            fs::write(at("a"), "read").unwrap();
            let file = note(scratch.path(), "a");
            fs::rename(at("a"), at(moved_to)).unwrap();
            remove(&RealDisk, &file).unwrap();
            assert!(names().is_empty(), "{moved_to}: {:?}", names());
            remove(&RealDisk, &file).unwrap();
        }
        // Under its own name it is left alone, under the hidden one it is given back, beside what took its name.
        fs::write(at("a"), "read").unwrap();
        let file = note(scratch.path(), "a");
        fs::write(at("a"), "read, and more").unwrap();
        remove(&RealDisk, &file).unwrap();
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "read, and more");
        fs::rename(at("a"), at(".taken-1")).unwrap();
        fs::write(at("a"), "another").unwrap();
        remove(&RealDisk, &file).unwrap();
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "another");
        assert_eq!(fs::read_to_string(at("a-2")).unwrap(), "read, and more");
        assert_eq!(names().len(), 2);
    }
}
