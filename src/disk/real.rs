//! The disk of this machine, through the kernel.

use std::fs;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, DirEntryExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{Access, AtFlags, CWD, FileType, RenameFlags, SeekFrom, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::lease::{self, LeaseRefused};
use super::system::{Disk, Entry, Kind, OpenDirectory, OpenFile, Space, Stat};
use crate::crypto::hash::sha256;

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealDirectory(File);

impl Disk for RealDisk {
    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.some_entries(directory, usize::MAX)
    }

    fn some_entries(&self, directory: &Path, most: usize) -> io::Result<Vec<Entry>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok(Entry { name: entry.file_name(), kind: kind_of(entry.file_type()?), inode: entry.ino() })
        };
        fs::read_dir(directory)?.take(most).map(entry).collect()
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat(&rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, MASK)?))
    }

    fn stat_behind(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat(&rustix::fs::statx(CWD, path, AtFlags::empty(), MASK)?))
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().read(true).custom_flags(UNLED).open(path)?)))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().write(true).custom_flags(UNLED).open(path)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?)))
    }

    fn create_temporary(&self, directory: &Path, prefix: &str) -> io::Result<(PathBuf, Box<dyn OpenFile>)> {
        // Mode 0600 is tempfile's own default.
        let (file, path) = tempfile::Builder::new().prefix(prefix).tempfile_in(directory)?.keep()?;
        Ok((path, Box::new(RealFile(file))))
    }

    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn OpenDirectory>> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        Ok(Box::new(RealDirectory(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_new(from, to),
            result => Ok(result?),
        }
    }

    fn exchange(&self, left: &Path, right: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, left, CWD, right, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            result => Ok(result?),
        }
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        // The process's umask may have taken more than it should.
        fs::set_permissions(path, Permissions::from_mode(0o700))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn make_private(&self, path: &Path) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(0o600))
    }

    fn is_writable(&self, directory: &Path) -> bool {
        rustix::fs::accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    fn boot_id(&self, root: &Path) -> io::Result<[u8; 16]> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let found = rustix::fs::statx(CWD, root, AtFlags::empty(), StatxFlags::from_bits_retain(MNT_ID_UNIQUE))?;
        let mut id = [0; 16];
        id.copy_from_slice(&sha256(&[boot.trim().as_bytes(), &found.stx_mnt_id.to_le_bytes()])[..16]);
        Ok(id)
    }
}

impl OpenFile for RealFile {
    fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&rustix::fs::statx(&self.0, "", AtFlags::EMPTY_PATH, MASK)?))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.0, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            // This filesystem does not tell.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn set_modified(&self, modified_ns: i64) -> io::Result<()> {
        // What a file had before 1970 is no time that anybody orders messages by.
        self.0.set_modified(UNIX_EPOCH + Duration::from_nanos(u64::try_from(modified_ns).unwrap_or(0)))
    }

    fn make_public(&self) -> io::Result<()> {
        self.0.set_permissions(Permissions::from_mode(0o644))
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn take_lease(&self) -> Result<(), LeaseRefused> {
        lease::take(&self.0)
    }

    fn is_leased(&self) -> bool {
        lease::is_held(&self.0)
    }

    fn give_lease_back(&self) {
        lease::give_back(&self.0);
    }
}

impl OpenDirectory for RealDirectory {
    fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&rustix::fs::statx(&self.0, "", AtFlags::EMPTY_PATH, MASK)?))
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.0)?)
    }
}

/// `STATX_MNT_ID_UNIQUE` (statx(2), Linux 6.8): numbers of mounts that are not given twice in a boot. Older kernels pass it
/// over, and all mounts look alike there.
const MNT_ID_UNIQUE: u32 = 0x4000;

/// What [`Disk::rename_new`] does where the filesystem lacks it.
fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        // The two halves of an earlier try, where the crash came between.
        Err(error)
            if error.kind() == io::ErrorKind::AlreadyExists && RealDisk.stat(from)?.is_same(&RealDisk.stat(to)?) => {}
        result => result?,
    }
    fs::remove_file(from)
}

/// A symbolic link leads nowhere, and a FIFO does not hold us up.
const UNLED: libc::c_int = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;

const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

fn stat(found: &Statx) -> Stat {
    let born = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    Stat {
        kind: match FileType::from_raw_mode(found.stx_mode.into()) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::Device,
        },
        device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        born_ns: born.then(|| nanoseconds(&found.stx_btime)),
        modified_ns: nanoseconds(&found.stx_mtime),
        size: found.stx_size,
        links: found.stx_nlink.into(),
        owner: found.stx_uid,
        mode: u32::from(found.stx_mode) & 0o7777,
    }
}

/// Since 1970; saturates in the year 2262.
fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

fn kind_of(kind: fs::FileType) -> Kind {
    use std::os::unix::fs::FileTypeExt as _;
    match kind {
        kind if kind.is_file() => Kind::File,
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Symlink,
        kind if kind.is_fifo() => Kind::Fifo,
        kind if kind.is_socket() => Kind::Socket,
        _ => Kind::Device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_rename_noreplace_a_link_does_the_same() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::write(&from, "new").unwrap();
        link_new(&from, &to).unwrap();
        assert!(!from.exists());
        fs::write(&from, "newer").unwrap();
        assert_eq!(link_new(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert_eq!(fs::read(&from).unwrap(), b"newer");
        // Killed between its two halves.
        fs::remove_file(&from).unwrap();
        fs::hard_link(&to, &from).unwrap();
        link_new(&from, &to).unwrap();
        assert!(!from.exists() && to.exists());
    }

    #[test]
    fn each_mount_has_a_boot_id_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let id = |path: &Path| RealDisk.boot_id(path).unwrap();
        assert_eq!(id(root.path()), id(root.path()));
        assert_ne!(id(root.path()), id(Path::new("/proc")));
    }

    #[test]
    fn a_file_is_known_again_and_its_successor_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, "one").unwrap();
        let file = RealDisk.open(&path).unwrap();
        let first = file.stat().unwrap();
        fs::rename(&path, directory.path().join("y")).unwrap();
        assert_eq!(file.stat().unwrap().identity(), first.identity());
        fs::write(&path, "one").unwrap();
        assert_ne!(RealDisk.stat(&path).unwrap().identity(), first.identity());
    }
}
