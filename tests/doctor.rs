//! `chatterbox doctor` on roots of the real programs: healthy ones, ones that were damaged by hand, and ones on which a
//! daemon is at work.

#![cfg(all(feature = "daemon", feature = "server"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use chatterbox::disk::journal::{Journal, Step, Transaction};
use chatterbox::wire::identity::{ConversationId, MessageId};
use chatterbox::wire::profile::SignedProfile;
use chatterbox::wire::spool::{Form, Spooled};
use serde_json::Value;
use support::{User, World, entries, is_left_out, machine};

const HEALTHY: i32 = 0;
const DATA: i32 = 65;
const NO_INPUT: i32 = 66;

/// What `doctor --json` said.
#[derive(Debug)]
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    fn of(user: &User, arguments: &[&str]) -> Self {
        let said = user.cli(&[&["doctor", "--json"], arguments].concat());
        let json = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        Self { code: said.status.code().unwrap(), json }
    }

    fn findings(&self) -> &Vec<Value> {
        self.json["findings"].as_array().unwrap()
    }

    /// Kinds and paths of what was found, relative to the root.
    fn found(&self, user: &User, repaired: bool) -> Vec<(&str, String)> {
        let findings = self.findings().iter().filter(|finding| finding["repaired"] == repaired);
        let relative = |finding: &Value| {
            let path = Path::new(finding["path"].as_str().unwrap()).to_owned();
            path.strip_prefix(&user.root).unwrap().to_str().unwrap().to_owned()
        };
        let mut found: Vec<_> =
            findings.map(|finding| (finding["kind"].as_str().unwrap(), relative(finding))).collect();
        found.sort();
        found
    }

    #[track_caller]
    fn assert_healthy(&self) {
        let counts = [&self.json["errors"], &self.json["warnings"]];
        assert!(self.code == HEALTHY && counts.iter().all(|count| **count == 0), "{self:#?}");
    }
}

/// Alice, who wrote with bob and got a stranger's request, and whose daemon was stopped.
fn after_traffic() -> (World, User) {
    let world = World::new();
    let [mut alice, mut bob] = world.friends(["alice", "bob"]);
    let mut eve = world.user("eve");
    eve.add(&alice);
    eve.start();
    alice.drop_file("bob", "x", "from alice");
    bob.wait_for_message("from alice");
    bob.drop_file("alice", "plan.txt", "from bob");
    alice.wait_for_message("from bob");
    eve.drop_file("alice", "x", "we have not met");
    alice.wait_for("a request", || (!entries(&alice.at("requests")).is_empty()).then_some(()));
    alice.wait_for_status("queue: 0");
    [&mut alice, &mut bob, &mut eve].into_iter().for_each(User::stop);
    (world, alice)
}

/// Another copy of a root, with owners, modes and times.
fn copy(user: &User, name: &str) -> User {
    let root = user.root.with_file_name(name);
    let copied = Command::new("cp").arg("-a").arg(&user.root).arg(&root).status().unwrap();
    assert!(copied.success());
    User { name: user.name.clone(), root, daemon: None }
}

/// Mode, inode and content of everything in a root.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if metadata.is_dir() {
            open.extend(entries(&path));
        }
        let relative = path.strip_prefix(root).unwrap().to_owned();
        found.insert(relative, (metadata.mode() & 0o777, metadata.ino(), content));
    }
    found
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Alice's sessions with bob.
fn session(alice: &User) -> String {
    let card: SignedProfile = fs::read_to_string(alice.at("contacts/bob.card")).unwrap().parse().unwrap();
    format!("keys/sessions/{}", card.identity().fingerprint())
}

#[test]
fn a_fresh_root_has_nothing_wrong_with_it() {
    let world = World::new();
    let alice = world.user("alice");
    let before = snapshot(&alice.root);
    let said = alice.cli(&["doctor"]);
    assert_eq!(said.status.code(), Some(HEALTHY));
    assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{}: no faults found\n", alice.root.display()));
    assert_eq!(snapshot(&alice.root), before);
}

#[test]
fn a_directory_without_an_account_is_no_patient() {
    let world = World::new();
    let nobody = User { name: "nobody".into(), root: world.scratch.path().join("empty"), daemon: None };
    assert_eq!(nobody.cli(&["doctor"]).status.code(), Some(NO_INPUT));
    fs::create_dir(&nobody.root).unwrap();
    let said = nobody.cli(&["doctor", "--repair"]);
    assert_eq!(said.status.code(), Some(NO_INPUT));
    assert!(String::from_utf8(said.stderr).unwrap().contains("chatterbox init"));
    assert!(entries(&nobody.root).is_empty());
}

#[test]
fn a_root_after_traffic_has_nothing_wrong_with_it_and_a_look_changes_nothing() {
    let (_world, alice) = after_traffic();
    let before = snapshot(&alice.root);
    for arguments in [&[][..], &["--repair"]] {
        let report = Report::of(&alice, arguments);
        report.assert_healthy();
        assert_eq!(report.found(&alice, false), [("requests", "requests".to_owned())]);
        assert!(snapshot(&alice.root) == before);
    }
}

#[test]
fn a_daemon_at_work_is_neither_disturbed_nor_slandered() {
    let world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.wait_for_status("connection: connected");
    bob.wait_for_status("connection: connected");
    let numbers: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    for number in &numbers {
        alice.drop_file("bob", number, number);
        if number.ends_with('5') {
            for user in [&alice, &bob] {
                let report = Report::of(user, &["--repair"]);
                report.assert_healthy();
                assert_eq!(report.json["daemon"], "running");
                assert_eq!(report.json["left_out"].as_array().unwrap().len(), 2);
            }
        }
    }
    bob.wait_for("all of them", || {
        Report::of(&bob, &["--repair"]).assert_healthy();
        (bob.messages().len() >= numbers.len()).then_some(())
    });
    let mut heard = bob.heard_from("alice");
    heard.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(heard, numbers);
}

#[test]
fn what_the_network_keeps_a_daemon_from_is_noted() {
    let mut world = World::new();
    let [alice, bob] = world.friends(["alice", "bob"]);
    alice.wait_for_status("connection: connected");
    world.server.kill();
    alice.drop_file("bob", "x", "into the void");
    alice.wait_for_status("connection: not connected");
    alice.wait_for_status("trouble: bob");
    let report = Report::of(&alice, &[]);
    report.assert_healthy();
    let noted = |kind: &str, words: &str| {
        let mut notes = report.findings().iter().filter(|finding| finding["kind"] == kind);
        notes.any(|note| note["severity"] == "note" && note["problem"].as_str().unwrap().contains(words))
    };
    assert!(noted("connection", "not connected to 127."), "{report:#?}");
    assert!(noted("trouble", "messages to bob wait"), "{report:#?}");
    drop(bob);
}

#[test]
fn what_a_running_daemon_says_of_its_work_is_found_with_what_to_do() {
    let world = World::new();
    let [alice, bob, carol] = world.friends(["alice", "bob", "carol"]);
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().canonicalize().unwrap();
    let uid = fs::metadata(&alice.root).unwrap().uid().to_string();
    for (name, to) in [("box", "bob"), ("pager", "carol")] {
        let path = directory.join(name);
        let added =
            alice.cli(&["dropbox", "add", name, "--to", to, "--uid", &uid, "--directory", path.to_str().unwrap()]);
        assert!(added.status.success(), "{added:?}");
    }
    fs::create_dir(directory.join("box/directory")).unwrap();
    fs::remove_file(alice.at("contacts/carol.card")).unwrap();
    // Not by this process: a program that anybody has open for writing cannot be run.
    let hook = "printf '#!/bin/sh\nexit 3\n' >tmp/hook; chmod 700 tmp/hook; mv tmp/hook hooks/on-message";
    assert!(Command::new("sh").args(["-c", hook]).current_dir(&alice.root).status().unwrap().success());
    bob.drop_file("alice", "x", "for the hook");
    alice.wait_for_message("for the hook");
    alice.drop_file("bob", "empty", "");
    fs::write(alice.at("outbox/stray"), "x").unwrap();
    for line in [
        "hook: on-message: it ended with",
        "dropbox: box: 1 refused",
        "dropbox: pager: nothing is taken",
        "waiting: outbox/bob/empty: ",
        "refused: outbox/stray",
    ] {
        alice.wait_for_status(line);
    }
    fs::remove_dir_all(alice.at("alerts")).unwrap();
    fs::write(alice.at("alerts"), "").unwrap();
    alice.wait_for_status("paused: alerts/");
    let report = Report::of(&alice, &[]);
    for (severity, kind, path, problem, remedy) in [
        ("warning", "hook", "hooks/on-message", "exit status: 3", "Mend the program"),
        ("warning", "dropbox", "dropboxes/box.toml", "1 refused", "NAME.error beside each"),
        ("error", "dropbox", "dropboxes/pager.toml", "nothing is taken: there is no contact", "carol"),
        ("note", "waiting", "outbox/bob/empty", "it is empty", "by itself"),
        ("error", "outbox", "outbox/stray.error", "in no conversation", "outbox/bob/"),
        ("error", "paused", "status", "alerts/ takes no files", "goes on by itself"),
    ] {
        let found: Vec<&Value> = report.findings().iter().filter(|finding| finding["kind"] == kind).collect();
        let is_it = |finding: &&&Value| finding["path"] == alice.at(path).to_str().unwrap();
        let these: Vec<_> = found.iter().filter(is_it).collect();
        assert_eq!(these.len(), 1, "one cause, one finding of {kind}: {report:#?}");
        assert_eq!(these[0]["severity"], severity, "{}", these[0]);
        let [said, todo] = ["problem", "remedy"].map(|field| these[0][field].as_str().unwrap());
        assert!(said.contains(problem) && todo.contains(remedy), "{}", these[0]);
    }
    drop(carol);
}

#[test]
fn after_a_kill_only_the_stale_status_is_wrong_and_a_start_mends_that() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    for round in 0..4 {
        alice.wait_for_status(&format!("pid: {}", alice.daemon.as_ref().unwrap().pid()));
        for number in 0..20 {
            alice.drop_file("bob", &number.to_string(), format!("{round} {number}"));
        }
        alice.wait_for("some of them to go", || (entries(&alice.at("outbox/bob")).len() < 18).then_some(()));
        alice.kill();
        let before = snapshot(&alice.root);
        let report = Report::of(&alice, &[]);
        assert!(snapshot(&alice.root) == before);
        let bad: Vec<&Value> = report.findings().iter().filter(|finding| finding["severity"] != "note").collect();
        assert!(bad.len() == 1 && bad[0]["kind"] == "status", "{report:#?}");
        assert!(bad[0]["remedy"].as_str().unwrap().contains("Start chatterboxd"));
        assert_eq!(report.code, DATA);
        alice.start();
        bob.wait_for_message(&format!("{round} 19"));
    }
    alice.wait_for_status("queue: 0");
    alice.stop();
    Report::of(&alice, &[]).assert_healthy();
}

/// One thing that is broken, what must be said of it, and where.
struct Damage {
    severity: &'static str,
    kind: &'static str,
    path: String,
    /// Words of the problem and of the remedy.
    says: [&'static str; 2],
    exit: i32,
    make: Box<dyn Fn(&User)>,
}

fn damage(
    severity: &'static str,
    kind: &'static str,
    path: impl Into<String>,
    says: [&'static str; 2],
    make: impl Fn(&User) + 'static,
) -> Damage {
    let exit = if severity == "note" { HEALTHY } else { DATA };
    Damage { severity, kind, path: path.into(), says, exit, make: Box::new(make) }
}

/// A file of this content in place of what is there.
fn overwritten(kind: &'static str, path: &str, content: &'static str, says: [&'static str; 2]) -> Damage {
    let file = path.to_owned();
    damage("error", kind, path, says, move |user| {
        fs::write(user.at(&file), content).unwrap();
        set_mode(user.at(&file), 0o600);
    })
}

/// A new private file in a private directory.
fn put(user: &User, path: &str, content: impl AsRef<[u8]>) {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(user.at(path).parent().unwrap()).unwrap();
    fs::write(user.at(path), content).unwrap();
    set_mode(user.at(path), 0o600);
}

fn account(alice: &User, bob_card: &str) -> Vec<Damage> {
    let (own, bob) = (alice.card(), bob_card.to_owned());
    vec![
        overwritten("settings", "chatterbox.toml", "dailer = \"x\"\n", ["dailer", "remove it"]),
        overwritten("account", "config.pb", "x", ["malformed config.pb", "backup"]),
        damage("error", "account", "config.pb", ["does not exist", "this account is lost"], |user| {
            fs::remove_file(user.at("config.pb")).unwrap();
        }),
        overwritten("account", "profile.pb", "x", ["malformed", "the card that you gave"]),
        damage("error", "account", "profile.pb", ["other keys than config.pb", "backup"], |user| {
            let other = user.root.with_file_name("eve");
            fs::copy(other.join("profile.pb"), user.at("profile.pb")).unwrap();
        }),
        overwritten("contact", "contacts/eve.card", "chatterbox:AAAA", ["not a good card", "Ask its owner"]),
        damage("error", "contact", "contacts/me.card", ["your own card", "Ask the other"], move |user| {
            fs::write(user.at("contacts/me.card"), &own).unwrap();
        }),
        damage("warning", "contact", "contacts/carol", ["NAME.card", "Rename it"], move |user| {
            fs::write(user.at("contacts/carol"), &bob).unwrap();
        }),
    ]
}

fn layout() -> Vec<Damage> {
    vec![
        damage("warning", "mode", "tor", ["others have permissions", "chmod 700"], |user| {
            fs::DirBuilder::new().mode(0o755).create(user.at("tor")).unwrap();
            set_mode(user.at("tor"), 0o775);
        }),
        damage("warning", "missing", "ui_info", ["missing", "--repair"], |user| {
            fs::remove_dir(user.at("ui_info")).unwrap();
        }),
        damage("error", "not-a-directory", "alerts", ["no directory", "Move away"], |user| {
            fs::remove_dir(user.at("alerts")).unwrap();
            fs::write(user.at("alerts"), "").unwrap();
        }),
        damage("warning", "link", "outbox", ["symbolic link", "Move the directory itself"], |user| {
            fs::rename(user.at("outbox"), user.at("tmp/elsewhere")).unwrap();
            symlink("tmp/elsewhere", user.at("outbox")).unwrap();
        }),
        damage("error", "filesystem", "ui_info", ["another filesystem", "one filesystem"], |user| {
            fs::remove_dir(user.at("ui_info")).unwrap();
            symlink("/proc/self", user.at("ui_info")).unwrap();
        }),
        damage("warning", "mode", "", ["0755", "chmod 700"], |user| set_mode(&user.root, 0o755)),
        damage("warning", "mode", "keys/prekeys", ["0640", "chmod 600"], |user| {
            set_mode(user.at("keys/prekeys"), 0o640);
        }),
        damage("error", "mode", "outbox", ["0500", "chmod 700"], |user| set_mode(user.at("outbox"), 0o500)),
    ]
}

fn keys(session: &str, record: &str) -> Vec<Damage> {
    let other = format!("keys/sessions/{}", "ab".repeat(32));
    let profile = format!("keys/profiles/{}", "ab".repeat(32));
    let (from, to) = (session.to_owned(), other.clone());
    let not_started = ["malformed", "chatterboxd does not start"];
    vec![
        overwritten("damaged", "keys/prekeys", "\u{7f}", not_started),
        overwritten("damaged", session, "\u{7f}", not_started),
        damage("error", "damaged", other, ["somebody else", "backup"], move |user| {
            fs::copy(user.at(&from), user.at(&to)).unwrap();
        }),
        overwritten("damaged", record, "\u{7f}", not_started),
        overwritten("damaged", "keys/names", "\u{7f}", not_started),
        damage("error", "damaged", "keys/arriving/x", not_started, |user| put(user, "keys/arriving/x", "\u{7f}")),
        damage("error", "damaged", profile.clone(), not_started, move |user| put(user, &profile, "\u{7f}")),
        overwritten("damaged", "keys/counter", "\u{7f}", not_started),
        overwritten("damaged", "keys/recovery", "\u{7f}", not_started),
        overwritten("damaged", "keys/sent-7", "\u{7f}", not_started),
        overwritten("damaged", "keys/told-7", "\u{7f}", ["no multiple of 32", "chatterboxd does not start"]),
        damage("error", "damaged", "keys/received-7", ["a symbolic link", "backup"], |user| {
            symlink("prekeys", user.at("keys/received-7")).unwrap();
        }),
        damage("warning", "orphan", "keys/received-x", ["no file of chatterboxd", "Nobody reads"], |user| {
            put(user, "keys/received-x", "");
        }),
        damage("warning", "orphan", "keys/sessions/bob", ["no fingerprint", "Nobody reads"], |user| {
            put(user, "keys/sessions/bob", "");
        }),
        damage("warning", "orphan", "keys/profiles/bob", ["no fingerprint", "Nobody reads"], |user| {
            put(user, "keys/profiles/bob", "");
        }),
        damage("warning", "orphan", "keys/conversations/x", ["no conversation's id", "Nobody reads"], |user| {
            put(user, "keys/conversations/x", "");
        }),
    ]
}

fn journal(log: &str, peer: &str) -> Vec<Damage> {
    let stranger = format!("journal/spool/{}/{:020}", "ab".repeat(32), 7);
    let friend = format!("journal/spool/{peer}/{:020}", 7);
    let unopened = format!("journal/unopened/{:020}-ab", 7);
    let spooled = Spooled {
        message: MessageId([1; 16]),
        conversation: ConversationId([2; 16]),
        file: "x".into(),
        is_part: false,
        spreads: false,
        form: Form::Waiting(b"payload".to_vec().into()),
    };
    let bytes = spooled.to_bytes();
    let (to_stranger, to_friend, kept) = (stranger.clone(), friend.clone(), unopened.clone());
    let header = log.to_owned();
    vec![
        damage("error", "journal", "journal", ["malformed journal header", "backup"], move |user| {
            fs::write(user.at(&header), "x").unwrap();
        }),
        damage("error", "recipient", stranger, ["never leaves", "card"], move |user| {
            put(user, &to_stranger, &bytes);
        }),
        damage("error", "damaged", friend, ["malformed", "chatterboxd does not start"], move |user| {
            put(user, &to_friend, "\u{7f}");
        }),
        damage("error", "damaged", unopened, ["malformed", "chatterboxd does not start"], move |user| {
            put(user, &kept, "x");
        }),
        damage("warning", "orphan", "journal/spool/x", ["no fingerprint", "Nobody reads"], |user| {
            fs::create_dir(user.at("journal/spool/x")).unwrap();
            set_mode(user.at("journal/spool/x"), 0o700);
        }),
        damage("warning", "orphan", "journal/unopened/x", ["no envelope", "Nobody reads"], |user| {
            put(user, "journal/unopened/x", "");
        }),
        damage("note", "leftover", "journal/arriving/x", ["nothing is noted", "erases"], |user| {
            put(user, "journal/arriving/x", "");
        }),
        damage("warning", "orphan", "journal/x", ["no file of chatterboxd", "Nobody reads"], |user| {
            put(user, "journal/x", "");
        }),
        damage("note", "leftover", "journal/new", ["crash", "erases"], |user| put(user, "journal/new", "")),
        damage("note", "leftover", "tmp/chatterboxd/journal-7", ["crash", "erases"], |user| {
            put(user, "tmp/chatterboxd/journal-7", "");
        }),
        damage("warning", "leftover", "tmp/chatterboxd/taken-7", ["does not know", "back into"], |user| {
            put(user, "tmp/chatterboxd/taken-7", "");
        }),
        damage("error", "lock", "journal/lock", ["no regular file", "remove it"], |user| {
            fs::remove_file(user.at("journal/lock")).unwrap();
            assert!(Command::new("mkfifo").arg(user.at("journal/lock")).status().unwrap().success());
        }),
    ]
}

fn conversations(name: &str, message: &str) -> Vec<Damage> {
    let (directory, twin) = (format!("conversations/{name}"), format!("outbox/{name}"));
    let metadata = format!("{directory}/metadata.toml");
    let delivery = format!("{directory}/.delivery/{message}");
    let (moved, gone, orphaned) = (directory.clone(), directory.clone(), directory.clone());
    let (bare, lonely) = (metadata.clone(), metadata.clone());
    vec![
        overwritten("metadata", &metadata, "id =", ["string values", "is the same file"]),
        damage("warning", "metadata", &directory, ["no metadata.toml", "is the same file"], move |user| {
            fs::remove_file(user.at(&bare)).unwrap();
        }),
        damage("warning", "metadata", &directory, ["no metadata.toml", "Restore"], move |user| {
            fs::remove_file(user.at(&lonely)).unwrap();
            fs::remove_dir_all(user.at(&twin)).unwrap();
        }),
        damage("warning", "conversation", "conversations/old", ["knows no conversation", "move it out"], move |user| {
            put(user, "conversations/old/metadata.toml", format!("id = \"{}\"\nparticipants = []\n", "ab".repeat(16)));
        }),
        damage("warning", "duplicate", "", ["same id as conversations/", "Move the messages"], move |user| {
            let copied = Command::new("cp").arg("-a").arg(user.at(&moved)).arg(user.at("conversations/copy")).status();
            assert!(copied.unwrap().success());
        }),
        damage("note", "gone", &gone, ["is gone", "put it back"], move |user| {
            fs::remove_dir_all(user.at(&orphaned)).unwrap();
        }),
        overwritten("delivery", &delivery, "id: 7\n", ["cannot be understood", "message itself is not touched"]),
    ]
}

fn outbox() -> Vec<Damage> {
    let refused = "It is empty.\nPut something into it.\n(chatterboxd removes this file when its cause is gone.)\n";
    vec![
        damage("warning", "id", "outbox/bob/.id", ["does not know", "Remove the file"], |user| {
            fs::write(user.at("outbox/bob/.id"), "ab".repeat(16)).unwrap();
        }),
        damage("error", "outbox", "outbox/bob/link", ["symbolic link", "plain file"], |user| {
            symlink("/etc/passwd", user.at("outbox/bob/link")).unwrap();
        }),
        damage("error", "outbox", "outbox/alias", ["symbolic link", "Make a directory"], |user| {
            symlink("bob", user.at("outbox/alias")).unwrap();
        }),
        damage("error", "outbox", "outbox/stray", ["no conversation", "outbox/bob/"], |user| {
            fs::write(user.at("outbox/stray"), "x").unwrap();
        }),
        damage("error", "outbox", "outbox/bob/x.error", ["it is empty", "Put something into it."], move |user| {
            fs::write(user.at("outbox/bob/x"), "").unwrap();
            fs::write(user.at("outbox/bob/x.error"), refused).unwrap();
        }),
        damage("note", "waiting", "outbox/bob", ["2 files wait", "Start chatterboxd"], |user| {
            ["1", "2", "3~", "4.error"].iter().for_each(|name| user.drop_file("bob", name, "x"));
        }),
        damage("note", "alerts", "alerts", ["2 alerts", "cat"], |user| {
            ["alerts/1", "alerts/2"].iter().for_each(|path| put(user, path, "x"));
        }),
        damage("warning", "status", "status", ["killed", "Start chatterboxd"], |user| {
            put(user, "status", "daemon: running\npid: 1\n");
        }),
    ]
}

#[test]
fn each_kind_of_damage_is_found_alone_with_its_remedy() {
    let (world, alice) = after_traffic();
    let session = session(&alice);
    let peer = session.strip_prefix("keys/sessions/").unwrap();
    let conversation = alice.directory("conversations", "-alice-bob");
    let name = conversation.file_name().unwrap().to_str().unwrap();
    let id: toml::Table = fs::read_to_string(conversation.join("metadata.toml")).unwrap().parse().unwrap();
    let record = format!("keys/conversations/{}", id["id"].as_str().unwrap());
    let message = entries(&conversation.join(".delivery"))[0].file_name().unwrap().to_str().unwrap().to_owned();
    let logs = entries(&alice.at("journal")).into_iter().filter(|path| path.to_string_lossy().contains("/log-"));
    let log: Vec<String> =
        logs.map(|path| path.strip_prefix(&alice.root).unwrap().to_str().unwrap().to_owned()).collect();
    let card = fs::read_to_string(alice.at("contacts/bob.card")).unwrap();
    let all = [
        account(&alice, &card),
        layout(),
        keys(&session, &record),
        journal(&log[0], peer),
        conversations(name, &message),
        outbox(),
    ];
    for damage in all.into_iter().flatten() {
        let patient = copy(&alice, "patient");
        (damage.make)(&patient);
        let before = snapshot(&patient.root);
        let report = Report::of(&patient, &[]);
        assert!(snapshot(&patient.root) == before, "{}: a look changes nothing", damage.kind);
        let others = |finding: &&Value| finding["kind"] != "requests";
        let findings: Vec<&Value> = report.findings().iter().filter(others).collect();
        let worst = findings.iter().find(|finding| finding["kind"] == damage.kind);
        let found = worst.unwrap_or_else(|| panic!("no {} at {}: {report:#?}", damage.kind, damage.path));
        let path = match (damage.kind, damage.path.as_str()) {
            // Which of the two is listed first, the filesystem decides.
            ("duplicate", _) => found["path"].as_str().unwrap().to_owned(),
            (_, "") => patient.root.to_str().unwrap().to_owned(),
            (_, path) => patient.at(path).to_str().unwrap().to_owned(),
        };
        assert_eq!(found["path"], path);
        assert_eq!(found["severity"], damage.severity, "{found}");
        assert!(found["problem"].as_str().unwrap().contains(damage.says[0]), "{found}");
        assert!(found["remedy"].as_str().unwrap().contains(damage.says[1]), "{found}");
        assert_eq!(report.code, damage.exit, "{report:#?}");
        // A link that leads to another filesystem is both.
        let alone = if damage.kind == "filesystem" { 2 } else { 1 };
        assert_eq!(findings.len(), alone, "one cause, one finding: {report:#?}");
        if damage.kind == "mode" {
            set_mode(patient.at("outbox"), 0o700);
        }
        fs::remove_dir_all(&patient.root).unwrap();
    }
    drop(world);
}

#[test]
fn damage_in_the_log_is_an_error_and_what_the_log_holds_is_not_lost() {
    let (_world, alice) = after_traffic();
    let session = session(&alice);
    let good = fs::read(alice.at(&session)).unwrap();
    let (mut journal, _) = Journal::open(std::sync::Arc::new(chatterbox::disk::real::RealDisk), &alice.root).unwrap();
    let put = |bytes: &[u8]| Step::Put { path: (&session).into(), bytes: bytes.to_vec().into(), secret: true };
    for _ in 0..2 {
        journal.commit(&mut vec![Transaction { steps: vec![put(&good)] }]).unwrap();
    }
    // As it is after a crash: no checkpoint, and a file that did not reach the disk.
    drop(journal);
    fs::write(alice.at(&session), "").unwrap();
    let truncated = Report::of(&alice, &[]);
    fs::write(alice.at(&session), "\u{7f}").unwrap();
    let report = Report::of(&alice, &[]);
    truncated.assert_healthy();
    report.assert_healthy();
    let notes: Vec<(&str, String)> =
        report.found(&alice, false).into_iter().filter(|(kind, _)| *kind == "replay").collect();
    assert_eq!(notes, [("replay", "journal".to_owned()), ("replay", session.clone())]);
    let log = entries(&alice.at("journal")).into_iter().find(|path| path.to_string_lossy().contains("/log-")).unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[8_192 + 50] ^= 1;
    fs::write(&log, bytes).unwrap();
    let before = snapshot(&alice.root);
    let report = Report::of(&alice, &["--repair"]);
    assert_eq!(report.code, DATA);
    let found = report.found(&alice, false);
    assert!(found.contains(&("journal", "journal".to_owned())), "{report:#?}");
    assert!(found.contains(&("damaged", session)), "nothing stands behind it any more: {report:#?}");
    assert!(snapshot(&alice.root) == before);
}

#[test]
fn repair_mends_modes_and_missing_directories_and_nothing_else() {
    let (_world, alice) = after_traffic();
    let session = session(&alice);
    let conversation = alice.directory("conversations", "-alice-bob");
    let message = entries(&conversation).into_iter().find(|path| path.to_string_lossy().ends_with("Z-alice")).unwrap();
    fs::write(conversation.join("notes"), "a person's own").unwrap();
    set_mode(conversation.join("notes"), 0o644);
    fs::write(alice.at("outbox/bob/wait"), "x").unwrap();
    symlink("/etc/passwd", alice.at("keys/received-7")).unwrap();
    let expected = snapshot(&alice.root);
    let loose = [alice.root.clone(), alice.at("keys"), alice.at(&session), alice.at("config.pb"), message];
    for path in &loose {
        set_mode(path, if path.is_dir() { 0o755 } else { 0o644 });
    }
    set_mode(alice.at("journal/lock"), 0o660);
    for missing in ["ui_info", "journal/unopened", "tmp/chatterbox"] {
        fs::remove_dir(alice.at(missing)).unwrap();
    }
    let report = Report::of(&alice, &["--repair"]);
    assert_eq!(report.json["repaired"], loose.len() + 1 + 3, "{report:#?}");
    assert_eq!(report.code, DATA);
    let left = report.found(&alice, false);
    assert_eq!(left.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), ["damaged", "requests", "waiting"]);
    let mended = snapshot(&alice.root);
    assert!(mended.keys().eq(expected.keys()));
    for (path, (mode, inode, content)) in &expected {
        let (mode_now, inode_now, content_now) = &mended[path];
        let made = ["ui_info", "journal/unopened", "tmp/chatterbox"].iter().any(|missing| path == Path::new(missing));
        assert_eq!((mode_now, content_now), (mode, content), "{}", path.display());
        assert!(made || inode_now == inode, "{}", path.display());
    }
    // What a link leads to is not ours.
    assert_eq!(fs::metadata("/etc/passwd").unwrap().mode() & 0o777, 0o644);
    let again = Report::of(&alice, &["--repair"]);
    assert_eq!((&again.json["repaired"], again.code), (&Value::from(0), DATA));
    fs::remove_file(alice.at("keys/received-7")).unwrap();
    Report::of(&alice, &[]).assert_healthy();
}

#[test]
fn behind_a_link_nothing_is_mended() {
    let (_world, alice) = after_traffic();
    let elsewhere = alice.root.with_file_name("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for directory in ["tmp", "conversations"] {
        fs::rename(alice.at(directory), elsewhere.join(directory)).unwrap();
        symlink(elsewhere.join(directory), alice.at(directory)).unwrap();
    }
    fs::remove_dir(elsewhere.join("tmp/chatterbox")).unwrap();
    let conversation = entries(&elsewhere.join("conversations")).into_iter().next().unwrap();
    set_mode(&conversation, 0o755);
    let before = (snapshot(&elsewhere), snapshot(&alice.root));
    let report = Report::of(&alice, &["--repair"]);
    assert_eq!((&report.json["repaired"], report.code), (&Value::from(0), DATA));
    let found = report.found(&alice, false);
    let expected = ["conversations", "tmp"].map(|path| ("link", path.to_owned()));
    assert!(expected.iter().all(|link| found.contains(link)), "{found:?}");
    assert!(found.contains(&("missing", "tmp/chatterbox".to_owned())), "{found:?}");
    assert!((snapshot(&elsewhere), snapshot(&alice.root)) == before);
}

#[test]
fn while_a_daemon_runs_nothing_is_mended_where_it_works() {
    let world = World::new();
    let [mut alice, bob] = world.friends(["alice", "bob"]);
    alice.drop_file("bob", "x", "hello");
    bob.wait_for_message("hello");
    set_mode(alice.at("journal/spool"), 0o755);
    set_mode(alice.at("keys"), 0o755);
    set_mode(alice.at("outbox"), 0o755);
    let report = Report::of(&alice, &["--repair"]);
    assert_eq!(report.found(&alice, true), [("mode", "keys".to_owned()), ("mode", "outbox".to_owned())]);
    assert_eq!(report.found(&alice, false), [("mode", "journal/spool".to_owned())]);
    let remedy = report.findings().iter().find(|finding| finding["repaired"] == false).unwrap()["remedy"].clone();
    assert!(remedy.as_str().unwrap().contains("Stop it first"), "{remedy}");
    alice.drop_file("bob", "x", "still there");
    bob.wait_for_message("still there");
    alice.stop();
    assert_eq!(Report::of(&alice, &["--repair"]).found(&alice, true), [("mode", "journal/spool".to_owned())]);
}

#[test]
fn another_users_root_is_not_mended() {
    // Only the superuser can make such a root; for others there is none that they could do anything to.
    if is_left_out(machine::no_other_users("a root of another user's")) {
        return;
    }
    let world = World::new();
    let alice = world.user("alice");
    machine::give_to(machine::SOMEBODY, [alice.root.as_path()]);
    fs::remove_dir(alice.at("ui_info")).unwrap();
    set_mode(alice.at("config.pb"), 0o644);
    let before = snapshot(&alice.root);
    let report = Report::of(&alice, &["--repair"]);
    let expected = [("missing", "ui_info"), ("mode", "config.pb"), ("owner", "")];
    assert_eq!(report.found(&alice, false), expected.map(|(kind, path)| (kind, path.to_owned())));
    assert!(snapshot(&alice.root) == before);
}

#[test]
fn no_name_steers_a_terminal_and_much_of_one_kind_is_counted() {
    let world = World::new();
    let alice = world.user("alice");
    fs::write(alice.at("contacts/a\u{1b}[2Jb\n"), "x").unwrap();
    for number in 0..30 {
        put(&alice, &format!("keys/{number}"), "");
    }
    let said = alice.cli(&["doctor"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("warning: contacts/a\\u{1b}[2Jb\\n: ") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(text.matches("this is no file of chatterboxd").count(), 20);
    assert!(text.contains("warning: and 10 more like this\n"), "{text}");
    assert!(text.ends_with(": 31 warnings\n"), "{text}");
    let report = Report::of(&alice, &[]);
    let more = serde_json::json!([{"severity": "warning", "kind": "orphan", "repaired": false, "count": 10}]);
    assert_eq!((&report.json["more"], &report.json["warnings"]), (&more, &Value::from(31)));
}
