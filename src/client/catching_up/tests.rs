use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::super::assembling::tests::Bench;
use super::super::delivery::Delivery;
use super::*;
use crate::limits::TIDY_INTERVAL_S;
use crate::wire::control::{Messages, Refused, RefusedReason};
use crate::wire::identity::MessageId;
use crate::wire::large::{LargeRecipient, LargeRecord};
use crate::wire::spool::{Form, Spooled};

const CONVERSATION: &str = "conversations/with-alice";

/// A message of ours to alice that is in this state, and how it is named in what is known of it.
fn says(bench: &mut Bench, id: u8, state: State) {
    let file = format!("file {id}");
    let line =
        Recipient { fingerprint: bench.alice, name: "alice".to_owned(), state, since: bench.now, progress: None };
    let delivery = Delivery {
        id: MessageId([id; 16]),
        from: bench.engine.people.own_fingerprint(),
        from_name: "bob".to_owned(),
        counter: id.into(),
        file: file.clone(),
        outbox: None,
        conversation: None,
        recipients: vec![line],
    };
    let directory = bench.root.join(CONVERSATION);
    fs::write(directory.join(".delivery").join(&file), delivery.to_string()).unwrap();
    fs::write(directory.join(&file), "text").unwrap();
}

fn remember(bench: &mut Bench, id: u8) {
    let entry = bench.sent_entry(id);
    bench.engine.sent.add(entry, bench.now.seconds(), &mut bench.engine.pending);
}

fn queue(bench: &mut Bench, id: u8) {
    let waiting = Spooled {
        message: MessageId([id; 16]),
        conversation: bench.conversation.id,
        file: format!("file {id}"),
        is_part: false,
        spreads: false,
        form: Form::Waiting(Zeroizing::new(vec![1])),
    };
    bench.engine.spool.push(bench.alice, waiting, bench.now, &mut bench.engine.pending);
}

fn large(bench: &mut Bench, id: u8) {
    let large = LargeRecord {
        message: MessageId([id; 16]),
        conversation: bench.conversation.id,
        participants: [0; 32],
        file: format!("file {id}"),
        file_name: Vec::new(),
        time: bench.now,
        incarnation: [1; 16],
        counter: id.into(),
        transcript: None,
        size: 100_000,
        sha256: [0; 32],
        recipients: vec![LargeRecipient::new(bench.alice, bench.now)],
    };
    bench.engine.large.add(large);
}

fn key(bench: &Bench, id: u8) -> SentKey {
    SentKey { recipient: bench.alice, conversation: bench.conversation.id, message: MessageId([id; 16]) }
}

/// A conversation whose directory stands, with nothing in it.
fn conversation() -> Bench {
    let mut bench = Bench::new();
    bench.engine.conversations.make_directories(
        &bench.conversation.id,
        &bench.engine.people,
        &mut bench.engine.pending,
    );
    bench.settle();
    bench.checkpoint();
    fs::create_dir_all(bench.root.join(CONVERSATION).join(".delivery")).unwrap();
    bench
}

/// The directory looks as if nothing had changed in it for long, as it does where only its mode or its name has.
fn looks_old(bench: &Bench, directory: &str) {
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::open(bench.root.join(directory)).unwrap().set_modified(time).unwrap();
}

/// So long that each conversation is looked at.
fn look(bench: &mut Bench) {
    for _ in 0..=TIDY_INTERVAL_S {
        bench.now = Timestamp::from_micros(bench.now.micros() + 1_000_000);
        bench.engine.tidy(bench.now);
        bench.settle();
    }
}

/// What each message's line says, by number.
fn lines(bench: &Bench, ids: std::ops::RangeInclusive<u8>) -> Vec<String> {
    let read = |id: u8| {
        let path = bench.root.join(CONVERSATION).join(format!(".delivery/file {id}"));
        let delivery = Delivery::parse(&fs::read_to_string(path).unwrap()).unwrap();
        match &delivery.recipients[0].state {
            State::Failed(reason) => reason.clone(),
            state => state.to_string(),
        }
    };
    ids.map(read).collect()
}

/// What is in the way of a conversation's directory, and what was there before.
struct Way {
    place: PathBuf,
    aside: PathBuf,
    is_file: bool,
}

impl Way {
    /// The directory is moved out of `conversations/`, or a file stands in the place of its `.delivery/`.
    fn blocked(bench: &Bench, is_file: bool) -> Self {
        let directory = bench.root.join(CONVERSATION);
        let place = if is_file { directory.join(".delivery") } else { directory };
        let aside = bench.root.join("elsewhere");
        fs::rename(&place, &aside).unwrap();
        if is_file {
            fs::write(&place, "mine").unwrap();
        }
        Self { place, aside, is_file }
    }

    fn clear(self) {
        if self.is_file {
            fs::remove_file(&self.place).unwrap();
        }
        fs::rename(&self.aside, &self.place).unwrap();
    }
}

fn catches_up(is_file: bool, restarts: bool) {
    let mut bench = conversation();
    let (alice, here) = (bench.alice, bench.conversation.id);
    for id in [1, 2, 3, 4, 5, 8] {
        says(&mut bench, id, State::Sealed);
    }
    for id in [6, 9] {
        says(&mut bench, id, State::Queued);
    }
    says(&mut bench, 7, State::Failed("cancelled".to_owned()));
    says(&mut bench, 10, State::Accepted);
    says(&mut bench, 11, State::Failed("no answer".to_owned()));
    (1..=11).filter(|id| *id != 9).for_each(|id| remember(&mut bench, id));
    [1, 3, 5, 6].into_iter().for_each(|id| queue(&mut bench, id));
    large(&mut bench, 8);
    for (id, fate) in [(7, Fate::Refused), (10, Fate::Failed), (11, Fate::Failed)] {
        bench.engine.sent.decide(&key(&bench, id), fate, &mut bench.engine.pending);
    }
    bench.settle();
    looks_old(&bench, CONVERSATION);
    look(&mut bench);
    let before = lines(&bench, 1..=11);
    let way = Way::blocked(&bench, is_file);
    if is_file {
        looks_old(&bench, CONVERSATION);
    }
    look(&mut bench);
    let [first, given_up] = [1, 3].map(|id| bench.engine.spool.find(&MessageId([id; 16]))[0].sequence);
    bench.engine.accepted(&alice, first, bench.now);
    let acknowledged = [2, 11].map(|id| MessageId([id; 16])).to_vec();
    bench.engine.heed_acknowledged(alice, &[Messages { conversation: here, ids: acknowledged }], bench.now);
    bench.engine.spool.remove(&alice, given_up, &mut bench.engine.pending);
    bench.engine.sent.decide(&key(&bench, 3), Fate::Failed, &mut bench.engine.pending);
    let refused = Refused { conversation: here, id: MessageId([4; 16]), reason: RefusedReason::TooLarge };
    bench.engine.heed_refused(alice, &[refused], bench.now);
    bench.settle();
    let alerts = bench.alerts();
    assert!(alerts.len() == 1 && alerts[0].contains("refused file 4: it is larger"), "{alerts:?}");
    if restarts {
        bench.restart();
    }
    look(&mut bench);
    assert!(bench.engine.conversations.is_behind(&here));
    way.clear();
    looks_old(&bench, CONVERSATION);
    assert_eq!(lines(&bench, 1..=11), before);
    look(&mut bench);
    let [accepted, delivered, sealed] = ["accepted", "delivered", "sealed"];
    let after =
        [accepted, delivered, GIVEN_UP, REFUSED, sealed, sealed, "cancelled", sealed, FORGOTTEN, accepted, delivered];
    assert_eq!(lines(&bench, 1..=11), after);
    assert!(!bench.engine.conversations.is_behind(&here));
}

#[test]
fn what_became_of_messages_stands_in_a_directory_once_it_is_back() {
    catches_up(false, false);
}

#[test]
fn what_became_of_messages_stands_there_after_a_restart_too() {
    catches_up(false, true);
}

#[test]
fn what_became_of_messages_is_written_where_a_file_stood_in_the_place_of_what_tells_it() {
    catches_up(true, false);
}

/// Nothing shows it but what is noted of the conversation.
#[test]
fn what_became_of_messages_between_two_looks_is_written_too() {
    let mut bench = conversation();
    says(&mut bench, 1, State::Sealed);
    remember(&mut bench, 1);
    looks_old(&bench, CONVERSATION);
    look(&mut bench);
    let way = Way::blocked(&bench, true);
    let ids = vec![MessageId([1; 16])];
    bench.engine.heed_acknowledged(bench.alice, &[Messages { conversation: bench.conversation.id, ids }], bench.now);
    bench.settle();
    way.clear();
    looks_old(&bench, CONVERSATION);
    look(&mut bench);
    assert_eq!(lines(&bench, 1..=1), ["delivered"]);
}

#[test]
fn of_many_files_some_are_read_at_a_time_and_all_in_the_end() {
    let mut bench = conversation();
    let here = bench.conversation.id;
    says(&mut bench, 1, State::Sealed);
    remember(&mut bench, 1);
    for number in 0..2 * CATCH_UP_FILES_MAX {
        fs::write(bench.root.join(CONVERSATION).join(format!(".delivery/another {number}")), "").unwrap();
    }
    bench.engine.conversations.set_behind(&here, true);
    bench.settle();
    for turn in 0..3 {
        assert_eq!(lines(&bench, 1..=1), ["sealed"], "in turn {turn}");
        bench.engine.catch_up(Path::new(CONVERSATION), &here, bench.now);
        bench.settle();
        assert_eq!(bench.engine.conversations.is_behind(&here), turn < 2);
    }
    assert_eq!(lines(&bench, 1..=1), ["accepted"]);
    // What is lost once more is looked for from the first name on.
    bench.engine.conversations.set_behind(&here, true);
    bench.engine.catch_up(Path::new(CONVERSATION), &here, bench.now);
    let way = Way::blocked(&bench, true);
    bench.engine.set_state(&here, "file 1", &bench.alice.clone(), State::Delivered, bench.now);
    way.clear();
    assert!(bench.engine.tidying.caught_up.is_empty());
}

#[test]
fn of_what_a_person_has_deleted_nothing_catches_up() {
    let mut bench = conversation();
    let (here, alice) = (bench.conversation.id, bench.alice);
    assert_eq!(bench.engine.set_state(&here, "deleted", &alice, State::Delivered, bench.now), Told::Nowhere);
    assert!(!bench.engine.conversations.is_behind(&here));
}

#[test]
fn what_nothing_was_lost_of_is_not_judged() {
    let mut bench = conversation();
    says(&mut bench, 1, State::Sealed);
    look(&mut bench);
    assert_eq!(lines(&bench, 1..=1), ["sealed"]);
}

#[test]
fn a_large_content_whose_copy_is_lost_meanwhile_does_not_look_accepted() {
    let mut bench = conversation();
    says(&mut bench, 1, State::Sealed);
    remember(&mut bench, 1);
    large(&mut bench, 1);
    bench.settle();
    let way = Way::blocked(&bench, false);
    assert!(bench.engine.next_part(&bench.alice.clone(), bench.now).is_none());
    look(&mut bench);
    way.clear();
    look(&mut bench);
    assert_eq!(lines(&bench, 1..=1), [REFUSED]);
    assert_eq!(bench.alerts().len(), 1);
}

#[test]
fn a_renamed_conversation_is_known_by_its_new_name_soon() {
    let mut bench = conversation();
    looks_old(&bench, CONVERSATION);
    look(&mut bench);
    let renamed = bench.root.join("conversations/alice");
    fs::rename(bench.root.join(CONVERSATION), renamed).unwrap();
    look(&mut bench);
    let place = bench.engine.conversations.unmoved_place(&bench.root, &bench.conversation.id);
    assert_eq!(place, Some("conversations/alice".into()));
}
