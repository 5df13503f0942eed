//! Two clients and their server, what happens to them, and the oracle that compares both ends.

use std::collections::{BTreeMap, HashMap};

use super::machine::{Hears, Machine, Server};
use crate::client::contacts;
use crate::client::prekeys::Found;
use crate::clock::Timestamp;
use crate::disk::system::Disk as _;
use crate::wire::identity::{AccountId, Fingerprint};
use crate::wire::prekey::SignedPrekey;

use self::Act::{Checkpoint, Drop, Kill, OpenAnew, Run, Start, StartUnheard, Stop, Withhold};

/// In front of an alert's kind.
const TIME_AND_DASH: usize = 26;

/// Rounds after which two clients that have nothing to wait for must be done.
const ROUNDS_MAX: usize = 400;

/// What happens in a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Start(usize),
    /// Without a word from its home server.
    StartUnheard(usize),
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
    Stop(usize),
    /// The server says that it knows of no counters.
    Withhold,
    /// It reads its state anew in the middle of a run, from a disk that shows again what a stop has left: nothing was sent then.
    OpenAnew(usize),
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
    /// Who has lost state, and what of their own went with it.
    lost: Option<(usize, Vec<&'static str>)>,
    /// Kinds of alerts that each must find.
    alerts: [&'static [&'static str]; 2],
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
        Self {
            machines,
            server: Server::default(),
            now: 1_790_000_000_000_000,
            dropped: Vec::new(),
            lost: None,
            alerts: [&[], &[]],
        }
    }

    /// Of the same content; nobody runs.
    pub(super) fn copy(&self) -> Self {
        let machines = [0, 1].map(|place| self.machines[place].copy());
        let (server, dropped, lost) = (self.server.clone(), self.dropped.clone(), self.lost.clone());
        Self { machines, server, now: self.now, dropped, lost, alerts: self.alerts }
    }

    /// The disk of one of them is as it was in another world, an earlier one of this.
    pub(super) fn restore(&mut self, who: usize, earlier: &Self) {
        self.machines[who] = earlier.machines[who].copy();
        self.note_loss(who);
    }

    /// Files of one of them go.
    pub(super) fn remove(&mut self, who: usize, goes: impl Fn(&str) -> bool) {
        self.machines[who].delete_all("", &goes);
        self.note_loss(who);
    }

    fn note_loss(&mut self, who: usize) {
        let kept = self.machines[who].messages();
        let own = self.dropped.iter().filter(|(from, ..)| *from == who).map(|(_, content, _)| *content);
        self.lost = Some((who, own.filter(|content| !kept.contains(&(*content).to_owned())).collect()));
    }

    /// Nobody tells authors that their messages have come, so that all of them may be asked for again.
    pub(super) fn without_acknowledgements(mut self) -> Self {
        self.machines.iter_mut().for_each(|machine| machine.acknowledges = false);
        self
    }

    pub(super) fn server_hears(&mut self, hears: Hears) {
        self.server.hears = hears;
    }

    pub(super) fn allow_reuse(&mut self) {
        self.server.allows_reuse = true;
    }

    pub(super) fn withhold_counters(&mut self) {
        self.server.counters.clear();
    }

    pub(super) fn expect_alerts(&mut self, kinds: [&'static [&'static str]; 2]) {
        self.alerts = kinds;
    }

    /// All kinds that are expected, and no other; once but for those that each envelope causes.
    pub(super) fn check_alerts(&self, told: &str) {
        for (machine, expected) in self.machines.iter().zip(self.alerts) {
            let kind = |(path, _): (String, String)| {
                let name = path.strip_prefix("alerts/").unwrap()[TIME_AND_DASH..].to_owned();
                name.split('-').next().unwrap().to_owned()
            };
            let mut found: Vec<String> = machine.files("alerts").into_iter().map(kind).collect();
            found.sort();
            found.dedup_by(|left, right| left == right && left == "repeated");
            assert_eq!(found, expected, "{told}: alerts of {}", machine.name);
        }
    }

    /// Time passes while nobody runs.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += seconds * 1_000_000;
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
            StartUnheard(who) => assert!(self.machines[who].start_unheard(now)),
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
            Stop(who) => self.machines[who].stop(now),
            Withhold => self.withhold_counters(),
            OpenAnew(who) => {
                let unsent = [&self.machines[1 - who].fingerprint().0[..], &[0; 8]].concat();
                let machine = &mut self.machines[who];
                machine.disk.write_file(&machine.path("keys/unsent"), &unsent, true);
                machine.open_anew(&self.server, now);
            }
        }
    }

    /// So many seconds, whatever is left to be done then.
    pub(super) fn run_rounds(&mut self, rounds: usize) {
        let peers = self.peers();
        for _ in 0..rounds {
            let now = self.time();
            for machine in &mut self.machines {
                machine.step(&mut self.server, &peers, now);
            }
        }
    }

    fn peers(&self) -> HashMap<Fingerprint, AccountId> {
        self.machines.iter().map(|machine| (machine.fingerprint(), machine.account())).collect()
    }

    pub(super) fn run(&mut self) {
        let peers = self.peers();
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
        let peers = self.peers();
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
        let [mut alice, mut bob] = self.machines.each_ref().map(Machine::messages);
        if let Some((who, own)) = &self.lost {
            let messages = if *who == 0 { &mut alice } else { &mut bob };
            messages.extend(own.iter().map(|content| (*content).to_owned()));
            messages.sort();
        }
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
            for empty in [
                "requests",
                "journal/spool",
                "journal/unopened",
                "journal/arriving",
                "journal/large",
                "keys/arriving",
                "keys/large",
                "tmp",
            ] {
                let left = machine.files(empty);
                if empty == "journal/unopened" && self.lost.is_some() {
                    continue;
                }
                assert!(left.is_empty(), "{told}: {} has left {left:?}", machine.name);
            }
        }
        self.check_alerts(told);
        for machine in self.machines.iter().filter(|machine| machine.acknowledges && self.lost.is_none()) {
            machine.check_delivered(told);
        }
        for machine in &self.machines {
            let engine = &machine.running.as_ref().unwrap().engine;
            let handed_out = self.server.prekeys(machine.account());
            let opens =
                |prekey: &SignedPrekey| matches!(engine.prekeys.find(&prekey.tag(), &[0; 32]), Found::Prekey(_));
            assert!(handed_out.iter().all(opens), "{told}: {} has lost a prekey's secrets", machine.name);
        }
        assert!(self.server.mailboxes.values().all(BTreeMap::is_empty), "{told}: something was not fetched");
    }
}
