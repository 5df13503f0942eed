//! Who somebody is and where they are, as that changes: through the real programs.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use chatterbox::wire::identity::Fingerprint;
use chatterbox::wire::profile::SignedProfile;
use support::{User, World, entries};

fn fingerprint(user: &User) -> Fingerprint {
    user.card().parse::<SignedProfile>().unwrap().identity().fingerprint()
}

/// Moves a stopped account to another server, and starts it there.
fn move_to(user: &mut User, address: &str) {
    let moved = user.cli(&["profile", "set", "--server", address]);
    assert!(moved.status.success(), "{moved:?}");
    assert_eq!(String::from_utf8(moved.stdout).unwrap(), user.card());
    user.start();
    let host = address.strip_prefix("chatterbox-server://").unwrap().split('/').next().unwrap();
    user.wait_for_status(&format!("connection: connected to {host}"));
}

/// What `contact show` says.
fn shown(user: &User, contact: &str) -> String {
    let shown = user.cli(&["contact", "show", contact]);
    assert!(shown.status.success(), "{shown:?}");
    String::from_utf8(shown.stdout).unwrap()
}

fn wait_for_alert(user: &User, says: &[&str]) -> String {
    user.wait_for(&format!("an alert that says {says:?}"), || {
        let texts = entries(&user.at("alerts")).into_iter().filter_map(|path| fs::read_to_string(path).ok());
        texts.into_iter().find(|text| says.iter().all(|words| text.contains(words)))
    })
}

#[test]
fn who_moves_to_another_server_is_answered_there_after_their_next_message() {
    let world = World::new();
    let other = world.another_server("other");
    let [mut alice, mut bob] = world.friends(["alice", "bob"]);
    bob.drop_file("alice", "x", "from the old server");
    alice.wait_for_message("from the old server");
    alice.drop_file("bob", "x", "to the old server");
    bob.wait_for_message("to the old server");
    let card = fs::read_to_string(alice.at("contacts/bob.card")).unwrap();
    bob.stop();
    move_to(&mut bob, &other.address);
    // She has not heard of it.
    alice.drop_file("bob", "x", "too early");
    let early = alice.wait_for_message("too early");
    alice.wait_until_accepted(&early);
    bob.drop_file("alice", "x", "I have moved");
    alice.wait_for_message("I have moved");
    alice.drop_file("bob", "x", "to the new server");
    bob.wait_for_message("to the new server");
    assert_eq!(bob.heard_from("alice"), ["to the old server", "to the new server"]);

    alice.wait_for("what is known of bob", || {
        let text = shown(&alice, "bob");
        (text.contains(&format!("server: {}\n", other.address)) && !text.contains("\nversion: 1\n")).then_some(())
    });
    assert_eq!(fs::read_to_string(alice.at("contacts/bob.card")).unwrap(), card, "the card is hers");
    assert!(shown(&alice, "bob").contains("version in the file: 1"));
    // She knows it after a restart as well, and opens new conversations there.
    alice.kill();
    alice.start();
    alice.drop_file("bob", "x", "again to the new server");
    bob.wait_for_message("again to the new server");
    for user in [&alice, &bob] {
        assert!(entries(&user.at("alerts")).is_empty(), "nothing to be told to {}", user.name);
        assert!(user.cli(&["doctor"]).status.success());
    }
    // What went to the old server is fetched by moving back.
    bob.stop();
    move_to(&mut bob, &world.server.address);
    bob.wait_for_message("too early");
    bob.drop_file("alice", "x", "I am back");
    alice.wait_for_message("I am back");
    drop(other);
    alice.drop_file("bob", "x", "as before");
    bob.wait_for_message("as before");
}

#[test]
fn a_member_who_moves_is_answered_by_those_who_hold_no_card_of_them() {
    let world = World::new();
    let other = world.another_server("other");
    let (mut alice, mut bob, mut carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    for member in [&bob, &carol] {
        alice.add(member);
    }
    bob.add(&alice);
    carol.add(&alice);
    [&mut alice, &mut bob, &mut carol].into_iter().for_each(User::start);
    alice.drop_file("bob,carol", "x", "hello both");
    bob.wait_for_message("hello both");
    carol.wait_for_message("hello both");
    bob.stop();
    move_to(&mut bob, &other.address);
    // His first message to them, with an introduction to a conversation that they know.
    let to_both = |user: &User| {
        let made = entries(&user.at("outbox")).into_iter().find(|path| path.join("metadata.toml").exists());
        made.unwrap().file_name().unwrap().to_str().unwrap().to_owned()
    };
    bob.drop_file(&to_both(&bob), "x", "bob from elsewhere");
    carol.wait_for_message("bob from elsewhere");
    carol.drop_file(&to_both(&carol), "x", "found you");
    bob.wait_for_message("found you");
    carol.kill();
    carol.start();
    carol.drop_file(&to_both(&carol), "x", "and again");
    bob.wait_for_message("and again");
}

#[test]
fn other_keys_under_a_contacts_name_raise_an_alert_also_after_a_restart() {
    let world = World::new();
    let mut alice = world.user("alice");
    let [bob, second, third, fourth] = ["bob", "second", "third", "fourth"].map(|name| world.user(name));
    alice.add(&bob);
    alice.start();
    alice.wait_for_status("daemon: running");
    let card = alice.at("contacts/bob.card");
    fs::write(&card, second.card()).unwrap();
    let both = [fingerprint(&bob).groups(), fingerprint(&second).groups()];
    let alert = wait_for_alert(&alice, &["The card of bob", &both[0], &both[1]]);
    assert!(alert.lines().nth(1).unwrap().contains("chatterbox verify bob"), "{alert}");
    alice.kill();
    fs::write(&card, third.card()).unwrap();
    alice.start();
    wait_for_alert(&alice, &["The card of bob", &both[1], &fingerprint(&third).groups()]);
    // Who removes a card first does not get around it.
    alice.stop();
    fs::remove_file(&card).unwrap();
    alice.start();
    alice.wait_for_status("daemon: running");
    fs::write(&card, fourth.card()).unwrap();
    wait_for_alert(&alice, &["The card of bob", &fingerprint(&third).groups(), &fingerprint(&fourth).groups()]);
    // The same keys under a new name, and the same card again, are nothing to be told.
    fs::rename(&card, alice.at("contacts/robert.card")).unwrap();
    alice.stop();
    alice.start();
    alice.wait_for_status("daemon: running");
    alice.stop();
    assert_eq!(entries(&alice.at("alerts")).len(), 3);
    let named = |path: &std::path::PathBuf| path.to_str().unwrap().contains("-identity-");
    assert!(entries(&alice.at("alerts")).iter().all(named));
}

#[test]
fn a_profile_set_anew_keeps_the_keys_and_raises_the_version() {
    let world = World::new();
    let mut alice = world.user("alice");
    let profile = || alice.card().parse::<SignedProfile>().unwrap();
    let before = profile();
    assert!(alice.cli(&["profile", "set"]).status.success());
    let after = profile();
    assert!(after.profile().version > before.profile().version + 1_000_000_000, "by the clock");
    assert_eq!(before.identity(), after.identity());
    assert_eq!(before.profile().server, after.profile().server);
    assert_eq!(alice.cli(&["profile", "set", "--server", "nonsense"]).status.code(), Some(65));
    assert_eq!(profile(), after);
    alice.start();
    alice.wait_for_status("daemon: running");
    let said = alice.cli(&["profile", "set"]);
    assert!(said.status.success() && String::from_utf8(said.stderr).unwrap().contains("restart chatterboxd"));
}
