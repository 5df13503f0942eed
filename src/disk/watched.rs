//! The real disk, for tests: it has as much room as it is told, and counts how often a directory is listed.

#![allow(clippy::unwrap_used, reason = "a test, as a whole")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::real::RealDisk;
use super::system::{Disk, Entry, OpenDirectory, OpenFile, Space, Stat};

/// What is done just before the next listing is given out.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// Such a disk.
#[derive(Default)]
pub struct WatchedDisk {
    /// How much room it has, if that is not what the kernel says. 0 stands for that.
    pub free: AtomicU64,
    /// Listings of anything.
    pub listings: AtomicUsize,
    /// What somebody else does between the next listing and what is made of it.
    pub meanwhile: Mutex<Option<Meanwhile>>,
}

impl std::fmt::Debug for WatchedDisk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WatchedDisk").finish_non_exhaustive()
    }
}

impl WatchedDisk {
    /// How often something was listed since this was asked last.
    pub fn take_listings(&self) -> usize {
        self.listings.swap(0, Ordering::Relaxed)
    }

    fn listed(&self, entries: io::Result<Vec<Entry>>) -> io::Result<Vec<Entry>> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        entries
    }
}

impl Disk for WatchedDisk {
    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.listed(RealDisk.entries(directory))
    }

    fn some_entries(&self, directory: &Path, most: usize) -> io::Result<Vec<Entry>> {
        self.listed(RealDisk.some_entries(directory, most))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        RealDisk.stat(path)
    }

    fn stat_behind(&self, path: &Path) -> io::Result<Stat> {
        RealDisk.stat_behind(path)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        RealDisk.resolve(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        RealDisk.open(path)
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        RealDisk.open_to_write(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        RealDisk.create_new(path)
    }

    fn create_temporary(&self, directory: &Path, prefix: &str) -> io::Result<(PathBuf, Box<dyn OpenFile>)> {
        RealDisk.create_temporary(directory, prefix)
    }

    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn OpenDirectory>> {
        RealDisk.open_directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename_new(from, to)
    }

    fn exchange(&self, left: &Path, right: &Path) -> io::Result<()> {
        RealDisk.exchange(left, right)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealDisk.unlink(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_directory(path)
    }

    fn make_private(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_private(path)
    }

    fn is_writable(&self, directory: &Path) -> bool {
        RealDisk.is_writable(directory)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        match self.free.load(Ordering::Relaxed) {
            0 => RealDisk.space(path),
            // So that what is kept free is nothing.
            free => Ok(Space { free, total: 0 }),
        }
    }

    fn boot_id(&self, root: &Path) -> io::Result<[u8; 16]> {
        RealDisk.boot_id(root)
    }
}
