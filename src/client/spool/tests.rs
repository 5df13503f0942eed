//! Queues in order, across restarts, and what is known of what stands in them.

use super::*;
use crate::limits::ENVELOPE_BYTES;
use crate::wire::envelope::Envelope;
use crate::wire::journal::Step;

fn spooled(number: u8) -> Spooled {
    let envelope = Envelope::from_slice(&[number; ENVELOPE_BYTES]).unwrap();
    Spooled {
        message: MessageId([number; 16]),
        conversation: ConversationId([1; 16]),
        file: format!("file {number}"),
        is_part: false,
        spreads: false,
        form: Form::Sealed { envelope, opening: false },
    }
}

fn numbers(handed_out: &[(u64, Spooled, Ticket)]) -> Vec<u8> {
    handed_out.iter().map(|(_, spooled, _)| spooled.message.0[0]).collect()
}

#[test]
fn what_is_on_disk_leaves_memory_and_comes_back_in_its_turn() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Root::new(scratch.path());
    let bob = Fingerprint([7; 32]);
    let (mut spool, mut pending) = (Spool::default(), Pending::default());
    let count = u8::try_from(SPOOL_HELD_MAX + 40).unwrap();
    for number in 0..count {
        spool.push(bob, spooled(number), Timestamp::from_micros(5), &mut pending);
    }
    for step in pending.take_steps().steps {
        let Step::Put { path, bytes, .. } = step else { panic!("{step:?}") };
        std::fs::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), bytes).unwrap();
    }
    spool.checkpointed();
    let loaded = Spool::load(root.disk(), &root.join("journal/spool")).unwrap();
    for mut spool in [spool, loaded] {
        let held = spool.queues[&bob].items.values().filter(|item| item.held.is_some()).count();
        assert_eq!((held, spool.len()), (SPOOL_HELD_MAX, usize::from(count)));
        let mut out = Vec::new();
        loop {
            let next = spool.hand_out(&root, &bob);
            if next.is_empty() {
                break;
            }
            next.iter().for_each(|(sequence, ..)| drop(spool.remove(&bob, *sequence, &mut pending)));
            out.extend(next);
        }
        assert_eq!(numbers(&out), (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn a_stop_knows_from_where_on_nothing_was_sent_and_the_next_run_trusts_it() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Root::new(scratch.path());
    let (mut spool, mut pending) = (Spool::default(), Pending::default());
    let [bob, carol, dave] = [4, 5, 6].map(|number| Fingerprint([number; 32]));
    for number in 0..5 {
        spool.push(bob, spooled(number), Timestamp::from_micros(5), &mut pending);
    }
    spool.push(carol, spooled(9), Timestamp::from_micros(5), &mut pending);
    for step in pending.take_steps().steps {
        let Step::Put { path, bytes, .. } = step else { panic!("{step:?}") };
        std::fs::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), bytes).unwrap();
    }
    let handed_out = spool.hand_out(&root, &bob);
    // The first was written and the third as well, which was not answered; the second went to nobody.
    assert!(handed_out[0].2.claim() && handed_out[2].2.claim() && spool.hand_out(&root, &carol)[0].2.claim());
    let unsent = spool.withdraw_unsent();
    assert_eq!(unsent, [(bob, handed_out[3].0)].into());
    assert!(!handed_out[3].2.claim() && !handed_out[4].2.claim(), "nothing leaves behind that");

    let load = || Spool::load(root.disk(), &root.join("journal/spool")).unwrap();
    let never = |spool: &Spool| handed_out.iter().map(|(place, ..)| spool.withdraw(&bob, *place)).collect::<Vec<_>>();
    assert_eq!(never(&load()), [false; 5]);
    let mut trusting = load();
    trusting.trust(&[(bob, handed_out[3].0), (dave, 1)].into());
    trusting.believe();
    assert_eq!(never(&trusting), [false, false, false, true, true]);
    let mut unchecked = load();
    unchecked.trust(&unsent);
    assert_eq!(never(&unchecked), [false; 5]);
    assert_eq!(unchecked.withdraw_unsent(), unsent, "the next run may know that it is the newest");
    let mut unproven = load();
    unproven.trust(&unsent);
    unproven.distrust();
    unproven.believe();
    assert_eq!(never(&unproven), [false; 5], "whatever is believed later");
    assert!(unproven.withdraw_unsent().is_empty(), "nor does the next run know it");
    let mut believed = load();
    believed.trust(&unsent);
    believed.believe();
    believed.distrust();
    assert_eq!(never(&believed), [false, false, false, true, true], "it was the newest");
    let mut restored = load();
    restored.trust(&unsent);
    restored.doubt();
    restored.believe();
    assert_eq!(never(&restored), [false; 5]);
}

#[test]
fn what_cannot_be_read_now_waits_and_nothing_overtakes_it() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Root::new(scratch.path());
    let bob = Fingerprint([7; 32]);
    let (mut spool, mut pending) = (Spool::default(), Pending::default());
    spool.push(bob, spooled(0), Timestamp::from_micros(5), &mut pending);
    spool.push(bob, spooled(1), Timestamp::from_micros(5), &mut pending);
    spool.queues.get_mut(&bob).unwrap().items.values_mut().next().unwrap().held = None;
    assert!(spool.hand_out(&root, &bob).is_empty());
    let path = root.join(root::spool_file(&bob, 5));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, spooled(0).to_bytes()).unwrap();
    assert_eq!(numbers(&spool.hand_out(&root, &bob)), [0, 1]);
}

#[test]
fn what_was_queued_while_the_clock_was_ahead_comes_of_age_as_well() {
    let (mut spool, mut pending) = (Spool::default(), Pending::default());
    let bob = Fingerprint([7; 32]);
    let at = Timestamp::from_micros;
    spool.push(bob, spooled(0), at(100), &mut pending);
    spool.push(bob, spooled(1), at(9_000_000), &mut pending);
    // The clock is right again.
    spool.push(bob, spooled(2), at(200), &mut pending);
    assert_eq!(spool.places_before(&bob, at(50), at(1_000)), [0; 0]);
    assert_eq!(spool.places_before(&bob, at(1_000), at(1_950)), [100]);
    assert_eq!(spool.places_before(&bob, at(1_001), at(1_951)), [100, 9_000_000, 9_000_001]);
    // It is set back once more, behind that look.
    assert_eq!(spool.places_before(&bob, at(10), at(500)), [0; 0]);
    assert_eq!(spool.places_before(&bob, at(501), at(1_451)), [100, 9_000_000, 9_000_001]);
}

#[test]
fn what_left_may_have_arrived_and_what_its_courier_has_still_is_never_sent() {
    let (mut spool, mut pending) = (Spool::default(), Pending::default());
    let (root, bob) = (Root::new("/nowhere"), Fingerprint([7; 32]));
    spool.push(bob, spooled(0), Timestamp::from_micros(5), &mut pending);
    spool.push(bob, spooled(1), Timestamp::from_micros(6), &mut pending);
    let handed_out = spool.hand_out(&root, &bob);
    assert_eq!(handed_out.len(), 2);
    assert!(handed_out[0].2.claim());
    spool.push(bob, spooled(2), Timestamp::from_micros(7), &mut pending);
    let removed = [5, 6, 7].map(|place| spool.remove(&bob, place, &mut pending).unwrap().may_have_arrived);
    assert_eq!(removed, [true, false, false]);
    assert!(handed_out.iter().all(|(.., ticket)| !ticket.claim()), "nor is the first sent once more");
}
