//! From a message to an envelope in the queue of one recipient: sealed at once where there is a session.

use super::delivery::State;
use super::engine::Engine;
use crate::clock::Timestamp;
use crate::envelope::PAYLOAD_BYTES_MAX;
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::{Fingerprint, MessageId};
use crate::wire::payload::{Introduction, Payload};
use crate::wire::profile::SignedProfile;
use crate::wire::spool::{Form, Spooled};

impl Engine {
    /// Seals a message for one recipient, or lets it wait for a session. The first one of the conversation introduces
    /// its participants; where both do not fit one envelope, the introduction goes ahead.
    pub(super) fn queue_message(
        &mut self,
        record: &ConversationRecord,
        recipient: Fingerprint,
        payload: &Payload,
        file: &str,
        now: Timestamp,
    ) -> State {
        if self.is_introduced(&recipient, &record.id) {
            let payload = self.with_news(&recipient, payload);
            return self.queue_payload(recipient, &payload, file, now);
        }
        if let Some(record) = self.conversations.get_mut(&record.id) {
            record.introduced.insert(recipient);
        }
        let introduction = self.introduction(record, payload);
        self.tell_by(&recipient, &introduction.profiles);
        let both = Payload { introduction: Some(introduction), ..payload.clone() };
        if both.to_bytes().len() <= PAYLOAD_BYTES_MAX {
            return self.queue_payload(recipient, &both, file, now);
        }
        let id = MessageId(self.random_16());
        self.queue_payload(recipient, &Payload { id, transcript: None, content: None, ..both }, "", now);
        let payload = self.with_news(&recipient, payload);
        self.queue_payload(recipient, &payload, file, now)
    }

    /// Introduces the participants of a conversation to one of them, ahead of a message that has no room for that.
    pub(super) fn queue_introduction(
        &mut self,
        record: &ConversationRecord,
        recipient: Fingerprint,
        payload: &Payload,
        now: Timestamp,
    ) {
        if let Some(record) = self.conversations.get_mut(&record.id) {
            record.introduced.insert(recipient);
        }
        let introduction = self.introduction(record, payload);
        self.tell_by(&recipient, &introduction.profiles);
        let alone = Payload {
            id: MessageId(self.random_16()),
            introduction: Some(introduction),
            transcript: None,
            part: None,
            content: None,
            ..payload.clone()
        };
        self.queue_payload(recipient, &alone, "", now);
    }

    /// What somebody must know of a conversation: with everybody's newest profile or, where these have grown and do not
    /// fit one envelope, with those that it began with.
    fn introduction(&self, record: &ConversationRecord, payload: &Payload) -> Introduction {
        let introduction = |profiles: Vec<SignedProfile>| Introduction {
            subject: record.subject.clone(),
            created: record.created,
            profiles,
            salt: record.salt,
        };
        let newest =
            |profile: &SignedProfile| self.people.profile(&profile.identity().fingerprint()).unwrap_or(profile).clone();
        let renewed = introduction(record.profiles.iter().map(newest).collect());
        let alone = Payload { introduction: Some(renewed.clone()), content: None, ..payload.clone() };
        let fits = alone.to_bytes().len() <= PAYLOAD_BYTES_MAX;
        if fits { renewed } else { introduction(record.profiles.clone()) }
    }

    pub(super) fn queue_payload(
        &mut self,
        recipient: Fingerprint,
        payload: &Payload,
        file: &str,
        now: Timestamp,
    ) -> State {
        let bytes = payload.to_bytes();
        // What already waits goes first, and all of it behind the check of our counter.
        let sealed = match self.spool.has_waiting(&recipient) || !self.counter.may_seal() {
            true => None,
            false => self
                .sessions
                .seal(&self.account.keys, &recipient, &bytes, now.seconds(), &mut self.rng)
                .expect("content and introduction are bounded so that they fit"),
        };
        let (form, state) = match sealed {
            Some(envelope) => {
                self.note_sent(recipient, payload, file, now);
                (Form::Sealed { envelope, opening: false }, State::Sealed)
            }
            None => (Form::Waiting(bytes), State::Queued),
        };
        // What is sent again leaves for all who lost it at once.
        let (message, conversation) = (payload.id, payload.conversation);
        let is_of_several = self.conversations.get(&conversation).is_some_and(|record| record.profiles.len() > 2);
        let spreads = is_of_several || payload.resent > 0;
        let item = Spooled { message, conversation, file: file.to_owned(), is_part: false, spreads, form };
        self.spool.push(recipient, item, now, &mut self.pending);
        state
    }
}
