//! Contents that are sent in parts: which there are, and how far each recipient is (design, section 4).
//!
//! `keys/large/MESSAGE` says it ([`LargeRecord`], about a kilobyte), and `journal/large/MESSAGE` is the copy that is sent from.
//! How many parts were accepted nobody writes down: it is what was sealed less what stands in the queue.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::root::{self, Root};
use super::state::{self, StateError};
use super::sweeping::Sweeping;
use crate::clock::Timestamp;
use crate::disk::system::Disk;
use crate::limits::LARGE_CONTENTS_MAX;
use crate::wire::identity::{Fingerprint, MessageId};
use crate::wire::large::{LargeRecipient, LargeRecord};

/// All that are on their way.
#[derive(Debug, Default)]
pub struct Large {
    records: BTreeMap<MessageId, LargeRecord>,
    dirty: BTreeSet<MessageId>,
    /// Nobody needs them any more, as the next transaction says.
    ended: Vec<MessageId>,
    /// The same, as the last one has said.
    gone: Vec<MessageId>,
    /// Percents that `.delivery/` says.
    told: HashMap<(MessageId, Fingerprint), u64>,
}

impl Large {
    /// Reads `keys/large/`; it may not be there.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, StateError> {
        let mut large = Self::default();
        if disk.stat(directory).is_err() {
            return Ok(large);
        }
        for (path, name) in state::files(disk, directory)? {
            let Some(message) = MessageId::from_hex(&name) else { continue };
            let record = LargeRecord::from_bytes(&state::read(disk, &path)?)
                .map_err(|error| StateError::malformed(&path, error))?;
            large.records.insert(message, record);
        }
        Ok(large)
    }

    /// What lies in `journal/large/` and belongs to none of them.
    pub fn strays(&self, root: &Root) -> Sweeping {
        let mut sweeping = Sweeping::default();
        for name in root.names("journal/large") {
            let known = name.to_str().and_then(MessageId::from_hex).is_some_and(|message| self.has(&message));
            if !known {
                sweeping.add(Path::new("journal/large").join(name));
            }
        }
        sweeping
    }

    /// Whether a content is on its way.
    pub fn has(&self, message: &MessageId) -> bool {
        self.records.contains_key(message)
    }

    /// How far a content is.
    pub fn get(&self, message: &MessageId) -> Option<&LargeRecord> {
        self.records.get(message)
    }

    /// Whether somebody does not have all of a content yet.
    pub fn is_for(&self, message: &MessageId, recipient: &Fingerprint) -> bool {
        self.get(message).is_some_and(|record| record.recipient(recipient).is_some())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &LargeRecord> {
        self.records.values()
    }

    /// Whether no more may be begun.
    pub fn is_full(&self) -> bool {
        self.records.len() >= LARGE_CONTENTS_MAX
    }

    /// How many are on their way to somebody.
    pub fn count_for(&self, recipient: &Fingerprint) -> usize {
        self.records.values().filter(|record| record.recipient(recipient).is_some()).count()
    }

    /// Begins one.
    pub fn add(&mut self, record: LargeRecord) {
        self.dirty.insert(record.message);
        self.records.insert(record.message, record);
    }

    /// Somebody gets all of it once more, from its beginning.
    pub fn begin_anew(&mut self, message: &MessageId, recipient: LargeRecipient) {
        let Some(record) = self.records.get_mut(message) else { return };
        self.dirty.insert(*message);
        match record.recipients.iter_mut().find(|known| known.fingerprint == recipient.fingerprint) {
            Some(known) => *known = recipient,
            None => record.recipients.push(recipient),
        }
    }

    /// One more part is sealed for somebody.
    pub fn sealed(&mut self, message: &MessageId, recipient: &Fingerprint, now: Timestamp) {
        let Some(record) = self.records.get_mut(message) else { return };
        if let Some(known) = record.recipients.iter_mut().find(|known| known.fingerprint == *recipient) {
            known.next += 1;
            known.moved = now.seconds();
            self.dirty.insert(*message);
        }
    }

    /// Contents of which nothing was sealed for somebody since `limit`: for whom, and of what. Where it is not known when that was,
    /// or it lies in the future, it counts from now on.
    pub fn stuck_since(&mut self, limit: Timestamp, now: Timestamp) -> Vec<(Fingerprint, LargeRecord)> {
        let mut stuck = Vec::new();
        for record in self.records.values_mut() {
            for known in &mut record.recipients {
                if known.moved == 0 || known.moved > now.seconds() {
                    known.moved = now.seconds();
                    self.dirty.insert(record.message);
                }
            }
            let these = record.recipients.iter().filter(|known| known.moved < limit.seconds());
            stuck.extend(these.map(|known| (known.fingerprint, record.clone())));
        }
        stuck
    }

    /// Somebody has all of it, or will not get it. False if they were none of its recipients any more.
    pub fn end(&mut self, message: &MessageId, recipient: &Fingerprint) -> bool {
        let Some(record) = self.records.get_mut(message) else { return false };
        let before = record.recipients.len();
        record.recipients.retain(|known| known.fingerprint != *recipient);
        self.told.remove(&(*message, *recipient));
        let was_there = record.recipients.len() < before;
        if record.recipients.is_empty() {
            self.records.remove(message);
            self.dirty.remove(message);
            self.ended.push(*message);
        } else if was_there {
            self.dirty.insert(*message);
        }
        was_there
    }

    /// Everybody for whom parts are still to be sealed.
    pub fn recipients(&self) -> BTreeSet<Fingerprint> {
        let open = |record: &LargeRecord| {
            let parts = record.parts();
            let unsealed = record.recipients.iter().filter(move |recipient| recipient.next < parts);
            unsealed.map(|recipient| recipient.fingerprint).collect::<Vec<_>>()
        };
        self.records.values().flat_map(open).collect()
    }

    /// Whether parts are still to be sealed for somebody.
    pub fn waits_for(&self, recipient: &Fingerprint) -> bool {
        self.next(recipient).is_some()
    }

    /// The content of which the next part is somebody's, and that part's number: one content after the other, in the order
    /// in which they were written.
    pub fn next(&self, recipient: &Fingerprint) -> Option<(&LargeRecord, LargeRecipient)> {
        let open = self.records.values().filter_map(|record| {
            let known = record.recipient(recipient).filter(|known| known.next < record.parts())?;
            Some((record, *known))
        });
        open.min_by_key(|(record, _)| (record.time, record.message))
    }

    /// Whether a percentage is news to whoever reads `.delivery/`.
    pub fn is_news(&mut self, message: &MessageId, recipient: &Fingerprint, percent: u64) -> bool {
        self.told.insert((*message, *recipient), percent) != Some(percent)
    }

    /// The files that changed since this was last asked, with their new content; those that are to go have none.
    pub fn take_dirty(&mut self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let changed = dirty.iter().filter_map(|message| Some((message, self.records.get(message)?)));
        let changed = changed.map(|(message, record)| (root::large_file(message), Some(record.to_bytes())));
        let mut files: Vec<_> = changed.collect();
        for message in std::mem::take(&mut self.ended) {
            // Begun anew in the same batch.
            if !self.has(&message) {
                files.push((root::large_file(&message), None));
                self.gone.push(message);
            }
        }
        files
    }

    /// Copies of which the last transaction says that nobody needs them.
    pub fn take_gone(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.gone).iter().map(|message| root::large_copy(&message.to_string())).collect()
    }
}
