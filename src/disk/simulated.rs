//! A disk in memory that can stop before any operation, and can lose whatever was not synced, for tests: `redb` and
//! others test themselves so.
//!
//! It keeps two images. The *visible* one is what programs see; the *durable* one is what a power failure leaves for
//! certain. Between them stands the list of changes that were made and not synced, in order. A power failure keeps any
//! of them, in parts if need be: a write loses any of its sectors, a file may keep its new length without its content,
//! names appear, move and go in any combination. What has one name after another (a rename) changes in one step, as on
//! every filesystem with a journal.
//!
//! Inode numbers are reused at once, as on ext4.

#![allow(clippy::unwrap_used, reason = "a test, as a whole")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::lease::LeaseRefused;
use super::system::{Disk, Entry, Kind, OpenDirectory, OpenFile, Stat};

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
const DEVICE: u64 = 7;
const OURS: u32 = 1_000;

/// A disk. Clones share it; [`SimulatedDisk::copy`] makes another of the same content.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

/// What a power failure keeps of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Not a power failure: only the process died, and the kernel has it all.
    Process,
    /// Nothing is kept.
    Everything,
    /// All is kept, though the boot is another.
    Nothing,
    /// All names, and no content: what ext4 without delayed allocation guards against.
    Content,
    /// All content, and no names.
    Names,
    /// Any of it, by this seed.
    Some(u64),
}

/// A program that writes to a disk is stopped, or told of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Before this operation, counted from 1, and for all after it.
    Crash(u64),
    /// This sync fails, counted from 1, and what it should have written never will be. Later ones say that all is well.
    FailedSync(u64),
}

#[derive(Clone, Debug)]
struct State {
    visible: Image,
    durable: Image,
    unsynced: Vec<Change>,
    boot: u8,
    now_ns: i64,
    next: Id,
    operations: u64,
    syncs: u64,
    fault: Option<Fault>,
    crashed: bool,
    /// The file into which zeros are being written.
    zeroing: Option<Id>,
}

type Id = u64;
const ROOT: Id = 0;

#[derive(Clone, Debug)]
struct Image {
    nodes: BTreeMap<Id, Node>,
}

#[derive(Clone, Debug)]
struct Node {
    number: u64,
    born_ns: i64,
    modified_ns: i64,
    is_private: bool,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    File(Content),
    Directory(BTreeMap<OsString, Id>),
}

/// Pages; those that are missing are zeros.
#[derive(Clone, Debug, Default)]
struct Content {
    length: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { file: Id, offset: u64, bytes: Vec<u8>, modified_ns: i64 },
    Zeros { file: Id, offset: u64, length: u64, modified_ns: i64 },
    Length { file: Id, length: u64, modified_ns: i64 },
    Modified { file: Id, modified_ns: i64 },
    Create { at: Place, id: Id, node: Node },
    Remove { at: Place, id: Id },
    Rename { from: Place, to: Place, id: Id },
    Exchange { left: Place, left_id: Id, right: Place, right_id: Id },
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    directory: Id,
    name: OsString,
}

impl SimulatedDisk {
    /// An empty one, with the directory `root` on it.
    pub fn with_directory(root: &Path) -> Self {
        let top =
            Node { number: 2, born_ns: 1, modified_ns: 1, is_private: true, body: Body::Directory(BTreeMap::new()) };
        let image = Image { nodes: [(ROOT, top)].into() };
        let state = State {
            visible: image.clone(),
            durable: image,
            unsynced: Vec::new(),
            boot: 1,
            now_ns: 1_700_000_000_000_000_000,
            next: 1,
            operations: 0,
            syncs: 0,
            fault: None,
            crashed: false,
            zeroing: None,
        };
        let disk = Self(Arc::new(Mutex::new(state)));
        for path in root.ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
            disk.make_directory(path).unwrap();
        }
        disk.sync_all();
        disk
    }

    /// Another disk of the same content, synced or not.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Counts operations anew, and stops or fails as told.
    pub fn expect(&self, fault: Option<Fault>) {
        let mut state = self.state();
        (state.operations, state.syncs, state.fault) = (0, 0, fault);
    }

    /// Operations that changed something or synced, and syncs, since [`SimulatedDisk::expect`].
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.operations, state.syncs)
    }

    /// Whether the program was stopped.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Whether it was to crash or fail.
    pub fn has_fault(&self) -> bool {
        self.state().fault.is_some()
    }

    /// After a crash, or in place of one: what is there when the next program looks.
    pub fn restart(&self, loss: Loss) {
        let mut state = self.state();
        (state.crashed, state.fault) = (false, None);
        if loss == Loss::Process {
            return;
        }
        state.boot += 1;
        let changes = std::mem::take(&mut state.unsynced);
        let mut dice = Dice(if let Loss::Some(seed) = loss { seed } else { 0 });
        for change in changes.iter().filter_map(|change| change.kept(loss, &mut dice)) {
            state.durable.apply(&change);
        }
        state.visible = state.durable.clone();
    }

    /// What a person or another program does: neither counted nor stopped.
    pub fn write_file(&self, path: &Path, bytes: &[u8], synced: bool) {
        let fault = self.state().fault.take();
        let before = self.counts();
        let file = self.create_new(path).unwrap();
        file.write_at(0, bytes).unwrap();
        if synced {
            file.sync().unwrap();
            self.open_directory(path.parent().unwrap()).unwrap().sync().unwrap();
        }
        let mut state = self.state();
        state.fault = fault;
        (state.operations, state.syncs) = before;
    }

    /// The content of a file that is there.
    pub fn read_file(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        let id = state.visible.find(path).unwrap();
        state.visible.file(id).unwrap().read_all()
    }

    fn sync_all(&self) {
        let mut state = self.state();
        for change in std::mem::take(&mut state.unsynced) {
            state.durable.apply(&change);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// SplitMix64: the same for the same seed, which is all that is asked of it.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    !bytes.is_empty() && bytes.len() <= ZEROS.len() && bytes == &ZEROS[..bytes.len()]
}

fn not_found() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

impl State {
    /// Before a change.
    fn begin(&mut self) -> io::Result<()> {
        self.look()?;
        self.zeroing = None;
        self.operations += 1;
        self.now_ns += 1_000;
        if self.fault == Some(Fault::Crash(self.operations)) {
            self.crashed = true;
        }
        self.look()
    }

    /// Before a look.
    fn look(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn change(&mut self, change: Change) {
        self.visible.apply(&change);
        self.unsynced.push(change);
    }

    /// Makes the changes durable that `covers` says; or never, if this sync is to fail.
    fn sync(&mut self, covers: impl Fn(&Change) -> bool) -> io::Result<()> {
        self.begin()?;
        self.syncs += 1;
        let fails = self.fault == Some(Fault::FailedSync(self.syncs));
        let covered = self.take_covered(covers);
        if !fails {
            covered.iter().for_each(|change| self.durable.apply(change));
            return Ok(());
        }
        // Pages are called clean, and forgotten by every later sync. Names stay in the filesystem's own log.
        self.unsynced.extend(covered.into_iter().filter(Change::is_name));
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    /// Takes out what a sync covers, with everything before it that touched the same names: what comes later must not
    /// be undone by what came earlier.
    fn take_covered(&mut self, covers: impl Fn(&Change) -> bool) -> Vec<Change> {
        let mut touched: Vec<Place> = Vec::new();
        let (mut covered, mut others) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.unsynced).into_iter().rev() {
            if covers(&change) || change.places().iter().any(|place| touched.contains(place)) {
                touched.extend(change.places().into_iter().cloned());
                covered.push(change);
            } else {
                others.push(change);
            }
        }
        covered.reverse();
        others.reverse();
        self.unsynced = others;
        covered
    }

    fn create(&mut self, path: &Path, body: Body) -> io::Result<Id> {
        self.begin()?;
        let at = self.visible.place(path)?;
        if self.visible.at(&at).is_some() {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        let id = self.next;
        self.next += 1;
        let (number, now) = (self.visible.free_number(), self.now_ns);
        let node = Node { number, born_ns: now, modified_ns: now, is_private: true, body };
        // Without a name nobody finds it; but its content can be synced before its name is.
        self.durable.nodes.insert(id, node.clone());
        self.change(Change::Create { at, id, node });
        Ok(id)
    }
}

impl Change {
    fn is_name(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Zeros { .. } | Self::Length { .. } | Self::Modified { .. })
    }

    /// The names that it changes.
    fn places(&self) -> Vec<&Place> {
        match self {
            Self::Create { at, .. } | Self::Remove { at, .. } => vec![at],
            Self::Rename { from, to, .. } => vec![from, to],
            Self::Exchange { left, right, .. } => vec![left, right],
            _ => Vec::new(),
        }
    }

    fn is_of(&self, id: Id) -> bool {
        match self {
            Self::Write { file, .. }
            | Self::Zeros { file, .. }
            | Self::Length { file, .. }
            | Self::Modified { file, .. } => *file == id,
            _ => false,
        }
    }

    fn is_in(&self, directory: Id) -> bool {
        self.places().iter().any(|place| place.directory == directory)
    }

    /// What a power failure leaves of it.
    fn kept(&self, loss: Loss, dice: &mut Dice) -> Option<Self> {
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
    fn torn(&self, dice: &mut Dice) -> Option<Self> {
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
    fn apply(&mut self, change: &Change) {
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

    fn change_file(&mut self, id: Id, modified_ns: i64, change: impl FnOnce(&mut Content)) {
        // Content without a file: the name that made it was lost.
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.modified_ns = modified_ns;
        if let Body::File(content) = &mut node.body {
            change(content);
        }
    }

    fn set(&mut self, at: &Place, id: Id) {
        let is_there = self.nodes.contains_key(&id);
        if let Some(names) = self.directory_mut(at.directory).filter(|_| is_there) {
            names.insert(at.name.clone(), id);
        }
    }

    fn clear(&mut self, at: &Place, id: Id) {
        if let Some(names) = self.directory_mut(at.directory).filter(|names| names.get(&at.name) == Some(&id)) {
            names.remove(&at.name);
        }
    }

    fn directory_mut(&mut self, id: Id) -> Option<&mut BTreeMap<OsString, Id>> {
        match self.nodes.get_mut(&id).map(|node| &mut node.body) {
            Some(Body::Directory(names)) => Some(names),
            _ => None,
        }
    }

    fn directory(&self, id: Id) -> io::Result<&BTreeMap<OsString, Id>> {
        match self.nodes.get(&id).map(|node| &node.body) {
            Some(Body::Directory(names)) => Ok(names),
            Some(Body::File(_)) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            None => Err(not_found()),
        }
    }

    fn file(&self, id: Id) -> io::Result<&Content> {
        match self.nodes.get(&id).map(|node| &node.body) {
            Some(Body::File(content)) => Ok(content),
            Some(Body::Directory(_)) => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            None => Err(not_found()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        let mut id = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                id = *self.directory(id)?.get(name).ok_or_else(not_found)?;
            }
        }
        Ok(id)
    }

    fn place(&self, path: &Path) -> io::Result<Place> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let directory = self.find(parent)?;
        self.directory(directory)?;
        Ok(Place { directory, name: name.to_owned() })
    }

    fn at(&self, place: &Place) -> Option<Id> {
        self.directory(place.directory).ok()?.get(&place.name).copied()
    }

    fn free_number(&self) -> u64 {
        let named = self.nodes.values().filter_map(|node| match &node.body {
            Body::Directory(names) => Some(names.values()),
            Body::File(_) => None,
        });
        let used: BTreeSet<u64> = named.flatten().filter_map(|id| Some(self.nodes.get(id)?.number)).collect();
        (11..).find(|number| !used.contains(number)).unwrap()
    }

    fn stat(&self, id: Id) -> io::Result<Stat> {
        let node = self.nodes.get(&id).ok_or_else(not_found)?;
        let (kind, size) = match &node.body {
            Body::File(content) => (Kind::File, content.length),
            Body::Directory(_) => (Kind::Directory, 0),
        };
        Ok(Stat {
            kind,
            device: DEVICE,
            inode: node.number,
            born_ns: Some(node.born_ns),
            modified_ns: node.modified_ns,
            size,
            links: 1,
            owner: OURS,
            mode: if node.is_private { 0o600 } else { 0o644 },
        })
    }
}

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut position = offset;
        for_pages(offset, bytes.len(), |page, within, range| {
            let portion = &bytes[range];
            position += portion.len() as u64;
            let stored = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(stored)[within..within + portion.len()].copy_from_slice(portion);
        });
        self.length = self.length.max(position);
    }

    fn write_zeros(&mut self, offset: u64, length: u64) {
        for_pages(offset, usize::try_from(length).unwrap(), |page, within, range| {
            if let Some(stored) = self.pages.get_mut(&page) {
                Arc::make_mut(stored)[within..within + range.len()].fill(0);
            }
        });
        self.length = self.length.max(offset + length);
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
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

    fn read_all(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap()];
        self.read(0, &mut bytes);
        bytes
    }

    fn set_length(&mut self, length: u64) {
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

    fn boot_id(&self) -> io::Result<[u8; 16]> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> SimulatedDisk {
        SimulatedDisk::with_directory(Path::new("/d"))
    }

    fn read(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
        disk.stat(Path::new(path)).ok().map(|_| disk.read_file(Path::new(path)))
    }

    #[test]
    fn what_is_synced_stays_and_what_is_not_goes() {
        let disk = disk();
        let file = disk.create_new(Path::new("/d/x")).unwrap();
        file.write_at(0, b"one").unwrap();
        file.sync().unwrap();
        let copy = disk.copy();
        copy.restart(Loss::Everything);
        assert_eq!(read(&copy, "/d/x"), None, "a file's sync does not cover its name");
        disk.open_directory(Path::new("/d")).unwrap().sync().unwrap();
        file.write_at(1, b"bc").unwrap();
        assert_eq!(read(&disk, "/d/x").unwrap(), b"obc");
        disk.restart(Loss::Everything);
        assert_eq!(read(&disk, "/d/x").unwrap(), b"one");
    }

    #[test]
    fn some_loss_keeps_every_combination_of_names_and_content() {
        let disk = disk();
        let file = disk.create_new(Path::new("/d/x")).unwrap();
        file.write_at(0, &[b'a'; 1_024]).unwrap();
        disk.rename(Path::new("/d/x"), Path::new("/d/y")).unwrap();
        let mut seen = BTreeSet::new();
        for number in 0..200 {
            let copy = disk.copy();
            copy.restart(Loss::Some(number));
            let there = [read(&copy, "/d/x"), read(&copy, "/d/y")];
            let short = |bytes: &Option<Vec<u8>>| match bytes {
                None => 'n',
                Some(bytes) if bytes.is_empty() => 'e',
                Some(bytes) if bytes.iter().all(|byte| *byte == 0) => 'z',
                Some(bytes) if bytes == &[b'a'; 1_024] => 'w',
                Some(_) => 't',
            };
            seen.insert(there.iter().map(short).collect::<String>());
        }
        for expected in ["nn", "en", "zn", "wn", "tn", "ne", "nz", "nw", "nt"] {
            assert!(seen.contains(expected), "{expected} of {seen:?}");
        }
    }

    #[test]
    fn a_failed_sync_loses_what_it_covered_though_the_next_succeeds() {
        let disk = disk();
        disk.write_file(Path::new("/d/x"), b"one", true);
        disk.expect(Some(Fault::FailedSync(1)));
        let file = disk.open_to_write(Path::new("/d/x")).unwrap();
        file.write_at(0, b"two").unwrap();
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(read(&disk, "/d/x").unwrap(), b"two");
        disk.restart(Loss::Nothing);
        assert_eq!(read(&disk, "/d/x").unwrap(), b"one");
    }

    #[test]
    fn a_crash_stops_everything_from_its_operation_on() {
        let disk = disk();
        disk.expect(Some(Fault::Crash(2)));
        disk.make_directory(Path::new("/d/a")).unwrap();
        assert!(disk.make_directory(Path::new("/d/b")).is_err());
        assert!(disk.has_crashed() && disk.stat(Path::new("/d/a")).is_err());
        disk.restart(Loss::Process);
        assert!(disk.stat(Path::new("/d/a")).is_ok() && disk.stat(Path::new("/d/b")).is_err());
    }

    #[test]
    fn a_number_is_used_again_at_once_and_the_birth_tells_them_apart() {
        let disk = disk();
        disk.write_file(Path::new("/d/x"), b"one", false);
        let first = disk.stat(Path::new("/d/x")).unwrap();
        disk.unlink(Path::new("/d/x")).unwrap();
        disk.write_file(Path::new("/d/x"), b"one", false);
        let second = disk.stat(Path::new("/d/x")).unwrap();
        assert_eq!(first.inode, second.inode);
        assert_ne!(first.born_ns, second.born_ns);
    }
}
