//! Sealing large contents part by part: a few ahead of what a recipient's server has taken, so that whatever else is written
//! to them meanwhile waits behind these few, and so that memory and disk hold no more than these.
//!
//! A part is read from the private copy, sealed, and put into the recipient's queue as any message is, in the transaction that
//! notes it. After a crash the next part follows the last that was recorded.

use zeroize::Zeroizing;

use super::alerts;
use super::delivery::State;
use super::engine::Engine;
use super::letting_go::Because;
use super::progress;
use super::root;
use super::spool::Removed;
use crate::clock::Timestamp;
use crate::disk::open::{OpenError, RegularFile};
use crate::limits::{LARGE_AHEAD, PART_BYTES};
use crate::wire::control::{Control, Messages};
use crate::wire::envelope::Envelope;
use crate::wire::identity::{Fingerprint, MessageId};
use crate::wire::large::{LargeRecipient, LargeRecord};
use crate::wire::payload::{Content, Payload};
use crate::wire::sent::{Fate, SentKey};
use crate::wire::spool::{Form, Spooled};

/// A part that is read and not sealed yet.
pub(super) struct NextPart {
    /// What is to be sealed.
    pub(super) payload: Payload,
    file: String,
}

impl Engine {
    /// Takes a large content for its recipients: who does not know the conversation is introduced to it, and the parts
    /// follow as there is room for them.
    pub(super) fn queue_large(&mut self, large: LargeRecord, now: Timestamp) {
        for recipient in &large.recipients {
            self.introduce(&recipient.fingerprint, &large, now);
        }
        self.large.add(large);
    }

    /// The same for one of them, who gets all of it from its beginning.
    pub(super) fn begin_large_anew(&mut self, message: &MessageId, recipient: LargeRecipient, now: Timestamp) {
        self.large.begin_anew(message, recipient);
        if let Some(large) = self.large.get(message).cloned() {
            self.introduce(&recipient.fingerprint, &large, now);
        }
    }

    fn introduce(&mut self, recipient: &Fingerprint, large: &LargeRecord, now: Timestamp) {
        let record = self.conversations.get(&large.conversation);
        if let Some(record) = record.filter(|_| !self.is_introduced(recipient, &large.conversation)).cloned() {
            self.queue_introduction(&record, *recipient, &payload_of(large, 0), now);
        }
    }

    /// Seals what has room in the recipients' queues. True if more does than one batch takes.
    pub(super) fn seal_parts(&mut self, now: Timestamp) -> bool {
        if !self.counter.may_seal() {
            return false;
        }
        for recipient in self.large.recipients() {
            // What waits for a session was written before.
            while self.spool.parts(&recipient) < LARGE_AHEAD
                && !self.spool.has_waiting(&recipient)
                && self.sessions.is_usable(&recipient, now.seconds())
            {
                if self.is_full() {
                    return true;
                }
                let Some(part) = self.next_part(&recipient, now) else { break };
                let bytes = part.payload.to_bytes();
                let sealed = self.sessions.seal(&self.account.keys, &recipient, &bytes, now.seconds(), &mut self.rng);
                let sealed = sealed.expect("parts are bounded so that they fit");
                let Some(envelope) = sealed else { break };
                self.part_sealed(recipient, &part, envelope, false, now);
            }
        }
        false
    }

    /// The part that somebody gets next. None if there is none, or the disk does not give it now.
    pub(super) fn next_part(&mut self, recipient: &Fingerprint, now: Timestamp) -> Option<NextPart> {
        let (large, LargeRecipient { next, resent, .. }) = self.large.next(recipient)?;
        let (message, file) = (large.message, large.file.clone());
        let mut payload = payload_of(large, next);
        let part = large.part(next);
        match self.read_part(&message, part.offset(), part.length(), part.size) {
            Ok(Some(bytes)) => {
                let file_name = self.large.get(&message)?.file_name.clone();
                payload.content = Some(Content { file_name, bytes });
                payload.resent = resent;
                let payload = self.with_news(recipient, &payload).into_owned();
                Some(NextPart { payload, file })
            }
            Ok(None) => {
                let reason = "the copy that it was sent from is gone or damaged; it is not known what has arrived";
                self.fail_large(&message, reason, now);
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a part of a large content cannot be read now");
                None
            }
        }
    }

    /// A part of the copy that a content is sent from. None if it is not as it was made.
    fn read_part(
        &self,
        message: &MessageId,
        offset: u64,
        length: u64,
        size: u64,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, OpenError> {
        let path = self.root.join(root::large_copy(&message.to_string()));
        let file = match RegularFile::open(self.root.disk(), &path) {
            Err(OpenError::Io(error)) => return Err(OpenError::Io(error)),
            Err(_) => return Ok(None),
            Ok(file) => file,
        };
        if file.stat().map_err(OpenError::Io)?.size != size {
            return Ok(None);
        }
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or(0)]);
        let read = file.read_at(offset, &mut bytes).map_err(OpenError::Io)?;
        Ok((read == bytes.len()).then_some(bytes))
    }

    /// A part is sealed: it joins the queue, and the content is one part further.
    pub(super) fn part_sealed(
        &mut self,
        recipient: Fingerprint,
        part: &NextPart,
        envelope: Envelope,
        opening: bool,
        now: Timestamp,
    ) {
        let NextPart { payload, file } = part;
        let Some(place) = payload.part else { return };
        if place.number == 0 {
            self.set_state(&payload.conversation, file, &recipient, State::Sealed, now);
        }
        // The first, so that it is known; the last, because only then all of it was sealed.
        if place.number == 0 || place.number + 1 == place.count() {
            let transcript = self.large.get(&payload.id).and_then(|large| large.transcript.clone());
            self.note_sent(recipient, &Payload { transcript, ..payload.clone() }, file, now);
        }
        let is_of_several =
            self.conversations.get(&payload.conversation).is_some_and(|record| record.profiles.len() > 2);
        let item = Spooled {
            message: payload.id,
            conversation: payload.conversation,
            file: file.clone(),
            is_part: true,
            // The others leave behind the first, whenever that does.
            spreads: place.number == 0 && (is_of_several || payload.resent > 0),
            form: Form::Sealed { envelope, opening },
        };
        self.spool.push(recipient, item, now, &mut self.pending);
        self.large.sealed(&payload.id, &recipient, now);
    }

    /// A recipient's server has a part.
    pub(super) fn part_accepted(&mut self, recipient: &Fingerprint, part: &Removed, now: Timestamp) {
        let under_way = self.spool.parts_of(recipient, &part.message);
        let Some(large) = self.large.get(&part.message) else { return };
        let (size, parts) = (large.size, large.parts());
        let Some(known) = large.recipient(recipient) else { return };
        if known.next == parts && under_way == 0 {
            self.large.end(&part.message, recipient);
            self.set_state(&part.conversation, &part.file, recipient, State::Accepted, now);
            return;
        }
        let done = accepted_bytes(known.next, under_way, size);
        if self.large.is_news(&part.message, recipient, progress::percent(done, size)) {
            self.set_progress(&part.conversation, &part.file, recipient, (done, size));
        }
    }

    /// A large content cannot be sent to those who do not have all of it. The person who is told so sends it again as another
    /// message: so this one is not sent any more, to nobody who asks for it either, and who has a part of it waits for no other.
    fn fail_large(&mut self, message: &MessageId, reason: &str, now: Timestamp) {
        let Some(large) = self.large.get(message).cloned() else { return };
        let (conversation, parts) = (large.conversation, large.parts());
        // Whoever has all of it sealed needs no copy any more.
        let lacking = large.recipients.iter().copied().filter(|known| known.next < parts);
        for LargeRecipient { fingerprint: recipient, next, .. } in lacking {
            self.note_unsealed_large(recipient, message, now);
            let places = self.spool.places_of(&recipient, &[(conversation, *message)].into());
            self.let_go(recipient, &places, Because::GivenUp, now);
            self.large.end(message, &recipient);
            self.set_state(&conversation, &large.file, &recipient, State::Failed(reason.to_owned()), now);
            self.sent.decide(&SentKey { recipient, conversation, message: *message }, Fate::Refused, &mut self.pending);
            if next > 0 {
                let cancelled = vec![Messages { conversation, ids: vec![*message] }];
                self.queue_note(recipient, &Control { cancelled, ..Control::default() }, now);
            }
        }
        let text = format!("{} was not sent to its end: {reason}.\nSend the file again.", large.file);
        alerts::raise(&self.root, &mut self.pending, now, "undeliverable", "", &text);
    }
}

/// How many bytes of a content a recipient's server has, at least.
pub(super) fn accepted_bytes(sealed: u32, under_way: usize, size: u64) -> u64 {
    let accepted = u64::from(sealed).saturating_sub(u64::try_from(under_way).unwrap_or(u64::MAX));
    (accepted * PART_BYTES).min(size)
}

/// A part without its bytes.
fn payload_of(large: &LargeRecord, number: u32) -> Payload {
    Payload {
        id: large.message,
        conversation: large.conversation,
        participants: large.participants,
        time: large.time,
        incarnation: large.incarnation,
        counter: large.counter,
        introduction: None,
        profile: None,
        resent: 0,
        transcript: large.transcript.clone().filter(|_| number == 0),
        part: Some(large.part(number)),
        content: None,
    }
}

#[cfg(test)]
mod tests;
