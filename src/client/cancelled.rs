//! What its author takes back of large contents (protocol, "Notes"): what came of it is erased, and its parts to come vanish.
//!
//! A note may be here before any part of what it names: parts wait at our server, or on theirs. Such ids are remembered too,
//! but only so many, as anybody in a conversation of ours can invent them, and each is kept for months.

use super::assembling::Named;
use super::engine::Engine;
use crate::clock::Timestamp;
use crate::limits::CANCELLED_UNBEGUN_MAX;
use crate::wire::control::Messages;
use crate::wire::identity::Fingerprint;

impl Engine {
    /// The author of these messages says that their remaining parts will not come.
    pub(super) fn cancelled(&mut self, author: Fingerprint, messages: &[Messages], now: Timestamp) {
        for Messages { conversation, ids } in messages {
            let Some(record) = self.conversations.get(conversation).filter(|record| record.has(&author)) else {
                continue;
            };
            let has_others = record.profiles.len() > 2;
            for id in ids {
                let named = Named { author, conversation: *conversation, id: *id };
                let hash = named.hash();
                let is_begun = self.arriving.get(&hash).is_some();
                let is_news = is_begun || !self.received.is_done_with(&hash);
                if !is_news || (!is_begun && !self.unbegun.takes(author, CANCELLED_UNBEGUN_MAX, now)) {
                    continue;
                }
                match has_others {
                    true => self.withdraw_content(named, now),
                    false => self.drop_content(named, now),
                }
            }
        }
    }
}
