//! Who takes part: two members of one conversation who were told of different participants.
//!
//! A conversation's id is a hash of its participants, so that two lists are two conversations, and nobody hears what is not
//! meant for them. But whoever opens it may tell one member of these people and another of those. As soon as both meet with
//! somebody, that somebody has two conversations of one subject that were opened in the same microsecond, which no honest
//! program does.

use std::collections::BTreeSet;

use super::alerts;
use super::engine::Engine;
use crate::clock::Timestamp;
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::{ConversationId, Fingerprint};

impl Engine {
    /// A conversation was added that `teller` told us of. Says so where we know it with other participants.
    pub(super) fn notice_other_list(&mut self, id: &ConversationId, teller: &Fingerprint, now: Timestamp) {
        let Some(added) = self.conversations.get(id) else { return };
        let own = self.people.own_fingerprint();
        let Some(other) = self.conversations.iter().find(|record| is_twin(record, added, &own)) else { return };
        let [here, there] = [other, added].map(|record| record.participants().into_iter().collect::<BTreeSet<_>>());
        let names = |found: Vec<&Fingerprint>| match found.as_slice() {
            [] => "nobody".to_owned(),
            found => found.iter().map(|who| self.people.name(who)).collect::<Vec<_>>().join(", "),
        };
        let text = format!(
            "{} was told of other participants of the conversation {} than you: {} more, {} less. What is written to one \
             list is not seen by the other.\n\
             Whoever opened it told its members different things, or {} does. Ask them by another way, and open a new \
             conversation with those you mean.",
            self.people.name(teller),
            other.directory,
            names(there.difference(&here).collect()),
            names(here.difference(&there).collect()),
            self.people.name(teller),
        );
        alerts::raise(&self.root, &mut self.pending, now, "membership", &teller.short(8), &text);
    }
}

/// Whether two conversations are one that was told of in two ways. What is random in an id serves once, and so does the
/// moment in which somebody opens a conversation.
fn is_twin(one: &ConversationRecord, other: &ConversationRecord, own: &Fingerprint) -> bool {
    let same_moment = one.created == other.created && one.subject == other.subject;
    let same_salt = one.salt.is_some() && one.salt == other.salt;
    let in_both = |who: &Fingerprint| who != own && other.has(who);
    one.id != other.id && (same_moment || same_salt) && one.participants().iter().any(in_both)
}
