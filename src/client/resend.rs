//! Sealing messages anew for somebody who lost them: read again from where they stand, under their old ids (design,
//! section 5, "Recovery").

use std::path::Path;

use zeroize::Zeroizing;

use super::copying::Copied;
use super::delivery::State;
use super::engine::Engine;
use super::metadata::{self, Metadata};
use super::room;
use crate::clock::Timestamp;
use crate::crypto::hash::sha256;
use crate::disk::open::{self, OpenError, RegularFile};
use crate::limits::{
    CONTENT_BYTES_MAX, LARGE_AGAIN_MAX, LARGE_CONTENT_BYTES_MAX, METADATA_FILE_BYTES_MAX, RESEND_MAX, RESEND_PEERS_MAX,
    RESENT_TIMES_MAX,
};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::large::{LargeRecipient, LargeRecord};
use crate::wire::payload::{Content, Payload};
use crate::wire::sent::{GONE, SentEntry, TAKEN_BACK};

/// What became of a message that was sent.
enum Kept {
    /// It stands where it was put.
    Whole(Zeroizing<Vec<u8>>),
    /// A person deleted or changed it.
    TakenBack,
    /// It cannot be told now.
    Unknown,
    /// It may stand where we cannot read it, until a person does something about it. Whoever lacks it asks again.
    Unreadable,
}

impl Engine {
    /// A portion of what others asked for again.
    pub(super) fn resend_next(&mut self, now: Timestamp) {
        let mut room = RESEND_MAX;
        for (place, resend) in self.recovery.open_resends().into_iter().take(RESEND_PEERS_MAX) {
            let found = self.sent.asked_for(&resend.peer, resend.since, resend.from, resend.until);
            // Of each: whoever's large contents wait for room, and are looked at in vain, holds up nobody else.
            let (mut is_done, mut tries) = (true, 2 * RESEND_MAX);
            for entry in found {
                if room == 0 || self.is_full() {
                    return;
                }
                if tries == 0 {
                    is_done = false;
                    break;
                }
                tries -= 1;
                // One that cannot be read now holds up no other, and is tried again with the next portion.
                match self.resend(entry, now) {
                    true => room -= 1,
                    false => is_done = false,
                }
            }
            if is_done {
                self.recovery.resend_is_done(place);
            }
        }
    }

    /// Queues one message again, or marks it as taken back. False if that cannot be told now.
    pub(super) fn resend(&mut self, entry: SentEntry, now: Timestamp) -> bool {
        let record = self.conversations.get(&entry.conversation).cloned();
        let record = record.filter(|record| record.accepted && record.has(&entry.recipient));
        if record.is_some()
            && let Some(is_queued) = self.resend_large(&entry, now)
        {
            return is_queued;
        }
        let kept = record.map_or((None, Kept::TakenBack), |record| (Some(record), self.sent_content(&entry)));
        let (record, bytes) = match kept {
            (Some(record), Kept::Whole(bytes)) => (record, bytes),
            (_, Kept::Unknown) => return false,
            (_, Kept::Unreadable) => return true,
            _ => {
                self.note_taken_back(entry, now);
                return true;
            }
        };
        let entry = SentEntry { resent: entry.resent + 1, ..entry };
        let payload = Payload {
            id: entry.message,
            conversation: entry.conversation,
            participants: record.participants_hash(),
            time: entry.time,
            incarnation: entry.incarnation,
            counter: entry.counter,
            introduction: None,
            profile: None,
            resent: entry.resent,
            transcript: Some((*entry.transcript).clone()),
            part: None,
            content: Some(Content { file_name: entry.file_name.clone(), bytes }),
        };
        match self.queue_message(&record, entry.recipient, &payload, &entry.file, now) {
            State::Sealed => {
                self.set_state(&entry.conversation, &entry.file, &entry.recipient, State::Sealed, now);
            }
            // It is remembered again when it is sealed; until then it must not be found once more.
            _ => self.sent.add(entry, now.seconds(), &mut self.pending),
        }
        true
    }

    /// The content of a message of ours, wherever its conversation's directory stands now.
    fn sent_content(&mut self, entry: &SentEntry) -> Kept {
        let Some(place) = self.conversations.current_place(&self.root, &entry.conversation) else {
            return if self.is_deleted(&entry.conversation) { Kept::TakenBack } else { Kept::Unreadable };
        };
        let path = place.join(&entry.file);
        if self.pending.is_reserved(&path) {
            return Kept::Unknown;
        }
        let limit = u64::try_from(CONTENT_BYTES_MAX).unwrap_or(u64::MAX);
        match open::read_regular(self.root.disk(), &self.root.join(path), limit) {
            Ok(bytes) if sha256(&[&bytes]) == entry.sha256 => Kept::Whole(bytes),
            Err(OpenError::Io(_)) => Kept::Unknown,
            Err(OpenError::Unreadable) => Kept::Unreadable,
            _ => Kept::TakenBack,
        }
    }

    /// Whether a conversation's directory is gone: not only read-only, or where we cannot look.
    pub(super) fn is_deleted(&self, id: &ConversationId) -> bool {
        let place = self.root.join("conversations");
        let Ok(entries) = self.root.disk().entries(&place) else { return false };
        let read = |path: &Path| open::read_regular(self.root.disk(), path, METADATA_FILE_BYTES_MAX);
        let is_another = |directory: &Path| match read(&directory.join(metadata::FILE)) {
            Ok(bytes) => !std::str::from_utf8(&bytes).is_ok_and(|text| Metadata::id_of(text) == Some(*id)),
            Err(error) => !matches!(error, OpenError::Io(_) | OpenError::Unreadable),
        };
        entries.into_iter().all(|entry| is_another(&place.join(entry.name)))
    }

    /// A message is gone or changed: it is not sealed anew any more, whatever a person does with it later, so that whoever is told
    /// so is told the truth. That a person did it is not known where our own state was lost, or where it may have been erased for
    /// its age.
    fn note_taken_back(&mut self, entry: SentEntry, now: Timestamp) {
        let settings = self.settings_of(&entry.conversation);
        let may_be_erased = !settings.is_known || settings.expire.is_some_and(|age| entry.time.after(age) <= now);
        let resent = if may_be_erased || self.recovery.has_lost() { GONE } else { TAKEN_BACK };
        self.sent.add(SentEntry { resent, ..entry }, now.seconds(), &mut self.pending);
    }

    /// The same for a content that goes in parts: it is copied once more from where it stands, unless it is still on its way.
    /// None if it is not that large.
    fn resend_large(&mut self, entry: &SentEntry, now: Timestamp) -> Option<bool> {
        if self.large.has(&entry.message) {
            self.begin_parts_of(entry, now);
            return Some(true);
        }
        let path = self.conversations.current_place(&self.root, &entry.conversation)?.join(&entry.file);
        let file = RegularFile::open(self.root.disk(), &self.root.join(path)).ok()?;
        let size = file.stat().ok()?.size;
        if size <= CONTENT_BYTES_MAX as u64 || size > LARGE_CONTENT_BYTES_MAX {
            return None;
        }
        // Somebody may ask for all that was ever sent to them. What was not copied yet waits where it stands.
        let has_room = !self.large.is_full()
            && self.large.count_for(&entry.recipient) < LARGE_AGAIN_MAX
            && room::has_disk_space(&self.root, &self.pending, size);
        if has_room {
            self.begin_copy_again(entry, file);
        }
        // The next portion finds what became of it.
        Some(false)
    }

    /// What was copied to be sent again is whole; whether it is what was sent, its hash says.
    pub(super) fn resend_copy(&mut self, entry: &SentEntry, copied: Copied, now: Timestamp) {
        // It may have been taken back while it was copied.
        if !self.sent.may_be_sent_again(&entry.key()) {
            return;
        }
        let record = self.conversations.get(&entry.conversation).filter(|record| record.has(&entry.recipient));
        let Some(record) = record.filter(|_| copied.sha256 == entry.sha256) else {
            return self.note_taken_back(entry.clone(), now);
        };
        let large = LargeRecord {
            message: entry.message,
            conversation: entry.conversation,
            participants: record.participants_hash(),
            file: entry.file.clone(),
            file_name: entry.file_name.clone(),
            time: entry.time,
            incarnation: entry.incarnation,
            counter: entry.counter,
            transcript: Some((*entry.transcript).clone()),
            size: copied.size,
            sha256: copied.sha256,
            recipients: Vec::new(),
        };
        self.large.add(large);
        self.begin_parts_of(entry, now);
    }

    /// A recipient gets all parts again, unless they have begun to since they asked.
    fn begin_parts_of(&mut self, entry: &SentEntry, now: Timestamp) {
        let known = self.large.get(&entry.message).and_then(|large| large.recipient(&entry.recipient));
        let has_begun = known.is_some_and(|known| known.resent > entry.resent);
        let entry = SentEntry { resent: entry.resent + 1, ..entry.clone() };
        if !has_begun {
            let recipient = LargeRecipient { resent: entry.resent, ..LargeRecipient::new(entry.recipient, now) };
            self.begin_large_anew(&entry.message, recipient, now);
        }
        // Until a part is sealed it must not be found once more.
        self.sent.add(entry, now.seconds(), &mut self.pending);
    }

    /// Somebody lost state: what was on its way to them begins anew. Not all of it was sealed when they lost it, so that by
    /// its time alone it might not be found.
    pub(super) fn begin_parts_anew(&mut self, peer: &Fingerprint, now: Timestamp) {
        let begun = |large: &LargeRecord| {
            let known = large.recipient(peer).filter(|known| known.next > 0 && known.resent < RESENT_TIMES_MAX)?;
            Some((large.message, LargeRecipient { resent: known.resent + 1, ..LargeRecipient::new(*peer, now) }))
        };
        let begun: Vec<(MessageId, LargeRecipient)> = self.large.iter().filter_map(begun).collect();
        begun.into_iter().for_each(|(message, recipient)| self.begin_large_anew(&message, recipient, now));
    }
}
