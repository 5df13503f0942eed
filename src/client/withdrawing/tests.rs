//! Who asks for what they lack, and what they are told of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::client::assembling::tests::Bench;
use crate::client::delivery::{Recipient, State};
use crate::client::root::CANCEL_DIRECTORY;
use crate::crypto::hash::sha256;
use crate::limits::{CONTENT_BYTES_MAX, MISSING_INTERVAL_S, RESENT_TIMES_MAX};
use crate::wire::identity::participants_hash;
use crate::wire::large::{LargeRecipient, LargeRecord};
use crate::wire::payload::{Payload, Plaintext};
use crate::wire::sent::{Fate, TAKEN_BACK};
use crate::wire::spool::Spooled;

const LIFE: [u8; 16] = [2; 16];

fn place(bob: &Bench, number: u8) -> PathBuf {
    bob.root.join("conversations/with-alice").join(format!("file {number}"))
}

fn entry(bob: &Bench, number: u8) -> SentEntry {
    SentEntry { incarnation: LIFE, sha256: sha256(&[&[number]]), ..bob.sent_entry(number) }
}

/// The conversation stands on the disk.
fn standing() -> Bench {
    let mut bob = Bench::new();
    bob.engine.stand(bob.alice, bob.message(1, 1, b"so that it stands"), None, bob.now);
    bob.settle();
    bob
}

/// A message was sent, and what became of it. Its file stands.
fn add(bob: &mut Bench, entry: SentEntry, fate: Fate) {
    fs::write(place(bob, entry.message.0[0]), [entry.message.0[0]]).unwrap();
    let key = entry.key();
    bob.engine.sent.add(entry, bob.now.seconds(), &mut bob.engine.pending);
    bob.engine.sent.decide(&key, fate, &mut bob.engine.pending);
    bob.settle();
}

/// What is in the queue of somebody: for each note what it withdraws, and all other messages by their counters.
fn queued(bob: &Bench, peer: &Fingerprint) -> (Vec<Vec<(u64, u64)>>, Vec<u64>) {
    let (mut notes, mut messages) = (Vec::new(), Vec::new());
    for (_, Spooled { form, .. }) in bob.engine.spool.waiting(&bob.root, peer, 100) {
        let Form::Waiting(bytes) = &form else { panic!("there is no session") };
        match Plaintext::from_bytes(bytes) {
            Ok(Plaintext::Control(note)) => {
                notes.push(note.withdrawn.iter().map(|range| (range.from, range.to)).collect());
            }
            Ok(Plaintext::Message(payload)) if payload.content.is_some() => messages.push(payload.counter),
            _ => {}
        }
    }
    (notes, messages)
}

fn all_of(bob: &Bench) -> Missing {
    Missing { conversation: bob.conversation.id, incarnation: LIFE, from: 1, to: u64::MAX }
}

/// Somebody asks for what they lack. Hands out what they are told of that, if they are told anything.
fn ask(bob: &mut Bench, peer: Fingerprint, missing: &[Missing]) -> Option<Vec<(u64, u64)>> {
    let before = queued(bob, &peer).0.len();
    bob.now = bob.now.after(Duration::from_secs(MISSING_INTERVAL_S));
    bob.engine.heed(peer, Control { missing: missing.to_vec(), ..Control::default() }, bob.now);
    for _ in 0..3 {
        bob.engine.send_missing(bob.now);
        bob.settle();
    }
    let notes = queued(bob, &peer).0.split_off(before);
    assert!(notes.len() < 2, "more than one note for one question: {notes:?}");
    notes.into_iter().next()
}

#[test]
fn what_was_taken_back_is_said_not_to_come_and_nothing_that_may_come_or_has() {
    let mut bob = standing();
    let (alice, now) = (bob.alice, bob.now);
    let gone = |bob: &mut Bench, entry: SentEntry, fate| {
        let path = place(bob, entry.message.0[0]);
        add(bob, entry, fate);
        fs::remove_file(path).unwrap();
    };
    let one = |bob: &Bench, number| entry(bob, number);
    // Deleted, changed, cancelled or refused; whether or not it was given up.
    let of = one(&bob, 1);
    gone(&mut bob, of, Fate::Open);
    let of = one(&bob, 2);
    gone(&mut bob, of, Fate::Failed);
    let of = one(&bob, 3);
    add(&mut bob, of, Fate::Open);
    fs::write(place(&bob, 3), "changed").unwrap();
    let of = one(&bob, 4);
    add(&mut bob, of, Fate::Refused);
    // It stands: it is sealed anew, also where it was given up.
    for (number, fate) in [(6, Fate::Open), (7, Fate::Failed)] {
        let of = one(&bob, number);
        add(&mut bob, of, fate);
    }
    // It is on their disk, whatever became of ours.
    let of = one(&bob, 9);
    gone(&mut bob, of, Fate::Acknowledged);
    // As often as may be: somebody keeps it from them.
    let of = SentEntry { resent: RESENT_TIMES_MAX, ..one(&bob, 11) };
    gone(&mut bob, of, Fate::Open);
    // On its way still: in the queue, or in parts.
    let of = one(&bob, 13);
    add(&mut bob, of, Fate::Refused);
    let waiting = Spooled {
        message: MessageId([13; 16]),
        conversation: bob.conversation.id,
        file: "file 13".to_owned(),
        is_part: false,
        spreads: false,
        form: Form::Waiting(zeroize::Zeroizing::new(vec![1])),
    };
    bob.engine.spool.push(alice, waiting, now, &mut bob.engine.pending);
    let of = SentEntry { resent: TAKEN_BACK, ..one(&bob, 15) };
    add(&mut bob, of, Fate::Open);
    let record = large(&bob, 15);
    bob.engine.large.add(record);
    // It cannot be read now.
    let of = SentEntry { file: "x".repeat(300), ..one(&bob, 17) };
    add(&mut bob, of, Fate::Open);
    // Of another, elsewhere, and in another life.
    let others = [
        SentEntry { recipient: Fingerprint([9; 32]), ..one(&bob, 19) },
        SentEntry { conversation: ConversationId([9; 16]), ..one(&bob, 21) },
        SentEntry { incarnation: [9; 16], ..one(&bob, 23) },
    ];
    others.into_iter().for_each(|other| add(&mut bob, other, Fate::Refused));
    let everything = [
        all_of(&bob),
        Missing { conversation: ConversationId([9; 16]), ..all_of(&bob) },
        Missing { incarnation: [8; 16], ..all_of(&bob) },
    ];
    let said = ask(&mut bob, alice, &everything);
    assert_eq!(said, Some(vec![(1, 4)]));
    assert_eq!(queued(&bob, &alice).1, [6, 7]);
    bob.restart();
    let said = ask(&mut bob, alice, &everything);
    assert_eq!(said, Some(vec![(1, 4)]), "as long as they ask");
    let said = ask(&mut bob, alice, &[Missing { from: 2, to: 2, ..everything[0] }]);
    assert_eq!(said, Some(vec![(2, 2)]), "of what they ask for");
    let said = ask(&mut bob, alice, &[Missing { from: 5, ..everything[0] }]);
    assert_eq!(said, None, "where there is nothing to say nothing is said");
    let said = ask(&mut bob, Fingerprint([9; 32]), &everything);
    assert_eq!(said, None, "who takes no part hears nothing");
}

#[test]
fn where_state_was_lost_or_messages_are_erased_for_their_age_what_is_not_there_was_taken_back_by_nobody() {
    type Cause = fn(&mut Bench);
    let day = Duration::from_secs(86_400);
    let causes: [(Cause, bool); 5] = [
        (|_| {}, true),
        (|bob| bob.engine.policy.expire = Some(Duration::from_secs(7 * 86_400)), true),
        (|bob| bob.engine.policy.expire = Some(Duration::from_secs(3_600)), false),
        (|bob| bob.engine.lose_state(None, None, bob.now), false),
        (|bob| fs::write(bob.root.join("conversations/with-alice/settings.toml"), "expire = 7").unwrap(), false),
    ];
    for (number, (cause, is_told)) in causes.into_iter().enumerate() {
        let mut bob = standing();
        let alice = bob.alice;
        let of = entry(&bob, 1);
        add(&mut bob, of, Fate::Open);
        let of = entry(&bob, 3);
        add(&mut bob, of, Fate::Refused);
        fs::remove_file(place(&bob, 1)).unwrap();
        bob.now = bob.now.after(day);
        cause(&mut bob);
        let expected = if is_told { vec![(1, 1), (3, 3)] } else { vec![(3, 3)] };
        let all = [all_of(&bob)];
        let said = ask(&mut bob, alice, &all);
        assert_eq!(said, Some(expected.clone()), "{number}");
        // What was found then holds, whatever is set later.
        bob.engine.policy.expire = None;
        let _ = fs::remove_file(bob.root.join("conversations/with-alice/settings.toml"));
        let said = ask(&mut bob, alice, &all);
        assert_eq!(said, Some(expected), "{number}, later");
    }
}

#[test]
fn what_was_erased_for_its_age_is_withdrawn_by_no_later_setting() {
    let mut bob = standing();
    let (alice, here) = (bob.alice, bob.conversation.id);
    let of = entry(&bob, 1);
    add(&mut bob, of.clone(), Fate::Open);
    let line =
        Recipient { fingerprint: alice, state: State::Accepted, since: bob.now, name: "alice".into(), progress: None };
    let delivery = Delivery {
        id: of.message,
        from: Fingerprint([8; 32]),
        from_name: "bob".into(),
        counter: 1,
        file: of.file.clone(),
        outbox: None,
        conversation: None,
        recipients: vec![line],
    };
    let now = bob.now;
    bob.engine.note_erased(&here, &delivery, now);
    fs::remove_file(place(&bob, 1)).unwrap();
    bob.settle();
    bob.restart();
    let all = [all_of(&bob)];
    assert_eq!(ask(&mut bob, alice, &all), None);
}

#[test]
fn who_asks_again_and_again_or_takes_nothing_is_not_told_for_ever() {
    let mut bob = standing();
    let alice = bob.alice;
    let of = entry(&bob, 1);
    add(&mut bob, of, Fate::Refused);
    let all = [all_of(&bob)];
    let told = (0..WITHDRAWN_WAITING_MAX + 10).filter(|_| ask(&mut bob, alice, &all).is_some()).count();
    assert_eq!(told, WITHDRAWN_WAITING_MAX, "nothing leaves");
    let mut told = WITHDRAWN_WAITING_MAX;
    for _ in 0..WITHDRAWN_NOTES_MAX {
        for (sequence, _) in bob.engine.spool.waiting(&bob.root, &alice, 100) {
            bob.engine.spool.remove(&alice, sequence, &mut bob.engine.pending);
        }
        told += usize::from(ask(&mut bob, alice, &all).is_some());
    }
    assert_eq!(told, WITHDRAWN_NOTES_MAX, "in one day");
}

#[test]
fn whose_queue_is_long_is_told_once_it_is_not() {
    let mut bob = standing();
    let alice = bob.alice;
    let of = entry(&bob, 1);
    add(&mut bob, of, Fate::Refused);
    for number in 0..WITHDRAWN_WAITING_MAX {
        let id = MessageId([u8::try_from(100 + number).unwrap(); 16]);
        let form = Form::Waiting(zeroize::Zeroizing::new(vec![1]));
        let (conversation, file) = (bob.conversation.id, format!("other {number}"));
        let other = Spooled { message: id, conversation, file, is_part: false, spreads: false, form };
        let now = bob.now;
        bob.engine.spool.push(alice, other, now, &mut bob.engine.pending);
    }
    let all = [all_of(&bob)];
    assert_eq!(ask(&mut bob, alice, &all), None);
    let (first, _) = bob.engine.spool.waiting(&bob.root, &alice, 1).remove(0);
    bob.engine.spool.remove(&alice, first, &mut bob.engine.pending);
    bob.engine.send_missing(bob.now);
    assert_eq!(bob.engine.spool.len_of(&alice), WITHDRAWN_WAITING_MAX, "without another question");
}

#[test]
fn what_goes_its_way_as_nobodys_is_not_said_not_to_come() {
    let mut bob = standing();
    let alice = bob.alice;
    let of = entry(&bob, 1);
    add(&mut bob, of, Fate::Refused);
    let nobodys = Spooled {
        message: MessageId([1; 16]),
        conversation: ConversationId([0; 16]),
        file: String::new(),
        is_part: false,
        spreads: false,
        form: Form::Waiting(zeroize::Zeroizing::new(vec![1])),
    };
    let now = bob.now;
    bob.engine.spool.push(alice, nobodys, now, &mut bob.engine.pending);
    let all = [all_of(&bob)];
    assert_eq!(ask(&mut bob, alice, &all), None);
}

#[test]
fn a_conversation_that_was_deleted_is_taken_back_and_one_that_stands_elsewhere_is_not() {
    let mut bob = standing();
    let (alice, here) = (bob.alice, bob.conversation.id);
    assert!(!bob.engine.is_deleted(&here));
    let of = entry(&bob, 1);
    add(&mut bob, of, Fate::Open);
    fs::rename(bob.root.join("conversations"), bob.root.join("away")).unwrap();
    assert!(!bob.engine.is_deleted(&here));
    let all = [all_of(&bob)];
    let said = ask(&mut bob, alice, &all);
    assert_eq!(said, None, "where nothing can be looked at nobody has deleted anything");
    fs::rename(bob.root.join("away"), bob.root.join("conversations")).unwrap();
    fs::write(bob.root.join("conversations/note"), "no directory").unwrap();
    fs::remove_dir_all(bob.root.join("conversations/with-alice")).unwrap();
    bob.restart();
    let said = ask(&mut bob, alice, &all);
    assert_eq!(said, Some(vec![(1, 1)]));
}

fn payload(bob: &Bench, number: u8) -> Payload {
    let participants = participants_hash(&bob.conversation.participants());
    Payload { participants, incarnation: LIFE, ..bob.message(number, number.into(), &[number]) }
}

fn large(bob: &Bench, number: u8) -> LargeRecord {
    LargeRecord {
        message: MessageId([number; 16]),
        conversation: bob.conversation.id,
        participants: [0; 32],
        file: format!("file {number}"),
        file_name: Vec::new(),
        time: bob.now,
        incarnation: LIFE,
        counter: number.into(),
        transcript: None,
        size: 100_000,
        sha256: [0; 32],
        recipients: vec![LargeRecipient::new(bob.alice, bob.now)],
    }
}

/// A person takes one back.
fn cancel(bob: &mut Bench, number: u8) {
    let name = MessageId([number; 16]).to_string();
    fs::create_dir_all(bob.root.join(CANCEL_DIRECTORY)).unwrap();
    fs::write(bob.root.join(Path::new(CANCEL_DIRECTORY).join(name)), "").unwrap();
    bob.engine.cancels = true;
    bob.engine.look_at_cancelled(bob.now);
    bob.settle();
}

#[test]
fn what_was_cancelled_before_it_was_sealed_is_said_not_to_come() {
    let mut bob = standing();
    let alice = bob.alice;
    let (record, of) = (bob.conversation.clone(), payload(&bob, 1));
    fs::write(place(&bob, 1), [1]).unwrap();
    assert_eq!(bob.engine.queue_message(&record, alice, &of, "file 1", bob.now), State::Queued);
    let of = large(&bob, 3);
    bob.engine.large.add(of);
    bob.settle();
    let all = [all_of(&bob)];
    let said = ask(&mut bob, alice, &all);
    assert_eq!(said, None, "it waits, and will come");
    [1, 3].into_iter().for_each(|number| cancel(&mut bob, number));
    bob.restart();
    let said = ask(&mut bob, alice, &all);
    assert_eq!(said, Some(vec![(1, 1), (3, 3)]));
    assert_eq!(queued(&bob, &alice).1, [0; 0], "nor does it come, though it stands");
}

#[test]
fn what_was_given_up_before_it_was_sealed_comes_if_it_stands_and_else_is_said_not_to() {
    let mut bob = standing();
    let alice = bob.alice;
    let (record, period) = (bob.conversation.clone(), Duration::from_secs(60));
    bob.engine.policy.retry_period = period;
    for number in [1, 3] {
        let of = payload(&bob, number);
        fs::write(place(&bob, number), [number]).unwrap();
        bob.engine.queue_message(&record, alice, &of, &format!("file {number}"), bob.now);
    }
    bob.settle();
    for _ in 0..300 {
        bob.now = bob.now.after(Duration::from_secs(1));
        bob.engine.steady.pass(bob.now);
        bob.engine.counter.pass(bob.now, 0);
        bob.engine.give_up_when_due(bob.now);
    }
    bob.settle();
    assert_eq!(queued(&bob, &alice).1, [0; 0]);
    fs::remove_file(place(&bob, 1)).unwrap();
    let all = [all_of(&bob)];
    let said = ask(&mut bob, alice, &all);
    assert_eq!((said, queued(&bob, &alice).1), (Some(vec![(1, 1)]), vec![3]));
}

#[test]
fn what_is_taken_back_while_it_is_copied_to_be_sent_again_does_not_leave() {
    let mut bob = standing();
    let alice = bob.alice;
    let content = vec![7; CONTENT_BYTES_MAX + 1];
    let of = SentEntry { sha256: sha256(&[&content]), ..entry(&bob, 1) };
    add(&mut bob, of.clone(), Fate::Open);
    fs::write(place(&bob, 1), &content).unwrap();
    let all = [all_of(&bob)];
    assert_eq!(ask(&mut bob, alice, &all), None);
    assert!(bob.engine.copying.resent(&of.message).is_some());
    cancel(&mut bob, 1);
    while bob.engine.copy_on(bob.now) {}
    bob.settle();
    assert!(!bob.engine.large.has(&of.message) && fs::read_dir(bob.root.join(CANCEL_DIRECTORY)).unwrap().count() == 0);
    assert_eq!(ask(&mut bob, alice, &all), Some(vec![(1, 1)]));
}

#[test]
fn counters_become_ranges_of_one_life_and_conversation_each() {
    let at = |conversation, life, counter| (ConversationId([conversation; 16]), [life; 16], counter);
    let all = [at(1, 1, 1), at(1, 1, 2), at(1, 1, 2), at(1, 1, 4), at(1, 2, 5), at(2, 2, 6), at(2, 2, u64::MAX)];
    let found: Vec<_> = ranges(&all).iter().map(|range| (range.from, range.to)).collect();
    assert_eq!(found, [(1, 2), (4, 4), (5, 5), (6, 6), (u64::MAX, u64::MAX)]);
}
