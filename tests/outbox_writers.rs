//! Writers who are faster than the daemon, or come while it is reading: what they wrote is sent whole, nothing is sent
//! twice, and no byte that a writer was let write is lost (design, section 2, "Taking"). Loops with many rounds: each
//! looks for an instant that is hard to hit.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use support::outbox::{Pair, content, contents, rounds};

/// The daemon that was started is the one that runs, whatever signals its leases brought it.
fn lives(pair: &mut Pair, pid: u32) {
    let daemon = pair.alice.daemon.as_mut().unwrap();
    assert!(daemon.is_running() && daemon.pid() == pid);
    pair.alice.wait_for_status(&format!("pid: {pid}"));
    let status = fs::read_to_string(pair.alice.at("status")).unwrap();
    assert!(!status.contains("waiting:") && !status.contains("refused:") && !status.contains("paused:"), "{status}");
}

/// A pair whose daemon runs, its outbox directory, and a directory for drafts.
fn field() -> (Pair, u32, PathBuf, PathBuf) {
    let pair = Pair::new();
    let (outbox, drafts) = (pair.outbox("bob"), pair.elsewhere());
    let pid = pair.alice.daemon.as_ref().unwrap().pid();
    (pair, pid, outbox, drafts)
}

/// Until a name was free for it.
fn until_free(mut make: impl FnMut() -> io::Result<()>) {
    while let Err(error) = make() {
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        thread::yield_now();
    }
}

#[test]
fn the_same_name_dropped_as_soon_as_it_is_free_sends_every_content_once() {
    let (mut pair, pid, outbox, drafts) = field();
    let path = outbox.join("x.txt");
    for round in 0..rounds(200) {
        let bytes = content(&format!("round {round}"));
        let draft = drafts.join("draft");
        match round % 3 {
            // A redirect that overwrites nothing (`set -C`).
            0 => {
                let mut file = None;
                until_free(|| {
                    file = Some(OpenOptions::new().write(true).create_new(true).open(&path)?);
                    Ok(())
                });
                file.unwrap().write_all(&bytes).unwrap();
            }
            1 => {
                fs::write(&draft, &bytes).unwrap();
                until_free(|| {
                    let flags = rustix::fs::RenameFlags::NOREPLACE;
                    Ok(rustix::fs::renameat_with(rustix::fs::CWD, &draft, rustix::fs::CWD, &path, flags)?)
                });
            }
            _ => {
                fs::write(&draft, &bytes).unwrap();
                until_free(|| fs::hard_link(&draft, &path));
                fs::remove_file(&draft).unwrap();
            }
        }
        pair.expect(bytes);
    }
    pair.everything_arrives_once();
    lives(&mut pair, pid);
}

/// Who overwrites what was not sent yet has taken it back; what is sent is one of the contents, whole, and the last.
fn overwritten(write: impl Fn(&Path, &Path, &[u8])) {
    let (mut pair, pid, outbox, drafts) = field();
    let path = outbox.join("x.txt");
    let all: Vec<Vec<u8>> = (0..rounds(200)).map(|round| content(&format!("round {round}"))).collect();
    for (round, bytes) in all.iter().enumerate() {
        write(&path, &drafts.join("draft"), bytes);
        // Now and then the daemon gets as far as reading it.
        if round % 8 == 0 {
            let before = Pair::count(&pair.alice);
            pair.alice.wait_for("a message more", || {
                (Pair::count(&pair.alice) > before || pair.left().is_empty()).then_some(())
            });
        }
    }
    pair.each_arrives_at_most_once(&all, &all[all.len() - 1..]);
    lives(&mut pair, pid);
}

#[test]
fn the_same_name_overwritten_by_redirect_sends_whole_contents_each_at_most_once_and_the_last() {
    overwritten(|path, _, bytes| {
        // In two goes: no half may be sent.
        let mut file = File::create(path).unwrap();
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        file.write_all(head).unwrap();
        file.write_all(tail).unwrap();
    });
}

#[test]
fn the_same_name_replaced_by_rename_sends_whole_contents_each_at_most_once_and_the_last() {
    overwritten(|path, draft, bytes| {
        fs::write(draft, bytes).unwrap();
        fs::rename(draft, path).unwrap();
    });
}

/// Opens for appending what is there, and does not make it.
fn open_if_there(path: &Path) -> Option<File> {
    match OpenOptions::new().append(true).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// Until the daemon holds a lease on a file, as it does from reading it to taking it, or the file is gone.
fn until_leased(path: &Path) {
    while let Ok(found) = fs::metadata(path) {
        // `… LEASE ACTIVE READ PID MAJOR:MINOR:INODE …`
        let inode = format!(":{} ", found.ino());
        let is_leased = |line: &str| line.contains("LEASE") && line.contains(&inode);
        if fs::read_to_string("/proc/locks").unwrap().lines().any(is_leased) {
            return;
        }
    }
}

#[test]
fn a_writer_who_comes_while_his_file_is_taken_loses_no_byte() {
    let (mut pair, pid, outbox, _) = field();
    let (mut possible, mut certain) = (Vec::new(), Vec::new());
    let mut let_in = 0;
    for round in 0..rounds(200) {
        let path = outbox.join(format!("{round}"));
        let first = content(&format!("round {round}"));
        let whole = [&first[..], b", and more"].concat();
        fs::write(&path, &first).unwrap();
        possible.push(first.clone());
        possible.push(whole.clone());
        // While the daemon holds it, or at any instant from its close until it is gone.
        match round % 2 {
            0 => until_leased(&path),
            _ => drop((0..round % 100 * 100).all(|_| path.exists())),
        }
        let Some(mut file) = open_if_there(&path) else {
            certain.push(first);
            continue;
        };
        let_in += 1;
        file.write_all(b", and more").unwrap();
        drop(file);
        certain.push(whole);
    }
    assert!(let_in > 0, "no writer came in time");
    pair.each_arrives_at_most_once(&possible, &certain);
    lives(&mut pair, pid);
}

#[test]
fn a_file_renamed_within_the_outbox_while_it_is_taken_is_sent_once() {
    let (mut pair, pid, outbox, _) = field();
    for round in 0..rounds(200) {
        let [first, last] = ["first", "last"].map(|name| outbox.join(format!("{name}-{round}")));
        let bytes = content(&format!("round {round}"));
        fs::write(&first, &bytes).unwrap();
        pair.expect(bytes);
        until_leased(&first);
        let _ = fs::rename(&first, &last);
    }
    pair.everything_arrives_once();
    lives(&mut pair, pid);
}

/// `sed -i` writes a file beside it, under a name that is no draft's, closes that, and renames it.
#[test]
fn what_sed_puts_in_place_of_a_refused_file_is_sent_once() {
    let (mut pair, _, outbox, _) = field();
    for round in 0..rounds(200) / 10 {
        let path = outbox.join(format!("{round}"));
        fs::write(&path, "a line that is too much\n".repeat(500)).unwrap();
        pair.alice.wait_for_file(format!("outbox/bob/{round}.error"));
        // Closed, it may be sent before it is renamed: then sed complains, and what was refused stays.
        let script = format!("1s/.*/mended {round}/;2,$d");
        drop(Command::new("sed").args(["-i", &script]).arg(&path).output().unwrap());
        pair.expect(format!("mended {round}\n"));
        pair.bob.wait_for_message(&format!("mended {round}\n"));
        let _ = fs::remove_file(&path);
    }
    pair.everything_arrives_once();
}

#[test]
fn a_file_opened_for_writing_and_closed_unchanged_while_it_is_taken_is_sent_once() {
    let (mut pair, pid, outbox, _) = field();
    let mut opened = 0;
    for round in 0..rounds(200) / 3 {
        let path = outbox.join(format!("{round}"));
        let bytes = content(&format!("round {round}"));
        fs::write(&path, &bytes).unwrap();
        pair.expect(bytes);
        // As it is, and where it is put back; whoever comes while the lease is held waits for its end.
        for _ in 0..100 {
            let _ = (0..round % 100 * 20).all(|_| path.exists());
            let Some(file) = open_if_there(&path) else { break };
            drop(file);
            opened += 1;
        }
    }
    assert!(opened > 0, "no writer came in time");
    pair.everything_arrives_once();
    lives(&mut pair, pid);
}

#[test]
fn many_writers_who_break_leases_all_the_time_do_not_end_the_daemon() {
    let (mut pair, pid, outbox, _) = field();
    // Each appends lines to a file of its own, made anew whenever it has gone: every line is in some message.
    let written: Vec<Vec<String>> = thread::scope(|scope| {
        let writer = |number: usize| {
            let outbox = &outbox;
            scope.spawn(move || {
                let append = |round: usize| {
                    // Another name now and then, so that what is sent stays within what may be sent.
                    let path = outbox.join(format!("x-{number}-{}", round / 300));
                    let line = format!("line {number} {round};\n");
                    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
                    file.write_all(line.as_bytes()).unwrap();
                    line
                };
                (0..rounds(200)).map(append).collect()
            })
        };
        let writers: Vec<_> = (0..4).map(writer).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    pair.wait_until_taken(&[]);
    pair.alice.drop_file("bob", "last", "last");
    pair.bob.wait_for_message("last");
    let heard: Vec<String> = contents(&pair.bob).into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    let all = heard.concat();
    let missing: Vec<&String> = written.iter().flatten().filter(|line| !all.contains(*line)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(heard.iter().all(|text| text == "last" || text.ends_with(";\n")), "half a line was sent");
    lives(&mut pair, pid);
}
