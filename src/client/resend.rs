//! Sealing messages anew for somebody who lost them: read again from where they stand, under their old ids (design,
//! section 5, "Recovery").

use zeroize::Zeroizing;

use super::delivery::State;
use super::engine::Engine;
use crate::clock::Timestamp;
use crate::crypto::hash::sha256;
use crate::disk::open::{self, OpenError};
use crate::limits::{CONTENT_BYTES_MAX, RESEND_MAX, RESEND_PEERS_MAX, RESENT_TIMES_MAX};
use crate::wire::payload::{Content, Payload};
use crate::wire::sent::SentEntry;

/// What became of a message that was sent.
enum Kept {
    /// It stands where it was put.
    Whole(Zeroizing<Vec<u8>>),
    /// A person deleted or changed it.
    TakenBack,
    /// It cannot be told now.
    Unknown,
}

impl Engine {
    /// A portion of what others asked for again.
    pub(super) fn resend_next(&mut self, now: Timestamp) {
        let (mut room, mut tries) = (RESEND_MAX, 2 * RESEND_MAX);
        for (place, resend) in self.recovery.open_resends().into_iter().take(RESEND_PEERS_MAX) {
            let found = self.sent.asked_for(&resend.peer, resend.since, resend.from, resend.until);
            let mut is_done = true;
            for entry in found {
                if room == 0 || tries == 0 || self.is_full() {
                    return;
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
        let kept = record.map_or((None, Kept::TakenBack), |record| (Some(record), self.sent_content(&entry)));
        let (record, bytes) = match kept {
            (Some(record), Kept::Whole(bytes)) => (record, bytes),
            (_, Kept::Unknown) => return false,
            _ => {
                let taken_back = SentEntry { resent: RESENT_TIMES_MAX, ..entry };
                self.sent.add(taken_back, now.seconds(), &mut self.pending);
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
            return Kept::TakenBack;
        };
        let path = place.join(&entry.file);
        if self.pending.is_reserved(&path) {
            return Kept::Unknown;
        }
        let limit = u64::try_from(CONTENT_BYTES_MAX).unwrap_or(u64::MAX);
        match open::read_regular(self.root.disk(), &self.root.join(path), limit) {
            Ok(bytes) if sha256(&[&bytes]) == entry.sha256 => Kept::Whole(bytes),
            Err(OpenError::Io(_)) => Kept::Unknown,
            _ => Kept::TakenBack,
        }
    }
}
