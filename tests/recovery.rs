//! State is lost, as people lose it: a backup is put back, keys/ is removed, a new machine starts with the account alone.
//! The real programs find out, and what could not be read appears by itself.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use chatterbox::wire::counter::CounterState;
use support::{User, World, entries};

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Stops a daemon once its home server has its counter.
fn stop_counted(user: &mut User) -> CounterState {
    loop {
        user.wait_for_status("connection: connected");
        user.stop();
        let state = CounterState::from_bytes(&fs::read(user.at("keys/counter")).unwrap()).unwrap();
        if !state.is_writing {
            return state;
        }
        user.start();
    }
}

/// The texts of all alerts of a kind.
fn alerts(user: &User, kind: &str) -> Vec<String> {
    let is_it = |path: &Path| path.to_string_lossy().contains(&format!("Z-{kind}"));
    let found = entries(&user.at("alerts")).into_iter().filter(|path| is_it(path));
    found.map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn wait_for_alert(user: &User, kind: &str) -> String {
    user.wait_for(&format!("an alert {kind:?}"), || alerts(user, kind).into_iter().next())
}

/// Two who have written to each other, and the second one's counter is at the server. He acknowledges nothing: what was
/// acknowledged is not sent again.
fn acquainted(world: &World) -> ([User; 2], CounterState) {
    acquainted_with(world, &["acknowledge = false"])
}

fn acquainted_with(world: &World, settings: &[&str]) -> ([User; 2], CounterState) {
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    alice.add(&bob);
    bob.add(&alice);
    settings.iter().for_each(|setting| bob.set(setting));
    alice.start();
    bob.start();
    alice.drop_file("bob", "x", "before");
    bob.wait_for_message("before");
    bob.drop_file("alice", "x", "before, from bob");
    alice.wait_for_message("before, from bob");
    let counter = stop_counted(&mut bob);
    ([alice, bob], counter)
}

/// After the loss: what alice wrote is there, once and in order, both were told, and they go on.
fn check_recovered(alice: &User, bob: &User, from_alice: &[&str]) {
    for content in from_alice {
        bob.wait_for_message(content);
    }
    let told = wait_for_alert(alice, "recovered");
    assert!(told.contains("bob has restored a backup") && told.contains("sent again"), "{told}");
    let told = wait_for_alert(bob, "rollback");
    assert!(told.contains("All sessions are replaced"), "{told}");
    bob.drop_file("alice", "x", "here again");
    alice.wait_for_message("here again");
    alice.drop_file("bob", "x", "welcome back");
    bob.wait_for_message("welcome back");
    let expected: Vec<&str> = from_alice.iter().copied().chain(["welcome back"]).collect();
    assert_eq!(bob.heard_from("alice"), expected);
    assert_eq!((alerts(alice, "recovered").len(), alerts(bob, "rollback").len()), (1, 1));
    assert_eq!(entries(&bob.at("conversations")).len(), 1);
    assert_eq!(entries(&alice.at("conversations")).len(), 1);
}

#[test]
fn a_backup_is_put_back_and_what_it_does_not_know_of_comes_again() {
    let world = World::new();
    let ([alice, mut bob], before) = acquainted(&world);
    let backup = world.scratch.path().join("backup");
    copy(&bob.root, &backup);
    bob.start();
    alice.drop_file("bob", "x", "read and lost");
    bob.wait_for_message("read and lost");
    bob.drop_file("alice", "x", "an answer that is lost at bob");
    alice.wait_for_message("an answer that is lost at bob");
    assert!(stop_counted(&mut bob).number > before.number);
    alice.drop_file("bob", "x.txt", "not read yet");
    alice.wait_for_status("queue: 0");
    fs::remove_dir_all(&bob.root).unwrap();
    fs::rename(backup, &bob.root).unwrap();
    bob.start();
    check_recovered(&alice, &bob, &["before", "read and lost", "not read yet"]);
    assert!(bob.wait_for_message("not read yet").to_str().unwrap().ends_with("-x.txt"), "its name went along");
    assert_eq!(alice.heard_from("bob"), ["before, from bob", "an answer that is lost at bob", "here again"]);
    // The next start finds nothing wrong.
    stop_counted(&mut bob);
    bob.start();
    alice.drop_file("bob", "x", "and on");
    bob.wait_for_message("and on");
    assert_eq!(alerts(&bob, "rollback").len(), 1);
    assert!(bob.cli(&["doctor"]).status.success());
}

#[test]
fn a_backup_is_put_back_and_what_was_acknowledged_does_not_come_again() {
    let world = World::new();
    let ([alice, mut bob], before) = acquainted_with(&world, &[]);
    let backup = world.scratch.path().join("backup");
    copy(&bob.root, &backup);
    bob.start();
    alice.drop_file("bob", "x", "read and lost");
    alice.wait_until_delivered(&alice.wait_for_message("read and lost"));
    assert!(stop_counted(&mut bob).number > before.number);
    alice.drop_file("bob", "x", "not read yet");
    alice.wait_until_accepted(&alice.wait_for_message("not read yet"));
    fs::remove_dir_all(&bob.root).unwrap();
    fs::rename(backup, &bob.root).unwrap();
    bob.start();
    check_recovered(&alice, &bob, &["before", "not read yet"]);
    for content in ["before", "not read yet", "welcome back"] {
        alice.wait_until_delivered(&alice.wait_for_message(content));
    }
}

#[test]
fn keys_are_removed_and_what_came_meanwhile_comes_again() {
    let world = World::new();
    let ([alice, mut bob], _) = acquainted(&world);
    alice.drop_file("bob", "x", "not read yet");
    alice.wait_for_status("queue: 0");
    fs::remove_dir_all(bob.at("keys")).unwrap();
    bob.start();
    check_recovered(&alice, &bob, &["before", "not read yet"]);
    assert!(bob.cli(&["doctor"]).status.success());
}

#[test]
fn somebody_starts_over_with_account_and_contacts_and_two_weeks_come_again() {
    let world = World::new();
    let ([alice, mut bob], _) = acquainted(&world);
    alice.drop_file("bob", "x", "not read yet");
    alice.wait_for_status("queue: 0");
    let old = world.scratch.path().join("old");
    fs::rename(&bob.root, &old).unwrap();
    fs::create_dir(&bob.root).unwrap();
    for kept in ["config.pb", "profile.pb", "chatterbox.toml", "contacts"] {
        fs::rename(old.join(kept), bob.at(kept)).unwrap();
    }
    bob.start();
    check_recovered(&alice, &bob, &["before", "not read yet"]);
}

#[test]
fn a_conversation_of_three_comes_back_with_its_subject() {
    let world = World::new();
    let [alice, mut bob, carol] = world.friends(["alice", "bob", "carol"]);
    let draft = alice.at("tmp/me/plans");
    fs::create_dir_all(&draft).unwrap();
    fs::write(draft.join("metadata.toml"), "subject = \"plans\"\nparticipants = [\"bob\", \"carol\"]\n").unwrap();
    fs::write(draft.join("1"), "first").unwrap();
    fs::rename(&draft, alice.at("outbox/plans")).unwrap();
    let place = bob.wait_for_message("first").parent().unwrap().to_owned();
    carol.wait_for_message("first");
    fs::write(carol.directory("outbox", "_plans").join("x"), "carol agrees").unwrap();
    bob.wait_for_message("carol agrees");
    stop_counted(&mut bob);
    alice.drop_file("plans", "2", "second");
    carol.wait_for_message("second");
    alice.wait_for_status("queue: 0");
    fs::remove_dir_all(bob.at("keys")).unwrap();
    bob.start();
    assert_eq!(bob.wait_for_message("second").parent(), Some(place.as_path()), "it stands where it stood");
    for other in [&alice, &carol] {
        wait_for_alert(other, "recovered");
    }
    fs::write(bob.directory("outbox", "_plans").join("x"), "bob is back").unwrap();
    alice.wait_for_message("bob is back");
    carol.wait_for_message("bob is back");
    assert_eq!(bob.messages().len(), 4, "{:?}", bob.messages());
}

#[test]
fn a_home_server_that_lost_the_counter_causes_an_alert_and_no_reset() {
    let mut world = World::new();
    let ([alice, mut bob], _) = acquainted(&world);
    world.server.kill();
    for path in entries(&world.server.directory) {
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        }
    }
    world.server.start();
    bob.start();
    let told = wait_for_alert(&bob, "counter");
    assert!(told.contains("lost the counter"), "{told}");
    alice.drop_file("bob", "x", "in the session that was");
    bob.wait_for_message("in the session that was");
    bob.drop_file("alice", "x", "and back");
    alice.wait_for_message("and back");
    assert!(alerts(&bob, "rollback").is_empty() && alerts(&alice, "recovered").is_empty());
    stop_counted(&mut bob);
    assert!(!bob.at("keys/recovery").exists());
}
