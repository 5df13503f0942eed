//! State is lost: an earlier copy of the disk comes back, `keys/` goes, or all but the account and the contacts. What the
//! other has written appears once, unless it was acknowledged before; both find an alert, and a crash at any operation of all
//! this changes nothing.

use super::machine::Machine;
use super::world::Act::{Checkpoint, Kill, Run, Start, StartUnheard};
use super::world::{Act, World, drop_by};
use super::{crash_everywhere, meet, standing, write};

/// What comes back, or what is left.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Backup,
    Keys,
    AllButAccount,
}

/// Both have written more, and some of it has not reached bob.
const GOES_ON: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "1", "after the copy"),
    drop_by(1, "1", "bob's own after the copy"),
    Run,
    drop_by(0, "2", "once more"),
    Run,
    Checkpoint(1),
    Kill(1),
    drop_by(0, "3", "on its way when bob comes back"),
    Run,
];

/// Only bob has written more.
const BOB_GOES_ON: &[Act] =
    &[Start(0), Start(1), drop_by(1, "1", "bob's own after the copy"), drop_by(1, "2", "another"), Run];

/// Bob has lost state after this. He has acknowledged nothing, so that all of it may be asked for again.
fn lost(loss: Loss, acts: &[Act]) -> World {
    lost_after(write(meet(World::new().without_acknowledgements())), loss, acts)
}

fn lost_after(before: World, loss: Loss, acts: &[Act]) -> World {
    let mut world = before.copy().rest(acts);
    match loss {
        Loss::Backup => world.restore(1, &before),
        Loss::Keys => world.remove(1, |path| path.starts_with("keys/")),
        Loss::AllButAccount => {
            let is_kept = |path: &str| {
                path.starts_with("contacts/")
                    || path.starts_with("outbox/alice/")
                    || ["config.pb", "profile.pb"].contains(&path)
            };
            world.remove(1, |path| !is_kept(path));
        }
    }
    world.expect_alerts([&["recovered"], &["rollback"]]);
    world
}

const COMES_BACK: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "4", "while he recovers"),
    drop_by(1, "4", "the first of bob after his loss"),
    Run,
    drop_by(1, "5", "another of bob"),
    drop_by(0, "5", "another of alice"),
    Run,
];

fn comes_back(loss: Loss) {
    let mut world = lost(loss, GOES_ON);
    COMES_BACK.iter().for_each(|act| world.act(*act));
    world.finish(&format!("{loss:?}"));
}

#[test]
fn after_a_restored_backup_what_could_not_be_read_appears_once_and_both_are_told() {
    comes_back(Loss::Backup);
}

#[test]
fn after_lost_keys_what_could_not_be_read_appears_once_and_both_are_told() {
    comes_back(Loss::Keys);
}

#[test]
fn after_starting_over_with_the_account_alone_all_of_two_weeks_appears_once_and_both_are_told() {
    comes_back(Loss::AllButAccount);
}

#[test]
fn what_was_acknowledged_before_the_loss_is_not_sent_again_and_the_rest_is() {
    let mut world = lost_after(standing(), Loss::Backup, GOES_ON);
    COMES_BACK.iter().for_each(|act| world.act(*act));
    let at_bob = world.machines[1].messages();
    let has = |content: &str| at_bob.contains(&content.to_owned());
    assert!(!has("after the copy") && !has("once more"), "{at_bob:?}");
    for content in ["hello", "on its way when bob comes back", "while he recovers", "another of alice"] {
        assert!(has(content), "{content}: {at_bob:?}");
    }
    world.check_alerts("acknowledged before the loss");
    world.machines.iter().for_each(|machine| machine.check_delivered("acknowledged before the loss"));
}

#[test]
fn a_crash_in_a_recovery_loses_and_doubles_nothing() {
    for loss in [Loss::Backup, Loss::Keys] {
        let base = lost(loss, GOES_ON);
        crash_everywhere(&format!("recovery, {loss:?}"), &base, 0, COMES_BACK);
        crash_everywhere(&format!("recovery, {loss:?}"), &base, 1, COMES_BACK);
    }
}

#[test]
fn what_was_sealed_before_the_loss_was_noticed_is_sealed_anew() {
    let mut world = lost(Loss::Backup, BOB_GOES_ON);
    world.allow_reuse();
    // The home server is away for longer than is waited for it, and nobody can know that the state is old.
    for act in [Start(0), StartUnheard(1), drop_by(1, "4", "not knowing"), drop_by(1, "5", "still not")] {
        world.act(act);
    }
    world.run_rounds(20);
    let states = |world: &World| {
        let deliveries = world.machines[1].deliveries();
        let [queued, sealed] = [" queued ", " sealed "].map(|state| deliveries.matches(state).count());
        (queued, sealed, deliveries.matches(" accepted ").count())
    };
    assert_eq!(states(&world), (2, 0, 1), "nothing is sealed before it is waited for long enough");
    world.act(Run);
    assert_eq!(states(&world), (0, 0, 3));
    world.expect_alerts([&["repeated"], &[]]);
    world.check_alerts("before the counter is heard");
    // What bob wrote without knowing has counts that other messages of his had, which alice has.
    world.expect_alerts([&["fork", "recovered", "repeated"], &["rollback"]]);
    for act in [Kill(1), Start(1), Run] {
        world.act(act);
    }
    world.finish("sealed before the loss was noticed");
}

#[test]
fn a_message_that_was_deleted_or_changed_is_taken_back() {
    let mut world = lost(Loss::Backup, GOES_ON);
    let paths = world.machines[0].files("conversations");
    let path_of = |machine: &Machine, content: &str| {
        let found = paths.iter().find(|(_, text)| text == content);
        machine.path(&found.unwrap().0)
    };
    let (deleted, changed) = (path_of(&world.machines[0], "after the copy"), path_of(&world.machines[0], "once more"));
    world.machines[0].delete(&deleted);
    world.machines[0].delete(&changed);
    world.machines[0].disk.write_file(&changed, b"said otherwise", true);
    COMES_BACK.iter().for_each(|act| world.act(*act));
    let at_bob = world.machines[1].messages();
    for gone in ["after the copy", "once more", "said otherwise"] {
        assert!(!at_bob.contains(&gone.to_owned()), "{gone}");
    }
    assert!(at_bob.contains(&"on its way when bob comes back".to_owned()), "{at_bob:?}");
}

#[test]
fn a_server_that_withholds_the_counter_causes_an_alert_and_no_reset() {
    let mut world = standing();
    world.withhold_counters();
    let sessions = |world: &World| world.machines[1].files("keys/sessions").len();
    let before = sessions(&world);
    let acts = [Start(0), Start(1), drop_by(0, "1", "one"), drop_by(1, "1", "uno"), Run];
    acts.into_iter().for_each(|act| world.act(act));
    world.expect_alerts([&["counter"], &["counter"]]);
    assert_eq!(sessions(&world), before);
    assert!(world.machines.iter().all(|machine| machine.files("keys").iter().all(|(path, _)| path != "keys/recovery")));
    world.finish("withheld");
}
