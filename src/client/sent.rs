//! What was sent, for a while, so that it can be sealed anew for somebody who lost their state (design, section 5,
//! "Recovery"). References only: the content stays in `conversations/`, and a person who deletes or changes it there has
//! taken it back.
//!
//! `keys/sent-N` holds one entry for each message and recipient ([`SentEntry`]), added when the message is sealed; a later
//! entry takes the place of an earlier one. What became of a message ([`Fate`]) is added as a record of its own. N is the
//! second in which the file was begun, or one above the last. A file takes [`SENT_FILE_ENTRIES_MAX`] entries of one week at
//! most, and goes when its last entry is too old, or when there are too many files.

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
use crate::wire::sent::{Fate, SentEntry, SentKey, SentRecord};

const PREFIX: &str = "sent-";

/// How long a file takes entries.
const FILE_AGE_S: u64 = 7 * 86_400;

/// A place among all that was sent: rises with each entry, and is never given twice.
pub type Place = u64;

/// All that is remembered, by file.
#[derive(Debug, Default)]
pub struct Sent {
    files: BTreeMap<u64, File>,
    index: HashMap<SentKey, Known>,
}

/// What is known of one message for one recipient.
#[derive(Debug)]
struct Known {
    /// Its newest entry: the file's number, and the place in that.
    at: (u64, usize),
    fate: Fate,
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
        let mut found = BTreeMap::new();
        for (path, name) in state::files(disk, keys)? {
            let Some(number) = name.strip_prefix(PREFIX).and_then(|text| text.parse().ok()) else { continue };
            let bytes = state::read(disk, &path)?;
            let records = SentRecord::all_from_bytes(&bytes).map_err(|error| StateError::malformed(&path, error))?;
            found.insert(number, (records, u64::try_from(bytes.len()).unwrap_or(0)));
        }
        for (number, (records, length)) in found {
            sent.files.insert(number, File { entries: Vec::new(), length });
            for record in records {
                match record {
                    SentRecord::Entry(entry) => sent.insert(number, entry),
                    SentRecord::Fate(key, fate) => drop(sent.note_fate(&key, fate)),
                }
            }
        }
        Ok(sent)
    }

    fn insert(&mut self, number: u64, entry: SentEntry) {
        let entries = &mut self.files.entry(number).or_default().entries;
        let at = (number, entries.len());
        // What became of it holds for every envelope that it went in.
        self.index.entry(entry.key()).and_modify(|known| known.at = at).or_insert(Known { at, fate: Fate::Open });
        entries.push(sharing(entries.last(), entry));
    }

    /// True if that is news.
    fn note_fate(&mut self, key: &SentKey, fate: Fate) -> bool {
        let known = self.index.get_mut(key).filter(|known| known.fate < fate);
        known.map(|known| known.fate = fate).is_some()
    }

    /// A message that is remembered.
    pub fn get(&self, key: &SentKey) -> Option<&SentEntry> {
        let (number, place) = self.index.get(key)?.at;
        self.files.get(&number)?.entries.get(place)
    }

    /// Whether a message is remembered, for anybody.
    pub fn knows(&self, message: &MessageId) -> bool {
        self.index.keys().any(|key| key.message == *message)
    }

    /// What became of a message that is remembered.
    pub(super) fn fate(&self, key: &SentKey) -> Option<Fate> {
        self.index.get(key).map(|known| known.fate)
    }

    /// Whether a message is on its way for the second time at least: then its recipient may have it, whatever becomes of this one.
    pub fn was_sent_again(&self, key: &SentKey) -> bool {
        self.get(key).is_some_and(|entry| entry.resent > 0)
    }

    /// Remembers what became of a message, unless that, or something that outweighs it, is known. True if it is news.
    pub fn decide(&mut self, key: &SentKey, fate: Fate, pending: &mut Pending) -> bool {
        if !self.note_fate(key, fate) {
            return false;
        }
        if let Some((number, file)) = self.files.iter_mut().next_back() {
            let bytes = key.to_bytes(fate);
            let offset = file.length;
            file.length += u64::try_from(bytes.len()).unwrap_or(0);
            pending.append(path(*number), offset, bytes);
        }
        true
    }

    /// Messages of which nothing is known, for those whom `expects` names.
    pub fn open(&self, expects: impl Fn(&SentKey) -> bool) -> Vec<&SentEntry> {
        let open = self.index.iter().filter(|(key, known)| known.fate == Fate::Open && expects(key));
        open.filter_map(|(key, _)| self.get(key)).collect()
    }

    /// The same of those that were sealed before `sealed_before`.
    pub fn open_before(&self, sealed_before: u64, expects: impl Fn(&SentKey) -> bool) -> Vec<SentEntry> {
        self.open(expects).into_iter().filter(|entry| entry.sealed < sealed_before).cloned().collect()
    }

    /// No entry that was added so far has this place or a later one, and all that are added from now on have.
    pub fn next_place(&self) -> Place {
        self.files.last_key_value().map_or(0, |(number, file)| place(*number, file.entries.len()))
    }

    /// Remembers a message that was sealed, in place of what is known of it.
    pub fn add(&mut self, entry: SentEntry, now_s: u64, pending: &mut Pending) {
        // By when it was begun: what is added again keeps the time at which it was sealed.
        let is_open = |number: u64, file: &File| {
            file.entries.len() < SENT_FILE_ENTRIES_MAX && now_s <= number.saturating_add(FILE_AGE_S)
        };
        let number = match self.files.last_key_value() {
            Some((number, file)) if is_open(*number, file) => *number,
            Some((number, _)) => now_s.max(number + 1),
            None => now_s,
        };
        let file = self.files.entry(number).or_default();
        let bytes = entry.to_bytes();
        let offset = file.length;
        file.length += u64::try_from(bytes.len()).unwrap_or(0);
        pending.append(path(number), offset, bytes);
        self.insert(number, entry);
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
        if let Some((number, file)) = self.files.pop_first() {
            pending.remove(path(number));
            for key in file.entries.iter().map(SentEntry::key) {
                if self.index.get(&key).is_some_and(|known| known.at.0 == number) {
                    self.index.remove(&key);
                }
            }
        }
    }

    /// What was sealed for somebody at `since` or later, is remembered in a place `from` or later and before `until`, is not
    /// known to be on their disk or not wanted there, and may be sealed once more; in the order in which it was written. What
    /// is sealed anew gets a later place, so that asking again goes on behind it.
    pub fn asked_for(&self, recipient: &Fingerprint, since: u64, from: Place, until: Place) -> Vec<SentEntry> {
        let open = self.index.iter().filter(|(key, known)| key.recipient == *recipient && known.fate <= Fate::Failed);
        let placed = open.filter(|(_, known)| (from..until).contains(&place(known.at.0, known.at.1)));
        let is_asked_for = |entry: &&SentEntry| entry.sealed >= since && entry.resent < RESENT_TIMES_MAX;
        let mut found: Vec<SentEntry> =
            placed.filter_map(|(key, _)| self.get(key)).filter(is_asked_for).cloned().collect();
        found.sort_by_key(|entry| (entry.time, entry.message));
        found
    }

    /// What is remembered of these messages for somebody, in any order.
    pub(super) fn asked_of(
        &self,
        recipient: &Fingerprint,
        missing: &[Missing],
    ) -> impl Iterator<Item = (Fate, &SentEntry)> {
        let is_missing = |entry: &SentEntry| {
            let of_it = |missing: &&Missing| {
                missing.conversation == entry.conversation && missing.incarnation == entry.incarnation
            };
            missing.iter().filter(of_it).any(|missing| (missing.from..=missing.to).contains(&entry.counter))
        };
        let theirs = self.index.iter().filter(|(key, _)| key.recipient == *recipient);
        let found = theirs.filter_map(|(key, known)| Some((known.fate, self.get(key)?)));
        found.filter(move |(_, entry)| is_missing(entry))
    }

    /// What was sealed for somebody of these messages, and may be sealed once more; in the order in which it was written.
    pub fn missing(&self, recipient: &Fingerprint, missing: &[Missing]) -> Vec<MessageId> {
        let found = self.asked_of(recipient, missing);
        let found = found.filter(|(fate, entry)| *fate <= Fate::Failed && entry.resent < RESENT_TIMES_MAX);
        let mut found: Vec<_> = found.map(|(_, entry)| (entry.time, entry.message)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, message)| message).collect()
    }

    /// The same of single messages: what is known of them now.
    pub fn find(&self, wanted: &HashSet<(Fingerprint, MessageId)>) -> Vec<SentEntry> {
        let mut newest: HashMap<(Fingerprint, MessageId), &SentEntry> = HashMap::new();
        let entries =
            self.files.values().flat_map(|file| &file.entries).map(|entry| ((entry.recipient, entry.message), entry));
        newest.extend(entries.filter(|(key, _)| wanted.contains(key)));
        // What it became may have come to be known since it was asked for.
        let is_open = |entry: &&SentEntry| self.index.get(&entry.key()).is_some_and(|known| known.fate <= Fate::Failed);
        let may_be_sealed = newest.into_values().filter(|entry| entry.resent < RESENT_TIMES_MAX).filter(is_open);
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
    use crate::wire::identity::{ConversationId, MessageId};
    use crate::wire::journal::Step;
    use crate::wire::sent::GONE;

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
    fn what_is_added_again_long_after_it_was_sealed_pushes_nothing_out() {
        let (mut sent, mut pending, begun) = (Sent::default(), Pending::default(), 1_000_000);
        (1..=20).for_each(|number| sent.add(entry(number, begun), begun, &mut pending));
        for number in 1..=SENT_FILES_MAX as u64 + 1 {
            let again = SentEntry { resent: GONE, ..entry(number, begun) };
            sent.add(again, begun + FILE_AGE_S + 1, &mut pending);
        }
        assert!((1..=20).all(|number| sent.get(&entry(number, begun).key()).is_some()));
        assert_eq!(sent.files.len(), 2);
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
        assert!(!loaded.was_sent_again(&entry(1, 0).key()));
        loaded.add(SentEntry { resent: 1, ..entry(1, 200) }, 200, &mut pending);
        assert!(loaded.was_sent_again(&entry(1, 0).key()));
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
    fn what_became_of_a_message_only_rises_and_outlives_a_restart_and_a_new_envelope() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("keys")).unwrap();
        let (mut sent, mut pending) = (Sent::default(), Pending::default());
        (1..=4).for_each(|number| sent.add(entry(number, 100), 100, &mut pending));
        let key = |number| entry(number, 0).key();
        sent.decide(&key(1), Fate::Failed, &mut pending);
        sent.decide(&key(2), Fate::Refused, &mut pending);
        sent.decide(&key(3), Fate::Failed, &mut pending);
        sent.decide(&key(3), Fate::Acknowledged, &mut pending);
        sent.decide(&key(3), Fate::Failed, &mut pending);
        sent.decide(&SentKey { recipient: Fingerprint([8; 32]), ..key(4) }, Fate::Acknowledged, &mut pending);
        sent.add(SentEntry { resent: 1, ..entry(3, 200) }, 200, &mut pending);
        apply(&mut pending, scratch.path());
        let loaded = Sent::load(&RealDisk, &scratch.path().join("keys")).unwrap();
        for mut sent in [sent, loaded] {
            let fates: Vec<Fate> = (1..=4).map(|number| sent.index[&key(number)].fate).collect();
            assert_eq!(fates, [Fate::Failed, Fate::Refused, Fate::Acknowledged, Fate::Open]);
            assert_eq!(times(&sent.asked_for(&BOB, 0, 0, Place::MAX)), [1, 4]);
            assert_eq!(times(&sent.open_before(101, |_| true)), [4]);
            assert!(sent.open_before(100, |_| true).is_empty() && sent.open_before(101, |_| false).is_empty());
            sent.decide(&key(4), Fate::Failed, &mut pending);
            let offset = pending.take_steps().steps.into_iter().map(|step| match step {
                Step::Append { offset, .. } => offset,
                other => panic!("{other:?}"),
            });
            let length = std::fs::metadata(scratch.path().join("keys/sent-100")).unwrap().len();
            assert_eq!(offset.collect::<Vec<_>>(), [length], "behind what is there");
        }
    }

    #[test]
    fn a_busy_sender_meets_a_bound_and_the_oldest_go() {
        let (mut sent, mut pending) = (Sent::default(), Pending::default());
        let full = u64::try_from(SENT_FILE_ENTRIES_MAX * SENT_FILES_MAX).unwrap();
        for number in 0..=full {
            sent.add(entry(number, 100), 100, &mut pending);
            pending.take_steps();
        }
        assert_eq!(sent.index.len(), SENT_FILE_ENTRIES_MAX * (SENT_FILES_MAX - 1) + 1);
        let found = sent.asked_for(&BOB, 0, 0, Place::MAX);
        assert_eq!(found.len(), SENT_FILE_ENTRIES_MAX * (SENT_FILES_MAX - 1) + 1);
        assert_eq!(found.last().unwrap().time.micros(), full);
    }
}
