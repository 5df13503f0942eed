//! `outbox/`: what waits, what was refused, and what never will be a message.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::checkup::{Checkup, Entry};
use crate::app::client::causes;
use crate::client::error_file;
use crate::client::metadata::ID_FILE;
use crate::client::root::{CANCEL_DIRECTORY, WATCHED};
use crate::disk::open::{self, OpenError};
use crate::name;
use crate::wire::identity::ConversationId;

/// 32 digits and a line's end, generously.
const ID_FILE_BYTES_MAX: u64 = 64;

pub(super) fn check(checkup: &mut Checkup<'_>) {
    let device = fs::metadata(checkup.root.path()).map(|found| found.dev()).ok();
    let mut watches = WATCHED.len();
    for entry in checkup.entries(Path::new("outbox")) {
        if is_error(&entry) {
            check_error(checkup, &entry);
        } else if entry.is_hidden() {
        } else if entry.kind.is_dir() {
            watches += 1;
            let found = fs::symlink_metadata(checkup.root.join(&entry.path)).map(|found| found.dev()).ok();
            if found.is_some() && found != device {
                let remedy = "Make a plain directory here instead: files are moved out of it by rename.";
                checkup.error("filesystem", &entry.path, "it is on another filesystem than the root", remedy);
            }
            check_directory(checkup, &entry.path);
        } else if !name::is_ignored(&entry.name) {
            let (problem, remedy) = match entry.kind.is_symlink() {
                true => ("it is a symbolic link, and links in the outbox are not followed", "Make a directory here."),
                false => (
                    "it is in no conversation, so nobody would get it",
                    "Move it into a directory named after its recipients, such as outbox/bob/.",
                ),
            };
            refuse(checkup, &entry, problem, remedy);
        }
    }
    for entry in checkup.entries(Path::new(CANCEL_DIRECTORY)) {
        if is_error(&entry) {
            check_error(checkup, &entry);
        }
    }
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok();
    if let Some(limit) = limit.and_then(|text| text.trim().parse().ok()) {
        check_watches(checkup, watches, limit);
    }
}

fn check_directory(checkup: &mut Checkup<'_>, directory: &Path) {
    let mut waiting = 0;
    for entry in checkup.entries(directory) {
        if entry.name == ID_FILE {
            check_id(checkup, &entry.path);
        } else if is_error(&entry) {
            check_error(checkup, &entry);
        } else if name::is_ignored(&entry.name) {
        } else if entry.kind.is_file() {
            waiting += usize::from(!has_error(checkup, &entry.path));
        } else {
            let problem = match (entry.kind.is_symlink(), entry.kind.is_dir()) {
                (true, _) => "it is a symbolic link, and links in the outbox are not followed",
                (_, true) => "it is a directory, and a message is a file",
                _ => "it is no regular file",
            };
            refuse(checkup, &entry, problem, "Put a plain file here.");
        }
    }
    // What a running daemon has not taken yet it says itself.
    if waiting > 0 && !checkup.is_busy() {
        let problem = match waiting {
            1 => "a file waits to be sent".to_owned(),
            count => format!("{count} files wait to be sent"),
        };
        checkup.note("waiting", directory, problem, "Start chatterboxd.");
    }
}

/// The daemon passes over an id that it does not know, and goes by the directory's name.
fn check_id(checkup: &mut Checkup<'_>, path: &Path) {
    const REMEDY: &str = "Remove the file if the directory's name lists its recipients; else name it after them first.";
    let problem = match open::read_regular(checkup.root.disk(), &checkup.root.join(path), ID_FILE_BYTES_MAX) {
        Ok(bytes) => {
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            match ConversationId::from_hex(text.trim()) {
                Some(id) if checkup.may_know(&id) => return,
                Some(id) => format!("it names the conversation {id}, which chatterboxd does not know"),
                None => "it holds no conversation's id".to_owned(),
            }
        }
        Err(OpenError::Absent) => return,
        Err(error) => error.to_string(),
    };
    if !checkup.rewritten.contains(path) {
        checkup.warning("id", path, problem, REMEDY);
    }
}

fn is_error(entry: &Entry) -> bool {
    entry.name.to_string_lossy().ends_with(".error")
}

fn has_error(checkup: &Checkup<'_>, path: &Path) -> bool {
    fs::symlink_metadata(error_file::beside(&checkup.root.join(path))).is_ok()
}

/// What the daemon says itself is not said again.
fn refuse(checkup: &mut Checkup<'_>, entry: &Entry, problem: &str, remedy: &str) {
    if !has_error(checkup, &entry.path) {
        checkup.error("outbox", &entry.path, problem, remedy);
    }
}

fn check_error(checkup: &mut Checkup<'_>, entry: &Entry) {
    if let Some(text) = error_file::read(checkup.root, &checkup.root.join(&entry.path)) {
        let (problem, remedy) = causes::behind_a_colon(&text);
        checkup.error("outbox", &entry.path, problem, &remedy);
    }
}

fn check_watches(checkup: &mut Checkup<'_>, needed: usize, limit: usize) {
    if needed > limit {
        let problem =
            format!("chatterboxd watches {needed} directories, and the system allows {limit} watches to a user");
        // With room for other programs, and for more conversations.
        let remedy = format!("As root: sysctl fs.inotify.max_user_watches={}", needed.saturating_mul(4).max(65_536));
        checkup.warning("watches", Path::new("outbox"), problem, &remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::root::Root;

    #[test]
    fn too_few_watches_are_a_warning_with_the_line_that_helps() {
        let root = Root::new("/nowhere");
        let mut checkup = Checkup::begin(&root, false);
        check_watches(&mut checkup, 100, 100);
        assert!(checkup.findings.is_healthy());
        check_watches(&mut checkup, 101, 100);
        let groups = checkup.findings.groups();
        let finding = groups[0].first().unwrap();
        assert!(finding.problem.contains("101") && finding.remedy.ends_with("fs.inotify.max_user_watches=65536"));
    }
}
