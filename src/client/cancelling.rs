//! Taking a message back that has left the outbox: `outbox/.cancel/MESSAGE`, a file of any content whose name is the message's
//! id in hex, made by a person or `chatterbox cancel`. It goes away when what it asks for is done, and after `.delivery/`
//! says so.
//!
//! Whoever has all of the message keeps it. For everybody else it leaves their queue, and counts as failed; who has some of its
//! parts is told that the others will not come. What was on its way in that moment may arrive all the same, and an
//! acknowledgement then says so.

use std::collections::BTreeMap;
use std::path::Path;

use super::delivery::State;
use super::engine::Engine;
use super::letting_go::Because;
use super::root::CANCEL_DIRECTORY;
use crate::clock::Timestamp;
use crate::wire::control::{Control, Messages};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::sent::{Fate, SentKey};

/// Why a message counts as failed that was taken back.
const REASON: &str = "cancelled";

/// The same where its envelope was handed to the network.
const REASON_DOUBTFUL: &str = "cancelled; it is not known whether it had arrived by then";

/// What one recipient does not have.
#[derive(Default)]
struct Lacking {
    places: Vec<u64>,
    /// Of a large content some parts were sealed.
    has_begun: bool,
    /// And some were not.
    lacks_parts: bool,
}

impl Engine {
    /// Does what was asked for since the last look.
    pub(super) fn look_at_cancelled(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.cancels) {
            return;
        }
        for name in self.root.names(CANCEL_DIRECTORY) {
            if self.is_full() {
                self.cancels = true;
                return;
            }
            if let Some(message) = name.to_str().and_then(MessageId::from_hex) {
                self.cancel(message, now);
                self.pending.remove(Path::new(CANCEL_DIRECTORY).join(name));
            }
        }
    }

    fn cancel(&mut self, message: MessageId, now: Timestamp) {
        let mut lacking: BTreeMap<Fingerprint, Lacking> = BTreeMap::new();
        let mut named: Option<(ConversationId, String)> = None;
        for found in self.spool.find(&message) {
            named = Some((found.conversation, found.file));
            let recipient = lacking.entry(found.recipient).or_default();
            recipient.places.push(found.sequence);
        }
        if let Some(large) = self.large.get(&message) {
            named = Some((large.conversation, large.file.clone()));
            for known in &large.recipients {
                let recipient = lacking.entry(known.fingerprint).or_default();
                recipient.has_begun = known.next > 0;
                recipient.lacks_parts = known.next < large.parts();
            }
        }
        let Some((conversation, file)) = named else { return };
        for (recipient, Lacking { places, has_begun, lacks_parts }) in lacking {
            let gone = self.let_go(recipient, &places, Because::GivenUp, now);
            let left = gone.iter().filter(|removed| removed.may_have_arrived).count();
            // What did not go could not be read just now: it may leave before it can.
            let is_doubtful = left > 0 || gone.len() < places.len();
            let is_held_back = lacks_parts || gone.len() > left;
            let is_large = self.large.end(&message, &recipient);
            let was_sent = self.sent.was_sent_again(&SentKey { recipient, conversation, message });
            // A large content of which something was held back is not whole anywhere, where it is sent for the first time.
            let may_be_whole = was_sent || (is_doubtful && !(is_large && is_held_back));
            let reason = if may_be_whole { REASON_DOUBTFUL } else { REASON };
            self.set_state_quietly(&conversation, &file, &recipient, State::Failed(reason.to_owned()), now);
            // Who asks for it again does not get it.
            self.sent.decide(&SentKey { recipient, conversation, message }, Fate::Refused, &mut self.pending);
            if has_begun {
                let cancelled = vec![Messages { conversation, ids: vec![message] }];
                self.queue_note(recipient, &Control { cancelled, ..Control::default() }, now);
            }
        }
    }
}
