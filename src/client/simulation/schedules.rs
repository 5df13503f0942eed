//! Random schedules of the whole client, two and three of them, on simulated disks: people write, processes are killed, the
//! power fails, backups come back, `keys/` goes, and the server withholds, reorders and repeats. What was recorded arrives
//! exactly once and is acknowledged, or, where state was lost, is asked for again and arrives once; and who lost state is told so, and their
//! peers are (design, sections 1, 5 and 9). The sessions alone are tried in the same way, by the thousand, in
//! `client::schedules`.
//!
//! A failure is shrunk, and printed as acts: pasted into [`holds`], they are a test. `CHATTERBOX_SCHEDULES` says how many
//! schedules each test tries (`scripts/schedules`).

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use self::Act::{
    Backup, Checkpoint, Kill, LoseKeys, PowerFails, Repeat, Restart, Restore, Reverse, Rounds, Stop, Swallow, Withhold,
    Write,
};
use super::fleet::Fleet;
use crate::disk::simulated::Loss;

/// Schedules of each test if nothing else is asked for.
const SCHEDULES: u32 = 12;

/// Acts of one.
const ACTS_MAX: usize = 40;

/// What happens in a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// A file appears in an outbox, whole, and on the disk for certain.
    Write {
        from: usize,
        to: usize,
    },
    /// So many seconds pass for all who run.
    Rounds(u8),
    Kill(usize),
    Stop(usize),
    /// It starts, anew if it runs.
    Restart(usize),
    Checkpoint(usize),
    /// Before so many more operations of its disk are done, or not at all if it has no more to do.
    PowerFails {
        who: usize,
        after: u8,
        loss: Loss,
    },
    /// Somebody makes a copy of the directory.
    Backup(usize),
    /// That copy comes back.
    Restore(usize),
    LoseKeys(usize),
    /// The server hands out nothing to somebody, until it does again.
    Withhold(usize),
    /// What waits for somebody comes in the opposite order.
    Reverse(usize),
    /// One of what waits for somebody is lost, but no opening.
    Swallow {
        to: usize,
        at: u8,
    },
    /// What somebody had comes once more.
    Repeat {
        to: usize,
        at: u8,
    },
}

/// What goes on without anybody's loss.
fn ordinary(machines: usize) -> impl Strategy<Value = Act> {
    let who = 0..machines;
    let pair = (who.clone(), 1..machines).prop_map(move |(from, further)| (from, (from + further) % machines));
    let kept = prop_oneof![
        Just(Loss::Process),
        Just(Loss::Everything),
        Just(Loss::Nothing),
        Just(Loss::Content),
        Just(Loss::Names),
        any::<u64>().prop_map(Loss::Some)
    ];
    prop_oneof![
        8 => pair.prop_map(|(from, to)| Write { from, to }),
        8 => (1..4u8).prop_map(Rounds),
        2 => who.clone().prop_map(Kill),
        2 => who.clone().prop_map(Stop),
        3 => who.clone().prop_map(Restart),
        1 => who.clone().prop_map(Checkpoint),
        4 => (who.clone(), any::<u8>(), kept).prop_map(|(who, after, loss)| PowerFails { who, after, loss }),
        2 => who.clone().prop_map(Withhold),
        2 => who.clone().prop_map(Reverse),
        2 => (who, any::<u8>()).prop_map(|(to, at)| Repeat { to, at }),
    ]
}

/// Also with a server that loses what it has.
fn lossy(machines: usize) -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => ordinary(machines),
        3 => (0..machines, any::<u8>()).prop_map(|(to, at)| Swallow { to, at }),
    ]
}

fn hostile(machines: usize) -> impl Strategy<Value = Act> {
    let who = 0..machines;
    prop_oneof![
        20 => ordinary(machines),
        1 => who.clone().prop_map(Backup),
        1 => who.clone().prop_map(Restore),
        1 => who.prop_map(LoseKeys),
    ]
}

fn holds(machines: usize, acknowledges: bool, acts: &[Act]) {
    let mut fleet = Fleet::new(machines, acknowledges);
    acts.iter().for_each(|act| fleet.act(*act));
    fleet.finish();
}

fn every_schedule(machines: usize, acts: impl Strategy<Value = Act>) {
    let asked = std::env::var("CHATTERBOX_SCHEDULES").ok();
    // One of these costs as much as a hundred of sessions alone.
    let cases = asked.map_or(SCHEDULES, |text| text.parse::<u32>().unwrap().div_ceil(100));
    // A failure is to become a test with a name, not a line in a file.
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let schedules = (any::<bool>(), prop::collection::vec(acts, 1..ACTS_MAX));
    let outcome = TestRunner::new(config).run(&schedules, |(acknowledges, acts)| {
        holds(machines, acknowledges, &acts);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, (acknowledges, acts))) => {
            let acts: String = acts.iter().map(|act| format!("    {act:?},\n")).collect();
            panic!("{reason}\nholds({machines}, {acknowledges}, &[\n{acts}]);");
        }
        Err(aborted) => panic!("{aborted}"),
    }
}

#[test]
fn between_two_whatever_crashes_and_whatever_the_server_does_all_arrives_once() {
    every_schedule(2, ordinary(2));
}

#[test]
fn among_three_whatever_crashes_and_whatever_the_server_does_all_arrives_once() {
    every_schedule(3, ordinary(3));
}

#[test]
fn between_two_what_a_server_loses_is_asked_for_and_arrives_once() {
    every_schedule(2, lossy(2));
}

#[test]
fn among_three_what_a_server_loses_is_asked_for_and_arrives_once() {
    every_schedule(3, lossy(3));
}

#[test]
fn between_two_what_a_loss_of_state_takes_arrives_once_and_both_are_told() {
    every_schedule(2, hostile(2));
}

#[test]
fn among_three_what_a_loss_of_state_takes_arrives_once_and_all_are_told() {
    every_schedule(3, hostile(3));
}

#[test]
fn an_acknowledgement_that_a_server_lost_is_given_again() {
    let acts = [Write { from: 0, to: 1 }, Withhold(0), Rounds(1), Rounds(2), Swallow { to: 0, at: 75 }];
    holds(3, true, &acts);
}

#[test]
fn whose_first_acknowledgement_is_their_last_word_was_heard() {
    // Of two acknowledgements the server loses the first, and nothing comes after the second.
    holds(2, true, &[Write { from: 1, to: 0 }, Withhold(1), Rounds(3), Swallow { to: 1, at: 3 }]);
}

#[test]
fn two_who_lost_state_in_the_same_hour_are_both_told() {
    // What the one says first goes into a session through a prekey that the other has lost.
    holds(2, true, &[LoseKeys(1), LoseKeys(0)]);
    holds(2, false, &[LoseKeys(1), LoseKeys(0)]);
}
