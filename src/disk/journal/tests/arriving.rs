//! Content that is written a part at a time, and moves once it is whole.

use std::os::unix::fs::MetadataExt as _;

use super::*;

const PARTS: &str = "journal/arriving/parts";
const PLACE: &str = "conversations/bob/plan.pdf";

fn write(offset: u64, text: &str) -> Step {
    Step::Write { path: PARTS.into(), offset, bytes: bytes(text) }
}

fn moved() -> Step {
    Step::Move { path: PLACE.into(), from: PARTS.into() }
}

/// A journal whose log holds two parts, the second one first.
fn with_parts(root: &Root) -> Journal {
    let mut journal = root.journal();
    journal.commit(&mut one(vec![write(3, "def")])).unwrap();
    journal.commit(&mut one(vec![write(0, "abc")])).unwrap();
    journal
}

fn open(root: &Root, machine: bool) {
    match machine {
        true => assert!(root.open_after_power_failure().other_boot),
        false => drop(root.open()),
    }
}

#[test]
fn parts_are_written_at_once_and_by_the_replay_again() {
    for machine in [false, true] {
        let root = Root::new();
        drop(with_parts(&root));
        assert_eq!(root.read(PARTS), "abcdef");
        // As a power failure may leave it.
        fs::write(root.at(PARTS), "\0bc").unwrap();
        open(&root, machine);
        assert_eq!(root.read(PARTS), "abcdef");
    }
}

#[test]
fn a_move_behind_parts_that_the_log_still_holds_happens_once() {
    for machine in [false, true] {
        for is_applied in [false, true] {
            let root = Root::new();
            let mut journal = with_parts(&root);
            let mut batch = one(vec![moved()]);
            journal.record(&mut batch).unwrap();
            if is_applied {
                journal.apply().unwrap();
            }
            drop(journal);
            open(&root, machine);
            for _ in 0..2 {
                assert_eq!(root.read(PLACE), "abcdef");
                assert_eq!(fs::read_dir(root.at("conversations/bob")).unwrap().count(), 1);
                assert!(!root.at(PARTS).exists());
                drop(root.open());
            }
        }
        // What a person deletes stays deleted, and nothing of it is made anew.
        let root = Root::new();
        let mut journal = with_parts(&root);
        journal.commit(&mut one(vec![moved()])).unwrap();
        drop(journal);
        fs::remove_file(root.at(PLACE)).unwrap();
        open(&root, machine);
        assert!(!root.at(PLACE).exists() && !root.at(PARTS).exists());
    }
}

#[test]
fn parts_that_are_given_up_leave_nothing() {
    for machine in [false, true] {
        for is_applied in [false, true] {
            let root = Root::new();
            let mut journal = with_parts(&root);
            fs::hard_link(root.at(PARTS), root.at("witness")).unwrap();
            journal.record(&mut one(vec![Step::Erase { path: PARTS.into() }])).unwrap();
            if is_applied {
                journal.apply().unwrap();
            }
            drop(journal);
            open(&root, machine);
            assert!(!root.at(PARTS).exists());
            assert_eq!(root.read("witness"), "\0".repeat(6));
            assert_eq!(fs::read_dir(root.at(SCRATCH)).unwrap().count(), 0);
        }
    }
}

#[test]
fn what_is_written_and_moved_by_one_batch_is_refused() {
    let root = Root::new();
    let mut journal = root.journal();
    let error = journal.commit(&mut one(vec![write(0, "abc"), moved()])).unwrap_err();
    assert!(matches!(error, JournalError::Refused { .. }), "{error}");
    journal.commit(&mut one(vec![write(0, "abc")])).unwrap();
    assert_eq!(root.read(PARTS), "abc");
}

#[test]
fn a_part_far_from_the_beginning_costs_no_disk() {
    let root = Root::new();
    root.journal().commit(&mut one(vec![write(1 << 30, "far")])).unwrap();
    assert!(fs::metadata(root.at(PARTS)).unwrap().blocks() < 64);
    let mut journal = root.journal();
    journal.commit(&mut one(vec![Step::Erase { path: PARTS.into() }])).unwrap();
    journal.checkpoint().unwrap();
    assert!(!root.at(PARTS).exists());
}
