//! Whether there is room for another file of a dropbox: on the disk, and behind those that came before it.
//!
//! A sender pays nothing for a file of 64 MiB that is all hole, and its copy has them all. So what is not sent soon stays where
//! it was dropped, on whatever quota its sender has there: nothing is copied that would not find room for all its copies, and
//! no large file while others of dropboxes still wait in the outbox.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::dropbox_files::Held;
use super::engine::Engine;
use super::room;
use super::root::Root;
use crate::disk::atomic;
use crate::disk::open::FileIdentity;
use crate::limits::{
    CONTENT_BYTES_MAX, DROPBOX_ENTRIES_MAX, DROPBOX_LARGE_BYTES_MAX, DROPBOX_LARGE_MAX, DROPBOX_ROOM_TIMES,
};

/// A file of a dropbox, on its way into the outbox or waiting there.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The outbox directory, relative to the root.
    pub(super) to: PathBuf,
    /// Where its copy is made, relative to the root.
    pub(super) copy: PathBuf,
    /// Which file that is. In the outbox it may get another name, if its own is taken.
    pub(super) made: FileIdentity,
    pub(super) size: u64,
}

/// Large files of dropboxes that were not seen to have left the outbox. A restart forgets them, and as many come once more; the
/// disk must have room for them as ever.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    files: Vec<Waiting>,
    /// Directories that were looked at in this second.
    looked: HashSet<PathBuf>,
}

impl Backlog {
    /// A second has passed.
    pub(super) fn tick(&mut self) {
        self.looked.clear();
    }

    /// A file is about to be copied.
    pub(super) fn add(&mut self, file: Waiting) {
        if is_large(file.size) {
            self.files.push(file);
        }
    }

    /// Whether another large file may follow into an outbox directory.
    fn has_room(&mut self, root: &Root, to: &Path) -> bool {
        // Once a second, however many ask.
        if self.is_beyond(to) && self.looked.insert(to.to_owned()) {
            self.forget_sent(root, to);
        }
        !self.is_beyond(to)
    }

    fn is_beyond(&self, to: &Path) -> bool {
        let (mut count, mut bytes) = (0, 0_u64);
        for file in self.files.iter().filter(|file| file.to == to) {
            count += 1;
            bytes = bytes.saturating_add(file.size);
        }
        count >= DROPBOX_LARGE_MAX || bytes > DROPBOX_LARGE_BYTES_MAX
    }

    /// Forgets those that are neither being copied nor in the outbox any more.
    fn forget_sent(&mut self, root: &Root, to: &Path) {
        let directory = root.join(to);
        let entries = match root.disk().some_entries(&directory, DROPBOX_ENTRIES_MAX) {
            Err(error) if atomic::is_absent(&error) => Vec::new(),
            Err(_) => return,
            Ok(entries) => entries,
        };
        let is_cut = entries.len() >= DROPBOX_ENTRIES_MAX;
        let names: HashMap<u64, OsString> = entries.into_iter().map(|entry| (entry.inode, entry.name)).collect();
        self.files.retain(|file| {
            let is_it = |name| {
                let found = root.disk().stat(&directory.join(name));
                found.is_ok_and(|found| (found.inode, found.born_ns) == (file.made.inode, file.made.born_ns))
            };
            let is_there = || names.get(&file.made.inode).map_or(is_cut, is_it);
            file.to != to || root.is_taken(&file.copy) || is_there()
        });
    }
}

fn is_large(size: u64) -> bool {
    size > CONTENT_BYTES_MAX as u64
}

impl Engine {
    /// Why a file of a dropbox is not copied now, if it is not.
    pub(super) fn no_room_for_dropped(&mut self, size: u64, to: &Path) -> Option<Held> {
        if !self.has_room_to_copy(size) {
            return Some(Held::Disk);
        }
        let has_room = !is_large(size) || self.dropboxes.backlog.has_room(&self.root, to);
        (!has_room).then_some(Held::Outbox)
    }

    /// Whether the disk has room for what is still to be copied, and for the copies that are made of it then.
    pub(super) fn has_room_to_copy(&self, bytes: u64) -> bool {
        room::has_disk_space(&self.root, &self.pending, bytes.saturating_mul(DROPBOX_ROOM_TIMES))
    }
}
