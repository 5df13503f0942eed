//! Parts of large contents that stay at our server because there is no room for them here, and when the mailbox is pushed again
//! for them. Those who leave too many there are refused: a full mailbox would keep others out.

use std::collections::HashMap;

use super::arriving::MessageHash;
use crate::clock::Timestamp;
use crate::limits::{PARTS_LEFT_MAX, PARTS_LEFT_PER_AUTHOR_MAX, PARTS_LEFT_RETRY_MAX_S, PARTS_LEFT_RETRY_S};
use crate::wire::identity::{ConversationId, Fingerprint};
use crate::wire::part::Part;

/// Why a part stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too many contents have come in part.
    Contents,
    /// The disk is nearly full.
    Disk,
    /// Its conversation was not introduced yet.
    Early,
}

/// One that stays there, and what it waits for.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Who wrote it.
    pub author: Fingerprint,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Why it stays.
    pub why: Why,
    /// Of which message it is, and which part. Not noted of one whose conversation is unknown.
    pub part: Option<(MessageHash, Part)>,
}

type EnvelopeHash = [u8; 32];

/// Those that stay there, by the hashes of their envelopes, so that one which comes again, and still cannot be taken, costs no more
/// than a look. A run that starts learns them anew.
#[derive(Debug, Default)]
pub struct PartsLeft {
    /// As far as this connection has pushed them.
    left: HashMap<EnvelopeHash, Left>,
    /// Those of earlier connections, which are to come again, or are gone.
    known: HashMap<EnvelopeHash, Left>,
    of: HashMap<Fingerprint, usize>,
    why: Option<Why>,
    has_changed: bool,
    /// When they were looked at for one that can be taken.
    looked: Timestamp,
    pushed: Timestamp,
    /// How many there were then.
    before: usize,
    wait_s: u64,
}

impl PartsLeft {
    /// Whether another part of this author may stay there.
    pub fn has_room(&self, author: &Fingerprint) -> bool {
        self.left.len() < PARTS_LEFT_MAX && self.of.get(author).is_none_or(|count| *count < PARTS_LEFT_PER_AUTHOR_MAX)
    }

    /// One does.
    pub fn add(&mut self, hash: EnvelopeHash, left: Left) {
        if self.left.insert(hash, left).is_none() {
            *self.of.entry(left.author).or_default() += 1;
        }
        self.why = Some(left.why);
    }

    /// What is known of an envelope that comes.
    pub fn get(&self, hash: &EnvelopeHash) -> Option<&Left> {
        self.left.get(hash).or_else(|| self.known.get(hash))
    }

    /// One that is known has come again. True if it stays where it is, which it does if it still waits, and no more wait than may.
    pub fn came_again(&mut self, hash: &EnvelopeHash, still_waits: bool) -> bool {
        if let Some(left) = self.left.remove(hash) {
            self.of.entry(left.author).and_modify(|count| *count -= 1);
            self.known.insert(*hash, left);
        }
        let Some(left) = self.known.remove(hash) else { return false };
        let stays = still_waits && self.has_room(&left.author);
        if stays {
            self.add(*hash, left);
        }
        stays
    }

    /// There may be room here for some of them.
    pub fn note_room(&mut self) {
        self.has_changed = true;
    }

    /// Whether some wait for room on the disk.
    pub fn wait_for_disk(&self) -> bool {
        self.left.values().any(|left| left.why == Why::Disk)
    }

    /// The next connection pushes them all again.
    pub fn disconnected(&mut self) {
        if self.known.len() + self.left.len() > PARTS_LEFT_MAX {
            self.known.clear();
        }
        self.known.extend(self.left.drain());
        (self.of, self.why, self.has_changed) = (HashMap::new(), None, false);
    }

    /// Whether room was noted, and the mailbox may be pushed again now, if one of them can be taken: which is to be looked at.
    pub fn take_due(&mut self, now: Timestamp) -> bool {
        // A time in the future was noted before the clock was set back.
        let is_past =
            |time: Timestamp, wait_s| now.seconds().checked_sub(time.seconds()).is_none_or(|since| since >= wait_s);
        let may_push = is_past(self.pushed, self.wait_s.max(PARTS_LEFT_RETRY_S));
        let is_due = self.has_changed && !self.left.is_empty() && may_push && is_past(self.looked, PARTS_LEFT_RETRY_S);
        if is_due {
            (self.looked, self.has_changed) = (now, false);
        }
        is_due
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Left> {
        self.left.values()
    }

    /// The mailbox is pushed again now. The next time comes later if this brings little: all that stays there comes over the
    /// network with it.
    pub fn push_again(&mut self, now: Timestamp) {
        let brought_little = self.before > 0 && self.left.len() * 2 > self.before;
        let longer = (self.wait_s.max(PARTS_LEFT_RETRY_S) * 2).min(PARTS_LEFT_RETRY_MAX_S);
        self.wait_s = if brought_little { longer } else { PARTS_LEFT_RETRY_S };
        (self.before, self.pushed) = (self.left.len(), now);
    }

    /// What `status` says of them.
    pub fn status(&self) -> Option<String> {
        let reason = match self.why? {
            Why::Contents => "more contents are on their way than are taken at a time",
            Why::Disk => "the disk is nearly full",
            Why::Early => "their conversation is not known yet",
        };
        Some(format!("{} parts wait at our server: {reason}", self.left.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn left(author: u8, why: Why) -> Left {
        Left { author: Fingerprint([author; 32]), conversation: ConversationId([1; 16]), why, part: None }
    }

    fn hash(number: usize) -> EnvelopeHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        hash
    }

    #[test]
    fn one_author_leaves_room_for_others_and_what_comes_again_counts_once() {
        let (mut parts, mallory, bob) = (PartsLeft::default(), Fingerprint([1; 32]), Fingerprint([2; 32]));
        for number in 0..PARTS_LEFT_PER_AUTHOR_MAX {
            assert!(parts.has_room(&mallory));
            parts.add(hash(number), left(1, Why::Contents));
        }
        assert!(!parts.has_room(&mallory) && parts.has_room(&bob));
        assert!(parts.came_again(&hash(0), true), "on the same connection");
        parts.disconnected();
        assert!(parts.has_room(&mallory) && parts.status().is_none() && parts.get(&hash(7)).is_some());
        assert!(!parts.came_again(&hash(0), false) && parts.get(&hash(0)).is_none());
        assert!((1..PARTS_LEFT_PER_AUTHOR_MAX).all(|number| parts.came_again(&hash(number), true)));
        assert!(parts.status().unwrap().starts_with("1023 parts wait"), "{:?}", parts.status());
        parts.add(hash(PARTS_LEFT_PER_AUTHOR_MAX), left(1, Why::Disk));
        assert!(!parts.has_room(&mallory) && parts.wait_for_disk());
        assert!(!parts.came_again(&hash(PARTS_LEFT_PER_AUTHOR_MAX + 1), true), "it is not known");
    }

    #[test]
    fn what_is_remembered_of_earlier_connections_has_a_bound_and_so_has_what_comes_again() {
        let mut parts = PartsLeft::default();
        for connection in 0..5 {
            for number in 0..PARTS_LEFT_MAX / 2 {
                let author = u8::try_from(number / PARTS_LEFT_PER_AUTHOR_MAX).unwrap();
                parts.add(hash(connection * PARTS_LEFT_MAX + number), left(author, Why::Early));
            }
            parts.disconnected();
            assert!(parts.known.len() <= PARTS_LEFT_MAX);
        }
        let known: Vec<EnvelopeHash> = parts.known.keys().copied().collect();
        let stay = known.iter().filter(|hash| parts.came_again(hash, true)).count();
        assert_eq!(stay, 4 * PARTS_LEFT_PER_AUTHOR_MAX, "the rest is refused");
    }

    #[test]
    fn the_mailbox_is_pushed_again_when_there_is_room_and_not_all_the_time() {
        let mut parts = PartsLeft::default();
        parts.note_room();
        assert!(!parts.take_due(at(1_000)), "nothing was left");
        parts.add(hash(1), left(1, Why::Disk));
        assert!(parts.take_due(at(1_000)) && !parts.take_due(at(1_000)));
        parts.push_again(at(1_000));
        assert!(!parts.take_due(at(1_000 + PARTS_LEFT_RETRY_S)), "nothing has changed");
        parts.note_room();
        assert!(!parts.take_due(at(1_001)) && parts.take_due(at(1_000 + PARTS_LEFT_RETRY_S)));
        parts.note_room();
        assert!(!parts.take_due(at(1_001 + PARTS_LEFT_RETRY_S)), "all were looked at just now");
        assert!(parts.take_due(at(5)), "the clock was set back");
    }

    #[test]
    fn pushing_again_becomes_rare_while_most_of_what_was_left_stays() {
        let (mut parts, mut now, mut waits) = (PartsLeft::default(), 1_000, Vec::new());
        let mut push = |count: usize, stays: usize| {
            (0..count).for_each(|number| parts.add(hash(number), left(1, Why::Early)));
            parts.note_room();
            let begun = now;
            while !parts.take_due(at(now)) {
                now += 10;
            }
            waits.push(now - begun);
            parts.push_again(at(now));
            parts.disconnected();
            let came = (0..count).filter(|number| parts.came_again(&hash(*number), *number < stays)).count();
            assert_eq!(came, stays);
        };
        (0..9).for_each(|_| push(10, 9));
        push(10, 0);
        push(4, 0);
        push(4, 0);
        assert_eq!(waits, [0, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600, 3_600, 60]);
    }
}
