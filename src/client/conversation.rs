//! Conversations: what we know of each, and where its directory stands now (design, section 2).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::engine::Engine;
use super::metadata::{self, Metadata};
use super::pending::Pending;
use super::people::People;
use super::places::takes_messages;
use super::root::{self, Root};
use super::state::{self, StateError};
use crate::clock::Timestamp;
use crate::disk::open;
use crate::disk::system::Disk;
use crate::limits::{METADATA_FILE_BYTES_MAX, PROFILE_BYTES_MAX};
use crate::name;
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::{ConversationId, Fingerprint};
use crate::wire::journal::DirectoryIdentity;
use crate::wire::profile::SignedProfile;

/// All conversations.
#[derive(Debug, Default)]
pub struct Conversations {
    records: BTreeMap<ConversationId, ConversationRecord>,
    dirty: BTreeSet<ConversationId>,
    /// What those have, about.
    dirty_bytes: usize,
    /// Names under `conversations/`, as they were when last looked at.
    places: HashMap<ConversationId, String>,
    /// Those whose place was checked since the last commit.
    checked: HashSet<ConversationId>,
    /// The directories themselves, as they were when their `metadata.toml` was last read: the same one is not asked again
    /// to whom it belongs.
    known: HashMap<ConversationId, DirectoryIdentity>,
}

impl Conversations {
    /// Reads `keys/conversations/`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, StateError> {
        let mut conversations = Self::default();
        for (path, name) in state::files(disk, directory)? {
            let Some(id) = ConversationId::from_hex(&name) else { continue };
            let record = ConversationRecord::from_bytes(&state::read(disk, &path)?)
                .map_err(|error| StateError::malformed(&path, error))?;
            conversations.places.insert(id, record.directory.clone());
            conversations.records.insert(id, record);
        }
        Ok(conversations)
    }

    /// What we know of one.
    pub fn get(&self, id: &ConversationId) -> Option<&ConversationRecord> {
        self.records.get(id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: &ConversationId) -> Option<&mut ConversationRecord> {
        if self.records.contains_key(id) {
            self.note_dirty(id);
        }
        self.records.get_mut(id)
    }

    /// Replaces a participant's profile by a newer one. False if they take no part.
    pub fn renew_profile(&mut self, id: &ConversationId, profile: &SignedProfile) -> bool {
        let is_theirs = |known: &&mut SignedProfile| known.identity() == profile.identity();
        let known = self.records.get_mut(id).and_then(|record| record.profiles.iter_mut().find(is_theirs));
        if let Some(known) = known {
            *known = profile.clone();
            self.note_dirty(id);
            return true;
        }
        false
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ConversationRecord> {
        self.records.values()
    }

    /// Which they are, in their order, from this one on.
    pub fn ids_from(&self, id: ConversationId) -> impl Iterator<Item = ConversationId> {
        self.records.range(id..).map(|(id, _)| *id)
    }

    /// Whether somebody takes part in a conversation that is ours.
    pub fn has_accepted(&self, fingerprint: &Fingerprint) -> bool {
        self.records.values().any(|record| record.accepted && record.has(fingerprint))
    }

    /// The time of the last message we wrote, in any of them.
    pub fn last_time(&self) -> Timestamp {
        self.records.values().map(|record| record.last_time).max().unwrap_or_default()
    }

    /// Adds one. Its directories are made by [`Conversations::make_directories`].
    pub fn add(&mut self, record: ConversationRecord) {
        let id = record.id;
        self.places.insert(id, record.directory.clone());
        self.records.insert(id, record);
        self.note_dirty(&id);
    }

    /// Forgets one that was never accepted.
    pub fn forget(&mut self, id: &ConversationId, pending: &mut Pending) {
        if self.records.remove(id).is_some() {
            self.places.remove(id);
            pending.remove(root::conversation_file(id));
        }
    }

    /// The records that changed since this was last asked, with their files' new content.
    pub fn take_dirty(&mut self) -> Vec<(PathBuf, Vec<u8>)> {
        self.checked.clear();
        let dirty = std::mem::take(&mut self.dirty);
        self.dirty_bytes = 0;
        let changed = dirty.iter().filter_map(|id| self.records.get(id));
        changed.map(|record| (root::conversation_file(&record.id), record.to_bytes())).collect()
    }

    /// What [`Conversations::take_dirty`] would write, about.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    fn note_dirty(&mut self, id: &ConversationId) {
        const RECORD_BYTES: usize = 256;
        // Their profile, and that they were introduced.
        const PARTICIPANT_BYTES: usize = PROFILE_BYTES_MAX + 64;
        if self.dirty.insert(*id) {
            let participants = self.records.get(id).map_or(0, |record| record.profiles.len());
            self.dirty_bytes += RECORD_BYTES + participants * PARTICIPANT_BYTES;
        }
    }

    /// Makes both directories of an accepted conversation, `conversations/NAME` and its twin `outbox/NAME`, each with
    /// our `metadata.toml`.
    pub fn make_directories(&self, id: &ConversationId, people: &People, pending: &mut Pending) {
        if let Some(record) = self.records.get(id) {
            write_directory(&Path::new("conversations").join(&record.directory), record, people, pending);
            write_directory(&Path::new("outbox").join(&record.directory), record, people, pending);
        }
    }

    /// Makes the twin in `outbox/` anew, under the name it had, unless that is taken.
    pub fn make_outbox_directory(&self, root: &Root, id: &ConversationId, people: &People, pending: &mut Pending) {
        let Some(record) = self.records.get(id) else { return };
        let path = Path::new("outbox").join(&record.directory);
        if pending.is_free(root, &path) {
            write_directory(&path, record, people, pending);
        }
    }

    /// Whether a directory is a conversation's, and takes messages.
    fn is_still(&mut self, root: &Root, directory: &Path, id: &ConversationId) -> bool {
        let Some(found) = root.disk().stat(&root.join(directory)).ok() else { return false };
        let identity = found.directory_identity();
        if self.known.get(id) != Some(&identity) || identity.born_ns.is_none() {
            if id_in(root, directory) != Some(*id) {
                return false;
            }
            self.known.insert(*id, identity);
        }
        takes_messages(root, directory, &found)
    }

    /// The conversation that a directory belongs to, by the `metadata.toml` in it.
    pub fn id_at(&mut self, root: &Root, directory: &Path, identity: DirectoryIdentity) -> Option<ConversationId> {
        let id = id_in(root, directory)?;
        if self.places.get(&id).is_some_and(|name| directory == Path::new("conversations").join(name)) {
            self.known.insert(id, identity);
        }
        Some(id)
    }

    /// The name under `conversations/` that a conversation's directory had when it was last looked at.
    pub fn last_place(&self, id: &ConversationId) -> Option<&str> {
        self.places.get(id).map(String::as_str)
    }

    /// Whether something became of messages that the conversation's `.delivery/` could not be told.
    pub fn is_behind(&self, id: &ConversationId) -> bool {
        self.records.get(id).is_some_and(|record| record.behind)
    }

    /// Notes whether that is so.
    pub fn set_behind(&mut self, id: &ConversationId, behind: bool) {
        if self.is_behind(id) != behind
            && let Some(record) = self.get_mut(id)
        {
            record.behind = behind;
        }
    }

    /// Where a conversation's directory stood when it was last looked at, if it still does and takes messages. It costs no look
    /// at others, also where it does not.
    pub fn unmoved_place(&mut self, root: &Root, id: &ConversationId) -> Option<PathBuf> {
        let place = self.places.get(id).map(|name| Path::new("conversations").join(name))?;
        let stands = self.checked.contains(id) || self.is_still(root, &place, id);
        stands.then(|| {
            self.checked.insert(*id);
            place
        })
    }

    /// Where a conversation's directory stands now, if it does.
    pub fn current_place(&mut self, root: &Root, id: &ConversationId) -> Option<PathBuf> {
        self.places.get(id)?;
        if let Some(place) = self.unmoved_place(root, id) {
            return Some(place);
        }
        let moved = find(root, id)?;
        let place = Path::new("conversations").join(&moved);
        self.places.insert(*id, moved);
        Some(place)
    }

    /// The same, or where it is about to stand.
    pub fn standing_place(&mut self, root: &Root, id: &ConversationId, pending: &Pending) -> Option<PathBuf> {
        let place = self.places.get(id).map(|name| Path::new("conversations").join(name))?;
        if pending.is_reserved(&place) { Some(place) } else { self.current_place(root, id) }
    }

    /// Where a conversation's directory stands now, relative to the root: where it was, or where a person moved it, or
    /// made anew where it is gone.
    pub fn place(
        &mut self,
        root: &Root,
        id: &ConversationId,
        people: &People,
        pending: &mut Pending,
    ) -> Option<PathBuf> {
        let named = self.records.get(id)?.directory.clone();
        let place = self.places.get(id).cloned().unwrap_or(named);
        let path = Path::new("conversations").join(&place);
        if self.checked.contains(id) || pending.is_reserved(&path) {
            return Some(path);
        }
        self.checked.insert(*id);
        if self.is_still(root, &path, id) {
            return Some(path);
        }
        let record = self.records.get(id)?;
        if let Some(moved) = find(root, id) {
            let path = Path::new("conversations").join(&moved);
            self.places.insert(*id, moved);
            return Some(path);
        }
        let is_free = |name: &str| pending.is_free(root, &Path::new("conversations").join(name));
        let anew = name::free_directory(&record.directory, &id.0, is_free);
        let path = Path::new("conversations").join(&anew);
        write_directory(&path, record, people, pending);
        self.places.insert(*id, anew);
        Some(path)
    }
}

impl Engine {
    /// A name for a new conversation's directory, free in `conversations/` and in `outbox/`.
    pub(super) fn free_directory(
        &self,
        id: &ConversationId,
        opener: &Fingerprint,
        participants: &[Fingerprint],
        subject: &str,
        created: Timestamp,
    ) -> String {
        let others = participants.iter().filter(|fingerprint| *fingerprint != opener);
        let mut recipients: Vec<String> = others.map(|fingerprint| self.people.name(fingerprint)).collect();
        recipients.sort();
        let wanted = name::conversation(&created.date(), &self.people.name(opener), &recipients, subject);
        let is_free = |name: &str| {
            let places = ["conversations", "outbox"].map(|parent| Path::new(parent).join(name));
            places.iter().all(|place| self.pending.is_free(&self.root, place))
        };
        name::free_directory(&wanted, &id.0, is_free)
    }
}

fn write_directory(path: &Path, record: &ConversationRecord, people: &People, pending: &mut Pending) {
    pending.make_directory(path.to_owned());
    pending.put(path.join(metadata::FILE), Metadata::render(record, people));
}

/// The conversation that a directory belongs to, by the `metadata.toml` in it.
pub fn id_in(root: &Root, directory: &Path) -> Option<ConversationId> {
    let path = root.join(directory).join(metadata::FILE);
    Metadata::id_of(&open::read_text(root.disk(), &path, METADATA_FILE_BYTES_MAX)?)
}

/// Whether a conversation has another directory than this one: it was made anew while that could not be used.
pub fn stands_elsewhere(root: &Root, id: &ConversationId, place: &Path) -> bool {
    let all = root.names("conversations").into_iter().map(|name| Path::new("conversations").join(name));
    all.filter(|other| other != place).any(|other| id_in(root, &other) == Some(*id))
}

/// The name under `conversations/` of the directory that has this id.
pub fn find(root: &Root, id: &ConversationId) -> Option<String> {
    let conversations = Path::new("conversations");
    let mut names = root.names(conversations).into_iter();
    let is_it = |directory: &Path| {
        let found = root.disk().stat(&root.join(directory));
        id_in(root, directory) == Some(*id) && found.is_ok_and(|found| takes_messages(root, directory, &found))
    };
    names.find(|name| is_it(&conversations.join(name)))?.into_string().ok()
}
