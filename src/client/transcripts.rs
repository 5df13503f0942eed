//! What we have of every author in every conversation (design, section 4). What a message does to it is decided in `author`; here it
//! is kept (`keys/transcripts/`), and joined to what is sent and received.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Bound, RangeInclusive};
use std::path::{Path, PathBuf};

use super::author::{Claimed, Contradiction, Entered, Findings, Open};
use super::engine::Engine;
use super::pending::Pending;
use super::root;
use super::state::{self, StateError};
use crate::clock::Timestamp;
use crate::disk::system::Disk;
use crate::limits::UNSEEN_CONVERSATIONS_MAX;
use crate::wire::Malformed;
use crate::wire::author::{AuthorRecord, Claim, Incarnation};
use crate::wire::identity::{ConversationId, Fingerprint, message_hash};
use crate::wire::payload::Payload;
use crate::wire::ranges::Ranges;
use crate::wire::transcript::{NOTHING_BEFORE, Seen, Shared, Transcript};

/// Where, and who.
pub(super) type Place = (ConversationId, Fingerprint);

/// All authors.
#[derive(Debug, Default)]
pub struct Transcripts {
    authors: BTreeMap<Place, AuthorRecord>,
    dirty: BTreeSet<Place>,
    /// Of whom something is missing.
    open: BTreeSet<Place>,
    /// Where something else is missing than `.gaps` says.
    changed: BTreeSet<ConversationId>,
    /// What of all that is to be written, about.
    bytes: usize,
    /// The place that was looked at last for what is missing, in this run: it goes on behind it.
    pub(super) looked: Option<Place>,
    /// Who was asked for something, and when (seconds since 1970), in this run.
    pub(super) asked: HashMap<Fingerprint, u64>,
    /// Of whom an alert about what is missing found no room, and when, in this run.
    pub(super) no_room: HashMap<Place, u64>,
}

impl Transcripts {
    /// Reads `keys/transcripts/`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, StateError> {
        let mut transcripts = Self::default();
        for (path, name) in state::files(disk, directory)? {
            let record = AuthorRecord::from_bytes(&state::read(disk, &path)?);
            let record = record.map_err(|error| StateError::malformed(&path, error))?;
            if !root::transcript_file(&record.conversation, &record.author).ends_with(&name) {
                return Err(StateError::malformed(&path, Malformed::new("author record", "it is another's")));
            }
            let place = (record.conversation, record.author);
            if !record.open().is_empty() {
                transcripts.open.insert(place);
            }
            transcripts.authors.insert(place, record);
        }
        Ok(transcripts)
    }

    /// The records that changed since this was last asked, with their files' new content.
    pub fn take_dirty(&mut self) -> Vec<(PathBuf, Vec<u8>)> {
        let dirty = std::mem::take(&mut self.dirty);
        self.bytes = 0;
        let changed = dirty.iter().filter_map(|place| self.authors.get(place));
        changed.map(|record| (root::transcript_file(&record.conversation, &record.author), record.to_bytes())).collect()
    }

    /// Forgets all that is kept of a conversation.
    pub fn forget(&mut self, conversation: &ConversationId, pending: &mut Pending) {
        let gone: Vec<Place> = self.authors.range(places_of(conversation)).map(|(place, _)| *place).collect();
        for place in gone {
            self.authors.remove(&place);
            self.open.remove(&place);
            self.dirty.remove(&place);
            pending.remove(root::transcript_file(&place.0, &place.1));
        }
    }

    /// What we have of somebody.
    pub fn get(&self, place: &Place) -> Option<&AuthorRecord> {
        self.authors.get(place)
    }

    /// What [`Transcripts::take_dirty`] and the `.gaps` of [`Transcripts::take_changed`] would write, about.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.bytes
    }

    /// Of whom something is missing: at most so many, from behind the last that was looked at, and round.
    pub(super) fn next_open(&self, most: usize) -> Vec<Place> {
        let behind = self.looked.map_or(Bound::Unbounded, Bound::Excluded);
        let round = self.looked.into_iter().flat_map(|last| self.open.range(..=last));
        self.open.range((behind, Bound::Unbounded)).chain(round).take(most).copied().collect()
    }

    /// Of whom something is missing.
    #[cfg(test)]
    pub(super) fn open(&self) -> Vec<Place> {
        self.open.iter().copied().collect()
    }

    /// What we have of all authors in one conversation.
    pub(super) fn of_all_in(&self, conversation: &ConversationId) -> impl Iterator<Item = &AuthorRecord> {
        self.authors.range(places_of(conversation)).map(|(_, record)| record)
    }

    /// All contradictions of which a person is still to be told.
    pub(super) fn untold(&self) -> Vec<(Place, Contradiction)> {
        let each = |(place, record): (&Place, &AuthorRecord)| -> Vec<_> {
            record.untold().into_iter().map(|untold| (*place, untold)).collect()
        };
        self.authors.iter().flat_map(each).collect()
    }

    /// Conversations whose `.gaps` is to be written anew.
    pub(super) fn take_changed(&mut self) -> BTreeSet<ConversationId> {
        std::mem::take(&mut self.changed)
    }

    /// `.gaps` of this conversation is to be written anew.
    pub(super) fn note_changed(&mut self, conversation: &ConversationId) {
        if self.changed.insert(*conversation) {
            let lines: usize = self.of_all_in(conversation).map(gap_lines).sum();
            self.bytes += lines * GAP_LINE_BYTES;
        }
    }

    /// Changes what we have of somebody.
    pub(super) fn change<T>(&mut self, place: &Place, change: impl FnOnce(&mut AuthorRecord) -> T) -> T {
        let record = self.authors.entry(*place).or_insert_with(|| AuthorRecord::new(place.0, place.1));
        let ranges =
            |all: Vec<Open>| all.into_iter().map(|open| (open.incarnation, open.from, open.to)).collect::<Vec<_>>();
        let before = (ranges(record.open()), ranges(record.withdrawn()));
        let changed = change(record);
        let after = (ranges(record.open()), ranges(record.withdrawn()));
        if self.dirty.insert(*place) {
            self.bytes += record_bytes(record);
        }
        if before != after {
            self.note_changed(&place.0);
        }
        match after.0.is_empty() {
            true => drop(self.open.remove(place)),
            false => drop(self.open.insert(*place)),
        }
        changed
    }
}

/// A line of `.gaps`, about: its name is somebody's choice.
const GAP_LINE_BYTES: usize = 256;

/// The lines of `.gaps` that come of an author, about.
fn gap_lines(record: &AuthorRecord) -> usize {
    let of = |known: &Incarnation| known.gaps.len() + known.withdrawn.len();
    record.claims.len() + record.incarnations.iter().map(of).sum::<usize>()
}

/// What a record has, about.
fn record_bytes(record: &AuthorRecord) -> usize {
    let ranges = |known: &Incarnation| known.withdrawn.len() + known.claimed.values().map(Ranges::len).sum::<usize>();
    let of = |known: &Incarnation| 50 * known.held.len() + 70 * known.gaps.len() + 18 * ranges(known);
    256 + 90 * record.claims.len() + record.incarnations.iter().map(of).sum::<usize>()
}

fn places_of(conversation: &ConversationId) -> RangeInclusive<Place> {
    (*conversation, Fingerprint([0; 32]))..=(*conversation, Fingerprint([u8::MAX; 32]))
}

impl Engine {
    /// What a message of ours, about to be sent, says of those before it. It counts as written from now on.
    pub(super) fn write_transcript(&mut self, shared: &Shared<'_>, now: Timestamp) -> Transcript {
        let mine = (shared.conversation, shared.author);
        let previous = self.transcripts.get(&mine);
        let previous = previous.and_then(|own| own.hash_before(&shared.incarnation, shared.counter));
        let seen =
            self.participants_by_place(&shared.conversation).into_iter().zip(0..).filter_map(|(other, participant)| {
                // Who is blocked does not hear that what they wrote has come.
                let is_said = other != shared.author && !self.people.is_blocked(&other);
                let theirs = self.transcripts.get(&(shared.conversation, other)).filter(|_| is_said)?;
                let (incarnation, counter, hash) = theirs.latest()?;
                Some(Seen { participant, incarnation, counter, hash })
            });
        let transcript = Transcript { previous: previous.unwrap_or(NOTHING_BEFORE), seen: seen.collect() };
        let message = entered(shared, &transcript, shared.time);
        self.transcripts.change(&mine, |own| own.enter(&message, true, now.seconds()));
        transcript
    }

    /// A message of somebody else stands whole, or is about to: notes it, and all that it says of others. Hands out the time
    /// for its name: an author's messages are in their order there whatever the clocks do.
    pub(super) fn enter_transcript(
        &mut self,
        shared: &Shared<'_>,
        transcript: &Transcript,
        now: Timestamp,
    ) -> Timestamp {
        let place = (shared.conversation, shared.author);
        let message = entered(shared, transcript, shared.time.min(now));
        let (has_lost, now_s) = (self.recovery.has_lost(), now.seconds());
        let (time, findings) = self.transcripts.change(&place, |theirs| theirs.enter(&message, has_lost, now_s));
        let Findings { contradictions, given_up, forgotten } = findings;
        for contradiction in contradictions {
            self.alert_fork(&place, contradiction, now);
        }
        if let Some(counters) = given_up {
            self.alert_gap_given_up(&place, counters, now);
        }
        if let Some(counters) = forgotten {
            self.alert_withdrawn_forgotten(&place, counters, now);
        }
        self.heed_seen(shared, transcript, now);
        time
    }

    /// A message of somebody who is blocked was dropped: notes its place, so that it is not missing, neither now nor when they
    /// are heard again. What it says of others counts for nothing, and nobody is told of anything.
    pub(super) fn enter_unseen(&mut self, author: &Fingerprint, payload: &Payload, now: Timestamp) {
        let Some(shared) = payload.shared(*author) else { return };
        let place = (shared.conversation, shared.author);
        let is_known = |id: &ConversationId| self.conversations.get(id).is_some();
        if !is_known(&place.0) && self.transcripts.get(&place).is_none() {
            let theirs = self.transcripts.authors.keys().filter(|(id, other)| other == author && !is_known(id));
            if theirs.count() >= UNSEEN_CONVERSATIONS_MAX {
                return;
            }
        }
        if payload.part.is_some() {
            self.pass_over_parts(&message_hash(author, &place.0, &payload.id), now);
        }
        let message = entered(&shared, &payload.transcript.clone().unwrap_or_default(), shared.time.min(now));
        let (has_lost, now_s) = (self.recovery.has_lost(), now.seconds());
        self.transcripts.change(&place, |theirs| theirs.enter(&message, has_lost, now_s));
    }

    /// Compares what the author of a message has of others with what we have of them.
    fn heed_seen(&mut self, shared: &Shared<'_>, transcript: &Transcript, now: Timestamp) {
        let participants = self.participants_by_place(&shared.conversation);
        let Some(by) = participants.iter().position(|fingerprint| *fingerprint == shared.author) else { return };
        let by = u8::try_from(by).unwrap_or(u8::MAX);
        for Seen { participant, incarnation, counter, hash } in &transcript.seen {
            let author = participants.get(usize::from(*participant)).filter(|_| *participant != by);
            // What somebody blocked writes is dropped, and is not missing.
            let Some(author) = author.filter(|author| !self.people.is_blocked(author)) else { continue };
            let (place, claim) =
                ((shared.conversation, *author), Claim { incarnation: *incarnation, counter: *counter, hash: *hash });
            match *author == self.people.own_fingerprint() {
                true => self.heed_seen_of_us(&place, by, &claim, now),
                false => {
                    let (has_lost, now_s) = (self.recovery.has_lost(), now.seconds());
                    // Mostly it is what we know, and nothing is written.
                    let mut theirs =
                        self.transcripts.get(&place).cloned().unwrap_or(AuthorRecord::new(place.0, place.1));
                    match theirs.claim(by, claim, has_lost, now_s) {
                        Claimed::Nothing => {}
                        Claimed::Kept => self.transcripts.change(&place, |record| *record = theirs),
                        Claimed::Contradicts(contradiction) => self.alert_fork(&place, contradiction, now),
                    }
                }
            }
        }
    }

    /// The fingerprints of all participants, in the order in which transcripts count them.
    pub(super) fn participants_by_place(&self, conversation: &ConversationId) -> Vec<Fingerprint> {
        let mut all = self.conversations.get(conversation).map_or_else(Vec::new, |record| record.participants());
        all.sort_unstable();
        all
    }
}

fn entered(shared: &Shared<'_>, transcript: &Transcript, time: Timestamp) -> Entered {
    Entered {
        incarnation: shared.incarnation,
        counter: shared.counter,
        time,
        hash: transcript.hash(shared),
        previous: transcript.previous,
    }
}
