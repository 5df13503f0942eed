//! Files that are there whole or not at all, and files that are gone for good.
//!
//! The order is always: write in a scratch directory on the same filesystem, sync the file, move it into place, sync
//! the directory. A move that must not overwrite is `renameat2(RENAME_NOREPLACE)`; where a filesystem lacks it, `link`
//! then `unlink`, which leaves both names for a moment but never overwrites either.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use super::system::{Disk, Kind, OpenFile};

/// How the names of files begin that are being prepared: here, and by the journal before its record is synced.
pub(super) const UNFINISHED_PREFIX: &str = "new-";

/// Bytes that are looked at together before they are overwritten.
const OVERWRITTEN_AT_ONCE: usize = 64 * 1024;

/// Why a file or directory was not made, replaced or erased.
#[derive(Debug, Error)]
pub enum AtomicError {
    /// The name is taken; what has it is untouched.
    #[error("creating {}: it exists already", path.display())]
    AlreadyExists {
        /// The name.
        path: PathBuf,
    },
    /// The disk said no.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

impl AtomicError {
    /// Whether trying again later may succeed.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::AlreadyExists { .. } => false,
            Self::Io { cause, .. } => is_temporary(cause),
        }
    }
}

/// Whether the same operation may succeed later: all that a full, read-only, failing or vanished disk says, or one that
/// stands where it should not. Not what a name itself is to blame for.
pub fn is_temporary(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::ENAMETOOLONG | libc::EINVAL | libc::ELOOP))
}

/// Whether the disk as a whole is to blame: it is full, read-only, failing or away.
pub fn is_disk_trouble(error: &io::Error) -> bool {
    const TROUBLE: [i32; 8] =
        [libc::ENOSPC, libc::EDQUOT, libc::EROFS, libc::EIO, libc::ENODEV, libc::ENXIO, libc::ESTALE, libc::ETIMEDOUT];
    error.raw_os_error().is_some_and(|code| TROUBLE.contains(&code))
}

/// Whether it is a matter of one place on the disk: something else has the name, or somebody has taken our right to it.
pub fn is_in_the_way(error: &io::Error) -> bool {
    const PLACE: [i32; 8] = [
        libc::EACCES,
        libc::EPERM,
        libc::EXDEV,
        libc::EEXIST,
        libc::ENOTDIR,
        libc::EISDIR,
        libc::ENOTEMPTY,
        libc::EBUSY,
    ];
    error.raw_os_error().is_some_and(|code| PLACE.contains(&code))
}

/// Whether there is no room on the disk, or none that is ours.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// A file, mode 0600, that is written a portion at a time and has no name of its own yet; without one it is unlinked in the end.
#[derive(Debug)]
pub struct Unnamed<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    file: Box<dyn OpenFile>,
    size: u64,
    is_named: bool,
}

impl<'a> Unnamed<'a> {
    /// An empty one. `scratch` is a directory on the filesystem of its later name.
    ///
    /// # Errors
    /// [`AtomicError::Io`].
    pub fn create(disk: &'a dyn Disk, scratch: &Path) -> Result<Self, AtomicError> {
        let (path, file) = disk.create_temporary(scratch, UNFINISHED_PREFIX).map_err(failed("writing in", scratch))?;
        Ok(Self { disk, path, file, size: 0, is_named: false })
    }

    /// Adds to its end.
    ///
    /// # Errors
    /// [`AtomicError::Io`].
    pub fn add(&mut self, portion: &[u8]) -> Result<(), AtomicError> {
        self.file.write_at(self.size, portion).map_err(failed("writing", &self.path))?;
        self.size += portion.len() as u64;
        Ok(())
    }

    /// Its content is on the disk when this returns.
    ///
    /// # Errors
    /// [`AtomicError::Io`].
    pub fn sync(&self) -> Result<(), AtomicError> {
        self.file.sync().map_err(failed("syncing", &self.path))
    }

    /// Gives it a free name, synced.
    ///
    /// # Errors
    /// [`AtomicError::AlreadyExists`], after which another may be tried; [`AtomicError::Io`].
    pub fn give_name(&mut self, path: &Path) -> Result<(), AtomicError> {
        self.disk.rename_new(&self.path, path).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => AtomicError::AlreadyExists { path: path.to_owned() },
            _ => failed("creating", path)(cause),
        })?;
        self.is_named = true;
        sync_directory(self.disk, parent(path))
    }
}

impl Drop for Unnamed<'_> {
    fn drop(&mut self) {
        if !self.is_named {
            abandon(self.disk, &self.path);
        }
    }
}

/// Puts `bytes` under the free name `path`, mode 0600, synced. `scratch` is a directory on the same filesystem.
///
/// # Errors
/// [`AtomicError`]; in every case nothing stands under `path` that did not before, unless only the last sync failed.
pub fn create_new(disk: &dyn Disk, scratch: &Path, path: &Path, bytes: &[u8]) -> Result<(), AtomicError> {
    let new = prepare(disk, scratch, bytes, true)?;
    renamed(disk, &new, disk.rename_new(&new, path)).map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => AtomicError::AlreadyExists { path: path.to_owned() },
        _ => failed("creating", path)(cause),
    })?;
    sync_directory(disk, parent(path))
}

/// Puts `bytes` under `path`, mode 0600, in place of what was there, synced. Readers see the old or the new file.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn replace(disk: &dyn Disk, scratch: &Path, path: &Path, bytes: &[u8]) -> Result<(), AtomicError> {
    let new = prepare(disk, scratch, bytes, true)?;
    renamed(disk, &new, disk.rename(&new, path)).map_err(failed("replacing", path))?;
    sync_directory(disk, parent(path))
}

/// [`replace`] without syncs, for files that are written anew all the time: after a power failure the file may be old
/// or damaged.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn replace_unsynced(disk: &dyn Disk, scratch: &Path, path: &Path, bytes: &[u8]) -> Result<(), AtomicError> {
    let new = prepare(disk, scratch, bytes, false)?;
    renamed(disk, &new, disk.rename(&new, path)).map_err(failed("replacing", path))
}

/// Overwrites the file `path` with zeros, syncs it and unlinks it. Absent is fine; a symbolic link itself is unlinked.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn erase(disk: &dyn Disk, path: &Path) -> Result<(), AtomicError> {
    if let Some(file) = overwrite(disk, path).map_err(failed("overwriting", path))? {
        file.sync().map_err(failed("overwriting", path))?;
    }
    remove(disk, path).map_err(failed("removing", path))
}

/// [`erase`] of a file so large that it is done in portions: overwrites `count` bytes from `offset`, without the holes in it, and
/// says where to go on; at the end unlinks it, and says `None`. Absent is fine.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn erase_portion(disk: &dyn Disk, path: &Path, offset: u64, count: u64) -> Result<Option<u64>, AtomicError> {
    let portion = || {
        let Some(Overwritten { there, file, size }) = open_to_overwrite(disk, path)? else { return Ok(None) };
        let end = overwrite_content(&*there, &*file, offset, count)?;
        file.sync()?;
        Ok((end < size).then_some(end))
    };
    match portion().map_err(failed("overwriting", path))? {
        None => remove(disk, path).map_err(failed("removing", path)).map(|()| None),
        next => Ok(next),
    }
}

/// Syncs a directory: the names in it, not what they name.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn sync_directory(disk: &dyn Disk, path: &Path) -> Result<(), AtomicError> {
    disk.open_directory(path).and_then(|directory| directory.sync()).map_err(failed("syncing", path))
}

/// Makes the directory `path` and its missing parents with mode 0700, synced. What exists keeps its mode.
///
/// # Errors
/// [`AtomicError::Io`]; so too if something else than a directory has the name.
pub fn make_private_directory(disk: &dyn Disk, path: &Path) -> Result<(), AtomicError> {
    let made = make_directories(disk, Path::new("/"), path).map_err(failed("making", path))?;
    made.iter().try_for_each(|directory| sync_directory(disk, parent(directory)))
}

/// Like [`make_private_directory`], unsynced, and only below `base`, which is never made itself. Says which directories
/// it made, outermost first.
pub(super) fn make_directories(disk: &dyn Disk, base: &Path, path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let mut missing = vec![path.to_owned()];
    while let Some(next) = missing.pop() {
        match disk.make_directory(&next) {
            Ok(()) => made.push(next),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && leads_to_directory(disk, &next) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Ends at the latest at `/`, which exists. A dangling link in between has a parent and is no directory.
                let above = next.parent().filter(|above| !above.as_os_str().is_empty() && *above != base);
                let above = above.ok_or(error)?.to_owned();
                missing.extend([next, above]);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// Whether a directory, or a link to one, has this name.
fn leads_to_directory(disk: &dyn Disk, path: &Path) -> bool {
    disk.open_directory(path).is_ok()
}

/// Writes a new file, mode 0600; fails if the name is taken.
pub(super) fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    disk.create_new(path)?.write_at(0, bytes)
}

/// Overwrites all of a regular file with zeros, unsynced. What is zero already is left alone: the holes of a file that has some
/// would be filled by it. `None` if there is no regular file to overwrite.
pub(super) fn overwrite(disk: &dyn Disk, path: &Path) -> io::Result<Option<Box<dyn OpenFile>>> {
    let Some(Overwritten { there, file, .. }) = open_to_overwrite(disk, path)? else { return Ok(None) };
    overwrite_content(&*there, &*file, 0, u64::MAX)?;
    Ok(Some(file))
}

/// A regular file that is overwritten, open twice: to look at what is there, and to write.
struct Overwritten {
    there: Box<dyn OpenFile>,
    file: Box<dyn OpenFile>,
    size: u64,
}

/// None if there is no regular file.
fn open_to_overwrite(disk: &dyn Disk, path: &Path) -> io::Result<Option<Overwritten>> {
    let opened = match disk.open_to_write(path) {
        // Somebody made it read-only. It is no link, which would have failed otherwise.
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            disk.make_private(path)?;
            disk.open_to_write(path)
        }
        result => result,
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO | libc::EISDIR)) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let found = file.stat()?;
    if found.kind != Kind::File {
        return Ok(None);
    }
    Ok(Some(Overwritten { there: disk.open(path)?, file, size: found.size }))
}

/// Writes zeros over what is not zero, from `offset` on, until `count` bytes were looked at. Says where it is then. Holes are
/// passed over: who sends us one part of a large content makes a file of any size, and must not make us read all of it.
fn overwrite_content(there: &dyn OpenFile, file: &dyn OpenFile, offset: u64, count: u64) -> io::Result<u64> {
    let mut portion = Zeroizing::new(vec![0; OVERWRITTEN_AT_ONCE]);
    let (mut offset, mut left) = (offset, count);
    while left > 0 {
        let Some(data) = there.next_data(offset)? else { return Ok(u64::MAX) };
        let read = there.read_at(data, &mut portion)?;
        if read == 0 {
            return Ok(u64::MAX);
        }
        if portion[..read] != ZEROS[..read] {
            write_zeros(file, data, read as u64)?;
        }
        offset = data + read as u64;
        left = left.saturating_sub(read as u64);
    }
    Ok(offset)
}

/// As many as are read or written at once.
static ZEROS: [u8; OVERWRITTEN_AT_ONCE] = [0; OVERWRITTEN_AT_ONCE];

/// Writes `count` zeros at `offset`.
pub(super) fn write_zeros(file: &dyn OpenFile, offset: u64, count: u64) -> io::Result<()> {
    let mut written = 0;
    while written < count {
        let portion = usize::try_from(count - written).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_at(offset + written, &ZEROS[..portion])?;
        written += portion as u64;
    }
    Ok(())
}

/// Unlinks a file; absent is fine.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.unlink(path) {
        Err(error) if is_absent(&error) => Ok(()),
        result => result,
    }
}

/// Whether an error says that nothing has this name: neither it nor a directory on its way.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// The directory that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn prepare(disk: &dyn Disk, scratch: &Path, bytes: &[u8], synced: bool) -> Result<PathBuf, AtomicError> {
    let (path, file) = disk.create_temporary(scratch, UNFINISHED_PREFIX).map_err(failed("writing in", scratch))?;
    let written = file.write_at(0, bytes).map_err(failed("writing in", scratch));
    let written =
        written.and_then(|()| if synced { file.sync().map_err(failed("syncing in", scratch)) } else { Ok(()) });
    match written {
        Ok(()) => Ok(path),
        Err(error) => {
            abandon(disk, &path);
            Err(error)
        }
    }
}

/// What became of the rename of a file that was prepared; without a name it goes.
fn renamed(disk: &dyn Disk, new: &Path, result: io::Result<()>) -> io::Result<()> {
    if result.is_err() {
        abandon(disk, new);
    }
    result
}

fn abandon(disk: &dyn Disk, new: &Path) {
    // It is in the way of nobody, and the next start erases what is left of it.
    let _ = disk.unlink(new);
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AtomicError {
    move |cause| AtomicError::Io { doing, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn creation_never_replaces_and_leaves_no_scratch() {
        let (root, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().join("x");
        create_new(&RealDisk, scratch.path(), &path, b"first").unwrap();
        let refused = create_new(&RealDisk, scratch.path(), &path, b"second").unwrap_err();
        assert!(matches!(refused, AtomicError::AlreadyExists { .. }) && !refused.is_temporary());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(names(scratch.path()).is_empty());
    }

    #[test]
    fn a_file_without_a_name_gets_the_first_that_is_free_or_goes() {
        let (root, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let [taken, free] = ["taken", "free"].map(|name| root.path().join(name));
        fs::write(&taken, "another").unwrap();
        let mut unnamed = Unnamed::create(&RealDisk, scratch.path()).unwrap();
        unnamed.add(b"in ").unwrap();
        unnamed.add(b"portions").unwrap();
        unnamed.sync().unwrap();
        assert!(matches!(unnamed.give_name(&taken), Err(AtomicError::AlreadyExists { .. })));
        unnamed.give_name(&free).unwrap();
        drop(unnamed);
        assert_eq!(fs::read(&free).unwrap(), b"in portions");
        assert_eq!(fs::metadata(&free).unwrap().permissions().mode() & 0o777, 0o600);
        drop(Unnamed::create(&RealDisk, scratch.path()).unwrap());
        assert!(names(scratch.path()).is_empty());
    }

    #[test]
    fn replacing_leaves_the_new_content_and_no_scratch() {
        let (root, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().join("x");
        replace(&RealDisk, scratch.path(), &path, b"first").unwrap();
        replace_unsynced(&RealDisk, scratch.path(), &path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert!(names(scratch.path()).is_empty());
    }

    #[test]
    fn an_erased_file_is_zeros_before_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let (path, other) = (root.path().join("secret"), root.path().join("other"));
        fs::write(&path, "secret").unwrap();
        // A second link shows what happened to the content.
        fs::hard_link(&path, &other).unwrap();
        erase(&RealDisk, &path).unwrap();
        erase(&RealDisk, &path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(&other).unwrap(), [0; 6]);
    }

    #[test]
    fn erasing_a_file_with_holes_fills_none_of_them() {
        use std::os::unix::fs::{FileExt as _, MetadataExt as _};
        let root = tempfile::tempdir().unwrap();
        let (path, other) = (root.path().join("sparse"), root.path().join("other"));
        let file = fs::File::create(&path).unwrap();
        file.write_all_at(b"far away", 64 * 1024 * 1024).unwrap();
        fs::hard_link(&path, &other).unwrap();
        let blocks = fs::metadata(&path).unwrap().blocks();
        erase(&RealDisk, &path).unwrap();
        assert!(fs::metadata(&other).unwrap().blocks() <= blocks);
        assert!(fs::read(&other).unwrap().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_file_that_somebody_made_read_only_is_erased_in_portions_as_well() {
        let root = tempfile::tempdir().unwrap();
        let (path, other) = (root.path().join("secret"), root.path().join("other"));
        fs::write(&path, "secret").unwrap();
        fs::hard_link(&path, &other).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(erase_portion(&RealDisk, &path, 0, 4).unwrap(), None);
        assert!(!path.exists());
        assert_eq!(fs::read(&other).unwrap(), [0; 6]);
    }

    #[test]
    fn erasing_a_link_leaves_what_it_points_to() {
        let root = tempfile::tempdir().unwrap();
        let (target, link) = (root.path().join("target"), root.path().join("link"));
        fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        erase(&RealDisk, &link).unwrap();
        assert_eq!(names(root.path()), ["target"]);
        assert_eq!(fs::read(&target).unwrap(), b"x");
    }

    #[test]
    fn directories_are_private_and_a_file_in_their_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c");
        make_private_directory(&RealDisk, &path).unwrap();
        make_private_directory(&RealDisk, &path).unwrap();
        for directory in [root.path().join("a"), root.path().join("a/b"), path] {
            assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
        }
        fs::write(root.path().join("file"), "x").unwrap();
        assert!(make_private_directory(&RealDisk, &root.path().join("file")).is_err());
        assert!(make_private_directory(&RealDisk, &root.path().join("file/below")).is_err());
    }
}
