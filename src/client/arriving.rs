//! Large contents on their way to us: which parts are here. The bytes are in `journal/arriving/HASH`, written by steps of the
//! journal as they come; what is noted of them, in `keys/arriving/HASH`, once a batch. Memory holds a bit for each part.
//!
//! HASH is that of author, conversation and id by which a message is known once it was received.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::author::Open;
use super::pending;
use super::progress;
use super::root::{self, Root};
use super::state::{self, StateError};
use crate::crypto::hash::Hasher;
use crate::disk::atomic;
use crate::disk::open::{OpenError, RegularFile};
use crate::disk::system::Disk;
use crate::limits::{
    ARRIVING_LIFETIME_S, ARRIVING_MAX, ARRIVING_OTHERS_MAX, ARRIVING_PER_AUTHOR_CONTENTS, ARRIVING_PER_AUTHOR_MAX,
    ARRIVING_STALLS_S, HASHED_AT_ONCE_BYTES, PART_BYTES,
};
use crate::name;
use crate::wire::Malformed;
use crate::wire::arriving::ArrivingRecord;
use crate::wire::identity::{ConversationId, Fingerprint};
use crate::wire::part::Part;
use crate::wire::payload::Payload;

/// By which a content is known.
pub type MessageHash = [u8; 32];

/// All contents that have come in part.
#[derive(Debug, Default)]
pub struct Arriving {
    contents: BTreeMap<MessageHash, Arrival>,
    dirty: BTreeSet<MessageHash>,
    /// What came of these is to be erased, as the next transaction says.
    gone: BTreeSet<MessageHash>,
}

/// One of them.
struct Arrival {
    record: ArrivingRecord,
    /// Over the parts before `hashed`.
    hasher: Hasher,
    hashed: u32,
    /// The file in which these were.
    file: Option<FileKey>,
    /// Parts of it are in the transaction that is being put together, and not in the file yet.
    is_fresh: bool,
    /// The disk did not give its bytes: it is asked again in a second.
    is_stuck: bool,
}

/// Which file it is: its inode, and when that was made.
type FileKey = (u64, Option<i64>);

/// What is known of a content's hash.
#[derive(Debug, PartialEq, Eq)]
pub enum Hashed {
    /// There is more to read.
    InPart,
    /// Of all of it.
    Whole([u8; 32]),
    /// Its bytes are not where they were written.
    Lost,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = self.record.bytes_here();
        formatter.debug_struct("Arrival").field("here", &here).field("of", &self.record.size()).finish_non_exhaustive()
    }
}

impl Arrival {
    fn new(record: ArrivingRecord) -> Self {
        Self { record, hasher: Hasher::default(), hashed: 0, file: None, is_fresh: false, is_stuck: false }
    }

    /// Whether its hash can be gone on with.
    fn is_next(&self) -> bool {
        let more = self.record.has(self.hashed) || self.record.is_whole();
        more && !self.is_fresh && !self.is_stuck
    }

    /// Hashes what lies in the file behind what is hashed, as far as that is without a gap.
    fn go_on(&mut self, root: &Root, hash: &MessageHash) -> io::Result<bool> {
        let path = root.join(root::arriving_content(hash));
        let file = match RegularFile::open(root.disk(), &path) {
            Ok(file) => file,
            Err(OpenError::Io(error)) => return Err(error),
            Err(_) => return Ok(false),
        };
        let found = file.stat()?;
        let key = (found.inode, found.born_ns);
        // Somebody removed it, and the next part made it anew with a hole in it.
        if *self.file.get_or_insert(key) != key {
            return Ok(false);
        }
        let mut buffer = Zeroizing::new(vec![0; usize::try_from(PART_BYTES).unwrap_or(0)]);
        let mut read = 0;
        while read < HASHED_AT_ONCE_BYTES && self.record.has(self.hashed) {
            let part = Part { number: self.hashed, size: self.record.size(), sha256: self.record.sha256() };
            let length = usize::try_from(part.length()).unwrap_or(0);
            if file.read_at(part.offset(), &mut buffer[..length])? < length {
                return Ok(false);
            }
            self.hasher.add(&buffer[..length]);
            self.hashed += 1;
            read += part.length();
        }
        Ok(true)
    }
}

impl Arriving {
    /// Reads `keys/arriving/`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, StateError> {
        let mut arriving = Self::default();
        for (path, name) in state::files(disk, directory)? {
            let malformed = |error| StateError::malformed(&path, error);
            let record = ArrivingRecord::from_bytes(&state::read(disk, &path)?).map_err(malformed)?;
            let hash = record.hash();
            if name != HEXLOWER.encode(&hash) {
                return Err(malformed(Malformed::new("arriving content", "it has the name of another")));
            }
            arriving.contents.insert(hash, Arrival::new(record));
        }
        Ok(arriving)
    }

    /// What is known of one.
    pub fn get(&self, hash: &MessageHash) -> Option<&ArrivingRecord> {
        self.contents.get(hash).map(|arrival| &arrival.record)
    }

    /// Whether there is room for another content of this author: counted is what contents say to be, so that whatever was begun
    /// has room to its end. `receive_limit` is the largest that is received. Who is no contact leaves room for those who are.
    pub fn has_room(
        &self,
        author: &Fingerprint,
        size: u64,
        receive_limit: u64,
        is_contact: impl Fn(&Fingerprint) -> bool,
    ) -> bool {
        let others = || self.authors().filter(|author| !is_contact(author)).count();
        let theirs = self.of(author);
        let (count, bytes) = theirs.fold((0, 0_u64), |(count, bytes), record| (count + 1, bytes + record.size()));
        count < ARRIVING_PER_AUTHOR_MAX
            && self.contents.len() < ARRIVING_MAX
            && (is_contact(author) || others() < ARRIVING_OTHERS_MAX)
            && bytes.saturating_add(size) <= receive_limit.saturating_mul(ARRIVING_PER_AUTHOR_CONTENTS)
    }

    /// Whether a content whose place is among these messages grows.
    pub fn comes(&self, (conversation, author): &(ConversationId, Fingerprint), among: &Open, now_s: u64) -> bool {
        self.of(author).any(|record| {
            let message = record.message();
            message.conversation == *conversation
                && message.incarnation == among.incarnation
                && (among.from..=among.to).contains(&message.counter)
                && record.progressed.saturating_add(ARRIVING_STALLS_S) > now_s
        })
    }

    /// How many messages the author's contents would fill, if they came as messages.
    pub fn parts_of(&self, author: &Fingerprint) -> usize {
        let parts = self.of(author).map(|record| record.size().div_ceil(PART_BYTES));
        usize::try_from(parts.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Whose they are, each as often as they have some.
    pub fn authors(&self) -> impl Iterator<Item = &Fingerprint> {
        self.contents.values().map(|arrival| &arrival.record.author)
    }

    /// Those of some authors.
    pub fn of_authors(&self, are_they: impl Fn(&Fingerprint) -> bool) -> Vec<MessageHash> {
        let theirs = self.contents.iter().filter(|(_, arrival)| are_they(&arrival.record.author));
        theirs.map(|(hash, _)| *hash).collect()
    }

    fn of(&self, author: &Fingerprint) -> impl Iterator<Item = &ArrivingRecord> {
        self.contents.values().map(|arrival| &arrival.record).filter(move |record| record.author == *author)
    }

    /// Begins with a content, if it was not.
    pub fn begin(&mut self, hash: MessageHash, record: ArrivingRecord) {
        self.contents.entry(hash).or_insert_with(|| Arrival::new(record));
        self.dirty.insert(hash);
    }

    /// A part of a content that was begun is in the transaction that is being put together. False where it was here.
    pub fn add(&mut self, hash: &MessageHash, payload: &Payload, now_s: u64) -> bool {
        let Some(arrival) = self.contents.get_mut(hash) else { return false };
        if !arrival.record.add(payload, now_s) {
            return false;
        }
        arrival.is_fresh = true;
        self.dirty.insert(*hash);
        true
    }

    /// The transaction has been applied: what it holds is in the files.
    pub fn applied(&mut self) {
        self.contents.values_mut().for_each(|arrival| arrival.is_fresh = false);
    }

    /// A second has passed.
    pub fn tick(&mut self) {
        self.contents.values_mut().for_each(|arrival| arrival.is_stuck = false);
    }

    /// A content whose hash can be gone on with.
    pub fn next(&self) -> Option<MessageHash> {
        self.contents.iter().find(|(_, arrival)| arrival.is_next()).map(|(hash, _)| *hash)
    }

    /// It is asked again in a second.
    pub fn wait(&mut self, hash: &MessageHash) {
        if let Some(arrival) = self.contents.get_mut(hash) {
            arrival.is_stuck = true;
        }
    }

    /// Goes on with its hash, some megabytes at most.
    pub fn go_on(&mut self, root: &Root, hash: &MessageHash) -> Hashed {
        let Some(arrival) = self.contents.get_mut(hash) else { return Hashed::Lost };
        match arrival.go_on(root, hash) {
            Ok(true) if arrival.record.is_whole() && !arrival.record.has(arrival.hashed) => {
                Hashed::Whole(arrival.hasher.clone().finish())
            }
            Ok(true) => Hashed::InPart,
            Ok(false) => Hashed::Lost,
            Err(error) => {
                tracing::warn!(%error, "what has come of a large content cannot be read now");
                arrival.is_stuck = true;
                Hashed::InPart
            }
        }
    }

    /// It is done with, whatever became of it. Its bytes are the caller's business.
    pub fn remove(&mut self, hash: &MessageHash) -> Option<ArrivingRecord> {
        let removed = self.contents.remove(hash)?;
        self.dirty.insert(*hash);
        Some(removed.record)
    }

    /// What has come of one that was removed is to be erased.
    pub fn discard(&mut self, hash: MessageHash) {
        self.gone.insert(hash);
    }

    /// Takes the names of the contents away that are to be erased, now that this is recorded, and says under which names they
    /// are to be overwritten.
    ///
    /// No step of the journal does it: a replay would have to write the parts once more that its log holds, before the file may
    /// move. What it writes is found by the next start, as whatever lies there and is noted nowhere.
    pub fn set_aside(&mut self, root: &Root) -> Vec<PathBuf> {
        let gone = std::mem::take(&mut self.gone);
        gone.iter().filter_map(|hash| set_aside(root, &root::arriving_content(hash))).collect()
    }

    /// The same for what lies in `journal/arriving/` and belongs to none of them.
    pub fn set_strays_aside(&self, root: &Root) -> Vec<PathBuf> {
        let known: HashSet<String> = self.contents.keys().map(|hash| HEXLOWER.encode(hash)).collect();
        let names = root.names("journal/arriving").into_iter();
        let strays = names.filter(|name| !name.to_str().is_some_and(|name| known.contains(name)));
        strays.filter_map(|name| set_aside(root, &Path::new("journal/arriving").join(name))).collect()
    }

    /// Those that have made no progress for long.
    pub fn stale(&self, now_s: u64) -> Vec<MessageHash> {
        let is_stale = |arrival: &Arrival| arrival.record.progressed.saturating_add(ARRIVING_LIFETIME_S) < now_s;
        self.contents.iter().filter(|(_, arrival)| is_stale(arrival)).map(|(hash, _)| *hash).collect()
    }

    /// The files that changed since this was last asked: their new content, or none where they are to go.
    pub fn take_dirty(&mut self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let content = |hash: &MessageHash| self.contents.get(hash).map(|arrival| arrival.record.to_bytes());
        dirty.iter().map(|hash| (root::arriving_file(hash), content(hash))).collect()
    }

    /// What `status` says of them. `name` is what somebody is called.
    pub fn status(&self, name: impl Fn(&Fingerprint) -> String) -> impl Iterator<Item = String> {
        self.contents.values().map(move |Arrival { record, .. }| {
            let file = match record.file_name() {
                [] => String::new(),
                file_name => format!(" ({})", name::escape(file_name)),
            };
            format!("from {}: {}{file}", name(&record.author), progress::of_whole(record.bytes_here(), record.size()))
        })
    }
}

/// None if there is no such file, or it cannot be moved now: then the next start does it.
fn set_aside(root: &Root, from: &Path) -> Option<PathBuf> {
    let aside = pending::aside();
    match root.disk().rename_new(&root.join(from), &root.join(&aside)) {
        Ok(()) => Some(aside),
        Err(error) if atomic::is_absent(&error) && !root.is_taken(from) => None,
        Err(error) => {
            tracing::warn!(%error, "what has come of a large content is not erased; the next start makes up for it");
            None
        }
    }
}
