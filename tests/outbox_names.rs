//! What names mean in the outbox: hostile ones, the order of files, directories under several names, many conversations;
//! and what is refused whatever it is called (design, section 2, "Names", "Conversations", "Sending").

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chatterbox::name::unescape;
use support::outbox::{Pair, run};
use support::{User, entries};

fn hostile_names() -> Vec<OsString> {
    let mut names: Vec<Vec<u8>> = [
        &b"a\nb"[..],
        b"\n",
        b"-rf",
        b"--",
        b"\xff\xfe",
        b"100%",
        b"%2F",
        b"a,b",
        b" ",
        b"tab\there",
        b"$(touch x); `touch y`",
        b"x: y",
        b"\x1b[31mred",
        b"*",
        b"metadata.toml.txt",
    ]
    .iter()
    .map(|name| name.to_vec())
    .collect();
    names.push("\u{202e}gpj.exe".into());
    names.push(vec![b'n'; 255]);
    names.push([vec![b'n'; 251], b".txt".to_vec()].concat());
    names.push("€".repeat(85).into());
    names.push(vec![0xff; 255]);
    names.into_iter().map(OsString::from_vec).collect()
}

/// The values of the lines of a text that start with `field: `.
fn values<'a>(text: &'a str, field: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(field)?.strip_prefix(": ")).collect()
}

fn raw(path: &str) -> OsString {
    OsString::from_vec(unescape(path))
}

#[test]
fn files_of_hostile_names_wait_and_are_sent_under_names_that_give_the_original_back() {
    let mut pair = Pair::new();
    let outbox = pair.outbox("bob");
    let names = hostile_names();
    let mut writers: Vec<File> = names.iter().map(|name| File::create(outbox.join(name)).unwrap()).collect();
    let wanted: BTreeSet<OsString> =
        names.iter().map(|name| Path::new("outbox/bob").join(name).into_os_string()).collect();
    for (number, writer) in writers.iter_mut().enumerate() {
        write!(writer, "number {number}").unwrap();
        pair.expect(format!("number {number}"));
    }
    pair.alice.wait_for("a line for each that waits", || {
        let status = fs::read_to_string(pair.alice.at("status")).ok()?;
        let waiting = values(&status, "waiting")
            .into_iter()
            .filter_map(|line| line.strip_suffix(": another program has it open for writing"));
        (waiting.map(raw).collect::<BTreeSet<_>>() == wanted).then_some(())
    });
    drop(writers);
    pair.everything_arrives_once();
    for (number, name) in names.iter().enumerate() {
        let kept = pair.alice.wait_for_message(&format!("number {number}"));
        let delivery = pair.alice.delivery(&kept);
        let [from] = values(&delivery, "outbox")[..] else { panic!("{delivery}") };
        assert_eq!(raw(from), Path::new("outbox/bob").join(name));
        let shown = kept.file_name().unwrap();
        assert!(shown.len() <= 255 && shown.to_str().is_some_and(|text| !text.contains(char::is_control)), "{shown:?}");
    }
}

#[test]
fn directories_of_hostile_names_send_and_their_errors_stand_beside_them() {
    let mut pair = Pair::new();
    for (number, name) in hostile_names().into_iter().enumerate() {
        let directory = pair.alice.at("outbox").join(&name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("x"), format!("number {number}")).unwrap();
        // It names nobody we know.
        let error = pair.alice.wait_for("an error beside the directory", || {
            let mut found = entries(&pair.alice.at("outbox"));
            found.retain(|path| path.as_os_str().as_bytes().ends_with(b".error"));
            found.into_iter().next()
        });
        let beside = error.file_name().unwrap().as_bytes();
        assert!(name.len() > 249 || beside == [name.as_bytes(), b".error"].concat(), "{error:?}");
        fs::write(directory.join("metadata.toml"), "participants = [\"bob\"]\n").unwrap();
        pair.expect(format!("number {number}"));
        pair.bob.wait_for_message(&format!("number {number}"));
        pair.alice.wait_until_gone(error.strip_prefix(&pair.alice.root).unwrap());
    }
    pair.everything_arrives_once();
    let status = fs::read_to_string(pair.alice.at("status")).unwrap();
    assert!(!status.contains("refused:") && !status.contains("waiting:"), "{status}");
}

#[test]
fn an_error_says_a_hostile_name_on_one_line_and_escaped() {
    let mut pair = Pair::new();
    for name in ["a\nb", "\x1b[31mred", "tab\there", "\u{202e}gpj.exe"] {
        pair.alice.drop_file(name, "x", "to nobody");
        let text = pair.alice.wait_for_file(format!("outbox/{name}.error"));
        assert!(text.lines().count() == 3 && !text.contains(['\x1b', '\t', '\u{202e}']), "{text:?}");
        support::remove_tree(pair.alice.at("outbox").join(name));
    }
    pair.nothing_else_arrives(&[]);
}

/// Files in the order in which they are to arrive: by time, those of one time by name with digits as numbers.
fn ordered() -> Vec<(u64, String)> {
    let mut files = vec![(1, "z".to_owned()), (2, "y".to_owned())];
    // More than the daemon takes at a time.
    files.extend((0..300).map(|number| (3, number.to_string())));
    files.extend(["a1", "a2", "a10", "a10b", "b"].map(|name| (3, name.to_owned())));
    files.push((4, "a".to_owned()));
    files
}

fn make_ordered(directory: &Path) {
    // Made the other way round, so that nothing but time and name can put them right.
    for (time, name) in ordered().into_iter().rev() {
        let mut file = File::create(directory.join(&name)).unwrap();
        file.write_all(format!("{time} {name}").as_bytes()).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + time)).unwrap();
    }
}

#[test]
fn what_a_look_finds_goes_by_time_then_by_name_with_digits_as_numbers() {
    let mut pair = Pair::not_started();
    let wanted: Vec<String> = ordered().into_iter().map(|(time, name)| format!("{time} {name}")).collect();
    make_ordered(&pair.outbox("bob"));
    wanted.iter().for_each(|text| pair.expect(text.as_bytes()));
    pair.alice.start();
    pair.wait_for_all();
    for user in [&pair.alice, &pair.bob] {
        wanted.iter().for_each(|text| drop(user.wait_for_message(text)));
        assert_eq!(user.heard_from("alice"), wanted, "at the start");
    }
    // And where the directory comes as a whole while the daemon runs.
    let draft = pair.elsewhere().join("draft");
    fs::create_dir(&draft).unwrap();
    fs::write(draft.join("metadata.toml"), "subject = \"whole\"\nparticipants = [\"bob\"]\n").unwrap();
    make_ordered(&draft);
    fs::rename(&draft, pair.alice.at("outbox/whole")).unwrap();
    wanted.iter().for_each(|text| pair.expect(text.as_bytes()));
    pair.wait_for_all();
    for user in [&pair.alice, &pair.bob] {
        let heard = || -> Vec<String> {
            let messages = user.messages().into_iter().filter(|(directory, _, _)| directory.ends_with("_whole"));
            messages.map(|(_, _, content)| String::from_utf8(content).unwrap()).collect()
        };
        let heard = user.wait_for("the whole", || Some(heard()).filter(|heard| heard.len() >= wanted.len()));
        assert_eq!(heard, wanted, "as a whole");
    }
    pair.everything_arrives_once();
}

/// Conversations of the test with many, if nothing else is asked for with `CHATTERBOX_CONVERSATIONS`.
const CONVERSATIONS: usize = 200;

/// Where each content stands: directory, and subject by the `metadata.toml` in it.
fn places(user: &User) -> BTreeMap<String, (String, String)> {
    let place = |(directory, _, content): (String, String, Vec<u8>)| {
        let text = fs::read_to_string(user.at("conversations").join(&directory).join("metadata.toml")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let subject = table.get("subject").map_or("", |subject| subject.as_str().unwrap()).to_owned();
        (String::from_utf8(content).unwrap(), (directory, subject))
    };
    user.messages().into_iter().map(place).collect()
}

#[test]
fn hundreds_of_conversations_some_of_one_subject_stay_apart_across_a_restart() {
    let mut pair = Pair::new();
    let count: usize = std::env::var("CHATTERBOX_CONVERSATIONS").map_or(CONVERSATIONS, |text| text.parse().unwrap());
    let subject = |number: usize| format!("plan / {}", if number % 10 == 9 { number - 1 } else { number });
    for number in 0..count {
        let draft = pair.elsewhere().join("draft");
        fs::create_dir(&draft).unwrap();
        let metadata = format!("subject = \"{}\"\nparticipants = [\"bob\"]\n", subject(number));
        fs::write(draft.join("metadata.toml"), metadata).unwrap();
        fs::write(draft.join("x"), format!("first {number}")).unwrap();
        fs::rename(&draft, pair.alice.at(format!("outbox/{number}"))).unwrap();
    }
    (0..count).for_each(|number| pair.expect(format!("first {number}")));
    pair.wait_for_all();
    pair.alice.stop();
    pair.alice.start();
    // Some of them again, both ways.
    let again: Vec<usize> = (0..count).filter(|number| number % 10 > 7).collect();
    let placed = places(&pair.alice);
    for number in &again {
        fs::write(pair.alice.at(format!("outbox/{number}/y")), format!("second {number}")).unwrap();
        let (twin, _) = &placed[&format!("first {number}")];
        fs::write(pair.alice.at("outbox").join(twin).join("z"), format!("third {number}")).unwrap();
        pair.expect(format!("second {number}"));
        pair.expect(format!("third {number}"));
    }
    pair.everything_arrives_once();
    for user in [&pair.alice, &pair.bob] {
        let places = places(user);
        let firsts: BTreeSet<&String> = (0..count).map(|number| &places[&format!("first {number}")].0).collect();
        assert_eq!(firsts.len(), count, "each in a directory of its own");
        for number in 0..count {
            assert_eq!(places[&format!("first {number}")].1, subject(number));
        }
        for number in &again {
            let [first, second, third] =
                ["first", "second", "third"].map(|which| &places[&format!("{which} {number}")]);
            assert!(first == second && first == third, "{first:?} {second:?} {third:?}");
        }
        assert_eq!(entries(&user.at("conversations")).len(), count + 1, "and that of the last fence");
    }
}

#[test]
fn directories_named_after_contacts_mean_the_same_conversation_for_ever_in_any_order() {
    let world = support::World::new();
    let [mut alice, bob, carol] = world.friends(["alice", "bob", "carol"]);
    let names = ["bob", "bob,carol", "carol,bob", "carol,bob,carol", "carol,,bob"];
    for round in 0..4 {
        for name in names {
            alice.drop_file(name, "x", format!("{round} to {name}"));
            bob.wait_for_message(&format!("{round} to {name}"));
        }
        let twins = ["-alice-bob", "-alice-bob-carol"].map(|ending| alice.directory("outbox", ending));
        for (twin, who) in twins.iter().zip(["bob", "both"]) {
            fs::write(twin.join("x"), format!("{round} by the twin to {who}")).unwrap();
            bob.wait_for_message(&format!("{round} by the twin to {who}"));
        }
        match round {
            0 => alice.stop(),
            1 => alice.kill(),
            // The daemon runs on: a directory that a person removes and makes anew.
            _ => {
                support::remove_tree(alice.at("outbox/bob"));
                fs::rename(alice.at("outbox/carol,bob"), alice.at("outbox/both")).unwrap();
                alice.drop_file("both", "x", format!("{round} under another name"));
                bob.wait_for_message(&format!("{round} under another name"));
                fs::rename(alice.at("outbox/both"), alice.at("outbox/carol,bob")).unwrap();
                continue;
            }
        }
        // A twin that was removed comes back at the start.
        twins.iter().for_each(|twin| fs::remove_dir_all(twin).unwrap());
        alice.start();
        for twin in &twins {
            alice.wait_for("a twin", || twin.join("metadata.toml").exists().then_some(()));
        }
    }
    assert_eq!(entries(&bob.at("conversations")).len(), 2);
    assert_eq!(entries(&alice.at("conversations")).len(), 2);
    let to_bob = |(directory, _, _): &(String, String, Vec<u8>)| directory.ends_with("-alice-bob");
    assert_eq!(bob.messages().iter().filter(|message| to_bob(message)).count(), 4 + 4);
    carol.wait_for("what went to both", || (carol.messages().len() == 4 * 4 + 4 + 2).then_some(()));
    let errors: Vec<PathBuf> =
        entries(&alice.at("outbox")).into_iter().filter(|path| path.to_string_lossy().ends_with(".error")).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Makes what is no message at a path; what is bound stays so.
fn make_refused(kind: &str, path: &Path) -> Option<UnixListener> {
    match kind {
        "link" => symlink("/etc/passwd", path).unwrap(),
        "dangling" => symlink("nothing", path).unwrap(),
        "link-to-directory" => symlink("/etc", path).unwrap(),
        "link-to-message" => symlink("../../../bob/profile.pb", path).unwrap(),
        "pipe" => run("mkfifo", &[path]),
        "directory" => {
            fs::create_dir(path).unwrap();
            fs::write(path.join("inside"), "not to be sent").unwrap();
        }
        _ => return Some(UnixListener::bind(path).unwrap()),
    }
    None
}

const REFUSED: [(&str, &str); 7] = [
    ("link", "symbolic link"),
    ("dangling", "symbolic link"),
    ("link-to-directory", "symbolic link"),
    ("link-to-message", "symbolic link"),
    ("pipe", "no regular file"),
    ("directory", "directory"),
    ("socket", "no regular file"),
];

#[test]
fn what_is_no_regular_file_is_refused_as_long_as_it_is_there_and_nothing_of_it_is_sent() {
    let mut pair = Pair::new();
    let outbox = pair.outbox("bob");
    for end in ["removed", "moved away", "replaced", "removed while the daemon is off"] {
        let mut there = Vec::new();
        let sockets: Vec<_> = REFUSED
            .iter()
            .map(|(kind, _)| {
                let listener = make_refused(kind, &outbox.join(kind));
                there.push(outbox.join(kind));
                listener
            })
            .collect();
        let error = |kind: &str| format!("outbox/bob/{kind}.error");
        for (kind, says) in REFUSED {
            let text = pair.alice.wait_for_file(error(kind));
            assert!(text.contains(says) && text.lines().count() == 3, "{kind}: {text}");
            pair.alice.wait_for_status(&format!("refused: outbox/bob/{kind}"));
        }
        pair.nothing_else_arrives(&there);
        if end.contains("off") {
            pair.alice.stop();
        }
        for (kind, path) in REFUSED.iter().map(|(kind, _)| kind).zip(&there) {
            if end == "moved away" || (end == "replaced" && path.is_dir()) {
                fs::rename(path, pair.elsewhere().join(kind)).unwrap();
            }
            match end {
                "moved away" => {}
                "replaced" => {
                    let text = format!("a file instead of a {kind}");
                    pair.alice.move_file("bob", kind, &text);
                    pair.expect(text);
                }
                _ if *kind == "directory" => fs::remove_dir_all(path).unwrap(),
                _ => fs::remove_file(path).unwrap(),
            }
        }
        drop(sockets);
        if end.contains("off") {
            pair.alice.start();
        }
        for (kind, _) in REFUSED {
            pair.alice.wait_until_gone(error(kind));
        }
        pair.everything_arrives_once();
        let status = fs::read_to_string(pair.alice.at("status")).unwrap();
        assert!(!status.contains("refused:"), "{status}");
        let _ = fs::remove_dir_all(pair.elsewhere());
    }
}
