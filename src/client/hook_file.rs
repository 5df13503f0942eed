//! `hooks/on-…`: the programs that a person wants to be run when something has happened, and whether they may be.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::dropbox::place::{self, PlaceFault};
use super::root::Root;
use crate::disk::system::{Disk, Kind, Stat};

/// The directory's name.
pub const DIRECTORY: &str = "hooks";

/// What a hook is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A message of somebody else has appeared in a conversation.
    Message,
    /// A recipient acknowledged a message of ours.
    Delivered,
    /// A message of ours was given up for a recipient.
    Failed,
    /// An alert has appeared.
    Alert,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Message, Self::Delivered, Self::Failed, Self::Alert];

    /// The name of its file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Message => "on-message",
            Self::Delivered => "on-delivered",
            Self::Failed => "on-failed",
            Self::Alert => "on-alert",
        }
    }

    /// What it is told has happened.
    pub fn event(self) -> &'static str {
        self.file_name().trim_start_matches("on-")
    }

    /// Its file, relative to the root.
    pub fn path(self) -> PathBuf {
        Path::new(DIRECTORY).join(self.file_name())
    }
}

/// Why a hook is not run: what is wrong, and what to do, a sentence each.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HookFault {
    /// It is no file.
    #[error("It is no regular file, and no link to one.\nPut a program there, or remove it.")]
    NotRegular,
    /// It belongs to somebody else, who can change it.
    #[error("It belongs to user {0}.\nPut a program of your own there.")]
    NotOurs(u32),
    /// Others can change it.
    #[error("Others may write to it: its mode is {0:04o}.\nTake that from them: chmod go-w.")]
    Writable(u32),
    /// The same of the directory, where they can put something else in its place.
    #[error(
        "Others may put something else in its place: hooks/ has the mode {0:04o}, and belongs to user {1}.\nMake hooks/ yours alone: chown, chmod go-w."
    )]
    Replaceable(u32, u32),
    /// The same of the way to what a link leads to.
    #[error(
        "It leads to a place where others may put something else: {0}\nPut the program where only you and root can write."
    )]
    Way(String),
    /// It cannot be executed.
    #[error("It is not executable.\nMake it so: chmod u+x.")]
    NotExecutable,
    /// It cannot be looked at.
    #[error("It cannot be looked at: {0}.\nMend or remove it.")]
    Unreadable(String),
}

/// The program of a hook; none if there is none. Links are followed: what counts is what they lead to.
///
/// # Errors
/// [`HookFault`]. Whoever can change what we run is us.
pub fn examine(root: &Root, hook: Hook) -> Result<Option<Stat>, HookFault> {
    let path = hook.path();
    if !root.is_taken(&path) {
        return Ok(None);
    }
    let found = match root.disk().stat_behind(&root.join(&path)) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HookFault::NotRegular),
        Err(error) => return Err(HookFault::Unreadable(error.to_string())),
    };
    let directory = root.disk().stat_behind(&root.join(DIRECTORY));
    let directory = directory.map_err(|error| HookFault::Unreadable(error.to_string()))?;
    let us = rustix::process::geteuid().as_raw();
    judge(&found, &directory, us)?;
    check_target(root.disk(), &root.join(&path), us)?;
    Ok(Some(found))
}

/// If it is a link: nobody else can put another program in the place of the one that it leads to.
fn check_target(disk: &dyn Disk, path: &Path, us: u32) -> Result<(), HookFault> {
    let unreadable = |error: io::Error| HookFault::Unreadable(error.to_string());
    if disk.stat(path).map_err(unreadable)?.kind != Kind::Symlink {
        return Ok(());
    }
    let target = disk.resolve(path).map_err(unreadable)?;
    let directory = target.parent().unwrap_or(Path::new("/"));
    // Its first sentence says what is wrong; the second one is about dropboxes.
    let describe = |fault: &PlaceFault| fault.to_string().lines().next().unwrap_or_default().to_owned();
    let found = place::check_way(disk, directory, us).map_err(|fault| HookFault::Way(describe(&fault)))?;
    // In a sticky directory they could not take it away, but put another there once it is gone.
    match found.mode & 0o022 {
        0 => Ok(()),
        _ => Err(HookFault::Way(format!("others may write into {}.", directory.display()))),
    }
}

fn judge(found: &Stat, directory: &Stat, us: u32) -> Result<(), HookFault> {
    let is_ours = |stat: &Stat| stat.owner == us || stat.owner == 0;
    let mode = found.mode & 0o7777;
    if found.kind != Kind::File {
        return Err(HookFault::NotRegular);
    }
    if !is_ours(directory) || directory.mode & 0o022 != 0 {
        return Err(HookFault::Replaceable(directory.mode & 0o7777, directory.owner));
    }
    if !is_ours(found) {
        return Err(HookFault::NotOurs(found.owner));
    }
    if mode & 0o022 != 0 {
        return Err(HookFault::Writable(mode));
    }
    if mode & 0o111 == 0 {
        return Err(HookFault::NotExecutable);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_link_is_followed_only_where_nobody_else_can_replace_what_it_leads_to() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = scratch.path().canonicalize().unwrap();
        let root = Root::new(scratch.join("root"));
        let (programs, below) = (scratch.join("programs"), scratch.join("programs/below"));
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for directory in [&root.join(DIRECTORY), &below, &programs] {
            fs::create_dir_all(directory).unwrap();
            mode(directory, 0o755);
        }
        let program = below.join("run");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        mode(&program, 0o700);
        symlink(&program, root.join(Hook::Message.path())).unwrap();
        assert!(matches!(examine(&root, Hook::Message), Ok(Some(_))));
        for (open, wrong) in [(&programs, 0o777), (&below, 0o777), (&below, 0o1777)] {
            mode(open, wrong);
            let fault = examine(&root, Hook::Message).unwrap_err();
            assert!(matches!(fault, HookFault::Way(_)), "{fault:?}");
            assert_eq!(fault.to_string().lines().count(), 2);
            mode(open, 0o755);
        }
    }

    #[test]
    fn only_what_nobody_else_can_change_is_run() {
        let stat = |kind, owner, mode| Stat {
            kind,
            device: 1,
            inode: 1,
            born_ns: None,
            modified_ns: 0,
            size: 1,
            links: 1,
            owner,
            mode,
        };
        let directory = stat(Kind::Directory, 7, 0o700);
        let judged = |owner, mode| judge(&stat(Kind::File, owner, mode), &directory, 7);
        assert_eq!(judged(7, 0o700), Ok(()));
        assert_eq!(judged(0, 0o755), Ok(()));
        assert_eq!(judged(8, 0o755), Err(HookFault::NotOurs(8)));
        assert_eq!(judged(7, 0o720), Err(HookFault::Writable(0o720)));
        assert_eq!(judged(7, 0o702), Err(HookFault::Writable(0o702)));
        assert_eq!(judged(7, 0o600), Err(HookFault::NotExecutable));
        let file = stat(Kind::File, 7, 0o700);
        assert_eq!(judge(&stat(Kind::Fifo, 7, 0o700), &directory, 7), Err(HookFault::NotRegular));
        for (owner, mode) in [(7, 0o720), (7, 0o1777), (8, 0o700)] {
            let fault = judge(&file, &stat(Kind::Directory, owner, mode), 7).unwrap_err();
            assert_eq!(fault, HookFault::Replaceable(mode, owner));
            assert_eq!(fault.to_string().lines().count(), 2);
        }
    }
}
