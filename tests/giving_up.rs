//! What does not arrive ends as failed, with a reason and an alert, and what comes after it goes its way. Through the real
//! programs.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chatterbox::wire::counter::CounterState;
use support::{Server, User, World, entries};

/// Short enough for a test; the daemon waits as long before it gives anything up.
const PERIOD: &str = "retry_period = \"2s\"";

/// Alice, who is soon at the end of her patience, and bob at a server of his own. Both hold each other's cards; nobody runs.
fn apart(world: &World) -> (User, User, Server) {
    let server = world.another_server("other");
    let (alice, bob) = (world.user("alice"), world.user_at("bob", &server.address));
    alice.add(&bob);
    bob.add(&alice);
    alice.set(PERIOD);
    (alice, bob, server)
}

/// A message of hers, once it has come this far.
fn sends(alice: &User, content: &str, state: &str) -> (PathBuf, String) {
    alice.drop_file("bob", "x", content);
    let message = alice.wait_for_message(content);
    let text = alice.wait_for_states(&message, &[state]);
    (message, text)
}

/// The texts of her alerts about what could not be delivered.
fn alerts(alice: &User) -> Vec<String> {
    let is_it = |path: &Path| path.to_string_lossy().contains("Z-undeliverable-");
    let found = entries(&alice.at("alerts")).into_iter().filter(|path| is_it(path));
    found.map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn wait_for_alert(alice: &User) -> String {
    let text = alice.wait_for("an alert", || alerts(alice).into_iter().next());
    assert_eq!(text.lines().count(), 2, "{text}");
    text
}

#[test]
fn a_server_that_is_gone_fails_what_waits_and_after_its_return_all_goes_through_even_what_was_given_up() {
    let world = World::new();
    let (mut alice, mut bob, mut server) = apart(&world);
    alice.start();
    bob.start();
    sends(&alice, "before", "delivered");
    server.kill();
    bob.wait_for_status("connection: not connected");
    let (message, text) = sends(&alice, "lost", "failed");
    assert!(text.contains(": their server did not confirm it within 2s: "), "{text}");
    let alert = wait_for_alert(&alice);
    let file = message.file_name().unwrap().to_str().unwrap();
    assert!(
        alert.contains(file) && alert.contains("to bob could not be delivered") && alert.contains("Ask bob"),
        "{alert}"
    );
    alice.wait_for_status("queue: 0");
    let status = fs::read_to_string(alice.at("status")).unwrap();
    assert!(!status.contains("trouble: "), "nobody waits for bob's server any more: {status}");
    server.start();
    bob.wait_for_status("connection: connected");
    sends(&alice, "after", "delivered");
    bob.drop_file("alice", "x", "an answer");
    bob.wait_until_delivered(&bob.wait_for_message("an answer"));
    // He sees that something is missing between these, and asks for it.
    alice.wait_until_delivered(&message);
    assert_eq!(bob.heard_from("alice"), ["before", "lost", "after"]);
    assert_eq!(alerts(&alice).len(), 1);
    assert!(entries(&bob.at("alerts")).is_empty());
}

#[test]
fn what_never_left_says_nothing_of_having_arrived() {
    let world = World::new();
    let (mut alice, mut bob, mut server) = apart(&world);
    alice.start();
    bob.start();
    sends(&alice, "before", "delivered");
    alice.stop();
    server.kill();
    alice.start();
    let (message, _) = sends(&alice, "lost", "failed");
    let text = alice.delivery(&message);
    assert!(text.contains(": their server did not confirm it within 2s: ") && !text.contains("not known"), "{text}");
    assert!(!wait_for_alert(&alice).contains("not known"));
}

#[test]
fn of_many_messages_that_fail_together_one_alert_speaks() {
    let world = World::new();
    let (mut alice, mut bob, mut server) = apart(&world);
    alice.start();
    bob.start();
    sends(&alice, "before", "delivered");
    server.kill();
    let texts: Vec<String> = (0..30).map(|number| format!("number {number}")).collect();
    for text in &texts {
        alice.move_file("bob", text, text);
    }
    for text in &texts {
        alice.wait_for_states(&alice.wait_for_message(text), &["failed"]);
    }
    alice.wait_for_status("queue: 0");
    // Those of one second may have been given up in two looks.
    assert!(alerts(&alice).len() <= 3, "{:?}", alerts(&alice));
}

#[test]
fn somebody_whose_server_never_had_their_account_fails_and_is_reached_once_it_has() {
    let world = World::new();
    let (mut alice, mut bob, _server) = apart(&world);
    alice.start();
    let (_, text) = sends(&alice, "too early", "failed");
    assert!(text.contains("there is no such account at the server") && !text.contains("not known"), "{text}");
    assert!(wait_for_alert(&alice).contains("no such account"));
    alice.wait_for_status("queue: 0");
    bob.start();
    bob.wait_for_status("prekeys: 100");
    // Of the conversation, too, he hears only now.
    sends(&alice, "now", "delivered");
    assert_eq!(bob.heard_from("alice"), ["now"]);
}

#[test]
fn an_account_that_its_server_has_lost_fails() {
    let world = World::new();
    let (mut alice, mut bob, mut server) = apart(&world);
    alice.start();
    bob.start();
    sends(&alice, "before", "delivered");
    bob.stop();
    server.kill();
    for path in entries(&server.directory).into_iter().filter(|path| path.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    }
    server.start();
    let (_, text) = sends(&alice, "nowhere", "failed");
    assert!(text.contains("there is no such account at the server"), "{text}");
    assert!(wait_for_alert(&alice).contains("no such account"));
}

#[test]
fn what_a_server_took_and_nobody_acknowledged_fails_and_a_late_acknowledgement_delivers_it() {
    let world = World::new();
    let (mut alice, mut bob, _server) = apart(&world);
    alice.start();
    bob.start();
    sends(&alice, "before", "delivered");
    bob.stop();
    let (message, text) = sends(&alice, "read late", "failed");
    let reason = "their server has it, but it was not acknowledged in 2s: it is not known whether it arrived";
    assert!(text.contains(reason), "{text}");
    assert!(wait_for_alert(&alice).contains(reason));
    bob.start();
    alice.wait_until_delivered(&message);
    assert_eq!(bob.heard_from("alice"), ["before", "read late"]);
}

#[test]
fn who_never_acknowledged_anything_has_accepted_as_the_last_word() {
    let world = World::new();
    let (mut alice, mut bob, mut server) = apart(&world);
    bob.set("acknowledge = false");
    alice.start();
    bob.start();
    let (first, _) = sends(&alice, "one", "accepted");
    bob.wait_for_message("one");
    // Whoever gives this up has looked at the first, too.
    server.kill();
    sends(&alice, "two", "failed");
    wait_for_alert(&alice);
    assert!(alice.delivery(&first).contains(" accepted "));
    assert_eq!(alerts(&alice).len(), 1);
}

#[test]
fn who_is_dead_fails_and_the_others_of_the_conversation_do_not() {
    let world = World::new();
    let (mut alice, mut bob, mut server) = apart(&world);
    let mut carol = world.user("carol");
    alice.add(&carol);
    carol.add(&alice);
    [&mut alice, &mut bob, &mut carol].into_iter().for_each(User::start);
    alice.drop_file("bob,carol", "x", "before");
    alice.wait_until_delivered(&alice.wait_for_message("before"));
    server.kill();
    alice.drop_file("bob,carol", "x", "to both");
    let text = alice.wait_for_states(&alice.wait_for_message("to both"), &["delivered", "failed"]);
    let state_of = |name: &str| {
        let line =
            text.lines().find(|line| line.starts_with("to: ") && line.split(' ').nth(4).unwrap().starts_with(name));
        line.unwrap().split(' ').nth(2).unwrap().to_owned()
    };
    assert_eq!([state_of("bob"), state_of("carol")], ["failed", "delivered"]);
}

#[test]
fn what_was_sealed_before_a_restart_may_have_arrived_unless_the_daemon_was_stopped_as_asked() {
    let world = World::new();
    let (mut alice, mut bob, mut server) = apart(&world);
    alice.start();
    bob.start();
    sends(&alice, "before", "delivered");
    server.kill();
    alice.stop();
    fs::write(alice.at("chatterbox.toml"), "dialer = \"direct\"\n").unwrap();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    alice.start();
    let (message, _) = sends(&alice, "certainly not", "sealed");
    alice.wait_for_status("trouble: bob: ");
    // A stop in the middle of that leaves open whether this state is the newest.
    alice.wait_for("the counter at her server", || {
        let counter = CounterState::from_bytes(&fs::read(alice.at("keys/counter")).unwrap()).unwrap();
        (!counter.is_writing && counter.written >= started).then_some(())
    });
    alice.stop();
    assert!(alice.at("keys/unsent").exists());
    let settings = fs::read_to_string(alice.at("chatterbox.toml")).unwrap();
    alice.set(PERIOD);
    alice.start();
    let text = alice.wait_for_states(&message, &["failed"]);
    assert!(!text.contains("not known"), "{text}");
    alice.stop();
    assert!(!alice.at("keys/unsent").exists());
    fs::write(alice.at("chatterbox.toml"), settings).unwrap();
    alice.start();
    let (message, _) = sends(&alice, "perhaps", "sealed");
    alice.kill();
    alice.set(PERIOD);
    alice.start();
    let text = alice.wait_for_states(&message, &["failed"]);
    assert!(text.contains("; it is not known whether it arrived"), "{text}");
}

/// Moves alice's only conversation out of her directory, and hands out where it stood and where it is.
fn move_away(alice: &User) -> (PathBuf, PathBuf) {
    let place = alice.directory("conversations", "");
    let away = alice.root.with_extension("away");
    fs::rename(&place, &away).unwrap();
    (place, away)
}

/// What the daemon remembers of what was sent, once a checkpoint has written it.
fn remembered(alice: &User) -> Vec<u8> {
    let files = entries(&alice.at("keys")).into_iter().filter(|path| path.to_string_lossy().contains("/keys/sent-"));
    files.flat_map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn what_is_acknowledged_while_its_conversation_is_away_is_delivered_once_that_is_back() {
    let world = World::new();
    let mut server = world.another_server("other");
    let (mut alice, mut bob) = (world.user("alice"), world.user_at("bob", &server.address));
    alice.add(&bob);
    bob.add(&alice);
    let hook = alice.at("hooks/on-delivered");
    fs::create_dir_all(alice.at("hooks")).unwrap();
    fs::write(&hook, "#!/bin/sh\necho \"$CHATTERBOX_FILE\" >> \"$CHATTERBOX_ROOT/told\"\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
    alice.start();
    bob.start();
    sends(&alice, "before", "delivered");
    server.kill();
    bob.wait_for_status("connection: not connected");
    let (message, _) = sends(&alice, "late", "sealed");
    let name = message.file_name().unwrap().as_bytes().to_vec();
    let before = alice.wait_for("a checkpoint", || {
        let bytes = remembered(&alice);
        bytes.windows(name.len()).any(|window| window == name).then_some(bytes.len())
    });
    let (place, away) = move_away(&alice);
    server.start();
    alice.wait_for_status("queue: 0");
    alice.wait_for("an acknowledgement", || (remembered(&alice).len() > before).then_some(()));
    alice.stop();
    alice.start();
    alice.wait_for_status("connection: connected");
    assert!(!place.exists(), "{}", support::tree(&alice.root));
    fs::rename(&away, &place).unwrap();
    alice.wait_until_delivered(&message);
    let told = alice.wait_for("both told", || {
        let told = fs::read_to_string(alice.at("told")).ok()?;
        (told.lines().count() > 1).then_some(told)
    });
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(alerts(&alice).is_empty());
}

#[test]
fn what_fails_while_its_conversation_is_away_raises_an_alert_and_stands_there_once_that_is_back() {
    let world = World::new();
    let mut server = world.another_server("other");
    let (mut alice, mut bob) = (world.user("alice"), world.user_at("bob", &server.address));
    alice.add(&bob);
    bob.add(&alice);
    alice.start();
    bob.start();
    sends(&alice, "before", "delivered");
    server.kill();
    let (message, _) = sends(&alice, "lost", "sealed");
    let (place, away) = move_away(&alice);
    alice.stop();
    alice.set(PERIOD);
    alice.start();
    let alert = wait_for_alert(&alice);
    assert!(alert.contains(message.file_name().unwrap().to_str().unwrap()), "{alert}");
    assert!(!place.exists(), "{}", support::tree(&alice.root));
    fs::rename(&away, &place).unwrap();
    let text = alice.wait_for_states(&message, &["delivered", "failed"]);
    assert!(text.contains(": given up while this could not be written"), "{text}");
    assert_eq!(alerts(&alice).len(), 1);
}
