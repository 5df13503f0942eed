//! Parts as a peer may send them, up to the file in its conversation.

use std::fs;
use std::sync::Arc;

use rand_core::OsRng;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::client::account::Account;
use crate::client::event::Event;
use crate::client::policy::Policy;
use crate::client::root::Root;
use crate::crypto::dh::SecretKey;
use crate::crypto::hash::sha256;
use crate::disk::journal::{Journal, Transaction};
use crate::disk::watch::Hint;
use crate::limits::{ARRIVING_LIFETIME_S, ARRIVING_OTHERS_MAX, CANCELLED_UNBEGUN_MAX, PART_BYTES, PARTS_BATCH_BYTES};
use crate::net::dialer::Way;
use crate::wire::address::ServerAddress;
use crate::wire::control::Messages;
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::participants_hash;
use crate::wire::payload::Content;
use crate::wire::sent::SentEntry;
use crate::wire::transcript::Transcript;

mod cancelled;
mod missing;
mod places;

/// Bob, who has a conversation with alice, who sends.
pub(in crate::client) struct Bench {
    scratch: TempDir,
    pub(in crate::client) root: Root,
    journal: Journal,
    pub(in crate::client) engine: Engine,
    pub(in crate::client) alice: Fingerprint,
    pub(in crate::client) conversation: ConversationRecord,
    pub(in crate::client) now: Timestamp,
}

/// What alice sends.
struct Sent {
    payload: Payload,
    bytes: Vec<u8>,
}

impl Sent {
    fn part(&self, number: u32) -> Payload {
        let mut payload = self.payload.clone();
        let part = payload.part.insert(Part { number, ..self.payload.part.unwrap() });
        let start = usize::try_from(part.offset()).unwrap();
        let bytes = self.bytes[start..start + usize::try_from(part.length()).unwrap()].to_vec();
        payload.transcript = (number == 0).then(Transcript::default);
        payload.content.as_mut().unwrap().bytes = Zeroizing::new(bytes);
        payload
    }

    fn count(&self) -> u32 {
        self.payload.part.unwrap().count()
    }
}

impl Bench {
    pub(in crate::client) fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let account = |name: &str| {
            let root = Root::new(scratch.path().join(name));
            fs::create_dir(root.path()).unwrap();
            let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
            (root.clone(), Account::create(&root, name, server, "", &mut OsRng).unwrap().profile)
        };
        let ((_, alice), (root, bob)) = (account("alice"), account("bob"));
        fs::write(root.contacts().join("alice.card"), format!("{alice}\n")).unwrap();
        let both = [alice.identity().fingerprint(), bob.identity().fingerprint()];
        let conversation = ConversationRecord {
            id: ConversationId::of_participants(&both),
            salt: None,
            subject: String::new(),
            created: Timestamp::from_micros(1),
            profiles: vec![alice.clone(), bob],
            directory: "with-alice".into(),
            accepted: true,
            incarnation: [1; 16],
            counter: 0,
            last_time: Timestamp::default(),
            introduced: both.into(),
            behind: false,
        };
        let (journal, engine) = open(&root);
        let (alice, now) = (both[0], Timestamp::from_micros(1_790_000_000_000_000));
        let mut bench = Self { scratch, root, journal, engine, alice, conversation, now };
        bench.engine.conversations.add(bench.conversation.clone());
        bench.settle();
        bench
    }

    /// The conversation has another member, of whom there is no card.
    pub(in crate::client) fn join_stranger(&mut self, name: &str) -> Fingerprint {
        let root = Root::new(self.scratch.path().join(name));
        fs::create_dir(root.path()).unwrap();
        let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
        let profile = Account::create(&root, name, server, "", &mut OsRng).unwrap().profile;
        self.engine.people.introduce(&profile);
        self.conversation.profiles.push(profile.clone());
        self.engine.conversations.add(self.conversation.clone());
        self.settle();
        profile.identity().fingerprint()
    }

    /// A message of ours to alice as it is remembered.
    pub(in crate::client) fn sent_entry(&self, id: u8) -> SentEntry {
        SentEntry {
            recipient: self.alice,
            message: MessageId([id; 16]),
            conversation: self.conversation.id,
            file: format!("file {id}"),
            file_name: Vec::new(),
            time: self.now,
            incarnation: [1; 16],
            counter: id.into(),
            sha256: [0; 32],
            sealed: self.now.seconds(),
            resent: 0,
            transcript: Arc::default(),
        }
    }

    fn sent(&self, id: u8, size: u64) -> Sent {
        let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap() ^ id).collect();
        let payload = Payload {
            id: MessageId([id; 16]),
            conversation: self.conversation.id,
            participants: participants_hash(&self.conversation.participants()),
            time: self.now,
            incarnation: [3; 16],
            counter: id.into(),
            introduction: None,
            profile: None,
            resent: 0,
            transcript: None,
            part: Some(Part { number: 0, size, sha256: sha256(&[&bytes]) }),
            content: Some(Content { file_name: b"plan.pdf".to_vec(), bytes: Zeroizing::default() }),
        };
        Sent { payload, bytes }
    }

    /// A part comes, in a batch of its own.
    fn take(&mut self, payload: Payload) {
        self.engine.take_part(self.alice, payload, self.now);
        self.settle();
    }

    /// As the daemon's loop does it, until nothing is left to do.
    pub(in crate::client) fn settle(&mut self) {
        loop {
            let more = self.engine.work_arriving(self.now) | self.engine.sweeping.go_on(&self.root);
            let mut batch: Vec<_> = self.engine.transaction().into_iter().collect();
            let anything = !batch.is_empty();
            self.journal.commit(&mut batch).unwrap();
            self.engine.recorded(self.now);
            self.engine.applied();
            if !more && !anything && !self.engine.has_arrived() {
                return;
            }
        }
    }

    /// What was to be written is recorded, and nothing more happens.
    pub(in crate::client) fn commit(&mut self, transaction: Option<Transaction>) {
        self.journal.commit(&mut transaction.into_iter().collect()).unwrap();
    }

    /// All of it is in its place, and the log empty: what is done to the directory now no start undoes.
    pub(in crate::client) fn checkpoint(&mut self) {
        self.journal.checkpoint().unwrap();
    }

    /// The daemon is killed and started anew.
    pub(in crate::client) fn restart(&mut self) {
        let policy = self.engine.policy;
        (self.journal, self.engine) = open(&self.root);
        self.engine.policy = policy;
        self.settle();
    }

    /// Messages in the conversation, with their content.
    pub(in crate::client) fn messages(&self) -> Vec<(String, Vec<u8>)> {
        let directory = self.root.join("conversations/with-alice");
        let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
        let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().unwrap().is_file());
        let all = files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
        all.filter(|(name, _)| name != "metadata.toml").collect()
    }

    pub(in crate::client) fn alerts(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.alerts()).unwrap();
        entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    /// Nothing of any content that arrives is kept.
    fn assert_nothing_is_kept(&mut self) {
        self.journal.checkpoint().unwrap();
        for directory in ["keys/arriving", "journal/arriving", "journal/large", "tmp/chatterboxd"] {
            let left: Vec<_> = fs::read_dir(self.root.join(directory)).unwrap().map(|entry| entry.unwrap()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        assert_eq!(self.engine.arriving.authors().count(), 0);
    }

    /// What was queued for alice's program: nothing else is.
    fn notes(&self) -> usize {
        self.engine.spool.len_of(&self.alice)
    }
}

fn open(root: &Root) -> (Journal, Engine) {
    let (journal, _) = Journal::open(root.shared_disk(), root.path()).unwrap();
    (journal, Engine::load(root.clone(), Policy::by_default(&Way::Direct)).unwrap())
}

#[test]
fn parts_in_any_order_and_repeated_become_one_file_that_nobody_sees_before() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 6 * PART_BYTES + 100);
    for number in [6, 2, 2, 0, 1, 6, 3, 4] {
        bench.take(sent.part(number));
        assert_eq!(bench.messages(), []);
    }
    let status = bench.engine.status(None, std::iter::empty()).to_string();
    assert!(status.contains("receiving: from alice: 83% of 66.0 KiB (plan.pdf)\n"), "{status}");
    bench.take(sent.part(5));
    let [(name, bytes)] = &bench.messages()[..] else { panic!("{:?}", bench.messages().len()) };
    assert!(name.ends_with("-alice-plan.pdf") && *bytes == sent.bytes, "{name}");
    let delivery = fs::read_to_string(bench.root.join(format!("conversations/with-alice/.delivery/{name}"))).unwrap();
    assert!(delivery.contains("counter: 1\n"), "{delivery}");
    bench.assert_nothing_is_kept();
    // It comes again, sealed anew.
    for number in 0..sent.count() {
        bench.take(Payload { resent: 1, ..sent.part(number) });
    }
    assert_eq!((bench.messages().len(), bench.alerts().len(), bench.notes()), (1, 0, 0));
    bench.assert_nothing_is_kept();
}

#[test]
fn a_restart_in_the_middle_goes_on_with_what_is_here() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 9 * PART_BYTES);
    for number in 0..sent.count() {
        bench.take(sent.part(number));
        if number % 3 == 1 {
            bench.restart();
        }
        if number == 5 {
            bench.journal.checkpoint().unwrap();
        }
    }
    assert_eq!(bench.messages().len(), 1);
    assert!(bench.messages()[0].1 == sent.bytes);
    // What a person deletes stays deleted, also by the replay.
    fs::remove_file(bench.root.join("conversations/with-alice").join(&bench.messages()[0].0)).unwrap();
    bench.restart();
    assert_eq!(bench.messages(), []);
    bench.assert_nothing_is_kept();
}

#[test]
fn parts_of_one_batch_are_enough_together_and_no_more_than_a_megabyte_is_held() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 200 * PART_BYTES);
    let mut held = 0;
    for number in 0..sent.count() {
        bench.engine.take_part(bench.alice, sent.part(number), bench.now);
        held = held.max(bench.engine.pending.part_bytes());
        if bench.engine.is_full() {
            bench.settle();
        }
    }
    bench.settle();
    assert!(held <= PARTS_BATCH_BYTES + usize::try_from(PART_BYTES).unwrap(), "{held}");
    assert!(bench.messages()[0].1 == sent.bytes);
}

#[test]
fn parts_that_contradict_each_other_are_refused_and_the_rest_of_them_vanishes() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 4 * PART_BYTES);
    bench.take(sent.part(0));
    let mut other = sent.part(1);
    other.part.as_mut().unwrap().sha256[0] ^= 1;
    bench.take(other);
    let alerts = bench.alerts();
    assert!(alerts.len() == 1 && alerts[0].contains("alice was discarded: its parts contradict"), "{alerts:?}");
    for number in 0..sent.count() {
        bench.take(sent.part(number));
    }
    assert_eq!((bench.messages().len(), bench.alerts().len(), bench.notes()), (0, 1, 1));
    bench.assert_nothing_is_kept();
}

#[test]
fn a_whole_that_is_not_what_it_says_is_refused() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 4 * PART_BYTES);
    for number in 0..sent.count() {
        let mut payload = sent.part(number);
        payload.content.as_mut().unwrap().bytes[5] ^= u8::from(number == 2);
        bench.take(payload);
    }
    assert_eq!((bench.messages().len(), bench.notes()), (0, 1));
    assert!(bench.alerts()[0].contains("not what it says"), "{:?}", bench.alerts());
    bench.assert_nothing_is_kept();
}

#[test]
fn what_is_too_large_is_refused_by_its_first_part_and_once() {
    let mut bench = Bench::new();
    bench.engine.policy.receive_limit = 4 * PART_BYTES;
    let (allowed, sent) = (bench.sent(1, 4 * PART_BYTES), bench.sent(2, 4 * PART_BYTES + 1));
    for number in (0..sent.count()).rev() {
        bench.take(sent.part(number));
        bench.assert_nothing_is_kept();
    }
    let alerts = bench.alerts();
    assert!(alerts.len() == 1 && alerts[0].contains("sent plan.pdf of 44.0 KiB, which was refused"), "{alerts:?}");
    for number in 0..allowed.count() {
        bench.take(allowed.part(number));
    }
    assert_eq!((bench.messages().len(), bench.alerts().len(), bench.notes()), (1, 1, 1));
}

#[test]
fn one_author_has_so_many_contents_on_their_way_and_their_size_is_what_counts() {
    let mut bench = Bench::new();
    bench.engine.policy.receive_limit = 100 * PART_BYTES;
    let sizes = [100, 60, 40];
    for (id, parts) in (1..).zip(sizes) {
        let sent = bench.sent(id, parts * PART_BYTES);
        bench.take(sent.part(3));
    }
    assert_eq!((bench.engine.arriving.authors().count(), bench.alerts().len()), (3, 0));
    let has_room = |author| bench.engine.arriving.has_room(&author, PART_BYTES, 100 * PART_BYTES, |_| true);
    assert!(!has_room(bench.alice) && has_room(Fingerprint([9; 32])));
    // Whoever goes on all the same, though as much as may waits at the server, is refused.
    let sent = bench.sent(4, 2 * PART_BYTES);
    bench.take(sent.part(0));
    assert_eq!((bench.engine.arriving.authors().count(), bench.notes()), (3, 1));
    assert!(bench.alerts()[0].contains("more is on its way from them"), "{:?}", bench.alerts());
}

#[test]
fn however_many_members_nobody_knows_contacts_have_room() {
    let mut bench = Bench::new();
    let mut sent = bench.sent(1, 2 * PART_BYTES).part(0);
    for number in 0..ARRIVING_OTHERS_MAX {
        sent.id.0 = [u8::try_from(number).unwrap(); 16];
        let author = Fingerprint([u8::try_from(number / 16).unwrap(); 32]);
        bench.engine.arriving.begin([sent.id.0[0]; 32], ArrivingRecord::begin(author, &sent, 0).unwrap());
    }
    let is_alice = |author: &Fingerprint| *author == bench.alice;
    let has_room = |author| bench.engine.arriving.has_room(&author, PART_BYTES, u64::MAX, is_alice);
    assert!(has_room(bench.alice) && !has_room(Fingerprint([200; 32])));
}

#[test]
fn of_ids_that_somebody_invents_and_takes_back_only_so_many_are_remembered() {
    let mut bench = Bench::new();
    let hash =
        |bench: &Bench, id: u128| message_hash(&bench.alice, &bench.conversation.id, &MessageId(id.to_le_bytes()));
    let cancel = |bench: &mut Bench, conversation, ids: std::ops::Range<u128>| {
        let ids = ids.map(|id| MessageId(id.to_le_bytes())).collect();
        bench.engine.cancelled(bench.alice, &[Messages { conversation, ids }], bench.now);
        bench.settle();
    };
    let known = |bench: &Bench| (0..2_000).filter(|id| bench.engine.received.is_done_with(&hash(bench, *id))).count();
    cancel(&mut bench, ConversationId([9; 16]), 0..10);
    assert_eq!(known(&bench), 0, "no conversation of theirs");
    let here = bench.conversation.id;
    (0..3).for_each(|_| cancel(&mut bench, here, 0..100));
    assert_eq!(known(&bench), 100, "the same ones count once");
    cancel(&mut bench, here, 100..1_000);
    assert_eq!(known(&bench), CANCELLED_UNBEGUN_MAX);
    // What is under way is given up all the same.
    let sent = bench.sent(1, 4 * PART_BYTES);
    bench.take(sent.part(0));
    let messages = [Messages { conversation: here, ids: vec![sent.payload.id] }];
    bench.engine.cancelled(bench.alice, &messages, bench.now);
    bench.settle();
    bench.take(sent.part(1));
    bench.assert_nothing_is_kept();
    bench.now = Timestamp::from_micros(bench.now.micros() + 86_400_000_000);
    cancel(&mut bench, here, 1_000..1_010);
    assert_eq!(known(&bench), CANCELLED_UNBEGUN_MAX + 10, "another day");
}

#[test]
fn what_makes_no_progress_for_weeks_is_erased_aloud_and_may_begin_anew() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 3 * PART_BYTES);
    bench.take(sent.part(0));
    let later = |bench: &Bench, seconds| Timestamp::from_micros(bench.now.micros() + seconds * 1_000_000);
    bench.now = later(&bench, ARRIVING_LIFETIME_S);
    bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
    bench.settle();
    assert_eq!(bench.engine.arriving.authors().count(), 1);
    bench.now = later(&bench, 1);
    bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
    bench.settle();
    assert!(bench.alerts()[0].contains("The rest of plan.pdf of 33.0 KiB from alice"), "{:?}", bench.alerts());
    bench.assert_nothing_is_kept();
    for number in 0..sent.count() {
        bench.take(sent.part(number));
    }
    assert_eq!(bench.messages().len(), 1);
}

#[test]
fn what_somebody_began_before_they_were_blocked_neither_goes_on_nor_is_missing_when_they_are_heard_again() {
    let mut bob = Bench::new();
    let sent = [bob.sent(1, 3 * PART_BYTES), bob.sent(2, 3 * PART_BYTES)];
    bob.take(sent[0].part(0));
    let [heard, blocked] = ["contacts/alice.card", "blocked/alice.card"].map(|path| bob.root.join(path));
    fs::rename(&heard, &blocked).unwrap();
    bob.engine.rescan(bob.now).unwrap();
    bob.settle();
    bob.engine.enter_unseen(&bob.alice, &sent[1].part(0), bob.now);
    bob.settle();
    fs::rename(&blocked, &heard).unwrap();
    bob.engine.rescan(bob.now).unwrap();
    for sent in &sent {
        (1..sent.count()).for_each(|number| bob.take(sent.part(number)));
    }
    assert_eq!((bob.messages(), bob.alerts()), (vec![], vec![]));
    assert!(!bob.engine.will_ask());
    bob.assert_nothing_is_kept();
}

#[test]
fn bytes_that_vanished_from_the_disk_are_noticed_and_no_file_with_holes_appears() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 4 * PART_BYTES);
    (0..2).for_each(|number| bench.take(sent.part(number)));
    bench.journal.checkpoint().unwrap();
    bench.restart();
    let content = bench.root.join(root::arriving_content(&bench.engine.arriving.of_authors(|_| true)[0]));
    fs::remove_file(&content).unwrap();
    (2..4).for_each(|number| bench.take(sent.part(number)));
    assert_eq!((bench.messages().len(), bench.notes()), (0, 1));
    bench.assert_nothing_is_kept();
}

#[test]
fn what_is_not_wanted_is_set_aside_at_once_and_no_checkpoint_reads_it() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 4 * PART_BYTES);
    bench.take(sent.part(3));
    let content = bench.root.join(root::arriving_content(&bench.engine.arriving.of_authors(|_| true)[0]));
    let seen = bench.root.join("seen");
    fs::hard_link(&content, &seen).unwrap();
    // One more part of it comes in the batch in which it is refused.
    let (alice, now) = (bench.alice, bench.now);
    bench.engine.take_part(alice, sent.part(1), now);
    let mut other = sent.part(0);
    other.part.as_mut().unwrap().sha256[0] ^= 1;
    bench.engine.take_part(alice, other, now);
    let mut batch: Vec<_> = bench.engine.transaction().into_iter().collect();
    bench.journal.commit(&mut batch).unwrap();
    bench.engine.recorded(now);
    bench.engine.applied();
    assert!(!content.exists() && !bench.engine.sweeping.is_done());
    bench.journal.checkpoint().unwrap();
    let is_erased = |path| fs::read(path).unwrap().iter().all(|byte| *byte == 0);
    assert!(!is_erased(&seen), "the checkpoint has read and written all of it");
    bench.settle();
    assert!(is_erased(&seen));
    bench.assert_nothing_is_kept();
}

#[test]
fn content_of_which_nothing_is_noted_goes_at_the_next_start() {
    let mut bench = Bench::new();
    let sent = bench.sent(1, 4 * PART_BYTES);
    bench.take(sent.part(0));
    let mut other = sent.part(1);
    other.part.as_mut().unwrap().sha256[0] ^= 1;
    // It is recorded that it is not wanted, and no more happens: the log holds the part still.
    bench.engine.take_part(bench.alice, other, bench.now);
    let mut batch: Vec<_> = bench.engine.transaction().into_iter().collect();
    bench.journal.commit(&mut batch).unwrap();
    bench.restart();
    bench.assert_nothing_is_kept();
}
