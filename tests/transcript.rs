//! What is missing and what was changed comes to light (design, section 4), with the real programs and a home server that keeps
//! none of its promises. What asks for everything that is missing waits half a minute first: these tests take that long.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod lying_server;
mod support;

use std::fs;
use std::path::PathBuf;

use chatterbox::wire::identity::AccountId;
use chatterbox::wire::profile::SignedProfile;
use lying_server::LyingServer;
use lying_server::store::Fate;
use support::{User, World, entries};

fn friends<const N: usize>(world: &World, server: &LyingServer, names: [&str; N]) -> [User; N] {
    let mut users = names.map(|name| world.user_at(name, &server.address));
    for one in 0..N {
        for other in (0..N).filter(|other| *other != one) {
            users[one].add(&users[other]);
        }
    }
    users.iter_mut().for_each(User::start);
    users
}

fn account(user: &User) -> AccountId {
    user.card().parse::<SignedProfile>().unwrap().profile().account
}

/// What is done with envelopes for one of them.
fn lie_to(server: &LyingServer, victim: &User, fate: Fate) {
    let victim = account(victim);
    server.lie(|lies| {
        lies.on_delivery = Some(Box::new(move |to| if to == victim { fate } else { Fate::Stored }));
    });
}

fn fingerprint(user: &User) -> String {
    user.card().parse::<SignedProfile>().unwrap().identity().fingerprint().to_string()
}

/// Sends a message and waits until the server says that it has it.
fn send(from: &User, to: &str, content: &str) {
    from.move_file(to, content, content);
    let message = from.wait_for_message(content);
    from.wait_for("it at the server", || {
        let delivery = from.delivery(&message);
        let mut recipients = delivery.lines().filter(|line| line.starts_with("to: ")).peekable();
        let is_there = |line: &str| line.contains(" accepted ") || line.contains(" delivered ");
        (recipients.peek().is_some() && recipients.all(is_there)).then_some(())
    });
}

/// The `.gaps` of the only conversation that ends so, once it is there.
fn gaps(user: &User, ending: &str) -> String {
    user.wait_for_file(user.directory("conversations", ending).join(".gaps"))
}

fn shown(user: &User, conversation: &str) -> String {
    String::from_utf8(user.cli(&["show", conversation]).stdout).unwrap()
}

#[test]
fn what_a_server_withholds_is_shown_as_missing_asked_for_again_and_finds_its_place() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob] = friends(&world, &server, ["alice", "bob"]);
    send(&alice, "bob", "one");
    bob.wait_for_message("one");
    lie_to(&server, &bob, Fate::Withheld);
    send(&alice, "bob", "two");
    send(&alice, "bob", "three");
    server.lie(|lies| lies.on_delivery = None);
    send(&alice, "bob", "four");
    bob.wait_for_message("four");
    let told = gaps(&bob, "alice-bob");
    let line = format!("gap: {} 2 3 ", fingerprint(&alice));
    assert!(told.starts_with(&line) && told.ends_with("Z alice\n") && told.lines().count() == 1, "{told}");
    let text = shown(&bob, "alice");
    let [one, gap, four] = ["  one", "--- gap: 2 messages of alice are missing since ", "  four"]
        .map(|part| text.find(part).unwrap_or_else(|| panic!("{part} in {text}")));
    assert!(one < gap && gap < four, "{text}");

    bob.wait_for_message("two");
    bob.wait_for_message("three");
    bob.wait_until_gone(bob.directory("conversations", "alice-bob").join(".gaps"));
    assert_eq!(bob.heard_from("alice"), ["one", "two", "three", "four"], "each is in its place");
    assert!(!shown(&bob, "alice").contains("--- gap"));
    // What was withheld comes after all, and is nothing new.
    let withheld = server.lie(|lies| std::mem::take(&mut lies.withheld));
    assert_eq!(withheld.len(), 2);
    withheld.into_iter().for_each(|(account, envelope)| server.deliver(account, envelope));
    send(&alice, "bob", "five");
    bob.wait_for_message("five");
    bob.wait_for("an empty mailbox", || (server.in_mailbox(account(&bob)) == 0).then_some(()));
    assert_eq!(bob.heard_from("alice"), ["one", "two", "three", "four", "five"]);
    for user in [&alice, &bob] {
        assert!(entries(&user.at("alerts")).is_empty(), "all is well again");
    }
}

#[test]
fn a_last_message_that_one_participant_does_not_get_is_noticed_by_what_another_says() {
    let (world, server) = (World::new(), LyingServer::start());
    let [alice, bob, carol] = friends(&world, &server, ["alice", "bob", "carol"]);
    send(&alice, "bob,carol", "to both");
    bob.wait_for_message("to both");
    carol.wait_for_message("to both");
    lie_to(&server, &bob, Fate::Dropped);
    send(&alice, "bob,carol", "and nothing more");
    carol.wait_for_message("and nothing more");
    server.lie(|lies| lies.on_delivery = None);
    send(&carol, "alice,bob", "what alice said!");
    bob.wait_for_message("what alice said!");
    let told = gaps(&bob, "alice-bob-carol");
    assert!(told.starts_with(&format!("gap: {} 2 2 ", fingerprint(&alice))), "{told}");
    let directory = bob.directory("conversations", "alice-bob-carol");
    let text = shown(&bob, directory.file_name().unwrap().to_str().unwrap());
    assert!(text.trim_end().lines().last().unwrap().starts_with("--- gap: 1 message of alice is missing"), "{text}");
    bob.wait_for_message("and nothing more");
    bob.wait_until_gone(directory.join(".gaps"));
    assert_eq!(bob.heard_from("alice"), ["to both", "and nothing more"]);
    // Carol had all of it, and was asked for nothing.
    let directory = carol.directory("conversations", "alice-bob-carol");
    assert!(fs::symlink_metadata(directory.join(".gaps")).is_err());
    for user in [&alice, &bob, &carol] {
        assert!(entries(&user.at("alerts")).is_empty());
    }
}

#[test]
fn what_is_missing_before_a_request_is_accepted_is_asked_for_only_then() {
    let (world, server) = (World::new(), LyingServer::start());
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| world.user_at(name, &server.address));
    alice.add(&bob);
    alice.start();
    bob.start();
    send(&alice, "bob", "one");
    bob.wait_for("the request", || (requested(&bob) == 1).then_some(()));
    lie_to(&server, &bob, Fate::Dropped);
    send(&alice, "bob", "two");
    server.lie(|lies| lies.on_delivery = None);
    send(&alice, "bob", "three");
    bob.wait_for("what came behind it", || (requested(&bob) == 2).then_some(()));
    let request = entries(&bob.at("requests")).remove(0);
    assert!(fs::symlink_metadata(request.join(".gaps")).is_err());
    fs::rename(request.join("card"), bob.at("contacts/alice.card")).unwrap();
    bob.wait_for_message("three");
    let told = gaps(&bob, "alice-bob");
    assert!(told.starts_with(&format!("gap: {} 2 2 ", fingerprint(&alice))), "{told}");
    bob.wait_for_message("two");
    bob.wait_until_gone(bob.directory("conversations", "alice-bob").join(".gaps"));
    assert_eq!(bob.heard_from("alice"), ["one", "two", "three"]);
}

/// Messages of the only request.
fn requested(user: &User) -> usize {
    let requests = entries(&user.at("requests"));
    let is_message = |path: &PathBuf| path.to_string_lossy().contains("Z-alice");
    requests.iter().flat_map(|request| entries(request)).filter(is_message).count()
}
