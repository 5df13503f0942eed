//! SIGKILL in front of the system calls that change the disk, one after the other, in the sender's daemon, the
//! recipient's daemon and the server, while messages go both ways. After each, the one that was killed is started again,
//! and both ends must agree: every message exactly once at either side, byte for byte, and nothing left over.
//!
//! A run without a kill first shows which calls there are ([`strace::points`]). `CHATTERBOX_CRASH_POINTS` says how many
//! of them each test tries, evenly spread: a number, or `all` (`scripts/crash-matrix`).

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use support::agreement;
use support::strace::{self, Point, Tracer, calls};
use support::{Process, Signal, User, World, is_left_out, wait_for};

/// Points of each test if nothing else is asked for.
const POINTS: usize = 4;

/// Files that one side drops at once.
const BURST: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Sender,
    Recipient,
    Server,
}

/// What the victim is doing when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum During {
    /// The first messages between two people: upload of prekeys, opening of a session.
    First,
    /// A standing session, then a clean stop with its checkpoint.
    Standing,
    /// A start after a crash: replay and a new log, then the same.
    Start,
    /// A start after a crash in the middle of applying a record.
    Replay,
}

/// Two people, what they sent, and their server.
struct Field {
    world: World,
    people: [User; 2],
    sent: [Vec<String>; 2],
    round: usize,
}

impl Field {
    fn new() -> Self {
        let world = World::new();
        let people = world.friends(["alice", "bob"]);
        let mut field = Self { world, people, sent: [Vec::new(), Vec::new()], round: 0 };
        field.everything_arrives();
        field
    }

    /// Two new people, whose daemons wait for a server that does not answer yet.
    fn newcomers(&mut self) {
        self.round += 1;
        self.people.iter_mut().filter(|user| user.daemon.is_some()).for_each(User::kill);
        let names = ["alice", "bob"].map(|name| format!("{name}{}", self.round));
        self.people = names.map(|name| self.world.user(&name));
        self.people[0].add(&self.people[1]);
        self.people[1].add(&self.people[0]);
        self.sent = [Vec::new(), Vec::new()];
    }

    fn process(&mut self, victim: Victim) -> &mut Option<Process> {
        match victim {
            Victim::Sender => &mut self.people[0].daemon,
            Victim::Recipient => &mut self.people[1].daemon,
            Victim::Server => &mut self.world.server.process,
        }
    }

    fn start(&mut self, victim: Victim) {
        match victim {
            Victim::Sender => self.people[0].start(),
            Victim::Recipient => self.people[1].start(),
            Victim::Server => self.world.server.start(),
        }
    }

    fn start_under(&mut self, victim: Victim, wrapper: std::process::Command) {
        match victim {
            Victim::Sender => self.people[0].start_under(wrapper),
            Victim::Recipient => self.people[1].start_under(wrapper),
            Victim::Server => self.world.server.start_under(wrapper),
        }
    }

    /// Drops a file for the other; the content names it.
    fn drop_one(&mut self, from: usize, by_rename: bool) {
        let number = self.sent[from].len();
        let to = self.people[1 - from].name.clone();
        let content = agreement::content(number, &self.people[from].name);
        let drop_it = if by_rename { User::move_file } else { User::drop_file };
        drop_it(&self.people[from], &to, &format!("{number}.txt"), content.clone());
        self.sent[from].push(content);
    }

    fn traffic(&mut self) {
        self.drop_one(0, false);
        self.drop_one(1, true);
        for _ in 0..BURST {
            self.drop_one(0, true);
        }
    }

    /// Whether everything that was dropped stands at both sides and nobody waits for anything.
    fn is_quiet(&self) -> bool {
        let is_idle =
            |user: &User| fs::read_to_string(user.at("status")).is_ok_and(|text| text.contains("\nqueue: 0\n"));
        agreement::has_arrived(&self.people, &self.sent) && self.people.iter().all(is_idle)
    }

    /// Runs the victim up to `point`, or, if it is never reached, through everything and a clean stop. True if it was
    /// killed.
    fn run(&mut self, victim: Victim, during: During, point: &Point, log: &Path) -> bool {
        let tracer = match during {
            During::First => {
                self.newcomers();
                let server = self.process(Victim::Server).as_ref().unwrap();
                let tracer = if victim == Victim::Server {
                    let tracer = Tracer::attach(server, log, point);
                    self.people.iter_mut().for_each(User::start);
                    tracer
                } else {
                    // Connections wait until we look on.
                    server.signal(Signal::STOP);
                    self.people.iter_mut().for_each(User::start);
                    self.people.iter().for_each(|user| drop(user.wait_for_status("daemon: running")));
                    let tracer = Tracer::attach(self.process(victim).as_ref().unwrap(), log, point);
                    self.process(Victim::Server).as_ref().unwrap().signal(Signal::CONT);
                    tracer
                };
                self.traffic();
                Some(tracer)
            }
            During::Standing => {
                let tracer = Tracer::attach(self.process(victim).as_ref().unwrap(), log, point);
                self.traffic();
                Some(tracer)
            }
            During::Replay => {
                // The second and later of these calls move messages and outbox files, each round another.
                self.round += 1;
                let half_applied = Point { call: "renameat2".to_owned(), number: 2 + self.round % 9 };
                let first = log.with_extension("first");
                let tracer = Tracer::attach(self.process(victim).as_ref().unwrap(), &first, &half_applied);
                self.traffic();
                self.wait_for_end(victim);
                let process = self.process(victim).take().unwrap();
                process.kill();
                tracer.wait();
                self.start_under(victim, strace::launch(log, point));
                None
            }
            During::Start => {
                self.traffic();
                self.process(victim).take().unwrap().kill();
                self.start_under(victim, strace::launch(log, point));
                None
            }
        };
        let alive = self.wait_for_end(victim);
        let process = self.process(victim).take().unwrap();
        if alive {
            process.signal(Signal::TERM);
        }
        let status = process.wait();
        if let Some(tracer) = tracer {
            tracer.wait();
        }
        let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
        assert!(killed || status.success(), "{status}");
        killed
    }

    /// Whether `status` is this process's own, and not what one before it left: until then a signal may end it as it ends
    /// any program.
    fn has_started(&self, victim: Victim, pid: u32) -> bool {
        let user = match victim {
            Victim::Sender => &self.people[0],
            Victim::Recipient => &self.people[1],
            Victim::Server => return true,
        };
        fs::read_to_string(user.at("status")).unwrap_or_default().contains(&format!("\npid: {pid}\n"))
    }

    /// Until the victim has ended, or everything is quiet without. True if it runs.
    fn wait_for_end(&mut self, victim: Victim) -> bool {
        let mut process = self.process(victim).take().unwrap();
        let scratch = self.world.scratch.path().to_owned();
        let alive = wait_for(&scratch, "the victim's end, or quiet", || {
            let runs = process.is_running();
            (!runs || (self.has_started(victim, process.pid()) && self.is_quiet())).then_some(runs)
        });
        *self.process(victim) = Some(process);
        alive
    }

    /// Both ends agree, and go on.
    fn everything_arrives(&mut self) {
        // What is sent twice is on its way before this: in order, it would have come when these have.
        self.drop_one(0, true);
        self.drop_one(1, true);
        agreement::everything_arrives(self.world.scratch.path(), &self.people, &self.sent);
        for user in &self.people {
            user.wait_for("every message to be known as delivered", || {
                let messages = user.messages().into_iter();
                let own = messages.filter(|(_, name, _)| name.contains(&format!("Z-{}-", user.name)));
                let states =
                    own.map(|(directory, name, _)| user.delivery(&user.at("conversations").join(directory).join(name)));
                states.into_iter().all(|text| text.contains(" delivered ")).then_some(())
            });
        }
    }
}

/// How many points each test tries.
fn wanted(available: usize) -> usize {
    match std::env::var("CHATTERBOX_CRASH_POINTS") {
        Ok(text) if text == "all" => available,
        Ok(text) => text.parse().unwrap(),
        Err(_) => POINTS,
    }
}

/// For people too: what a test that succeeds prints is not shown otherwise.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn kill_everywhere(victim: Victim, during: During) {
    if is_left_out(strace::missing()) {
        return;
    }
    let mut field = Field::new();
    let log = |field: &Field, name: &str| strace::log_in(field.world.scratch.path(), name);
    let complete = log(&field, "complete");
    assert!(!field.run(victim, during, &Point::never(), &complete));
    field.start(victim);
    field.everything_arrives();
    let points = strace::points(&complete);
    assert!(!points.is_empty(), "the trace has no calls");
    let tries = wanted(points.len()).min(points.len());
    let mut sites: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..tries {
        // From the middle of each stretch.
        let point = &points[(2 * number + 1) * points.len() / (2 * tries)];
        let trace = log(&field, "killed");
        if std::env::var_os("CHATTERBOX_CRASH_POINTS").is_some() {
            say(&format!("{victim:?} {during:?} {}/{tries}: {} {}", number + 1, point.call, point.number));
        }
        if field.run(victim, during, point, &trace) {
            *sites.entry(point.call.clone()).or_default() += 1;
        }
        field.start(victim);
        field.everything_arrives();
        fs::remove_file(trace).unwrap();
    }
    let covered: usize = sites.values().sum();
    assert!(covered > 0, "no point was reached");
    say(&format!("crash points covered: {covered} of {} ({victim:?} {during:?}; {sites:?})", points.len()));
}

#[test]
fn a_sender_killed_in_the_first_exchange_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Sender, During::First);
}

#[test]
fn a_recipient_killed_in_the_first_exchange_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Recipient, During::First);
}

#[test]
fn a_server_killed_in_the_first_exchange_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Server, During::First);
}

#[test]
fn a_sender_killed_in_a_standing_session_or_its_stop_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Sender, During::Standing);
}

#[test]
fn a_recipient_killed_in_a_standing_session_or_its_stop_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Recipient, During::Standing);
}

#[test]
fn a_server_killed_in_a_standing_session_or_its_stop_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Server, During::Standing);
}

#[test]
fn a_sender_killed_in_the_replay_after_a_crash_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Sender, During::Start);
}

#[test]
fn a_recipient_killed_in_the_replay_after_a_crash_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Recipient, During::Start);
}

#[test]
fn a_sender_killed_again_in_the_replay_of_what_was_half_applied_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Sender, During::Replay);
}

#[test]
fn a_recipient_killed_again_in_the_replay_of_what_was_half_applied_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Recipient, During::Replay);
}

#[test]
fn a_server_killed_in_its_start_after_a_crash_loses_and_doubles_nothing() {
    kill_everywhere(Victim::Server, During::Start);
}

/// What is traced to count syncs: these, what leaves, and what names appear and go.
const SYNCS: &str = "trace=fdatasync,fsync,syncfs,sendto,sendmsg,writev,openat,rename,renameat2,unlink";

fn is_sync(name: &str) -> bool {
    matches!(name, "fdatasync" | "fsync" | "syncfs" | "sync")
}

#[test]
fn a_message_in_a_standing_session_takes_one_sync_at_the_sender_one_at_the_server_and_one_at_the_recipient() {
    if is_left_out(strace::missing()) {
        return;
    }
    let mut field = Field::new();
    // An acknowledgement is another message, in the other direction.
    for user in &mut field.people {
        user.stop();
        user.set("acknowledge = false");
        user.start();
        user.wait_for_status("connection: connected");
    }
    let [alice, server, bob] = [Victim::Sender, Victim::Server, Victim::Recipient].map(|one| {
        let log = strace::log_in(field.world.scratch.path(), "syncs");
        let options = ["-yy".to_owned(), "-e".to_owned(), SYNCS.to_owned()];
        (Tracer::attach_with(field.process(one).as_ref().unwrap(), &log, &options), log)
    });
    let logs = [&alice.1, &server.1, &bob.1];
    let count = |of: usize| calls(logs[of]).len();
    let sender = field.people[0].root.clone();
    let mut measured = None;
    // The first only shows that everybody listens. A checkpoint that begins in between belongs to the messages before.
    for number in 0..20 {
        let before = [0, 1, 2].map(count);
        let name = format!("sync-{number}.txt");
        let content = format!("count {number}");
        field.people[0].move_file("bob", &name, &content);
        let message = field.people[1].wait_for_message(&content);
        let kept = field.people[0].wait_for_message(&content);
        field.people[0].wait_until_accepted(&kept);
        let message = message.file_name().unwrap().to_str().unwrap().to_owned();
        // The last of it all is the deletion at the server; the traces are written line by line.
        let scratch = field.world.scratch.path().to_owned();
        let new = |of: usize| calls(logs[of]).split_off(before[of]);
        let syncs = |calls: &[strace::Call]| calls.iter().filter(|call| is_sync(&call.name)).count();
        let is_send = |call: &strace::Call| {
            matches!(call.name.as_str(), "sendto" | "sendmsg" | "writev") && call.rest.contains("TCP")
        };
        // To the sender, to the recipient, and to the recipient who had it deleted.
        wait_for(&scratch.join("traces"), "the deletion at the server", || {
            let calls = new(1);
            (syncs(&calls) >= 2 && calls.iter().filter(|call| is_send(call)).count() >= 3).then_some(())
        });
        let [at_alice, at_server, at_bob] = [0, 1, 2].map(new);
        if number == 0 || [&at_alice, &at_bob].iter().any(|calls| calls.iter().any(|call| call.name == "syncfs")) {
            continue;
        }
        if at_server.first().is_some_and(is_send) {
            // A reply about the message before.
            continue;
        }
        let position = |calls: &[strace::Call], what: &dyn Fn(&strace::Call) -> bool| calls.iter().position(what);
        let outbox = sender.join("outbox/bob").join(&name).display().to_string();
        let read = position(&at_alice, &|call| call.name == "openat" && call.rest.contains(&outbox)).unwrap();
        let after = at_alice.split_at(read).1;
        let left = position(after, &is_send).unwrap();
        let pushed = position(&at_server, &is_send).unwrap();
        let visible = |call: &strace::Call| call.name.starts_with("rename") && call.rest.contains(&message);
        let visible = position(&at_bob, &visible).unwrap();
        let on_the_way = [&after[..left], &at_server[..pushed], &at_bob[..visible]].map(syncs);
        let all = [&at_alice, &at_server, &at_bob].map(|calls| syncs(calls));
        assert_eq!(on_the_way, [1, 1, 1], "{after:?}\n{at_server:?}\n{at_bob:?}");
        measured = Some(all);
        break;
    }
    let all = measured.expect("no message went without a checkpoint in between");
    assert_eq!(all, [2, 2, 1], "with the acceptance noted at the sender and the deletion at the server");
    say(
        "syncs on the way of a message: 3 (sender 1, server 1, recipient 1); afterwards 1 at the sender, 1 at the server",
    );
    drop((alice, server, bob));
}
