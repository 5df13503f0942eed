//! What an author says will not come (design, section 4): it is missing no more, unless somebody else says to have it. An author
//! who sends something to others and takes it back from us alone must not hide by that that it was written.
//!
//! The gaps stay as they are behind it. So what comes all the same is compared with what its neighbours say of it, like any other.

use super::Open;
use crate::limits::{CLAIMED_RANGES_MAX, WITHDRAWN_RANGES_MAX};
use crate::wire::author::{AuthorRecord, Gap, Incarnation, KeptClaim, Progress};
use crate::wire::ranges::Ranges;

/// The first and the last of a gap.
type Counters = (u64, u64);

impl AuthorRecord {
    /// The author says that messages of theirs will not come. Kept of what is missing now. True if it is news.
    ///
    /// Kept also of what somebody says to have, where it counts for nothing: it does once they turn out to be a liar.
    /// Of an incarnation of which nothing is here it is not heeded: what others claim of that ends by itself.
    pub fn withdraw(&mut self, incarnation: &[u8; 16], from: u64, to: u64) -> bool {
        let claims = self.claims.iter().filter(|(_, kept)| kept.claim.incarnation == *incarnation);
        let Some(theirs) = self.incarnations.iter_mut().find(|known| known.id == *incarnation) else { return false };
        let mut missing = theirs.gap_ranges();
        for (by, KeptClaim { claim, .. }) in claims {
            missing.add(theirs.highest.saturating_add(1), claim.counter);
            // An old version kept claims and nothing else of them.
            theirs.add_claimed(*by, claim.counter);
        }
        let mut withdrawn = theirs.withdrawn.clone();
        withdrawn.add_all(&Ranges::of(from, to).within(&missing));
        // What would be more than is kept stays missing.
        let is_news = withdrawn != theirs.withdrawn && withdrawn.len() <= WITHDRAWN_RANGES_MAX;
        if is_news {
            theirs.withdrawn = withdrawn;
        }
        is_news
    }

    /// Who says to have something of it that its author has withdrawn, by their places.
    pub fn disputed_by(&self, open: &Open) -> Vec<u8> {
        let Some(known) = self.incarnations.iter().find(|known| known.id == open.incarnation) else {
            return Vec::new();
        };
        let withdrawn = Ranges::of(open.told_as.0, open.told_as.1).within(&known.withdrawn);
        let disputing = known.claimed.iter().filter(|(_, theirs)| !withdrawn.within(theirs).is_empty());
        disputing.map(|(by, _)| *by).collect()
    }

    /// What did not come between messages that are here, and will not.
    pub fn withdrawn(&self) -> Vec<Open> {
        let of = |known: &Incarnation| -> Vec<Open> {
            let will_not_come = known.will_not_come();
            let each = |(from, gap): (&u64, &Gap)| {
                let withdrawn = Ranges::of(*from, gap.to).within(&will_not_come);
                pieces(known.id, &withdrawn, &[(None, gap.progress)])
            };
            known.gaps.iter().flat_map(each).collect()
        };
        self.incarnations.iter().filter(|known| !known.withdrawn.is_empty()).flat_map(of).collect()
    }
}

impl Incarnation {
    fn gap_ranges(&self) -> Ranges {
        let mut ranges = Ranges::default();
        self.gaps.iter().for_each(|(from, gap)| ranges.add(*from, gap.to));
        ranges
    }

    /// What its author has withdrawn, and nobody else says to have.
    ///
    /// Both are kept as they were said, and only here taken together. So a claim that is joined to others, or is let go with who made
    /// it, always counts for what it is.
    pub(super) fn will_not_come(&self) -> Ranges {
        self.claimed.values().fold(self.withdrawn.clone(), |left, claimed| left.without(claimed))
    }

    /// Somebody else says to have what is not here: it is not withdrawn from now on, and where it was, it is missing again. True if
    /// that is news.
    ///
    /// It is remembered of each counter: who claims keeps nothing but their latest claim, and would take an earlier one back by it.
    pub(super) fn note_claimed(&mut self, by: u8, counter: u64, now_s: u64) -> bool {
        if self.claimed.get(&by).is_some_and(|theirs| theirs.contains(counter)) {
            return false;
        }
        let before = self.will_not_come();
        self.add_claimed(by, counter);
        self.begin_anew(&before, now_s);
        true
    }

    /// Remembers that somebody says to have it.
    pub(super) fn add_claimed(&mut self, by: u8, counter: u64) {
        let theirs = self.claimed.entry(by).or_default();
        theirs.add(counter, counter);
        theirs.widen_to(CLAIMED_RANGES_MAX);
    }

    /// Lets go of what is said of messages that are here, or in no gap that is kept.
    pub(super) fn settle_withdrawn(&mut self, now_s: u64) {
        if self.withdrawn.is_empty() && self.claimed.is_empty() {
            return;
        }
        let before = self.will_not_come();
        let mut missing = self.gap_ranges();
        if let Some(next) = self.highest.checked_add(1) {
            missing.add(next, u64::MAX);
        }
        self.withdrawn = self.withdrawn.within(&missing);
        self.withdrawn.shorten_to(WITHDRAWN_RANGES_MAX);
        for theirs in self.claimed.values_mut() {
            *theirs = theirs.within(&missing);
            theirs.widen_to(CLAIMED_RANGES_MAX);
        }
        self.claimed.retain(|_, theirs| !theirs.is_empty());
        self.begin_anew(&before, now_s);
    }

    /// Where less is withdrawn than before, what is missing again is so from the beginning.
    fn begin_anew(&mut self, before: &Ranges, now_s: u64) {
        let behind = self.will_not_come();
        if behind == *before {
            return;
        }
        for (from, gap) in &mut self.gaps {
            let all = Ranges::of(*from, gap.to);
            let (was_open, is_open) = (all.without(before), all.without(&behind));
            // Where that puts off nothing that a person is still to be told.
            if was_open != is_open && (was_open.is_empty() || gap.progress.is_told) {
                gap.progress = Progress::begin(now_s);
            }
        }
    }

    /// More gaps are open than are kept: the oldest goes of which nothing is to be expected, and if there is none such, the oldest of
    /// all. Handed out are [`Findings::given_up`](super::Findings) and `forgotten`: an author who withdraws something and then leaves out
    /// much else must not hide it by that.
    pub(super) fn give_up_gap(&mut self) -> (Option<Counters>, Option<Counters>) {
        let will_not_come = self.will_not_come();
        let is_withdrawn = |(from, gap): &(&u64, &Gap)| Ranges::of(**from, gap.to).without(&will_not_come).is_empty();
        let withdrawn = self.gaps.iter().find(is_withdrawn).map(|(from, _)| *from);
        match withdrawn {
            Some(from) => (None, self.gaps.remove(&from).map(|gap| (from, gap.to))),
            None => (self.gaps.pop_first().map(|(from, gap)| (from, gap.to)), None),
        }
    }
}

/// What is open of something that is missing, which goes on as one: it is asked for in all its pieces, and told by any.
pub(super) fn pieces(incarnation: [u8; 16], open: &Ranges, progress: &[(Option<u8>, Progress)]) -> Vec<Open> {
    let Some((first, last)) = open.iter().next().zip(open.iter().last()) else { return Vec::new() };
    let told_as = (first.0, last.1);
    let piece = |(from, to)| Open { incarnation, from, to, told_as, progress: progress.to_vec() };
    open.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ANEW, ME, NOW_S, all_of, claim, enter, message, ranges};
    use super::super::{Cause, Claimed, Contradiction, Entered};
    use super::*;
    use crate::limits::{GAP_ALERT_S, GAPS_MAX};
    use crate::wire::author::Claim;

    fn withdrawn(record: &AuthorRecord) -> Vec<(u64, u64)> {
        record.withdrawn().iter().map(|open| (open.from, open.to)).collect()
    }

    fn read_again(record: AuthorRecord) -> AuthorRecord {
        let read = AuthorRecord::from_bytes(&record.to_bytes()).unwrap();
        assert_eq!(read, record);
        read
    }

    #[test]
    fn what_its_author_withdraws_is_missing_no_more_and_is_taken_and_compared_if_it_comes_all_the_same() {
        let mut record = all_of([message(1), message(9)]);
        assert!(record.withdraw(&ME, 3, 5));
        assert!(!record.withdraw(&ME, 3, 5), "it is no news");
        let mut record = read_again(record);
        assert_eq!((ranges(&record), withdrawn(&record)), (vec![(2, 2), (6, 8)], vec![(3, 5)]));
        assert_eq!(enter(&mut record, message(4)).1, []);
        assert_eq!((ranges(&record), withdrawn(&record)), (vec![(2, 2), (6, 8)], vec![(3, 3), (5, 5)]));
        assert!(record.withdraw(&ME, 1, u64::MAX));
        assert_eq!((ranges(&record), withdrawn(&record)), (vec![], vec![(2, 3), (5, 8)]));
        let other = Entered { hash: [9; 32], ..message(8) };
        let contradiction = Contradiction { counter: 8, cause: Cause::Previous };
        assert_eq!(enter(&mut record.clone(), other).1, [contradiction], "what came behind it names another");
        for counter in [8, 2, 3, 5, 6, 7] {
            assert_eq!(enter(&mut record, message(counter)).1, []);
        }
        assert!(record.incarnations[0].gaps.is_empty() && record.incarnations[0].withdrawn.is_empty());
    }

    #[test]
    fn only_what_is_missing_can_be_withdrawn() {
        let mut record = all_of([message(1), message(2)]);
        assert!(!record.withdraw(&ME, 1, u64::MAX) && !record.withdraw(&ANEW, 1, u64::MAX));
        enter(&mut record, message(4));
        assert_eq!(ranges(&record), [(3, 3)], "nobody withdraws what is missed later");
        assert!(!record.withdraw(&ANEW, 1, u64::MAX), "of another life");
        let unheard = Claim { incarnation: ANEW, ..claim(2) };
        record.claim(1, unheard, false, NOW_S);
        assert!(!record.withdraw(&ANEW, 1, u64::MAX), "of which nothing is here");
    }

    #[test]
    fn what_somebody_else_has_is_missing_whatever_its_author_says() {
        let between = all_of([message(1), message(9)]);
        let behind = all_of([message(1)]);
        for (mut record, left) in [(between, vec![(5, 5)]), (behind, vec![(5, 5)])] {
            assert_eq!(record.claim(3, claim(5), false, NOW_S), Claimed::Kept);
            assert!(record.withdraw(&ME, 1, u64::MAX));
            assert_eq!(ranges(&record), left);
            // Who tells has a later one now.
            record.claim(3, claim(7), false, NOW_S);
            let mut record = read_again(record);
            record.withdraw(&ME, 1, u64::MAX);
            assert_eq!(ranges(&record), [(5, 5), (7, 7)]);
            assert!(record.open()[0].alarms(NOW_S + GAP_ALERT_S).is_some());
        }
    }

    #[test]
    fn what_somebody_turns_out_to_have_is_missing_again_from_the_beginning() {
        const LATER_S: u64 = NOW_S + 2 * GAP_ALERT_S;
        let mut record = all_of([message(1), message(5)]);
        assert!(record.withdraw(&ME, 2, 4));
        assert_eq!(record.claim(3, claim(3), false, LATER_S), Claimed::Kept);
        let mut record = read_again(record);
        let open = record.open().remove(0);
        assert_eq!((ranges(&record), withdrawn(&record)), (vec![(3, 3)], vec![(2, 2), (4, 4)]));
        assert!(open.is_due(LATER_S + 30) && !open.is_due(LATER_S + 29));
        assert!(open.alarms(LATER_S + GAP_ALERT_S - 1).is_none() && open.alarms(LATER_S + GAP_ALERT_S).is_some());
        assert!(!record.withdraw(&ME, 1, u64::MAX), "once and for all");
        assert_eq!(record.claim(4, claim(2), false, LATER_S + 9), Claimed::Kept);
        assert_eq!((ranges(&record), record.open()[0].since()), (vec![(2, 3)], LATER_S), "and nothing is put off");
        // One that a person was told of is told again for what is missing anew.
        let open = record.open().remove(0);
        record.note_told(&open, LATER_S + GAP_ALERT_S);
        record.claim(3, claim(4), false, LATER_S + GAP_ALERT_S);
        assert_eq!(record.open()[0].since(), LATER_S + GAP_ALERT_S);
        // It has come.
        assert_eq!(enter(&mut record, message(3)).1, []);
        assert_eq!(ranges(&record), [(2, 2), (4, 4)]);
    }

    #[test]
    fn an_earlier_claim_that_comes_late_counts_as_well() {
        let mut record = all_of([message(1), message(9)]);
        record.claim(3, claim(7), false, NOW_S);
        record.withdraw(&ME, 2, 8);
        assert_eq!(record.claim(3, claim(4), false, NOW_S), Claimed::Kept, "messages overtake each other");
        assert_eq!(ranges(&record), [(4, 4), (7, 7)]);
        let mut anew = all_of([]);
        anew.claim(3, claim(4), false, NOW_S);
        enter(&mut anew, message(9));
        anew.claim(3, claim(7), false, NOW_S);
        anew.withdraw(&ME, 1, u64::MAX);
        assert_eq!(ranges(&anew), [(4, 4), (7, 7)], "also of a life of which nothing was here");
    }

    #[test]
    fn what_was_withdrawn_behind_all_that_was_here_is_not_missing_when_something_comes_behind_it() {
        let mut record = all_of([message(1)]);
        record.claim(3, claim(4), false, NOW_S);
        assert!(record.withdraw(&ME, 2, 3));
        assert_eq!((ranges(&record), withdrawn(&record)), (vec![(4, 4)], vec![]));
        assert_eq!(enter(&mut record, message(4)).1, []);
        assert_eq!((ranges(&record), withdrawn(&record)), (vec![], vec![(2, 3)]));
    }

    #[test]
    fn what_is_left_of_a_gap_is_asked_for_in_pieces_and_told_once() {
        let mut record = all_of([message(1), message(9)]);
        record.withdraw(&ME, 4, 5);
        let due = record.open();
        assert!(due.iter().all(|open| open.is_due(NOW_S + 30)));
        due.iter().for_each(|open| record.note_asked(open, NOW_S + 30));
        assert!(record.open().iter().all(|open| open.is_asked() && !open.is_due(NOW_S + 31)));
        assert!(record.open()[1].is_due(NOW_S + 630), "asked for once, not once for each");
        let alarm = |record: &AuthorRecord| {
            let open = record.open().into_iter().filter(|open| open.alarms(NOW_S + GAP_ALERT_S).is_some());
            open.map(|open| open.told_as).collect::<Vec<_>>()
        };
        assert_eq!(alarm(&record), [(2, 8); 2]);
        // Whichever piece it is told by.
        record.note_told(&record.open()[1].clone(), NOW_S + GAP_ALERT_S);
        assert_eq!(alarm(&record), []);
    }

    #[test]
    fn whoever_withdraws_or_claims_without_end_hides_nothing_by_that() {
        let most = u64::try_from(WITHDRAWN_RANGES_MAX).unwrap();
        let mut record = all_of([message(1), message(1_000)]);
        for number in 1..=most {
            assert!(record.withdraw(&ME, 2 * number, 2 * number));
        }
        assert!(!record.withdraw(&ME, 900, 900), "more is not kept");
        assert!(ranges(&record).contains(&(2 * most + 1, 999)));
        read_again(record);

        let mut record = all_of([message(1), message(1_000)]);
        for number in (1..=2 * most).rev() {
            record.claim(u8::try_from(number % 20).unwrap(), claim(7 * number), false, NOW_S);
        }
        record.withdraw(&ME, 1, u64::MAX);
        let open = ranges(&record);
        let is_open = |counter| open.iter().any(|(from, to)| (*from..=*to).contains(&counter));
        assert!((1..=2 * most).all(|number| is_open(7 * number)), "{open:?}");
        read_again(record);
    }

    #[test]
    fn whoever_claims_every_other_of_what_was_withdrawn_makes_no_record_that_cannot_be_read() {
        let most = u64::try_from(WITHDRAWN_RANGES_MAX).unwrap();
        let numbers: Vec<u64> = (1..=2 * most).collect();
        for order in [numbers.clone(), numbers.into_iter().rev().collect()] {
            let mut record = all_of([message(1), message(1_000)]);
            record.withdraw(&ME, 1, u64::MAX);
            for number in order {
                record.claim(3, claim(2 * number), false, NOW_S);
                record = read_again(record);
                let open = ranges(&record);
                assert!(open.iter().any(|(from, to)| (*from..=*to).contains(&(2 * number))), "{open:?}");
            }
        }
    }

    #[test]
    fn what_comes_between_the_claims_of_one_takes_nothing_of_what_another_has() {
        let mut record = all_of([message(1), message(1_000)]);
        let far_apart = (0..61).map(|number| 40 + 7 * number);
        for counter in [2, 4].into_iter().chain(far_apart).chain([500, 501, 502]) {
            record.claim(1, claim(counter), false, NOW_S);
        }
        record.withdraw(&ME, 3, 3);
        // It makes two ranges out of one: others become one for it.
        enter(&mut record, message(501));
        record.claim(2, claim(3), false, NOW_S + GAP_ALERT_S);
        let open = record.open();
        let third = open.iter().find(|open| (open.from..=open.to).contains(&3));
        assert!(third.is_some(), "{:?}", ranges(&record));
        assert_eq!(withdrawn(&record), []);
        assert!(open[0].alarms(NOW_S + 2 * GAP_ALERT_S).is_some());
        read_again(record);
    }

    #[test]
    fn what_a_liar_claimed_is_withdrawn_again_once_they_are_blocked_and_what_others_did_is_not() {
        const EVE: u8 = 1;
        let most = u64::try_from(CLAIMED_RANGES_MAX).unwrap();
        let mut record = all_of([message(1), message(100_000)]);
        record.withdraw(&ME, 2, 20);
        record.claim(2, claim(7), false, NOW_S);
        record.claim(2, claim(99), false, NOW_S);
        record.claim(EVE, claim(10), false, NOW_S);
        // Far apart, and then between them: all of it becomes one.
        for number in 1..=2 * most {
            record.claim(EVE, claim(10 + 1_024 * number), false, NOW_S);
        }
        record.withdraw(&ME, 2, 99_999);
        assert!(ranges(&record).len() <= CLAIMED_RANGES_MAX + 2);
        let is_blocked = |by| by == EVE;
        let mut record = read_again(record);
        assert!(record.has_stale_claim(is_blocked, NOW_S));
        record.forget_stale_claims(is_blocked, NOW_S);
        let mut record = read_again(record);
        assert_eq!(ranges(&record), [(7, 7), (99, 99)], "nobody need say it again");
        assert!(!record.has_stale_claim(is_blocked, NOW_S));
        record.forget_stale_claims(|by| by == 2, NOW_S);
        assert!(record.open().is_empty() && !record.has_claims());
    }

    #[test]
    fn more_gaps_than_are_kept_push_out_those_that_were_withdrawn_before_any_other() {
        let gaps = u64::try_from(GAPS_MAX).unwrap();
        let mut record = all_of((0..=gaps).map(|number| message(2 * number + 1)));
        record.withdraw(&ME, 6, 6);
        let given_up = |record: &mut AuthorRecord, counter| {
            let findings = record.enter(&message(counter), false, NOW_S).1;
            (findings.forgotten, findings.given_up)
        };
        assert_eq!(given_up(&mut record, 2 * gaps + 3), (Some((6, 6)), None));
        assert_eq!((withdrawn(&record), record.open().len()), (vec![], GAPS_MAX));
        assert_eq!(given_up(&mut record, 2 * gaps + 5), (None, Some((2, 2))));
        read_again(record);
    }
}
