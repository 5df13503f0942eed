//! `Expire`: a person's message that has come of age goes, unless another file stands under its name by then.
//!
//! Between the look that found it old and the step, and between the step and its replay, a person may put another file there,
//! or link this one to keep it. So it is moved first and compared then, as by `Take`: what differs goes back under its name, and
//! what has another name is not overwritten. Nobody finds it where it is moved, so that nothing changes behind the comparison.
//!
//! A crash leaves the message under its name, aside, or gone: each says what remains to be done. Two things could blur that. A
//! power failure could undo the move and keep the overwriting; so the move is synced before anything is overwritten. And the
//! replay of the message's own `Place` would make it anew; so the log is emptied before a step that erases what it holds.

use std::io;
use std::path::Path;

use super::apply::{Mode, in_directory};
use super::place::move_new;
use crate::disk::atomic;
use crate::disk::system::{Disk, Kind, Stat};
use crate::wire::journal::FileIdentity;

/// Moves the message at `path` to `aside`. True if it is there now, and nowhere else.
pub(super) fn expire(
    disk: &dyn Disk,
    root: &Path,
    (path, aside): (&Path, &Path),
    identity: &FileIdentity,
    mode: Mode,
) -> io::Result<bool> {
    expire_with(disk, root, (path, aside), identity, mode, || {})
}

/// `meanwhile` runs between looking at the file and moving it, where a test replaces it.
fn expire_with(
    disk: &dyn Disk,
    root: &Path,
    (path, aside): (&Path, &Path),
    identity: &FileIdentity,
    mode: Mode,
    meanwhile: impl FnOnce(),
) -> io::Result<bool> {
    let is_moved = stat(disk, aside)?.is_some();
    let is_it = |found: &Stat| is_file(disk, root, found, identity, mode);
    if !is_moved {
        if !stat(disk, path)?.is_some_and(|found| is_it(&found) && is_unwritten(&found, identity, mode)) {
            return Ok(false);
        }
        meanwhile();
        match in_directory(disk, root, aside, || disk.rename_new(path, aside)) {
            Err(error) if atomic::is_absent(&error) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Somebody has taken our right to. That holds up nothing.
                tracing::warn!(%error, "a message that has come of age cannot be erased");
                return Ok(false);
            }
            moved => moved?,
        }
    }
    let Some(found) = stat(disk, aside)? else { return Ok(false) };
    // What an earlier try moved was perhaps overwritten since, by us.
    if !is_it(&found) || !(is_moved || is_unwritten(&found, identity, mode)) {
        move_new(disk, root, path, aside)?;
        return Ok(false);
    }
    if found.links > 1 {
        // A person has linked it to keep it: only this name goes.
        disk.unlink(aside)?;
        return Ok(false);
    }
    Ok(true)
}

fn stat(disk: &dyn Disk, path: &Path) -> io::Result<Option<Stat>> {
    match disk.stat(path) {
        Err(error) if atomic::is_absent(&error) => Ok(None),
        found => found.map(Some),
    }
}

/// Whether this is the file that was recorded.
fn is_file(disk: &dyn Disk, root: &Path, found: &Stat, identity: &FileIdentity, mode: Mode) -> bool {
    // The next boot may have chosen the filesystem's number anew.
    let device = match mode {
        Mode::OtherBoot => disk.stat(root).map_or(found.device, |root| root.device),
        Mode::Live | Mode::SameBoot => identity.device,
    };
    let recorded = (device, identity.inode, identity.born_ns, identity.size);
    found.kind == Kind::File && (found.device, found.inode, found.born_ns, found.size) == recorded
}

/// Whether nobody has written into it since. A power failure may have lost the time of its last write.
fn is_unwritten(found: &Stat, identity: &FileIdentity, mode: Mode) -> bool {
    let is_old = mode == Mode::OtherBoot && found.born_ns.is_some() && found.modified_ns <= identity.modified_ns;
    found.modified_ns == identity.modified_ns || is_old
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use std::fs;

    /// Runs the step on a message, while something is done to its name. Whether it is to be overwritten.
    fn expire_while(root: &Path, meanwhile: impl FnOnce(&Path)) -> bool {
        let (path, aside) = (root.join("c/1"), root.join("aside"));
        fs::create_dir_all(root.join("c")).unwrap();
        fs::write(&path, "old").unwrap();
        let identity = RealDisk.stat(&path).unwrap().identity();
        expire_with(&RealDisk, root, (&path, &aside), &identity, Mode::Live, || meanwhile(&path)).unwrap()
    }

    #[test]
    fn what_takes_the_name_in_the_last_moment_goes_back_there() {
        let root = tempfile::tempdir().unwrap();
        let is_erased = expire_while(root.path(), |path| {
            fs::write(path.with_extension("new"), "new").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        });
        assert!(!is_erased && !root.path().join("aside").exists());
        assert_eq!(fs::read_to_string(root.path().join("c/1")).unwrap(), "new");
    }

    #[test]
    fn what_is_linked_in_the_last_moment_is_kept_there() {
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept");
        assert!(!expire_while(root.path(), |path| fs::hard_link(path, &kept).unwrap()));
        assert_eq!(fs::read_to_string(kept).unwrap(), "old");
        assert!(!root.path().join("c/1").exists() && !root.path().join("aside").exists());
    }

    #[test]
    fn what_goes_in_the_last_moment_is_gone() {
        let root = tempfile::tempdir().unwrap();
        assert!(!expire_while(root.path(), |path| fs::remove_file(path).unwrap()));
        assert!(expire_while(root.path(), |_| ()));
        assert_eq!(fs::read_to_string(root.path().join("aside")).unwrap(), "old");
    }
}
