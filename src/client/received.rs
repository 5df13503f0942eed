//! The hashes of envelopes and messages that were received: what makes at-least-once delivery exactly once (design,
//! section 7). A message that is sent again comes in another envelope, and is known by the hash of its author,
//! conversation and id, and by which message it was: its transcript hash.
//!
//! `keys/received-N` holds one 40-byte entry for each, two for a message, the hash and the second of its receipt, little-endian. N counts
//! periods of [`PERIOD_S`]; a file is removed when its last entry has outlived [`RECEIVED_HASH_LIFETIME_S`].

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::delivery::{self, Delivery};
use super::engine::Engine;
use super::pending::Pending;
use super::state::{self, StateError};
use crate::crypto::hash::sha256;
use crate::disk::open;
use crate::disk::system::Disk;
use crate::limits::{RECALLED_FILES_MAX, RECALLED_MAX, RECEIVED_HASH_LIFETIME_S};
use crate::wire::identity::ConversationId;
pub use crate::wire::identity::message_hash;
use crate::wire::transcript::TranscriptHash;

const PERIOD_S: u64 = 7 * 86_400;
const ENTRY_BYTES: usize = 40;
const PREFIX: &str = "received-";
const REFUSED_LABEL: &[u8] = b"chatterbox 1 refused message\0";
const KNOWN_LABEL: &[u8] = b"chatterbox 1 known message\0";

/// All hashes that are remembered, by period.
#[derive(Debug, Default)]
pub struct Received {
    periods: BTreeMap<u64, HashSet<[u8; 32]>>,
    lengths: BTreeMap<u64, u64>,
    /// Hashes of messages that `.delivery/` files tell of, and of which conversations those were read.
    recalled: HashSet<[u8; 32]>,
    recalled_of: HashSet<ConversationId>,
}

impl Received {
    /// Reads `keys/received-*`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, keys: &Path) -> Result<Self, StateError> {
        let mut received = Self::default();
        for (path, name) in state::files(disk, keys)? {
            let Some(period) = name.strip_prefix(PREFIX).and_then(|text| text.parse().ok()) else { continue };
            let hashes: &mut HashSet<[u8; 32]> = received.periods.entry(period).or_default();
            let length = state::read_entries(disk, &path, |entry: &[u8; ENTRY_BYTES]| {
                hashes.extend(entry.first_chunk::<32>());
            })?;
            received.lengths.insert(period, length);
        }
        Ok(received)
    }

    /// Whether a message was received.
    pub fn has_message(&self, message: &[u8; 32]) -> bool {
        self.contains(message) || self.contains(&known_hash(message, &[]))
    }

    /// Whether what was received under this message's hash is another message than the one with this transcript hash. Of one that
    /// only `.delivery/` tells of, or that an older program received, that is not known.
    pub fn contradicts(&self, message: &[u8; 32], transcript: &TranscriptHash) -> bool {
        self.contains(&known_hash(message, &[])) && !self.contains(&known_hash(message, transcript))
    }

    /// Remembers a message, and which it was.
    pub fn add_message(&mut self, message: &[u8; 32], transcript: &TranscriptHash, now_s: u64, pending: &mut Pending) {
        self.add(known_hash(message, &[]), now_s, pending);
        self.add(known_hash(message, transcript), now_s, pending);
    }

    /// Whether an envelope with this hash was received; and a message, by an older program, or as `.delivery/` tells.
    pub fn contains(&self, hash: &[u8; 32]) -> bool {
        self.recalled.contains(hash) || self.periods.values().any(|hashes| hashes.contains(hash))
    }

    /// Whether a message was received, or refused.
    pub fn is_done_with(&self, message: &[u8; 32]) -> bool {
        self.has_message(message) || self.contains(&refused_hash(message))
    }

    /// Remembers a hash.
    pub fn add(&mut self, hash: [u8; 32], now_s: u64, pending: &mut Pending) {
        let period = now_s / PERIOD_S;
        let length = self.lengths.entry(period).or_default();
        let entry = [&hash[..], &now_s.to_le_bytes()].concat();
        pending.append(file(period), *length, entry);
        *length += u64::try_from(ENTRY_BYTES).unwrap_or(0);
        self.periods.entry(period).or_default().insert(hash);
    }

    /// Forgets periods whose every entry is too old.
    pub fn forget_old(&mut self, now_s: u64, pending: &mut Pending) {
        let oldest = now_s.saturating_sub(RECEIVED_HASH_LIFETIME_S) / PERIOD_S;
        while let Some(period) = self.periods.keys().next().copied().filter(|period| *period < oldest) {
            self.periods.remove(&period);
            self.lengths.remove(&period);
            pending.remove(file(period));
        }
    }
}

/// `SHA-256(LABEL("refused message") || hash)`: in the place of a message's hash where it was refused, or cancelled by its author.
/// What comes of it then vanishes, and is not acknowledged.
pub fn refused_hash(message: &[u8; 32]) -> [u8; 32] {
    sha256(&[REFUSED_LABEL, message])
}

/// `SHA-256(LABEL("known message") || hash || transcript hash)` says which message was received; without the transcript hash, that
/// one was. Two entries, since who repeats an id would else show different messages to different people.
fn known_hash(message: &[u8; 32], transcript: &[u8]) -> [u8; 32] {
    sha256(&[KNOWN_LABEL, message, transcript])
}

impl Engine {
    /// Reads the `.delivery/` files of a conversation, once in this run: what our state has lost, they may still tell.
    /// Only when a message comes that was sent again.
    pub(super) fn recall(&mut self, conversation: &ConversationId, place: &Path) {
        if self.received.recalled.len() > RECALLED_MAX {
            self.received.recalled.clear();
            self.received.recalled_of.clear();
        }
        if !self.received.recalled_of.insert(*conversation) {
            return;
        }
        let deliveries = place.join(delivery::DIRECTORY);
        let mut names = self.root.names(&deliveries);
        names.sort_unstable();
        for name in names.into_iter().rev().take(RECALLED_FILES_MAX) {
            let path = self.root.join(deliveries.join(name));
            let text = open::read_text(self.root.disk(), &path, delivery::BYTES_MAX);
            if let Some(delivery) = text.as_deref().and_then(Delivery::parse) {
                self.received.recalled.insert(message_hash(&delivery.from, conversation, &delivery.id));
            }
        }
    }
}

fn file(period: u64) -> PathBuf {
    PathBuf::from(format!("keys/{PREFIX}{period}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use crate::limits::STATE_FILE_BYTES_MAX;

    #[test]
    fn more_than_a_state_file_may_hold_came_in_a_week_and_the_next_start_reads_it() {
        let scratch = tempfile::tempdir().unwrap();
        let entries = STATE_FILE_BYTES_MAX / 40 + 1;
        let hash = |number: u64| <[u8; 32]>::try_from(number.to_le_bytes().repeat(4)).unwrap();
        let mut bytes = Vec::new();
        for number in 0..entries {
            bytes.extend(hash(number));
            bytes.extend([0; 8]);
        }
        std::fs::write(scratch.path().join("received-7"), bytes).unwrap();
        let mut received = Received::load(&RealDisk, scratch.path()).unwrap();
        assert!(
            received.contains(&hash(0)) && received.contains(&hash(entries - 1)) && !received.contains(&hash(entries))
        );
        received.add([9; 32], 7 * PERIOD_S, &mut Pending::default());
        assert_eq!(received.lengths[&7], (entries + 1) * 40, "it is added behind them");
    }

    #[test]
    fn a_file_that_is_empty_or_ends_within_an_entry_stops_the_start() {
        let scratch = tempfile::tempdir().unwrap();
        for length in [0, 39, 41, 40 * 4_096 + 1] {
            std::fs::write(scratch.path().join("received-7"), vec![1; length]).unwrap();
            let error = Received::load(&RealDisk, scratch.path()).unwrap_err();
            assert!(matches!(error, StateError::Malformed { .. }), "{error}");
        }
        std::fs::write(scratch.path().join("received-7"), vec![1; 40 * 4_096]).unwrap();
        assert!(Received::load(&RealDisk, scratch.path()).unwrap().contains(&[1; 32]));
    }

    #[test]
    fn another_message_under_a_known_id_is_told_from_the_same_one_and_what_older_programs_noted_is_not_compared() {
        let (mut received, mut pending) = (Received::default(), Pending::default());
        let (old, new) = ([1; 32], [2; 32]);
        received.add(old, 5, &mut pending);
        received.recalled.insert([3; 32]);
        received.add_message(&new, &[7; 32], 5, &mut pending);
        for known in [old, new, [3; 32]] {
            assert!(received.has_message(&known) && received.is_done_with(&known));
            assert!(!received.contradicts(&known, &[7; 32]));
            assert_eq!(received.contradicts(&known, &[8; 32]), known == new);
        }
        assert!(!received.has_message(&[4; 32]) && !received.contradicts(&[4; 32], &[7; 32]));
    }
}
