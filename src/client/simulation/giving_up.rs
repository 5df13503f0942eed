//! A server is away for longer than a message is tried, or its answers are lost: what has failed may arrive all the same, what
//! comes after it does, and nobody is left with a session that the other does not have.

use std::time::Duration;

use super::machine::Hears;
use super::world::Act::{Kill, OpenAnew, Run, Start, StartUnheard, Stop, Withhold};
use super::world::{Act, World, drop_by};
use super::{met, standing};

/// Seconds for which a message is tried.
const PERIOD: usize = 20;

/// More than it takes to give something up.
const LONG: usize = 3 * PERIOD;

/// Both run, and alice is soon at the end of her patience.
fn impatient(mut world: World) -> World {
    world.machines[0].retry_period = Some(Duration::from_secs(PERIOD as u64));
    world.act(Start(0));
    world.act(Start(1));
    world
}

fn states(world: &World) -> Vec<String> {
    let deliveries = world.machines[0].deliveries();
    let lines = deliveries.lines().filter(|line| line.starts_with("to: "));
    lines.map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect()
}

fn act(world: &mut World, acts: &[Act]) {
    acts.iter().for_each(|act| world.act(*act));
}

#[test]
fn a_first_message_that_nobody_got_takes_its_session_along_and_the_next_opens_another() {
    let mut world = impatient(met());
    world.server_hears(Hears::Nothing);
    act(&mut world, &[drop_by(0, "1", "one"), drop_by(0, "2", "two"), drop_by(0, "3", "three")]);
    world.run_rounds(LONG);
    assert_eq!(states(&world), ["failed"; 3]);
    assert!(!world.machines[0].running.as_ref().unwrap().engine.has_queue());
    world.server_hears(Hears::Everything);
    act(&mut world, &[drop_by(0, "4", "four"), Run]);
    assert!(world.machines[1].messages().contains(&"four".to_owned()));
    // He asks for what he sees to be missing.
    world.run_rounds(LONG);
    act(&mut world, &[Run]);
    assert_eq!(states(&world), ["delivered"; 4]);
    world.expect_alerts([&["undeliverable"], &[]]);
    world.finish("a first message that nobody got");
}

#[test]
fn a_first_message_that_is_given_up_still_opens_the_session_for_those_behind_it() {
    let mut world = impatient(met());
    world.server_hears(Hears::Nothing);
    act(&mut world, &[drop_by(0, "1", "one")]);
    world.run_rounds(PERIOD / 2);
    assert_eq!(states(&world), ["sealed"]);
    act(&mut world, &[drop_by(0, "2", "two")]);
    for _ in 0..LONG {
        world.run_rounds(1);
        if states(&world).contains(&"failed".to_owned()) {
            break;
        }
    }
    let mut before = states(&world);
    before.sort();
    assert_eq!(before, ["failed", "sealed"]);
    world.server_hears(Hears::Everything);
    act(&mut world, &[Run]);
    assert_eq!(states(&world), ["delivered"; 2], "what was given up has come after all");
    world.expect_alerts([&["undeliverable"], &[]]);
    world.finish("an opening with others behind it");
}

#[test]
fn what_arrived_although_its_answer_was_lost_is_delivered_in_the_end_and_the_session_goes_on() {
    for base in [met(), standing()] {
        let mut world = impatient(base);
        let before = states(&world).len();
        act(&mut world, &[Kill(1)]);
        world.server_hears(Hears::AndIsNotHeard);
        act(&mut world, &[drop_by(0, "1", "one")]);
        world.run_rounds(LONG);
        assert_eq!(states(&world).last().unwrap(), "failed");
        assert!(world.machines[0].deliveries().contains("; it is not known whether it arrived"));
        world.server_hears(Hears::Everything);
        act(&mut world, &[Start(1), Run, drop_by(0, "2", "two"), drop_by(1, "2", "and back"), Run]);
        assert_eq!(states(&world), vec!["delivered"; before + 2]);
        world.expect_alerts([&["undeliverable"], &[]]);
        world.finish("an answer that was lost");
    }
}

/// A message is dropped, and sealed; these things happen; it is given up. Whether it may have arrived by then, as is said: the
/// same where it opens their session.
fn may_have_arrived(before: Hears, acts: &[(Act, Hears)]) -> bool {
    let [first, later] = [met(), standing()].map(|base| may_have_arrived_from(base, before, acts));
    assert_eq!(first, later);
    first
}

fn may_have_arrived_from(base: World, before: Hears, acts: &[(Act, Hears)]) -> bool {
    let mut world = impatient(base);
    let all = states(&world).len() + 1;
    act(&mut world, &[Stop(1)]);
    world.server_hears(before);
    act(&mut world, &[drop_by(0, "1", "one")]);
    world.run_rounds(3);
    for (next, hears) in acts {
        act(&mut world, &[*next]);
        world.server_hears(*hears);
        world.run_rounds(3);
    }
    assert_eq!(states(&world).last().unwrap(), "sealed");
    world.server_hears(Hears::Nothing);
    world.run_rounds(LONG);
    assert_eq!(states(&world).last().unwrap(), "failed");
    let may_have_arrived = world.machines[0].deliveries().contains("not known");
    world.server_hears(Hears::Everything);
    // She is patient again: where his answer may be on its way to her it takes a while until she opens another session.
    world.machines[0].retry_period = None;
    act(&mut world, &[Kill(0), Start(0), Start(1), Run, drop_by(0, "2", "two"), Run]);
    // He asks for what he sees to be missing.
    world.run_rounds(3 * LONG);
    act(&mut world, &[Run]);
    assert_eq!(states(&world), vec!["delivered"; all + 1]);
    world.expect_alerts(match acts.iter().any(|(act, _)| matches!(act, Withhold)) {
        true => [&["counter", "undeliverable"], &["counter"]],
        false => [&["undeliverable"], &[]],
    });
    world.finish("a message that was given up behind a restart");
    may_have_arrived
}

#[test]
fn what_was_sealed_before_a_restart_has_certainly_not_arrived_only_where_a_stop_knew_it() {
    let (nothing, unanswered) = (Hears::Nothing, Hears::AndIsNotHeard);
    assert!(!may_have_arrived(nothing, &[]));
    assert!(!may_have_arrived(nothing, &[(Stop(0), nothing), (Start(0), nothing)]));
    assert!(!may_have_arrived(
        nothing,
        &[(Stop(0), nothing), (Start(0), nothing), (Stop(0), nothing), (Start(0), nothing)]
    ));
    assert!(may_have_arrived(nothing, &[(Kill(0), nothing), (Start(0), nothing)]));
    assert!(may_have_arrived(unanswered, &[(Stop(0), nothing), (Start(0), nothing)]), "it was sent before the stop");
    assert!(may_have_arrived(nothing, &[(Stop(0), nothing), (Start(0), unanswered)]), "it was sent behind it");
    let sent_between = [(Stop(0), nothing), (Start(0), unanswered), (Kill(0), nothing), (Start(0), nothing)];
    assert!(may_have_arrived(nothing, &sent_between), "what was known once holds for one run");
    let unheard = [(Stop(0), nothing), (StartUnheard(0), nothing)];
    assert!(may_have_arrived(nothing, &unheard), "who knows whether this state is the newest?");
    let unheard_once = [&unheard[..], &[(Stop(0), nothing), (Start(0), nothing)]].concat();
    assert!(!may_have_arrived(nothing, &unheard_once), "it is");
    let withheld = [(Stop(0), nothing), (Withhold, nothing), (Start(0), nothing)];
    assert!(may_have_arrived(nothing, &withheld), "the state may have gone on elsewhere");
    let restarted = [&withheld[..], &[(Stop(0), nothing), (Start(0), nothing)]].concat();
    assert!(may_have_arrived(nothing, &restarted), "and what the server has now it has from here");
    assert!(may_have_arrived(nothing, &[(OpenAnew(0), nothing)]), "only a start trusts a stop");
    assert!(may_have_arrived(unanswered, &[(OpenAnew(0), nothing)]));
    assert!(may_have_arrived(
        nothing,
        &[(Stop(0), nothing), (Start(0), nothing), (Kill(0), nothing), (Start(0), nothing)]
    ));
}

#[test]
fn a_message_whose_answer_is_lost_and_that_is_acknowledged_has_not_failed() {
    let mut world = impatient(standing());
    let before = states(&world).len();
    world.server_hears(Hears::AndIsNotHeard);
    act(&mut world, &[drop_by(0, "1", "one")]);
    world.run_rounds(LONG);
    assert_eq!(states(&world), vec!["delivered"; before + 1]);
    world.server_hears(Hears::Everything);
    act(&mut world, &[Run]);
    world.finish("an acknowledgement overtakes the answer");
}
