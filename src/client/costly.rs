//! What somebody with a session can make us do with an envelope that comes to nothing.

#![allow(clippy::unwrap_used, reason = "a test, as a whole")]

use std::fs;

use rand_core::OsRng;
use zeroize::Zeroizing;

use super::account::Account;
use super::assembling::tests::Bench;
use super::event::Event;
use super::root::Root;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::crypto::dh::SecretKey;
use crate::disk::watch::Hint;
use crate::limits::{PART_BYTES, RETRIED_STEPS_PER_SECOND_MAX, SKIPPED_KEYS_MAX, STRANGER_JUMP_MAX};
use crate::wire::address::ServerAddress;
use crate::wire::control::Control;
use crate::wire::conversation::ConversationRecord;
use crate::wire::envelope::Envelope;
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::part::Part;
use crate::wire::payload::{Content, Introduction, Payload};
use crate::wire::prekey::SignedPrekey;
use crate::wire::profile::SignedProfile;
use crate::wire::reply::{PrekeyCount, StoredEnvelope};

/// Somebody who has a session with bob.
struct Peer {
    account: Account,
    sessions: Sessions,
    bob: Fingerprint,
}

impl Peer {
    fn fingerprint(&self) -> Fingerprint {
        self.account.keys.identity().fingerprint()
    }

    /// The next envelope, behind so many others that never come.
    fn behind(&mut self, skipped: u64, payload: &[u8]) -> Envelope {
        let (identity, keys) = (self.account.keys.identity(), &self.account.keys);
        let session = self.sessions.by_peer.get_mut(&self.bob).unwrap().last_mut().unwrap();
        for _ in 0..skipped {
            session.send(&identity, &mut OsRng);
        }
        self.sessions.seal(keys, &self.bob, payload, 1, &mut OsRng).unwrap().unwrap()
    }
}

impl Bench {
    fn prekey(&mut self) -> SignedPrekey {
        let now = self.now;
        self.engine.uploading = false;
        self.engine.handle(Event::Connected, now).unwrap();
        self.engine.handle(Event::Prekeys { count: PrekeyCount::default(), after_upload: false }, now).unwrap();
        self.engine.uploads.swap_remove(0)
    }

    /// A second later: what was left to do, and what comes. True if the mailbox is to be pushed again.
    fn second(&mut self, envelopes: impl IntoIterator<Item = Envelope>) -> bool {
        self.now = Timestamp::from_micros(self.now.micros() + 1_000_000);
        for envelope in envelopes {
            let stored = StoredEnvelope { id: self.now.micros(), envelope };
            self.engine.handle(Event::Envelope(stored), self.now).unwrap();
        }
        self.engine.handle(Event::Tick, self.now).unwrap();
        let reconnects = self.engine.reconnect;
        self.settle();
        reconnects
    }

    fn reconnect(&mut self) {
        self.engine.handle(Event::Disconnected(String::new()), self.now).unwrap();
        self.engine.handle(Event::Connected, self.now).unwrap();
    }

    /// Opens a session with what `payload` says.
    fn open_by(&mut self, account: Account, payload: &[u8]) -> Peer {
        let (bob, now) = (*self.engine.account.profile.identity(), self.now.micros());
        let mut sessions = Sessions::default();
        let prekey = self.prekey();
        let opening = sessions.open_and_seal(&account.keys, &bob, &prekey, payload, now, &mut OsRng).unwrap();
        self.second([opening]);
        let peer = Peer { account, sessions, bob: bob.fingerprint() };
        assert_eq!(self.position(&peer), 1);
        peer
    }

    fn alice(&mut self) -> Peer {
        let root = Root::new(self.root.path().parent().unwrap().join("alice"));
        let payload = self.message(1, 1, b"hello").to_bytes();
        self.open_by(Account::load(&root).unwrap(), &payload)
    }

    /// Somebody whose request waits.
    fn stranger(&mut self) -> Peer {
        let root = Root::new(self.root.path().parent().unwrap().join("eve"));
        fs::create_dir(root.path()).unwrap();
        let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
        let account = Account::create(&root, "eve", server, "", &mut OsRng).unwrap();
        let payload = self.introduced(2, &account.profile).to_bytes();
        self.open_by(account, &payload)
    }

    /// What somebody says in a conversation of just the two, with its introduction.
    fn introduced(&self, id: u8, author: &SignedProfile) -> Payload {
        let profiles = vec![author.clone(), self.engine.account.profile.clone()];
        let both: Vec<_> = profiles.iter().map(|profile| profile.identity().fingerprint()).collect();
        let introduction = Introduction { subject: String::new(), created: self.now, profiles, salt: None };
        let record = ConversationRecord {
            id: ConversationId::of_participants(&both),
            profiles: introduction.profiles.clone(),
            ..self.conversation.clone()
        };
        Payload {
            conversation: record.id,
            participants: record.participants_hash(),
            introduction: Some(introduction),
            ..self.message(id, 1, b"hello")
        }
    }

    /// How far the peer's chain is here.
    fn position(&self, peer: &Peer) -> u64 {
        self.engine.sessions.by_peer[&peer.fingerprint()].last().unwrap().state().receiving.last().unwrap().counter
    }

    fn is_done_with(&self, envelope: &Envelope) -> bool {
        self.engine.received.contains(&envelope.sha256())
    }
}

/// What alice writes in a conversation that she does not introduce.
fn unknown(bench: &Bench, number: u8) -> Payload {
    let conversation = ConversationId([9; 16]);
    Payload { conversation, ..bench.message(number, 1, b"of nothing") }
}

fn part(payload: Payload, number: u32) -> Payload {
    let size = PART_BYTES * 100;
    let content = Content { file_name: Vec::new(), bytes: Zeroizing::new(vec![7; PART_BYTES as usize]) };
    Payload {
        transcript: payload.transcript.filter(|_| number == 0),
        part: Some(Part { number, size, sha256: [7; 32] }),
        content: Some(content),
        ..payload
    }
}

const FAR: u64 = SKIPPED_KEYS_MAX as u64 + 1;

#[test]
fn what_is_not_taken_now_and_came_far_ahead_is_dropped_and_what_is_taken_is_not() {
    let mut bench = Bench::new();
    let mut alice = bench.alice();
    let (message, early) = (unknown(&bench, 3).to_bytes(), part(unknown(&bench, 4), 1).to_bytes());
    let near = [alice.behind(FAR - 3, &message), alice.behind(0, &early)];
    bench.second(near.clone());
    assert_eq!((bench.position(&alice), bench.alerts().len()), (1, 0));
    assert!(bench.is_done_with(&near[0]) && !bench.is_done_with(&near[1]), "one is kept, one is left at our server");
    assert_eq!(bench.engine.unopened.len(), 1);
    // One more than the session keeps keys of.
    let far = [alice.behind(1, &message), alice.behind(0, &early)];
    bench.second(far.clone());
    assert!(far.iter().all(|envelope| bench.is_done_with(envelope)));
    assert_eq!((bench.engine.unopened.len(), bench.position(&alice)), (1, 1));
    let alerts = bench.alerts();
    assert!(alerts.len() == 2 && alerts[0].starts_with("An envelope from alice came too far ahead"), "{alerts:?}");
    let taken = alice.behind(0, &bench.message(5, 2, b"in time").to_bytes());
    bench.second([taken]);
    assert!(bench.position(&alice) > FAR && bench.messages().len() == 2);
}

#[test]
fn a_stranger_who_jumps_far_ahead_is_not_looked_at_until_they_are_a_contact() {
    let mut bench = Bench::new();
    let mut eve = bench.stranger();
    let note = Control::default().to_bytes();
    let near = eve.behind(STRANGER_JUMP_MAX, &note);
    bench.second([near]);
    let position = bench.position(&eve);
    assert_eq!(position, STRANGER_JUMP_MAX + 2);
    let far = eve.behind(STRANGER_JUMP_MAX + 1, &note);
    bench.second([far.clone()]);
    assert!(bench.is_done_with(&far) && bench.position(&eve) == position);
    let alerts = bench.alerts();
    assert!(alerts.len() == 1 && alerts[0].contains("some of it was given up"), "{alerts:?}");
    fs::write(bench.root.contacts().join("eve.card"), format!("{}\n", eve.account.profile)).unwrap();
    bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
    bench.second([]);
    let heard = eve.behind(0, &note);
    bench.second([heard]);
    assert_eq!(bench.position(&eve), position + STRANGER_JUMP_MAX + 3);
}

#[test]
fn somebody_blocked_who_jumps_far_ahead_is_not_looked_at_and_is_heard_once_they_are_not() {
    let mut bench = Bench::new();
    let mut alice = bench.alice();
    let [contact, blocked] = ["contacts/alice.card", "blocked/alice.card"].map(|card| bench.root.join(card));
    fs::create_dir_all(blocked.parent().unwrap()).unwrap();
    fs::rename(&contact, &blocked).unwrap();
    bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
    let content = |bench: &Bench, id: u8| Payload { id: MessageId([id; 16]), ..bench.message(id, id.into(), b"text") };
    let unseen = alice.behind(0, &content(&bench, 2).to_bytes());
    let far = alice.behind(STRANGER_JUMP_MAX + 1, &content(&bench, 3).to_bytes());
    bench.second([unseen, far.clone()]);
    assert!(bench.is_done_with(&far) && bench.position(&alice) == 2 && bench.alerts().is_empty());
    fs::rename(&blocked, &contact).unwrap();
    bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
    let heard = alice.behind(5_000, &content(&bench, 4).to_bytes());
    bench.second([heard]);
    let heard = bench.messages().iter().filter(|(name, _)| name.ends_with("-alice")).count();
    assert!(bench.position(&alice) > 5_000 && heard == 2 && bench.alerts().is_empty());
}

#[test]
fn what_was_kept_and_is_dear_to_try_is_tried_a_little_in_each_second_until_all_had_their_turn() {
    let mut bench = Bench::new();
    let mut alice = bench.alice();
    let mut kept = vec![alice.behind(FAR - 200, &unknown(&bench, 3).to_bytes())];
    kept.extend((0..99).map(|_| alice.behind(0, &unknown(&bench, 3).to_bytes())));
    // Behind all of them, for a session that comes later.
    let mut other = Sessions::default();
    let (prekey, bob) = (bench.prekey(), *bench.engine.account.profile.identity());
    let note = Control::default().to_bytes();
    let mut open = |keys: &Account, number: u64| {
        let now = bench.now.micros() + number;
        other.open_and_seal(&keys.keys, &bob, &prekey, &note, now, &mut OsRng).unwrap()
    };
    let opening = open(&alice.account, 60_000_000);
    let early = other.seal(&alice.account.keys, &bob.fingerprint(), &note, 1, &mut OsRng).unwrap().unwrap();
    bench.second(kept.clone());
    bench.second([early.clone()]);
    assert_eq!(bench.engine.unopened.len(), 101);
    let cost = |bench: &mut Bench, envelopes: Vec<Envelope>| {
        let before = bench.engine.sessions.steps();
        bench.second(envelopes);
        bench.engine.sessions.steps() - before
    };
    // Its session comes. All are tried in it and in the older one, and only the last of them opens.
    let most = RETRIED_STEPS_PER_SECOND_MAX + FAR + 100;
    let mut costs = vec![cost(&mut bench, vec![opening])];
    while !bench.engine.unopened.is_round_over() {
        assert_eq!(bench.engine.unopened.len(), 101);
        costs.push(cost(&mut bench, Vec::new()));
    }
    assert!(costs.len() > 3 && costs.iter().all(|steps| *steps <= most), "{costs:?}");
    assert_eq!(bench.engine.unopened.len(), 100, "the one of the new session opened");
    assert_eq!(cost(&mut bench, Vec::new()), 0, "nothing was added");
}

#[test]
fn a_part_that_was_left_is_not_opened_again_until_its_conversation_is_known_and_only_then_pushed_again() {
    let mut bench = Bench::new();
    let mut alice = bench.alice();
    let (group, own) = ([8; 16], bench.engine.account.profile.clone());
    let profiles = vec![alice.account.profile.clone(), own];
    let both: Vec<_> = profiles.iter().map(|profile| profile.identity().fingerprint()).collect();
    let conversation = |salt: [u8; 16]| ConversationId::of(Some(&salt), &both);
    let opens = |bench: &Bench, id: u8, salt: [u8; 16]| {
        let introduction =
            Introduction { subject: id.to_string(), created: bench.now, profiles: profiles.clone(), salt: Some(salt) };
        let payload = bench.message(id, 1, b"welcome");
        Payload { conversation: conversation(salt), introduction: Some(introduction), ..payload }.to_bytes()
    };
    let early =
        |bench: &Bench, number| Payload { conversation: conversation(group), ..part(bench.message(9, 2, b""), number) };
    let parts: Vec<Envelope> = (1..20).map(|number| alice.behind(50, &early(&bench, number).to_bytes())).collect();
    bench.second(parts.clone());
    assert_eq!(bench.position(&alice), 1);
    let status = |bench: &Bench| bench.engine.status(None, std::iter::empty()).to_string();
    assert!(status(&bench).contains("19 parts wait at our server"));

    for other in [1, 2] {
        bench.reconnect();
        let before = bench.engine.sessions.steps();
        bench.second(parts.clone());
        assert_eq!(bench.engine.sessions.steps(), before, "they are not opened");
        assert!(status(&bench).contains("19 parts wait at our server"));
        let opens = alice.behind(0, &opens(&bench, 10 + other, [other; 16]));
        assert!(!bench.second([opens]), "another conversation");
        bench.now = Timestamp::from_micros(bench.now.micros() + 3_600_000_000);
    }
    let introduction = alice.behind(0, &opens(&bench, 20, group));
    assert!(bench.second([introduction]));
    bench.reconnect();
    bench.second(parts.clone());
    assert!(parts.iter().all(|part| bench.is_done_with(part)) && !status(&bench).contains("at our server"));
    let status = status(&bench);
    assert!(status.contains("receiving: from alice: 19% "), "{status}");
}

#[test]
fn a_part_for_which_there_was_no_room_is_opened_again_when_there_is_or_its_author_is_blocked() {
    let mut bench = Bench::new();
    let mut alice = bench.alice();
    bench.engine.policy.receive_limit = PART_BYTES * 100;
    // Two of the largest are under way, and two more are not taken.
    let begun = |bench: &Bench, id: u8| part(bench.message(id, id.into(), b""), 0).to_bytes();
    let envelopes: Vec<Envelope> = (2..6).map(|id| alice.behind(0, &begun(&bench, id))).collect();
    bench.second(envelopes.clone());
    let done = |bench: &Bench| envelopes.iter().filter(|envelope| bench.is_done_with(envelope)).count();
    assert_eq!(done(&bench), 2);
    bench.reconnect();
    assert!(!bench.second(envelopes.clone()));
    assert_eq!(done(&bench), 2);
    let erased = bench.engine.arriving.of_authors(|_| true)[0];
    bench.engine.arriving.remove(&erased);
    bench.engine.parts_left.note_room();
    assert!(bench.second([]));
    bench.reconnect();
    bench.second(envelopes.clone());
    assert_eq!(done(&bench), 3);
    fs::create_dir_all(bench.root.join("blocked")).unwrap();
    fs::rename(bench.root.join("contacts/alice.card"), bench.root.join("blocked/alice.card")).unwrap();
    bench.engine.handle(Event::Hint(Hint::Rescan), bench.now).unwrap();
    bench.reconnect();
    bench.second(envelopes.clone());
    assert_eq!(done(&bench), 4);
}
