//! Notes that the programs of two accounts send each other about their sessions (design, section 5).

use super::engine::Engine;
use crate::clock::Timestamp;
use crate::wire::control::Control;
use crate::wire::identity::Fingerprint;

impl Engine {
    /// Does what a note asks, whose author is a contact or takes part in a conversation of ours.
    pub(super) fn heed(&mut self, author: Fingerprint, control: Control, now: Timestamp) {
        tracing::debug!(highest = control.highest.is_some(), lost = control.lost_since.is_some(), "a note");
        if let Some(profile) = &control.profile {
            self.heed_profile(&author, profile, None, now);
        }
        if let Some(since) = control.lost_since {
            self.known.forget_told(&author);
            self.send_again(author, since, now);
        }
        self.heed_missing(author, &control.missing, now);
        self.cancelled(author, &control.cancelled, now);
        self.heed_withdrawn(author, &control.withdrawn);
        if control.highest.is_some() {
            // What we told them stood in a session below another of theirs, in which they may have answered.
            self.recovery.tell_again(&author);
        }
        if !control.acknowledged.is_empty() {
            self.heed_acknowledged(author, &control.acknowledged, now);
        }
        self.heed_refused(author, &control.refused, now);
    }
}
