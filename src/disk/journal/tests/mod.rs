//! The journal against crashes: after the sync, and after every single step; of the daemon and of the machine.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;

mod arriving;
mod expire;
mod trouble;
use crate::crypto::hash::sha256;
use crate::disk::open::RegularFile;
use crate::disk::real::RealDisk;
use crate::limits::{BATCH_BYTES_MAX, JOURNAL_LOG_BYTES};
use crate::wire::journal::DirectoryIdentity;

const OTHER_BOOT: [u8; 16] = [0xee; 16];

/// A root in a temporary directory.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn open(&self) -> (Journal, Replayed) {
        Journal::open(Arc::new(RealDisk), self.0.path()).unwrap()
    }

    fn journal(&self) -> Journal {
        self.open().0
    }

    fn open_after_power_failure(&self) -> Replayed {
        let (_, replayed) = Journal::open_at_boot(Arc::new(RealDisk), self.0.path(), OTHER_BOOT).unwrap();
        assert!(replayed.other_boot);
        replayed
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn log(&self) -> PathBuf {
        let logs = file::logs(&RealDisk, &self.at(DIRECTORY)).unwrap();
        assert_eq!(logs.len(), 1);
        logs[0].0.clone()
    }

    /// Whether the bytes occur in the log or in a file of the journal's own.
    fn keeps(&self, needle: &str) -> bool {
        [DIRECTORY, SCRATCH].iter().any(|directory| {
            fs::read_dir(self.at(directory)).unwrap().any(|entry| {
                let bytes = fs::read(entry.unwrap().path()).unwrap();
                bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
            })
        })
    }
}

fn bytes(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn put(path: &str, text: &str) -> Step {
    Step::Put { path: path.into(), bytes: bytes(text), secret: true }
}

fn place(path: &str, text: &str) -> Step {
    let scratch = Path::new(SCRATCH).join(format!("placed-{}", path.replace('/', "-")));
    Step::Place { path: path.into(), scratch, bytes: bytes(text) }
}

fn take(root: &Root, path: &str) -> Step {
    let file = RegularFile::open(&RealDisk, &root.at(path)).unwrap();
    let (identity, content) = (file.identity().unwrap(), file.read(1_000).unwrap());
    let scratch = Path::new(SCRATCH).join("taken");
    let directory = RealDisk.stat(root.at(path).parent().unwrap()).unwrap();
    let directory = Some(DirectoryIdentity { inode: directory.inode, born_ns: directory.born_ns });
    Step::Take { path: path.into(), scratch, identity, sha256: sha256(&[&content]), directory, only_link: true }
}

fn one(steps: Vec<Step>) -> Vec<Transaction> {
    vec![Transaction { steps }]
}

/// One of every kind, on a root that has what they need.
fn everything(root: &Root) -> Vec<Transaction> {
    for directory in ["outbox/bob", "keys"] {
        fs::create_dir_all(root.at(directory)).unwrap();
    }
    for (path, text) in [
        ("outbox/bob/x", "hi"),
        ("keys/session", "old"),
        ("keys/prekey", "used"),
        ("x.error", "e"),
        ("keys/received", "abc"),
    ] {
        fs::write(root.at(path), text).unwrap();
    }
    fs::create_dir_all(root.at("journal/large")).unwrap();
    fs::write(root.at("journal/large/copy"), "much").unwrap();
    fs::create_dir_all(root.at("journal/arriving")).unwrap();
    fs::write(root.at("journal/arriving/parts"), "on").unwrap();
    let moved = Step::Move { path: "conversations/carol/2-alice".into(), from: "journal/large/copy".into() };
    fs::create_dir_all(root.at("conversations/dora")).unwrap();
    fs::write(root.at("conversations/dora/3-bob"), "of age").unwrap();
    let expired = Step::Expire {
        path: "conversations/dora/3-bob".into(),
        aside: Path::new(SCRATCH).join("expired"),
        identity: RealDisk.stat(&root.at("conversations/dora/3-bob")).unwrap().identity(),
    };
    let first =
        vec![put("keys/session", "new"), place("conversations/bob/1-alice", "hi"), moved, take(root, "outbox/bob/x")];
    let second = vec![
        Step::Erase { path: "keys/prekey".into() },
        expired,
        Step::Remove { path: "x.error".into() },
        Step::MakeDirectory { path: "outbox/2026-bob".into() },
        Step::Append { path: "keys/received".into(), offset: 3, bytes: b"def".to_vec() },
        Step::Write { path: "journal/arriving/parts".into(), offset: 4, bytes: bytes("and") },
    ];
    vec![Transaction { steps: first }, Transaction { steps: second }]
}

fn assert_everything_happened(root: &Root) {
    assert_eq!(root.read("keys/session"), "new");
    assert_eq!(root.read("keys/received"), "abcdef");
    assert_eq!(root.read("journal/arriving/parts"), "on\0\0and");
    assert_eq!(root.read("conversations/bob/1-alice"), "hi");
    assert_eq!(fs::read_dir(root.at("conversations/bob")).unwrap().count(), 1);
    assert_eq!(root.read("conversations/carol/2-alice"), "much");
    for gone in ["outbox/bob/x", "keys/prekey", "x.error", "journal/large/copy", "conversations/dora/3-bob"] {
        assert!(!root.at(gone).exists(), "{gone}");
    }
    assert!(root.at("outbox/2026-bob").is_dir());
    assert_eq!(fs::read_dir(root.at(SCRATCH)).unwrap().count(), 0);
}

#[test]
fn what_is_committed_is_there_before_and_after_opening_again() {
    let root = Root::new();
    let mut journal = root.journal();
    journal.commit(&mut everything(&root)).unwrap();
    assert_eq!(root.read("conversations/bob/1-alice"), "hi");
    drop(journal);
    let (journal, replayed) = root.open();
    assert_eq!((replayed.transactions, replayed.other_boot), (2, false));
    assert_everything_happened(&root);
    drop(journal);
    assert_eq!(root.open().1.transactions, 0);
}

#[test]
fn a_crash_after_the_sync_and_after_each_step_is_finished_by_replay() {
    for machine in [false, true] {
        for applied in 0..=10 {
            for replays in 1..=2 {
                let root = Root::new();
                let mut journal = root.journal();
                let batch = everything(&root);
                journal.record(&mut batch.clone()).unwrap();
                for step in batch.iter().flat_map(|transaction| &transaction.steps).take(applied) {
                    journal.applier.apply(step, Mode::Live).unwrap();
                }
                drop(journal);
                for replay in 1..=replays {
                    if replay < replays {
                        // A replay that itself crashes before it has emptied the log.
                        let found = Found::read(&RealDisk, &root.at(DIRECTORY)).unwrap();
                        let mode = if machine { Mode::OtherBoot } else { Mode::SameBoot };
                        let mut applier = Applier::new(Arc::new(RealDisk), root.0.path());
                        applier.sweep().unwrap();
                        for step in found.transactions.iter().flat_map(|transaction| &transaction.steps) {
                            applier.apply(step, mode).unwrap();
                        }
                    } else if machine {
                        assert_eq!(root.open_after_power_failure().transactions, 2);
                    } else {
                        assert_eq!(root.open().1.transactions, 2);
                    }
                }
                assert_everything_happened(&root);
            }
        }
    }
}

#[test]
fn a_record_of_many_batches_is_read_again_and_the_log_is_as_small_as_before() {
    let root = Root::new();
    let mut journal = root.journal();
    let size = 10 * BATCH_BYTES_MAX;
    let step = Step::Put { path: "large".into(), bytes: Zeroizing::new(vec![7; size]), secret: false };
    // It is recorded, and the machine stops.
    journal.record(&mut one(vec![step])).unwrap();
    drop(journal);
    assert!(fs::metadata(root.log()).unwrap().len() > size as u64);
    let (_, replayed) = root.open();
    assert_eq!((replayed.transactions, fs::metadata(root.at("large")).unwrap().len()), (1, size as u64));
    assert_eq!(fs::metadata(root.log()).unwrap().len(), JOURNAL_LOG_BYTES);
}

#[test]
fn what_was_prepared_and_never_recorded_is_erased_but_not_what_replay_still_needs() {
    let root = Root::new();
    let mut journal = root.journal();
    let recorded = Step::Place { path: "c/1".into(), scratch: "tmp/chatterboxd/new-1".into(), bytes: bytes("hi") };
    let unrecorded =
        Step::Place { path: "c/2".into(), scratch: "tmp/chatterboxd/new-2".into(), bytes: bytes("secret") };
    journal.record(&mut one(vec![recorded])).unwrap();
    journal.prepare(&one(vec![unrecorded])).unwrap();
    drop(journal);
    fs::hard_link(root.at("tmp/chatterboxd/new-2"), root.at("witness")).unwrap();
    fs::create_dir(root.at("tmp/chatterboxd/new-directory")).unwrap();
    fs::write(root.at("tmp/chatterboxd/taken-1"), "a person's").unwrap();
    assert_eq!(root.open().1.transactions, 1);
    assert_eq!(root.read("c/1"), "hi");
    assert!(!root.at("c/2").exists());
    assert_eq!(root.read("witness"), "\0".repeat("secret".len()));
    let mut left: Vec<_> = fs::read_dir(root.at(SCRATCH)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["new-directory", "taken-1"]);
}

#[test]
fn a_crash_while_the_log_is_renewed_loses_nothing() {
    let root = Root::new();
    let mut journal = root.journal();
    journal.record(&mut everything(&root)).unwrap();
    drop(journal);
    let old = root.log();
    // A copy half made, then both logs complete, then the old one half erased.
    fs::write(root.at("journal/new"), "half").unwrap();
    let found = Found::read(&RealDisk, &root.at(DIRECTORY)).unwrap();
    fs::copy(&old, root.at("kept")).unwrap();
    let header = found.header.unwrap();
    let header = file::header(header.generation + 1, header.boot);
    drop(LogFile::succeed(&RealDisk, &root.at(DIRECTORY), header, &found.payloads, &found.paths).unwrap());
    fs::rename(root.at("kept"), &old).unwrap();
    fs::write(root.at("journal/old"), [0; 100]).unwrap();
    assert_eq!(root.open().1.transactions, 2);
    assert_everything_happened(&root);
    root.log();
}

#[test]
fn what_the_user_deleted_stays_deleted_within_a_boot_and_comes_back_after_a_power_failure() {
    let root = Root::new();
    let step = place("conversations/bob/1", "hi");
    root.journal().commit(&mut one(vec![step.clone()])).unwrap();
    fs::remove_file(root.at("conversations/bob/1")).unwrap();
    root.open();
    assert!(!root.at("conversations/bob/1").exists());

    root.journal().commit(&mut one(vec![step])).unwrap();
    fs::remove_dir_all(root.at("conversations")).unwrap();
    root.open_after_power_failure();
    assert_eq!(root.read("conversations/bob/1"), "hi");
}

#[test]
fn after_a_power_failure_lost_blocks_are_repaired_and_a_persons_file_is_not_touched() {
    let message = "a message of some length";
    let cases = [
        ("", message),
        ("a mess", message),
        ("a mess\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", message),
        (message, message),
        ("a message of some length, and a note to it", "a message of some length, and a note to it"),
        ("something else", "something else"),
    ];
    for (standing, expected) in cases {
        let root = Root::new();
        root.journal().commit(&mut one(vec![place("c/1", message)])).unwrap();
        fs::write(root.at("c/1"), standing).unwrap();
        root.open_after_power_failure();
        assert_eq!(root.read("c/1"), expected);
        assert_eq!(fs::read_dir(root.at("c")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(root.at(SCRATCH)).unwrap().count(), 0);
    }
}

#[test]
fn a_name_that_is_taken_is_not_overwritten_on_any_boot() {
    for machine in [false, true] {
        let root = Root::new();
        fs::create_dir(root.at("c")).unwrap();
        fs::write(root.at("c/1-plan.pdf"), "somebody else's").unwrap();
        let mut journal = root.journal();
        journal.record(&mut one(vec![place("c/1-plan.pdf", "ours")])).unwrap();
        drop(journal);
        let replayed = if machine { root.open_after_power_failure() } else { root.open().1 };
        assert_eq!(replayed.transactions, 1);
        assert_eq!(root.read("c/1-plan.pdf"), "somebody else's");
        assert_eq!(root.read("c/1-plan-2.pdf"), "ours");
    }
}

#[test]
fn a_file_replaced_after_it_was_read_stays_as_a_new_message() {
    let root = Root::new();
    fs::create_dir(root.at("outbox")).unwrap();
    fs::write(root.at("outbox/x"), "one").unwrap();
    let mut journal = root.journal();
    let step = take(&root, "outbox/x");
    fs::write(root.at("outbox/y"), "two").unwrap();
    fs::rename(root.at("outbox/y"), root.at("outbox/x")).unwrap();
    journal.commit(&mut one(vec![step])).unwrap();
    assert_eq!(root.read("outbox/x"), "two");
    drop(journal);
    root.open();
    assert_eq!(root.read("outbox/x"), "two");
}
