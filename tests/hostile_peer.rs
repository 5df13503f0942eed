//! A peer that speaks the protocol and does not keep its rules, against a real daemon behind a real server.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod peer;
mod support;

use std::fs;

use chatterbox::clock::Timestamp;
use chatterbox::crypto::dh::SecretKey;
use chatterbox::crypto::sign::SigningKey;
use chatterbox::envelope;
use chatterbox::limits::{ENVELOPE_BYTES, REQUEST_MESSAGES_MAX, REQUESTS_LEFT_MAX, UNOPENED_MAX};
use chatterbox::ratchet;
use chatterbox::wire::address::ServerAddress;
use chatterbox::wire::control::Control;
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::identity::{ConversationId, MessageId, participants_hash};
use chatterbox::wire::payload::Payload;
use chatterbox::wire::prekey::PrekeyKind;
use chatterbox::wire::profile::{Profile, SignedProfile};
use chatterbox::wire::reply::Reply;
use chatterbox::wire::request::Command;
use peer::{Peer, wait_for_alert};
use rand_core::OsRng;
use support::{User, World, entries};

/// Failure 21 of the predecessor.
#[tokio::test]
async fn an_outsider_does_not_write_into_a_conversation() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "between us");
    bob.wait_for_message("between us");
    let mut mallory = Peer::new("mallory", &bob).await;
    // Also a contact may not write where she takes no part.
    fs::write(bob.at("contacts/mallory.card"), mallory.profile.to_string()).unwrap();
    let alice_card: SignedProfile = alice.card().parse().unwrap();
    let theirs = [alice_card.identity().fingerprint(), mallory.victim()];
    let mut payload = mallory.payload("from outside");
    payload.conversation = ConversationId::of_participants(&theirs);
    payload.participants = participants_hash(&theirs);
    mallory.send(&payload).await;
    let alert = wait_for_alert(&bob, "takes no part");
    assert!(alert.contains("mallory"), "{alert}");
    // The same session goes on for honest messages.
    mallory.send(&mallory.payload("honest")).await;
    bob.wait_for_message("honest");
    assert_eq!(bob.heard_from("alice"), ["between us"]);
    assert_eq!(bob.messages().len(), 2);
}

#[tokio::test]
async fn nobody_squats_on_the_conversation_of_others_or_smuggles_in_members() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let mut mallory = Peer::new("mallory", &bob).await;
    fs::write(bob.at("contacts/mallory.card"), mallory.profile.to_string()).unwrap();
    let alice_card: SignedProfile = alice.card().parse().unwrap();
    let theirs = [alice_card.identity().fingerprint(), mallory.victim()];
    // The id that alice and bob will compute, with mallory in it.
    let mut squatting = mallory.payload("squatting");
    squatting.conversation = ConversationId::of_participants(&theirs);
    mallory.send(&squatting).await;
    wait_for_alert(&bob, "belongs to other participants");
    // And the id of a conversation with a salt of theirs.
    let salt = [9; 16];
    squatting.conversation = ConversationId::salted(&salt, &theirs);
    squatting.introduction.as_mut().unwrap().salt = Some(salt);
    mallory.send(&squatting).await;
    bob.wait_for("a second alert", || (entries(&bob.at("alerts")).len() == 2).then_some(()));
    // A conversation that is known, with one more in it.
    mallory.send(&mallory.payload("as it is")).await;
    bob.wait_for_message("as it is");
    let mut smuggling = mallory.payload("one more");
    smuggling.participants = participants_hash(&[theirs[0], theirs[1], mallory.fingerprint()]);
    mallory.send(&smuggling).await;
    wait_for_alert(&bob, "other participants than the conversation has");
    alice.drop_file("bob", "x", "undisturbed");
    bob.wait_for_message("undisturbed");
    assert_eq!(bob.messages().len(), 2);
}

#[tokio::test]
async fn garbage_is_kept_for_a_while_and_causes_no_answer() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "before");
    bob.wait_for_message("before");
    let mut mallory = Peer::new("mallory", &bob).await;
    fs::write(bob.at("contacts/mallory.card"), mallory.profile.to_string()).unwrap();
    for byte in 0..20 {
        mallory.deliver(Envelope::from_vec(vec![byte; ENVELOPE_BYTES]).unwrap()).await;
    }
    bob.wait_for("garbage put aside", || (entries(&bob.at("journal/unopened")).len() == 20).then_some(()));
    alice.drop_file("bob", "x", "after");
    bob.wait_for_message("after");
    assert!(entries(&bob.at("alerts")).is_empty());
    // Nobody was answered, and nothing was reset: the one session is with alice, and nothing is on its way.
    bob.wait_for_status("queue: 0");
    bob.stop();
    assert_eq!(entries(&bob.at("keys/sessions")).len(), 1);
    assert!(entries(&bob.at("journal/spool")).iter().all(|queue| entries(queue).is_empty()));
    assert!(!bob.at("keys/recovery").exists());
    bob.start();
    // What opens and cannot be understood is discarded, aloud.
    let envelope = mallory.seal(b"\xff\xff\xff no payload").await;
    mallory.deliver(envelope).await;
    wait_for_alert(&bob, "cannot be understood");
}

#[tokio::test]
async fn more_garbage_than_is_kept_is_given_up_aloud() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let mut mallory = Peer::new("mallory", &bob).await;
    for number in 0..=UNOPENED_MAX {
        let mut garbage = vec![0xff; ENVELOPE_BYTES];
        garbage[..8].copy_from_slice(&number.to_le_bytes());
        mallory.deliver(Envelope::from_vec(garbage).unwrap()).await;
    }
    wait_for_alert(&bob, "could not be opened by any session");
    assert!(entries(&bob.at("alerts"))[0].to_string_lossy().ends_with("Z-unopened"));
    alice.drop_file("bob", "x", "behind it");
    bob.wait_for_message("behind it");
    assert_eq!(entries(&bob.at("alerts")).len(), 1);
}

#[tokio::test]
async fn a_stranger_who_writes_more_than_may_wait_is_given_up_aloud() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let mut mallory = Peer::new("mallory", &bob).await;
    for number in 0..=REQUEST_MESSAGES_MAX + REQUESTS_LEFT_MAX {
        mallory.send(&mallory.payload(&number.to_string())).await;
    }
    wait_for_alert(&bob, "more than requests/ holds");
    assert!(entries(&bob.at("alerts"))[0].to_string_lossy().ends_with("Z-requests"));
    alice.drop_file("bob", "x", "behind it");
    bob.wait_for_message("behind it");
    assert_eq!(entries(&entries(&bob.at("requests"))[0].join(".delivery")).len(), REQUEST_MESSAGES_MAX);
}

#[tokio::test]
async fn an_envelope_that_was_damaged_on_its_way_is_dropped_aloud_and_the_genuine_one_still_opens() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), peer.profile.to_string()).unwrap();
    peer.send(&peer.payload("first")).await;
    bob.wait_for_message("first");
    let genuine = peer.seal(&peer.payload("genuine").to_bytes()).await;
    let mut damaged = genuine.as_bytes().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    peer.deliver(Envelope::from_vec(damaged).unwrap()).await;
    wait_for_alert(&bob, "was damaged or forged on its way");
    assert!(entries(&bob.at("journal/unopened")).is_empty());
    peer.deliver(genuine).await;
    bob.wait_for_message("genuine");
    peer.send(&peer.payload("last")).await;
    bob.wait_for_message("last");
}

#[tokio::test]
async fn a_repeated_envelope_appears_once() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), peer.profile.to_string()).unwrap();
    let first = peer.seal(&peer.payload("first").to_bytes()).await;
    let second = peer.seal(&peer.payload("second").to_bytes()).await;
    for _ in 0..3 {
        peer.deliver(first.clone()).await;
        peer.deliver(second.clone()).await;
        bob.wait_for_message("first");
        bob.wait_for_message("second");
        bob.kill();
        bob.start();
    }
    peer.send(&peer.payload("last")).await;
    bob.wait_for_message("last");
    assert_eq!(bob.messages().len(), 3);
    assert!(entries(&bob.at("journal/unopened")).is_empty());
}

#[tokio::test]
async fn a_message_that_comes_again_in_another_envelope_appears_once() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), peer.profile.to_string()).unwrap();
    let mut payload = peer.payload("once");
    peer.send(&payload).await;
    bob.wait_for_message("once");
    peer.send(&payload).await;
    // An id counts only with its conversation.
    let (salt, both) = ([9; 16], [peer.fingerprint(), peer.victim()]);
    let mut elsewhere = peer.payload("elsewhere");
    elsewhere.id = payload.id;
    elsewhere.conversation = ConversationId::salted(&salt, &both);
    elsewhere.introduction.as_mut().unwrap().salt = Some(salt);
    peer.send(&elsewhere).await;
    bob.wait_for_message("elsewhere");
    // Where the hashes are lost, what stands beside the messages tells.
    bob.stop();
    for path in entries(&bob.at("keys")) {
        if path.to_str().unwrap().contains("/received-") {
            fs::remove_file(path).unwrap();
        }
    }
    let (_, name, _) = bob.messages().into_iter().find(|(_, _, content)| content == b"once").unwrap();
    bob.start();
    payload.resent = 1;
    peer.send(&payload).await;
    peer.send(&peer.payload("last")).await;
    bob.wait_for_message("last");
    assert_eq!(bob.messages().len(), 3, "{name} came twice: {:?}", bob.messages());
    assert!(entries(&bob.at("alerts")).is_empty());
}

#[tokio::test]
async fn a_key_that_is_used_again_causes_an_alert_and_nothing_appears() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), peer.profile.to_string()).unwrap();
    peer.send(&peer.payload("opening")).await;
    // The peer goes on from an earlier state, as after a backup was put back.
    let backup = peer.session.clone();
    peer.send(&peer.payload("before")).await;
    bob.wait_for_message("before");
    peer.session = backup;
    peer.send(&peer.payload("under the same key")).await;
    let alert = wait_for_alert(&bob, "key that was used before");
    assert!(alert.contains("session with peer"), "{alert}");
    peer.send(&peer.payload("beyond it")).await;
    bob.wait_for_message("beyond it");
    assert_eq!(bob.messages().len(), 3);
    assert_eq!(entries(&bob.at("alerts")).len(), 1);
}

#[tokio::test]
async fn a_stranger_who_says_that_they_lost_state_gets_no_answer() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "before");
    bob.wait_for_message("before");
    let mut mallory = Peer::new("mallory", &bob).await;
    let lost = Control { lost_since: Some(0), ..Control::default() }.to_bytes();
    let envelope = mallory.seal(&lost).await;
    mallory.deliver(envelope).await;
    bob.wait_for("the note put aside", || (entries(&bob.at("journal/unopened")).len() == 1).then_some(()));
    alice.drop_file("bob", "x", "after");
    bob.wait_for_message("after");
    assert!(entries(&bob.at("alerts")).is_empty());
    bob.stop();
    assert_eq!(entries(&bob.at("keys/sessions")).len(), 1, "with alice");
    assert!(!bob.at("keys/recovery").exists());
    // From a contact it is heard.
    bob.start();
    fs::write(bob.at("contacts/mallory.card"), mallory.profile.to_string()).unwrap();
    wait_for_alert(&bob, "mallory has restored a backup");
}

#[tokio::test]
async fn envelopes_that_overtake_their_opening_wait_for_it() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), peer.profile.to_string()).unwrap();
    let mut envelopes = Vec::new();
    for number in 0..5 {
        envelopes.push(peer.seal(&peer.payload(&number.to_string()).to_bytes()).await);
    }
    for envelope in envelopes.into_iter().rev() {
        peer.deliver(envelope).await;
    }
    bob.wait_for("all of them", || (bob.messages().len() == 5).then_some(()));
    bob.wait_for("nothing put aside", || entries(&bob.at("journal/unopened")).is_empty().then_some(()));
}

#[tokio::test]
async fn names_and_times_from_outside_are_made_harmless() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), peer.profile.to_string()).unwrap();
    let mut payload = peer.payload("climbing");
    payload.time = Timestamp::from_micros(u64::MAX);
    payload.content.as_mut().unwrap().file_name = b"../../../contacts/evil.card".to_vec();
    payload.introduction.as_mut().unwrap().subject = "../up\n\u{1b}[31m".into();
    let before = Timestamp::now();
    peer.send(&payload).await;
    let path = bob.wait_for_message("climbing");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with("Z-peer-%2E.%2F..%2F..%2Fcontacts%2Fevil.card"), "{name}");
    assert!(name < Timestamp::from_micros(before.micros() + 120_000_000).to_string().as_str(), "{name}");
    let directory = path.parent().unwrap();
    assert_eq!(directory.parent(), Some(bob.at("conversations").as_path()));
    assert!(directory.to_str().unwrap().ends_with("_%2E.%2Fup%0A%1B[31m"), "{}", directory.display());
    let mut past = peer.payload("from the past");
    past.time = Timestamp::from_micros(0);
    peer.send(&past).await;
    let path = bob.wait_for_message("from the past");
    assert!(path.file_name().unwrap().to_str().unwrap().starts_with("1970-01-01T000000.000000Z-peer"));
}

#[tokio::test]
async fn only_a_newer_profile_of_the_same_keys_is_taken() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), peer.profile.to_string()).unwrap();
    peer.send(&peer.payload("first")).await;
    bob.wait_for_message("first");
    let other = (SigningKey::random(&mut OsRng), SecretKey::random(&mut OsRng).public());
    let at = |host: &str, version| {
        let server = ServerAddress::new(host, 1984, SecretKey::random(&mut OsRng).public()).unwrap();
        Profile { server, version, ..peer.profile.profile().clone() }
    };
    // Other keys; our signing key with another auth key; the true ones; lower; of the same version, elsewhere.
    let mut foreign = at("foreign", 7);
    foreign.identity.signing = other.0.verifying_key();
    let mut half = at("half", 8);
    half.identity.auth = other.1;
    let updates = [
        SignedProfile::sign(foreign, &other.0),
        SignedProfile::sign(half, &peer.keys.signing),
        SignedProfile::sign(at("true.example", 5), &peer.keys.signing),
        SignedProfile::sign(at("lower", 4), &peer.keys.signing),
        SignedProfile::sign(at("equal", 5), &peer.keys.signing),
    ];
    for (number, update) in updates.into_iter().enumerate() {
        let text = format!("with profile {number}");
        peer.send(&Payload { profile: Some(update.unwrap()), ..peer.payload(&text) }).await;
        bob.wait_for_message(&text);
    }
    let refused = wait_for_alert(&bob, "profile of another identity");
    assert!(refused.contains("peer") && refused.contains(&peer.fingerprint().groups()), "{refused}");
    bob.stop();
    assert_eq!(entries(&bob.at("alerts")).len(), 2, "one for each of other keys");
    let shown = String::from_utf8(bob.cli(&["contact", "show", "peer"]).stdout).unwrap();
    assert!(shown.contains("server: chatterbox-server://true.example:1984/"), "{shown}");
    assert!(shown.contains("\nversion: 5\n"), "{shown}");
}

#[tokio::test]
async fn a_note_brings_a_profile_as_a_message_does() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), peer.profile.to_string()).unwrap();
    peer.send(&peer.payload("first")).await;
    bob.wait_for_message("first");
    let newer = Profile { version: 2, ..peer.profile.profile().clone() };
    let profile = SignedProfile::sign(newer, &peer.keys.signing).unwrap();
    let note = Control { profile: Some(profile), ..Control::default() };
    let envelope = peer.seal(&note.to_bytes()).await;
    peer.deliver(envelope).await;
    bob.wait_for("the newer profile", || {
        let shown = String::from_utf8(bob.cli(&["contact", "show", "peer"]).stdout).unwrap();
        shown.contains("\nversion: 2\n").then_some(())
    });
}

#[tokio::test]
async fn a_stranger_who_calls_themself_as_a_contact_does_raises_an_alert_and_waits() {
    let world = World::new();
    let [_alice, mut bob] = world.friends(["alice", "bob"]);
    let mut mallory = Peer::new("alice", &bob).await;
    mallory.send(&mallory.payload("it is me, alice")).await;
    let alert = wait_for_alert(&bob, "calls themself alice");
    let request = format!("alice~{}", mallory.fingerprint().short(8));
    assert!(alert.contains(&mallory.fingerprint().groups()) && alert.contains(&request), "{alert}");
    bob.wait_for_file(format!("requests/{request}/card"));
    // What else they say of themself is kept nowhere but with the request, and raises nothing more.
    let newer = Profile { version: 2, ..mallory.profile.profile().clone() };
    let profile = SignedProfile::sign(newer, &mallory.keys.signing).unwrap();
    mallory.send(&Payload { profile: Some(profile), ..mallory.payload("again") }).await;
    bob.wait_for("both messages", || {
        (entries(&bob.at(format!("requests/{request}/.delivery"))).len() == 2).then_some(())
    });
    // Nor does a stranger of another name.
    let mut eve = Peer::new("eve", &bob).await;
    eve.send(&eve.payload("hello")).await;
    bob.wait_for_file(format!("requests/eve~{}/card", eve.fingerprint().short(8)));
    bob.stop();
    assert_eq!(entries(&bob.at("alerts")).len(), 1);
    assert!(entries(&bob.at("keys/profiles")).is_empty());
    assert!(bob.messages().is_empty());
}

#[tokio::test]
async fn an_emptied_pool_leaves_the_account_reachable_and_is_refilled_while_the_daemon_runs() {
    let world = World::new();
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    bob.start();
    let mut mallory = Peer::new("mallory", &bob).await;
    let account = mallory.victim.profile().account;
    let mut taken = std::collections::HashSet::new();
    // More than the hundred that bob uploaded at first: he hears that they run low, makes fresh ones and uploads them.
    while taken.len() <= 100 {
        let Ok(Reply::Prekey(prekey)) = mallory.ask(Command::TakePrekey(account)).await else { panic!("no prekey") };
        // Where the pool is empty for a moment the last-resort prekey keeps bob reachable.
        if prekey.kind == PrekeyKind::OneTime {
            assert!(taken.insert(prekey.id), "handed out twice");
        }
    }
    alice.add(&bob);
    alice.start();
    alice.drop_file("bob", "x", "reached all the same");
    bob.wait_for("a request", || {
        let request = entries(&bob.at("requests")).into_iter().next()?;
        entries(&request)
            .iter()
            .any(|path| fs::read(path).is_ok_and(|text| text == b"reached all the same"))
            .then_some(())
    });
}

/// Adds the peer as a contact, and lets it say something.
async fn befriended(bob: &User) -> Peer {
    let mut peer = Peer::new("peer", bob).await;
    fs::write(bob.at("contacts/peer.card"), format!("{}\n", peer.profile)).unwrap();
    let first = peer.payload("the first");
    peer.send(&first).await;
    bob.wait_for("the first in a conversation", || (bob.heard_from("peer") == ["the first"]).then_some(()));
    peer
}

#[tokio::test]
async fn somebody_with_a_copy_of_a_contacts_keys_who_opens_a_session_raises_an_alert() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = befriended(&bob).await;
    peer.session = None;
    let mut second = Payload { id: MessageId([8; 16]), counter: 2, introduction: None, ..peer.payload("the second") };
    second.time = second.time.next();
    peer.send(&second).await;
    bob.wait_for_message("the second");
    wait_for_alert(&bob, "peer opened a new session beside the one that stood");
}

#[tokio::test]
async fn a_prekey_that_is_handed_out_twice_raises_an_alert_and_serves_once() {
    let world = World::new();
    let mut bob = world.user("bob");
    bob.start();
    let mut peer = Peer::new("peer", &bob).await;
    fs::write(bob.at("contacts/peer.card"), format!("{}\n", peer.profile)).unwrap();
    let account = peer.victim.profile().account;
    let Ok(Reply::Prekey(prekey)) = peer.ask(Command::TakePrekey(account)).await else { panic!("no prekey") };
    let (now, victim) = (Timestamp::now(), *peer.victim.identity());
    let [first, second] = ["the first", "the second"].map(|text| {
        let (_, sealing) = ratchet::open(&peer.keys, victim, &prekey, now.micros(), now.seconds(), &mut OsRng).unwrap();
        envelope::seal(sealing, &peer.payload(text).to_bytes(), &mut OsRng).unwrap()
    });
    let mut damaged = first.as_bytes().to_vec();
    damaged[ENVELOPE_BYTES - 1] ^= 1;
    peer.deliver(first).await;
    bob.wait_for("the first in a conversation", || (bob.heard_from("peer") == ["the first"]).then_some(()));
    // The same opening in other bytes is a repetition, of which nobody hears.
    peer.deliver(Envelope::from_vec(damaged).unwrap()).await;
    peer.deliver(second).await;
    wait_for_alert(&bob, "a one-time prekey of ours that had served already");
    assert_eq!(entries(&bob.at("alerts")).len(), 1, "{}", support::tree(&bob.root));
    assert_eq!(bob.heard_from("peer"), ["the first"]);
}
