//! When envelopes leave, through the real programs: spread by random delays where a message goes to several people.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::io::Write as _;

use support::{User, World};

/// Adds a line to somebody's settings, before their daemon starts.
fn set(user: &User, line: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(user.at("chatterbox.toml")).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// Accounts with these settings, all of whom hold each other's cards, whose daemons run.
fn friends<const N: usize>(world: &World, address: &str, names: [&str; N], settings: &[&str]) -> [User; N] {
    let mut users = names.map(|name| world.user_at(name, address));
    for one in 0..N {
        for other in (0..N).filter(|other| *other != one) {
            users[one].add(&users[other]);
        }
        settings.iter().for_each(|line| set(&users[one], line));
    }
    users.iter_mut().for_each(User::start);
    users
}

#[test]
fn messages_to_several_arrive_once_and_in_order_though_each_waits_for_its_own_delay() {
    let world = World::new();
    let [mut alice, bob, carol] =
        friends(&world, &world.server.address, ["alice", "bob", "carol"], &["fanout_delay = \"2s\""]);
    let texts: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    for (number, text) in texts.iter().enumerate() {
        alice.drop_file("bob,carol", text, text);
        if number == 6 {
            // What waits for its delay is on disk like all else.
            alice.wait_until_gone("outbox/bob,carol/6");
            alice.kill();
            alice.start();
        }
    }
    for user in [&bob, &carol] {
        user.wait_for("all of them", || (user.heard_from("alice").len() >= texts.len()).then_some(()));
        assert_eq!(user.heard_from("alice"), texts, "{}", user.name);
    }
    alice.wait_for_status("queue: 0");
}
