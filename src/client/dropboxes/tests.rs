use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use rand_core::OsRng;
use tempfile::TempDir;

use super::super::account::Account;
use super::super::event::Event;
use super::super::policy::Policy;
use super::super::root::Root;
use super::*;
use crate::crypto::dh::SecretKey;
use crate::disk::journal::Journal;
use crate::disk::watch::Hint;
use crate::disk::watched::WatchedDisk;
use crate::limits::{
    DROPBOX_COPY_BYTES_PER_S, DROPBOX_ERRORS_MAX, DROPBOX_LARGE_BYTES_MAX, DROPBOX_LARGE_MAX, DROPBOX_ROOM_TIMES,
};
use crate::net::dialer::Way;
use crate::wire::address::ServerAddress;

/// When everything was written, seconds since 1970: far before any test, so that only `now` counts.
const WRITTEN_S: u64 = 1_000_000_000;

/// Alice with her contact Bob, and a dropbox for our own user.
struct Alice {
    disk: Arc<WatchedDisk>,
    root: Root,
    dropbox: PathBuf,
    journal: Journal,
    engine: Engine,
    _scratch: TempDir,
}

impl Alice {
    fn new(rate: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let disk = Arc::new(WatchedDisk::default());
        let account = |name: &str| {
            let root = Root::on(disk.clone(), scratch.path().join(name));
            fs::create_dir(root.path()).unwrap();
            let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
            (root.clone(), Account::create(&root, name, server, "", &mut OsRng).unwrap())
        };
        let (root, _) = account("alice");
        fs::write(root.contacts().join("bob.card"), format!("{}\n", account("bob").1.profile)).unwrap();
        let dropbox = scratch.path().canonicalize().unwrap().join("box");
        fs::create_dir(&dropbox).unwrap();
        fs::set_permissions(&dropbox, Permissions::from_mode(place::MODE)).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let settings = format!("to = [\"bob\"]\nuid = {uid}\nrate = \"{rate}\"\ndirectory = {dropbox:?}\n");
        fs::write(root.join("dropboxes/alerts.toml"), settings).unwrap();
        let (journal, engine) = Self::open(&root);
        Self { disk, root, dropbox, journal, engine, _scratch: scratch }
    }

    fn open(root: &Root) -> (Journal, Engine) {
        let (journal, _) = Journal::open(root.shared_disk(), root.path()).unwrap();
        let mut engine = Engine::load(root.clone(), Policy::by_default(&Way::Direct)).unwrap();
        engine.handle(Event::Hint(Hint::Rescan), Timestamp::from_micros(0)).unwrap();
        (journal, engine)
    }

    /// The process dies, and another begins.
    fn dies(&mut self) {
        // Two journals of one root never run at a time.
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir_all(elsewhere.path().join("journal")).unwrap();
        fs::create_dir_all(elsewhere.path().join("tmp/chatterboxd")).unwrap();
        self.journal = Journal::open(self.root.shared_disk(), elsewhere.path()).unwrap().0;
        (self.journal, self.engine) = Self::open(&self.root);
    }

    fn drop_file(&self, name: &str, content: &str) {
        fs::write(self.dropbox.join(name), content).unwrap();
        self.set_written(name, WRITTEN_S);
    }

    /// All hole: it takes no room where it lies.
    fn drop_hole(&self, name: &str, size: u64) {
        fs::File::create(self.dropbox.join(name)).unwrap().set_len(size).unwrap();
        self.set_written(name, WRITTEN_S);
    }

    fn set_room(&self, bytes: u64) {
        self.disk.free.store(bytes, Ordering::Relaxed);
    }

    /// Seconds, with all that they bring committed.
    fn pass(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            self.tick(WRITTEN_S + second);
            self.commit();
            while self.engine.sweeping.go_on(&self.root) {}
        }
    }

    fn status(&self) -> Vec<String> {
        self.engine.dropboxes.status().map(|(_, state)| state).collect()
    }

    /// Copies that are being made.
    fn copies(&self) -> usize {
        let names = self.root.names("tmp/chatterboxd");
        names.iter().filter(|name| name.as_bytes().starts_with(b"new-dropped-")).count()
    }

    fn set_written(&self, name: &str, written_s: u64) {
        let file = fs::File::options().write(true).open(self.dropbox.join(name)).unwrap();
        file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(written_s))).unwrap();
    }

    /// One second, as the engine sees it at this time.
    fn tick(&mut self, now_s: u64) {
        self.engine.handle(Event::Tick, Timestamp::from_micros(now_s * 1_000_000)).unwrap();
    }

    fn record(&mut self) {
        let transaction = self.engine.transaction();
        self.journal.record(&mut transaction.into_iter().collect()).unwrap();
    }

    fn commit(&mut self) {
        self.record();
        self.journal.apply().unwrap();
        self.engine.applied();
    }

    /// The files that await their turn in the outbox: name and content, by name.
    fn outbox(&self) -> Vec<(String, String)> {
        listed(&self.root.join("outbox/bob"))
    }

    fn dropped(&self) -> Vec<String> {
        listed(&self.dropbox).into_iter().map(|(name, _)| name).collect()
    }
}

fn listed(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap_or_default()))
        .collect();
    found.sort();
    found
}

fn named(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), format!("content of {name}"))).collect()
}

#[test]
fn a_file_waits_while_it_was_written_a_moment_ago_and_leaves_whole_when_it_was_not() {
    let mut alice = Alice::new("10/min");
    alice.drop_file("x", "half");
    alice.tick(WRITTEN_S + 1);
    alice.commit();
    assert_eq!((alice.outbox(), alice.dropped()), (vec![], vec!["x".to_owned()]));
    fs::write(alice.dropbox.join("x"), "content of x").unwrap();
    alice.set_written("x", WRITTEN_S + 2);
    alice.tick(WRITTEN_S + 3);
    alice.commit();
    assert!(alice.outbox().is_empty(), "it has changed");
    alice.tick(WRITTEN_S + 4);
    assert_eq!(alice.dropped(), ["x"], "nothing goes before it is recorded");
    alice.commit();
    assert_eq!((alice.outbox(), alice.dropped()), (named(&["x"]), vec![]));
}

#[test]
fn wherever_the_process_dies_a_file_is_in_the_outbox_once_and_not_in_the_dropbox() {
    for died in ["before the record", "behind the record", "behind its application", "not at all"] {
        let mut alice = Alice::new("10/min");
        alice.drop_file("x", "content of x");
        alice.tick(WRITTEN_S + 5);
        match died {
            "before the record" => {}
            "behind the record" => alice.record(),
            "behind its application" => {
                alice.record();
                alice.journal.apply().unwrap();
            }
            _ => alice.commit(),
        }
        alice.dies();
        for second in 6..9 {
            alice.tick(WRITTEN_S + second);
            alice.commit();
        }
        assert_eq!((alice.outbox(), alice.dropped()), (named(&["x"]), vec![]), "died {died}");
        alice.journal.checkpoint().unwrap();
        assert!(!alice.root.is_taken(&root::dropped_file()), "died {died}: nothing is noted for ever");
        let left: Vec<_> =
            listed(&alice.root.tmp("chatterboxd")).into_iter().filter(|(name, _)| name.starts_with("new-")).collect();
        assert_eq!(left, [], "died {died}");
    }
}

#[test]
fn what_is_written_between_reading_and_removing_is_a_message_of_its_own() {
    let mut alice = Alice::new("10/min");
    alice.drop_file("x", "content of x");
    alice.tick(WRITTEN_S + 5);
    alice.record();
    // The same file, longer, in the moment before it goes.
    fs::write(alice.dropbox.join("x"), "content of x and more").unwrap();
    alice.set_written("x", WRITTEN_S);
    alice.journal.apply().unwrap();
    alice.engine.applied();
    alice.tick(WRITTEN_S + 6);
    alice.commit();
    let contents: Vec<String> = alice.outbox().into_iter().map(|(_, content)| content).collect();
    assert_eq!(contents, ["content of x", "content of x and more"]);
    assert!(alice.dropped().is_empty());
}

#[test]
fn no_more_leave_than_the_rate_says_and_the_oldest_go_first() {
    let mut alice = Alice::new("2/min");
    for (name, written_s) in [("c", 3), ("a10", 2), ("a9", 2), ("b", 1)] {
        alice.drop_file(name, &format!("content of {name}"));
        alice.set_written(name, WRITTEN_S - 10 + written_s);
    }
    let left = |alice: &mut Alice, seconds: std::ops::Range<u64>| {
        for second in seconds {
            alice.tick(WRITTEN_S + second);
            alice.commit();
        }
        alice.outbox()
    };
    assert_eq!(left(&mut alice, 10..39), named(&["a9", "b"]));
    let status: Vec<_> = alice.engine.dropboxes.status().collect();
    assert_eq!(status, [("alerts".to_owned(), "2 wait for the rate".to_owned())]);
    assert_eq!(left(&mut alice, 39..42), named(&["a10", "a9", "b"]));
    assert_eq!(left(&mut alice, 42..75), named(&["a10", "a9", "b", "c"]));
    assert!(alice.engine.dropboxes.status().next().is_none());
}

#[test]
fn what_the_disk_has_no_room_for_is_not_copied_and_stays_with_its_sender() {
    let mut alice = Alice::new("10/min");
    let (portion, size) = (DROPBOX_COPY_BYTES_PER_S, 2 * DROPBOX_COPY_BYTES_PER_S + 1);
    alice.drop_hole("a", size);
    alice.drop_file("b", "content of b");
    alice.set_room(DROPBOX_ROOM_TIMES * size - 1);
    alice.pass(10..12);
    assert_eq!((alice.outbox(), alice.dropped(), alice.copies()), (named(&["b"]), vec!["a".to_owned()], 0));
    assert_eq!(alice.status(), ["1 wait for room on the disk"]);
    // It has room when it begins, and not for the rest: what was copied is not kept.
    alice.set_room(DROPBOX_ROOM_TIMES * size);
    alice.pass(12..13);
    assert_eq!((alice.copies(), alice.status()), (1, vec!["1 wait".to_owned()]));
    alice.set_room(DROPBOX_ROOM_TIMES * (size - portion) - 1);
    alice.tick(WRITTEN_S + 13);
    assert_eq!((alice.copies(), alice.engine.sweeping.is_done()), (1, false), "it is not erased in one go");
    alice.pass(14..15);
    assert_eq!((alice.outbox(), alice.dropped(), alice.copies()), (named(&["b"]), vec!["a".to_owned()], 0));
    assert_eq!(alice.status(), ["1 wait for room on the disk"]);
    alice.set_room(u64::MAX);
    alice.pass(15..19);
    assert_eq!((alice.outbox()[0].1.len() as u64, alice.dropped().len(), alice.status().len()), (size, 0, 0));
}

#[test]
fn large_files_that_cannot_be_sent_pile_up_in_the_dropbox_and_not_in_the_outbox() {
    let mut alice = Alice::new("1000/min");
    let size = DROPBOX_LARGE_BYTES_MAX + 1;
    // The name is taken there, so that what comes gets another.
    fs::create_dir(alice.root.join("outbox/bob")).unwrap();
    fs::write(alice.root.join("outbox/bob/n"), "content of n").unwrap();
    alice.drop_hole("n", size);
    alice.pass(10..14);
    assert_eq!(alice.outbox()[1].1.len() as u64, size);
    alice.drop_hole("n", size);
    alice.drop_file("small", "content of small");
    alice.pass(14..17);
    assert_eq!((alice.outbox().len(), alice.dropped(), alice.copies()), (3, vec!["n".to_owned()], 0));
    assert_eq!(alice.status(), ["1 wait behind large files in the outbox"]);
    // It is sent.
    let sent = alice.outbox()[1].0.clone();
    fs::remove_file(alice.root.join("outbox/bob").join(sent)).unwrap();
    alice.pass(17..21);
    assert_eq!((alice.outbox().len(), alice.dropped().len()), (3, 0));
    // Many that are hardly large are no fewer for that.
    fs::remove_dir_all(alice.root.join("outbox/bob")).unwrap();
    (0..DROPBOX_LARGE_MAX + 2).for_each(|number| alice.drop_hole(&format!("f{number}"), 20_000));
    alice.pass(21..25);
    assert_eq!((alice.outbox().len(), alice.dropped().len()), (DROPBOX_LARGE_MAX, 2));
    assert_eq!(alice.status(), ["2 wait behind large files in the outbox"]);
}

#[test]
fn an_empty_file_waits_for_content_and_is_then_refused_and_nothing_else() {
    let mut alice = Alice::new("10/min");
    alice.drop_file("x", "");
    alice.pass(1..60);
    assert_eq!((alice.dropped(), alice.status()), (vec!["x".to_owned()], vec!["1 wait while empty".to_owned()]));
    alice.pass(60..63);
    assert_eq!(alice.dropped(), ["x", "x.error"]);
    assert_eq!(alice.status(), ["1 refused"]);
    // Written anew and empty again, it has its minute again, and nothing is said against it meanwhile.
    alice.drop_file("x", "");
    alice.set_written("x", WRITTEN_S + 63);
    alice.drop_file("y", "content of y");
    alice.pass(64..67);
    assert_eq!((alice.dropped(), alice.status()), (vec!["x".to_owned()], vec!["1 wait while empty".to_owned()]));
    alice.pass(67..125);
    assert_eq!(alice.status(), ["1 refused"]);
    alice.drop_file("x", "content of x");
    alice.drop_file("z", "content of z");
    alice.pass(125..130);
    assert_eq!((alice.outbox(), alice.dropped(), alice.status().len()), (named(&["x", "y", "z"]), vec![], 0));
}

#[test]
fn what_is_refused_is_counted_once_whatever_it_was_before_and_whatever_it_becomes() {
    let mut alice = Alice::new("1/day");
    let names = ["directory", "hard", "large", "soft"];
    names.iter().for_each(|name| alice.drop_file(name, "x"));
    alice.pass(1..2);
    assert_eq!(alice.status(), ["4 wait"], "they were written a moment ago");
    let at = |name: &str| alice.dropbox.join(name);
    ["directory", "soft"].iter().for_each(|name| fs::remove_file(at(name)).unwrap());
    fs::create_dir(at("directory")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("soft")).unwrap();
    fs::hard_link(at("hard"), alice.root.join("other")).unwrap();
    alice.drop_hole("large", alice.engine.policy.send_limit + 1);
    alice.pass(2..5);
    assert_eq!(alice.status(), ["4 refused"]);
    // Nothing is looked at without the rate, and they do not wait for it.
    ["one", "two"].iter().for_each(|name| alice.drop_file(name, &format!("content of {name}")));
    alice.pass(5..9);
    assert_eq!((alice.outbox(), alice.status()), (named(&["one"]), vec!["1 wait for the rate; 4 refused".to_owned()]));
}

#[test]
fn all_that_are_refused_are_counted_also_those_without_a_word_and_one_that_is_mended_is_so_no_more() {
    let mut alice = Alice::new("1000/min");
    let count = DROPBOX_ERRORS_MAX + 6;
    (0..count).for_each(|number| fs::create_dir(alice.dropbox.join(format!("d{number}"))).unwrap());
    alice.pass(1..10);
    assert_eq!(alice.status(), [format!("{count} refused")]);
    assert_eq!(alice.dropped().len(), count + DROPBOX_ERRORS_MAX);
    (0..count).for_each(|number| fs::remove_dir(alice.dropbox.join(format!("d{number}"))).unwrap());
    alice.drop_hole("large", alice.engine.policy.send_limit + 1);
    alice.pass(10..20);
    assert_eq!(
        (alice.dropped(), alice.status()),
        (vec!["large".into(), "large.error".into()], vec!["1 refused".into()])
    );
    alice.drop_hole("large", DROPBOX_COPY_BYTES_PER_S);
    alice.drop_hole("hint", DROPBOX_COPY_BYTES_PER_S);
    alice.set_room(1);
    alice.pass(20..24);
    assert_eq!(alice.dropped(), ["hint", "large"]);
    assert_eq!(alice.status(), ["2 wait for room on the disk"]);
}

#[test]
fn ones_own_files_that_are_named_like_error_files_stay_as_they_are_unsent() {
    let mut alice = Alice::new("100/min");
    let own = [".error-log", &format!(".error-{}", "A".repeat(32)), "lone.error", "refused.error"];
    own.iter().for_each(|name| alice.drop_file(name, "a log of mine"));
    fs::create_dir(alice.dropbox.join("refused")).unwrap();
    // What a crash left half written, and what is the daemon's and has lost its file.
    alice.drop_file(&format!(".error-{}", "0a".repeat(16)), "This is a");
    alice.drop_file("gone.error", &format!("Wrong.\nMend it.\n{}", error_file::SIGNATURE));
    fs::create_dir(alice.dropbox.join("changed")).unwrap();
    alice.pass(10..12);
    let text = |name: &str| fs::read_to_string(alice.dropbox.join(name)).unwrap();
    assert!(text("changed.error").ends_with(error_file::SIGNATURE), "{}", text("changed.error"));
    assert!(own.iter().all(|name| text(name) == "a log of mine"));
    // Written to by a person, it is the daemon's no more.
    alice.drop_file("changed.error", "notes of mine");
    fs::remove_dir(alice.dropbox.join("changed")).unwrap();
    alice.pass(12..14);
    let mut left: Vec<&str> = [&own[..], &["changed.error", "refused"]].concat();
    left.sort_unstable();
    assert_eq!((alice.dropped(), alice.outbox()), (left.into_iter().map(str::to_owned).collect(), vec![]));
    assert_eq!(fs::read_to_string(alice.dropbox.join("changed.error")).unwrap(), "notes of mine");
}
