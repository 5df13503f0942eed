//! Two hashes of one message met (design, section 4): a person hears who wrote it, who told, and what that means. Once for each
//! author, conversation and cause, and for those conversations alone that are ours: a stranger could make any number.

use super::alerts::{self, About};
use super::author::{Cause, Contradiction};
use super::engine::Engine;
use super::transcripts::Place;
use crate::clock::Timestamp;
use crate::wire::author::{AuthorRecord, Claim};
use crate::wire::identity::message_hash;
use crate::wire::transcript::{Shared, Transcript};

impl Engine {
    /// Compares what somebody has of us with what we have written.
    pub(super) fn heed_seen_of_us(&mut self, mine: &Place, by: u8, claim: &Claim, now: Timestamp) {
        let Some(record) = self.conversations.get(&mine.0) else { return };
        // What we wrote before a loss of state we may not know.
        if record.incarnation != claim.incarnation || self.recovery.renewing().is_some() {
            return;
        }
        let own = self.transcripts.get(mine);
        let hash = own.and_then(|own| own.hash_before(&claim.incarnation, claim.counter.saturating_add(1)));
        let cause = match hash {
            Some(hash) if hash != claim.hash => Cause::Claim(by),
            None if claim.counter > record.counter => Cause::Unwritten(by),
            _ => return,
        };
        self.alert_fork(mine, Contradiction { counter: claim.counter, cause }, now);
    }

    /// Whether somebody sends another message under an id under which we have one. Its place in the transcript stays open: entered
    /// there, it would count as seen by us. Who sends two messages so to one of us, and in another order to another, would else show
    /// each a different one, and both would agree that they have the same.
    pub(super) fn heed_same_id(&mut self, shared: &Shared<'_>, transcript: &Transcript, now: Timestamp) -> bool {
        let message = message_hash(&shared.author, &shared.conversation, &shared.id);
        let is_another = self.received.contradicts(&message, &transcript.hash(shared));
        if is_another {
            let contradiction = Contradiction { counter: shared.counter, cause: Cause::SameId };
            self.alert_fork(&(shared.conversation, shared.author), contradiction, now);
        }
        is_another
    }

    /// Tells a person of two hashes that met. Where they cannot be told now, they will be: in a conversation that waits, when it
    /// is accepted.
    pub(super) fn alert_fork(&mut self, place: &Place, contradiction: Contradiction, now: Timestamp) {
        if self.transcripts.get(place).is_some_and(|author| author.is_told(contradiction.cause)) {
            return;
        }
        let is_told = self.raise_fork(place, contradiction, now);
        let is_noted = |author: &AuthorRecord| author.untold().iter().any(|noted| noted.cause == contradiction.cause);
        if is_told || !self.transcripts.get(place).is_some_and(is_noted) {
            self.transcripts.change(place, |author| author.note_contradiction(contradiction, is_told));
        }
    }

    /// Tells a person of what they could not be told before. What is too much for one batch comes with the next look.
    pub(super) fn alert_untold_forks(&mut self, now: Timestamp) {
        for (place, contradiction) in self.transcripts.untold() {
            if self.is_full() {
                return;
            }
            self.alert_fork(&place, contradiction, now);
        }
    }

    /// False if nobody can be told.
    fn raise_fork(&mut self, place: &Place, contradiction: Contradiction, now: Timestamp) -> bool {
        let Contradiction { counter, cause } = contradiction;
        let Some(record) = self.conversations.get(&place.0).filter(|record| record.accepted) else { return false };
        let directory = record.directory.clone();
        let author = self.people.name(&place.1);
        let participants = self.participants_by_place(&place.0);
        let teller = |by: u8| participants.get(usize::from(by)).map_or_else(String::new, |by| self.people.name(by));
        let is_ours = place.1 == self.people.own_fingerprint();
        let text = match cause {
            Cause::Twice => format!(
                "{author} sent two different messages as their number {counter} in {directory}.\n\
                 They restored a backup, use two copies of their account, or send different things to different people: ask \
                 them and the others which they have."
            ),
            Cause::Previous => format!(
                "What {author} wrote in {directory} names another message {counter} of theirs than you have.\n\
                 They restored a backup, use two copies of their account, or sent different things to different people: ask \
                 them and the others which they have."
            ),
            Cause::SameId => format!(
                "{author} sent two different messages under one id in {directory}: their number {counter} is not shown.\n\
                 Their program is broken, or they send different things to different people: ask them and the others which \
                 they have."
            ),
            Cause::Claim(by) if is_ours => format!(
                "{} has another message {counter} of yours in {directory} than you sent.\n\
                 If you restored a backup or use two copies of this account, that is why; else their program is broken or \
                 lies, or somebody has your keys: ask {} what they have.",
                teller(by),
                teller(by),
            ),
            Cause::Unwritten(by) => format!(
                "{} has a message {counter} of yours in {directory} that this program has not written.\n\
                 If you restored a backup or use two copies of this account, that is why; else their program is broken or \
                 lies, or somebody has your keys: ask {} what they have.",
                teller(by),
                teller(by),
            ),
            Cause::Claim(by) => format!(
                "{} has another message {counter} of {author} in {directory} than you.\n\
                 Either {author} sent different things to different people, or the program of one of the two is broken or \
                 lies: compare what you have with both of them, by another way.",
                teller(by),
            ),
        };
        // Counted by who tells: nobody's tales keep another's from being heard.
        let about = match cause {
            Cause::Twice | Cause::Previous | Cause::SameId => About::of(&place.1),
            Cause::Claim(by) | Cause::Unwritten(by) => About::by_word(&place.1, participants.get(usize::from(by))),
        };
        alerts::try_raise(&self.root, &mut self.pending, now, "fork", &about, &text)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::wire::conversation::ConversationRecord;

    fn by_claim(counter: u64) -> Contradiction {
        Contradiction { counter, cause: Cause::Claim(1) }
    }

    #[test]
    fn what_contradicts_itself_while_a_conversation_waits_is_told_when_it_is_accepted() {
        let mut bob = Bench::new();
        let place = (bob.conversation.id, bob.alice);
        bob.engine.conversations.add(ConversationRecord { accepted: false, ..bob.conversation.clone() });
        bob.settle();
        let twice = Contradiction { counter: 4, cause: Cause::Twice };
        for contradiction in [by_claim(3), twice, by_claim(5)] {
            bob.engine.alert_fork(&place, contradiction, bob.now);
        }
        bob.settle();
        bob.restart();
        bob.engine.alert_untold_forks(bob.now);
        bob.settle();
        assert!(bob.alerts().is_empty(), "of what waits nothing is told");
        let (alice, now) = (bob.alice, bob.now);
        bob.engine.accept_conversation(&place.0, &alice, now);
        bob.settle();
        let told = |bob: &Bench, text: &str| bob.alerts().iter().filter(|alert| alert.contains(text)).count();
        assert_eq!(
            (told(&bob, "another message 3 of alice"), told(&bob, "as their number 4"), bob.alerts().len()),
            (1, 1, 2)
        );
        bob.restart();
        bob.engine.alert_untold_forks(bob.now);
        bob.engine.alert_fork(&place, twice, bob.now);
        bob.settle();
        assert_eq!(bob.alerts().len(), 2, "once");
    }

    #[test]
    fn what_finds_no_room_among_the_alerts_is_told_later_and_another_teller_has_room() {
        let mut bob = Bench::new();
        let place = (bob.conversation.id, bob.alice);
        let by = bob.engine.participants_by_place(&place.0);
        let unread: Vec<_> = (0..8)
            .map(|number| {
                let ending = About::by_word(&bob.alice, by.get(1)).ending("fork");
                bob.root.alerts().join(format!("{number}-{ending}"))
            })
            .collect();
        unread.iter().for_each(|path| fs::write(path, "unread\n").unwrap());
        bob.engine.alert_fork(&place, by_claim(3), bob.now);
        bob.settle();
        assert_eq!(bob.alerts().len(), 8);
        bob.engine.alert_fork(&place, Contradiction { counter: 3, cause: Cause::Claim(0) }, bob.now);
        bob.settle();
        assert_eq!(bob.alerts().len(), 9);
        unread.iter().for_each(|path| fs::remove_file(path).unwrap());
        bob.engine.alert_untold_forks(bob.now);
        bob.settle();
        assert_eq!(bob.alerts().len(), 2);
    }
}
