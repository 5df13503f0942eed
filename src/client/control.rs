//! Notes that the programs of two accounts send each other about their sessions (design, section 5).

use super::engine::Engine;
use crate::clock::Timestamp;
use crate::wire::control::Control;
use crate::wire::identity::Fingerprint;

impl Engine {
    /// Does what a note asks, whose author is a contact or takes part in a conversation of ours.
    pub(super) fn heed(&mut self, author: Fingerprint, control: Control, now: Timestamp) {
        if control.lost_since.is_some() {
            self.known.forget_told(&author);
        }
        if let Some(profile) = &control.profile {
            self.heed_profile(&author, profile, None, now);
        }
        tracing::debug!(author = author.short(8), highest = control.highest.is_some(), "a note");
    }
}
