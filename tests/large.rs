//! Content of any size between the real programs: once, whole, through whatever ends in the middle, and in nobody's way.
//!
//! `CHATTERBOX_LARGE_BYTES` says how large: 3 MiB where it is not set (`scripts/large` takes 64 MiB).

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chatterbox::crypto::hash::sha256;
use support::{Process, User, World, disk, entries, is_left_out, wait_patiently};

/// Nothing that works takes as long, with 64 MiB and programs that are not optimized either.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// By how much a large file may raise the peak of a daemon's memory.
const RISE_MAX_KIB: u64 = 16 * 1024;

/// From the next start on an envelope leaves each second, more or less: so a large file is on its way for long, however fast the
/// machine is, and however late anybody looks.
const SLOWLY: &str = "schedule = \"poisson\"\nschedule_mean = \"1s\"";

fn size() -> usize {
    let size = std::env::var("CHATTERBOX_LARGE_BYTES").map_or(3 << 20, |text| text.parse().unwrap());
    assert!(size >= 1 << 20, "CHATTERBOX_LARGE_BYTES={size}: it takes 1 MiB for as many parts as are needed");
    size
}

/// Bytes of which no two stretches are alike.
fn content(size: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(byte).take(size).collect()
}

/// Messages of this size that stand in somebody's conversations.
fn of_size(user: &User, size: usize) -> Vec<PathBuf> {
    let conversations = entries(&user.at("conversations"));
    let files = conversations.iter().flat_map(|directory| entries(directory));
    let is_it = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size as u64);
    files.filter(is_it).collect()
}

fn by(user: &User, size: usize, author: &str) -> Vec<PathBuf> {
    let files = of_size(user, size).into_iter();
    files.filter(|path| path.to_string_lossy().contains(&format!("Z-{author}"))).collect()
}

fn patiently<T>(user: &User, what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_patiently(PATIENCE, &user.root, &format!("{what} ({}'s)", user.name), look)
}

/// Waits until somebody has a large message of an author, and compares it.
fn wait_for_whole(user: &User, author: &str, content: &[u8]) -> PathBuf {
    let path = patiently(user, "a large message", || by(user, content.len(), author).pop());
    assert_eq!(sha256(&[&fs::read(&path).unwrap()]), sha256(&[content]), "{}", path.display());
    path
}

/// Whether a small message stands here; large ones are not read for that.
fn has_small(user: &User, content: &str) -> bool {
    of_size(user, content.len()).iter().any(|path| fs::read(path).is_ok_and(|bytes| bytes == content.as_bytes()))
}

/// The percentage that `.delivery/` says of a message that is on its way, or none.
fn percent(user: &User, message: &Path) -> Option<u64> {
    let delivery = user.delivery(message);
    let line = delivery.lines().find_map(|line| line.strip_prefix("progress: "))?;
    let numbers: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
    Some(numbers[0] * 100 / numbers[1])
}

/// Drops a file and waits until it stands in the conversation.
fn drop_large(user: &User, to: &str, name: &str, content: &[u8]) -> PathBuf {
    user.move_file(to, name, content);
    user.wait_until_gone(format!("outbox/{to}/{name}"));
    by(user, content.len(), &user.name).pop().unwrap()
}

/// Stops a daemon, and starts it with other settings.
fn restart(user: &mut User, change: impl FnOnce(&User)) {
    user.stop();
    change(user);
    user.start();
}

fn peak_kib(process: &Process) -> u64 {
    process.peak_memory().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

#[test]
fn a_large_file_goes_there_and_back_whole_and_holds_up_no_small_message() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        one.drop_file(&other.name, "hello", format!("hello from {}", one.name));
        other.wait_for_message(&format!("hello from {}", one.name));
    }
    let peaks = |alice: &User| [alice, &bob].map(|user| peak_kib(user.daemon.as_ref().unwrap()));
    let before = peaks(&alice);
    restart(&mut alice, |alice| alice.set(SLOWLY));

    let there = content(size(), 1);
    let message = drop_large(&alice, "bob", "there.bin", &there);
    patiently(&alice, "progress", || percent(&alice, &message).filter(|percent| *percent > 0));
    assert!(alice.wait_for_status("sending: ").contains(" to bob: "));
    alice.drop_file("bob", "small", "small");
    patiently(&bob, "the small message", || has_small(&bob, "small").then_some(()));
    assert!(by(&bob, there.len(), "alice").is_empty(), "the large one came first");
    let meanwhile = peaks(&alice);
    restart(&mut alice, |alice| alice.unset(SLOWLY));
    let arrived = wait_for_whole(&bob, "alice", &there);
    assert!(arrived.to_string_lossy().ends_with("-there.bin"));
    patiently(&alice, "delivered", || alice.delivery(&message).contains(" delivered ").then_some(()));
    assert_eq!(percent(&alice, &message), None);

    let (back, begun) = (content(size() - 1, 2), Instant::now());
    drop_large(&bob, "alice", "back.bin", &back);
    wait_for_whole(&alice, "bob", &back);
    let speed = back.len() as u128 / begun.elapsed().as_millis().max(1);
    let after = peaks(&alice);
    let _ = writeln!(std::io::stderr(), "{speed} kB/s one way; peaks of memory, KiB: {before:?}, then {after:?}");
    for (before, after) in before.into_iter().chain(before).zip(meanwhile.into_iter().chain(after)) {
        assert!(after < before + RISE_MAX_KIB, "a peak rose from {before} to {after} KiB");
    }
    for user in [&alice, &bob] {
        patiently(user, "the copies to go", || entries(&user.at("journal/large")).is_empty().then_some(()));
        assert!(entries(&user.at("journal/arriving")).is_empty());
        assert!(entries(&user.at("alerts")).is_empty(), "{:?}", entries(&user.at("alerts")));
    }
}

#[test]
fn a_large_file_comes_once_and_whole_through_kills_of_both_daemons_and_the_server() {
    let mut world = World::new();
    let [mut alice, mut bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "hello", "hello");
    bob.wait_for_message("hello");
    restart(&mut alice, |alice| alice.set(SLOWLY));
    let content = content(size(), 3);
    let message = drop_large(&alice, "bob", "plan.pdf", &content);
    // At which percentage each is killed. At the first four it goes slowly, so that none of these can come too late.
    let goals = [1, 2, 3, 4, 20, 40, 60, 80, 90];
    let slow = 4;
    let mut under_way = Vec::new();
    for (turn, goal) in goals.into_iter().enumerate() {
        let reached = |percent: &u64| *percent >= goal;
        let is_over = |bob: &User| !by(bob, content.len(), "alice").is_empty();
        patiently(&alice, "progress", || percent(&alice, &message).filter(reached).or(is_over(&bob).then_some(100)));
        match turn % 3 {
            0 => alice.kill(),
            1 => bob.kill(),
            _ => world.server.kill(),
        }
        if !is_over(&bob) {
            under_way.push(goal);
        }
        match turn % 3 {
            0 => {
                if turn + 1 == slow {
                    alice.unset(SLOWLY);
                }
                alice.start();
            }
            1 => bob.start(),
            _ => world.server.start(),
        }
    }
    let _ = writeln!(std::io::stderr(), "killed under way, at these percentages: {under_way:?}");
    assert!(under_way.starts_with(&goals[..slow]), "{under_way:?}");
    wait_for_whole(&bob, "alice", &content);
    patiently(&alice, "delivered", || alice.delivery(&message).contains(" delivered ").then_some(()));
    // Whatever was to come a second time has come before this.
    alice.drop_file("bob", "last", "the last");
    bob.wait_for_message("the last");
    assert_eq!(of_size(&bob, content.len()).len(), 1);
    assert_eq!(of_size(&alice, content.len()).len(), 1);
    assert!(!alice.at("outbox/bob/plan.pdf").exists());
}

#[test]
fn what_is_deleted_from_the_conversation_while_it_is_under_way_comes_all_the_same() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    let content = content(1 << 20, 4);
    let message = drop_large(&alice, "bob", "x", &content);
    fs::remove_file(&message).unwrap();
    wait_for_whole(&bob, "alice", &content);
    assert!(!message.exists());
}

#[test]
fn a_large_file_is_the_first_message_of_a_conversation_of_three() {
    let world = World::new();
    let [alice, bob, carol] = world.friends(["alice", "bob", "carol"]);
    let content = content(1 << 20, 5);
    let message = drop_large(&alice, "bob,carol", "x", &content);
    for user in [&bob, &carol] {
        wait_for_whole(user, "alice", &content);
    }
    alice.wait_until_delivered(&message);
    assert_eq!(alice.delivery(&message).matches(" delivered ").count(), 2);
}

#[test]
fn a_disk_too_full_for_a_copy_is_waited_for() {
    if is_left_out(disk::missing()) {
        return;
    }
    let world = World::new();
    let disk = disk::Disk::new(&world.scratch.path().join("small"), "size=64m");
    let mut alice = world.user_on("alice", &disk);
    let mut bob = world.user("bob");
    alice.add(&bob);
    bob.add(&alice);
    alice.start_under(disk.daemon());
    bob.start();
    alice.drop_file("bob", "hello", "hello");
    bob.wait_for_message("hello");
    let content = content(4 << 20, 6);
    let scratch = alice.at("tmp/test");
    fs::create_dir_all(&scratch).unwrap();
    fs::write(scratch.join("large"), &content).unwrap();
    let ballast = disk.fill(5 << 20);
    fs::rename(scratch.join("large"), alice.at("outbox/bob/large")).unwrap();
    alice.wait_for_status("waiting: outbox/bob/large: the disk has no room for the two copies that are made of it");
    assert!(alice.at("outbox/bob/large").exists());
    fs::remove_file(ballast).unwrap();
    wait_for_whole(&bob, "alice", &content);
    alice.wait_until_gone("outbox/bob/large");
}
