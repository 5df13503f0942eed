//! Whether a dropbox's directory is the one that its owner made, and nobody can put another in its place.
//!
//! From `/` down to it, every directory is ours or root's, and whoever else may write into one of them cannot replace what is
//! ours in it, because it is sticky. Then a path that was checked goes on meaning the same, and can be used by name.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::disk::system::{Disk, Kind, Stat};

/// The mode of a dropbox: its owner does all, everybody else may make files and use those whose names they know.
pub const MODE: u32 = 0o1733;

/// The mode of the directory that holds the dropboxes of one user.
pub const PARENT_MODE: u32 = 0o711;

const ROOT: u32 = 0;
const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const READABLE_BY_OTHERS: u32 = 0o044;

/// Why a directory is no dropbox: what is wrong and what to do, a sentence each.
#[derive(Debug, Error)]
pub enum PlaceFault {
    /// It is not there.
    #[error("The directory {} is not there.\nMake it anew with `chatterbox dropbox add`, or remove this dropbox.", .0.display())]
    Missing(PathBuf),
    /// A link, a file, or something else.
    #[error("{} is no directory, or a link to one.\nMove it away: somebody may have put it there.", .0.display())]
    NotDirectory(PathBuf),
    /// Another user made it.
    #[error("{} belongs to user {owner}, who could put another directory in its place.\nUse a directory that only you and root can move.", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may write into it, and it is not sticky.
    #[error("Others could replace what is in {}: its mode is {mode:04o}.\nUse a directory that only you and root can change.", path.display())]
    Replaceable {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Its own mode is not that of a dropbox.
    #[error("{} has the mode {mode:04o}, and others could read its names or take each other's files away.\nGive it the mode of a dropbox: chmod 1733.", path.display())]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Nobody but ourselves comes there.
    #[error("{} is inside the account's own directory, where no other user comes.\nUse a directory outside of it.", .0.display())]
    Inside(PathBuf),
    /// It cannot be looked at.
    #[error("{} cannot be looked at: {error}.\nCheck that it is yours.", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Checks a dropbox's directory and the way to it; `root` is the account's directory.
///
/// # Errors
/// [`PlaceFault`].
pub fn check(disk: &dyn Disk, directory: &Path, root: &Path, ours: u32) -> Result<Stat, PlaceFault> {
    if directory.starts_with(root) {
        return Err(PlaceFault::Inside(directory.to_owned()));
    }
    let found = check_way(disk, directory, ours)?;
    if found.owner != ours {
        return Err(PlaceFault::Owner { path: directory.to_owned(), owner: found.owner });
    }
    if found.mode & STICKY == 0 || found.mode & READABLE_BY_OTHERS != 0 {
        return Err(PlaceFault::Mode { path: directory.to_owned(), mode: found.mode });
    }
    Ok(found)
}

/// Checks the way to a directory, itself included: nobody but us and root can put another in the place of any part of it.
///
/// # Errors
/// [`PlaceFault`].
pub fn check_way(disk: &dyn Disk, directory: &Path, ours: u32) -> Result<Stat, PlaceFault> {
    let mut above: Option<Stat> = None;
    let mut way: Vec<&Path> = directory.ancestors().collect();
    way.reverse();
    for path in way {
        let found = disk.stat(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PlaceFault::Missing(path.to_owned()),
            io::ErrorKind::NotADirectory => PlaceFault::NotDirectory(path.to_owned()),
            _ => PlaceFault::Io { path: path.to_owned(), error },
        })?;
        if found.kind != Kind::Directory {
            return Err(PlaceFault::NotDirectory(path.to_owned()));
        }
        if found.owner != ours && found.owner != ROOT {
            return Err(PlaceFault::Owner { path: path.to_owned(), owner: found.owner });
        }
        if let (Some(above), Some(parent)) = (above, path.parent())
            && above.mode & WRITABLE_BY_OTHERS != 0
            && above.mode & STICKY == 0
        {
            return Err(PlaceFault::Replaceable { path: parent.to_owned(), mode: above.mode });
        }
        above = Some(found);
    }
    above.ok_or_else(|| PlaceFault::NotDirectory(directory.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn only_a_directory_that_nobody_else_can_replace_read_or_empty_is_a_dropbox() {
        let scratch = tempfile::tempdir().unwrap();
        let ours = rustix::process::geteuid().as_raw();
        let scratch = scratch.path().canonicalize().unwrap();
        let (parent, dropbox) = (scratch.join("parent"), scratch.join("parent/box"));
        fs::create_dir_all(&dropbox).unwrap();
        let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let check = |path: &Path| check(&RealDisk, path, &scratch.join("root"), ours);
        mode(&parent, PARENT_MODE);
        mode(&dropbox, MODE);
        assert!(check(&dropbox).is_ok());
        for wrong in [0o733, 0o1777, 0o1737, 0o1773] {
            mode(&dropbox, wrong);
            assert!(matches!(check(&dropbox), Err(PlaceFault::Mode { .. })), "{wrong:o}");
        }
        mode(&dropbox, MODE);
        mode(&parent, 0o777);
        assert!(matches!(check(&dropbox), Err(PlaceFault::Replaceable { .. })));
        mode(&parent, 0o1777);
        assert!(check(&dropbox).is_ok(), "sticky, and what is in it is ours");
        symlink(&parent, scratch.join("link")).unwrap();
        assert!(matches!(check(&scratch.join("link/box")), Err(PlaceFault::NotDirectory(_))));
        fs::remove_dir(&dropbox).unwrap();
        assert!(matches!(check(&dropbox), Err(PlaceFault::Missing(_))));
        fs::write(&dropbox, "").unwrap();
        assert!(matches!(check(&dropbox), Err(PlaceFault::NotDirectory(_))));
        assert!(matches!(check(&scratch.join("root/box")), Err(PlaceFault::Inside(_))));
        let others = super::check(&RealDisk, &parent, Path::new("/nowhere"), ours.wrapping_add(1));
        assert!(matches!(others, Err(PlaceFault::Owner { .. })));
    }
}
