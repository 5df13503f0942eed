//! The journal against damage, disks that refuse, secrets that stay, and files that somebody has open.

use super::*;

#[test]
fn a_torn_tail_is_dropped_and_damage_before_a_later_batch_stops_with_an_error() {
    let root = Root::new();
    let mut journal = root.journal();
    let mut ends = vec![RECORDS_START as u64];
    for text in ["one", "two", "three"] {
        journal.record(&mut one(vec![put("state", text)])).unwrap();
        ends.push(RECORDS_START as u64 + journal.log_bytes());
    }
    drop(journal);
    let log = OpenOptions::new().write(true).open(root.log()).unwrap();
    let flip = |offset: u64| {
        let mut byte = [fs::read(root.log()).unwrap()[usize::try_from(offset).unwrap()]];
        byte[0] ^= 1;
        log.write_all_at(&byte, offset).unwrap();
    };
    flip(ends[0] + 50);
    // Recording the later ones applied the earlier ones; replay must not.
    fs::remove_file(root.at("state")).unwrap();
    let error = Journal::open(Arc::new(RealDisk), root.0.path()).err().unwrap();
    assert!(matches!(error, JournalError::Damaged { offset, .. } if offset == ends[0]), "{error}");
    assert!(!error.is_temporary() && !root.at("state").exists());
    flip(ends[0] + 50);
    flip(ends[2] + 50);
    assert_eq!(root.open().1.transactions, 2);
    assert_eq!(root.read("state"), "two");
}

#[test]
fn a_log_of_an_unknown_version_stops_with_an_error() {
    let root = Root::new();
    drop(root.journal());
    OpenOptions::new().write(true).open(root.log()).unwrap().write_all_at(&[0; RECORDS_START], 0).unwrap();
    assert!(matches!(Journal::open(Arc::new(RealDisk), root.0.path()), Err(JournalError::Malformed { .. })));
}

#[test]
fn secrets_that_served_die_with_the_checkpoint() {
    let root = Root::new();
    let mut journal = root.journal();
    journal.commit(&mut one(vec![put("keys/session", "first secret"), put("keys/prekey", "second secret")])).unwrap();
    assert!(root.keeps("first secret") && root.keeps("second secret"));
    journal.checkpoint().unwrap();
    assert!(!root.keeps("secret"));
    assert_eq!(root.read("keys/session"), "first secret");
    // Second names show what happens to the old content.
    for name in ["session", "prekey"] {
        fs::hard_link(root.at("keys").join(name), root.at(format!("witness-{name}").as_str())).unwrap();
    }
    let next = vec![put("keys/session", "passing secret"), Step::Erase { path: "keys/prekey".into() }];
    journal.commit(&mut one(next)).unwrap();
    journal.commit(&mut one(vec![put("keys/session", "successor")])).unwrap();
    journal.checkpoint().unwrap();
    assert!(!root.keeps("secret") && !root.keeps("successor"));
    for (name, length) in [("session", "first secret".len()), ("prekey", "second secret".len())] {
        assert_eq!(root.read(&format!("witness-{name}")), "\0".repeat(length));
    }
    assert_eq!(root.read("keys/session"), "successor");
    assert!(!root.at("keys/prekey").exists());
    assert_eq!((journal.log_bytes(), fs::read_dir(root.at(SCRATCH)).unwrap().count()), (0, 0));
    // And the emptied log goes on.
    journal.commit(&mut one(vec![put("keys/session", "third")])).unwrap();
    drop(journal);
    assert_eq!(root.open().1.transactions, 1);
    assert_eq!(root.read("keys/session"), "third");
}

#[test]
fn a_state_file_is_written_once_by_the_checkpoint_however_often_it_changed() {
    let root = Root::new();
    let mut journal = root.journal();
    for number in 0..5 {
        let append = Step::Append { path: "keys/received".into(), offset: number * 3, bytes: b"abc".to_vec() };
        journal.commit(&mut one(vec![put("keys/session", &format!("state {number}")), append])).unwrap();
    }
    let gone = vec![put("journal/spool/1", "an envelope"), Step::Remove { path: "journal/spool/1".into() }];
    journal.commit(&mut one(gone)).unwrap();
    assert!(!root.at("keys").exists() && !root.at("journal/spool").exists());
    journal.checkpoint().unwrap();
    assert_eq!((root.read("keys/session"), root.read("keys/received")), ("state 4".into(), "abc".repeat(5)));
    assert!(!root.at("journal/spool").exists());
}

#[test]
fn what_is_not_settled_is_carried_into_the_next_log_and_found_by_the_next_start() {
    let root = Root::new();
    fs::create_dir_all(root.at("outbox/bob")).unwrap();
    fs::write(root.at("outbox/bob/x"), "hi").unwrap();
    let mut journal = root.journal();
    let step = take(&root, "outbox/bob/x");
    let writer = OpenOptions::new().append(true).open(root.at("outbox/bob/x")).unwrap();
    journal.commit(&mut one(vec![put("keys/session", "new"), step])).unwrap();
    let log = root.log();
    journal.checkpoint().unwrap();
    assert_eq!(journal.unsettled().collect::<Vec<_>>(), [Path::new("outbox/bob/x")]);
    assert_ne!(root.log(), log);
    // Nothing else is recorded: no other log is made for it.
    let log = root.log();
    assert_eq!(journal.log_bytes(), 0);
    journal.checkpoint().unwrap();
    assert_eq!(root.log(), log);
    drop(journal);
    let (mut journal, replayed) = root.open();
    assert_eq!((replayed.transactions, journal.unsettled().count()), (1, 1));
    std::io::Write::write_all(&mut &writer, b" and more").unwrap();
    drop(writer);
    journal.settle().unwrap();
    assert_eq!(journal.unsettled().count(), 0);
    assert_eq!(root.read("outbox/bob/x"), "hi and more");
    journal.commit(&mut one(vec![put("keys/session", "newer")])).unwrap();
    journal.checkpoint().unwrap();
    drop(journal);
    assert_eq!(root.open().1.transactions, 0);
    assert_eq!(root.read("outbox/bob/x"), "hi and more");
}

#[test]
fn a_root_that_is_gone_or_replaced_is_neither_written_to_nor_made() {
    let root = Root::new();
    let base = root.0.path().join("base");
    fs::create_dir(&base).unwrap();
    let (mut journal, _) = Journal::open(Arc::new(RealDisk), &base).unwrap();
    let mut batch = one(vec![put("state", "one"), place("c/1", "hi")]);
    let away = root.0.path().join("away");
    fs::rename(&base, &away).unwrap();
    for replaced in [false, true] {
        if replaced {
            fs::create_dir(&base).unwrap();
        }
        let error = journal.commit(&mut batch).unwrap_err();
        assert!(matches!(error, JournalError::RootGone { .. }) && error.is_temporary(), "{error}");
        assert_eq!(error.outcome(), Outcome::Nothing);
        assert_eq!(base.exists(), replaced);
    }
    assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
    fs::remove_dir(&base).unwrap();
    fs::rename(&away, &base).unwrap();
    journal.commit(&mut batch).unwrap();
    assert_eq!(fs::read_to_string(base.join("c/1")).unwrap(), "hi");
}

#[test]
fn a_crash_in_the_middle_of_emptying_the_log_leaves_all_or_nothing() {
    // What of the new header and of the zeros reached the disk.
    for (header_torn, zeroed, expected) in [(false, 0, 0), (false, 64, 0), (true, 0, 2)] {
        let root = Root::new();
        let mut journal = root.journal();
        journal.commit(&mut one(vec![put("state", "one")])).unwrap();
        journal.commit(&mut one(vec![put("state", "two")])).unwrap();
        let mut log = fs::read(root.log()).unwrap();
        journal.checkpoint().unwrap();
        log[..RECORDS_START].copy_from_slice(&fs::read(root.log()).unwrap()[..RECORDS_START]);
        drop(journal);
        log[RECORDS_START..RECORDS_START + zeroed].fill(0);
        if header_torn {
            let (_, slot) = Header::read(&log).unwrap();
            log[slot * format::SLOT_BYTES + 20] ^= 1;
        }
        fs::write(root.log(), &log).unwrap();
        assert_eq!(root.open().1.transactions, expected);
        assert_eq!(root.read("state"), "two");
    }
}

#[test]
fn after_a_failed_sync_nothing_is_applied_and_every_commit_is_refused_until_opened_anew() {
    let root = Root::new();
    let mut journal = root.journal();
    // /dev/full fails as a disk without space does.
    journal.log.break_for_test();
    let batch = one(vec![put("state", "one"), place("c/1", "hi")]);
    let error = journal.commit(&mut batch.clone()).unwrap_err();
    assert!(matches!(error, JournalError::NotSynced { .. }) && error.is_temporary());
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(!root.at("state").exists() && !root.at("c/1").exists() && journal.is_poisoned());
    let error = journal.commit(&mut batch.clone()).unwrap_err();
    assert!(matches!(error, JournalError::Poisoned) && error.is_temporary());
    assert!(journal.checkpoint().is_err());
    drop(journal);
    let (mut journal, replayed) = root.open();
    assert_eq!(replayed.transactions, 0);
    journal.commit(&mut batch.clone()).unwrap();
    assert_eq!(root.read("c/1"), "hi");
}

#[test]
fn a_step_that_is_refused_is_retried_before_anything_new_and_survives_a_restart() {
    let root = Root::new();
    let mut journal = root.journal();
    fs::write(root.at("c"), "in the way").unwrap();
    let error = journal.commit(&mut one(vec![put("a", "1"), place("c/1", "hi"), put("b", "1")])).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Recorded);
    assert!(error.is_temporary() && journal.has_pending());
    assert!(root.at("a").exists() && !root.at("b").exists());
    let error = journal.commit(&mut one(vec![put("b", "2")])).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Nothing);
    assert!(journal.checkpoint().is_err());
    drop(journal);
    assert!(Journal::open(Arc::new(RealDisk), root.0.path()).is_err());
    fs::remove_file(root.at("c")).unwrap();
    let mut journal = root.journal();
    assert_eq!((root.read("c/1"), root.read("b")), ("hi".to_owned(), "1".to_owned()));
    journal.commit(&mut one(vec![put("b", "2")])).unwrap();
    assert_eq!(root.read("b"), "2");
}

#[test]
fn a_batch_that_cannot_be_prepared_changes_nothing() {
    let root = Root::new();
    let mut journal = root.journal();
    fs::create_dir(root.at("tmp/chatterboxd/directory")).unwrap();
    let bad = Step::Place { path: "c/2".into(), scratch: "tmp/chatterboxd/directory".into(), bytes: bytes("x") };
    let error = journal.commit(&mut one(vec![place("c/1", "hi"), bad])).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Nothing);
    assert_eq!(fs::read_dir(root.at(SCRATCH)).unwrap().count(), 1);
    assert_eq!(journal.log_bytes(), 0);
    let outside = one(vec![Step::Remove { path: "../x".into() }]);
    assert!(matches!(journal.commit(&mut outside.clone()), Err(JournalError::Refused { .. })));
    let twice = one(vec![place("a/b", "1"), place("a-b", "2")]);
    assert!(matches!(journal.commit(&mut twice.clone()), Err(JournalError::Refused { .. })));
    journal.commit(&mut one(vec![place("c/1", "hi")])).unwrap();
}

#[test]
fn the_log_is_emptied_by_itself_when_it_has_grown() {
    let root = Root::new();
    let mut journal = root.journal();
    let size = fs::metadata(root.log()).unwrap().len();
    let large = "x".repeat(usize::try_from(JOURNAL_CHECKPOINT_BYTES).unwrap() + 2_000_000);
    journal.commit(&mut one(vec![put("state", "small")])).unwrap();
    assert!(journal.log_bytes() > 0);
    journal.commit(&mut one(vec![put("state", &large)])).unwrap();
    assert_eq!(journal.log_bytes(), 0);
    assert_eq!(fs::metadata(root.log()).unwrap().len(), size);
    assert_eq!(root.read("state").len(), large.len());
}

#[test]
fn names_that_are_not_text_and_steps_on_what_is_absent_are_fine() {
    use std::os::unix::ffi::OsStringExt as _;
    let root = Root::new();
    let odd = PathBuf::from(std::ffi::OsString::from_vec(b"c/-\n\xff".to_vec()));
    let steps = vec![
        Step::Place { path: odd.clone(), scratch: "tmp/chatterboxd/1".into(), bytes: bytes("hi") },
        Step::Erase { path: "absent/x".into() },
        Step::Remove { path: "absent/x".into() },
        Step::Remove { path: "c".into() },
        Step::Erase { path: "c".into() },
    ];
    root.journal().commit(&mut one(steps)).unwrap();
    root.open_after_power_failure();
    assert_eq!(fs::read(root.0.path().join(odd)).unwrap(), b"hi");
}

#[test]
fn a_written_file_that_cannot_go_back_holds_up_neither_the_checkpoint_nor_the_next_start() {
    let root = Root::new();
    fs::create_dir_all(root.at("outbox/bob")).unwrap();
    fs::write(root.at("outbox/bob/x"), "hi").unwrap();
    let mut journal = root.journal();
    let step = take(&root, "outbox/bob/x");
    let writer = OpenOptions::new().append(true).open(root.at("outbox/bob/x")).unwrap();
    journal.commit(&mut one(vec![put("keys/session", "new"), step])).unwrap();
    fs::remove_dir_all(root.at("outbox/bob")).unwrap();
    fs::write(root.at("outbox/bob"), "a file in its place").unwrap();
    std::io::Write::write_all(&mut &writer, b" and more").unwrap();
    drop(writer);
    journal.checkpoint().unwrap();
    drop(journal);
    let (mut journal, _) = root.open();
    assert_eq!((root.read("keys/session").as_str(), journal.unsettled().count()), ("new", 1));
    fs::remove_file(root.at("outbox/bob")).unwrap();
    journal.settle().unwrap();
    assert_eq!((root.read("outbox/bob/x").as_str(), journal.unsettled().count()), ("hi and more", 0));
}
