//! What is missing is shown in `.gaps`, asked for again from its author, and after a day told to a person (design, section 4).

use std::collections::BTreeMap;

use super::alerts::{self, About};
use super::author::Open;
use super::engine::Engine;
use super::gap_file::{self, GapLine};
use super::transcripts::Place;
use crate::clock::Timestamp;
use crate::limits::{GAP_ALERT_IN_PARTS_S, GAP_LOOKS_MAX, GAP_WAITS_S, NOTE_MISSING_MAX};
use crate::wire::author::AuthorRecord;
use crate::wire::control::{Control, Missing};
use crate::wire::identity::{ConversationId, Fingerprint};

impl Engine {
    /// Once a second: asks for what has been missing for a while, and tells of what has been for long. In a bounded number of
    /// places, and no more than a batch takes: each gets its turn, and whoever opens thousands of conversations and claims what
    /// is missing in each fills no journal with it.
    pub(super) fn look_for_gaps(&mut self, now: Timestamp) {
        let now_s = now.seconds();
        let recent = |asked: &u64| (*asked..asked.saturating_add(GAP_WAITS_S[0])).contains(&now_s);
        self.transcripts.asked.retain(|_, asked| recent(asked));
        self.transcripts.no_room.retain(|_, tried| recent(tried));
        let mut wanted: BTreeMap<Fingerprint, Vec<Missing>> = BTreeMap::new();
        for place in self.transcripts.next_open(GAP_LOOKS_MAX) {
            if self.is_full() {
                break;
            }
            self.transcripts.looked = Some(place);
            let (conversation, author) = place;
            // Nothing is asked of somebody whose answer would be dropped.
            let is_ours = self.conversations.get(&conversation).is_some_and(|record| record.accepted)
                && !self.people.is_blocked(&author);
            self.forget_claims(&place, now_s);
            let Some(theirs) = self.transcripts.get(&place).filter(|_| is_ours) else { continue };
            // A claim about somebody who never wrote makes us talk to no server that others choose.
            let is_met = !theirs.incarnations.is_empty()
                || self.people.is_contact(&author)
                || self.sessions.highest(&author).is_some();
            let mut told = Vec::new();
            for open in theirs.open() {
                // What comes in parts is not missing while they come, but not for ever.
                let comes = self.arriving.comes(&place, &open, now_s);
                let is_silent = (comes && now_s < open.since().saturating_add(GAP_ALERT_IN_PARTS_S))
                    || told.contains(&open.told_as)
                    || self.transcripts.no_room.contains_key(&place);
                if let Some(tellers) = open.alarms(now_s).filter(|_| !is_silent) {
                    match self.alert_gap(&place, &open, comes, &tellers, now) {
                        true => {
                            self.transcripts.change(&place, |theirs| theirs.note_told(&open, now_s));
                            told.push(open.told_as);
                        }
                        false => drop(self.transcripts.no_room.insert(place, now_s)),
                    }
                }
                if comes {
                    continue;
                }
                // What is on its way to us is not missing.
                let may_ask = is_met && self.presence.has_settled() && !self.transcripts.asked.contains_key(&author);
                let missing = wanted.entry(author).or_default();
                if may_ask && open.is_due(now_s) && missing.len() < NOTE_MISSING_MAX {
                    let (incarnation, from, to) = (open.incarnation, open.from, open.to);
                    missing.push(Missing { conversation, incarnation, from, to });
                    self.transcripts.change(&place, |theirs| theirs.note_asked(&open, now_s));
                }
            }
        }
        for (author, missing) in wanted.into_iter().filter(|(_, missing)| !missing.is_empty()) {
            self.transcripts.asked.insert(author, now_s);
            self.queue_note(author, &Control { missing, ..Control::default() }, now);
        }
    }

    /// Lets go of claims of which nothing more is to be expected.
    fn forget_claims(&mut self, place: &Place, now_s: u64) {
        let Some(theirs) = self.transcripts.get(place).filter(|theirs| theirs.has_claims()) else { return };
        // Who they are is dear to ask, and mostly tells nothing.
        if !self.people.has_blocked() && !theirs.has_stale_claim(|_| false, now_s) {
            return;
        }
        let participants = self.participants_by_place(&place.0);
        let is_blocked = |by: u8| participants.get(usize::from(by)).is_some_and(|by| self.people.is_blocked(by));
        if theirs.has_stale_claim(is_blocked, now_s) {
            self.transcripts.change(place, |theirs| theirs.forget_stale_claims(is_blocked, now_s));
        }
    }

    /// Whether something is missing that will be asked for.
    #[cfg(test)]
    pub fn will_ask(&self) -> bool {
        let open = self.transcripts.open().into_iter().filter_map(|place| self.transcripts.get(&place));
        open.flat_map(|theirs| theirs.open()).any(|open| open.is_hopeful())
    }

    /// Tells a person of what is missing, though something of it may come in parts; where that is known only from others, by whose
    /// word. False if there is no room for it.
    fn alert_gap(&mut self, place: &Place, open: &Open, comes: bool, tellers: &[u8], now: Timestamp) -> bool {
        let Some(which) = self.missing_text(place, open.told_as) else { return true };
        let name = self.people.name(&place.1);
        let participants = self.participants_by_place(&place.0);
        let at_places = |places: &[u8]| -> Vec<Fingerprint> {
            places.iter().filter_map(|by| participants.get(usize::from(*by)).copied()).collect()
        };
        let names = |of: &[Fingerprint]| of.iter().map(|by| self.people.name(by)).collect::<Vec<_>>().join(", ");
        let tellers = at_places(tellers);
        let disputing = self.transcripts.get(place).map(|theirs| theirs.disputed_by(open)).unwrap_or_default();
        let disputing = names(&at_places(&disputing));
        // Whom to block where it is a lie.
        let disputed = match disputing.is_empty() {
            true => String::new(),
            false => format!(" {name} says that it will not come, and {disputing} that it was written."),
        };
        let (by_word, doubt) = match (names(&tellers), disputing) {
            (names, disputing) if names.is_empty() && disputing.is_empty() => {
                (String::new(), "somebody claims".to_owned())
            }
            (names, disputing) if names.is_empty() => (String::new(), format!("{disputing} claimed")),
            (names, _) => (format!(" by the word of {names}"), format!("{names} claimed")),
        };
        let asked = match (comes, open.is_asked()) {
            (true, _) => ", and has come only in part for many days".to_owned(),
            (false, true) => format!(", and has not come again although {name} was asked for it"),
            (false, false) => String::new(),
        };
        let text = format!(
            "{which} is missing{by_word}{asked}.{disputed}\n\
             Ask {name} to send it again. If messages keep missing, a server withholds them, or {doubt} what was never written."
        );
        // Counted by who tells: nobody's tales keep another's from being heard.
        let about: Vec<About> = match tellers.is_empty() {
            true => vec![About::of(&place.1)],
            false => tellers.iter().map(|by| About::by_word(&place.1, Some(by))).collect(),
        };
        about.iter().any(|about| alerts::try_raise(&self.root, &mut self.pending, now, "gap", about, &text))
    }

    /// Tells a person of what is missing and no longer shown, because more is than is kept.
    pub(super) fn alert_gap_given_up(&mut self, place: &Place, counters: (u64, u64), now: Timestamp) {
        let Some(which) = self.missing_text(place, counters) else { return };
        let name = self.people.name(&place.1);
        let text = format!(
            "{which} is missing, and so much else of {name} that it is not looked for any more.\n\
             Ask {name} to send it again. If messages keep missing, a server withholds them, or {name} never wrote them."
        );
        alerts::raise(&self.root, &mut self.pending, now, "gap", &place.1.short(8), &text);
    }

    /// Tells a person of what its author has withdrawn and is no longer shown so, because more is missing than is kept. Between two
    /// people it was not shown.
    pub(super) fn alert_withdrawn_forgotten(&mut self, place: &Place, counters: (u64, u64), now: Timestamp) {
        let Some(which) = self.missing_text(place, counters).filter(|_| self.is_of_several(&place.0)) else { return };
        let name = self.people.name(&place.1);
        let text = format!(
            "{which} will not come, as {name} says, and so much else of {name} is missing that .gaps does not say so any more.\n\
             Ask the others of the conversation whether they have it: it is not noticed any more if they do."
        );
        alerts::raise(&self.root, &mut self.pending, now, "gap", &place.1.short(8), &text);
    }

    fn is_of_several(&self, id: &ConversationId) -> bool {
        self.conversations.get(id).is_some_and(|record| record.profiles.len() > 2)
    }

    /// None in a conversation that waits: of that nobody is told.
    fn missing_text(&self, place: &Place, (from, to): (u64, u64)) -> Option<String> {
        let record = self.conversations.get(&place.0).filter(|record| record.accepted)?;
        let (name, directory) = (self.people.name(&place.1), &record.directory);
        Some(match to - from {
            0 => format!("Message {from} of {name} in {directory}"),
            _ => format!("What {name} wrote in {directory} as messages {from} to {to}"),
        })
    }

    /// Writes `.gaps` where it changed. Of conversations that wait nothing is shown.
    pub(super) fn write_gaps(&mut self) {
        for id in self.transcripts.take_changed() {
            if !self.conversations.get(&id).is_some_and(|record| record.accepted) {
                continue;
            }
            let Some(place) = self.conversations.standing_place(&self.root, &id, &self.pending) else { continue };
            let path = place.join(gap_file::FILE);
            let text: String = self.gap_lines(&id).iter().map(GapLine::to_string).collect();
            match text.is_empty() {
                true => self.pending.remove(path),
                false => self.pending.put(path, text),
            }
        }
    }

    /// What is missing. In a conversation of several, also what its author has withdrawn: others may have it, and not everybody who
    /// does comes to tell of it before they have a later one.
    fn gap_lines(&self, id: &ConversationId) -> Vec<GapLine> {
        let is_of_several = self.is_of_several(id);
        let line = |record: &AuthorRecord, open: &Open, is_withdrawn| GapLine {
            is_withdrawn,
            author: record.author,
            from: open.from,
            to: open.to,
            since: Timestamp::from_micros(open.since().saturating_mul(1_000_000)),
            name: self.people.name(&record.author),
        };
        let of = |record: &AuthorRecord| -> Vec<GapLine> {
            let withdrawn = if is_of_several { record.withdrawn() } else { Vec::new() };
            let open = record.open();
            let open = open.iter().map(|open| line(record, open, false));
            open.chain(withdrawn.iter().map(|open| line(record, open, true))).collect()
        };
        self.transcripts.of_all_in(id).flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::client::author::Entered;
    use crate::client::transcripts::Transcripts;
    use crate::limits::{BATCH_BYTES_MAX, CLAIM_LIFETIME_S, GAP_ALERT_S, GAPS_MAX, MAILBOX_QUIET_WAIT_MS};
    use crate::wire::author::Claim;
    use crate::wire::conversation::ConversationRecord;

    #[test]
    fn nobody_is_asked_who_is_known_by_what_others_say_alone() {
        let mut bob = Bench::new();
        let eve = bob.join_stranger("eve");
        let place = (bob.conversation.id, eve);
        let now_s = bob.now.seconds();
        let claim = Claim { incarnation: [7; 16], counter: 2, hash: [1; 32] };
        bob.engine.transcripts.change(&place, |theirs| theirs.claim(0, claim, false, now_s));
        let asked = |bob: &mut Bench| {
            for _ in 0..MAILBOX_QUIET_WAIT_MS / 1_000 + GAP_WAITS_S[0] {
                bob.now = Timestamp::from_micros(bob.now.micros() + 1_000_000);
                bob.engine.presence.pass(false, bob.now);
                bob.engine.look_for_gaps(bob.now);
            }
            bob.settle();
            bob.engine.spool.len_of(&eve)
        };
        assert_eq!(asked(&mut bob), 0, "her server is whichever somebody names");
        let message = Entered { incarnation: [7; 16], counter: 1, time: bob.now, hash: [2; 32], previous: [0; 32] };
        bob.engine.transcripts.change(&place, |theirs| theirs.enter(&message, false, now_s));
        assert!(asked(&mut bob) > 0, "she has written");
    }

    #[test]
    fn what_somebody_claims_is_missing_no_more_two_weeks_behind_the_alert_or_when_they_are_blocked() {
        let mut bob = Bench::new();
        let eve = bob.join_stranger("eve");
        let place = (bob.conversation.id, bob.alice);
        let by = bob.engine.participants_by_place(&place.0).iter().position(|other| *other == eve);
        let by = u8::try_from(by.unwrap()).unwrap();
        let begun_s = bob.now.seconds();
        let message = Entered { incarnation: [7; 16], counter: 5, time: bob.now, hash: [2; 32], previous: [0; 32] };
        bob.engine.transcripts.change(&place, |theirs| theirs.enter(&message, true, begun_s));
        let tell = |bob: &mut Bench, now_s: u64| {
            let claim = Claim { incarnation: [7; 16], counter: 60_000, hash: [1; 32] };
            bob.engine.transcripts.change(&place, |theirs| theirs.claim(by, claim, false, now_s));
        };
        let look = |bob: &mut Bench, now_s: u64| {
            bob.now = Timestamp::from_micros(now_s * 1_000_000);
            bob.engine.look_for_gaps(bob.now);
            bob.settle();
            let gaps = fs::read_to_string(bob.root.join("conversations/with-alice/.gaps")).unwrap_or_default();
            (gaps.contains(" 6 60000 "), bob.alerts().len())
        };
        tell(&mut bob, begun_s);
        bob.engine.stand(bob.alice, bob.message(1, 1, b"so that it stands"), None, bob.now);
        bob.settle();
        assert_eq!(look(&mut bob, begun_s), (true, 0));
        assert_eq!(look(&mut bob, begun_s + GAP_ALERT_S), (true, 1));
        assert_eq!(look(&mut bob, begun_s + CLAIM_LIFETIME_S - 1), (true, 1));
        assert_eq!(look(&mut bob, begun_s + CLAIM_LIFETIME_S), (false, 1));

        let now_s = bob.now.seconds();
        tell(&mut bob, now_s);
        assert_eq!(look(&mut bob, now_s), (true, 1));
        let card = bob.conversation.profiles.iter().find(|profile| profile.identity().fingerprint() == eve).unwrap();
        fs::create_dir_all(bob.root.blocked()).unwrap();
        fs::write(bob.root.blocked().join("eve.card"), format!("{card}\n")).unwrap();
        bob.restart();
        assert_eq!(look(&mut bob, now_s), (false, 1));
    }

    /// Alice, or whoever stands at `by`, tells of somebody she has invented, in so many conversations more.
    fn tell_tales(bob: &mut Bench, by: u8, count: u32) {
        let now_s = bob.now.seconds();
        for number in 0..count {
            let id: Vec<u8> = [&number.to_be_bytes()[..], &[by; 12]].concat();
            let id = ConversationId(id.try_into().unwrap());
            let directory = format!("tale-{by}-{number}");
            bob.engine.conversations.add(ConversationRecord { id, directory, ..bob.conversation.clone() });
            let invented: Vec<u8> = number.to_be_bytes().repeat(8);
            let place = (id, Fingerprint(invented.try_into().unwrap()));
            let claim = Claim { incarnation: [7; 16], counter: 1, hash: [1; 32] };
            bob.engine.transcripts.change(&place, |theirs| theirs.claim(by, claim, false, now_s));
        }
        bob.settle();
    }

    fn pass(bob: &mut Bench, seconds: u64) {
        bob.now = Timestamp::from_micros(bob.now.micros() + seconds * 1_000_000);
    }

    #[test]
    fn in_however_many_conversations_somebody_tells_of_people_who_do_not_exist_eight_alerts_come_and_others_are_heard()
    {
        let mut bob = Bench::new();
        let [alice, eve] = [bob.alice, bob.join_stranger("eve")].map(|teller| {
            let participants = bob.engine.participants_by_place(&bob.conversation.id);
            u8::try_from(participants.iter().position(|other| *other == teller).unwrap()).unwrap()
        });
        tell_tales(&mut bob, alice, 600);
        tell_tales(&mut bob, eve, 1);
        pass(&mut bob, GAP_ALERT_S);
        for _ in 0..2 {
            pass(&mut bob, 1);
            bob.engine.look_for_gaps(bob.now);
            bob.settle();
        }
        let told = |by: &str| bob.alerts().iter().filter(|text| text.contains(by)).count();
        assert_eq!((told("by the word of alice"), told("by the word of eve"), bob.alerts().len()), (8, 1, 9));
    }

    #[test]
    fn one_look_goes_through_so_many_places_and_the_next_one_goes_on_behind_them() {
        let mut bob = Bench::new();
        let looks_max = u32::try_from(GAP_LOOKS_MAX).unwrap();
        tell_tales(&mut bob, 0, 2 * looks_max + 10);
        pass(&mut bob, CLAIM_LIFETIME_S);
        // Where much else has come in this batch it waits.
        bob.engine.pending.put("keys/large".into(), vec![0; BATCH_BYTES_MAX + 1]);
        bob.engine.look_for_gaps(bob.now);
        let mut left = vec![bob.engine.transcripts.open().len()];
        bob.engine.pending.take_steps();
        bob.engine.pending.applied();
        for _ in 0..3 {
            pass(&mut bob, 1);
            bob.engine.look_for_gaps(bob.now);
            left.push(bob.engine.transcripts.open().len());
            bob.settle();
        }
        assert_eq!(left, [2 * GAP_LOOKS_MAX + 10, GAP_LOOKS_MAX + 10, 10, 0]);
    }

    #[test]
    fn of_more_places_than_one_look_takes_each_has_its_turn_again_and_again() {
        let mut transcripts = Transcripts::default();
        for number in 0..5 {
            let claim = Claim { incarnation: [7; 16], counter: 1, hash: [1; 32] };
            let place = (ConversationId([number; 16]), Fingerprint([1; 32]));
            transcripts.change(&place, |theirs| theirs.claim(0, claim, false, 1));
        }
        let mut look = || {
            let places = transcripts.next_open(2);
            transcripts.looked = places.last().copied();
            places.iter().map(|(id, _)| id.0[0]).collect::<Vec<_>>()
        };
        assert_eq!([look(), look(), look(), look()], [[0, 1], [2, 3], [4, 0], [1, 2]]);
        assert_eq!(transcripts.next_open(9).len(), 5, "and none twice");
    }

    #[test]
    fn what_is_to_be_written_of_transcripts_fills_a_batch() {
        let mut bob = Bench::new();
        let mut theirs = AuthorRecord::new(bob.conversation.id, bob.alice);
        for counter in 1..=u64::try_from(GAPS_MAX).unwrap() {
            let (counter, hash) = (2 * counter, [2; 32]);
            let message = Entered { incarnation: [7; 16], counter, time: bob.now, hash, previous: [0; 32] };
            theirs.enter(&message, false, bob.now.seconds());
        }
        bob.engine.stand(bob.alice, bob.message(1, 1, b"so that it stands"), None, bob.now);
        bob.settle();
        for number in 0..u64::MAX {
            let author = Fingerprint(number.to_be_bytes().repeat(4).try_into().unwrap());
            let record = AuthorRecord { author, ..theirs.clone() };
            bob.engine.transcripts.change(&(record.conversation, author), |theirs| *theirs = record);
            if bob.engine.is_full() {
                break;
            }
        }
        let bytes = bob.engine.transaction().unwrap().to_bytes().len();
        assert!((BATCH_BYTES_MAX / 2..2 * BATCH_BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
