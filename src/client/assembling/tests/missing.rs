//! What comes in parts while its place is a gap.

use super::*;
use crate::client::author::Entered;
use crate::limits::{ARRIVING_STALLS_S, GAP_ALERT_IN_PARTS_S, GAP_ALERT_S};

/// Of alice's messages these are here.
fn having(counters: &[u64]) -> Bench {
    let mut bench = Bench::new();
    bench.engine.stand(bench.alice, bench.message(1, 1, b"so that it stands"), None, bench.now);
    let place = (bench.conversation.id, bench.alice);
    for counter in counters {
        let of_hers = Entered {
            incarnation: [3; 16],
            counter: *counter,
            time: bench.now,
            hash: [1; 32],
            previous: if *counter == 1 { [0; 32] } else { [1; 32] },
        };
        bench.engine.transcripts.change(&place, |theirs| theirs.enter(&of_hers, false, bench.now.seconds()));
    }
    bench.settle();
    bench
}

/// A part comes then, and what is missing is looked for. How many alerts there are by then.
fn alerts_at(bench: &mut Bench, part: Payload, at_s: u64) -> usize {
    bench.now = Timestamp::from_micros(at_s * 1_000_000);
    bench.take(part);
    bench.engine.look_for_gaps(bench.now);
    bench.settle();
    bench.alerts().len()
}

#[test]
fn a_large_content_may_take_days_and_one_that_trickles_for_a_week_is_told() {
    let mut bench = having(&[1, 2, 4]);
    let begun_s = bench.now.seconds();
    let sent = bench.sent(3, 9 * PART_BYTES);
    let days = [0, 1, 3, 5].map(|day| day * GAP_ALERT_S);
    for (number, passed_s) in (0..).zip(days.into_iter().chain([GAP_ALERT_IN_PARTS_S - 1])) {
        assert_eq!(alerts_at(&mut bench, sent.part(number), begun_s + passed_s), 0, "it grows");
    }
    assert_eq!(alerts_at(&mut bench, sent.part(5), begun_s + GAP_ALERT_IN_PARTS_S), 1);
    assert!(bench.alerts()[0].contains("has come only in part"), "{:?}", bench.alerts());
    assert_eq!(alerts_at(&mut bench, sent.part(6), begun_s + GAP_ALERT_IN_PARTS_S + GAP_ALERT_S), 1, "once");
    let place = (bench.conversation.id, bench.alice);
    assert!(bench.engine.transcripts.get(&place).unwrap().open().iter().all(|open| !open.is_asked()));
    // It is here all the same when it is whole.
    (7..9).for_each(|number| bench.take(sent.part(number)));
    assert!(bench.engine.transcripts.get(&place).unwrap().open().is_empty());
}

#[test]
fn a_large_content_that_stalls_is_told_after_a_day_as_ever() {
    let mut bench = having(&[1, 2, 4]);
    let begun_s = bench.now.seconds();
    let sent = bench.sent(3, 3 * PART_BYTES);
    assert_eq!(alerts_at(&mut bench, sent.part(0), begun_s + GAP_ALERT_S), 0);
    bench.now = Timestamp::from_micros((begun_s + GAP_ALERT_S + ARRIVING_STALLS_S) * 1_000_000);
    bench.engine.look_for_gaps(bench.now);
    bench.settle();
    assert_eq!(bench.alerts().len(), 1);
}

#[test]
fn what_does_not_come_is_told_though_something_before_it_does() {
    let mut bench = having(&[1, 2, 9]);
    let place = (bench.conversation.id, bench.alice);
    bench.engine.transcripts.change(&place, |theirs| theirs.withdraw(&[3; 16], 5, 6));
    let begun_s = bench.now.seconds();
    let sent = bench.sent(3, 9 * PART_BYTES);
    assert_eq!(alerts_at(&mut bench, sent.part(0), begun_s), 0);
    assert_eq!(alerts_at(&mut bench, sent.part(1), begun_s + GAP_ALERT_S - 1), 0);
    assert_eq!(alerts_at(&mut bench, sent.part(2), begun_s + GAP_ALERT_S), 1);
    assert!(bench.alerts()[0].contains("as messages 3 to 8 is missing"), "{:?}", bench.alerts());
    assert_eq!(alerts_at(&mut bench, sent.part(3), begun_s + GAP_ALERT_IN_PARTS_S), 1, "all of it is told");
}
