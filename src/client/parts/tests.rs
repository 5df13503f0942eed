//! A sender, and a recipient who only opens what comes.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;

use rand_core::OsRng;
use tempfile::TempDir;

use super::*;
use crate::client::account::Account;
use crate::client::event::{Errand, Event};
use crate::client::policy::Policy;
use crate::client::root::Root;
use crate::client::sessions::{NotOpened, Sessions, Taken};
use crate::client::trials::Hints;
use crate::crypto::dh::SecretKey;
use crate::crypto::hash::sha256;
use crate::disk::journal::Journal;
use crate::disk::watch::Hint;
use crate::limits::{LARGE_AGAIN_MAX, LARGE_PER_RECIPIENT_MAX, RESENT_TIMES_MAX};
use crate::net::dialer::Way;
use crate::wire::address::ServerAddress;
use crate::wire::identity::ConversationId;
use crate::wire::payload::Plaintext;
use crate::wire::prekey::PrekeyKind;
use crate::wire::state::PrekeySecret;

struct Opened(Plaintext);

impl Taken for Opened {}

/// Bob's end of it.
struct Bob {
    account: Account,
    sessions: Sessions,
    prekey: PrekeySecret,
    /// All that came, in order.
    got: Vec<Payload>,
    /// What he was told that it will not come.
    cancelled: Vec<MessageId>,
    /// His server knows a second copy.
    seen: HashSet<[u8; 32]>,
}

struct Alice {
    scratch: TempDir,
    root: Root,
    journal: Journal,
    engine: Engine,
    /// What Bob's server has said, and Alice has not heard.
    answers: VecDeque<Event>,
    bob: Bob,
    now: u64,
}

fn account(root: &Root, name: &str) -> Account {
    std::fs::create_dir(root.path()).unwrap();
    let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
    Account::create(root, name, server, "", &mut OsRng).unwrap()
}

impl Alice {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path().join("alice"));
        account(&root, "alice");
        let account = account(&Root::new(scratch.path().join("bob")), "bob");
        std::fs::write(root.contacts().join("bob.card"), format!("{}\n", account.profile)).unwrap();
        std::fs::create_dir(root.outbox().join("bob")).unwrap();
        let prekey = PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, &account.keys, &mut OsRng);
        let bob = Bob {
            account,
            sessions: Sessions::default(),
            prekey,
            got: Vec::new(),
            cancelled: Vec::new(),
            seen: HashSet::new(),
        };
        let (journal, _) = Journal::open(root.shared_disk(), root.path()).unwrap();
        let engine = Engine::load(root.clone(), Policy::by_default(&Way::Direct)).unwrap();
        let mut alice =
            Self { scratch, root, journal, engine, answers: VecDeque::new(), bob, now: Timestamp::now().micros() };
        alice.answers.push_back(Event::Counter(None));
        alice
    }

    fn drop_file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.root.outbox().join("bob").join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// All state anew from the disk, as after a crash of the process.
    fn restart(&mut self) {
        let (journal, _) = Journal::open(self.root.shared_disk(), self.root.path()).unwrap();
        self.journal = journal;
        self.engine = Engine::load(self.root.clone(), Policy::by_default(&Way::Direct)).unwrap();
        self.answers = [Event::Counter(None)].into();
    }

    /// A second: hears at most `heard` answers, and does what is to be done. Says how many envelopes left.
    fn second(&mut self, heard: usize) -> usize {
        self.now += 1_000_000;
        let now = Timestamp::from_micros(self.now);
        let heard = heard.min(self.answers.len());
        let events: Vec<Event> = self.answers.drain(..heard).chain([Event::Hint(Hint::Rescan), Event::Tick]).collect();
        events.into_iter().for_each(|event| self.engine.handle(event, now).unwrap());
        while self.engine.work_outbox(now) {
            self.commit(now);
        }
        self.commit(now)
    }

    fn commit(&mut self, now: Timestamp) -> usize {
        self.journal.commit(&mut self.engine.transaction().into_iter().collect()).unwrap();
        let orders = self.engine.recorded(now).orders;
        self.engine.applied();
        let recipient = self.bob.account.profile.identity().fingerprint();
        let mut left = 0;
        for order in orders {
            self.answers.push_back(match order.errand {
                Errand::Deliver { sequence, envelope, .. } => {
                    self.bob.open(&envelope, now);
                    left += 1;
                    Event::Accepted { recipient, sequence }
                }
                Errand::TakePrekey => Event::Prekey { recipient, prekey: self.bob.prekey.prekey.clone() },
                Errand::NewProfile | Errand::LetGo { .. } => continue,
            });
        }
        left
    }

    fn finish(&mut self) {
        for _ in 0..200 {
            if self.second(usize::MAX) == 0 && self.answers.is_empty() && !self.engine.has_queue() {
                return;
            }
        }
        panic!("never done");
    }

    fn message(&self) -> PathBuf {
        let all = std::fs::read_dir(self.root.conversations()).unwrap().map(|entry| entry.unwrap().path());
        let files = all.flat_map(|place| std::fs::read_dir(place).unwrap()).map(|entry| entry.unwrap().path());
        files.filter(|path| path.to_string_lossy().contains("Z-alice")).max().unwrap()
    }

    fn delivery(&self) -> String {
        let message = self.message();
        let file = message.file_name().unwrap();
        std::fs::read_to_string(message.parent().unwrap().join(".delivery").join(file)).unwrap()
    }

    fn copies(&self) -> usize {
        std::fs::read_dir(self.root.join("journal/large")).unwrap().count()
    }
}

impl Bob {
    fn open(&mut self, envelope: &Envelope, now: Timestamp) {
        if !self.seen.insert(envelope.sha256()) {
            return;
        }
        let take = |_: &_, payload: &[u8]| Ok(Opened(Plaintext::from_bytes(payload).unwrap()));
        let keys = &self.account.keys;
        let opened = match self.sessions.open(keys, envelope, Hints::NONE, now.seconds(), &mut OsRng, take) {
            Err(NotOpened::NoSession(_)) => {
                self.sessions.accept(keys, &self.prekey, envelope, now.seconds(), &mut OsRng, take).unwrap().0
            }
            opened => opened.unwrap(),
        };
        match opened.0 {
            Plaintext::Message(payload) => self.got.push(payload),
            Plaintext::Control(control) => {
                self.cancelled.extend(control.cancelled.into_iter().flat_map(|messages| messages.ids));
            }
        }
    }

    /// The content of all parts that came, each once, in order.
    fn whole(&self) -> Vec<u8> {
        let parts = self.got.iter().filter(|payload| payload.part.is_some());
        let mut parts: Vec<&Payload> = parts.collect();
        parts.sort_by_key(|payload| payload.part.unwrap().number);
        let numbers: Vec<u32> = parts.iter().map(|payload| payload.part.unwrap().number).collect();
        assert_eq!(numbers, (0..parts[0].part.unwrap().count()).collect::<Vec<_>>());
        let bytes: Vec<u8> =
            parts.iter().flat_map(|payload| payload.content.as_ref().unwrap().bytes.to_vec()).collect();
        assert_eq!(parts[0].part.unwrap().sha256, sha256(&[&bytes]));
        bytes
    }
}

fn content(parts: usize) -> Vec<u8> {
    let part = usize::try_from(PART_BYTES).unwrap();
    (0..parts * part - 5).map(|place| u8::try_from(place * 31 % 251).unwrap()).collect()
}

#[test]
fn a_large_file_goes_in_parts_behind_an_introduction_and_leaves_nothing_behind() {
    let mut alice = Alice::new();
    let content = content(20);
    let dropped = alice.drop_file("plan.pdf", &content);
    alice.finish();
    assert!(!dropped.exists());
    assert_eq!(alice.bob.whole(), content);
    let first = &alice.bob.got[0];
    assert!(first.introduction.is_some() && first.content.is_none() && first.part.is_none());
    assert_eq!(alice.bob.got.len(), 21);
    assert!(alice.bob.got[1..].iter().all(|payload| payload.id == alice.bob.got[1].id && payload.counter == 1));
    assert_eq!(std::fs::read(alice.message()).unwrap(), content);
    assert!(alice.message().to_string_lossy().ends_with("-plan.pdf"));
    assert!(alice.delivery().contains(" accepted ") && !alice.delivery().contains("progress:"));
    alice.second(0);
    assert_eq!(alice.copies(), 0);
    assert_eq!(std::fs::read_dir(alice.root.join("keys/large")).unwrap().count(), 0);
}

#[test]
fn eight_parts_are_under_way_at_most_and_a_small_message_waits_behind_no_more() {
    let mut alice = Alice::new();
    alice.drop_file("hello", b"hello");
    alice.finish();
    alice.drop_file("large", &content(30));
    let mut left = alice.second(0);
    assert_eq!(left, LARGE_AHEAD);
    assert!(alice.delivery().contains(" sealed "));
    alice.drop_file("small", b"small");
    left += alice.second(3);
    assert_eq!(left, LARGE_AHEAD + 3 + 1);
    assert!(alice.delivery().contains(" sealed "), "the message that was written last");
    let place = alice
        .bob
        .got
        .iter()
        .position(|payload| payload.content.as_ref().is_some_and(|content| *content.bytes == b"small"));
    assert!(place.unwrap() < 1 + LARGE_AHEAD + 4, "{place:?}");
    alice.finish();
    assert_eq!(alice.bob.whole(), content(30));
}

#[test]
fn a_stop_at_any_place_is_gone_on_from_and_progress_is_said() {
    for stop in 0..14 {
        let mut alice = Alice::new();
        let content = content(12);
        alice.drop_file("large", &content);
        for _ in 0..stop {
            alice.second(2);
        }
        alice.restart();
        alice.finish();
        assert_eq!(alice.bob.whole(), content, "{stop}");
        assert!(alice.delivery().contains(" accepted "));
        alice.second(0);
        assert_eq!(alice.copies(), 0);
    }
    let mut alice = Alice::new();
    alice.drop_file("large", &content(20));
    for _ in 0..6 {
        alice.second(3);
    }
    let delivery = alice.delivery();
    let progress = delivery.lines().find_map(|line| line.strip_prefix("progress: ")).unwrap();
    let numbers: Vec<u64> = progress.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
    assert!(
        numbers[0] > 0 && numbers[0].is_multiple_of(PART_BYTES) && numbers[1] == content(20).len() as u64,
        "{delivery}"
    );
}

#[test]
fn what_becomes_of_the_copy_in_the_conversation_changes_nothing_of_what_is_sent() {
    for delete in [false, true] {
        let mut alice = Alice::new();
        alice.drop_file("large", &content(12));
        alice.second(usize::MAX);
        alice.second(usize::MAX);
        let message = alice.message();
        match delete {
            true => std::fs::remove_file(&message).unwrap(),
            false => std::fs::write(&message, "edited").unwrap(),
        }
        alice.finish();
        assert_eq!(alice.bob.whole(), content(12));
        assert_eq!(message.exists(), !delete);
    }
}

#[test]
fn a_copy_that_is_gone_or_damaged_fails_the_message_and_says_so() {
    let mut alice = Alice::new();
    alice.drop_file("large", &content(30));
    alice.second(usize::MAX);
    alice.second(usize::MAX);
    let copy = std::fs::read_dir(alice.root.join("journal/large")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(copy, "short").unwrap();
    alice.finish();
    assert!(alice.delivery().contains(" failed "), "{}", alice.delivery());
    let alerts: Vec<_> = std::fs::read_dir(alice.root.alerts()).unwrap().collect();
    assert_eq!(alerts.len(), 1);
    alice.second(0);
    assert_eq!(alice.copies(), 0);
    // Its author is told to send it again, and that is another message: this one ends for both.
    let id = alice.bob.got.iter().find(|payload| payload.part.is_some()).unwrap().id;
    assert_eq!(alice.bob.cancelled, [id]);
    let parts = alice.bob.got.len();
    let bob = alice.bob.account.profile.identity().fingerprint();
    alice.engine.send_again(bob, 0, Timestamp::from_micros(alice.now));
    alice.finish();
    assert_eq!(alice.bob.got.len(), parts, "{}", alice.delivery());
}

#[test]
fn who_has_all_of_it_sealed_needs_no_copy_and_gets_it() {
    let mut alice = Alice::new();
    let content = content(LARGE_AHEAD);
    alice.drop_file("large", &content);
    let bob = alice.bob.account.profile.identity().fingerprint();
    while alice.engine.spool.parts(&bob) < LARGE_AHEAD {
        alice.second(usize::from(alice.engine.spool.parts(&bob) == 0) * usize::MAX);
    }
    let id = alice.engine.large.iter().next().unwrap().message;
    alice.engine.fail_large(&id, "another lacks it", Timestamp::from_micros(alice.now));
    alice.finish();
    assert_eq!(alice.bob.whole(), content);
    assert!(alice.bob.cancelled.is_empty() && alice.delivery().contains(" accepted "), "{}", alice.delivery());
}

#[test]
fn a_file_over_the_limit_is_refused_at_once_and_the_setting_is_named() {
    let mut alice = Alice::new();
    alice.engine.policy.send_limit = 20_000;
    let dropped = alice.drop_file("large", &vec![1; 20_001]);
    alice.second(0);
    let text = std::fs::read_to_string(dropped.with_file_name("large.error")).unwrap();
    assert!(text.contains("20001 bytes") && text.contains("20000") && text.contains("send_limit"), "{text}");
    std::fs::write(&dropped, vec![1; 20_000]).unwrap();
    alice.finish();
    assert!(!dropped.exists() && !dropped.with_file_name("large.error").exists());
}

#[test]
fn a_file_for_nobody_is_refused_before_it_is_copied() {
    let mut alice = Alice::new();
    std::fs::create_dir(alice.root.outbox().join("eve")).unwrap();
    std::fs::write(alice.root.outbox().join("eve/large"), content(3)).unwrap();
    alice.second(0);
    assert!(alice.root.outbox().join("eve.error").exists());
    assert_eq!(alice.copies(), 0);
}

#[test]
fn what_is_asked_for_again_is_copied_from_the_conversation_unless_it_was_changed_there() {
    for changed in [false, true] {
        let mut alice = Alice::new();
        let content = content(12);
        alice.drop_file("large", &content);
        alice.finish();
        let bob = alice.bob.account.profile.identity().fingerprint();
        let conversation = ConversationId::of_participants(&[alice.engine.people.own_fingerprint(), bob]);
        if changed {
            std::fs::write(alice.message(), vec![1; content.len()]).unwrap();
        }
        alice.bob.got.clear();
        let now = Timestamp::from_micros(alice.now);
        alice.engine.send_again(bob, 0, now);
        for _ in 0..5 {
            alice.second(usize::MAX);
        }
        alice.finish();
        let parts = alice.bob.got.iter().filter(|payload| payload.part.is_some());
        assert!(parts.clone().all(|payload| payload.resent == 1 && payload.conversation == conversation));
        match changed {
            true => assert_eq!(parts.count(), 0, "it was taken back"),
            false => assert_eq!(alice.bob.whole(), content),
        }
        assert_eq!(alice.copies(), 0);
    }
}

#[test]
fn a_recipient_who_loses_state_in_the_middle_gets_all_of_it_anew() {
    let mut alice = Alice::new();
    let content = content(20);
    alice.drop_file("large", &content);
    while alice.bob.got.len() < 12 {
        alice.second(4);
    }
    let bob = alice.bob.account.profile.identity().fingerprint();
    // What was sealed before is not asked for: its loss is younger than the first part.
    let now = Timestamp::from_micros(alice.now + 500_000);
    alice.bob.got.clear();
    alice.engine.send_again(bob, now.seconds() + 1, now);
    alice.finish();
    let again: Vec<Payload> = alice.bob.got.iter().filter(|payload| payload.resent == 1).cloned().collect();
    alice.bob.got = again;
    assert_eq!(alice.bob.whole(), content);
}

#[test]
fn a_file_that_is_written_to_while_it_is_copied_is_copied_anew_and_leaves_nothing() {
    let mut alice = Alice::new();
    let dropped = alice.root.outbox().join("bob/large");
    let file = std::fs::File::create(&dropped).unwrap();
    file.set_len(crate::limits::LARGE_TURN_BYTES + 1).unwrap();
    drop(file);
    let now = Timestamp::from_micros(alice.now);
    alice.engine.handle(Event::Hint(Hint::Rescan), now).unwrap();
    assert!(alice.engine.work_outbox(now) && alice.engine.work_outbox(now), "it takes two turns");
    assert_eq!(alice.copies(), 2);
    // Through another name, as a writer whom no lease holds back would: where there are leases he waits for us.
    std::fs::rename(&dropped, dropped.with_file_name("before.tmp")).unwrap();
    std::fs::write(&dropped, content(3)).unwrap();
    alice.finish();
    assert_eq!(alice.bob.whole(), content(3));
    alice.second(0);
    assert_eq!(alice.copies(), 0);
}

#[test]
fn a_copy_that_fills_the_disk_gives_its_room_back_and_is_made_anew_later() {
    let mut alice = Alice::new();
    let dropped = alice.root.outbox().join("bob/large");
    std::fs::File::create(&dropped).unwrap().set_len(crate::limits::LARGE_TURN_BYTES + 1).unwrap();
    let now = Timestamp::from_micros(alice.now);
    alice.engine.handle(Event::Hint(Hint::Rescan), now).unwrap();
    assert!(alice.engine.work_outbox(now) && alice.engine.work_outbox(now), "it takes two turns");
    assert_eq!(alice.copies(), 2);
    // As the worker does where a record finds no room, without a turn of anything else.
    alice.engine.make_room();
    alice.engine.make_room();
    assert_eq!(alice.copies(), 0);
    assert!(!alice.engine.work_outbox(now), "it waits");
    assert!(dropped.exists() && alice.copies() == 0);
    for _ in 0..crate::limits::COPY_RETRY_S + 2 {
        alice.second(0);
    }
    assert!(alice.copies() > 0 && !dropped.exists());
}

/// Contents that are on their way to bob, and get no further.
fn crowd(alice: &mut Alice, count: usize) {
    let bob = alice.bob.account.profile.identity().fingerprint();
    for number in 0..count {
        alice.engine.large.add(LargeRecord {
            message: MessageId([u8::try_from(number).unwrap(); 16]),
            conversation: ConversationId::of_participants(&[alice.engine.people.own_fingerprint(), bob]),
            participants: [0; 32],
            file: number.to_string(),
            file_name: Vec::new(),
            time: Timestamp::from_micros(alice.now),
            incarnation: [1; 16],
            counter: 1,
            transcript: None,
            size: 2 * PART_BYTES,
            sha256: [0; 32],
            // So often that they do not begin anew, whatever he has lost.
            recipients: vec![LargeRecipient { fingerprint: bob, next: 2, resent: RESENT_TIMES_MAX, moved: 0 }],
        });
    }
}

#[test]
fn many_large_files_for_one_recipient_wait_and_hold_up_nobody_else() {
    let mut alice = Alice::new();
    let carol = account(&Root::new(alice.scratch.path().join("carol")), "carol");
    std::fs::write(alice.root.contacts().join("carol.card"), format!("{}\n", carol.profile)).unwrap();
    std::fs::create_dir(alice.root.outbox().join("carol")).unwrap();
    crowd(&mut alice, LARGE_PER_RECIPIENT_MAX);
    let to_bob = alice.drop_file("large", &content(3));
    let to_carol = alice.root.outbox().join("carol/large");
    std::fs::write(&to_carol, content(3)).unwrap();
    for _ in 0..3 {
        alice.second(0);
    }
    assert!(to_bob.exists() && !to_carol.exists());
}

#[test]
fn of_what_is_asked_for_again_a_few_large_contents_are_copied_at_a_time() {
    for (others, copies) in [(LARGE_AGAIN_MAX, 0), (LARGE_AGAIN_MAX - 1, 1)] {
        let mut alice = Alice::new();
        alice.drop_file("large", &content(12));
        alice.finish();
        crowd(&mut alice, others);
        let bob = alice.bob.account.profile.identity().fingerprint();
        alice.engine.send_again(bob, 0, Timestamp::from_micros(alice.now));
        for _ in 0..3 {
            alice.second(0);
        }
        assert_eq!(alice.copies(), copies, "{others} others");
    }
}
