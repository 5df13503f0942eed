//! Many messages in all directions, while the daemons and the server are killed at random and started again: in the end every
//! one is delivered, and stands exactly once wherever it belongs. First small ones between two people; then small and large
//! ones between three, to one of them and to both, through a dropbox, and some of them cancelled on their way.
//!
//! `CHATTERBOX_SOAK` says how many messages, `CHATTERBOX_SOAK_SEED` which kills, as far as that decides (`scripts/soak`).

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::print_stderr, reason = "which run it was, and how much it killed")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{User, World, entries, is_root, machine, wait_patiently};

/// Messages if nothing else is asked for.
const MESSAGES: usize = 300;

/// Messages between two kills, at most.
const BURST: u64 = 40;

/// Longer than any number of messages takes, on a busy machine too: a deadline for each hundred.
const PATIENCE: Duration = Duration::from_secs(120);

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Numbers that follow from a seed (SplitMix64): what is tried can be tried again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn choose(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap()
    }
}

/// How many messages, and the dice for the rest.
fn settings() -> (usize, Dice) {
    let count = asked("CHATTERBOX_SOAK").map_or(MESSAGES, |count| usize::try_from(count).unwrap());
    let seed = asked("CHATTERBOX_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("soak: {count} messages, CHATTERBOX_SOAK_SEED={seed}");
    (count, Dice(seed))
}

/// SIGKILL, and a new start.
fn kill(world: &mut World, users: &mut [User], which: usize) {
    match users.get_mut(which) {
        Some(user) => {
            user.kill();
            user.start();
        }
        None => {
            world.server.kill();
            world.server.start();
        }
    }
}

/// Waits until each of these is true, in any order.
fn wait_for_all(
    directory: &Path,
    patience: Duration,
    what: &str,
    mut all: Vec<PathBuf>,
    is_so: impl Fn(&Path) -> bool,
) {
    wait_patiently(patience, directory, what, || {
        while all.last().is_some_and(|path| is_so(path)) {
            all.pop();
        }
        all.is_empty().then_some(())
    });
}

#[test]
fn every_message_is_delivered_and_stands_once_whoever_is_killed_meanwhile() {
    let (count, mut dice) = settings();
    let mut world = World::new();
    let mut users = world.friends(["alice", "bob"]);
    let mut sent: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    let (mut until_kill, mut kills) = (dice.below(BURST), [0; 3]);
    for number in 0..count {
        let from = dice.choose(2);
        let content = format!("{number} of {count} from {}", users[from].name);
        let to = users[1 - from].name.clone();
        users[from].move_file(&to, &format!("{number}"), &content);
        sent[from].push(content);
        if until_kill > 0 {
            until_kill -= 1;
            continue;
        }
        until_kill = dice.below(BURST);
        // Now and then something has gone all its way before.
        if dice.below(3) == 0 {
            let of = dice.choose(2);
            if let Some(content) = sent[of].last() {
                users[1 - of].wait_for_message(content);
            }
        }
        let which = dice.choose(3);
        kills[which] += 1;
        kill(&mut world, &mut users, which);
    }
    let patience = PATIENCE * u32::try_from(1 + count / 100).unwrap();
    for user in &users {
        wait_patiently(patience, &user.root, "all messages at both sides", || {
            (user.messages().len() >= count).then_some(())
        });
    }
    for (user, sent) in users.iter().zip(&sent) {
        let own = user.messages().into_iter().filter(|(_, name, _)| name.ends_with(&format!("Z-{}", user.name)));
        let own: Vec<PathBuf> =
            own.map(|(directory, name, _)| user.at("conversations").join(directory).join(name)).collect();
        assert_eq!(own.len(), sent.len());
        wait_for_all(&user.root, patience, "every message to be delivered", own, |message| {
            user.delivery(message).contains(" delivered ")
        });
    }
    for (from, sent) in sent.iter_mut().enumerate() {
        let author = users[from].name.clone();
        let [at_author, at_recipient] = [from, 1 - from].map(|at| users[at].heard_from(&author));
        assert_eq!(at_author, at_recipient, "in one order");
        let mut heard = at_author;
        heard.sort();
        sent.sort();
        assert_eq!(heard, *sent, "each once");
    }
    for user in &users {
        assert_eq!(user.messages().len(), count);
        user.wait_for_status("queue: 0");
        for empty in ["alerts", "requests", "journal/unopened"] {
            assert_eq!(entries(&user.at(empty)), [] as [PathBuf; 0], "{}", user.name);
        }
    }
    let [alice, bob, server] = kills;
    eprintln!("soak: {count} messages delivered once; killed: alice {alice}, bob {bob}, the server {server}");
}

/// What is sent in the second test.
struct Sent {
    content: Vec<u8>,
    from: usize,
    to: Vec<usize>,
    is_cancelled: bool,
}

/// What a recipient's line says, and whether it says that it may have arrived.
fn state(delivery: &str, name: &str) -> Option<(String, bool)> {
    let lines = delivery.lines().filter_map(|line| line.strip_prefix("to: "));
    let words: Vec<Vec<&str>> = lines.map(|line| line.splitn(5, ' ').collect()).collect();
    let line = words.iter().find(|words| words[3].trim_end_matches(':') == name)?;
    Some((line[1].to_owned(), line.get(4).is_some_and(|reason| reason.contains("not known"))))
}

/// A dropbox of alice's, for both others.
fn dropbox(world: &World, alice: &User) -> (PathBuf, u32) {
    let uid = if is_root() { machine::SOMEBODY } else { machine::own_uid() };
    let directory = world.scratch.path().canonicalize().unwrap().join("alerts");
    let (text, owner) = (directory.to_str().unwrap(), uid.to_string());
    let box_of_hers = ["dropbox", "add", "alerts", "--to", "bob,carol", "--uid", &owner, "--rate", "10000/min"];
    let added = alice.cli(&[&box_of_hers[..], &["--directory", text]].concat());
    assert!(added.status.success(), "{added:?}");
    (directory, uid)
}

#[test]
fn messages_of_all_kinds_come_once_to_whom_they_belong_and_what_was_cancelled_in_time_to_nobody() {
    let (count, mut dice) = settings();
    let count = count / 3;
    let mut world = World::new();
    let mut users = world.friends(["alice", "bob", "carol"]);
    let (alerts, owner) = dropbox(&world, &users[0]);
    let mut sent: Vec<Sent> = Vec::new();
    let (mut until_kill, mut kills) = (dice.below(BURST / 2), [0; 4]);
    for number in 0..count {
        let kind = dice.below(16);
        let is_dropped = kind >= 14;
        let from = if is_dropped { 0 } else { dice.choose(3) };
        let others: Vec<usize> = (0..3).filter(|other| *other != from).collect();
        let to = if is_dropped || kind % 3 == 0 { others } else { vec![others[dice.choose(2)]] };
        let size = if kind == 13 { 20_000 + dice.choose(400_000) } else { 0 };
        let mut content = format!("{number} of {count} from {}", users[from].name).into_bytes();
        content.resize(content.len().max(size), b'.');
        let name = number.to_string();
        let is_cancelled = !is_dropped && dice.below(8) == 0;
        // Else it is too late for most.
        let is_server_away = is_cancelled && dice.below(2) == 0;
        if is_server_away {
            world.server.kill();
        }
        if is_dropped {
            let draft = world.scratch.path().join(&name);
            fs::write(&draft, &content).unwrap();
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o644)).unwrap();
            chown(&draft, Some(owner), None).unwrap();
            fs::rename(draft, alerts.join(&name)).unwrap();
        } else {
            let names: Vec<&str> = to.iter().map(|to| users[*to].name.as_str()).collect();
            users[from].move_file(&names.join(","), &name, &content);
        }
        if is_cancelled {
            let message = users[from].wait_for("a copy", || copies(&users[from], &content).pop());
            // It may be too late, or be said when the daemon was not there.
            let _ = users[from].cli(&["cancel", message.to_str().unwrap()]);
        }
        if is_server_away {
            world.server.start();
        }
        sent.push(Sent { content, from, to, is_cancelled });
        if until_kill > 0 {
            until_kill -= 1;
            continue;
        }
        until_kill = dice.below(BURST / 2);
        let which = dice.choose(4);
        kills[which] += 1;
        kill(&mut world, &mut users, which);
    }
    let patience = PATIENCE * u32::try_from(1 + count / 30).unwrap();
    let mut wanted: Vec<BTreeMap<Vec<u8>, bool>> = vec![BTreeMap::new(); 3];
    for Sent { content, from, to, is_cancelled } in &sent {
        let author = &users[*from];
        let message = wait_patiently(patience, &author.root, "a copy", || copies(author, content).pop());
        wanted[*from].insert(content.clone(), true);
        for to in to {
            let (state, is_doubtful) = wait_patiently(patience, &author.root, &message.to_string_lossy(), || {
                let state = state(&author.delivery(&message), &users[*to].name);
                state.filter(|(state, _)| state == "delivered" || (*is_cancelled && state == "failed"))
            });
            // Whether it must be there; where nobody knows it may be.
            if state == "delivered" {
                wanted[*to].insert(content.clone(), true);
            } else if is_doubtful {
                wanted[*to].insert(content.clone(), false);
            }
        }
    }
    for (user, wanted) in users.iter().zip(&wanted) {
        user.wait_for_status("queue: 0");
        let mut left = wanted.clone();
        for (_, name, content) in user.messages() {
            assert!(left.remove(&content).is_some(), "{}'s {name} came twice, or was cancelled in time", user.name);
        }
        assert!(left.values().all(|must_be| !must_be), "{} lacks {left:?}", user.name);
        // What has come of a large content goes when the note of its end is read, and copies go a portion at a time.
        for empty in ["journal/unopened", "journal/arriving", "journal/large"] {
            user.wait_for(&format!("{empty} to be empty"), || entries(&user.at(empty)).is_empty().then_some(()));
        }
        for empty in ["alerts", "requests"] {
            assert_eq!(entries(&user.at(empty)), [] as [PathBuf; 0], "{}", user.name);
        }
    }
    let [alice, bob, carol, server] = kills;
    let cancelled = sent.iter().filter(|sent| sent.is_cancelled).count();
    eprintln!(
        "soak: {count} messages of all kinds, {cancelled} cancelled; killed: alice {alice}, bob {bob}, carol {carol}, the server {server}"
    );
}

/// Where a content stands, looking into files of its size alone.
fn copies(user: &User, content: &[u8]) -> Vec<PathBuf> {
    let files = entries(&user.at("conversations")).into_iter().flat_map(|directory| entries(&directory));
    let of_size = files.filter(|path| fs::metadata(path).is_ok_and(|known| known.len() == content.len() as u64));
    of_size.filter(|path| fs::read(path).is_ok_and(|bytes| bytes == content)).collect()
}
