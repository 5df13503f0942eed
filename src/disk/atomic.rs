//! Files that are there whole or not at all, and files that are gone for good.
//!
//! The order is always: write in a scratch directory on the same filesystem, sync the file, move it into place, sync
//! the directory. A move that must not overwrite is `renameat2(RENAME_NOREPLACE)`; where a filesystem lacks it, `link`
//! then `unlink`, which leaves both names for a moment but never overwrites either.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use tempfile::NamedTempFile;
use thiserror::Error;

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

/// Whether the same operation may succeed later: all that a full, read-only, failing or vanished disk says. Not what a
/// name itself is to blame for.
pub fn is_temporary(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::ENAMETOOLONG | libc::EINVAL | libc::ELOOP | libc::EXDEV))
}

/// Puts `bytes` under the free name `path`, mode 0600, synced. `scratch` is a directory on the same filesystem.
///
/// # Errors
/// [`AtomicError`]; in every case nothing stands under `path` that did not before, unless only the last sync failed.
pub fn create_new(scratch: &Path, path: &Path, bytes: &[u8]) -> Result<(), AtomicError> {
    let file = prepare(scratch, bytes, true)?;
    rename_new(file.path(), path).map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => AtomicError::AlreadyExists { path: path.to_owned() },
        _ => failed("creating", path)(cause),
    })?;
    moved(file);
    sync_directory(parent(path))
}

/// Puts `bytes` under `path`, mode 0600, in place of what was there, synced. Readers see the old or the new file.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn replace(scratch: &Path, path: &Path, bytes: &[u8]) -> Result<(), AtomicError> {
    let file = prepare(scratch, bytes, true)?;
    fs::rename(file.path(), path).map_err(failed("replacing", path))?;
    moved(file);
    sync_directory(parent(path))
}

/// [`replace`] without syncs, for files that are written anew all the time: after a power failure the file may be old
/// or damaged.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn replace_unsynced(scratch: &Path, path: &Path, bytes: &[u8]) -> Result<(), AtomicError> {
    let file = prepare(scratch, bytes, false)?;
    fs::rename(file.path(), path).map_err(failed("replacing", path))?;
    moved(file);
    Ok(())
}

/// Overwrites the file `path` with zeros, syncs it and unlinks it. Absent is fine; a symbolic link itself is unlinked.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn erase(path: &Path) -> Result<(), AtomicError> {
    if let Some(file) = overwrite(path).map_err(failed("overwriting", path))? {
        file.sync_data().map_err(failed("overwriting", path))?;
    }
    remove(path).map_err(failed("removing", path))
}

/// Syncs a directory: the names in it, not what they name.
///
/// # Errors
/// [`AtomicError::Io`].
pub fn sync_directory(path: &Path) -> Result<(), AtomicError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("syncing", path))
}

/// Makes the directory `path` and its missing parents with mode 0700, synced. What exists keeps its mode.
///
/// # Errors
/// [`AtomicError::Io`]; so too if something else than a directory has the name.
pub fn make_private_directory(path: &Path) -> Result<(), AtomicError> {
    let made = make_directories(path).map_err(failed("making", path))?;
    made.iter().try_for_each(|directory| sync_directory(parent(directory)))
}

/// Like [`make_private_directory`], unsynced. Says which directories it made, outermost first.
pub(super) fn make_directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    let mut missing = vec![path.to_owned()];
    while let Some(next) = missing.pop() {
        match DirBuilder::new().mode(0o700).create(&next) {
            Ok(()) => {
                // The process's umask may have taken more than it should.
                fs::set_permissions(&next, Permissions::from_mode(0o700))?;
                made.push(next);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && next.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Ends at the latest at `/`, which exists. A dangling link in between has a parent and is no directory.
                let above = next.parent().filter(|above| !above.as_os_str().is_empty()).ok_or(error)?.to_owned();
                missing.extend([next, above]);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// Writes a new file, mode 0600; fails if the name is taken.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Renames `from` to the free name `to`; `AlreadyExists` if it is taken.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_new(from, to),
        result => Ok(result?),
    }
}

/// What [`rename_new`] does where the filesystem lacks it.
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// Overwrites all of a regular file with zeros, unsynced. `None` if there is no regular file to overwrite.
pub(super) fn overwrite(path: &Path) -> io::Result<Option<File>> {
    let open = || OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let opened = match open() {
        // Somebody made it read-only. It is no link, which would have failed otherwise.
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            open()
        }
        result => result,
    };
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    write_zeros(&mut file, metadata.len())?;
    Ok(Some(file))
}

/// Writes `count` zeros at the file's position.
pub(super) fn write_zeros(file: &mut File, count: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), count), file).map(drop)
}

/// Unlinks a file; absent is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if is_absent(&error) => Ok(()),
        result => result,
    }
}

/// Whether an error says that nothing has this name: neither it nor a directory on its way.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// The directory that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn prepare(scratch: &Path, bytes: &[u8], synced: bool) -> Result<NamedTempFile, AtomicError> {
    // Mode 0600 is tempfile's own default, and a file that is not moved is removed when it is dropped.
    let mut file =
        tempfile::Builder::new().prefix("new-").tempfile_in(scratch).map_err(failed("writing in", scratch))?;
    file.write_all(bytes).map_err(failed("writing in", scratch))?;
    if synced {
        file.as_file().sync_all().map_err(failed("syncing a file in", scratch))?;
    }
    Ok(file)
}

/// Its scratch name is gone; nothing is to be removed.
fn moved(file: NamedTempFile) {
    // Keeping cannot fail on Unix. If it did, the drop would unlink a name that no longer exists.
    let _ = file.into_temp_path().keep();
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AtomicError {
    move |cause| AtomicError::Io { doing, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn creation_never_replaces_and_leaves_no_scratch() {
        let (root, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().join("x");
        create_new(scratch.path(), &path, b"first").unwrap();
        let refused = create_new(scratch.path(), &path, b"second").unwrap_err();
        assert!(matches!(refused, AtomicError::AlreadyExists { .. }) && !refused.is_temporary());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(names(scratch.path()).is_empty());
    }

    #[test]
    fn without_rename_noreplace_a_link_does_the_same() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::write(&from, "new").unwrap();
        link_new(&from, &to).unwrap();
        assert_eq!(names(root.path()), ["to"]);
        fs::write(&from, "newer").unwrap();
        assert_eq!(link_new(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(fs::read(&from).unwrap(), b"newer");
    }

    #[test]
    fn replacing_leaves_the_new_content_and_no_scratch() {
        let (root, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().join("x");
        replace(scratch.path(), &path, b"first").unwrap();
        replace_unsynced(scratch.path(), &path, b"second").unwrap();
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
        erase(&path).unwrap();
        erase(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(&other).unwrap(), [0; 6]);
    }

    #[test]
    fn erasing_a_link_leaves_what_it_points_to() {
        let root = tempfile::tempdir().unwrap();
        let (target, link) = (root.path().join("target"), root.path().join("link"));
        fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        erase(&link).unwrap();
        assert_eq!(names(root.path()), ["target"]);
        assert_eq!(fs::read(&target).unwrap(), b"x");
    }

    #[test]
    fn directories_are_private_and_a_file_in_their_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c");
        make_private_directory(&path).unwrap();
        make_private_directory(&path).unwrap();
        for directory in [root.path().join("a"), root.path().join("a/b"), path] {
            assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
        }
        fs::write(root.path().join("file"), "x").unwrap();
        assert!(make_private_directory(&root.path().join("file")).is_err());
        assert!(make_private_directory(&root.path().join("file/below")).is_err());
    }
}
