//! From parts to a file: each part is written where it belongs as it comes, and once the whole is here and its hash is right, it
//! moves into its conversation. Until then nobody but the daemon sees anything of it.
//!
//! The hash is taken along while the parts come, of what is in the file, as far as that is without a gap: some megabytes in a turn,
//! so that the end of a large content holds nothing up.

use std::cell::Cell;

use super::alerts;
use super::arriving::{Hashed, MessageHash};
use super::engine::Engine;
use super::parts_left::Left;
use super::progress;
use super::received::{message_hash, refused_hash};
use super::requests;
use super::room::{self, Room};
use super::root;
use crate::clock::Timestamp;
use crate::limits::REFUSALS_WAITING_MAX;
use crate::name;
use crate::wire::arriving::ArrivingRecord;
use crate::wire::control::{Control, Missing, Refused, RefusedReason};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::part::Part;
use crate::wire::payload::Payload;

/// A message, by what names it.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) author: Fingerprint,
    pub(super) conversation: ConversationId,
    pub(super) id: MessageId,
}

impl Named {
    fn of(record: &ArrivingRecord) -> Self {
        let message = record.message();
        Self { author: record.author, conversation: message.conversation, id: message.id }
    }

    pub(super) fn hash(&self) -> MessageHash {
        message_hash(&self.author, &self.conversation, &self.id)
    }
}

impl Engine {
    /// Takes a part of a message, whose author may write in its conversation.
    pub(super) fn take_part(&mut self, author: Fingerprint, payload: Payload, now: Timestamp) {
        let Some(part) = payload.part else { return };
        let named = Named { author, conversation: payload.conversation, id: payload.id };
        let hash = named.hash();
        if payload.resent > 0
            && let Some(place) = self.conversations.current_place(&self.root, &payload.conversation)
        {
            self.recall(&payload.conversation, &place);
        }
        if self.received.has_message(&hash) {
            if part.number == 0 && !self.is_another(author, &payload, now) {
                // As whatever comes again: its author may not have heard that it is here, and our state may have been lost since.
                self.enter_first(author, &payload, now);
                self.owe_acknowledgement(author, &payload.conversation, payload.id, now);
            }
            return;
        }
        if self.received.is_done_with(&hash) {
            return;
        }
        let Some(record) = self.arriving.get(&hash) else {
            return self.begin_content(named, payload, part, now);
        };
        match record.is_contradicted_by(&payload) {
            true => self.refuse_damaged(named, "its parts contradict each other", now),
            // As many as may wait at our server do so already.
            false if !record.has(part.number) && self.lacks_space_for(&part) => {
                self.refuse_crowded(named, &payload, part, now);
            }
            false => self.write_part(&hash, payload, part, now),
        }
    }

    fn is_another(&mut self, author: Fingerprint, payload: &Payload, now: Timestamp) -> bool {
        let transcript = payload.transcript.clone().unwrap_or_default();
        payload.shared(author).is_some_and(|shared| self.heed_same_id(&shared, &transcript, now))
    }

    fn begin_content(&mut self, named: Named, payload: Payload, part: Part, now: Timestamp) {
        let limit = self.policy.receive_limit;
        if part.size > limit {
            let (size, limit) = (progress::size(part.size), progress::size(limit));
            let text = format!(
                "receive_limit allows {limit}.\n\
                 If you want it, raise receive_limit in chatterbox.toml, start chatterboxd anew, and ask them to send it again."
            );
            return self.refuse_large(named, &payload, &size, &text, now);
        }
        let is_contact = |author: &Fingerprint| self.people.is_contact(author);
        if !self.arriving.has_room(&named.author, part.size, limit, is_contact) || self.lacks_space_for(&part) {
            return self.refuse_crowded(named, &payload, part, now);
        }
        let Some(record) = ArrivingRecord::begin(named.author, &payload, now.seconds()) else { return };
        let hash = named.hash();
        self.arriving.begin(hash, record);
        self.write_part(&hash, payload, part, now);
    }

    fn refuse_crowded(&mut self, named: Named, payload: &Payload, part: Part, now: Timestamp) {
        let text = "more is on its way from them than is taken at a time, or than the disk has room for.\n\
                    Make room if the disk is nearly full, and ask them to send it again when the rest is here.";
        self.refuse_large(named, payload, &progress::size(part.size), text, now);
    }

    fn lacks_space_for(&self, part: &Part) -> bool {
        !room::has_disk_space(&self.root, &self.pending, part.length())
    }

    fn write_part(&mut self, hash: &MessageHash, mut payload: Payload, part: Part, now: Timestamp) {
        if !self.arriving.add(hash, &payload, now.seconds()) {
            return;
        }
        if let Some(content) = payload.content.take() {
            self.pending.write_part(root::arriving_content(hash), part.offset(), content.bytes);
        }
    }

    /// Goes on with the hashes of what has come. True if there is more to do.
    pub fn work_arriving(&mut self, now: Timestamp) -> bool {
        let Some(hash) = self.arriving.next() else { return false };
        match self.arriving.go_on(&self.root, &hash) {
            Hashed::InPart => {}
            Hashed::Whole(sha256) => self.whole(&hash, sha256, now),
            Hashed::Lost => {
                if let Some(named) = self.arriving.get(&hash).map(Named::of) {
                    self.refuse_damaged(named, "what had come of it is not on the disk any more", now);
                }
            }
        }
        self.has_arrived()
    }

    /// Whether [`Engine::work_arriving`] has something to do.
    pub fn has_arrived(&self) -> bool {
        self.arriving.next().is_some()
    }

    /// All of it is in its file, on the disk at the latest before the move is recorded.
    fn whole(&mut self, hash: &MessageHash, sha256: [u8; 32], now: Timestamp) {
        let Some(record) = self.arriving.get(hash) else { return };
        let named = Named::of(record);
        if record.sha256() != sha256 {
            return self.refuse_damaged(named, "all of its parts came, and they are not what it says", now);
        }
        let message = record.message().clone();
        let waits = self.conversations.get(&named.conversation).is_some_and(|record| !record.accepted);
        if waits && requests::place(&self.root, &self.pending, &self.people.name(&named.author)).is_none() {
            // Until `requests/` takes something again.
            return self.arriving.wait(hash);
        }
        self.arriving.remove(hash);
        self.parts_left.note_room();
        let content = root::arriving_content(hash);
        // Its author may have been blocked meanwhile, or its conversation rejected and forgotten.
        let is_wanted = !self.people.is_blocked(&named.author) && self.conversations.get(&named.conversation).is_some();
        if !is_wanted || !self.stand(named.author, message, Some(content), now) {
            self.discard_content(hash);
        }
    }

    fn refuse_damaged(&mut self, named: Named, problem: &str, now: Timestamp) {
        self.refuse(named, RefusedReason::Damaged, now);
        let name = self.people.name(&named.author);
        let text = format!(
            "A large message from {name} was discarded: {problem}.\n\
             Ask them to send it again; if that happens again, their program may be faulty or hostile."
        );
        alerts::raise(&self.root, &mut self.pending, now, "discarded", &named.author.short(8), &text);
    }

    fn refuse_large(&mut self, named: Named, payload: &Payload, size: &str, text: &str, now: Timestamp) {
        self.enter_first(named.author, payload, now);
        self.refuse(named, RefusedReason::TooLarge, now);
        let name = self.people.name(&named.author);
        let file_name = payload.content.as_ref().map_or(&[][..], |content| &content.file_name);
        let file = file_text(file_name);
        let text = format!("{name} sent {file} of {size}, which was refused: {text}");
        alerts::raise(&self.root, &mut self.pending, now, "refused", &named.author.short(8), &text);
    }

    /// Lets go of a message that is not taken, and of its parts to come, and tells its author.
    fn refuse(&mut self, named: Named, reason: RefusedReason, now: Timestamp) {
        self.drop_content(named, now);
        let Named { author, conversation, id } = named;
        // Nothing automatic is done for a stranger; and whose server takes nothing is not told for ever.
        let is_somebody = self.people.is_contact(&author) || self.conversations.has_accepted(&author);
        if is_somebody && self.spool.len_of(&author) < REFUSALS_WAITING_MAX {
            let refused = vec![Refused { conversation, id, reason }];
            self.queue_note(author, &Control { refused, ..Control::default() }, now);
        }
    }

    /// Where it is, or has, the first part of a message: what that says of those before it is known, and the message itself is not
    /// asked for again.
    fn enter_first(&mut self, author: Fingerprint, payload: &Payload, now: Timestamp) {
        if let (Some(transcript), Some(shared)) = (&payload.transcript, payload.shared(author)) {
            self.enter_transcript(&shared, transcript, now);
        }
    }

    /// Erases what has come of a message, and remembers it, so that its parts to come vanish.
    pub(super) fn drop_content(&mut self, named: Named, now: Timestamp) {
        let hash = named.hash();
        if let Some(record) = self.erase_content(&hash) {
            self.enter_first(named.author, record.message(), now);
        }
        self.pass_over_parts(&hash, now);
    }

    /// The same of what its author has taken back, where others may have all of it: what has come of it is missing from then on, or
    /// withdrawn, as if nothing had come.
    pub(super) fn withdraw_content(&mut self, named: Named, now: Timestamp) {
        let hash = named.hash();
        if let Some(record) = self.erase_content(&hash) {
            let Payload { conversation, incarnation, counter, .. } = *record.message();
            self.heed_withdrawn(named.author, &[Missing { conversation, incarnation, from: counter, to: counter }]);
        }
        self.pass_over_parts(&hash, now);
    }

    /// Remembers a message that is not wanted, so that its parts to come vanish.
    pub(super) fn pass_over_parts(&mut self, hash: &MessageHash, now: Timestamp) {
        if !self.received.is_done_with(hash) {
            self.received.add(refused_hash(hash), now.seconds(), &mut self.pending);
        }
    }

    fn erase_content(&mut self, hash: &MessageHash) -> Option<ArrivingRecord> {
        let record = self.arriving.remove(hash)?;
        self.discard_content(hash);
        self.parts_left.note_room();
        Some(record)
    }

    fn discard_content(&mut self, hash: &MessageHash) {
        self.pending.forget_parts(&root::arriving_content(hash));
        self.arriving.discard(*hash);
    }

    /// Erases what has not grown for weeks, and what those have sent who are blocked now.
    pub(super) fn give_up_arriving(&mut self, now: Timestamp) {
        for hash in self.arriving.of_authors(|author| self.people.is_blocked(author)) {
            let Some(record) = self.erase_content(&hash) else { continue };
            // Without its first part its place is not known: it comes again if they are heard again.
            if record.has(0) {
                self.enter_unseen(&record.author, record.message(), now);
            }
        }
        for hash in self.arriving.stale(now.seconds()) {
            let Some(record) = self.erase_content(&hash) else { continue };
            let (name, file) = (self.people.name(&record.author), file_text(record.file_name()));
            let size = progress::size(record.size());
            let text = format!(
                "The rest of {file} of {size} from {name} has not come for two weeks, and what had come was erased.\n\
                 If you want it, ask them to send it again."
            );
            alerts::raise(&self.root, &mut self.pending, now, "unfinished", &record.author.short(8), &text);
        }
    }

    /// Once a second: whether what was left at our server has room here now.
    pub(super) fn look_for_room(&mut self, now: Timestamp) {
        self.arriving.tick();
        if self.parts_left.wait_for_disk() && room::has_disk_space_again(&self.root, &self.pending) {
            self.parts_left.note_room();
        }
        // Only if one of them is taken then: all that stays there is pushed again with it.
        if self.parts_left.take_due(now) && !self.parts_left.iter().all(|left| self.still_waits(left)) {
            self.parts_left.push_again(now);
            self.presence.reconnects();
            self.reconnect = true;
            self.try_unopened = true;
        }
    }

    /// Whether a part that was left at our server would be left again.
    pub(super) fn still_waits(&self, left: &Left) -> bool {
        let room = Room {
            root: &self.root,
            pending: &self.pending,
            people: &self.people,
            conversations: &self.conversations,
            received: &self.received,
            arriving: &self.arriving,
            left: &self.parts_left,
            receive_limit: self.policy.receive_limit,
            opens: false,
            leaves: Cell::new(None),
        };
        room.still_waits(left)
    }
}

fn file_text(file_name: &[u8]) -> String {
    match file_name {
        [] => "a file".to_owned(),
        file_name => name::escape(file_name),
    }
}

#[cfg(test)]
pub(super) mod tests;
