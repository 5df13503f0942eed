//! The system calls.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::{Body, Change, Content, Id, SimulatedDisk, is_zeros, not_found};
use crate::disk::lease::LeaseRefused;
use crate::disk::system::{Disk, Entry, OpenDirectory, OpenFile, Space, Stat};

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    id: Id,
}

#[derive(Debug)]
struct SimulatedDirectory {
    disk: SimulatedDisk,
    id: Id,
}

impl SimulatedDisk {
    fn opened(&self, id: Id) -> Box<dyn OpenFile> {
        Box::new(SimulatedFile { disk: self.clone(), id })
    }
}

impl Disk for SimulatedDisk {
    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        state.look()?;
        if state.unlisted.as_deref() == Some(directory) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let names = state.visible.directory(state.visible.find(directory)?)?;
        let entry = |(name, id): (&OsString, &Id)| {
            let stat = state.visible.stat(*id)?;
            Ok(Entry { name: name.clone(), kind: stat.kind, inode: stat.inode })
        };
        names.iter().map(entry).collect()
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.state();
        state.look()?;
        state.visible.stat(state.visible.find(path)?)
    }

    fn stat_behind(&self, path: &Path) -> io::Result<Stat> {
        // There are no links on this disk.
        self.stat(path)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.stat(path).map(|_| path.to_owned())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let state = self.state();
        state.look()?;
        Ok(self.opened(state.visible.find(path)?))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let state = self.state();
        state.look()?;
        let id = state.visible.find(path)?;
        state.visible.file(id)?;
        Ok(self.opened(id))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let id = self.state().create(path, Body::File(Content::default()))?;
        Ok(self.opened(id))
    }

    fn create_temporary(&self, directory: &Path, prefix: &str) -> io::Result<(PathBuf, Box<dyn OpenFile>)> {
        let number = self.state().next;
        let path = directory.join(format!("{prefix}{number}"));
        Ok((path.clone(), self.create_new(&path)?))
    }

    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn OpenDirectory>> {
        let state = self.state();
        state.look()?;
        let id = state.visible.find(path)?;
        state.visible.directory(id)?;
        Ok(Box::new(SimulatedDirectory { disk: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        let (from, to) = (state.visible.place(from)?, state.visible.place(to)?);
        let id = state.visible.at(&from).ok_or_else(not_found)?;
        state.change(Change::Rename { from, to, id });
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.stat(to).is_ok() {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        self.rename(from, to)
    }

    fn exchange(&self, left: &Path, right: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        let (left, right) = (state.visible.place(left)?, state.visible.place(right)?);
        let left_id = state.visible.at(&left).ok_or_else(not_found)?;
        let right_id = state.visible.at(&right).ok_or_else(not_found)?;
        state.change(Change::Exchange { left, left_id, right, right_id });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.look()?;
        let at = state.visible.place(path)?;
        let id = state.visible.at(&at).ok_or_else(not_found)?;
        state.visible.file(id)?;
        state.begin()?;
        state.change(Change::Remove { at, id });
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.state().create(path, Body::Directory(BTreeMap::new())).map(drop)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        let at = state.visible.place(path)?;
        let id = state.visible.at(&at).ok_or_else(not_found)?;
        if !state.visible.directory(id)?.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOTEMPTY));
        }
        state.change(Change::Remove { at, id });
        Ok(())
    }

    fn make_private(&self, path: &Path) -> io::Result<()> {
        self.stat(path).map(drop)
    }

    fn is_writable(&self, _directory: &Path) -> bool {
        true
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        self.state().look()?;
        Ok(Space { free: u64::MAX, total: u64::MAX })
    }

    fn boot_id(&self, _root: &Path) -> io::Result<[u8; 16]> {
        let state = self.state();
        state.look()?;
        Ok([state.boot; 16])
    }
}

impl OpenFile for SimulatedFile {
    fn stat(&self) -> io::Result<Stat> {
        let state = self.disk.state();
        state.look()?;
        state.visible.stat(self.id)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        state.look()?;
        Ok(state.visible.file(self.id)?.read(offset, buffer))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let state = self.disk.state();
        state.look()?;
        Ok((offset < state.visible.stat(self.id)?.size).then_some(offset))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        // Many zeros are written in portions. Between two of them lies no other instant than between two sectors.
        let zeros = is_zeros(bytes);
        match zeros && state.zeroing == Some(self.id) {
            true => state.look()?,
            false => state.begin()?,
        }
        state.zeroing = zeros.then_some(self.id);
        let (file, modified_ns) = (self.id, state.now_ns);
        state.change(match zeros {
            true => Change::Zeros { file, offset, length: bytes.len() as u64, modified_ns },
            false => Change::Write { file, offset, bytes: bytes.to_vec(), modified_ns },
        });
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin()?;
        let modified_ns = state.now_ns;
        state.change(Change::Length { file: self.id, length, modified_ns });
        Ok(())
    }

    fn set_modified(&self, modified_ns: i64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin()?;
        state.change(Change::Modified { file: self.id, modified_ns });
        Ok(())
    }

    fn make_public(&self) -> io::Result<()> {
        self.stat().map(drop)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync(|change| change.is_of(self.id))
    }

    fn take_lease(&self) -> Result<(), LeaseRefused> {
        Ok(())
    }

    fn is_leased(&self) -> bool {
        true
    }

    fn give_lease_back(&self) {}
}

impl OpenDirectory for SimulatedDirectory {
    fn stat(&self) -> io::Result<Stat> {
        let state = self.disk.state();
        state.look()?;
        state.visible.stat(self.id)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync(|change| change.is_in(self.id))
    }

    fn sync_filesystem(&self) -> io::Result<()> {
        self.disk.state().sync(|_| true)
    }
}
