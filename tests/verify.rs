//! Comparing keys, and what is remembered of it, through the real program.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use chatterbox::disk::lock::RootLock;
use chatterbox::wire::identity::Fingerprint;
use chatterbox::wire::profile::SignedProfile;
use support::{User, World};

/// What a command printed that worked.
fn said(user: &User, arguments: &[&str]) -> String {
    let output = user.cli(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code of one that failed, and what it said.
fn refused(user: &User, arguments: &[&str]) -> (i32, String) {
    let output = user.cli(arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn line<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(": ")).unwrap()
}

fn json(user: &User, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&said(user, arguments)).unwrap()
}

fn fingerprint(user: &User) -> Fingerprint {
    user.card().parse::<SignedProfile>().unwrap().identity().fingerprint()
}

#[test]
fn both_sides_see_both_fingerprints_and_the_same_safety_number() {
    let world = World::new();
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    alice.add(&bob);
    alice.add(&carol);
    bob.add(&alice);
    let (hers, his) = (said(&alice, &["verify", "bob"]), said(&bob, &["verify", "alice"]));
    for text in [&hers, &his] {
        assert!(text.contains(&fingerprint(&alice).groups()) && text.contains(&fingerprint(&bob).groups()), "{text}");
    }
    assert_eq!(line(&hers, "alice (you)"), line(&his, "alice"));
    let number = line(&hers, "safety number");
    assert_eq!(number, line(&his, "safety number"));
    let groups: Vec<&str> = number.split(' ').collect();
    assert_eq!(groups.len(), 12);
    assert!(groups.iter().all(|group| group.len() == 5 && group.bytes().all(|digit| digit.is_ascii_digit())));
    assert_ne!(number, line(&said(&alice, &["verify", "carol"]), "safety number"));
}

#[test]
fn who_was_compared_is_marked_everywhere_until_that_is_taken_back() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.add(&bob);
    let marks = alice.at("ui_info/chatterbox/verified");
    assert_eq!(line(&said(&alice, &["verify", "bob"]), "verified"), "no");
    assert!(!marks.exists(), "looking writes nothing");
    let is_marked = || {
        let listed = json(&alice, &["contact", "list", "--json"])["contacts"][0]["verified"].as_bool().unwrap();
        assert_eq!(said(&alice, &["contact", "list"]).contains("yes"), listed);
        let shown = said(&alice, &["contact", "show", "bob"]);
        assert_eq!(line(&shown, "verified"), if listed { "yes" } else { "no" });
        assert_eq!(line(&said(&alice, &["verify", "bob"]), "verified"), line(&shown, "verified"));
        listed
    };
    assert!(!is_marked());
    for _ in 0..2 {
        assert_eq!(line(&said(&alice, &["verify", "bob", "--confirm"]), "verified"), "yes");
    }
    assert!(is_marked());
    assert_eq!(fs::read_to_string(&marks).unwrap(), format!("{}\n", fingerprint(&bob)));
    assert_eq!(fs::metadata(&marks).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(line(&said(&alice, &["verify", "bob", "--revoke"]), "verified"), "no");
    assert!(!is_marked());
    assert_eq!(refused(&alice, &["verify", "bob", "--confirm", "--revoke"]).0, 64);
}

#[test]
fn another_identity_under_the_same_name_is_not_verified() {
    let world = World::new();
    let (alice, bob, other) = (world.user("alice"), world.user("bob"), world.user("other"));
    alice.add(&bob);
    said(&alice, &["verify", "bob", "--confirm"]);
    fs::write(alice.at("contacts/bob.card"), other.card()).unwrap();
    assert_eq!(line(&said(&alice, &["verify", "bob"]), "verified"), "no");
    // The mark stays with the keys, whatever they are called here.
    fs::write(alice.at("contacts/robert.card"), bob.card()).unwrap();
    assert_eq!(line(&said(&alice, &["verify", "robert"]), "verified"), "yes");
}

#[test]
fn verified_members_are_marked_in_conversations() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    bob.drop_file("alice", "x", "hello");
    alice.wait_for_message("hello");
    let participants = || {
        let listed = json(&alice, &["list", "--json"])["conversations"][0]["participants"].clone();
        let of = |name: &str| {
            let one = listed.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
            one["verified"].as_bool().unwrap()
        };
        (of("alice"), of("bob"))
    };
    assert_eq!(participants(), (false, false));
    assert!(!said(&alice, &["list"]).contains("bob (verified)"));
    said(&alice, &["verify", "bob", "--confirm"]);
    assert_eq!(participants(), (false, true));
    assert!(said(&alice, &["list"]).contains("bob (verified)"));
    assert!(said(&alice, &["show", "bob"]).contains("  bob (verified)  "));
}

#[test]
fn the_sender_of_a_request_is_verified_by_its_name() {
    let world = World::new();
    let (alice, mut bob, mut carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    carol.add(&bob);
    bob.start();
    carol.start();
    carol.drop_file("bob", "x", "we have not met");
    let name = format!("carol~{}", fingerprint(&carol).short(8));
    bob.wait_for_file(format!("requests/{name}/card"));
    // Who knows only what they call themselves is shown the way.
    for part in ["carol", &name[..8]] {
        let (code, text) = refused(&bob, &["verify", part]);
        assert!(code == 67 && text.contains("request waits") && text.contains(&format!("verify {name}`")), "{text}");
        assert!(text.contains("chatterbox request list"), "{text}");
    }
    for other in ["car", "", "bob"] {
        let (code, text) = refused(&bob, &["verify", other]);
        assert!(code == 67 && !text.contains("request"), "{text}");
    }
    assert!(said(&bob, &["verify", &name]).contains(&fingerprint(&carol).groups()));
    said(&bob, &["verify", &name, "--confirm"]);
    bob.add(&carol);
    assert_eq!(line(&said(&bob, &["verify", "carol"]), "verified"), "yes");
    for nobody in ["eve", "../contacts", "."] {
        let (code, text) = refused(&alice, &["verify", nobody]);
        assert!(code == 67 && text.contains("no contact called"), "{code} {text}");
    }
    assert_eq!(refused(&alice, &["verify", "alice"]).0, 67);
}

#[test]
fn marks_that_cannot_be_read_or_are_being_changed_are_not_lost() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.add(&bob);
    said(&alice, &["verify", "bob", "--confirm"]);
    let lock = RootLock::acquire(&alice.at("ui_info/chatterbox/lock")).unwrap();
    assert_eq!(refused(&alice, &["verify", "bob", "--revoke"]).0, 75);
    drop(lock);
    assert_eq!(line(&said(&alice, &["verify", "bob"]), "verified"), "yes");
    let marks = alice.at("ui_info/chatterbox/verified");
    fs::remove_file(&marks).unwrap();
    fs::create_dir(&marks).unwrap();
    assert_eq!(refused(&alice, &["verify", "bob", "--confirm"]).0, 65);
    assert!(said(&alice, &["contact", "list"]).contains("bob"), "a list is shown all the same");
    assert!(marks.is_dir());
}
