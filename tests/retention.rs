//! What goes, and when (docs/filesystem.md): messages that have reached the age that a person has set, and all traces of
//! what a person has deleted.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic as tests do")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use support::clock::Clock;
use support::{User, World, entries};

const DAY_S: i64 = 86_400;

/// More than is overwritten at a time.
const LARGE: u64 = 40 * 1024 * 1024;

fn expire(user: &User, age: &str) {
    user.set(&format!("expire = \"{age}\""));
}

/// Sends a message, and waits until the recipient's server has it.
fn send(from: &User, to: &str, content: &str) -> PathBuf {
    from.drop_file(to, "x", content);
    let message = from.wait_for_message(content);
    let has_arrived = |text: String| [" accepted ", " delivered "].iter().any(|state| text.contains(state));
    from.wait_for("the message to be accepted", || has_arrived(from.delivery(&message)).then_some(()));
    message
}

fn delivery_of(message: &Path) -> PathBuf {
    message.parent().unwrap().join(".delivery").join(message.file_name().unwrap())
}

/// Starts a daemon anew, with a clock that is ahead.
fn restart_ahead(user: &mut User, days: i64) -> Clock {
    let clock = Clock::ahead(user.root.parent().unwrap(), days * DAY_S);
    user.wait_for_status("connection: connected");
    user.stop();
    user.start_under(clock.wrapper());
    clock
}

#[test]
fn messages_of_age_are_erased_with_what_is_known_of_them_and_nothing_else() {
    let world = World::new();
    let [alice, mut bob, carol] = world.friends(["alice", "bob", "carol"]);
    expire(&bob, "30days");
    send(&alice, "bob", "from alice");
    send(&carol, "bob", "from carol");
    let theirs = bob.wait_for_message("from alice");
    let kept = bob.wait_for_message("from carol");
    let ours = send(&bob, "alice", "to alice");
    let kept_too = send(&bob, "carol", "to carol");
    fs::write(kept.parent().unwrap().join("settings.toml"), "expire = \"never\"\n").unwrap();
    let directory = ours.parent().unwrap();
    assert_eq!(theirs.parent().unwrap(), directory);
    let foreign = ["notes.txt", "2020-01-01T000000.000000Z-notes", ".hidden"].map(|name| directory.join(name));
    foreign.iter().for_each(|path| fs::write(path, "mine").unwrap());

    restart_ahead(&mut bob, 29);
    let last = send(&alice, "bob", "the last");
    bob.wait_for_message("the last");
    bob.wait_for_status("connection: connected");
    assert!(theirs.exists() && ours.exists(), "29 days are not 30");
    restart_ahead(&mut bob, 31);
    for gone in [&theirs, &ours] {
        bob.wait_until_gone(gone);
        bob.wait_until_gone(delivery_of(gone));
    }
    bob.wait_for("the last to go", || (bob.messages().iter().all(|(_, _, text)| text != b"the last")).then_some(()));
    for there in foreign.iter().chain([&kept, &kept_too]) {
        assert!(there.exists(), "{}", there.display());
    }
    assert!(delivery_of(&kept).exists() && delivery_of(&kept_too).exists());
    assert!(last.exists(), "alice keeps hers");
}

#[test]
fn an_erased_message_is_overwritten_unless_a_person_has_linked_it() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    send(&alice, "bob", "a secret");
    send(&alice, "bob", "to be kept");
    let [secret, kept] = ["a secret", "to be kept"].map(|content| bob.wait_for_message(content));
    let link = bob.at("tmp/mine");
    fs::hard_link(&kept, &link).unwrap();
    // As one that is overwritten a portion at a time.
    send(&alice, "bob", "to be large");
    let large = bob.wait_for_message("to be large");
    fs::OpenOptions::new().write(true).open(&large).unwrap().write_all_at(b"a secret", LARGE - 8).unwrap();
    let open = [&secret, &large].map(|path| File::open(path).unwrap());
    expire(&bob, "1day");
    restart_ahead(&mut bob, 2);
    bob.wait_until_gone(&secret);
    bob.wait_until_gone(&kept);
    bob.wait_until_gone(&large);
    for (file, offset) in [(&open[0], 0), (&open[1], 0), (&open[1], LARGE - 8)] {
        bob.wait_for("the content to be overwritten", || {
            let mut bytes = [1; 8];
            file.read_exact_at(&mut bytes, offset).unwrap();
            (bytes == [0; 8]).then_some(())
        });
    }
    bob.wait_for("nothing to be left", || entries(&bob.at("journal/large")).is_empty().then_some(()));
    bob.stop();
    assert_eq!(fs::read(link).unwrap(), b"to be kept");
}

#[test]
fn wrong_settings_of_a_conversation_erase_nothing_and_say_so_beside_them() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    send(&alice, "bob", "hello");
    let message = bob.wait_for_message("hello");
    let settings = message.with_file_name("settings.toml");
    expire(&bob, "1day");
    fs::write(&settings, "expire = \"soon\"\n").unwrap();
    restart_ahead(&mut bob, 2);
    let error = bob.wait_for_file(settings.with_file_name("settings.toml.error"));
    assert!(error.starts_with("expire must be an age such as \"30 days\""), "{error}");
    bob.wait_for_status("refused: conversations/");
    let doctor = String::from_utf8(bob.cli(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("/settings.toml: expire must be an age"), "{doctor}");
    // What is received behind it shows that the conversation was looked through meanwhile.
    send(&alice, "bob", "again");
    bob.wait_for_message("again");
    assert!(message.exists());
    fs::write(&settings, "expire = \"2days\"\n").unwrap();
    bob.wait_until_gone(settings.with_file_name("settings.toml.error"));
    bob.wait_until_gone(&message);
}

#[test]
fn many_messages_of_age_go_through_kills_of_the_daemon_and_none_comes_back() {
    const COUNT: usize = 200;
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    for number in 0..COUNT {
        alice.drop_file("bob", &number.to_string(), number.to_string());
    }
    bob.wait_for("all messages", || (bob.messages().len() >= COUNT).then_some(()));
    let directory = bob.messages()[0].0.clone();
    fs::write(bob.at("conversations").join(&directory).join("notes.txt"), "mine").unwrap();
    expire(&bob, "1day");
    let clock = restart_ahead(&mut bob, 2);
    for left in [COUNT - 1, COUNT / 2] {
        bob.wait_for("some to go", || (bob.messages().len() <= left).then_some(()));
        bob.kill();
        bob.start_under(clock.wrapper());
    }
    bob.wait_for("all to go", || (bob.messages().len() == 1).then_some(()));
    let deliveries = bob.at("conversations").join(&directory).join(".delivery");
    bob.wait_for("all that is known of them to go", || entries(&deliveries).is_empty().then_some(()));
    assert_eq!(bob.messages()[0].1, "notes.txt");
    // Alice's server still has nothing to say to her of it, and a new message comes as ever.
    send(&alice, "bob", "news");
    bob.stop();
    bob.start();
    bob.wait_for_message("news");
    assert_eq!(alice.messages().len(), COUNT + 1);
}

#[test]
fn what_is_known_of_a_deleted_message_goes_once_nothing_more_can_become_of_it() {
    let world = World::new();
    let mut far = world.another_server("far");
    let [mut alice, mut bob] = ["alice", "bob"].map(|name| world.user(name));
    let dave = world.user_at("dave", &far.address);
    far.kill();
    alice.add(&bob);
    alice.add(&dave);
    bob.add(&alice);
    bob.set("acknowledge = false");
    [&mut alice, &mut bob].into_iter().for_each(User::start);
    send(&bob, "alice", "from bob");
    let theirs = alice.wait_for_message("from bob");
    let accepted = send(&alice, "bob", "to bob");
    alice.drop_file("dave", "x", "to dave");
    let waits = alice.wait_for_message("to dave");
    for message in [&theirs, &accepted, &waits] {
        fs::remove_file(message).unwrap();
    }
    alice.wait_until_gone(delivery_of(&theirs));
    assert!(alice.delivery(&accepted).contains(" accepted "));
    assert!(alice.delivery(&waits).contains(" queued "));
    // Nobody acknowledges any more what was accepted so long ago.
    restart_ahead(&mut alice, 15);
    alice.wait_until_gone(delivery_of(&accepted));
    assert!(!accepted.exists() && !theirs.exists() && !waits.exists());
}

#[test]
fn a_conversation_that_was_deleted_stays_so_until_somebody_writes() {
    let world = World::new();
    let [alice, mut bob] = world.friends(["alice", "bob"]);
    send(&alice, "bob", "old");
    let message = bob.wait_for_message("old");
    let name = message.parent().unwrap().file_name().unwrap().to_owned();
    let [conversation, twin] = ["conversations", "outbox"].map(|parent| bob.at(parent).join(&name));
    bob.wait_for("the twin", || twin.exists().then_some(()));
    support::remove_tree(&conversation);
    support::remove_tree(&twin);
    bob.stop();
    bob.start();
    bob.wait_for_status("connection: connected");
    assert!(!conversation.exists() && !twin.exists());
    send(&alice, "bob", "new");
    let message = bob.wait_for_message("new");
    assert_eq!(message.parent().unwrap(), conversation);
    assert_eq!(bob.messages().len(), 1);
    assert_eq!(entries(&conversation.join(".delivery")).len(), 1);
}

#[test]
fn a_message_on_its_way_is_erased_only_when_it_has_ended() {
    let world = World::new();
    let mut far = world.another_server("far");
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    let mut dave = world.user_at("dave", &far.address);
    dave.add(&alice);
    dave.start();
    dave.wait_for_status("prekeys: 100");
    dave.stop();
    far.kill();
    alice.add(&dave);
    alice.drop_file("dave", "x", "to dave");
    let waits = alice.wait_for_message("to dave");
    let accepted = send(&alice, "bob", "to bob");
    bob.wait_for_message("to bob");
    expire(&alice, "1day");
    restart_ahead(&mut alice, 2);
    alice.wait_until_gone(&accepted);
    assert!(waits.exists() && alice.delivery(&waits).contains(" queued "));
    far.start();
    dave.start();
    dave.wait_for_message("to dave");
    alice.wait_until_gone(&waits);
}
