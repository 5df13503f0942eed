//! Messages of ours that will not come to somebody who lacks them (protocol, "Notes about messages"): they were taken back. We say
//! so when we are asked, and only of what we are sure of: an entry in `sent` must tell that it was for them, and what a person did
//! with it. Where there is none, or our state was lost, we cannot tell, and the other side goes on missing it.

use std::collections::HashSet;

use super::engine::Engine;
use super::sent::Sent;
use crate::clock::Timestamp;
use crate::limits::NOTE_MISSING_MAX;
use crate::wire::control::{Control, Missing};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::sent::{SentEntry, SentKey};
use crate::wire::spool::Form;

impl Sent {
    /// Messages of these, by conversation, incarnation and counter, that were sent to somebody and will not be again.
    fn withdrawn(
        &self,
        recipient: &Fingerprint,
        missing: &[Missing],
        is_sure: impl FnMut(&&SentEntry) -> bool,
    ) -> Vec<(ConversationId, [u8; 16], u64)> {
        let gone = self.asked_of(recipient, missing).filter(|(fate, entry)| entry.is_gone(*fate));
        let sure = gone.map(|(_, entry)| entry).filter(is_sure);
        let mut found: Vec<_> = sure.map(|entry| (entry.conversation, entry.incarnation, entry.counter)).collect();
        found.sort_unstable();
        found
    }
}

impl Engine {
    /// Whoever was heard and gets nothing more by that is told what will not come: one note for each question.
    pub(super) fn answer_missing(&mut self, now: Timestamp) {
        for (peer, missing) in self.asked_again.take_answerable() {
            let mut withdrawn = ranges(&self.withdrawn(&peer, &missing, now));
            withdrawn.truncate(NOTE_MISSING_MAX);
            if !withdrawn.is_empty() {
                self.queue_note(peer, &Control { withdrawn, ..Control::default() }, now);
            }
        }
    }

    fn withdrawn(
        &mut self,
        peer: &Fingerprint,
        missing: &[Missing],
        now: Timestamp,
    ) -> Vec<(ConversationId, [u8; 16], u64)> {
        let shared = |id: &ConversationId| self.conversations.get(id).is_some_and(|it| it.accepted && it.has(peer));
        let ids: HashSet<ConversationId> = missing.iter().map(|missing| missing.conversation).filter(shared).collect();
        let ages: Vec<_> = ids.into_iter().map(|id| (id, self.settings_of(&id).expire)).collect();
        let has_lost = self.recovery.has_lost();
        self.sent.withdrawn(peer, missing, |entry| {
            let Some((_, age)) = ages.iter().find(|(id, _)| *id == entry.conversation) else { return false };
            // What is not there may have been lost with our state, or was erased for its age: nobody took that back, and who
            // has withheld it would be covered.
            let is_erased = age.is_some_and(|age| entry.time.after(age) <= now);
            let is_told = !entry.is_taken_back() || (!has_lost && !is_erased);
            is_told
                && !self.spool.holds(&entry.recipient, &entry.conversation, &entry.file)
                && !self.large.is_for(&entry.message, &entry.recipient)
        })
    }

    /// A message is about to leave somebody's queue for good. What was not sealed yet is remembered as if it were: else it could be
    /// told no more, when its recipient misses it, that it was for them.
    pub(super) fn note_unsealed(&mut self, recipient: Fingerprint, places: &[u64], now: Timestamp) {
        for place in places {
            if !self.spool.is_waiting(&recipient, *place) {
                continue;
            }
            let Some(whole) = self.spool.whole(&self.root, &recipient, *place) else { continue };
            let key = SentKey { recipient, conversation: whole.conversation, message: whole.message };
            if let (Form::Waiting(payload), None) = (&whole.form, self.sent.get(&key)) {
                self.note_sealed(recipient, payload, &whole.file, now);
            }
        }
    }

    /// The same of a large content.
    pub(super) fn note_unsealed_large(&mut self, recipient: Fingerprint, message: &MessageId, now: Timestamp) {
        let Some(large) = self.large.get(message).filter(|large| large.recipient(&recipient).is_some()) else { return };
        let entry = SentEntry {
            recipient,
            message: large.message,
            conversation: large.conversation,
            file: large.file.clone(),
            file_name: large.file_name.clone(),
            time: large.time,
            incarnation: large.incarnation,
            counter: large.counter,
            sha256: large.sha256,
            sealed: now.seconds(),
            resent: 0,
            transcript: large.transcript.clone().unwrap_or_default().into(),
        };
        if self.sent.get(&entry.key()).is_none() {
            self.sent.add(entry, now.seconds(), &mut self.pending);
        }
    }
}

/// Counters in their order, as ranges.
fn ranges(counters: &[(ConversationId, [u8; 16], u64)]) -> Vec<Missing> {
    let mut ranges: Vec<Missing> = Vec::new();
    for (conversation, incarnation, counter) in counters.iter().copied() {
        let last = ranges.last_mut().filter(|last| {
            let is_of_it = last.conversation == conversation && last.incarnation == incarnation;
            is_of_it && counter <= last.to.saturating_add(1)
        });
        match last {
            Some(last) => last.to = counter,
            None => ranges.push(Missing { conversation, incarnation, from: counter, to: counter }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::client::delivery::State;
    use crate::client::root::CANCEL_DIRECTORY;
    use crate::crypto::hash::sha256;
    use crate::limits::{MISSING_INTERVAL_S, RESENT_TIMES_MAX};
    use crate::wire::identity::participants_hash;
    use crate::wire::large::{LargeRecipient, LargeRecord};
    use crate::wire::payload::{Payload, Plaintext};
    use crate::wire::sent::{Fate, TAKEN_BACK};
    use crate::wire::spool::Spooled;

    const LIFE: [u8; 16] = [2; 16];

    fn place(bob: &Bench, number: u8) -> PathBuf {
        bob.root.join("conversations/with-alice").join(format!("file {number}"))
    }

    fn entry(bob: &Bench, number: u8) -> SentEntry {
        SentEntry {
            recipient: bob.alice,
            message: MessageId([number; 16]),
            conversation: bob.conversation.id,
            file: format!("file {number}"),
            file_name: Vec::new(),
            time: bob.now,
            incarnation: LIFE,
            counter: number.into(),
            sha256: sha256(&[&[number]]),
            sealed: bob.now.seconds(),
            resent: 0,
            transcript: Arc::default(),
        }
    }

    /// The conversation stands on the disk.
    fn standing() -> Bench {
        let mut bob = Bench::new();
        bob.engine.stand(bob.alice, bob.message(1, 1, b"so that it stands"), None, bob.now);
        bob.settle();
        bob
    }

    /// A message was sent, and what became of it. Its file stands.
    fn add(bob: &mut Bench, entry: SentEntry, fate: Fate) {
        fs::write(place(bob, entry.message.0[0]), [entry.message.0[0]]).unwrap();
        let key = entry.key();
        bob.engine.sent.add(entry, bob.now.seconds(), &mut bob.engine.pending);
        bob.engine.sent.decide(&key, fate, &mut bob.engine.pending);
        bob.settle();
    }

    /// What is in the queue of somebody: for each note what it withdraws, and all other messages by their counters.
    fn queued(bob: &Bench, peer: &Fingerprint) -> (Vec<Vec<(u64, u64)>>, Vec<u64>) {
        let (mut notes, mut messages) = (Vec::new(), Vec::new());
        for (_, Spooled { form, .. }) in bob.engine.spool.waiting(&bob.root, peer, 100) {
            let Form::Waiting(bytes) = &form else { panic!("there is no session") };
            match Plaintext::from_bytes(bytes) {
                Ok(Plaintext::Control(note)) => {
                    notes.push(note.withdrawn.iter().map(|range| (range.from, range.to)).collect());
                }
                Ok(Plaintext::Message(payload)) if payload.content.is_some() => messages.push(payload.counter),
                _ => {}
            }
        }
        (notes, messages)
    }

    fn all_of(bob: &Bench) -> Missing {
        Missing { conversation: bob.conversation.id, incarnation: LIFE, from: 1, to: u64::MAX }
    }

    /// Somebody asks for what they lack. Hands out what they are told of that, if they are told anything.
    fn ask(bob: &mut Bench, peer: Fingerprint, missing: &[Missing]) -> Option<Vec<(u64, u64)>> {
        let before = queued(bob, &peer).0.len();
        bob.now = bob.now.after(Duration::from_secs(MISSING_INTERVAL_S));
        bob.engine.heed(peer, Control { missing: missing.to_vec(), ..Control::default() }, bob.now);
        for _ in 0..3 {
            bob.engine.send_missing(bob.now);
            bob.settle();
        }
        let notes = queued(bob, &peer).0.split_off(before);
        assert!(notes.len() < 2, "more than one note for one question: {notes:?}");
        notes.into_iter().next()
    }

    #[test]
    fn what_was_taken_back_is_said_not_to_come_and_nothing_that_may_come_or_has() {
        let mut bob = standing();
        let (alice, now) = (bob.alice, bob.now);
        let gone = |bob: &mut Bench, entry: SentEntry, fate| {
            let path = place(bob, entry.message.0[0]);
            add(bob, entry, fate);
            fs::remove_file(path).unwrap();
        };
        let one = |bob: &Bench, number| entry(bob, number);
        // Deleted, changed, cancelled or refused; whether or not it was given up.
        let of = one(&bob, 1);
        gone(&mut bob, of, Fate::Open);
        let of = one(&bob, 2);
        gone(&mut bob, of, Fate::Failed);
        let of = one(&bob, 3);
        add(&mut bob, of, Fate::Open);
        fs::write(place(&bob, 3), "changed").unwrap();
        let of = one(&bob, 4);
        add(&mut bob, of, Fate::Refused);
        // It stands: it is sealed anew, also where it was given up.
        for (number, fate) in [(6, Fate::Open), (7, Fate::Failed)] {
            let of = one(&bob, number);
            add(&mut bob, of, fate);
        }
        // It is on their disk, whatever became of ours.
        let of = one(&bob, 9);
        gone(&mut bob, of, Fate::Acknowledged);
        // As often as may be: somebody keeps it from them.
        let of = SentEntry { resent: RESENT_TIMES_MAX, ..one(&bob, 11) };
        gone(&mut bob, of, Fate::Open);
        // On its way still: in the queue, or in parts.
        let of = one(&bob, 13);
        add(&mut bob, of, Fate::Refused);
        let waiting = Spooled {
            message: MessageId([13; 16]),
            conversation: bob.conversation.id,
            file: "file 13".to_owned(),
            is_part: false,
            spreads: false,
            form: Form::Waiting(zeroize::Zeroizing::new(vec![1])),
        };
        bob.engine.spool.push(alice, waiting, now, &mut bob.engine.pending);
        let of = SentEntry { resent: TAKEN_BACK, ..one(&bob, 15) };
        add(&mut bob, of, Fate::Open);
        let record = large(&bob, 15);
        bob.engine.large.add(record);
        // It cannot be read now.
        let of = SentEntry { file: "x".repeat(300), ..one(&bob, 17) };
        add(&mut bob, of, Fate::Open);
        // Of another, elsewhere, and in another life.
        let others = [
            SentEntry { recipient: Fingerprint([9; 32]), ..one(&bob, 19) },
            SentEntry { conversation: ConversationId([9; 16]), ..one(&bob, 21) },
            SentEntry { incarnation: [9; 16], ..one(&bob, 23) },
        ];
        others.into_iter().for_each(|other| add(&mut bob, other, Fate::Refused));
        let everything = [
            all_of(&bob),
            Missing { conversation: ConversationId([9; 16]), ..all_of(&bob) },
            Missing { incarnation: [8; 16], ..all_of(&bob) },
        ];
        let said = ask(&mut bob, alice, &everything);
        assert_eq!(said, Some(vec![(1, 4)]));
        assert_eq!(queued(&bob, &alice).1, [6, 7]);
        bob.restart();
        let said = ask(&mut bob, alice, &everything);
        assert_eq!(said, Some(vec![(1, 4)]), "as long as they ask");
        let said = ask(&mut bob, alice, &[Missing { from: 2, to: 2, ..everything[0] }]);
        assert_eq!(said, Some(vec![(2, 2)]), "of what they ask for");
        let said = ask(&mut bob, alice, &[Missing { from: 5, ..everything[0] }]);
        assert_eq!(said, None, "where there is nothing to say nothing is said");
        let said = ask(&mut bob, Fingerprint([9; 32]), &everything);
        assert_eq!(said, None, "who takes no part hears nothing");
    }

    #[test]
    fn where_state_was_lost_or_messages_are_erased_for_their_age_what_is_not_there_was_taken_back_by_nobody() {
        let day = Duration::from_secs(86_400);
        for is_lost in [true, false] {
            let mut bob = standing();
            let alice = bob.alice;
            let of = entry(&bob, 1);
            add(&mut bob, of, Fate::Open);
            let of = entry(&bob, 3);
            add(&mut bob, of, Fate::Refused);
            fs::remove_file(place(&bob, 1)).unwrap();
            match is_lost {
                true => bob.engine.lose_state(None, None, bob.now),
                false => bob.engine.policy.expire = Some(day),
            }
            let all = [all_of(&bob)];
            let said = ask(&mut bob, alice, &all);
            assert_eq!(said, Some(if is_lost { vec![(3, 3)] } else { vec![(1, 1), (3, 3)] }));
            bob.now = bob.now.after(day);
            let said = ask(&mut bob, alice, &all);
            assert_eq!(said, Some(vec![(3, 3)]), "a person did that");
        }
    }

    #[test]
    fn a_conversation_that_was_deleted_is_taken_back_and_one_that_stands_elsewhere_is_not() {
        let mut bob = standing();
        let (alice, here) = (bob.alice, bob.conversation.id);
        assert!(!bob.engine.is_deleted(&here));
        let of = entry(&bob, 1);
        add(&mut bob, of, Fate::Open);
        fs::rename(bob.root.join("conversations"), bob.root.join("away")).unwrap();
        assert!(!bob.engine.is_deleted(&here));
        let all = [all_of(&bob)];
        let said = ask(&mut bob, alice, &all);
        assert_eq!(said, None, "where nothing can be looked at nobody has deleted anything");
        fs::rename(bob.root.join("away"), bob.root.join("conversations")).unwrap();
        fs::write(bob.root.join("conversations/note"), "no directory").unwrap();
        fs::remove_dir_all(bob.root.join("conversations/with-alice")).unwrap();
        bob.restart();
        let said = ask(&mut bob, alice, &all);
        assert_eq!(said, Some(vec![(1, 1)]));
    }

    fn payload(bob: &Bench, number: u8) -> Payload {
        let participants = participants_hash(&bob.conversation.participants());
        Payload { participants, incarnation: LIFE, ..bob.message(number, number.into(), &[number]) }
    }

    fn large(bob: &Bench, number: u8) -> LargeRecord {
        LargeRecord {
            message: MessageId([number; 16]),
            conversation: bob.conversation.id,
            participants: [0; 32],
            file: format!("file {number}"),
            file_name: Vec::new(),
            time: bob.now,
            incarnation: LIFE,
            counter: number.into(),
            transcript: None,
            size: 100_000,
            sha256: [0; 32],
            recipients: vec![LargeRecipient::new(bob.alice, bob.now)],
        }
    }

    #[test]
    fn what_was_cancelled_before_it_was_sealed_is_said_not_to_come() {
        let mut bob = standing();
        let alice = bob.alice;
        let (record, of) = (bob.conversation.clone(), payload(&bob, 1));
        fs::write(place(&bob, 1), [1]).unwrap();
        assert_eq!(bob.engine.queue_message(&record, alice, &of, "file 1", bob.now), State::Queued);
        let of = large(&bob, 3);
        bob.engine.large.add(of);
        bob.settle();
        let all = [all_of(&bob)];
        let said = ask(&mut bob, alice, &all);
        assert_eq!(said, None, "it waits, and will come");
        for number in [1, 3] {
            let name = MessageId([number; 16]).to_string();
            fs::create_dir_all(bob.root.join(CANCEL_DIRECTORY)).unwrap();
            fs::write(bob.root.join(Path::new(CANCEL_DIRECTORY).join(name)), "").unwrap();
        }
        bob.engine.cancels = true;
        bob.engine.look_at_cancelled(bob.now);
        bob.settle();
        bob.restart();
        let said = ask(&mut bob, alice, &all);
        assert_eq!(said, Some(vec![(1, 1), (3, 3)]));
        assert_eq!(queued(&bob, &alice).1, [0; 0], "nor does it come, though it stands");
    }

    #[test]
    fn what_was_given_up_before_it_was_sealed_comes_if_it_stands_and_else_is_said_not_to() {
        let mut bob = standing();
        let alice = bob.alice;
        let (record, period) = (bob.conversation.clone(), Duration::from_secs(60));
        bob.engine.policy.retry_period = period;
        for number in [1, 3] {
            let of = payload(&bob, number);
            fs::write(place(&bob, number), [number]).unwrap();
            bob.engine.queue_message(&record, alice, &of, &format!("file {number}"), bob.now);
        }
        bob.settle();
        for _ in 0..300 {
            bob.now = bob.now.after(Duration::from_secs(1));
            bob.engine.steady.pass(bob.now);
            bob.engine.give_up_when_due(bob.now);
        }
        bob.settle();
        assert_eq!(queued(&bob, &alice).1, [0; 0]);
        fs::remove_file(place(&bob, 1)).unwrap();
        let all = [all_of(&bob)];
        let said = ask(&mut bob, alice, &all);
        assert_eq!((said, queued(&bob, &alice).1), (Some(vec![(1, 1)]), vec![3]));
    }

    #[test]
    fn counters_become_ranges_of_one_life_and_conversation_each() {
        let at = |conversation, life, counter| (ConversationId([conversation; 16]), [life; 16], counter);
        let all = [at(1, 1, 1), at(1, 1, 2), at(1, 1, 2), at(1, 1, 4), at(1, 2, 5), at(2, 2, 6), at(2, 2, u64::MAX)];
        let found: Vec<_> = ranges(&all).iter().map(|range| (range.from, range.to)).collect();
        assert_eq!(found, [(1, 2), (4, 4), (5, 5), (6, 6), (u64::MAX, u64::MAX)]);
    }
}
