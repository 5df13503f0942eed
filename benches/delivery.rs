//! From `mv` into Alice's outbox to the file in Bob's conversation, through the real programs on loopback: latency as
//! multiples of a disk sync measured in the same run, and messages a second for many files dropped at once.
//!
//! `scripts/bench` runs it, in a directory on a disk; the numbers go to `docs/performance.md`. A machine that is busy with
//! something else slows the disk down too: so syncs are measured before, between and behind the rest, and all of them count.

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

/// Rounds, between which syncs are measured, and messages in each.
const LATENCY_ROUNDS: usize = 6;
const LATENCY_MESSAGES: usize = 50;
const BURSTS: usize = 3;
const BURST_MESSAGES: usize = 1_000;
const SYNCS: usize = 100;
const SYNC_BYTES: usize = 16 * 1024;

/// What the design wants of the median: three syncs, one for each program, and this.
const OVERHEAD_TARGET_MS: f64 = 2.0;
const BURST_TARGET: f64 = 1_000.0;

fn main() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.move_file("bob", "first", "first");
    bob.wait_for_message("first");
    bob.drop_file("alice", "answer", "answer");
    alice.wait_for_message("answer");

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

    let (mut syncs, mut latencies, mut bursts, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), [0.0; 3]);
    for _ in 0..LATENCY_ROUNDS {
        syncs.extend(sync_times(world.scratch.path()));
        latencies.extend((0..LATENCY_MESSAGES).map(|_| one(&alice, &arrivals)));
    }
    for _ in 0..BURSTS {
        syncs.extend(sync_times(world.scratch.path()));
        let (rate, each) = burst(&world, &alice, &bob, &arrivals);
        bursts.push(rate);
        cpu.iter_mut().zip(each).for_each(|(sum, each)| *sum += each / BURSTS as f64);
    }
    syncs.extend(sync_times(world.scratch.path()));
    syncs.sort();
    latencies.sort();
    bursts.sort_by(f64::total_cmp);
    print(world.scratch.path(), &syncs, &latencies, &bursts, cpu);
}

/// Everything sorted.
fn print(directory: &Path, syncs: &[Duration], latencies: &[Duration], bursts: &[f64], cpu: [f64; 3]) {
    let mut out = std::io::stdout();
    let mut line = |what: &str, value: String| writeln!(out, "{what:<44}{value}").unwrap();
    let sync = part(syncs, 50);
    let syncs_in = |time: Duration| time.as_secs_f64() / sync.as_secs_f64();
    let (p50, p99) = (part(latencies, 50), part(latencies, 99));
    let overhead = millis(p50) - 3.0 * millis(sync);
    let (burst, slowest, fastest) = (bursts[BURSTS / 2], bursts[0], bursts[BURSTS - 1]);
    let [sender, server, recipient] = cpu;

    line("filesystem", format!("{}, {}", filesystem(directory), directory.display()));
    line("write and fdatasync of 16 KiB, p50", format!("{:8.3} ms", millis(sync)));
    line("write and fdatasync of 16 KiB, p99", format!("{:8.3} ms", millis(part(syncs, 99))));
    line("outbox to conversation, p50", format!("{:8.3} ms = {:.1} syncs", millis(p50), syncs_in(p50)));
    line("outbox to conversation, p99", format!("{:8.3} ms = {:.1} syncs", millis(p99), syncs_in(p99)));
    let target = match overhead < 0.0 {
        true => "not meaningful, since the disk's syncs varied too much in this run",
        false => verdict(overhead < OVERHEAD_TARGET_MS),
    };
    line("p50 - 3 syncs", format!("{overhead:8.3} ms, target below {OVERHEAD_TARGET_MS} ms: {target}"));
    let range = format!("{slowest:.0} to {fastest:.0} in {BURSTS} runs");
    let target = format!("target {BURST_TARGET:.0}: {}", verdict(burst >= BURST_TARGET));
    line(&format!("{BURST_MESSAGES} files dropped at once"), format!("{burst:8.0} messages/s ({range}), {target}"));
    line("CPU time of one of them, sender", format!("{sender:8.3} ms"));
    line("CPU time of one of them, server", format!("{server:8.3} ms"));
    line("CPU time of one of them, recipient", format!("{recipient:8.3} ms"));
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// What kind a directory is on: a sync on a filesystem in memory says nothing.
fn filesystem(directory: &Path) -> String {
    match rustix::fs::statfs(directory).unwrap().f_type as u64 {
        0xEF53 => "ext2/ext3/ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683E => "btrfs".to_owned(),
        0xF2F5_2010 => "f2fs".to_owned(),
        0x2FC1_2FC1 => "zfs".to_owned(),
        0x794C_7630 => "overlayfs".to_owned(),
        0x6969 => "nfs".to_owned(),
        0x0102_1994 => "tmpfs: NOT A DISK, the syncs mean nothing".to_owned(),
        magic => format!("statfs type {magic:#x}"),
    }
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
    (0..SYNCS).map(|_| one()).collect()
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

/// The percentile of what is sorted.
fn part(times: &[Duration], percent: usize) -> Duration {
    times[times.len() * percent / 100]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
