//! What the daemon asks of a filesystem, as a trait: [`super::real::RealDisk`] asks the kernel, and the tests put a
//! simulated one in its place that loses power after any operation.
//!
//! Operations are as small as system calls, because a crash comes between two of them. No path is followed in its last
//! component. Whoever needs more than one operation to do something builds it from these ([`super::atomic`],
//! [`super::journal`]), so that nothing touches a disk that the tests do not see.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::lease::LeaseRefused;
use crate::wire::journal::{DirectoryIdentity, FileIdentity};

/// A filesystem.
pub trait Disk: fmt::Debug + Send + Sync {
    /// What stands in a directory, in no order.
    ///
    /// # Errors
    /// As readdir(3).
    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>>;

    /// The same of a directory that anybody may fill: of more than `most` names, any that many.
    ///
    /// # Errors
    /// As readdir(3).
    fn some_entries(&self, directory: &Path, most: usize) -> io::Result<Vec<Entry>> {
        let mut entries = self.entries(directory)?;
        entries.truncate(most);
        Ok(entries)
    }

    /// What has this name.
    ///
    /// # Errors
    /// As lstat(2).
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// What a name leads to, links followed.
    ///
    /// # Errors
    /// As stat(2).
    fn stat_behind(&self, path: &Path) -> io::Result<Stat>;

    /// Where a name leads to, all links followed.
    ///
    /// # Errors
    /// As realpath(3).
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// Opens what has this name for reading, without waiting for anybody. May be something else than a regular file.
    ///
    /// # Errors
    /// As open(2); `ELOOP` for a symbolic link.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;

    /// Opens an existing file for writing; the same otherwise.
    ///
    /// # Errors
    /// As open(2); `EAGAIN` where another holds a lease.
    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;

    /// Makes a file, mode 0600, under a name that is free.
    ///
    /// # Errors
    /// As open(2); `EEXIST` where it is not.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;

    /// Makes a file, mode 0600, under a name of its own that begins with `prefix`.
    ///
    /// # Errors
    /// As open(2).
    fn create_temporary(&self, directory: &Path, prefix: &str) -> io::Result<(PathBuf, Box<dyn OpenFile>)>;

    /// Opens a directory.
    ///
    /// # Errors
    /// As open(2).
    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn OpenDirectory>>;

    /// Renames, in place of what had the name.
    ///
    /// # Errors
    /// As rename(2).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames to a free name.
    ///
    /// # Errors
    /// As renameat2(2) with `RENAME_NOREPLACE`; `EEXIST` where it is not free.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Two names change places.
    ///
    /// # Errors
    /// As renameat2(2) with `RENAME_EXCHANGE`; `Unsupported` where the filesystem cannot.
    fn exchange(&self, left: &Path, right: &Path) -> io::Result<()>;

    /// Takes a file's name away.
    ///
    /// # Errors
    /// As unlink(2).
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes one directory, mode 0700.
    ///
    /// # Errors
    /// As mkdir(2).
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As rmdir(2).
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Gives a file of ours the mode 0600.
    ///
    /// # Errors
    /// As chmod(2).
    fn make_private(&self, path: &Path) -> io::Result<()>;

    /// Whether we may add and remove names in a directory.
    fn is_writable(&self, directory: &Path) -> bool;

    /// How much room there is on the filesystem of `path`.
    ///
    /// # Errors
    /// As statvfs(3).
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// The id of this boot of the machine and of this mount of the filesystem at `root`. While it is the same, what was
    /// written is there, synced or not: a program died, not the machine, and nobody tore the disk out.
    ///
    /// # Errors
    /// That it cannot be read.
    fn boot_id(&self, root: &Path) -> io::Result<[u8; 16]>;
}

/// An open file. Closed, and its lease given back, when dropped.
pub trait OpenFile: fmt::Debug + Send {
    /// What it is now.
    ///
    /// # Errors
    /// As fstat(2).
    fn stat(&self) -> io::Result<Stat>;

    /// Reads at `offset`; 0 at the end.
    ///
    /// # Errors
    /// As pread(2).
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Where bytes are written from `offset` on: behind the hole that it is in, if it is in one. None if only a hole is left.
    ///
    /// # Errors
    /// As lseek(2).
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As pwrite(2); an unknown part may be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or extends it.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Sets the time of the last write, nanoseconds since 1970.
    ///
    /// # Errors
    /// As futimens(2).
    fn set_modified(&self, modified_ns: i64) -> io::Result<()>;

    /// Lets everybody read it: mode 0644.
    ///
    /// # Errors
    /// As fchmod(2).
    fn make_public(&self) -> io::Result<()>;

    /// Content and length are on the disk when this returns; the name need not be. After an error nobody knows what is,
    /// and a second try says nothing.
    ///
    /// # Errors
    /// As fdatasync(2).
    fn sync(&self) -> io::Result<()>;

    /// Takes a read lease: granted only while nobody has it open for writing.
    ///
    /// # Errors
    /// [`LeaseRefused`].
    fn take_lease(&self) -> Result<(), LeaseRefused>;

    /// Whether it has a lease that nobody has asked to break since.
    fn is_leased(&self) -> bool;

    /// Gives the lease back before the file is closed.
    fn give_lease_back(&self);
}

/// An open directory.
pub trait OpenDirectory: fmt::Debug + Send + Sync {
    /// What it is now.
    ///
    /// # Errors
    /// As fstat(2).
    fn stat(&self) -> io::Result<Stat>;

    /// The names in it are on the disk when this returns.
    ///
    /// # Errors
    /// As fsync(2).
    fn sync(&self) -> io::Result<()>;

    /// Everything on its filesystem is on the disk when this returns.
    ///
    /// # Errors
    /// As syncfs(2): also of a write that failed since the directory was opened.
    fn sync_filesystem(&self) -> io::Result<()>;
}

/// The room on a filesystem, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What we may still write.
    pub free: u64,
    /// What it has in all.
    pub total: u64,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// What has it.
    pub kind: Kind,
    /// The inode of what has it.
    pub inode: u64,
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device, or something newer.
    Device,
}

/// What is known about a file, directory or other thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// The filesystem, `st_dev`.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// When the inode was made, nanoseconds since 1970, where the filesystem keeps that.
    pub born_ns: Option<i64>,
    /// When the content was last written, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Bytes of content.
    pub size: u64,
    /// How many names it has.
    pub links: u64,
    /// The user whose it is.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Stat {
    /// Which file this is.
    pub fn identity(&self) -> FileIdentity {
        FileIdentity {
            device: self.device,
            inode: self.inode,
            born_ns: self.born_ns,
            modified_ns: self.modified_ns,
            size: self.size,
        }
    }

    /// Which directory this is, on its filesystem.
    pub fn directory_identity(&self) -> DirectoryIdentity {
        DirectoryIdentity { inode: self.inode, born_ns: self.born_ns }
    }

    /// Whether both are the same file or directory, as it may have changed meanwhile.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
