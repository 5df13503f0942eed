//! What a recipient's program says of a message: `delivered`, through the real programs.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::path::PathBuf;

use support::{User, World, entries};

/// Two with these settings, who hold each other's cards, whose daemons run.
fn friends(world: &World, settings: [&[&str]; 2]) -> [User; 2] {
    let mut users = ["alice", "bob"].map(|name| world.user(name));
    users[0].add(&users[1]);
    users[1].add(&users[0]);
    for (user, settings) in users.iter_mut().zip(settings) {
        settings.iter().for_each(|setting| user.set(setting));
        user.start();
    }
    users
}

/// How many envelopes wait for an account, or have been taken from its mailbox, cannot be told; how many entries of hashes
/// it has of them can.
fn envelopes_received(user: &mut User) -> u64 {
    user.stop();
    let files = entries(&user.at("keys")).into_iter();
    let hashes = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("received-"));
    hashes.map(|path| fs::metadata(path).unwrap().len() / 40).sum()
}

#[test]
fn messages_in_both_directions_are_delivered_and_nothing_else_is_left() {
    let world = World::new();
    let [alice, bob] = friends(&world, [&[], &[]]);
    alice.drop_file("bob", "x", "hello bob");
    bob.drop_file("alice", "x", "hello alice");
    alice.wait_until_delivered(&alice.wait_for_message("hello bob"));
    bob.wait_until_delivered(&bob.wait_for_message("hello alice"));
    for user in [&alice, &bob] {
        user.wait_for_status("queue: 0");
        assert!(entries(&user.at("alerts")).is_empty() && entries(&user.at("requests")).is_empty());
    }
}

#[test]
fn of_several_each_recipient_is_delivered_by_their_own_word() {
    let world = World::new();
    let [alice, mut bob, carol] = world.friends(["alice", "bob", "carol"]);
    alice.drop_file("bob,carol", "x", "hello both");
    let first = alice.wait_for_message("hello both");
    alice.wait_until_delivered(&first);
    bob.stop();
    alice.drop_file("bob,carol", "x", "hello carol");
    carol.wait_for_message("hello carol");
    let message = alice.wait_for_message("hello carol");
    let text = alice.wait_for("carol's word", || {
        let text = alice.delivery(&message);
        text.lines().any(|line| line.contains(" delivered ") && line.ends_with(" carol")).then_some(text)
    });
    assert!(!text.lines().any(|line| line.contains(" delivered ") && line.ends_with(" bob")), "{text}");
    bob.start();
    alice.wait_until_delivered(&message);
}

#[test]
fn messages_that_come_together_are_acknowledged_together() {
    const COUNT: usize = 40;
    let world = World::new();
    let [mut alice, mut bob] = friends(&world, [&["acknowledge = false"], &[]]);
    alice.drop_file("bob", "first", "first");
    alice.wait_until_delivered(&alice.wait_for_message("first"));
    bob.stop();
    for number in 0..COUNT {
        alice.drop_file("bob", &number.to_string(), format!("number {number}"));
    }
    alice.wait_for("all of them", || (alice.messages().len() == COUNT + 1).then_some(()));
    alice.wait_for_status("queue: 0");
    bob.set("acknowledge_delay = \"3s\"");
    bob.start();
    for number in 0..COUNT {
        alice.wait_until_delivered(&alice.wait_for_message(&format!("number {number}")));
    }
    // The acknowledgement of the first, and of all others in as few as there are waits and batches.
    let received = envelopes_received(&mut alice);
    assert!(received <= 1 + COUNT as u64 / 4, "{received} envelopes");
}

#[test]
fn who_has_turned_it_off_for_the_account_acknowledges_nothing() {
    let world = World::new();
    let [alice, bob] = friends(&world, [&[], &["acknowledge = false"]]);
    alice.drop_file("bob", "x", "one");
    bob.wait_for_message("one");
    // What leaves later is behind what would have left earlier.
    bob.drop_file("alice", "x", "an answer");
    bob.wait_until_delivered(&bob.wait_for_message("an answer"));
    let text = alice.wait_until_accepted(&alice.wait_for_message("one"));
    assert!(text.contains(" accepted "), "{text}");
}

#[test]
fn who_has_turned_it_off_for_a_conversation_acknowledges_the_others() {
    let world = World::new();
    let [alice, bob] = friends(&world, [&[], &[]]);
    alice.drop_file("bob", "x", "one");
    let message = alice.wait_for_message("one");
    alice.wait_until_delivered(&message);
    let directory = bob.directory("conversations", "-alice-bob");
    fs::write(directory.join("settings.toml"), "acknowledge = false\n").unwrap();
    alice.drop_file("bob", "x", "two");
    bob.wait_for_message("two");
    let draft = alice.at("tmp/me/plans");
    fs::create_dir_all(&draft).unwrap();
    fs::write(draft.join("metadata.toml"), "subject = \"plans\"\nparticipants = [\"bob\"]\n").unwrap();
    fs::write(draft.join("1"), "elsewhere").unwrap();
    fs::rename(&draft, alice.at("outbox/plans")).unwrap();
    alice.wait_until_delivered(&alice.wait_for_message("elsewhere"));
    let text = alice.delivery(&alice.wait_for_message("two"));
    assert!(text.contains(" accepted "), "{text}");
    fs::write(directory.join("settings.toml"), "acknowledge = true\n").unwrap();
    alice.drop_file("bob", "x", "three");
    alice.wait_until_delivered(&alice.wait_for_message("three"));
}

#[test]
fn a_stranger_hears_nothing_until_their_request_is_accepted() {
    let world = World::new();
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    alice.add(&bob);
    alice.start();
    bob.start();
    alice.drop_file("bob", "x", "we have not met");
    let card = bob.wait_for("a request", || {
        let request = entries(&bob.at("requests")).into_iter().next()?;
        let is_it = |path: &PathBuf| fs::read(path).is_ok_and(|text| text == b"we have not met");
        entries(&request).iter().any(is_it).then(|| request.join("card"))
    });
    let message = alice.wait_for_message("we have not met");
    let text = alice.wait_until_accepted(&message);
    assert!(text.contains(" accepted "), "{text}");
    assert!(entries(&bob.at("keys/acknowledgements")).is_empty(), "nothing is owed");
    fs::rename(&card, bob.at("contacts/alice.card")).unwrap();
    alice.wait_until_delivered(&message);
}

#[test]
fn whoever_is_killed_around_it_all_is_acknowledged_in_the_end() {
    const COUNT: usize = 60;
    let mut world = World::new();
    let [mut alice, mut bob] = friends(&world, [&[], &["acknowledge_delay = \"1s\""]]);
    for number in 0..COUNT {
        alice.drop_file("bob", &number.to_string(), format!("number {number}"));
        match number % 20 {
            5 => {
                bob.wait_for_message(&format!("number {}", number - 5));
                bob.kill();
                bob.start();
            }
            10 => {
                alice.kill();
                alice.start();
            }
            15 => {
                world.server.kill();
                world.server.start();
            }
            _ => {}
        }
    }
    for number in 0..COUNT {
        alice.wait_until_delivered(&alice.wait_for_message(&format!("number {number}")));
    }
    assert_eq!(bob.heard_from("alice").len(), COUNT);
    assert!(entries(&alice.at("alerts")).is_empty() && entries(&bob.at("alerts")).is_empty());
}
