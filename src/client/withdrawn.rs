//! What its author says will not come is missing no more, unless somebody else says to have it (`author/withdrawn`).

use super::engine::Engine;
use crate::wire::control::Missing;
use crate::wire::identity::Fingerprint;

impl Engine {
    /// The author says that messages of theirs will not come. Heeded in conversations of ours that they take part in.
    pub(super) fn heed_withdrawn(&mut self, author: Fingerprint, withdrawn: &[Missing]) {
        for Missing { conversation, incarnation, from, to } in withdrawn {
            let is_of_ours = self.conversations.get(conversation).is_some_and(|it| it.accepted && it.has(&author));
            let place = (*conversation, author);
            let Some(mut theirs) = self.transcripts.get(&place).filter(|_| is_of_ours).cloned() else { continue };
            // Whoever says it again and again makes nobody write.
            if theirs.withdraw(incarnation, *from, *to) {
                self.transcripts.change(&place, |record| *record = theirs);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::client::author::Entered;
    use crate::clock::Timestamp;
    use crate::limits::{GAP_ALERT_S, GAPS_MAX};
    use crate::wire::author::Claim;
    use crate::wire::control::Control;
    use crate::wire::conversation::ConversationRecord;
    use crate::wire::identity::ConversationId;
    use crate::wire::transcript::Transcript;

    const LIFE: [u8; 16] = [7; 16];

    /// Alice's first and fifth are here.
    fn lacking(bob: &mut Bench) {
        bob.engine.stand(bob.alice, bob.message(1, 1, b"so that it stands"), None, bob.now);
        let place = (bob.conversation.id, bob.alice);
        for (counter, previous) in [(1, 0), (5, 4)] {
            let message =
                Entered { incarnation: LIFE, counter, time: bob.now, hash: [1; 32], previous: [previous; 32] };
            bob.engine.transcripts.change(&place, |theirs| theirs.enter(&message, false, bob.now.seconds()));
        }
        bob.settle();
    }

    fn missing(conversation: ConversationId, from: u64, to: u64) -> Missing {
        Missing { conversation, incarnation: LIFE, from, to }
    }

    fn say(bob: &mut Bench, author: Fingerprint, withdrawn: Vec<Missing>) {
        let now = bob.now;
        bob.engine.heed(author, Control { withdrawn, ..Control::default() }, now);
        bob.engine.write_gaps();
        bob.settle();
    }

    /// The lines of `.gaps`, without who and when.
    fn lines(bob: &Bench) -> Vec<String> {
        let text = fs::read_to_string(bob.root.join("conversations/with-alice/.gaps")).unwrap_or_default();
        let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        words.map(|words| [words[0], words[2], words[3]].join(" ")).collect()
    }

    fn look_after_a_day(bob: &mut Bench) -> usize {
        bob.now = Timestamp::from_micros(bob.now.micros() + GAP_ALERT_S * 1_000_000);
        bob.engine.look_for_gaps(bob.now);
        bob.settle();
        bob.alerts().len()
    }

    #[test]
    fn what_its_author_withdraws_is_shown_no_more_and_told_to_nobody_also_after_a_restart() {
        let mut bob = Bench::new();
        let (alice, here) = (bob.alice, bob.conversation.id);
        lacking(&mut bob);
        say(&mut bob, alice, vec![missing(here, 2, 3)]);
        assert_eq!(lines(&bob), ["gap: 4 4"]);
        say(&mut bob, alice, vec![missing(here, 1, u64::MAX)]);
        assert_eq!(lines(&bob), [""; 0]);
        bob.restart();
        assert_eq!((look_after_a_day(&mut bob), bob.engine.spool.len_of(&alice)), (0, 0), "it is not asked for either");
    }

    #[test]
    fn nobody_withdraws_what_another_wrote_or_where_they_take_no_part() {
        let mut bob = Bench::new();
        let (alice, here) = (bob.alice, bob.conversation.id);
        let eve = bob.join_stranger("eve");
        lacking(&mut bob);
        let gone = vec![missing(here, 1, u64::MAX)];
        say(&mut bob, eve, gone.clone());
        say(&mut bob, Fingerprint([9; 32]), gone.clone());
        say(&mut bob, alice, vec![missing(ConversationId([9; 16]), 1, u64::MAX)]);
        say(&mut bob, alice, vec![Missing { incarnation: [8; 16], ..gone[0] }]);
        assert_eq!(lines(&bob), ["gap: 2 4"]);
        assert!(bob.engine.transcripts.get(&(here, eve)).is_none(), "and nothing is kept of it");
        let record = bob.conversation.clone();
        bob.engine.conversations.add(ConversationRecord { accepted: false, ..record.clone() });
        say(&mut bob, alice, gone);
        bob.engine.conversations.add(record);
        assert_eq!(look_after_a_day(&mut bob), 1);
    }

    #[test]
    fn among_several_it_stays_written_down_and_what_another_has_is_told_as_ever() {
        let mut bob = Bench::new();
        let (alice, here) = (bob.alice, bob.conversation.id);
        let eve = bob.join_stranger("eve");
        lacking(&mut bob);
        say(&mut bob, alice, vec![missing(here, 2, 4)]);
        assert_eq!(lines(&bob), ["withdrawn: 2 4"]);
        assert_eq!(look_after_a_day(&mut bob), 0);
        // Eve has one of them.
        let by = bob.engine.participants_by_place(&here).iter().position(|other| *other == eve);
        let by = u8::try_from(by.unwrap()).unwrap();
        let claim = Claim { incarnation: LIFE, counter: 3, hash: [3; 32] };
        let now_s = bob.now.seconds();
        bob.engine.transcripts.change(&(here, alice), |theirs| theirs.claim(by, claim, false, now_s));
        say(&mut bob, alice, vec![missing(here, 2, 4)]);
        assert_eq!(lines(&bob), ["gap: 3 3", "withdrawn: 2 2", "withdrawn: 4 4"]);
        bob.restart();
        assert_eq!(look_after_a_day(&mut bob), 1);
        let told = bob.alerts().remove(0);
        let eve = bob.engine.people.name(&eve);
        assert!(told.contains(&format!(" and {eve} that it was written.")), "{told}");
        assert!(told.contains(&format!("or {eve} claimed what was never written")), "{told}");
    }

    /// They cannot hide by it that others have it: no claim of it is heeded behind that.
    #[test]
    fn who_withdraws_something_and_leaves_out_much_else_does_not_push_it_out_of_sight_unnoticed() {
        let gaps = u64::try_from(GAPS_MAX).unwrap();
        for is_of_several in [false, true] {
            let mut bob = Bench::new();
            let (alice, here) = (bob.alice, bob.conversation.id);
            let _eve = is_of_several.then(|| bob.join_stranger("eve"));
            lacking(&mut bob);
            say(&mut bob, alice, vec![missing(here, 2, 4)]);
            for counter in (0..gaps).map(|number| 7 + 2 * number) {
                let mut payload = bob.message(1, counter, b"what she writes");
                (payload.incarnation, payload.counter) = (LIFE, counter);
                let shared = payload.shared(alice).unwrap();
                let transcript = Transcript { previous: [1; 32], seen: Vec::new() };
                assert!(bob.alerts().is_empty());
                bob.engine.enter_transcript(&shared, &transcript, bob.now);
                bob.engine.write_gaps();
                bob.settle();
            }
            assert!(!lines(&bob).contains(&"withdrawn: 2 4".to_owned()));
            let told = bob.alerts();
            assert_eq!(told.len(), usize::from(is_of_several), "{told:?}");
        }
    }

    #[test]
    fn what_somebody_said_to_have_is_no_gap_any_more_once_they_are_blocked() {
        let mut bob = Bench::new();
        let (alice, here) = (bob.alice, bob.conversation.id);
        let eve = bob.join_stranger("eve");
        lacking(&mut bob);
        say(&mut bob, alice, vec![missing(here, 2, 4)]);
        let by = bob.engine.participants_by_place(&here).iter().position(|other| *other == eve);
        let by = u8::try_from(by.unwrap()).unwrap();
        let claim = Claim { incarnation: LIFE, counter: 3, hash: [3; 32] };
        let now_s = bob.now.seconds();
        bob.engine.transcripts.change(&(here, alice), |theirs| theirs.claim(by, claim, false, now_s));
        // The claim itself is over when what she names is here, what she named before is remembered.
        bob.engine.transcripts.change(&(here, alice), |theirs| theirs.claims.clear());
        bob.engine.look_for_gaps(bob.now);
        say(&mut bob, alice, vec![missing(here, 2, 4)]);
        assert_eq!(lines(&bob), ["gap: 3 3", "withdrawn: 2 2", "withdrawn: 4 4"]);
        let card = bob.conversation.profiles.iter().find(|profile| profile.identity().fingerprint() == eve).unwrap();
        fs::create_dir_all(bob.root.blocked()).unwrap();
        fs::write(bob.root.blocked().join("eve.card"), format!("{card}\n")).unwrap();
        bob.restart();
        bob.engine.look_for_gaps(bob.now);
        bob.settle();
        assert_eq!(lines(&bob), ["withdrawn: 2 4"]);
    }
}
