//! Acknowledgements (design, sections 2 and 4): telling authors that their messages are on our disk, and hearing the same of
//! ours.
//!
//! What is owed is recorded with the message, in `keys/acknowledgements/FINGERPRINT`, and leaves in a note to its author, which
//! takes what has come together within a random delay. It is erased in the transaction that queues the note. There, too, stands
//! in which conversations a peer has acknowledged something: only of them is it expected again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use rand_core::RngCore;

use super::delivery::State;
use super::engine::Engine;
use super::letting_go::Because;
use super::pace;
use super::pending::Pending;
use super::root::{self, Root};
use super::state::{self, StateError};
use crate::clock::Timestamp;
use crate::limits::{
    ACKNOWLEDGE_DELAY_MAX_MS, ACKNOWLEDGE_DELAY_MS, ACKNOWLEDGEMENTS_OWED_MAX, NOTE_MESSAGES_MAX, SENT_LIFETIME_S,
};
use crate::wire::acknowledgements::Acknowledgements;
use crate::wire::control::{Control, Messages};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::sent::{Fate, SentKey};

/// What is between us and all peers.
#[derive(Debug, Default)]
pub struct Acknowledging {
    peers: BTreeMap<Fingerprint, Acknowledgements>,
    dirty: BTreeSet<Fingerprint>,
    /// When those who are owed something get it; drawn anew in each run.
    due: HashMap<Fingerprint, Timestamp>,
    /// What is owed to all of them.
    owed: usize,
    /// When those who acknowledge were heard last, in this run, seconds since 1970.
    heard: HashMap<Fingerprint, u64>,
}

impl Acknowledging {
    /// Reads `keys/acknowledgements/`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(root: &Root) -> Result<Self, StateError> {
        let mut acknowledging = Self::default();
        for (path, name) in state::files(root.disk(), &root.join("keys/acknowledgements"))? {
            let Some(peer) = Fingerprint::from_hex(&name) else { continue };
            let record = Acknowledgements::from_bytes(&state::read(root.disk(), &path)?)
                .map_err(|error| StateError::malformed(&path, error))?;
            acknowledging.owed += record.owed.len();
            acknowledging.peers.insert(peer, record);
        }
        Ok(acknowledging)
    }

    /// Writes the files that changed since this was last done.
    pub fn write_dirty(&mut self, pending: &mut Pending) {
        for peer in std::mem::take(&mut self.dirty) {
            let bytes = self.peers.get(&peer).map_or_else(Vec::new, Acknowledgements::to_bytes);
            let path = root::acknowledgements_file(&peer);
            if bytes.is_empty() {
                self.peers.remove(&peer);
                pending.remove(path);
            } else {
                pending.put(path, bytes);
            }
        }
    }

    /// A message is to be acknowledged. Never at once: a burst would choose the moment, and whoever watches both mailboxes
    /// would see its answer.
    fn owe(&mut self, author: Fingerprint, message: (ConversationId, MessageId), now: Timestamp) {
        let owed = &mut self.peers.entry(author).or_default().owed;
        if self.owed < ACKNOWLEDGEMENTS_OWED_MAX && owed.insert(message, now.seconds()).is_none() {
            self.owed += 1;
            self.dirty.insert(author);
        }
    }

    /// Hands out what is owed to somebody.
    pub(super) fn take_owed(&mut self, author: &Fingerprint) -> BTreeMap<(ConversationId, MessageId), u64> {
        self.due.remove(author);
        let owed = self.peers.get_mut(author).map(|peer| std::mem::take(&mut peer.owed)).unwrap_or_default();
        if !owed.is_empty() {
            self.owed -= owed.len();
            self.dirty.insert(*author);
        }
        owed
    }

    /// Everybody whose time has come, by random delays up to `longest`.
    fn take_due(&mut self, longest: Duration, now: Timestamp, rng: &mut impl RngCore) -> Vec<Fingerprint> {
        let mut found = Vec::new();
        let mut draw = |longest: Duration| {
            let delay = u64::try_from(pace::delay(longest, rng).as_micros()).unwrap_or(u64::MAX);
            Timestamp::from_micros(now.micros().saturating_add(delay))
        };
        let short = Duration::from_millis(ACKNOWLEDGE_DELAY_MS);
        for (peer, record) in self.peers.iter().filter(|(_, peer)| !peer.owed.is_empty()) {
            let due = self.due.entry(*peer).or_insert_with(|| draw(longest));
            // More than one note takes is written anew with each message that comes: a long wait ends, as random as before.
            if record.owed.len() >= NOTE_MESSAGES_MAX && due.millis_since(now) > ACKNOWLEDGE_DELAY_MS {
                *due = draw(short);
            }
            // A time further off than any delay was drawn before the clock jumped back.
            let wait_ms = due.millis_since(now);
            if *due <= now || wait_ms > ACKNOWLEDGE_DELAY_MAX_MS {
                found.push(*peer);
            }
        }
        found
    }

    /// A peer has acknowledged a message of ours.
    fn note_acknowledging(&mut self, peer: Fingerprint, conversation: ConversationId) {
        if self.peers.entry(peer).or_default().acknowledging.insert(conversation) {
            self.dirty.insert(peer);
        }
    }

    /// Not until they do so again.
    pub fn expect_no_more(&mut self, peer: &Fingerprint, conversation: &ConversationId) {
        if let Some(record) = self.peers.get_mut(peer) {
            record.acknowledging.remove(conversation);
            self.dirty.insert(*peer);
        }
    }

    /// Something came from a peer.
    pub fn note_heard(&mut self, peer: Fingerprint, now: Timestamp) {
        if self.peers.get(&peer).is_some_and(|record| !record.acknowledging.is_empty()) {
            self.heard.insert(peer, now.seconds());
        }
    }

    /// Whether something came from a peer in this run, later than that.
    pub fn was_heard_since(&self, peer: &Fingerprint, since_s: u64) -> bool {
        self.heard.get(peer).is_some_and(|heard| *heard > since_s)
    }

    /// Whether a peer has acknowledged a message of ours in a conversation, and may be expected to do so again.
    pub fn is_acknowledging(&self, peer: &Fingerprint, conversation: &ConversationId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.acknowledging.contains(conversation))
    }
}

impl Engine {
    /// A message of somebody is on our disk, or is about to be: its author is to hear of it. Nobody does who takes no part in
    /// a conversation that we have accepted, nor where a person has turned it off.
    pub(super) fn owe_acknowledgement(
        &mut self,
        author: Fingerprint,
        conversation: &ConversationId,
        message: MessageId,
        now: Timestamp,
    ) {
        let is_of_ours = self.conversations.get(conversation).is_some_and(|it| it.accepted && it.has(&author));
        let is_nobody = author == self.people.own_fingerprint() || self.people.is_blocked(&author);
        if is_nobody || !is_of_ours || !self.settings_of(conversation).acknowledge {
            return;
        }
        self.acknowledging.owe(author, (*conversation, message), now);
    }

    /// Once a second: acknowledges what is due. Whoever we have no session with waits for one: there is none because we lost
    /// it, or because it is long unused, and what opens one must be more than a courtesy. A chain that nobody has answered
    /// for too long is another thing: then a note opens a session like any message.
    pub(super) fn acknowledge_due(&mut self, now: Timestamp) {
        if !self.counter.may_seal() {
            return;
        }
        for author in self.acknowledging.take_due(self.policy.acknowledge_delay, now, &mut self.rng) {
            if self.is_full() {
                return;
            }
            if self.sessions.highest(&author).is_some() {
                self.acknowledge(author, now);
            }
        }
    }

    /// Queues the note of all that is owed to somebody, if a person has not changed their mind meanwhile.
    fn acknowledge(&mut self, author: Fingerprint, now: Timestamp) {
        let mut all: BTreeMap<ConversationId, Vec<MessageId>> = BTreeMap::new();
        for ((conversation, message), _) in self.acknowledging.take_owed(&author) {
            all.entry(conversation).or_default().push(message);
        }
        all.retain(|id, _| {
            let is_of_ours = self.conversations.get(id).is_some_and(|it| it.accepted && it.has(&author));
            is_of_ours && !self.people.is_blocked(&author) && self.settings_of(id).acknowledge
        });
        let mut acknowledged: Vec<Messages> =
            all.into_iter().map(|(conversation, ids)| Messages { conversation, ids }).collect();
        while !acknowledged.is_empty() {
            let note = Control { acknowledged: take_ids(&mut acknowledged, NOTE_MESSAGES_MAX), ..Control::default() };
            self.queue_note(author, &note, now);
        }
    }

    /// Forgets what is owed for so long that its author does not know the message any more.
    pub(super) fn forget_owed(&mut self, now: Timestamp) {
        let oldest = now.seconds().saturating_sub(SENT_LIFETIME_S);
        let Acknowledging { peers, dirty, owed: all, .. } = &mut self.acknowledging;
        for (author, peer) in peers {
            let before = peer.owed.len();
            peer.owed.retain(|_, since| *since >= oldest);
            if peer.owed.len() < before {
                *all -= before - peer.owed.len();
                dirty.insert(*author);
            }
        }
    }

    /// Messages of ours are on their recipient's disk. What we did not send them is not heeded.
    pub(super) fn heed_acknowledged(&mut self, recipient: Fingerprint, all: &[Messages], now: Timestamp) {
        let mut known = HashSet::new();
        for Messages { conversation, ids } in all {
            for message in ids {
                let key = SentKey { recipient, conversation: *conversation, message: *message };
                let Some(file) = self.sent.get(&key).map(|entry| entry.file.clone()) else { continue };
                // What is acknowledged again costs nothing.
                if self.sent.decide(&key, Fate::Acknowledged, &mut self.pending) {
                    self.set_state(conversation, &file, &recipient, State::Delivered, now);
                }
                self.acknowledging.note_acknowledging(recipient, *conversation);
                self.large.end(message, &recipient);
                known.insert((*conversation, *message));
            }
        }
        let waiting = self.spool.places_of(&recipient, &known);
        self.let_go(recipient, &waiting, Because::Heard, now);
    }
}

/// Takes ids off the end, so many at most.
fn take_ids(all: &mut Vec<Messages>, most: usize) -> Vec<Messages> {
    let (mut taken, mut room) = (Vec::new(), most);
    while let Some(last) = all.last_mut().filter(|_| room > 0) {
        let ids = last.ids.split_off(last.ids.len().saturating_sub(room));
        room -= ids.len();
        taken.push(Messages { conversation: last.conversation, ids });
        if last.ids.is_empty() {
            all.pop();
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::schedules::Dice;
    use super::*;

    const BOB: Fingerprint = Fingerprint([7; 32]);

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(1_790_000_000_000_000 + micros)
    }

    fn owe(acknowledging: &mut Acknowledging, ids: std::ops::Range<usize>) {
        for id in ids {
            let mut message = [0; 16];
            message[..8].copy_from_slice(&id.to_le_bytes());
            acknowledging.owe(BOB, (ConversationId([1; 16]), MessageId(message)), at(0));
        }
    }

    #[test]
    fn a_burst_does_not_choose_the_moment_and_shortens_a_long_wait_to_a_random_one() {
        let hour = Duration::from_millis(ACKNOWLEDGE_DELAY_MAX_MS);
        let mut waits: Vec<u64> = (0..20)
            .map(|seed| {
                let (mut acknowledging, mut dice) = (Acknowledging::default(), Dice::new(seed));
                owe(&mut acknowledging, 0..1);
                assert!(acknowledging.take_due(hour, at(0), &mut dice).is_empty());
                acknowledging.due.insert(BOB, at(3_600_000_000));
                owe(&mut acknowledging, 1..NOTE_MESSAGES_MAX - 1);
                assert!(acknowledging.take_due(hour, at(0), &mut dice).is_empty());
                assert_eq!(acknowledging.due[&BOB], at(3_600_000_000), "one note takes them");
                owe(&mut acknowledging, NOTE_MESSAGES_MAX..3 * NOTE_MESSAGES_MAX);
                assert!(acknowledging.take_due(hour, at(0), &mut dice).is_empty());
                let due = acknowledging.due[&BOB];
                assert!(acknowledging.take_due(hour, at(1), &mut dice).is_empty());
                assert_eq!(acknowledging.due[&BOB], due, "drawn once");
                assert_eq!(acknowledging.take_due(hour, due, &mut dice), [BOB]);
                due.millis_since(at(0))
            })
            .collect();
        assert!(waits.iter().all(|wait| *wait <= ACKNOWLEDGE_DELAY_MS), "{waits:?}");
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 15, "{waits:?}");
    }

    #[test]
    fn what_is_owed_has_a_bound_and_beyond_it_nothing_is_noted() {
        let mut acknowledging = Acknowledging::default();
        owe(&mut acknowledging, 0..ACKNOWLEDGEMENTS_OWED_MAX + 10);
        assert_eq!(acknowledging.owed, ACKNOWLEDGEMENTS_OWED_MAX);
        assert_eq!(acknowledging.take_owed(&BOB).len(), ACKNOWLEDGEMENTS_OWED_MAX);
        owe(&mut acknowledging, 0..10);
        assert_eq!(acknowledging.owed, 10);
    }
}
