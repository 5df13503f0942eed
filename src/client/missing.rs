//! What others lack of ours and ask for again (design, section 4): sealed anew from where it stands, under its old id. Only what was
//! sent to them, and each message a few times at most, however often they ask.
//!
//! What waits here is not on disk: who still lacks it after a crash asks again.

use std::collections::{HashMap, HashSet, VecDeque};

use super::engine::Engine;
use crate::clock::Timestamp;
use crate::limits::{MISSING_INTERVAL_S, MISSING_WAITING_MAX, RESEND_MAX};
use crate::wire::control::Missing;
use crate::wire::identity::{Fingerprint, MessageId};

/// What is to be sent again, for whom.
#[derive(Debug, Default)]
pub struct Asked {
    queue: VecDeque<(Fingerprint, MessageId)>,
    /// When somebody was heard last, seconds since 1970.
    heard: HashMap<Fingerprint, u64>,
}

impl Asked {
    /// Whether somebody who asks is heard. A time in the future was noted before the clock was set back.
    fn hears(&mut self, peer: Fingerprint, now_s: u64) -> bool {
        let recent = |heard: &u64| (*heard..heard.saturating_add(MISSING_INTERVAL_S)).contains(&now_s);
        self.heard.retain(|_, heard| recent(heard));
        let is_waiting = self.queue.iter().any(|(other, _)| *other == peer);
        let hears = !is_waiting && self.queue.len() < MISSING_WAITING_MAX && !self.heard.contains_key(&peer);
        if hears {
            self.heard.insert(peer, now_s);
        }
        hears
    }

    /// Notes what is to be sent again, if there is room and it is not noted yet.
    pub(super) fn ask(&mut self, peer: Fingerprint, message: MessageId) {
        let wanted = (peer, message);
        if self.queue.len() < MISSING_WAITING_MAX && !self.queue.contains(&wanted) {
            self.queue.push_back(wanted);
        }
    }
}

impl Engine {
    /// A contact, or a member of a conversation of ours, asks for messages of ours that they lack.
    pub(super) fn heed_missing(&mut self, peer: Fingerprint, missing: &[Missing], now: Timestamp) {
        if missing.is_empty() || !self.asked_again.hears(peer, now.seconds()) {
            return;
        }
        let room = MISSING_WAITING_MAX - self.asked_again.queue.len();
        let found = self.sent.missing(&peer, missing).into_iter().take(room);
        self.asked_again.queue.extend(found.map(|message| (peer, message)));
    }

    /// A portion of what others lack.
    pub(super) fn send_missing(&mut self, now: Timestamp) {
        let portion = RESEND_MAX.min(self.asked_again.queue.len());
        let wanted: HashSet<_> = self.asked_again.queue.drain(..portion).collect();
        if wanted.is_empty() {
            return;
        }
        for entry in self.sent.find(&wanted) {
            // What is still on its way is not lost.
            if self.spool.holds(&entry.recipient, &entry.conversation, &entry.file)
                || self.large.is_for(&entry.message, &entry.recipient)
            {
                continue;
            }
            let waits = (entry.recipient, entry.message);
            if self.is_full() || !self.resend(entry, now) {
                self.asked_again.queue.push_back(waits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: Fingerprint = Fingerprint([1; 32]);

    #[test]
    fn who_asks_again_and_again_is_heard_now_and_then() {
        let mut asked = Asked::default();
        let heard = (1_000..1_000 + 10 * MISSING_INTERVAL_S).filter(|now_s| asked.hears(BOB, *now_s)).count();
        assert_eq!(heard, 10);
        assert!(asked.hears(Fingerprint([2; 32]), 1_000), "others are heard meanwhile");
        assert!(asked.hears(BOB, 5), "the clock was set back");
        asked.queue.push_back((BOB, MessageId([3; 16])));
        assert!(!asked.hears(BOB, 9_000), "what they asked for is on its way");
        let others = (0..).map(|_| (Fingerprint([4; 32]), MessageId([3; 16])));
        asked.queue.extend(others.take(MISSING_WAITING_MAX));
        assert!(!asked.hears(Fingerprint([5; 32]), 9_000), "enough is on its way to all");
    }
}
