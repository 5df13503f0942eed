//! How changes lead from one image to the next, and what a power failure leaves of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use super::{
    Body, Change, Content, DEVICE, Dice, Id, Image, Loss, OURS, PAGE_BYTES, Place, ROOT, SECTOR_BYTES, not_found,
};
use crate::disk::system::{Kind, Stat};

impl Change {
    pub(super) fn is_name(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Zeros { .. } | Self::Length { .. } | Self::Modified { .. })
    }

    /// The names that it changes.
    pub(super) fn places(&self) -> Vec<&Place> {
        match self {
            Self::Create { at, .. } | Self::Remove { at, .. } => vec![at],
            Self::Rename { from, to, .. } => vec![from, to],
            Self::Exchange { left, right, .. } => vec![left, right],
            _ => Vec::new(),
        }
    }

    pub(super) fn is_of(&self, id: Id) -> bool {
        match self {
            Self::Write { file, .. }
            | Self::Zeros { file, .. }
            | Self::Length { file, .. }
            | Self::Modified { file, .. } => *file == id,
            _ => false,
        }
    }

    pub(super) fn is_in(&self, directory: Id) -> bool {
        self.places().iter().any(|place| place.directory == directory)
    }

    /// What a power failure leaves of it.
    pub(super) fn kept(&self, loss: Loss, dice: &mut Dice) -> Option<Self> {
        let kept = match loss {
            Loss::Process | Loss::Nothing => true,
            Loss::Everything => false,
            Loss::Content => self.is_name(),
            Loss::Names => !self.is_name(),
            Loss::Some(_) => match self {
                Self::Write { .. } => return self.torn(dice),
                _ => dice.below(2) == 0,
            },
        };
        kept.then(|| self.clone())
    }

    /// A write of which some sectors, or only the length, reached the disk.
    pub(super) fn torn(&self, dice: &mut Dice) -> Option<Self> {
        let Self::Write { file, offset, bytes, modified_ns } = self else { return Some(self.clone()) };
        match dice.below(4) {
            0 => None,
            1 => Some(self.clone()),
            2 => Some(Self::Length { file: *file, length: offset + bytes.len() as u64, modified_ns: *modified_ns }),
            _ => {
                let mut bytes = bytes.clone();
                for sector in bytes.chunks_mut(SECTOR_BYTES) {
                    if dice.below(2) == 0 {
                        sector.fill(0);
                    }
                }
                Some(Self::Write { file: *file, offset: *offset, bytes, modified_ns: *modified_ns })
            }
        }
    }
}

impl Image {
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, bytes, modified_ns } => self.change_file(*file, *modified_ns, |content| {
                content.write(*offset, bytes);
            }),
            Change::Zeros { file, offset, length, modified_ns } => self.change_file(*file, *modified_ns, |content| {
                content.write_zeros(*offset, *length);
            }),
            Change::Length { file, length, modified_ns } => self.change_file(*file, *modified_ns, |content| {
                content.set_length(*length);
            }),
            Change::Modified { file, modified_ns } => self.change_file(*file, *modified_ns, |_| {}),
            Change::Create { at, id, node } => {
                self.nodes.entry(*id).or_insert_with(|| node.clone());
                self.set(at, *id);
            }
            Change::Remove { at, id } => self.clear(at, *id),
            Change::Rename { from, to, id } => {
                self.clear(from, *id);
                self.set(to, *id);
            }
            Change::Exchange { left, left_id, right, right_id } => {
                self.set(left, *right_id);
                self.set(right, *left_id);
            }
        }
    }

    pub(super) fn change_file(&mut self, id: Id, modified_ns: i64, change: impl FnOnce(&mut Content)) {
        // Content without a file: the name that made it was lost.
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.modified_ns = modified_ns;
        if let Body::File(content) = &mut node.body {
            change(content);
        }
    }

    pub(super) fn set(&mut self, at: &Place, id: Id) {
        let is_there = self.nodes.contains_key(&id);
        if let Some(names) = self.directory_mut(at.directory).filter(|_| is_there) {
            names.insert(at.name.clone(), id);
        }
    }

    pub(super) fn clear(&mut self, at: &Place, id: Id) {
        if let Some(names) = self.directory_mut(at.directory).filter(|names| names.get(&at.name) == Some(&id)) {
            names.remove(&at.name);
        }
    }

    pub(super) fn directory_mut(&mut self, id: Id) -> Option<&mut BTreeMap<OsString, Id>> {
        match self.nodes.get_mut(&id).map(|node| &mut node.body) {
            Some(Body::Directory(names)) => Some(names),
            _ => None,
        }
    }

    pub(super) fn directory(&self, id: Id) -> io::Result<&BTreeMap<OsString, Id>> {
        match self.nodes.get(&id).map(|node| &node.body) {
            Some(Body::Directory(names)) => Ok(names),
            Some(Body::File(_)) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            None => Err(not_found()),
        }
    }

    pub(super) fn file(&self, id: Id) -> io::Result<&Content> {
        match self.nodes.get(&id).map(|node| &node.body) {
            Some(Body::File(content)) => Ok(content),
            Some(Body::Directory(_)) => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            None => Err(not_found()),
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Id> {
        let mut id = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                id = *self.directory(id)?.get(name).ok_or_else(not_found)?;
            }
        }
        Ok(id)
    }

    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let directory = self.find(parent)?;
        self.directory(directory)?;
        Ok(Place { directory, name: name.to_owned() })
    }

    pub(super) fn at(&self, place: &Place) -> Option<Id> {
        self.directory(place.directory).ok()?.get(&place.name).copied()
    }

    pub(super) fn free_number(&self) -> u64 {
        let named = self.nodes.values().filter_map(|node| match &node.body {
            Body::Directory(names) => Some(names.values()),
            Body::File(_) => None,
        });
        let used: BTreeSet<u64> = named.flatten().filter_map(|id| Some(self.nodes.get(id)?.number)).collect();
        (11..).find(|number| !used.contains(number)).unwrap()
    }

    pub(super) fn stat(&self, id: Id) -> io::Result<Stat> {
        let node = self.nodes.get(&id).ok_or_else(not_found)?;
        let (kind, size, modified_ns) = match &node.body {
            Body::File(content) => (Kind::File, content.length, node.modified_ns),
            // What matters of a directory's time is that other names in it make it another.
            Body::Directory(names) => {
                let mut hasher = DefaultHasher::new();
                names.hash(&mut hasher);
                (Kind::Directory, 0, i64::from(hasher.finish() as u32))
            }
        };
        Ok(Stat {
            kind,
            device: DEVICE,
            inode: node.number,
            born_ns: Some(node.born_ns),
            modified_ns,
            size,
            links: 1,
            owner: OURS,
            mode: if node.is_private { 0o600 } else { 0o644 },
        })
    }
}

impl Content {
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut position = offset;
        for_pages(offset, bytes.len(), |page, within, range| {
            let portion = &bytes[range];
            position += portion.len() as u64;
            let stored = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(stored)[within..within + portion.len()].copy_from_slice(portion);
        });
        self.length = self.length.max(position);
    }

    pub(super) fn write_zeros(&mut self, offset: u64, length: u64) {
        for_pages(offset, usize::try_from(length).unwrap(), |page, within, range| {
            if let Some(stored) = self.pages.get_mut(&page) {
                Arc::make_mut(stored)[within..within + range.len()].fill(0);
            }
        });
        self.length = self.length.max(offset + length);
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        for_pages(offset, there, |page, within, range| {
            let target = &mut buffer[range];
            match self.pages.get(&page) {
                Some(stored) => target.copy_from_slice(&stored[within..within + target.len()]),
                None => target.fill(0),
            }
        });
        there
    }

    pub(super) fn read_all(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap()];
        self.read(0, &mut bytes);
        bytes
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            let kept = self.read_all()[..usize::try_from(length).unwrap()].to_vec();
            self.pages.clear();
            self.write(0, &kept);
        }
        self.length = length;
    }
}

/// Calls with each page that a stretch touches: its number, where in it, and which part of the stretch.
fn for_pages(offset: u64, length: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let page_bytes = PAGE_BYTES as u64;
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let within = usize::try_from(at % page_bytes).unwrap();
        let portion = (PAGE_BYTES - within).min(length - done);
        each(at / page_bytes, within, done..done + portion);
        done += portion;
    }
}
