//! Every way in which a file comes into the outbox: it arrives exactly once, whole, byte for byte, and not before it is
//! closed (design, section 2, "Sending").

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::outbox::{Pair, content, contents, rounds, run};
use support::{User, entries, wait_for};
use tempfile::TempDir;

/// A directory on another filesystem than the root.
fn other_filesystem(root: &Path) -> TempDir {
    let other = TempDir::new_in("/dev/shm").unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(other.path()), device(root), "/dev/shm and the scratch directory are one filesystem");
    other
}

/// What a shell does with the draft as `$1` and the file in the outbox as `$2`.
fn shell(script: &str, draft: &Path, target: &Path) {
    run("sh", &[Path::new("-ec"), Path::new(script), Path::new("sh"), draft, target]);
}

fn is_waiting(user: &User, path: &str) {
    user.wait_for_status(&format!("waiting: {path}: another program has it open"));
}

#[test]
fn whatever_tool_makes_a_file_it_arrives_once_byte_for_byte() {
    let mut pair = Pair::new();
    let (near, far) = (pair.elsewhere(), other_filesystem(&pair.alice.root));
    let outbox = pair.outbox("bob");
    type Tool = fn(&Path, &Path);
    let tools: [(&str, Tool); 12] = [
        ("redirect", |draft, target| shell("cat \"$1\" > \"$2\"", draft, target)),
        ("append", |draft, target| shell("cat \"$1\" >> \"$2\"", draft, target)),
        ("group", |draft, target| shell("{ head -c 50 \"$1\"; tail -c +51 \"$1\"; } > \"$2\"", draft, target)),
        ("tee", |draft, target| shell("tee \"$2\" < \"$1\" > /dev/null", draft, target)),
        ("dd", |draft, target| shell("dd if=\"$1\" of=\"$2\" bs=16 status=none", draft, target)),
        ("cp", |draft, target| run("cp", &[draft, target])),
        ("cp-p", |draft, target| run("cp", &[Path::new("-p"), draft, target])),
        ("mv", |draft, target| run("mv", &[draft, target])),
        ("ln", |draft, target| run("ln", &[draft, target])),
        ("rsync", |draft, target| run("rsync", &[Path::new("-a"), draft, target])),
        // It changes the mode by name, after it has closed the file and the file may have gone: then it complains,
        // though everything was written.
        ("install", |draft, target| drop(Command::new("install").arg(draft).arg(target).output().unwrap())),
        ("vim", |draft, target| {
            let directory = target.parent().unwrap();
            // A space would end the name. Not through `!cat`: vim hands its own scratch file to a shell without quotes.
            let [draft, target] = [draft, target].map(|path| path.to_str().unwrap().replace(' ', "\\ "));
            let script = format!("0read {draft}\nwrite {target}\nquit\n");
            vim(directory, &[], &script);
        }),
    ];
    for round in 0..2 {
        for (name, tool) in tools {
            for (place, directory) in [("near", near.as_path()), ("far", far.path())] {
                if place == "far" && name == "ln" {
                    continue;
                }
                let name = format!("{name}-{place}-{round}.bin");
                let draft = directory.join(&name);
                // An editor is no place for arbitrary bytes.
                let bytes =
                    if name.starts_with("vim") { format!("{name}\nline\n").into_bytes() } else { content(&name) };
                fs::write(&draft, &bytes).unwrap();
                tool(&draft, &outbox.join(&name));
                pair.expect(bytes);
            }
        }
    }
    pair.everything_arrives_once();
    let names: Vec<String> = pair.bob.messages().into_iter().map(|(_, name, _)| name).collect();
    assert!(names.iter().any(|name| name.ends_with("Z-alice-rsync-far-0.bin")), "{names:?}");
}

/// Runs vim's smallest form in `directory` on a script of commands.
fn vim(directory: &Path, arguments: &[&Path], script: &str) {
    let mut vim = Command::new("vim.tiny");
    vim.args(["-N", "-u", "NONE", "-i", "NONE", "-es"]).args(arguments).current_dir(directory);
    let mut child = vim.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

#[test]
fn an_editor_that_mends_a_refused_file_sends_what_it_saved_once_and_nothing_else() {
    let mut pair = Pair::new();
    let outbox = pair.outbox("bob");
    let at = |name: &str| outbox.join(name);
    type Editor = fn(&Path);
    let editors: [(&str, Editor); 5] = [
        ("vim", |path| vim_saves(path, "nobackup writebackup")),
        ("vim-backup-by-rename", |path| vim_saves(path, "backup backupcopy=no")),
        ("vim-backup-by-copy", |path| vim_saves(path, "backup backupcopy=yes")),
        ("ed", |path| {
            let script = "printf '%s\\n' 1,\\$d a \"mended $2\" . w q | ed -s \"$1\"";
            shell(script, path, Path::new(path.file_name().unwrap()));
        }),
        ("by-hand", |path| {
            let beside = |name: String| path.with_file_name(name);
            let name = path.file_name().unwrap().display().to_string();
            let mut swap = File::create(beside(format!(".{name}.swp"))).unwrap();
            swap.write_all(&[b'b'; 4096]).unwrap();
            drop(File::create(beside("4913".into())).unwrap());
            fs::remove_file(beside("4913".into())).unwrap();
            fs::rename(path, beside(format!("{name}~"))).unwrap();
            let mut file = File::create(path).unwrap();
            file.write_all(format!("mended {name}\n").as_bytes()).unwrap();
            file.sync_all().unwrap();
            drop(file);
            fs::remove_file(beside(format!("{name}~"))).unwrap();
            fs::remove_file(beside(format!(".{name}.swp"))).unwrap();
        }),
    ];
    for round in 0..3 {
        for (name, editor) in editors {
            let name = format!("{name}-{round}");
            fs::write(at(&name), "a line that is too much\n".repeat(500)).unwrap();
            pair.alice.wait_for_file(format!("outbox/bob/{name}.error"));
            editor(&at(&name));
            let mended = format!("mended {name}\n");
            pair.bob.wait_for_message(&mended);
            pair.expect(mended);
            pair.alice.wait_until_gone(format!("outbox/bob/{name}.error"));
        }
    }
    pair.everything_arrives_once();
}

/// Replaces the text of a file with `mended NAME`.
fn vim_saves(path: &Path, options: &str) {
    let name = path.file_name().unwrap().display();
    // By itself it keeps no backups of what lies in /tmp.
    let script = format!("set swapfile backupskip= {options}\n2,$delete\n1substitute/.*/mended {name}/\nwrite\nquit\n");
    vim(path.parent().unwrap(), &[path], &script);
}

#[test]
fn what_tee_writes_in_several_goes_waits_for_its_end_and_is_sent_whole() {
    let mut pair = Pair::new();
    let path = pair.outbox("bob").join("log");
    let mut tee = Command::new("tee").arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut whole = Vec::new();
    for go in 0..4 {
        let part = content(&format!("part {go}"))[..2_000].to_vec();
        tee.stdin.as_mut().unwrap().write_all(&part).unwrap();
        whole.extend(part);
        wait_for(&pair.alice.root, "what tee wrote", || {
            fs::metadata(&path).is_ok_and(|found| found.len() == whole.len() as u64).then_some(())
        });
        is_waiting(&pair.alice, "outbox/bob/log");
        // What would have been sent of it would have come before this.
        pair.nothing_else_arrives(std::slice::from_ref(&path));
    }
    drop(tee.stdin.take());
    assert!(tee.wait().unwrap().success());
    pair.expect(whole);
    pair.everything_arrives_once();
}

#[test]
fn every_link_to_a_file_that_lives_elsewhere_is_a_message_under_an_old_name_too() {
    let mut pair = Pair::new();
    let outbox = pair.outbox("bob");
    let original = pair.elsewhere().join("original");
    let bytes = content("original");
    fs::write(&original, &bytes).unwrap();
    let link = |name: &str| fs::hard_link(&original, outbox.join(name)).unwrap();
    // Two at once, two after each other, and one under a name that was taken before.
    ["one", "two"].into_iter().for_each(link);
    for name in ["three", "one", "one", "two"] {
        pair.wait_until_taken(&[]);
        link(name);
    }
    (0..6).for_each(|_| pair.expect(bytes.clone()));
    pair.everything_arrives_once();
    assert_eq!(fs::read(&original).unwrap(), bytes);
    // And the file itself, at last.
    fs::rename(&original, outbox.join("one")).unwrap();
    pair.expect(bytes);
    pair.everything_arrives_once();
}

#[test]
fn a_file_moved_in_or_renamed_while_it_is_written_goes_once_under_its_last_name() {
    let mut pair = Pair::new();
    let outbox = pair.outbox("bob");
    let draft = pair.elsewhere().join("draft");
    for round in 0..5 {
        let (first, second, last) =
            (format!("first-{round}.txt"), format!("second-{round}.txt"), format!("last-{round}.txt"));
        let bytes = content(&last);
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        let mut writer = File::create(&draft).unwrap();
        writer.write_all(head).unwrap();
        fs::rename(&draft, outbox.join(&first)).unwrap();
        if round > 1 {
            is_waiting(&pair.alice, &format!("outbox/bob/{first}"));
        }
        fs::rename(outbox.join(&first), outbox.join(&second)).unwrap();
        if round > 2 {
            is_waiting(&pair.alice, &format!("outbox/bob/{second}"));
        }
        fs::rename(outbox.join(&second), outbox.join(&last)).unwrap();
        writer.write_all(tail).unwrap();
        if round > 3 {
            is_waiting(&pair.alice, &format!("outbox/bob/{last}"));
            pair.nothing_else_arrives(&[outbox.join(&last)]);
        }
        drop(writer);
        pair.expect(bytes);
        pair.everything_arrives_once();
    }
    let mut names: Vec<String> = pair.bob.messages().into_iter().map(|(_, name, _)| name).collect();
    names.retain(|name| !name.contains("-fence-"));
    assert!(names.len() == 5 && names.iter().all(|name| name.contains("Z-alice-last-")), "{names:?}");
    let status = fs::read_to_string(pair.alice.at("status")).unwrap();
    assert!(!status.contains("waiting:"), "{status}");
}

/// A writable shared mapping without a descriptor.
struct Mapping {
    address: *mut libc::c_void,
    length: usize,
}

#[allow(unsafe_code)]
impl Mapping {
    fn of(path: &Path) -> Self {
        use std::os::fd::AsRawFd as _;
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file.as_raw_fd(), 0) };
        assert_ne!(address, libc::MAP_FAILED);
        Self { address, length }
    }

    fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length);
        // SAFETY: the mapping is ours alone, writable, and as long.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.cast(), bytes.len()) };
    }
}

#[allow(unsafe_code)]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        assert_eq!(unsafe { libc::munmap(self.address, self.length) }, 0);
    }
}

#[test]
fn a_file_that_is_mapped_for_writing_waits_until_it_is_unmapped() {
    let mut pair = Pair::new();
    let outbox = pair.outbox("bob");
    for round in 0..3 {
        let bytes = content(&format!("mapped {round}"));
        let draft = pair.elsewhere().join("draft");
        fs::write(&draft, vec![0; bytes.len()]).unwrap();
        let mut mapping = Mapping::of(&draft);
        let name = format!("mapped-{round}");
        fs::rename(&draft, outbox.join(&name)).unwrap();
        is_waiting(&pair.alice, &format!("outbox/bob/{name}"));
        pair.nothing_else_arrives(&[outbox.join(&name)]);
        mapping.write(&bytes);
        drop(mapping);
        pair.expect(bytes);
        pair.everything_arrives_once();
    }
}

#[test]
fn at_the_start_and_at_a_rescan_what_is_closed_is_sent_and_what_is_open_waits() {
    let mut pair = Pair::not_started();
    let (outbox, others) = (pair.outbox("bob"), pair.outbox("carol"));
    let carol = pair.world.user("carol");
    for number in 0..50 {
        let bytes = content(&format!("early {number}"));
        fs::write(outbox.join(format!("early-{number}")), &bytes).unwrap();
        pair.expect(bytes);
    }
    let begin = |path: PathBuf| {
        let mut file = File::create(path).unwrap();
        file.write_all(b"begun before, ").unwrap();
        file
    };
    let mut writers = [begin(outbox.join("slow")), begin(others.join("slow"))];
    fs::write(others.join("quick"), "for carol").unwrap();
    pair.alice.start();
    is_waiting(&pair.alice, "outbox/bob/slow");
    pair.alice.wait_for_file("outbox/carol.error");
    pair.wait_for_all();
    // A new card makes the daemon look at everything again.
    pair.alice.add(&carol);
    pair.alice.wait_until_gone("outbox/carol/quick");
    for restart in [false, true] {
        if restart {
            pair.alice.kill();
            pair.alice.start();
            pair.alice.wait_for_status("connection: connected");
        }
        is_waiting(&pair.alice, "outbox/bob/slow");
        is_waiting(&pair.alice, "outbox/carol/slow");
    }
    writers.iter_mut().for_each(|writer| writer.write_all(b"ended after").unwrap());
    drop(writers);
    pair.bob.wait_for_message("begun before, ended after");
    pair.wait_until_taken(&[]);
    pair.alice.drop_file("bob", "last", "last");
    pair.bob.wait_for_message("last");
    let count = |user: &User, wanted: &str| contents(user).iter().filter(|bytes| *bytes == wanted.as_bytes()).count();
    assert_eq!([Pair::count(&pair.bob), count(&pair.bob, "begun before, ended after")], [52, 1]);
    let to_both = ["for carol", "begun before, ended after"].map(|wanted| count(&pair.alice, wanted));
    assert_eq!((Pair::count(&pair.alice), to_both), (54, [1, 2]));
}

#[test]
fn a_directory_moved_in_with_its_files_sends_each_once() {
    let mut pair = Pair::new();
    for round in 0..rounds(8) {
        let draft = pair.elsewhere().join("draft");
        fs::create_dir(&draft).unwrap();
        fs::write(draft.join("metadata.toml"), format!("subject = \"{round}\"\nparticipants = [\"bob\"]\n")).unwrap();
        for number in 0..20 {
            let bytes = content(&format!("{round} {number}"));
            fs::write(draft.join(number.to_string()), &bytes).unwrap();
            pair.expect(bytes);
        }
        fs::rename(&draft, pair.alice.at(format!("outbox/moved-{round}"))).unwrap();
        // One more in the instant after.
        let bytes = content(&format!("{round} late"));
        fs::write(pair.alice.at(format!("outbox/moved-{round}/late")), &bytes).unwrap();
        pair.expect(bytes);
    }
    pair.everything_arrives_once();
}

#[test]
fn files_dropped_in_the_instant_after_mkdir_are_sent_once_also_where_the_name_was_used_before() {
    let mut pair = Pair::new();
    let rounds = rounds(12);
    for round in 0..rounds {
        // A conversation by its name, always the same, and one by its metadata, a new one each time.
        let directories = [pair.alice.at("outbox/bob"), pair.alice.at("outbox/other")];
        fs::create_dir(&directories[0]).unwrap();
        fs::create_dir(&directories[1]).unwrap();
        fs::write(directories[1].join("metadata.toml"), "participants = [\"bob\"]\n").unwrap();
        for (number, directory) in directories.iter().cycle().take(6).enumerate() {
            let bytes = content(&format!("{round} {number}"));
            fs::write(directory.join(number.to_string()), &bytes).unwrap();
            pair.expect(bytes);
        }
        pair.wait_until_taken(&[]);
        directories.iter().for_each(|directory| fs::remove_dir_all(directory).unwrap());
    }
    pair.everything_arrives_once();
    assert_eq!(entries(&pair.bob.at("conversations")).len(), rounds + 1);
}

#[test]
fn a_directory_renamed_while_its_files_are_read_and_taken_sends_each_once() {
    let mut pair = Pair::new();
    let names = [pair.alice.at("outbox/here"), pair.alice.at("outbox/there")];
    fs::create_dir(&names[0]).unwrap();
    fs::write(names[0].join("metadata.toml"), "participants = [\"bob\"]\n").unwrap();
    fs::write(names[0].join("first"), "first").unwrap();
    pair.expect("first");
    // By this it is known again.
    pair.alice.wait_for_file("outbox/here/.id");
    for round in 0..rounds(100) {
        let [from, to] = if round % 2 == 0 { [&names[0], &names[1]] } else { [&names[1], &names[0]] };
        for number in 0..2 {
            let bytes = content(&format!("{round} {number}"));
            fs::write(from.join(format!("{round}-{number}")), &bytes).unwrap();
            pair.expect(bytes);
        }
        fs::rename(from, to).unwrap();
        if round % 10 == 0 {
            pair.wait_until_taken(&[]);
        }
    }
    pair.everything_arrives_once();
    assert_eq!(entries(&pair.bob.at("conversations")).len(), 2, "its own, and that of the last fence");
}

#[test]
fn a_directory_renamed_while_its_first_file_is_taken_stays_one_conversation_and_sends_each_once() {
    let mut pair = Pair::new();
    let rounds = rounds(60);
    for round in 0..rounds {
        let draft = pair.elsewhere().join("draft");
        fs::create_dir(&draft).unwrap();
        fs::write(draft.join("metadata.toml"), format!("subject = \"{round}\"\nparticipants = [\"bob\"]\n")).unwrap();
        let bytes = content(&format!("{round} first"));
        fs::write(draft.join("first"), &bytes).unwrap();
        pair.expect(bytes);
        let (made, renamed) = (pair.alice.at(format!("outbox/made-{round}")), pair.alice.at(format!("outbox/{round}")));
        fs::rename(&draft, &made).unwrap();
        // At any instant; and at that when its conversation appears, before the file is taken.
        let is_there = || made.join("first").exists();
        let has_appeared = || entries(&pair.alice.at("conversations")).len() > round;
        let _ = (0..round % 100 * 100).all(|_| is_there() && (round % 2 == 0 || !has_appeared()));
        fs::rename(&made, &renamed).unwrap();
        let bytes = content(&format!("{round} second"));
        fs::write(renamed.join("second"), &bytes).unwrap();
        pair.expect(bytes);
    }
    pair.everything_arrives_once();
    assert_eq!(entries(&pair.bob.at("conversations")).len(), rounds + 1);
    assert!(entries(&pair.alice.at("outbox")).iter().all(|path| !path.to_string_lossy().contains("made-")));
}

#[test]
fn a_directory_or_file_removed_while_in_use_sends_what_was_taken_once_and_holds_up_nothing() {
    let mut pair = Pair::new();
    let (mut possible, mut certain) = (Vec::new(), Vec::new());
    for round in 0..rounds(60) {
        let directory = pair.outbox("bob");
        for number in 0..4 {
            let bytes = content(&format!("{round} {number}"));
            fs::write(directory.join(number.to_string()), &bytes).unwrap();
            possible.push(bytes);
        }
        // Who finds a file gone knows that it was taken.
        let dropped = possible.iter().rev().take(4).rev();
        for (number, bytes) in dropped.enumerate() {
            if fs::remove_file(directory.join(number.to_string())).is_err() {
                certain.push(bytes.clone());
            }
        }
        // Its `.id` may be put there in between.
        while fs::remove_dir_all(&directory).is_err() {}
    }
    pair.each_arrives_at_most_once(&possible, &certain);
    assert!(pair.alice.daemon.as_mut().unwrap().is_running());
    let status = fs::read_to_string(pair.alice.at("status")).unwrap();
    assert!(!status.contains("waiting:") && !status.contains("refused:") && !status.contains("paused:"), "{status}");
}
