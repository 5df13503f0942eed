//! Whether there is room for what an envelope holds, asked before its key is used up: what finds none stays at our server, to be
//! pushed again.

use std::cell::Cell;

use super::arriving::{Arriving, MessageHash};
use super::conversation::Conversations;
use super::judge::{Judged, Verdict};
use super::parts_left::{Left, PartsLeft, Why};
use super::pending::Pending;
use super::people::People;
use super::received::{Received, message_hash};
use super::requests;
use super::root::Root;
use super::sessions::NotOpened;
use crate::limits::{
    ARRIVING_STRANGERS_MAX, DISK_RESERVE_BYTES, DISK_RESERVE_PERCENT, PART_BYTES, STRANGER_CONTENT_BYTES_MAX,
};
use crate::wire::identity::{ConversationId, Fingerprint};
use crate::wire::part::Part;
use crate::wire::payload::Payload;

/// Said of a part that is left at our server.
pub const LEFT: &str = "there is no room for another part";

const STRANGERS_LARGE: &str = "it is larger than what a stranger may send";

/// What decides about room.
pub(super) struct Room<'a> {
    pub(super) root: &'a Root,
    pub(super) pending: &'a Pending,
    pub(super) people: &'a People,
    pub(super) conversations: &'a Conversations,
    pub(super) received: &'a Received,
    pub(super) arriving: &'a Arriving,
    pub(super) left: &'a PartsLeft,
    pub(super) receive_limit: u64,
    /// Whether the envelope opens a session.
    pub(super) opens: bool,
    /// The part that is left, once that was decided.
    pub(super) leaves: Cell<Option<Left>>,
}

impl Room<'_> {
    /// Whether a stranger's request, which is or will be the directory `name`, takes another message. A content in parts
    /// counts as the messages that it would fill.
    pub(super) fn in_request(&self, author: &Fingerprint, name: &str, payload: &Payload) -> bool {
        let room = requests::room(self.root, self.pending, self.conversations, name);
        let room = room.saturating_sub(self.arriving.parts_of(author));
        match payload.part {
            None => room > 0,
            // Decided by `check`.
            Some(part) if part.size > STRANGER_CONTENT_BYTES_MAX => true,
            Some(part) => {
                let parts = usize::try_from(part.count()).unwrap_or(usize::MAX);
                self.is_known(&hash_of(author, payload)) || (parts <= room && self.has_room_for_stranger())
            }
        }
    }

    /// What was judged, unless there is no room for it.
    pub(super) fn check(&self, author: &Fingerprint, judged: Result<Judged, NotOpened>) -> Result<Judged, NotOpened> {
        let judged = match judged {
            Err(NotOpened::Early(conversation)) if self.left.has_room(author) => {
                return self.leave(Left { author: *author, conversation, why: Why::Early, part: None });
            }
            Err(NotOpened::Early(_)) => {
                let verdict = Verdict::Discarded("its conversation was not introduced");
                return Ok(Judged { author: *author, verdict });
            }
            judged => judged?,
        };
        let (Verdict::Message(payload) | Verdict::Opens { payload, .. }) = &judged.verdict else { return Ok(judged) };
        if matches!(judged.verdict, Verdict::Message(_)) && !self.has_place(author, &payload.conversation) {
            return Err(NotOpened::NotNow(requests::NO_ROOM));
        }
        let Some(part) = payload.part else { return Ok(judged) };
        let is_stranger = self.is_stranger(author, &payload.conversation);
        if is_stranger && part.size > STRANGER_CONTENT_BYTES_MAX {
            // As whatever a stranger sends and must not.
            return match self.opens {
                true => Err(NotOpened::NotNow(STRANGERS_LARGE)),
                false => Ok(Judged { author: *author, verdict: Verdict::Ignored }),
            };
        }
        let message = hash_of(author, payload);
        match self.why_not(author, &message, part) {
            None => Ok(judged),
            Some(_) if is_stranger => Err(NotOpened::NotNow(requests::NO_ROOM)),
            Some(why) if self.left.has_room(author) => {
                let conversation = payload.conversation;
                self.leave(Left { author: *author, conversation, why, part: Some((message, part)) })
            }
            // It is refused.
            Some(_) => Ok(judged),
        }
    }

    /// Whether what somebody writes in a conversation that we know could appear. Where that waits for a decision, a person may have
    /// made something of `requests/` that takes nothing: then it stays at our server, whoever its author is.
    fn has_place(&self, author: &Fingerprint, conversation: &ConversationId) -> bool {
        let waits = self.conversations.get(conversation).is_some_and(|record| !record.accepted);
        !waits || requests::place(self.root, self.pending, &self.people.name(author)).is_some()
    }

    /// Whether a part that was left would be left again, by what is known of it. If not, it is to be opened.
    pub(super) fn still_waits(&self, left: &Left) -> bool {
        if self.people.is_blocked(&left.author) {
            return false;
        }
        match &left.part {
            None => self.people.is_contact(&left.author) && self.conversations.get(&left.conversation).is_none(),
            Some((message, part)) => {
                !self.is_stranger(&left.author, &left.conversation)
                    && self.why_not(&left.author, message, *part).is_some()
            }
        }
    }

    /// Also a member of another conversation of ours: this one waits for a decision.
    fn is_stranger(&self, author: &Fingerprint, conversation: &ConversationId) -> bool {
        let is_ours = self.conversations.get(conversation).is_some_and(|record| record.accepted);
        !self.people.is_contact(author) && !is_ours
    }

    /// Why there is no room for a part of this message, if there is none.
    fn why_not(&self, author: &Fingerprint, hash: &MessageHash, part: Part) -> Option<Why> {
        if self.received.is_done_with(hash) || self.arriving.get(hash).is_some_and(|record| record.has(part.number)) {
            return None;
        }
        let is_begun = self.arriving.get(hash).is_some();
        // What is too large is refused, for which there is always room.
        if !is_begun && part.size > self.receive_limit {
            return None;
        }
        if !is_begun && !self.has_room_for(author, part) {
            return Some(Why::Contents);
        }
        (!has_disk_space(self.root, self.pending, part.length())).then_some(Why::Disk)
    }

    fn has_room_for(&self, author: &Fingerprint, part: Part) -> bool {
        self.arriving.has_room(author, part.size, self.receive_limit, |author| self.people.is_contact(author))
    }

    fn leave(&self, left: Left) -> Result<Judged, NotOpened> {
        self.leaves.set(Some(left));
        Err(NotOpened::NotNow(LEFT))
    }

    /// Whether this is somebody we hold a card of, or who takes part in a conversation of ours.
    pub(super) fn is_somebody(&self, author: &Fingerprint) -> bool {
        self.people.is_contact(author) || self.conversations.has_accepted(author)
    }

    fn is_known(&self, hash: &MessageHash) -> bool {
        self.arriving.get(hash).is_some() || self.received.is_done_with(hash)
    }

    /// Contents of strangers leave room for those of others.
    fn has_room_for_stranger(&self) -> bool {
        self.arriving.authors().filter(|author| !self.is_somebody(author)).count() < ARRIVING_STRANGERS_MAX
    }
}

fn hash_of(author: &Fingerprint, payload: &Payload) -> MessageHash {
    message_hash(author, &payload.conversation, &payload.id)
}

/// Whether the disk has space for so many bytes beside those that are about to be written, without what is kept free.
pub(super) fn has_disk_space(root: &Root, pending: &Pending, bytes: u64) -> bool {
    // A disk that does not tell says so when it is written to.
    let Ok(space) = root.disk().space(root.path()) else { return true };
    let reserve = DISK_RESERVE_BYTES.min(space.total / 100 * DISK_RESERVE_PERCENT);
    let written = u64::try_from(pending.part_bytes()).unwrap_or(u64::MAX);
    space.free >= reserve.saturating_add(written).saturating_add(bytes)
}

/// Whether it has space for another batch of parts.
pub(super) fn has_disk_space_again(root: &Root, pending: &Pending) -> bool {
    has_disk_space(root, pending, 64 * PART_BYTES)
}
