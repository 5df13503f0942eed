//! Messages that come of age, and what a person does to their names.

use std::os::unix::fs::FileExt as _;

use super::*;

const PLACE: &str = "conversations/bob/1-alice";
/// Overwritten by the checkpoint, and by whoever recorded the step.
const ASIDES: [&str; 2] = ["tmp/chatterboxd/expired-1", "journal/large/erased-1"];

fn expire(root: &Root, aside: &str) -> Step {
    let identity = RealDisk.stat(&root.at(PLACE)).unwrap().identity();
    Step::Expire { path: PLACE.into(), aside: aside.into(), identity }
}

/// A journal whose log is empty, and a message.
fn with_message(root: &Root) -> Journal {
    fs::create_dir_all(root.at("conversations/bob")).unwrap();
    fs::write(root.at(PLACE), "old").unwrap();
    root.journal()
}

fn replace(root: &Root, text: &str) {
    fs::write(root.at("new"), text).unwrap();
    fs::rename(root.at("new"), root.at(PLACE)).unwrap();
}

fn open(root: &Root, machine: bool) {
    match machine {
        true => drop(root.open_after_power_failure()),
        false => drop(root.open()),
    }
}

#[test]
fn a_replay_leaves_what_was_put_under_the_name_since() {
    for (machine, aside) in [(false, ASIDES[0]), (false, ASIDES[1]), (true, ASIDES[0]), (true, ASIDES[1])] {
        for is_applied in [false, true] {
            let root = Root::new();
            let mut journal = with_message(&root);
            journal.record(&mut one(vec![expire(&root, aside)])).unwrap();
            if is_applied {
                journal.apply().unwrap();
                assert!(!root.at(PLACE).exists() && root.at(aside).exists());
            }
            drop(journal);
            replace(&root, "put");
            for machine in [machine, false] {
                open(&root, machine);
                assert_eq!(root.read(PLACE), "put");
                assert_eq!(fs::read_dir(root.at("conversations/bob")).unwrap().count(), 1);
            }
            // The message itself was gone only where the step had been applied.
            assert_eq!(root.at(ASIDES[1]).exists(), is_applied && aside == ASIDES[1]);
            assert_eq!(fs::read_dir(root.at(SCRATCH)).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_message_is_overwritten_whatever_crashes() {
    for machine in [false, true] {
        for is_applied in [false, true] {
            let root = Root::new();
            let mut journal = with_message(&root);
            let message = OpenOptions::new().read(true).write(true).open(root.at(PLACE)).unwrap();
            journal.record(&mut one(vec![expire(&root, ASIDES[0])])).unwrap();
            if is_applied {
                journal.apply().unwrap();
                // The checkpoint came so far.
                message.write_all_at(b"\0", 0).unwrap();
            }
            drop(journal);
            open(&root, machine);
            let mut content = [1; 3];
            message.read_exact_at(&mut content, 0).unwrap();
            assert_eq!(content, [0; 3]);
            assert!(!root.at(PLACE).exists());
            assert_eq!(fs::read_dir(root.at(SCRATCH)).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_message_whose_unlinking_was_lost_is_erased_by_the_next_start() {
    let root = Root::new();
    drop(with_message(&root));
    fs::write(root.at(ASIDES[0]), "\0\0\0").unwrap();
    root.open();
    assert!(!root.at(ASIDES[0]).exists());
}

#[test]
fn a_message_that_the_log_still_holds_is_not_made_anew() {
    let root = Root::new();
    let mut journal = root.journal();
    journal.commit(&mut one(vec![place(PLACE, "old")])).unwrap();
    journal.commit(&mut one(vec![expire(&root, ASIDES[0])])).unwrap();
    drop(journal);
    root.open_after_power_failure();
    assert!(!root.at(PLACE).exists());
}
