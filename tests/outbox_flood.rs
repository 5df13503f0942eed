//! More files at once than the kernel's queue of events holds: what was not told of is found, and sent exactly once.
//!
//! `CHATTERBOX_FLOOD` says how many files; the long form takes 100,000.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use support::outbox::Pair;
use support::{Signal, User, wait_for};

/// Files of each test if nothing else is asked for.
const FILES: usize = 600;

/// Events that the kernel keeps for one watcher: read when the watcher is made.
const LIMIT: &str = "/proc/sys/fs/inotify/max_queued_events";

fn files() -> usize {
    std::env::var("CHATTERBOX_FLOOD").map_or(FILES, |text| text.parse().unwrap())
}

/// The machine's limit, lowered as long as this lives. It is everybody's: nobody else may start a daemon meanwhile.
struct Lowered {
    before: String,
    _turn: MutexGuard<'static, ()>,
}

impl Lowered {
    /// Where we may not lower it (it takes root), the tests do with the machine's own, which fewer files overflow.
    fn to(limit: usize) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = fs::read_to_string(LIMIT).unwrap();
        let _ = fs::write(LIMIT, limit.to_string());
        Self { before, _turn: turn }
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        let _ = fs::write(LIMIT, &self.before);
    }
}

/// Two people; the daemon of the one who sends has a short queue, of the length given.
fn pair_with_short_queue() -> (Pair, usize) {
    let mut pair = Pair::not_started();
    let lowered = Lowered::to(16);
    let limit = fs::read_to_string(LIMIT).unwrap().trim().parse().unwrap();
    pair.alice.start();
    // It watches before it says that it runs.
    pair.alice.wait_for_status("daemon: running");
    drop(lowered);
    pair.alice.wait_for_status("connection: connected");
    (pair, limit)
}

#[test]
fn files_that_no_event_tells_of_are_found_before_what_comes_after_them() {
    let (mut pair, limit) = pair_with_short_queue();
    let outbox = pair.outbox("bob");
    // It is watched once a file in it was taken and another one is.
    for text in ["watched", "watched too"] {
        pair.alice.drop_file("bob", "x", text);
        pair.bob.wait_for_message(text);
        pair.expect(text);
    }
    let daemon = pair.alice.daemon.as_ref().unwrap();
    let pid = daemon.pid();
    daemon.signal(Signal::STOP);
    wait_for(&pair.alice.root, "the daemon to stand still", || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        state.rsplit_once(") ").unwrap().1.starts_with('T').then_some(())
    });
    // The queue overflows by what is nobody's business.
    for _ in 0..=limit {
        let noise = outbox.join(".noise");
        fs::write(&noise, "").unwrap();
        fs::remove_file(&noise).unwrap();
    }
    // A quarter will do: that they are not told of is certain.
    for number in 0..files() / 4 {
        let text = format!("untold {number}");
        fs::write(outbox.join(format!("{number}")), &text).unwrap();
        pair.expect(text);
    }
    pair.alice.daemon.as_ref().unwrap().signal(Signal::CONT);
    // The kernel tells of this one, or a look at everything finds it as the last by time and name. So what is found
    // only by a look must be found because events were lost, and not when it is next time for a look anyway.
    fs::write(outbox.join("z"), "told").unwrap();
    pair.expect("told");
    pair.wait_for_all();
    assert_eq!(pair.bob.heard_from("alice").last().map(String::as_str), Some("told"));
    pair.everything_arrives_once();
}

#[test]
fn files_dropped_faster_than_they_are_told_of_arrive_once_each() {
    let (mut pair, _) = pair_with_short_queue();
    let plans = pair.outbox("plans");
    fs::write(plans.join("metadata.toml"), "participants = [\"bob\"]\n").unwrap();
    let directories = [pair.outbox("bob"), plans];
    let all = files();
    let text = |number: usize| format!("flood {number}");
    let drop_share = |writer: usize, directory: &Path, draft: &Path| {
        for number in (writer..all).step_by(4) {
            // As a redirect, and as a move.
            let path: PathBuf = directory.join(number.to_string());
            if number % 8 < 4 {
                fs::write(&path, text(number)).unwrap();
            } else {
                fs::write(draft, text(number)).unwrap();
                fs::rename(draft, &path).unwrap();
            }
        }
    };
    let elsewhere = pair.elsewhere();
    thread::scope(|scope| {
        for writer in 0..4 {
            let (directory, draft) = (&directories[writer % 2], elsewhere.join(writer.to_string()));
            scope.spawn(move || drop_share(writer, directory, &draft));
        }
    });
    (0..all).for_each(|number| pair.expect(text(number)));
    pair.everything_arrives_once();
    // For people too: what a test that succeeds prints is not shown otherwise.
    let memory = |user: &User| user.daemon.as_ref().unwrap().peak_memory();
    let (sender, recipient) = (memory(&pair.alice), memory(&pair.bob));
    let _ = writeln!(
        std::io::stderr(),
        "flood of {all} files: the sender's daemon held {sender} at most, the recipient's {recipient}"
    );
    let status = fs::read_to_string(pair.alice.at("status")).unwrap();
    assert!(!status.contains("waiting:") && !status.contains("paused:"), "{status}");
}
