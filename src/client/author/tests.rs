//! What the record of an author becomes, by tables and in any order.

use super::*;
use crate::wire::identity::{ConversationId, Fingerprint};
use proptest::prelude::*;

pub(super) const NOW_S: u64 = 1_000_000;
pub(super) const ME: [u8; 16] = [1; 16];
pub(super) const ANEW: [u8; 16] = [2; 16];

pub(super) fn hash(incarnation: [u8; 16], counter: u64) -> TranscriptHash {
    let mut hash = [incarnation[0]; 32];
    hash[..8].copy_from_slice(&counter.to_le_bytes());
    hash
}

/// A message as an honest author writes it, a second behind the one before.
pub(super) fn message(counter: u64) -> Entered {
    Entered {
        incarnation: ME,
        counter,
        time: Timestamp::from_micros(counter.saturating_mul(1_000_000)),
        hash: hash(ME, counter),
        previous: if counter == 1 { [0; 32] } else { hash(ME, counter - 1) },
    }
}

pub(super) fn anew(counter: u64) -> Entered {
    let before = message(counter);
    let previous = if counter == 1 { [0; 32] } else { hash(ANEW, counter - 1) };
    let time = Timestamp::from_micros(1_000_000 * (1_000 + counter));
    Entered { incarnation: ANEW, hash: hash(ANEW, counter), previous, time, ..before }
}

pub(super) fn record() -> AuthorRecord {
    AuthorRecord::new(ConversationId([3; 16]), Fingerprint([4; 32]))
}

pub(super) fn enter(record: &mut AuthorRecord, message: Entered) -> (Timestamp, Vec<Contradiction>) {
    let (time, findings) = record.enter(&message, false, NOW_S);
    assert_eq!(findings.given_up, None);
    (time, findings.contradictions)
}

pub(super) fn all_of(messages: impl IntoIterator<Item = Entered>) -> AuthorRecord {
    let mut record = record();
    messages.into_iter().for_each(|message| assert_eq!(enter(&mut record, message).1, []));
    record
}

pub(super) fn ranges(record: &AuthorRecord) -> Vec<(u64, u64)> {
    record.open().iter().map(|open| (open.from, open.to)).collect()
}

pub(super) fn claim(counter: u64) -> Claim {
    Claim { incarnation: ME, counter, hash: hash(ME, counter) }
}

/// Each is another participant's.
fn heed(record: &mut AuthorRecord, claimed: &[u64]) {
    for (counter, by) in claimed.iter().zip(0..) {
        record.claim(by, claim(*counter), false, NOW_S);
    }
}

#[test]
fn what_is_missing_is_what_did_not_come() {
    type Case = (&'static [u64], &'static [u64], &'static [(u64, u64)]);
    // What came, in this order; what others have; what is missing.
    let cases: &[Case] = &[
        (&[], &[], &[]),
        (&[1, 2, 3], &[], &[]),
        (&[1, 2, 3], &[2, 3], &[]),
        (&[1, 3], &[], &[(2, 2)]),
        (&[3], &[], &[(1, 2)]),
        (&[1, 9], &[], &[(2, 8)]),
        (&[1, 9, 5], &[], &[(2, 4), (6, 8)]),
        (&[1, 9, 2], &[], &[(3, 8)]),
        (&[1, 9, 8], &[], &[(2, 7)]),
        (&[1, 9, 8, 2, 5, 4, 3, 6], &[], &[(7, 7)]),
        (&[1, 9, 8, 2, 5, 4, 3, 6, 7], &[], &[]),
        (&[1, 1, 1], &[], &[]),
        (&[1, 3, 3, 2, 2], &[], &[]),
        (&[1], &[4], &[(2, 4)]),
        (&[1, 3], &[2, 3], &[(2, 2)]),
        (&[1, 3], &[7, 5], &[(2, 2), (4, 7)]),
        (&[], &[2], &[(1, 2)]),
    ];
    for (came, claimed, missing) in cases {
        let mut before = all_of([]);
        heed(&mut before, claimed);
        came.iter().for_each(|counter| assert_eq!(enter(&mut before, message(*counter)).1, []));
        let mut behind = all_of(came.iter().copied().map(message));
        heed(&mut behind, claimed);
        for record in [before, behind] {
            assert_eq!(ranges(&record), *missing, "{came:?} came, and others have {claimed:?}");
            let farthest = claimed.iter().chain(*came).copied().max().unwrap_or(0);
            let whole = (1..=farthest).fold(record, |mut record, counter| {
                assert_eq!(enter(&mut record, message(counter)).1, []);
                record
            });
            assert!(whole.open().is_empty() && whole.claims.is_empty());
        }
    }
}

#[test]
fn two_hashes_of_one_message_are_found_wherever_they_meet() {
    let other = |message: Entered| Entered { hash: [9; 32], ..message };
    let names_another = |message: Entered| Entered { previous: [9; 32], ..message };
    let found = |before: &[Entered], message: Entered| enter(&mut all_of(before.iter().copied()), message).1;
    let by = |counter, cause| vec![Contradiction { counter, cause }];
    assert_eq!(found(&[message(1), message(2)], other(message(2))), by(2, Cause::Twice));
    assert_eq!(found(&[message(1)], names_another(message(2))), by(1, Cause::Previous));
    assert_eq!(found(&[message(1), message(3)], other(message(2))), by(2, Cause::Previous), "by the one behind it");
    assert_eq!(found(&[message(1), message(3)], names_another(message(2))), by(1, Cause::Previous));
    assert_eq!(found(&[message(1), message(4), message(2)], other(message(3))), by(3, Cause::Previous));
    let split = [message(1), message(5), names_another(message(3))];
    assert_eq!(found(&split, message(2)), by(2, Cause::Previous), "by one that came late itself");

    let wrong = Claim { hash: [9; 32], ..claim(2) };
    let contradicts = Contradiction { counter: 2, cause: Cause::Claim(5) };
    let mut here = all_of([message(1), message(2)]);
    assert_eq!(here.claim(5, wrong, false, NOW_S), Claimed::Contradicts(contradicts));
    assert_eq!(here.claim(5, claim(2), false, NOW_S), Claimed::Nothing);
    for came in [&[message(1)][..], &[message(1), message(3)]] {
        let mut record = all_of(came.iter().copied());
        assert_eq!(record.claim(5, wrong, false, NOW_S), Claimed::Kept);
        assert_eq!(record.claim(6, claim(2), false, NOW_S), Claimed::Kept);
        assert_eq!(enter(&mut record, message(2)).1, [contradicts], "when the message comes");
        assert!(record.claims.is_empty());
    }
    let all =
        [Cause::Claim(0), Cause::Claim(19), Cause::Unwritten(0), Cause::Unwritten(19), Cause::Previous, Cause::Twice];
    for cause in all {
        here.note_contradiction(Contradiction { counter: 7, cause }, false);
        assert!(!here.is_told(cause), "not yet");
    }
    assert_eq!(here.untold(), all.map(|cause| Contradiction { counter: 7, cause }));
    assert_eq!(AuthorRecord::from_bytes(&here.to_bytes()).as_ref(), Ok(&here));
    for cause in all {
        assert!(!here.is_told(cause), "each is told for itself");
        here.note_contradiction(Contradiction { counter: 8, cause }, true);
        assert!(here.is_told(cause));
    }
    assert_eq!(here.untold(), []);
}

#[test]
fn after_a_loss_of_state_the_author_begins_anew_and_late_ones_of_before_find_their_place() {
    let mut record = all_of([message(1), message(2), message(4), anew(1), anew(2)]);
    assert_eq!(ranges(&record), [(3, 3)], "what was lost before is still missing");
    assert_eq!(record.latest(), Some((ANEW, 2, hash(ANEW, 2))));
    assert_eq!(enter(&mut record, message(3)).1, []);
    assert!(record.open().is_empty());
    assert_eq!(record.latest().unwrap().0, ANEW);
    let third = Entered { incarnation: [7; 16], time: Timestamp::from_micros(1_000_000 * 3_000), ..message(1) };
    enter(&mut record, third);
    assert_eq!(record.former, [ME]);
    assert_eq!(record.claim(1, claim(9), false, NOW_S), Claimed::Nothing, "who is that far behind tells nothing");
    let unheard = Claim { incarnation: [8; 16], ..claim(2) };
    assert_eq!(record.claim(1, unheard, false, NOW_S), Claimed::Kept);
    assert_eq!(ranges(&record), [(1, 2)], "others have a new beginning that we have not");
    let later = all_of([anew(5)]);
    assert_eq!(ranges(&later), [(1, 4)]);
}

#[test]
fn what_our_own_lost_state_may_have_had_is_not_missing() {
    let mut record = record();
    assert_eq!(record.claim(1, claim(9), true, NOW_S), Claimed::Nothing);
    record.enter(&message(5), true, NOW_S);
    record.enter(&message(8), true, NOW_S);
    assert_eq!(ranges(&record), [(6, 7)]);
    record.enter(&message(4), true, NOW_S);
    assert_eq!(record.hash_before(&ME, 5), Some(hash(ME, 4)), "what is sent again is compared all the same");
}

#[test]
fn an_author_who_leaves_out_more_than_is_kept_has_the_oldest_given_up() {
    let mut record = record();
    let gaps = u64::try_from(GAPS_MAX).unwrap();
    let given_up = |record: &mut AuthorRecord, counter| record.enter(&message(counter), false, NOW_S).1.given_up;
    for number in 1..=gaps {
        assert_eq!(given_up(&mut record, 2 * number), None);
    }
    assert_eq!(given_up(&mut record, 2 * (gaps + 1)), Some((1, 1)));
    assert_eq!(given_up(&mut record, u64::MAX), Some((3, 3)));
    assert_eq!(given_up(&mut record, u64::MAX), None);
    assert_eq!(record.open().len(), GAPS_MAX);
    assert!(record.incarnations[0].held.len() <= HELD_MESSAGES_MAX);
}

#[test]
fn a_message_that_splits_a_gap_makes_no_more_gaps_than_are_kept() {
    let mut record = record();
    let gaps = u64::try_from(GAPS_MAX).unwrap();
    for number in 1..=gaps {
        assert_eq!(record.enter(&message(10 * number), false, NOW_S).1.given_up, None);
    }
    assert_eq!(record.enter(&message(5), false, NOW_S).1.given_up, Some((1, 4)));
    assert_eq!(ranges(&record)[0], (6, 9));
    assert_eq!(AuthorRecord::from_bytes(&record.to_bytes()), Ok(record));
}

#[test]
fn what_one_participant_claims_uses_up_nothing_of_what_another_does() {
    const LATER_S: u64 = NOW_S + 2 * GAP_ALERT_S;
    let mut record = all_of([message(1)]);
    let farthest = 1 + CLAIM_AHEAD_MAX;
    assert_eq!(record.claim(3, claim(farthest + 1), false, NOW_S), Claimed::Nothing, "nobody is that far behind");
    assert_eq!(record.claim(3, claim(farthest), false, NOW_S), Claimed::Kept);
    for wait in [30, 630, 7_830] {
        let open = record.open().remove(0);
        assert!(open.is_due(NOW_S + wait) && !open.is_due(NOW_S + wait - 1));
        record.note_asked(&open, NOW_S + wait);
    }
    let open = record.open().remove(0);
    assert_eq!(open.alarms(NOW_S + GAP_ALERT_S), Some(vec![3]), "who says it is named");
    record.note_told(&open, NOW_S + GAP_ALERT_S);
    assert!(!record.open()[0].is_due(LATER_S) && record.open()[0].alarms(LATER_S).is_none());

    // An honest one tells of what is really missing.
    assert_eq!(record.claim(4, claim(2), false, LATER_S), Claimed::Kept);
    assert_eq!(ranges(&record), [(2, farthest)]);
    let open = record.open().remove(0);
    assert!(open.is_due(LATER_S + 30) && !open.is_due(LATER_S + 29));
    assert_eq!(open.alarms(LATER_S + GAP_ALERT_S), Some(vec![4]));
    // So does the author, by what comes behind it.
    record.enter(&message(3), false, LATER_S);
    let open = record.open().remove(0);
    assert_eq!((open.from, open.to, open.since()), (2, 2, LATER_S));
    assert!(open.is_due(LATER_S + 30));
    assert_eq!(open.alarms(LATER_S + GAP_ALERT_S), Some(vec![]));
}

#[test]
fn who_claims_more_and_more_puts_no_alert_off() {
    let mut record = all_of([message(1)]);
    for counter in 2..40 {
        assert_eq!(record.claim(3, claim(counter), false, NOW_S + counter), Claimed::Kept);
    }
    let open = record.open().remove(0);
    assert_eq!((open.to, open.since()), (39, NOW_S + 2));
    assert_eq!(open.alarms(NOW_S + 2 + GAP_ALERT_S), Some(vec![3]));
}

#[test]
fn who_claims_more_and_more_makes_nobody_ask_more_than_three_times_a_day() {
    let mut record = all_of([message(1)]);
    let days = 3;
    let mut asked = Vec::new();
    for second in (0..days * 86_400).step_by(30) {
        record.claim(3, claim(2 + second / 30), false, NOW_S + second);
        let open = record.open().remove(0);
        if open.is_due(NOW_S + second) {
            record.note_asked(&open, NOW_S + second);
            asked.push(second / 86_400);
        }
    }
    assert_eq!(asked, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
}

#[test]
fn a_claim_of_which_nothing_comes_ends_and_where_it_may_be_true_a_person_is_told_before() {
    let nobody = |_| false;
    let mut record = all_of([message(1)]);
    let unheard = Claim { incarnation: ANEW, ..claim(2) };
    assert_eq!(record.claim(3, Claim { counter: CLAIM_AHEAD_MAX + 1, ..unheard }, false, NOW_S), Claimed::Nothing);
    record.claim(3, unheard, false, NOW_S);
    record.claim(4, claim(2), false, NOW_S);
    record.claim(5, claim(60_000), false, NOW_S);
    assert!(!record.has_stale_claim(nobody, NOW_S + CLAIM_LIFETIME_S - 1));
    assert!(record.has_stale_claim(nobody, NOW_S + CLAIM_LIFETIME_S));
    record.forget_stale_claims(nobody, NOW_S + CLAIM_LIFETIME_S);
    assert_eq!(record.claims.keys().collect::<Vec<_>>(), [&4, &5], "what is known of is told first");
    assert!(!record.has_stale_claim(nobody, NOW_S + CLAIM_LIFETIME_S));
    assert!(record.has_stale_claim(|by| by == 5, NOW_S), "by somebody who is blocked");
    record.forget_stale_claims(|by| by == 5, NOW_S);
    assert_eq!(ranges(&record), [(2, 2)]);
    let open = record.open().remove(0);
    record.note_told(&open, NOW_S + GAP_ALERT_S);
    record.claim(4, claim(3), false, NOW_S + CLAIM_LIFETIME_S - 1);
    assert!(!record.has_stale_claim(nobody, NOW_S + CLAIM_LIFETIME_S - 1));
    record.forget_stale_claims(nobody, NOW_S + CLAIM_LIFETIME_S);
    assert_eq!(ranges(&record), [], "also where they have claimed more meanwhile");
}

#[test]
fn what_is_missing_is_asked_for_three_times_and_told_once() {
    let mut progress = Progress::begin(NOW_S);
    let mut asked = Vec::new();
    for now_s in NOW_S..NOW_S + 2 * GAP_ALERT_S {
        if progress.is_due(now_s) {
            asked.push(now_s - NOW_S);
            (progress.asked, progress.last) = (progress.asked + 1, now_s);
        }
    }
    assert_eq!(asked, [30, 630, 7_830]);
    assert!(!progress.is_hopeful());
    assert!(!progress.is_alarming(NOW_S + GAP_ALERT_S - 1) && progress.is_alarming(NOW_S + GAP_ALERT_S));
    assert!(Progress::begin(NOW_S).is_due(NOW_S - 1_000_000), "the clock was set back");
}

proptest! {
    // An author, and who tells of them, choose all of it: what cannot be read again would stop every start.
    #[test]
    fn whatever_comes_the_record_can_be_read_again(
        heard in prop::collection::vec((1..=400_u64, 1..=12_u8, any::<u64>(), any::<u8>(), any::<bool>()), 1..300),
    ) {
        let mut record = record();
        for (counter, incarnation, time, by, has_lost) in heard {
            // Mostly one life, so that it has many gaps.
            let incarnation = [if incarnation > 4 { 1 } else { incarnation }; 16];
            let (counter, hash) = (if time % 50 == 0 { u64::MAX - counter } else { counter }, [by % 3; 32]);
            match by % 4 {
                0 => drop(record.claim(by % 20, Claim { incarnation, counter, hash }, has_lost, NOW_S)),
                1 if time % 30 == 0 => record.forget_stale_claims(|other| other == by % 20, NOW_S),
                1 if has_lost => drop(record.withdraw(&incarnation, counter, counter.saturating_add(u64::from(by)))),
                _ => {
                    let time = Timestamp::from_micros(time);
                    let message = Entered { incarnation, counter, time, hash, previous: [by % 5; 32] };
                    record.enter(&message, has_lost, NOW_S);
                }
            }
            prop_assert!(record.incarnations.iter().all(|incarnation| incarnation.gaps.len() <= GAPS_MAX));
            let withdrawn = record.withdrawn();
            for known in &record.incarnations {
                let is_claimed = |open: &Open| {
                    let all = Ranges::of(open.from, open.to);
                    open.incarnation == known.id && known.claimed.values().any(|theirs| !all.within(theirs).is_empty())
                };
                prop_assert!(!withdrawn.iter().any(is_claimed), "what somebody has is not withdrawn");
            }
        }
        prop_assert_eq!(AuthorRecord::from_bytes(&record.to_bytes()), Ok(record));
    }

    #[test]
    fn names_keep_an_authors_order_whatever_comes_first_and_whatever_the_clocks_say(
        order in Just((1..=24_u64).collect::<Vec<_>>()).prop_shuffle(),
        times in prop::collection::vec(0..20_u64, 24),
        skew in prop::collection::vec(0..30_u64, 24),
    ) {
        let mut record = record();
        let mut names: BTreeMap<u64, Timestamp> = BTreeMap::new();
        // An author's times rise; here the clock cuts them off where it thinks they are in the future.
        let rising: Vec<u64> = times.iter().scan(0, |sum, step| { *sum += step + 1; Some(*sum) }).collect();
        for (counter, now) in order.iter().zip(&skew) {
            let at = usize::try_from(counter - 1).unwrap();
            let time = Timestamp::from_micros(1_000_000 + rising[at].min(20 * now));
            let (name, contradictions) = enter(&mut record, Entered { time, ..message(*counter) });
            prop_assert!(contradictions.is_empty());
            names.insert(*counter, name);
            let behind = names.range(..counter).next_back();
            prop_assert!(behind.is_none_or(|(_, before)| *before < name), "{counter} is not behind: {names:?}");
        }
        prop_assert!(record.open().is_empty());
    }

    #[test]
    fn whatever_is_lost_repeated_or_disordered_only_what_never_came_is_missing(
        sent in prop::collection::vec((1..=40_u64, any::<bool>()), 1..120),
    ) {
        let mut record = record();
        let (mut came, mut told) = (std::collections::BTreeSet::new(), 0);
        for (counter, is_claim) in sent {
            match is_claim {
                true => {
                    prop_assert!(!matches!(record.claim(1, claim(counter), false, NOW_S), Claimed::Contradicts(_)));
                    told = told.max(counter);
                }
                false => {
                    prop_assert_eq!(enter(&mut record, message(counter)).1, vec![]);
                    came.insert(counter);
                }
            }
        }
        let last = came.last().copied().unwrap_or(0).max(told);
        let missing = |record: &AuthorRecord| {
            ranges(record).into_iter().flat_map(|(from, to)| from..=to).collect::<std::collections::BTreeSet<_>>()
        };
        let expected: std::collections::BTreeSet<u64> = (1..=last).filter(|counter| !came.contains(counter)).collect();
        prop_assert_eq!(missing(&record), expected.clone());
        let read = AuthorRecord::from_bytes(&record.to_bytes()).unwrap();
        prop_assert_eq!(&read, &record);
        expected.into_iter().for_each(|counter| drop(enter(&mut record, message(counter))));
        prop_assert!(record.open().is_empty());
    }
}
