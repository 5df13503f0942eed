//! How far a message got with each of its recipients, as its `.delivery/` file says it (design, section 2, "Sending").

use std::io::ErrorKind;
use std::path::Path;

use super::delivery::{self, Delivery, Recipient, State};
use super::engine::Engine;
use super::hooks::Hooks;
use crate::clock::Timestamp;
use crate::disk::open;
use crate::wire::identity::{ConversationId, Fingerprint};
use crate::wire::sent::SentKey;

/// What a change of a line in `.delivery/` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It stands there now.
    Changed,
    /// What stands there says no less.
    Stands,
    /// There is no such file that could be read and written now: a person may have deleted it, or moved its conversation away, or
    /// made that read-only.
    Nowhere,
}

impl Told {
    /// Whether somebody is to be told who looks there alone.
    pub(super) fn is_news(self) -> bool {
        self != Self::Stands
    }
}

impl Engine {
    pub(super) fn accepted(&mut self, recipient: &Fingerprint, sequence: u64, now: Timestamp) {
        self.trouble.remove(recipient);
        self.served.insert(*recipient, now);
        if let Some(item) = self.spool.remove(recipient, sequence, &mut self.pending) {
            self.sessions.accepted(recipient, now.seconds());
            match item.is_part {
                true => self.part_accepted(recipient, &item, now),
                false => {
                    self.set_state(&item.conversation, &item.file, recipient, State::Accepted, now);
                }
            }
        }
    }

    /// Changes a recipient's line in `.delivery/FILE`. Where it cannot be used now, that is noted with the conversation: it catches
    /// up when it can.
    pub(super) fn set_state(
        &mut self,
        conversation: &ConversationId,
        file: &str,
        recipient: &Fingerprint,
        state: State,
        now: Timestamp,
    ) -> Told {
        self.change_state(conversation, file, recipient, (state, now), Hooks::note_state)
    }

    /// The same of what a person has brought about: no hook tells them of it.
    pub(super) fn set_state_quietly(
        &mut self,
        conversation: &ConversationId,
        file: &str,
        recipient: &Fingerprint,
        state: State,
        now: Timestamp,
    ) {
        self.change_state(conversation, file, recipient, (state, now), |_, _, _, _| {});
    }

    fn change_state(
        &mut self,
        conversation: &ConversationId,
        file: &str,
        recipient: &Fingerprint,
        (state, now): (State, Timestamp),
        tell: fn(&mut Hooks, &Path, &Delivery, &Recipient),
    ) -> Told {
        // What is nobody's file is told nowhere by intention.
        let mut told = if file.is_empty() { Told::Stands } else { Told::Nowhere };
        self.change_delivery(conversation, file, |path, delivery, hooks| {
            told = Told::Stands;
            if let Some(line) = delivery.set(recipient, state, now).cloned() {
                tell(hooks, path, delivery, &line);
                told = Told::Changed;
            }
            told == Told::Changed
        });
        if told == Told::Nowhere && !self.is_deleted_here(conversation, file) {
            self.conversations.set_behind(conversation, true);
            // Also what it has come by.
            self.tidying.caught_up.remove(conversation);
        }
        told
    }

    /// Whether a person has deleted `.delivery/FILE` where the conversation stands: there is nothing that could catch up.
    fn is_deleted_here(&mut self, conversation: &ConversationId, file: &str) -> bool {
        let place = self.conversations.current_place(&self.root, conversation);
        let path = place.map(|place| self.root.join(place.join(delivery::DIRECTORY).join(file)));
        path.is_some_and(|path| self.root.disk().stat(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound))
    }

    /// What `.delivery/FILE` says of a recipient, and since when.
    pub(super) fn state_of(
        &mut self,
        conversation: &ConversationId,
        file: &str,
        recipient: &Fingerprint,
    ) -> Option<(State, Timestamp)> {
        let place = self.conversations.current_place(&self.root, conversation)?;
        let path = place.join(delivery::DIRECTORY).join(file);
        let read = || Delivery::parse(&open::read_text(self.root.disk(), &self.root.join(&path), delivery::BYTES_MAX)?);
        let delivery = self.deliveries.get(&path).cloned().or_else(read)?;
        let line = delivery.recipients.into_iter().find(|line| line.fingerprint == *recipient)?;
        Some((line.state, line.since))
    }

    /// Says in `.delivery/FILE` how many bytes of a large content a recipient's server has.
    pub(super) fn set_progress(
        &mut self,
        conversation: &ConversationId,
        file: &str,
        recipient: &Fingerprint,
        progress: (u64, u64),
    ) {
        self.change_delivery(conversation, file, |_, delivery, _| {
            delivery.set_progress(recipient, progress);
            true
        });
    }

    fn change_delivery(
        &mut self,
        conversation: &ConversationId,
        file: &str,
        change: impl FnOnce(&Path, &mut Delivery, &mut Hooks) -> bool,
    ) {
        if file.is_empty() {
            return;
        }
        let place = self.conversations.standing_place(&self.root, conversation, &self.pending);
        let Some(path) = place.map(|place| place.join(delivery::DIRECTORY).join(file)) else { return };
        if let Some(delivery) = self.deliveries.get_mut(&path) {
            change(&path, delivery, &mut self.hooks);
            return;
        }
        let text = open::read_text(self.root.disk(), &self.root.join(&path), delivery::BYTES_MAX);
        let Some(mut delivery) = text.as_deref().and_then(Delivery::parse) else { return };
        if change(&path, &mut delivery, &mut self.hooks) {
            self.deliveries.insert(path, delivery);
        }
    }

    /// Whether a message waits for its recipient's server, as a whole or in parts.
    pub(super) fn is_on_its_way(&self, key: &SentKey) -> bool {
        self.spool.holds_message(key) || self.large.is_for(&key.message, &key.recipient)
    }
}
