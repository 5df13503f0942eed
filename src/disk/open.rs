//! Opening a file that somebody else put there, and reading no more of it than allowed.
//!
//! `O_NOFOLLOW` so that a symbolic link leads nowhere, `O_NONBLOCK` so that a FIFO does not hold us up, and the kind is
//! checked on the open descriptor before a byte is read, so that nothing can be swapped in between.

use std::io::{self, Read as _};
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

use super::lease::LeaseRefused;
use super::system::{Disk, Kind, OpenFile, Stat};
use crate::crypto::hash::Hasher;
pub use crate::wire::journal::FileIdentity;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct RegularFile {
    file: Box<dyn OpenFile>,
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
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, OpenError> {
        // A look first: opening a FIFO lets go whoever waits to write into it, and opening a device may do anything.
        regular(disk.stat(path).map_err(refused)?.kind)?;
        let file = disk.open(path).map_err(refused)?;
        regular(file.stat().map_err(OpenError::Io)?.kind)?;
        Ok(Self { file })
    }

    /// Takes a read lease, which is given back when this is dropped: nobody has the file open for writing, and whoever
    /// opens it so waits.
    ///
    /// # Errors
    /// [`LeaseRefused`].
    pub fn take_lease(&self) -> Result<(), LeaseRefused> {
        self.file.take_lease()
    }

    /// Whether there is a lease that nobody has asked to break since.
    pub fn is_leased(&self) -> bool {
        self.file.is_leased()
    }

    /// Gives the lease back before the file is closed.
    pub fn give_lease_back(&self) {
        self.file.give_lease_back();
    }

    /// Copies all of its content to the start of another file, a portion at a time.
    ///
    /// # Errors
    /// Reading or writing failed; a part may be written.
    pub fn copy_to(&self, other: &dyn OpenFile) -> io::Result<()> {
        let mut portion = Zeroizing::new(vec![0; COPY_BYTES]);
        let mut offset = 0;
        loop {
            let read = self.file.read_at(offset, &mut portion)?;
            if read == 0 {
                return Ok(());
            }
            other.write_at(offset, &portion[..read])?;
            offset += read as u64;
        }
    }

    /// Reads at `offset` until `buffer` is full or the file ends, and says how much that was.
    ///
    /// # Errors
    /// As read(2).
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(offset + filled as u64, &mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// SHA-256 of its content, a portion at a time.
    ///
    /// # Errors
    /// [`OpenError::TooLarge`] where it has more than `limit` bytes, [`OpenError::Io`].
    pub fn hash(&self, limit: u64) -> Result<[u8; 32], OpenError> {
        let (mut hasher, mut offset) = (Hasher::default(), 0);
        let mut portion = Zeroizing::new(vec![0; COPY_BYTES]);
        loop {
            let read = self.read_at(offset, &mut portion).map_err(OpenError::Io)?;
            if read == 0 {
                return Ok(hasher.finish());
            }
            offset += read as u64;
            if offset > limit {
                return Err(OpenError::TooLarge { size: offset, limit });
            }
            hasher.add(&portion[..read]);
        }
    }

    /// Its content is on the disk when this returns.
    ///
    /// # Errors
    /// As fdatasync(2).
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// What it is now.
    ///
    /// # Errors
    /// `statx` failed.
    pub fn stat(&self) -> io::Result<Stat> {
        self.file.stat()
    }

    /// Which file this is, as it is now.
    ///
    /// # Errors
    /// `statx` failed.
    pub fn identity(&self) -> io::Result<FileIdentity> {
        Ok(self.file.stat()?.identity())
    }

    /// All of its content, which may be secret.
    ///
    /// # Errors
    /// [`OpenError::TooLarge`] with at most `limit` + 1 bytes read, [`OpenError::Io`].
    pub fn read(&self, limit: u64) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let size = self.file.stat().map_err(OpenError::Io)?.size;
        if size > limit {
            return Err(OpenError::TooLarge { size, limit });
        }
        // The exact size, so that the vector does not leave unwiped copies behind while it grows; one more tells
        // whether the file grew.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1)));
        let reader = Reader { file: &*self.file, offset: 0 };
        reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(OpenError::Io)?;
        let read = bytes.len() as u64;
        if read > limit { Err(OpenError::TooLarge { size: read, limit }) } else { Ok(bytes) }
    }
}

fn refused(error: io::Error) -> OpenError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => OpenError::Absent,
        Some(libc::ELOOP) => OpenError::Symlink,
        Some(libc::ENXIO) => OpenError::NotRegular(OtherKind::Socket),
        Some(libc::EACCES | libc::EPERM) => OpenError::Unreadable,
        _ => OpenError::Io(error),
    }
}

fn regular(kind: Kind) -> Result<(), OpenError> {
    match kind {
        Kind::File => Ok(()),
        Kind::Symlink => Err(OpenError::Symlink),
        Kind::Directory => Err(OpenError::NotRegular(OtherKind::Directory)),
        Kind::Fifo => Err(OpenError::NotRegular(OtherKind::Fifo)),
        Kind::Socket => Err(OpenError::NotRegular(OtherKind::Socket)),
        Kind::Device => Err(OpenError::NotRegular(OtherKind::Device)),
    }
}

/// What is copied at a time.
const COPY_BYTES: usize = 64 * 1024;

/// Reads a file from its start.
struct Reader<'a> {
    file: &'a dyn OpenFile,
    offset: u64,
}

impl io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.offset, buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Opens, checks and reads `path` in one go.
///
/// # Errors
/// [`OpenError`].
pub fn read_regular(disk: &dyn Disk, path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    RegularFile::open(disk, path)?.read(limit)
}

/// The text of a file that may be there, and may be anything: `None` if it is no plain file of text within the limit.
pub fn read_text(disk: &dyn Disk, path: &Path, limit: u64) -> Option<String> {
    let bytes = read_regular(disk, path, limit).ok()?;
    std::str::from_utf8(&bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use rustix::fs::{CWD, FileType, Mode};
    use std::fs::File;
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
        let open = |name: &str| RegularFile::open(&RealDisk, &at(name)).unwrap_err();
        assert!(matches!(open("link"), OpenError::Symlink));
        assert!(matches!(open("directory"), OpenError::NotRegular(OtherKind::Directory)));
        assert!(matches!(open("fifo"), OpenError::NotRegular(OtherKind::Fifo)));
        assert!(matches!(open("socket"), OpenError::NotRegular(OtherKind::Socket)));
        assert!(matches!(open("absent"), OpenError::Absent));
        assert!(matches!(
            RegularFile::open(&RealDisk, Path::new("/dev/null")),
            Err(OpenError::NotRegular(OtherKind::Device))
        ));
        assert_eq!(open("fifo").to_string(), "opening the file: it is a FIFO");
    }

    #[test]
    fn an_oversized_file_is_not_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        // Sparse: reading it whole would need a terabyte of memory.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(
            matches!(read_regular(&RealDisk, &path, 10), Err(OpenError::TooLarge { size, limit: 10 }) if size == 1 << 40)
        );
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(*read_regular(&RealDisk, &path, 10).unwrap(), b"0123456789");
        assert!(matches!(read_regular(&RealDisk, &path, 9), Err(OpenError::TooLarge { size: 10, limit: 9 })));
        // A file whose size says nothing is bounded while it is read.
        assert!(matches!(
            read_regular(&RealDisk, Path::new("/proc/self/status"), 5),
            Err(OpenError::TooLarge { size: 6, limit: 5 })
        ));
    }
}
