//! `Place`: a file appears whole under its final name, and never overwrites another.
//!
//! The rename of the prepared scratch file is the step. Hence, within one boot, a scratch file that is gone says that
//! the step was done, and what a person deleted since stays deleted.
//!
//! After a power failure any part of the step may be missing: the name, the content, or some of its blocks. What stands
//! under the final name then is
//! - ours, if the bytes are the same;
//! - ours but damaged, if every byte is the same or zero and there are no more of them: a lost block or tail reads as
//!   zeros or is not there (filesystems that show other files' old blocks after a crash, such as ext4 with
//!   `data=writeback`, are not supported). It is replaced;
//! - somebody else's otherwise, and left alone. Either it had the name first, and ours went under a numbered one, which
//!   is looked at next; or it replaced ours, which therefore had been seen.
//!
//! A missing file is written again, even if a person may have deleted it just before the power failed.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::apply::{Mode, in_directory};
use crate::disk::atomic;
use crate::disk::open::{OpenError, read_regular};
use crate::disk::system::Disk;
use crate::name;
use crate::name::NAME_TRIES_MAX;

pub(super) fn place(
    disk: &dyn Disk,
    root: &Path,
    path: &Path,
    scratch: &Path,
    bytes: &[u8],
    mode: Mode,
) -> io::Result<()> {
    let prepared = exists(disk, scratch)?;
    match mode {
        Mode::OtherBoot => repair(disk, root, path, scratch, bytes, prepared),
        Mode::SameBoot if !prepared => dirty_again(disk, path, bytes),
        Mode::SameBoot => move_new(disk, root, path, scratch),
        Mode::Live => {
            if !prepared {
                // Somebody cleaned up in tmp/.
                prepare(disk, root, scratch, bytes)?;
            }
            move_new(disk, root, path, scratch)
        }
    }
}

/// Writes the scratch file, over whatever has its name.
pub(super) fn prepare(disk: &dyn Disk, root: &Path, scratch: &Path, bytes: &[u8]) -> io::Result<()> {
    match in_directory(disk, root, scratch, || atomic::write_new(disk, scratch, bytes)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            atomic::remove(disk, scratch)?;
            atomic::write_new(disk, scratch, bytes)
        }
        result => result,
    }
}

/// Moves `from` to `path`, or to the first numbered name that is free, making the directory if it is gone.
pub(super) fn move_new(disk: &dyn Disk, root: &Path, path: &Path, from: &Path) -> io::Result<()> {
    for number in 1..=NAME_TRIES_MAX {
        let name = numbered(path, number);
        match in_directory(disk, root, &name, || disk.rename_new(from, &name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result,
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "every numbered name is taken too"))
}

fn repair(disk: &dyn Disk, root: &Path, path: &Path, scratch: &Path, bytes: &[u8], prepared: bool) -> io::Result<()> {
    for number in 1..=NAME_TRIES_MAX {
        let name = numbered(path, number);
        match Standing::of(disk, &name, bytes)? {
            Standing::Nothing if number == 1 || prepared => {
                prepare(disk, root, scratch, bytes)?;
                return in_directory(disk, root, &name, || disk.rename_new(scratch, &name));
            }
            // A person's file replaced ours.
            Standing::Nothing => return Ok(()),
            Standing::Ours => {
                // Its name, or that of the scratch file, may be all that reached the disk: with the content rewritten
                // the checkpoint's sync covers everything.
                dirty_again(disk, &name, bytes)?;
                return atomic::remove(disk, scratch);
            }
            Standing::Damaged => {
                prepare(disk, root, scratch, bytes)?;
                return disk.rename(scratch, &name);
            }
            Standing::Another => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "every numbered name is taken too"))
}

enum Standing {
    Nothing,
    Ours,
    Damaged,
    Another,
}

impl Standing {
    fn of(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let standing = match read_regular(disk, path, bytes.len() as u64) {
            Ok(standing) => standing,
            Err(OpenError::Absent) => return Ok(Self::Nothing),
            Err(OpenError::Io(error)) => return Err(error),
            Err(_) => return Ok(Self::Another),
        };
        Ok(match standing.as_slice() == bytes {
            true => Self::Ours,
            false if is_remains(&standing, bytes) => Self::Damaged,
            false => Self::Another,
        })
    }
}

/// Whether `standing` is what a power failure may have left of `bytes`: lost blocks read as zeros, a lost tail is not
/// there.
pub(super) fn is_remains(standing: &[u8], bytes: &[u8]) -> bool {
    let lost = |(there, ours): (&u8, &u8)| there == ours || *there == 0;
    standing.len() <= bytes.len() && standing.iter().zip(bytes).all(lost)
}

/// Writes the bytes of a file that was placed once more over themselves, if they still stand there.
///
/// The earlier process may have stopped because a sync failed. Then the kernel takes the file's pages for written
/// although they are not, and a later sync would succeed without writing them (PostgreSQL's "fsyncgate", 2018).
fn dirty_again(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if !matches!(Standing::of(disk, path, bytes)?, Standing::Ours) {
        return Ok(());
    }
    match disk.open_to_write(path) {
        Ok(file) => {
            let modified = file.stat()?.modified_ns;
            file.write_at(0, bytes)?;
            file.set_modified(modified)
        }
        // Somebody reads it under a lease, runs it, made it read-only, or took it away: it was seen.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EAGAIN | libc::EACCES | libc::EPERM | libc::ETXTBSY | libc::ENOENT)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn exists(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.stat(path) {
        Ok(_) => Ok(true),
        Err(error) if atomic::is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The `number`th try at a name that is taken: `-2`, `-3`, … before the extension. A name without room is cut.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let raw = path.file_name().unwrap_or_default();
    if number <= 1 {
        return path.to_owned();
    }
    let suffix = format!("-{number}");
    let numbered = raw.to_str().map(|text| name::numbered_message(text, number).into_bytes());
    let bytes = match numbered {
        Some(bytes) if bytes.len() <= name::NAME_BYTES_MAX => bytes,
        _ => {
            let kept = raw.len().min(name::NAME_BYTES_MAX - suffix.len());
            [&raw.as_bytes()[..kept], suffix.as_bytes()].concat()
        }
    };
    path.with_file_name(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_names_keep_the_extension_and_fit() {
        assert_eq!(numbered(Path::new("a/plan.pdf"), 2), Path::new("a/plan-2.pdf"));
        assert_eq!(numbered(Path::new("a/plan"), 1), Path::new("a/plan"));
        let raw = OsString::from_vec(b"\xff".repeat(255));
        let numbered = numbered(&Path::new("a").join(raw), 12).file_name().unwrap().as_bytes().to_vec();
        assert!(numbered.len() == 255 && numbered.ends_with(b"\xff-12"));
    }
}
