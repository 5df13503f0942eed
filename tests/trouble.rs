//! Trouble with the disk, the clock and the kernel's limits, in the sender's and the recipient's daemon, while messages
//! go both ways: work pauses and says why, goes on by itself, and every message arrives exactly once.
//!
//! A refusal comes from `strace`, which answers chosen system calls with an error, or from real filesystems in a mount
//! namespace of their own. `CHATTERBOX_TROUBLE=all` tries every error on every call.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use chatterbox::clock::Timestamp;
use support::agreement;
use support::clock::Clock;
use support::disk::{self, Disk};
use support::machine::{self, refusal};
use support::strace::{self, Tracer, calls};
use support::{User, World, entries, is_left_out, wait_for};

const SENDER: usize = 0;
const RECIPIENT: usize = 1;

/// What a disk may say, and what Linux calls it.
const ERRORS: [(&str, &str); 4] = [
    ("ENOSPC", "No space left on device"),
    ("EDQUOT", "Disk quota exceeded"),
    ("EROFS", "Read-only file system"),
    ("EIO", "Input/output error"),
];

/// Two people with a standing session, and what they sent.
struct Pair {
    world: World,
    people: [User; 2],
    sent: [Vec<String>; 2],
    conversations: usize,
}

impl Pair {
    fn new() -> Self {
        let world = World::new();
        let people = world.friends(["alice", "bob"]);
        Self::of(world, people)
    }

    /// Daemons that run.
    fn of(world: World, people: [User; 2]) -> Self {
        let mut pair = Self { world, people, sent: [Vec::new(), Vec::new()], conversations: 0 };
        pair.everything_arrives();
        pair
    }

    fn scratch(&self) -> &Path {
        self.world.scratch.path()
    }

    fn content(&mut self, from: usize) -> (String, String) {
        let number = self.sent[from].len();
        let content = agreement::content(number, &self.people[from].name);
        self.sent[from].push(content.clone());
        (format!("{number}.txt"), content)
    }

    fn drop_one(&mut self, from: usize) {
        let (name, content) = self.content(from);
        let to = self.people[1 - from].name.clone();
        self.people[from].move_file(&to, &name, content);
    }

    /// Files that are written and wait for [`Pair::release`], when there may be no room to write any.
    fn drafts(&mut self, from: usize, count: usize) -> Vec<PathBuf> {
        let scratch = self.people[from].at("tmp/test");
        fs::create_dir_all(&scratch).unwrap();
        let mut write = || {
            let (name, content) = self.content(from);
            fs::write(scratch.join(&name), content).unwrap();
            scratch.join(name)
        };
        (0..count).map(|_| write()).collect()
    }

    fn release(&self, from: usize, drafts: &[PathBuf]) {
        let outbox = self.people[from].at("outbox").join(&self.people[1 - from].name);
        drafts.iter().for_each(|draft| fs::rename(draft, outbox.join(draft.file_name().unwrap())).unwrap());
    }

    /// Opens another conversation with the same person: directories are made at both ends.
    fn open_another(&mut self, from: usize) {
        let (name, content) = self.content(from);
        self.conversations += 1;
        let (user, to) = (&self.people[from], &self.people[1 - from].name);
        let draft = user.at("tmp/test/draft");
        fs::create_dir_all(&draft).unwrap();
        let subject = format!("plan {}", self.conversations);
        fs::write(draft.join("metadata.toml"), format!("subject = \"{subject}\"\nparticipants = [\"{to}\"]\n"))
            .unwrap();
        fs::write(draft.join(name), content).unwrap();
        fs::rename(&draft, user.at("outbox").join(subject)).unwrap();
    }

    /// Something in both directions, and a burst in one.
    fn traffic(&mut self) {
        self.drop_one(SENDER);
        self.drop_one(RECIPIENT);
        self.open_another(SENDER);
        for _ in 0..3 {
            self.drop_one(SENDER);
        }
    }

    /// Both ends agree, and go on.
    fn everything_arrives(&mut self) {
        // What is sent twice is on its way before this: in order, it would have come when these have.
        self.drop_one(SENDER);
        self.drop_one(RECIPIENT);
        agreement::everything_arrives(self.scratch(), &self.people, &self.sent);
    }

    /// Waits for something, as long as this daemon runs.
    fn wait_while_running(&mut self, victim: usize, what: &str, mut look: impl FnMut(&User) -> bool) {
        let user = &mut self.people[victim];
        let mut process = user.daemon.take().unwrap();
        wait_for(self.world.scratch.path(), what, || {
            assert!(process.is_running(), "it has ended:\n{}", user.log());
            look(user).then_some(())
        });
        user.daemon = Some(process);
    }

    /// What a daemon has logged since its log had so many bytes; it must not have ended over it.
    fn wait_for_log(&mut self, victim: usize, from: usize, says: &[&str]) {
        self.wait_while_running(victim, &format!("{says:?} in the log"), |user| {
            user.log()[from..].lines().any(|line| says.iter().all(|says| line.contains(says)))
        });
    }
}

/// Whether everything is asked for.
fn is_long() -> bool {
    std::env::var("CHATTERBOX_TROUBLE").is_ok_and(|text| text == "all")
}

/// Whom trouble befalls where both ends do the same: one of them, or both if everything is asked for.
fn victims(first: usize) -> Vec<usize> {
    if is_long() { vec![SENDER, RECIPIENT] } else { vec![first] }
}

/// Some errors for each call, so that all of them are tried somewhere; all of them if asked for.
fn errors(first: usize) -> Vec<(&'static str, &'static str)> {
    match is_long() {
        true => ERRORS.to_vec(),
        false => (0..2).map(|number| ERRORS[(first + 2 * number) % ERRORS.len()]).collect(),
    }
}

/// Whether a status can still be written while the calls are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Says,
    CannotSay,
}

/// The files of a journal that are a log, or about to become one.
fn logs(user: &User) -> Vec<PathBuf> {
    let is_log = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("log-");
    let mut logs: Vec<PathBuf> = entries(&user.at("journal")).into_iter().filter(is_log).collect();
    logs.push(user.at("journal/new"));
    logs
}

fn refused(victim: usize, refused: &str, first: usize, status: Status) {
    refused_on(victim, refused, first, status, |_| Vec::new());
}

/// The same for calls on some paths only, which are asked for each time.
fn refused_on(victim: usize, refused: &str, first: usize, status: Status, only: impl Fn(&User) -> Vec<PathBuf>) {
    if is_left_out(strace::missing()) {
        return;
    }
    let mut pair = Pair::new();
    for (error, text) in errors(first) {
        let from = pair.people[victim].log().len();
        let log = strace::log_in(pair.scratch(), "refused");
        let user = &pair.people[victim];
        let tracer = Tracer::refuse(user.daemon.as_ref().unwrap(), &log, refused, error, &only(user));
        pair.traffic();
        pair.wait_for_log(victim, from, &["work pauses", text]);
        if status == Status::Says {
            let paused = pair.people[victim].wait_for_status("paused: ");
            assert!(paused.contains(text), "{paused}");
        }
        tracer.detach();
        pair.everything_arrives();
    }
}

const SYNCS: &str = "fdatasync,fsync,syncfs";
const WRITES: &str = "pwrite64";
const RENAMES: &str = "rename,renameat,renameat2";
const UNLINKS: &str = "unlink,unlinkat";
const MKDIRS: &str = "mkdir,mkdirat";

#[test]
fn a_sender_whose_syncs_fail_pauses_and_loses_and_doubles_nothing() {
    refused(SENDER, SYNCS, 0, Status::Says);
}

#[test]
fn a_recipient_whose_syncs_fail_pauses_and_loses_and_doubles_nothing() {
    refused(RECIPIENT, SYNCS, 1, Status::Says);
}

#[test]
fn a_sender_whose_log_takes_no_writes_pauses_and_loses_and_doubles_nothing() {
    refused_on(SENDER, WRITES, 0, Status::Says, logs);
}

#[test]
fn a_recipient_whose_log_takes_no_writes_pauses_and_loses_and_doubles_nothing() {
    refused_on(RECIPIENT, WRITES, 1, Status::Says, logs);
}

/// Not even a message's scratch file, nor `status`.
#[test]
fn a_sender_who_can_write_no_file_pauses_and_loses_and_doubles_nothing() {
    refused(SENDER, WRITES, 1, Status::CannotSay);
}

#[test]
fn a_recipient_who_can_write_no_file_pauses_and_loses_and_doubles_nothing() {
    refused(RECIPIENT, WRITES, 0, Status::CannotSay);
}

#[test]
fn a_sender_whose_renames_fail_pauses_and_loses_and_doubles_nothing() {
    refused(SENDER, RENAMES, 1, Status::CannotSay);
}

#[test]
fn a_recipient_whose_renames_fail_pauses_and_loses_and_doubles_nothing() {
    refused(RECIPIENT, RENAMES, 0, Status::CannotSay);
}

#[test]
fn a_sender_whose_removals_fail_pauses_and_loses_and_doubles_nothing() {
    refused(SENDER, UNLINKS, 1, Status::Says);
}

#[test]
fn a_recipient_whose_removals_fail_pauses_and_loses_and_doubles_nothing() {
    refused(RECIPIENT, UNLINKS, 0, Status::Says);
}

#[test]
fn a_sender_who_can_make_no_directory_pauses_and_loses_and_doubles_nothing() {
    refused(SENDER, MKDIRS, 0, Status::Says);
}

#[test]
fn a_recipient_who_can_make_no_directory_pauses_and_loses_and_doubles_nothing() {
    refused(RECIPIENT, MKDIRS, 1, Status::Says);
}

/// A disk that gives nothing back: not even what the daemon reads.
fn dying_disk(victim: usize) {
    if is_left_out(strace::missing()) {
        return;
    }
    let mut pair = Pair::new();
    let from = pair.people[victim].log().len();
    let log = strace::log_in(pair.scratch(), "refused");
    let tracer = Tracer::refuse(pair.people[victim].daemon.as_ref().unwrap(), &log, "openat", "EIO", &[]);
    pair.traffic();
    pair.wait_for_log(victim, from, &["Input/output error"]);
    tracer.detach();
    pair.everything_arrives();
}

#[test]
fn a_sender_who_can_open_no_file_loses_and_doubles_nothing() {
    dying_disk(SENDER);
}

#[test]
fn a_recipient_who_can_open_no_file_loses_and_doubles_nothing() {
    dying_disk(RECIPIENT);
}

/// A message that cannot be read in the moment in which its request is accepted.
#[test]
fn a_message_of_a_request_that_cannot_be_read_just_now_is_not_left_behind() {
    if is_left_out(strace::missing()) {
        return;
    }
    let world = World::new();
    let [mut bob, mut carol] = [world.user("bob"), world.user("carol")];
    carol.add(&bob);
    bob.start();
    carol.start();
    carol.drop_file("bob", "x", "let me in");
    let message = wait_for(world.scratch.path(), "the request", || {
        let request = entries(&bob.at("requests")).pop()?;
        let delivery = entries(&request.join(".delivery")).pop()?;
        request.join("card").exists().then(|| request.join(delivery.file_name().unwrap()))
    });
    let log = strace::log_in(world.scratch.path(), "refused");
    let only = [message.clone()];
    let tracer = Tracer::refuse(bob.daemon.as_ref().unwrap(), &log, "openat", "EIO", &only);
    let from = bob.log().len();
    fs::rename(message.with_file_name("card"), bob.at("contacts/carol.card")).unwrap();
    bob.wait_for("the refusal", || bob.log()[from..].contains("Input/output error").then_some(()));
    bob.wait_for("the conversation", || (entries(&bob.at("conversations")).len() == 1).then_some(()));
    tracer.detach();
    bob.stop();
    bob.start();
    bob.wait_for_message("let me in");
    bob.wait_until_gone(message.parent().unwrap());
}

/// Zeros that cannot be written over what was in the log, nor into the log that would follow it.
#[test]
fn a_log_that_takes_no_zeros_pauses_work_until_it_does() {
    if is_left_out(strace::missing()) {
        return;
    }
    for victim in victims(SENDER) {
        // An acknowledgement would come before the log is emptied, and its record would be refused instead.
        let world = World::new();
        let mut people = ["alice", "bob"].map(|name| world.user(name));
        let [alice, bob] = &mut people;
        alice.add(bob);
        bob.add(alice);
        for user in &mut people {
            user.set("acknowledge = false");
            user.start();
        }
        let mut pair = Pair::of(world, people);
        for (error, text) in errors(0).into_iter().take(if is_long() { ERRORS.len() } else { 1 }) {
            let from = pair.people[victim].log().len();
            let tracer = loop {
                pair.everything_arrives();
                let log = strace::log_in(pair.scratch(), "refused");
                let user = &pair.people[victim];
                let tracer = Tracer::refuse(user.daemon.as_ref().unwrap(), &log, WRITES, error, &logs(user));
                // All is recorded, and what is written next empties the log, unless that was done just before.
                let mut refused = false;
                pair.wait_while_running(victim, "a log that is empty, or cannot be emptied", |user| {
                    let says = |line: &str| line.contains("could not be emptied") && line.contains(text);
                    refused = user.log()[from..].lines().any(says);
                    refused || logs(user).iter().all(|log| holds_no_records(log))
                });
                if refused {
                    break tracer;
                }
                tracer.detach();
            };
            // The next thing to record finds a log that is not to be used any more, and no other is to be had.
            pair.traffic();
            pair.wait_for_log(victim, from, &["work pauses", text]);
            pair.people[victim].wait_for("a status that says why", || {
                let status = fs::read_to_string(pair.people[victim].at("status")).ok()?;
                status.lines().any(|line| line.starts_with("paused: ") && line.contains(text)).then_some(())
            });
            tracer.detach();
            pair.everything_arrives();
        }
    }
}

/// Records stand behind 8 KiB of headers, and zeros behind them.
fn holds_no_records(log: &Path) -> bool {
    let mut first = [1; 64];
    match fs::File::open(log) {
        Ok(file) => file.read_exact_at(&mut first, 8_192).is_ok() && first == [0; 64],
        Err(_) => true,
    }
}

/// What the kernel could not write once it may call written the next time: only a new file makes sure.
#[test]
fn a_log_whose_sync_failed_is_never_synced_again() {
    if is_left_out(strace::missing()) {
        return;
    }
    for victim in [SENDER, RECIPIENT] {
        let mut pair = Pair::new();
        let log = strace::log_in(pair.scratch(), "synced");
        let user = &mut pair.people[victim];
        // The second, fifth and so on of a thread.
        let inject = format!("inject=fdatasync:error=EIO:when=2..{}+3", if is_long() { 11 } else { 5 });
        let options = ["-e", "trace=fdatasync,fsync,syncfs", "-e", &inject];
        let process = user.daemon.as_ref().unwrap();
        let tracer = Tracer::attach_with(process, &log, &options.map(str::to_owned));
        for _ in 0..if is_long() { 3 } else { 1 } {
            pair.traffic();
            pair.everything_arrives();
        }
        tracer.detach();
        let mut failed: Vec<String> = Vec::new();
        for call in calls(&log) {
            let Some(path) = call.rest.split(['<', '>']).nth(1).map(str::to_owned) else { continue };
            assert!(!failed.contains(&path), "{} of {path} after a failure", call.name);
            // Not a log that is being made: the next one has the same name then.
            if call.rest.contains("EIO") && path.contains("/journal/log-") {
                failed.push(path);
            }
        }
        assert!(!failed.is_empty(), "nothing failed");
        pair.everything_arrives();
    }
}

/// Nobody sends anything meanwhile: what served is overwritten all the same, and a start finds nothing to replay.
#[test]
fn a_journal_that_could_not_be_emptied_is_emptied_when_the_disk_is_well_again() {
    if is_left_out(strace::missing()) {
        return;
    }
    let mut pair = Pair::new();
    let from = pair.people[SENDER].log().len();
    let log = strace::log_in(pair.scratch(), "refused");
    let tracer = Tracer::refuse(pair.people[SENDER].daemon.as_ref().unwrap(), &log, "syncfs", "EIO", &[]);
    pair.drop_one(SENDER);
    pair.wait_for_log(SENDER, from, &["could not be emptied", "Input/output error"]);
    tracer.detach();
    pair.people[SENDER].wait_for("old secrets to be overwritten and gone", || {
        entries(&pair.people[SENDER].at("tmp/chatterboxd")).is_empty().then_some(())
    });
    pair.everything_arrives();
}

/// One of two people has a disk of 28 MiB.
fn small_disk(victim: usize, options: &str) -> Option<(Disk, Pair)> {
    if is_left_out(disk::missing()) {
        return None;
    }
    let world = World::new();
    let names = ["alice", "bob"];
    let disk = Disk::new(&world.scratch.path().join(names[victim]), options);
    let mut people = [0, 1].map(|number| match number == victim {
        true => world.user_on(names[number], &disk),
        false => world.user(names[number]),
    });
    people[0].add(&people[1]);
    people[1].add(&people[0]);
    people[victim].start_under(disk.daemon());
    people[1 - victim].start();
    Some((disk, Pair::of(world, people)))
}

/// Room for a message or two; then for nothing at all. Whether there is some for `status` is left to chance.
fn full_disk(victim: usize) {
    let Some((disk, mut pair)) = small_disk(victim, "size=28m") else { return };
    for room in [64 * 1024, 0] {
        let from = pair.people[victim].log().len();
        let drafts = pair.drafts(SENDER, 12);
        let ballast = disk.fill(room);
        pair.release(SENDER, &drafts);
        pair.wait_for_log(victim, from, &["work pauses", "No space left on device"]);
        fs::remove_file(ballast).unwrap();
        pair.everything_arrives();
    }
}

#[test]
fn a_sender_whose_disk_is_full_pauses_until_there_is_room() {
    full_disk(SENDER);
}

#[test]
fn a_recipient_whose_disk_is_full_pauses_until_there_is_room() {
    full_disk(RECIPIENT);
}

/// Room for bytes, but not for a file or directory more.
fn no_more_files(victim: usize) {
    let Some((_disk, mut pair)) = small_disk(victim, "size=40m,nr_inodes=600") else { return };
    let from = pair.people[victim].log().len();
    let drafts = pair.drafts(SENDER, 6);
    let many = pair.people[victim].at("tmp/many");
    fs::create_dir(&many).unwrap();
    (0..).take_while(|number| fs::File::create(many.join(number.to_string())).is_ok()).for_each(drop);
    pair.release(SENDER, &drafts);
    pair.wait_for_log(victim, from, &["work pauses", "No space left on device"]);
    fs::remove_dir_all(many).unwrap();
    pair.everything_arrives();
}

#[test]
fn a_sender_whose_disk_takes_no_more_files_pauses_until_it_does() {
    no_more_files(SENDER);
}

#[test]
fn a_recipient_whose_disk_takes_no_more_files_pauses_until_it_does() {
    no_more_files(RECIPIENT);
}

/// A daemon that is started when the disk takes nothing: it waits until it does.
fn start_in_trouble(victim: usize, says: &str, trouble: impl Fn(&Disk), end: impl Fn(&Disk)) {
    let Some((disk, mut pair)) = small_disk(victim, "size=28m") else { return };
    pair.people[victim].stop();
    let drafts = pair.drafts(victim, 2);
    pair.release(victim, &drafts);
    pair.drop_one(1 - victim);
    trouble(&disk);
    let from = pair.people[victim].log().len();
    pair.people[victim].start_under(disk.daemon());
    let says_so = |user: &User| user.log()[from..].contains(says);
    pair.wait_while_running(victim, "the reason in the log", says_so);
    end(&disk);
    let running = format!("\npid: {}\n", pair.people[victim].daemon.as_ref().unwrap().pid());
    pair.wait_while_running(victim, "a status of the new daemon", |user| {
        fs::read_to_string(user.at("status")).is_ok_and(|text| text.contains(&running))
    });
    pair.everything_arrives();
}

#[test]
fn a_daemon_started_on_a_full_disk_waits_until_there_is_room() {
    for victim in victims(SENDER) {
        start_in_trouble(
            victim,
            "No space left on device",
            |disk| drop(disk.fill(0)),
            |disk| fs::remove_file(disk.root().join("tmp/ballast")).unwrap(),
        );
    }
}

#[test]
fn a_daemon_started_on_a_read_only_disk_waits_until_it_can_write() {
    for victim in victims(RECIPIENT) {
        start_in_trouble(victim, "Read-only file system", |disk| disk.remount("ro"), |disk| disk.remount("rw"));
    }
}

#[test]
fn a_daemon_whose_first_syncs_fail_says_so_in_status_and_goes_on() {
    if is_left_out(strace::missing()) {
        return;
    }
    let mut pair = Pair::new();
    for (error, text) in errors(0).into_iter().take(if is_long() { ERRORS.len() } else { 1 }) {
        pair.people[SENDER].stop();
        pair.drop_one(RECIPIENT);
        pair.drop_one(SENDER);
        let log = strace::log_in(pair.scratch(), "start");
        let mut wrapper = Command::new("strace");
        wrapper.args(["-D", "-f", "-qq", "-o"]).arg(&log);
        wrapper.args(["-e", "trace=fsync", "-e", &format!("inject=fsync:error={error}:when=1..3")]);
        pair.people[SENDER].start_under(wrapper);
        pair.wait_while_running(SENDER, "a status that says why", |user| {
            let status = fs::read_to_string(user.at("status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("paused: ") && line.contains(text))
        });
        pair.everything_arrives();
    }
}

#[test]
fn a_root_that_is_moved_away_is_not_made_anew_and_work_goes_on_when_it_is_back() {
    for victim in [SENDER, RECIPIENT] {
        let mut pair = Pair::new();
        let from = pair.people[victim].log().len();
        pair.traffic();
        let (root, away) = (pair.people[victim].root.clone(), pair.people[victim].root.with_extension("away"));
        fs::rename(&root, &away).unwrap();
        pair.drop_one(1 - victim);
        pair.wait_while_running(victim, "a pause", |user| user.log()[from..].contains("work pauses"));
        assert!(!root.exists(), "{}", support::tree(&root));
        fs::rename(&away, &root).unwrap();
        pair.everything_arrives();
    }
}

#[test]
fn a_conversation_that_is_deleted_again_and_again_holds_nothing_up() {
    let mut pair = Pair::new();
    for _ in 0..10 {
        for victim in [SENDER, RECIPIENT] {
            pair.drop_one(victim);
            for directory in entries(&pair.people[victim].at("conversations")) {
                // Something may appear in it just now; then that much is left.
                let _ = fs::remove_dir_all(directory);
            }
        }
    }
    // What was deleted is gone; what comes behind it is there.
    for from in [SENDER, RECIPIENT] {
        let content = format!("the end, by {}", pair.people[from].name);
        pair.people[from].move_file(&pair.people[1 - from].name, "end", &content);
        pair.people[1 - from].wait_for_message(&content);
        pair.people[from].wait_for_message(&content);
        pair.people[from].wait_for_status("queue: 0");
        assert_eq!(
            pair.people[1 - from].messages().iter().filter(|(_, _, bytes)| bytes == content.as_bytes()).count(),
            1
        );
    }
    for user in &pair.people {
        // A directory that goes while something is put into it may cost a pause, and no more.
        user.wait_for("no pause", || (!fs::read_to_string(user.at("status")).ok()?.contains("paused: ")).then_some(()));
        assert!(entries(&user.at("alerts")).is_empty(), "{}", support::tree(&user.root));
    }
}

/// Which of two people opened it, and so its name, is left to chance.
fn only_conversation(user: &User) -> PathBuf {
    let found = entries(&user.at("conversations"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_file_in_the_place_of_a_conversation_stays_and_the_conversation_gets_another_directory() {
    let mut pair = Pair::new();
    for user in &pair.people {
        let directory = only_conversation(user);
        fs::rename(&directory, user.root.with_extension("conversation")).unwrap();
        fs::write(&directory, "mine").unwrap();
    }
    pair.sent = [Vec::new(), Vec::new()];
    pair.traffic();
    pair.everything_arrives();
    for user in &pair.people {
        let files: Vec<_> = entries(&user.at("conversations")).into_iter().filter(|path| path.is_file()).collect();
        assert_eq!(files.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>(), [b"mine"]);
        let directories = entries(&user.at("conversations")).into_iter().filter(|path| path.is_dir());
        assert_eq!(directories.filter(|path| path.to_str().unwrap().ends_with("-2")).count(), 1);
    }
}

/// The daemon of one of two people under another user's id, so that permissions are not passed over as root's are.
fn pair_with_an_ordinary_user(victim: usize) -> Pair {
    let world = World::new();
    let mut people = ["alice", "bob"].map(|name| world.user(name));
    people[0].add(&people[1]);
    people[1].add(&people[0]);
    people[1 - victim].start();
    people[victim].start_ordinarily();
    Pair { world, people, sent: [Vec::new(), Vec::new()], conversations: 0 }
}

/// Where a conversation goes on whose directory takes nothing.
fn made_anew(directory: &Path) -> PathBuf {
    directory.with_file_name(format!("{}-2", directory.file_name().unwrap().to_str().unwrap()))
}

#[test]
fn a_conversation_made_read_only_goes_on_in_another_directory_and_holds_up_nobody() {
    let mut pair = pair_with_an_ordinary_user(RECIPIENT);
    pair.drop_one(SENDER);
    let directory = pair.people[RECIPIENT].wait_for_message(&pair.sent[SENDER][0]).parent().unwrap().to_owned();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o500)).unwrap();
    pair.drop_one(SENDER);
    pair.open_another(SENDER);
    let places: Vec<_> = pair.sent[SENDER].iter().map(|text| pair.people[RECIPIENT].wait_for_message(text)).collect();
    assert_eq!([places[0].parent().unwrap(), places[1].parent().unwrap()], [&*directory, &*made_anew(&directory)]);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    pair.drop_one(SENDER);
    let bob = &pair.people[RECIPIENT];
    bob.wait_for_message(&pair.sent[SENDER][3]);
    let mut heard = bob.heard_from("alice");
    heard.sort();
    assert_eq!(heard, pair.sent[SENDER], "each once");
    assert!(!bob.log().contains("work pauses"), "{}", bob.log());
}

#[test]
fn a_file_in_the_place_of_what_tells_deliveries_stays_and_the_conversation_goes_on_in_another_directory() {
    let mut pair = Pair::new();
    for victim in [SENDER, RECIPIENT] {
        let directory = only_conversation(&pair.people[victim]);
        let delivery = directory.join(".delivery");
        let aside = pair.people[victim].root.with_extension("delivery");
        fs::rename(&delivery, &aside).unwrap();
        fs::write(&delivery, "mine").unwrap();
        pair.drop_one(SENDER);
        let last = pair.sent[SENDER].last().unwrap();
        let message = pair.people[victim].wait_for_message(last);
        assert_eq!(message.parent().unwrap(), made_anew(&directory));
        pair.everything_arrives();
        assert!(pair.people[victim].delivery(&message).contains("\nfile: "), "its deliveries are told there");
        assert_eq!(fs::read_to_string(&delivery).unwrap(), "mine");
        assert!(!pair.people[victim].log().contains("work pauses"), "{}", pair.people[victim].log());
        fs::remove_file(&delivery).unwrap();
        fs::rename(&aside, &delivery).unwrap();
        pair.everything_arrives();
    }
}

#[test]
fn outbox_directories_renamed_and_deleted_lose_nothing_that_was_taken() {
    let mut pair = Pair::new();
    for round in 0..6 {
        pair.drop_one(SENDER);
        let last = format!("outbox/bob/{}.txt", pair.sent[SENDER].len() - 1);
        let alice = &pair.people[SENDER];
        alice.wait_until_gone(last);
        match round % 2 {
            0 => fs::remove_dir_all(alice.at("outbox/bob")).unwrap(),
            _ => {
                // Renamed to what names nobody, it is the same conversation.
                let renamed = format!("renamed {round}");
                fs::rename(alice.at("outbox/bob"), alice.at("outbox").join(&renamed)).unwrap();
                let (name, content) = pair.content(SENDER);
                fs::write(pair.people[SENDER].at("outbox").join(renamed).join(name), content).unwrap();
            }
        }
    }
    pair.everything_arrives();
    assert_eq!(entries(&pair.people[RECIPIENT].at("conversations")).len(), 1);
}

const HOUR: i64 = 3_600;

/// Somebody whose daemon runs by a clock that is an hour ahead, somebody else, and who runs by it.
fn pair_with_a_clock(by_it: &[usize]) -> (Clock, Pair) {
    let world = World::new();
    let clock = Clock::ahead(world.scratch.path(), HOUR);
    let mut people = ["alice", "bob"].map(|name| world.user(name));
    people[0].add(&people[1]);
    people[1].add(&people[0]);
    for (number, user) in people.iter_mut().enumerate() {
        match by_it.contains(&number) {
            true => user.start_under(clock.wrapper()),
            false => user.start(),
        }
    }
    (clock, Pair::of(world, people))
}

/// Both directions, one by one and in bursts; and whether names tell the order, at both ends.
fn keeps_order(pair: &mut Pair) {
    for _ in 0..3 {
        for from in [SENDER, RECIPIENT] {
            pair.drop_one(from);
            let last = pair.sent[from].last().unwrap().clone();
            pair.people.iter().for_each(|user| drop(user.wait_for_message(&last)));
        }
    }
    for _ in 0..5 {
        pair.drop_one(SENDER);
        pair.drop_one(RECIPIENT);
    }
    pair.everything_arrives();
    for (from, user) in pair.people.iter().enumerate() {
        for at in &pair.people {
            assert_eq!(at.heard_from(&user.name), pair.sent[from], "{} at {}", user.name, at.name);
        }
    }
}

/// The names of messages by our author say that the clock was set at all.
fn assert_ahead(user: &User) {
    let half_an_hour_on = Timestamp::from_micros(Timestamp::now().micros() + 1_800_000_000).to_string();
    let own =
        user.messages().into_iter().map(|(_, name, _)| name).find(|name| name.contains(&format!("Z-{}", user.name)));
    assert!(own.as_ref().is_some_and(|name| *name > half_an_hour_on), "is libfaketime installed? {own:?}");
}

#[test]
fn a_senders_clock_that_jumps_back_keeps_the_order_and_stops_nothing() {
    let (clock, mut pair) = pair_with_a_clock(&[SENDER]);
    keeps_order(&mut pair);
    assert_ahead(&pair.people[SENDER]);
    clock.set(0);
    keeps_order(&mut pair);
    // What the last message's time was is not forgotten.
    pair.people[SENDER].kill();
    pair.people[SENDER].start();
    keeps_order(&mut pair);
}

#[test]
fn a_recipients_clock_that_comes_back_to_the_right_time_keeps_the_order_and_stops_nothing() {
    let (clock, mut pair) = pair_with_a_clock(&[RECIPIENT]);
    keeps_order(&mut pair);
    assert_ahead(&pair.people[RECIPIENT]);
    clock.set(0);
    keeps_order(&mut pair);
}

#[test]
fn a_clock_of_both_that_jumps_back_keeps_the_order_and_stops_nothing() {
    let (clock, mut pair) = pair_with_a_clock(&[SENDER, RECIPIENT]);
    keeps_order(&mut pair);
    assert_ahead(&pair.people[SENDER]);
    clock.set(0);
    pair.drop_one(SENDER);
    pair.everything_arrives();
}

#[test]
fn a_servers_clock_that_jumps_back_keeps_the_order_of_a_mailbox() {
    let mut pair = Pair::new();
    let clock = Clock::ahead(pair.scratch(), HOUR);
    pair.world.server.kill();
    pair.world.server.start_under(clock.wrapper());
    pair.drop_one(SENDER);
    pair.everything_arrives();
    pair.people[RECIPIENT].stop();
    for ahead in [HOUR, 0, -HOUR] {
        clock.set(ahead);
        for _ in 0..5 {
            pair.drop_one(SENDER);
        }
        pair.people[SENDER].wait_for("everything at the server", || {
            let text = fs::read_to_string(pair.people[SENDER].at("status")).ok()?;
            let heard = pair.people[SENDER].heard_from("alice");
            (text.contains("\nqueue: 0\n") && heard.len() == pair.sent[SENDER].len()).then_some(())
        });
    }
    pair.people[RECIPIENT].start();
    keeps_order(&mut pair);
}

/// Names at the recipient's, too, tell the order in which they were sent.
#[test]
fn a_recipients_clock_that_jumps_back_keeps_the_order() {
    let (clock, mut pair) = pair_with_a_clock(&[RECIPIENT]);
    clock.set(0);
    keeps_order(&mut pair);
    clock.set(-HOUR);
    keeps_order(&mut pair);
}

/// Bob's server knows no Bob yet, so that his prekey is asked for again and again.
#[test]
fn what_waits_for_a_prekey_goes_though_the_clock_has_jumped_back() {
    let world = World::new();
    let clock = Clock::ahead(world.scratch.path(), HOUR);
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    alice.add(&bob);
    bob.add(&alice);
    alice.start_under(clock.wrapper());
    alice.drop_file("bob", "x", "early");
    alice.wait_for_status("trouble: bob: ");
    assert_ahead(&alice);
    clock.set(0);
    bob.start();
    bob.wait_for_message("early");
}

/// Nobody sends anything after the jump.
#[test]
fn what_has_served_is_erased_though_the_clock_has_jumped_back() {
    let (clock, mut pair) = pair_with_a_clock(&[SENDER]);
    pair.drop_one(SENDER);
    pair.everything_arrives();
    assert_ahead(&pair.people[SENDER]);
    clock.set(0);
    pair.people[SENDER].wait_for("old secrets to be overwritten and gone", || {
        entries(&pair.people[SENDER].at("tmp/chatterboxd")).is_empty().then_some(())
    });
}

/// Runs what comes behind it with so few watches. A user namespace has a limit of its own, below the system's.
fn with_few_watches() -> Command {
    let mut command = Command::new("unshare");
    command.args(["-r", "sh", "-c", r#"echo 6 >/proc/sys/user/max_inotify_watches && exec "$@""#, "sh"]);
    command
}

/// Directories that nobody watches are looked at each second.
#[test]
fn files_in_more_directories_than_the_kernel_watches_are_sent_and_status_says_so() {
    const DIRECTORIES: usize = 8;
    let refused = refusal(with_few_watches().arg("true"));
    if is_left_out(refused.map(|reason| format!("nobody can be given fewer watches here: {reason}"))) {
        return;
    }
    let world = World::new();
    let (mut alice, mut bob) = (world.user("alice"), world.user("bob"));
    alice.add(&bob);
    bob.add(&alice);
    bob.start();
    alice.start_under(with_few_watches());
    alice.drop_file("bob", "x", "there");
    bob.wait_for_message("there");
    let mut pair = Pair { world, people: [alice, bob], sent: [Vec::new(), Vec::new()], conversations: 0 };
    for _ in 0..DIRECTORIES {
        pair.open_another(SENDER);
    }
    pair.sent[SENDER].iter().for_each(|content| drop(pair.people[RECIPIENT].wait_for_message(content)));
    let alice = &pair.people[SENDER];
    let says = alice.wait_for_status("paused: ");
    assert!(says.contains("no inotify watches are left") && says.contains("max_user_watches"), "{says}");
    assert_eq!(alice.daemon.as_ref().unwrap().inotify_watches(), 6);
    for number in 1..=DIRECTORIES {
        fs::write(alice.at(format!("outbox/plan {number}/more")), format!("more of {number}")).unwrap();
    }
    for number in 1..=DIRECTORIES {
        pair.people[RECIPIENT].wait_for_message(&format!("more of {number}"));
    }
    let all = 1 + 2 * DIRECTORIES;
    assert_eq!([&pair.people[0], &pair.people[1]].map(|user| user.messages().len()), [all, all]);
}

/// Another user's file takes no lease, so that only its time tells whether somebody is still writing it.
#[test]
fn another_users_file_from_the_future_is_sent_when_it_has_been_quiet() {
    let mut pair = pair_with_an_ordinary_user(SENDER);
    pair.drop_one(RECIPIENT);
    pair.people[SENDER].wait_for_message(&pair.sent[RECIPIENT][0]);
    let alice = &pair.people[SENDER];
    let outbox = alice.at("outbox/bob");
    fs::create_dir(&outbox).unwrap();
    machine::give_to(machine::SOMEBODY, [outbox.as_path()]);
    fs::write(alice.at("tmp/x"), "from the future").unwrap();
    let file = fs::File::options().write(true).open(alice.at("tmp/x")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(3_600)).unwrap();
    drop(file);
    fs::set_permissions(alice.at("tmp/x"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(alice.at("tmp/x"), outbox.join("x")).unwrap();
    pair.people[RECIPIENT].wait_for_message("from the future");
}
