use zeroize::Zeroizing;

use super::super::assembling::tests::Bench;
use super::super::delivery::{Delivery, Recipient};
use super::super::event::Event;
use super::super::judge::judge;
use super::super::requests;
use super::super::sessions::NotOpened;
use super::*;
use crate::disk::watch::Hint;
use crate::limits::{MAILBOX_DRAINED_MS, SENT_LIFETIME_S};
use crate::wire::control::Messages;
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::{ConversationId, MessageId};
use crate::wire::large::LargeRecipient;
use crate::wire::payload::{Content, Payload};
use crate::wire::spool::{Form, Spooled};

const DAY_MICROS: u64 = 86_400_000_000;

fn large(bench: &Bench, number: u8, moved: Timestamp) -> LargeRecord {
    LargeRecord {
        message: MessageId([number; 16]),
        conversation: bench.conversation.id,
        participants: [0; 32],
        file: number.to_string(),
        file_name: Vec::new(),
        time: Timestamp::from_micros(1),
        incarnation: [1; 16],
        counter: 1,
        transcript: None,
        size: 100_000,
        sha256: [0; 32],
        recipients: vec![LargeRecipient::new(bench.alice, moved)],
    }
}

#[test]
fn a_large_content_that_waits_in_vain_is_given_up_whatever_else_waits_and_not_where_something_is_taken() {
    let mut bench = Bench::new();
    let (now, alice) = (bench.now, bench.alice);
    let (old, limit) = [9, 7].map(|days| Timestamp::from_micros(now.micros() - days * DAY_MICROS)).into();
    let small = Spooled {
        message: MessageId([9; 16]),
        conversation: bench.conversation.id,
        file: "small".to_owned(),
        is_part: false,
        spreads: false,
        form: Form::Waiting(Zeroizing::new(vec![1])),
    };
    bench.engine.spool.push(alice, small, now, &mut bench.engine.pending);
    for (number, moved) in [(1, old), (2, now), (3, Timestamp::from_micros(now.micros() + DAY_MICROS))] {
        bench.engine.large.add(large(&bench, number, moved));
    }
    let left = |bench: &Bench| bench.engine.large.iter().map(|record| record.message.0[0]).collect::<Vec<_>>();
    bench.engine.served.insert(alice, now);
    bench.engine.give_up_large(limit, now);
    assert_eq!(left(&bench), [1, 2, 3], "her server takes something");
    bench.engine.served.insert(alice, old);
    bench.engine.give_up_large(limit, now);
    assert_eq!(left(&bench), [2, 3]);
    let later = Timestamp::from_micros(now.micros() + 8 * DAY_MICROS);
    bench.engine.give_up_large(now, later);
    assert_eq!(left(&bench), [2, 3], "of this moment");
    bench.engine.give_up_large(Timestamp::from_micros(now.micros() + 1_000_000), later);
    assert_eq!(left(&bench), [0; 0], "what lay in the future counts from the first look");
}

fn entry(bench: &Bench, sealed: u64) -> SentEntry {
    SentEntry { file: "sent".to_owned(), sealed, ..bench.sent_entry(1) }
}

#[test]
fn the_silence_of_somebody_who_is_blocked_says_nothing_also_afterwards() {
    let mut bench = Bench::new();
    let before = bench.now.seconds() - 1;
    bench.engine.sent.add(entry(&bench, before), before, &mut bench.engine.pending);
    bench.engine.give_up_unacknowledged(bench.now, bench.now);
    assert_eq!(bench.engine.sent.open(|_| true).len(), 1);
    std::fs::create_dir_all(bench.root.join("blocked")).unwrap();
    std::fs::rename(bench.root.join("contacts/alice.card"), bench.root.join("blocked/alice.card")).unwrap();
    bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
    assert!(bench.engine.people.is_blocked(&bench.alice));
    let conversation = bench.conversation.id;
    bench.engine.conversations.set_behind(&conversation, true);
    bench.engine.give_up_unacknowledged(bench.now, bench.now);
    assert_eq!(bench.engine.sent.open(|_| true).len(), 1, "what became of it is still to be written");
    bench.engine.conversations.set_behind(&conversation, false);
    bench.engine.give_up_unacknowledged(bench.now, bench.now);
    assert!(bench.engine.sent.open(|_| true).is_empty(), "it is not looked at any more");
    bench.settle();
    assert_eq!(bench.alerts(), [""; 0]);
}

#[test]
fn of_what_was_sent_to_people_who_are_blocked_so_much_is_closed_with_each_look() {
    let mut bench = Bench::new();
    let before = bench.now.seconds() - 1;
    for number in 0..=u128::try_from(GIVEN_UP_MAX).unwrap() {
        let entry = SentEntry { message: MessageId(number.to_be_bytes()), ..entry(&bench, before) };
        bench.engine.sent.add(entry, before, &mut bench.engine.pending);
    }
    std::fs::create_dir_all(bench.root.join("blocked")).unwrap();
    std::fs::rename(bench.root.join("contacts/alice.card"), bench.root.join("blocked/alice.card")).unwrap();
    bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
    for left in [1, 0] {
        bench.engine.give_up_unacknowledged(bench.now, bench.now);
        assert_eq!(bench.engine.sent.open(|_| true).len(), left);
    }
}

#[test]
fn what_was_sent_is_remembered_beyond_its_age_until_what_waited_for_us_is_here() {
    let mut bench = Bench::new();
    let sealed = bench.now.seconds() - SENT_LIFETIME_S - 7 * 86_400;
    let entry = entry(&bench, sealed);
    let key = entry.key();
    bench.engine.sent.add(entry, sealed, &mut bench.engine.pending);
    bench.settle();
    bench.restart();
    let look = |bench: &mut Bench| {
        bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
        bench.engine.sent.get(&key).is_some()
    };
    assert!(look(&mut bench), "an acknowledgement may lie in the mailbox");
    for _ in 0..=MAILBOX_DRAINED_MS / 1_000 {
        bench.now = Timestamp::from_micros(bench.now.micros() + 1_000_000);
        bench.engine.presence.pass(true, bench.now);
        bench.engine.steady.pass(bench.now);
    }
    // As far on, but the clock has just jumped by a year.
    bench.now = Timestamp::from_micros(bench.now.micros() + 365 * DAY_MICROS);
    bench.engine.connection = Ok(());
    assert!(look(&mut bench), "the clock may be wrong");
    bench.restart();
    bench.engine.connection = Ok(());
    for _ in 0..=MAILBOX_DRAINED_MS / 1_000 {
        bench.now = Timestamp::from_micros(bench.now.micros() + 1_000_000);
        bench.engine.presence.pass(true, bench.now);
    }
    bench.engine.steady = super::super::steady::Steady::default();
    assert!(!look(&mut bench));
}

/// Somebody may take part in a conversation of ours and write to us in another, of which a person has not decided.
#[test]
fn a_member_of_ours_writes_into_a_conversation_that_waits_only_as_far_as_there_is_room() {
    let mut bench = Bench::new();
    let eve = bench.join_stranger("eve");
    let profile = bench.conversation.profiles.last().unwrap().clone();
    let own = bench.conversation.profiles[1].clone();
    let waits = ConversationRecord {
        id: ConversationId([5; 16]),
        accepted: false,
        profiles: vec![profile.clone(), own],
        directory: "waits".into(),
        ..bench.conversation.clone()
    };
    bench.engine.conversations.add(waits.clone());
    assert!(bench.engine.conversations.has_accepted(&eve) && !bench.engine.people.is_contact(&eve));
    let judged = |record: &ConversationRecord, has_room: bool| {
        let payload = Payload {
            id: MessageId([3; 16]),
            conversation: record.id,
            participants: record.participants_hash(),
            time: bench.now,
            incarnation: [4; 16],
            counter: 1,
            introduction: None,
            profile: None,
            resent: 0,
            transcript: None,
            part: None,
            content: Some(Content { file_name: Vec::new(), bytes: Zeroizing::new(b"hello".to_vec()) }),
        };
        let (people, conversations) = (&bench.engine.people, &bench.engine.conversations);
        judge(profile.identity(), &payload.to_bytes(), people, conversations, false, |_, _| has_room)
    };
    assert!(matches!(judged(&waits, false), Err(NotOpened::NotNow(requests::NO_ROOM))));
    assert!(judged(&waits, true).is_ok());
    assert!(judged(&bench.conversation, false).is_ok(), "ours has no such bound");
}

/// Where it stands, with a file for each of these messages that says it was accepted long ago.
fn stands(bench: &mut Bench, record: &ConversationRecord, directory: &str, entries: &[SentEntry]) {
    bench.engine.conversations.add(record.clone());
    bench.engine.conversations.make_directories(&record.id, &bench.engine.people, &mut bench.engine.pending);
    bench.settle();
    let deliveries = bench.root.join("conversations").join(directory).join(".delivery");
    std::fs::create_dir_all(&deliveries).unwrap();
    for entry in entries {
        let recipient = Recipient {
            fingerprint: bench.alice,
            name: "alice".to_owned(),
            state: State::Accepted,
            since: Timestamp::from_micros(1),
            progress: None,
        };
        let delivery = Delivery {
            id: entry.message,
            from: bench.engine.people.own_fingerprint(),
            from_name: "bob".to_owned(),
            counter: entry.counter,
            file: entry.file.clone(),
            outbox: None,
            conversation: None,
            recipients: vec![recipient],
        };
        std::fs::write(deliveries.join(&entry.file), delivery.to_string()).unwrap();
    }
}

/// Alice has acknowledged something of a conversation.
fn acknowledges(bench: &mut Bench, conversation: ConversationId) {
    let (alice, now) = (bench.alice, bench.now);
    let known = SentEntry { conversation, ..bench.sent_entry(99) };
    bench.engine.sent.add(known, now.seconds(), &mut bench.engine.pending);
    bench.engine.heed_acknowledged(alice, &[Messages { conversation, ids: vec![MessageId([99; 16])] }], now);
}

#[test]
fn what_is_given_up_while_its_directory_is_away_raises_an_alert() {
    let mut bench = Bench::new();
    let (alice, now) = (bench.alice, bench.now);
    let waiting = Spooled {
        message: MessageId([1; 16]),
        conversation: bench.conversation.id,
        file: "lost".to_owned(),
        is_part: false,
        spreads: false,
        form: Form::Waiting(Zeroizing::new(vec![1])),
    };
    bench.engine.spool.push(alice, waiting, Timestamp::from_micros(1), &mut bench.engine.pending);
    bench.engine.give_up(alice, Timestamp::from_micros(2), now);
    let stuck = Timestamp::from_micros(now.micros() - 9 * DAY_MICROS);
    let record = LargeRecord { file: "large".to_owned(), ..large(&bench, 2, stuck) };
    bench.engine.large.add(record);
    bench.engine.give_up_large(now, now);
    bench.settle();
    let mut alerts = bench.alerts();
    alerts.sort();
    assert!(
        alerts.len() == 2
            && alerts[0].starts_with("large to alice could")
            && alerts[1].starts_with("lost to alice could"),
        "{alerts:?}"
    );
}

#[test]
fn what_was_not_acknowledged_is_not_judged_while_its_directory_is_away_and_holds_up_no_others() {
    let mut bench = Bench::new();
    let before = bench.now.seconds() - 10;
    let away = bench.conversation.clone();
    let other = ConversationRecord { id: ConversationId([5; 16]), directory: "other".into(), ..away.clone() };
    let there = SentEntry { conversation: other.id, sealed: before + 1, ..bench.sent_entry(1) };
    let mut gone = Vec::new();
    for number in 0..=u128::try_from(GIVEN_UP_MAX).unwrap() {
        let sealed = if number == 0 { before - 1 } else { before };
        gone.push(SentEntry { message: MessageId(number.to_be_bytes()), ..entry(&bench, sealed) });
    }
    stands(&mut bench, &other, "other", std::slice::from_ref(&there));
    stands(&mut bench, &away, "with-alice", &gone[..1]);
    [away.id, other.id].into_iter().for_each(|id| acknowledges(&mut bench, id));
    for entry in gone.iter().chain([&there]) {
        bench.engine.sent.add(entry.clone(), entry.sealed, &mut bench.engine.pending);
    }
    let [place, aside] = ["conversations/with-alice", "aside"].map(|name| bench.root.join(name));
    std::fs::rename(&place, &aside).unwrap();
    bench.settle();
    bench.engine.give_up_unacknowledged(bench.now, bench.now);
    bench.settle();
    assert_eq!(bench.engine.sent.fate(&there.key()), Some(Fate::Failed));
    assert!(gone.iter().all(|entry| bench.engine.sent.fate(&entry.key()) == Some(Fate::Open)));
    assert_eq!(bench.alerts().len(), 1);
    std::fs::rename(&aside, &place).unwrap();
    bench.settle();
    bench.engine.give_up_unacknowledged(bench.now, bench.now);
    bench.settle();
    assert_eq!(bench.engine.sent.fate(&gone[0].key()), Some(Fate::Failed));
    assert_eq!(bench.alerts().len(), 2);
}

#[test]
fn what_was_not_acknowledged_is_told_of_where_its_conversation_has_gone_on_elsewhere_and_not_where_it_was_deleted() {
    for is_elsewhere in [true, false] {
        let mut bench = Bench::new();
        let before = bench.now.seconds() - 10;
        let sent = entry(&bench, before);
        let here = bench.conversation.clone();
        stands(&mut bench, &here, "with-alice", std::slice::from_ref(&sent));
        acknowledges(&mut bench, here.id);
        bench.engine.sent.add(sent.clone(), before, &mut bench.engine.pending);
        bench.settle();
        let directory = bench.root.join("conversations/with-alice");
        // As if it had been read-only: root may write there all the same.
        std::fs::rename(directory.join(".delivery"), bench.root.join("aside")).unwrap();
        std::fs::write(directory.join(".delivery"), "mine").unwrap();
        let place =
            bench.engine.conversations.place(&bench.root, &here.id, &bench.engine.people, &mut bench.engine.pending);
        assert_eq!(place, Some("conversations/with-alice-2".into()));
        bench.settle();
        if !is_elsewhere {
            std::fs::remove_dir_all(&directory).unwrap();
        }
        bench.engine.give_up_unacknowledged(bench.now, bench.now);
        bench.settle();
        assert_eq!(bench.engine.sent.fate(&sent.key()), Some(Fate::Failed));
        assert_eq!(bench.alerts().len(), usize::from(is_elsewhere));
    }
}
