//! Messages of ours that will not come to somebody who lacks them (protocol, "Notes about messages"): they were taken back. We say
//! so when we are asked, and only of what we are sure of: an entry in `sent` must tell that it was for them, and what a person did
//! with it. Where there is none, where our state was lost, or where we have erased it for its age, we cannot tell, and the other side
//! goes on missing it.

use std::collections::HashSet;

use super::delivery::Delivery;
use super::engine::Engine;
use super::sent::Sent;
use crate::clock::Timestamp;
use crate::limits::{NOTE_MISSING_MAX, RESENT_TIMES_MAX, WITHDRAWN_NOTES_MAX, WITHDRAWN_WAITING_MAX};
use crate::wire::control::{Control, Missing};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::sent::{Fate, GONE, SentEntry, SentKey};
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

    /// Whether a message may be sealed anew for somebody.
    pub(super) fn may_be_sent_again(&self, key: &SentKey) -> bool {
        self.fate(key) <= Some(Fate::Failed) && self.get(key).is_some_and(|entry| entry.resent < RESENT_TIMES_MAX)
    }
}

impl Engine {
    /// Whoever was heard and gets nothing more by that is told what will not come: one note for each question. Not for ever: whose
    /// server takes nothing waits for it, and who asks again and again gets no more of them.
    pub(super) fn answer_missing(&mut self, now: Timestamp) {
        for (peer, missing) in self.asked_again.take_answerable() {
            if self.spool.len_of(&peer) >= WITHDRAWN_WAITING_MAX {
                self.asked_again.owe_answer(peer, &missing);
                continue;
            }
            let mut withdrawn = ranges(&self.withdrawn(&peer, &missing));
            withdrawn.truncate(NOTE_MISSING_MAX);
            if !withdrawn.is_empty() && self.withdrawn_notes.takes(peer, WITHDRAWN_NOTES_MAX, now) {
                self.queue_note(peer, &Control { withdrawn, ..Control::default() }, now);
            }
        }
    }

    fn withdrawn(&self, peer: &Fingerprint, missing: &[Missing]) -> Vec<(ConversationId, [u8; 16], u64)> {
        let shared = |id: &ConversationId| self.conversations.get(id).is_some_and(|it| it.accepted && it.has(peer));
        let ids: HashSet<ConversationId> = missing.iter().map(|missing| missing.conversation).filter(shared).collect();
        let on_their_way = self.spool.messages_for(peer);
        self.sent.withdrawn(peer, missing, |entry| {
            ids.contains(&entry.conversation)
                && !on_their_way.contains(&entry.message)
                && !self.large.is_for(&entry.message, &entry.recipient)
        })
    }

    /// We have erased a message for its age: whoever lacks it is not told that somebody took it back, which would cover whoever has
    /// withheld it from them.
    pub(super) fn note_erased(&mut self, conversation: &ConversationId, delivery: &Delivery, now: Timestamp) {
        for recipient in delivery.recipients.iter().map(|line| line.fingerprint) {
            let key = SentKey { recipient, conversation: *conversation, message: delivery.id };
            let entry = self.sent.get(&key).filter(|_| self.sent.may_be_sent_again(&key)).cloned();
            if let Some(entry) = entry {
                self.sent.add(SentEntry { resent: GONE, ..entry }, now.seconds(), &mut self.pending);
            }
        }
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
mod tests;
