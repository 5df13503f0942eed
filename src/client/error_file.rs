//! `NAME.error`: what is wrong with the file NAME and what to do about it (design, section 2). It goes away when its
//! cause does. The last line says so, and is how we know our own: a person's file of such a name is left alone.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::root::Root;
use crate::disk::atomic;
use crate::disk::open;
use crate::disk::system::Disk;
use crate::name;

/// The last line of every error file.
pub(super) const SIGNATURE: &str = "(chatterboxd removes this file when its cause is gone.)\n";

/// More than any error file has.
const BYTES_MAX: u64 = 4_096;

/// The path of the error file beside `path`.
pub fn beside(path: &Path) -> PathBuf {
    let name = name::error_file(path.file_name().unwrap_or_default().as_bytes());
    path.with_file_name(OsString::from_vec(name))
}

/// Whether the daemon wrote the file at `path`.
pub fn is_ours(root: &Root, path: &Path) -> bool {
    is_signed(root.disk(), path)
}

/// Whether the file at `path` ends as every error file does.
pub(super) fn is_signed(disk: &dyn Disk, path: &Path) -> bool {
    open::read_regular(disk, path, BYTES_MAX).is_ok_and(|bytes| bytes.ends_with(SIGNATURE.as_bytes()))
}

/// What the error file beside `target` (absolute) says.
pub fn text(root: &Root, target: &Path) -> Option<String> {
    open::read_text(root.disk(), &beside(target), BYTES_MAX)
}

/// What the error file at `path` says, its last line left out; none if it is not the daemon's.
pub fn read(root: &Root, path: &Path) -> Option<String> {
    let bytes = open::read_regular(root.disk(), path, BYTES_MAX).ok()?;
    let text = bytes.strip_suffix(SIGNATURE.as_bytes())?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Whether an error can be put beside `target` (absolute): nothing stands there, or an error of ours.
pub(super) fn has_place(root: &Root, target: &Path) -> bool {
    let path = beside(target);
    let is_taken = root.disk().stat(&path).is_ok() && !is_ours(root, &path);
    if is_taken {
        tracing::warn!("a file of another program stands where an error file should be");
    }
    !is_taken
}

/// Puts `text` beside `target` (absolute), in place of an older error of ours. False if that could not be done.
pub fn write(root: &Root, target: &Path, text: &str) -> bool {
    if !has_place(root, target) {
        return false;
    }
    let path = beside(target);
    let text = format!("{text}\n{SIGNATURE}");
    let written = atomic::replace_unsynced(root.disk(), &root.tmp("chatterboxd"), &path, text.as_bytes());
    if let Err(error) = &written {
        tracing::warn!(%error, "an error file could not be written");
    }
    written.is_ok()
}

/// Removes the error file at `path`, if it is ours.
pub fn remove(root: &Root, path: &Path) {
    if !is_ours(root, path) {
        return;
    }
    if let Err(error) = root.disk().unlink(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "an error file could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_persons_own_file_is_neither_replaced_nor_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path());
        fs::create_dir_all(root.tmp("chatterboxd")).unwrap();
        let (target, own) = (root.join("app"), root.join("app.error"));
        fs::write(&own, "a log of mine\n").unwrap();
        assert!(!write(&root, &target, "Wrong.\nMend it.") && read(&root, &own).is_none());
        remove(&root, &own);
        assert_eq!(fs::read_to_string(&own).unwrap(), "a log of mine\n");
        fs::remove_file(&own).unwrap();
        assert!(write(&root, &target, "Wrong.\nMend it.") && write(&root, &target, "Worse.\nMend it."));
        assert_eq!(read(&root, &own).unwrap(), "Worse.\nMend it.\n");
        remove(&root, &own);
        assert!(!own.exists());
    }
}
