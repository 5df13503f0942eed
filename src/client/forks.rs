//! Two hashes of one message met (design, section 4): a person hears who wrote it, who told, and what that means. Once for each
//! author, conversation and cause, and for those conversations alone that are ours: a stranger could make any number.

use super::alerts;
use super::author::{Cause, Contradiction};
use super::engine::Engine;
use super::transcripts::Place;
use crate::clock::Timestamp;
use crate::wire::author::Claim;

impl Engine {
    /// Compares what somebody has of us with what we have written.
    pub(super) fn heed_seen_of_us(&mut self, mine: &Place, by: u8, claim: &Claim, now: Timestamp) {
        let Some(record) = self.conversations.get(&mine.0) else { return };
        // What we wrote before a loss of state we may not know.
        if record.incarnation != claim.incarnation {
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

    /// Tells a person of two hashes that met.
    pub(super) fn alert_fork(&mut self, place: &Place, contradiction: Contradiction, now: Timestamp) {
        let Contradiction { counter, cause } = contradiction;
        let Some(record) = self.conversations.get(&place.0).filter(|record| record.accepted) else { return };
        let directory = record.directory.clone();
        if !self.transcripts.change(place, |author| author.is_news(cause)) {
            return;
        }
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
        alerts::raise(&self.root, &mut self.pending, now, "fork", &place.1.short(8), &text);
    }
}
