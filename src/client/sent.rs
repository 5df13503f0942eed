//! What was sent, for a while, so that it can be sealed anew for somebody who lost their state (design, section 5,
//! "Recovery"). References only: the content stays in `conversations/`, and a person who deletes or changes it there has
//! taken it back.
//!
//! `keys/sent-N` holds one entry for each message and recipient ([`SentEntry`]), added when the message is sealed; a later
//! entry takes the place of an earlier one. N is the second in which the file was begun, or one above the last. A file
//! takes [`SENT_FILE_ENTRIES_MAX`] entries of one week at most, and goes when its last entry is too old, or when there
//! are too many files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::engine::Engine;
use super::pending::Pending;
use super::state::{self, StateError};
use crate::clock::Timestamp;
use crate::crypto::hash::sha256;
use crate::disk::system::Disk;
use crate::limits::{RESENT_TIMES_MAX, SENT_FILE_ENTRIES_MAX, SENT_FILES_MAX, SENT_LIFETIME_S};
use crate::wire::control::Missing;
use crate::wire::identity::{Fingerprint, MessageId};
use crate::wire::payload::{Payload, Plaintext};
use crate::wire::sent::SentEntry;

const PREFIX: &str = "sent-";

/// How long a file takes entries.
const FILE_AGE_S: u64 = 7 * 86_400;

/// A place among all that was sent: rises with each entry, and is never given twice.
pub type Place = u64;

/// All that is remembered, by file.
#[derive(Debug, Default)]
pub struct Sent {
    files: BTreeMap<u64, File>,
}

#[derive(Debug, Default)]
struct File {
    entries: Vec<SentEntry>,
    length: u64,
}

impl Sent {
    /// Reads `keys/sent-*`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, keys: &Path) -> Result<Self, StateError> {
        let mut sent = Self::default();
        for (path, name) in state::files(disk, keys)? {
            let Some(number) = name.strip_prefix(PREFIX).and_then(|text| text.parse().ok()) else { continue };
            let bytes = state::read(disk, &path)?;
            let entries = SentEntry::all_from_bytes(&bytes).map_err(|error| StateError::malformed(&path, error))?;
            let mut shared: Vec<SentEntry> = Vec::with_capacity(entries.len());
            entries.into_iter().for_each(|entry| shared.push(sharing(shared.last(), entry)));
            let entries = shared;
            sent.files.insert(number, File { entries, length: u64::try_from(bytes.len()).unwrap_or(0) });
        }
        Ok(sent)
    }

    /// No entry that was added so far has this place or a later one, and all that are added from now on have.
    pub fn next_place(&self) -> Place {
        self.files.last_key_value().map_or(0, |(number, file)| place(*number, file.entries.len()))
    }

    /// Remembers a message that was sealed, in place of what is known of it.
    pub fn add(&mut self, entry: SentEntry, now_s: u64, pending: &mut Pending) {
        let is_open = |file: &File| {
            let first = file.entries.first().map_or(0, |entry| entry.sealed);
            file.entries.len() < SENT_FILE_ENTRIES_MAX && now_s <= first.saturating_add(FILE_AGE_S)
        };
        let number = match self.files.last_key_value() {
            Some((number, file)) if is_open(file) => *number,
            Some((number, _)) => now_s.max(number + 1),
            None => now_s,
        };
        let file = self.files.entry(number).or_default();
        let bytes = entry.to_bytes();
        let offset = file.length;
        file.length += u64::try_from(bytes.len()).unwrap_or(0);
        file.entries.push(sharing(file.entries.last(), entry));
        pending.append(path(number), offset, bytes);
        while self.files.len() > SENT_FILES_MAX {
            self.forget_first(pending);
        }
    }

    /// Forgets files whose every entry is too old.
    pub fn forget_old(&mut self, now_s: u64, pending: &mut Pending) {
        let is_old = |file: &File| {
            let newest = file.entries.iter().map(|entry| entry.sealed).max().unwrap_or(0);
            newest.saturating_add(SENT_LIFETIME_S) < now_s
        };
        while self.files.first_key_value().is_some_and(|(_, file)| is_old(file)) {
            self.forget_first(pending);
        }
    }

    fn forget_first(&mut self, pending: &mut Pending) {
        if let Some((number, _)) = self.files.pop_first() {
            pending.remove(path(number));
        }
    }

    /// What was sealed for somebody at `since` or later, is remembered in a place `from` or later and before `until`, and
    /// may be sealed once more; in the order in which it was written. What is sealed anew gets a later place, so that
    /// asking again goes on behind it.
    pub fn asked_for(&self, recipient: &Fingerprint, since: u64, from: Place, until: Place) -> Vec<SentEntry> {
        let mut newest: HashMap<MessageId, (Place, &SentEntry)> = HashMap::new();
        for (number, file) in &self.files {
            let entries = file.entries.iter().enumerate().filter(|(_, entry)| entry.recipient == *recipient);
            newest.extend(entries.map(|(index, entry)| (entry.message, (place(*number, index), entry))));
        }
        let is_asked_for = |(place, entry): &(Place, &SentEntry)| {
            (from..until).contains(place) && entry.sealed >= since && entry.resent < RESENT_TIMES_MAX
        };
        let mut found: Vec<SentEntry> =
            newest.into_values().filter(is_asked_for).map(|(_, entry)| entry.clone()).collect();
        found.sort_by_key(|entry| (entry.time, entry.message));
        found
    }

    /// What was sealed for somebody of these messages, and may be sealed once more; in the order in which it was written.
    pub fn missing(&self, recipient: &Fingerprint, missing: &[Missing]) -> Vec<MessageId> {
        let is_missing = |entry: &SentEntry| {
            let of_it = |missing: &&Missing| {
                missing.conversation == entry.conversation && missing.incarnation == entry.incarnation
            };
            missing.iter().filter(of_it).any(|missing| (missing.from..=missing.to).contains(&entry.counter))
        };
        let mut newest: HashMap<MessageId, &SentEntry> = HashMap::new();
        let entries = self.files.values().flat_map(|file| &file.entries);
        newest.extend(entries.filter(|entry| entry.recipient == *recipient).map(|entry| (entry.message, entry)));
        let found = newest.into_values().filter(|entry| entry.resent < RESENT_TIMES_MAX && is_missing(entry));
        let mut found: Vec<_> = found.map(|entry| (entry.time, entry.message)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, message)| message).collect()
    }

    /// The same of single messages: what is known of them now.
    pub fn find(&self, wanted: &HashSet<(Fingerprint, MessageId)>) -> Vec<SentEntry> {
        let mut newest: HashMap<(Fingerprint, MessageId), &SentEntry> = HashMap::new();
        let entries =
            self.files.values().flat_map(|file| &file.entries).map(|entry| ((entry.recipient, entry.message), entry));
        newest.extend(entries.filter(|(key, _)| wanted.contains(key)));
        let may_be_sealed = newest.into_values().filter(|entry| entry.resent < RESENT_TIMES_MAX);
        let mut found: Vec<SentEntry> = may_be_sealed.cloned().collect();
        found.sort_by_key(|entry| (entry.time, entry.message));
        found
    }

    /// Everybody for whom something was sealed that has a place `from` or later.
    pub fn recipients_from(&self, from: Place) -> Vec<Fingerprint> {
        let mut found = Vec::new();
        for (number, file) in &self.files {
            let entries = file.entries.iter().enumerate().filter(|(index, _)| place(*number, *index) >= from);
            found.extend(entries.map(|(_, entry)| entry.recipient));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// An entry that holds its transcript together with the one before it, which is mostly the same message for somebody else.
fn sharing(before: Option<&SentEntry>, entry: SentEntry) -> SentEntry {
    match before.filter(|before| before.transcript == entry.transcript) {
        Some(before) => SentEntry { transcript: Arc::clone(&before.transcript), ..entry },
        None => entry,
    }
}

fn place(number: u64, index: usize) -> Place {
    let entries = u64::try_from(SENT_FILE_ENTRIES_MAX).unwrap_or(u64::MAX);
    number.saturating_mul(entries).saturating_add(u64::try_from(index).unwrap_or(u64::MAX))
}

fn path(number: u64) -> PathBuf {
    PathBuf::from(format!("keys/{PREFIX}{number}"))
}

impl Engine {
    /// Remembers a message that is being sealed for somebody.
    pub(super) fn note_sent(&mut self, recipient: Fingerprint, payload: &Payload, file: &str, now: Timestamp) {
        let Some(content) = &payload.content else { return };
        let entry = SentEntry {
            recipient,
            message: payload.id,
            conversation: payload.conversation,
            file: file.to_owned(),
            file_name: content.file_name.clone(),
            time: payload.time,
            incarnation: payload.incarnation,
            counter: payload.counter,
            sha256: payload.part.map_or_else(|| sha256(&[&content.bytes]), |part| part.sha256),
            sealed: now.seconds(),
            resent: payload.resent,
            transcript: Arc::new(payload.transcript.clone().unwrap_or_default()),
        };
        self.sent.add(entry, now.seconds(), &mut self.pending);
    }

    /// The same for one that waited in its serialized form. A note is not remembered.
    pub(super) fn note_sealed(&mut self, recipient: Fingerprint, payload: &[u8], file: &str, now: Timestamp) {
        if let Ok(Plaintext::Message(payload)) = Plaintext::from_bytes(payload) {
            self.note_sent(recipient, &payload, file, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use crate::wire::identity::ConversationId;
    use crate::wire::journal::Step;

    const BOB: Fingerprint = Fingerprint([7; 32]);

    fn entry(number: u64, sealed: u64) -> SentEntry {
        let mut message = [0; 16];
        message[..8].copy_from_slice(&number.to_le_bytes());
        SentEntry {
            recipient: BOB,
            message: MessageId(message),
            conversation: ConversationId([1; 16]),
            file: format!("file {number}"),
            file_name: Vec::new(),
            time: Timestamp::from_micros(number),
            incarnation: [2; 16],
            counter: number,
            sha256: [3; 32],
            sealed,
            resent: 0,
            transcript: Arc::default(),
        }
    }

    fn times(found: &[SentEntry]) -> Vec<u64> {
        found.iter().map(|entry| entry.time.micros()).collect()
    }

    /// Does on a real disk what is pending.
    fn apply(pending: &mut Pending, root: &Path) {
        for step in pending.take_steps().steps {
            match step {
                Step::Append { path, offset, bytes } => {
                    let mut there = std::fs::read(root.join(&path)).unwrap_or_default();
                    assert_eq!(there.len() as u64, offset);
                    there.extend(bytes);
                    std::fs::write(root.join(path), there).unwrap();
                }
                Step::Remove { path } => std::fs::remove_file(root.join(path)).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_was_sent_is_found_in_order_and_a_later_entry_takes_the_place_of_an_earlier() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("keys")).unwrap();
        let (mut sent, mut pending) = (Sent::default(), Pending::default());
        for number in [3, 1, 2, 4] {
            sent.add(entry(number, 100 + number), 100, &mut pending);
        }
        sent.add(SentEntry { recipient: Fingerprint([8; 32]), ..entry(5, 105) }, 100, &mut pending);
        let until = sent.next_place();
        apply(&mut pending, scratch.path());
        let mut loaded = Sent::load(&RealDisk, &scratch.path().join("keys")).unwrap();
        assert_eq!(loaded.next_place(), until);
        assert_eq!(times(&loaded.asked_for(&BOB, 0, 0, until)), [1, 2, 3, 4]);
        assert_eq!(times(&loaded.asked_for(&BOB, 103, 0, until)), [3, 4], "only since then");
        loaded.add(SentEntry { resent: 1, ..entry(1, 200) }, 200, &mut pending);
        assert_eq!(times(&loaded.asked_for(&BOB, 0, 0, until)), [2, 3, 4], "it was sealed anew");
        let later = loaded.next_place();
        assert_eq!(times(&loaded.asked_for(&BOB, 0, 0, later)), [1, 2, 3, 4], "who asks later is given it again");
        assert_eq!(times(&loaded.asked_for(&BOB, 0, until, later)), [1]);
        assert_eq!(loaded.recipients_from(until), [BOB]);
        loaded.add(SentEntry { resent: RESENT_TIMES_MAX, ..entry(1, 300) }, 300, &mut pending);
        assert_eq!(times(&loaded.asked_for(&BOB, 0, 0, loaded.next_place())), [2, 3, 4], "not without end");
    }

    #[test]
    fn who_lacks_something_is_given_what_was_sent_to_them_in_that_conversation_and_nothing_else() {
        let (mut sent, mut pending) = (Sent::default(), Pending::default());
        let carol = Fingerprint([8; 32]);
        let elsewhere = ConversationId([9; 16]);
        for number in 1..=6 {
            sent.add(entry(number, 100), 100, &mut pending);
        }
        sent.add(SentEntry { resent: RESENT_TIMES_MAX, ..entry(4, 100) }, 100, &mut pending);
        sent.add(SentEntry { conversation: elsewhere, ..entry(7, 100) }, 100, &mut pending);
        sent.add(SentEntry { incarnation: [7; 16], ..entry(8, 100) }, 100, &mut pending);
        let missing = |conversation, from, to| Missing { conversation, incarnation: [2; 16], from, to };
        let here = ConversationId([1; 16]);
        let given = |who: &Fingerprint, missing: &[Missing]| {
            let given = sent.missing(who, missing).into_iter().map(|message| (*who, message)).collect();
            times(&sent.find(&given))
        };
        assert_eq!(given(&BOB, &[missing(here, 2, 5)]), [2, 3, 5], "one was sent again often enough");
        assert_eq!(given(&BOB, &[missing(here, 5, 5), missing(elsewhere, 1, u64::MAX)]), [5, 7]);
        assert_eq!(given(&BOB, &[missing(here, 7, u64::MAX)]), [0; 0]);
        assert_eq!(given(&carol, &[missing(here, 1, u64::MAX)]), [0; 0], "nothing was sent to her");
    }

    #[test]
    fn what_is_too_old_goes_file_by_file_and_no_place_is_given_twice() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("keys")).unwrap();
        let (mut sent, mut pending) = (Sent::default(), Pending::default());
        let begun = 1_000_000;
        sent.add(entry(1, begun), begun, &mut pending);
        let next = begun + FILE_AGE_S + 1;
        let first = sent.next_place();
        sent.add(entry(2, next), next, &mut pending);
        assert_eq!(sent.files.len(), 2, "a file for each week");
        sent.forget_old(begun + SENT_LIFETIME_S, &mut pending);
        assert_eq!(sent.files.len(), 2);
        sent.forget_old(begun + SENT_LIFETIME_S + 1, &mut pending);
        assert_eq!(times(&sent.asked_for(&BOB, 0, 0, Place::MAX)), [2]);
        sent.forget_old(next + SENT_LIFETIME_S + 1, &mut pending);
        assert!(sent.files.is_empty());
        sent.add(entry(3, next + 9), next + 9, &mut pending);
        assert!(sent.next_place() > first);
        apply(&mut pending, scratch.path());
        assert_eq!(std::fs::read_dir(scratch.path().join("keys")).unwrap().count(), 1);
    }

    #[test]
    fn a_busy_sender_meets_a_bound_and_the_oldest_go() {
        let (mut sent, mut pending) = (Sent::default(), Pending::default());
        let full = u64::try_from(SENT_FILE_ENTRIES_MAX * SENT_FILES_MAX).unwrap();
        for number in 0..=full {
            sent.add(entry(number, 100), 100, &mut pending);
            pending.take_steps();
        }
        let found = sent.asked_for(&BOB, 0, 0, Place::MAX);
        assert_eq!(found.len(), SENT_FILE_ENTRIES_MAX * (SENT_FILES_MAX - 1) + 1);
        assert_eq!(found.last().unwrap().time.micros(), full);
    }
}
