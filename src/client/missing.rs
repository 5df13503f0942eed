//! What others lack of ours and ask for again (design, section 4): sealed anew from where it stands, under its old id. Only what was
//! sent to them, and each message a few times at most, however often they ask. Of what was taken back they are told (`withdrawing`).
//!
//! What waits here is not on disk: who still lacks it after a crash asks again.

use std::collections::{HashMap, HashSet, VecDeque};

use super::engine::Engine;
use crate::clock::Timestamp;
use crate::limits::{MISSING_ANSWERS_MAX, MISSING_INTERVAL_S, MISSING_TRIES_MAX, MISSING_WAITING_MAX, RESEND_MAX};
use crate::wire::control::Missing;
use crate::wire::identity::{Fingerprint, MessageId};

/// A message, and who lacks it.
type Wanted = (Fingerprint, MessageId);

/// What is to be sent again, for whom.
#[derive(Debug, Default)]
pub struct Asked {
    queue: VecDeque<Wanted>,
    /// What could not be sent when its turn came: a large content has no room yet, or is being copied. It is tried again, and whoever
    /// lacks it is heard about other things meanwhile.
    waiting: VecDeque<Wanted>,
    /// What is in either.
    noted: HashSet<Wanted>,
    /// When somebody was heard last, seconds since 1970.
    heard: HashMap<Fingerprint, u64>,
    /// Who was heard and is still to be told what of it will not come.
    unanswered: HashMap<Fingerprint, Vec<Missing>>,
}

impl Asked {
    /// Whether somebody who asks is heard. A time in the future was noted before the clock was set back.
    fn hears(&mut self, peer: Fingerprint, now_s: u64) -> bool {
        let recent = |heard: &u64| (*heard..heard.saturating_add(MISSING_INTERVAL_S)).contains(&now_s);
        self.heard.retain(|_, heard| recent(heard));
        let has_more = self.queue.iter().any(|(other, _)| *other == peer);
        let hears = !has_more && self.queue.len() < MISSING_WAITING_MAX && !self.heard.contains_key(&peer);
        if hears {
            self.heard.insert(peer, now_s);
        }
        hears
    }

    /// Notes what is to be sent again, if there is room and it is not noted yet.
    pub(super) fn ask(&mut self, peer: Fingerprint, message: MessageId) {
        if self.queue.len() < MISSING_WAITING_MAX && self.noted.insert((peer, message)) {
            self.queue.push_back((peer, message));
        }
    }

    /// Notes what somebody asked for, to tell them what of it will not come. Who finds no room asks again.
    pub(super) fn owe_answer(&mut self, peer: Fingerprint, missing: &[Missing]) {
        if self.unanswered.len() < MISSING_ANSWERS_MAX {
            self.unanswered.insert(peer, missing.to_vec());
        }
    }

    /// Hands out whose turn to be answered has come: those whose messages have all had theirs.
    pub(super) fn take_answerable(&mut self) -> Vec<(Fingerprint, Vec<Missing>)> {
        let queue = &self.queue;
        self.unanswered.extract_if(|peer, _| !queue.iter().any(|(other, _)| other == peer)).collect()
    }

    /// The same of what could not be sent when its turn came.
    fn wait(&mut self, wanted: Wanted) {
        if self.waiting.len() < MISSING_WAITING_MAX && self.noted.insert(wanted) {
            self.waiting.push_back(wanted);
        }
    }

    /// Hands out whose turn it is. Some of what waits is among it always, and more where there is little else.
    fn take_portion(&mut self) -> HashSet<Wanted> {
        let tries = MISSING_TRIES_MAX.max(RESEND_MAX.saturating_sub(self.queue.len())).min(self.waiting.len());
        let mut portion: HashSet<_> = self.waiting.drain(..tries).collect();
        portion.extend(self.queue.drain(..(RESEND_MAX - tries).min(self.queue.len())));
        self.noted.retain(|wanted| !portion.contains(wanted));
        portion
    }
}

impl Engine {
    /// A contact, or a member of a conversation of ours, asks for messages of ours that they lack.
    pub(super) fn heed_missing(&mut self, peer: Fingerprint, missing: &[Missing], now: Timestamp) {
        if missing.is_empty() || !self.asked_again.hears(peer, now.seconds()) {
            return;
        }
        self.sent.missing(&peer, missing).into_iter().for_each(|message| self.asked_again.ask(peer, message));
        self.asked_again.owe_answer(peer, missing);
    }

    /// A portion of what others lack, and who has had all of theirs is told what will not come.
    pub(super) fn send_missing(&mut self, now: Timestamp) {
        if self.is_full() {
            return;
        }
        self.send_portion(now);
        if !self.is_full() {
            self.answer_missing(now);
        }
    }

    fn send_portion(&mut self, now: Timestamp) {
        let wanted = self.asked_again.take_portion();
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
                self.asked_again.wait(waits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::limits::CONTENT_BYTES_MAX;
    use crate::wire::sent::{Fate, SentEntry};

    const BOB: Fingerprint = Fingerprint([1; 32]);
    const CAROL: Fingerprint = Fingerprint([2; 32]);

    fn message(number: usize) -> MessageId {
        MessageId(u128::try_from(number).unwrap().to_le_bytes())
    }

    #[test]
    fn who_asks_again_and_again_is_heard_now_and_then() {
        let mut asked = Asked::default();
        let heard = (1_000..1_000 + 10 * MISSING_INTERVAL_S).filter(|now_s| asked.hears(BOB, *now_s)).count();
        assert_eq!(heard, 10);
        assert!(asked.hears(CAROL, 1_000), "others are heard meanwhile");
        assert!(asked.hears(BOB, 5), "the clock was set back");
        asked.ask(BOB, message(0));
        assert!(!asked.hears(BOB, 9_000), "what they asked for is on its way");
        (0..=MISSING_WAITING_MAX).for_each(|number| asked.ask(CAROL, message(number)));
        assert_eq!(asked.queue.len(), MISSING_WAITING_MAX);
        assert!(!asked.hears(Fingerprint([5; 32]), 9_000), "enough is on its way to all");
    }

    #[test]
    fn what_waits_is_tried_beside_the_rest_and_nothing_is_noted_twice_or_without_bound() {
        let mut asked = Asked::default();
        (0..=MISSING_WAITING_MAX).for_each(|number| asked.wait((BOB, message(number))));
        assert_eq!(asked.waiting.len(), MISSING_WAITING_MAX);
        assert!(asked.hears(BOB, 9_000), "what waits makes nobody deaf");
        (0..RESEND_MAX).for_each(|number| asked.ask(BOB, message(number)));
        assert!(asked.queue.is_empty(), "it waits already");
        (0..RESEND_MAX).for_each(|number| asked.ask(CAROL, message(number)));
        let of = |portion: &HashSet<Wanted>, peer| portion.iter().filter(|(other, _)| *other == peer).count();
        let portion = asked.take_portion();
        assert_eq!((of(&portion, BOB), of(&portion, CAROL)), (MISSING_TRIES_MAX, RESEND_MAX - MISSING_TRIES_MAX));
        let portion = asked.take_portion();
        assert_eq!((of(&portion, BOB), of(&portion, CAROL)), (RESEND_MAX - MISSING_TRIES_MAX, MISSING_TRIES_MAX));
        asked.ask(BOB, message(0));
        assert_eq!(asked.queue.len(), 1, "it had its turn");
        assert_eq!(asked.noted.len(), asked.queue.len() + asked.waiting.len());
    }

    #[test]
    fn while_a_large_content_waits_its_recipient_is_heard_and_once_it_is_settled_it_is_sent_to_nobody() {
        let mut bob = Bench::new();
        let (alice, conversation) = (bob.alice, bob.conversation.id);
        bob.engine.stand(alice, bob.message(1, 1, b"so that it stands"), None, bob.now);
        bob.settle();
        let entry = |counter: u64, content: &[u8]| SentEntry {
            recipient: alice,
            message: message(usize::try_from(counter).unwrap()),
            conversation,
            file: format!("file {counter}"),
            file_name: Vec::new(),
            time: bob.now,
            incarnation: [2; 16],
            counter,
            sha256: crate::crypto::hash::sha256(&[content]),
            sealed: bob.now.seconds(),
            resent: 0,
            transcript: Arc::default(),
        };
        let contents = [vec![7; CONTENT_BYTES_MAX + 1], vec![8; 100]];
        let entries = [entry(1, &contents[0]), entry(2, &contents[1])];
        for (entry, content) in entries.iter().zip(&contents) {
            fs::write(bob.root.join("conversations/with-alice").join(&entry.file), content).unwrap();
            bob.engine.sent.add(entry.clone(), bob.now.seconds(), &mut bob.engine.pending);
        }
        bob.settle();
        let ask = |bob: &mut Bench, counter| {
            bob.now = Timestamp::from_micros(bob.now.micros() + MISSING_INTERVAL_S * 1_000_000);
            let missing = [Missing { conversation, incarnation: [2; 16], from: counter, to: counter }];
            bob.engine.heed_missing(alice, &missing, bob.now);
            bob.engine.send_missing(bob.now);
            bob.settle();
            (bob.engine.asked_again.waiting.len(), bob.engine.spool.len_of(&alice))
        };
        assert_eq!(ask(&mut bob, 1), (1, 0), "it is not copied yet");
        assert_eq!(ask(&mut bob, 1), (1, 0));
        assert_eq!(ask(&mut bob, 2), (1, 1), "the small one is sent");
        bob.engine.sent.decide(&entries[0].key(), Fate::Acknowledged, &mut bob.engine.pending);
        assert_eq!(ask(&mut bob, 3), (0, 1), "it was here");
    }
}
