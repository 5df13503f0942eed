//! `Take`: a file whose bytes are in the journal leaves the outbox, unless it is not the file that was read.
//!
//! The file is moved first and compared then: between a comparison and an unlink somebody could put another file under
//! the name, and it would be destroyed unread. What differs (replaced, or written since) goes back under its name, or a
//! numbered one, so that its whole content becomes a new message. So does a file that somebody has open for writing by
//! now, even before he writes: a writer whom our lease held back has resolved the name already, and would write into
//! the removed file.
//!
//! A crash leaves the file under its name, under the scratch name, or gone: each says what remains to be done, on any
//! boot.
//!
//! Not seen here: a file whose directory was renamed after it was read. Under the recorded name nothing is left to take,
//! and under the new one stands a file whose message was sent. The scan must know such a file by its identity.

use std::fs;
use std::io;
use std::path::Path;

use super::apply::in_directory;
use super::place::move_new;
use crate::crypto::hash::sha256 as hash;
use crate::disk::atomic::rename_new;
use crate::disk::lease::{LeaseRefused, ReadLease};
use crate::disk::open::{FileIdentity, OpenError, RegularFile};

pub(super) fn take(path: &Path, scratch: &Path, identity: &FileIdentity, sha256: &[u8; 32]) -> io::Result<()> {
    take_with(path, scratch, identity, sha256, || {})
}

/// `meanwhile` runs between looking at the file and moving it, where a test replaces it.
fn take_with(
    path: &Path,
    scratch: &Path,
    identity: &FileIdentity,
    sha256: &[u8; 32],
    meanwhile: impl FnOnce(),
) -> io::Result<()> {
    if settle(path, scratch, identity, sha256)? {
        return Ok(());
    }
    // A first look, so that another file is not moved about without need.
    match RegularFile::open(path) {
        Ok(file) if file.identity()? == *identity => {}
        Err(OpenError::Io(error)) => return Err(error),
        _ => return Ok(()),
    }
    meanwhile();
    match in_directory(scratch, || match fs::symlink_metadata(path) {
        Ok(_) => rename_new(path, scratch).map(|()| true),
        Err(_) => Ok(false),
    }) {
        Ok(true) => settle(path, scratch, identity, sha256).map(drop),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Decides about the file under the scratch name: unlinked or put back. Says whether there was one.
fn settle(path: &Path, scratch: &Path, identity: &FileIdentity, sha256: &[u8; 32]) -> io::Result<bool> {
    match RegularFile::open(scratch) {
        Ok(file) => {
            if !is_unchanged(&file, scratch, identity, sha256)? {
                move_new(path, scratch)?;
            }
        }
        Err(OpenError::Absent) => return Ok(false),
        Err(OpenError::Io(error)) => return Err(error),
        // A link or a directory took its place before it was moved.
        Err(_) => move_new(path, scratch)?,
    }
    Ok(true)
}

/// Unlinks `scratch` if it is the file that was read, and nobody is about to write into it.
fn is_unchanged(file: &RegularFile, scratch: &Path, identity: &FileIdentity, sha256: &[u8; 32]) -> io::Result<bool> {
    // Where there are no leases, comparing is all that can be done.
    let lease = match ReadLease::take(file.file()) {
        Ok(lease) => Some(lease),
        Err(LeaseRefused::Busy) => return Ok(false),
        Err(_) => None,
    };
    if file.identity()? != *identity {
        return Ok(false);
    }
    let content = match file.read(identity.size) {
        Ok(content) => content,
        Err(OpenError::Io(error)) => return Err(error),
        Err(_) => return Ok(false),
    };
    if hash(&[&content]) != *sha256 || lease.as_ref().is_some_and(|lease| !lease.is_held()) {
        return Ok(false);
    }
    fs::remove_file(scratch)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::PathBuf;
    use tempfile::TempDir;

    struct Outbox {
        _directory: TempDir,
        path: PathBuf,
        scratch: PathBuf,
        identity: FileIdentity,
        sha256: [u8; 32],
    }

    impl Outbox {
        fn with(content: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (path, scratch) = (directory.path().join("note.txt"), directory.path().join("tmp/1"));
            fs::write(&path, content).unwrap();
            let identity = RegularFile::open(&path).unwrap().identity().unwrap();
            Self { _directory: directory, path, scratch, identity, sha256: hash(&[content]) }
        }

        fn take(&self, meanwhile: impl FnOnce()) {
            take_with(&self.path, &self.scratch, &self.identity, &self.sha256, meanwhile).unwrap();
            assert!(!self.scratch.exists());
        }
    }

    #[test]
    fn the_file_that_was_read_goes_and_taking_it_again_is_fine() {
        let outbox = Outbox::with(b"one");
        outbox.take(|| {});
        assert!(!outbox.path.exists());
        outbox.take(|| {});
    }

    #[test]
    fn a_crash_between_move_and_unlink_is_finished() {
        let outbox = Outbox::with(b"one");
        fs::create_dir(outbox.scratch.parent().unwrap()).unwrap();
        fs::rename(&outbox.path, &outbox.scratch).unwrap();
        fs::write(&outbox.path, "another").unwrap();
        outbox.take(|| {});
        assert_eq!(fs::read(&outbox.path).unwrap(), b"another");
    }

    #[test]
    fn a_file_replaced_before_or_while_it_is_taken_stays() {
        for before in [true, false] {
            let outbox = Outbox::with(b"one");
            let replace = || {
                let new = outbox.path.with_file_name("new");
                fs::write(&new, "two").unwrap();
                fs::rename(&new, &outbox.path).unwrap();
            };
            if before {
                replace();
                outbox.take(|| {});
            } else {
                outbox.take(replace);
            }
            assert_eq!(fs::read(&outbox.path).unwrap(), b"two");
        }
    }

    #[test]
    fn a_file_written_to_since_is_put_back_whole() {
        let outbox = Outbox::with(b"one");
        outbox.take(|| fs::write(&outbox.path, "one and more").unwrap());
        assert_eq!(fs::read(&outbox.path).unwrap(), b"one and more");
    }

    #[test]
    fn a_file_open_for_writing_by_now_is_put_back() {
        let outbox = Outbox::with(b"one");
        let writer = OpenOptions::new().append(true).open(&outbox.path).unwrap();
        outbox.take(|| {});
        assert_eq!(fs::read(&outbox.path).unwrap(), b"one");
        drop(writer);
        outbox.take(|| {});
        assert!(!outbox.path.exists());
    }

    #[test]
    fn the_readers_own_lease_is_not_in_the_way_but_a_writer_it_holds_back_is_noticed() {
        for writer_waits in [false, true] {
            let outbox = Outbox::with(b"one");
            let file = RegularFile::open(&outbox.path).unwrap();
            let lease = ReadLease::take(file.file()).unwrap();
            if writer_waits {
                let writer = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&outbox.path);
                assert_eq!(writer.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
            }
            outbox.take(|| {});
            assert_eq!(outbox.path.exists(), writer_waits);
            drop(lease);
        }
    }

    #[test]
    fn what_goes_back_finds_its_name_taken_and_gets_a_number() {
        let outbox = Outbox::with(b"one");
        fs::create_dir(outbox.scratch.parent().unwrap()).unwrap();
        fs::write(&outbox.scratch, "changed").unwrap();
        outbox.take(|| {});
        fs::remove_file(&outbox.path).unwrap();
        fs::write(&outbox.scratch, "changed").unwrap();
        fs::write(&outbox.path, "newcomer").unwrap();
        outbox.take(|| {});
        assert_eq!(fs::read(&outbox.path).unwrap(), b"newcomer");
        assert_eq!(fs::read(outbox.path.with_file_name("note-2.txt")).unwrap(), b"changed");
    }

    #[test]
    fn same_name_size_and_time_but_other_content_stays() {
        let outbox = Outbox::with(b"one");
        let modified = fs::metadata(&outbox.path).unwrap().modified().unwrap();
        outbox.take(|| {
            let file = OpenOptions::new().write(true).open(&outbox.path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"two", 0).unwrap();
            file.set_modified(modified).unwrap();
        });
        assert_eq!(fs::read(&outbox.path).unwrap(), b"two");
    }
}
