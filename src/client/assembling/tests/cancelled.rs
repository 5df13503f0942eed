//! What its author takes back in the middle.

use super::*;
use crate::client::author::Entered;
use crate::wire::author::Claim;

#[test]
fn what_its_author_cancels_is_erased_unseen_and_by_nobody_else() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 4 * PART_BYTES);
    (0..3).for_each(|number| bench.take(sent.part(number)));
    let messages = [Messages { conversation: bench.conversation.id, ids: vec![sent.payload.id] }];
    bench.engine.cancelled(Fingerprint([9; 32]), &messages, bench.now);
    bench.settle();
    assert_eq!(bench.engine.arriving.authors().count(), 1);
    bench.engine.cancelled(bench.alice, &messages, bench.now);
    bench.settle();
    bench.assert_nothing_is_kept();
    bench.restart();
    bench.take(sent.part(3));
    assert_eq!((bench.messages().len(), bench.alerts().len(), bench.notes()), (0, 0, 0));
    bench.assert_nothing_is_kept();
    // What stands is not recalled.
    let whole = bench.sent(2, 2 * PART_BYTES);
    (0..2).for_each(|number| bench.take(whole.part(number)));
    let messages = [Messages { conversation: bench.conversation.id, ids: vec![whole.payload.id] }];
    bench.engine.cancelled(bench.alice, &messages, bench.now);
    bench.settle();
    assert_eq!(bench.messages().len(), 1);
}

/// What others of the conversation have of it, its author cannot hide by taking it back from us.
#[test]
fn what_its_author_cancels_among_several_is_withdrawn_and_missing_where_another_has_it() {
    let mut bench = Bench::new();
    let eve = bench.join_stranger("eve");
    let (here, place) = (bench.conversation.id, (bench.conversation.id, bench.alice));
    bench.engine.stand(bench.alice, bench.message(1, 1, b"so that it stands"), None, bench.now);
    for (counter, previous) in [(1, 0), (6, 5)] {
        let of_hers =
            Entered { incarnation: [3; 16], counter, time: bench.now, hash: [1; 32], previous: [previous; 32] };
        bench.engine.transcripts.change(&place, |theirs| theirs.enter(&of_hers, false, bench.now.seconds()));
    }
    let by = bench.engine.participants_by_place(&here).iter().position(|other| *other == eve);
    let (by, claim) = (u8::try_from(by.unwrap()).unwrap(), Claim { incarnation: [3; 16], counter: 4, hash: [3; 32] });
    bench.engine.transcripts.change(&place, |theirs| theirs.claim(by, claim, false, bench.now.seconds()));
    for counter in [3, 4] {
        let sent = bench.sent(counter, 4 * PART_BYTES);
        (0..3).for_each(|number| bench.take(sent.part(number)));
        let messages = [Messages { conversation: here, ids: vec![sent.payload.id] }];
        bench.engine.cancelled(bench.alice, &messages, bench.now);
        bench.engine.write_gaps();
        bench.settle();
    }
    bench.assert_nothing_is_kept();
    let text = fs::read_to_string(bench.root.join("conversations/with-alice/.gaps")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let has = |kind: &str, from: u8, to: u8| {
        lines.iter().any(|line| line.starts_with(kind) && line.contains(&format!(" {from} {to} ")))
    };
    assert!(has("withdrawn: ", 3, 3) && has("gap: ", 2, 2) && has("gap: ", 4, 5), "{text}");
}
