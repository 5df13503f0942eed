//! Parts of large contents that stay at our server because there is no room for them here, and when the mailbox is pushed again
//! for them. Those who leave too many there are refused: a full mailbox would keep others out.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::limits::{PARTS_LEFT_MAX, PARTS_LEFT_PER_AUTHOR_MAX, PARTS_LEFT_RETRY_S};
use crate::wire::identity::Fingerprint;

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

/// Those that stay there, as far as this connection has pushed them.
#[derive(Debug, Default)]
pub struct PartsLeft {
    of: HashMap<Fingerprint, usize>,
    count: usize,
    why: Option<Why>,
    has_changed: bool,
    pushed: Timestamp,
}

impl PartsLeft {
    /// Whether another part of this author may stay there.
    pub fn has_room(&self, author: &Fingerprint) -> bool {
        self.count < PARTS_LEFT_MAX && self.of.get(author).is_none_or(|count| *count < PARTS_LEFT_PER_AUTHOR_MAX)
    }

    /// One does.
    pub fn add(&mut self, author: Fingerprint, why: Why) {
        *self.of.entry(author).or_default() += 1;
        self.count += 1;
        self.why = Some(why);
    }

    /// There may be room here for some of them.
    pub fn note_room(&mut self) {
        self.has_changed = true;
    }

    /// Whether they wait for room on the disk.
    pub fn wait_for_disk(&self) -> bool {
        self.why == Some(Why::Disk)
    }

    /// The next connection pushes them all again.
    pub fn forget(&mut self) {
        (self.of, self.count, self.why, self.has_changed) = (HashMap::new(), 0, None, false);
    }

    /// Whether the mailbox is to be pushed again now. Then they are forgotten.
    pub fn take_due(&mut self, now: Timestamp) -> bool {
        // A time in the future was noted before the clock was set back.
        let since = now.seconds().checked_sub(self.pushed.seconds());
        let is_due = self.has_changed && self.count > 0 && since.is_none_or(|since| since >= PARTS_LEFT_RETRY_S);
        if is_due {
            self.forget();
            self.pushed = now;
        }
        is_due
    }

    /// What `status` says of them.
    pub fn status(&self) -> Option<String> {
        let reason = match self.why? {
            Why::Contents => "more contents are on their way than are taken at a time",
            Why::Disk => "the disk is nearly full",
            Why::Early => "their conversation is not known yet",
        };
        Some(format!("{} parts wait at our server: {reason}", self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn one_author_leaves_room_for_others() {
        let (mut left, mallory, bob) = (PartsLeft::default(), Fingerprint([1; 32]), Fingerprint([2; 32]));
        for _ in 0..PARTS_LEFT_PER_AUTHOR_MAX {
            assert!(left.has_room(&mallory));
            left.add(mallory, Why::Contents);
        }
        assert!(!left.has_room(&mallory) && left.has_room(&bob));
        left.forget();
        assert!(left.has_room(&mallory) && left.status().is_none());
    }

    #[test]
    fn the_mailbox_is_pushed_again_when_there_is_room_and_not_all_the_time() {
        let mut left = PartsLeft::default();
        left.note_room();
        assert!(!left.take_due(at(1_000)), "nothing was left");
        left.add(Fingerprint([1; 32]), Why::Disk);
        assert!(left.take_due(at(1_000)) && left.status().is_none());
        left.add(Fingerprint([1; 32]), Why::Disk);
        assert!(!left.take_due(at(1_000 + PARTS_LEFT_RETRY_S)), "nothing has changed");
        left.note_room();
        assert!(!left.take_due(at(1_001)) && left.take_due(at(1_000 + PARTS_LEFT_RETRY_S)));
        left.add(Fingerprint([1; 32]), Why::Disk);
        left.note_room();
        assert!(left.take_due(at(5)), "the clock was set back");
    }
}
