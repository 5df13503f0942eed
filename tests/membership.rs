//! Who takes part in a conversation is what it was opened with: nobody comes in from outside, and nobody is brought in.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod peer;
mod support;

use std::fs;

use chatterbox::wire::identity::{ConversationId, Fingerprint, participants_hash};
use chatterbox::wire::payload::Payload;
use chatterbox::wire::profile::SignedProfile;

use peer::{Peer, wait_for_alert};
use support::{User, World, entries};

fn profile(user: &User) -> SignedProfile {
    user.card().parse().unwrap()
}

/// What opens a conversation of these people under a subject, in the peer's words.
fn introduced(peer: &Peer, profiles: &[SignedProfile], like: &Payload, text: &str) -> Payload {
    let all: Vec<Fingerprint> = profiles.iter().map(|profile| profile.identity().fingerprint()).collect();
    let salt = [9; 16];
    let mut payload = Payload {
        conversation: ConversationId::salted(&salt, &all),
        participants: participants_hash(&all),
        introduction: like.introduction.clone(),
        ..peer.payload(text)
    };
    let introduction = payload.introduction.as_mut().unwrap();
    introduction.subject = "dinner".into();
    introduction.profiles = profiles.to_vec();
    introduction.salt = Some(salt);
    payload
}

/// A peer whose word counts as the same person's to two users.
async fn twins(bob: &User, alice: &User) -> [Peer; 2] {
    let to_bob = Peer::new("mallory", bob).await;
    let mut to_alice = Peer::new("mallory", alice).await;
    (to_alice.keys, to_alice.profile) = (to_bob.keys.clone(), to_bob.profile.clone());
    for user in [bob, alice] {
        fs::write(user.at("contacts/mallory.card"), to_bob.profile.to_string()).unwrap();
    }
    [to_bob, to_alice]
}

#[tokio::test]
async fn another_list_under_the_same_id_is_refused_and_brings_nobody_in() {
    let world = World::new();
    let [bob, alice] = world.friends(["bob", "alice"]);
    let [mut mallory, _] = twins(&bob, &alice).await;
    let outsider = Peer::new("outsider", &bob).await;
    let like = mallory.payload("");
    let three = [mallory.profile.clone(), profile(&bob), profile(&alice)];
    let opening = introduced(&mallory, &three, &like, "we three");
    mallory.send(&opening).await;
    bob.wait_for_message("we three");
    // The same id with one more, as an opening and as a message.
    let four = [&three[..], std::slice::from_ref(&outsider.profile)].concat();
    let mut smuggled = introduced(&mallory, &four, &like, "and one more");
    smuggled.conversation = opening.conversation;
    mallory.send(&smuggled).await;
    wait_for_alert(&bob, "it names other participants than the conversation has");
    // The right hash, and an introduction that says otherwise: the list stays as it was.
    let mut quiet = introduced(&mallory, &four, &like, "under the old hash");
    (quiet.conversation, quiet.participants) = (opening.conversation, opening.participants);
    mallory.send(&quiet).await;
    bob.wait_for_message("under the old hash");
    let mut outsider = outsider;
    let mut from_outside = introduced(&outsider, &four, &like, "let me in");
    (from_outside.conversation, from_outside.participants) = (opening.conversation, opening.participants);
    outsider.send(&from_outside).await;
    alice.drop_file("bob", "x", "behind it");
    bob.wait_for_message("behind it");
    let group = bob.directory("conversations", "_dinner");
    let metadata = fs::read_to_string(group.join("metadata.toml")).unwrap();
    assert!(!metadata.contains("outsider"), "{metadata}");
    fs::write(bob.directory("outbox", "_dinner").join("x"), "to whom?").unwrap();
    let sent = bob.wait_for_message("to whom?");
    let states = bob.wait_for("the states", || Some(bob.delivery(&sent)).filter(|text| text.contains("to: ")));
    assert_eq!(states.lines().filter(|line| line.starts_with("to: ")).count(), 2, "{states}");
    let contents: Vec<Vec<u8>> = bob.messages().into_iter().map(|(_, _, content)| content).collect();
    assert!(!contents.iter().any(|content| content == b"and one more" || content == b"let me in"));
}

#[tokio::test]
async fn a_creator_who_tells_members_different_lists_makes_two_conversations_and_is_told_of_when_they_meet() {
    let world = World::new();
    let [bob, alice, carol] = world.friends(["bob", "alice", "carol"]);
    let [mut to_bob, mut to_alice] = twins(&bob, &alice).await;
    let like = to_bob.payload("");
    let with_carol = [to_bob.profile.clone(), profile(&bob), profile(&alice), profile(&carol)];
    let without = [to_bob.profile.clone(), profile(&bob), profile(&alice)];
    to_bob.send(&introduced(&to_bob, &with_carol, &like, "dinner with carol")).await;
    to_alice.send(&introduced(&to_alice, &without, &like, "dinner without carol")).await;
    bob.wait_for_message("dinner with carol");
    alice.wait_for_message("dinner without carol");
    assert!(entries(&bob.at("alerts")).is_empty() && entries(&alice.at("alerts")).is_empty());
    // As soon as Alice says a word in hers, Bob has both.
    fs::write(alice.directory("outbox", "_dinner").join("x"), "poor carol").unwrap();
    bob.wait_for_message("poor carol");
    let alert = wait_for_alert(&bob, "alice was told of other participants of the conversation");
    assert!(alert.contains("than you: nobody more, carol less"), "{alert}");
    assert!(entries(&bob.at("alerts")).iter().all(|path| path.to_string_lossy().contains("-membership-")));
    let dinners: Vec<_> = entries(&bob.at("conversations"))
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("_dinner"))
        .collect();
    assert_eq!(dinners.len(), 2, "nothing of one shows up in the other");
}

#[test]
fn two_conversations_of_one_subject_that_an_honest_program_opens_at_once_are_no_twins() {
    let world = World::new();
    let [mut bob, alice, _carol] = world.friends(["bob", "alice", "carol"]);
    bob.wait_for_status("connection: connected");
    bob.stop();
    for (directory, participants) in [("one", "\"alice\""), ("two", "\"alice\", \"carol\"")] {
        let path = bob.at("outbox").join(directory);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("metadata.toml"), format!("subject = \"dinner\"\nparticipants = [{participants}]\n"))
            .unwrap();
        fs::write(path.join("x"), directory).unwrap();
    }
    bob.start();
    alice.wait_for_message("one");
    alice.wait_for_message("two");
    assert!(entries(&alice.at("alerts")).is_empty(), "one batch, one subject, and yet two moments");
}
