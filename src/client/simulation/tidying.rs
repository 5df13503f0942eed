//! Messages that come of age, erased under crashes.

use std::time::Duration;

use super::world::Act::{Checkpoint, Run, Start};
use super::world::{Act, World, drop_by};
use super::{crash_everywhere_then, standing};
use crate::client::delivery;

const DAY_S: u64 = 86_400;

/// Both start again and go on; then Bob has what is young, and nothing is known of the rest.
fn finish(mut world: World, told: &str) {
    world.machines.iter_mut().for_each(|machine| machine.running = None);
    [Start(0), Start(1), Run, drop_by(0, "z", "the last of alice"), Run].into_iter().for_each(|act| world.act(act));
    // What a crash has hidden from the first look, the next one finds.
    world.run_rounds(30);
    [Checkpoint(0), Checkpoint(1)].into_iter().for_each(|act| world.act(act));
    let [alice, bob] = &world.machines;
    assert_eq!(bob.messages(), ["new", "notes of bob's own", "the last of alice"], "{told}");
    assert_eq!(alice.messages(), ["hello", "hello to you", "new", "the last of alice"], "{told}");
    assert_eq!(bob.deliveries().matches("id: ").count(), 2, "{told}:\n{}", bob.deliveries());
    for empty in ["outbox/alice", "journal/spool", "tmp"] {
        assert_eq!(bob.files(empty), [], "{told}: {empty}");
    }
}

#[test]
fn a_crash_while_messages_are_erased_brings_none_back_and_takes_no_other() {
    let mut base = standing();
    let bob = &mut base.machines[1];
    let (message, _) = bob.files("conversations").into_iter().find(|(_, content)| content == "hello").unwrap();
    let directory = bob.path(message.rsplit_once('/').unwrap().0);
    bob.disk.write_file(&directory.join("notes.txt"), b"notes of bob's own", true);
    bob.expire = Some(Duration::from_secs(DAY_S));
    // Older chains than of a week are over, and whoever is down has no prekeys for another session.
    base.pass(6 * DAY_S);
    let acts: &[Act] = &[Start(0), Start(1), Run, Checkpoint(1), drop_by(0, "1", "new"), Run];
    crash_everywhere_then("messages come of age", &base, 1, acts, finish);
}

#[test]
fn what_cannot_be_listed_is_not_taken_for_deleted() {
    let mut world = standing();
    let bob = &world.machines[1];
    let (message, _) = bob.files("conversations").into_iter().find(|(_, content)| content == "hello").unwrap();
    let directory = bob.path(message.rsplit_once('/').unwrap().0);
    let told = bob.deliveries();
    assert_eq!(told.matches("id: ").count(), 2);
    for hidden in [directory.clone(), directory.join(delivery::DIRECTORY)] {
        let bob = &mut world.machines[1];
        bob.running = None;
        bob.disk.refuse_listing(Some(&hidden));
        world.act(Start(1));
        world.run_rounds(30);
        world.machines[1].disk.refuse_listing(None);
        assert_eq!(world.machines[1].deliveries(), told, "{}", hidden.display());
    }
}

#[test]
fn a_clock_that_jumps_ahead_erases_nothing_at_once() {
    let mut world = standing();
    world.machines[1].running = None;
    world.machines[1].expire = Some(Duration::from_secs(DAY_S));
    world.act(Start(1));
    world.run_rounds(30);
    world.pass(31 * DAY_S);
    world.run_rounds(30);
    let bob = &world.machines[1];
    assert!(["hello", "hello to you"].iter().all(|there| bob.messages().iter().any(|message| message == there)));
    let alerts = bob.files("alerts");
    assert_eq!(alerts.iter().filter(|(path, _)| path.ends_with("-clock")).count(), 1, "{alerts:?}");
}
