//! A file of the outbox, read for sending: only one that nobody is writing, and that can be moved away afterwards
//! (design, section 2, "Sending").

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::copying::Copied;
use super::directory::DirectoryFault;
use super::engine::Engine;
use super::root::Root;
use crate::clock::Timestamp;
use crate::disk::lease::LeaseRefused;
use crate::disk::open::FileIdentity;
use crate::disk::open::{OpenError, OtherKind, RegularFile};
use crate::disk::system::{Kind, Stat};
use crate::limits::{CONTENT_BYTES_MAX, EMPTY_FILE_GRACE_MS, QUIET_FILE_MS};

/// A file that is about to be sent.
pub(super) struct Taken {
    pub(super) path: PathBuf,
    /// Open, for its lease.
    pub(super) file: RegularFile,
    pub(super) stat: Stat,
    pub(super) directory: Stat,
    /// Whether nobody writes to it for certain.
    pub(super) is_leased: bool,
}

/// What is in it.
pub(super) enum Held {
    /// All of it.
    Bytes(Zeroizing<Vec<u8>>),
    /// It is too large for the journal: there are copies of it.
    Copied(Copied),
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Taken").field("stat", &self.stat).finish_non_exhaustive()
    }
}

/// Why a file is not sent now.
pub(super) enum NotSent {
    /// It is gone.
    Gone,
    /// It will be looked at again by itself; why.
    Waits(Cow<'static, str>),
    /// A person must do something about it: what is wrong and what to do.
    Refused(String),
    /// The same for its whole directory.
    Directory(DirectoryFault),
}

impl Engine {
    /// Whether the directory that stands under this path is the one that was there before the file was opened: what was
    /// read behind that, the file and what says where it goes, is of one directory.
    pub(super) fn is_still(&self, path: &Path, taken: &Taken) -> bool {
        let identity = taken.directory.directory_identity();
        self.root.disk().stat(&self.root.join(path)).is_ok_and(|found| found.directory_identity() == identity)
    }

    /// Reads a file that nobody is writing; one that is too large for the journal is to be copied.
    pub(super) fn read_file(&mut self, path: &Path, now: Timestamp) -> Result<(Taken, Option<Held>), NotSent> {
        let io = |error| refused(OpenError::Io(error));
        let directory = self.root.join(path.parent().unwrap_or(path));
        let directory = self.root.disk().stat(&directory).map_err(io)?;
        let file = RegularFile::open(self.root.disk(), &self.root.join(path)).map_err(refused)?;
        // The lease first: what is read behind it is what stands there until it is let go.
        let lease = file.take_lease();
        let stat = file.stat().map_err(io)?;
        let is_leased = lease.is_ok();
        match lease {
            Ok(()) => {}
            Err(LeaseRefused::Busy) => return Err(NotSent::Waits("another program has it open for writing".into())),
            // Another user's file, or a filesystem without leases: a while without a write has to do.
            Err(_) if self.outbox.quiet_ms(path, stat.identity(), now) < QUIET_FILE_MS => {
                return Err(NotSent::Waits("it was written a moment ago, and takes no lease".into()));
            }
            Err(_) => {}
        }
        if self.untaken.contains(&stat.identity()) {
            // It is sent, and goes as soon as it can.
            return Err(NotSent::Directory(DirectoryFault::NotWritable));
        }
        if stat.links == 1 && self.pending.takes(&stat) {
            // It, or its directory, was renamed since this batch read it.
            return Err(NotSent::Gone);
        }
        if stat.size == 0 {
            if self.outbox.quiet_ms(path, stat.identity(), now) < EMPTY_FILE_GRACE_MS {
                return Err(NotSent::Waits("it is empty".into()));
            }
            let text = "This file is empty, and an empty message says nothing.\nWrite something into it, or remove it.";
            return Err(NotSent::Refused(text.into()));
        }
        let limit = self.policy.send_limit;
        if stat.size > limit {
            return Err(refused(OpenError::TooLarge { size: stat.size, limit }));
        }
        let content = match stat.size > CONTENT_BYTES_MAX as u64 {
            true => None,
            false => match file.read(CONTENT_BYTES_MAX as u64) {
                // It takes no lease, and has just grown.
                Err(OpenError::TooLarge { .. }) => return Err(NotSent::Waits("it was written a moment ago".into())),
                bytes => Some(Held::Bytes(bytes.map_err(refused)?)),
            },
        };
        Ok((Taken { path: path.to_owned(), file, stat, directory, is_leased }, content))
    }
}

impl Engine {
    /// What the journal could not move out of the outbox, with its paths: it is not sent again, and its directory gets an error.
    pub fn note_untaken(&mut self, untaken: &[(PathBuf, FileIdentity)]) {
        let known = std::mem::replace(&mut self.untaken, untaken.iter().map(|(_, identity)| *identity).collect());
        let new = untaken.iter().filter(|(_, identity)| !known.contains(identity));
        new.for_each(|(path, _)| self.outbox.note(path.clone()));
    }
}

/// The next look finds it where it is then.
pub(super) fn renamed() -> NotSent {
    NotSent::Waits("its directory was renamed or replaced a moment ago".into())
}

/// Whether a file can be moved out of its directory once it is recorded: what is recorded must not fail.
pub(super) fn check_leaving(directory: &Path, taken: &Taken, root: &Root) -> Result<(), DirectoryFault> {
    let ours = rustix::process::geteuid().as_raw();
    let found = root.disk().stat(&root.join(directory)).map_err(|_| DirectoryFault::NotWritable)?;
    let sticky = found.mode & libc::S_ISVTX != 0 && ours != 0 && found.owner != ours;
    if !root.disk().is_writable(&root.join(directory)) || (sticky && taken.stat.owner != ours) {
        return Err(DirectoryFault::NotWritable);
    }
    // The outbox as we know it: whatever is below it has been moved there.
    if taken.stat.device != root.disk().stat(&root.outbox()).map_err(|_| DirectoryFault::NotWritable)?.device {
        return Err(DirectoryFault::OtherFilesystem);
    }
    Ok(())
}

/// What stands in `outbox/` itself and is no directory.
pub(super) fn stray(root: &Root, path: &Path) -> NotSent {
    match root.disk().stat(&root.join(path)) {
        Err(_) => NotSent::Gone,
        Ok(found) if found.kind == Kind::Symlink => NotSent::Refused(
            "This is a symbolic link, and links in the outbox are not followed.\n\
             Make a directory here, and put your files into it."
                .into(),
        ),
        Ok(_) => NotSent::Refused(
            "This file is in no conversation, so nobody would get it.\n\
             Move it into a directory named after its recipients, such as outbox/bob/."
                .into(),
        ),
    }
}

fn refused(error: OpenError) -> NotSent {
    let text = match error {
        OpenError::Absent => return NotSent::Gone,
        OpenError::Symlink => "This is a symbolic link, and links are not followed.\nCopy the file itself here.".into(),
        OpenError::NotRegular(OtherKind::Directory) => {
            "This is a directory, and a message is a file.\nMove its files up, or pack them into one.".into()
        }
        OpenError::NotRegular(_) => "This is no regular file.\nPut a plain file here.".into(),
        OpenError::Unreadable => "The daemon may not read this file.\nGive it read permission: chmod u+r.".into(),
        OpenError::TooLarge { size, limit } => {
            format!(
                "This file has {size} bytes, and a message at most {limit}.\n\
                 Split it, or raise send_limit in chatterbox.toml and start chatterboxd again."
            )
        }
        OpenError::Io(error) => return NotSent::Waits(format!("it cannot be read: {error}").into()),
    };
    NotSent::Refused(text)
}
