//! The files in a dropbox, one at a time: whether one may be sent, the copy of it, the `.error` beside it, and how many of them
//! may come.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rand_core::OsRng;
use zeroize::Zeroizing;

use super::dropbox::Rate;
use super::dropbox_room::Waiting;
use super::error_file;
use super::root::{self, Root};
use crate::crypto::secret::Secret;
use crate::disk::atomic;
use crate::disk::open::{FileIdentity, OpenError, OtherKind, RegularFile};
use crate::disk::system::{Disk, Kind, OpenFile, Stat};
use crate::limits::{DROPBOX_COPY_BYTES_PER_S, DROPBOX_ERRORS_MAX};

/// What an `.error` file is called while it is written; 32 hexadecimal digits follow.
const UNFINISHED_ERROR: &str = ".error-";
const UNFINISHED_DIGITS: usize = 32;

const PORTION_BYTES: usize = 64 * 1024;

/// What a look at a file says.
pub(super) enum Looked {
    /// It is gone.
    Gone,
    /// It is another user's: not sent, and nothing is said beside it.
    NotTheirs,
    /// It cannot be read now.
    Later(io::Error),
    /// It is never sent as it is: what is wrong and what to do.
    Refused(String),
    /// It may be sent, open for reading.
    File {
        /// The file.
        file: RegularFile,
        /// What it is, asked of the open descriptor.
        stat: Stat,
    },
}

/// Why a file stays where it was dropped, for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// There is nothing in it, but there may be soon.
    Empty,
    /// The disk has no room for its copies.
    Disk,
    /// Large files of dropboxes wait in the outbox.
    Outbox,
}

impl Held {
    pub(super) const ALL: [Self; 3] = [Self::Empty, Self::Disk, Self::Outbox];
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "while empty",
            Self::Disk => "for room on the disk",
            Self::Outbox => "behind large files in the outbox",
        })
    }
}

/// Opens a file of a dropbox. Nothing is followed, nothing waited for, and what counts is the open descriptor.
pub(super) fn look(disk: &dyn Disk, path: &Path, uid: u32, limit: u64) -> Looked {
    // What is no file is never opened; whose it is decides who hears of it.
    match disk.stat(path) {
        Ok(found) if found.owner != uid => return Looked::NotTheirs,
        Ok(_) => {}
        Err(error) if atomic::is_absent(&error) => return Looked::Gone,
        Err(error) => return Looked::Later(error),
    }
    let opened = RegularFile::open(disk, path).and_then(|file| {
        let stat = file.stat().map_err(OpenError::Io)?;
        Ok((file, stat))
    });
    let (file, stat) = match opened {
        Ok(opened) => opened,
        Err(error) => return refused(error),
    };
    if stat.owner != uid {
        return Looked::NotTheirs;
    }
    if stat.links > 1 {
        let text = "This file has another name elsewhere (a hard link), and only files that are here alone are sent.\n\
                    Copy it here, or move it: cp, mv.";
        return Looked::Refused(text.into());
    }
    if stat.size > limit {
        return refused(OpenError::TooLarge { size: stat.size, limit });
    }
    Looked::File { file, stat }
}

fn refused(error: OpenError) -> Looked {
    Looked::Refused(match error {
        OpenError::Absent => return Looked::Gone,
        OpenError::Io(error) => return Looked::Later(error),
        OpenError::Symlink => "This is a symbolic link, and links are not followed.\nCopy the file itself here.".into(),
        OpenError::NotRegular(OtherKind::Directory) => {
            "This is a directory, and a message is a file.\nPut the files here themselves, or pack them into one."
                .into()
        }
        OpenError::NotRegular(_) => "This is no regular file.\nPut a plain file here.".into(),
        OpenError::Unreadable => {
            "The owner of this dropbox may not read the file.\nMake it readable: chmod a+r.".into()
        }
        OpenError::TooLarge { size, limit } => {
            format!("This file has {size} bytes, and a message at most {limit}.\nSplit it, or send less.")
        }
    })
}

/// The private copy of a file that is being made.
#[derive(Debug)]
pub(super) struct Copying {
    name: OsString,
    file: RegularFile,
    /// As it was when the copy began.
    stat: Stat,
    /// Relative to the root. What no record tells of is swept away at the next start.
    copy: PathBuf,
    target: Box<dyn OpenFile>,
    /// Which file the copy is, whatever it will be called.
    made: FileIdentity,
    offset: u64,
}

impl Copying {
    pub(super) fn begin(root: &Root, name: OsString, file: RegularFile, stat: Stat, random: &str) -> io::Result<Self> {
        let copy = root::scratch_file(&format!("new-dropped-{random}"));
        let target = root.disk().create_new(&root.join(&copy))?;
        let made = target.stat()?.identity();
        Ok(Self { name, file, stat, copy, target, made, offset: 0 })
    }

    /// What it will be in the outbox directory `to`.
    pub(super) fn waiting(&self, to: &Path) -> Waiting {
        Waiting { to: to.to_owned(), copy: self.copy.clone(), made: self.made, size: self.stat.size }
    }

    /// How much is still to be copied.
    pub(super) fn left(&self) -> u64 {
        self.stat.size.saturating_sub(self.offset)
    }

    pub(super) fn name(&self) -> &OsString {
        &self.name
    }

    /// Copies what a second has room for. True if it is all there and synced, with its name.
    pub(super) fn go_on(&mut self, root: &Root) -> io::Result<bool> {
        let mut portion = Zeroizing::new(vec![0; PORTION_BYTES]);
        let end = self.offset.saturating_add(DROPBOX_COPY_BYTES_PER_S);
        while self.offset < end {
            let read = self.file.read_at(self.offset, &mut portion)?;
            // One that grows is not copied for ever: that it has grown is seen at the end.
            if read == 0 || self.offset > self.stat.size {
                self.target.sync()?;
                atomic::sync_directory(root.disk(), &root.tmp("chatterboxd")).map_err(io::Error::other)?;
                return Ok(true);
            }
            self.target.write_at(self.offset, &portion[..read])?;
            self.offset += read as u64;
        }
        self.target.sync()?;
        Ok(false)
    }

    /// Whether the file is as it was when the copy began.
    pub(super) fn is_unchanged(&self) -> bool {
        let same = self.file.stat().is_ok_and(|found| found.identity() == self.stat.identity() && found.links == 1);
        same && self.offset == self.stat.size
    }

    pub(super) fn identity(&self) -> FileIdentity {
        self.stat.identity()
    }

    /// The name in the dropbox, and where the copy stands.
    pub(super) fn finish(self) -> (OsString, PathBuf) {
        (self.name, self.copy)
    }

    /// Gives the copy up, and says where it stands: it may be so large that it is overwritten a portion at a time.
    pub(super) fn abandon(self) -> PathBuf {
        self.copy
    }
}

/// The `.error` files in a dropbox: written for the sender, who knows the names of his files, and cannot list them.
#[derive(Debug, Default)]
pub(super) struct Errors {
    /// What stands beside which name; empty where an earlier run wrote it.
    written: BTreeMap<OsString, String>,
}

impl Errors {
    /// Files that a look has found, named as error files are: those of ours whose file is gone are removed.
    pub(super) fn adopt(&mut self, disk: &dyn Disk, directory: &Path, found: Vec<OsString>) {
        for name in found {
            let stem = OsStr::from_bytes(name.as_bytes().strip_suffix(b".error").unwrap_or(name.as_bytes()));
            if !self.written.contains_key(stem) && is_ours(disk, &directory.join(&name)) {
                self.written.insert(stem.to_owned(), String::new());
            }
        }
        let gone = |name: &&OsString| disk.stat(&directory.join(name)).is_err();
        let gone: Vec<OsString> = self.written.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|name| self.clear(disk, directory, name));
    }

    /// Says beside a file why it is not sent.
    pub(super) fn write(&mut self, disk: &dyn Disk, directory: &Path, name: &OsString, text: &str) {
        let known = self.written.get(name);
        if known.is_some_and(|known| known == text) || (known.is_none() && self.written.len() >= DROPBOX_ERRORS_MAX) {
            return;
        }
        match put(disk, &error_file::beside(&directory.join(name)), text) {
            Ok(()) => drop(self.written.insert(name.clone(), text.to_owned())),
            Err(error) => tracing::info!(%error, "an error file in a dropbox could not be written"),
        }
    }

    /// The cause is gone.
    pub(super) fn clear(&mut self, disk: &dyn Disk, directory: &Path, name: &OsString) {
        if self.written.remove(name).is_some() {
            let path = error_file::beside(&directory.join(name));
            if is_ours(disk, &path) {
                let _ = disk.unlink(&path);
            }
        }
    }
}

/// Whether this is what an `.error` file is called while it is written.
pub(super) fn is_unfinished_error(name: &OsStr) -> bool {
    let digits = name.as_bytes().strip_prefix(UNFINISHED_ERROR.as_bytes());
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    digits.is_some_and(|digits| digits.len() == UNFINISHED_DIGITS && digits.iter().all(is_digit))
}

/// Puts a text under a name that is free or ours: what another put there stays, be it the owner of the dropbox.
fn put(disk: &dyn Disk, path: &Path, text: &str) -> io::Result<()> {
    let is_free = disk.stat(path).is_err();
    if !is_free && !is_ours(disk, path) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let random: Secret<16> = Secret::random(&mut OsRng);
    let scratch = path.with_file_name(format!("{UNFINISHED_ERROR}{}", HEXLOWER.encode(random.expose())));
    let file = disk.create_new(&scratch)?;
    let written = file
        .write_at(0, format!("{text}\n{}", error_file::SIGNATURE).as_bytes())
        .and_then(|()| file.make_public())
        .and_then(|()| if is_free { disk.rename_new(&scratch, path) } else { disk.rename(&scratch, path) });
    if written.is_err() {
        let _ = disk.unlink(&scratch);
    }
    written
}

/// Whether this is an error file that we wrote. Nobody else can move it away from under its name: the directory is sticky.
fn is_ours(disk: &dyn Disk, path: &Path) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    let is_own = disk.stat(path).is_ok_and(|found| found.kind == Kind::File && found.owner == ours);
    // A person's own file of such a name does not end so.
    is_own && error_file::is_signed(disk, path)
}

/// How many files may come: as many at once as the rate says, and then as they are given back by time.
#[derive(Debug)]
pub(super) struct Tokens {
    rate: Rate,
    left: u32,
    /// Files and seconds since the last one was given back, multiplied.
    credit: u64,
}

impl Tokens {
    pub(super) fn full(rate: Rate) -> Self {
        Self { rate, left: rate.files, credit: 0 }
    }

    /// A second has passed.
    pub(super) fn tick(&mut self) {
        if self.left >= self.rate.files {
            self.credit = 0;
            return;
        }
        let (period, most) = (u64::from(self.rate.seconds()), self.rate.files);
        self.credit += u64::from(most);
        let back = u32::try_from(self.credit / period).unwrap_or(u32::MAX);
        self.credit %= period;
        self.left = self.left.saturating_add(back).min(most);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    pub(super) fn give_back(&mut self) {
        self.left = self.left.saturating_add(1).min(self.rate.files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_rate_come_at_once_and_never_more_in_any_period() {
        for (rate, seconds) in [("10/min", 60), ("7/hour", 3_600), ("600/min", 60)] {
            let rate: Rate = rate.parse().unwrap();
            let mut tokens = Tokens::full(rate);
            let mut taken = Vec::new();
            for second in 0..3 * seconds {
                tokens.tick();
                while !tokens.is_empty() {
                    tokens.take();
                    taken.push(second);
                }
            }
            assert_eq!(taken.iter().filter(|second| **second == 0).count(), rate.files as usize);
            let later = taken.iter().filter(|second| **second > 0).count();
            let expected = 3 * rate.files as usize;
            // What a second gives back at its end is taken in the next.
            let least = expected - 1 - rate.files as usize / seconds;
            assert!((least..=expected).contains(&later), "{later} of {expected}");
        }
    }
}
