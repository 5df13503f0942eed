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
    /// A conversation was added, or accepted, that `teller` told us of. Says so where we know it with other participants. Both
    /// are ours: a stranger could open any number of twins.
    pub(super) fn notice_other_list(&mut self, id: &ConversationId, teller: &Fingerprint, now: Timestamp) {
        let Some(added) = self.conversations.get(id).filter(|record| record.accepted) else { return };
        let own = self.people.own_fingerprint();
        let twin = self.conversations.iter().find(|record| record.accepted && is_twin(record, added, &own));
        let Some(other) = twin else { return };
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

#[cfg(test)]
mod tests {
    use crate::client::assembling::tests::Bench;
    use crate::wire::identity::ConversationId;

    #[test]
    fn a_twin_is_told_of_once_it_is_accepted() {
        let mut bob = Bench::new();
        let (alice, now) = (bob.alice, bob.now);
        let one = bob.conversation.clone();
        bob.conversation.id = ConversationId([8; 16]);
        (bob.conversation.accepted, bob.conversation.directory) = (false, "twin".into());
        let eve = bob.join_stranger("eve");
        bob.engine.notice_other_list(&bob.conversation.id, &eve, now);
        bob.settle();
        assert!(bob.alerts().is_empty(), "a stranger makes no alerts");
        bob.engine.accept_conversation(&bob.conversation.id, &alice, now);
        bob.settle();
        let alerts = bob.alerts();
        assert!(alerts.len() == 1 && alerts[0].contains("alice was told of other participants"), "{alerts:?}");
        assert!(alerts[0].contains(&format!("the conversation {}", one.directory)), "{alerts:?}");
    }
}
