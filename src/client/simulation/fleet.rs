//! Any number of clients and their server, for random schedules, and the oracle for these.

use std::collections::{BTreeMap, HashMap};

use super::machine::{Machine, Server};
use super::schedules::Act;
use crate::client::contacts;
use crate::clock::Timestamp;
use crate::disk::simulated::Fault;
use crate::disk::system::Disk as _;
use crate::limits::{RETRY_PERIOD_MS, UNCONFIRMED_FRACTION, UNCONFIRMED_HEARD_MS};
use crate::wire::envelope::Envelope;
use crate::wire::identity::{AccountId, Fingerprint};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// In front of an alert's kind.
const TIME_AND_DASH: usize = 26;

/// Seconds after which clients that have nothing to wait for must be done.
const ROUNDS_MAX: usize = 600;

/// What passes at once where nothing is to be done but to wait.
const PAUSE_S: u64 = 600;

/// Losses of state in one schedule: a message is sealed anew at most three times.
const LOSSES_MAX: usize = 2;

/// A message, and what was lost with it.
struct Written {
    from: usize,
    to: usize,
    content: String,
    /// Its author's own state has lost it.
    is_gone: bool,
    /// How often it came back into the outbox: each time it is a new file.
    backs: usize,
    /// Who has lost state.
    lost: [bool; NAMES.len()],
    /// Its recipient had it, perhaps has acknowledged it, and has lost it.
    was_there: bool,
}

pub(super) struct Fleet {
    machines: Vec<Machine>,
    backups: Vec<Option<Machine>>,
    server: Server,
    withheld: Vec<bool>,
    /// What was ever in a mailbox.
    seen: Vec<Vec<Envelope>>,
    /// Ids of what the server pushes again or in another order.
    next_id: u64,
    written: Vec<Written>,
    /// Who lost state, in this order.
    losses: Vec<usize>,
    was_reversed: bool,
    /// The server has lost something.
    was_lossy: bool,
    now_s: u64,
}

impl Fleet {
    pub(super) fn new(count: usize, acknowledges: bool) -> Self {
        let mut machines: Vec<Machine> = NAMES[..count].iter().map(|name| Machine::new(name)).collect();
        machines.iter_mut().for_each(|machine| machine.acknowledges = acknowledges);
        for (one, other) in pairs(count) {
            let card = format!("{}\n", machines[other].profile);
            let file = format!("contacts/{}{}", machines[other].name, contacts::SUFFIX);
            machines[one].disk.write_file(&machines[one].path(&file), card.as_bytes(), true);
            let outbox = machines[one].path("outbox").join(machines[other].name);
            machines[one].disk.make_directory(&outbox).unwrap();
            machines[one].disk.open_directory(outbox.parent().unwrap()).unwrap().sync().unwrap();
        }
        let mut fleet = Self {
            machines,
            backups: (0..count).map(|_| None).collect(),
            server: Server::default(),
            withheld: vec![false; count],
            seen: vec![Vec::new(); count],
            next_id: 1 << 40,
            written: Vec::new(),
            losses: Vec::new(),
            was_reversed: false,
            was_lossy: false,
            now_s: 1_790_000_000,
        };
        (0..count).for_each(|who| fleet.restart(who));
        fleet.run();
        fleet
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Write { from, to } => self.write(from, to),
            Act::Rounds(rounds) => {
                for _ in 0..rounds {
                    self.round();
                }
            }
            Act::Kill(who) => self.machines[who].running = None,
            Act::Stop(who) => {
                let now = self.time();
                self.machines[who].stop(now);
            }
            Act::Restart(who) => self.restart(who),
            Act::Checkpoint(who) => {
                let now = self.time();
                self.machines[who].checkpoint(&self.server, now);
            }
            Act::PowerFails { who, after, loss } => {
                self.machines[who].disk.expect(Some(Fault::Crash(1 + u64::from(after))));
                for _ in 0..3 {
                    self.step(who);
                }
                match self.machines[who].disk.has_crashed() {
                    true => {
                        self.machines[who].running = None;
                        self.machines[who].disk.restart(loss);
                    }
                    false => self.machines[who].disk.expect(None),
                }
            }
            Act::Backup(who) => self.backups[who] = Some(self.machines[who].copy()),
            Act::Restore(who) => {
                if let Some(backup) = self.backups[who].as_ref().map(Machine::copy)
                    && self.losses.len() < LOSSES_MAX
                {
                    self.restore(who, backup);
                }
            }
            Act::LoseKeys(who) => {
                if self.losses.len() < LOSSES_MAX {
                    let now = self.time();
                    self.restart(who);
                    self.machines[who].checkpoint(&self.server, now);
                    self.machines[who].running = None;
                    self.machines[who].delete_all("", &|path| path.starts_with("keys/"));
                    self.note_loss(who, &[]);
                }
            }
            Act::Withhold(who) => self.withheld[who] = !self.withheld[who],
            Act::Reverse(who) => {
                self.was_reversed = true;
                let mailbox = self.server.mailboxes.remove(&self.machines[who].account()).unwrap_or_default();
                for envelope in mailbox.into_values().rev() {
                    self.push(who, envelope);
                }
            }
            Act::Swallow { to, at } => {
                let mailbox = self.server.mailboxes.entry(self.machines[to].account()).or_default();
                // Where both sides lose what the other opened with, neither hears of it before a chain is over.
                let openings = &self.server.openings;
                let others = mailbox.iter().filter(|(_, envelope)| !openings.contains(&envelope.sha256()));
                let ids: Vec<u64> = others.map(|(id, _)| *id).collect();
                if !ids.is_empty() {
                    self.was_lossy = true;
                    mailbox.remove(&ids[usize::from(at) % ids.len()]);
                }
            }
            Act::Repeat { to, at } => {
                if !self.seen[to].is_empty() {
                    let envelope = self.seen[to][usize::from(at) % self.seen[to].len()].clone();
                    self.push(to, envelope);
                }
            }
        }
    }

    fn write(&mut self, from: usize, to: usize) {
        let number = self.written.len();
        let content = format!("{number} from {from} to {to}");
        let path = self.machines[from].path("outbox").join(NAMES[to]).join(number.to_string());
        self.machines[from].disk.write_file(&path, content.as_bytes(), true);
        // What is sealed for somebody before their loss is noticed is as lost as what was sealed before it.
        let lost = std::array::from_fn(|who| self.losses.contains(&who));
        self.written.push(Written { from, to, content, is_gone: false, backs: 0, lost, was_there: false });
    }

    fn push(&mut self, to: usize, envelope: Envelope) {
        self.next_id += 1;
        self.server.mailboxes.entry(self.machines[to].account()).or_default().insert(self.next_id, envelope);
    }

    fn time(&mut self) -> Timestamp {
        self.now_s += 1;
        Timestamp::from_micros(self.now_s * 1_000_000)
    }

    fn restart(&mut self, who: usize) {
        let now = self.time();
        self.machines[who].running = None;
        assert!(self.machines[who].start(&self.server, now));
    }

    /// The old disk has been in use until now, and a number was written since: a backup that is younger than that would come
    /// back unnoticed.
    fn restore(&mut self, who: usize, backup: Machine) {
        self.restart(who);
        for _ in 0..3 {
            self.step(who);
        }
        let had = self.machines[who].messages();
        self.machines[who] = backup;
        self.note_loss(who, &had);
    }

    fn note_loss(&mut self, who: usize, had: &[String]) {
        self.losses.push(who);
        let (messages, outbox) = (self.machines[who].messages(), self.machines[who].outbox());
        for written in &mut self.written {
            written.lost[who] = true;
            let waits = outbox.iter().any(|(_, content)| *content == written.content);
            if written.from == who {
                written.is_gone |= !messages.contains(&written.content) && !waits;
                written.backs += usize::from(waits && had.contains(&written.content));
            }
            if written.to == who {
                written.was_there |= had.contains(&written.content) && !messages.contains(&written.content);
            }
        }
    }

    /// A second of one of them.
    fn step(&mut self, who: usize) -> bool {
        let peers: HashMap<Fingerprint, AccountId> =
            self.machines.iter().map(|machine| (machine.fingerprint(), machine.account())).collect();
        let (now, account) = (self.time(), self.machines[who].account());
        let mailbox = self.server.mailboxes.get(&account).into_iter().flatten();
        let new: Vec<Envelope> = mailbox.map(|(_, envelope)| envelope.clone()).collect();
        let new = new.into_iter().filter(|envelope| !self.seen[who].contains(envelope)).collect::<Vec<_>>();
        self.seen[who].extend(new);
        let held = if self.withheld[who] { self.server.mailboxes.remove(&account) } else { None };
        let busy = self.machines[who].step(&mut self.server, &peers, now);
        if let Some(held) = held {
            self.server.mailboxes.entry(account).or_default().extend(held);
        }
        busy
    }

    fn round(&mut self) -> bool {
        (0..self.machines.len()).fold(false, |busy, who| self.step(who) | busy)
    }

    /// Until nothing is to be done.
    fn run(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.round() {
                continue;
            }
            if self.machines.iter().all(|machine| !machine.waits() && !machine.will_ask()) {
                return;
            }
            self.now_s += PAUSE_S;
        }
        panic!("never quiet");
    }

    /// Everybody starts, the server hands out all that it has, and what was written is compared with what came.
    pub(super) fn finish(mut self) {
        let count = self.machines.len();
        self.withheld = vec![false; count];
        (0..count).for_each(|who| self.restart(who));
        self.run();
        // Who asked for something a second time within an hour is heard then.
        self.now_s += 3_600;
        self.run();
        for (from, to) in pairs(count) {
            self.write(from, to);
        }
        self.run();
        // An acknowledgement that the server lost is missing after an eighth of a week, and two hours of talk.
        for wait_ms in [RETRY_PERIOD_MS / UNCONFIRMED_FRACTION, UNCONFIRMED_HEARD_MS] {
            if self.was_lossy {
                self.now_s += wait_ms / 1_000 + 60;
                for _ in 0..3 {
                    self.round();
                }
                self.run();
            }
        }
        for who in 0..count {
            let now = self.time();
            self.machines[who].checkpoint(&self.server, now);
        }
        self.check_messages();
        self.check_gaps();
        self.check_rest();
        self.check_alerts();
    }

    fn check_messages(&self) {
        let messages: Vec<Vec<String>> = self.machines.iter().map(Machine::messages).collect();
        for written in &self.written {
            let Written { from, to, content, .. } = written;
            let count = |who: usize| messages[who].iter().filter(|message| *message == content).count();
            let (at_author, at_recipient) = (count(*from), count(*to));
            let elsewhere: usize = (0..messages.len()).filter(|who| who != from && who != to).map(count).sum();
            assert_eq!(elsewhere, 0, "{content} came to somebody else");
            let most = 1 + written.backs;
            assert!(at_author <= 1 && at_recipient <= most, "{content} came {at_recipient} times");
            if written.is_gone {
                continue;
            }
            assert_eq!(at_author, 1, "{content} is not with its author");
            // Who lost state does not remember what they sent: then there is nobody left to send it again.
            let can_be_lost = written.lost[*from] && written.lost[*to];
            // And what was acknowledged is not sent again.
            let can_be_lost = can_be_lost || (written.was_there && self.machines[*from].acknowledges);
            assert!(at_recipient > 0 || can_be_lost, "{content} has not come");
        }
    }

    /// Nothing is missing in the end but what was lost with somebody's state.
    fn check_gaps(&self) {
        let has_lost =
            |fingerprint: &Fingerprint| self.losses.iter().any(|who| self.machines[*who].fingerprint() == *fingerprint);
        for machine in self.machines.iter().filter(|machine| !has_lost(&machine.fingerprint())) {
            let lacks = machine.lacks();
            assert!(lacks.iter().all(has_lost), "{} lacks: {}", machine.name, machine.gaps());
            assert_eq!(lacks.is_empty(), machine.gaps().is_empty(), "{}: {}", machine.name, machine.gaps());
        }
    }

    fn check_rest(&self) {
        for machine in &self.machines {
            if self.losses.is_empty() && machine.acknowledges {
                machine.check_delivered("in the end");
            }
            assert!(machine.outbox().is_empty(), "{}: {:?}", machine.name, machine.outbox());
            for empty in ["requests", "journal/spool", "tmp"] {
                let left = machine.files(empty);
                assert!(left.is_empty(), "{} has left {left:?}", machine.name);
            }
            let unopened = machine.files("journal/unopened");
            let may_be_closed = self.was_lossy || !self.losses.is_empty();
            assert!(unopened.is_empty() || may_be_closed, "{} could not open everything", machine.name);
        }
        assert!(self.server.mailboxes.values().all(BTreeMap::is_empty), "something was not fetched");
    }

    /// Who lost state finds an alert, and all others do. Who lost nothing, and whose peers did not, finds none.
    fn check_alerts(&self) {
        for (who, machine) in self.machines.iter().enumerate() {
            let kind = |(path, _): (String, String)| {
                let name = path.strip_prefix("alerts/").unwrap()[TIME_AND_DASH..].to_owned();
                name.split('-').next().unwrap().to_owned()
            };
            let found: Vec<String> = machine.files("alerts").into_iter().map(kind).collect();
            let is_told = |kind: &str| found.iter().any(|other| other == kind);
            if self.losses.is_empty() {
                // An opening that comes behind what was sealed later looks like a thief's, and so does one in place of another
                // that is lost.
                let false_alarm = |kind: &String| (self.was_reversed || self.was_lossy) && kind == "new";
                assert!(found.iter().all(false_alarm), "{} is told of {found:?}", machine.name);
            }
            let last_loss = |of: usize| self.losses.iter().rposition(|other| *other == of);
            assert!(last_loss(who).is_none() || is_told("rollback"), "{} is not told of the own loss", machine.name);
            let others = (0..self.machines.len()).filter(|other| *other != who);
            let after_own = others.filter_map(last_loss).any(|loss| last_loss(who) < Some(loss));
            assert!(!after_own || is_told("recovered"), "{} is not told of another's loss", machine.name);
        }
    }
}

fn pairs(count: usize) -> Vec<(usize, usize)> {
    let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to).collect()
}
