//! Whether a dropbox's directory is the one that its owner made, and nobody can put another in its place.
//!
//! From `/` down to it, every directory is ours or root's, and whoever else may write into one of them cannot replace what is
//! ours in it, because it is sticky. Then a path that was checked goes on meaning the same, and can be used by name.
//!
//! Whether its sender can come there is another question ([`closed_to`]): nothing is unsafe where not, but nothing comes.

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
/// Of three bits of a mode: to pass through a directory, and to put something into it.
const SEARCH: u32 = 0o1;
const ENTER: u32 = 0o3;

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

/// What keeps a user out of a dropbox: what is wrong and what to do, a sentence each.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Closed {
    /// They may not pass through a directory on the way.
    #[error("User {uid} cannot come to the dropbox: {} has the mode {mode:04o}, and they may not pass through it.\nLet them pass (chmod o+x), or make the dropbox elsewhere.", path.display())]
    Way {
        /// Whom it keeps out.
        uid: u32,
        /// The first one from `/` on.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// They may not put anything into the dropbox.
    #[error("User {uid} can put nothing into {}: it has the mode {mode:04o}.\nGive it the mode of a dropbox: chmod 1733.", path.display())]
    Itself {
        /// Whom it keeps out.
        uid: u32,
        /// The dropbox.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// What keeps a user out of a dropbox, as far as owners and modes tell. Which groups they are in is not known, and an access
/// list shows in the bits of the group: what is open to some group is taken to be open to them. Nothing is said either of what
/// cannot be looked at, which [`check`] finds.
pub fn closed_to(disk: &dyn Disk, directory: &Path, uid: u32) -> Option<Closed> {
    if uid == ROOT {
        return None;
    }
    let mut way: Vec<&Path> = directory.ancestors().collect();
    way.reverse();
    for path in way {
        let Stat { owner, mode, .. } = disk.stat(path).ok()?;
        let wanted = if path == directory { ENTER } else { SEARCH };
        let grants = |shift: u32| (mode >> shift) & wanted == wanted;
        let is_open = if owner == uid { grants(6) } else { grants(3) || grants(0) };
        if !is_open {
            let path = path.to_owned();
            return Some(match wanted {
                SEARCH => Closed::Way { uid, path, mode },
                _ => Closed::Itself { uid, path, mode },
            });
        }
    }
    None
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

    #[test]
    fn the_first_directory_that_keeps_a_user_out_is_named_and_what_a_group_may_pass_is_open() {
        // Where everybody may come.
        let scratch = tempfile::tempdir_in("/tmp").unwrap();
        let ours = rustix::process::geteuid().as_raw();
        let other = ours.wrapping_add(1);
        let scratch = scratch.path().canonicalize().unwrap();
        let (outer, inner, dropbox) = (scratch.join("a"), scratch.join("a/b"), scratch.join("a/b/box"));
        fs::create_dir_all(&dropbox).unwrap();
        let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let closed = |uid: u32| closed_to(&RealDisk, &dropbox, uid);
        let way = |path: &Path, mode| Some(Closed::Way { uid: other, path: path.to_owned(), mode });
        mode(&dropbox, MODE);
        mode(&scratch, 0o700);
        assert_eq!(closed(other), way(&scratch, 0o700));
        mode(&scratch, PARENT_MODE);
        mode(&outer, 0o710);
        mode(&inner, 0o766);
        assert_eq!(closed(other), way(&inner, 0o766), "to read names is not to pass");
        mode(&inner, 0o701);
        assert_eq!(closed(other), None);
        // One bit for the group and one for the others are no way in for anybody.
        for (itself, is_open) in [(0o1700, false), (0o1711, false), (0o1712, false), (0o1730, true), (MODE, true)] {
            mode(&dropbox, itself);
            let expected = Closed::Itself { uid: other, path: dropbox.clone(), mode: itself };
            assert_eq!(closed(other), (!is_open).then_some(expected), "{itself:o}");
            assert_eq!(closed(ours), None, "{itself:o}: it is ours");
        }
        mode(&inner, 0o000);
        assert_eq!((closed(ROOT), closed(other)), (None, way(&inner, 0)));
        assert_eq!(closed_to(&RealDisk, &scratch.join("gone"), other), None, "that is found elsewhere");
        mode(&inner, 0o700);
    }
}
