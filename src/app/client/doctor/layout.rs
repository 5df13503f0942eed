//! Directories, owners and modes (docs/filesystem.md, "Layout"): the one part that `--repair` mends.
//!
//! Modes are asked of what the daemon writes. What people put into `contacts/`, `outbox/`, `tmp/` and `ui_info/` has
//! the modes they like: the root and these directories keep others out.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::checkup::Checkup;
use super::findings::{Finding, Severity};
use crate::client::metadata;
use crate::client::root::Root;
use crate::clock::Timestamp;
use crate::disk::atomic;

/// Files of the root itself that only we may read.
const FILES: &[&str] = &["config.pb", "profile.pb", "status"];

/// Directories in which everything is the daemon's, to the bottom.
const PRIVATE: &[&str] = &["keys", "journal", "conversations", "requests", "alerts", "tmp/chatterboxd", "tor"];

/// Of these, what a running daemon changes all the time.
const BUSY: &[&str] = &["journal", "tmp/chatterboxd"];

/// There with one dialer only. Arti refuses it where others may write to it.
const TOR: &str = "tor";

/// Deeper than any of ours: `journal/spool/FINGERPRINT/SEQUENCE`. What lies deeper is nobody's.
const DEPTH_MAX: usize = 3;

/// The owner and the filesystem that everything must have.
struct Home {
    owner: u32,
    device: u64,
}

pub(super) fn check(checkup: &mut Checkup<'_>) {
    let Ok(found) = fs::metadata(checkup.root.path()) else { return };
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        let problem = format!("it belongs to user {}, and this is user {user}", found.uid());
        let remedy =
            "Run all programs as its owner, or give all of it to yourself: chown -R. Nothing is mended until then.";
        checkup.error("owner", Path::new(""), problem, remedy);
        // What we made would be ours, and in the owner's way.
        checkup.repair = false;
    }
    let home = Home { owner: found.uid(), device: found.dev() };
    check_mode(checkup, Path::new(""), &found);
    for directory in Root::DIRECTORIES {
        check_directory(checkup, Path::new(directory), &home);
    }
    for file in FILES.iter().map(Path::new) {
        if let Ok(found) = fs::symlink_metadata(checkup.root.join(file)) {
            check_entry(checkup, file, &found, &home);
        }
    }
    if fs::symlink_metadata(checkup.root.join(TOR)).is_ok() {
        check_directory(checkup, Path::new(TOR), &home);
    }
    for directory in PRIVATE.iter().map(Path::new) {
        if !is_busy(checkup, directory) && !is_link(checkup, directory) {
            walk(checkup, directory, DEPTH_MAX, &home);
        }
    }
}

/// Whether a running daemon works there.
fn is_busy(checkup: &Checkup<'_>, path: &Path) -> bool {
    checkup.is_busy() && BUSY.iter().any(|directory| path.starts_with(directory))
}

/// Whether a path below the root is a link. The root itself may be behind a link.
fn is_link(checkup: &Checkup<'_>, path: &Path) -> bool {
    let found = fs::symlink_metadata(checkup.root.join(path));
    path != Path::new("") && found.is_ok_and(|found| found.is_symlink())
}

fn check_directory(checkup: &mut Checkup<'_>, path: &Path, home: &Home) {
    let found = match fs::symlink_metadata(checkup.root.join(path)) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return missing(checkup, path),
        Err(error) => {
            let remedy = "Make the directory above it yours and readable: chown, chmod u+rwx.";
            return checkup.error("unreadable", path, error.to_string(), remedy);
        }
    };
    // A link is followed here, so that the filesystem behind it is seen.
    let Some(behind) = fs::metadata(checkup.root.join(path)).ok().filter(Metadata::is_dir) else {
        let remedy = "Move away what has its name; the next start of chatterboxd makes the directory.";
        return checkup.error("not-a-directory", path, "it is no directory", remedy);
    };
    if behind.dev() != home.device {
        let remedy = "Put the whole root on one filesystem: files are moved between its directories by rename.";
        checkup.error("filesystem", path, "it is on another filesystem than the root", remedy);
    }
    if found.is_symlink() {
        let remedy = "Move the directory itself here: a link can be turned elsewhere, and a backup does not follow it.";
        checkup.warning("link", path, "it is a symbolic link", remedy);
    } else {
        check_entry(checkup, path, &found, home);
    }
}

fn missing(checkup: &mut Checkup<'_>, path: &Path) {
    let mend = |checkup: &Checkup<'_>| {
        if path.parent().is_some_and(|parent| is_link(checkup, parent)) {
            return Err("the directory above it is a link".to_owned());
        }
        atomic::make_private_directory(checkup.root.disk(), &checkup.root.join(path)).map_err(|error| error.to_string())
    };
    let remedy = "`chatterbox doctor --repair` makes it, and so does the next start of chatterboxd.";
    mendable(checkup, Severity::Warning, "missing", path, "the directory is missing".into(), remedy, mend);
}

/// Everything below a directory, without following links.
fn walk(checkup: &mut Checkup<'_>, directory: &Path, depth: usize, home: &Home) {
    for entry in checkup.entries(directory) {
        // It may have gone since it was listed.
        let Ok(found) = fs::symlink_metadata(checkup.root.join(&entry.path)) else { continue };
        if found.is_symlink() {
            continue;
        }
        // Those that a root always has were looked at before.
        let is_known = Root::DIRECTORIES.iter().any(|known| entry.path == Path::new(known));
        if !is_known && (found.is_dir() || is_ours(&entry.path)) {
            check_entry(checkup, &entry.path, &found, home);
        }
        if found.is_dir() && depth > 1 && !is_busy(checkup, &entry.path) {
            walk(checkup, &entry.path, depth - 1, home);
        }
    }
}

/// Whether the daemon made a file. Beside the messages of a conversation a person may keep others, and on its way out
/// of the outbox a file is still theirs.
fn is_ours(path: &Path) -> bool {
    let parts: Vec<Cow<'_, str>> = path.iter().map(OsStr::to_string_lossy).collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts[..] {
        ["conversations", _, name] => name == metadata::FILE || Timestamp::of_name(name).is_some(),
        ["tmp", _, name] => !name.starts_with("taken-"),
        _ => true,
    }
}

fn check_entry(checkup: &mut Checkup<'_>, path: &Path, found: &Metadata, home: &Home) {
    if found.uid() != home.owner {
        let problem = format!("it belongs to user {}, and the root to user {}", found.uid(), home.owner);
        checkup.error("owner", path, problem, "Give it to the owner of the root: chown.");
    } else {
        check_mode(checkup, path, found);
    }
}

/// Nothing for others, and all that we need for ourselves.
fn check_mode(checkup: &mut Checkup<'_>, path: &Path, found: &Metadata) {
    let (needed, kind) = match (found.is_dir(), found.is_file()) {
        (true, _) => (0o700, "directory"),
        (_, true) => (0o400, "file"),
        _ => return,
    };
    let mode = found.permissions().mode() & 0o777;
    let mended = if found.is_dir() { 0o700 } else { mode & 0o700 | 0o600 };
    let remedy = format!("`chmod {mended:o}` it, or let `chatterbox doctor --repair` do so.");
    let (severity, problem) = if mode & needed != needed {
        (Severity::Error, format!("chatterboxd may not use this {kind}: its mode is {mode:04o}"))
    } else if mode & 0o077 != 0 {
        (Severity::Warning, format!("others have permissions to this {kind}: its mode is {mode:04o}"))
    } else {
        return;
    };
    let mend = |checkup: &Checkup<'_>| {
        change_mode(&checkup.root.join(path), found, mended).map_err(|error| format!("chmod: {error}"))
    };
    mendable(checkup, severity, "mode", path, problem, &remedy, mend);
}

/// A finding that is mended now, if that is asked for and nobody is in the way.
fn mendable(
    checkup: &mut Checkup<'_>,
    severity: Severity,
    kind: &'static str,
    path: &Path,
    problem: String,
    remedy: &str,
    mend: impl FnOnce(&Checkup<'_>) -> Result<(), String>,
) {
    let (repaired, remedy) = if !checkup.repair {
        (false, remedy.to_owned())
    } else if is_busy(checkup, path) {
        (false, format!("chatterboxd works there, or may do so. Stop it first; then: {remedy}"))
    } else {
        match mend(checkup) {
            Ok(()) => (true, String::new()),
            Err(error) => (false, format!("It could not be mended ({error}). {remedy}")),
        }
    };
    let path: PathBuf = path.to_owned();
    checkup.findings.add(Finding { severity, kind, path, problem, remedy, repaired });
}

/// Changes the mode of what was looked at, and of nothing that has taken its name since.
fn change_mode(path: &Path, seen: &Metadata, mode: u32) -> io::Result<()> {
    // O_PATH opens also what we may not read.
    let file =
        File::from(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?);
    let found = file.metadata()?;
    if (found.dev(), found.ino()) != (seen.dev(), seen.ino()) {
        return Err(io::Error::other("another file has its name now"));
    }
    fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(mode))
}
