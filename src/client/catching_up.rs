//! What became of messages while their conversation's directory could not be used: it was moved away, or made read-only. Which
//! conversations that is, their records say ([`ConversationRecord::behind`]), set in the transaction that could not tell it, so
//! that it outlives a restart. Once [`super::tidying`] comes by such a directory and it takes messages again, its `.delivery/` is
//! brought up to date from what else is known: what was sent and its fate, what waits, and what goes in parts.
//!
//! [`ConversationRecord::behind`]: crate::wire::conversation::ConversationRecord::behind

use std::ffi::OsString;
use std::path::Path;

use super::delivery::{self, Recipient, State};
use super::engine::Engine;
use super::outcome::Told;
use crate::clock::Timestamp;
use crate::limits::CATCH_UP_FILES_MAX;
use crate::wire::identity::ConversationId;
use crate::wire::sent::{Fate, SentKey};

/// The reasons of what has failed meanwhile: what was known of it then stands in its alert.
const GIVEN_UP: &str = "given up while this could not be written; it is not known whether it arrived";
const REFUSED: &str = "refused, cancelled or not sent to its end while this could not be written";
const FORGOTTEN: &str = "what became of it could not be written here, and is not known any more; it may have arrived";

impl Engine {
    /// Brings `.delivery/` up to date where it stands and takes files again: so many files of it, and the next ones with the next
    /// look.
    pub(super) fn catch_up(&mut self, place: &Path, id: &ConversationId, now: Timestamp) {
        let directory = place.join(delivery::DIRECTORY);
        let Ok(names) = self.listed(&directory) else { return };
        let last = self.tidying.caught_up.get(id);
        let mut names: Vec<OsString> = names.into_iter().filter(|name| last.is_none_or(|last| name > last)).collect();
        names.sort_unstable();
        let is_last = names.len() <= CATCH_UP_FILES_MAX;
        for name in names.into_iter().take(CATCH_UP_FILES_MAX) {
            if self.is_full() || !self.catch_up_file(&directory, &name, id, now) {
                return;
            }
            self.tidying.caught_up.insert(*id, name);
        }
        if is_last {
            self.tidying.caught_up.remove(id);
            self.conversations.set_behind(id, false);
        }
    }

    /// False if it cannot be written after all.
    fn catch_up_file(&mut self, directory: &Path, name: &OsString, id: &ConversationId, now: Timestamp) -> bool {
        let path = directory.join(name);
        let changed = self.deliveries.get(&path).cloned();
        let Some(delivery) = changed.or_else(|| self.delivery_of(&path, name)) else { return true };
        delivery.recipients.iter().all(|line| {
            let key = SentKey { recipient: line.fingerprint, conversation: *id, message: delivery.id };
            let state = self.known_state(&key, line);
            state.is_none_or(|state| self.set_state(id, &delivery.file, &key.recipient, state, now) != Told::Nowhere)
        })
    }

    /// What a line should say, if that is known and it says something else.
    fn known_state(&self, key: &SentKey, line: &Recipient) -> Option<State> {
        let fate = self.sent.fate(key);
        let is_open = matches!(line.state, State::Queued | State::Sealed);
        match (&line.state, fate) {
            (State::Delivered, _) => None,
            (_, Some(Fate::Acknowledged)) => Some(State::Delivered),
            // What has failed keeps its reason.
            (State::Failed(_), _) => None,
            (_, Some(Fate::Refused)) => Some(State::Failed(REFUSED.to_owned())),
            (State::Queued, Some(_)) if self.is_on_its_way(key) => Some(State::Sealed),
            _ if !is_open || self.is_on_its_way(key) => None,
            (_, Some(Fate::Failed)) => Some(State::Failed(GIVEN_UP.to_owned())),
            // It was sealed, and has left the queue without being given up.
            (_, Some(Fate::Open)) => Some(State::Accepted),
            (_, None) => Some(State::Failed(FORGOTTEN.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
