//! Random schedules of what people, machines, the network and the servers do to sessions, without a disk, so that there can
//! be thousands: what was sealed opens once, with its author and content, at its recipient, or not at all; no message key
//! serves twice; what is forged changes nothing; and all come to send in one session again (design, sections 1, 5 and 9).
//!
//! The parts are the real ones: sessions, prekeys, the memory of what was received, each written to bytes at a commit
//! and read from them at a start. What the engine does around them is tried in the same way in `simulation::schedules`.
//!
//! A failure is shrunk, and printed as acts: pasted into [`holds`], they are a test. `CHATTERBOX_SCHEDULES` says how many
//! schedules each test tries (`scripts/schedules`).

#![allow(clippy::unwrap_used, reason = "a test, as a whole")]

mod oracle;
mod party;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

pub(super) use self::party::Dice;

use self::Act::{Commit, Damage, Deliver, Drop, Repeat, Restart, Rollback, Serve, Splice, Stray, Wait, Write};
use self::world::{Server, World};

/// Schedules of each test if nothing else is asked for.
const SCHEDULES: u32 = 64;

/// Acts of one.
const ACTS_MAX: usize = 80;

/// What happens in a schedule. Where an act says which, it counts around what there is.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write {
        from: usize,
        to: usize,
    },
    Commit(usize),
    /// An envelope leaves the mailbox for good once what it became is committed.
    Deliver {
        to: usize,
        at: u8,
    },
    /// Anything that was ever sent comes once more.
    Repeat {
        to: usize,
        at: u8,
    },
    Drop {
        to: usize,
        at: u8,
    },
    Damage {
        to: usize,
        at: u8,
        position: u16,
        mask: u8,
    },
    /// The front of one envelope with the body of another.
    Splice {
        to: usize,
        front: u8,
        back: u8,
    },
    /// An envelope for somebody else, or one's own.
    Stray {
        to: usize,
        at: u8,
    },
    Restart(usize),
    /// An earlier state comes back, so many commits ago.
    Rollback {
        who: usize,
        back: u8,
        noticed: bool,
    },
    Serve(Server),
    Wait {
        hours: u8,
    },
}

/// What goes on without anybody's loss.
fn ordinary(parties: usize) -> impl Strategy<Value = Act> {
    let who = 0..parties;
    let pair = (who.clone(), 1..parties).prop_map(move |(from, further)| (from, (from + further) % parties));
    prop_oneof![
        8 => pair.prop_map(|(from, to)| Write { from, to }),
        8 => who.clone().prop_map(Commit),
        10 => (who.clone(), any::<u8>()).prop_map(|(to, at)| Deliver { to, at }),
        2 => (who.clone(), any::<u8>()).prop_map(|(to, at)| Repeat { to, at }),
        1 => (who.clone(), any::<u8>(), any::<u16>(), any::<u8>())
            .prop_map(|(to, at, position, mask)| Damage { to, at, position, mask }),
        1 => (who.clone(), any::<u8>(), any::<u8>()).prop_map(|(to, front, back)| Splice { to, front, back }),
        1 => (who.clone(), any::<u8>()).prop_map(|(to, at)| Stray { to, at }),
        2 => who.prop_map(Restart),
        1 => (0..100u8).prop_map(|hours| Wait { hours }),
    ]
}

/// All that a hostile network, a lying server and a restored backup can do.
fn hostile(parties: usize) -> impl Strategy<Value = Act> {
    let who = 0..parties;
    let server = prop_oneof![Just(Server::Honest), Just(Server::HandsOutTwice), Just(Server::LastResortOnly)];
    prop_oneof![
        30 => ordinary(parties),
        1 => (who.clone(), any::<u8>()).prop_map(|(to, at)| Drop { to, at }),
        1 => (who, 0..8u8, any::<bool>()).prop_map(|(who, back, noticed)| Rollback { who, back, noticed }),
        1 => server.prop_map(Serve),
    ]
}

fn holds(parties: usize, acts: &[Act]) {
    let mut world = World::new(parties);
    acts.iter().for_each(|act| world.act(*act));
    world.finish();
}

fn every_schedule(parties: usize, acts: impl Strategy<Value = Act>) {
    let asked = std::env::var("CHATTERBOX_SCHEDULES").ok();
    let cases = asked.map_or(SCHEDULES, |text| text.parse().unwrap());
    // A failure is to become a test with a name, not a line in a file.
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let schedules = prop::collection::vec(acts, 1..ACTS_MAX);
    let outcome = TestRunner::new(config).run(&schedules, |acts| {
        holds(parties, &acts);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, acts)) => {
            let acts: String = acts.iter().map(|act| format!("    {act:?},\n")).collect();
            panic!("{reason}\nholds({parties}, &[\n{acts}]);");
        }
        Err(aborted) => panic!("{aborted}"),
    }
}

#[test]
fn between_two_all_that_is_sent_opens_once_in_any_order_across_restarts() {
    every_schedule(2, ordinary(2));
}

#[test]
fn among_three_all_that_is_sent_opens_once_in_any_order_across_restarts() {
    every_schedule(3, ordinary(3));
}

#[test]
fn between_two_nothing_opens_twice_or_forged_whatever_network_server_and_backups_do() {
    every_schedule(2, hostile(2));
}

#[test]
fn among_three_nothing_opens_twice_or_forged_whatever_network_server_and_backups_do() {
    every_schedule(3, hostile(3));
}
