//! What an opening leads to that was accepted, and what a prekey's use tells about our server.

use super::alerts;
use super::engine::Engine;
use super::sessions::Opened;
use crate::clock::Timestamp;
use crate::limits::PREKEYS_REFILL_BELOW;
use crate::wire::control::Control;
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::sealing::Tag;
use crate::wire::served::OpeningHash;
use crate::wire::spool::{Form, Spooled};

impl Engine {
    /// Follows up an accepted opening. `tells_why` is set where its payload says itself that its author lost state: a
    /// person hears of that already.
    pub(super) fn opened(&mut self, author: &Fingerprint, opened: &Opened, tells_why: bool, now: Timestamp) {
        // Nothing automatic is done for somebody who is neither contact nor member of a conversation of ours.
        if self.is_known(author) {
            if opened.is_unexplained && !tells_why {
                self.alert_new_session(author, now);
            }
            if let Some(highest) = opened.answer {
                let note = Control { highest: Some(highest), ..Control::default() }.to_bytes();
                let now_s = now.seconds();
                let sealed =
                    self.sessions.seal_in(&self.account.keys, author, opened.rank, &note, now_s, &mut self.rng);
                if let Some(envelope) = sealed.expect("a note of one rank fits any envelope") {
                    self.spool_note(*author, Form::Sealed { envelope, opening: false }, now);
                }
            }
        }
        self.seal_waiting(author, now);
        self.try_unopened = true;
    }

    /// A prekey has served, for good.
    pub(super) fn used_prekey(&mut self, tag: &Tag, opening: OpeningHash) {
        self.used_since_count = self.used_since_count.saturating_add(1);
        let known = self.prekeys_at_server.map_or(0, |count| count.one_time);
        let left = usize::try_from(known.saturating_sub(self.used_since_count)).unwrap_or(usize::MAX);
        let is_doubted = self.prekeys.used(tag, opening);
        self.wants_count |= is_doubted || left < PREKEYS_REFILL_BELOW;
    }

    /// Queues a note for somebody's program, of which no person is told. It spreads: it is the answer to what our server has
    /// pushed to us, and by its moment servers could tell whose.
    pub(super) fn spool_note(&mut self, recipient: Fingerprint, form: Form, now: Timestamp) {
        let conversation = ConversationId::of_participants(&[self.people.own_fingerprint(), recipient]);
        let message = MessageId(self.random_16());
        self.spool.push(
            recipient,
            Spooled { message, conversation, file: String::new(), is_part: false, spreads: true, form },
            now,
            &mut self.pending,
        );
    }

    fn alert_new_session(&mut self, author: &Fingerprint, now: Timestamp) {
        let name = self.people.name(author);
        let text = format!(
            "{name} opened a new session beside the one that stood: their program was set up anew or restored from a \
             backup, or somebody has a copy of their keys.\n\
             Ask them in another way, by a call for example, whether they did that. If they did not, trust nothing that \
             comes in their name."
        );
        alerts::raise(&self.root, &mut self.pending, now, "new-session", &author.short(8), &text);
    }

    pub(super) fn alert_taken_prekey(&mut self, now: Timestamp) {
        let text = "An envelope came for a one-time prekey of ours that had served already: our server handed it out \
                    twice, or somebody copied another envelope. It cannot be opened.\n\
                    If somebody says that you did not get their first message, ask them to send another, and ask whoever \
                    runs the server about this.";
        alerts::raise(&self.root, &mut self.pending, now, "prekey", "", text);
    }

    pub(super) fn alert_needless_last_resort(&mut self, now: Timestamp) {
        let text = "Our server handed out the last-resort prekey although it says that it has others left.\n\
                    A thief of this machine could read more of what came that way. Ask whoever runs the server about it, \
                    or move to another server if it goes on.";
        alerts::raise(&self.root, &mut self.pending, now, "prekey", "", text);
    }
}
