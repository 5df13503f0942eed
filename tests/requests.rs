//! What strangers write, and what a person decides about it, by the command line and by `mv` and `rm` alone.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use support::{Signal, User, World, entries};

/// Bob, and Carol who holds his card and of whom he has none.
fn strangers(world: &World) -> [User; 2] {
    let [mut bob, mut carol] = ["bob", "carol"].map(|name| world.user(name));
    carol.add(&bob);
    bob.start();
    carol.start();
    [bob, carol]
}

/// The only request, once it holds this many messages.
fn wait_for_request(bob: &User, messages: usize) -> PathBuf {
    bob.wait_for("a request", || {
        let found = entries(&bob.at("requests"));
        let request = found.first()?.clone();
        // What tells of a message comes before it.
        let there = entries(&request).iter().filter(|path| path.to_string_lossy().contains("Z-")).count();
        (there == messages && request.join("card").exists()).then_some(request)
    })
}

fn name_of(request: &std::path::Path) -> String {
    request.file_name().unwrap().to_str().unwrap().to_owned()
}

fn done(user: &User, arguments: &[&str]) -> String {
    let output = user.cli(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until all that anybody has sent to Bob so far has been taken from his mailbox: it comes in order.
fn settle(bob: &User, alice: &User, content: &str) {
    alice.drop_file("bob", "x", content);
    bob.wait_for_message(content);
}

#[test]
fn a_request_is_listed_shown_and_accepted_with_all_its_conversations_under_the_name_a_person_chooses() {
    let world = World::new();
    let [bob, carol] = strangers(&world);
    carol.drop_file("bob", "x", "just us");
    assert!(carol.cli_with_input(&["send", "bob", "-s", "plans"], b"with a subject").status.success());
    let request = wait_for_request(&bob, 2);
    let name = name_of(&request);
    let listed = done(&bob, &["request", "list"]);
    assert!(listed.contains(&name) && listed.contains("FINGERPRINT"), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&done(&bob, &["request", "list", "--json"])).unwrap();
    assert_eq!(
        (json["requests"][0]["account_name"].as_str(), json["requests"][0]["messages"].as_u64()),
        (Some("carol"), Some(2))
    );
    let shown = done(&bob, &["request", "show", "carol"]);
    assert!(shown.contains("they call themself: carol") && shown.contains("just us"), "{shown}");
    assert_eq!(bob.cli(&["request", "accept", "nobody"]).status.code(), Some(66));
    assert_eq!(bob.cli(&["request", "accept", "carol", "--as", "a/b"]).status.code(), Some(64));
    assert_eq!(bob.cli(&["request", "accept", "carol", "--as", "bob"]).status.code(), Some(67));
    let accepted = done(&bob, &["request", "accept", "carol", "--as", "Carol from work"]);
    assert!(accepted.contains("accepted carol~") && accepted.contains("fingerprint: "), "{accepted}");
    bob.wait_for_message("just us");
    bob.wait_for_message("with a subject");
    bob.wait_until_gone(&request);
    assert_eq!(bob.heard_from("Carol from work").len(), 2);
    bob.drop_file("Carol from work", "x", "welcome");
    carol.wait_for_message("welcome");
}

#[test]
fn a_name_that_another_contact_has_is_not_taken_for_a_stranger() {
    let world = World::new();
    let [bob, carol] = strangers(&world);
    let other = world.user("other");
    fs::write(bob.at("contacts/carol.card"), other.card()).unwrap();
    carol.drop_file("bob", "x", "it is me");
    let request = wait_for_request(&bob, 1);
    let refused = bob.cli(&["request", "accept", &name_of(&request)]);
    assert_eq!(refused.status.code(), Some(73), "{refused:?}");
    assert_eq!(fs::read_to_string(bob.at("contacts/carol.card")).unwrap(), other.card());
    assert!(request.join("card").exists());
}

#[test]
fn who_was_rejected_may_write_again_and_it_is_a_new_request() {
    let world = World::new();
    let [mut bob, carol] = strangers(&world);
    carol.drop_file("bob", "x", "first");
    let request = wait_for_request(&bob, 1);
    done(&bob, &["request", "reject", &name_of(&request)]);
    assert!(!request.exists());
    carol.drop_file("bob", "x", "second");
    assert_eq!(wait_for_request(&bob, 1), request);
    // By rm, and over a restart.
    support::remove_tree(&request);
    bob.stop();
    bob.start();
    carol.drop_file("bob", "x", "third");
    assert_eq!(wait_for_request(&bob, 1), request);
    let shown = done(&bob, &["request", "show", "carol"]);
    assert!(shown.contains("third") && !shown.contains("first") && !shown.contains("second"), "{shown}");
    assert!(entries(&bob.at("alerts")).is_empty());
}

#[test]
fn a_blocked_stranger_leaves_no_request_no_message_and_no_alert_and_hears_nothing() {
    let world = World::new();
    let [mut bob, carol] = strangers(&world);
    let mut alice = world.user("alice");
    alice.add(&bob);
    bob.add(&alice);
    alice.start();
    for by_hand in [false, true] {
        carol.drop_file("bob", "x", "hello");
        let request = wait_for_request(&bob, 1);
        if by_hand {
            fs::rename(request.join("card"), bob.at("blocked/whoever.card")).unwrap();
        } else {
            done(&bob, &["request", "block", "carol"]);
        }
        bob.wait_until_gone(&request);
        carol.drop_file("bob", "x", "do you hear me?");
        carol.drop_file("bob", "y", "and another way");
        settle(&bob, &alice, &format!("in front of this, {by_hand}"));
        carol.wait_for("all accepted", || {
            let sent = entries(&carol.directory("conversations", "-bob").join(".delivery"));
            let states = sent.iter().map(|path| fs::read_to_string(path).unwrap_or_default());
            states.into_iter().all(|text| text.contains(" accepted ")).then_some(())
        });
        settle(&bob, &alice, &format!("behind it, {by_hand}"));
        assert!(entries(&bob.at("requests")).is_empty());
        assert!(entries(&bob.at("alerts")).is_empty());
        assert!(entries(&bob.at("journal/unopened")).is_empty());
        assert!(carol.heard_from("bob").is_empty());
        let listed = done(&bob, &["contact", "list"]);
        assert!(listed.contains("BLOCKED"), "{listed}");
        // A restart blocks nobody less.
        bob.stop();
        bob.start();
        carol.drop_file("bob", "x", "after a restart");
        settle(&bob, &alice, &format!("in front, {by_hand}"));
        settle(&bob, &alice, &format!("behind, {by_hand}"));
        assert!(entries(&bob.at("requests")).is_empty());
        for card in entries(&bob.at("blocked")) {
            fs::remove_file(card).unwrap();
        }
    }
    carol.drop_file("bob", "x", "forgiven");
    let request = wait_for_request(&bob, 1);
    let shown = done(&bob, &["request", "show", &name_of(&request)]);
    assert!(shown.contains("forgiven") && !shown.contains("do you hear me?"), "{shown}");
}

#[test]
fn what_a_person_has_linked_or_put_into_a_request_is_not_overwritten_with_it() {
    let world = World::new();
    let [bob, carol] = strangers(&world);
    for verb in ["reject", "block"] {
        for content in ["keep this", "erase this"] {
            carol.drop_file("bob", content, format!("{content}, {verb}"));
        }
        let request = wait_for_request(&bob, 2);
        let of = |content: &str| {
            let is_it = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.starts_with(content));
            entries(&request).into_iter().find(is_it).unwrap()
        };
        let (linked, watched) = (bob.at(format!("linked-{verb}")), fs::File::open(of("erase this")).unwrap());
        fs::hard_link(of("keep this"), &linked).unwrap();
        for own in ["notes.txt", ".delivery/notes.txt"] {
            fs::write(request.join(own), "mine").unwrap();
        }
        let refused = bob.cli(&["request", verb, &name_of(&request)]);
        assert_eq!(refused.status.code(), Some(75), "{refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("does not get empty") && said.contains("what is not the daemon's stays"), "{said}");
        assert_eq!(fs::read_to_string(&linked).unwrap(), format!("keep this, {verb}"));
        // Of somebody who is blocked, the daemon may have been faster.
        bob.wait_for("it to be overwritten", || {
            let mut start = [1; 16];
            let read = watched.read_at(&mut start, 0).unwrap();
            start[..read].iter().all(|byte| *byte == 0).then_some(())
        });
        assert!(entries(&request).iter().all(|path| !path.to_string_lossy().contains("Z-")));
        assert_eq!(request.join("card").exists(), verb == "reject");
        for own in ["notes.txt", ".delivery/notes.txt"] {
            assert_eq!(fs::read_to_string(request.join(own)).unwrap(), "mine");
            fs::remove_file(request.join(own)).unwrap();
        }
        match verb {
            "reject" => drop(done(&bob, &["request", verb, &name_of(&request)])),
            _ => support::remove_tree(&request),
        }
        assert!(!request.exists());
    }
}

#[test]
fn a_request_that_was_decided_about_does_not_come_back_with_a_crash() {
    let world = World::new();
    let [mut bob, carol] = strangers(&world);
    let mut crash = |after: &str, decide: &dyn Fn(&User, &PathBuf)| {
        carol.drop_file("bob", "x", after);
        let request = wait_for_request(&bob, 1);
        decide(&bob, &request);
        // Before the log is emptied, which it is when nothing else has happened for a while.
        bob.kill();
        fs::remove_file(bob.at("status")).unwrap();
        bob.start();
        bob.wait_for_status("connection: connected");
        assert!(entries(&bob.at("requests")).is_empty(), "{after}: {}", support::tree(&bob.root));
    };
    crash("rejected", &|bob, request| {
        // What it has not emptied by now it cannot empty meanwhile.
        bob.daemon.as_ref().unwrap().signal(Signal::STOP);
        done(bob, &["request", "reject", &name_of(request)]);
    });
    crash("removed", &|bob, request| {
        bob.daemon.as_ref().unwrap().signal(Signal::STOP);
        fs::remove_dir_all(request).unwrap();
    });
    crash("accepted", &|bob, request| {
        fs::rename(request.join("card"), bob.at("contacts/carol.card")).unwrap();
        bob.wait_until_gone(request);
    });
    bob.wait_for_message("accepted");
    assert_eq!(bob.heard_from("carol"), ["accepted"]);
}
