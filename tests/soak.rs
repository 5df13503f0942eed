//! Many small messages in both directions, while both daemons and the server are killed at random and started again: in the end
//! every one is delivered, and stands exactly once at both sides.
//!
//! `CHATTERBOX_SOAK` says how many messages, `CHATTERBOX_SOAK_SEED` which kills, as far as that decides (`scripts/soak`).

#![allow(clippy::print_stderr, reason = "which run it was, and how much it killed")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{User, World, entries, wait_patiently};

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

/// SIGKILL, and a new start.
fn kill(world: &mut World, users: &mut [User; 2], which: usize) {
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
    let count = asked("CHATTERBOX_SOAK").map_or(MESSAGES, |count| usize::try_from(count).unwrap());
    let seed = asked("CHATTERBOX_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("soak: {count} messages, CHATTERBOX_SOAK_SEED={seed}");
    let mut dice = Dice(seed);
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
