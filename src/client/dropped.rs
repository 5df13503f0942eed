//! Files of dropboxes that are recorded: they are removed where they were dropped, and never sent again.
//!
//! The record that lets a copy appear in the outbox notes the file it was made of, in `keys/dropped`. Behind it the file gets a
//! hidden name that nobody can guess, is compared with what was read, and unlinked; the directory is synced, and then the note
//! is taken back. A restart finds the file under its name, under the hidden one, or gone, and goes on from there. What was
//! written since gets its name back, and is a new message.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::dropbox::place::{self, PlaceFault};
use super::state::{self, StateError};
use crate::disk::atomic;
use crate::disk::open::{FileIdentity, OpenError};
use crate::disk::system::{Disk, Stat};
use crate::limits::{DROPBOX_ENTRIES_MAX, DROPBOX_ENTRIES_PER_S};
use crate::name::NAME_TRIES_MAX;
use crate::wire::dropped::DroppedFile;

/// The notes.
#[derive(Debug, Default)]
pub struct Dropped {
    recorded: Vec<DroppedFile>,
    /// Those that could not be removed: not before another second.
    failed: Vec<DroppedFile>,
    /// Those of the transaction that is being put together.
    pending: Vec<DroppedFile>,
    /// Directories that were listed, and the seconds until they may be listed again: as many names as a stranger likes.
    rests: BTreeMap<PathBuf, usize>,
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
        self.recorded.iter().chain(&self.failed).chain(&self.pending)
    }

    /// The file's new content, if it changed; none of it where nothing is to be noted.
    pub fn take_dirty(&mut self) -> Option<Vec<u8>> {
        let all: Vec<DroppedFile> = self.all().cloned().collect();
        std::mem::take(&mut self.is_dirty).then(|| DroppedFile::all_to_bytes(&all))
    }

    /// A second has passed: what failed is tried again, where the directory does not rest.
    pub fn tick(&mut self) {
        self.rests.values_mut().for_each(|seconds| *seconds -= 1);
        self.rests.retain(|_, seconds| *seconds > 0);
        let (resting, again) =
            std::mem::take(&mut self.failed).into_iter().partition(|file| self.rests.contains_key(&file.directory));
        self.failed = resting;
        self.recorded.extend::<Vec<_>>(again);
    }

    /// Removes those that are recorded. What fails is tried again with the next second. `is_named` says whether a directory
    /// is a dropbox.
    pub fn remove_recorded(&mut self, disk: &dyn Disk, root: &Path, ours: u32, is_named: impl Fn(&Path) -> bool) {
        let mut of_directories: BTreeMap<PathBuf, Vec<DroppedFile>> = BTreeMap::new();
        for file in std::mem::take(&mut self.recorded) {
            of_directories.entry(file.directory.clone()).or_default().push(file);
        }
        for (directory, files) in of_directories {
            let count = files.len();
            match place::check(disk, &directory, root, ours) {
                // Its filesystem may not be mounted yet, and have the files.
                Err(PlaceFault::Missing(_)) if !is_named(&directory) => {
                    // Whoever removed it removed what was in it.
                    self.is_dirty = true;
                }
                Err(fault) => {
                    tracing::info!(%fault, count, "files in a dropbox that were sent cannot be removed now");
                    self.failed.extend(files);
                }
                Ok(_) => self.remove_in(disk, &directory, files),
            }
        }
    }

    /// The same in one directory, which is the dropbox's.
    fn remove_in(&mut self, disk: &dyn Disk, directory: &Path, files: Vec<DroppedFile>) {
        let may_list = !self.rests.contains_key(directory);
        let mut names = Names { disk, directory, most: DROPBOX_ENTRIES_MAX, may_list, listing: None };
        let (before, count) = (self.failed.len(), files.len());
        let mut last = None;
        for file in files {
            if let Err(error) = remove(&mut names, &file) {
                last = Some(error);
                self.failed.push(file);
            }
        }
        if let Some(listing) = names.listing {
            self.rests.insert(directory.to_owned(), 1 + listing.count / DROPBOX_ENTRIES_PER_S);
        }
        let failed = self.failed.len() - before;
        if let Some(error) = last {
            tracing::info!(%error, count = failed, "files in a dropbox that were sent cannot be removed now");
        }
        if failed == count {
            return;
        }
        self.is_dirty = true;
        // Before the notes are taken back: after a power failure a file without one would be sent again.
        if let Err(error) = atomic::sync_directory(disk, directory) {
            tracing::warn!(%error, "a dropbox cannot be synced: a file in it may come back if the power fails");
        }
    }
}

/// The names in a dropbox, listed at most once, and only for a file that is not under its own.
struct Names<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    /// So many are looked at.
    most: usize,
    may_list: bool,
    listing: Option<Listing>,
}

#[derive(Debug, Default)]
struct Listing {
    /// By inode.
    names: HashMap<u64, OsString>,
    count: usize,
    /// There may be more.
    is_cut: bool,
}

impl Names<'_> {
    /// What has a name there.
    fn stat(&self, name: &OsString) -> io::Result<Option<Stat>> {
        match self.disk.stat(&self.directory.join(name)) {
            Err(error) if atomic::is_absent(&error) => Ok(None),
            result => result.map(Some),
        }
    }

    fn list(&mut self) -> io::Result<&Listing> {
        if self.listing.is_none() {
            if !self.may_list {
                return Err(io::Error::other("the directory was listed a moment ago"));
            }
            let entries = self.disk.some_entries(self.directory, self.most);
            // One that cannot be listed is not tried for every file either.
            let is_cut = entries.as_ref().map_or(true, |entries| entries.len() >= self.most);
            let listing = self.listing.insert(Listing { is_cut, ..Listing::default() });
            let entries = entries?;
            listing.count = entries.len();
            listing.names = entries.into_iter().map(|entry| (entry.inode, entry.name)).collect();
        }
        self.listing.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The name that a file has now, if it is still there and as it was.
    ///
    /// # Errors
    /// The disk's; that there are more names than were looked at, of which one may be its own, or that it has another by now.
    fn find(&mut self, file: &DroppedFile) -> io::Result<Option<OsString>> {
        if let Some(found) = self.stat(&file.name)?.filter(|found| found.inode == file.inode) {
            return Ok(file.is_it(&found.identity()).then(|| file.name.clone()));
        }
        // The sender may rename what is his.
        let listing = self.list()?;
        let Some(name) = listing.names.get(&file.inode).cloned() else {
            return match listing.is_cut {
                true => Err(io::Error::other("it is not among the names that were looked at, and there are more")),
                false => Ok(None),
            };
        };
        match self.stat(&name)?.filter(|found| found.inode == file.inode) {
            Some(found) => Ok(file.is_it(&found.identity()).then_some(name)),
            // Again, behind the look: where to, the next one tells.
            None => Err(io::Error::other("it was renamed meanwhile")),
        }
    }
}

/// Makes a file go, unless it is not the one that was read any more.
fn remove(names: &mut Names<'_>, file: &DroppedFile) -> io::Result<()> {
    let (disk, hidden) = (names.disk, names.directory.join(&file.hidden));
    if names.stat(&file.hidden)?.is_none() {
        let Some(name) = names.find(file)? else { return Ok(()) };
        // One that is gone in this moment has another name perhaps. The next look tells.
        disk.rename_new(&names.directory.join(name), &hidden)?;
    }
    match names.stat(&file.hidden)? {
        None => Ok(()),
        Some(found) if file.is_it(&found.identity()) => disk.unlink(&hidden),
        // Written to since it was read, or another file: it is a new message.
        Some(_) => give_back(disk, file, &hidden),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use crate::disk::watched::WatchedDisk;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

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

    fn names_in<'a>(disk: &'a dyn Disk, directory: &'a Path) -> Names<'a> {
        Names { disk, directory, most: DROPBOX_ENTRIES_MAX, may_list: true, listing: None }
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
        let find = |file: &DroppedFile, most: usize| Names { most, ..names_in(&RealDisk, scratch.path()) }.find(file);
        assert_eq!(find(&file, 3).unwrap(), None);
        find(&DroppedFile { inode: u64::MAX, ..file }, 2).unwrap_err();
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
        dropped.tick();
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
            remove(&mut names_in(&RealDisk, scratch.path()), &file).unwrap();
            assert!(names().is_empty(), "{moved_to}: {:?}", names());
            remove(&mut names_in(&RealDisk, scratch.path()), &file).unwrap();
        }
        // Under its own name it is left alone, under the hidden one it is given back, beside what took its name.
        fs::write(at("a"), "read").unwrap();
        let file = note(scratch.path(), "a");
        fs::write(at("a"), "read, and more").unwrap();
        remove(&mut names_in(&RealDisk, scratch.path()), &file).unwrap();
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "read, and more");
        fs::rename(at("a"), at(".taken-1")).unwrap();
        fs::write(at("a"), "another").unwrap();
        remove(&mut names_in(&RealDisk, scratch.path()), &file).unwrap();
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "another");
        assert_eq!(fs::read_to_string(at("a-2")).unwrap(), "read, and more");
        assert_eq!(names().len(), 2);
    }

    #[test]
    fn however_often_a_sender_renames_a_dropbox_is_listed_once_and_rests() {
        let scratch = tempfile::tempdir().unwrap();
        let dropbox = scratch.path().canonicalize().unwrap().join("box");
        fs::create_dir(&dropbox).unwrap();
        fs::set_permissions(&dropbox, Permissions::from_mode(place::MODE)).unwrap();
        (0..DROPBOX_ENTRIES_PER_S).for_each(|number| fs::write(dropbox.join(format!(".{number}")), "").unwrap());
        let (disk, mut dropped) = (WatchedDisk::default(), Dropped::default());
        let add = |dropped: &mut Dropped, name: &str| {
            fs::write(dropbox.join(name), "read").unwrap();
            dropped.add(DroppedFile { hidden: format!(".taken-{name}").into(), ..note(&dropbox, name) });
            dropped.recorded();
        };
        let (root, ours) = (scratch.path().join("root"), rustix::process::geteuid().as_raw());
        let pass = |dropped: &mut Dropped| {
            dropped.remove_recorded(&disk, &root, ours, |_| true);
            (disk.take_listings(), dropped.all().count())
        };
        for name in ["a", "b", "c"] {
            add(&mut dropped, name);
            fs::rename(dropbox.join(name), dropbox.join(format!("{name}-moved"))).unwrap();
        }
        let (from, to) = (dropbox.join("a-moved"), dropbox.join("a-again"));
        *disk.meanwhile.lock().unwrap() = Some(Box::new(move || fs::rename(from, to).unwrap()));
        assert_eq!(
            pass(&mut dropped),
            (1, 1),
            "one listing for all, and the one that was renamed behind it is not lost"
        );
        // Commits follow upon each other. What is under its own name goes with its own, and nothing is listed.
        add(&mut dropped, "d");
        assert_eq!(pass(&mut dropped), (0, 1));
        add(&mut dropped, "e");
        fs::rename(dropbox.join("e"), dropbox.join("e-moved")).unwrap();
        assert_eq!(pass(&mut dropped), (0, 2));
        dropped.tick();
        assert_eq!(pass(&mut dropped), (0, 2), "a thousand names: another second");
        dropped.tick();
        assert_eq!(pass(&mut dropped), (1, 0));
        assert_eq!(fs::read_dir(&dropbox).unwrap().count(), DROPBOX_ENTRIES_PER_S);
    }
}
