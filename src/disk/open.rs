//! Opening a file that somebody else put there, and reading no more of it than allowed.
//!
//! `O_NOFOLLOW` so that a symbolic link leads nowhere, `O_NONBLOCK` so that a FIFO does not hold us up, and the kind is
//! checked on the open descriptor before a byte is read, so that nothing can be swapped in between.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, StatxTimestamp};
use thiserror::Error;
use zeroize::Zeroizing;

pub use crate::wire::journal::FileIdentity;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
}

/// What stands there instead of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherKind {
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device, or something newer.
    Device,
}

/// Why a file was not opened or read. The caller knows its name and says it.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Nothing is there.
    #[error("opening the file: it does not exist")]
    Absent,
    /// It is a symbolic link.
    #[error("opening the file: it is a symbolic link")]
    Symlink,
    /// It is something else than a regular file.
    #[error("opening the file: it is {}", kind_name(*.0))]
    NotRegular(OtherKind),
    /// We may not read it.
    #[error("opening the file: permission denied")]
    Unreadable,
    /// It is larger than allowed.
    #[error("reading the file: it has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// Its size, or what had been found when reading stopped.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// Anything else.
    #[error("reading the file: {0}")]
    Io(#[source] io::Error),
}

impl OpenError {
    /// Whether the same call may succeed later although nobody touched the file.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

fn kind_name(kind: OtherKind) -> &'static str {
    match kind {
        OtherKind::Directory => "a directory",
        OtherKind::Fifo => "a FIFO",
        OtherKind::Socket => "a socket",
        OtherKind::Device => "a device",
    }
}

impl RegularFile {
    /// Opens `path`. Its last component is not followed, those before it are.
    ///
    /// # Errors
    /// [`OpenError`], all but `TooLarge`.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_at(CWD, path)
    }

    /// Opens `name` in `directory`.
    ///
    /// # Errors
    /// [`OpenError`], all but `TooLarge`.
    pub fn open_at(directory: impl AsFd, name: &Path) -> Result<Self, OpenError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(|error| {
            let error = io::Error::from(error);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => OpenError::Absent,
                Some(libc::ELOOP) => OpenError::Symlink,
                Some(libc::ENXIO) => OpenError::NotRegular(OtherKind::Socket),
                Some(libc::EACCES | libc::EPERM) => OpenError::Unreadable,
                _ => OpenError::Io(error),
            }
        })?;
        let stat = rustix::fs::fstat(&file).map_err(|error| OpenError::Io(error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Self { file: File::from(file) }),
            FileType::Directory => Err(OpenError::NotRegular(OtherKind::Directory)),
            FileType::Fifo => Err(OpenError::NotRegular(OtherKind::Fifo)),
            FileType::Socket => Err(OpenError::NotRegular(OtherKind::Socket)),
            _ => Err(OpenError::NotRegular(OtherKind::Device)),
        }
    }

    /// The open file, for a lease.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Which file this is, as it is now.
    ///
    /// # Errors
    /// `statx` failed.
    pub fn identity(&self) -> io::Result<FileIdentity> {
        identity(self.file.as_fd())
    }

    /// All of its content, which may be secret. Reads from where the last read stopped: once per opened file.
    ///
    /// # Errors
    /// [`OpenError::TooLarge`] with at most `limit` + 1 bytes read, [`OpenError::Io`].
    pub fn read(&self, limit: u64) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let size = self.identity().map_err(OpenError::Io)?.size;
        if size > limit {
            return Err(OpenError::TooLarge { size, limit });
        }
        // The exact size, so that the vector does not leave unwiped copies behind while it grows; one more tells
        // whether the file grew.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1)));
        (&self.file).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(OpenError::Io)?;
        let read = bytes.len() as u64;
        if read > limit { Err(OpenError::TooLarge { size: read, limit }) } else { Ok(bytes) }
    }
}

/// Opens, checks and reads `path` in one go.
///
/// # Errors
/// [`OpenError`].
pub fn read_regular(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    RegularFile::open(path)?.read(limit)
}

fn identity(file: BorrowedFd<'_>) -> io::Result<FileIdentity> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, mask)?;
    let born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    Ok(FileIdentity {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        born_ns: born.then(|| nanoseconds(&stat.stx_btime)),
        modified_ns: nanoseconds(&stat.stx_mtime),
        size: stat.stx_size,
    })
}

/// Since 1970; saturates in the year 2262.
fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_is_no_regular_file_is_refused_before_a_byte_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        // Without O_NONBLOCK this would hang: nobody writes into the FIFO.
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        let open = |name: &str| RegularFile::open(&at(name)).unwrap_err();
        assert!(matches!(open("link"), OpenError::Symlink));
        assert!(matches!(open("directory"), OpenError::NotRegular(OtherKind::Directory)));
        assert!(matches!(open("fifo"), OpenError::NotRegular(OtherKind::Fifo)));
        assert!(matches!(open("socket"), OpenError::NotRegular(OtherKind::Socket)));
        assert!(matches!(open("absent"), OpenError::Absent));
        assert!(matches!(RegularFile::open(Path::new("/dev/null")), Err(OpenError::NotRegular(OtherKind::Device))));
        assert_eq!(open("fifo").to_string(), "opening the file: it is a FIFO");
    }

    #[test]
    fn an_oversized_file_is_not_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        // Sparse: reading it whole would need a terabyte of memory.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(read_regular(&path, 10), Err(OpenError::TooLarge { size, limit: 10 }) if size == 1 << 40));
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(*read_regular(&path, 10).unwrap(), b"0123456789");
        assert!(matches!(read_regular(&path, 9), Err(OpenError::TooLarge { size: 10, limit: 9 })));
        // A file whose size says nothing is bounded while it is read.
        assert!(matches!(
            read_regular(Path::new("/proc/self/status"), 5),
            Err(OpenError::TooLarge { size: 6, limit: 5 })
        ));
    }

    #[test]
    fn a_file_is_known_again_and_its_successor_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, "one").unwrap();
        let file = RegularFile::open(&path).unwrap();
        let first = file.identity().unwrap();
        std::fs::rename(&path, directory.path().join("y")).unwrap();
        assert_eq!(file.identity().unwrap(), first);
        std::fs::write(&path, "one").unwrap();
        assert_ne!(RegularFile::open(&path).unwrap().identity().unwrap(), first);
    }

    #[test]
    fn a_name_is_opened_relative_to_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("x"), "in here").unwrap();
        let descriptor = File::open(directory.path()).unwrap();
        let file = RegularFile::open_at(&descriptor, Path::new("x")).unwrap();
        assert_eq!(*file.read(100).unwrap(), b"in here");
    }
}
