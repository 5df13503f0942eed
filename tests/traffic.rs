//! When envelopes leave, through the real programs: spread by random delays where a message goes to several people, or in
//! the slots of a schedule, which look alike whether they carry something or not.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod lying_server;
mod support;

use std::collections::HashSet;

use chatterbox::wire::profile::SignedProfile;
use lying_server::LyingServer;
use lying_server::wire::{FRAME, HANDSHAKE};
use support::{User, World, wait_for};

/// As fast as a schedule may be.
const SCHEDULE: [&str; 2] = ["schedule = \"poisson\"", "schedule_mean = \"1s\""];

/// Visits to look at: many more than what there is to send.
const VISITS: usize = 24;

/// Accounts with these settings, all of whom hold each other's cards, whose daemons run.
fn friends<const N: usize>(world: &World, address: &str, names: [&str; N], settings: &[&str]) -> [User; N] {
    let mut users = names.map(|name| world.user_at(name, address));
    for one in 0..N {
        for other in (0..N).filter(|other| *other != one) {
            users[one].add(&users[other]);
        }
        settings.iter().for_each(|line| users[one].set(line));
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

#[test]
fn by_a_schedule_messages_arrive_once_and_in_order_across_restarts_too() {
    let mut world = World::new();
    let [mut alice, mut bob] = friends(&world, &world.server.address, ["alice", "bob"], &SCHEDULE);
    let texts: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    for text in &texts[..4] {
        alice.drop_file("bob", text, text);
    }
    bob.wait_for_message("1");
    alice.kill();
    bob.kill();
    world.server.kill();
    world.server.start();
    alice.start();
    bob.start();
    for text in &texts[4..] {
        alice.drop_file("bob", text, text);
    }
    bob.drop_file("alice", "x", "and back");
    alice.wait_for_message("and back");
    bob.wait_for("all of them", || (bob.heard_from("alice").len() >= texts.len()).then_some(()));
    assert_eq!(bob.heard_from("alice"), texts);
    alice.wait_for_status("queue: 0");
    alice.wait_for_status("schedule: poisson, one envelope each 1s on average; 0 wait");
}

/// What each connection to a server carried, once it is nothing but so many home connections, which say more than one thing
/// from their beginning on, and visits that are over.
fn carried(world: &World, server: &LyingServer, homes: usize) -> Vec<[Vec<u8>; 2]> {
    wait_for(world.scratch.path(), "visits", || {
        let carried = server.carried();
        let visit = HANDSHAKE + FRAME;
        let is_visit = |connection: &&[Vec<u8>; 2]| connection.iter().all(|bytes| bytes.len() == visit);
        let is_home = |connection: &&[Vec<u8>; 2]| {
            connection.iter().all(|bytes| bytes.len() > visit && (bytes.len() - HANDSHAKE).is_multiple_of(FRAME))
        };
        let visits = carried.iter().filter(is_visit).count();
        let others = carried.iter().filter(is_home).count();
        (others == homes && others + visits == carried.len() && visits >= VISITS).then_some(carried)
    })
}

#[test]
fn on_the_wire_who_writes_by_a_schedule_looks_like_who_does_not() {
    let world = World::new();
    let (busy, idle) = (LyingServer::start(), LyingServer::start());
    let [alice, bob] = friends(&world, &busy.address, ["alice", "bob"], &SCHEDULE);
    let [_carol, _dave] = friends(&world, &idle.address, ["carol", "dave"], &SCHEDULE);
    let texts: Vec<String> = (0..5).map(|number| number.to_string()).collect();
    for text in &texts {
        alice.drop_file("bob", text, text);
    }
    bob.wait_for("all of them", || (bob.heard_from("alice").len() >= texts.len()).then_some(()));
    assert_eq!(bob.heard_from("alice"), texts);
    let to_bob = bob.card().parse::<SignedProfile>().unwrap().profile().account;
    let left = busy.lie(|lies| lies.seen.iter().filter(|(to, _)| *to == to_bob).count());
    assert_eq!(left, texts.len(), "each left once, with acknowledgements the other way");
    assert!(idle.lie(|lies| lies.seen.is_empty()));

    let mut ephemerals = HashSet::new();
    for server in [&busy, &idle] {
        // Every connection but those to home is a handshake, one frame, and one frame back.
        for [up, down] in carried(&world, server, 2) {
            for bytes in [up, down] {
                assert!(ephemerals.insert(bytes[..32].to_vec()), "a fresh key each time");
            }
        }
    }
}
