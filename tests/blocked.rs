//! Contacts who are blocked, alone and among others.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::fs;

use support::{User, World, entries};

fn done(user: &User, arguments: &[&str]) -> String {
    let output = user.cli(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn wait_until_accepted(user: &User, content: &str) {
    let message = user.wait_for_message(content);
    user.wait_for("all accepted", || {
        let states = user.delivery(&message);
        let mut lines = states.lines().filter(|line| line.starts_with("to: ")).peekable();
        (lines.peek().is_some() && lines.all(|line| line.contains(" accepted ") || line.contains(" delivered ")))
            .then_some(())
    });
}

#[test]
fn what_a_blocked_contact_writes_is_not_seen_and_nothing_is_sent_to_them_until_they_are_unblocked() {
    let world = World::new();
    let [bob, carol, alice] = world.friends(["bob", "carol", "alice"]);
    carol.drop_file("bob", "x", "before");
    bob.wait_for_message("before");
    bob.drop_file("carol", "x", "hello carol");
    carol.wait_for_message("hello carol");
    for says in ["blocked carol\n", "carol is blocked already\n"] {
        assert_eq!(done(&bob, &["contact", "block", "carol"]), says);
        assert!(!bob.at("contacts/carol.card").exists() && bob.at("blocked/carol.card").exists());
    }
    // A look at the contacts is behind this.
    bob.drop_file("carol", "x", "not to leave");
    let error = bob.wait_for_file("outbox/carol.error");
    assert!(error.starts_with("carol is blocked"), "{error}");
    let twin = bob.directory("outbox", "-carol-bob");
    fs::write(twin.join("y"), "nor this").unwrap();
    let error = bob.wait_for_file(twin.with_added_extension("error"));
    assert!(error.contains("is blocked"), "{error}");
    let refused = bob.cli_with_input(&["send", "carol"], b"nor this");
    assert_eq!(refused.status.code(), Some(67), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("carol is blocked"), "{refused:?}");
    let shown = done(&bob, &["show", "carol"]);
    assert!(shown.contains("before") && shown.contains("hello carol"), "what was said is still to be read: {shown}");

    carol.drop_file("bob", "x", "unseen");
    wait_until_accepted(&carol, "unseen");
    alice.drop_file("bob", "x", "behind it");
    bob.wait_for_message("behind it");
    assert_eq!(bob.heard_from("carol"), ["before"]);
    assert!(entries(&bob.at("requests")).is_empty() && entries(&bob.at("alerts")).is_empty());

    done(&bob, &["contact", "unblock", "carol"]);
    // What stands in the outbox leaves now, in the session that stood all the time.
    carol.wait_for_message("not to leave");
    carol.wait_for_message("nor this");
    carol.drop_file("bob", "x", "heard again");
    bob.wait_for_message("heard again");
    assert_eq!(bob.heard_from("carol"), ["before", "heard again"], "what was dropped stays dropped");
    let shown = done(&bob, &["show", "carol"]);
    assert!(!shown.contains("gap"), "and is not missing, nor asked for: {shown}");
    assert!(entries(&bob.at("alerts")).is_empty() && entries(&carol.at("alerts")).is_empty());
}

#[test]
fn who_makes_a_stranger_of_somebody_is_told_that_they_can_still_write_where_they_take_part() {
    let world = World::new();
    let [bob, carol, alice] = world.friends(["bob", "carol", "alice"]);
    let told = |arguments: &[&str]| {
        let output = bob.cli(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    fs::copy(bob.at("contacts/alice.card"), bob.at("alice.card")).unwrap();
    assert_eq!(told(&["contact", "remove", "alice"]), "", "there is nothing yet that she could write to");
    fs::rename(bob.at("alice.card"), bob.at("contacts/alice.card")).unwrap();
    carol.drop_file("bob", "x", "one");
    carol.drop_file("bob,alice", "x", "two");
    bob.wait_for_message("one");
    bob.wait_for_message("two");
    fs::copy(bob.at("contacts/carol.card"), bob.at("carol.card")).unwrap();
    for makes in [&["contact", "remove", "carol"][..], &["contact", "unblock", "carol", "--remove"]] {
        let said = told(makes);
        assert!(said.contains("carol takes part in 2 conversations") && said.contains("contact block carol"), "{said}");
        fs::copy(bob.at("carol.card"), bob.at("contacts/carol.card")).unwrap();
        done(&bob, &["contact", "block", "carol"]);
    }
    fs::copy(bob.at("carol.card"), bob.at("contacts/carol.card")).unwrap();
    assert_eq!(told(&["contact", "remove", "carol"]), "", "she is blocked");
    carol.drop_file("bob", "x", "unseen");
    alice.drop_file("bob,carol", "x", "behind it");
    bob.wait_for_message("behind it");
    let heard: BTreeSet<String> = bob.heard_from("carol").into_iter().collect();
    assert_eq!(heard, BTreeSet::from(["one", "two"].map(str::to_owned)));
}

#[test]
fn a_conversation_that_somebody_opened_while_they_were_blocked_begins_where_they_are_heard() {
    let world = World::new();
    let [bob, carol, alice] = world.friends(["bob", "carol", "alice"]);
    done(&bob, &["contact", "block", "carol"]);
    // A look at the contacts is behind this.
    bob.drop_file("carol", "x", "refused");
    bob.wait_for_file("outbox/carol.error");
    support::remove_tree(bob.at("outbox/carol"));
    carol.drop_file("bob", "x", "unseen");
    wait_until_accepted(&carol, "unseen");
    alice.drop_file("bob", "x", "behind it");
    bob.wait_for_message("behind it");
    fs::rename(bob.at("blocked/carol.card"), bob.at("contacts/carol.card")).unwrap();
    carol.drop_file("bob", "x", "heard");
    bob.wait_for_message("heard");
    assert_eq!(bob.heard_from("carol"), ["heard"]);
    let shown = done(&bob, &["show", "carol"]);
    assert!(!shown.contains("gap"), "what was dropped is not missing: {shown}");
    assert!(entries(&bob.at("alerts")).is_empty() && entries(&bob.at("requests")).is_empty());
}

#[test]
fn in_a_conversation_of_several_the_others_are_heard_and_a_message_goes_to_all() {
    let world = World::new();
    let [bob, carol, alice] = world.friends(["bob", "carol", "alice"]);
    alice.drop_file("bob,carol", "x", "all three");
    bob.wait_for_message("all three");
    carol.wait_for_message("all three");
    // This directory is tied to the conversation from then on.
    bob.drop_file("alice,carol", "x", "by their names, before");
    carol.wait_for_message("by their names, before");
    fs::rename(bob.at("contacts/carol.card"), bob.at("blocked/carol.card")).unwrap();
    bob.drop_file("carol", "x", "refused");
    bob.wait_for_file("outbox/carol.error");
    carol.drop_file("alice,bob", "x", "carol speaks");
    wait_until_accepted(&carol, "carol speaks");
    alice.wait_for_message("carol speaks");
    alice.drop_file("bob,carol", "x", "alice speaks");
    bob.wait_for_message("alice speaks");
    let group = bob.directory("outbox", "-alice-bob-carol");
    fs::write(group.join("x"), "bob speaks").unwrap();
    alice.wait_for_message("bob speaks");
    carol.wait_for_message("bob speaks");
    assert!(bob.heard_from("carol").is_empty());
    assert_eq!(bob.heard_from("alice"), ["all three", "alice speaks"]);
    assert!(entries(&bob.at("alerts")).is_empty());
    // A list of names that holds theirs is refused, and a new conversation with them is not opened.
    bob.drop_file("alice,carol", "x", "by their names");
    let error = bob.wait_for_file("outbox/alice,carol.error");
    assert!(error.contains("carol is blocked"), "{error}");
    assert!(bob.cli(&["new", "alice", "carol", "-s", "new"]).status.code() == Some(67));
}

#[test]
fn blocked_wins_over_a_card_in_contacts_and_an_error_beside_it_says_so() {
    let world = World::new();
    let [bob, carol, alice] = world.friends(["bob", "carol", "alice"]);
    fs::copy(bob.at("contacts/carol.card"), bob.at("blocked/nuisance.card")).unwrap();
    let error = bob.wait_for_file("contacts/carol.card.error");
    assert!(error.contains("blocked/nuisance.card"), "{error}");
    carol.drop_file("bob", "x", "unseen");
    wait_until_accepted(&carol, "unseen");
    alice.drop_file("bob", "x", "behind it");
    bob.wait_for_message("behind it");
    assert!(bob.heard_from("carol").is_empty());
    bob.drop_file("carol", "x", "waits");
    assert!(bob.wait_for_file("outbox/carol.error").contains("carol is blocked"));
    let shown = bob.cli(&["contact", "show", "carol"]);
    assert_eq!(shown.status.code(), Some(67), "{shown:?}");
    fs::remove_file(bob.at("blocked/nuisance.card")).unwrap();
    bob.wait_until_gone("contacts/carol.card.error");
    carol.wait_for_message("waits");
    fs::write(bob.at("blocked/noise.card"), "no card").unwrap();
    assert!(bob.wait_for_file("blocked/noise.card.error").contains("not a good card"));
}
