//! From `mv` into Alice's outbox to the file in Bob's conversation, through the real programs on loopback: latency as
//! multiples of a disk sync measured in the same run, and messages a second for many files dropped at once.
//!
//! `cargo bench --bench delivery`; the numbers go to `docs/performance.md`.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher as _};
use support::{User, World};

const LATENCY_MESSAGES: usize = 300;
const BURST_MESSAGES: usize = 1_000;
const SYNC_BYTES: usize = 16 * 1024;

fn main() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.move_file("bob", "first", "first");
    bob.wait_for_message("first");
    bob.drop_file("alice", "answer", "answer");
    alice.wait_for_message("answer");

    let sync = median(&mut sync_times(world.scratch.path()));
    let (sender, arrivals) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let arrived = Instant::now();
        for path in event.map(|event| event.paths).unwrap_or_default() {
            let _ = sender.send((path, arrived));
        }
    })
    .unwrap();
    let conversation = bob.directory("conversations", "-alice-bob");
    watcher.watch(&conversation, RecursiveMode::NonRecursive).unwrap();

    let mut latencies: Vec<Duration> = (0..LATENCY_MESSAGES).map(|_| one(&alice, &arrivals)).collect();
    latencies.sort();
    let (p50, p99) = (latencies[LATENCY_MESSAGES / 2], latencies[LATENCY_MESSAGES * 99 / 100]);
    let (burst, cpu) = burst(&world, &alice, &bob, &arrivals);

    let mut out = std::io::stdout();
    let ratio = |time: Duration| time.as_secs_f64() / sync.as_secs_f64();
    writeln!(out, "one write and fdatasync of 16 KiB, median   {:>8.3} ms", millis(sync)).unwrap();
    writeln!(out, "outbox to conversation, p50                 {:>8.3} ms = {:.1} syncs", millis(p50), ratio(p50))
        .unwrap();
    writeln!(out, "outbox to conversation, p99                 {:>8.3} ms = {:.1} syncs", millis(p99), ratio(p99))
        .unwrap();
    writeln!(out, "{BURST_MESSAGES} files dropped at once                   {burst:>8.0} messages/s").unwrap();
    let [sender, server, recipient] = cpu;
    writeln!(out, "CPU for one of them: sender {sender:.2} ms, server {server:.2} ms, recipient {recipient:.2} ms")
        .unwrap();
}

/// Overwriting 16 KiB and syncing it, as a log does.
fn sync_times(directory: &Path) -> Vec<Duration> {
    let file = File::create(directory.join("sync")).unwrap();
    let block = [0x5a; SYNC_BYTES];
    file.write_all_at(&block, 0).unwrap();
    file.sync_all().unwrap();
    let one = || {
        let begun = Instant::now();
        file.write_all_at(&block, 0).unwrap();
        file.sync_data().unwrap();
        begun.elapsed()
    };
    (0..200).map(|_| one()).collect()
}

fn one(alice: &User, arrivals: &mpsc::Receiver<(PathBuf, Instant)>) -> Duration {
    while arrivals.try_recv().is_ok() {}
    let scratch = alice.at("tmp/test/x");
    fs::write(&scratch, [b'x'; 500]).unwrap();
    let begun = Instant::now();
    fs::rename(&scratch, alice.at("outbox/bob/x")).unwrap();
    loop {
        let (path, arrived) = arrivals.recv_timeout(support::DEADLINE).unwrap();
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains("Z-alice")) {
            return arrived - begun;
        }
    }
}

/// Messages a second, from the first rename to the last file's arrival, and the CPU time that each program took for one.
fn burst(world: &World, alice: &User, bob: &User, arrivals: &mpsc::Receiver<(PathBuf, Instant)>) -> (f64, [f64; 3]) {
    let scratch = alice.at("tmp/test/burst");
    fs::create_dir_all(&scratch).unwrap();
    for number in 0..BURST_MESSAGES {
        fs::write(scratch.join(number.to_string()), [b'x'; 500]).unwrap();
    }
    while arrivals.try_recv().is_ok() {}
    let pids = [&alice.daemon, &world.server.process, &bob.daemon].map(|process| process.as_ref().unwrap().pid());
    let cpu = pids.map(cpu_millis);
    let begun = Instant::now();
    for number in 0..BURST_MESSAGES {
        let name = number.to_string();
        fs::rename(scratch.join(&name), alice.at("outbox/bob").join(&name)).unwrap();
    }
    let mut seen = HashSet::new();
    let mut last = begun;
    while seen.len() < BURST_MESSAGES {
        let (path, arrived) = arrivals.recv_timeout(support::DEADLINE).unwrap();
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains("Z-alice")) && seen.insert(path) {
            last = arrived;
        }
    }
    let messages = BURST_MESSAGES as f64;
    let each = [0, 1, 2].map(|place| (cpu_millis(pids[place]) - cpu[place]) / messages);
    (messages / (last - begun).as_secs_f64(), each)
}

/// CPU time of a process so far, in milliseconds (proc(5): fields 14 and 15 of stat, in ticks of 10 ms).
fn cpu_millis(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 10.0
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
