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

mod calls;
mod image;
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::system::Disk as _;

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
    /// A directory whose names cannot be read.
    unlisted: Option<PathBuf>,
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
            unlisted: None,
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

    /// From now on the names in this directory cannot be read.
    pub fn refuse_listing(&self, directory: Option<&Path>) {
        self.state().unlisted = directory.map(Path::to_owned);
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
