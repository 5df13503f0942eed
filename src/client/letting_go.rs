//! Messages that leave the queue of their recipient without their server's word: the recipient has acknowledged or refused
//! them, or they were given up. Couriers let go of them, too; an answer that comes later means nothing any more.

use std::collections::{BTreeMap, BTreeSet};

use super::engine::Engine;
use super::event::{Errand, Order};
use super::spool::Removed;
use crate::clock::Timestamp;
use crate::envelope;
use crate::ratchet;
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::large::LargeRecord;
use crate::wire::payload::{Payload, Plaintext};
use crate::wire::spool::{Form, Spooled};

/// What couriers must hear of once it is recorded.
#[derive(Debug, Default)]
pub struct LettingGo {
    places: BTreeMap<Fingerprint, BTreeSet<u64>>,
}

/// Why messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// Their recipient has spoken of them.
    Heard,
    /// They are not tried any longer.
    GivenUp,
}

/// An introduction that is still needed.
struct Kept {
    conversation: ConversationId,
    /// Without the message that it came with, if it did with one.
    alone: Option<Spooled>,
}

impl Engine {
    /// Takes messages out of a recipient's queue, and hands out what they were.
    ///
    /// An envelope that opens a session stays, as nobody's, while others wait behind it that nothing else opens; also where the
    /// message in it has come by another envelope. Where it is given up with all that is behind it the session goes, too: the
    /// next message opens another. What they would have told besides is told anew.
    pub(super) fn let_go(
        &mut self,
        recipient: Fingerprint,
        places: &[u64],
        because: Because,
        now: Timestamp,
    ) -> Vec<Removed> {
        let mut gone = Vec::new();
        let mut untold = BTreeSet::new();
        for place in places {
            if let Some(introduction) = self.introduction_in(&recipient, *place, places) {
                // One that is nothing else stays.
                if let Some(alone) = introduction.alone {
                    gone.extend(self.spool.replace(&recipient, *place, alone, &mut self.pending));
                }
                untold.remove(&introduction.conversation);
                continue;
            }
            if self.spool.is_opening(&recipient, *place) {
                // Where the disk does not give it now it is looked at again.
                let Some(opening) = self.spool.whole(&self.root, &recipient, *place) else { continue };
                if because == Because::Heard || self.spool.has_sealed_behind(&recipient, *place, places) {
                    gone.extend(self.spool.disown(&recipient, *place, opening, &mut self.pending));
                    continue;
                }
                if let Form::Sealed { envelope, .. } = &opening.form {
                    let hash = ratchet::opening_hash(&envelope::tag(envelope), &envelope::ephemeral(envelope));
                    // Whoever refused it may have kept it all the same.
                    self.sessions.abandon(&recipient, &hash, !self.spool.withdraw(&recipient, *place));
                }
            }
            let removed = self.spool.remove(&recipient, *place, &mut self.pending);
            untold.extend(
                removed.iter().filter(|it| because == Because::GivenUp || it.was_waiting).map(|it| it.conversation),
            );
            gone.extend(removed);
            self.letting_go.places.entry(recipient).or_default().insert(*place);
        }
        if !untold.is_empty() {
            self.known.forget_told(&recipient);
            untold.iter().for_each(|conversation| self.introduce_anew(conversation, recipient, now));
        }
        let wants_prekey = self.spool.has_waiting(&recipient)
            || self.large.waits_for(&recipient)
            || self.sessions.is_outranked(&recipient, now.seconds());
        if !wants_prekey && self.asked.remove(&recipient).is_some() {
            self.letting_go.places.entry(recipient).or_default();
        }
        gone
    }

    /// What a waiting message says of its conversation, where more of that is in the queue behind it: without it a stranger's
    /// program would drop the rest.
    fn introduction_in(&mut self, recipient: &Fingerprint, place: u64, places: &[u64]) -> Option<Kept> {
        if !self.spool.is_waiting(recipient, place) {
            return None;
        }
        let whole = self.spool.whole(&self.root, recipient, place)?;
        let Form::Waiting(bytes) = &whole.form else { return None };
        let Ok(Plaintext::Message(payload)) = Plaintext::from_bytes(bytes) else { return None };
        let conversation = payload.conversation;
        if payload.introduction.is_none() || !self.is_followed(recipient, &conversation, places) {
            return None;
        }
        let is_alone = payload.content.is_none();
        let payload = Payload {
            id: MessageId(self.random_16()),
            transcript: None,
            part: None,
            content: None,
            resent: 0,
            ..payload
        };
        let (message, form) = (payload.id, Form::Waiting(payload.to_bytes()));
        let alone = (!is_alone).then_some(Spooled { message, file: String::new(), is_part: false, form, ..whole });
        Some(Kept { conversation, alone })
    }

    fn is_followed(&self, recipient: &Fingerprint, conversation: &ConversationId, places: &[u64]) -> bool {
        let of_it = |large: &LargeRecord| large.conversation == *conversation && large.recipient(recipient).is_some();
        self.spool.has_more_of(recipient, conversation, places) || self.large.iter().any(of_it)
    }

    /// What has left may have been what introduces a conversation: the next message does it again or, where others are on
    /// their way, a message of its own.
    fn introduce_anew(&mut self, id: &ConversationId, recipient: Fingerprint, now: Timestamp) {
        let Some(record) = self.conversations.get(id).filter(|record| record.introduced.contains(&recipient)) else {
            return;
        };
        // One such message is enough, however much is given up before it.
        if self.spool.holds(&recipient, id, "") {
            return;
        }
        let payload = Payload {
            id: MessageId([0; 16]),
            conversation: *id,
            participants: record.participants_hash(),
            time: now,
            incarnation: record.incarnation,
            counter: record.counter.max(1),
            introduction: None,
            profile: None,
            resent: 0,
            transcript: None,
            part: None,
            content: None,
        };
        let record = record.clone();
        match self.is_followed(&recipient, id, &[]) {
            true => self.queue_introduction(&record, recipient, &payload, now),
            false => {
                if let Some(record) = self.conversations.get_mut(id) {
                    record.introduced.remove(&recipient);
                }
            }
        }
    }

    /// What couriers are to let go of.
    pub(super) fn released(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        for (recipient, places) in std::mem::take(&mut self.letting_go.places) {
            let Some(profile) = self.people.profile(&recipient).cloned() else { continue };
            let wants_prekey = self.asked.contains_key(&recipient);
            let errand = Errand::LetGo { places, wants_prekey };
            orders.push(Order { recipient: profile, errand, spreads: false });
        }
        orders
    }
}
