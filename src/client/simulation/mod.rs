//! Two clients and their server on simulated disks: stopped before every operation in turn, with every kind of loss, and
//! an oracle that compares both ends.
//!
//! Everything below the daemon's threads is the real thing: engine, journal, ratchet, envelopes. The server is a few maps
//! that keep what they took, as the real one does (which has crash tests of its own); no reply of it is lost that a
//! restart does not lose.
//!
//! `CHATTERBOX_SIMULATED_CRASHES` says how many points of each scenario are tried, evenly spread: a number, or `all`
//! (`scripts/crash-matrix`).

#![allow(clippy::unwrap_used, reason = "a test, as a whole")]

mod fleet;
mod giving_up;
mod large;
mod letting_go;
mod machine;
mod recovery;
mod schedules;
mod tidying;
mod world;

use std::io::Write as _;

use self::world::Act::{Checkpoint, Drop, Kill, Run, Start, Stop};
use self::world::{Act, World, drop_by};
use crate::disk::simulated::{Fault, Loss};
use crate::limits::SEAL_BATCH_MAX;

/// Points of each scenario if nothing else is asked for.
const POINTS: usize = 8;

/// How the power fails in the short form, for the `number`th point.
fn losses(number: u64, all: bool) -> Vec<Loss> {
    let mut losses = vec![Loss::Process, Loss::Everything, Loss::Nothing, Loss::Content, Loss::Names];
    losses.extend((0..if all { 8 } else { 2 }).map(|more| Loss::Some(number * 64 + more)));
    losses
}

/// How many points each scenario tries.
fn wanted(available: u64) -> (u64, bool) {
    match std::env::var("CHATTERBOX_SIMULATED_CRASHES") {
        Ok(text) if text == "all" => (available, true),
        Ok(text) => (text.parse::<u64>().unwrap().min(available), true),
        Err(_) => (available.min(POINTS as u64), false),
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Stops `victim` before each of its operations in `acts`, in turn, and lets the power fail in every way; then lets
/// `again` happen to what is left, a second crash in which is tried likewise if it is asked for.
fn crash_everywhere(name: &str, base: &World, victim: usize, acts: &[Act]) {
    crash_everywhere_then(name, base, victim, acts, World::finish);
}

/// The same, with an end and an oracle of its own.
fn crash_everywhere_then(name: &str, base: &World, victim: usize, acts: &[Act], finish: impl Fn(World, &str)) {
    let mut world = base.copy();
    world.machines[victim].disk.expect(None);
    acts.iter().for_each(|act| world.act(*act));
    let (operations, _) = world.machines[victim].disk.counts();
    finish(world, &format!("{name}: nothing crashes"));

    let (tries, all) = wanted(operations);
    let mut covered = 0;
    for number in 0..tries {
        let point = 1 + (2 * number + 1) * operations / (2 * tries);
        let mut world = base.copy();
        world.machines[victim].disk.expect(Some(Fault::Crash(point)));
        acts.iter().for_each(|act| world.act(*act));
        if !world.machines[victim].disk.has_crashed() {
            // Random names and numbers decide about an operation or two.
            continue;
        }
        for loss in losses(number, all) {
            let after = world.copy();
            after.machines[victim].disk.restart(loss);
            finish(after, &format!("{name}, {}: {point} of {operations}, {loss:?}", ["alice", "bob"][victim]));
            covered += 1;
        }
    }
    assert!(covered > 0);
    say(&format!(
        "simulated crashes covered: {covered} at {tries} of {operations} points ({name}, {})",
        ["alice", "bob"][victim]
    ));
}

/// Crashes in the replay of what a crash left, at each of a few points of the first.
fn crash_in_replay(base: &World, victim: usize, acts: &[Act]) {
    let mut world = base.copy();
    world.machines[victim].disk.expect(None);
    acts.iter().for_each(|act| world.act(*act));
    let (operations, _) = world.machines[victim].disk.counts();
    let (firsts, all) = wanted(operations);
    let (mut covered, mut points) = (0, 0);
    for first in 0..firsts {
        let mut world = base.copy();
        world.machines[victim].disk.expect(Some(Fault::Crash(1 + (2 * first + 1) * operations / (2 * firsts))));
        acts.iter().for_each(|act| world.act(*act));
        for (turn, loss) in losses(first, false).into_iter().enumerate() {
            let left = world.copy();
            left.machines[victim].disk.restart(loss);
            let mut trial = left.copy();
            trial.machines[victim].disk.expect(None);
            trial.act(Start(victim));
            let (replay, _) = trial.machines[victim].disk.counts();
            let tries = if all { replay.min(8) } else { 1 };
            points += replay;
            for second in 0..tries {
                let turn = turn as u64;
                let point = 1 + (first * 7 + turn * 3 + second * replay / tries) % replay;
                let mut again = left.copy();
                again.machines[victim].disk.expect(Some(Fault::Crash(point)));
                again.act(Start(victim));
                for loss in [loss, Loss::Some(first * 64 + turn * 8 + second)] {
                    let after = again.copy();
                    after.machines[victim].disk.restart(loss);
                    after.finish(&format!("replay: {first} of {firsts}, then {point} of {replay}, {loss:?}"));
                    covered += 1;
                }
            }
        }
    }
    say(&format!("simulated crashes covered: {covered} at {points} points (replay, {})", ["alice", "bob"][victim]));
}

/// Every sync of the victim fails in turn, once, and the next succeeds without having written anything; later the power
/// fails as well.
fn fail_every_sync(name: &str, base: &World, victim: usize, acts: &[Act]) {
    let mut world = base.copy();
    world.machines[victim].disk.expect(None);
    acts.iter().for_each(|act| world.act(*act));
    let (_, syncs) = world.machines[victim].disk.counts();
    let mut covered = 0;
    for number in 1..=syncs {
        let mut world = base.copy();
        world.machines[victim].disk.expect(Some(Fault::FailedSync(number)));
        acts.iter().for_each(|act| world.act(*act));
        for loss in [Loss::Process, Loss::Everything, Loss::Nothing, Loss::Some(number)] {
            let after = world.copy();
            after.machines[victim].disk.restart(loss);
            after.finish(&format!("{name}: sync {number} of {syncs} fails, then {loss:?}"));
            covered += 1;
        }
    }
    say(&format!("failed syncs covered: {covered} at {syncs} syncs ({name}, {})", ["alice", "bob"][victim]));
}

/// Two who have uploaded their prekeys.
fn met() -> World {
    meet(World::new())
}

fn meet(world: World) -> World {
    world.rest(&[Start(0), Start(1), Run])
}

/// Two who have written to each other.
fn standing() -> World {
    write(met())
}

fn write(world: World) -> World {
    world.rest(&[Start(0), Start(1), drop_by(0, "a", "hello"), Run, drop_by(1, "b", "hello to you"), Run])
}

const UPLOAD: &[Act] = &[Start(0), Start(1), Run];
const FIRST: &[Act] = &[Start(0), Start(1), drop_by(0, "1", "the first"), Run, drop_by(1, "1", "an answer"), Run];
const STANDING: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "1", "one"),
    drop_by(0, "2.txt", "two"),
    drop_by(1, "1", "uno"),
    Run,
    Drop { from: 0, name: "3", content: "three, which nobody synced", synced: false },
    Drop { from: 1, name: "3", content: "tre, which nobody synced", synced: false },
    Run,
];
const CHECKPOINTS: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "1", "one"),
    Run,
    Checkpoint(0),
    Checkpoint(1),
    drop_by(0, "2", "two"),
    drop_by(1, "2", "dos"),
    Run,
    Checkpoint(1),
    Checkpoint(0),
    drop_by(0, "3", "three"),
    Run,
];
const STOPS: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "1", "one"),
    drop_by(1, "1", "uno"),
    Run,
    Stop(0),
    Stop(1),
    drop_by(0, "2", "two"),
    Start(1),
    Start(0),
    Stop(0),
    Start(0),
    Run,
];
const RESTARTS: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "1", "one"),
    drop_by(1, "1", "uno"),
    Run,
    Kill(0),
    Kill(1),
    drop_by(0, "2", "two"),
    Start(1),
    Start(0),
    Run,
];

#[test]
fn a_crash_in_the_upload_of_prekeys_loses_and_doubles_nothing() {
    crash_everywhere("prekey upload", &World::new(), 0, UPLOAD);
}

#[test]
fn a_crash_in_the_first_exchange_loses_and_doubles_nothing() {
    let base = met();
    crash_everywhere("first message", &base, 0, FIRST);
    crash_everywhere("first message", &base, 1, FIRST);
}

#[test]
fn a_crash_in_a_standing_session_loses_and_doubles_nothing() {
    let base = standing();
    crash_everywhere("standing session", &base, 0, STANDING);
    crash_everywhere("standing session", &base, 1, STANDING);
}

#[test]
fn a_crash_around_a_checkpoint_loses_and_doubles_nothing() {
    let base = standing();
    crash_everywhere("checkpoint", &base, 0, CHECKPOINTS);
    crash_everywhere("checkpoint", &base, 1, CHECKPOINTS);
}

#[test]
fn a_crash_in_a_stop_or_behind_it_loses_and_doubles_nothing() {
    let base = standing();
    crash_everywhere("stop", &base, 0, STOPS);
    crash_everywhere("stop", &base, 1, STOPS);
}

#[test]
fn a_crash_after_a_kill_loses_and_doubles_nothing() {
    let base = standing();
    crash_everywhere("restart", &base, 0, RESTARTS);
    crash_everywhere("restart", &base, 1, RESTARTS);
}

#[test]
fn a_crash_in_the_replay_of_a_crash_loses_and_doubles_nothing() {
    let base = standing();
    crash_in_replay(&base, 0, STANDING);
    crash_in_replay(&base, 1, STANDING);
}

#[test]
fn a_sync_that_fails_and_then_seems_to_succeed_loses_and_doubles_nothing() {
    let base = standing();
    fail_every_sync("standing session", &base, 0, STANDING);
    fail_every_sync("checkpoint", &base, 1, CHECKPOINTS);
}

#[test]
fn a_stop_between_two_batches_of_a_backlog_strands_nobody() {
    let mut world = met();
    world.act(Start(0));
    world.act(Start(1));
    for number in 0..SEAL_BATCH_MAX * 3 {
        let content: &'static str = Box::leak(format!("number {number}").into_boxed_str());
        world.act(Drop { from: 0, name: content, content, synced: true });
    }
    world.stop_between_batches(0);
    world.finish("a stop between two batches");
}
