//! Two clients and their server, what happens to them, and the oracle that compares both ends.

use std::collections::BTreeMap;

use super::machine::{Machine, Server};
use crate::client::contacts;
use crate::clock::Timestamp;
use crate::disk::system::Disk as _;

use self::Act::{Checkpoint, Drop, Kill, Run, Start};

/// Rounds after which two clients that have nothing to wait for must be done.
const ROUNDS_MAX: usize = 400;

/// What happens in a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Start(usize),
    /// A file appears in an outbox, whole; on the disk for certain, or in memory only.
    Drop {
        from: usize,
        name: &'static str,
        content: &'static str,
        synced: bool,
    },
    /// Until nothing is to be done.
    Run,
    Checkpoint(usize),
    Kill(usize),
}

pub(super) const fn drop_by(from: usize, name: &'static str, content: &'static str) -> Act {
    Drop { from, name, content, synced: true }
}

/// Both, their server, and what was dropped so far.
pub(super) struct World {
    pub(super) machines: [Machine; 2],
    server: Server,
    now: u64,
    /// By whom, what, and whether it was on the disk when it was dropped.
    dropped: Vec<(usize, &'static str, bool)>,
}

impl World {
    pub(super) fn new() -> Self {
        let machines = ["alice", "bob"].map(Machine::new);
        for (one, other) in [(0, 1), (1, 0)] {
            let card = format!("{}\n", machines[other].profile);
            let file = format!("contacts/{}{}", machines[other].name, contacts::SUFFIX);
            machines[one].disk.write_file(&machines[one].path(&file), card.as_bytes(), true);
            let outbox = machines[one].path("outbox").join(machines[other].name);
            machines[one].disk.make_directory(&outbox).unwrap();
            machines[one].disk.open_directory(outbox.parent().unwrap()).unwrap().sync().unwrap();
        }
        Self { machines, server: Server::default(), now: 1_790_000_000_000_000, dropped: Vec::new() }
    }

    /// Of the same content; nobody runs.
    pub(super) fn copy(&self) -> Self {
        let machines = [0, 1].map(|place| self.machines[place].copy());
        Self { machines, server: self.server.clone(), now: self.now, dropped: self.dropped.clone() }
    }

    pub(super) fn time(&mut self) -> Timestamp {
        self.now += 1_000_000;
        Timestamp::from_micros(self.now)
    }

    pub(super) fn act(&mut self, act: Act) {
        let now = self.time();
        match act {
            Start(who) => {
                // The daemon tries again each second what a sync that failed kept it from.
                let _ = self.machines[who].start(&self.server, now) || self.machines[who].start(&self.server, now);
            }
            Drop { from, name, content, synced } => {
                let machine = &self.machines[from];
                if machine.disk.has_crashed() {
                    return;
                }
                let path = machine.path("outbox").join(self.machines[1 - from].name).join(name);
                machine.disk.write_file(&path, content.as_bytes(), synced);
                self.dropped.push((from, content, synced));
            }
            Run => self.run(),
            Checkpoint(who) => self.machines[who].checkpoint(&self.server, now),
            // The process dies, the machine does not.
            Kill(who) => self.machines[who].running = None,
        }
    }

    pub(super) fn run(&mut self) {
        let peers = self.machines.iter().map(|machine| (machine.fingerprint(), machine.account())).collect();
        for _ in 0..ROUNDS_MAX {
            let now = self.time();
            let busy = [0, 1].map(|place| self.machines[place].step(&mut self.server, &peers, now));
            if busy == [false, false] && self.machines.iter().all(|machine| !machine.waits()) {
                return;
            }
        }
        panic!("never quiet: {:?}", self.machines.each_ref().map(|machine| machine.outbox()));
    }

    /// Until somebody's messages are sealed in part: more waited for a session than one batch seals. They are stopped then.
    pub(super) fn stop_between_batches(&mut self, who: usize) {
        let peers = self.machines.iter().map(|machine| (machine.fingerprint(), machine.account())).collect();
        for _ in 0..ROUNDS_MAX {
            let now = self.time();
            for place in [0, 1] {
                self.machines[place].step(&mut self.server, &peers, now);
                let running = self.machines[who].running.as_ref();
                if running.is_some_and(|running| running.engine.has_sealed_in_part()) {
                    self.machines[who].running = None;
                    return;
                }
            }
        }
        panic!("nothing was sealed in part");
    }

    /// A base for scenarios: everybody stopped, everything on disk.
    pub(super) fn rest(mut self, acts: &[Act]) -> Self {
        acts.iter().for_each(|act| self.act(*act));
        for place in [0, 1] {
            let now = self.time();
            self.machines[place].checkpoint(&self.server, now);
            self.machines[place].running = None;
        }
        self
    }

    /// After whatever happened: both start again, go on, and must agree.
    pub(super) fn finish(mut self, told: &str) {
        for place in [0, 1] {
            let now = self.time();
            self.machines[place].running = None;
            assert!(self.machines[place].start(&self.server, now));
        }
        self.run();
        for act in [drop_by(0, "z", "the last of alice"), drop_by(1, "z", "the last of bob"), Run] {
            self.act(act);
        }
        for place in [0, 1] {
            let now = self.time();
            self.machines[place].checkpoint(&self.server, now);
        }
        self.compare(told);
    }

    /// The oracle.
    pub(super) fn compare(&self, told: &str) {
        let [mut alice, bob] = self.machines.each_ref().map(Machine::messages);
        assert_eq!(alice, bob, "{told}: what one has and the other has not");
        let mut outboxes = self.machines.each_ref().map(Machine::outbox);
        let mut expected: Vec<&str> = Vec::new();
        for (from, content, synced) in &self.dropped {
            if *synced || alice.iter().any(|message| message == content) {
                expected.push(content);
                continue;
            }
            // What nobody synced and was not recorded may be lost, and its remains are a file like any other.
            let is_remains = |text: &str| {
                let lost = |(there, ours): (u8, u8)| there == ours || there == 0;
                text.len() <= content.len() && text.bytes().zip(content.bytes()).all(lost)
            };
            outboxes[*from].retain(|(_, text)| !is_remains(text));
            if let Some(place) = alice.iter().position(|message| is_remains(message)) {
                alice.remove(place);
            }
        }
        expected.sort_unstable();
        assert_eq!(alice, expected, "{told}: what was sent and what came");
        assert!(outboxes.iter().all(Vec::is_empty), "{told}: {outboxes:?}");
        for machine in &self.machines {
            for empty in ["alerts", "requests", "journal/spool", "journal/unopened", "tmp"] {
                let left = machine.files(empty);
                assert!(left.is_empty(), "{told}: {} has left {left:?}", machine.name);
            }
        }
        assert!(self.server.mailboxes.values().all(BTreeMap::is_empty), "{told}: something was not fetched");
    }
}
