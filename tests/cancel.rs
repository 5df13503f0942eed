//! Taking messages back, with the real programs.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use support::{User, World, entries};

const TOO_LATE: i32 = 69;
const NOT_NOW: i32 = 75;

fn cancel(user: &User, message: impl AsRef<Path>) -> Output {
    user.cli(&["cancel", message.as_ref().to_str().unwrap()])
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The only message of ours with this content.
fn copy(user: &User, content: &[u8]) -> PathBuf {
    let found: Vec<_> = user.messages().into_iter().filter(|(_, _, bytes)| bytes == content).collect();
    assert_eq!(found.len(), 1);
    user.at("conversations").join(&found[0].0).join(&found[0].1)
}

fn has(user: &User, content: &[u8]) -> bool {
    user.messages().iter().any(|(_, _, bytes)| bytes == content)
}

/// Two who have written to each other.
fn acquainted() -> (World, User, User) {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "hello", "hello");
    bob.wait_for_message("hello");
    bob.drop_file("alice", "hello", "hello to you");
    alice.wait_for_message("hello to you");
    (world, alice, bob)
}

#[test]
fn what_waits_for_a_server_is_taken_back_and_what_comes_later_arrives() {
    let (mut world, alice, bob) = acquainted();
    world.server.kill();
    alice.move_file("bob", "regret", "regret");
    alice.wait_until_gone("outbox/bob/regret");
    let cancelled = cancel(&alice, alice.at("outbox/bob/regret"));
    assert!(cancelled.status.success(), "{cancelled:?}");
    assert!(says(&cancelled).contains("bob: cancelled"), "{cancelled:?}");
    let delivery = alice.delivery(&copy(&alice, b"regret"));
    assert!(delivery.contains(" failed ") && delivery.contains(": cancelled"), "{delivery}");
    world.server.start();
    alice.drop_file("bob", "later", "later");
    bob.wait_for_message("later");
    assert!(!has(&bob, b"regret"));
    assert!(entries(&alice.at("alerts")).is_empty());
    assert!(entries(&alice.at("outbox/.cancel")).is_empty());
}

#[test]
fn a_large_message_is_taken_back_in_the_middle_and_what_had_come_of_it_goes() {
    let (_world, alice, bob) = acquainted();
    let content: Vec<u8> = (0..8_u32 << 20).map(|place| place.to_le_bytes()[1]).collect();
    alice.move_file("bob", "large", &content);
    alice.wait_until_gone("outbox/bob/large");
    let message = copy(&alice, &content);
    alice.wait_for("progress", || alice.delivery(&message).contains("progress: ").then_some(()));
    let cancelled = cancel(&alice, message.file_name().unwrap());
    assert!(cancelled.status.success(), "{cancelled:?}");
    let delivery = alice.delivery(&message);
    assert!(delivery.contains(": cancelled") && !delivery.contains("progress: "), "{delivery}");
    alice.drop_file("bob", "later", "later");
    bob.wait_for_message("later");
    bob.wait_for("nothing to be left", || {
        [bob.at("journal/arriving"), bob.at("keys/arriving")].iter().all(|path| entries(path).is_empty()).then_some(())
    });
    alice.wait_for("the copy to go", || entries(&alice.at("journal/large")).is_empty().then_some(()));
    assert!(!has(&bob, &content));
    assert!(message.exists());
    for user in [&alice, &bob] {
        assert!(entries(&user.at("alerts")).is_empty());
    }
}

#[test]
fn what_somebody_has_stays_with_them_and_the_exit_code_says_so() {
    let (_world, alice, bob) = acquainted();
    alice.drop_file("bob", "x", "a fact");
    bob.wait_for_message("a fact");
    let message = copy(&alice, b"a fact");
    alice.wait_until_delivered(&message);
    let cancelled = cancel(&alice, &message);
    assert_eq!(cancelled.status.code(), Some(TOO_LATE), "{cancelled:?}");
    assert!(says(&cancelled).contains("bob: too late, it is delivered"), "{cancelled:?}");
    assert!(alice.delivery(&message).contains(" delivered "));
    let left = || entries(&alice.at("outbox/.cancel")).is_empty().then_some(());
    alice.wait_for("the request to be gone, with what was said of it", left);
    let unknown = cancel(&alice, "outbox/bob/nothing");
    assert_eq!(unknown.status.code(), Some(66), "{unknown:?}");
}

#[test]
fn what_came_of_a_message_whose_states_are_kept_up_no_more_is_not_called_too_late() {
    let (mut world, alice, bob) = acquainted();
    world.server.kill();
    alice.move_file("bob", "regret", "regret");
    alice.wait_until_gone("outbox/bob/regret");
    let message = copy(&alice, b"regret");
    alice.wait_for_states(&message, &["sealed"]);
    let (place, away) = (message.parent().unwrap().to_owned(), alice.root.with_extension("away"));
    fs::rename(&place, &away).unwrap();
    // The conversation goes on in another directory.
    alice.move_file("bob", "another", "another");
    alice.wait_for_message("another");
    let old = place.with_file_name("old");
    fs::rename(&away, &old).unwrap();
    let cancelled = cancel(&alice, old.join(message.file_name().unwrap()));
    assert_eq!(cancelled.status.code(), Some(NOT_NOW), "{cancelled:?}");
    let said = says(&cancelled);
    assert!(said.contains("bob: not known, it still says sealed") && said.contains("two directories"), "{said}");
    world.server.start();
    bob.wait_for_message("another");
    assert!(!has(&bob, b"regret"));
}

#[test]
fn without_a_daemon_a_file_is_removed_and_the_rest_is_done_by_the_next_start() {
    let (mut world, mut alice, bob) = acquainted();
    world.server.kill();
    alice.move_file("bob", "regret", "regret");
    alice.wait_until_gone("outbox/bob/regret");
    alice.stop();
    let queued = alice.cli_with_input(&["send", "bob"], b"never sent");
    let path = String::from_utf8(queued.stdout).unwrap();
    let removed = cancel(&alice, path.trim_end());
    assert!(removed.status.success(), "{removed:?}");
    assert!(!Path::new(path.trim_end()).exists());
    let message = copy(&alice, b"regret");
    let waits = cancel(&alice, &message);
    assert_eq!(waits.status.code(), Some(NOT_NOW), "{waits:?}");
    world.server.start();
    alice.start();
    alice.wait_for("it to be done", || alice.delivery(&message).contains(": cancelled").then_some(()));
    alice.drop_file("bob", "later", "later");
    bob.wait_for_message("later");
    assert!(!has(&bob, b"regret") && !has(&bob, b"never sent"));
    assert!(fs::read_dir(alice.at("outbox/.cancel")).unwrap().next().is_none());
}

#[test]
fn whoever_asks_with_a_file_is_told_there_what_cannot_be_done_and_the_program_still_answers() {
    let (_world, mut alice, bob) = acquainted();
    alice.drop_file("bob", "x", "a fact");
    bob.wait_for_message("a fact");
    let message = copy(&alice, b"a fact");
    let delivery = alice.wait_until_delivered(&message);
    let id = delivery.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let error = format!("outbox/.cancel/{id}.error");
    fs::write(alice.at("outbox/.cancel").join(id), "").unwrap();
    assert!(alice.wait_for_file(&error).contains("cannot be taken back any more"));
    let said = says(&alice.cli(&["doctor"]));
    assert!(said.contains(&format!("error: {error}: ")), "{said}");
    // As it was left by somebody else.
    let cancelled = cancel(&alice, &message);
    assert_eq!(cancelled.status.code(), Some(TOO_LATE), "{cancelled:?}");
    alice.wait_until_gone(&error);
    alice.stop();
    fs::write(alice.at("outbox/.cancel/plan.pdf"), "").unwrap();
    alice.start();
    assert!(alice.wait_for_file("outbox/.cancel/plan.pdf.error").contains("This is no message's id"));
    fs::remove_file(alice.at("outbox/.cancel/plan.pdf")).unwrap();
    alice.wait_until_gone("outbox/.cancel/plan.pdf.error");
}

/// Their daemons ask for what is missing after half a minute: this test takes that long.
#[test]
fn what_was_taken_back_is_missing_until_its_author_has_said_that_it_will_not_come() {
    let mut world = World::new();
    let [alice, bob, carol] = world.friends(["alice", "bob", "carol"]);
    for to in ["bob", "bob,carol"] {
        alice.drop_file(to, "hello", format!("hello, {to}"));
    }
    bob.wait_for_message("hello, bob");
    [&bob, &carol].iter().for_each(|user| drop(user.wait_for_message("hello, bob,carol")));
    world.server.kill();
    for to in ["bob", "bob,carol"] {
        let content = format!("regret, {to}");
        alice.move_file(to, "regret", &content);
        alice.wait_until_gone(format!("outbox/{to}/regret"));
        let cancelled = cancel(&alice, copy(&alice, content.as_bytes()));
        assert!(cancelled.status.success(), "{cancelled:?}");
    }
    world.server.start();
    for to in ["bob", "bob,carol"] {
        alice.drop_file(to, "later", format!("later, {to}"));
    }
    let gaps = |user: &User, ending: &str| user.directory("conversations", ending).join(".gaps");
    // On a slow machine the author may have said it before this is looked at: between two nothing is shown any more then.
    let is_told = |told: &str| (told.starts_with("gap: ") || told.starts_with("withdrawn: ")) && told.contains(" 2 2 ");
    let all =
        [(&bob, "alice-bob", "bob"), (&bob, "alice-bob-carol", "bob,carol"), (&carol, "alice-bob-carol", "bob,carol")];
    for (user, ending, to) in all {
        user.wait_for_message(&format!("later, {to}"));
        let told = fs::read_to_string(gaps(user, ending)).ok();
        assert!(told.as_deref().map_or(ending == "alice-bob", is_told), "{told:?}");
    }
    bob.wait_until_gone(gaps(&bob, "alice-bob"));
    let shown = says(&bob.cli(&["show", "alice"]));
    assert!(shown.contains("later, bob") && !shown.contains("--- gap") && !shown.contains("--- withdrawn"), "{shown}");
    // Among several it stays in sight, as others may have it.
    for user in [&bob, &carol] {
        let path = gaps(user, "alice-bob-carol");
        let told = user.wait_for("it to be withdrawn", || {
            fs::read_to_string(&path).ok().filter(|told| !told.starts_with("gap: "))
        });
        assert!(told.starts_with("withdrawn: ") && told.contains(" 2 2 ") && told.lines().count() == 1, "{told}");
        let directory = path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let shown = says(&user.cli(&["show", &directory]));
        assert!(shown.contains("--- withdrawn: 1 message of alice will not come, by their word\n"), "{shown}");
        assert!(!user.messages().iter().any(|(_, _, bytes)| bytes.starts_with(b"regret")));
        assert!(entries(&user.at("alerts")).is_empty());
    }
}
